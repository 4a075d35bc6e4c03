"""Writers and readers, each a process of its own, on one directory with a capacity; one of them is killed with SIGKILL
every second and restarted. Nothing else is arranged between them.

What must hold: no wrong byte; everybody gets on; what the directory takes, sampled every 100 ms from outside with what is
unlinked and still open, stays within the capacity plus one segment for each live writer; and once a writer had the time
to collect there are at most three files for each segment that the capacity is worth. STRESS_SECONDS and STRESS_EACH
(writers, and as many readers) are the size; STRESS_SEED repeats a run's choices, not its timing.
"""
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
WORKER = os.path.join(BUILD, "tests", "stress", "worker")
SECONDS = float(os.environ.get("STRESS_SECONDS", "10"))
EACH = int(os.environ.get("STRESS_EACH", "4"))
SEED = int(os.environ.get("STRESS_SEED", str(random.SystemRandom().randrange(1 << 32))))
SEGMENT = 1 << 20
CAPACITY = 32 * EACH * SEGMENT // 2
FILES = 3 * CAPACITY // SEGMENT
SLOT = struct.Struct("<QQQQQ")
PATIENCE = 60


class Stress:
    def __init__(self, top):
        self.top = top
        self.dir = os.path.join(top, "mount")
        self.root = os.path.join(self.dir, "rtp_llm")
        self.progress = os.path.join(top, "progress")
        self.out = os.path.join(top, "out")
        self.rng = random.Random(SEED)
        self.workers = []
        self.sampler = None
        os.mkdir(self.dir)
        with open(self.progress, "wb") as f:
            f.truncate(4096 * SLOT.size)

    def start(self, slot, kind=None):
        kind = kind or ("write" if slot % 2 == 0 else "read")
        with open(self.out, "ab") as out:
            return subprocess.Popen([WORKER, kind, self.dir, str(self.rng.randrange(1 << 31)), self.progress, str(slot),
                                     str(CAPACITY)], stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def slots(self):
        with open(self.progress, "rb") as f:
            data = f.read(SLOT.size * len(self.workers))
        return [SLOT.unpack_from(data, i * SLOT.size) for i in range(len(self.workers))]

    def said(self):
        with open(self.out, errors="replace") as f:
            return f.read()[-3000:]

    def alive(self):
        for slot, p in enumerate(self.workers):
            assert p.poll() is None, f"worker {slot} ended by itself with {p.returncode} (seed {SEED}):\n{self.said()}"

    def sampled(self):
        """How many samples there were, the most bytes that any of them found, and of these what was unlinked."""
        with open(self.progress, "rb") as f:
            f.seek(SLOT.size * 2 * EACH)
            samples, _, most, unlinked, _ = SLOT.unpack(f.read(SLOT.size))
        assert self.sampler.poll() is None, f"the sampler ended:\n{self.said()}"
        return samples, most, unlinked

    def restart_one(self):
        slot = self.rng.randrange(len(self.workers))
        self.workers[slot].send_signal(signal.SIGKILL)
        self.workers[slot].wait(timeout=PATIENCE)
        self.workers[slot] = self.start(slot)

    def everybody_gets_on(self):
        before, end = self.slots(), time.monotonic() + PATIENCE
        while not all(a[0] > b[0] for a, b in zip(self.slots(), before)):
            self.alive()
            assert time.monotonic() < end, f"somebody does nothing (seed {SEED}): {before} {self.slots()}"
            time.sleep(0.1)

    def collected(self):
        """Files of the root when a writer that puts nothing had the time to take away what is useless."""
        keeper, end = self.start(0, "keep"), time.monotonic() + PATIENCE
        while True:
            files = sum(len(files) for _, _, files in os.walk(self.root))
            if files <= FILES or time.monotonic() >= end:
                break
            assert keeper.poll() is None, f"the collector ended (seed {SEED}):\n{self.said()}"
            time.sleep(0.1)
        keeper.kill()
        keeper.wait()
        assert files <= FILES, f"{files} files are left, {FILES} are allowed (seed {SEED})"
        return files

    def end(self):
        for p in filter(None, self.workers + [self.sampler]):
            p.kill()
            p.wait()
        links = os.path.join(self.dir, "3fs-virt", "iovs")
        for name in os.listdir(links) if os.path.isdir(links) else []:
            target = os.path.join(links, name)
            if os.path.islink(target) and os.path.exists(os.readlink(target)):
                os.unlink(os.readlink(target))
        shutil.rmtree(self.top, ignore_errors=True)


@pytest.fixture
def stress():
    assert os.access(WORKER, os.X_OK), f"{WORKER} is not built: make test-stress"
    s = Stress(tempfile.mkdtemp(prefix="cistern-stress-"))
    print(f"STRESS_SEED={SEED} STRESS_SECONDS={SECONDS} STRESS_EACH={EACH}")
    yield s
    s.end()


def test_many_processes_share_a_bounded_directory(stress):
    bound = CAPACITY + EACH * SEGMENT
    stress.workers = [stress.start(0)]
    stress.sampler = stress.start(2 * EACH, "sample")
    stress.everybody_gets_on()  # there is nothing to read before the first writer has made the root
    stress.workers += [stress.start(slot) for slot in range(1, 2 * EACH)]
    stress.everybody_gets_on()
    begin = time.monotonic()
    next_kill, kills = begin + 1, 0
    while time.monotonic() < begin + SECONDS:
        if time.monotonic() >= next_kill:
            stress.restart_one()
            kills += 1
            next_kill = max(next_kill + 1, time.monotonic())
        samples, most, unlinked = stress.sampled()
        assert most <= bound, (f"{most} bytes were taken, {unlinked} by unlinked files, {bound} are allowed "
                               f"(sample {samples}, seed {SEED})\n" + stress.said())
        stress.alive()
        time.sleep(0.1)
    stress.everybody_gets_on()
    samples, most, unlinked = stress.sampled()
    assert most <= bound
    assert samples > SECONDS, f"the sampler did not get on: {samples} samples in {SECONDS} s"
    slots = stress.slots()
    for p in stress.workers:
        p.kill()
        p.wait()
    r = subprocess.run([WORKER, "check", stress.dir, "1", stress.progress, "0", str(CAPACITY)], capture_output=True,
                       text=True, timeout=PATIENCE)
    assert r.returncode == 0, f"(seed {SEED})\n{r.stdout}{r.stderr}"
    files = stress.collected()
    hits, bad = int(r.stdout.split()[0]), int(r.stdout.split()[2])
    print(f"{kills} kills, {samples} samples, at most {most} of {bound} bytes ({unlinked} unlinked); stored {sum(s[2] for s in slots)}, "
          f"hits {sum(s[1] for s in slots)}, evicted {sum(s[3] for s in slots)}; at the end {hits} hits, {files} of "
          f"{FILES} files")
    assert bad == 0, f"(seed {SEED})\n{r.stdout}"
    assert hits > 0
    assert kills >= SECONDS / 4
    assert sum(s[3] for s in slots) > 0, "nothing had to be evicted: the test shows nothing"
    assert "WRONG" not in stress.said()
