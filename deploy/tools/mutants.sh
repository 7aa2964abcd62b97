#!/usr/bin/env bash
# Changes the files that decide (examine_globs of .cargo/mutants.toml) in small ways, one change at a time, and
# looks whether a test of the library notices. FILE=path takes one of them. Ends with a line per group, and not
# well if a change survives.
#
# Every change is tried with the tests of its own file first, which is quick. What survives those is tried with
# all tests of the library. The changes are made in a copy, target/mutants-tree: the sources stay as they are.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
version=27.1.0
tools="$root/.tools/cargo"
tree="$root/target/mutants-tree"
reports="$root/target/mutants-reports"
export PATH="$tools/bin:$PATH"
# The copy has the target directory of the original: the dependencies are built once.
export CARGO_TARGET_DIR="$root/target" CARGO_INCREMENTAL=1
# Which example a property fails for does not matter here.
export PROPTEST_MAX_SHRINK_ITERS=0
cd "$root"

if [[ "$(cargo mutants --version 2>/dev/null)" != "cargo-mutants $version" ]]; then
    echo "mutants: installing cargo-mutants $version into .tools/"
    cargo install --quiet --locked --version "=$version" --root "$tools" cargo-mutants
fi

mapfile -t all < <(cargo mutants --list-files)
for file in ${FILE:-}; do
    grep -qxF "$file" <<<"$(printf '%s\n' "${all[@]}")" ||
        { echo "mutants: $file is none of the files in .cargo/mutants.toml" >&2; exit 1; }
done

# A new copy, with new times: a build of an earlier change must not pass for one of these sources.
rm -rf "$tree"
mkdir -p "$tree" "$reports"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
    if [[ -e "$file" ]]; then printf '%s\0' "$file"; fi
done | xargs -0 cp --parents -t "$tree"

# Nothing can be learned from tests that fail by themselves.
(cd "$tree" && cargo test --quiet --profile mutants --features simulator --lib)

# mutants FILE REPORT [ARGUMENT...]: tries the changes of one file. That some survive is no failure yet.
mutants() {
    local file="$1" report="$2" code=0 other others=()
    shift 2
    # --file would come on top of examine_globs, and --re lets some changes of other files through.
    for other in "${all[@]}"; do
        [[ "$other" == "$file" ]] || others+=(--exclude "$other")
    done
    cargo mutants --dir "$tree" --in-place --baseline skip --timeout 60 --no-times --colors never \
        --output "$report" "${others[@]}" "$@" >"$report/log" 2>&1 || code=$?
    # 2: some survive; 3: some never end, which is noticed.
    [[ "$code" =~ ^[023]$ ]] || { tail -n 20 "$report/log" >&2; exit 1; }
}

lines() { cat "$@" 2>/dev/null | wc -l; }

# examine FILE: adds its numbers to those of its group.
declare -A caught tried
survivors=()
examine() {
    local file="$1" group module report missed
    group="$(cut -d / -f 2 <<<"$file")"
    module="$(sed 's:^src/::; s:\.rs$::; s:/:\:\::g' <<<"$file")"
    report="$reports/${module//::/-}"
    rm -rf "$report"
    mkdir -p "$report"
    mutants "$file" "$report" -- "$module::"
    local out="$report/mutants.out" noticed
    noticed="$(lines "$out/caught.txt" "$out/timeout.txt")"
    missed="$(lines "$out/missed.txt")"
    if ((missed)); then
        mutants "$file" "$report" --iterate
        noticed=$((noticed + $(lines "$out/caught.txt")))
        missed="$(lines "$out/missed.txt")"
        mapfile -t -O "${#survivors[@]}" survivors <"$out/missed.txt"
    fi
    caught[$group]=$((${caught[$group]:-0} + noticed))
    tried[$group]=$((${tried[$group]:-0} + noticed + missed))
    printf '%-40s %4d of %4d caught\n' "$file" "$noticed" "$((noticed + missed))"
}

began=$SECONDS
for file in ${FILE:-${all[@]}}; do
    examine "$file"
done

echo
for group in "${!tried[@]}"; do
    printf 'mutants: %-12s %4d of %4d caught\n' "$group" "${caught[$group]}" "${tried[$group]}"
done | sort
echo "mutants: $(((SECONDS - began + 59) / 60)) minutes"
if ((${#survivors[@]})); then
    printf '%s\n' "mutants: nobody notices" "${survivors[@]}"
    exit 1
fi
