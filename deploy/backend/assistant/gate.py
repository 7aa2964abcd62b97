"""The gate: calls wait at it until somebody opens it, for tests that need calls under way, however fast the machine
is. `BACKEND_GATE=1` starts with it closed; `POST /gate/open` and `POST /gate/close` move it."""

import asyncio

from fastapi import APIRouter, HTTPException

WAIT_S = 300.0
"""No call waits longer, whoever has forgotten to open."""


class Gate:
    """Open unless it was asked to be closed."""

    def __init__(self, closed: bool = False, wait_s: float = WAIT_S) -> None:
        self._wait_s = wait_s
        self._opened = asyncio.Event()
        if not closed:
            self.open()

    def open(self) -> None:
        """Everybody who waits goes on, and nobody waits any more."""
        self._opened.set()

    def close(self) -> None:
        """Whoever comes from now on waits."""
        self._opened.clear()

    async def passed(self) -> None:
        """Returns at once if it is open, else as soon as it is; a 504 if that takes too long."""
        if self._opened.is_set():
            return
        try:
            await asyncio.wait_for(self._opened.wait(), self._wait_s)
        except TimeoutError:
            raise HTTPException(504, "The gate stayed closed (BACKEND_GATE)") from None

    def routes(self) -> APIRouter:
        """What moves it."""
        router = APIRouter(prefix="/gate")

        @router.post("/open")
        async def opens() -> dict[str, str]:
            self.open()
            return {"gate": "open"}

        @router.post("/close")
        async def closes() -> dict[str, str]:
            self.close()
            return {"gate": "closed"}

        return router
