"""What `make compose-check` judges by, as far as it needs no engine."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

import compose_check
import judgement
import project
import stand_ins
import talk
from settings import ROOT


# ---------------------------------------------------------------- messages


def sent(*texts: str) -> list[dict[str, Any]]:
    return [{"text": text} for text in texts]


def inbox(*texts: str) -> list[dict[str, Any]]:
    return [{"text": f"eco: {text}", "place": place} for place, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("came", "fault", "whose"),
    [
        (["a", "b", "c"], None, []),
        (["a", "c"], "lost", ["b"]),
        (["a", "b", "c", "a"], "doubled", ["a"]),
        (["b", "a", "c"], "disordered", ["b", "a"]),
        (["a", "b", "c", "x"], "strange", ["x"]),
        ([], "lost", ["a", "b", "c"]),
    ],
)
def test_one_answer_to_each_message_in_order(came: list[str], fault: str | None, whose: list[str]) -> None:
    found = judgement.verdict(sent("a", "b", "c"), inbox(*came))
    assert {name: values for name, values in found.items() if values} == ({fault: whose} if fault else {})


def test_the_place_in_the_chat_counts_and_not_the_order_of_reading() -> None:
    late = [{"text": "eco: b", "place": 2}, {"text": "eco: a", "place": 1}]
    assert not any(judgement.verdict(sent("a", "b"), late).values())


def test_what_was_not_answered_waits() -> None:
    assert judgement.unanswered(sent("a", "b"), inbox("a")) == ["b"]


# ---------------------------------------------------------------- containers


GOOD: dict[str, Any] = {
    "Config": {"User": "65532:65532"},
    "HostConfig": {
        "ReadonlyRootfs": True, "CapDrop": ["ALL"], "CapAdd": None, "SecurityOpt": ["no-new-privileges:true"], "Privileged": False,
        "PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "name", "value", "fault"),
    [
        ("Config", "User", "", "runs as root"),
        ("Config", "User", "0:0", "runs as 0"),
        ("HostConfig", "ReadonlyRootfs", False, "may write to its image"),
        ("HostConfig", "CapDrop", None, "keeps capabilities"),
        ("HostConfig", "CapAdd", ["CHOWN"], "keeps capabilities"),
        ("HostConfig", "SecurityOpt", None, "may gain privileges"),
        ("HostConfig", "Privileged", True, "is privileged"),
        ("HostConfig", "PortBindings", {"1/tcp": [{"HostIp": "0.0.0.0"}]}, "is published to everybody"),
    ],
)
def test_the_rights_of_a_container(part: str, name: str, value: object, fault: str) -> None:
    assert judgement.rights_faults(GOOD) == []
    assert judgement.rights_faults(GOOD | {part: GOOD[part] | {name: value}}) == [fault]


STATUS = "Name:\tx\nUid:\t65532\t65532\t65532\t65532\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\t0\nCapAmb:\t0\nNoNewPrivs:\t1\n"


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [("65532\n", "0\n", "is root's"), ("CapBnd:\t0", "CapBnd:\t00000000a80425fb", "has capabilities"), ("Privs:\t1", "Privs:\t0", "may gain privileges")],
)
def test_the_rights_of_a_process(good: str, bad: str, fault: str) -> None:
    assert judgement.process_faults(STATUS) == []
    assert judgement.process_faults(STATUS.replace(good, bad, 1)) == [fault]


def image(*entries: tuple[str, bytes | None, int, int]) -> io.BytesIO:
    """Name, content (None: a directory), mode, owner."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content, mode, owner in entries:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.size = mode, owner, len(content or b"")
            entry.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            tar.addfile(entry, io.BytesIO(content or b""))
    made.seek(0)
    return made


OURS = ("usr/bin/ours", b"\x7fELF...", 0o755, 0)
VOLUME = ("volume", None, 0o700, 65532)
SCRIPT = ("usr/bin/script", b"#!/bin/sh", 0o755, 0)


@pytest.mark.parametrize(
    ("more", "faults"),
    [
        ([OURS, VOLUME, SCRIPT], []),
        ([OURS, VOLUME, ("bin/sh", b"\x7fELF", 0o755, 0)], ["its programs are /bin/sh, /usr/bin/ours"]),
        ([OURS, VOLUME, ("bin/su", b"#!", 0o4755, 0)], ["/bin/su changes its user"]),
        ([OURS, ("volume", None, 0o755, 65532)], ["/volume is not the user's alone"]),
        ([OURS, ("volume", None, 0o700, 0)], ["/volume is not the user's alone"]),
        ([OURS], ["/volume is not the user's alone"]),
    ],
)
def test_the_files_of_an_image(more: list[tuple[str, bytes | None, int, int]], faults: list[str]) -> None:
    found, size = judgement.image_faults(image(*more), {"/usr/bin/ours"}, ["/volume"])
    assert found == faults
    assert size == sum(len(content or b"") for _, content, _, _ in more)


