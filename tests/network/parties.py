"""The containers of compose.yaml beside this file, their addresses, and the lines between them."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bus
from composed import Composed
from customers import ACCOUNT, Customers
from engine import Failure, docker, until
from online import now_online
from parts import call

HERE = Path(__file__).resolve().parent
NAME = "network-check"
WIRE = f"{NAME}/wire"
EDGES = ["edge-1", "edge-2"]
FORWARDERS = ["forwarder-1", "forwarder-2"]
NODES = ["nats-1", "nats-2", "nats-3"]
TOKEN = "a-token-of-the-network-check"
BUILD_S = 1800


@dataclass(frozen=True)
class Cut:
    """Of one party's line into one network. The party is named by what it is now: `edge` is the one that is online,
    `leader` the node that leads the stream of customers' messages."""

    party: str
    network: str
    way: str = "both"
    loss: int = 100
    delay_ms: int = 0

    def in_words(self) -> str:
        line = {"edges": "NATS", "forwarders": "NATS", "cluster": "the other nodes", "whatsapp": "WhatsApp", "assistant": "the backend"}[self.network]
        if self.loss < 100 or self.delay_ms:
            return f"{self.party} ↔ {line}: {self.loss} % loss, {self.delay_ms} ms late"
        return f"{self.party} {dict(both='↔', out='→', into='←').get(self.way, '←')} {line}"


class Network(Composed):
    def __init__(self, scratch: Path) -> None:
        super().__init__(NAME, [HERE / "compose.yaml"], scratch / "settings.env")
        self.edge_of: dict[int, str] = {}
        """By linked device."""

    # ---------------------------------------------------------------- addresses

    def address(self, service: str, network: str) -> str:
        found: str = self.one(service)["NetworkSettings"]["Networks"][f"{self.name}_{network}"]["IPAddress"]
        return found

    def simulator(self) -> str:
        return f"http://{self.address('simulator', 'whatsapp')}:7080"

    def jetstream(self, subject: str, payload: str = "", of: str = NODES[0]) -> dict[str, Any]:
        return bus.request(f"{self.address(of, 'cluster')}:4222", f"$JS.API.{subject}", payload)

    def stream(self, name: str) -> dict[str, Any]:
        found = self.jetstream(f"STREAM.INFO.{name}")
        if "error" in found:
            raise Failure(f"the stream {name}: {found['error']}")
        return found

    # ---------------------------------------------------------------- the start

    def start(self) -> None:
        """Both edges linked, each as a device of its own; edge-1 online, edge-2 waiting for its lease."""
        self.run("docker compose build", timeout_s=BUILD_S)
        self.run("docker compose up --wait edge-1 forwarder-1 forwarder-2", timeout_s=300)
        simulator = self.simulator()
        until("the simulator", lambda: call("GET", f"{simulator}/livez")[0] == 200, 30)
        call("POST", f"{simulator}/sim/accounts", {"phone": ACCOUNT, "name": "Restaurante"})
        for edge in EDGES:
            self.run(f"docker compose up --wait {edge}")
            device = until(f"{edge} to show a code", lambda edge=edge: self._link(edge), 60, lambda: self.logs(edge))
            self.edge_of[device] = edge
            until(f"{edge} to be online", lambda edge=edge: self._link_state(edge)["state"] == "online", 60, lambda: self.logs(edge))
            self.run(f"docker compose stop {edge}")
        self.run("docker compose up --wait edge-1")
        until("edge-1 to be online", lambda: self._link_state("edge-1")["state"] == "online", 60, lambda: self.logs("edge-1"))
        self.run("docker compose up --wait edge-2")

    def _link_state(self, edge: str) -> dict[str, Any]:
        status, shown = call("GET", f"http://{self.address(edge, 'whatsapp')}:8080/link.json", token=TOKEN)
        return shown if status == 200 else {"state": str(status), "qr": None}

    def _link(self, edge: str) -> int | None:
        if not (qr := self._link_state(edge)["qr"]):
            return None
        status, linked = call("POST", f"{self.simulator()}/sim/accounts/{ACCOUNT}/scan", {"qr": qr})
        return int(linked["device"]) if status == 200 else None

    # ---------------------------------------------------------------- who is who now

    def who(self, party: str, customers: Customers) -> list[str]:
        if party == "edge":
            device = until("an edge to be online", lambda: now_online(customers.visits()), 60)
            return [self.edge_of[device]]
        if party == "leader":
            # There is none while they elect one.
            return [until("WA_IN to have a leader", lambda: self.stream("WA_IN")["cluster"].get("leader"), 30)]
        return {"edges": EDGES, "forwarders": FORWARDERS}.get(party, [party])

    # ---------------------------------------------------------------- cuts

    @contextmanager
    def cut(self, cuts: list[Cut], customers: Customers) -> Iterator[None]:
        """While it lasts, the lines are cut, all of them at once."""
        with ExitStack() as wires:
            wanted = [(service, cut) for cut in cuts for service in self.who(cut.party, customers)]
            for service, cut in wanted:
                wires.enter_context(self._wire(service, cut))
            yield

    @contextmanager
    def _wire(self, service: str, cut: Cut) -> Iterator[None]:
        (net,) = json.loads(docker("network", "inspect", f"{self.name}_{cut.network}"))
        (block,) = net["IPAM"]["Config"]
        lines = ["--subnet", block["Subnet"], "--gateway", block["Gateway"], "--way", cut.way]
        how = [*lines, "--loss", cut.loss, "--delay-ms", cut.delay_ms]
        rights = ["--cap-drop", "ALL", "--cap-add", "NET_ADMIN", "--cap-add", "NET_RAW", "--label", f"com.docker.compose.project={self.name}"]
        wire = docker("run", "--detach", *rights, "--network", f"container:{self.one(service)['Id']}", WIRE, *how)
        try:
            until("the line to be cut", lambda: "cut" in docker("logs", wire), 30, lambda: docker("logs", wire))
            yield
        finally:
            docker("stop", "--time", 20, wire)
            mended = "mended" in docker("logs", wire)
            docker("rm", "--force", wire)
        if not mended:
            raise Failure(f"the line of {service} could not be mended")

    # ---------------------------------------------------------------- ends

    def restarts(self) -> dict[str, int]:
        """Of what nobody has ended: they must not end by themselves."""
        return {str(one["Name"]): int(one["RestartCount"]) for service in (*EDGES, *FORWARDERS) for one in self.containers(service)}

    def not_running(self) -> list[str]:
        return [str(one["Name"]) for service in (*EDGES, *FORWARDERS, *NODES) for one in self.containers(service) if not one["State"]["Running"]]

    def until_replicated(self, within_s: float) -> float:
        began = time.monotonic()

        def current() -> bool:
            try:
                groups = [self.stream(name)["cluster"] for name in ("WA_IN", "WA_OUT")]
            except (OSError, Failure, KeyError):
                return False
            return all(group.get("leader") and all(replica.get("current") for replica in group["replicas"]) for group in groups)

        until("all replicas to be current", current, within_s)
        return time.monotonic() - began
