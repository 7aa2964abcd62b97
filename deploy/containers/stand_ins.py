"""Images that stand for those which our Dockerfiles and compose.yaml name, where no registry can be reached: made of
Debian's packages, this machine's Rust, and what .tools/ has.

Each is kept under `compose-check/…` for the next run, and has the real name only while a check runs. An image that is
there under the real name is the real one: it is used, and never touched."""

import hashlib
import io
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import debian
import distroless
from engine import CACHE, ROOT, docker, inspect, say
from debian import Missing

LABEL = "whatsapp-connector.stand-in"
KEPT = "compose-check/"
SUITE = "bookworm"
# What the images `rust:*-slim` and `python:*-slim` have of Debian's.
PACKAGES = ["ca-certificates", "gcc", "libc6-dev", "python3"]
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

# As the image `nats:alpine` has it.
NATS_ENTRYPOINT = """\
#!/bin/sh
set -e
if [ "${1#-}" != "$1" ]; then set -- nats-server "$@"; fi
exec "$@"
"""
NATS_CONFIG = "/etc/nats/nats-server.conf"


@dataclass
class Content:
    """Of an image: directories and files by their place in it, and what it says of itself."""

    trees: list[tuple[Path, str]] = field(default_factory=list)
    files: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)


def fingerprint(full: bool) -> str:
    """What a stand-in is made of; one of another making is made anew."""
    digest = hashlib.sha256(rustc("-vV").encode() + (b"" if full else quick(ROOT / "Cargo.toml").encode()))
    for source in (Path(__file__), Path(debian.__file__), Path(distroless.__file__)):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def rustc(argument: str, *more: str) -> str:
    return subprocess.check_output(["rustc", argument, *more], text=True).strip()


def content(image: str, full: bool) -> Content | None:
    """None of an image for which there is nothing to stand."""
    if image.startswith("rust:"):
        return rust(image, full)
    if image.startswith("python:"):
        return python()
    if image.startswith("debian:"):
        return Content(trees=[(bootstrapped(), "")])
    if image.startswith("nats:"):
        return nats()
    if image.startswith("gcr.io/distroless/static-"):
        return Content(trees=[(static(), "")], changes=["USER 65532", "WORKDIR /home/nonroot", "ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"])
    return None


def bootstrapped() -> Path:
    root = CACHE / f"debian-{SUITE}"
    if not (root / "complete").exists():
        say(f"debootstrap {SUITE} with {', '.join(PACKAGES)}")
        debian.debootstrap(SUITE, PACKAGES, root, CACHE)
        for name in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / name, ignore_errors=True)
        # Whom this machine trusts: the registries may be reached by a mirror that has an authority of its own.
        if AUTHORITIES.exists():
            shutil.copyfile(AUTHORITIES, root / str(AUTHORITIES)[1:])
        (root / "complete").touch()
    return root


def rust(image: str, full: bool) -> Content:
    wanted, have = image.removeprefix("rust:").split("-")[0], rustc("--version").split()[1]
    if not have.startswith(wanted):
        say(f"{image} is this machine's Rust {have}")
    sysroot = Path(rustc("--print", "sysroot"))
    made = Content(
        trees=[(bootstrapped(), ""), *((sysroot / name, f"usr/local/rust/{name}") for name in ("bin", "lib", "libexec"))],
        changes=["ENV PATH=/usr/local/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ENV CARGO_HOME=/usr/local/cargo"],
    )
    if not full:
        made.files["usr/local/cargo/config.toml"] = (quick(ROOT / "Cargo.toml").encode(), 0o644)
    return made


def quick(manifest: Path) -> str:
    """Of a check the containers matter, not how fast the program in them is: nothing is optimized, whatever the release
    profile says of the whole and of single packages."""
    release = tomllib.loads(manifest.read_text())["profile"]["release"]
    lines = ["[profile.release]", 'lto = "off"', "opt-level = 0", "codegen-units = 16", 'strip = "none"']
    for package in release["package"]:
        lines += [f'[profile.release.package."{package}"]', "opt-level = 0"]
    return "\n".join(lines) + "\n"


