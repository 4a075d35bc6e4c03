#!/bin/sh
# Tries the repository on a machine with nothing installed by hand: a minimal Debian root in a chroot, with the last
# commit cloned into it. Needs root and some GiB below WORK; run it as make check-fresh.
#
#   CASES="root user no_uring"   as root; as a user with sudo and 8 MiB of memlock; the same user with io_uring forbidden
#   GOALS="test demo"            make targets, each in a fresh clone, one after the other
#   WORK=/var/tmp/cistern-fresh  the minimal root is kept there, and the logs; FROM=suite or path of another root
#
# apt-get works in there with this machine's sources. One line per case and goal, the totals last.
set -eu
cases=${CASES:-root user no_uring}
goals=${GOALS:-test demo}
work=${WORK:-/var/tmp/cistern-fresh}
suite=${FROM:-$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)}
top=$(cd "$(dirname "$0")/.." && pwd)
passed=0 failed=0

if [ "$(id -u)" -ne 0 ]; then
    echo "try_fresh.sh: a chroot needs root" >&2
    exit 3
fi
sh "$top/tools/setup.sh" build
sh "$top/tools/setup.sh" fresh
mkdir -p "$work/logs"

make_base() { # the minimal root; make is the one thing a user types before ours can run
    [ -e "$work/base-$suite/.complete" ] && return
    # shellcheck disable=SC2016
    site=$(apt-get indextargets --format '$(SITE) $(CODENAME)' | awk -v s="$suite" '$2 == s { print $1; exit }')
    rm -rf "$work/base-$suite"
    debootstrap --variant=minbase --include=make,sudo "$suite" "$work/base-$suite" "$site" >"$work/logs/debootstrap.log"
    touch "$work/base-$suite/.complete"
}

# In a mount and a process namespace of its own, so that nothing stays behind. $1 root, $2 who, $3 launcher, $4 goal.
# shellcheck disable=SC2016
inside='
set -eu
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o size=1g,mode=1777 shm "$1/dev/shm"
mount -t tmpfs -o mode=1777 tmp "$1/tmp"
for path in /etc/apt /usr/share/keyrings /etc/ssl/certs; do
    if [ -d "$path" ]; then mkdir -p "$1$path" && mount --bind -o ro "$path" "$1$path"; fi
done
[ ! -e /etc/resolv.conf ] || cp -L /etc/resolv.conf "$1/etc/resolv.conf"
ulimit -l 8192
cd /
exec chroot "$1" ${3:+$3} /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME="/home/tester" LANG=C.UTF-8 setpriv --reuid "$2" --regid "$2" --init-groups \
    sh -c "cd /home/tester/cistern && make $4"
'

try() { # CASE
    root=$work/root
    rm -rf "$root"
    cp -a "$work/base-$suite" "$root"
    rm -rf "$root"/var/lib/apt/lists/*
    chroot "$root" useradd -m tester
    echo 'tester ALL=(ALL) NOPASSWD: ALL' >"$root/etc/sudoers.d/tester"
    who=tester launcher=
    [ "$1" = root ] && who=root
    if [ "$1" = no_uring ]; then
        cc -static -o "$root/usr/local/bin/no_uring" "$top/tests/harness/no_uring.c"
        launcher=/usr/local/bin/no_uring
    fi
    for goal in $goals; do
        log=$work/logs/$1-$goal.log
        rm -rf "$root/home/tester/cistern"
        git clone -q --no-local "$top" "$root/home/tester/cistern"
        chroot "$root" chown -R "$who" /home/tester
        begin=$(date +%s)
        if unshare --mount --pid --fork --kill-child sh -c "$inside" sh "$root" "$who" "$launcher" "$goal" \
            </dev/null >"$log" 2>&1; then
            result=ok passed=$((passed + 1))
        else
            result=FAIL failed=$((failed + 1))
        fi
        printf '%-4s %-10s make %-6s %5d s   %s\n' "$result" "$1" "$goal" $(($(date +%s) - begin)) \
            "$(grep -E '^[0-9]+ passed, [0-9]+ failed' "$log" | tail -n 1)"
        if [ "$result" = FAIL ]; then
            rm -rf "${log%.log}"
            cp -r "$root/home/tester/cistern/build/test-logs" "${log%.log}" 2>/dev/null || :
            tail -n 40 "$log" | cut -c1-200 | sed 's/^/     | /'
            echo "     | log: $log"
        fi
    done
    rm -rf "$root"
}

make_base
for one in $cases; do
    try "$one"
done
printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
