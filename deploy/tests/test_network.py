"""What `make network-check` judges by, and what it cuts, as far as it needs no engine."""

from typing import Any

import pytest
import yaml

import customers
import network_check
import online
import parties
import rounds
import stand_ins
from settings import ROOT

COMPOSE = yaml.safe_load((ROOT / "tests/network/compose.yaml").read_text())


def visit(device: int, since: int, until: int | None, last_heard: int | None = None) -> dict[str, Any]:
    return {"device": device, "since": since, "until": until, "last_heard": last_heard or until or since}


@pytest.mark.parametrize(
    ("visits", "cut_off", "overlap"),
    [
        ([visit(1, 10, 20), visit(2, 20, None)], [], False),
        ([visit(1, 10, 21), visit(2, 20, None)], [], True),
        ([visit(1, 10, None), visit(2, 20, None)], [], True),
        # One device connects anew before the server has seen the end of its old connection.
        ([visit(1, 10, 30), visit(1, 20, None)], [], False),
        # Behind the cut it fell silent in time; its end is seen late, or never.
        ([visit(1, 10, 50, last_heard=15), visit(2, 20, None)], [(14, 45)], False),
        ([visit(1, 10, None, last_heard=15), visit(2, 20, None)], [(14, 45)], False),
        # It was heard after the other one came.
        ([visit(1, 10, 50, last_heard=25), visit(2, 20, None)], [(14, 45)], True),
        # Another cut, long before, excuses nothing.
        ([visit(1, 10, 21, last_heard=15), visit(2, 20, None)], [(1, 5)], True),
    ],
)
def test_two_devices_are_never_online_at_once(visits: list[dict[str, Any]], cut_off: list[tuple[int, int]], overlap: bool) -> None:
    assert bool(online.overlaps(visits, cut_off)) == overlap


def test_the_device_that_is_online_is_the_latest_one() -> None:
    assert online.now_online([visit(1, 10, None), visit(2, 20, None), visit(1, 30, 40)]) == 2
    assert online.now_online([visit(1, 10, 20)]) is None


def test_a_customer_sees_what_is_doubled_or_out_of_order_or_missing() -> None:
    them = customers.Customers("http://127.0.0.1:9", number=1)
    (ana,) = them.all
    ana.wrote |= {"a": 1.0, "b": 2.0, "c": 3.0}
    ana.got += [{"text": "eco: b", "place": 1}, {"text": "eco: a", "place": 2}]
    ana.came |= {"b": 4.0, "a": 9.0}
    assert any("disordered" in fault for fault in them.faults())
    assert them.unanswered(before=2.5) == 0 and them.unanswered(before=3.5) == 1
    assert them.slowest_s(0, 10) == 8.0
    ana.got[:] = [{"text": f"eco: {text}", "place": place} for place, text in enumerate("aba")]
    assert any("doubled" in fault for fault in them.faults())


@pytest.mark.parametrize("round", rounds.ROUNDS, ids=lambda round: round.name())
def test_a_line_that_is_cut_is_there(round: rounds.Round) -> None:
    of = {"edge": "edge-1", "forwarders": "forwarder-1", "leader": "nats-1"}
    for cut in round.cuts:
        assert cut.network in COMPOSE["services"][of.get(cut.party, cut.party)]["networks"]
        assert cut.way in ("both", "in", "out")


def test_every_round_has_a_name_of_its_own() -> None:
    names = [round.name() for round in rounds.ROUNDS]
    assert len(set(names)) == len(names)


def test_nothing_leads_out_of_the_networks_and_nothing_is_published() -> None:
    assert all(network == {"internal": True} for network in COMPOSE["networks"].values())
    assert not any("ports" in service for service in COMPOSE["services"].values())
    # One line has one name: whoever may reach a party by two networks would not notice that one of them is cut.
    clients = [set(COMPOSE["services"][name]["networks"]) for name in (*parties.EDGES, *parties.FORWARDERS)]
    servers = [set(COMPOSE["services"][name]["networks"]) for name in (*parties.NODES, "backend", "simulator")]
    assert all(len(client & server) <= 1 for client in clients for server in servers)


def test_bases_have_something_to_stand_for_them() -> None:
    bases = {stage.base for path in network_check.dockerfiles() for stage in network_check.stages(path)}
    assert {base.split(":")[0] for base in bases} == {"debian", "gcr.io/distroless/static-debian12", "nats", "python", "rust"}


def test_no_package_is_optimized_in_a_check() -> None:
    made = stand_ins.quick(ROOT / "Cargo.toml")
    assert made.count("opt-level = 0") == made.count("[profile.release")
    assert '[profile.release.package."*"]' in made
