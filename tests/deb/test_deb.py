"""The Debian packages: what lintian says, what is in them, and that they come, work and go on a clean machine.

The packages are built anew (make deb). The clean machine is a minimal root made by debootstrap, kept in $DEB_WORK
(/var/tmp/cistern-deb) for the next time; each run works on a copy of it, in namespaces of its own. That part needs root
and a source of packages. What is lacking skips its tests by name.
"""
import glob
import os
import re
import shlex
import shutil
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.environ.get("DEB_OUT", os.path.join(TOP, "build", "deb"))
MAKE = shlex.split(os.environ.get("MAKE", "make"))
WORK = os.environ.get("DEB_WORK", "/var/tmp/cistern-deb")
NAMES = ["cistern", "libcistern-dev", "libcistern0"]


def run(*command, **kw):
    return subprocess.run(command, capture_output=True, text=True, **kw)


def output(*command, **kw):
    r = run(*command, **kw)
    assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-4000:]
    return r.stdout


@pytest.fixture(scope="module")
def packages():
    for tool in ("dpkg-buildpackage", "dh"):
        if not shutil.which(tool):
            pytest.skip("%s is not installed; tools/setup.sh deb" % tool)
    output(*MAKE, "-s", "deb", cwd=TOP)
    found = {os.path.basename(p).split("_")[0]: p for p in glob.glob(OUT + "/*.deb")}
    assert sorted(found) == NAMES
    return found


@pytest.fixture(scope="module")
def tree(packages, tmp_path_factory):
    """All three unpacked into one folder."""
    top = str(tmp_path_factory.mktemp("tree"))
    for path in packages.values():
        output("dpkg-deb", "-x", path, top)
    return top


def elf_files(tree):
    for pattern in ("usr/bin/*", "usr/lib/*/libcistern.so.0", "usr/lib/*/cistern/hf3fs/*.so"):
        found = glob.glob(os.path.join(tree, pattern))
        assert len(found) == 1, pattern
        yield found[0]


@pytest.mark.skipif(not shutil.which("lintian"), reason="lintian is not installed")
def test_lintian_accepts_them(packages):
    changes = glob.glob(OUT + "/*.changes")
    assert len(changes) == 1
    r = run("lintian", "-i", "--fail-on", "error,warning", *changes)
    assert r.returncode == 0 and not re.search(r"^[EW]: ", r.stdout, re.M), r.stdout + r.stderr


def test_the_version_is_that_of_the_tree(packages):
    with open(os.path.join(TOP, "Makefile")) as f:
        version = re.search(r"^VERSION := (\S+)", f.read(), re.M).group(1)
    for path in packages.values():
        assert output("dpkg-deb", "-f", path, "Version").strip() == version


def libraries(packages):
    """Packages that ours need, which the C library is not one of: every root has it."""
    every = ",".join(output("dpkg-deb", "-f", p, "Depends") for p in packages.values())
    return sorted({word.split()[0] for word in every.split(",")} - {"libc6", "libcistern0"})


def test_what_depends_on_what(packages):
    assert "libcistern0 (= " in output("dpkg-deb", "-f", packages["cistern"], "Depends")
    assert "libcistern0 (= " in output("dpkg-deb", "-f", packages["libcistern-dev"], "Depends")
    names = [re.sub(r"t64$", "", n) for n in libraries(packages)]
    assert names == ["libjansson4", "libmicrohttpd12", "libssl3", "liburing2"]


def test_binaries_are_hardened_and_search_nowhere(tree):
    for path in elf_files(tree):
        dynamic, headers = output("readelf", "-dW", path), output("readelf", "-lW", path)
        assert "NOW" in dynamic and "GNU_RELRO" in headers, path
        assert not re.search(r"GNU_STACK .*E ", headers) and "RPATH" not in dynamic and "RUNPATH" not in dynamic, path
        assert not run("readelf", "-h", path).stdout.count("EXEC (Exec"), path
        assert "__stack_chk_fail" in output("readelf", "--dyn-syms", "-W", path), path


def test_a_real_3fs_client_is_not_shadowed(packages):
    files = [line.split()[5] for path in packages.values() for line in output("dpkg-deb", "-c", path).splitlines()]
    named = [f for f in files if os.path.basename(f) in ("libhf3fs_api_shared.so", "hf3fs_usrbio.h")]
    assert len(named) == 2 and all("/cistern/" in f for f in named)


def test_every_public_function_has_a_page(tree):
    with open(os.path.join(TOP, "src/engine/cistern.map")) as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    names = re.findall(r"\b(cistern_\w+);", text)
    assert len(names) > 40
    for name in names:
        assert os.path.exists(os.path.join(tree, "usr/share/man/man3", name + ".3.gz")), name


