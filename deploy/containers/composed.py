"""Containers of a compose file, under a project name of its own."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import engine
from engine import Failure, docker, until

HEALTHY_S = 120


class Composed:
    """Commands are given as a person writes them, `docker compose …`; files and names come in between."""

    def __init__(self, name: str, files: list[Path], settings: Path) -> None:
        self.name = name
        self._files = files
        # Stands for the `.env` beside the file: an operator's own is not read, so that all machines are the same.
        self._settings = settings
        self._settings.touch()

    def setting(self, name: str, value: str) -> None:
        """A line of `.env`, for the next `up`."""
        with self._settings.open("a") as file:
            file.write(f"{name}={value}\n")

    def directory(self) -> Path:
        """Which paths in the files are relative to."""
        return self._files[0].parent

    # ---------------------------------------------------------------- commands

    def words(self, command: str) -> list[str]:
        """Of `docker compose …`, `docker …` or `curl …`."""
        name, *rest = shlex.split(command)
        if [name, *rest[:1]] != ["docker", "compose"]:
            return [name, *rest]
        files = [word for path in self._files for word in ("-f", str(path))]
        own = ["--project-directory", str(self.directory()), "--env-file", str(self._settings), "-p", self.name, "--ansi", "never", "--progress", "plain"]
        return ["docker", "compose", *own, *files, *rest[1:]]

    def environment(self) -> dict[str, str]:
        """Without the files' own variables: those that whoever runs the check has set do not count."""
        variables = {name for path in self._files for name in re.findall(r"\$\{([A-Z_]+)", path.read_text())}
        return {name: value for name, value in engine.environment().items() if name not in variables}

    def run(self, command: str, check: bool = True, timeout_s: float = HEALTHY_S, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return engine.run(*self.words(command), check=check, timeout_s=timeout_s, env=self.environment(), stdin=stdin)
        except Failure as failure:
            raise Failure(f"`{command}`: {str(failure).rsplit('` ', 1)[-1]}", failure.look) from None

    # ---------------------------------------------------------------- containers

    def containers(self, service: str = "") -> list[dict[str, Any]]:
        """What the engine knows of each, stopped ones included, by its name."""
        label = [f"label=com.docker.compose.project={self.name}", *([f"label=com.docker.compose.service={service}"] if service else [])]
        ids = docker("ps", "-aq", *(word for one in label for word in ("--filter", one))).split()
        found: list[dict[str, Any]] = json.loads(docker("inspect", *ids)) if ids else []
        return sorted(found, key=lambda container: str(container["Name"]))

    def one(self, service: str) -> dict[str, Any]:
        found = self.containers(service)
        if not found:
            raise Failure(f"there is no container of {service}")
        return found[0]

    def health(self, service: str) -> str:
        return str(self.one(service)["State"].get("Health", {}).get("Status", "none"))

    def until_health(self, service: str, wanted: str, within_s: float) -> None:
        until(f"{service} to be {wanted}", lambda: self.health(service) == wanted, within_s, lambda: self.logs(service))

    def logs(self, *services: str) -> str:
        """Of all containers without a name, both streams."""
        return "".join(one.stdout + one.stderr for one in self._logs(*services))

    def standard_error(self, *services: str) -> str:
        return "".join(one.stderr for one in self._logs(*services))

    def _logs(self, *services: str) -> list[subprocess.CompletedProcess[str]]:
        containers = [container for service in services or ("",) for container in self.containers(service)]
        return [engine.run("docker", "logs", container["Id"]) for container in containers]

    def remove(self) -> None:
        """Whatever is left of it, but for the images."""
        self.run("docker compose --profile * down --volumes --remove-orphans --timeout 2", check=False)
