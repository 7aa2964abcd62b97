#!/usr/bin/env python3
"""`make demo`: the whole path on this machine, with a simulated WhatsApp.

Starts the simulator, nats-server, the reference backend and the connector, links the connector, and
lets you write as a customer. With standard input not a terminal it plays three messages instead.
Whatever happens, it stops what it started. The exit code is 0 only if every message was answered once.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from parts import NATS_SERVER, START_S, built, call, free_port, start_backend, wait_until_listening
from processes import Failure, Interrupted, Process, Processes
from simulator import Received, Simulator

ACCOUNT = "5491100000000"
CUSTOMER = "5491112345678"
SCRIPT = [
    "¡Hola! Buenas tardes",
    "Quiero reservar una mesa para 4 personas",
    "El viernes a las 21:30",
]

LINK_S = 120.0
READY_S = 60.0
ANSWER_S = 60.0
LATE_MS = 1500
"""How long, after the last answer, a second one would have time to show up."""

# Nothing else of the environment reaches the parts: a demo is the same on every machine.
PASSED_ON = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "RUST_LOG", "RUST_BACKTRACE"}


def main() -> int:
    return on_stage(play)


def play(parts: Processes, state: Path) -> tuple["Tally", Process]:
    chat = start(parts, state)
    tally = interactive(chat) if sys.stdin.isatty() else scripted(chat)
    return tally, chat.connector


def on_stage(play: Callable[[Processes, Path], tuple["Tally", Process]]) -> int:
    """Plays, and cleans up whatever happens. The exit code is 0 only if every message was answered once."""
    sys.stdout.reconfigure(line_buffering=True, errors="replace")  # type: ignore[union-attr]
    state = Path(tempfile.mkdtemp(prefix="whatsapp-connector-demo-"))
    logs = state / "logs"
    try:
        with Processes(logs) as parts:
            tally, connector = play(parts, state)
            say("stopping")
        print(tally)
        if not tally.good:
            raise Failure("not every message was answered exactly once", connector)
    except Failure as failure:
        report(failure, logs)
        forget(state, keep=logs)
        return 1
    except Interrupted as interrupted:
        say(f"ended by {interrupted}")
        forget(state)
        return interrupted.exit_code
    except BaseException:
        print(f"demo: the logs are kept in {logs}", file=sys.stderr)
        raise
    forget(state)
    return 0


# ---------------------------------------------------------------- the parts, up to a linked account


def whatsapp(parts: Processes, state: Path) -> tuple[Simulator, dict[str, str], Path]:
    """The simulated WhatsApp with the account and the customer; and what each part gets as environment, and where it works."""
    env = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith("OTEL_")  # a collector, where there is one
    }
    env.setdefault("RUST_LOG", "info")
    work = state / "work"  # away from the operator's own .env file
    work.mkdir()

    say("starting the WhatsApp simulator")
    binary = built("whatsapp-simulator")
    process = parts.start("whatsapp-simulator", [binary, "--listen", "127.0.0.1:0"], env, work)
    simulator = Simulator(wait_until_listening(parts, process), process)
    simulator.add_account(ACCOUNT, "Restaurante")
    simulator.add_customer(CUSTOMER, "Ana")
    return simulator, env, work


def start(parts: Processes, state: Path) -> "Chat":
    simulator, env, work = whatsapp(parts, state)

    say("starting nats-server")
    nats_url = start_nats(parts, state / "nats", env)

    say("starting the assistant backend")
    backend_url = start_backend(parts, env)

    say("starting whatsapp-connector")
    admin = f"127.0.0.1:{free_port()}"
    settings = {
        "NATS_URL": nats_url,
        "BACKEND_URL": backend_url,
        "WHATSAPP_AUTH_DIR": str(state / "auth"),
        "WHATSAPP_SIMULATOR_URL": simulator.chat_url,
        "HTTP_ADDR": admin,
    }
    connector = parts.start(
        "whatsapp-connector", [built("whatsapp-connector"), "run"], env | settings, work
    )
    link(parts, simulator, connector, f"http://{admin}")
    return Chat(parts, simulator, connector)


def start_nats(parts: Processes, home: Path, env: dict[str, str]) -> str:
    """On a port that the server itself picks and writes down in a file of its own."""
    home.mkdir()
    store: list[str | Path] = ["-js", "-sd", home / "store", "--ports_file_dir", home]
    command = [NATS_SERVER, "-a", "127.0.0.1", "-p", "-1", *store]
    nats = parts.start("nats-server", command, env, home)

    def url() -> str | None:
        try:
            written = json.loads((home / f"nats-server_{nats.popen.pid}.ports").read_text())
        except (OSError, ValueError):  # not there yet, or half written
            return None
        first: str = written["nats"][0]
        return first

    return parts.wait_for("nats-server to listen", url, START_S, of=nats)


def link(parts: Processes, simulator: Simulator, connector: Process, admin: str) -> None:
    """Scans the QR code that the connector shows, a fresh one if that has run out meanwhile."""
    last = "no answer of its admin server"

    def scanned() -> bool | None:
        nonlocal last
        try:
            _, shown = call("GET", f"{admin}/link.json")
        except OSError:
            return None
        last = f"state {shown['state']!r}"
        if not shown["qr"]:
            return None
        refusal = simulator.scan(ACCOUNT, shown["qr"])
        if refusal:
            last = f"the scan was refused: {refusal}"
        return None if refusal else True

    def ready() -> bool | None:
        nonlocal last
        try:
            status, body = call("GET", f"{admin}/readyz")
        except OSError:
            return None
        last = f"{status} {body}"
        return True if status == 200 else None

    say("linking: the account's phone scans the QR code")
    parts.wait_for("the connector's QR code to be scanned", scanned, LINK_S, connector, lambda: last)
    parts.wait_for("the connector to be ready", ready, READY_S, connector, lambda: last)
    say(f"linked; you are the customer {CUSTOMER}, the business is {ACCOUNT}")


# ---------------------------------------------------------------- the conversation


@dataclass
class Tally:
    """Counted from the customer's inbox."""

    sent: int = 0
    answered: int = 0
    duplicated: int = 0

    @property
    def lost(self) -> int:
        return self.sent - self.answered

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.duplicated == 0

    def __str__(self) -> str:
        return (
            f"demo: {self.sent} sent, {self.answered} answered, "
            f"{self.lost} lost, {self.duplicated} duplicated"
        )


