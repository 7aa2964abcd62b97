"""`python -m assistant --host 127.0.0.1 --port 0`: bind, say where, serve."""

import argparse
import logging
import os
import signal
import socket
import sys

import uvicorn

from . import telemetry
from .app import create_app
from .settings import Settings, SettingsError

EX_CONFIG = 78
GRACE_S = 5


def main() -> int:
    parser = argparse.ArgumentParser(prog="assistant", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one")
    args = parser.parse_args()

    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"assistant: {error}", file=sys.stderr)
        return EX_CONFIG

    try:
        listener = _listen(args.host, args.port)
    except OSError as error:
        print(f"assistant: cannot listen on {args.host}:{args.port}: {error}", file=sys.stderr)
        return 1
    # Connections are accepted from here on, so whoever reads this line may connect at once.
    print(f"listening on {_url(listener)}", flush=True)

    app = create_app(settings)
    telemetry.instrument(app, os.environ)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # it would not carry the request's id; the app logs its own line
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    # uvicorn raises the signal that ended it once more after its shutdown: that is a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    server.run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
