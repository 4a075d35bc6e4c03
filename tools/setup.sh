#!/bin/sh
# Installs what a Debian or Ubuntu machine lacks for one need: build, test, lint, fuzz, deb, aarch64, fresh or validators.
# Asks nothing.
#
# Root uses apt-get, anybody else needs sudo without a password. Nothing is touched when nothing is missing.
set -eu
need=${1:-build}
build="gcc make pkg-config libc6-dev liburing-dev libxxhash-dev libssl-dev libjansson-dev libmicrohttpd-dev \
libopenblas-dev"
test="$build g++ libcmocka-dev python3 python3-pytest python3-numpy python3-yaml python3-cryptography mandoc"
lint="$build g++ git python3 clang-format shellcheck"
optional=
case $need in
build) packages=$build ;;
test) packages=$test ;;
lint) packages=$lint ;;
fuzz) packages="$build python3 clang" optional="libclang-rt-dev" ;; # part of clang itself in older releases
deb) packages="$test git debhelper dpkg-dev fakeroot lintian" optional="debootstrap" ;;
aarch64) packages="$test gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static" ;;
fresh) packages="debootstrap" ;;
# What others read our output with: emitted configuration, metrics, alerts, the live page. kubernetes-validate comes by
# pip, see .ci/run. Ubuntu has no package chromium.
validators) packages="docker-compose python3-pip prometheus"
            optional="chromium chromium-driver python3-selenium" ;;
*) echo "setup.sh: unknown need '$need' (build, test, lint, fuzz, deb, aarch64, fresh or validators)" >&2; exit 2 ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "setup.sh: this is neither Debian nor Ubuntu; install the counterparts of: $packages" >&2
    echo "setup.sh: then run make SETUP=no" >&2
    exit 3
fi
is_there() { dpkg-query -W -f '${Status}\n' "$1" 2>/dev/null | grep -q 'ok installed'; }
missing=
for p in $packages $optional; do
    is_there "$p" || missing="$missing $p"
done
[ -z "$missing" ] && exit 0

sudo=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
        echo "setup.sh: these packages are missing, and sudo without a password is not to be had:$missing" >&2
        echo "setup.sh: as root, run: apt-get update && apt-get install -y --no-install-recommends$missing" >&2
        exit 3
    fi
    sudo="sudo -n"
fi
# needrestart (Ubuntu) and debconf would ask; another apt-get may be at work just now.
run="$sudo env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a apt-get -o DPkg::Lock::Timeout=300"
echo "installing:$missing" >&2
$run update -qq >&2 </dev/null || echo "setup.sh: apt-get update failed; trying with the lists that are here" >&2
for p in $optional; do # where this release has no such package, nothing is missing
    [ -n "$(apt-cache search --names-only "^$p\$")" ] || missing=$(echo "$missing " | sed "s/ $p / /")
done
[ -n "$(echo "$missing" | tr -d ' ')" ] || exit 0
# shellcheck disable=SC2086
$run install -y -qq --no-install-recommends $missing >&2 </dev/null || {
    echo "setup.sh: apt-get could not install:$missing" >&2
    exit 3
}
