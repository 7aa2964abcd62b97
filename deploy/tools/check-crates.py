#!/usr/bin/env python3
"""deny.toml's licences, bans, duplicates and sources, on what `cargo metadata` says of a production build. As
cargo-deny does it, for those who do not have it; advisories need cargo-deny and its database."""

import json
import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = "whatsapp-connector"
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def main() -> int:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    found = problems(rules, production(metadata()))
    for problem in found:
        print(f"crates: {problem}", file=sys.stderr)
    return 1 if found else 0


def metadata() -> dict[str, Any]:
    command = ["cargo", "metadata", "--format-version=1", "--locked", "--manifest-path", str(ROOT / "Cargo.toml")]
    return json.loads(subprocess.check_output([*command, "--filter-platform", "x86_64-unknown-linux-gnu"]))


def production(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The packages that the product is built from, its tests' left out."""
    packages = {package["id"]: package for package in data["packages"]}
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    todo = [id for id, package in packages.items() if package["name"] == PRODUCT]
    seen: set[str] = set()
    while todo:
        if (id := todo.pop()) not in seen:
            seen.add(id)
            for dependency in nodes[id]["deps"]:
                if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"]):
                    todo.append(dependency["pkg"])
    return [packages[id] for id in sorted(seen)]


def problems(rules: dict[str, Any], packages: list[dict[str, Any]]) -> list[str]:
    found = []
    allowed = set(rules["licenses"]["allow"])
    banned = {ban["crate"] for ban in rules["bans"]["deny"]}
    versions: dict[str, list[str]] = defaultdict(list)
    for package in packages:
        name, licence = package["name"], package["license"]
        versions[name].append(package["version"])
        if not licence or not fits(licence, allowed):
            found.append(f"{name} {package['version']} has the licence {licence}, which deny.toml does not allow")
        if name in banned:
            found.append(f"{name} is banned by deny.toml")
        if package["source"] not in (None, CRATES_IO):
            found.append(f"{name} comes from {package['source']}")
    return found + duplicates(versions, [entry["crate"] for entry in rules["bans"]["skip"]])


def duplicates(versions: dict[str, list[str]], skip: list[str]) -> list[str]:
    found = []
    used = set()
    for name, all_of_it in versions.items():
        left = []
        for version in all_of_it:
            entry = next((s for s in skip if s.split("@")[0] == name and matches(s.split("@")[1], version)), None)
            used.add(entry)
            if entry is None:
                left.append(version)
        if len(left) > 1:
            found.append(f"{name} is there in the versions {', '.join(sorted(left))}")
        if len(all_of_it) == 1 and len(left) == 0:
            found.append(f"{name} is there once; deny.toml need not skip it")
    gone = sorted(set(skip) - used)
    return found + [f"{entry} is not there any more; deny.toml need not skip it" for entry in gone]


def matches(wanted: str, version: str) -> bool:
    return version == wanted or version.startswith(wanted + ".")


def fits(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be satisfied. `/` is an old way to write OR."""
    tokens = re.findall(r"[()]|[^\s()]+(?:\s+WITH\s+[^\s()]+)?", re.sub(r"\s*/\s*", " OR ", expression))
    value = alternatives(tokens, allowed)
    if tokens:
        raise ValueError(f"not understood: {expression}")
    return value


def alternatives(tokens: list[str], allowed: set[str]) -> bool:
    value = conjunction(tokens, allowed)
    while tokens and tokens[0] == "OR":
        tokens.pop(0)
        value = conjunction(tokens, allowed) or value
    return value


def conjunction(tokens: list[str], allowed: set[str]) -> bool:
    value = single(tokens, allowed)
    while tokens and tokens[0] == "AND":
        tokens.pop(0)
        value = single(tokens, allowed) and value
    return value


def single(tokens: list[str], allowed: set[str]) -> bool:
    token = tokens.pop(0)
    if token != "(":
        return token in allowed
    value = alternatives(tokens, allowed)
    tokens.pop(0)
    return value


if __name__ == "__main__":
    sys.exit(main())
