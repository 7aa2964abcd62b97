"""Where the parts are, and how those that both drivers need are started."""

import json
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from processes import Failure, Process, Processes

ROOT = Path(__file__).resolve().parents[2]
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug"
NATS_SERVER = ROOT / ".tools" / "bin" / "nats-server"
BACKEND = ROOT / "deploy" / "backend"

START_S = 30.0
LISTENING = r"^listening on (http://\S+)$"

# Straight to loopback, whatever proxy the environment names.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def start_backend(parts: Processes, env: Mapping[str, str]) -> str:
    """The reference backend on a free port; its URL."""
    command = [sys.executable, "-m", "assistant", "--host", "127.0.0.1", "--port", "0"]
    backend = parts.start("backend", command, env, BACKEND)
    return wait_until_listening(parts, backend)


def wait_until_listening(parts: Processes, process: Process) -> str:
    return parts.wait_for(
        f"{process.name} to say where it listens",
        lambda: process.find(LISTENING),
        START_S,
        of=process,
    )


def built(name: str) -> Path:
    binary = TARGET / name
    if not binary.exists():
        raise Failure(f"{name} is not built; `make build` does it")
    return binary


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def call(method: str, url: str, body: object = None, timeout_s: float = 10.0, token: str = "") -> tuple[int, Any]:
    """Status and JSON (or text) of any HTTP answer; OSError when there is none."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with _opener.open(request, timeout=timeout_s) as response:
            return response.status, _decoded(response.read())
    except urllib.error.HTTPError as error:
        return error.code, _decoded(error.read())


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace")
