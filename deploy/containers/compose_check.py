#!/usr/bin/env python3
"""The images are built from the Dockerfiles as they stand, and compose.yaml is run as docs say. `make compose-check`.

Where no registry can be reached, stand-ins are made for the base images: see stand_ins.py. Needs a container engine, root
(for debootstrap) and minutes. Where no engine answers it says so and ends well.

FULL=1 builds the images as they are shipped; without it the program in them is built quickly. KEEP=1 leaves everything as
it was when a step failed. A name takes the steps of one part only: `as_documented` or `apart`.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The parser of Dockerfiles and what stands for distroless; how a simulated WhatsApp is asked.
sys.path += [str(HERE.parent / "image"), str(HERE.parent / "demo")]

import apart
import as_documented
import debian
import dockerfile
import engine
import judgement
import stand_ins
from engine import ROOT, Failure, say
from project import Project

PARTS = {"as_documented": as_documented.STEPS, "apart": apart.STEPS}
NAME = "compose-check"
NOT_RUN = {"docker compose --profile traces up"}
"""Nothing stands for the collector and for Jaeger. The collector's configuration is read by no step."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help="these alone")
    args = parser.parse_args()
    if not (version := engine.answers()):
        say("no container engine answers; passed over")
        return 0
    try:
        with engine.alone():
            say(f"engine {version}, compose {engine.with_compose()}")
            check(args.part or list(PARTS), full=bool(os.environ.get("FULL")), keep=bool(os.environ.get("KEEP")))
    except (Failure, debian.Missing) as failure:
        print(getattr(failure, "look", ""), file=sys.stderr)
        print(f"compose-check: FAILED: {failure}", file=sys.stderr)
        return 1
    return 0


def check(parts: list[str], full: bool, keep: bool) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="compose-check-") as scratch, stand_ins.standing(bases(), full) as absent:
        for image in sorted(absent):
            say(f"nothing stands for {image} here; what needs it is left out")
        project = Project(NAME, Path(scratch), full)
        project.remove()
        left = False
        try:
            for part in parts:
                staged = apart.prepared(project) if part == "apart" else project
                for step in PARTS[part]:
                    take(step, staged)
                staged.remove(images=False)
            if parts == list(PARTS):
                every_sentence(project)
        except Failure:
            left = keep
            raise
        finally:
            if left:
                say(f"KEEP: the containers of the project {NAME} are left as they are")
            else:
                project.remove()
    say(f"passed in {time.monotonic() - began:.0f} s")


def take(step: Callable[[Project], str], project: Project) -> None:
    began = time.monotonic()
    name = step.__name__.replace("_", " ")
    try:
        told = step(project)
    except Failure as failure:
        raise Failure(f"{name}: {failure}", failure.look) from None
    say(f"{time.monotonic() - began:5.1f} s  {name}: {told}")


def bases() -> list[str]:
    """The images that are pulled: those of the Dockerfiles, and those of compose.yaml that nobody builds."""
    found = []
    for path in sorted(ROOT.glob("deploy/**/Dockerfile")):
        stages = dockerfile.parse(path)
        names = {stage.name for stage in stages}
        found += [stage.base for stage in stages if stage.base not in names]
    found += [service["image"] for service in Project.services().values() if not service["image"].startswith("whatsapp-connector")]
    return list(dict.fromkeys(found))


def every_sentence(project: Project) -> None:
    written = {command for page in judgement.pages(ROOT) for command in judgement.documented(page.read_text())}
    if missing := sorted(written - NOT_RUN - set(project.documented)):
        raise Failure("documented, and run by no step: " + ", ".join(missing))
    if unknown := sorted(set(project.documented) - written):
        raise Failure("run as documented, and documented nowhere: " + ", ".join(unknown))
    say(f"{len(written)} commands are documented; all were run but {', '.join(sorted(NOT_RUN))}")


if __name__ == "__main__":
    sys.exit(main())
