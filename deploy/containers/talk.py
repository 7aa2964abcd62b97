#!/usr/bin/env python3
"""Customers of the simulated WhatsApp, beside it in a container: `write` until it is stopped, or `judge` what came back.
It keeps nothing: what was written and what came, the simulator knows."""

import argparse
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "demo"))

import judgement
from parts import call

ACCOUNT = "5491100000000"
CUSTOMERS = [f"54911555500{n:02}" for n in range(6)]
SIMULATOR = "http://127.0.0.1:7080"
ENTRY = "a very private text"
"""Part of every text, to be looked for in logs."""
AT_LEAST = 50
"""So many are written in any case, so that some are under way when something happens, and some come after it."""
WRITING = "writing"
"""The line that says that the first message is written."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["write", "judge", "offline", "online"])
    parser.add_argument("--count", type=int, default=0, help="of messages in all; 0 goes on until SIGTERM")
    parser.add_argument("--every-ms", type=int, default=100)
    parser.add_argument("--within-s", type=float, default=90)
    args = parser.parse_args()
    if args.task == "write":
        print(json.dumps({"written": write(args.count, args.every_ms / 1000)}), flush=True)
    elif args.task == "judge":
        found = judge(args.within_s)
        print(json.dumps(found), flush=True)
        return 0 if found["written"] and not any(found[fault] for fault in ("lost", "doubled", "disordered", "strange")) else 1
    elif args.task == "offline":
        # WhatsApp is away: connections are closed, and new ones are closed at login.
        expect("POST", "/sim/faults", {"kind": "drop_connection", "account": ACCOUNT, "for_ms": 600_000})
    else:
        expect("DELETE", "/sim/faults")
    return 0


def write(count: int, pause_s: float) -> int:
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    for customer in CUSTOMERS:
        expect("POST", "/sim/customers", {"phone": customer, "name": "Ana", "addressing": "lid"})
    before = {customer: len(sent(customer)) for customer in CUSTOMERS}
    written = 0
    while written < count if count else not (stopped and written >= AT_LEAST):
        customer = CUSTOMERS[written % len(CUSTOMERS)]
        text = f"{ENTRY} {before[customer] + written // len(CUSTOMERS)} of {customer}"
        expect("POST", f"/sim/customers/{customer}/messages", {"to": ACCOUNT, "text": text})
        written += 1
        if written == 1:
            print(WRITING, flush=True)
        # The pace of people who write; nothing is waited for here.
        time.sleep(pause_s)
    return written


def judge(within_s: float) -> dict[str, Any]:
    """Of all chats, as soon as nothing is missing, or when the time is over."""
    deadline = time.monotonic() + within_s
    while True:
        chats = [(sent(customer), inbox(customer)) for customer in CUSTOMERS]
        waiting = sum(len(judgement.unanswered(*chat)) for chat in chats)
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    verdicts = [judgement.verdict(*chat) for chat in chats]
    faults = {name: [text for found in verdicts for text in found[name]] for name in verdicts[0]}
    return {"written": sum(len(messages) for messages, _ in chats), "answered": sum(len(came) for _, came in chats), **faults}


def sent(customer: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = expect("GET", f"/sim/customers/{customer}/sent")["messages"]
    return found


def inbox(customer: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = expect("GET", f"/sim/customers/{customer}/inbox?since=0&wait_ms=0")["messages"]
    return found


def expect(method: str, path: str, body: object = None) -> Any:
    status, answer = call(method, SIMULATOR + path, body)
    if not 200 <= status < 300:
        raise SystemExit(f"talk: the simulator refused {path}: {status} {answer}")
    return answer


if __name__ == "__main__":
    sys.exit(main())
