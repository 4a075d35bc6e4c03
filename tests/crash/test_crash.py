"""Processes are killed at random moments and at named points; every later open must find what was reported.

What a victim was told is in its log, a file outside the store, before the victim does anything else (victim.c). After
each kill a fresh process opens the directory and holds the store to its word: whatever was reported stored is a
verified hit with the right bytes, nothing is wrong, puts are accepted. CRASH_RUNS is the number of random kills;
CRASH_SEED repeats a run's choices (not its timing). Fault points are passed three times each in the long form.
"""
import hashlib
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
VICTIM = os.path.join(BUILD, "tests", "crash", "victim")
RUNS = int(os.environ.get("CRASH_RUNS", "10"))
SEED = int(os.environ.get("CRASH_SEED", str(random.SystemRandom().randrange(1 << 32))))
LONG = RUNS >= 100
TIMES = 3 if LONG else 1  # each fault point
PER_STORE = 6  # kills before a fresh directory is taken
RECORD = struct.Struct("<QII")
STORED = 3
# Where each point is passed, and how often at least within one victim's life.
PUT = {"put.copied": 60, "put.payload_written": 30, "put.frame_written": 30, "put.completed": 30,
       "put.head_written": 20}
SEAL = {"seal.begin": 4, "seal.truncated": 4, "seal.data_synced": 4, "seal.contents_synced": 4, "seal.done": 4}
OPEN = {"open.root_made": 1, "open.space_made": 1, "open.shard_made": 1, "open.contents_read": 1, "open.ready": 1,
        "open.head_made": 1, "open.contents_made": 4, "open.data_made": 4}


@pytest.fixture(scope="module", autouse=True)
def seed():
    print(f"CRASH_SEED={SEED} CRASH_RUNS={RUNS}")
    if not os.access(VICTIM, os.X_OK):
        pytest.fail(f"{VICTIM} is not built: make test-crash")