def test_the_command_runs_from_the_packages(tree, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CISTERN", "THREEFS", "LD_"))}
    env["LD_LIBRARY_PATH"] = os.path.dirname(glob.glob(tree + "/usr/lib/*/libcistern.so.0")[0])
    command = tree + "/usr/bin/cistern"
    assert "0." in output(command, "version", env=env)
    # A store, through the drop-in of the package.
    output(command, "bench", "put", "--quick", "--total", "16M", "--staging", "16M", "--slices", "4", "--seconds", "0.1",
           "--dir", str(tmp_path), "--root", "r", "--keep", env=env)
    text = output(command, "stat", "--mount", str(tmp_path), "--root", "r", env=env)
    assert os.path.realpath(tree) in text or "local" in text


# ---- A clean machine

INSIDE = r"""
set -eu
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
mount -t tmpfs -o size=256m,mode=1777 shm "$1/dev/shm"
cd /
exec chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 sh -c "$2"
"""


@pytest.fixture(scope="module")
def machine(packages):
    if os.geteuid() != 0:
        pytest.skip("a chroot needs root")
    if not shutil.which("debootstrap"):
        pytest.skip("debootstrap is not installed")
    with open("/etc/os-release") as f:
        suite = re.search(r"^VERSION_CODENAME=(\w+)", f.read(), re.M).group(1)
    base, root = "%s/base-%s" % (WORK, suite), WORK + "/root"
    need = ",".join(libraries(packages))
    if not os.path.exists(base + "/.complete") or open(base + "/.complete").read() != need:
        sites = output("apt-get", "indextargets", "--format", "$(SITE) $(CODENAME)").splitlines()
        site = [line.split()[0] for line in sites if line.endswith(" " + suite)][0]
        os.makedirs(WORK, exist_ok=True)
        shutil.rmtree(base, ignore_errors=True)
        r = run("debootstrap", "--variant=minbase", "--include=" + need, suite, base, site)
        if r.returncode:
            pytest.skip("debootstrap made no root: " + (r.stdout.strip().splitlines() or ["no word"])[-1])
        with open(base + "/.complete", "w") as f:
            f.write(need)
    shutil.rmtree(root, ignore_errors=True)
    subprocess.run(["cp", "-a", base, root], check=True)
    for path in packages.values():
        shutil.copy(path, root + "/root")
    yield root
    shutil.rmtree(root, ignore_errors=True)


def inside(root, command):
    return run("unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", INSIDE, "sh", root, command)


def contents(root):
    """Every path with what it holds; what dpkg writes about everything it ever did is not of the package."""
    out = {}
    for folder, dirs, files in os.walk(root):
        where = os.path.relpath(folder, root)
        if where in ("proc", "dev", "var/log", "root"):
            dirs[:] = []
            continue
        for name in dirs + files:
            path = os.path.join(folder, name)
            short = os.path.join(where, name)
            if os.path.islink(path):
                out[short] = os.readlink(path)
            elif os.path.isfile(path) and not re.match(r"var/(lib/dpkg/|cache/)|etc/ld\.so\.cache", short):
                with open(path, "rb") as f:
                    out[short] = hash(f.read())
            elif not re.match(r"var/lib/dpkg/[^/]*(?:-old|lock\S*)$", short):
                out[short] = "there"
    return out


def test_it_comes_works_and_goes_without_a_trace(machine):
    before = contents(machine)
    r = inside(machine, "dpkg -i /root/*.deb")
    assert r.returncode == 0, r.stdout + r.stderr
    r = inside(machine, "set -e; cistern version; mkdir /mnt/kv; REUSE_CACHE=1 ENABLE_3FS=1 THREEFS_READ_IOV_SIZE=16M "
                        "THREEFS_WRITE_IOV_SIZE=16M cistern doctor --mount /mnt/kv "
                        "--only switches,mount,client,root,ring,direct,clock,room")
    assert r.returncode == 0 and "FAIL" not in r.stdout, r.stdout + r.stderr
    r = inside(machine, "set -e; cistern bench put --quick --total 16M --staging 16M --slices 4 --seconds 0.1 "
                        "--dir /mnt/kv --root r --keep >/dev/null; cistern fsck --mount /mnt/kv --root r; "
                        "cistern verify --mount /mnt/kv --root r; rm -rf /mnt/kv")
    assert r.returncode == 0, r.stdout + r.stderr
    r = inside(machine, "dpkg -P cistern libcistern-dev libcistern0")
    assert r.returncode == 0, r.stdout + r.stderr
    after = contents(machine)
    assert {k for k in after if after[k] != before.get(k)} == set()
    assert set(before) - set(after) == set()
    assert "cistern" not in inside(machine, "dpkg-query -W").stdout
