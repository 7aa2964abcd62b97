"""deploy/helm, rendered by Helm's own code without a cluster, and compared with the overlays of deploy/kubernetes."""

import copy
import tomllib
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

import cluster
import kustomize
import settings
from cluster_world import Object, World
from settings import ROOT

CHART = ROOT / "deploy/helm"
KUBERNETES = ROOT / "deploy/kubernetes"
MODES = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
OLDEST = "1.31"
CUSTOM = {"monitoring.coreos.com/v1", "keda.sh/v1alpha1"}
PLAIN = {"provision": {"hook": False}}

Values = dict[str, Any]


def render(values: Values, namespace: str = "whatsapp") -> list[Object]:
    with helm.Chart.load(CHART) as chart:
        files = chart.render(values, name="numbers", namespace=namespace)
    objects = (found for name, text in sorted(files.items()) if name.endswith(".yaml") for found in yaml.safe_load_all(text))
    return [found for found in objects if found]


def with_values(values: Values, more: Values) -> Values:
    """Both, as Helm merges two files."""
    merged = copy.deepcopy(values)
    for key, value in more.items():
        merged[key] = with_values(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged


def overlay(mode: str, scaling: str = "keda") -> list[Object]:
    built = kustomize.build(KUBERNETES / "overlays" / mode)
    if scaling != "keda":
        built = [found for found in built if found["kind"] != "ScaledObject"]
    if scaling == "hpa" and mode != "one-process":
        (autoscaler,) = kustomize.build(KUBERNETES / "scaling/hpa")
        autoscaler["metadata"]["namespace"] = "whatsapp"
        built.append(autoscaler)
    return built


def alike(objects: list[Object]) -> dict[tuple[str, str], Object]:
    """The objects by kind and name, without that in which a chart has to differ from an overlay."""
    found: dict[tuple[str, str], Object] = {}
    for thing in copy.deepcopy(objects):
        kind, metadata = thing["kind"], thing["metadata"]
        if kind == "Namespace":
            continue  # Helm keeps its own record in the namespace, so that has to be there before the chart.
        # Helm knows by these what is its own.
        for label in ("helm.sh/chart", "app.kubernetes.io/managed-by"):
            metadata.get("labels", {}).pop(label, None)
        if not metadata.get("labels"):
            metadata.pop("labels", None)
        if kind == "Job":
            # No job can be changed. One that would be different gets another name.
            metadata["name"] = metadata["name"].split("-")[0]
        if pod := thing.get("spec", {}).get("template"):
            # Pods are replaced when a ConfigMap changes. After a `kubectl apply` a person does that.
            annotations = pod["metadata"].get("annotations", {})
            annotations.pop("checksum/settings", None)
            if not annotations:
                pod["metadata"].pop("annotations", None)
            for container in pod["spec"]["containers"]:
                # A chart has maps, which are ordered by name. No variable refers to another one.
                container.get("env", []).sort(key=lambda variable: variable["name"])
        found[kind, metadata["name"]] = thing
    return found


def one(objects: list[Object], kind: str, name: str) -> Object:
    return alike(objects)[kind, name]


# ---------------------------------------------------------------- the shapes


@pytest.mark.parametrize("scaling", ["keda", "hpa"])
@pytest.mark.parametrize("mode", MODES)
def test_the_chart_is_as_the_overlay(mode: str, scaling: str) -> None:
    rendered = alike(render({"mode": mode, "scaling": {"by": scaling}, **PLAIN}))
    built = alike(overlay(mode, scaling))
    assert rendered.keys() == built.keys()
    for key, thing in built.items():
        assert rendered[key] == thing, key


def test_the_values_as_they_are_give_the_overlay_split() -> None:
    rendered, built = alike(render({})), alike(overlay("split"))
    assert rendered.keys() == built.keys()
    del rendered["Job", "provision"], built["Job", "provision"]  # as a hook it differs: see below
    assert rendered == built


def test_as_a_hook_provision_comes_before_what_it_would_refer_to() -> None:
    hook = one(render({}), "Job", "provision")
    assert hook["metadata"].pop("annotations") == {
        "helm.sh/hook": "pre-install,pre-upgrade",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }
    job = one(render(PLAIN), "Job", "provision")
    # There is no account and no ConfigMap yet. It has the same variables all the same.
    config = one(render({}), "ConfigMap", "whatsapp-connector")["data"]
    assert job["spec"]["template"]["spec"].pop("serviceAccountName") == "whatsapp-connector"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container.pop("envFrom") == [{"configMapRef": {"name": "whatsapp-connector"}}]
    container["env"] = sorted(
        [*container["env"], *({"name": name, "value": value} for name, value in config.items())],
        key=lambda variable: variable["name"],
    )
    assert hook == job


STAYING = ["edge", "forwarder", "connector", "pool"]
SHAPES: dict[str, Values] = {
    "as it is": {},
    "hpa": {"scaling": {"by": "hpa", "min": 3, "max": 30, "messages": 1000000}},
    "a number of forwarders": {"scaling": {"by": "none", "replicas": 3}},
    "plain": PLAIN,
    "nack": {"provision": {"enabled": False}},
    "no monitoring": {"monitoring": {"enabled": False}, "network": {"prometheus": {"namespace": ""}}},
    "no policies": {"network": {"policies": False}},
    "no collector": {"settings": {"OTEL_EXPORTER_OTLP_ENDPOINT": None}, "network": {"collector": {"namespace": ""}}},
    "no tls": {"nats": {"settings": {"NATS_CA": None, "NATS_CERT": None, "NATS_KEY": None}}},
    "long calls": {"forwarder": {"settings": {"SHUTDOWN_GRACE": "3m", "BACKEND_TIMEOUT": "150s"}}},
    "a grace for all": {"settings": {"SHUTDOWN_GRACE": "2m"}, **{side: {"settings": {"SHUTDOWN_GRACE": None}} for side in STAYING}},
    "the grace that there is": {side: {"settings": {"SHUTDOWN_GRACE": None}} for side in STAYING},
    "no login": {
        "nats": {"settings": dict.fromkeys(["NATS_PASSWORD_FILE", "NATS_CA", "NATS_CERT", "NATS_KEY"])},
        **{side: {"natsSecret": "", "settings": {"NATS_USER": None}} for side in [*STAYING, "provision"]},
    },
    "a token": {"edge": {"secrets": {"HTTP_TOKEN": {"name": "whatsapp-assistant", "key": "api-key"}}}},
    "elsewhere": {
        "image": {
            "repository": "registry.example/connector",
            "digest": f"sha256:{'0' * 64}",
            "pullSecrets": ["pull"],
            "pullPolicy": "Always",
        },
        **{side: {"nodeSelector": {"disk": side}, "tolerations": [{"key": side}]} for side in [*STAYING, "provision"]},
        "monitoring": {"labels": {"release": "prometheus"}},
    },
    "other volumes": {
        side: {"storage": {"size": "5Gi", "className": "fast", "accessMode": "ReadWriteOnce"}, "podAnnotations": {"a": "b"}}
        for side in ("edge", "connector")
    },
    "several assistants": {"assistant": {"routesSecret": "whatsapp-routes"}},
    "annotated": {side: {"podAnnotations": {"a": "b"}} for side in ("forwarder", "pool")},
    "a number of edges": {"pool": {"scaling": {"by": "none", "replicas": 3}}},
    "a larger pool": {
        "pool": {
            "accounts": "shop, bar",
            "settings": {"EDGE_CAPACITY": "200"},
            "scaling": {"min": 3, "max": 10, "accounts": 199},
            "sessionKeySecret": "whatsapp-session-key",
        }
    },
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_cluster_would_take_it_and_do_right_with_it(mode: str, shape: str) -> None:
    objects = render({"mode": mode, **SHAPES[shape]}, namespace="elsewhere")
    assert cluster.faults(objects) == []
    for found in objects:
        assert found["metadata"]["namespace"] == "elsewhere"
        # What newer versions take is looked at with the overlays, which are the same.
        if found["apiVersion"] not in CUSTOM:
            kubernetes_validate.validate(found, OLDEST, strict=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_helm_finds_nothing_wrong(shape: str) -> None:
    found = helm.lint(CHART, SHAPES[shape], strict=True)
    assert not found["errors"]
    # A chart may have a picture. This one has none.
    assert [message["error"] for message in found["messages"]] == ["icon is recommended"]


def test_what_a_shape_is_for() -> None:
    def workload(values: Values, name: str) -> Any:
        (found,) = [workload for workload in World(render(values)).workloads if workload.name == name]
        return found

    assert workload(SHAPES["a number of forwarders"], "forwarder").spec["replicas"] == 3
    assert "replicas" not in workload(SHAPES["hpa"], "forwarder").spec
    assert workload(SHAPES["a grace for all"], "edge").pod["terminationGracePeriodSeconds"] == 135
    assert workload(SHAPES["the grace that there is"], "edge").pod["terminationGracePeriodSeconds"] == 40
    assert "volumes" not in workload(SHAPES["no login"], "provision").pod
    assert workload(SHAPES["long calls"], "forwarder").pod["terminationGracePeriodSeconds"] == 195
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in workload(SHAPES["no collector"], "edge").environment
    assert "NATS_KEY" not in workload(SHAPES["no tls"], "edge").environment
    assert workload(SHAPES["a token"], "edge").environment["HTTP_TOKEN"] == "(secret)"
    for values, name, other in (({}, "forwarder", "edge"), ({"mode": "one-process"}, "connector", None)):
        routed = workload(SHAPES["several assistants"] | values, name)
        assert routed.environment["ROUTES_FILE"] == "/etc/routes/routes.toml"
        (volume,) = [volume for volume in routed.pod["volumes"] if volume["name"] == "routes"]
        assert volume["secret"]["secretName"] == "whatsapp-routes"
        assert {"name": "routes", "mountPath": "/etc/routes", "readOnly": True} in routed.container["volumeMounts"]
        assert "ROUTES_FILE" not in workload(values, name).environment
        if other:
            assert "ROUTES_FILE" not in workload(SHAPES["several assistants"], other).environment
    kinds = {found["kind"] for found in render(SHAPES["nack"] | SHAPES["no monitoring"] | SHAPES["no policies"])}
    assert not kinds & {"Job", "ServiceMonitor", "NetworkPolicy"}
    (autoscaler,) = [found for found in render(SHAPES["hpa"]) if found["kind"] == "HorizontalPodAutoscaler"]
    assert {metric["external"]["target"]["averageValue"] for metric in autoscaler["spec"]["metrics"]} == {"1000000"}


@pytest.mark.parametrize("mode", MODES)
def test_pods_go_where_and_are_made_of_what_the_values_say(mode: str) -> None:
    for workload in World(render({"mode": mode, **SHAPES["elsewhere"]})).workloads:
        side = workload.name.removesuffix("-standby")
        assert workload.container["image"] == f"registry.example/connector@sha256:{'0' * 64}"
        assert workload.container["imagePullPolicy"] == "Always"
        assert workload.pod["imagePullSecrets"] == [{"name": "pull"}]
        assert workload.pod["nodeSelector"] == {"disk": side}
        assert workload.pod["tolerations"] == [{"key": side}]
    for found in render({"mode": mode, **SHAPES["other volumes"]}):
        if found["kind"] == "StatefulSet":
            (claim,) = found["spec"]["volumeClaimTemplates"]
            assert claim["spec"] == {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": "fast",
                "resources": {"requests": {"storage": "5Gi"}},
            }
            assert found["spec"]["template"]["metadata"]["annotations"]["a"] == "b"


def test_what_helm_and_others_find_things_by() -> None:
    for mode in MODES:
        for found in render({"mode": mode}):
            labels = found["metadata"]["labels"]
            assert labels["helm.sh/chart"].startswith("whatsapp-connector-"), found["kind"]
            assert labels["app.kubernetes.io/managed-by"] == "Helm", found["kind"]
    assert one(render(SHAPES["elsewhere"]), "ServiceMonitor", "whatsapp-connector")["metadata"]["labels"]["release"] == "prometheus"
    annotated = one(render(SHAPES["annotated"]), "Deployment", "forwarder")
    assert annotated["spec"]["template"]["metadata"]["annotations"] == {"a": "b"}


def test_a_changed_setting_replaces_the_pods_that_have_it_and_no_others() -> None:
    def templates(values: Values) -> dict[str, Any]:
        return {workload.name: workload.spec["template"] for workload in World(render(values)).workloads if workload.stays}

    for values, replaced in (
        ({"settings": {"LOG_PII": "full"}}, {"edge", "forwarder"}),
        ({"assistant": {"settings": {"BACKEND_TIMEOUT": "60s"}}}, {"forwarder"}),
        ({"edge": {"settings": {"PRESENCE": "available"}}}, {"edge"}),
        ({"pool": {"accounts": "shop"}}, set()),
        ({"mode": "pool", "pool": {"accounts": "shop"}}, {"pool"}),
        ({"scaling": {"max": 30}}, set()),
    ):
        before, after = templates({"mode": values["mode"]} if "mode" in values else {}), templates(values)
        assert {name for name in before if before[name] != after[name]} == replaced, values


def test_a_job_that_would_change_gets_another_name() -> None:
    def name(values: Values) -> str:
        (job,) = [found for found in render(with_values(PLAIN, values)) if found["kind"] == "Job"]
        return job["metadata"]["name"]

    changed = [{"image": {"tag": "0.2.0"}}, {"settings": {"NATS_REPLICAS": "1"}}, {"provision": {"natsSecret": "x"}}]
    assert len({name({}), *map(name, changed)}) == 4
    pools = [{"mode": "pool"}, {"mode": "pool", "pool": {"accounts": "shop"}}, {"mode": "pool", "pool": {"sessionKeySecret": "x"}}]
    assert len({name({}), *map(name, pools)}) == 4
    assert name({}) == name({"edge": {"settings": {"PRESENCE": "available"}}}), "nothing of the job has changed"


def test_a_text_stays_a_text() -> None:
    texts = {
        f"T{place}": text
        for place, text in enumerate(["on", "true", "3", "1e3", "0755", "12:30", "null", "~", "a: b", 'a"b', "a\nb", "{{x}}"])
    }
    objects = render({"settings": texts, "edge": {"settings": {f"E_{name}": text for name, text in texts.items()}}})
    assert texts.items() <= one(objects, "ConfigMap", "whatsapp-connector")["data"].items()
    variables = one(objects, "StatefulSet", "edge")["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {f"E_{name}": text for name, text in texts.items()}.items() <= {found["name"]: found.get("value") for found in variables}.items()


# ---------------------------------------------------------------- what is refused


# The values, and what of them the error has to name.
REFUSED: dict[str, tuple[Values, str]] = {
    "an unknown key": ({"replicas": 3}, "'replicas'"),
    "an unknown key below": ({"edge": {"storage": {"sise": "1Gi"}}}, "'/edge/storage': additional properties 'sise'"),
    "another mode": ({"mode": "spilt"}, "'/mode': value must be one of"),
    "a number as a setting": ({"settings": {"NATS_REPLICAS": 3}}, "'/settings/NATS_REPLICAS': got number, want string"),
    "a truth as a setting": ({"edge": {"settings": {"NATS_TLS_FIRST": True}}}, "'/edge/settings/NATS_TLS_FIRST': got boolean"),
    "a name that is none": ({"settings": {"NATS-URL": "x"}}, "NATS-URL"),
    "a text as a number": ({"scaling": {"max": "many"}}, "'/scaling/max': got string, want integer"),
    "no forwarder": ({"scaling": {"min": 0}}, "'/scaling/min': minimum"),
    "least above most": ({"scaling": {"min": 30}}, "scaling.min=30 is more than scaling.max=20"),
    "falls back too far": ({"scaling": {"keda": {"fallback": 40}}}, "scaling.keda.fallback=40"),
    "an address as an endpoint": ({"scaling": {"keda": {"monitoring": "http://nats:8222"}}}, "'/scaling/keda/monitoring'"),
    "loopback": ({"settings": {"HTTP_ADDR": "127.0.0.1:8080"}}, "'/settings/HTTP_ADDR'"),
    "no address": ({"settings": {"HTTP_ADDR": None}}, "'HTTP_ADDR'"),
    "an address of one side": ({"edge": {"settings": {"HTTP_ADDR": "0.0.0.0:8080"}}}, "edge.settings.HTTP_ADDR"),
    "a session at the root": ({"edge": {"settings": {"WHATSAPP_AUTH_DIR": "/var/lib/whatsapp"}}}, "'/edge/settings/WHATSAPP_AUTH_DIR'"),
    "a grace in words": ({"forwarder": {"settings": {"SHUTDOWN_GRACE": "1m 30s"}}}, "'/forwarder/settings/SHUTDOWN_GRACE'"),
    "a secret as a setting": ({"forwarder": {"settings": {"API_KEY": "k"}}}, "forwarder.settings.API_KEY is a secret"),
    "a secret for all": ({"settings": {"NATS_PASSWORD": "k"}}, "settings.NATS_PASSWORD is a secret"),
    "a secret without its key": ({"edge": {"secrets": {"HTTP_TOKEN": {"name": "x"}}}}, "'/edge/secrets/HTTP_TOKEN': missing"),
    "a disk of many": ({"edge": {"storage": {"accessMode": "ReadWriteMany"}}}, "'/edge/storage/accessMode'"),
    "no limit": ({"edge": {"resources": {"limits": {"memory": None}}}}, "'/edge/resources/limits': missing property 'memory'"),
    "a pool without a key": ({"mode": "pool", "pool": {"sessionKeySecret": ""}}, "pool.sessionKeySecret is empty"),
    "a pool's key for all": ({"settings": {"SESSION_KEY": "k"}}, "settings.SESSION_KEY is a secret"),
    "two keys of a pool": (
        {"mode": "pool", "pool": {"secrets": {"SESSION_KEY": {"name": "x", "key": "y"}}}},
        "pool.secrets.SESSION_KEY: name its Secret in pool.sessionKeySecret",
    ),
    "a pool with files": ({"mode": "pool", "pool": {"settings": {"SESSION_STORE": "file"}}}, "pool.settings.SESSION_STORE"),
    "a pool of an edge with a volume": ({"edge": {"settings": {"WHATSAPP_ACCOUNTS": "*"}}}, "edge.settings.WHATSAPP_ACCOUNTS"),
    "names that are none": ({"pool": {"accounts": "Shop"}}, "'/pool/accounts'"),
    "a pool of one edge": ({"pool": {"scaling": {"min": 1}}}, "'/pool/scaling/min': minimum"),
    "a pool of one replica": ({"pool": {"scaling": {"replicas": 1}}}, "'/pool/scaling/replicas': minimum"),
    "least edges above most": ({"mode": "pool", "pool": {"scaling": {"min": 30}}}, "pool.scaling.min=30 is more than pool.scaling.max=20"),
    "a pool that never grows": ({"mode": "pool", "pool": {"scaling": {"accounts": 100}}}, "less than EDGE_CAPACITY=100"),
    "a pool that never grows, of few": (
        {"mode": "pool", "pool": {"settings": {"EDGE_CAPACITY": None}}, "settings": {"EDGE_CAPACITY": "50"}},
        "less than EDGE_CAPACITY=50",
    ),
    "a pool by messages": ({"pool": {"scaling": {"by": "keda"}}}, "'/pool/scaling/by'"),
    "no port": ({"network": {"nats": {"port": 70000}}}, "'/network/nats/port'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_value_is_refused_by_its_name(what: str) -> None:
    values, named = REFUSED[what]
    with pytest.raises(helm.HelmError) as refused:
        render(values)
    assert named in str(refused.value)


def test_what_is_not_ours_is_no_reason_to_refuse() -> None:
    edge = one(render({"edge": {"settings": {"http_proxy": "x", "SOMEBODYS_OWN": "y"}}}), "StatefulSet", "edge")
    names = {variable["name"] for variable in edge["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert {"http_proxy", "SOMEBODYS_OWN"} <= names


# ---------------------------------------------------------------- the rest of the repository


def test_the_version_is_the_connectors() -> None:
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    with helm.Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == version
        assert chart.metadata["kubeVersion"] == f">={OLDEST}.0-0"


def test_the_secrets_that_are_refused_as_settings_are_those_there_are() -> None:
    text = (CHART / "templates/_refuse.tpl").read_text()
    # NATS_CREDS is the name of a file.
    for secret in settings.SECRETS - {"NATS_CREDS"}:
        assert f'"{secret}"' in text


def test_the_notes_name_what_there_is() -> None:
    for mode in MODES:
        with helm.Chart.load(CHART) as chart:
            notes = chart.render({"mode": mode}, name="numbers", namespace="here")["whatsapp-connector/templates/NOTES.txt"]
        sets = {found["metadata"]["name"] for found in render({"mode": mode}) if found["kind"] == "StatefulSet"}
        named = {part.split()[0] for part in notes.split("statefulset/")[1:]}
        assert named == sets
        assert ("accounts add" in notes and "whatsapp-session-key" in notes) == (mode == "pool")
        assert "-n here " in notes


def test_the_examples_in_the_docs_are_values_that_it_takes() -> None:
    found = 0
    for path in (CHART / "README.md", ROOT / "docs/operations.md"):
        for block in path.read_text().split("```yaml\n")[1:]:
            render(yaml.safe_load(block.split("```")[0]))
            found += 1
    assert found
