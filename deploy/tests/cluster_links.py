"""Rules of cluster.py about what one object says of another."""

import re
from collections.abc import Iterator
from typing import Any

import settings
from cluster_world import Object, Workload, World, matches
from settings import ROOT

README = ROOT / "deploy/kubernetes/README.md"
ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}


def _name(found: Object) -> str:
    return f"{found['kind']} {found['metadata']['name']}"


def names(world: World) -> Iterator[str]:
    seen = [(found["kind"], found["metadata"]["name"]) for found in world.objects]
    for kind, name in sorted(set(seen)):
        if seen.count((kind, name)) > 1:
            yield f"{kind} {name} is there twice"


def selectors(world: World) -> Iterator[str]:
    for found in world.of("Service", "PodDisruptionBudget", "NetworkPolicy"):
        if not world.chosen(_wanted(found)):
            yield f"{_name(found)} selects no pod"
    for workload in world.workloads:
        if not workload.stays:
            continue
        chosen = [other.name for other in world.chosen(workload.spec["selector"])]
        if chosen != [workload.name]:
            yield f"{_name(workload.object)} selects the pods of {chosen}"
        for spread in workload.pod.get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"], workload.labels):
                yield f"{_name(workload.object)} is spread over {spread['topologyKey']} by labels that its pods do not have"


def apart(world: World) -> Iterator[str]:
    """Two edges of one number are for the death of a node, so they are not on the same one if there is another."""
    edges = [workload for workload in world.workloads if workload.has_session]
    for workload in edges:
        for other in edges:
            if other is not workload and not any(matches(term["labelSelector"], other.labels) for term in _avoided(workload)):
                yield f"{workload.name} and {other.name} may be on one node, and end with it"


def _avoided(workload: Workload) -> list[dict[str, Any]]:
    rules = workload.pod.get("affinity", {}).get("podAntiAffinity", {})
    wished = [rule["podAffinityTerm"] for rule in rules.get("preferredDuringSchedulingIgnoredDuringExecution", [])]
    return [*rules.get("requiredDuringSchedulingIgnoredDuringExecution", []), *wished]


def _wanted(found: Object) -> dict[str, Any]:
    spec = found["spec"]
    if found["kind"] == "Service":
        return {"matchLabels": spec["selector"]}
    return spec["podSelector"] if found["kind"] == "NetworkPolicy" else spec["selector"]


