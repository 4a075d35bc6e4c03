#!/bin/sh
# Takes every figure of the store: device, memory, CPU, match, keys, open. Prints Markdown: each
# command and what it said. With --write the results go into docs/bench/store.md, below its marker.
#
#   bench/run_all.sh [--quick | --slices N] [--write] [--disk DIR] [--memory DIR] [only-this-section ...]
#
# DISK and MEMORY are directories on a disk (30 GiB of room) and on tmpfs (6 GiB); what is made in
# them is removed. CISTERN names the command, build/cistern by default. About half an hour; --slices
# takes fewer than 40 pairs a figure; --quick takes two minutes and shows only that everything runs.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
cistern=${CISTERN:-$top/build/cistern}
disk=/var/tmp/cistern-bench memory=/dev/shm/cistern-bench quick='' write='' only=''
while [ $# -gt 0 ]; do
    case $1 in
    --quick) quick=--quick more=--quick ;;
    --slices) more="--slices $2"; shift ;;
    --write) write=1 ;;
    --disk) disk=$2; shift ;;
    --memory) memory=$2; shift ;;
    -*) echo "run_all.sh: unknown option $1" >&2; exit 2 ;;
    *) only="$only $1" ;;
    esac
    shift
done
[ -x "$cistern" ] || { echo "run_all.sh: $cistern is not there; run make first, or set CISTERN" >&2; exit 3; }

# One command: shown as a reader would type it, then what it said.
figure() {
    echo "    \$ cistern $*${more:+ $more}" | sed "s#$disk#DISK#g; s#$memory#MEMORY#g"
    # shellcheck disable=SC2086
    if ! "$cistern" "$@" $more >"$said"; then
        echo "run_all.sh: this failed: cistern $* $more" >&2
        exit 4
    fi
    sed 's/^\(.\)/    \1/' "$said"
    echo
}
section() {
    name=$1
    case " $only " in "  " | *" $name "*) ;; *) return 1 ;; esac
    echo "section: $name" >&2
    printf '### %s\n\n' "$2"
    printf 'Load average of the machine before: %s.\n\n' "$(cut -d' ' -f1 /proc/loadavg)"
}
# Blocks for match and open: as many as asked, fewer when it only has to run.
blocks() { [ -n "$quick" ] && echo 20000 || echo "$1"; }

results() {
    if section device "Device: 2 MiB blocks"; then
        figure bench put get rand --dir "$disk" --block 2M
    fi
    if section small "Device: 64 KiB blocks"; then
        figure bench put get rand --dir "$disk" --block 64K
    fi
    if section memory "Memory-backed storage, one lane"; then
        for block in 2M 1M 64K; do
            figure bench get rand --dir "$memory" --block $block
        done
        figure bench put --dir "$memory" --block 2M
        figure bench get --direct --dir "$memory" --block 2M
    fi
    if section encrypt "Encryption, beside plain"; then
        for block in 2M 64K; do
            figure bench get rand put --dir "$memory" --block $block --total 512M --encrypt
            figure bench get rand --dir "$disk" --block $block --total 512M --encrypt
        done
    fi
    if section share "Sharing and a capacity, on against off"; then
        for block in 2M 64K; do
            figure bench share --dir "$disk" --block $block --total 1G
            figure bench share --dir "$memory" --block $block --total 1G
        done
    fi
    if section match "Match"; then
        figure bench match --dir "$memory" --count "$(blocks 1000000)"
        figure bench match --dir "$memory" --count "$(blocks 10000000)" --puts 100000
    fi
    if section key "Key derivation"; then
        figure bench key
        if command -v openssl >/dev/null; then
            echo "    \$ openssl speed -bytes 2048 -seconds 1 sha256"
            openssl speed -bytes 2048 -seconds 1 sha256 2>/dev/null | sed 's/^/    /' | tail -2
            echo
        fi
    fi
    if section open "Open"; then
        for n in 10000 100000 1000000 10000000; do
            figure bench open --dir "$memory" --count "$(blocks $n)"
        done
    fi
}

said=$(mktemp) new=$(mktemp)
trap 'rm -f "$said" "$new"' EXIT
if [ -z "$write" ]; then
    results
    exit 0
fi
page=$top/docs/bench/store.md
sed '/^<!-- results -->$/q' "$page" >"$new"
{
    echo
    results
} >>"$new"
cat "$new" >"$page"
