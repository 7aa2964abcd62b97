"""The Dockerfiles. `make image-check` runs deploy/Dockerfile's steps; here is what can be read off it."""

import re
import shlex
from pathlib import PurePosixPath

import pytest

import dockerfile
from settings import ROOT

STAGES = dockerfile.parse(ROOT / "deploy/Dockerfile")
CONNECTOR = STAGES[-1]


def test_what_is_built_by_default_is_the_connector() -> None:
    assert CONNECTOR.name == "connector"


def ancestors(name: str) -> list[dockerfile.Stage]:
    """What a stage is made of, by FROM and by COPY --from."""
    named = {stage.name: stage for stage in STAGES}
    if name not in named:
        return []
    stage = named[name]
    below = [stage.base, *(step.flags["from"] for step in stage.steps if "from" in step.flags)]
    return [stage, *(found for other in below for found in ancestors(other))]


def commands(stages: list[dockerfile.Stage]) -> str:
    return "\n".join(step.rest for stage in stages for step in stage.steps if step.verb == "RUN")


def test_the_simulator_is_not_in_the_connectors_image() -> None:
    assert "simulator" in commands(ancestors("simulator"))
    built = re.findall(r"cargo build[^&]*", commands(ancestors("connector")))
    assert built
    for command in built:
        # What features the build has that these flags ask for: tests/production_build.rs.
        words = set(shlex.split(command.split("$(")[0].replace(chr(34), ""))) - {"cargo", "build"}
        assert words <= {"--release", "--locked", "--target"}, command


def test_a_build_goes_on_from_what_was_compiled_before() -> None:
    text = (ROOT / "deploy/Dockerfile").read_text()
    steps = [step for stage in STAGES for step in stage.steps if "cargo build" in step.rest]
    for directory in ("/usr/local/cargo/registry", "/build/target"):
        # Two that write there at once would spoil it.
        assert len(re.findall(rf"--mount=type=cache,id=whatsapp-connector-\w+,target={directory},sharing=locked", text)) == len(steps)
    for step in steps:
        # A source with an old date would count as compiled.
        assert re.match(r"find src( tests)? -type f -exec touch", step.rest)


def test_every_file_that_is_copied_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for stage in STAGES:
        for step in stage.steps:
            if step.verb == "COPY" and "from" not in step.flags:
                for source in step.words()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert source == "." or f"!{source.split('/')[0]}" in ignored, source


def test_nobody_is_root_and_no_shell_is_needed() -> None:
    for stage in (CONNECTOR, next(s for s in STAGES if s.name == "simulator")):
        assert re.fullmatch(r"gcr\.io/distroless/static-debian\d+:nonroot", stage.base)
        assert stage.last("USER").rest == "65532:65532"
        assert not any(step.verb == "RUN" for step in stage.steps)
        for verb in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
            assert stage.last(verb).exec_form(), f"{verb} needs a shell"
        assert stage.last("HEALTHCHECK").exec_form()[1] == "healthcheck"
        volume = PurePosixPath(stage.environment()["WHATSAPP_AUTH_DIR"]).parent
        # A builder gives the directory that is named another mode; those in it keep theirs.
        made = next(step for step in stage.steps if step.verb == "COPY" and PurePosixPath(step.words()[-1]) == volume.parent)
        assert made.flags["chown"] == "65532:65532" and made.words()[0].endswith("/")
        assert re.search(rf"mkdir -m 0700 [^&]*{made.words()[0]}{volume.name}\b", commands(ancestors(stage.name)))


def test_labels() -> None:
    labels = CONNECTOR.last("LABEL").pairs()
    for name in ("title", "description", "licenses", "version", "revision"):
        assert labels[f"org.opencontainers.image.{name}"]


def test_the_versions_are_those_of_the_repository() -> None:
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.*)"', manifest, re.MULTILINE)[1]
    rust = re.search(r'^rust-version = "(.*)"', manifest, re.MULTILINE)[1]
    text = (ROOT / "deploy/Dockerfile").read_text()
    assert f"ARG VERSION={version}\n" in text
    assert f"FROM rust:{rust}-" in text


def test_the_assistants_image() -> None:
    (stage,) = dockerfile.parse(ROOT / "deploy/backend/Dockerfile")
    assert stage.last("USER").rest == "65532:65532"
    for step in stage.steps:
        if step.verb == "COPY":
            for source in step.words()[:-1]:
                assert (ROOT / "deploy/backend" / source).exists(), source


@pytest.mark.parametrize("text", ["FROM a\nSHELL x", "RUN x", "FROM a\nONBUILD RUN x"])
def test_a_dockerfile_that_is_not_understood_is_refused(text: str, tmp_path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    with pytest.raises(ValueError):
        dockerfile.parse(path)
