#!/usr/bin/env python3
"""`make demo-pool`: two edges without a disk, and the one that has the number is killed in the middle of a conversation.

Starts the same parts as `make demo`, but for the connector: that is two edges and a forwarder. The session is on
nats-server, so whichever edge is left goes on. Plays three messages; on a terminal you may go on yourself.
Whatever happens, it stops what it started. The exit code is 0 only if every message was answered once.
"""

import base64
import json
import re
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from demo import (
    ACCOUNT, CUSTOMER, LATE_MS, LINK_S, READY_S, SCRIPT, Chat, Tally, interactive, on_stage, say, start_nats, whatsapp,
)
from parts import built, call, free_port, start_backend
from processes import Process, Processes
from simulator import Simulator

NAME = "restaurante"
"""How the account is called on the bus."""

TAKE_OVER_S = 60.0
"""A lease ends after 30 s; a slow machine takes a while for the rest."""


@dataclass
class Edge:
    name: str
    process: Process
    admin: str

    def has_the_number(self) -> bool:
        """Is it online for the account?"""
        try:
            _, metrics = call("GET", f"{self.admin}/metrics")
        except OSError:
            return False
        return bool(re.search(rf'^wa_link_state\{{account="{NAME}",state="online"\}} 1$', str(metrics), re.MULTILINE))


class Pool:
    """Two edges; one of them has the number."""

    def __init__(self, parts: Processes, edges: list[Edge]) -> None:
        self._parts = parts
        self.edges = edges

    def who_has_it(self, within_s: float) -> Edge:
        def found() -> Edge | None:
            return next((edge for edge in self.edges if edge.has_the_number()), None)

        return self._parts.wait_for("an edge to be online", found, within_s, self.edges[0].process)

    def kill(self, edge: Edge) -> None:
        self.edges.remove(edge)
        self._parts.kill(edge.process)


def main() -> int:
    return on_stage(play)


def play(parts: Processes, state: Path) -> tuple[Tally, Process]:
    chat, pool = start(parts, state)
    tally = converse(chat, pool)
    if sys.stdin.isatty():
        tally = interactive(chat)
    return tally, pool.edges[0].process


def start(parts: Processes, state: Path) -> tuple[Chat, Pool]:
    simulator, env, work = whatsapp(parts, state)
    say("starting nats-server and the assistant backend")
    settings = env | {
        "NATS_URL": start_nats(parts, state / "nats", env),
        "BACKEND_URL": start_backend(parts, env),
        "WHATSAPP_SIMULATOR_URL": simulator.chat_url,
        "WHATSAPP_ACCOUNTS": NAME,
        "SESSION_STORE": "nats",
        "SESSION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        # The demo's nats-server is one, and on this machine: it may lose the last moments if the machine loses its power.
        "SESSION_UNSAFE_SYNC": "on",
        "SERVICE": "on",
    }

    say("starting two edges without a disk, and a forwarder")
    connector = built("whatsapp-connector")
    edges = []
    for name in ("edge-1", "edge-2"):
        admin = f"127.0.0.1:{free_port()}"
        process = parts.start(name, [connector, "edge"], settings | {"HTTP_ADDR": admin}, work)
        edges.append(Edge(name, process, f"http://{admin}"))
    forwarder = parts.start("forwarder", [connector, "forwarder"], settings | {"HTTP_ADDR": "127.0.0.1:0"}, work)
    pool = Pool(parts, edges)
    link(parts, simulator, pool, settings, work)
    return Chat(parts, simulator, forwarder), pool


def link(parts: Processes, simulator: Simulator, pool: Pool, env: dict[str, str], work: Path) -> None:
    """Scans the QR code that whichever edge has the account shows, a fresh one if that has run out meanwhile."""
    last = "no answer of `whatsapp-connector link`"

    def scanned() -> bool | None:
        nonlocal last
        command = [built("whatsapp-connector"), "link", "--account", NAME]
        # What the command has to say to a person is not for a person here.
        said = subprocess.run(command, env=env, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        shown = next((json.loads(line) for line in said.stdout.splitlines() if line.startswith("{")), None)
        if shown is None:
            return None
        last = f"state {shown.get('state')!r}"
        if not shown.get("qr"):
            return None
        refusal = simulator.scan(ACCOUNT, shown["qr"])
        if refusal:
            last = f"the scan was refused: {refusal}"
        return None if refusal else True

    say("linking: the account's phone scans the QR code")
    parts.wait_for("a QR code to be scanned", scanned, LINK_S, pool.edges[0].process, lambda: last)
    has_it = pool.who_has_it(READY_S)
    say(f"linked; {has_it.name} has the number {ACCOUNT}, you are the customer {CUSTOMER}")


def converse(chat: Chat, pool: Pool) -> Tally:
    first, *others = SCRIPT
    ask(chat, first)
    victim = pool.who_has_it(READY_S)
    say(f"kill -9 of {victim.name}; nobody else has the number before its lease has ended, 30 s")
    pool.kill(victim)
    killed = time.monotonic()
    for number, text in enumerate(others):
        ask(chat, text)
        if number == 0:
            heir = pool.who_has_it(TAKE_OVER_S)
            say(f"{heir.name} has the number since then; that took {time.monotonic() - killed:.0f} s, and no QR code")
    chat.print_late(LATE_MS)
    return chat.tally


def ask(chat: Chat, text: str) -> None:
    print(f"[customer] {text}")
    chat.ask(text)


if __name__ == "__main__":
    sys.exit(main())
