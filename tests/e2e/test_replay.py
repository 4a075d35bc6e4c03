"""cistern replay: the answers for small traces that can be worked out by hand, the known answers of a real one, and
that what it reads is checked.
"""

import json
import os
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CISTERN = os.environ.get("CISTERN", str(TOP / "build" / "cistern"))
TRACES = Path(os.environ.get("CISTERN_TRACES", TOP.parent / "shared" / "traces"))
CONVERSATION = TRACES / "mooncake_conversation.jsonl"
needs_traces = pytest.mark.skipif(not CONVERSATION.exists(), reason="the shared traces are not beside this repository")


def clean_env():
    drop = re.compile(r"(CISTERN|THREEFS|REUSE_CACHE|ENABLE_3FS|HF3FS)")
    return {k: v for k, v in os.environ.items() if not drop.match(k)}


def run(mount, *args):
    return subprocess.run([CISTERN, "replay", *map(str, args), "--mount", str(mount), "--root", "r", "--staging", "16M"],
                          text=True, timeout=300, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env())


def replay(mount, *args):
    r = run(mount, *args, "--json")
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


def mooncake(path, requests):
    path.write_text("".join(json.dumps({"timestamp": 1000 * i, "input_length": 512 * len(ids), "output_length": 1,
                                        "hash_ids": ids}) + "\n" for i, ids in enumerate(requests)))
    return path


def session(path, requests):
    path.write_text(json.dumps({"block_size": 64, "hash_id_scope": "local", "requests": requests}))
    return path


def test_hits_are_leading_runs(tmp_path):
    """[1 2 3] finds nothing, [1 2 4] two, [5 2] none: 2 is there, but 5 before it is not; [1 2 3] three."""
    trace = mooncake(tmp_path / "t.jsonl", [[1, 2, 3], [1, 2, 4], [5, 2], [1, 2, 3]])
    o = replay(tmp_path, trace, "--prefill-rate", 512)
    assert (o["requests"], o["references"], o["distinct"]) == (4, 11, 5)
    assert o["hits"] == o["hits_unlimited"] == 5
    assert o["tokens_saved"] == 5 * 512
    assert o["bytes_put"] == 5 * 65536 and o["bytes_read"] == 5 * 65536
    assert (o["wrong"], o["errors"], o["dropped"]) == (0, 0, 0)
    assert o["ttft_recompute"]["mean"] == pytest.approx(11 / 4)
    assert 6 / 4 < o["ttft"]["mean"] < 11 / 4
    assert not (tmp_path / "r").exists(), "the store was left behind"


def test_ranks_have_a_shard_each(tmp_path):
    trace = mooncake(tmp_path / "t.jsonl", [[1, 2, 3], [1, 2, 4]])
    o = replay(tmp_path, trace, "--tp", 3, "--block-bytes", "8K", )
    assert o["hits"] == 2 and o["bytes_put"] == 3 * 4 * 8192 and o["bytes_read"] == 3 * 2 * 8192


def lru(requests, capacity):
    """Leading-run hits of a least-recently-used cache, by doing it."""
    used, hits = [], 0
    for ids in requests:
        for i in ids:
            if i not in used:
                break
            hits += 1
        for i in ids:
            if i in used:
                used.remove(i)
            used.append(i)
            del used[:-capacity]
    return hits


def test_the_curve_is_that_of_lru(tmp_path):
    requests, seed = [], 7
    for _ in range(200):
        ids = []
        for _ in range(8):
            seed = (seed * 1103515245 + 12345) % (1 << 31)
            ids.append(len(ids) * 100 + (seed >> 16) % 60)
        requests.append(ids)
    o = replay(tmp_path, mooncake(tmp_path / "t.jsonl", requests), "--block-bytes", "4K")
    assert len(o["lru"]) >= 3
    for point in o["lru"]:
        assert point["hits"] == lru(requests, point["blocks"]), point
    assert o["lru"][-1]["hits"] == o["hits_unlimited"] == o["hits"]


def test_sessions_are_kept_apart_and_merged_by_time(tmp_path):
    """The same numbers in two files are different blocks; work that an agent gave away counts too."""
    a = session(tmp_path / "a.json", [{"t": 0.0, "in": 128, "hash_ids": [1, 2]},
                                      {"t": 20.0, "in": 192, "hash_ids": [1, 2, 3]}])
    session(tmp_path / "b.json", [{"t": 10.0, "in": 128, "hash_ids": [1, 2]},
                                  {"t": 11.0, "type": "subagent", "requests": [
                                      {"t": 12.0, "in": 64, "hash_ids": [1]}]}])
    o = replay(tmp_path, tmp_path, "--block-bytes", "4K")
    assert (o["requests"], o["distinct"], o["hits"], o["block_tokens"]) == (4, 5, 3, 64)
    assert replay(tmp_path, a, "--block-bytes", "4K")["requests"] == 2
    assert replay(tmp_path, tmp_path, "--limit", 3, "--block-bytes", "4K")["hits"] == 1


