"""As much of kustomize as deploy/kubernetes uses; anything else in a kustomization is refused. What comes out is
compared with kubectl's own wherever there is a kubectl."""

import copy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "namespace", "nameSuffix", "labels", "patches"}
CLUSTER_WIDE = {"Namespace"}


def build(directory: Path) -> list[Resource]:
    text = yaml.safe_load((directory / "kustomization.yaml").read_text())
    if unknown := set(text) - KNOWN:
        raise ValueError(f"{directory}: {unknown} is not known here")
    resources: list[Resource] = []
    for name in text["resources"]:
        path = (directory / name).resolve()
        resources += build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    resources = copy.deepcopy(resources)
    if suffix := text.get("nameSuffix"):
        _rename(resources, suffix)
    for labels in text.get("labels", []):
        assert labels.keys() <= {"pairs", "includeSelectors", "includeTemplates"}, labels
        for resource in resources:
            _label(resource, labels["pairs"], labels.get("includeSelectors", False))
    for patch in text.get("patches", []):
        _patch(resources, patch)
    if namespace := text.get("namespace"):
        for resource in resources:
            if resource["kind"] == "Namespace":
                resource["metadata"]["name"] = namespace
            else:
                resource["metadata"]["namespace"] = namespace
    return resources


def _rename(resources: list[Resource], suffix: str) -> None:
    services = {resource["metadata"]["name"] for resource in resources if resource["kind"] == "Service"}
    for resource in resources:
        resource["metadata"]["name"] += suffix
        if resource["spec"].get("serviceName") in services:
            resource["spec"]["serviceName"] += suffix


def _label(resource: Resource, pairs: dict[str, str], selectors: bool) -> None:
    resource["metadata"].setdefault("labels", {}).update(pairs)
    spec = resource["spec"]
    if not selectors:
        return
    if resource["kind"] == "Service":
        spec["selector"].update(pairs)
    else:
        spec["selector"]["matchLabels"].update(pairs)
        spec["template"]["metadata"]["labels"].update(pairs)
        for claim in spec.get("volumeClaimTemplates", []):
            claim["metadata"].setdefault("labels", {}).update(pairs)


def _patch(resources: list[Resource], patch: dict[str, Any]) -> None:
    """Of JSON patches only what adds to the end of a list, in the one object that is named."""
    assert patch.keys() == {"target", "patch"} and patch["target"].keys() == {"kind", "name"}, patch
    wanted = (patch["target"]["kind"], patch["target"]["name"])
    (resource,) = [found for found in resources if (found["kind"], found["metadata"]["name"]) == wanted]
    for step in yaml.safe_load(patch["patch"]):
        *way, end = step["path"].removeprefix("/").split("/")
        assert step.keys() == {"op", "path", "value"} and (step["op"], end) == ("add", "-"), step
        place: Any = resource
        for part in way:
            place = place[int(part) if isinstance(place, list) else part]
        place.append(step["value"])
