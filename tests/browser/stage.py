"""The connector and all its parts on loopback, for a browser that looks at its page."""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo import ACCOUNT, CUSTOMER, PASSED_ON, start_nats
from parts import BACKEND, START_S, built, free_port, wait_until_listening
from processes import Process, Processes
from simulator import Simulator

TOKEN = "a-token-of-the-browser"
PATIENCE_S = 60.0


class Stage:
    """`run` with a token, not linked yet. The assistant refuses every message until `accept` is called."""

    def __init__(self, parts: Processes, state: Path) -> None:
        self.parts, self.account, self.customer = parts, ACCOUNT, CUSTOMER
        self.env = {name: value for name, value in os.environ.items() if name in PASSED_ON} | {"RUST_LOG": "info"}
        work = state / "work"
        work.mkdir()
        phones = parts.start(
            "whatsapp-simulator", [built("whatsapp-simulator"), "--listen", "127.0.0.1:0"], self.env, work
        )
        self.simulator = Simulator(wait_until_listening(parts, phones), phones)
        self.simulator.add_account(ACCOUNT, "Restaurante")
        self.simulator.add_customer(CUSTOMER, "Ana")
        self.backend_port = free_port()
        self.backend = self._backend("1:422")
        self.page = f"http://127.0.0.1:{free_port()}"
        settings = {
            "NATS_URL": start_nats(parts, state / "nats", self.env),
            "BACKEND_URL": f"http://127.0.0.1:{self.backend_port}",
            "WHATSAPP_AUTH_DIR": str(state / "auth"),
            "WHATSAPP_SIMULATOR_URL": self.simulator.chat_url,
            "HTTP_ADDR": self.page.removeprefix("http://"),
            "HTTP_TOKEN": TOKEN,
            "TAKEOVER": "30m",
        }
        self.connector = parts.start(
            "whatsapp-connector", [built("whatsapp-connector"), "run"], self.env | settings, work
        )
        parts.wait_for("the page", lambda: self.connector.find(r"^admin: (http://\S+)$"), START_S, self.connector)

    def _backend(self, fail: str) -> Process:
        command = [sys.executable, "-m", "assistant", "--host", "127.0.0.1", "--port", str(self.backend_port)]
        name = "backend-fails" if fail else "backend"
        backend = self.parts.start(name, command, self.env | {"BACKEND_FAIL": fail}, BACKEND)
        wait_until_listening(self.parts, backend)
        return backend

    def accept(self) -> None:
        """From now on the assistant answers."""
        self.parts.stop(self.backend)
        self.backend = self._backend("")

    def wait(self, what: str, until: Callable[[], object]) -> None:
        self.parts.wait_for(what, lambda: until() or None, PATIENCE_S, self.connector)


@contextmanager
def staged() -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="whatsapp-connector-browser-") as directory:
        state = Path(directory)
        with Processes(state / "logs") as parts:
            yield Stage(parts, state)
