"""minillm by itself: its arithmetic against NumPy, its switches, tier 1, and how it ends."""
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import minillm_ref
from minillm_run import ON, SMALL, Server, environment, events, logits, requests, run

TEXT = ("A prompt seen before costs a read. " * 40)[:1000]
SMALL_SHAPE = dict(layers=2, d_model=96, heads=4, kv_heads=2, head_dim=32, ffn=160)


@pytest.fixture
def prompt(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text(TEXT)
    return path


# ---- Arithmetic ----

@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("length", [1, 16, 17, 333])
def test_agrees_with_numpy(tmp_path, ranks, length):
    prompt = tmp_path / "p.txt"
    prompt.write_text(TEXT[:length])
    out = tmp_path / "logits"
    requests("--prompt-file", prompt, "--tp_size", ranks, "--logits-out", out, "--seed", 7, *SMALL)
    want = minillm_ref.Model(seed=7, **SMALL_SHAPE).logits(TEXT[:length].encode())
    assert np.abs(want).max() > 0.5
    assert np.abs(logits(out)[0] - want).max() < 1e-4


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_default_model_agrees_with_numpy(prompt, tmp_path, ranks):
    out = tmp_path / "logits"
    requests("--prompt-file", prompt, "--tp_size", ranks, "--logits-out", out)
    want = minillm_ref.Model().logits(TEXT.encode())
    assert np.abs(logits(out)[0] - want).max() < 1e-4


def test_answer_tokens_agree_with_numpy(tmp_path):
    prompt = tmp_path / "p.txt"
    prompt.write_text(TEXT[:90])  # the answer crosses a block boundary at 96
    out = tmp_path / "logits"
    request, = requests("--prompt-file", prompt, "--max-new", 12, "--logits-out", out, *SMALL)
    model, tokens = minillm_ref.Model(seed=1, **SMALL_SHAPE), list(TEXT[:90].encode())
    for got, token in zip(logits(out), request["answer"].encode("latin-1"), strict=True):
        want = model.logits(tokens)
        assert np.abs(got - want).max() < 1e-4
        assert token == int(np.argmax(got))
        tokens.append(token)


def test_the_seed_matters(prompt):
    hashes = {requests("--prompt-file", prompt, "--seed", s, *SMALL)[0]["logits_hash"]
              for s in (1, 2, 1)}
    assert len(hashes) == 2


def test_one_and_two_ranks_are_close_and_each_repeats(prompt, tmp_path):
    found = {}
    for ranks in (1, 2):
        a, b = tmp_path / "a", tmp_path / "b"
        for out in (a, b):
            requests("--prompt-file", prompt, "--tp_size", ranks, "--logits-out", out, *SMALL)
        assert a.read_bytes() == b.read_bytes()
        found[ranks] = logits(a)
    assert np.abs(found[1] - found[2]).max() < 1e-4


# ---- Tier 1 ----

@pytest.mark.parametrize("ranks", [1, 2])
def test_tier1_gives_the_same_bits(prompt, tmp_path, ranks):
    out = tmp_path / "logits"
    r = "%s:%s"
    texts = ["what?", "what?", "why then?", "what?"]
    got = requests("--reuse_cache", "1", "--tp_size", ranks, "--logits-out", out, "--max-new", 3,
                   *[x for t in texts for x in ("--request", r % (prompt, t))], *SMALL)
    assert [x["tier1_tokens"] for x in got] == [0, 992, 992, 992]
    assert [x["computed_tokens"] for x in got] == [1005, 13, 17, 13]
    assert all(x["tier2_tokens"] == 0 for x in got)
    plain = requests("--tp_size", ranks, "--max-new", 3,
                     *[x for t in texts for x in ("--request", r % (prompt, t))], *SMALL)
    assert [x["tier1_tokens"] for x in plain] == [0] * 4
    assert [x["logits_hash"] for x in got] == [x["logits_hash"] for x in plain]
    assert len({x["logits_hash"] for x in got}) == 2


def test_any_cut_of_the_prefill_gives_the_same_bits(prompt):
    again = "%s:again?" % prompt
    hashes = set()
    for most in (0, 1, 2, 31, 61, 62, 1000):
        first, second = requests("--reuse_cache", "1", "--max-reuse-blocks", most, "--tp_size", 2,
                                 "--request", again, "--request", again, *SMALL)
        assert second["tier1_tokens"] == 16 * min(most, 62)
        hashes |= {first["logits_hash"], second["logits_hash"]}
    assert len(hashes) == 1


def test_a_prompt_of_whole_blocks_computes_its_last_one(tmp_path):
    prompt = tmp_path / "p.txt"
    prompt.write_text(TEXT[:160])
    r = "%s:" % prompt
    first, second = requests("--reuse_cache", "1", "--request", r, "--request", r, *SMALL)
    assert (second["tier1_tokens"], second["computed_tokens"]) == (144, 16)
    assert first["logits_hash"] == second["logits_hash"]


def test_a_change_in_front_reuses_nothing(prompt, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("B" + TEXT[1:])
    got = requests("--reuse_cache", "1", "--request", "%s:x" % prompt, "--request", "%s:x" % other,
                   *SMALL)
    assert [x["tier1_tokens"] for x in got] == [0, 0]
    assert got[0]["logits_hash"] != got[1]["logits_hash"]


def test_a_change_inside_reuses_what_stands_before_it(prompt, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text(TEXT[:500] + "#" + TEXT[501:])
    got = requests("--reuse_cache", "1", "--request", "%s:x" % prompt, "--request", "%s:x" % other,
                   *SMALL)
    assert got[1]["tier1_tokens"] == 496
    assert got[1]["logits_hash"] == requests("--request", "%s:x" % other, *SMALL)[0]["logits_hash"]


def test_a_small_tier1_evicts_and_stays_right(tmp_path):
    texts = [chr(65 + i) + TEXT[1:600] for i in range(4)]
    args = []
    for i in (0, 1, 2, 3, 0, 3, 2, 1, 1):
        path = tmp_path / ("%d.txt" % i)
        path.write_text(texts[i])
        args += ["--request", "%s:!" % path]
    small = SMALL + ["--tier1-blocks", "60"]  # one prompt has 37 full blocks and one begun
    got = requests("--reuse_cache", "1", *args, *small)
    plain = requests(*args, *small)
    assert [x["logits_hash"] for x in got] == [x["logits_hash"] for x in plain]
    assert got[-1]["tier1_tokens"] == 592  # asked for twice in a row
    assert any(0 < x["tier1_tokens"] < 592 for x in got)  # children went before parents


def test_a_prompt_beyond_tier1_fails_alone(prompt, tmp_path):
    short = tmp_path / "s.txt"
    short.write_text("short")
    done = run("--json", "--request", "%s:x" % prompt, "--request", "%s:x" % short, *SMALL,
               "--tier1-blocks", "8", "--tp_size", 2)
    assert done.returncode == 1
    assert "no room in tier 1" in done.stderr
    assert '"event": "request", "id": 1' in done.stdout


# ---- Switches ----

SWITCHES = [
    # environment, flags, reuse_cache, enable_3fs; None = refused
    ({}, [], False, False),
    ({}, ["--reuse_cache", "True"], True, False),
    ({}, ["--reuse_cache=true"], True, False),
    ({"REUSE_CACHE": "1"}, [], True, False),
    ({"REUSE_CACHE": "1"}, ["--reuse_cache", "False"], False, False),
    ({"REUSE_CACHE": "0"}, ["--reuse_cache", "True"], True, False),
    ({}, ["--reuse_cache", "True", "--enable_3fs", "True"], True, True),
    ({"REUSE_CACHE": "1", "ENABLE_3FS": "1"}, [], True, True),
    ({"REUSE_CACHE": "1", "ENABLE_3FS": "1"}, ["--enable_3fs", "False"], True, False),
    ({"REUSE_CACHE": "1", "ENABLE_3FS": "0"}, ["--enable_3fs", "1"], True, True),
    ({"ENABLE_3FS": "1"}, ["--reuse_cache", "1"], True, True),
    ({}, ["--enable_3fs", "True"], None, None),
    ({"ENABLE_3FS": "1"}, [], None, None),
    ({"ENABLE_3FS": "1", "REUSE_CACHE": "1"}, ["--reuse_cache", "0"], None, None),
    ({}, ["--enable_3fs", "True", "--reuse_cache", "False"], None, None),
]


@pytest.mark.parametrize("env, flags, reuse, tier2", SWITCHES)
def test_switches(tmp_path, env, flags, reuse, tier2):
    mount = tmp_path / "absent"  # tier 2 is asked for and cannot be opened: told from the report
    done = run("--json", "--question", "hello", "--mount", mount, *flags, *SMALL,
               env=environment(**env))
    if reuse is None:
        assert done.returncode == 2
        assert "enable_3fs needs reuse_cache" in done.stderr
        assert done.stdout == ""
        return
    ready, request = events(done)
    assert ready["reuse_cache"] is reuse
    assert ("no second tier" in done.stderr) is tier2
    assert (ready["tier2_error"] != "") is tier2
    assert request["prompt_tokens"] == 5


@pytest.mark.parametrize("flags, word", [
    (["--reuse_cache", "perhaps"], "reuse_cache"),
    (["--tp_size", "3"], "tp_size"),
    (["--kv-heads", "3"], "kv-heads"),
    (["--nonsense", "1"], "--nonsense"),
    (["--layers", "two"], "layers"),
    (["--request", "no-colon"], "request"),
    (["--max-new"], "--max-new"),
    (["--json=1"], "--json"),
])
def test_usage_errors_name_the_flag(flags, word):
    done = run("--question", "x", *SMALL, *flags)
    assert done.returncode == 2
    assert word in done.stderr


def test_nothing_to_do_is_said():
    done = run()
    assert done.returncode == 2
    assert "nothing to do" in done.stderr


def test_help_goes_to_stdout():
    done = run("--help")
    assert done.returncode == 0
    assert "--reuse_cache True" in done.stdout


# ---- Without a second tier, and at the end ----

@pytest.mark.parametrize("ranks", [1, 2])
def test_goes_on_when_tier2_cannot_open(prompt, tmp_path, ranks):
    a, b = requests(*ON, "--mount", tmp_path / "absent", "--tp_size", ranks,
                    "--request", "%s:x" % prompt, "--request", "%s:x" % prompt, *SMALL)
    assert b["tier1_tokens"] == 992
    assert a["logits_hash"] == b["logits_hash"]


def test_a_file_that_is_not_there_fails_its_request_only(prompt, tmp_path):
    server = Server("--tp_size", 2, *SMALL)
    assert server.ask(tmp_path / "absent", "x")["event"] == "failed"
    assert server.ask(prompt, "x")["event"] == "request"
    assert server.quit() == 1


@pytest.mark.parametrize("victim", [0, 1])
def test_no_rank_outlives_another(victim):
    server = Server("--tp_size", 2, *SMALL)
    main = server.process.pid
    with open("/proc/%d/task/%d/children" % (main, main)) as f:
        child = int(f.read())
    os.kill([main, child][victim], signal.SIGKILL)
    if victim == 1:  # rank 0 notices when it next meets the others
        with pytest.raises(EOFError, match="another rank has ended"):
            server.ask("/dev/null", "x")
    server.process.wait(10)
    end = time.monotonic() + 10
    while os.path.exists("/proc/%d" % child) and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.exists("/proc/%d" % child)
    server.close_pipes()


# ---- bench/hang_engine.py ----

class Hanging:
    """A server that answers each prompt late, as long as the switch is there, or ends at one of them."""

    ON = STAGING = SMALL = ()
    ended, dies_at = [], None

    def __init__(self, *_, env=None):
        self.switch, self.asked = Path(env["SLOW_USRBIO_HANG"]) if env else None, 0

    def ask(self, _path, _question):
        self.asked += 1
        if self.switch and self.asked == self.dies_at:
            raise EOFError("ended")
        hangs = self.switch is not None and self.switch.exists()
        return {"match_s": 0, "get_s": 1 if hangs else 0, "tier2_tokens": 0 if hangs else 16}

    def flush(self):
        pass

    def quit(self):
        assert not (self.switch and self.switch.exists()), "it would not end"
        self.ended.append(self)

    def environment(**values):
        return values


Hanging.Server = Hanging


def hang_engine():
    path = Path(__file__).resolve().parents[2] / "bench" / "hang_engine.py"
    spec = importlib.util.spec_from_file_location("hang_engine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_hang_benchmark_says_too_much_of_a_breaker_that_never_opens(monkeypatch, capsys):
    bench = hang_engine()
    lost, prompts, after, back, _ = bench.one_round(Hanging, "slow", 1)
    assert (lost, prompts, after) == (1000 * bench.HANGING, bench.HANGING, 1000) and back is not None
    monkeypatch.setitem(sys.modules, "minillm_run", Hanging)
    monkeypatch.setattr(sys, "argv", ["hang_engine.py", "--ranks", "1", "--rounds", "1"])
    monkeypatch.setenv("CISTERN_BUILD", os.environ.get("CISTERN_BUILD", "build"))
    assert bench.main() == 1 and "too much" in capsys.readouterr().out


def test_the_hang_benchmark_ends_its_server_whatever_happens(monkeypatch):
    monkeypatch.setattr(Hanging, "dies_at", 3)
    monkeypatch.setattr(Hanging, "ended", [])
    with pytest.raises(EOFError):
        hang_engine().one_round(Hanging, "slow", 1)
    assert len(Hanging.ended) == 2
