"""Slowness and failures on purpose, for tests: `BACKEND_DELAY_MS` and `BACKEND_FAIL`.

    BACKEND_DELAY_MS = N | N-M              milliseconds; a range is drawn per call
    BACKEND_FAIL     = RATE[:STATUS[,STATUS...]]
                                            RATE from 0 to 1; STATUS from 400 to 599, one of them
                                            drawn per failing call; 500 when none is given

`BACKEND_FAIL_SEED` makes both the same in every run, as a function of the order of the calls.
"""

import random
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class DelayRange:
    low_ms: int
    high_ms: int


@dataclass(frozen=True)
class FailureRule:
    rate: float
    statuses: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """What happens to one call: how long its answer takes, and the status it fails with, if any."""

    delay_s: float = 0.0
    status: int | None = None


class Faults:
    """Draws a plan per call. Delays and failures have a source each, so one does not shift the other."""

    def __init__(
        self, delay: DelayRange | None, failure: FailureRule | None, seed: int | None
    ) -> None:
        self._delay = delay
        self._failure = failure
        self._delays = random.Random(seed)
        self._failures = random.Random(seed)

    def draw(self) -> Plan:
        delay_s, status = 0.0, None
        if self._delay is not None:
            delay_s = self._delays.uniform(self._delay.low_ms, self._delay.high_ms) / 1000
        if self._failure is not None and self._failures.random() < self._failure.rate:
            status = self._failures.choice(self._failure.statuses)
        return Plan(delay_s, status)


def parse_delay(raw: str) -> DelayRange:
    match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", raw)
    if match is None:
        raise ValueError("takes milliseconds, 150, or a range of them, 0-300")
    low = int(match[1])
    high = low if match[2] is None else int(match[2])
    if high < low:
        raise ValueError("takes a range whose end is not below its start")
    return DelayRange(low, high)


def parse_failure(raw: str) -> FailureRule:
    match = re.fullmatch(r"(0|1|0?\.[0-9]+|[01]\.0+)(?::([0-9,]+))?", raw)
    if match is None:
        raise ValueError("takes RATE[:STATUS,...] with a rate from 0 to 1, as in 0.2:500,503")
    listed = (match[2] or "500").split(",")
    if not all(re.fullmatch(r"[45][0-9]{2}", status) for status in listed):
        raise ValueError("takes statuses from 400 to 599, parted by commas")
    return FailureRule(float(match[1]), tuple(int(status) for status in listed))
