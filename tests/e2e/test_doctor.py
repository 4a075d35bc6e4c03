"""cistern doctor: every check is made to pass and made not to, and where its remedy can be applied here, it is.

A directory stands in for the machine (--sysroot): /proc, /sys, /dev/shm and the marks of a container are files in it.
The mount is a real directory.
"""

import json
import mmap
import os
import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CISTERN_BUILD", TOP / "build"))
CISTERN = os.environ.get("CISTERN", str(BUILD / "cistern"))
FAKES = BUILD / "tests" / "fakes"
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="a tmpfs of its own size is mounted, which takes root")
GIB = 1 << 30

SHM_LINE = "41 21 0:26 / /dev/shm rw,nosuid,nodev shared:9 - tmpfs tmpfs {}\n"
LIMITS = """Limit                     Soft Limit           Hard Limit           Units
Max open files            {files:<20} {files:<20} files
Max locked memory         {memlock:<20} {memlock:<20} bytes
"""


class Machine:
    """A machine that can be described: everything passes until a test says otherwise."""

    def __init__(self, path):
        self.sys = path / "sysroot"
        self.mount = path / "mount"
        self.mount.mkdir()
        self.env = {k: v for k, v in os.environ.items() if not re.match(r"(CISTERN|THREEFS|REUSE|ENABLE_3FS|HF3FS)", k)}
        self.env |= {"CISTERN_MOUNT": str(self.mount), "REUSE_CACHE": "1", "ENABLE_3FS": "1",
                     "THREEFS_READ_IOV_SIZE": "4M", "THREEFS_WRITE_IOV_SIZE": "4M"}
        self.preload = []
        self.file("/proc/meminfo", "MemTotal:       33554432 kB\n")
        self.file("/proc/self/cgroup", "0::/\n")
        self.file("/proc/1/cgroup", "0::/init.scope\n")
        self.file("/proc/1/comm", "systemd\n")
        self.file("/proc/2/comm", "kthreadd\n")
        self.limits()
        self.mounted("ext4")
        self.file("/proc/sys/fs/aio-max-nr", "65536\n")
        self.file("/proc/sys/fs/aio-nr", "0\n")
        self.file("/proc/sys/kernel/io_uring_disabled", "0\n")
        (self.sys / "dev" / "shm").mkdir(parents=True)

    def file(self, path, text):
        at = self.sys / path.lstrip("/")
        at.parent.mkdir(parents=True, exist_ok=True)
        at.write_text(text)

    def no_shm(self):
        """Its size is that of whatever the test's folder lies on, which may be a large tmpfs."""
        (self.sys / "dev" / "shm").rmdir()

    def limits(self, files=65536, memlock="unlimited"):
        self.file("/proc/self/limits", LIMITS.format(files=files, memlock=memlock))

    def mounted(self, kind, optional="", at=None):
        """What /proc/self/mountinfo says of the mount, below a root of ext4."""
        self.file("/proc/self/mountinfo", f"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                  f"40 21 0:50 / {at or self.mount} rw,relatime {optional + ' ' if optional else ''}- {kind} "
                  f"{kind} rw\n" + SHM_LINE.format("rw,size=32g,huge=within_size"))

    def run(self, *args, launcher=(), **more):
        return subprocess.run([*launcher, CISTERN, "doctor", "--sysroot", str(self.sys), *map(str, args)],
                              env=self.env | more, text=True, timeout=120, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)

    def ask(self, check, *args, **more):
        r = self.run("--only", check, "--json", *args, **more)
        assert r.returncode in (0, 1), r.stderr
        answer = json.loads(r.stdout)["checks"]
        assert len(answer) == 1 and answer[0]["id"] == check
        assert r.returncode == (answer[0]["state"] == "fail")
        return answer[0]

    def state(self, check, *args, **more):
        answer = self.ask(check, *args, **more)
        if answer["state"] in ("warn", "fail"):
            assert answer.get("remedy"), f"{check} says {answer['cause']} and no remedy"
        return answer["state"]


@pytest.fixture
def m(tmp_path):
    return Machine(tmp_path)


# ---- The command ----


def test_a_good_machine_passes(m):
    forbidden = m.state("io-uring") == "warn"  # where these tests run; everything else can be described
    r = m.run("--strict")
    assert r.returncode == forbidden, r.stdout
    assert f"\n{24 - forbidden} pass, {forbidden:d} warn, 0 fail, 0 unknown\n" in r.stdout
    assert sorted(p.name for p in m.mount.iterdir()) == [], "a check left something behind"


def test_every_check_has_a_test_here():
    r = subprocess.run([CISTERN, "doctor", "--list"], text=True, stdout=subprocess.PIPE, check=True)
    source = Path(__file__).read_text()
    for line in r.stdout.splitlines():
        check = line.split()[0]
        assert source.count(f'"{check}"') >= 2, f"{check} is not shown passing and failing"


def test_quiet_says_nothing_on_a_good_machine(m):
    checks = "switches,mount,provider,client,propagation,root,ring,clock,room,writers,shm-size,shm-stale,memory,files"
    r = m.run("--quiet", "--only", checks)
    assert (r.returncode, r.stdout) == (0, "")


def test_strict_counts_warnings(m):
    m.limits(memlock=65536)
    assert m.run("--only", "memlock").returncode == 0
    assert m.run("--only", "memlock", "--strict").returncode == 1


def test_unknown_checks_are_refused(m):
    r = m.run("--only", "mount,moutn")
    assert r.returncode == 2 and "moutn" in r.stderr


def hang(m, path):
    """Somebody who opens a FIFO waits for ever; so does who asks a dead mount."""
    (m.sys / path).unlink()
    os.mkfifo(m.sys / path)


