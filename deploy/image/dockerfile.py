"""A Dockerfile as a list of stages with their steps. As much of the language as deploy/Dockerfile uses; what is
not known is refused, so that a step cannot be passed over."""

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {
    "FROM", "ARG", "COPY", "RUN", "ENV", "LABEL", "USER", "WORKDIR", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    line: int
    verb: str
    flags: dict[str, str]
    rest: str

    def words(self) -> list[str]:
        return shlex.split(self.rest)

    def pairs(self) -> dict[str, str]:
        return dict(word.split("=", 1) for word in self.words())

    def exec_form(self) -> list[str]:
        """Of `["a", "b"]`; the other form needs a shell, which the image does not have."""
        words = json.loads(self.rest.removeprefix("CMD ") if self.verb == "HEALTHCHECK" else self.rest)
        if not isinstance(words, list):
            raise ValueError(f"line {self.line}: {self.verb} takes a JSON list")
        return words


@dataclass
class Stage:
    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def last(self, verb: str) -> Step | None:
        return next((step for step in reversed(self.steps) if step.verb == verb), None)

    def environment(self) -> dict[str, str]:
        return {k: v for step in self.steps if step.verb == "ENV" for k, v in step.pairs().items()}


def parse(path: Path) -> list[Stage]:
    stages: list[Stage] = []
    for number, line in _logical_lines(path.read_text()):
        verb, _, rest = line.partition(" ")
        if verb not in KNOWN:
            raise ValueError(f"{path}:{number}: {verb} is not known here")
        flags: dict[str, str] = {}
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        if verb == "FROM":
            base, _, name = rest.partition(" AS ")
            stages.append(Stage(base, name or str(len(stages))))
        elif not stages:
            raise ValueError(f"{path}:{number}: {verb} before the first FROM")
        else:
            stages[-1].steps.append(Step(number, verb, flags, rest))
    return stages


def _logical_lines(text: str) -> list[tuple[int, str]]:
    lines: list[tuple[int, str]] = []
    begun: tuple[int, str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or (not line.strip() and begun is None):
            continue
        first, before = begun or (number, "")
        if line.endswith("\\"):
            begun = (first, before + line[:-1])
            continue
        lines.append((first, re.sub(r"\s+", " ", before + line).strip() if before else line.strip()))
        begun = None
    return lines
