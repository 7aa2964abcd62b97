#!/usr/bin/env bash
# `make bench`: a release build, all suites, the table. What it takes is in docs/performance.md.
#
# SUITE=a,b   only these
# QUICK=1     smaller; the docs stay as they are
# JSON=path   all figures into this file
# BASE=rev    beside that revision, built in .tools/bench-base; without peers, the docs stay as they are
# TOLERATE=1  measurements that other work disturbed are not repeated
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
base="$root/.tools/bench-base"
cd "$root"

build() { (cd "$1" && cargo build --release --workspace --features simulator --target-dir "$2"); }

target="${CARGO_TARGET_DIR:-$root/target}"
build "$root" "$target"
arguments=()
if [[ -n "${SUITE:-}" ]]; then arguments+=("$SUITE"); fi
if [[ -n "${QUICK:-}" ]]; then arguments+=(--quick); fi
if [[ -n "${TOLERATE:-}" ]]; then arguments+=(--disturbed); fi
if [[ -n "${JSON:-}" ]]; then arguments+=(--json "$JSON"); fi

if [[ -n "${BASE:-}" ]]; then
    revision="$(git rev-parse --verify --quiet "$BASE^{commit}")" ||
        { echo "bench: BASE=$BASE is no revision" >&2 && exit 1; }
    git worktree remove --force "$base" 2>/dev/null || true
    git worktree add --quiet --detach "$base" "$revision"
    trap 'git worktree remove --force "$base"' EXIT
    echo "bench: building $BASE" >&2
    build "$base" "$root/.tools/bench-target"
    arguments+=(--base "$root/.tools/bench-target/release/whatsapp-connector")
elif [[ -z "${QUICK:-}${SUITE:-}" ]]; then
    arguments+=(--docs docs)
fi
"$target/release/whatsapp-bench" run "${arguments[@]}"
