"""The sides apart, as with a real number: compose.yaml's edge, forwarders and guarded nats-server, with a simulated WhatsApp
in the place of the real one. Something is done to the containers while customers write; then it is judged what came back."""

import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import engine
import talk
from engine import Failure, docker, until
from project import Project, Replaced, Reset, free_port

TALK = "docker compose run --rm --no-deps talk"
SLOW_S = 3
GRACE_S = 35
"""compose.yaml's `stop_grace_period`."""
QUIET_CHATS = len(talk.CUSTOMERS)


def prepared(project: Project) -> Project:
    """The simulator asks for no password, so it answers to loopback only: the edge shares the simulator's."""
    image = f"{project.name}/whatsapp-connector-simulator"
    port = free_port()
    mounted = ["./deploy/demo:/repository/deploy/demo:ro", "./deploy/containers:/repository/deploy/containers:ro"]
    changed = project.with_also(
        {
            "simulator": {"profiles": Reset(), "ports": [f"127.0.0.1:{port}:8080"]},
            "edge": {
                "image": image, "build": Reset(), "network_mode": "service:simulator", "ports": Reset(), "extra_hosts": Reset(),
                # Where nothing else is going on, a chat has more than 30 answers in a minute here, and would count as a loop.
                "environment": {"WHATSAPP_SIMULATOR_URL": "ws://127.0.0.1:7080/ws/chat", "LOOP_LIMIT": "10000/1m"},
                "depends_on": {"simulator": {"condition": "service_started"}},
            },
            "backend": {
                "environment": {"ASSISTANT_MODE": "echo", "BACKEND_CALL_LOG": "1", "BACKEND_DELAY_MS": "${CHECK_DELAY_MS:-50}"}
            },
            "customer": {"depends_on": Replaced(["simulator", "edge"])},
            "talk": {
                "image": f"{project.name}/whatsapp-connector-backend", "profiles": ["talk"], "network_mode": "service:simulator",
                "entrypoint": ["python3", "/repository/deploy/containers/talk.py"], "volumes": mounted,
            },
        },
        "apart",
    )  # fmt: skip
    changed.ports = project.ports | {"edge": port}
    return changed


# ---------------------------------------------------------------- what customers see


def judged(project: Project, within_s: float = 90) -> str:
    """Every message has one answer, in order."""
    told = project.run(f"{TALK} judge --within-s {within_s:.0f}", check=False, timeout_s=within_s + 60)
    found = last_json(told.stdout) or {}
    if told.returncode:
        faults = {name: values for name, values in found.items() if isinstance(values, list) and values}
        raise Failure(f"not every message has one answer, in order: {faults}", told.stderr + project.logs("edge", "forwarder"))
    return f"{found['written']} written so far, each answered once and in order"


def last_json(text: str) -> dict[str, Any] | None:
    lines = [line for line in text.splitlines() if line.startswith("{")]
    found: dict[str, Any] | None = json.loads(lines[-1]) if lines else None
    return found


@contextmanager
def customers_write(project: Project) -> Iterator[None]:
    """Ten messages a second, in several chats, while it lasts."""
    name = f"{project.name}-writes"
    project.run(f"docker compose run --detach --no-deps --name {name} talk write")
    try:
        until("the customers to write", lambda: talk.WRITING in docker("logs", name), 60, lambda: docker("logs", name))
        yield
    finally:
        docker("stop", "--time", "30", name)
        wrote, code = docker("logs", name), docker("inspect", "--format", "{{.State.ExitCode}}", name)
        docker("rm", "--force", name)
    if code != "0" or not (last_json(wrote) or {}).get("written"):
        raise Failure(f"the customers could not write ({code})", wrote)


def write(project: Project, count: int) -> None:
    project.run(f"{TALK} write --count {count} --every-ms 0")


def processes(project: Project) -> dict[str, Any]:
    told = project.run("docker compose run --rm operator status --json", check=False).stdout
    return last_json(told) or json.loads(told)


# ---------------------------------------------------------------- steps


def link(project: Project) -> str:
    project.as_documented("docker compose up --wait", timeout_s=600)
    follow = "docker compose logs -f edge"
    project.documented.append(follow)
    with subprocess.Popen(project.words(follow), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=project.environment()) as shown:
        assert shown.stdout
        # It goes on for ever; the lines end when it is killed.
        late = threading.Timer(60, shown.kill)
        late.start()
        seen = any("Scan this with WhatsApp" in line for line in shown.stdout)
        late.cancel()
        shown.kill()
    if not seen:
        raise Failure("the edge's log shows no QR code", project.logs("edge"))
    project.converse("docker compose --profile simulator run --rm customer", [], "Ctrl-D ends", within_s=180)
    until("the edge to be ready", lambda: project.ready("edge")[0] == 200, 60, lambda: project.logs("edge"))
    return "by the customer's service; the code was in the edge's log"


