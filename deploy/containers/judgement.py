"""What is judged, as functions without an engine. Only the standard library: talk.py uses it inside a container."""

import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

PREFIX = "eco: "
"""What the backend with ASSISTANT_MODE=echo puts before the text."""


# ---------------------------------------------------------------- messages


def unanswered(sent: list[dict[str, Any]], inbox: list[dict[str, Any]]) -> list[str]:
    answered = {entry["text"] for entry in inbox}
    return [message["text"] for message in sent if PREFIX + message["text"] not in answered]


def verdict(sent: list[dict[str, Any]], inbox: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Of one chat. A copy of an answer has its id, and is the same entry; an answer for a second time is another."""
    answers = [entry["text"].removeprefix(PREFIX) for entry in sorted(inbox, key=lambda entry: int(entry["place"]))]
    order = [message["text"] for message in sent]
    firsts = list(dict.fromkeys(answers))
    return {
        "lost": unanswered(sent, inbox),
        "doubled": sorted({text for text in answers if answers.count(text) > 1}),
        "disordered": [text for text, due in zip(firsts, [text for text in order if text in firsts], strict=False) if text != due],
        "strange": [text for text in firsts if text not in order],
    }


# ---------------------------------------------------------------- containers


def rights_faults(container: dict[str, Any]) -> list[str]:
    """What a container was given and does not need, as the engine tells it."""
    host, config = container["HostConfig"], container["Config"]
    user = config["User"].split(":")[0]
    faults = {
        f"runs as {user or 'root'}": user in ("", "0", "root"),
        "may write to its image": not host["ReadonlyRootfs"],
        "keeps capabilities": host["CapDrop"] != ["ALL"] or bool(host["CapAdd"]),
        "may gain privileges": not any(option.startswith("no-new-privileges") for option in host["SecurityOpt"] or []),
        "is privileged": host["Privileged"],
        "is published to everybody": any(
            bound["HostIp"] != "127.0.0.1" for ports in (host["PortBindings"] or {}).values() for bound in ports
        ),
    }
    return [fault for fault, there in faults.items() if there]


def process_faults(status: str) -> list[str]:
    """The same as the kernel tells it, in /proc/<pid>/status of the container's first process."""
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    faults = {
        "is root's": any(uid == "0" for uid in told["Uid"].split()),
        "has capabilities": any(int(told[name], 16) for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")),
        "may gain privileges": told["NoNewPrivs"].strip() != "1",
    }
    return [fault for fault, there in faults.items() if there]


def image_faults(filesystem: BinaryIO, programs: set[str], owned: Iterable[str]) -> tuple[list[str], int]:
    """Of an image's files, as `docker export` gives them: what can be run, what changes its user, and the directories
    for volumes. And their size."""
    found, special, size = set(), [], 0
    directories: dict[str, tarfile.TarInfo] = {}
    with tarfile.open(fileobj=filesystem, mode="r|") as tar:
        for entry in tar:
            if entry.isdir():
                directories["/" + entry.name] = entry
            if not entry.isfile():
                continue
            size += entry.size
            if entry.mode & 0o6000:
                special.append(f"/{entry.name} changes its user")
            # Scripts, of which Debian's packages have two, cannot be run: there is nothing that reads them.
            if entry.mode & 0o111 and (content := tar.extractfile(entry)) and content.read(4) == b"\x7fELF":
                found.add("/" + entry.name)
    faults = special
    if found != programs:
        faults.append(f"its programs are {', '.join(sorted(found))}")
    for path in owned:
        entry = directories.get(path)
        if entry is None or (entry.uid, entry.mode & 0o7777) != (65532, 0o700):
            faults.append(f"{path} is not the user's alone")
    return faults, size


# ---------------------------------------------------------------- logs


def log_faults(log: str) -> list[str]:
    """Lines of a connector's standard error that are no JSON object with a time and a level."""
    return [line for line in lines_of(log) if not _is_entry(line)]


def _is_entry(line: str) -> bool:
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    return isinstance(entry, dict) and {"timestamp", "level"} <= set(entry)


def lines_of(log: str) -> list[str]:
    return [line for line in log.split("\n") if line.strip()]


def told(log: str, secrets: Iterable[str]) -> list[str]:
    """Lines with a text or a whole number in them."""
    return [line for line in lines_of(log) if any(secret in line for secret in secrets)]


# ---------------------------------------------------------------- documentation


def documented(text: str) -> list[str]:
    """The commands for an engine in a page or a file's comments: after a `$`, between backticks, or alone in an indented
    line of a comment. One with `…` in it is the short form of another."""
    found = []
    for line in text.splitlines():
        if match := re.match(r"\s*\$ (docker .*?)(?:\s{2,}#.*)?$|^#\s{2,}(docker .*?)(?:\s{2,}.*)?$", line):
            found.append(match[1] or match[2])
        found += re.findall(r"`(docker (?:compose|build|run) [^`]*)`", line)
    return [command.strip() for command in dict.fromkeys(found) if "…" not in command]


def pages(root: Path) -> list[Path]:
    """Where commands for an engine are written down."""
    found = [root / "README.md", root / "CONTRIBUTING.md", root / "compose.yaml", *root.glob("docs/*.md"), *root.glob("deploy/*/README.md")]
    return [path for path in (*found, *root.glob("deploy/**/Dockerfile")) if path.exists()]
