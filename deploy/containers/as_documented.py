"""compose.yaml as a new operator starts it: `--profile simulator`, nothing edited. The edge of a real number is there too;
WhatsApp cannot be reached from it, so it stays unlinked and offline."""

import base64
import json
import secrets
import subprocess
import tempfile
from pathlib import Path

import judgement
from engine import Failure, docker, inspect, say, until
from project import BUILD_S, Project, holds_for

LINES = ["¡Hola! Buenas tardes", "Quiero reservar una mesa para 4 personas", "El viernes a las 21:30"]
ANSWERS = ["¡Hola, Ana! Soy el asistente", "Perfecto, 4 personas", "¡Reserva confirmada!"]
TOKEN = "a-token-of-the-check-0123456789"
LIMIT = 40_000_000
VOLUMES = {"connector": ["/var/lib/whatsapp"], "simulator": ["/var/lib/whatsapp", "/var/lib/simulator"]}
PROGRAMS = {"connector": {"whatsapp-connector"}, "simulator": {"whatsapp-connector", "whatsapp-simulator"}}
# The healthcheck's interval and timeout, three times, and what a busy machine adds.
RED_WITHIN_S = 60
ENDS_WELL = {"provision"}


def first_start(project: Project) -> str:
    """Nothing is built yet: `up` builds it."""
    say("building the images, which takes minutes, and starting them")
    project.as_documented("docker compose --profile simulator up --wait", timeout_s=BUILD_S)
    states = {name: state for name, state in ((c["Config"]["Labels"]["com.docker.compose.service"], c["State"]) for c in project.containers())}
    for service, state in states.items():
        # Whoever has ended has no health any more.
        health = state.get("Health", {}).get("Status", "healthy") if state["Running"] else "healthy"
        well = state["Status"] == "exited" and state["ExitCode"] == 0 if service in ENDS_WELL else state["Running"]
        if not well or health != "healthy":
            raise Failure(f"{service} is {state['Status']} ({state['ExitCode']}), {health}", project.logs(service))
    return f"{len(project.containers())} containers are up, {', '.join(sorted(states))}"


def images(project: Project) -> str:
    sizes = []
    for target, name in (("connector", "whatsapp-connector"), ("simulator", "whatsapp-connector-simulator")):
        image = f"{project.name}/{name}"
        programs = {f"/usr/local/bin/{program}" for program in PROGRAMS[target]}
        container = docker("create", image)
        try:
            with subprocess.Popen(["docker", "export", container], stdout=subprocess.PIPE) as export:
                assert export.stdout
                faults, size = judgement.image_faults(export.stdout, programs, VOLUMES[target])
        finally:
            docker("rm", container)
        if target == "connector" and project.full and size > LIMIT:
            faults.append(f"it has {size / 1e6:.1f} MB; it may have {LIMIT / 1e6:.0f} MB")
        if faults:
            raise Failure(f"the image {name}: {'; '.join(faults)}")
        sizes.append(f"{name} {size / 1e6:.1f} MB")
    built = "as they are shipped" if project.full else "built quickly, so larger than what is shipped"
    return f"no shell, nothing that changes its user; {', '.join(sizes)} ({built})"


def by_hand(project: Project) -> str:
    """In the words of the Dockerfiles; all of it is in the builder's cache by now."""
    for command in ("docker build -f deploy/Dockerfile -t whatsapp-connector .", "docker build -t whatsapp-connector-backend deploy/backend"):
        project.documented.append(command)
        tagged = command.replace("-t ", f"--build-arg REVISION=of-the-check -t {project.name}/whatsapp-connector-by-hand/")
        project.run(tagged, timeout_s=BUILD_S)
    found = inspect("image", f"{project.name}/whatsapp-connector-by-hand/whatsapp-connector")
    labels = found["Config"]["Labels"] if found else {}
    if labels.get("org.opencontainers.image.revision") != "of-the-check" or not labels.get("org.opencontainers.image.version"):
        raise Failure(f"the image's labels are {labels}")
    return f"version {labels['org.opencontainers.image.version']} for {found['Architecture'] if found else ''}"


