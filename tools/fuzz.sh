#!/usr/bin/env bash
# Fuzzes for a while what takes foreign bytes: each target of tests/fuzz for so many seconds, with libFuzzer under ASan
# and UBSan, from the seeds and the corpus. What it learns stays in build-fuzz/corpus, so that the next run goes on.
# An input that breaks something is left in build-fuzz/found, and the exit code is 1: once mended, it belongs into
# tests/fuzz/corpus/TARGET.
#
#   tools/fuzz.sh SECONDS [TARGET]...
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
shift || true
command -v clang >/dev/null 2>&1 || {
    printf 'fuzz: no clang on this machine: make setup-clang\n' >&2
    exit 1
}
CC=clang tools/build.sh build-fuzz -Dtests=true -Dfuzz=true -Dbuildtype=debugoptimized -Db_ndebug=false \
    -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-fno-sanitize-recover=all
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    for file in build-fuzz/tests/fuzz/fuzz_*_fuzz; do
        [ -f "$file" ] || continue
        name=${file##*/fuzz_}
        targets+=("${name%_fuzz}")
    done
fi
mkdir -p build-fuzz/found
code=0
for target in "${targets[@]}"; do
    program=build-fuzz/tests/fuzz/fuzz_${target}
    corpus=build-fuzz/corpus/$target
    mkdir -p "$corpus"
    "${program}_replay" --write-seeds "$corpus"
    folders=("$corpus")
    [ ! -d "tests/fuzz/corpus/$target" ] || folders+=("tests/fuzz/corpus/$target")
    log=build-logs/fuzz-$target.txt
    if "${program}_fuzz" -max_total_time="$seconds" -max_len=20000 -timeout=20 -artifact_prefix="build-fuzz/found/$target-" \
        "${folders[@]}" >"$log" 2>&1; then
        printf '%-14s%s, %s files of corpus\n' "$target" "$(grep -E '^Done' "$log" | tail -n 1)" "$(find "$corpus" -type f | wc -l)"
    else
        printf '%-14sFAILED, see %s and build-fuzz/found\n' "$target" "$log"
        grep -E 'broken:|ERROR:|runtime error|Test unit written' "$log" | head -n 4 || true
        code=1
    fi
done
exit $code
