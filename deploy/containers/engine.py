"""The container engine, by its command line: `docker`, and `docker compose` of version 2."""

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import debian

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".tools/containers"

COMPOSE_AT_LEAST = (2, 24, 4)
"""The first that knows the tag `!override`, with which the check takes free ports."""

_environment = dict(os.environ)


def environment() -> dict[str, str]:
    return dict(_environment)


class Failure(Exception):
    """What was expected and did not come; `look` is what helps to see why."""

    def __init__(self, what: str, look: str = "") -> None:
        super().__init__(what)
        self.look = look


def say(text: str) -> None:
    print(f"{Path(sys.argv[0]).stem.replace('_', '-')}: {text}", flush=True)


@contextmanager
def alone() -> Iterator[None]:
    """Two checks at once would take each other's stand-ins away."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (Path(tempfile.gettempdir()) / "whatsapp-connector-containers.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def answers() -> str:
    """The engine's version; empty where none answers."""
    if not shutil.which("docker"):
        return ""
    found = subprocess.run(["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True)
    return found.stdout.strip() if found.returncode == 0 else ""


def run(
    *command: object, check: bool = True, timeout_s: float = 120, env: dict[str, str] | None = None, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Both streams are kept, and shown if the command fails. Without `stdin` it reads nothing."""
    words = [str(word) for word in command]
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=timeout_s, env=_environment if env is None else env, errors="replace", **given
        )
    except subprocess.TimeoutExpired as late:
        said = "".join(part.decode(errors="replace") for part in (late.stdout, late.stderr) if isinstance(part, bytes))
        raise Failure(f"`{' '.join(words)}` took more than {timeout_s:.0f} s", said) from None
    if check and done.returncode:
        raise Failure(f"`{' '.join(words)}` ended with {done.returncode}", done.stdout + done.stderr)
    return done


def docker(*arguments: object, check: bool = True, timeout_s: float = 120) -> str:
    return run("docker", *arguments, check=check, timeout_s=timeout_s).stdout.strip()


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """Of an image, a container, a volume or a network; None where there is none of that name."""
    done = run("docker", kind, "inspect", name, check=False)
    found: list[dict[str, Any]] = json.loads(done.stdout) if done.returncode == 0 else []
    return found[0] if found else None


def until(what: str, holds: Callable[[], Any], within_s: float, look: Callable[[], str] = str) -> Any:
    """What `holds` answers as soon as that is true of it."""
    deadline = time.monotonic() + within_s
    while True:
        if found := holds():
            return found
        if time.monotonic() > deadline:
            raise Failure(f"waited {within_s:.0f} s for {what}", look())
        time.sleep(0.2)


def with_compose() -> str:
    """The version of `docker compose`. Where the machine has none, Debian's plugins are unpacked into .tools/."""
    if (found := _compose()) >= COMPOSE_AT_LEAST:
        return ".".join(map(str, found))
    config = CACHE / "docker"
    plugins = config / "cli-plugins"
    _environment["DOCKER_CONFIG"] = str(config)
    if _compose() < COMPOSE_AT_LEAST:
        say("taking `docker compose` out of Debian's packages docker-compose and docker-buildx")
        plugins.mkdir(parents=True, exist_ok=True)
        unpacked = CACHE / "plugins"
        debian.unpack(["docker-compose", "docker-buildx"], "trixie", unpacked, CACHE)
        for name in ("docker-compose", "docker-buildx"):
            (unpacked / "usr/libexec/docker/cli-plugins" / name).replace(plugins / name)
        shutil.rmtree(unpacked)
    if (found := _compose()) < COMPOSE_AT_LEAST:
        raise Failure("`docker compose` does not run", run("docker", "compose", "version", check=False).stderr)
    return ".".join(map(str, found))


def _compose() -> tuple[int, ...]:
    done = run("docker", "compose", "version", "--short", check=False)
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", done.stdout) if done.returncode == 0 else None
    return tuple(map(int, match.groups())) if match else (0,)
