#!/usr/bin/env python3
"""A cut: from the line `cut` on standard output until SIGTERM, packets between this network namespace and a subnet are lost,
or late. The subnet's gateway, from which the judge looks on, is spared.

Netem does this too, in kernels that have it. A packet filter and its queue are in all: `--loss` is the filter's own, and for
`--delay-ms` the filter asks this process about each packet, which answers when the time is over."""

import argparse
import collections
import ipaddress
import select
import signal
import socket
import struct
import subprocess
import sys
import time

CHAINS = {"out": ("OUTPUT", "-d"), "in": ("INPUT", "-s")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--subnet", required=True)
    parser.add_argument("--gateway", required=True)
    parser.add_argument("--way", choices=["both", *CHAINS], default="both")
    parser.add_argument("--loss", type=int, default=100, metavar="PERCENT")
    parser.add_argument("--delay-ms", type=int, default=0)
    args = parser.parse_args()
    ways = list(CHAINS) if args.way == "both" else [args.way]
    over, waker = socket.socketpair()
    signal.signal(signal.SIGTERM, lambda *_: waker.send(b"."))
    # A party may be cut off from two networks at once.
    place = ipaddress.ip_interface(args.subnet)
    queue = int(place.ip) >> 8 & 0xFFFF
    late = Late(args.delay_ms / 1000, queue) if args.delay_ms else None
    for way in ways:
        filter_packets(way, f"{way}-{place.ip}", queue, args)
    print("cut", flush=True)
    try:
        while over not in select.select([over, *([late.socket] if late else [])], [], [], late.next_s() if late else None)[0]:
            if late:
                late.work()
    finally:
        for way in ways:
            own = f"{way}-{place.ip}"
            iptables("-D", CHAINS[way][0], "-j", own)
            iptables("-F", own)
            iptables("-X", own)
        # What waits may go on at once: the line is good again.
        if late:
            late.let_go()
    print("mended", flush=True)
    return 0


def filter_packets(way: str, own: str, queue: int, args: argparse.Namespace) -> None:
    chain, match = CHAINS[way]
    iptables("-N", own)
    iptables("-A", own, match, args.gateway, "-j", "RETURN")
    random = ["-m", "statistic", "--mode", "random", "--probability", str(args.loss / 100)] if args.loss < 100 else []
    if args.loss:
        iptables("-A", own, match, args.subnet, *random, "-j", "DROP")
    if args.delay_ms:
        iptables("-A", own, match, args.subnet, "-j", "NFQUEUE", "--queue-num", str(queue))
    # Last, so that the cut begins as a whole.
    iptables("-I", chain, "-j", own)


def iptables(*words: str) -> None:
    done = subprocess.run(["iptables", "-w", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"wire: iptables {' '.join(words)}: {done.stderr.strip()}")


class Late:
    """The kernel's queue of packets (nfnetlink_queue.h); each is let through after a while, unseen."""

    NETLINK_NETFILTER, SUBSYSTEM = 12, 3 << 8
    PACKET, VERDICT, CONFIG = 0, 1, 2
    REQUEST, ACCEPT = 1, 1
    PACKET_HEADER, VERDICT_HEADER = 1, 2
    COMMAND, PARAMETERS, LENGTH = 1, 2, 3
    BIND, COPY_META = 1, 1
    AT_MOST = 65_536
    """Packets that wait; the kernel drops what is more."""

    def __init__(self, delay_s: float, queue: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self.NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        self._delay_s, self._queue = delay_s, queue
        self._waiting: collections.deque[tuple[float, int]] = collections.deque()
        self._send(self.CONFIG, self._attribute(self.COMMAND, struct.pack(">BxH", self.BIND, socket.AF_INET)))
        self._send(self.CONFIG, self._attribute(self.PARAMETERS, struct.pack(">IB", 0, self.COPY_META)))
        self._send(self.CONFIG, self._attribute(self.LENGTH, struct.pack(">I", self.AT_MOST)))

    def next_s(self) -> float | None:
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None

    def work(self) -> None:
        while select.select([self.socket], [], [], 0)[0]:
            self._read(self.socket.recv(65_536))
        while self._waiting and self._waiting[0][0] <= time.monotonic():
            self._accept(self._waiting.popleft()[1])

    def let_go(self) -> None:
        self.work()
        while self._waiting:
            self._accept(self._waiting.popleft()[1])

    def _read(self, data: bytes) -> None:
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            body, data = data[20:length], data[(length + 3) & ~3 :]
            if kind != self.SUBSYSTEM | self.PACKET:
                continue
            while len(body) >= 4:
                size, name = struct.unpack_from("=HH", body)
                if name & 0x7FFF == self.PACKET_HEADER:
                    (packet,) = struct.unpack_from(">I", body, 4)
                    self._waiting.append((time.monotonic() + self._delay_s, packet))
                body = body[(size + 3) & ~3 :]

    def _accept(self, packet: int) -> None:
        self._send(self.VERDICT, self._attribute(self.VERDICT_HEADER, struct.pack(">II", self.ACCEPT, packet)))

    def _attribute(self, name: int, value: bytes) -> bytes:
        return struct.pack("=HH", 4 + len(value), name) + value + bytes(-len(value) % 4)

    def _send(self, kind: int, attributes: bytes) -> None:
        header = struct.pack("=IHHII", 20 + len(attributes), self.SUBSYSTEM | kind, self.REQUEST, 0, 0)
        self.socket.send(header + struct.pack(">BBH", socket.AF_UNSPEC, 0, self._queue) + attributes)


if __name__ == "__main__":
    sys.exit(main())
