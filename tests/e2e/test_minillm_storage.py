"""minillm on storage that stops answering and comes back (tests/fakes/slow_usrbio.c), and minillm that is told to end."""
import os
import time

import pytest

from minillm_run import ON, SMALL, STAGING, Server, environment

BUILD = os.environ.get("CISTERN_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
SLOW = os.path.join(os.path.abspath(BUILD), "tests/fakes/slow/libhf3fs_api_shared.so")
FAST = ["--threefs_read_timeout_ms", 300, "--threefs_write_timeout_ms", 300, "--breaker_probe_ms", 100,
        "--threefs_rpc_get_cache_timeout_ms", 20000]
PROMPTS = 8
TOKENS = 992  # of each prompt in full blocks


@pytest.fixture
def prompts(tmp_path):
    paths = []
    for i in range(PROMPTS):
        path = tmp_path / ("prompt%d.txt" % i)
        path.write_text((("Prompt %d is not prompt %d, from its first word on. " % (i, i + 1)) * 30)[:1000])
        paths.append(path)
    return paths


def arguments(mount, ranks, *more):
    return [*ON, *STAGING, "--mount", mount, "--tp_size", ranks, *SMALL, *more]


@pytest.fixture
def mount(tmp_path):
    path = tmp_path / "mount"
    path.mkdir()
    return path


def lines(server, words):
    return [line for line in server.stderr.splitlines() if words in line]


@pytest.mark.parametrize("how", ["HANG", "DEAD"])
@pytest.mark.parametrize("ranks", [1, 2])
def test_storage_that_hangs_costs_little_and_comes_back(prompts, mount, tmp_path, ranks, how):
    """HANG: it answers late. DEAD: its daemon dies and comes back, and knows nothing of before."""
    server = Server(*arguments(mount, ranks))
    answers = {}
    for path in prompts:
        for _ in range(5):  # what a slow device made the store drop is offered again
            answers[path] = server.ask(path, "what?")
            done = server.flush()
            assert done["complete"]
            if not done["dropped"] + done["failed"]:
                break
    assert server.quit() == 0

    switch = tmp_path / "hang"
    # On tmpfs reads are done inline, one at a time: the first that hangs makes all others miss, and no breaker is needed.
    server = Server(*arguments(mount, ranks, "--provider_path", SLOW, *FAST),
                    env=environment(**{"SLOW_USRBIO_" + how: str(switch)}, CISTERN_USRBIO_BACKEND="threads"))
    first = server.ask(prompts[0], "what?")
    assert first["tier2_tokens"] == TOKENS
    assert first["logits_hash"] == answers[prompts[0]]["logits_hash"]
    switch.touch()
    for path in prompts[1:5]:  # right answers all the while, computed
        hung = server.ask(path, "what?")
        assert hung["tier2_tokens"] == 0
        assert hung["logits_hash"] == answers[path]["logits_hash"]
    assert hung["tier2_blocks"] == [0] * ranks
    switch.unlink()
    end = time.monotonic() + 20
    back = None
    for path in prompts[5:]:  # when it is back, hits are: each prompt can show it once, so wait before asking
        time.sleep(1)
        back = server.ask(path, "what?")
        assert back["logits_hash"] == answers[path]["logits_hash"]
        if back["tier2_tokens"] or time.monotonic() > end:
            break
    assert back["tier2_tokens"] == TOKENS
    server.terminate()
    opened, closed = lines(server, "breaker open: 4 reads"), lines(server, "breaker closed")
    assert opened, server.stderr
    assert len(closed) >= len(opened), server.stderr
    assert how != "DEAD" or lines(server, "were made anew"), server.stderr


@pytest.mark.parametrize("every_rank", [False, True])
@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_finishes_what_was_accepted(prompts, mount, ranks, every_rank):
    server = Server(*arguments(mount, ranks, "--drain-ms", 20000))
    first = server.ask(prompts[0], "what?")
    last, status = server.terminate(every_rank)
    assert last["event"] == "drained" and last["left"] == 0
    assert status == 0
    server = Server(*arguments(mount, ranks))
    again = server.ask(prompts[0], "what?")
    assert again["tier2_tokens"] == TOKENS
    assert again["logits_hash"] == first["logits_hash"]
    assert server.quit() == 0


def test_sigterm_on_storage_that_hangs_ends_in_time(prompts, mount, tmp_path):
    switch = tmp_path / "hang"
    switch.touch()
    server = Server(*arguments(mount, 1, "--provider_path", SLOW, "--drain-ms", 200, "--close_timeout_ms", 500,
                               "--threefs_write_timeout_ms", 60000, "--threefs_rpc_put_cache_timeout_ms", 60000),
                    env=environment(SLOW_USRBIO_HANG=str(switch)))
    server.ask(prompts[0], "what?")
    last, status = server.terminate()  # waits for 60 s at most, which is what this is about
    assert last["event"] == "drained" and last["left"] >= 1
    assert status == 0
