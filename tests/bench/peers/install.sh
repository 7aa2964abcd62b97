#!/usr/bin/env bash
# Installs what the benchmark's peers run on into .tools/: a Python environment of their own (.tools/bench-venv), with
# the payload types made from proto/, and Node's modules (.tools/bench-node) where Node and its registry are there.
# What cannot be installed is passed over: the benchmark runs without it, and says so.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
venv="$root/.tools/bench-venv"
node="$root/.tools/bench-node"

say() { echo "bench tools: $*" >&2; }

fingerprint() { cat "$here/requirements.txt" "${BASH_SOURCE[0]}" "$root"/proto/whatsapp/connector/v1/*.proto | cksum; }

# In a condition `set -e` is off, so each step says itself that the next one depends on it.
install_python() {
    rm -rf "$venv" &&
        "$root/.tools/venv/bin/python" -m venv "$venv" &&
        "$venv/bin/python" -m pip install --disable-pip-version-check --no-input --only-binary :all: --quiet \
            -r "$here/requirements.txt" &&
        mkdir -p "$venv/proto" &&
        "$venv/bin/python" -m grpc_tools.protoc -I "$root/proto" --python_out="$venv/proto" \
            "$root"/proto/whatsapp/connector/v1/*.proto &&
        fingerprint >"$venv/stamp"
}

install_node() {
    command -v node >/dev/null && command -v npm >/dev/null || { say "passing over Node: it is not there" && return; }
    mkdir -p "$node"
    cp "$here/package.json" "$node/"
    (cd "$node" && timeout 30 npm install --no-audit --no-fund --silent >npm.log 2>&1) ||
        { rm -rf "$node/node_modules" && say "passing over Node: its registry gave nothing" && return; }
}

if [[ "$(cat "$venv/stamp" 2>/dev/null)" != "$(fingerprint)" ]]; then
    say "installing the Python peers"
    install_python || { rm -rf "$venv" && say "passing over the Python peers: pip could not install them"; }
fi
[[ -d "$node/node_modules/undici" ]] || install_node
