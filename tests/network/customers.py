"""Customers who write all the time, and what they see."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import judgement
from engine import Failure, until
from parts import call

ACCOUNT = "5491100000000"
EVERY_S = 0.125
"""Between two messages, of all chats together."""
LOOK_S = 0.1


@dataclass
class Customer:
    phone: str
    wrote: dict[str, float] = field(default_factory=dict)
    """Its texts, in order, and when."""
    got: list[dict[str, Any]] = field(default_factory=list)
    came: dict[str, float] = field(default_factory=dict)
    """When the first answer to a text was seen."""


class Customers:
    """A context: they write and look while it lasts, in threads of their own. Times are `time.monotonic()`."""

    def __init__(self, simulator: str, number: int = 12) -> None:
        self._simulator = simulator
        self.all = [Customer(f"54911555500{n:02}") for n in range(number)]
        self._stop = threading.Event()
        self._paused = threading.Event()
        self._failed: BaseException | None = None
        self._threads = [threading.Thread(target=self._guarded, args=[work], name=work.__name__) for work in (self._writes, self._looks)]
        self.late_s = 0.0
        """How late the thread was at the most: so late may all others have been as well."""

    def __enter__(self) -> "Customers":
        for customer in self.all:
            self.expect("POST", "/sim/customers", {"phone": customer.phone, "name": "Ana", "addressing": "lid"})
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def expect(self, method: str, path: str, body: object = None) -> Any:
        status, answer = call(method, self._simulator + path, body)
        if not 200 <= status < 300:
            raise Failure(f"the simulator refused {path}: {status} {answer}")
        return answer

    def visits(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.expect("GET", f"/sim/accounts/{ACCOUNT}/visits")["visits"]
        return found

    def waits_for_a_device(self) -> int:
        """How many messages wait with WhatsApp for one device, at the most. An edge that comes online works through them first."""
        (account,) = (account for account in self.expect("GET", "/sim/state")["accounts"] if account["phone"] == ACCOUNT)
        return max(int(device["queued_messages"]) for device in account["devices"])

    # ---------------------------------------------------------------- writing and looking

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failed = error

    def _writes(self) -> None:
        due, n = time.monotonic(), 0
        while not self._stop.is_set():
            if not self._paused.is_set():
                self._write(self.all[n % len(self.all)], n)
                n += 1
            due += EVERY_S
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            else:
                self.late_s, due = max(self.late_s, -left), time.monotonic()

    def _looks(self) -> None:
        while not self._stop.wait(LOOK_S):
            for customer in self.all:
                self._look(customer)

    def _write(self, customer: Customer, n: int) -> None:
        text = f"message {n} of {customer.phone}"
        customer.wrote[text] = time.monotonic()
        self.expect("POST", f"/sim/customers/{customer.phone}/messages", {"to": ACCOUNT, "text": text})

    def _look(self, customer: Customer) -> None:
        query = urlencode({"since": max((entry["seq"] for entry in customer.got), default=0), "wait_ms": 0})
        new = self.expect("GET", f"/sim/customers/{customer.phone}/inbox?{query}")["messages"]
        now = time.monotonic()
        customer.got += new
        for entry in new:
            customer.came.setdefault(entry["text"].removeprefix(judgement.PREFIX), now)

    def pause(self, paused: bool) -> None:
        (self._paused.set if paused else self._paused.clear)()

    # ---------------------------------------------------------------- judging

    def unanswered(self, before: float) -> int:
        """Of what was written before that time."""
        if self._failed:
            raise Failure(f"the customers ended: {self._failed!r}")
        return sum(at < before and text not in customer.came for customer in self.all for text, at in list(customer.wrote.items()))

    def all_answered(self, before: float, within_s: float) -> float:
        """Waits for it; how long after `before` that was."""
        until(f"{self.unanswered(before)} messages to be answered", lambda: self.unanswered(before) == 0, within_s)
        return time.monotonic() - before

    def slowest_s(self, since: float, before: float) -> float:
        """From a message to its answer, of those written in that time."""
        return max(
            (customer.came[text] - at for customer in self.all for text, at in list(customer.wrote.items()) if since <= at < before and text in customer.came),
            default=0.0,
        )

    def faults(self) -> list[str]:
        """What is doubled, out of order or never written. What is lost shows as unanswered."""
        found = []
        for customer in self.all:
            sent = [{"text": text} for text in list(customer.wrote)]
            verdict = judgement.verdict(sent, list(customer.got))
            found += [f"{name}: {texts[:3]}" for name, texts in verdict.items() if texts and name != "lost"]
        return found

    def written(self) -> int:
        return sum(len(customer.wrote) for customer in self.all)
