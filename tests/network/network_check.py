#!/usr/bin/env python3
"""Lines between containers are cut while customers write, and mended; then it is judged what the customers got. `make network-check`.

Three NATS nodes, two edges of one account, two forwarders, the backend and the simulator: compose.yaml beside this file. Needs
a container engine on this machine, and root. Where no engine answers it says so and ends well.

FULL=1 plays all rounds; without it those that have to hold at each change. ROUND=text plays those alone whose name has
the text in it, ROUND="one|another" those with either. KEEP=1 leaves everything as it was when a round failed.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# The engine and the stand-ins for base images; the parser of Dockerfiles; how HTTP is asked.
sys.path += [str(ROOT / "deploy" / name) for name in ("containers", "image", "demo")]

import debian
import dockerfile
import engine
import stand_ins
from customers import Customers
from engine import Failure
from parties import Network
from rounds import ROUNDS, STEPS, Play, Told

NAME = "network-check"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    if not (version := engine.answers()):
        engine.say("no container engine answers; passed over")
        return 0
    try:
        with engine.alone():
            engine.say(f"engine {version}, compose {engine.with_compose()}")
            check(full=bool(os.environ.get("FULL")), keep=bool(os.environ.get("KEEP")), named=os.environ.get("ROUND", ""))
    except (Failure, debian.Missing) as failure:
        print(getattr(failure, "look", ""), file=sys.stderr)
        print(f"{NAME}: FAILED: {failure}", file=sys.stderr)
        return 1
    return 0


def check(full: bool, keep: bool, named: str) -> None:
    began = time.monotonic()
    bases = [stage.base for path in dockerfiles() for stage in stages(path)]
    with tempfile.TemporaryDirectory(prefix=f"{NAME}-") as scratch, stand_ins.standing(dict.fromkeys(bases), full=False):
        network = Network(Path(scratch))
        network.remove()
        left = False
        try:
            engine.say("building the images, which takes minutes the first time, and starting them")
            network.start()
            engine.say(f"{time.monotonic() - began:5.1f} s  both edges are linked, the second one waits")
            with Customers(network.simulator()) as customers:
                play = Play(network, customers)
                play_all(play, network, customers, full, named)
            print(table(play.table))
            if play.late:
                raise Failure("\n".join(play.late))
            engine.say(f"{customers.written()} messages, each answered once and in order; never two edges online")
        except Failure:
            left = keep
            raise
        finally:
            if left:
                engine.say(f"KEEP: the containers of the project {NAME} are left as they are")
            else:
                network.remove()
    engine.say(f"passed in {time.monotonic() - began:.0f} s")


def play_all(play: Play, network: Network, customers: Customers, full: bool, named: str) -> None:
    for round in ROUNDS:
        if is_named(round.name(), named) if named else full or round.always:
            try:
                told = play.round(round)
            except Failure as failure:
                raise Failure(f"{round.name()}: {failure}", failure.look or network.logs("edge-1", "edge-2", "forwarder-1", "forwarder-2")) from None
            engine.say(f"{told.what}: slowest answer {told.slowest_s:.1f} s, everything answered {told.recovered_s:.1f} s after the mend")
    for step, always in STEPS:
        name = step.__name__.replace("_", " ")
        if is_named(name, named) if named else full or always:
            try:
                engine.say(f"{name}: {step(play, network, customers)}")
            except Failure as failure:
                raise Failure(f"{name}: {failure}", failure.look or network.logs("edge-1", "edge-2", "forwarder-1", "forwarder-2")) from None


def is_named(name: str, wanted: str) -> bool:
    return any(text in name for text in wanted.split("|"))


def table(rows: list[Told]) -> str:
    lines = ["| cut | slowest answer, s | everything answered after the mend, s |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {row.what} | {row.slowest_s:.1f} | {row.recovered_s:.1f} |" for row in rows)])


def dockerfiles() -> list[Path]:
    return [HERE / "wire/Dockerfile", *(ROOT / path for path in ("deploy/Dockerfile", "deploy/backend/Dockerfile", "deploy/compose/Dockerfile"))]


def stages(path: Path) -> list[dockerfile.Stage]:
    found = dockerfile.parse(path)
    names = {stage.name for stage in found}
    return [stage for stage in found if stage.base not in names]


if __name__ == "__main__":
    sys.exit(main())
