"""A backend in this process, and a message for it."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from assistant.app import create_app
from assistant.settings import Settings

Body = dict[str, Any]


@pytest.fixture
def body() -> Callable[..., Body]:
    """A whole message; what is given replaces or adds, and None takes out."""

    def make(**changes: str | None) -> Body:
        whole = {
            "message_id": "msg-1",
            "from_number": "5491112345678",
            "text": "Hola",
            "timestamp_iso": "2025-01-08T10:00:00.000Z",
        } | changes
        return {name: value for name, value in whole.items() if value is not None}

    return make


@pytest.fixture
def backend() -> Callable[..., TestClient]:
    """A client of a backend that was started with this environment."""

    def start(**env: str) -> TestClient:
        return TestClient(create_app(Settings.from_env({"BACKEND_CALL_LOG": "1"} | env)))

    return start
