"""deploy/helm in the mode `pool`, beyond what test_helm.py judges of every mode."""

from typing import Any

from cluster_world import World
from test_helm import PLAIN, SHAPES, Values, one, render


def test_a_hook_of_a_pool_knows_what_it_shares_with_the_edges() -> None:
    """The ConfigMap of a pool is not there yet, either."""
    hook, job = (one(render({"mode": "pool", **more}), "Job", "provision")["spec"]["template"]["spec"] for more in ({}, PLAIN))
    shared = {name: data for found in render({"mode": "pool"}) if found["kind"] == "ConfigMap" for name, data in found["data"].items()}
    (of_hook,), (of_job,) = hook["containers"], job["containers"]
    assert [source["configMapRef"]["name"] for source in of_job["envFrom"]] == ["whatsapp-connector", "whatsapp-pool"]
    assert "envFrom" not in of_hook
    variables = {variable["name"]: variable.get("value") for variable in of_hook["env"]}
    wanted = {"WHATSAPP_ACCOUNTS", "SESSION_STORE", "NATS_URL"}
    assert {name: variables[name] for name in wanted} == {name: shared[name] for name in wanted}
    key = {"name": "SESSION_KEY", "valueFrom": {"secretKeyRef": {"name": "whatsapp-session-key", "key": "session.key"}}}
    assert key in of_hook["env"] and key in of_job["env"]


def test_what_a_pools_shape_is_for() -> None:
    def workload(values: Values) -> Any:
        (found,) = [found for found in World(render({"mode": "pool", **values})).workloads if found.name == "pool"]
        return found

    assert workload({}).is_of_a_pool and "replicas" not in workload({}).spec
    assert workload(SHAPES["a number of edges"]).spec["replicas"] == 3
    assert "HorizontalPodAutoscaler" not in {found["kind"] for found in render({"mode": "pool", **SHAPES["a number of edges"]})}
    assert workload(SHAPES["a larger pool"]).environment["WHATSAPP_ACCOUNTS"] == "shop, bar"
    assert workload(SHAPES["a larger pool"]).environment["EDGE_CAPACITY"] == "200"
    scaler = one(render({"mode": "pool", **SHAPES["a larger pool"]}), "HorizontalPodAutoscaler", "pool")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 10)
    assert scaler["metrics"][0]["pods"]["target"]["averageValue"] == "199"
    assert workload({"pool": {"sessionKeySecret": "other"}}).pod["volumes"][1]["secret"]["secretName"] == "other"
