"""What is remembered and logged of each call; the request's id and trace.

Logs carry neither a message's text nor a whole phone number. The call log (`GET /calls`, only with
`BACKEND_CALL_LOG=1`) is for tests' oracles and does carry the numbers.
"""

import logging
import re
import time
import uuid
from dataclasses import asdict, dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger("assistant")

INBOUND_PATH = "/v1/channels/whatsapp/gateway/inbound"

_TOKEN = re.compile(r"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


def _wall_clock_at_zero() -> float:
    """Between two looks at the clocks a busy machine may do other things for milliseconds, and every time told would be
    off by that: of several looks the quickest counts."""
    looks = []
    for _ in range(50):
        before, wall, after = time.monotonic(), time.time(), time.monotonic()
        looks.append((after - before, wall - before))
    return min(looks)[1]


_WALL_CLOCK_AT_ZERO = _wall_clock_at_zero()


@dataclass
class Call:
    """One call of the inbound endpoint, in the order of their starts (`n` from 1).

    Times are unix seconds on a clock that never steps back. `ended_at` and `status` are set before
    the first byte of the answer leaves, and are None until then. What the body holds is None for
    calls that were refused before it was read (401, 422).
    """

    n: int
    request_id: str
    traceparent: str | None
    started_at: float
    ended_at: float | None = None
    status: int | None = None
    message_id: str | None = None
    conversation_id: str | None = None
    from_number: str | None = None
    customer_id: str | None = None
    cached: bool = False

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class CallLog:
    """The calls since the start; keeps them only when it was asked to."""

    def __init__(self, keep: bool) -> None:
        self._keep = keep
        self._count = 0
        self.calls: list[Call] = []

    def begin(self, request_id: str, traceparent: str | None) -> Call:
        self._count += 1
        call = Call(self._count, request_id, traceparent, started_at=_now())
        if self._keep:
            self.calls.append(call)
        return call


class CallTracking:
    """ASGI middleware: echoes `X-Request-Id` on every answer, and follows the inbound calls.

    Plain ASGI on purpose: a caller that hangs up does not cancel the handler, so the answer is
    there, cached, when it asks again.
    """

    def __init__(self, app: ASGIApp, log: CallLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _TOKEN.fullmatch(request_id):
            request_id = str(uuid.uuid4())
        call: Call | None = None
        if scope["path"] == INBOUND_PATH and scope["method"] == "POST":
            call = self._log.begin(request_id, headers.get("traceparent"))
            scope.setdefault("state", {})["call"] = call

        async def send_tracked(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                if call is not None:
                    _finish(call, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_tracked)
        except Exception:
            if call is not None and call.status is None:
                _finish(call, 500)
            raise


def _finish(call: Call, status: int) -> None:
    call.ended_at = _now()
    call.status = status
    trace = _TRACEPARENT.fullmatch(call.traceparent or "")
    logger.info(
        "call answered n=%d status=%d ms=%.1f request_id=%s trace_id=%s span_id=%s"
        " from=%s message_id=%s cached=%s",
        call.n,
        status,
        (call.ended_at - call.started_at) * 1000,
        call.request_id,
        trace[1] if trace else "-",
        trace[2] if trace else "-",
        _masked(call.from_number),
        _token(call.message_id),
        call.cached,
    )


def _token(value: str | None) -> str:
    """As it is, unless it could break the log's line."""
    return value if value and _TOKEN.fullmatch(value) else "-"


def _masked(number: str | None) -> str:
    """Only the last four digits, and of a short number none."""
    if not number:
        return "-"
    return "…" + number[-4:] if re.fullmatch(r"\d{8,}", number) else "…"


def _now() -> float:
    return _WALL_CLOCK_AT_ZERO + time.monotonic()
