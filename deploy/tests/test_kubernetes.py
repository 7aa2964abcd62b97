"""deploy/kubernetes, as far as it can be judged without a cluster: against Kubernetes' own schemas, and against what
the connector needs."""

import re
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml

import kustomize
import settings
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
    assert OVERLAYS == ["one-process", "split", "split-with-standby"]
    shapes = {name: sorted(w["metadata"]["name"] for w in workloads(name)) for name in OVERLAYS}
    assert shapes["one-process"] == ["connector"]
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
def test_names_occur_once(overlay: str) -> None:
    names = [(r["kind"], r["metadata"]["name"]) for r in BUILT[overlay]]
    assert len(names) == len(set(names))


@everywhere
def test_every_variable_is_a_setting_and_no_secret_is_written_down(overlay: str) -> None:
    for name, pod in pods(overlay):
        for container in pod["containers"]:
            values = environment(overlay, container)
            assert not settings.unknown(set(values)), name
            for secret in settings.SECRETS & set(values):
                assert values[secret] == "(secret)", f"{name}: {secret} is written down"
    assert not of(overlay, "Secret")


@everywhere
def test_every_file_that_a_setting_names_is_mounted(overlay: str) -> None:
    for name, pod in pods(overlay):
        (container,) = pod["containers"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        for workload in workloads(overlay):
            if workload["metadata"]["name"] == name:
                volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", [])}
        assert set(mounted.values()) == volumes, name
        for variable, value in environment(overlay, container).items():
            if value.startswith("/"):
                assert any(value.startswith(path + "/") for path in mounted), f"{name}: {variable}={value}"
                if variable == "WHATSAPP_AUTH_DIR":
                    # The root of the volume gets a mode from the cluster that the edge would refuse.
                    assert value not in mounted


@everywhere
def test_references_lead_somewhere(overlay: str) -> None:
    names = {(r["kind"], r["metadata"]["name"]) for r in BUILT[overlay]}
    for name, pod in pods(overlay):
        assert ("ServiceAccount", pod["serviceAccountName"]) in names, name
        for source in pod["containers"][0].get("envFrom", []):
            assert ("ConfigMap", source["configMapRef"]["name"]) in names, name
    for stateful in of(overlay, "StatefulSet"):
        assert ("Service", stateful["spec"]["serviceName"]) in names
    for scaled in of(overlay, "ScaledObject"):
        assert ("Deployment", scaled["spec"]["scaleTargetRef"]["name"]) in names
    labels = [w["spec"]["template"]["metadata"]["labels"] for w in workloads(overlay)]
    for resource in of(overlay, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = resource["spec"]
        selector = spec.get("podSelector") or spec["selector"]
        wanted = selector.get("matchLabels", selector)
        assert any(wanted.items() <= pod.items() for pod in labels), f"{resource['metadata']['name']} selects nobody"


@everywhere
def test_every_workload_selects_its_own_pods_only(overlay: str) -> None:
    for workload in of(overlay, "StatefulSet", "Deployment"):
        wanted = workload["spec"]["selector"]["matchLabels"].items()
        chosen = [w["metadata"]["name"] for w in workloads(overlay) if wanted <= w["spec"]["template"]["metadata"]["labels"].items()]
        assert chosen == [workload["metadata"]["name"]]


@everywhere
def test_whoever_talks_to_whatsapp_does_so_alone(overlay: str) -> None:
    for stateful in of(overlay, "StatefulSet"):
        spec = stateful["spec"]
        assert spec["replicas"] == 1 and spec["podManagementPolicy"] == "Parallel"
        assert spec["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
        assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
        assert spec["template"]["spec"]["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    for deployment in of(overlay, "Deployment"):
        assert deployment["spec"]["template"]["spec"]["containers"][0]["args"] == ["forwarder"]
        assert "replicas" not in deployment["spec"], "the autoscaler's number would be undone at each apply"


@everywhere
def test_the_grace_of_the_pod_is_longer_than_that_of_the_process(overlay: str) -> None:
    for name, pod in pods(overlay):
        values = environment(overlay, pod["containers"][0])
        if grace := values.get("SHUTDOWN_GRACE"):
            assert pod["terminationGracePeriodSeconds"] > int(grace.removesuffix("s")), name
        else:
            assert name == "provision"


@everywhere
def test_probes(overlay: str) -> None:
    """`/livez` depends on nothing outside; who is not linked is not ready, and never dead."""
    for workload in of(overlay, "StatefulSet", "Deployment"):
        (container,) = workload["spec"]["template"]["spec"]["containers"]
        assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "http"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "http"}
        assert "startupProbe" not in container
        (port,) = container["ports"]
        assert environment(overlay, container)["HTTP_ADDR"].endswith(f":{port['containerPort']}")


@everywhere
def test_nobody_has_more_rights_than_needed(overlay: str) -> None:
    (namespace,) = of(overlay, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE)
    for name, pod in pods(overlay):
        assert pod["automountServiceAccountToken"] is False, name
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True and security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert [security["runAsUser"], security["runAsGroup"]] == [int(user[1]), int(user[2])]
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"] and "cpu" not in container["resources"]["limits"]
        assert not pod.get("hostNetwork") and not any("hostPath" in volume for volume in pod["volumes"])


@everywhere
def test_users_and_inboxes_are_those_of_the_accounts(overlay: str) -> None:
    for name, pod in pods(overlay):
        values = environment(overlay, pod["containers"][0])
        if values["NATS_USER"] == "connector":
            continue  # README.md: both sides in one have a user of their own
        assert f"user: {values['NATS_USER']}\n" in ACCOUNTS, name
        assert f'"{values["NATS_INBOX_PREFIX"]}.>"' in ACCOUNTS, name
        (secret,) = (volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume)
        assert secret == f"whatsapp-nats-{values['NATS_USER']}"


@everywhere
def test_ports_of_policies_monitors_and_settings_agree(overlay: str) -> None:
    (shared,) = (m["data"] for m in of(overlay, "ConfigMap") if m["metadata"]["name"] == "whatsapp-connector")
    allowed = {
        (rule.get("to", [{}])[0].get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name"), port["port"])
        for policy in of(overlay, "NetworkPolicy") for rule in policy["spec"].get("egress", []) for port in rule["ports"]
    }  # fmt: skip
    assistant = next(m["data"] for m in of(overlay, "ConfigMap") if m["metadata"]["name"] == "whatsapp-assistant")
    for address in (shared["NATS_URL"], shared["OTEL_EXPORTER_OTLP_ENDPOINT"], assistant["BACKEND_URL"]):
        namespace, port = re.search(r"\.([a-z]+)\.svc\.cluster\.local:(\d+)", address).groups()
        assert (namespace, int(port)) in allowed, address
    (monitor,) = of(overlay, "ServiceMonitor")
    for service in of(overlay, "Service"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


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
    metric = hpa["spec"]["metrics"][0]["external"]["metric"]
    assert metric["selector"]["matchLabels"]["consumer"] == metadata["consumer"]
    assert f"`{metric['name']}`" in (ROOT / "docs/operations.md").read_text()
    bounds = [hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"]]
    assert bounds == [scaled["spec"]["minReplicaCount"], scaled["spec"]["maxReplicaCount"]]


def test_the_secrets_are_named_in_the_readme() -> None:
    readme = (KUBERNETES / "README.md").read_text()
    for overlay in OVERLAYS:
        for name, pod in pods(overlay):
            for variable in pod["containers"][0]["env"]:
                if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                    assert reference["name"] in readme and reference["key"] in readme, name
            for volume in pod["volumes"]:
                assert volume.get("secret", {}).get("secretName", "") in readme, name


def test_a_pool_of_kustomizations_is_valid_by_itself() -> None:
    for path in KUBERNETES.rglob("kustomization.yaml"):
        text = yaml.safe_load(path.read_text())
        assert text["kind"] == "Kustomization" and text["resources"], path
        for resource in text["resources"]:
            assert (path.parent / resource).exists(), f"{path}: {resource}"
