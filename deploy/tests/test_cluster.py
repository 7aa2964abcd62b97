"""Each rule of cluster.py sees the mistake that it is for: one is planted in manifests that have none."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

import cluster
import cluster_links
import cluster_pods
import kustomize
from cluster_world import Object, default_grace, image, matches, seconds, served
from settings import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
WITH_KEDA = kustomize.build(KUBERNETES / "overlays/split-with-standby")
WITH_HPA = [found for found in WITH_KEDA if found["kind"] != "ScaledObject"] + kustomize.build(KUBERNETES / "scaling/hpa")
WITH_A_POOL = kustomize.build(KUBERNETES / "overlays/pool")


class Objects:
    """A copy to make mistakes in."""

    def __init__(self, objects: list[Object]) -> None:
        self.objects = copy.deepcopy(objects)

    def one(self, kind: str, name: str) -> Object:
        (found,) = [found for found in self.objects if (found["kind"], found["metadata"]["name"]) == (kind, name)]
        return found

    def spec(self, kind: str, name: str) -> dict[str, Any]:
        return self.one(kind, name)["spec"]

    @property
    def edge(self) -> dict[str, Any]:
        return self.spec("StatefulSet", "edge")

    @property
    def edge_pod(self) -> dict[str, Any]:
        return self.edge["template"]["spec"]

    @property
    def edge_container(self) -> dict[str, Any]:
        return self.edge_pod["containers"][0]

    @property
    def pool(self) -> dict[str, Any]:
        return self.spec("Deployment", "pool")

    @property
    def pool_pod(self) -> dict[str, Any]:
        return self.pool["template"]["spec"]

    @property
    def pool_container(self) -> dict[str, Any]:
        return self.pool_pod["containers"][0]

    @property
    def pool_metric(self) -> dict[str, Any]:
        return self.spec("HorizontalPodAutoscaler", "pool")["metrics"][0]["pods"]

    @property
    def forwarder(self) -> dict[str, Any]:
        return self.spec("Deployment", "forwarder")

    @property
    def forwarder_pod(self) -> dict[str, Any]:
        return self.forwarder["template"]["spec"]

    def setting(self, name: str, value: str) -> None:
        """Of the edge."""
        variables = self.edge_container["env"]
        self.edge_container["env"] = [found for found in variables if found["name"] != name] + [{"name": name, "value": value}]

    def without(self, kind: str, name: str) -> None:
        self.objects.remove(self.one(kind, name))


def session_on(volume: dict[str, Any]) -> Callable[[Objects], None]:
    def plant(o: Objects) -> None:
        o.edge.pop("volumeClaimTemplates")
        o.edge_pod["volumes"].append({"name": "session", **volume})

    return plant


def disk_of_a_deployment(o: Objects) -> None:
    o.forwarder_pod["volumes"].append({"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}})
    o.forwarder_pod["containers"][0]["volumeMounts"].append({"name": "disk", "mountPath": "/disk"})


def one_replica_and_none_may_go(o: Objects) -> None:
    o.without("ScaledObject", "forwarder")
    o.forwarder["replicas"] = 1
    budget = o.spec("PodDisruptionBudget", "forwarder")
    budget.pop("maxUnavailable")
    budget["minAvailable"] = 1


def disk_of_a_pool(o: Objects) -> None:
    o.pool_pod["volumes"].append({"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}})
    o.pool_container["volumeMounts"].append({"name": "disk", "mountPath": "/disk"})
    o.pool["strategy"] = {"type": "Recreate"}


def one_edge_of_a_pool(o: Objects) -> None:
    o.without("HorizontalPodAutoscaler", "pool")
    o.pool["replicas"] = 1


def provision_of_one_number(o: Objects) -> None:
    o.spec("Job", "provision")["template"]["spec"]["containers"][0]["envFrom"].pop()


def root_only(o: Objects) -> None:
    o.forwarder_pod["securityContext"].pop("fsGroup")


def policy(o: Objects, name: str) -> dict[str, Any]:
    return o.spec("NetworkPolicy", name)


# Where it is, what is done to it, and what is said of it.
MISTAKES: dict[str, tuple[Callable[[Objects], Any], str]] = {
    "two of one name": (lambda o: o.objects.append(copy.deepcopy(o.objects[0])), "is there twice"),
    "service without pods": (lambda o: o.spec("Service", "edge")["selector"].update(x="y"), "Service edge selects no pod"),
    "budget without pods": (
        lambda o: o.spec("PodDisruptionBudget", "forwarder")["selector"]["matchLabels"].update(x="y"),
        "selects no pod",
    ),
    "policy without pods": (lambda o: policy(o, "whatsapp-connector")["podSelector"]["matchLabels"].update(x="y"), "selects no pod"),
    "labels not in the template": (lambda o: o.edge["selector"]["matchLabels"].update(x="y"), "StatefulSet edge selects the pods of []"),
    "somebody else's pods": (
        lambda o: o.edge["selector"]["matchLabels"].pop("app.kubernetes.io/component"),
        "StatefulSet edge selects the pods of ['provision', 'edge', ",
    ),
    "spread by other labels": (
        lambda o: o.forwarder_pod["topologySpreadConstraints"][1]["labelSelector"]["matchLabels"].update(x="y"),
        "is spread over kubernetes.io/hostname by labels",
    ),
    "two edges on a node": (lambda o: o.edge_pod.pop("affinity"), "edge and edge-standby may be on one node"),
    "service to no port": (lambda o: o.spec("Service", "edge")["ports"][0].update(targetPort="web"), "leads to port web"),
    "service to no number": (lambda o: o.spec("Service", "edge")["ports"][0].update(targetPort=8081), "leads to port 8081"),
    "policy for no port": (lambda o: policy(o, "whatsapp-connector")["ingress"][0]["ports"][0].update(port="web"), "opens port web"),
    "monitor without services": (
        lambda o: o.spec("ServiceMonitor", "whatsapp-connector")["selector"]["matchLabels"].update(x="y"),
        "selects no service",
    ),
    "monitor of no port": (lambda o: o.spec("ServiceMonitor", "whatsapp-connector")["endpoints"][0].update(port="web"), "scrapes port web"),
    "no account": (lambda o: o.without("ServiceAccount", "whatsapp-connector"), "there is no ServiceAccount"),
    "no config map": (lambda o: o.without("ConfigMap", "whatsapp-assistant"), "there is no ConfigMap whatsapp-assistant"),
    "no service of the set": (lambda o: o.edge.update(serviceName="edges"), "there is no Service edges"),
    "unknown secret": (lambda o: o.edge_pod["volumes"][0]["secret"].update(secretName="other"), "to make the Secret other"),
    "unknown key of a secret": (lambda o: o.setting("NATS_CA", "/etc/nats/authority.pem"), "with authority.pem"),
    "a secret in the manifests": (lambda o: o.objects.append({"kind": "Secret", "metadata": {"name": "x"}}), "Secret x is written down"),
    "a deployment that waits for its disk": (disk_of_a_deployment, "the new pod waits for the volume"),
    "two on one session": (lambda o: o.edge.update(replicas=2), "more than one process on one session"),
    "an update that waits": (lambda o: o.edge.update(podManagementPolicy="OrderedReady"), "an edge that is not linked"),
    "a session that is deleted": (lambda o: o.edge.pop("persistentVolumeClaimRetentionPolicy"), "would be deleted"),
    "a volume of many": (
        lambda o: o.edge["volumeClaimTemplates"][0]["spec"].update(accessModes=["ReadWriteMany"]),
        "mounted by several nodes",
    ),
    "a job that stays": (lambda o: o.spec("Job", "provision").pop("ttlSecondsAfterFinished"), "no job can be changed"),
    "a budget of all": (one_replica_and_none_may_go, "its node can never be drained"),
    "a budget of none": (lambda o: o.spec("PodDisruptionBudget", "forwarder").update(maxUnavailable=0), "its node can never be drained"),
    "a budget of half of two": (
        lambda o: o.spec("PodDisruptionBudget", "forwarder").update(minAvailable="51%"),
        "its node can never be drained",
    ),
    "a budget for who is not ready": (
        lambda o: o.spec("PodDisruptionBudget", "forwarder").pop("unhealthyPodEvictionPolicy"),
        "while the assistant is away",
    ),
    "scales nobody": (lambda o: o.spec("ScaledObject", "forwarder")["scaleTargetRef"].update(name="other"), "which is not there"),
    "scales a session": (
        lambda o: o.spec("ScaledObject", "forwarder")["scaleTargetRef"].update(kind="StatefulSet", name="edge"),
        "scales edge, which has a session",
    ),
    "a number that is undone": (lambda o: o.forwarder.update(replicas=3), "each apply undoes the number"),
    "none at all": (lambda o: o.spec("ScaledObject", "forwarder").update(minReplicaCount=0), "bounds of 0 and 20"),
    "least above most": (lambda o: o.spec("ScaledObject", "forwarder").update(minReplicaCount=21), "bounds of 21 and 20"),
    "falls back too far": (lambda o: o.spec("ScaledObject", "forwarder")["fallback"].update(replicas=40), "falls back to 40"),
    "another consumer": (
        lambda o: o.spec("ScaledObject", "forwarder")["triggers"][0]["metadata"].update(consumer="archive"),
        "does not count what the consumer `forwarder` has",
    ),
    "two autoscalers": (lambda o: o.objects.extend(kustomize.build(KUBERNETES / "scaling/hpa")), "has two autoscalers"),
    "no way to NATS": (lambda o: policy(o, "whatsapp-connector")["egress"].pop(1), "no policy lets it to port 4222 of nats (NATS_URL)"),
    "no names": (lambda o: policy(o, "whatsapp-connector")["egress"].pop(0), "no policy lets it ask for names"),
    "no way to WhatsApp": (lambda o: o.without("NetworkPolicy", "whatsapp-connector-to-whatsapp"), "no policy lets it to WhatsApp"),
    "the internet for all": (
        lambda o: policy(o, "whatsapp-connector-to-whatsapp").update(podSelector={}),
        "forwarder: it may reach the internet",
    ),
    "no such command": (lambda o: o.edge_container.update(args=["egde"]), "no command `egde`"),
    "no such setting": (lambda o: o.setting("WHATSAPP_AUTHDIR", "x"), "WHATSAPP_AUTHDIR is no setting"),
    "a secret as a value": (lambda o: o.setting("API_KEY", "x"), "API_KEY is a secret, and written down"),
    "a setting twice": (lambda o: o.edge_container["env"].append({"name": "NATS_USER", "value": "x"}), "NATS_USER is there twice"),
    "no bus": (lambda o: o.one("ConfigMap", "whatsapp-connector")["data"].pop("NATS_URL"), "NATS_URL is missing"),
    "loopback": (lambda o: o.setting("HTTP_ADDR", "127.0.0.1:8080"), "where the kubelet's probes do not come"),
    "another port": (lambda o: o.setting("HTTP_ADDR", "0.0.0.0:9090"), "HTTP_ADDR has port 9090"),
    "no liveness": (lambda o: o.edge_container.pop("livenessProbe"), "there is no livenessProbe"),
    "probe of no port": (lambda o: o.edge_container["livenessProbe"]["httpGet"].update(port=80), "asks port 80"),
    "probe of no path": (lambda o: o.edge_container["readinessProbe"]["httpGet"].update(path="/health"), "asks /health"),
    "restarts who is not linked": (lambda o: o.edge_container["livenessProbe"]["httpGet"].update(path="/readyz"), "restarted for ever"),
    "root": (lambda o: o.edge_pod["securityContext"].pop("runAsNonRoot"), "runAsNonRoot is missing"),
    "another user": (lambda o: o.edge_pod["securityContext"].update(runAsUser=1000), "are not the image's"),
    "no seccomp": (lambda o: o.edge_pod["securityContext"].pop("seccompProfile"), "seccomp"),
    "a token": (lambda o: o.edge_pod.pop("automountServiceAccountToken"), "edge: a service account's token"),
    "an account's token": (
        lambda o: o.one("ServiceAccount", "whatsapp-connector").pop("automountServiceAccountToken"),
        "the account gives its token",
    ),
    "capabilities": (lambda o: o.edge_container["securityContext"].pop("capabilities"), "security context is not"),
    "the node's network": (lambda o: o.edge_pod.update(hostNetwork=True), "hostNetwork"),
    "an open namespace": (lambda o: o.one("Namespace", "whatsapp")["metadata"].pop("labels"), "lets more in"),
    "no request": (lambda o: o.edge_container["resources"].pop("requests"), "no memory is requested"),
    "no limit": (lambda o: o.edge_container["resources"].pop("limits"), "its memory has no limit"),
    "a limit of CPU": (lambda o: o.edge_container["resources"]["limits"].update(cpu="1"), "its CPU has a limit"),
    "a volume that is not there": (lambda o: o.edge_pod["volumes"].pop(1), "the volume tmp is mounted, and is not there"),
    "a volume for nobody": (lambda o: o.edge_pod["volumes"].append({"name": "x", "emptyDir": {}}), "the volume x is mounted nowhere"),
    "a secret for root only": (root_only, "only root may read them"),
    "the node's directory": (session_on({"hostPath": {"path": "/srv"}}), "is a directory of the node"),
    "no /tmp": (lambda o: o.edge_container["volumeMounts"].pop(2), "/tmp cannot be written"),
    "a path on no volume": (lambda o: o.setting("NATS_CA", "/etc/ssl/ca.crt"), "NATS_CA=/etc/ssl/ca.crt is on no volume"),
    "a session on no volume": (lambda o: o.setting("WHATSAPP_AUTH_DIR", "/data/session"), "is on no volume that can be written"),
    "a session that is read-only": (
        lambda o: o.edge_container["volumeMounts"][0].update(readOnly=True),
        "is on no volume that can be written",
    ),
    "a session at the root": (lambda o: o.setting("WHATSAPP_AUTH_DIR", "/var/lib/whatsapp"), "is the root of its volume"),
    "a session that is lost": (session_on({"emptyDir": {}}), "is lost with its pod"),
    "a volume of root": (lambda o: o.edge_pod["securityContext"].pop("fsGroup"), "volume belongs to root"),
    "a session opened at each start": (
        lambda o: o.edge_pod["securityContext"].pop("fsGroupChangePolicy"),
        "opens the session to the group",
    ),
    "killed too early": (lambda o: o.edge_pod.update(terminationGracePeriodSeconds=45), "killed after 45 s"),
    "a grace nobody gave": (lambda o: o.edge_pod.pop("terminationGracePeriodSeconds"), "killed after 30 s"),
    "a pause before": (lambda o: o.edge_container.update(lifecycle={"preStop": {"sleep": {"seconds": 20}}}), "may take 65 s"),
    "a grace in words": (lambda o: o.setting("SHUTDOWN_GRACE", "soon"), "is not a number of s, m, h or d"),
}
"""Manifests with KEDA."""

MISTAKES_WITH_HPA: dict[str, tuple[Callable[[Objects], Any], str]] = {
    "what waits is not all": (lambda o: o.spec("HorizontalPodAutoscaler", "forwarder")["metrics"].pop(1), "wa_consumer_ack_pending"),
    "what is in hand is not all": (lambda o: o.spec("HorizontalPodAutoscaler", "forwarder")["metrics"].pop(0), "wa_consumer_lag"),
    "least above most": (lambda o: o.spec("HorizontalPodAutoscaler", "forwarder").update(maxReplicas=1), "bounds of 2 and 1"),
    "scales nobody": (lambda o: o.spec("HorizontalPodAutoscaler", "forwarder")["scaleTargetRef"].update(kind="ReplicaSet"), "not there"),
}

MISTAKES_WITH_A_POOL: dict[str, tuple[Callable[[Objects], Any], str]] = {
    "sessions that are in files": (
        lambda o: o.one("ConfigMap", "whatsapp-pool")["data"].pop("SESSION_STORE"),
        "pool: WHATSAPP_ACCOUNTS is refused without SESSION_STORE=nats",
    ),
    "a session of a deployment without a volume": (
        lambda o: o.one("ConfigMap", "whatsapp-pool")["data"].pop("WHATSAPP_ACCOUNTS"),
        "pool: WHATSAPP_AUTH_DIR=/var/lib/whatsapp/session is on no volume",
    ),
    "no key": (
        lambda o: o.pool_container["env"].remove({"name": "SESSION_KEY_FILE", "value": "/etc/session/session.key"}),
        "pool: SESSION_STORE=nats is refused without SESSION_KEY",
    ),
    "no key for who makes the streams": (
        lambda o: o.spec("Job", "provision")["template"]["spec"]["containers"][0]["env"].pop(),
        "provision: SESSION_STORE=nats is refused without SESSION_KEY",
    ),
    "another key": (lambda o: o.pool_pod["volumes"][1]["secret"].update(secretName="key"), "to make the Secret key with session.key"),
    "a key as a value": (
        lambda o: o.pool_container["env"].append({"name": "SESSION_KEY", "value": "x"}),
        "pool: SESSION_KEY is a secret, and written down",
    ),
    "nothing is made for a pool": (provision_of_one_number, "provision: it makes nothing for a pool"),
    "a volume that nobody needs": (disk_of_a_pool, "pool: a volume that stays"),
    "all of a pool at once": (disk_of_a_pool, "pool: an update ends all edges at once"),
    "one edge of a pool": (one_edge_of_a_pool, "pool: one edge alone"),
    "one edge at night": (lambda o: o.spec("HorizontalPodAutoscaler", "pool").update(minReplicas=1), "pool: one edge alone"),
    "a pool on one node": (lambda o: o.pool_pod["topologySpreadConstraints"].pop(1), "pool: all edges may be on one node"),
    "a pool that is spread by other labels": (
        lambda o: o.pool_pod["topologySpreadConstraints"][1]["labelSelector"]["matchLabels"].update(x="y"),
        "Deployment pool is spread over kubernetes.io/hostname by labels",
    ),
    "a pool that is killed too early": (lambda o: o.pool_pod.update(terminationGracePeriodSeconds=90), "pool: the pod is killed after 90 s"),
    "scaled by messages": (lambda o: o.pool_metric["metric"].update(name="wa_consumer_lag"), "how many accounts each edge has"),
    "scaled by what nobody has": (lambda o: o.pool_metric["metric"]["selector"]["matchLabels"].update(state="free"), "how many accounts each"),
    "scaled by more than an edge takes": (lambda o: o.pool_metric["target"].update(averageValue="100"), "never adds an edge: each takes 100"),
    "a number of edges that is undone": (lambda o: o.pool.update(replicas=3), "pool: each apply undoes the number"),
    "a budget of all edges": (lambda o: o.spec("PodDisruptionBudget", "pool").update(maxUnavailable=0), "lets no pod of pool go"),
    "no way of a pool to WhatsApp": (lambda o: o.without("NetworkPolicy", "whatsapp-connector-to-whatsapp"), "pool: no policy lets it to"),
}

ALL_MISTAKES = [(WITH_KEDA, MISTAKES), (WITH_HPA, MISTAKES_WITH_HPA), (WITH_A_POOL, MISTAKES_WITH_A_POOL)]


@pytest.mark.parametrize("objects", [WITH_KEDA, WITH_HPA, WITH_A_POOL], ids=["keda", "hpa", "pool"])
def test_without_a_mistake_nothing_is_said(objects: list[Object]) -> None:
    assert cluster.faults(objects) == []


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(mistake: str) -> None:
    _is_seen(WITH_KEDA, *MISTAKES[mistake])


@pytest.mark.parametrize("mistake", MISTAKES_WITH_HPA)
def test_a_mistake_is_seen_with_the_hpa(mistake: str) -> None:
    _is_seen(WITH_HPA, *MISTAKES_WITH_HPA[mistake])


@pytest.mark.parametrize("mistake", MISTAKES_WITH_A_POOL)
def test_a_mistake_is_seen_with_a_pool(mistake: str) -> None:
    _is_seen(WITH_A_POOL, *MISTAKES_WITH_A_POOL[mistake])


def _is_seen(objects: list[Object], plant: Callable[[Objects], Any], said: str) -> None:
    planted = Objects(objects)
    plant(planted)
    found = cluster.faults(planted.objects)
    assert any(said in fault for fault in found), found


@pytest.mark.parametrize("rule", [*cluster_links.RULES, *cluster_pods.RULES], ids=lambda rule: rule.__name__)
def test_no_rule_is_idle(rule: Callable[..., Any]) -> None:
    """Each rule says something of some mistake."""
    for objects, mistakes in ALL_MISTAKES:
        for plant, _ in mistakes.values():
            planted = Objects(objects)
            plant(planted)
            if list(rule(cluster.World(planted.objects))):
                return
    raise AssertionError(f"no mistake is planted for {rule.__name__}")


def test_what_it_is_measured_by() -> None:
    assert {"/livez", "/readyz", "/metrics"} <= served()
    assert (image().user, image().group, image().environment["HTTP_ADDR"]) == (65532, 65532, "0.0.0.0:8080")
    assert default_grace() == 25
    assert [seconds(text) for text in ("45s", "2m", "1h", "1d", "500ms", "soon")] == [45, 120, 3600, 86400, None, None]


def test_selectors() -> None:
    one_of = {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}
    assert matches(one_of, {"a": "2"}) and not matches(one_of, {"a": "3"}) and not matches(one_of, {})
    assert matches({}, {"a": "1"})
    with pytest.raises(ValueError, match="Exists"):
        matches({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"a": "1"})
