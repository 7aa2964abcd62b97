"""The objects of one installation as the rules of cluster.py see them, and what they are measured by: the image, the
program, the documentation."""

import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import settings
from settings import ROOT

Object = dict[str, Any]
SECRET = "(secret)"
"""Stands for the value of a variable that comes from a Secret."""

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Workload:
    """Something that makes pods, with what its pods are."""

    object: Object
    environment: dict[str, str]
    """Of its one container: what the image sets, then what the manifest sets."""

    @property
    def kind(self) -> str:
        return self.object["kind"]

    @property
    def name(self) -> str:
        return self.object["metadata"]["name"]

    @property
    def spec(self) -> dict[str, Any]:
        return self.object["spec"]

    @property
    def labels(self) -> dict[str, str]:
        return self.spec["template"]["metadata"].get("labels", {})

    @property
    def pod(self) -> dict[str, Any]:
        return self.spec["template"]["spec"]

    @property
    def container(self) -> dict[str, Any]:
        (container,) = self.pod["containers"]
        return container

    @property
    def command(self) -> str:
        return self.container.get("args", ["run"])[0]

    @property
    def stays(self) -> bool:
        """Does it run until it is told to stop?"""
        return self.kind != "Job"

    @property
    def talks_to_whatsapp(self) -> bool:
        return self.command in ("edge", "run")

    @property
    def is_of_a_pool(self) -> bool:
        """Any number of them share sessions that are on the bus, and have none of their own."""
        values = self.environment
        return self.talks_to_whatsapp and bool(values.get("WHATSAPP_ACCOUNTS")) and values.get("SESSION_STORE") == "nats"

    @property
    def has_session(self) -> bool:
        """One of its own, which no other process may have."""
        return self.talks_to_whatsapp and not self.is_of_a_pool

    def ports(self) -> set[str | int]:
        ports = self.container.get("ports", [])
        return {port["containerPort"] for port in ports} | {port["name"] for port in ports if "name" in port}


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """A LabelSelector, as far as it is used here: an unknown operator is refused."""
    if unknown := set(selector) - {"matchLabels", "matchExpressions"}:
        raise ValueError(f"{unknown} is no part of a selector that is known here")
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for wanted in selector.get("matchExpressions", []):
        if wanted["operator"] != "In":
            raise ValueError(f"the operator {wanted['operator']} is not known here")
        if labels.get(wanted["key"]) not in wanted["values"]:
            return False
    return True


@dataclass(frozen=True)
class World:
    """All objects of one installation."""

    objects: list[Object]

    def of(self, *kinds: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] in kinds]

    def has(self, kind: str, name: str) -> bool:
        return any(found["metadata"]["name"] == name for found in self.of(kind))

    @cached_property
    def workloads(self) -> list[Workload]:
        kinds = ("Deployment", "StatefulSet", "Job")
        return [Workload(found, self._environment(found["spec"]["template"]["spec"]["containers"][0])) for found in self.of(*kinds)]

    def chosen(self, selector: dict[str, Any]) -> list[Workload]:
        return [workload for workload in self.workloads if matches(selector, workload.labels)]

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        maps = {found["metadata"]["name"]: found.get("data", {}) for found in self.of("ConfigMap")}
        found = image().environment.copy()
        for source in container.get("envFrom", []):
            found |= maps.get(source.get("configMapRef", {}).get("name"), {})
        return found | {variable["name"]: variable.get("value", SECRET) for variable in container.get("env", [])}


@dataclass(frozen=True)
class Image:
    user: int
    group: int
    environment: dict[str, str]


@cache
def image() -> Image:
    """What the last stage of the Dockerfile says."""
    stage = (ROOT / "deploy/Dockerfile").read_text().split("\nFROM ")[-1]
    user, group = re.search(r"^USER (\d+):(\d+)$", stage, re.MULTILINE).groups()
    variables = re.search(r"^ENV (.*)$", stage, re.MULTILINE)[1]
    return Image(int(user), int(group), dict(pair.split("=", 1) for pair in variables.split()))


@cache
def served() -> frozenset[str]:
    """The paths that the program answers."""
    return frozenset(re.findall(r'\.route\("(/[^"]*)"', (ROOT / "src/admin/mod.rs").read_text()))


@cache
def commands() -> frozenset[str]:
    """What the program may be told to do."""
    listed = (ROOT / "tests/snapshots/help.snap").read_text().split("\nCommands:\n")[1].split("\n\n")[0]
    return frozenset(line.split()[0] for line in listed.splitlines())


def seconds(duration: str) -> int | None:
    """A duration in seconds, if it is one number with one unit."""
    found = re.fullmatch(r"(\d+)([smhd])", duration)
    return int(found[1]) * UNITS[found[2]] if found else None


def default_grace() -> int:
    return seconds(settings.defaults()["SHUTDOWN_GRACE"]) or 0