def three_answers(project: Project) -> str:
    shown = project.converse("docker compose --profile simulator run --rm customer", LINES, r"Ctrl-D ends|\[assistant\] ", within_s=180)
    answers = [line for line in shown.splitlines() if line.startswith("[assistant] ")]
    if len(answers) != len(ANSWERS) or not all(due in line for due, line in zip(ANSWERS, answers, strict=True)):
        raise Failure("those are not the three answers", shown)
    return "linked by the customer; 3 sent, 3 answered"


def rights(project: Project) -> str:
    running = [container for container in project.containers() if container["State"]["Running"]]
    for container in running:
        faults = judgement.rights_faults(container)
        status = Path(f"/proc/{container['State']['Pid']}/status")
        if status.exists():  # the engine is on this machine
            faults += judgement.process_faults(status.read_text())
        if faults:
            raise Failure(f"{container['Name']} {', '.join(faults)}")
    return f"{len(running)} containers: none is root's, none has a capability, none may write to its image"


def unlinked(project: Project) -> str:
    """Not ready, and healthy: nothing restarts it for that."""
    status, reasons = project.ready("edge")
    if status != 503 or not any(reason.startswith("whatsapp/") for reason in reasons):
        raise Failure(f"/readyz of the edge answers {status} {reasons}", project.logs("edge"))
    if not holds_for(5, lambda: project.health("edge") == "healthy"):
        raise Failure("the edge is not healthy while it is unlinked", project.logs("edge"))
    if restarts := project.one("edge")["RestartCount"]:
        raise Failure(f"the edge was restarted {restarts} times", project.logs("edge"))
    status, _ = project.http("edge", "/link")
    if status != 403:
        raise Failure(f"without HTTP_TOKEN /link answers {status} to the outside of the container")
    return f"not ready ({', '.join(reasons)}), healthy, never restarted; /link is closed"


def commands(project: Project) -> str:
    """As docs/operations.md has them."""
    told = project.as_documented("docker compose exec edge whatsapp-connector check edge", check=False)
    if told.returncode or "can be used" not in told.stdout or "unlinked" not in _codes(project, "edge"):
        raise Failure("check of the edge", told.stdout + told.stderr)
    told = project.as_documented("docker compose exec forwarder whatsapp-connector check forwarder", check=False)
    if told.returncode or "backend" not in _codes(project, "forwarder"):
        raise Failure("check of a forwarder", told.stdout + told.stderr)
    # A person has to scan the code, or will have to as soon as WhatsApp answers.
    told = project.as_documented("docker compose run --rm operator status", check=False)
    if told.returncode != 1 or told.stdout.count("forwarder 0.") != 2 or "edge 0." not in told.stdout:
        raise Failure("status", told.stdout + told.stderr)
    project.as_documented("docker compose run --rm operator tap")
    told = project.as_documented("docker compose run --rm operator dlq list")
    # Both sides in one process, and a bus without logins.
    told = project.as_documented("docker compose --profile simulator exec simulated-connector whatsapp-connector status")
    if "online" not in told.stdout:
        raise Failure("status of the simulated side", told.stdout)
    told = project.as_documented("docker compose --profile simulator exec simulated-connector whatsapp-connector tap --kind reply")
    if len(lines := told.stdout.splitlines()) != len(LINES) or judgement.told(told.stdout, [*LINES, *ANSWERS]):
        raise Failure(f"tap shows {len(lines)} replies", told.stdout)
    return "check, status, tap and dlq say what they should"


def _codes(project: Project, side: str) -> list[str]:
    told = project.run(f"docker compose exec {side} whatsapp-connector check {side} --json", check=False)
    return [finding["code"] for finding in json.loads(told.stdout)["findings"]]


def quotes(project: Project) -> str:
    """docs/configuration.md: an engine keeps those of a file for `--env-file`."""
    with tempfile.NamedTemporaryFile("w", suffix=".env") as file:
        file.write('API_KEY="a-key-in-quotes"\nBACKEND_URL=http://127.0.0.1:9\nNATS_URL=nats://127.0.0.1:9\n')
        file.flush()
        told = project.run(f"docker run --rm --network none --env-file {file.name} {project.name}/whatsapp-connector check forwarder --json", check=False)
    codes = [finding["code"] for finding in json.loads(told.stdout)["findings"]]
    if "quoted-setting" not in codes:
        raise Failure(f"check does not see the quotes of an --env-file: {codes}")
    return "quotes of an --env-file are seen by check"


