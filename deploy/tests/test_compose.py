"""compose.yaml, as far as it can be judged without a container engine."""

import json
import re
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

import dockerfile
import settings
from settings import ROOT

TEXT = (ROOT / "compose.yaml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
CONNECTORS = {name: s for name, s in SERVICES.items() if s["image"] == "whatsapp-connector" or name == "simulated-connector"}
ROLES = {"run", "edge", "forwarder", "provision", "status"}


def parsed(text: str) -> PyCompose:
    """By a parser that knows the specification, with YAML's own `<<` merged before."""
    return PyCompose.from_json(json.dumps(yaml.safe_load(text)))


def variables(text: str) -> dict[str, str | None]:
    """Those that `text` is filled in with, and the value of each that is not set."""
    found = re.findall(r"\$\{([A-Z_]+)(?::[-+]((?:[^{}]|\$\{[^}]*\})*))?\}", text)
    return dict(found)


def test_it_is_what_the_compose_specification_says() -> None:
    compose = parsed(TEXT)
    compose.validate()
    assert set(compose.service_names()) == set(SERVICES)


@pytest.mark.parametrize("broken", ["restart: sometimes", "volumes: 5", "depends_on: {nats: {condition: happy}}"])
def test_what_is_wrong_is_seen(broken: str) -> None:
    with pytest.raises(Exception):
        parsed(f"services: {{a: {{image: b, {broken}}}}}").validate()


def test_every_variable_of_a_connector_is_a_setting() -> None:
    assert len(CONNECTORS) == 7
    for name, service in CONNECTORS.items():
        assert not settings.unknown(set(service["environment"])), name


def test_the_assistant_gets_what_it_reads() -> None:
    source = "".join(path.read_text() for path in (ROOT / "deploy/backend/assistant").glob("*.py"))
    for variable in SERVICES["backend"]["environment"]:
        assert variable in source or variable.startswith("OTEL_EXPORTER_OTLP_"), variable


def test_nats_gets_every_password_that_its_accounts_ask_for() -> None:
    asked = set(re.findall(r"\$(NATS_\w+)", (ROOT / "deploy/nats/accounts.conf").read_text()))
    assert asked == set(SERVICES["nats"]["environment"])


def test_every_role_comes_with_the_password_of_its_user() -> None:
    given = SERVICES["nats"]["environment"]
    for name, service in CONNECTORS.items():
        if match := re.fullmatch(r"nats://(\w+):(\$\{.*\})@nats:4222", service["environment"]["NATS_URL"]):
            assert match[2] == given[f"NATS_{match[1].upper()}_PASSWORD"], name
            assert match[1] in service["environment"]["NATS_INBOX_PREFIX"], name
        else:
            assert name == "simulated-connector"


def test_nothing_has_to_be_set() -> None:
    for service in SERVICES.values():
        for value in service.get("environment", {}).values():
            assert ":?" not in str(value) and "?}" not in str(value)
    for name in ("NATS_EDGE_PASSWORD", "BACKEND_URL"):
        assert variables(TEXT)[name]


def test_every_path_exists() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
                assert volume.endswith(":ro"), f"{name} may write {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"
        if build := service.get("build"):
            path = ROOT / build["context"] / build.get("dockerfile", "Dockerfile")
            stages = {stage.name for stage in dockerfile.parse(path)}
            assert build.get("target") is None or build["target"] in stages, name
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= used


def test_the_session_is_in_a_directory_of_its_own_on_its_volume() -> None:
    """The mode of a volume's root is the engine's matter; the connector refuses one that others may read."""
    images = {stage.name: stage.environment() for stage in dockerfile.parse(ROOT / "deploy/Dockerfile")}
    for name, image in (("edge", "connector"), ("simulated-connector", "simulator")):
        (volume,) = SERVICES[name]["volumes"]
        where = SERVICES[name]["environment"].get("WHATSAPP_AUTH_DIR", images[image]["WHATSAPP_AUTH_DIR"])
        assert where.startswith(volume.split(":")[1] + "/"), name


def test_the_customer_finds_its_neighbours_where_it_is_mounted() -> None:
    (volume,) = SERVICES["customer"]["volumes"]
    source, target, _ = volume.split(":")
    assert target.endswith(source.removeprefix(".")), "deploy/demo/parts.py looks two directories up"
    assert SERVICES["customer"]["entrypoint"][1] == f"{target}/customer.py"


def test_every_host_and_port_is_somebodys() -> None:
    """`name:port` in settings, and what is published, are ports on which that service listens."""
    listens = {
        "nats": {4222}, "backend": exposed("deploy/backend/Dockerfile"), "edge": exposed("deploy/Dockerfile"),
        "collector": {4317, 4318}, "jaeger": {4317, 16686},
    }  # fmt: skip
    for name, service in SERVICES.items():
        for published in service.get("ports", []):
            address, _, inside = published.rsplit(":", 2)
            assert address == "127.0.0.1", f"{name} is published to everybody"
            assert int(inside) in listens[name], f"{name}: {published}"
        for value in service.get("environment", {}).values():
            for host, port in re.findall(r"(?:@|://)([a-z]+):(\d+)", str(value)):
                assert int(port) in listens[host], f"{name}: {host}:{port}"
    assert "jaeger:4317" in (ROOT / "deploy/otel/collector.yaml").read_text()
    assert {4222} == ports("deploy/compose/nats.conf", r"listen: \S+:(\d+)")
    assert {4317, 4318} == ports("deploy/otel/collector.yaml", r"endpoint: \"0.0.0.0:(\d+)\"")


def exposed(path: str) -> set[int]:
    return {int(step.rest) for stage in dockerfile.parse(ROOT / path) for step in stage.steps if step.verb == "EXPOSE"}


def ports(path: str, pattern: str) -> set[int]:
    return set(map(int, re.findall(pattern, (ROOT / path).read_text())))


def test_a_start_waits_for_what_it_needs() -> None:
    for name in ("edge", "forwarder"):
        assert SERVICES[name]["depends_on"]["provision"]["condition"] == "service_completed_successfully"
    assert SERVICES["provision"]["depends_on"]["nats"]["condition"] == "service_healthy"
    healthy = {
        waited for s in SERVICES.values() if isinstance(s.get("depends_on"), dict)
        for waited, how in s["depends_on"].items() if how["condition"] == "service_healthy"
    }  # fmt: skip
    has_check = {"backend": "deploy/backend/Dockerfile", "simulator": "deploy/Dockerfile"}
    for name in healthy:
        assert "healthcheck" in SERVICES[name] or "HEALTHCHECK" in (ROOT / has_check[name]).read_text(), name
    # `up --wait` fails on one that has the image switched off.
    assert not any("disable" in service.get("healthcheck", {}) for service in SERVICES.values())


def test_the_shape() -> None:
    started = {name for name, service in SERVICES.items() if not service.get("profiles")}
    assert started == {"nats", "provision", "backend", "edge", "forwarder"}
    assert SERVICES["forwarder"]["deploy"]["replicas"] == 2
    for name, service in CONNECTORS.items():
        assert service["command"][0] in ROLES, name
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > 25, "SHUTDOWN_GRACE is 25 s"


def test_edges_of_a_pool_need_no_disk_and_are_several() -> None:
    pool, made_by = SERVICES["pool"], SERVICES["pool-provision"]
    assert "volumes" not in pool and pool["deploy"]["replicas"] == 2
    assert pool["depends_on"]["pool-provision"]["condition"] == "service_completed_successfully"
    for service in (pool, made_by):
        shared = {"WHATSAPP_ACCOUNTS": "*", "SESSION_STORE": "nats", "SESSION_KEY": "${SESSION_KEY:-}", "SESSION_UNSAFE_SYNC": "on"}
        assert shared.items() <= service["environment"].items()
        assert service["profiles"] == ["pool"]
    # Several of them cannot be published under one port.
    assert "ports" not in pool
    assert pool["environment"]["NATS_PROVISION"] == "create"


def test_one_replica_is_allowed_only_because_the_server_syncs() -> None:
    """SESSION_UNSAFE_SYNC=on is somebody's word for it."""
    assert re.search(r"^  sync_interval: always$", (ROOT / "deploy/compose/nats.conf").read_text(), re.MULTILINE)


def test_nobody_has_more_rights_than_needed() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name


def test_what_is_simulated_and_what_is_real_do_not_meet() -> None:
    for name, service in SERVICES.items():
        simulated = "WHATSAPP_SIMULATOR_URL" in service.get("environment", {}) or "simulator" in service["image"]
        assert simulated <= ("simulator" in service.get("profiles", [])), name
        if name.startswith("simulated-"):
            assert service["network_mode"] == "service:simulator", name
    shared = set(SERVICES["simulated-connector"]["volumes"]) & set(SERVICES["edge"]["volumes"])
    assert not shared, "a simulated session in the place of the real one"