@pytest.mark.parametrize("check, path", [("memory", "proc/meminfo"), ("aio", "proc/sys/fs/aio-max-nr")])
def test_a_check_that_hangs_is_ended(m, check, path):
    hang(m, path)
    answer = m.ask(check, "--timeout", 300)
    assert answer["state"] == "unknown" and "took longer than 0.3 s" in answer["cause"]
    assert answer["remedy"].endswith("--timeout 3000"), "the mount has no part in it"


def test_a_mount_that_hangs_is_asked_once(m):
    hang(m, "proc/self/mountinfo")
    r = m.run("--only", "mount,provider,root,ring,room,aio", "--timeout", 300, "--json")
    first, *others, aio = json.loads(r.stdout)["checks"]
    assert r.returncode == 1 and first["id"] == "mount" and first["state"] == "fail"
    assert "no answer within 0.3 s" in first["cause"] and f"umount -l {m.mount}" in first["remedy"]
    assert {c["state"] for c in others} == {"unknown"} and all("see mount" in c["cause"] for c in others)
    assert aio["state"] == "pass"


def test_a_check_that_answers_and_does_not_end_is_ended(m):
    """Its threads may wait for a dead mount when the answer is there."""
    assert m.state("switches", LD_PRELOAD=str(FAKES / "stuck_exit.so")) == "pass"


# ---- Switches, mount, provider, client ----


def test_switches(m):
    assert m.state("switches") == "pass"
    m.env["REUSE_CACHE"] = "0"
    answer = m.ask("switches")
    assert answer["state"] == "fail"
    for word in answer["remedy"].split()[1:]:  # export A=1 B=1
        name, value = word.split("=")
        m.env[name] = value
    assert m.state("switches") == "pass"
    m.env["ENABLE_3FS"] = "perhaps"
    assert "ENABLE_3FS" in m.ask("switches")["cause"].upper() and m.state("switches") == "fail"
    del m.env["ENABLE_3FS"], m.env["REUSE_CACHE"]
    assert m.state("switches") == "warn"


BROKEN = [{"THREEFS_READ_IOV_SIZE": "4Q"}, {"CISTERN_LANES": "abc"}]


@pytest.mark.parametrize("broken", BROKEN)
def test_broken_settings_are_not_gone_by(m, broken):
    """What stands behind the variable that is wrong was not read: a pass would be one of something else."""
    value, = broken.values()
    r = m.run("--only", "mount,root", **broken)
    assert r.returncode == 3 and "environment: " in r.stderr and value in r.stderr and r.stdout == ""
    r = m.run("--json", **broken)
    state = {c["id"]: c["state"] for c in json.loads(r.stdout)["checks"]}
    assert r.returncode == 1 and state["switches"] == "fail" and state["aio"] == state["shm-stale"] == "pass"
    for check in ("mount", "root", "ring", "room", "writers", "cluster", "shm-size", "memory", "memlock", "files"):
        assert state[check] == "unknown", check


def test_mount(m):
    assert m.state("mount") == "pass"
    good = m.env["CISTERN_MOUNT"]
    m.env["CISTERN_MOUNT"] = str(m.mount / "absent")
    answer = m.ask("mount")
    assert answer["state"] == "fail" and "export CISTERN_MOUNT=" in answer["remedy"]
    m.file("/.dockerenv", "")
    assert "HostToContainer" in m.ask("mount")["remedy"]
    (m.mount / "file").write_text("")
    m.env["CISTERN_MOUNT"] = str(m.mount / "file")
    assert m.state("mount") == "fail"
    m.env["CISTERN_MOUNT"] = good
    assert m.state("mount") == "pass"
    (m.sys / "proc/self/mountinfo").unlink()
    assert m.state("mount") == "unknown"


@pytest.mark.parametrize("check", ["provider", "cluster", "rdma", "client", "direct", "clock", "room", "writers"])
def test_a_mount_that_is_missing_is_not_judged(check, m):
    """What the kernel says of its path is what it says of the directory above."""
    assert m.state(check) == "pass"
    assert m.state(check, CISTERN_MOUNT=str(m.mount / "absent")) == "unknown"


def test_provider(m):
    assert m.state("provider") == "pass"
    assert m.state("provider", CISTERN_PROVIDER="hf3fs") == "fail"
    m.mounted("fuse.hf3fs")
    assert m.state("provider") == "pass"
    answer = m.ask("provider", CISTERN_PROVIDER="local")
    assert answer["state"] == "warn" and answer["remedy"] == "export CISTERN_PROVIDER=auto"
    assert m.state("provider", CISTERN_PROVIDER="auto") == "pass"
    m.mounted("ext4", at="/3fs/stage/3fs")
    assert m.state("provider", CISTERN_MOUNT="/3fs/stage/3fs/") == "warn"
    (m.sys / "proc/self/mountinfo").unlink()
    assert m.state("provider") == "unknown"


def test_a_mount_that_is_a_link_is_what_it_leads_to(m, tmp_path):
    """An engine follows the link; its path alone lies on the root of the machine."""
    link = tmp_path / "link"
    link.symlink_to(m.mount)
    m.mounted("fuse.hf3fs")
    m.env["CISTERN_MOUNT"] = str(link)
    assert f"fuse.hf3fs mounted at {m.mount}" in m.ask("mount")["cause"]
    assert m.state("provider", CISTERN_PROVIDER="local") == "warn" and m.state("cluster") == "unknown"
    assert m.state("rdma") == "fail"
    m.limits(files=1 << 30)
    assert m.state("files") == "fail"
    stage = tmp_path / "stage"
    (stage / "3fs").mkdir(parents=True)
    link.unlink()
    link.symlink_to(stage / "3fs")
    m.mounted("ext4", at=stage)
    m.file("/.dockerenv", "")
    answer = m.ask("propagation", CISTERN_PROVIDER="hf3fs")
    assert answer["state"] == "fail" and f"{stage} does not follow" in answer["cause"]
    link.unlink()
    link.symlink_to(tmp_path / "absent")
    for check in ("provider", "cluster", "rdma"):
        assert m.state(check) == "unknown"
    assert m.state("mount") == "fail"