def token(project: Project) -> str:
    project.setting("HTTP_TOKEN", TOKEN)
    project.as_documented("docker compose up --wait")
    found = [project.http("edge", "/link.json")[0], project.http("edge", "/link.json", "another-token-0123456789")[0]]
    status, body = project.http("edge", "/link.json", TOKEN)
    if found != [401, 401] or status != 200 or "state" not in json.loads(body):
        raise Failure(f"with HTTP_TOKEN /link.json answers {found} without it, and {status} with it")
    # The customer of the other part has none.
    project.setting("HTTP_TOKEN", "")
    return "unset: closed to the outside; set: open to whoever has it"


def red_and_green(project: Project) -> str:
    """A process that is frozen answers nobody."""
    services = ["edge", "backend", "nats"]
    frozen = [project.one(service)["Id"] for service in services]
    docker("kill", "--signal", "STOP", *frozen)
    try:
        for service in services:
            project.until_health(service, "unhealthy", RED_WITHIN_S)
    finally:
        docker("kill", "--signal", "CONT", *frozen)
    for service in services:
        project.until_health(service, "healthy", RED_WITHIN_S)
    if any(project.one(service)["RestartCount"] for service in services):
        raise Failure("a container was restarted because of its health")
    return f"{', '.join(services)}: red while they are frozen, green after it"


def logs(project: Project) -> str:
    return project.private_logs(["edge", "forwarder", "provision", "simulated-connector"], [*LINES, *ANSWERS, "5491112345678", "5491100000000"])


def pool(project: Project) -> str:
    """Two edges share an account. WhatsApp cannot be reached, so it is not linked; who has it is seen all the same."""
    project.setting("SESSION_KEY", base64.b64encode(secrets.token_bytes(32)).decode())
    project.as_documented("docker compose --profile pool up --wait")
    edges = {str(container["Config"]["Hostname"]): container["Id"] for container in project.containers("pool")}
    if len(edges) != 2:
        raise Failure(f"{len(edges)} edges of the pool", project.logs("pool-provision", "pool"))
    told = project.as_documented("docker compose run --rm operator accounts add shop")
    if json.loads(told.stdout)["done"] != "added":
        raise Failure("accounts add", told.stdout + told.stderr)
    first = until("an edge to have the account", lambda: _edge_of(project, edges), 60, lambda: project.logs("pool"))
    told = project.as_documented("docker compose run --rm operator link --account shop")
    if json.loads(told.stdout)["account"] != "shop":
        raise Failure("link of an account of the pool", told.stdout + told.stderr)
    docker("stop", edges.pop(first))
    until("the other edge to have the account", lambda: _edge_of(project, edges), 20, lambda: project.logs("pool"))
    told = project.as_documented("docker compose run --rm operator accounts list")
    if "shop" not in told.stdout:
        raise Failure("accounts list", told.stdout + told.stderr)
    project.private_logs(["pool", "pool-provision"], ["5491112345678"])
    project.as_documented("docker compose stop pool")
    project.run("docker compose rm --force pool pool-provision")
    return "an account was added, and went to the other edge when its own ended"


def _edge_of(project: Project, edges: dict[str, str]) -> str | None:
    """Which of the edges has the account."""
    told = project.run("docker compose run --rm operator accounts list --json", check=False)
    return next((edge for edge in edges if f"{edge}/" in told.stdout), None)


def down(project: Project) -> str:
    """What is kept is kept: the link, and what the bus has."""
    project.as_documented("docker compose --profile simulator down")
    project.as_documented("docker compose --profile simulator up --wait")
    status = "docker compose --profile simulator exec simulated-connector whatsapp-connector status"
    until("the simulated number to be online without a code", lambda: "online" in project.run(status, check=False).stdout, 60)
    if "█" in project.logs("simulated-connector"):
        raise Failure("it asks for the code again", project.logs("simulated-connector"))
    project.as_documented("docker compose --profile simulator down --volumes")
    return f"linked as before; {project.nothing_left()}"


STEPS = [first_start, images, by_hand, three_answers, rights, unlinked, commands, quotes, token, red_and_green, logs, pool, down]