def ports(world: World) -> Iterator[str]:
    for service in world.of("Service"):
        for workload in world.chosen(_wanted(service)):
            for port in service["spec"]["ports"]:
                if port.get("targetPort", port["port"]) not in workload.ports():
                    yield f"{_name(service)} leads to port {port.get('targetPort', port['port'])}, which {workload.name} does not have"
    for policy in world.of("NetworkPolicy"):
        there = set().union(*(workload.ports() for workload in world.chosen(_wanted(policy))))
        for rule in policy["spec"].get("ingress", []):
            for port in rule.get("ports", []):
                if port["port"] not in there:
                    yield f"{_name(policy)} opens port {port['port']}, which none of its pods has"
    for monitor in world.of("ServiceMonitor"):
        services = [
            service for service in world.of("Service") if matches(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        if not services:
            yield f"{_name(monitor)} selects no service"
        for endpoint in monitor["spec"]["endpoints"]:
            for service in services:
                if endpoint["port"] not in [port.get("name") for port in service["spec"]["ports"]]:
                    yield f"{_name(monitor)} scrapes port {endpoint['port']}, which {_name(service)} does not have"


def references(world: World) -> Iterator[str]:
    documented = README.read_text()
    for workload in world.workloads:
        account = workload.pod.get("serviceAccountName", "default")
        if account != "default" and not world.has("ServiceAccount", account):
            yield f"{workload.name}: there is no ServiceAccount {account}"
        for source in workload.container.get("envFrom", []):
            if not world.has("ConfigMap", source["configMapRef"]["name"]):
                yield f"{workload.name}: there is no ConfigMap {source['configMapRef']['name']}"
        for secret, key in _secrets(workload):
            if f"`{secret}`" not in documented or (key and f"`{key}`" not in documented):
                yield f"{workload.name}: nobody is told to make the Secret {secret} with {key or 'its keys'}"
        service = workload.spec.get("serviceName")
        if service and not world.has("Service", service):
            yield f"{workload.name}: there is no Service {service}"
    for found in world.of("Secret"):
        yield f"{_name(found)} is written down"


def _secrets(workload: Workload) -> Iterator[tuple[str, str | None]]:
    for variable in workload.container.get("env", []):
        if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
            yield reference["name"], reference["key"]
    for volume in workload.pod.get("volumes", []):
        if "secret" not in volume:
            continue
        yield volume["secret"]["secretName"], None
        (mount,) = [mount["mountPath"] for mount in workload.container["volumeMounts"] if mount["name"] == volume["name"]]
        for value in workload.environment.values():
            if value.startswith(f"{mount}/"):
                yield volume["secret"]["secretName"], value.removeprefix(f"{mount}/")


def sessions(world: World) -> Iterator[str]:
    """One process on one session, and one that an update can replace."""
    for workload in world.workloads:
        claims = [
            claim["persistentVolumeClaim"]["claimName"] for claim in workload.pod.get("volumes", []) if "persistentVolumeClaim" in claim
        ]
        if workload.kind == "Deployment" and claims and workload.spec.get("strategy", {}).get("type") != "Recreate":
            yield f"{workload.name}: the new pod waits for the volume, and the old one for the new pod: it takes Recreate, or a StatefulSet"
        if not workload.has_session:
            continue
        if workload.spec.get("replicas", 1) != 1:
            yield f"{workload.name}: more than one process on one session"
        if workload.kind != "StatefulSet":
            continue
        if workload.spec.get("podManagementPolicy") != "Parallel":
            yield f"{workload.name}: an update would wait for an edge that is not linked (podManagementPolicy)"
        if workload.spec.get("persistentVolumeClaimRetentionPolicy") != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
            yield f"{workload.name}: the session would be deleted with its StatefulSet"
        for claim in workload.spec.get("volumeClaimTemplates", []):
            if not set(claim["spec"]["accessModes"]) <= ONE_NODE:
                yield f"{workload.name}: its volume can be mounted by several nodes at once"
    for job in world.of("Job"):
        if "ttlSecondsAfterFinished" not in job["spec"] and "helm.sh/hook" not in job["metadata"].get("annotations", {}):
            yield f"{_name(job)} stays when it has ended, and no job can be changed: the next apply is refused"


def budgets(world: World) -> Iterator[str]:
    for budget in world.of("PodDisruptionBudget"):
        spec = budget["spec"]
        for workload in world.chosen(_wanted(budget)):
            least = _least(world, workload)
            needed = _count(spec.get("minAvailable", 0), least)
            if needed >= least or spec.get("maxUnavailable") in (0, "0%"):
                yield f"{_name(budget)} lets no pod of {workload.name} go ({least} there): its node can never be drained"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{_name(budget)} keeps pods that are not ready: while the assistant is away, no node can be drained"


def _count(number: int | str, of: int) -> int:
    if isinstance(number, str):
        return -(-int(number.removesuffix("%")) * of // 100)
    return number


def _least(world: World, workload: Workload) -> int:
    for scaler in world.of("ScaledObject", "HorizontalPodAutoscaler"):
        if scaler["spec"]["scaleTargetRef"]["name"] == workload.name:
            return _bounds(scaler)[0]
    return workload.spec.get("replicas", 1)


def _bounds(scaler: Object) -> tuple[int, int]:
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
    return spec.get("minReplicas", 1), spec["maxReplicas"]


def scaling(world: World) -> Iterator[str]:
    for scaler in world.of("ScaledObject", "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        kind = target.get("kind", "Deployment")
        found = [workload for workload in world.workloads if (workload.kind, workload.name) == (kind, target["name"])]
        if not found:
            yield f"{_name(scaler)} scales {kind} {target['name']}, which is not there"
        for workload in found:
            if workload.has_session:
                yield f"{_name(scaler)} scales {workload.name}, which has a session"
            if "replicas" in workload.spec:
                yield f"{workload.name}: each apply undoes the number of {_name(scaler)}"
        least, most = _bounds(scaler)
        if not 1 <= least <= most:
            yield f"{_name(scaler)} has bounds of {least} and {most}: with none, the first message waits for a start"
        fallback = scaler["spec"].get("fallback", {}).get("replicas", least)
        if not least <= fallback <= most:
            yield f"{_name(scaler)} falls back to {fallback}, outside of its bounds"
        of_a_pool = [workload for workload in found if workload.is_of_a_pool]
        yield from _room(scaler, of_a_pool[0]) if of_a_pool else _in_flight(scaler)
    targets = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in world.of("ScaledObject", "HorizontalPodAutoscaler")]
    for target in sorted({target for target in targets if targets.count(target) > 1}):
        yield f"{target} has two autoscalers"


def _in_flight(scaler: Object) -> Iterator[str]:
    """What waits is not all of the work. If it alone counts, busy forwarders are taken away as soon as nothing waits."""
    if scaler["kind"] == "ScaledObject":
        # KEDA's scaler adds num_pending and num_ack_pending of the one consumer that it finds under these names.
        for trigger in scaler["spec"]["triggers"]:
            given = trigger["metadata"]
            if trigger["type"] != "nats-jetstream" or given.get("consumer") != "forwarder" or not given.get("stream", "").endswith("_IN"):
                yield f"{_name(scaler)} does not count what the consumer `forwarder` has and what it waits for"
        return
    counted = {
        metric["external"]["metric"]["name"]
        for metric in scaler["spec"]["metrics"]
        if metric.get("external", {}).get("metric", {}).get("selector", {}).get("matchLabels") == {"consumer": "forwarder"}
    }
    for metric in sorted({"wa_consumer_lag", "wa_consumer_ack_pending"} - counted):
        yield f"{_name(scaler)} does not look at {metric} of the consumer `forwarder`"


def _room(scaler: Object, workload: Workload) -> Iterator[str]:
    """An edge of a pool takes no more than its capacity. Who waits for more than that waits for ever."""
    capacity = int(workload.environment.get("EDGE_CAPACITY", settings.defaults()["EDGE_CAPACITY"]))
    for metric in scaler["spec"].get("metrics", []):
        given = metric.get("pods", {})
        if given.get("metric") != {"name": "wa_pool_accounts", "selector": {"matchLabels": {"state": "held"}}}:
            continue
        if int(given["target"]["averageValue"]) >= capacity:
            yield f"{_name(scaler)} never adds an edge: each takes {capacity} accounts at most (EDGE_CAPACITY)"
        return
    yield f"{_name(scaler)} does not look at how many accounts each edge has: wa_pool_accounts with state=held"


def pools(world: World) -> Iterator[str]:
    """Edges that share many accounts: each can go, because there is another one that takes what it had."""
    there = [workload for workload in world.workloads if workload.is_of_a_pool]
    for workload in world.workloads:
        values = workload.environment
        if values.get("WHATSAPP_ACCOUNTS") and values.get("SESSION_STORE") != "nats":
            yield f"{workload.name}: WHATSAPP_ACCOUNTS is refused without SESSION_STORE=nats"
        if values.get("SESSION_STORE") == "nats" and not {"SESSION_KEY", "SESSION_KEY_FILE"} & values.keys():
            yield f"{workload.name}: SESSION_STORE=nats is refused without SESSION_KEY"
        if there and workload.command == "provision" and not values.get("WHATSAPP_ACCOUNTS"):
            yield f"{workload.name}: it makes nothing for a pool without WHATSAPP_ACCOUNTS, and there is one"
    for workload in there:
        if workload.spec.get("volumeClaimTemplates") or any("persistentVolumeClaim" in volume for volume in workload.pod.get("volumes", [])):
            yield f"{workload.name}: a volume that stays, for sessions that are on the bus"
        if _least(world, workload) < 2:
            yield f"{workload.name}: one edge alone, and nobody takes its accounts over"
        if workload.spec.get("strategy", {}).get("type") == "Recreate":
            yield f"{workload.name}: an update ends all edges at once, and nobody takes their accounts over"
        spread = [rule["topologyKey"] for rule in workload.pod.get("topologySpreadConstraints", [])]
        if "kubernetes.io/hostname" not in spread:
            yield f"{workload.name}: all edges may be on one node, and end with it"


def connections(world: World) -> Iterator[str]:
    """If a policy stands before a pod's connections, it lets through those that its settings name."""
    for workload in world.workloads:
        policies = [policy for policy in world.of("NetworkPolicy") if workload in world.chosen(_wanted(policy))]
        if not any("Egress" in policy["spec"]["policyTypes"] for policy in policies):
            continue
        rules = [rule for policy in policies for rule in policy["spec"].get("egress", [])]
        for variable, value in sorted(workload.environment.items()):
            for namespace, port in re.findall(r"\.([a-z0-9-]+)\.svc(?:\.cluster\.local)?:(\d+)", value):
                if not _lets(rules, namespace, int(port)):
                    yield f"{workload.name}: no policy lets it to port {port} of {namespace} ({variable})"
        if not _lets(rules, "kube-system", 53):
            yield f"{workload.name}: no policy lets it ask for names"
        to_whatsapp = any("ipBlock" in peer for rule in rules for peer in rule.get("to", []))
        if workload.talks_to_whatsapp != to_whatsapp:
            yield f"{workload.name}: " + ("no policy lets it to WhatsApp" if workload.talks_to_whatsapp else "it may reach the internet")


def _lets(rules: list[dict[str, Any]], namespace: str, port: int) -> bool:
    for rule in rules:
        spaces = {
            peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name") for peer in rule.get("to", [])
        }
        if namespace in spaces and port in [allowed["port"] for allowed in rule["ports"]]:
            return True
    return False


RULES = (names, selectors, apart, ports, references, sessions, budgets, scaling, pools, connections)
