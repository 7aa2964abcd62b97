"""Environment → one typed `Settings`. Every bad value is named, not only the first."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

from .auth import ApiKeys, parse_api_keys
from .faults import DelayRange, FailureRule, parse_delay, parse_failure

T = TypeVar("T")


class SettingsError(ValueError):
    """One message that names every bad variable, what it got and what it takes."""


class Mode(StrEnum):
    ASSISTANT = "assistant"
    ECHO = "echo"
    FORGETFUL = "forgetful"


@dataclass(frozen=True)
class Settings:
    api_keys: ApiKeys = field(default_factory=dict)
    webhook_secret: str | None = None
    mode: Mode = Mode.ASSISTANT
    delay: DelayRange | None = None
    failure: FailureRule | None = None
    seed: int | None = None
    call_log: bool = False
    gate: bool = False
    slots: int | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        problems: list[str] = []

        def read(name: str, parse: Callable[[str], T], default: T) -> T:
            """Blank counts as unset, as it does in a copied `.env` file."""
            raw = env.get(name, "").strip()
            if not raw:
                return default
            try:
                return parse(raw)
            except ValueError as error:
                # A key must not end up in a log, so its message never repeats the value.
                got = "" if name == "AI_ASSISTANTS_API_KEYS" else f" (got {raw!r})"
                problems.append(f"{name}{got}: {error}")
                return default

        settings = cls(
            api_keys=read("AI_ASSISTANTS_API_KEYS", parse_api_keys, {}),
            webhook_secret=read("WHATSAPP_WEBHOOK_SECRET", _text, None),
            mode=read("ASSISTANT_MODE", _mode, Mode.ASSISTANT),
            delay=read("BACKEND_DELAY_MS", parse_delay, None),
            failure=read("BACKEND_FAIL", parse_failure, None),
            seed=read("BACKEND_FAIL_SEED", _integer, None),
            call_log=read("BACKEND_CALL_LOG", _switch, False),
            gate=read("BACKEND_GATE", _switch, False),
            slots=read("BACKEND_SLOTS", _slots, None),
        )
        if problems:
            raise SettingsError("bad settings: " + "; ".join(problems))
        return settings


def _text(raw: str) -> str | None:
    return raw


def _integer(raw: str) -> int | None:
    try:
        return int(raw)
    except ValueError:
        raise ValueError("takes a whole number") from None


def _slots(raw: str) -> int | None:
    slots = _integer(raw)
    if slots is not None and slots < 1:
        raise ValueError("takes a number from 1")
    return slots


def _switch(raw: str) -> bool:
    if raw not in ("0", "1"):
        raise ValueError("takes 0 or 1")
    return raw == "1"


def _mode(raw: str) -> Mode:
    try:
        return Mode(raw)
    except ValueError:
        raise ValueError("takes assistant, echo or forgetful") from None
