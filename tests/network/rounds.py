"""What is done to the network, and what must be true of it. Each round ends with everything as it was."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from customers import Customers
from engine import Failure, docker, inspect, until
from online import overlaps
from parties import NODES, Cut, Network

SHORT_S = 5
LONG_S = 40
"""Longer than the lease (30 s) and than the ack wait of an edge (30 s)."""
LONG_FOR_A_FORWARDER_S = 20
"""It has no lease, and its ack wait is 15 s."""
DRAINED_PER_S = 100
"""So many messages a second an edge works through at least, of those that waited for its device."""
POOR_S = 20
RECOVERED_S = 10.0
"""After the mend everything that was written before it is answered within this, and what the harness itself is late."""
AFTER_A_FORWARDER_S = 15 + 2.0
"""What was on its way to a forwarder may be lost there, as if it had been killed: it goes on after the ack wait, and 2 s. So may what
was on its way when a node comes back, because the nodes elect again."""


@dataclass
class Told:
    """A row of the table."""

    what: str
    lasted_s: float
    slowest_s: float
    recovered_s: float


@dataclass(frozen=True)
class Round:
    cuts: tuple[Cut, ...]
    lasts_s: float
    always: bool = False
    """Also where time is short."""
    slowest_s: float = 0.0
    """What one message may wait at the most, if it is others than the cut-off party that serve it."""

    def name(self) -> str:
        return f"{' and '.join(cut.in_words() for cut in self.cuts)}, {self.lasts_s:.0f} s"

    def recovered_s(self) -> float:
        loses = any(cut.network in ("forwarders", "cluster") for cut in self.cuts)
        return AFTER_A_FORWARDER_S if loses else RECOVERED_S


EDGE_NATS = Cut("edge", "edges")
EDGE_WHATSAPP = Cut("edge", "whatsapp")
FORWARDER_NATS = Cut("forwarder-1", "forwarders")
FORWARDER_BACKEND = Cut("forwarder-1", "assistant")
BACKEND = Cut("forwarders", "assistant")
LEADER = Cut("leader", "cluster")

ROUNDS = [
    Round((EDGE_NATS,), SHORT_S, always=True),
    Round((EDGE_WHATSAPP,), SHORT_S, always=True),
    Round((FORWARDER_NATS,), SHORT_S),
    Round((FORWARDER_BACKEND,), SHORT_S),
    Round((BACKEND,), SHORT_S, always=True),
    Round((LEADER,), SHORT_S, always=True),
    Round((EDGE_NATS,), LONG_S, always=True),
    Round((EDGE_WHATSAPP,), LONG_S),
    Round((FORWARDER_NATS,), LONG_FOR_A_FORWARDER_S, always=True),
    Round((FORWARDER_BACKEND,), LONG_FOR_A_FORWARDER_S),
    Round((BACKEND,), LONG_S),
    Round((LEADER,), LONG_S),
    *(
        Round((Cut(party, network, way=way),), POOR_S)
        for party, network in (("edge", "edges"), ("edge", "whatsapp"), ("forwarder-1", "forwarders"), ("forwarder-1", "assistant"), ("leader", "cluster"))
        for way in ("out", "in")
    ),
    *(
        Round((Cut(party, network, loss=30, delay_ms=200),), POOR_S, always=party == "edge" and network == "edges")
        for party, network in (("edge", "edges"), ("edge", "whatsapp"), ("forwarders", "forwarders"), ("forwarders", "assistant"), ("leader", "cluster"))
    ),
    *(
        Round(pair, lasts_s)
        for pair in (
            (EDGE_NATS, EDGE_WHATSAPP), (EDGE_NATS, FORWARDER_NATS), (EDGE_WHATSAPP, BACKEND), (LEADER, FORWARDER_NATS), (LEADER, EDGE_NATS),
            (FORWARDER_NATS, Cut("forwarder-2", "assistant")),
        )
        for lasts_s in (SHORT_S, LONG_S)
    ),
]  # fmt: skip


class Play:
    """The rounds of one network, one after the other, while customers write."""

    def __init__(self, network: Network, customers: Customers) -> None:
        self._network = network
        self._customers = customers
        self._cut_off: list[tuple[int, int]] = []
        """When the line of an edge to WhatsApp was cut, in milliseconds since 1970."""
        self.table: list[Told] = []
        self.late: list[str] = []
        """What was right, and slower than promised."""

    def round(self, round: Round) -> Told:
        began, cut_off_at = time.monotonic(), _unix_ms()
        # The standby is a device of its own: all that came since it was linked waits for it, and it may have to take over.
        drained_s = self._customers.waits_for_a_device() / DRAINED_PER_S
        with self._network.cut(list(round.cuts), self._customers):
            since = time.monotonic()
            time.sleep(round.lasts_s)
            lasted = time.monotonic() - since
        if any(cut.network == "whatsapp" for cut in round.cuts):
            # What was under way in the cut arrives after it.
            self._cut_off.append((cut_off_at, _unix_ms() + 1000))
        return self.recovered(round.name(), began, lasted, round.recovered_s() + drained_s)

    def recovered(self, what: str, began: float, lasted_s: float, within_s: float = RECOVERED_S) -> Told:
        """From now on everything is as it was: what was written before is answered in time, once, in order."""
        mended = time.monotonic()
        self._customers.late_s = 0.0
        took = self._customers.all_answered(mended, within_s=90)
        told = Told(what, lasted_s, self._customers.slowest_s(began, mended), took)
        self.table.append(told)
        self.judge()
        if took > within_s + self._customers.late_s:
            self.late.append(f"{what}: everything was answered {took:.1f} s after it; promised are {within_s:.0f} s, and {self._customers.late_s:.1f} s were the harness's own")
        return told

    def judge(self) -> None:
        if faults := self._customers.faults():
            raise Failure("; ".join(faults))
        if faults := overlaps(self._customers.visits(), self._cut_off):
            raise Failure(f"two edges were online at once: {'; '.join(faults)}")
        if ended := {name: count for name, count in self._network.restarts().items() if count}:
            raise Failure(f"restarted: {ended}")
        if ended := self._network.not_running():
            raise Failure(f"not running: {', '.join(ended)}")


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


# ---------------------------------------------------------------- the bus


def rolling_upgrade(play: Play, network: Network, customers: Customers) -> str:
    """Each node is told to go, in lame duck mode, ends when its clients have left, and is started as a new version would be."""
    began = time.monotonic()
    for node in NODES:
        container = network.one(node)
        docker("kill", "--signal", "USR2", container["Id"])
        until(f"{node} to end", lambda: not _is_running(container), 90, lambda: network.logs(node))
        # An engine restarts nothing by itself that it was told to signal.
        docker("start", container["Id"])
        network.until_health(node, "healthy", 60)
        network.until_replicated(60)
    told = play.recovered("rolling upgrade of NATS by lame duck mode", began, time.monotonic() - began)
    return f"slowest answer {told.slowest_s:.1f} s"


def _is_running(container: dict[str, object]) -> bool:
    found = inspect("container", str(container["Id"]))
    return bool(found and found["State"]["Running"])  # type: ignore[index]


def consumers_deleted(play: Play, network: Network, customers: Customers) -> str:
    """While their messages are pulled."""
    began = time.monotonic()
    for stream, consumer in (("WA_IN", "forwarder"), ("WA_OUT", "edge-default")):
        if not (told := network.jetstream(f"CONSUMER.DELETE.{stream}.{consumer}")).get("success"):
            raise Failure(f"the consumer {consumer} cannot be deleted: {told}")
    row = play.recovered("both consumers deleted", began, 0.0)
    return f"slowest answer {row.slowest_s:.1f} s"


def streams_purged(play: Play, network: Network, customers: Customers) -> str:
    """Whole, when everything in them is answered: what was not would be lost, as docs/delivery.md says."""
    customers.pause(True)
    customers.all_answered(time.monotonic(), within_s=30)
    began = time.monotonic()
    for stream in ("WA_IN", "WA_OUT"):
        if not (told := network.jetstream(f"STREAM.PURGE.{stream}")).get("success"):
            raise Failure(f"the stream {stream} cannot be purged: {told}")
    customers.pause(False)
    time.sleep(SHORT_S)
    row = play.recovered("both streams purged", began, 0.0)
    return f"slowest answer {row.slowest_s:.1f} s"


Step = Callable[[Play, Network, Customers], str]
STEPS: list[tuple[Step, bool]] = [(consumers_deleted, True), (streams_purged, True), (rolling_upgrade, False)]