def three_forwarders(project: Project) -> str:
    with customers_write(project):
        project.as_documented("docker compose up --wait --scale forwarder=3")
        running = [container for container in project.containers("forwarder") if container["State"]["Running"]]
        if len(running) != 3:
            raise Failure(f"{len(running)} forwarders run")
    return judged(project)


def edge_restarted(project: Project) -> str:
    with customers_write(project):
        project.as_documented("docker compose restart edge")
        took = seconds_until_ready(project)
    return f"online again after {took:.1f} s; {judged(project)}"


def forwarder_killed(project: Project) -> str:
    killed = project.containers("forwarder")[1]
    with customers_write(project):
        os.kill(killed["State"]["Pid"], signal.SIGKILL)
        until("the forwarder to be started again", lambda: back(killed["Id"]), 60)
    return f"started again by the engine; {judged(project)}"


def back(container: str) -> bool:
    found = engine.inspect("container", container)
    return bool(found and found["RestartCount"] and found["State"]["Running"])


def nats_restarted(project: Project) -> str:
    with customers_write(project):
        project.as_documented("docker compose restart nats")
        project.until_health("nats", "healthy", 60)
        took = seconds_until_ready(project)
    return f"with its volume; ready {took:.1f} s after it; {judged(project)}"


def seconds_until_ready(project: Project) -> float:
    began = time.monotonic()
    until("the edge to be ready", lambda: project.ready("edge")[0] == 200, 60, lambda: project.logs("edge"))
    return time.monotonic() - began


def stop_finishes_calls(project: Project) -> str:
    project.setting("CHECK_DELAY_MS", str(SLOW_S * 1000))
    project.run("docker compose up --wait --scale forwarder=3")
    write(project, QUIET_CHATS)
    until("the calls to be under way", lambda: len(calls(project)) == QUIET_CHATS, 30, lambda: project.logs("forwarder"))
    began = time.monotonic()
    project.as_documented("docker compose stop forwarder")
    took = time.monotonic() - began
    stopped = [container["State"]["ExitCode"] for container in project.containers("forwarder")]
    if took > GRACE_S or set(stopped) != {0}:
        raise Failure(f"the forwarders took {took:.1f} s to stop, and ended with {stopped}", project.logs("forwarder"))
    # No forwarder is there now: what is answered was answered by those that stopped.
    verdict = judged(project)
    if (made := calls(project)) and (len(made) != QUIET_CHATS or any(call.get("status") != 200 for call in made)):
        raise Failure(f"{len(made)} calls for {QUIET_CHATS} messages", json.dumps(made))
    project.setting("CHECK_DELAY_MS", "50")
    project.run("docker compose up --wait --scale forwarder=3")
    return f"{QUIET_CHATS} calls of {SLOW_S} s finished in {took:.1f} s, exit code 0; {verdict}"


def calls(project: Project) -> list[dict[str, Any]]:
    """Since the backend's start."""
    found: list[dict[str, Any]] = json.loads(project.http("backend", "/calls")[1])
    return found


def whatsapp_offline(project: Project) -> str:
    project.run(f"{TALK} offline")
    until("the edge to be not ready", lambda: project.ready("edge")[0] == 503, 60, lambda: project.logs("edge"))
    reasons = until("the reason", lambda: project.ready("edge")[1], 10)
    write(project, QUIET_CHATS)
    if project.health("edge") != "healthy" or project.one("edge")["RestartCount"]:
        raise Failure("the edge is restarted or unhealthy while WhatsApp is away", project.logs("edge"))
    project.run(f"{TALK} online")
    took = seconds_until_ready(project)
    return f"not ready ({', '.join(reasons)}), healthy, never restarted; ready {took:.1f} s after its return; {judged(project)}"


def backend_stopped(project: Project) -> str:
    # One, so that it is the one that calls.
    project.run("docker compose up --wait --scale forwarder=1")
    project.as_documented("docker compose stop backend")
    write(project, QUIET_CHATS)
    ready = "docker compose exec forwarder whatsapp-connector healthcheck --ready"
    told = until("a forwarder to be not ready", lambda: (t := project.run(ready, check=False)).returncode == 1 and t.stdout, 60)
    if "backend" not in told or project.health("forwarder") != "healthy":
        raise Failure("the forwarder does not say that the backend is away, or is not healthy", told)
    project.documented.append(ready)
    project.as_documented("docker compose exec forwarder whatsapp-connector healthcheck")
    project.as_documented("docker compose start backend")
    return f"forwarders are not ready and healthy; {judged(project)}"