class Store:
    """One directory, its logs, and the processes on it."""

    def __init__(self, rng):
        self.rng = rng
        self.top = tempfile.mkdtemp(prefix="cistern-crash-")
        self.dir = os.path.join(self.top, "mount")
        os.mkdir(self.dir)
        self.logs, self.living, self.next = [], [], 1_000_000

    def log(self):
        self.logs.append(os.path.join(self.top, f"log{len(self.logs)}"))
        return self.logs[-1]

    def numbers(self):
        self.next += 1_000_000
        return str(self.next)

    def start(self, *args):
        out = open(os.path.join(self.top, "out"), "ab")
        p = subprocess.Popen([VICTIM, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        out.close()
        self.living.append(p)
        return p

    def writer(self, *point):
        log = self.log()
        return self.start("write", self.dir, log, self.numbers(), str(self.rng.randrange(1 << 31)), *point), log

    def reader(self):
        return self.start("read", self.dir, *self.logs[-12:])

    def kill(self, p):
        """SIGKILL, and proof that the victim lived until then."""
        p.send_signal(signal.SIGKILL)
        self.died(p)

    def died(self, p, limit=60):
        status = p.wait(timeout=limit)
        self.living.remove(p)
        assert status == -signal.SIGKILL, f"ended by itself with {status}:\n{self.output()}"

    def output(self):
        with open(os.path.join(self.top, "out"), errors="replace") as f:
            return f.read()[-3000:]

    def check(self):
        logs = list(self.logs)
        out = self.log()
        r = subprocess.run([VICTIM, "check", self.dir, out, self.numbers(), *logs], stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=120)
        assert r.returncode == 0, f"after a kill (seed {SEED}, {self.top}):\n{r.stdout}{r.stderr}"
        return int(re.match(r"(\d+) stored", r.stdout).group(1))

    def litter(self):
        """Names that nobody expects in the store. A write of a small file may leave its temporary name."""
        good = re.compile(r"^([0-9a-f]{16}-[0-9a-f]{8}\.(seg|toc)|[0-9a-f]{16}\.head|cistern\.json|salt|space\.json"
                          r"|\.tmp-[0-9a-f]{16})$")
        return [f for where, _, files in os.walk(os.path.join(self.dir, "rtp_llm")) for f in files
                if not good.match(f)]

    def shared_memory(self):
        """Objects in /dev/shm that the links of this mount name, that is, what its processes left. Between the
        making of an object and the taking away of its name a kill leaves an empty one, which no client can help."""
        links = os.path.join(self.dir, "3fs-virt", "iovs")
        targets = [os.path.join(links, n) for n in os.listdir(links)] if os.path.isdir(links) else []
        return [os.readlink(t) for t in targets if os.path.islink(t) and os.path.exists(os.readlink(t))]

    def take_bell_away(self):
        """The page that followers share goes with the last of them, unless that is killed (src/engine/bell.c)."""
        try:
            with open(os.path.join(self.dir, "rtp_llm", "salt"), "rb") as f:
                digest = hashlib.sha256(b"cistern bell, version 1\0" + f.read()).digest()
            os.unlink(f"/dev/shm/cistern-bell-{os.geteuid()}-{int.from_bytes(digest[:8], 'little'):016x}")
        except FileNotFoundError:
            pass

    def end(self):
        for p in self.living:
            p.kill()
            p.wait()
        named = self.shared_memory()
        left = [path for path in named if os.stat(path).st_blocks * 512 > 64 << 10]
        for path in named:
            os.unlink(path)
        self.take_bell_away()
        shutil.rmtree(self.top, ignore_errors=True)
        return left


@pytest.fixture
def stores():
    made = []

    def make(rng):
        made.append(Store(rng))
        return made[-1]

    yield make
    left = [path for s in made for path in s.end()]
    assert not left, f"left in /dev/shm: {left}"


def records(path):
    try:
        with open(path, "rb") as f:
            data = f.read()
    except FileNotFoundError:
        return []
    return [RECORD.unpack_from(data, i) for i in range(0, len(data) - RECORD.size + 1, RECORD.size)]


def wait_until(condition, what, limit=60):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"{what}: not in {limit} s"
        time.sleep(0.002)


def test_kills_under_load(stores):
    """Two writers and a reader on one directory; a writer dies, the store is checked while the others go on, then
    these die too and the store is checked at rest."""
    rng = random.Random(SEED)
    killed = stored = 0
    store = None
    while killed < RUNS:
        if store is None or killed % PER_STORE == 0:
            left = store.end() if store else []
            assert not left, f"left in /dev/shm: {left}"
            store = stores(rng)
        (a, log_a), (b, log_b) = store.writer(), store.writer()
        wait_until(lambda: a.poll() is not None or b.poll() is not None or (records(log_a) and records(log_b)),
                   "open")
        reader = store.reader()
        time.sleep(rng.random() * rng.choice([0.02, 0.1, 0.3]))
        store.kill(a)
        killed += 1
        if killed % 3 == 0:
            store.check()
            time.sleep(rng.random() * 0.05)
        assert b.poll() is None and reader.poll() is None, f"ended by itself:\n{store.output()}"
        store.kill(b)
        store.kill(reader)
        killed += killed < RUNS
        stored += store.check()
        assert not store.litter()
    assert stored > 10 * RUNS, "the victims stored next to nothing"
    print(f"{killed} kills, {stored} blocks verified")


def at_points(stores, points, seed, times):
    """A victim dies at each point; another writer is at work on the directory meanwhile."""
    rng = random.Random(SEED + seed)
    hits = 0
    for n in range(times):
        store = stores(rng)
        for point, passes in points.items():
            if point in ("open.root_made", "open.space_made", "open.shard_made") and rng.random() < 0.5:
                store = stores(rng)  # on nothing; else on what is there
            victim, log = store.writer(point, str(rng.randint(1, passes)))
            other, _ = store.writer()
            try:
                store.died(victim)
            except subprocess.TimeoutExpired:
                pytest.fail(f"{point} was not passed: {store.output()}")
            hits += 1
            assert other.poll() is None, f"the other writer ended by itself:\n{store.output()}"
            store.kill(other)
            store.check()
            assert not store.litter(), point
    return hits



def test_kills_inside_put(stores):
    assert at_points(stores, PUT, 1, TIMES) == TIMES * len(PUT)


def test_kills_inside_seal(stores):
    assert at_points(stores, SEAL, 2, TIMES) == TIMES * len(SEAL)


def test_kills_inside_open(stores):
    assert at_points(stores, OPEN, 3, TIMES) == TIMES * len(OPEN)


def test_the_log_is_believed(stores):
    """The checks bite: a log that claims a block which was never stored fails the checker."""
    store = stores(random.Random(SEED))
    store.check()
    with open(store.log(), "wb") as f:
        f.write(RECORD.pack(77, STORED, 1))
    with pytest.raises(AssertionError, match="was reported stored and is no hit"):
        store.check()