def shell(remedy, m, **more):
    """Carries out a remedy that is a command of the shell on the machine that is described."""
    line = remedy.replace("/etc/cistern", str(m.sys / "etc/cistern"))
    (m.sys / "etc/cistern").mkdir(parents=True, exist_ok=True)
    r = subprocess.run(["sh", "-ec", line + "; env -0"], env=m.env | more, stdout=subprocess.PIPE, text=True, check=True)
    m.env = dict(pair.split("=", 1) for pair in r.stdout.split("\0") if "=" in pair)


def clusters(m, *entries):
    m.file("/etc/cistern/clusters.json", json.dumps({"clusters": [
        {"name": name, "hosts": [hosts], "storage": storage, "mount": str(mount)}
        for name, hosts, storage, mount in entries]}))


def of_3fs(m, cluster_id):
    """The mount is 3FS and says which cluster it is."""
    m.mounted("fuse.hf3fs")
    info = m.sys / "proc/self/mountinfo"
    info.write_text(info.read_text().replace("- fuse.hf3fs fuse.hf3fs", f"- fuse.hf3fs hf3fs.{cluster_id}"))


def test_cluster(m, tmp_path):
    other = tmp_path / "other"
    m.file("/proc/sys/kernel/hostname", "web-17\n")
    assert m.state("cluster") == "pass", "no 3FS, nothing to be wrong"
    of_3fs(m, "stor-a")
    answer = m.ask("cluster")
    assert answer["state"] == "unknown" and "stor-a" in answer["cause"]
    shell(answer["remedy"].replace("HOST*", "web-1*"), m)  # writes the file that is asked for
    answer = m.ask("cluster")
    assert answer["state"] == "pass" and "because pattern web-1*" in answer["cause"]

    of_3fs(m, "stor-b")
    answer = m.ask("cluster")
    assert answer["state"] == "fail" and "stor-b" in answer["cause"] and "stor-a" in answer["cause"]
    of_3fs(m, "stor-a")  # what the remedy asks for
    clusters(m, ("near", "web-1*", "stor-a", m.mount), ("far", "web-2*", "stor-b", other))
    assert m.state("cluster") == "pass"

    m.env["CISTERN_MOUNT"] = str(other)
    answer = m.ask("cluster")
    assert answer["state"] == "fail" and "near" in answer["cause"] and "far" in answer["cause"]
    assert m.state("cluster", CISTERN_CROSS_CLUSTER="1") == "warn"
    shell(answer["remedy"], m)  # export CISTERN_MOUNT=
    assert m.state("cluster") == "pass" and m.env["CISTERN_MOUNT"] == str(m.mount)
    del m.env["CISTERN_MOUNT"]
    assert m.state("cluster") == "pass", "the mount of the cluster is taken"


def test_cluster_of_a_host_that_none_has(m):
    m.file("/proc/sys/kernel/hostname", "mail-1\n")
    clusters(m, ("near", "web-1*", "stor-a", m.mount))
    of_3fs(m, "stor-a")
    answer = m.ask("cluster")
    assert answer["state"] == "fail" and "mail-1" in answer["cause"]
    shell(re.search(r"export CISTERN_CLUSTER=\S+[^, ]", answer["remedy"]).group(0), m)
    assert m.state("cluster") == "pass"
    del m.env["CISTERN_CLUSTER"], m.env["CISTERN_MOUNT"]
    assert m.state("cluster") == "fail"
    clusters(m, ("near", "mail-1", "stor-a", m.mount))
    assert m.state("cluster") == "pass"


def test_cluster_where_the_mount_is_not_what_the_file_says(m):
    m.file("/proc/sys/kernel/hostname", "web-17\n")
    clusters(m, ("near", "web-1*", "stor-a", m.mount))
    answer = m.ask("cluster")
    assert answer["state"] == "warn" and "ext4" in answer["cause"]
    m.mounted("fuse.hf3fs")  # 3FS that does not say which
    assert m.state("cluster") == "unknown"
    (m.sys / "proc/self/mountinfo").unlink()
    assert m.state("cluster") == "unknown"
    clusters(m, ("near", "web-1*", "stor-a", "/elsewhere"))
    of_3fs(m, "stor-a")
    assert m.state("cluster") == "fail", "3FS that no cluster has"
    m.mounted("ext4")
    assert m.state("cluster") == "pass", "a directory of this host, on purpose"


def test_cluster_with_a_bad_file(m):
    m.file("/etc/cistern/clusters.json", '{"clusters": [{"nam": "x"}]}')
    answer = m.ask("cluster")
    assert answer["state"] == "fail" and "clusters[0].nam" in answer["cause"]
    clusters(m, ("near", "*", "stor-a", m.mount))
    of_3fs(m, "stor-a")
    assert m.state("cluster") == "pass"


def test_client(m):
    assert m.state("client") == "pass"
    broken = FAKES / "missing" / "libhf3fs_api_shared.so"
    answer = m.ask("client", CISTERN_PROVIDER="hf3fs", CISTERN_PROVIDER_PATH=str(broken))
    assert answer["state"] == "fail" and str(broken) in answer["cause"]
    assert m.state("client", CISTERN_PROVIDER="hf3fs", CISTERN_PROVIDER_PATH="/absent.so") == "fail"
    assert m.state("client", CISTERN_MOUNT="/absent") == "unknown"


