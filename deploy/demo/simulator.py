"""The simulator's control API, as far as the demo needs it."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from parts import call
from processes import Failure, Process


@dataclass(frozen=True)
class Received:
    """An entry of a phone's inbox. The same WhatsApp message again is the same entry."""

    seq: int
    kind: str
    text: str


class Simulator:
    def __init__(self, url: str, process: Process | None = None) -> None:
        self.chat_url = url.replace("http://", "ws://", 1) + "/ws/chat"
        self._url = url
        self._process = process

    def add_account(self, phone: str, name: str, passkey: bool = False) -> None:
        self._expect("POST", "/sim/accounts", {"phone": phone, "name": name, "passkey": passkey})

    def passkey(self, account: str) -> dict[str, str]:
        """The account's passkey, for a virtual authenticator, and the code on its phone."""
        passkey: dict[str, str] = self._expect("GET", f"/sim/accounts/{account}/passkey")
        return passkey

    def add_customer(self, phone: str, name: str) -> None:
        self._expect("POST", "/sim/customers", {"phone": phone, "name": name, "addressing": "pn"})

    def scan(self, account: str, qr: str) -> str | None:
        """The account's phone scans the code; the refusal, if it is refused."""
        status, body = call("POST", f"{self._url}/sim/accounts/{account}/scan", {"qr": qr})
        return None if 200 <= status < 300 else f"{status} {body}"

    def type_code(self, account: str, code: str) -> str | None:
        """The account's phone is told a pairing code; the refusal, if it is refused."""
        body = {"code": code.replace("-", "")}
        status, answer = call("POST", f"{self._url}/sim/accounts/{account}/pair-code", body, 30.0)
        return None if 200 <= status < 300 else f"{status} {answer}"

    def write(self, customer: str, to: str, text: str) -> str:
        """The message's WhatsApp id."""
        path = f"/sim/customers/{customer}/messages"
        message_id: str = self._expect("POST", path, {"to": to, "text": text})["id"]
        return message_id

    def inbox(self, customer: str, since: int, wait_ms: int) -> list[Received]:
        """What came after `since`; waits up to `wait_ms` for the first."""
        query = urlencode({"since": since, "wait_ms": wait_ms})
        body = self._expect("GET", f"/sim/customers/{customer}/inbox?{query}")
        return [
            Received(entry["seq"], entry["kind"], entry["text"] or "")
            for entry in body["messages"]
        ]

    def _expect(self, method: str, path: str, body: object = None) -> Any:
        try:
            status, answer = call(method, self._url + path, body)
        except OSError as error:
            raise Failure(f"the simulator does not answer {path}: {error}", self._process) from None
        if not 200 <= status < 300:
            raise Failure(f"the simulator refused {path}: {status} {answer}", self._process)
        return answer
