#!/usr/bin/env bash
# Brings a machine to the point where the project builds: system libraries through apt where that is possible, a
# virtual environment with pinned tools. Says what it will install before it installs, and touches neither apt nor
# the network when nothing is missing.
#
#   tools/setup.sh build|test|bench|rivals|ann|ingest|clang [quiet]
#
# Each tier contains build; bench has .venv-bench for the rivals; rivals adds those that need not install everywhere:
# OpenVINO, and torch where TORCH=1 asks for it (several GB from PyPI); ann those of vector search, ingest those of
# whole ingests. quiet says nothing where nothing is missing.
#
# Environment: PYTHON (default python3) is the interpreter that the virtual environment is made from.
set -euo pipefail
cd "$(dirname "$0")/.."

tier=${1:-build}
PYTHON=${PYTHON:-python3}

say() { printf '%s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

case "$tier" in
build | test | bench | rivals | ann | ingest | clang) ;;
*) fail "unknown tier '$tier', expected build, test, bench, rivals, ann, ingest or clang" ;;
esac

# ---- what is missing

# Debian package and the pkg-config module that proves the library is there without it (a build of one's own counts).
libraries="
libjansson-dev:jansson
libb2-dev:libb2
libxxhash-dev:libxxhash
libzstd-dev:libzstd
libprotobuf-c-dev:libprotobuf-c
libroaring-dev:roaring
libuv1-dev:libuv
libcmocka-dev:cmocka
"

is_installed() { # Debian package
    command -v dpkg-query >/dev/null 2>&1 &&
        [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]
}

missing=()
need() { missing+=("$1"); }

if ! command -v "${CC:-cc}" >/dev/null 2>&1 && ! command -v gcc >/dev/null 2>&1; then need gcc; fi
if [ ! -e /usr/include/stdio.h ] && command -v dpkg-query >/dev/null 2>&1; then need libc6-dev; fi
command -v git >/dev/null 2>&1 || need git
command -v pkg-config >/dev/null 2>&1 || need pkg-config
command -v protoc-c >/dev/null 2>&1 || need protobuf-c-compiler
for pair in $libraries; do
    package=${pair%%:*}
    module=${pair##*:}
    is_installed "$package" && continue
    command -v pkg-config >/dev/null 2>&1 && pkg-config --exists "$module" 2>/dev/null && continue
    need "$package"
done
if [ "$tier" = clang ]; then
    command -v clang >/dev/null 2>&1 || need clang
    if command -v dpkg-query >/dev/null 2>&1; then
        dpkg-query -W -f='${Package} ${db:Status-Abbrev}\n' 'libclang-rt-*-dev' 'libclang-common-*-dev' 2>/dev/null |
            grep -q ' ii' || need clang
    fi
fi

# Python: its own headers and venv module. Only Debian's own interpreter gets them from a package.
python_path=$(command -v "$PYTHON" 2>/dev/null || true)
if [ -z "$python_path" ]; then
    [ "$PYTHON" = python3 ] || fail "no interpreter '$PYTHON' (from PYTHON=)"
    missing+=(python3 python3-venv python3-dev)
else
    "$PYTHON" - <<'PY' || exit 1
import sys
if sys.version_info < (3, 11):
    sys.exit(f"setup: {sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}, memalloy needs 3.11 or "
             "later: make PYTHON=/path/to/python3.11")
PY
    read -r has_venv has_headers is_debian < <("$PYTHON" - <<'PY'
import importlib.util, os, sys, sysconfig
has = lambda name: importlib.util.find_spec(name) is not None
header = os.path.join(sysconfig.get_path("include"), "Python.h")
print(int(has("venv") and has("ensurepip")), int(os.path.exists(header)), int(sys.base_prefix == "/usr"))
PY
    )
    if [ "$has_venv" = 0 ]; then
        [ "$is_debian" = 1 ] || fail "$python_path has no venv module: make PYTHON=/path/to/another/python3"
        need python3-venv
    fi
    if [ "$has_headers" = 0 ]; then
        [ "$is_debian" = 1 ] || fail "$python_path has no C headers (Python.h): make PYTHON=/path/to/another/python3"
        need python3-dev
    fi
fi

# ---- what is stale in the virtual environments

# A virtual environment knows what it was made from by content, not by time: interpreter, place, requirements.
place() { # what a virtual environment is bound to: it can be neither moved nor given another interpreter
    [ -z "$python_path" ] || "$PYTHON" -c 'import sys; print(sys.version, sys.base_prefix)'
    pwd
}

wanted_stamp() { # requirement files
    {
        place
        cat "$@"
    } | sha256sum | cut -d' ' -f1
}

is_fresh() { # venv stamp-name wanted
    [ -x "$1/bin/python" ] && "$1/bin/python" -c '' 2>/dev/null && [ "$(cat "$1/$2" 2>/dev/null)" = "$3" ]
}

build_files=(tools/requirements-build.txt)
test_files=(tools/requirements-build.txt tools/requirements-test.txt)
bench_files=(bench/peers/requirements.txt)

venv=.venv
files=("${build_files[@]}")
stamp=.memalloy-build
if [ "$tier" = test ]; then
    files=("${test_files[@]}")
    stamp=.memalloy-test
fi
want=$(wanted_stamp "${files[@]}")
venv_stale=1
if is_fresh "$venv" "$stamp" "$want"; then venv_stale=0; fi

bench_stale=0
case "$tier" in
bench | rivals | ann | ingest)
    [ -f "${bench_files[0]}" ] || fail "no ${bench_files[0]}"
    bench_want=$(wanted_stamp "${bench_files[@]}")
    is_fresh .venv-bench .memalloy-bench "$bench_want" || bench_stale=1
    ;;
