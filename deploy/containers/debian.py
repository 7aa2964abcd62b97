"""Debian's packages, unpacked and never installed. apt checks their signatures; its state is in a directory of its own,
so that the machine's own sources and lists stay as they are."""

import os
import shutil
import subprocess
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NEEDED = ("apt-get", "dpkg-deb")


class Missing(Exception):
    """This machine cannot get Debian's packages."""


def unpack(packages: list[str], suite: str, into: Path, cache: Path) -> None:
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        raise Missing(f"there is no {' and no '.join(missing)} on this machine; it has to be a Debian or an Ubuntu")
    if not KEYRING.exists():
        raise Missing(f"there is no {KEYRING}; apt-get install debian-archive-keyring")
    state = cache / f"apt-{suite}"
    options = _options(state, suite)
    if not (state / "updated").exists():
        _apt(["apt-get", *options, "update"], state)
        (state / "updated").touch()
    got = state / "got"
    shutil.rmtree(got, ignore_errors=True)
    got.mkdir()
    _apt(["apt-get", *options, "download", *packages], got)
    into.mkdir(parents=True, exist_ok=True)
    for package in sorted(got.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, into], check=True)
    shutil.rmtree(got)


def _options(state: Path, suite: str) -> list[str]:
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {suite} main\n")
    settings = {
        "Dir::Etc::sourcelist": state / "sources.list",
        "Dir::Etc::sourceparts": state / "parts",
        "Dir::Etc::preferencesparts": state / "parts",
        "Dir::State::lists": state / "lists",
        "Dir::Cache": state / "cache",
        # apt would fetch as its own user, who may not write here.
        "APT::Sandbox::User": "root",
        # Descriptions for desktops, which are most of what an update fetches.
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Languages": "none",
    }
    return ["-qq", *(word for name, value in settings.items() for word in ("-o", f"{name}={value}"))]


def _apt(command: list[str], where: Path) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8"})
    if done.returncode:
        raise Missing(f"`{command[0]} {command[-1]}` ended with {done.returncode}: {done.stderr.strip()}")


def debootstrap(suite: str, packages: list[str], root: Path, cache: Path) -> None:
    """Debian's smallest system and `packages`, in `root`."""
    if os.geteuid() != 0:
        raise Missing("debootstrap needs root")
    command, env = "debootstrap", dict(os.environ)
    if not shutil.which(command):
        # A shell script and its functions; it runs from wherever they are.
        unpacked = cache / "debootstrap"
        if not (unpacked / "usr/sbin/debootstrap").exists():
            unpack(["debootstrap"], suite, unpacked, cache)
        command = str(unpacked / "usr/sbin/debootstrap")
        env["DEBOOTSTRAP_DIR"] = str(unpacked / "usr/share/debootstrap")
    shutil.rmtree(root, ignore_errors=True)
    words = [command, "--variant=minbase", f"--include={','.join(packages)}", f"--keyring={KEYRING}", suite, ".", MIRROR]
    # dpkg waits for the disk after each file. In memory, that nobody else sees, it takes a third of the time.
    scratch = cache / "scratch"
    scratch.mkdir(exist_ok=True)
    script = 'mount -t tmpfs tmpfs "$1" && cd "$1" && "${@:3}" && cp -a "$1" "$2"'
    in_memory = ["unshare", "--mount", "bash", "-euc", script, "debootstrap", str(scratch), str(root)]
    done = subprocess.run([*in_memory, *words], capture_output=True, text=True, env=env)
    if done.returncode:
        raise Missing(f"debootstrap ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