class Chat:
    """The customer's phone. Every message of the business counts as one answer."""

    def __init__(self, parts: Processes, simulator: Simulator, connector: Process) -> None:
        self.connector = connector
        self.tally = Tally()
        self._parts = parts
        self._simulator = simulator
        self._seen = 0

    def ask(self, text: str) -> None:
        """Sends, and prints what comes back; without an answer in time the message counts as lost."""
        self.print_late()
        message_id = self._simulator.write(CUSTOMER, to=ACCOUNT, text=text)
        self.tally.sent += 1
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline:
            self._parts.check("an answer")
            if answers := self._receive(wait_ms=1000):
                self.tally.answered += 1
                self.tally.duplicated += len(answers) - 1
                self._print_trace(message_id)
                return
        say(f"no answer within {ANSWER_S:.0f} s")

    def _print_trace(self, message_id: str) -> None:
        """From the connector's log, as an operator would look for it."""
        line = rf'"trace_id":"([0-9a-f]{{32}})".*"message_id":"{re.escape(message_id)}"'
        if trace_id := self.connector.find(line):
            say(f"trace {trace_id}")

    def print_late(self, wait_ms: int = 0) -> None:
        """What comes unasked, until it is quiet: answers given up on, and those too many."""
        deadline = time.monotonic() + ANSWER_S
        while time.monotonic() < deadline and (late := self._receive(wait_ms)):
            for _ in late:
                if self.tally.lost:
                    self.tally.answered += 1
                else:
                    self.tally.duplicated += 1

    def _receive(self, wait_ms: int) -> list[Received]:
        received = self._simulator.inbox(CUSTOMER, self._seen, wait_ms)
        self._seen = max([self._seen, *(entry.seq for entry in received)])
        for entry in received:
            print(f"[assistant] {entry.text or '(' + entry.kind + ')'}")
        return received


def scripted(chat: Chat) -> Tally:
    for text in SCRIPT:
        print(f"[customer] {text}")
        chat.ask(text)
    chat.print_late(LATE_MS)
    return chat.tally


def interactive(chat: Chat) -> Tally:
    say("write to the assistant, in Spanish; an empty line looks for messages, Ctrl-D ends")
    for text in lines():
        if text:
            chat.ask(text)
        else:
            chat.print_late()
    chat.print_late()
    return chat.tally


def lines() -> Iterator[str]:
    try:
        import readline  # noqa: F401  (line editing, where it exists)
    except ImportError:
        pass
    while True:
        try:
            yield input("[customer] ").strip()
        except (EOFError, Interrupted):
            print()
            return


# ---------------------------------------------------------------- words


def say(text: str) -> None:
    print(f"demo: {text}")


def report(failure: Failure, logs: Path) -> None:
    print(f"demo: failed: {failure}", file=sys.stderr)
    if failure.process is not None:
        print(f"demo: the end of {failure.process.log.name}:", file=sys.stderr)
        print(failure.process.tail(), file=sys.stderr)
    print(f"demo: the logs are kept in {logs}", file=sys.stderr)


def forget(state: Path, keep: Path | None = None) -> None:
    for path in state.iterdir():
        if path != keep:
            shutil.rmtree(path, ignore_errors=True)
    if keep is None:
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
