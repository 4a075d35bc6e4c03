"""minillm with Cistern behind it: killed and started anew, with two ranks, with spoilt files."""
import pytest

from minillm_run import ON, SMALL, STAGING, Server, environment, events, requests, run

TEXT = ("The model can always compute it again; losing something costs time. " * 20)[:1000]
BLOCK = 16  # tokens; SMALL has 62 of them in TEXT
BLOCK_BYTES = 2 * 2 * BLOCK * 32 * 4  # layers x (K, V) x tokens x head_dim x float: one KV head, one of two ranks


@pytest.fixture
def prompt(tmp_path):
    path = tmp_path / "prompt.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture
def mount(tmp_path):
    path = tmp_path / "mount"
    path.mkdir()
    return path


def cached(mount, ranks=2):
    return [*ON, *STAGING, "--mount", mount, "--tp_size", ranks, *SMALL]


def store(server, prompt):
    """Waits for the puts. What a slow device made the store drop is offered again."""
    done = server.flush()
    for _ in range(5):
        assert done["complete"]
        before = done["dropped"] + done["failed"]
        server.ask(prompt, "what?")
        done = server.flush()
        if done["dropped"] + done["failed"] == before:
            break
    return done


def fill(prompt, mount, ranks=2):
    """Asks once, waits for the puts, kills the engine. Returns the answer."""
    server = Server(*cached(mount, ranks))
    assert server.ready["enable_3fs"], server.ready["tier2_error"]
    answer = server.ask(prompt, "what?")
    done = store(server, prompt)
    assert done["stored"] == 62 * ranks, done
    server.kill()
    return answer


def ask(prompt, mount, *more, ranks=2, question="what?"):
    answer, = requests(*cached(mount, ranks), "--request", "%s:%s" % (prompt, question), *more)
    return answer