def test_the_size_of_a_block_from_a_model(tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama", "torch_dtype": "bfloat16", "num_hidden_layers": 2,
                                  "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 16,
                                  "hidden_size": 128}))
    trace = mooncake(tmp_path / "t.jsonl", [[1, 2]])
    o = replay(tmp_path, trace, "--hf-config", config, "--tp", 2)
    assert o["block_bytes"] == 512 * 2 * 2 * 2 * 16 * 2  # tokens, layers, heads of a rank, K and V, elements, bytes
    assert replay(tmp_path, trace, "--token-bytes", 100)["block_bytes"] == 51200


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href")]


def test_the_page_stands_alone(tmp_path):
    trace = mooncake(tmp_path / "t.jsonl", [[1, 2, 3], [1, 2, 4]] * 20)
    r = run(tmp_path, trace, "--html", tmp_path / "r.html")
    assert r.returncode == 0 and "time to first token" in r.stdout
    text = (tmp_path / "r.html").read_text()
    page = Page()
    page.feed(text)
    assert page.links == [] and "script" not in page.tags and "http" not in text
    assert page.tags.count("svg") == 2 and page.tags.count("polyline") == 3
    points = re.findall(r'points="([^"]*)"', text)
    for line in points:
        numbers = [float(x) for x in re.split(r"[ ,]+", line.strip())]
        assert numbers and all(0 <= x <= 720 for x in numbers), "a line leaves its chart"


BAD = [
    (["absent.jsonl"], "absent.jsonl"),
    (["empty.jsonl"], "no requests"),
    (["text.jsonl"], "line 2"),
    (["noids.jsonl"], "no hash_ids"),
    (["negative.jsonl"], "hash_ids[1]"),
    (["nosize.json"], "block_size"),
    (["good.jsonl", "session.json"], "blocks of 64 tokens"),
    (["good.jsonl", "--block-bytes", "8K", "--token-bytes", "10"], "choose one"),
    (["good.jsonl", "--token-bytes", "1G"], "larger than 1 GiB"),
    ([], "which trace"),
]


@pytest.mark.parametrize("args, words", BAD)
def test_bad_input_is_named(args, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mooncake(tmp_path / "good.jsonl", [[1, 2]])
    session(tmp_path / "session.json", [{"t": 0.0, "in": 128, "hash_ids": [1, 2]}])
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "text.jsonl").write_text('{"hash_ids": [1]}\nnot json\n')
    (tmp_path / "noids.jsonl").write_text('{"timestamp": 1}\n')
    (tmp_path / "negative.jsonl").write_text('{"hash_ids": [1, -2]}\n')
    (tmp_path / "nosize.json").write_text('{"requests": [{"t": 0, "hash_ids": [1]}]}')
    r = run(tmp_path, *args)
    assert r.returncode in (2, 3) and words in r.stderr, r.stderr


def test_a_root_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "r").mkdir()
    r = run(tmp_path, mooncake(tmp_path / "t.jsonl", [[1]]))
    assert r.returncode == 3 and "is there already" in r.stderr and (tmp_path / "r").is_dir()


@needs_traces
def test_known_answers_of_the_conversation(tmp_path):
    """Published: 12,031 requests, 288,500 references, 182,790 distinct blocks, 36.6 % found with room for all; of a
    least-recently-used cache 35.5, 28.7, 21.1, 11.0 and 4.4 %. The store finds every one of them, in blocks of 4 KiB."""
    o = replay(tmp_path, CONVERSATION, "--block-bytes", "4K")
    assert (o["requests"], o["references"], o["distinct"]) == (12031, 288500, 182790)
    assert o["hits"] == o["hits_unlimited"] == 105710
    assert (o["wrong"], o["errors"], o["dropped"]) == (0, 0, 0)
    share = {p["blocks"]: 100 * p["hits"] / o["references"] for p in o["lru"]}
    assert share[50000] == pytest.approx(35.46, abs=0.01) and share[20000] == pytest.approx(28.75, abs=0.01)
    assert share[10000] == pytest.approx(21.12, abs=0.01) and share[5000] == pytest.approx(11.04, abs=0.01)
    assert share[1000] == pytest.approx(4.45, abs=0.01)


@needs_traces
def test_a_slice_at_real_size(tmp_path):
    o = replay(tmp_path, CONVERSATION, "--limit", 300)
    assert o["hits"] == o["hits_unlimited"] and o["wrong"] == 0 and o["block_bytes"] == 65536


@needs_traces
def test_agentic_sessions_side_by_side(tmp_path):
    o = replay(tmp_path, TRACES / "agentic", "--block-bytes", "4K")
    assert o["requests"] == 795 and o["hits"] == o["hits_unlimited"] and o["wrong"] == 0
