#!/usr/bin/env bash
# Fuzzes every target of fuzz/, one after the other, for FUZZ_SECONDS each (600 without it); TARGET=name takes one.
# Ends with a line per target, and not well if there is a finding.
#
# A stable compiler does; SANITIZER=address needs a nightly one. What grows beyond the seeds is kept in
# fuzz/grown/<target> for the next run, and is not committed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
seconds="${FUZZ_SECONDS:-600}"
sanitizer="${SANITIZER:-none}"
version=0.13.2
tools="$root/.tools/cargo"
export PATH="$tools/bin:$PATH"
cd "$root"

if [[ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $version" ]]; then
    echo "fuzz: installing cargo-fuzz $version into .tools/"
    cargo install --quiet --locked --version "=$version" --root "$tools" cargo-fuzz
fi

targets="${TARGET:-$(cargo fuzz list)}"
cargo fuzz build --sanitizer "$sanitizer" ${TARGET:+"$TARGET"}
# What was built is run as it is: `cargo fuzz run` would build again, and the build script of waproto writes a file that it also
# watches, so that the client library would be compiled once more.
built="fuzz/target/$(rustc -vV | sed -n 's/^host: //p')/release"

summary=()
found=0
for target in $targets; do
    grown="fuzz/grown/$target"
    log="$grown.log"
    mkdir -p "$grown"
    [[ -d "fuzz/corpus/$target" ]] || { echo "fuzz: no seeds in fuzz/corpus/$target" >&2; exit 1; }
    echo "fuzz: $target for $seconds s"
    # Of the first directory libFuzzer makes its own: new inputs go there, and the seeds stay as they are.
    mkdir -p "fuzz/artifacts/$target"
    if "$built/$target" -artifact_prefix="fuzz/artifacts/$target/" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 "$grown" "fuzz/corpus/$target" >"$log" 2>&1; then
        ending="no finding"
    else
        ending="FOUND SOMETHING: see $log and fuzz/artifacts/$target"
        found=1
    fi
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)"
    edges="$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)"
    summary+=("$(printf '%-18s %12s executions  %6s edges covered  %s' "$target" "${runs:-?}" "${edges:-?}" "$ending")")
    echo "${summary[-1]}"
done
printf '%s\n' "" "fuzz: $seconds s for each target" "${summary[@]}"
exit "$found"