def test_propagation(m):
    assert m.state("propagation") == "pass"
    m.file("/var/run/secrets/kubernetes.io/token", "")
    m.mounted("ext4", at="/3fs/stage")
    answer = m.ask("propagation", CISTERN_MOUNT="/3fs/stage/3fs/")
    assert answer["state"] == "fail" and "mountPropagation: HostToContainer" in answer["remedy"]
    m.mounted("ext4", "master:7", at="/3fs/stage")
    assert m.state("propagation", CISTERN_MOUNT="/3fs/stage/3fs/") == "pass"
    m.mounted("ext4", "shared:8 master:7", at="/3fs/stage")
    assert m.state("propagation", CISTERN_MOUNT="/3fs/stage/3fs/") == "pass"
    m.mounted("ext4", "shared:8", at="/3fs/stage")  # with the host, or within the container
    assert m.state("propagation", CISTERN_MOUNT="/3fs/stage/3fs/") == "unknown"
    (m.sys / "proc/self/mountinfo").unlink()
    assert m.state("propagation") == "unknown"


MARKS = {
    "token": lambda m: m.file("/var/run/secrets/kubernetes.io/token", ""),
    "own environment": lambda m: m.file("/proc/self/environ", "A=1\0KUBERNETES_SERVICE_HOST=10.0.0.1\0B=2\0"),
    "first environment": lambda m: m.file("/proc/1/environ", "KUBERNETES_SERVICE_HOST=10.0.0.1\0"),
    "group": lambda m: m.file("/proc/1/cgroup", "0::/kubepods/pod1\n"),
    "docker": lambda m: m.file("/.dockerenv", ""),
    "podman": lambda m: m.file("/run/.containerenv", ""),
    "some other": lambda m: m.file("/proc/1/environ", "container=lxc\0"),
    "overlay": lambda m: m.file("/proc/self/mountinfo", (m.sys / "proc/self/mountinfo").read_text().replace(
        "shared:1 - ext4 /dev/sda1", "- overlay overlay")),
}


@pytest.mark.parametrize("mark", MARKS)
def test_a_container_is_known_by(mark, m):
    """A Pod may have no token and see no group: without the others, propagation would pass unseen."""
    m.mounted("ext4", at="/3fs/stage")
    assert m.state("propagation", CISTERN_MOUNT="/3fs/stage/3fs/") == "pass"
    MARKS[mark](m)
    assert m.state("propagation", CISTERN_MOUNT="/3fs/stage/3fs/") == "fail"


def test_a_variable_that_is_only_named_alike_is_no_container(m):
    m.file("/proc/1/environ", "MY_KUBERNETES_SERVICE_HOST=1\0containers=1\0")
    m.mounted("ext4", at="/3fs/stage")
    assert m.state("propagation", CISTERN_MOUNT="/3fs/stage/3fs/") == "pass"


# ---- The root ----


def as_nobody():
    return ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if ROOT else []


def open_up(path):
    """Lets another user walk to a directory of pytest."""
    for p in [path, *path.parents]:
        if str(p).startswith("/tmp/") or "pytest" in str(p):
            p.chmod(p.stat().st_mode | 0o55)


def test_root(m):
    assert m.state("root") == "pass"
    answer = m.ask("root", CISTERN_MOUNT=str(m.mount / "absent"))
    assert answer["state"] == "fail" and "mkdir" not in answer["remedy"]
    root = m.mount / "rtp_llm"
    root.write_text("")
    assert m.state("root") == "fail"
    root.unlink()
    root.mkdir(mode=0o755)
    answer = m.ask("root")
    assert answer["state"] == "warn" and answer["remedy"] == f"chmod 700 {root}"
    subprocess.run(answer["remedy"].split(), check=True)
    assert m.state("root") == "pass"


@pytest.mark.skipif(not ROOT, reason="becomes another user, which takes root")
def test_root_that_cannot_be_written(m, tmp_path):
    open_up(tmp_path)
    open_up(m.sys)
    r = m.run("--only", "root", "--json", launcher=as_nobody())
    answer = json.loads(r.stdout)["checks"][0]
    assert answer["state"] == "fail" and "user 65534" in answer["cause"]
    subprocess.run(["sh", "-c", answer["remedy"]], check=True)
    (m.mount / "rtp_llm").chmod(0o700)
    open_up(tmp_path)  # a pytest that starts beside this one closes the folder that they share
    r = m.run("--only", "root", "--json", launcher=as_nobody())
    assert json.loads(r.stdout)["checks"][0]["state"] == "pass"


def test_ring(m):
    assert m.state("ring") == "pass"
    assert list(m.mount.iterdir()) == []
    answer = m.ask("ring", CISTERN_PROVIDER="hf3fs", CISTERN_PROVIDER_PATH="/absent.so")
    assert answer["state"] == "fail" and "/absent.so" in answer["cause"]
    assert m.state("ring", CISTERN_MOUNT="/absent") == "fail"


@pytest.mark.parametrize("setting", [
    {"CISTERN_ADMISSION": "reused"}, {"CISTERN_WRITE_BUDGET_BYTES_PER_DAY": "1"}, {"CISTERN_WRITE_BANDWIDTH": "1"},
    {"CISTERN_FREE_FLOOR_BYTES": "1000T"}, {"CISTERN_CAPACITY_BYTES": "1G"}, {"CISTERN_TTL_SECONDS": "1"},
    {"CISTERN_SHADOW_EVERY": "1"}])
