#!/bin/sh
# Installs what a Debian or Ubuntu machine lacks for one need: build, test or lint. Asks nothing.
set -eu
need=${1:-build}
build="gcc make pkg-config libc6-dev liburing-dev libxxhash-dev libssl-dev libjansson-dev libopenblas-dev"
test="$build g++ libcmocka-dev python3 python3-pytest python3-numpy libseccomp-dev"
lint="$build clang-format"
case $need in
build) packages=$build ;;
test) packages=$test ;;
lint) packages=$lint ;;
*) echo "setup.sh: unknown need '$need' (build, test or lint)" >&2; exit 2 ;;
esac
missing=
for p in $packages; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
sudo=
if [ "$(id -u)" -ne 0 ]; then
    sudo=$(command -v sudo) || { echo "setup.sh: missing packages:$missing; install them as root, or install sudo" >&2; exit 3; }
    sudo="$sudo -n"
fi
command -v apt-get >/dev/null || { echo "setup.sh: no apt-get here; install the counterparts of:$missing, then run make SETUP=no" >&2; exit 3; }
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