@pytest.mark.parametrize("ranks", [1, 2])
def test_after_sigkill_all_ranks_read_all_blocks(prompt, mount, ranks):
    first = fill(prompt, mount, ranks)
    assert first["tier2_tokens"] == 0
    again = ask(prompt, mount, ranks=ranks)
    assert again["tier2_blocks"] == [62] * ranks
    assert again["tier2_bytes"] == [62 * BLOCK_BYTES * 2 // ranks] * ranks
    assert (again["tier1_tokens"], again["tier2_tokens"], again["computed_tokens"]) == (0, 992, 13)
    assert again["logits_hash"] == first["logits_hash"]


def test_the_environment_switches_it_on_as_well(prompt, mount):
    fill(prompt, mount)
    env = environment(REUSE_CACHE="1", ENABLE_3FS="1", CISTERN_MOUNT=str(mount),
                      THREEFS_READ_IOV_SIZE="8M", THREEFS_WRITE_IOV_SIZE="8M")
    answer, = requests("--tp_size", 2, *SMALL, "--request", "%s:what?" % prompt, env=env)
    assert answer["tier2_tokens"] == 992


@pytest.mark.parametrize("ranks", [1, 2])
def test_shadow_finds_no_difference_in_what_is_right(prompt, mount, ranks):
    """Every second run is computed as well; it is bit for bit what was stored."""
    first = fill(prompt, mount, ranks)
    seen = []
    for _ in range(2):  # another process each time, so that tier 1 has nothing
        server = Server(*cached(mount, ranks), "--shadow", 2)
        for question in ("what?", "why?"):
            seen.append(server.ask(prompt, question))
        server.quit()
    assert [r["shadow_differs"] for r in seen] == [0] * 4
    assert seen[0]["logits_hash"] == seen[2]["logits_hash"] == first["logits_hash"]
    checked = ask(prompt, mount, "--shadow", 1, ranks=ranks)
    assert (checked["shadow_checked"], checked["shadow_differs"], checked["tier2_tokens"]) == (62, 0, 992)
    assert checked["logits_hash"] == first["logits_hash"]
    assert ask(prompt, mount, "--shadow", 2, ranks=ranks)["shadow_checked"] == 0


@pytest.mark.parametrize("ranks", [1, 2])
def test_shadow_finds_a_wrong_block_that_verifies(prompt, mount, ranks):
    """Another engine put other bytes under the right key: every checksum is right, and the block is not."""
    right = events(run("--json", *SMALL, "--tp_size", ranks, "--request", "%s:what?" % prompt))[-1]
    server = Server(*cached(mount, ranks), "--spoil-puts", 20 * BLOCK_BYTES * 2 // ranks + 100)
    server.ask(prompt, "what?")
    assert store(server, prompt)["stored"] == 62 * ranks
    server.kill()
    wrong = ask(prompt, mount, ranks=ranks)
    assert wrong["tier2_blocks"] == [62] * ranks and wrong["logits_hash"] != right["logits_hash"]
    done = run("--json", *cached(mount, ranks), "--shadow", 1, "--request", "%s:what?" % prompt)
    found = events(done)[-1]
    assert (found["shadow_checked"], found["shadow_differs"], found["tier2_tokens"]) == (21, 1, 320)
    assert "block 20 was computed otherwise than it is stored" in done.stderr
    assert "cistern: shadow:" in done.stderr
    assert found["logits_hash"] == right["logits_hash"]


def test_files_moved_away_are_not_read(prompt, mount, tmp_path):
    first = fill(prompt, mount)
    mount.rename(tmp_path / "elsewhere")
    mount.mkdir()
    again = ask(prompt, mount)
    assert (again["tier2_tokens"], again["tier2_bytes"]) == (0, [0, 0])
    assert again["logits_hash"] == first["logits_hash"]


def test_a_flipped_byte_without_verification_is_seen_in_the_logits(prompt, mount):
    first = fill(prompt, mount)
    spoilt = ask(prompt, mount, "--corrupt-kv", 4096 + 3)
    assert spoilt["tier2_tokens"] == 992
    assert spoilt["logits_hash"] != first["logits_hash"]
    assert ask(prompt, mount)["logits_hash"] == first["logits_hash"]


def test_a_flipped_byte_on_disk_is_a_miss(prompt, mount):
    first = fill(prompt, mount)
    segments = sorted(mount.glob("**/s1of2/*.seg"))
    assert segments
    path = max(segments, key=lambda p: p.stat().st_blocks)
    data = bytearray(path.read_bytes())
    data[30 * BLOCK_BYTES + 77] ^= 0x40  # in the middle of what the 62 blocks take
    path.write_bytes(bytes(data))
    again = ask(prompt, mount)
    assert again["tier2_blocks"][0] == 62
    assert 0 < again["tier2_blocks"][1] < 62  # up to the spoilt one
    assert again["tier2_tokens"] == BLOCK * again["tier2_blocks"][1]  # the least of the ranks
    assert again["logits_hash"] == first["logits_hash"]


def test_the_least_of_the_ranks_counts(prompt, mount):
    first = fill(prompt, mount)
    for path in mount.glob("**/s1of2/*"):
        path.unlink()
    again = ask(prompt, mount)
    assert again["tier2_tokens"] == 0
    assert again["logits_hash"] == first["logits_hash"]


def test_what_was_computed_again_is_stored_again(prompt, mount):
    fill(prompt, mount)
    for path in mount.glob("**/s1of2/*"):
        path.unlink()
    ask(prompt, mount, "--wait-puts")
    assert ask(prompt, mount)["tier2_tokens"] == 992


@pytest.mark.parametrize("other", [["--seed", "2"], ["--ffn", "320"], ["--block-tokens", "32"]])
def test_another_model_finds_nothing(prompt, mount, other):
    fill(prompt, mount)
    answer = ask(prompt, mount, *other)
    assert answer["tier2_tokens"] == 0
    plain, = requests("--tp_size", 2, *SMALL, "--request", "%s:what?" % prompt, *other)
    assert answer["logits_hash"] == plain["logits_hash"]


def test_another_number_of_ranks_finds_nothing(prompt, mount):
    fill(prompt, mount, ranks=2)
    assert ask(prompt, mount, ranks=1)["tier2_tokens"] == 0


def test_a_changed_beginning_reuses_nothing(prompt, mount, tmp_path):
    fill(prompt, mount)
    other = tmp_path / "other.txt"
    other.write_text("x" + TEXT[1:])
    answer = ask(other, mount)
    assert (answer["tier1_tokens"], answer["tier2_tokens"]) == (0, 0)


def test_both_tiers_serve_one_prompt(prompt, mount, tmp_path):
    fill(prompt, mount)
    short = tmp_path / "short.txt"
    short.write_text(TEXT[:400])
    done = run("--json", *cached(mount), "--request", "%s:" % short,
               "--request", "%s:what?" % prompt, "--request", "%s:what?" % prompt)
    _, a, b, c = events(done)
    assert (a["tier1_tokens"], a["tier2_tokens"]) == (0, 384)
    assert (b["tier1_tokens"], b["tier2_tokens"]) == (400, 592)
    assert (c["tier1_tokens"], c["tier2_tokens"]) == (992, 0)
    plain, = requests("--tp_size", 2, *SMALL, "--request", "%s:what?" % prompt)
    assert b["logits_hash"] == c["logits_hash"] == plain["logits_hash"]


def test_what_tier1_evicted_comes_from_tier2(prompt, mount, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("y" + TEXT[1:])
    small = [*cached(mount), "--tier1-blocks", 70]  # one prompt fits, two do not
    server = Server(*small)
    first = server.ask(prompt, "what?")
    store(server, prompt)
    server.ask(other, "what?")
    server.flush()
    again = server.ask(prompt, "what?")
    assert server.quit() == 0
    assert again["tier1_tokens"] + again["tier2_tokens"] == 992
    assert again["tier2_tokens"] > 800
    assert again["logits_hash"] == first["logits_hash"]


def test_the_report_says_where_and_how(mount):
    server = Server(*cached(mount))
    about = " ".join("%s=%s" % x for x in server.ready["tier2"].items())
    assert server.quit() == 0
    assert str(mount) in about
    assert "provider=" in about
