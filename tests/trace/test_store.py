"""What eviction must be worth in the store itself: traces through real segments on tmpfs (bench/replay_store.c).

The keeper works beside the requests, so the figures differ a little from run to run; what is demanded leaves room for
that. A real trace is looked for in $CISTERN_TRACES, by default beside the repository; the synthetic one always runs.
"""
import json
import os
import shutil
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
REPLAY = os.path.join(os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build")), "bench", "replay_store")
TRACE = os.path.join(os.environ.get("CISTERN_TRACES", os.path.join(TOP, "..", "shared", "traces")),
                     "mooncake_conversation.jsonl")
DIR, NEEDED = "/dev/shm", 600 << 20


def replay(*args):
    if not os.path.isdir(DIR) or shutil.disk_usage(DIR).free < NEEDED:
        pytest.skip("less than %d MiB free in %s" % (NEEDED >> 20, DIR))
    done = subprocess.run([REPLAY, "--json", "--dir", DIR, *args], stdout=subprocess.PIPE, timeout=1800)
    assert done.returncode == 0
    return json.loads(done.stdout)["rows"]


def check_sound(row):
    assert row["write_amplification"] <= 1.15
    assert row["evictions"] > 0 and row["put"] > row["capacity"]
    assert row["missed"] <= row["references"] / 100


def test_conversation():
    if not os.path.exists(TRACE):
        pytest.skip("no %s ($CISTERN_TRACES)" % TRACE)
    for row in replay("--trace", TRACE, "--capacity", "20000"):
        check_sound(row)
        assert row["store_percent"] >= row["lru_percent"] - 0.3


def test_synthetic():
    for row in replay("--synthetic", "1", "--capacity", "2000", "--requests", "1500", "--segments", "64"):
        check_sound(row)
        assert row["carried"] > 0
        assert row["store_percent"] >= row["policy_percent"] - 4
