"""As much of a NATS client as the check needs: one request, one answer."""

import json
import socket
from typing import Any

TIMEOUT_S = 10


def request(address: str, subject: str, payload: str = "") -> dict[str, Any]:
    """To nats-server at `host:port`, without a login. JetStream's answers are JSON."""
    host, port = address.rsplit(":", 1)
    data = payload.encode()
    with socket.create_connection((host, int(port)), timeout=TIMEOUT_S) as connection, connection.makefile("rb") as lines:
        words = f'CONNECT {{"verbose":false}}\r\nSUB _INBOX.check 1\r\nPUB {subject} _INBOX.check {len(data)}\r\n'
        connection.sendall(words.encode() + data + b"\r\n")
        for line in lines:
            if line.startswith(b"MSG"):
                size = int(line.split()[-1])
                found: dict[str, Any] = json.loads(lines.read(size))
                return found
            if line.startswith(b"PING"):
                connection.sendall(b"PONG\r\n")
            if line.startswith(b"-ERR"):
                raise OSError(f"{subject}: {line.decode().strip()}")
    raise OSError(f"{subject}: the server ended without an answer")
