#!/usr/bin/env bash
# Configures (where the folder is new or the options have changed) and builds one meson folder, quietly unless it fails.
#
#   tools/build.sh FOLDER [meson option]...
#
# Environment: CC; CI (any value but empty) turns warnings into errors.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$1
shift
PATH="$PWD/.venv/bin:$PATH"
export PATH
meson=(.venv/bin/python -m mesonbuild.mesonmain)
options=("-Dmodel_dir=$PWD/models" "$@")
[ -z "${CI:-}" ] || options+=(-Dwerror=true)

wanted=$(printf '%s\n' "${CC:-}" "${options[@]}" "$PWD")
mkdir -p build-logs
log=build-logs/$dir.txt
if [ ! -f "$dir/build.ninja" ] || [ ! -f "$dir/meson-info/intro-tests.json" ] || [ "$(cat "$dir/.memalloy-options" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$dir"
    if ! "${meson[@]}" setup "$dir" "${options[@]}" >"$log" 2>&1; then
        cat "$log" >&2
        rm -rf "$dir"
        exit 1
    fi
    printf '%s\n' "$wanted" >"$dir/.memalloy-options"
fi
if ! "${meson[@]}" compile -C "$dir" >"$log" 2>&1; then
    # Without the lines of what went well.
    grep -v -E '^(\[[0-9]+/[0-9]+\] |INFO: )' "$log" >&2 || true
    printf 'build: %s failed\n' "$dir" >&2
    exit 1
fi
# Warnings are worth a look even where they are not errors.
grep -E 'warning:' "$log" || true
printf 'build: %s is up to date\n' "$dir"
