"""What eviction and admission must be worth, by replaying traces over the functions that the engine uses.

The replay counts and never measures time, so the figures are the same on every machine and may be demanded. Real traces
are looked for in $CISTERN_TRACES, by default beside the repository; the synthetic one is made from a seed and always runs.
"""
import json
import os
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
REPLAY = os.path.join(os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build")), "bench", "replay_policy")
TRACES = os.environ.get("CISTERN_TRACES", os.path.join(TOP, "..", "shared", "traces"))
AMPLIFICATION = 1.15


def replay(*args):
    done = subprocess.run([REPLAY, "--json", *args], stdout=subprocess.PIPE, timeout=600)
    assert done.returncode == 0
    return json.loads(done.stdout)


def trace(name):
    path = os.path.join(TRACES, name)
    if not os.path.exists(path):
        pytest.skip("no %s in %s ($CISTERN_TRACES)" % (name, TRACES))
    return path


@pytest.fixture(scope="module")
def conversation():
    return replay("--trace", trace("mooncake_conversation.jsonl"))


def mean(report, *names):
    total = 0
    for row in report["rows"]:
        for name in names:
            row = row[name]
        total += row
    return total / len(report["rows"])


def check_sound(report):
    """What holds for any trace: counts add up, the budget of blocks and of writes is kept, nothing beats MIN."""
    for row in report["rows"]:
        capacity = row["capacity"]
        assert 0 <= row["fifo_percent"] <= row["min_percent"] and 0 <= row["lru_percent"] <= row["min_percent"]
        for kind in ("all", "reused"):
            r = row[kind]
            assert r["hit_percent"] <= row["min_percent"] + 1e-9
            assert r["most_blocks"] <= capacity
            assert r["write_amplification"] <= AMPLIFICATION, (capacity, kind)
            assert r["hits"] + r["puts"] + r["refused"] <= report["references"]
        assert row["all"]["refused"] == 0
        assert row["reused"]["puts"] < row["all"]["puts"]


def test_known_answers(conversation):
    """The baselines give what is published with the trace, so the replay reads it right."""
    assert conversation["requests"] == 12031
    assert conversation["references"] == 288500
    assert conversation["distinct"] == 182790
    assert [r["capacity"] for r in conversation["rows"]] == [1000, 5000, 10000, 20000, 50000]
    for row, lru, least in zip(conversation["rows"], (4.45, 11.04, 21.12, 28.75, 35.46), (19.1, 34.1, 36.6, 36.6, 36.6)):
        assert row["lru_percent"] == pytest.approx(lru, abs=0.006)
        assert row["min_percent"] == pytest.approx(least, abs=0.06)


def test_conversation_hits(conversation):
    check_sound(conversation)
    for row in conversation["rows"]:
        assert row["all"]["hit_percent"] >= row["lru_percent"] - 0.3, row["capacity"]
    assert mean(conversation, "all", "hit_percent") > mean(conversation, "lru_percent") + 1.0


def test_conversation_admission_halves_what_is_written(conversation):
    for row in conversation["rows"]:
        assert row["reused_written_percent"] <= 50
    # What it costs: nothing where room is scarce, since what is seen once no longer takes it.
    assert conversation["rows"][0]["reused"]["hits"] > conversation["rows"][0]["all"]["hits"]


def test_segments_of_other_sizes():
    path = trace("mooncake_conversation.jsonl")
    for segments in (32, 100):
        report = replay("--trace", path, "--segments", str(segments), "--capacity", "5000,20000")
        check_sound(report)
        for row in report["rows"]:
            assert row["all"]["hit_percent"] >= row["lru_percent"] - 0.3, (segments, row["capacity"])


def test_agents():
    """Another kind of trace: few long chains that are read again and again, where LRU is hard to beat."""
    report = replay("--trace", trace("agentic"), "--capacity", "5000,10000,20000,40000,60000")
    check_sound(report)
    assert mean(report, "all", "hit_percent") >= mean(report, "lru_percent") - 0.5
    for row in report["rows"]:
        assert row["all"]["hit_percent"] >= row["lru_percent"] - 2.0
        assert row["all"]["hit_percent"] > row["fifo_percent"]


@pytest.mark.parametrize("seed", [1, 2])
def test_synthetic(seed):
    """Talks over shared prompts: much better than oldest first, near LRU, and within the budget of writes."""
    report = replay("--synthetic", str(seed), "--capacity", "1000,5000,20000")
    check_sound(report)
    for row in report["rows"]:
        assert row["all"]["hit_percent"] > row["fifo_percent"] + 1
    assert mean(report, "all", "hit_percent") > mean(report, "lru_percent") - 2


def test_synthetic_repeats():
    one = replay("--synthetic", "7", "--capacity", "1000")
    assert one == replay("--synthetic", "7", "--capacity", "1000")
    assert one != replay("--synthetic", "8", "--capacity", "1000")


def test_wrong_use(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"timestamp": 0}\n')
    for args, code in ((["--capacity", "0"], 2), (["--capacity", "100,"], 2), (["--segments", "x"], 2), (["stray"], 2),
                       (["--trace", str(tmp_path / "none")], 3), (["--trace", str(bad)], 2), (["--trace", str(tmp_path)], 2)):
        done = subprocess.run([REPLAY, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert (done.returncode, done.stdout) == (code, b""), args
        assert done.stderr
