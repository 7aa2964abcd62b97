"""Processes that a driver starts, and that never outlive it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05
GRACE_S = 30.0
"""From SIGTERM to SIGKILL: a little more than the connector allows itself (25 s)."""

TAIL_LINES = 25


class Failure(Exception):
    """Why the driver cannot go on, in a sentence; and the process whose log tells more."""

    def __init__(self, reason: str, process: "Process | None" = None) -> None:
        super().__init__(reason)
        self.process = process


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived: unwind, stop everything, end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


@dataclass
class Process:
    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return "\n".join(self.output().splitlines()[-TAIL_LINES:])

    def find(self, pattern: str) -> str | None:
        """The first group of the first line that the pattern fits."""
        match = re.search(pattern, self.output(), re.MULTILINE)
        return match[1] if match else None

    def ending(self) -> str:
        code = self.popen.returncode
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class Processes:
    """A context: what was started in it is stopped when it is left, however it is left.

    Stopped by process id, in reverse order, with SIGTERM, then SIGKILL after a grace; a second
    Ctrl-C cuts the grace short. On Linux the kernel does the same if the driver itself is killed.
    """

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._started: list[Process] = []
        self._starting = False
        self._closing = False
        self._hurry = False
        self._signal: int | None = None

    def __enter__(self) -> "Processes":
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        killed = [process for process in reversed(self._started) if not self._stop(process)]
        if killed and error is None:
            raise Failure(
                f"{killed[0].name} was still running {GRACE_S:.0f} s after SIGTERM and was killed",
                killed[0],
            )

    def start(
        self, name: str, command: Sequence[str | Path], env: Mapping[str, str], cwd: Path
    ) -> Process:
        log = self._logs / f"{name}.log"
        self._starting = True  # no signal between the fork and the note of it
        try:
            with log.open("wb") as sink:
                popen = subprocess.Popen(
                    [str(word) for word in command],
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    env=dict(env),
                    cwd=cwd,
                    start_new_session=True,  # a terminal's Ctrl-C is the driver's alone
                    preexec_fn=dies_with_parent(signal.SIGKILL),
                )
            process = Process(name, popen, log)
            self._started.append(process)
        except OSError as error:
            raise Failure(f"cannot start {name}: {error}") from error
        finally:
            self._starting = False
        if self._signal is not None:
            raise Interrupted(self._signal)
        return process

    def check(self, waiting_for: str) -> None:
        """Fails if any of them has ended, which none does unasked."""
        for process in self._started:
            if process.popen.poll() is not None:
                raise Failure(
                    f"{process.name} ended ({process.ending()}) while waiting for {waiting_for}",
                    process,
                )

    def wait_for(
        self,
        what: str,
        probe: Callable[[], T | None],
        within_s: float,
        of: Process,
        seen: Callable[[], str] = str,
    ) -> T:
        """Asks `probe` until it has an answer; fails at the bound, or as soon as a process ends."""
        deadline = time.monotonic() + within_s
        while True:
            self.check(what)
            if (answer := probe()) is not None:
                return answer
            if time.monotonic() > deadline:
                last = f"; last seen: {seen()}" if seen() else ""
                raise Failure(f"waited {within_s:.0f} s for {what}{last}", of)
            time.sleep(POLL_S)

    def stop(self, process: Process) -> None:
        """Ends one before the others; nobody misses it."""
        self._started.remove(process)
        self._stop(process)

    def kill(self, process: Process) -> None:
        """Ends one at once, as a machine without power would."""
        self._started.remove(process)
        process.popen.kill()
        process.popen.wait()

    def _stop(self, process: Process) -> bool:
        """True when it ended by itself or on SIGTERM."""
        if process.popen.poll() is None:
            process.popen.terminate()
        deadline = time.monotonic() + GRACE_S
        while process.popen.poll() is None:
            if self._hurry or time.monotonic() > deadline:
                process.popen.kill()
                process.popen.wait()
                return self._hurry
            time.sleep(POLL_S)
        return True

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        if self._closing:
            self._hurry = True
        elif self._starting:
            self._signal = signum
        else:
            raise Interrupted(signum)


def dies_with_parent(signum: int) -> Callable[[], None] | None:
    """To run in the child before exec: the kernel sends it `signum` when its parent dies."""
    if sys.platform != "linux":
        return None
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    set_parent_death_signal = 1
    parent = os.getpid()

    def in_child() -> None:
        prctl(set_parent_death_signal, signum)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signum)

    return in_child
