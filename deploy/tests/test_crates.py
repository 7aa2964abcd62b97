"""The check of crates in `make lint` says no where it should."""

import importlib.util

import pytest

from settings import ROOT

spec = importlib.util.spec_from_file_location("check_crates", ROOT / "deploy/tools/check-crates.py")
crates = importlib.util.module_from_spec(spec)
spec.loader.exec_module(crates)

RULES = {
    "licenses": {"allow": ["MIT", "ISC"]},
    "bans": {
        "deny": [{"crate": "openssl"}],
        "skip": [{"crate": "rand@0.9"}],
    },
}


def package(name: str, version: str = "1.0.0", licence: str | None = "MIT", source: str | None = crates.CRATES_IO) -> dict:
    return {"name": name, "version": version, "license": licence, "source": source}


FINE = [package("rand", "0.9.5"), package("rand", "0.10.1")]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ([], None),
        ([package("a", licence="GPL-3.0-only")], "GPL-3.0-only"),
        ([package("a", licence=None)], "None"),
        ([package("openssl")], "banned"),
        ([package("a", source="git+https://example.org/a")], "example.org"),
        ([package("a", "1.0.0"), package("a", "2.0.0")], "1.0.0, 2.0.0"),
        ([package("rand", "0.8.1")], "0.10.1, 0.8.1"),
    ],
)
def test_what_is_found(more: list[dict], said: str | None) -> None:
    found = crates.problems(RULES, FINE + more)
    assert (found == []) if said is None else (len(found) == 1 and said in found[0]), found


def test_a_skip_that_nobody_needs_is_found() -> None:
    assert len(crates.problems(RULES, [package("a")])) == 1


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        ("MIT", True), ("MIT OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False), ("Apache-2.0/MIT", True),
        ("(GPL-3.0-only OR ISC) AND MIT", True), ("(GPL-3.0-only OR BSD-2-Clause) AND MIT", False),
        ("ISC WITH some-exception", False), ("GPL-3.0-only OR MIT AND ISC", True),
    ],
)  # fmt: skip
def test_licences(expression: str, fits: bool) -> None:
    assert crates.fits(expression, set(RULES["licenses"]["allow"])) is fits
