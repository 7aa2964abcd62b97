"""deploy/kubernetes, as far as it can be judged without a cluster: against Kubernetes' own schemas, by the rules of
cluster.py, and against the rest of the repository."""

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

import cluster
import kustomize
from settings import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
BUILT = {name: kustomize.build(KUBERNETES / "overlays" / name) for name in OVERLAYS}
VERSIONS = ["1.31", "1.34"]
CUSTOM = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
ACCOUNTS = (ROOT / "deploy/nats/accounts.conf").read_text()

everywhere = pytest.mark.parametrize("overlay", OVERLAYS)


def of(overlay: str, *kinds: str) -> list[kustomize.Resource]:
    return [resource for resource in BUILT[overlay] if resource["kind"] in kinds]


def workloads(overlay: str) -> list[kustomize.Resource]:
    return of(overlay, "StatefulSet", "Deployment", "Job")


def pods(overlay: str) -> list[tuple[str, dict[str, Any]]]:
    return [(w["metadata"]["name"], w["spec"]["template"]["spec"]) for w in workloads(overlay)]


def environment(overlay: str, container: dict[str, Any]) -> dict[str, str]:
    maps = {resource["metadata"]["name"]: resource["data"] for resource in of(overlay, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= maps[source["configMapRef"]["name"]]
    return found | {variable["name"]: variable.get("value", "(secret)") for variable in container["env"]}


def test_there_is_an_overlay_for_every_shape() -> None:
    assert OVERLAYS == ["one-process", "pool", "split", "split-with-standby"]
    shapes = {name: sorted(w["metadata"]["name"] for w in workloads(name)) for name in OVERLAYS}
    assert shapes["one-process"] == ["connector"]
    assert shapes["pool"] == ["forwarder", "pool", "provision"]
    assert shapes["split"] == ["edge", "forwarder", "provision"]
    assert shapes["split-with-standby"] == ["edge", "edge-standby", "forwarder", "provision"]


@everywhere
@pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl")
def test_kubectl_builds_the_same(overlay: str) -> None:
    command = ["kubectl", "kustomize", KUBERNETES / "overlays" / overlay]
    built = list(yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    key = lambda resource: (resource["kind"], resource["metadata"]["name"])  # noqa: E731
    assert sorted(built, key=key) == sorted(BUILT[overlay], key=key)


@everywhere
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_would_take_it(overlay: str, version: str) -> None:
    checked = 0
    for resource in [*BUILT[overlay], *kustomize.build(KUBERNETES / "scaling/hpa")]:
        if resource["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(resource, version, strict=True)
            checked += 1
    assert checked > 8


def test_what_kubernetes_would_not_take_is_seen() -> None:
    (edge,) = (w for w in kustomize.build(KUBERNETES / "edge") if w["kind"] == "StatefulSet")
    edge["spec"]["template"]["spec"]["terminationGracePeriod"] = 5
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(edge, VERSIONS[0], strict=True)


@everywhere
@pytest.mark.parametrize("scaling", ["keda", "hpa"])
def test_a_cluster_would_do_right_with_it(overlay: str, scaling: str) -> None:
    """What the rules are, and that each of them sees its mistake, is in test_cluster.py."""
    objects = BUILT[overlay]
    if scaling == "hpa" and of(overlay, "ScaledObject"):
        objects = [found for found in objects if found["kind"] != "ScaledObject"] + kustomize.build(KUBERNETES / "scaling/hpa")
    assert cluster.faults(objects) == []


@everywhere
def test_whoever_talks_to_whatsapp_does_so_alone(overlay: str) -> None:
    for stateful in of(overlay, "StatefulSet"):
        assert stateful["spec"]["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    for deployment in of(overlay, "Deployment"):
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if container["args"] == ["edge"]:
            # Any number of them: the session is on the bus, which lets one at a time write it.
            assert environment(overlay, container).items() >= {"SESSION_STORE": "nats", "WHATSAPP_ACCOUNTS": "*"}.items()
        else:
            assert container["args"] == ["forwarder"]


def test_an_edge_of_a_pool_has_no_disk_and_time_to_give_its_accounts_back() -> None:
    (pool,) = (found for found in of("pool", "Deployment") if found["metadata"]["name"] == "pool")
    pod = pool["spec"]["template"]["spec"]
    assert all({"secret", "emptyDir"} & volume.keys() for volume in pod["volumes"])
    assert not of("pool", "PersistentVolumeClaim", "StatefulSet")
    grace = environment("pool", pod["containers"][0])["SHUTDOWN_GRACE"]
    assert pod["terminationGracePeriodSeconds"] > int(grace.removesuffix("s")) >= 60
    (scaler,) = (found for found in of("pool", "HorizontalPodAutoscaler"))
    (metric,) = (given["pods"]["metric"] for given in scaler["spec"]["metrics"])
    assert f"`{metric['name']}`" in (ROOT / "docs/operations.md").read_text()


@everywhere
def test_users_and_inboxes_are_those_of_the_accounts(overlay: str) -> None:
    for name, pod in pods(overlay):
        values = environment(overlay, pod["containers"][0])
        if values["NATS_USER"] == "connector":
            continue  # README.md: both sides in one have a user of their own
        assert f"user: {values['NATS_USER']}\n" in ACCOUNTS, name
        assert f'"{values["NATS_INBOX_PREFIX"]}.>"' in ACCOUNTS, name
        (secret,) = (volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "nats")
        assert secret == f"whatsapp-nats-{values['NATS_USER']}"


# What a custom resource takes, from its documentation: Kubernetes has no schema of it.
MONITOR = {"spec": {"selector", "endpoints"}, "endpoint": {"port", "path", "interval", "scrapeTimeout"}}
SCALED = {"scaleTargetRef", "pollingInterval", "cooldownPeriod", "minReplicaCount", "maxReplicaCount", "fallback", "triggers"}
TRIGGER = {"natsServerMonitoringEndpoint", "account", "stream", "consumer", "lagThreshold"}


def test_custom_resources_have_what_they_take() -> None:
    (monitor,) = of("split", "ServiceMonitor")
    assert set(monitor["spec"]) == MONITOR["spec"]
    assert set(monitor["spec"]["endpoints"][0]) == MONITOR["endpoint"]
    (scaled,) = of("split", "ScaledObject")
    assert set(scaled["spec"]) <= SCALED
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "nats-jetstream" and set(trigger["metadata"]) == TRIGGER
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes strings"


def test_both_autoscalers_look_at_the_forwarders_consumer() -> None:
    subjects = (ROOT / "src/wire/subject.rs").read_text()
    (scaled,) = of("split", "ScaledObject")
    metadata = scaled["spec"]["triggers"][0]["metadata"]
    assert metadata["account"] in ACCOUNTS and metadata["stream"] == "WA_IN"
    assert f'"{metadata["consumer"]}"' in subjects
    (hpa,) = kustomize.build(KUBERNETES / "scaling/hpa")
    for metric in (given["external"]["metric"] for given in hpa["spec"]["metrics"]):
        assert metric["selector"]["matchLabels"]["consumer"] == metadata["consumer"]
        assert f"`{metric['name']}`" in (ROOT / "docs/operations.md").read_text()
    bounds = [hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]]
    assert bounds == [scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]]


def test_a_pool_of_kustomizations_is_valid_by_itself() -> None:
    for path in KUBERNETES.rglob("kustomization.yaml"):
        text = yaml.safe_load(path.read_text())
        assert text["kind"] == "Kustomization" and text["resources"], path
        for resource in text["resources"]:
            assert (path.parent / resource).exists(), f"{path}: {resource}"