def python() -> Content:
    """With the pip that .tools/ has; Debian's would refuse to install anything beside its own packages."""
    (packages,) = (ROOT / ".tools/venv/lib").glob("python3*/site-packages")
    starter = b"#!/usr/bin/python3\nfrom pip._internal.cli.main import main\nraise SystemExit(main())\n"
    return Content(
        trees=[(bootstrapped(), ""), (packages / "pip", "usr/local/lib/python3.11/dist-packages/pip")],
        files={"usr/local/bin/pip": (starter, 0o755)},
        changes=[f"ENV PIP_CERT={AUTHORITIES} PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1", 'CMD ["python3"]'],
    )


def nats() -> Content:
    """As the official one: an entrypoint for a shell, a default configuration, root unless somebody says otherwise."""
    root = CACHE / "busybox"
    if not (root / "bin/busybox").exists() and not (root / "usr/bin/busybox").exists():
        debian.unpack(["busybox-static"], SUITE, root, CACHE)
    busybox = next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.exists())
    applets = subprocess.check_output([busybox, "--list"], text=True).split()
    server = (ROOT / ".tools/bin/nats-server").resolve()
    return Content(
        files={
            "bin/busybox": (busybox.read_bytes(), 0o755),
            "usr/local/bin/nats-server": (server.read_bytes(), 0o755),
            "usr/local/bin/docker-entrypoint.sh": (NATS_ENTRYPOINT.encode(), 0o755),
            NATS_CONFIG[1:]: (b"http: 8222\n", 0o644),
            "etc/passwd": (b"root:x:0:0:root:/root:/bin/sh\n", 0o644),
            "etc/group": (b"root:x:0:\n", 0o644),
        },
        links={f"bin/{applet}": "busybox" for applet in applets if applet != "busybox"},
        changes=[
            "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "EXPOSE 4222 8222 6222",
            'ENTRYPOINT ["docker-entrypoint.sh"]',
            f'CMD ["nats-server", "--config", "{NATS_CONFIG}"]',
        ],
    )


def static() -> Path:
    root = CACHE / "distroless-static"
    if not (root / "etc/ssl/certs/ca-certificates.crt").exists():
        shutil.rmtree(root, ignore_errors=True)
        distroless.static(root)
    return root


def make(image: str, made: Content, mark: str) -> None:
    """Streams it into the engine; nothing is written twice."""
    changes = [word for change in (*made.changes, f"LABEL {LABEL}={mark}") for word in ("--change", change)]
    importing = subprocess.Popen(["docker", "import", *changes, "-", KEPT + image], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert importing.stdin
    with importing.stdin, tarfile.open(fileobj=importing.stdin, mode="w|") as tar:
        for tree, place in made.trees:
            tar.add(tree, place or ".")
        if not any(place == "" for _, place in made.trees):
            for directory, mode in (("tmp", 0o1777), ("root", 0o700)):
                tar.addfile(entry(directory, tarfile.DIRTYPE, mode))
        for place, (data, mode) in made.files.items():
            tar.addfile(entry(place, tarfile.REGTYPE, mode, len(data)), io.BytesIO(data))
        for place, target in made.links.items():
            tar.addfile(entry(place, tarfile.SYMTYPE, 0o777, target=target))
    if importing.wait():
        raise Missing(f"`docker import` of {image} ended with {importing.returncode}")


def entry(place: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(place)
    made.type, made.mode, made.size, made.linkname = kind, mode, size, target
    return made


def marked(image: str) -> str | None:
    """The label of a stand-in; empty of an image without one; None where there is no such image."""
    found = inspect("image", image)
    return None if found is None else (found["Config"].get("Labels") or {}).get(LABEL, "")


@contextmanager
def standing(images: Iterable[str], full: bool) -> Iterator[set[str]]:
    """While it lasts, every one of `images` is there; gives those for which there is nothing to stand."""
    mark, tagged, absent = fingerprint(full), [], set()
    try:
        for image in images:
            if marked(image) == "":
                say(f"{image} is there")
                continue
            if marked(KEPT + image) != mark:
                if (made := content(image, full)) is None:
                    absent.add(image)
                    continue
                say(f"making a stand-in for {image}")
                docker("rmi", KEPT + image, check=False)
                make(image, made, mark)
            docker("tag", KEPT + image, image)
            tagged.append(image)
        yield absent
    finally:
        for image in tagged:
            docker("rmi", "--no-prune", image, check=False)