def test_ring_whatever_the_engine_stores(m, setting):
    assert m.state("ring", **setting) == "pass", m.ask("ring", **setting)["cause"]


@pytest.mark.skipif(not ROOT, reason="becomes another user, which takes root")
@pytest.mark.parametrize("kind", ["ext4", "fuse.hf3fs"])
def test_ring_where_the_root_alone_can_be_written(m, tmp_path, kind):
    """As it is on a 3FS of others: the mount is root's, and the root was made for the engine's user."""
    open_up(tmp_path)
    open_up(m.sys)
    m.mounted(kind)
    root = m.mount / "rtp_llm"
    root.mkdir(mode=0o700)
    os.chown(root, 65534, 65534)
    (m.mount / ".cistern-mount").touch()
    (m.mount / "3fs-virt" / "iovs").mkdir(parents=True)
    (m.mount / "3fs-virt" / "iovs").chmod(0o777)
    m.mount.chmod(0o755)
    r = m.run("--only", "ring", "--json", launcher=as_nobody())
    answer = json.loads(r.stdout)["checks"][0]
    assert answer["state"] == "pass", answer["cause"]
    assert list(root.iterdir()) == []


@needs_root
def test_files_of_doctors_with_the_same_pid(m):
    """In containers PIDs begin anew, and hosts share the mount: what others have there is not in the way."""
    m.mounted("fuse.hf3fs")
    (m.mount / ".cistern-mount").touch()
    (m.mount / "3fs-virt" / "iovs").mkdir(parents=True)
    others = [m.mount / f".cistern-doctor-{pid}" for pid in range(1, 20)]
    stores = [m.mount / f".cistern-doctor-root-{pid}" for pid in range(1, 20)]
    for path in others:
        path.touch()
    for path in stores:
        path.mkdir()
        (path / "block").touch()
    r = m.run("--only", "root,ring,direct,clock", "--json", launcher=["unshare", "--pid", "--fork"])
    answer = json.loads(r.stdout)
    assert answer["fail"] == answer["unknown"] == 0, answer
    assert all(p.exists() for p in others) and all((p / "block").exists() for p in stores)


def test_root_takes_away_what_killed_doctors_left(m):
    root = m.mount / "rtp_llm"
    root.mkdir(mode=0o700)
    old = time.time() - 3700
    for above in (m.mount, root):
        (above / ".cistern-doctor-file").touch()
        os.utime(above / ".cistern-doctor-file", (old, old))
        (above / ".cistern-doctor-root-x" / "below").mkdir(parents=True)
        os.utime(above / ".cistern-doctor-root-x", (old, old))
        (above / ".cistern-doctor-young").touch()
        (above / "other").touch()
        os.utime(above / "other", (old, old))
    assert m.state("root") == "pass"
    for above in (m.mount, root):
        assert {p.name for p in above.iterdir()} - {"rtp_llm"} == {".cistern-doctor-young", "other"}


def test_direct(m):
    assert m.state("direct") in ("pass", "warn")
    assert m.state("direct", CISTERN_MOUNT="/absent") == "unknown"


@needs_root
def test_direct_where_it_is_refused(m):
    """ramfs has no O_DIRECT on any kernel; ext4 has it on all."""
    subprocess.run(["mount", "-t", "ramfs", "ramfs", str(m.mount)], check=True)
    try:
        assert m.state("direct") == "warn"
    finally:
        subprocess.run(["umount", str(m.mount)], check=True)


def test_clock(m):
    assert m.state("clock") == "pass"
    skewed = {"LD_PRELOAD": str(FAKES / "skewed_clock.so")}
    answer = m.ask("clock", SKEW_SECONDS="3600", **skewed)
    assert answer["state"] == "fail" and "ahead of" in answer["cause"]
    assert m.state("clock", SKEW_SECONDS="-10", **skewed) == "warn"
    assert m.state("clock", CISTERN_MOUNT="/absent") == "unknown"


@needs_root
def test_room(m):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(m.mount)], check=True)
    try:
        assert m.state("room") == "pass"
        with open(m.mount / "full", "wb") as f:
            os.posix_fallocate(f.fileno(), 0, 600 << 20)
        assert m.state("room") == "fail"
        m.file("../mount/rtp_llm/cistern.json", "{}")
        assert m.state("room") == "warn", "there is something to evict"
        assert m.state("room", CISTERN_ROOT="new/") == "fail"
        shutil.rmtree(m.mount / "rtp_llm")
        (m.mount / "full").unlink()
        assert m.state("room") == "pass"
        answer = m.ask("room", CISTERN_CAPACITY_BYTES="2G")
        assert answer["state"] == "warn"
        assert m.state("room", CISTERN_CAPACITY_BYTES=answer["remedy"].split("=")[1]) == "pass"
    finally:
        subprocess.run(["umount", str(m.mount)], check=True)


def test_numbers_that_are_too_large_do_not_wrap(m):
    large = {"THREEFS_READ_IOV_SIZE": str(1 << 62), "THREEFS_WRITE_IOV_SIZE": "1G"}
    for check in ("shm-size", "shm-free", "memory"):
        assert m.state(check, "--tp", 4, **large) == "fail", check
    m.limits(memlock=1 << 40)
    wrapped = {"THREEFS_READ_IOV_SIZE": str((1 << 64) - 4096), "THREEFS_WRITE_IOV_SIZE": "1G"}
    assert m.state("memlock", **wrapped) == "warn"
    assert m.state("shm-size", **wrapped) == "fail"
    assert m.state("room", CISTERN_FREE_FLOOR_BYTES=str((1 << 64) - 1)) == "fail"


