"""What stands for the image distroless/static where no registry can be reached."""

import os
import subprocess
import tempfile
from pathlib import Path

PACKAGES = ["base-files", "ca-certificates", "netbase", "tzdata"]
"""Of Debian's: what the image is made of, as far as a program can see it."""


def static(root: Path) -> None:
    """Packages unpacked, not installed, and what distroless adds: the user, the bundle of certificates."""
    root.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        # apt fetches as its own user.
        os.chmod(scratch, 0o777)
        subprocess.run(["apt-get", "-qq", "download", *PACKAGES], cwd=scratch, check=True)
        for package in sorted(Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, root], check=True)
    for name in ("tmp", "home/nonroot", "proc", "dev", "etc/ssl/certs"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
    (root / "etc/group").write_text("root:x:0:\nnonroot:x:65532:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    bundle = b"".join(path.read_bytes() for path in sorted((root / "usr/share/ca-certificates").rglob("*.crt")))
    (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(bundle)
    # Tools of these packages that distroless leaves out.
    for name in ("usr/sbin/update-ca-certificates", "usr/sbin/tzconfig"):
        (root / name).unlink(missing_ok=True)
