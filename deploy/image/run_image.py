"""Runs the image that check.py has built, as a container engine would. To be called in a mount, network and process
namespace of its own: run_image.py IMAGE NATS_SERVER."""

import fcntl
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import dockerfile

STAGE = dockerfile.parse(Path(__file__).resolve().parents[2] / "deploy/Dockerfile")[-1]
BINARY = "/usr/local/bin/whatsapp-connector"
HOST = "nats.test"
PATIENCE_S = 30


def main() -> int:
    image, nats_server = Path(sys.argv[1]), Path(sys.argv[2])
    loopback_up()
    read_only(image)
    threading.Thread(target=answer_dns, args=(listen_dns(),), daemon=True).start()
    with tempfile.TemporaryDirectory() as store:
        nats = subprocess.Popen([nats_server, "-js", "-sd", store, "-a", "127.0.0.1"], stderr=subprocess.DEVNULL)
        try:
            checks(Container(image))
        finally:
            nats.kill()
    return 0


def checks(container: "Container") -> None:
    version = container.run("--version")
    say(f"as user {STAGE.last('USER').rest}: {version.stdout.strip()}")
    assert version.returncode == 0, version.stderr
    refused = container.run("edge", WHATSAPP_SIMULATOR_URL="ws://127.0.0.1:7080/ws/chat")
    assert refused.returncode == 78 and "this build talks to WhatsApp only" in refused.stderr, refused.stderr
    say("it refuses the simulator")

    healthcheck = STAGE.last("HEALTHCHECK").exec_form()[1:]
    assert container.run(*healthcheck).returncode != 0, "the healthcheck says that a process lives which is not there"
    for role, ready in (("forwarder", 200), ("edge", 503)):
        # `https`: a client that finds no certificates would not start.
        process = container.start(role, NATS_URL=f"nats://{HOST}:4222", BACKEND_URL="https://assistant.test")
        try:
            until(lambda: status("/livez") == 200, f"{role} answers /livez", process)
            until(lambda: "nats-server" not in body("/readyz"), f"{role} has found nats-server by its name", process)
            until(lambda: status("/readyz") == ready, f"{role} answers /readyz with {ready}", process)
            found = container.run(*healthcheck)
            assert found.returncode == 0, f"healthcheck of the {role}: {found.stdout} {found.stderr}"
            if role == "edge":
                store = container.image / "var/lib/whatsapp/session/default.db"
                until(store.exists, "the edge has made its session store", process)
                for path in (store, store.parent):
                    found = path.stat()
                    assert (found.st_uid, found.st_mode & 0o077) == (65532, 0), f"{path} is not the user's alone"
        finally:
            process.terminate()
        assert process.wait(PATIENCE_S) == 0, f"{role} ended with {process.returncode}"
        say(f"{role}: lives, {'is ready' if ready == 200 else 'is not ready, because it is not linked'}, ends with 0")


class Container:
    def __init__(self, image: Path) -> None:
        self.image = image

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """With what the Dockerfile says, and nothing of this process's environment."""
        *entry, = STAGE.last("ENTRYPOINT").exec_form()
        if arguments[0].startswith("/"):
            entry = []
        variables = [f"{key}={value}" for key, value in (STAGE.environment() | environment).items()]
        command = ["env", "-i", *variables, "/usr/sbin/chroot", f"--userspec={STAGE.last('USER').rest}"]
        return subprocess.Popen(
            [*command, self.image, *entry, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=PATIENCE_S)
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


def say(text: str) -> None:
    print(f"image-check: {text}", flush=True)


def until(holds: Callable[[], bool], what: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            sys.exit(f"image-check: not seen: {what}\n{process.stderr.read()}")
        time.sleep(0.1)


def answer(path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:8080{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return 0, "nats-server: not even the process is there"


def status(path: str) -> int:
    return answer(path)[0]


def body(path: str) -> str:
    return answer(path)[1]


def loopback_up() -> None:
    """`ip link set lo up`, without iproute2."""
    siocgifflags, siocsifflags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, siocgifflags, struct.pack("16sh", b"lo", 0).ljust(40, b"\0"))
        flags = struct.unpack_from("16sh", request)[1]
        fcntl.ioctl(any_socket, siocsifflags, struct.pack("16sh", b"lo", flags | up).ljust(40, b"\0"))


def read_only(image: Path) -> None:
    """`--read-only --tmpfs /tmp` with a volume for the session, of the mode that Kubernetes gives one."""
    (image / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
    (image / "etc/hosts").write_text("127.0.0.1 localhost\n")
    mount = lambda *arguments: subprocess.run(["mount", *map(str, arguments)], check=True)  # noqa: E731
    mount("--bind", image, image)
    mount("-o", "remount,bind,ro", image)
    mount("-t", "proc", "proc", image / "proc")
    mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", image / "tmp")
    # As every container engine does; a static binary has its randomness from there.
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", image / "dev")
    for device in ("null", "zero", "random", "urandom"):
        (image / "dev" / device).touch()
        mount("--bind", f"/dev/{device}", image / "dev" / device)
    mount("-t", "tmpfs", "-o", "mode=2770,uid=0,gid=65532", "tmpfs", image / "var/lib/whatsapp")
    try:
        (image / "etc/written").write_text("")
    except OSError:
        return
    sys.exit("image-check: the image is not read-only here")


def listen_dns() -> socket.socket:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    return server


def answer_dns(server: socket.socket) -> None:
    """One name has an address; no other name exists."""
    known = b"".join(bytes([len(label)]) + label.encode() for label in HOST.split(".")) + b"\0"
    while True:
        query, client = server.recvfrom(512)
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        is_known, is_a = question[:-4].lower() == known, question[-4:-2] == b"\0\x01"
        answers = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01" if is_known and is_a else b""
        flags = b"\x81\x80" if is_known else b"\x81\x83"
        counts = struct.pack("!HHHH", 1, 1 if answers else 0, 0, 0)
        server.sendto(query[:2] + flags + counts + question + answers, client)


if __name__ == "__main__":
    sys.exit(main())