def test_room_unknown(m):
    assert m.state("room", CISTERN_MOUNT="/absent") == "unknown"


def test_writers(m):
    assert m.state("writers") == "pass"
    trace = m.sys / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 1024, "hash_ids": [1, 2]}\n')
    r = subprocess.run([CISTERN, "replay", str(trace), "--mount", str(m.mount), "--root", "rtp_llm", "--keep", "--staging",
                        "16M"], env=m.env, stdout=subprocess.PIPE)
    assert r.returncode == 0
    answer = m.ask("writers")
    assert answer["state"] == "pass" and "1 writers have stored here: 0 at work, 0 silent" in answer["cause"]
    root = m.mount / "rtp_llm" / "cistern.json"
    good = root.read_text()
    root.write_text(re.sub(r'"format": *\d+', '"format": 999', good))
    assert m.state("writers") == "fail"
    root.write_text(good)
    toc = next((m.mount / "rtp_llm").rglob("*.toc"))
    os.truncate(toc, 100)
    answer = m.ask("writers")
    assert answer["state"] == "warn" and answer["remedy"].startswith("cistern fsck")


def test_writers_at_work_and_ended_without_a_word(m):
    trace = m.sys / "trace.jsonl"
    trace.write_text('{"timestamp": 0, "input_length": 512, "hash_ids": [1]}\n'
                     '{"timestamp": 600000, "input_length": 512, "hash_ids": [2]}\n')
    writer = subprocess.Popen([CISTERN, "replay", str(trace), "--mount", str(m.mount), "--root", "rtp_llm", "--staging",
                               "16M", "--speed", "1"], env=m.env, stdout=subprocess.DEVNULL)
    try:
        until = time.time() + 60
        while "1 at work" not in m.ask("writers")["cause"]:
            assert time.time() < until and writer.poll() is None
            time.sleep(0.1)
    finally:
        writer.kill()
        writer.wait()
    head = next((m.mount / "rtp_llm").rglob("*.head"))
    os.utime(head, (0, 0))
    assert "0 at work, 1 silent" in m.ask("writers")["cause"]
    os.truncate(head, 10)
    answer = m.ask("writers")
    assert answer["state"] == "warn" and head.name in answer["cause"]


# ---- /dev/shm and memory ----


def test_shm_on_a_disk(m):
    info = m.sys / "proc/self/mountinfo"
    line = "25 21 0:30 / /dev/shm rw - %s shm rw\n"
    before = "".join(x for x in info.read_text().splitlines(True) if " /dev/shm " not in x)
    info.write_text(before + line % "ext4")
    answer = m.ask("shm-size")
    assert answer["state"] == "fail" and "ext4" in answer["cause"]
    assert answer["remedy"].startswith("mount -t tmpfs ")
    info.write_text(before + line % "tmpfs")
    assert m.state("shm-size") != "fail"


@needs_root
def test_shm(m):
    shm = m.sys / "dev" / "shm"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(shm)], check=True)
    try:
        assert m.state("shm-size") == "pass" and m.state("shm-free") == "pass"
        assert m.state("shm-size", "--tp", 5) == "warn"
        answer = m.ask("shm-size", "--tp", 8)
        assert answer["state"] == "fail" and "8 ranks need 64 MiB" in answer["cause"]
        assert m.state("shm-free", "--tp", 8) == "fail"
        remedy = answer["remedy"]
        assert remedy == "mount -o remount,size=1G /dev/shm"
        subprocess.run(remedy.replace("/dev/shm", str(shm)).split(), check=True)
        assert m.state("shm-size", "--tp", 8) == "pass" and m.state("shm-free", "--tp", 8) == "pass"
        with open(shm / "hf3fs-iov-dead", "wb") as f:
            os.posix_fallocate(f.fileno(), 0, 1000 << 20)
        old = time.time() - 3600
        os.utime(shm / "hf3fs-iov-dead", (old, old))
        assert m.state("shm-free", "--tp", 8) == "warn"
        assert m.state("shm-stale", "--clean") == "pass"
        assert m.state("shm-free", "--tp", 8) == "pass"
    finally:
        subprocess.run(["umount", str(shm)], check=True)


@pytest.mark.parametrize("ranks, size", [(1, 10), (2, 20), (4, 40), (8, 80)])
def test_shm_is_named_as_the_reference_counts_it(m, ranks, size):
    """Two areas of 4 GiB a rank, and a quarter on top."""
    del m.env["THREEFS_READ_IOV_SIZE"], m.env["THREEFS_WRITE_IOV_SIZE"]
    m.file("/var/run/secrets/kubernetes.io/token", "")
    m.file("/sys/fs/cgroup/memory.max", str(ranks * 8 * GIB - 1))
    answer = m.ask("memory", "--tp", ranks)
    assert answer["state"] == "fail" and f"{size}Gi" in answer["remedy"]
    m.file("/sys/fs/cgroup/memory.max", str(size * GIB))
    m.file("/proc/meminfo", "MemTotal: 335544320 kB\n")
    m.no_shm()
    assert m.state("memory", "--tp", ranks) == "pass"


