"""Rules of cluster.py about what a pod says of itself."""

from collections.abc import Iterator
from typing import Any

import settings
from cluster_world import SECRET, Workload, World, commands, default_grace, image, seconds, served

HARDENED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def processes(world: World) -> Iterator[str]:
    for workload in world.workloads:
        name, values = workload.name, workload.environment
        if workload.command not in commands():
            yield f"{name}: the program has no command `{workload.command}`"
        for variable in sorted(settings.unknown(set(values))):
            yield f"{name}: {variable} is no setting"
        for variable in sorted(settings.SECRETS & set(values)):
            if values[variable] != SECRET:
                yield f"{name}: {variable} is a secret, and written down"
        names = [variable["name"] for variable in workload.container.get("env", [])]
        for variable in sorted({variable for variable in names if names.count(variable) > 1}):
            yield f"{name}: {variable} is there twice, and only the last one counts"
        if not values.get("NATS_URL"):
            yield f"{name}: NATS_URL is missing, and the image has no nats-server"


def probes(world: World) -> Iterator[str]:
    for workload in world.workloads:
        if not workload.stays:
            continue
        name, container = workload.name, workload.container
        host, _, port = workload.environment["HTTP_ADDR"].rpartition(":")
        if host.startswith("127.") or host in ("localhost", "[::1]"):
            yield f"{name}: HTTP_ADDR is the pod's own loopback, where the kubelet's probes do not come"
        if int(port) not in workload.ports():
            yield f"{name}: HTTP_ADDR has port {port}, and the container has no such port"
        for kind in ("livenessProbe", "readinessProbe"):
            if kind not in container:
                yield f"{name}: there is no {kind}"
        for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
            get = container.get(kind, {}).get("httpGet")
            if get is None:
                continue
            if get["port"] not in workload.ports():
                yield f"{name}: {kind} asks port {get['port']}, which the container does not have"
            if get["path"] not in served():
                yield f"{name}: {kind} asks {get['path']}, which the program does not serve"
            if get["path"] == "/readyz" and kind != "readinessProbe":
                yield f"{name}: {kind} asks /readyz, so an edge that is not linked is restarted for ever"


