#!/usr/bin/env bash
# One clear sentence, instead of a build error, when the build cannot work on this machine.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
needed="$(sed -n 's/^rust-version = "\([0-9.]*\)"$/\1/p' "$root/Cargo.toml" | head -n 1)"

fail() {
    echo "build: $*" >&2
    exit 1
}

command -v cargo >/dev/null && command -v rustc >/dev/null ||
    fail "Rust $needed or newer is needed and no cargo was found on PATH; install it from https://rustup.rs"

have="$(cd "$root" && rustc --version | sed -n 's/^rustc \([0-9]*\.[0-9]*\.[0-9]*\).*/\1/p')"
[[ "$(printf '%s\n' "$needed" "$have" | sort -V | head -n 1)" == "$needed" ]] ||
    fail "Rust $needed or newer is needed and this is $have; update it (rustup update stable)"

command -v "${CC:-cc}" >/dev/null ||
    fail "a C compiler is needed for the bundled SQLite and no '${CC:-cc}' was found on PATH" \
        "(Debian, Ubuntu: apt-get install gcc libc6-dev)"
