"""A backend in this process whose gate is closed at the start, and what goes on at it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2

from assistant.app import create_app
from assistant.settings import Settings

PATIENCE_S = 60
"""Far more than anything takes: a slow machine makes a test slow, not red."""


def client(**env: str) -> httpx2.AsyncClient:
    """Its caller waits as long as the gate is closed."""
    settings = Settings.from_env({"BACKEND_CALL_LOG": "1", "BACKEND_GATE": "1"} | env)
    transport = httpx2.ASGITransport(create_app(settings))
    return httpx2.AsyncClient(transport=transport, base_url="http://backend", timeout=PATIENCE_S)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), PATIENCE_S))


async def begun(http: httpx2.AsyncClient, count: int) -> list[dict[str, Any]]:
    """Waits until so many calls have begun and their bodies are read; the call log."""
    while True:
        calls: list[dict[str, Any]] = (await http.get("/calls")).json()
        if len(calls) == count and all(call["message_id"] for call in calls):
            return calls
        await asyncio.sleep(0.001)


async def opened(http: httpx2.AsyncClient) -> None:
    assert (await http.post("/gate/open")).json() == {"gate": "open"}
