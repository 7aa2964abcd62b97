#!/usr/bin/env python3
"""A customer of compose.yaml's simulated WhatsApp: links the connector if it is not, then every line that you
write goes to the business, and what comes back is printed. Ctrl-D ends."""

import argparse
import sys
import time
from collections.abc import Callable

from parts import call
from processes import Failure
from simulator import Simulator

ACCOUNT = "5491100000000"
CUSTOMER = "5491112345678"
PATIENCE_S = 120.0
ANSWER_MS = 60_000
POLL_S = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulator", required=True, help="http://host:port")
    parser.add_argument("--connector", required=True, help="http://host:port, from the same machine, of a connector without HTTP_TOKEN")
    args = parser.parse_args()
    simulator = Simulator(args.simulator)
    try:
        until("the simulator", lambda: reachable(args.simulator))
        simulator.add_account(ACCOUNT, "Restaurante")
        simulator.add_customer(CUSTOMER, "Ana")
        until("the connector to be linked", lambda: linked(simulator, args.connector))
        seen = last_seen(simulator)
        print("write to the assistant, in Spanish; Ctrl-D ends", flush=True)
        for line in sys.stdin:
            if text := line.strip():
                simulator.write(CUSTOMER, to=ACCOUNT, text=text)
                for entry in simulator.inbox(CUSTOMER, seen, ANSWER_MS):
                    seen = max(seen, entry.seq)
                    print(f"[assistant] {entry.text or '(' + entry.kind + ')'}", flush=True)
    except Failure as failure:
        print(f"customer: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def reachable(url: str) -> bool:
    try:
        call("GET", f"{url}/sim/help")
    except OSError:
        return False
    return True


def linked(simulator: Simulator, connector: str) -> bool:
    try:
        _, shown = call("GET", f"{connector}/link.json")
    except OSError:
        return False
    if shown["qr"]:
        simulator.scan(ACCOUNT, shown["qr"])
    return bool(shown["state"] == "online")


def last_seen(simulator: Simulator) -> int:
    """Of an earlier conversation: that one is not printed again."""
    return max((entry.seq for entry in simulator.inbox(CUSTOMER, 0, 0)), default=0)


def until(what: str, holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise Failure(f"waited {PATIENCE_S:.0f} s for {what}")
        time.sleep(POLL_S)


if __name__ == "__main__":
    sys.exit(main())
