"""Two versions of the library on one root at the same time: this one, and each one before it.

The others are what VERSIONS_OTHER names; else the newest tag v* that is not this very commit; else those that were
finished before there were tags: the last without a capacity, the first with one, and the last that kept the data files of
all segments open. Each is taken from git into the
build folder and built there once; one that is not in git, because there is none or the clone is shallow, is skipped. One
program, client.c, is compiled against each version's header and linked with each version's library. VERSIONS_SEED
repeats a run's choices.
"""
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
SEED = int(os.environ.get("VERSIONS_SEED", str(random.SystemRandom().randrange(1 << 32))))
CC = shlex.split(os.environ.get("CC", "cc"))
STORED, PRESENT, HIT, MISS = 3, 4, 1, 2
LIMIT = 60


def git(*args):
    try:
        run = subprocess.run(["git", "-C", TOP, *args], capture_output=True, text=True)
    except FileNotFoundError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""


def parent(commit):
    return git("rev-parse", "--verify", commit + "^") if commit else ""


def added(path):
    """The commit that added a file; the oldest one of a shallow clone adds everything, and says nothing."""
    commit = (git("log", "--diff-filter=A", "--format=%H", "--", path).split() or [""])[-1]
    return commit if parent(commit) else ""


def named():
    if os.environ.get("VERSIONS_OTHER"):
        return git("rev-parse", "--verify", os.environ["VERSIONS_OTHER"] + "^{commit}")
    here = git("rev-parse", "HEAD")
    for tag in git("tag", "--list", "v*", "--sort=-version:refname").split():
        commit = git("rev-parse", tag + "^{commit}")
        if commit != here:
            return commit
    return ""


# A file marks the commit: ids change when history is written anew.
OTHERS = {"without a capacity": lambda: parent(added("src/engine/policy.h")),
          "with a capacity": lambda: added("tests/unit/evict_fixture.h"),
          "with all files open": lambda: parent(added("src/engine/files.h"))}
if os.environ.get("VERSIONS_OTHER") or named():
    OTHERS = {"named": named}


def compile_client(include, lib, to):
    os.makedirs(to, exist_ok=True)
    program = os.path.join(to, "client")
    subprocess.run([*CC, "-O1", "-Wall", "-Werror", "-I", include, "-o", program,
                    os.path.join(TOP, "tests", "versions", "client.c"), "-L", lib, "-lcistern",
                    "-Wl,-rpath," + os.path.abspath(lib)], check=True)
    return program


@pytest.fixture(scope="session", params=OTHERS, ids=lambda which: which.replace(" ", "-"))
def clients(request):
    commit = OTHERS[request.param]()
    if not commit:
        pytest.skip(f"no git, or the version {request.param} is not in it")
    folder = os.path.abspath(os.path.join(BUILD, "versions", commit[:16]))
    lib = os.path.join(folder, "build")
    if not os.path.exists(os.path.join(folder, "built")):
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        tar = subprocess.Popen(["git", "-C", TOP, "archive", commit], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], stdin=tar.stdout, check=True)
        assert tar.wait() == 0
        env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "O")}
        subprocess.run(["make", "-C", folder, "-j2", "O=build", "SETUP=no", "build/libcistern.so.0",
                        "build/hf3fs/libhf3fs_api_shared.so"], check=True, env=env, stdout=subprocess.DEVNULL)
        if not os.path.exists(os.path.join(lib, "libcistern.so")):
            os.symlink("libcistern.so.0", os.path.join(lib, "libcistern.so"))
        open(os.path.join(folder, "built"), "w").close()
    print(f"VERSIONS_SEED={SEED} other version: {commit[:12]}")
    if not os.path.exists(os.path.join(BUILD, "libcistern.so")):
        os.symlink("libcistern.so.0", os.path.join(BUILD, "libcistern.so"))
    here = compile_client(os.path.join(TOP, "include"), BUILD, os.path.join(BUILD, "tests", "versions"))
    there = compile_client(os.path.join(folder, "include"), lib, os.path.join(folder, "client"))
    return {"new": here, "old": there}


