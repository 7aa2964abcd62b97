#!/usr/bin/env python3
"""`make run`: the connector in the foreground, with the real WhatsApp.

Settings come from the environment and from `.env` in the repository's root, which the connector
reads by itself. All that is added here is a backend, the reference one, when BACKEND_URL is unset.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from parts import NATS_SERVER, ROOT, built, start_backend
from processes import Failure, Interrupted, Processes, dies_with_parent

LOOK_S = 1.0


def main() -> int:
    state = Path(tempfile.mkdtemp(prefix="whatsapp-connector-run-"))
    logs = state / "logs"
    try:
        with Processes(logs) as parts:
            env = {"NATS_SERVER_BIN": str(NATS_SERVER)} | os.environ
            if not configured("BACKEND_URL"):
                env["BACKEND_URL"] = start_backend(parts, env)
                say(f"BACKEND_URL is unset: started the reference backend, {env['BACKEND_URL']}")
                say(f"its log is {logs / 'backend.log'}")
            return run_connector(parts, env)
    except Failure as failure:
        say(f"failed: {failure}")
        if failure.process is not None:
            print(failure.process.tail(), file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return interrupted.exit_code
    finally:
        shutil.rmtree(state, ignore_errors=True)


def run_connector(parts: Processes, env: dict[str, str]) -> int:
    """Attached to this terminal, whose Ctrl-C reaches it directly; its exit code."""
    connector = subprocess.Popen(
        [built("whatsapp-connector"), "run"],
        env=env,
        cwd=ROOT,
        preexec_fn=dies_with_parent(signal.SIGTERM),
    )

    def forward(signum: int, _frame: object) -> None:
        if signum != signal.SIGINT or not sys.stdin.isatty():
            connector.send_signal(signum)

    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, forward)
    try:
        return watch(parts, connector)
    finally:
        if connector.poll() is None:
            connector.terminate()
            connector.wait()


def watch(parts: Processes, connector: "subprocess.Popen[bytes]") -> int:
    backend_missed = False
    while True:
        try:
            code = connector.wait(LOOK_S)
            return code if code >= 0 else 128 - code
        except subprocess.TimeoutExpired:
            pass
        try:
            parts.check("the connector to end")
        except Failure as failure:
            if not backend_missed:  # the connector holds everything meanwhile, and says so
                say(str(failure))
            backend_missed = True


def configured(name: str) -> bool:
    """Set to something, in the environment or, if it is not named there, in `.env`."""
    if name in os.environ:
        return bool(os.environ[name].strip())
    return bool(dotenv(ROOT / ".env").get(name))


def dotenv(path: Path) -> dict[str, str]:
    """`NAME=value` lines; `export`, quotes and comments as such files have them."""
    values: dict[str, str] = {}
    try:
        text = path.read_text()
    except FileNotFoundError:
        return values
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and not name.startswith("#"):
            value = value.strip()
            quoted = value[:1] in ("'", '"') and value[1:].find(value[0]) >= 0
            bare = value[1:].split(value[0])[0] if quoted else value.split(" #")[0].strip()
            values[name.strip()] = "" if not quoted and bare.startswith("#") else bare
    return values


def say(text: str) -> None:
    print(f"run: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
