#!/usr/bin/env bash
# Brings what `make arm64` needs: a cross compiler, an emulator, and arm64's libraries in .arm64/root.
#
#   tools/setup_arm64.sh
#
# The libraries are fetched by an apt with lists of its own and unpacked beside the project: the machine itself does
# not become one of two architectures, and nothing of it is upgraded. Debian and Ubuntu only; needs root or sudo where
# the compiler and the emulator are missing. Does nothing where all is there.
set -euo pipefail
cd "$(dirname "$0")/.."

libraries=(libjansson-dev libb2-dev libxxhash-dev libzstd-dev libprotobuf-c-dev libroaring-dev libuv1-dev libcmocka-dev)
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}
command -v apt-get >/dev/null 2>&1 || fail "arm64's libraries are taken from Debian's packages, and there is no apt-get"

missing=()
command -v aarch64-linux-gnu-gcc >/dev/null 2>&1 || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
command -v qemu-aarch64 >/dev/null 2>&1 || missing+=(qemu-user)
wanted=$(pwd && printf '%s\n' "${libraries[@]}" && cat "$0")
if [ ${#missing[@]} -eq 0 ] && [ "$(cat .arm64/made-for 2>/dev/null)" = "$wanted" ]; then
    printf 'setup: nothing to install for arm64\n'
    exit 0
fi

if [ ${#missing[@]} -ne 0 ]; then
    printf 'setup will install: %s\n' "${missing[*]}"
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
    install=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}")
    if ! "${install[@]}" >/dev/null 2>&1 </dev/null; then
        "${as_root[@]}" apt-get update -qq </dev/null || fail "apt-get update failed"
        "${install[@]}" >/dev/null </dev/null || fail "apt-get could not install: ${missing[*]}"
    fi
fi

printf 'setup will put into .arm64: %s\n' "${libraries[*]}"
rm -rf .arm64
mkdir -p .arm64/lists/partial .arm64/cache/archives/partial .arm64/root
cat >.arm64/apt.conf <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Dir::State "$PWD/.arm64";
Dir::State::status "/dev/null";
Dir::State::lists "$PWD/.arm64/lists";
Dir::Cache "$PWD/.arm64/cache";
Debug::NoLocking "true";
CONF
export APT_CONFIG=$PWD/.arm64/apt.conf
apt-get update -qq </dev/null || true # Sources without arm64 complain; what matters is whether the next line finds all.
apt-get install -y -qq --no-install-recommends --download-only "${libraries[@]}" </dev/null >/dev/null ||
    fail "arm64's packages could not be fetched"
for package in .arm64/cache/archives/*.deb; do
    dpkg-deb -x "$package" .arm64/root
done
rm -rf .arm64/lists .arm64/cache

# No sys_root: pkg-config would put it into flags without care for a space in it. Where the libraries are stands below.
cat >.arm64/cross.ini <<CROSS
[constants]
root = '$PWD/.arm64/root'
libraries = root / 'usr/lib/aarch64-linux-gnu'

[binaries]
c = 'aarch64-linux-gnu-gcc'
ar = 'aarch64-linux-gnu-ar'
strip = 'aarch64-linux-gnu-strip'
pkg-config = 'pkg-config'
exe_wrapper = ['qemu-aarch64', '-cpu', 'max', '-L', root]

[properties]
pkg_config_libdir = [libraries / 'pkgconfig']

[built-in options]
c_args = ['-isystem', root / 'usr/include']
c_link_args = ['-L' + libraries, '-Wl,-rpath-link,' + libraries]

[host_machine]
system = 'linux'
cpu_family = 'aarch64'
cpu = 'aarch64'
endian = 'little'
CROSS
printf '%s\n' "$wanted" >.arm64/made-for
printf 'setup: arm64 done\n'
