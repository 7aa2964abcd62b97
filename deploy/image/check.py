#!/usr/bin/env python3
"""Builds deploy/Dockerfile without a container engine, and runs what comes out. `make image-check`.

The steps are run as they stand: the build stages in a clean Debian of `debootstrap`'s, with this machine's Rust
where the image `rust` would bring its own; the last stage in a directory that has what distroless/static has.
Then, in a namespace of its own, read-only and without a network but loopback:

- the files are few: no shell, nothing setuid, under 40 MB;
- the binary runs as the Dockerfile's user, on a real nats-server, found by a real DNS query (a static glibc that
  cannot do that is a well-known trap), and the image's healthcheck says what it should;
- no feature of the tests is in it.

Needs root, `debootstrap`, and minutes. Not part of `make test`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import distroless
import dockerfile

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 40_000_000
SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
# What of the image `rust:*-slim` comes from Debian.
BUILD_PACKAGES = "ca-certificates,gcc,libc6-dev"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep everything in this directory, and build on what is there")
    parser.add_argument("--nats-server", type=Path, default=ROOT / ".tools/bin/nats-server")
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("image-check: debootstrap and chroot need root")
    if not shutil.which("debootstrap"):
        sys.exit("image-check: there is no debootstrap; apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="image-check-") as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        image = Builder(work).image()
        inspect(image)
        run = [sys.executable, Path(__file__).with_name("run_image.py"), image, args.nats_server]
        # Namespaces of its own: mounts, and a network with nothing but loopback.
        subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", *run], check=True)
    say("passed")
    return 0


def say(text: str) -> None:
    print(f"image-check: {text}", flush=True)


class Builder:
    def __init__(self, work: Path) -> None:
        self.work = work
        self.stages = {stage.name: stage for stage in dockerfile.parse(ROOT / "deploy/Dockerfile")}
        self.roots: dict[str, Path] = {}

    def image(self) -> Path:
        """The last stage's root."""
        return self.root(list(self.stages)[-1])

    def root(self, name: str) -> Path:
        if name in self.roots:
            return self.roots[name]
        stage = self.stages[name]
        if stage.base in self.stages:
            # Nobody builds on a stage twice here, so that it need not be copied.
            root = self.root(stage.base)
        else:
            root = self.base(stage.base)
        self.roots[name] = root
        workdir = self.workdir(stage.base)
        for step in stage.steps:
            if step.verb == "WORKDIR":
                workdir = step.rest
                if workdir != "/":
                    empty(root / workdir.lstrip("/"))
            elif step.verb == "COPY":
                self.copy(step, root, workdir)
            elif step.verb == "RUN":
                self.run(step, name, root, workdir)
        return root

    def base(self, image: str) -> Path:
        root = self.work / image.replace("/", "_").replace(":", "_")
        if image.startswith("rust:"):
            if not (root / "usr/bin/gcc").exists():
                say(f"debootstrap {SUITE} for {image}")
                command = ["debootstrap", "--variant=minbase", f"--include={BUILD_PACKAGES}", SUITE, root, MIRROR]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        elif image.startswith("gcr.io/distroless/static-"):
            shutil.rmtree(root, ignore_errors=True)
            say(f"unpacking {' '.join(distroless.PACKAGES)}")
            distroless.static(root)
        else:
            sys.exit(f"image-check: nothing stands for the image {image} here")
        return root

    def workdir(self, name: str) -> str:
        """Of a stage, or of the one that it is based on."""
        if name not in self.stages:
            return "/"
        stage = self.stages[name]
        if step := stage.last("WORKDIR"):
            return step.rest
        return self.workdir(stage.base)

    def environment(self, name: str) -> dict[str, str]:
        stage = self.stages[name]
        below = self.environment(stage.base) if stage.base in self.stages else {}
        return below | stage.environment()

    def copy(self, step: dockerfile.Step, root: Path, workdir: str) -> None:
        *sources, target = step.words()
        stage = step.flags.get("from")
        origin = self.root(stage) if stage else ROOT
        to = root / (target if target.startswith("/") else f"{workdir}/{target}").lstrip("/")
        for source in sources:
            files = origin / source.lstrip("/")
            if files.is_dir():
                # As in a Dockerfile: a directory's contents, and these alone have its flags.
                shutil.copytree(files, to, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
                copied = [to / path.relative_to(files) for path in files.rglob("*")]
            else:
                place = to / files.name if target.endswith("/") or target in (".", "./") else to
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(files, place)
                copied = [place]
            for place in copied:
                if owner := step.flags.get("chown"):
                    os.chown(place, *map(int, owner.split(":")))
                if mode := step.flags.get("chmod"):
                    place.chmod(int(mode, 8))

    def run(self, step: dockerfile.Step, name: str, root: Path, workdir: str) -> None:
        say(f"{name}, line {step.line}: RUN {step.rest[:60]}…")
        toolchain = Path(subprocess.check_output(["rustc", "--print", "sysroot"], text=True).strip())
        registry = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "registry"
        registry.mkdir(parents=True, exist_ok=True)
        env = {"PATH": "/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "CARGO_HOME": "/usr/local/cargo"}
        env |= self.environment(name)
        env |= {key: os.environ[key] for key in ("CARGO_BUILD_JOBS",) if key in os.environ}
        script = f"""
            set -eu
            cd "$1"
            mkdir -p usr/local/rust usr/local/cargo/registry
            mount --bind -o ro "$2" usr/local/rust
            mount --bind "$3" usr/local/cargo/registry
            mount -t proc proc proc
            mount --bind /dev dev
            cp /etc/resolv.conf /etc/hosts etc/
            exec chroot . /usr/bin/env -i "${{@:6}}" /bin/sh -euc "cd '$4' && $5"
        """
        variables = [f"{key}={value}" for key, value in env.items()]
        command = ["unshare", "--mount", "bash", "-c", script, "run", root, toolchain, registry, workdir, step.rest]
        began = time.monotonic()
        subprocess.run([*command, *variables], check=True)
        say(f"{name}, line {step.line}: {time.monotonic() - began:.0f} s")


def empty(workdir: Path) -> None:
    """With --work an earlier build's sources would be built again; what it has compiled may stay."""
    workdir.mkdir(parents=True, exist_ok=True)
    for left in workdir.iterdir():
        if left.name != "target":
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def inspect(image: Path) -> None:
    files = [path for path in image.rglob("*") if path.is_file() and not path.is_symlink()]
    size = sum(path.stat().st_size for path in files)
    # Scripts, of which Debian's packages have two, cannot be run: there is nothing that reads them.
    programs = sorted(str(path.relative_to(image)) for path in files if path.stat().st_mode & 0o111 and is_elf(path))
    special = [str(path) for path in files if path.stat().st_mode & 0o6000]
    say(f"{size / 1e6:.1f} MB, programs: {', '.join(programs)}")
    assert size < LIMIT, f"the image has {size} bytes; it may have {LIMIT}"
    assert programs == ["usr/local/bin/whatsapp-connector"], f"programs: {programs}"
    assert not special, f"setuid: {special}"
    session = (image / "var/lib/whatsapp").stat()
    assert (session.st_mode & 0o7777, session.st_uid) == (0o700, 65532), "the volume's directory is not the user's own"


if __name__ == "__main__":
    sys.exit(main())
