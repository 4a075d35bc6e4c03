"""A store as the engine of a release left it stays readable: by the library and by the reader that shares no code with it.

tests/golden/v1-0.1 was made with `engine_store make` and the library of the first release that bounds and shares a
store. It has what v1 cannot have, because a program laid that one out: a writer that was killed, contents that end
before their header, a live range that does not begin at 0, counts of touches, copies that were deleted or found bad, and
a segment that was set aside.
"""
import json
import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
ROOT = os.path.join(HERE, "v1-0.1", "root")
READER = os.path.join(TOP, "tools", "cistern_read.py")
PROGRAM = os.path.join(os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build")), "tests", "golden", "engine_store")
LENGTHS = (5000, 700)

with open(os.path.join(HERE, "v1-0.1", "expected.json")) as f:
    EXPECTED = {b["number"]: b["key"] for b in json.load(f)["blocks"]}


@pytest.fixture
def mount(tmp_path):
    """A copy: even a store that is only read makes the provider's files in its mount directory."""
    shutil.copytree(ROOT, tmp_path / "rtp_llm")
    return tmp_path


def read_json(root):
    run = subprocess.run([sys.executable, READER, "--json", str(root)], capture_output=True, text=True, timeout=60)
    return json.loads(run.stdout)


def payload(number, part):
    at = sum(LENGTHS[:part])
    return bytes((number * 31 + (i >> 6) * 7 + i % 3) & 255 for i in range(at, at + LENGTHS[part]))


def test_the_library_verifies_every_block(mount):
    assert os.access(PROGRAM, os.X_OK), f"{PROGRAM} is not built: make golden-programs"
    run = subprocess.run([PROGRAM, "read", str(mount)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert [int(line) for line in run.stdout.split()] == sorted(EXPECTED)


def test_the_other_reader_verifies_every_block():
    store = read_json(ROOT)
    assert len(store["findings"]) == 1 and "no header of contents" in store["findings"][0]
    usable = [b for space in store["spaces"] for shard in space["shards"] for s in shard["segments"] for b in s["blocks"]
              if not b["dead"]]
    assert sorted(b["key"] for b in usable) == sorted(EXPECTED.values())
    assert all(p["ok"] for b in usable for p in b["parts"])


@pytest.mark.parametrize("part", [0, 1])
def test_the_other_reader_extracts_the_bytes(part):
    for number in (min(EXPECTED), max(EXPECTED)):
        run = subprocess.run([sys.executable, READER, "--key", EXPECTED[number], "--part", str(part), ROOT],
                             capture_output=True, timeout=60)
        assert run.returncode == 0 and run.stdout == payload(number, part)


def test_the_cases_are_all_in_the_golden_store():
    (shard,) = read_json(ROOT)["spaces"][0]["shards"]
    assert {h["state"] for h in shard["heads"]} == {"live", "closed"}
    assert any(h["first_seq"] > 0 for h in shard["heads"])
    assert any(sum(h["touches"]) for h in shard["heads"])
    assert {d["reason"] for s in shard["segments"] for d in s["dead"]} == {"deleted", "checksum"}
    assert sum(len(s["aside"]) for s in shard["segments"]) == 1


def test_one_more_writer_can_go_on(mount):
    """What a release left is taken over: stored in, and evicted from."""
    before = read_json(mount / "rtp_llm")
    run = subprocess.run([PROGRAM, "add", str(mount)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    after = read_json(mount / "rtp_llm")
    assert len(after["spaces"][0]["shards"][0]["heads"]) == len(before["spaces"][0]["shards"][0]["heads"]) + 1
    kept = subprocess.run([PROGRAM, "read", str(mount)], capture_output=True, text=True, timeout=60).stdout.split()
    assert "1000" in kept