@needs_root
def test_shm_pages(m):
    shm = m.sys / "dev" / "shm"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,huge=never", "tmpfs", str(shm)], check=True)

    def seen():
        """The kernel's own line, with the place that stands in for /dev/shm."""
        line = next(x for x in open("/proc/self/mountinfo") if f" {shm} " in x)
        m.file("/proc/self/mountinfo", line.replace(str(shm), "/dev/shm"))
        return m.ask("shm-pages")

    try:
        answer = seen()
        assert answer["state"] == "warn" and answer["remedy"] == "mount -o remount,huge=within_size /dev/shm"
        subprocess.run(answer["remedy"].replace("/dev/shm", str(shm)).split(), check=True)
        assert seen()["state"] == "pass"
        subprocess.run(["mount", "-o", "remount,huge=advise", str(shm)], check=True)
        assert seen()["state"] == "warn"  # nobody advises
    finally:
        subprocess.run(["umount", str(shm)], check=True)
    m.file("/.dockerenv", "")
    m.file("/proc/self/mountinfo", SHM_LINE.format("rw,size=64m"))
    assert "by root of the node" in m.ask("shm-pages")["remedy"]
    m.file("/var/run/secrets/kubernetes.io/token", "")
    assert "empty-dir/shm-vol" in m.ask("shm-pages")["remedy"]
    m.file("/proc/self/mountinfo", "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
    assert m.state("shm-pages") == "unknown"


def test_shm_pages_for_all_mounts(m):
    """One word for the machine goes before the options of each mount."""
    switch = "/sys/kernel/mm/transparent_hugepage/shmem_enabled"
    m.file(switch, "always within_size advise never [deny] force\n")
    answer = m.ask("shm-pages")
    assert answer["state"] == "warn"
    subprocess.run(answer["remedy"].replace("/sys/", f"{m.sys}/sys/"), shell=True, check=True)
    assert m.state("shm-pages") == "pass"
    m.mounted("ext4")
    info = m.sys / "proc/self/mountinfo"
    info.write_text(info.read_text().replace(",huge=within_size", ""))
    assert m.state("shm-pages") == "warn"
    m.file(switch, "always within_size advise never deny [force]\n")
    assert m.state("shm-pages") == "pass"


def test_shm_unknown(m):
    (m.sys / "dev" / "shm").rmdir()
    for check in ("shm-size", "shm-free", "shm-stale"):
        assert m.state(check) == "unknown"


def mapped(path):
    """Staging of an engine: the descriptor is closed, the memory is there."""
    with open(path, "r+b") as f:
        return mmap.mmap(f.fileno(), 4096)


def staging(shm, *names):
    for name in names:
        (shm / name).write_bytes(bytes(8192))
        if name != "hf3fs-iov-young":
            os.utime(shm / name, (0, 0))


def test_stale_staging(m):
    shm = m.sys / "dev" / "shm"
    assert m.state("shm-stale") == "pass"
    staging(shm, "hf3fs-iov-dead", "hf3fs-iov-used", "hf3fs-iov-young", "other")
    with mapped(shm / "hf3fs-iov-used"):
        answer = m.ask("shm-stale")
        assert answer["state"] == "fail" and answer["cause"].startswith("1 files")
        assert m.state("shm-stale", *answer["remedy"].split()[-1:]) == "pass"
        assert sorted(p.name for p in shm.iterdir()) == ["hf3fs-iov-used", "hf3fs-iov-young", "other"]
        assert m.state("shm-stale") == "pass"
    assert m.state("shm-stale") == "fail"


@needs_root
def test_staging_of_another_container(m):
    """Its processes are not in this /proc, its /dev/shm is: docker --ipc=host, two containers of a Pod."""
    shm = m.sys / "dev" / "shm"
    staging(shm, "hf3fs-iov-dead", "hf3fs-iov-used")
    container = ["unshare", "--mount", "--pid", "--fork", "sh", "-ec",
                 f'mount -t proc proc {m.sys}/proc; "$@"', "sh"]
    with mapped(shm / "hf3fs-iov-used"):
        r = m.run("--only", "shm-stale", "--json", launcher=container)
        answer = json.loads(r.stdout)["checks"][0]
        assert answer["state"] == "fail" and answer["cause"].startswith("1 files"), answer
        r = m.run("--only", "shm-stale", "--clean", launcher=container)
        assert r.returncode == 0 and [p.name for p in shm.iterdir()] == ["hf3fs-iov-used"], r.stdout


@pytest.mark.skipif(not ROOT, reason="becomes another user, which takes root")
def test_staging_that_another_user_cannot_judge(m, tmp_path):
    open_up(tmp_path)
    open_up(m.sys)
    shm = m.sys / "dev" / "shm"
    staging(shm, "hf3fs-iov-of-root")
    r = m.run("--only", "shm-stale", "--clean", "--json", launcher=as_nobody())
    answer = json.loads(r.stdout)["checks"][0]
    assert answer["state"] == "unknown" and "1 files" in answer["cause"]


@pytest.mark.parametrize("files", [
    {"/proc/self/cgroup": "0::/kubepods/pod1\n", "/sys/fs/cgroup/kubepods/pod1/memory.max": "{}\n"},
    {"/proc/self/cgroup": "0::/kubepods/pod1\n", "/sys/fs/cgroup/kubepods/pod1/memory.max": "max\n",
     "/sys/fs/cgroup/kubepods/memory.max": "{}\n"},
    {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "{}\n"},
    {"/proc/self/cgroup": "9:cpu:/\n5:memory:/docker/x\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes": "{}\n"},
])
def test_memory_of_a_container(m, files):
    for path, text in files.items():
        m.file(path, text.format(4 << 20))
    assert m.state("memory") == "fail"
    for path, text in files.items():
        m.file(path, text.format(64 << 20))
    m.no_shm()
    assert m.state("memory") == "pass"


def test_memory_of_a_machine(m):
    assert m.state("memory") == "pass"
    m.file("/proc/meminfo", "MemTotal: 4096 kB\n")
    assert m.state("memory") == "fail"
    (m.sys / "proc/meminfo").unlink()
    assert m.state("memory") == "unknown"
    m.file("/proc/meminfo", "MemTotal: 33554432 kB\n")
    m.file("/.dockerenv", "")
    assert m.state("memory") == "unknown"  # a container, and its limit is not to be seen


# ---- Limits ----


def test_memlock(m):
    assert m.state("memlock") == "pass"
    m.limits(memlock=65536)
    assert m.state("memlock") == "warn" and "LimitMEMLOCK=infinity" in m.ask("memlock")["remedy"]
    m.limits(memlock=8 << 20)
    assert m.state("memlock") == "pass"
    (m.sys / "proc/self/limits").unlink()
    assert m.state("memlock") == "unknown"


def test_files(m):
    assert m.state("files") == "pass"
    m.limits(files=256)
    assert m.state("files") == "warn"
    m.limits(files=1 << 30)
    assert m.state("files") == "warn"  # no client of 3FS is loaded for such a mount
    m.mounted("fuse.hf3fs")
    answer = m.ask("files")
    assert answer["state"] == "fail" and answer["remedy"].startswith("ulimit -n 1048576")
    m.file("/.dockerenv", "")
    answer = m.ask("files")
    assert answer["state"] == "warn" and "--ulimit nofile=1048576" in answer["remedy"]
    m.file("/var/run/secrets/kubernetes.io/token", "")  # a Pod sets no limits, and a command in it has not the engine's
    answer = m.ask("files")
    assert answer["state"] == "warn" and "sh -c 'ulimit -n 1048576; exec ENGINE'" in answer["remedy"]
    m.limits(files=1048576)
    assert m.state("files") == "pass"
    (m.sys / "proc/self/limits").unlink()
    assert m.state("files") == "unknown"


def test_aio(m):
    assert m.state("aio") == "pass"
    m.file("/proc/sys/fs/aio-nr", "65000\n")
    answer = m.ask("aio")
    assert answer["state"] == "warn"
    m.file("/proc/sys/fs/aio-max-nr", answer["remedy"].split("=")[1])
    assert m.state("aio") == "pass"
    (m.sys / "proc/sys/fs/aio-nr").unlink()
    assert m.state("aio") == "unknown"


def test_uring(m):
    r = m.run("--only", "io-uring", "--json", launcher=[str(BUILD / "tests/harness/no_uring")])
    answer = json.loads(r.stdout)["checks"][0]
    assert answer["state"] == "warn" and "seccomp" in answer["remedy"]
    m.file("/proc/sys/kernel/io_uring_disabled", "1\n")  # for all but a group: refused with the same error
    r = m.run("--only", "io-uring", "--json", launcher=[str(BUILD / "tests/harness/no_uring")])
    answer = json.loads(r.stdout)["checks"][0]
    assert answer["state"] == "warn" and answer["remedy"] == "sysctl -w kernel.io_uring_disabled=0"
    m.file("/proc/sys/kernel/io_uring_disabled", "2\n")
    answer = m.ask("io-uring")
    assert answer["state"] == "warn" and answer["remedy"] == "sysctl -w kernel.io_uring_disabled=0"
    m.file("/proc/sys/kernel/io_uring_disabled", "0\n")
    if m.state("io-uring") == "warn":
        pytest.skip("io_uring is forbidden here")
    assert m.state("io-uring") == "pass"


# ---- The node ----


def test_storage_node(m):
    assert m.state("storage-node") == "pass"
    m.file("/proc/4711/comm", "storage_main\n")
    answer = m.ask("storage-node")
    assert answer["state"] == "fail" and "storage.3fs.release=rtp" in answer["remedy"]
    (m.sys / "proc/4711/comm").unlink()
    assert m.state("storage-node") == "pass"
    m.file("/.dockerenv", "")
    assert m.state("storage-node") == "pass"  # docker run --pid=host sees them all
    (m.sys / "proc/2/comm").unlink()
    assert m.state("storage-node") == "unknown"
    m.file("/proc/4711/comm", "storage_main\n")
    assert m.state("storage-node") == "fail"


def test_rdma(m):
    assert m.state("rdma") == "pass"  # not needed
    m.mounted("fuse.hf3fs")
    assert m.state("rdma") == "fail"
    m.file("/sys/class/infiniband/mlx5_0/ports/1/state", "1: DOWN\n")
    assert m.state("rdma") == "fail"
    m.file("/sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n")
    assert m.state("rdma") == "pass" and "1 of 1" in m.ask("rdma")["cause"]
    m.file("/.dockerenv", "")
    assert m.state("rdma") == "pass"
    shutil.rmtree(m.sys / "sys/class/infiniband")
    assert m.state("rdma") == "unknown"  # the client, in a sidecar, may have them
    (m.sys / ".dockerenv").unlink()
    (m.sys / "proc/self/mountinfo").unlink()
    assert m.state("rdma") == "unknown"


def test_cuda(m):
    answer = m.ask("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-ok"))
    assert answer["state"] == "pass" and answer["cause"].startswith("CUDA driver 12.4, 1 devices; memory of the host is")
    assert m.state("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-unpinned")) == "warn"
    assert m.state("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-busy")) == "unknown"
    answer = m.ask("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-fail"))  # a library, as images have it, and no GPU
    assert answer["state"] == "pass" and "no NVIDIA GPU" in answer["cause"]
    assert m.state("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-missing")) == "fail"
    if m.state("cuda") != "pass":
        pytest.skip("this machine has a CUDA driver that does not start")
    m.file("/dev/nvidiactl", "")
    assert m.state("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-fail")) == "fail"
    answer = m.ask("cuda")
    assert answer["state"] == "fail" or "CUDA driver" in answer["cause"]