esac
more=()
extras=()
if [ "$tier" = rivals ]; then extras=(openvino ${TORCH:+torch}); fi
if [ "$tier" = ann ] || [ "$tier" = ingest ]; then extras=("$tier"); fi
for name in ${extras[@]+"${extras[@]}"}; do
    more_want=$(wanted_stamp "bench/peers/requirements-$name.txt")
    is_fresh .venv-bench ".memalloy-$name" "$more_want" || more+=("$name")
done

# ---- say it

pins() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/==/ /' "$@" | paste -sd, - | sed 's/,/, /g'; }

if [ ${#missing[@]} -eq 0 ] && [ $venv_stale -eq 0 ] && [ $bench_stale -eq 0 ] && [ ${#more[@]} -eq 0 ]; then
    [ "${2:-}" = quiet ] || say "setup: nothing to install"
    exit 0
fi
say "setup will install:"
[ ${#missing[@]} -eq 0 ] || say "  system packages: ${missing[*]}"
[ $venv_stale -eq 0 ] || say "  into $venv: $(pins "${files[@]}")"
[ $bench_stale -eq 0 ] || say "  into .venv-bench: $(pins "${bench_files[@]}")"
for name in ${more[@]+"${more[@]}"}; do
    say "  into .venv-bench, if it can be had: $(pins "bench/peers/requirements-$name.txt")"
done

# ---- system packages

if [ ${#missing[@]} -ne 0 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        say "setup: this is not a Debian or Ubuntu system. Install these by your package manager, then run make again:" >&2
        say "  a C11 compiler, git, pkg-config, Python 3.11 or later with its headers and the venv module, and the" >&2
        say "  development files of jansson, libb2, xxHash, protobuf-c (with protoc-c), zstd, libuv, CRoaring, cmocka" >&2
        say "  (missing here, by Debian's names: ${missing[*]})" >&2
        exit 1
    fi
    install=(apt-get install -y --no-install-recommends "${missing[@]}")
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
            as_root=(sudo -n)
        elif command -v sudo >/dev/null 2>&1 && [ -t 0 ] && [ -t 1 ]; then
            as_root=(sudo)
        else
            say "setup: system packages are missing and this user may not install them. Have this line run, then make again:" >&2
            say "  sudo ${install[*]}" >&2
            exit 1
        fi
    fi
    apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" </dev/null; }
    # The package lists are fetched only where they are missing or too old for what we ask.
    listed=1
    for package in "${missing[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || listed=0
    done
    [ $listed -eq 1 ] || apt apt-get update -qq
    if ! apt "${install[@]}" -qq >/dev/null; then
        apt apt-get update -qq
        apt "${install[@]}" -qq >/dev/null || fail "apt-get could not install: ${missing[*]}"
    fi
    python_path=$(command -v "$PYTHON" || true)
fi

# ---- virtual environments

make_venv() { # venv
    if ! [ -x "$1/bin/python" ] || ! "$1/bin/python" -c 'import pip' 2>/dev/null ||
        [ "$(cat "$1/.memalloy-place" 2>/dev/null)" != "$(place)" ]; then
        rm -rf "$1"
        "$PYTHON" -m venv "$1" || fail "could not make the virtual environment $1"
        place >"$1/.memalloy-place"
    fi
}

pip_in() { # venv arguments: quiet, but errors are shown; packages come as wheels or not at all
    local where=$1
    shift
    "$where/bin/python" -m pip --disable-pip-version-check --no-input --quiet "$@"
}

if [ $venv_stale -eq 1 ]; then
    make_venv "$venv"
    requirements=()
    for file in "${files[@]}"; do requirements+=(-r "$file"); done
    pip_in "$venv" install "${requirements[@]}" || fail "pip could not install the pinned tools into $venv"
    if [ "$tier" = test ]; then
        # The wheel test installs the package into an empty environment with build isolation; from here, so that it
        # works offline too.
        pip_in "$venv" download --only-binary :all: -d "$venv/wheels" -r tools/requirements-build.txt ||
            fail "pip could not download the build tools as wheels"
    fi
    # A newer interpreter or newer pins: stamps of the other tier are void where they differ.
    wanted_stamp "${build_files[@]}" >"$venv/.memalloy-build"
    wanted_stamp "${files[@]}" >"$venv/$stamp"
fi

if [ $bench_stale -eq 1 ]; then
    make_venv .venv-bench
    pip_in .venv-bench install -r "${bench_files[0]}" || fail "pip could not install the rivals into .venv-bench"
    printf '%s\n' "$(wanted_stamp "${bench_files[@]}")" >.venv-bench/.memalloy-bench
fi
for name in ${more[@]+"${more[@]}"}; do
    file=bench/peers/requirements-$name.txt
    if pip_in .venv-bench install -r "$file"; then
        wanted_stamp "$file" >".venv-bench/.memalloy-$name"
    else
        say "setup: pip could not install $(pins "$file"); the run will be without it"
    fi
done
say "setup: done"