# ---------------------------------------------------------------- logs


def test_a_log_is_json() -> None:
    entry = '{"timestamp":"2026-11-27T00:00:00Z","level":"INFO","message":"stopping"}'
    assert judgement.log_faults(f"{entry}\n\n{entry}\n") == []
    for bad in ("thread 'main' panicked", '{"level":"INFO"}', "[1]", "  INFO stopping"):
        assert judgement.log_faults(f"{entry}\n{bad}\n") == [bad]


def test_a_secret_in_a_log_is_found() -> None:
    assert judgement.told("a\nto 5491155550000\nb", ["5491155550000"]) == ["to 5491155550000"]
    assert judgement.told("to …0000", ["5491155550000"]) == []


def test_what_customers_write_can_be_told_from_everything_else() -> None:
    assert talk.ENTRY and all(len(customer) > 10 for customer in talk.CUSTOMERS)
    assert judgement.PREFIX == "eco: "


# ---------------------------------------------------------------- documentation


def test_the_commands_of_a_page() -> None:
    page = "\n".join([
        "```console", "$ docker compose up --wait", "$ docker compose logs -f edge      # the code", "$ make demo", "```",
        "| try | `docker compose --profile simulator up --wait`, then `docker compose down` |",
        "#     docker compose --profile traces up      and a collector", "# docker compose is not a command here",
        "`docker compose run --rm operator status`, `… tap`", "`docker stop` is a word", "`docker compose …`",
    ])  # fmt: skip
    assert judgement.documented(page) == [
        "docker compose up --wait", "docker compose logs -f edge", "docker compose --profile simulator up --wait",
        "docker compose down", "docker compose --profile traces up", "docker compose run --rm operator status",
    ]  # fmt: skip


def test_the_pages_have_commands() -> None:
    found = {path.relative_to(ROOT).as_posix(): judgement.documented(path.read_text()) for path in judgement.pages(ROOT)}
    assert len(found["docs/operations.md"]) > 15
    for page in ("compose.yaml", "deploy/Dockerfile", "deploy/backend/Dockerfile"):
        assert found[page], page


def test_every_documented_command_is_in_a_step() -> None:
    """The check itself fails as well, if the step is not taken; that is seen only where there is an engine."""
    steps = "".join((ROOT / "deploy/containers" / name).read_text() for name in ("as_documented.py", "apart.py"))
    written = {command for path in judgement.pages(ROOT) for command in judgement.documented(path.read_text())}
    assert compose_check.NOT_RUN < written
    assert [command for command in sorted(written - compose_check.NOT_RUN) if f'"{command}"' not in steps] == []


# ---------------------------------------------------------------- images and the project


def test_every_base_image_has_somebody_to_stand_for_it_or_is_known_to_have_none() -> None:
    bases = compose_check.bases()
    assert len(bases) == 6
    nobody = {base for base in bases if not base.startswith(("rust:", "python:", "nats:", "gcr.io/distroless/static-"))}
    assert nobody == {"otel/opentelemetry-collector:0.140.0", "jaegertracing/jaeger:2.12.0"}
    assert all(stand_ins.content(base, full=False) is None for base in nobody)


def test_the_checks_own_words_come_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "free", lambda port: port != 8080)
    made = project.Project("check", tmp_path)
    words = made.words("docker compose --profile simulator up --wait")
    assert words[:2] == ["docker", "compose"] and words[-4:] == ["--profile", "simulator", "up", "--wait"]
    assert words[words.index("-p") + 1] == "check" and str(ROOT / "compose.yaml") in words
    assert made.words("docker build -t x .") == ["docker", "build", "-t", "x", "."]
    # A port is taken, so all are others, in the place of those of the file.
    text = (tmp_path / "check.yaml").read_text()
    assert text.count("!override") == 3 and ":8080" in text and 8080 not in made.ports.values()


def test_images_are_the_checks_own_and_whatsapp_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "free", lambda port: True)
    made = project.Project("check", tmp_path)
    services = yaml.safe_load((tmp_path / "check.yaml").read_text())["services"]
    ours = {name for name, service in made.services().items() if service["image"].startswith("whatsapp-connector")}
    assert {name for name, service in services.items() if service["image"].startswith("check/")} == ours
    assert services["edge"]["extra_hosts"] == services["pool"]["extra_hosts"] == ["web.whatsapp.com:127.0.0.1"]
    assert made.ports == project.PUBLISHED and "ports" not in services["edge"]