def security(world: World) -> Iterator[str]:
    for workload in world.workloads:
        name, pod = workload.name, workload.pod
        security = pod.get("securityContext", {})
        if security.get("runAsNonRoot") is not True:
            yield f"{name}: runAsNonRoot is missing"
        if (security.get("runAsUser"), security.get("runAsGroup")) != (image().user, image().group):
            yield f"{name}: the user and the group are not the image's"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name}: the seccomp profile is not RuntimeDefault"
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name}: a service account's token is mounted, and nothing here needs one"
        if workload.container.get("securityContext") != HARDENED:
            yield f"{name}: the container's security context is not {HARDENED}"
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(key):
                yield f"{name}: {key}"
    for account in world.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"{account['metadata']['name']}: the account gives its token to pods that do not refuse it"
    for namespace in world.of("Namespace"):
        if namespace["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"{namespace['metadata']['name']}: the namespace lets more in than restricted pods"


def resources(world: World) -> Iterator[str]:
    for workload in world.workloads:
        given = workload.container.get("resources", {})
        for key in ("cpu", "memory"):
            if not given.get("requests", {}).get(key):
                yield f"{workload.name}: no {key} is requested, so the scheduler does not know what it takes"
        if not given.get("limits", {}).get("memory"):
            yield f"{workload.name}: its memory has no limit"
        if given.get("limits", {}).get("cpu"):
            yield f"{workload.name}: its CPU has a limit, so it stands still while the node has time"


def volumes(world: World) -> Iterator[str]:
    for workload in world.workloads:
        name, mounts = workload.name, workload.container.get("volumeMounts", [])
        known = _volumes(workload)
        for mount in mounts:
            if mount["name"] not in known:
                yield f"{name}: the volume {mount['name']} is mounted, and is not there"
        for volume in sorted(set(known) - {mount["name"] for mount in mounts}):
            yield f"{name}: the volume {volume} is mounted nowhere"
        for volume, source in known.items():
            mode = source.get("secret", {}).get("defaultMode", 0o644)
            # The files belong to root. With `fsGroup` the kubelet gives them to the group, and lets it read.
            if "secret" in source and not mode & 0o004 and "fsGroup" not in workload.pod.get("securityContext", {}):
                yield f"{name}: the files of the volume {volume} have the mode {mode:04o}, and without fsGroup only root may read them"
            if "hostPath" in source:
                yield f"{name}: the volume {volume} is a directory of the node"
        # An edge's SQLite may need a place for what it sorts.
        if workload.stays and not _writable(workload, "/tmp/x"):
            yield f"{name}: /tmp cannot be written"


def files(world: World) -> Iterator[str]:
    """Every path that a setting names is mounted, and what is written lies where it may be written and stays."""
    for workload in world.workloads:
        name, values = workload.name, dict(workload.environment)
        session = values.pop("WHATSAPP_AUTH_DIR", settings.defaults()["WHATSAPP_AUTH_DIR"])
        for variable, value in values.items():
            if value.startswith("/") and _mount(workload, value) is None:
                yield f"{name}: {variable}={value} is on no volume"
        if workload.has_session:
            yield from _session(workload, session)


def _session(workload: Workload, path: str) -> Iterator[str]:
    name = workload.name
    mount = _mount(workload, path)
    if mount is None or not _writable(workload, path):
        yield f"{name}: WHATSAPP_AUTH_DIR={path} is on no volume that can be written"
        return
    if mount["mountPath"] == path:
        # fsGroup makes the root of a volume 2770, and the edge refuses a directory that others may enter.
        yield f"{name}: WHATSAPP_AUTH_DIR={path} is the root of its volume, which fsGroup opens to the group"
    if "emptyDir" in _volumes(workload)[mount["name"]]:
        yield f"{name}: the session is on an emptyDir, and is lost with its pod"
    security = workload.pod.get("securityContext", {})
    if security.get("fsGroup") != image().group:
        yield f"{name}: without fsGroup={image().group} the session's volume belongs to root"
    if security.get("fsGroupChangePolicy") != "OnRootMismatch":
        yield f"{name}: without fsGroupChangePolicy=OnRootMismatch each mount opens the session to the group, and the edge refuses it"


def _volumes(workload: Workload) -> dict[str, dict[str, Any]]:
    found = {volume["name"]: volume for volume in workload.pod.get("volumes", [])}
    return found | {claim["metadata"]["name"]: claim for claim in workload.spec.get("volumeClaimTemplates", [])}


def _mount(workload: Workload, path: str) -> dict[str, Any] | None:
    """The mount that has the path: the innermost one."""
    mounts = workload.container.get("volumeMounts", [])
    around = [mount for mount in mounts if f"{path}/".startswith(mount["mountPath"].rstrip("/") + "/")]
    return max(around, key=lambda mount: len(mount["mountPath"]), default=None)


def _writable(workload: Workload, path: str) -> bool:
    mount = _mount(workload, path)
    if mount is None or mount.get("readOnly"):
        return False
    source = _volumes(workload).get(mount["name"], {})
    return "secret" not in source and "configMap" not in source


def grace(world: World) -> Iterator[str]:
    for workload in world.workloads:
        if not workload.stays:
            continue
        given = workload.environment.get("SHUTDOWN_GRACE")
        wanted = seconds(given) if given else default_grace()
        if wanted is None:
            yield f"{workload.name}: SHUTDOWN_GRACE={given} is not a number of s, m, h or d"
            continue
        before = workload.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        pod = workload.pod.get("terminationGracePeriodSeconds", 30)
        if pod <= wanted + before:
            yield f"{workload.name}: the pod is killed after {pod} s, and its process may take {wanted + before} s to end"


RULES = (processes, probes, security, resources, volumes, files, grace)