def down_and_up(project: Project) -> str:
    write(project, 2 * QUIET_CHATS)
    project.as_documented("docker compose down")
    project.run("docker compose up --wait")
    until("the edge to be ready", lambda: project.ready("edge")[0] == 200, 60, lambda: project.logs("edge"))
    if "Scan this" in project.logs("edge"):
        raise Failure("the edge asks for the code again", project.logs("edge"))
    return f"no code again; {judged(project)}"


def volume_fresh(project: Project) -> str:
    found = {path: of_volume(project, "session", path) for path in (".", "session", "session/default.db")}
    if found != {".": "65532 0700", "session": "65532 0700", "session/default.db": "65532 0600"}:
        raise Failure(f"the session's volume has {found}")
    streams = of_volume(project, "streams", ".")
    if streams != "65532 0700":
        raise Failure(f"the streams' volume has {streams}")
    return "the session's is the user's alone, and so is the streams'"


OF_VOLUME = "import os,sys; s=os.stat(sys.argv[1]); print(s.st_uid, oct(s.st_mode & 0o7777)[2:].zfill(4))"


def of_volume(project: Project, volume: str, path: str) -> str:
    return in_volume(project, volume, OF_VOLUME, path)


def in_volume(project: Project, volume: str, program: str, *arguments: str) -> str:
    """As root, who may look everywhere."""
    mount = f"{project.name}_{volume}:/volume"
    words = ["run", "--rm", "--user", "0", "-v", mount, "-w", "/volume", "--entrypoint", "python3"]
    return docker(*words, f"{project.name}/whatsapp-connector-backend", "-c", program, *arguments)


def volume_old(project: Project) -> str:
    """One that others could read, as from a restored backup or another engine: the root may be so, the session may not."""
    project.run("docker compose stop edge")
    in_volume(project, "session", "import os; os.chown('.', 0, 65532); os.chmod('.', 0o2770)")
    project.run("docker compose up --wait edge")
    until("the edge to be ready", lambda: project.ready("edge")[0] == 200, 60, lambda: project.logs("edge"))
    project.run("docker compose stop edge")
    in_volume(project, "session", "import os; os.chmod('session', 0o755)")
    project.run("docker compose start edge", check=False)
    refusal = until("the edge to refuse it", lambda: re.search(r".*chmod.*", project.logs("edge")), 30, lambda: project.logs("edge"))
    project.run("docker compose stop edge")
    in_volume(project, "session", "import os; os.chmod('session', 0o700)")
    project.run("docker compose up --wait edge")
    until("the edge to be ready", lambda: project.ready("edge")[0] == 200, 60, lambda: project.logs("edge"))
    return f"an open root is taken, an open session refused ({refusal[0].strip()[:120]}), and taken after the chmod"


ROOTS = "import os; [os.chown(os.path.join(at, name), 0, 0) for at, _, names in os.walk('.') for name in (*names, '.')]"
# CHANGELOG.md has it too.
TO_THE_USER = (
    "docker compose run --rm --no-deps --user root --cap-add CHOWN --cap-add DAC_OVERRIDE --entrypoint chown nats -R 65532:65532 /data"
)


def streams_of_root(project: Project) -> str:
    """As nats-server made them when it ran as root; nothing is lost when they get another owner."""
    write(project, QUIET_CHATS)
    project.run("docker compose stop")
    in_volume(project, "streams", ROOTS)
    project.run(TO_THE_USER)
    project.run("docker compose up --wait")
    until("the edge to be ready", lambda: project.ready("edge")[0] == 200, 60, lambda: project.logs("edge", "nats"))
    return f"given to the server's user; {judged(project)}"


def forgotten(project: Project) -> str:
    project.as_documented("docker compose down --volumes")
    return project.nothing_left(but="simulated-")


def logs(project: Project) -> str:
    return project.private_logs(["edge", "forwarder", "provision"], [talk.ENTRY, talk.ACCOUNT, *talk.CUSTOMERS])


STEPS = [
    link, three_forwarders, edge_restarted, forwarder_killed, nats_restarted, stop_finishes_calls, whatsapp_offline, backend_stopped,
    logs, down_and_up, volume_fresh,
    volume_old, streams_of_root, forgotten,
]  # fmt: skip