class Process:
    """A client and what it answers."""

    def __init__(self, program, where):
        self.p = subprocess.Popen([program, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hear()

    def hear(self):
        line = self.p.stdout.readline()
        assert line, "the client ended"
        return int(line)

    def tell(self, word, number=0):
        self.p.stdin.write(f"{word} {number}\n")
        self.p.stdin.flush()

    def ask(self, word, number=0):
        self.tell(word, number)
        return self.hear()

    def close(self):
        self.p.stdin.close()
        assert self.p.wait(timeout=LIMIT) == 0

    def kill(self):
        self.p.send_signal(signal.SIGKILL)
        self.p.wait()


@pytest.fixture
def root():
    where = tempfile.mkdtemp(prefix="cistern-versions-")
    yield where
    shutil.rmtree(where, ignore_errors=True)


def read_independently(root):
    """The reader that shares no code with either library: every block verifies, or it fails."""
    run = subprocess.run([sys.executable, os.path.join(TOP, "tools", "cistern_read.py"),
                          os.path.join(root, "rtp_llm")], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr


def test_both_write_and_read_at_once(clients, root):
    rng = random.Random(SEED)
    both = {name: Process(clients[name], root) for name in clients}
    stored, asked = set(), 0
    for turn in range(60):
        numbers = [rng.randrange(1, 400) for _ in range(2)]
        if rng.random() < 0.3:
            numbers[1] = numbers[0]  # both are told to store the same block
        for p, n in zip(both.values(), numbers):
            p.tell("put", n)
        for p, n in zip(both.values(), numbers):
            result = p.hear()
            assert result in (STORED, PRESENT), f"put of {n}: {result}"
            stored.add(n)
        if turn % 5:
            continue
        for p in both.values():
            assert p.ask("refresh") == 0
            for n in rng.sample(sorted(stored), min(20, len(stored))):
                assert p.ask("get", n) == HIT
                asked += 1
    for p in both.values():
        assert p.ask("refresh") == 0
        for n in sorted(stored):
            assert p.ask("get", n) == HIT
        assert p.ask("get", 100000) == MISS
    for p in both.values():
        p.close()
    read_independently(root)
    print(f"{len(stored)} blocks, {asked} reads while both wrote")


@pytest.mark.parametrize("first,second", [("old", "new"), ("new", "old")])
def test_one_takes_over_from_the_other(clients, root, first, second):
    """Killed, not closed: what was stored is there for the other version, and back again."""
    a = Process(clients[first], root)
    for n in range(1, 60):
        assert a.ask("put", n) == STORED
    a.kill()
    b = Process(clients[second], root)
    for n in range(1, 60):
        assert b.ask("get", n) == HIT
    for n in range(60, 120):
        assert b.ask("put", n) == STORED
    b.close()
    again = Process(clients[first], root)
    for n in range(1, 120):
        assert again.ask("get", n) == HIT
    again.close()
    read_independently(root)


@pytest.mark.parametrize("deletes,sees", [("old", "new"), ("new", "old")])
def test_what_one_deletes_the_other_forgets(clients, root, deletes, sees):
    d, s = Process(clients[deletes], root), Process(clients[sees], root)
    assert s.ask("put", 1) == STORED
    assert s.ask("put", 2) == STORED
    assert d.ask("refresh") == 0
    assert d.ask("delete", 1) == 1
    assert d.ask("flush") == 0
    assert s.ask("refresh") == 0
    assert s.ask("has", 1) == 0
    assert s.ask("get", 2) == HIT
    d.close()
    s.close()


def test_this_version_follows_the_other_by_itself(clients, root):
    new, old = Process(clients["new"], root), Process(clients["old"], root)
    for n in (1, 2):
        assert old.ask("put", n) == STORED
        end = time.monotonic() + LIMIT
        while not new.ask("has", n):
            assert time.monotonic() < end, "not taken up"
            time.sleep(0.01)
        assert new.ask("get", n) == HIT
    new.close()
    old.close()


def test_the_other_version_does_not_open_an_encrypted_root(clients, root):
    """It would write plain segments into it. What cistern.json says is enough for it, whatever lies beside."""
    a = Process(clients["new"], root)
    assert a.ask("put", 1) == STORED
    a.close()
    path = os.path.join(root, "rtp_llm", "cistern.json")
    with open(path) as f:
        about = json.load(f)
    about.update(format=2, encryption="aes-256-gcm", key_id="00" * 8)
    with open(path, "w") as f:
        json.dump(about, f)
    for name in ("old", "new"):  # the new one was given no key either
        before = sorted(os.listdir(os.path.join(root, "rtp_llm")))
        run = subprocess.run([clients[name], root], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT)
        assert run.returncode != 0, f"{name}: {run.stdout}"
        assert sorted(os.listdir(os.path.join(root, "rtp_llm"))) == before
