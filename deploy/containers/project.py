"""compose.yaml as a project of its own: its name, its images and its ports are nobody else's."""

import json
import os
import pty
import re
import select
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import engine
import judgement
import yaml
from composed import Composed
from engine import ROOT, Failure, docker

PUBLISHED = {"nats": 4222, "backend": 8000, "edge": 8080}
"""What compose.yaml publishes on loopback."""

OURS = "whatsapp-connector"

BUILD_S = 1800


class Project(Composed):
    """compose.yaml, with what the check has to change in it."""

    def __init__(self, name: str, scratch: Path, full: bool = False) -> None:
        super().__init__(name, [ROOT / "compose.yaml"], scratch / "settings.env")
        self.full = full
        """The images are built as they are shipped."""
        self.documented: list[str] = []
        """Every command that was run as it stands in the documentation."""
        self.ports = dict(PUBLISHED)
        self._scratch = scratch
        self._files.append(self._override("check", self._changes()))

    @staticmethod
    def services() -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
        return found

    # ---------------------------------------------------------------- what is changed

    def _changes(self) -> dict[str, Any]:
        changes: dict[str, Any] = {
            name: {"image": f"{self.name}/{service['image']}"}
            for name, service in self.services().items()
            if service["image"].startswith(OURS)
        }
        # A real number is a person's: WhatsApp is this container's own loopback, where nobody listens.
        for edge in ("edge", "pool"):
            changes[edge]["extra_hosts"] = ["web.whatsapp.com:127.0.0.1"]
        if taken := [port for port in PUBLISHED.values() if not free(port)]:
            engine.say(f"port {', '.join(map(str, taken))} is taken here; others are published")
            self.ports = {name: free_port() for name in PUBLISHED}
            for name, port in self.ports.items():
                changes[name]["ports"] = Replaced([f"127.0.0.1:{port}:{PUBLISHED[name]}"])
        return changes

    def _override(self, name: str, services: dict[str, Any]) -> Path:
        path = self._scratch / f"{name}.yaml"
        path.write_text(yaml.dump({"services": services}, Dumper=Dumper))
        return path

    def with_also(self, services: dict[str, Any], name: str) -> "Project":
        """The same project with more changes."""
        other = object.__new__(Project)
        other.__dict__ = self.__dict__ | {"_files": [*self._files, self._override(name, services)]}
        return other

    # ---------------------------------------------------------------- commands

    def as_documented(self, command: str, **how: Any) -> subprocess.CompletedProcess[str]:
        self.documented.append(command)
        return self.run(command, **how)

    def converse(self, command: str, lines: list[str], answer: str, within_s: float) -> str:
        """Runs it on a terminal, as a person does, and writes the next line when `answer` has come to the one before.
        Everything that the terminal has shown."""
        self.documented.append(command)
        parent, child = pty.openpty()
        process = subprocess.Popen(self.words(command), stdin=child, stdout=child, stderr=child, env=self.environment())
        os.close(child)
        shown, deadline = b"", time.monotonic() + within_s
        asked = 0
        try:
            while process.poll() is None or select.select([parent], [], [], 0)[0]:
                if time.monotonic() > deadline:
                    raise Failure(f"`{command}` took more than {within_s:.0f} s", shown.decode(errors="replace"))
                if not select.select([parent], [], [], 0.5)[0]:
                    continue
                try:
                    shown += os.read(parent, 65536)
                except OSError:  # the other end is closed
                    break
                if asked <= len(lines) and len(re.findall(answer, shown.decode(errors="replace"))) >= asked + 1:
                    os.write(parent, f"{lines[asked]}\n".encode() if asked < len(lines) else b"\x04")
                    asked += 1
            if process.wait(10):
                raise Failure(f"`{command}` ended with {process.returncode}", shown.decode(errors="replace"))
        finally:
            process.kill()
            os.close(parent)
        return shown.decode(errors="replace").replace("\r\n", "\n")

    def http(self, service: str, path: str, token: str = "") -> tuple[int, str]:
        """Status and body, through the published port; 0 where nobody answers."""
        request = urllib.request.Request(f"http://localhost:{self.ports[service]}{path}", headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with _opener.open(request, timeout=5) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self, service: str) -> tuple[int, list[str]]:
        """The status of /readyz, and `part/code` of each reason."""
        status, body = self.http(service, "/readyz")
        return status, [f"{reason['part']}/{reason['code']}" for reason in json.loads(body)["reasons"]] if status else []

    def private_logs(self, connectors: list[str], secrets: list[str]) -> str:
        """A connector logs JSON, and nobody logs a text or a number."""
        for service in connectors:
            log = self.standard_error(service)
            if not log or judgement.log_faults(log):
                raise Failure(f"{service} logs nothing, or what is no JSON", "\n".join(judgement.log_faults(log)[:5]))
        # The simulator's numbers are nobody's, and its log tells whose turn it is.
        everything = self.logs(*(service for service in self.services() if service != "simulator"))
        if found := judgement.told(everything, secrets):
            raise Failure("a text or a number is in a log", "\n".join(found[:5]))
        return f"{len(judgement.lines_of(everything))} lines: JSON where they are the connector's, no text and no number in any"

    def nothing_left(self, but: str = " ") -> str:
        """After `down --volumes`; `but` is in the names of volumes that are another profile's."""
        volumes = docker("volume", "ls", "-q", "--filter", f"label=com.docker.compose.project={self.name}").split()
        if left := [*(volume for volume in volumes if but not in volume), *(container["Name"] for container in self.containers())]:
            raise Failure(f"`down --volumes` leaves {', '.join(left)}")
        return "with --volumes nothing is left"

    def remove(self, images: bool = True) -> None:
        """Whatever is left of it; with `images`, also what was built."""
        super().remove()
        if images:
            kept = docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
            for image in kept:
                if image.startswith(f"{self.name}/{OURS}"):
                    docker("rmi", image, check=False)


class Replaced(list[str]):
    """A list in the place of the one in the file below, not beside it."""


class Reset:
    """Nothing in the place of what the file below has."""


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(Reset, lambda dumper, _: dumper.represent_scalar("!reset", "null"))
Dumper.add_representer(Replaced, lambda dumper, data: dumper.represent_sequence("!override", data))

# Straight to loopback, whatever proxy the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def holds_for(seconds: float, holds: Callable[[], bool]) -> bool:
    """That something does not happen can be seen only by waiting."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not holds():
            return False
        time.sleep(0.5)
    return True
