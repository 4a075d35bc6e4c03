"""The command: exit codes, words, JSON, and that stat and ls agree with what a bench has put.

Runs $CISTERN (the built command) on small stores below pytest's temporary directory. Nothing here
looks at how fast anything is.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CISTERN = os.environ.get("CISTERN", str(TOP / "build" / "cistern"))
BLOCK = 64 * 1024
TOTAL = 8 * 1024 * 1024
SMALL = ["--quick", "--slices", "2", "--seconds", "0.02", "--arena", "8M", "--staging", "64M",
         "--segment", "2M", "--request", "1M"]


def clean_env():
    """The environment without settings of a store."""
    drop = re.compile(r"(CISTERN|THREEFS|REUSE_CACHE|ENABLE_3FS|HF3FS)")
    return {k: v for k, v in os.environ.items() if not drop.match(k)}


def run(*args, cwd=None, timeout=120, env=None):
    return subprocess.run([CISTERN, *map(str, args)], cwd=cwd, timeout=timeout, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env or clean_env())


def words(result):
    return f"exit {result.returncode}\nstdout: {result.stdout}\nstderr: {result.stderr}"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A store that a bench filled and left: (mount, root, blocks)."""
    mount = tmp_path_factory.mktemp("kept")
    r = run("bench", "get", "--dir", mount, "--root", "r", "--keep", "--block", BLOCK,
            "--parts", 2, "--total", TOTAL, *SMALL)
    assert r.returncode == 0, words(r)
    return mount, "r", TOTAL // BLOCK


# ---- help and usage ----


@pytest.mark.parametrize("args", [["help"], ["--help"], ["-h"], ["help", "stat"],
                                  ["bench", "--help"], ["stat", "--help"], ["ls", "--help"],
                                  ["version", "--help"], ["help", "help"]])
def test_help_is_an_answer(args):
    r = run(*args)
    assert r.returncode == 0, words(r)
    assert r.stdout.startswith("usage: cistern")
    assert r.stderr == ""


def test_version_is_the_librarys():
    r = run("version")
    assert r.returncode == 0
    assert re.fullmatch(r"cistern \d+\.\d+\.\d+\n", r.stdout)
    assert run("--version").stdout == r.stdout


@pytest.mark.parametrize("args,expected", [
    ([], "usage"),
    (["stta"], "did you mean 'stat'"),
    (["xyzzy"], "cistern help"),
    (["help", "bnech"], "did you mean 'bench'"),
    (["stat", "--mout", "/tmp"], "did you mean --mount"),
    (["stat", "--frobnicate"], "--frobnicate"),
    (["stat", "-m"], "two dashes"),
    (["stat", "--mount"], "--mount DIR"),
    (["stat", "--mount="], "empty"),
    (["stat", "--json=yes"], "takes no value"),
    (["stat", "extra"], "unexpected word 'extra'"),
    (["ls", "--segments", "--blocks"], "choose one"),
    (["ls", "--shard", "-1"], "--shard"),
    (["ls", "--shard", "256"], "255"),
    (["bench"], "bench what?"),
    (["bench", "gte"], "did you mean 'get'"),
    (["bench", "get", "open"], "stands alone"),
    (["bench", "get", "xyzzy"], "xyzzy"),
    (["bench", "get", "--block", "2X"], "2X"),
    (["bench", "get", "--block", "5000"], "whole pages"),
    (["bench", "get", "--block", "1K"], "--block"),
    (["bench", "get", "--block", "99999999999T"], "--block"),
    (["bench", "get", "--seconds", "0"], "above 0"),
    (["bench", "get", "--seconds", "nan"], "above 0"),
    (["bench", "get", "--lanes", "4", "--depth", "2"], "--depth"),
    (["bench", "get", "--total", "2M", "--block", "1M"], "four blocks"),
])
def test_usage_errors_say_what_is_wrong(args, expected):
    r = run(*args)
    assert r.returncode == 2, words(r)
    assert expected in r.stderr, words(r)
    assert r.stdout == ""


# ---- environment ----


@pytest.mark.parametrize("verb", ["stat", "ls"])
def test_a_missing_mount_is_named(verb, tmp_path):
    r = run(verb, "--mount", tmp_path / "nowhere")
    assert r.returncode == 3, words(r)
    assert "nowhere" in r.stderr and "--mount" in r.stderr


@pytest.mark.parametrize("verb", ["stat", "ls"])
def test_a_directory_that_is_no_root_is_refused(verb, tmp_path):
    (tmp_path / "plain").mkdir()
    r = run(verb, "--mount", tmp_path, "--root", "plain")
    assert r.returncode == 3, words(r)
    assert "not a Cistern root" in r.stderr and "--root" in r.stderr
    assert list((tmp_path / "plain").iterdir()) == []


def test_a_root_given_as_mount_is_explained(kept):
    mount, root, _ = kept
    r = run("stat", "--mount", mount / root)
    assert r.returncode == 3, words(r)
    assert "itself is a Cistern root" in r.stderr


def test_bench_wants_a_root_of_its_own(kept):
    mount, root, _ = kept
    before = sorted(p.name for p in (mount / root).iterdir())
    r = run("bench", "put", "--dir", mount, "--root", root, *SMALL)
    assert r.returncode == 3, words(r)
    assert "exists already" in r.stderr
    assert sorted(p.name for p in (mount / root).iterdir()) == before


def test_bench_says_when_there_is_no_room(tmp_path):
    r = run("bench", "get", "--dir", tmp_path, "--total", "1000T", "--quick")
    assert r.returncode == 3, words(r)
    assert "room" in r.stderr and "--total" in r.stderr
    assert list(tmp_path.iterdir()) == []


# ---- stat and ls ----


def test_stat_counts_what_was_put(kept):
    mount, root, blocks = kept
    r = run("stat", "--mount", mount, "--root", root, "--json")
    assert r.returncode == 0, words(r)
    s = json.loads(r.stdout)
    assert s["total"]["blocks"] == blocks
    assert s["total"]["bytes"] == blocks * BLOCK
    assert s["total"]["dead"] == 0
    assert s["total"]["disk_bytes"] >= blocks * BLOCK
    assert s["total"]["writers"] == 1
    assert len(s["spaces"]) == 1
    space = s["spaces"][0]
    assert space["description"]["model"] == "bench"
    assert [p["bytes"] for p in space["description"]["parts"]] == [BLOCK // 2] * 2
    assert space["shards"][0]["blocks"] == blocks
    assert s["handle"]["provider"]
    assert s["notes"] == []


def test_stat_in_words_has_the_same_numbers(kept):
    mount, root, blocks = kept
    r = run("stat", "--mount", mount, "--root", root)
    assert r.returncode == 0, words(r)
    assert "model bench" in r.stdout
    total = next(line for line in r.stdout.splitlines() if line.startswith("total"))
    assert total.split()[3] == str(blocks)


def test_stat_takes_mount_and_root_from_the_environment(kept):
    mount, root, blocks = kept
    env = dict(clean_env(), CISTERN_MOUNT=str(mount), CISTERN_ROOT=root)
    r = run("stat", "--json", env=env)
    assert r.returncode == 0, words(r)
    assert json.loads(r.stdout)["total"]["blocks"] == blocks


def snapshot(directory):
    return sorted((str(p), p.lstat().st_size, p.lstat().st_mtime_ns)
                  for p in directory.rglob("*"))


@pytest.mark.parametrize("verb", [["stat"], ["ls"], ["ls", "--blocks"]])
def test_looking_writes_nothing_in_the_root(verb, kept):
    mount, root, _ = kept
    before = snapshot(mount / root)
    r = run(*verb, "--mount", mount, "--root", root)
    assert r.returncode == 0, words(r)
    assert snapshot(mount / root) == before


def test_ls_blocks_lists_every_block_once(kept):
    mount, root, blocks = kept
    r = run("ls", "--mount", mount, "--root", root, "--blocks", "--json")
    assert r.returncode == 0, words(r)
    items = json.loads(r.stdout)
    assert len(items) == blocks
    assert len({i["key"] for i in items}) == blocks
    assert all(re.fullmatch("[0-9a-f]{64}", i["key"]) for i in items)
    assert all(i["bytes"] == BLOCK and i["parts"] == 3 for i in items)
    assert all(i["offset"] % 4096 == 0 for i in items)
    places = {(i["name"], i["offset"]) for i in items}
    assert len(places) == blocks
    for name in {i["name"] for i in items}:
        assert (mount / name).is_file()


def test_ls_segments_adds_up_to_stat(kept):
    mount, root, blocks = kept
    r = run("ls", "--mount", mount, "--root", root, "--segments", "--json")
    segments = json.loads(r.stdout)
    assert sum(s["blocks"] for s in segments) == blocks
    stat = json.loads(run("stat", "--mount", mount, "--root", root, "--json").stdout)
    assert len(segments) == stat["total"]["segments"] > 1
    assert sum(s["bytes"] for s in segments) == stat["total"]["bytes"]


def test_ls_in_words_has_one_line_a_block(kept):
    mount, root, blocks = kept
    r = run("ls", "--mount", mount, "--root", root, "--blocks")
    assert r.returncode == 0, words(r)
    assert len(r.stdout.splitlines()) == blocks + 1


@pytest.mark.parametrize("option,some", [(["--space", "bench-"], True), (["--space", "x"], False),
                                         (["--shard", "0"], True), (["--shard", "1"], False)])
def test_ls_filters(option, some, kept):
    mount, root, _ = kept
    r = run("ls", "--mount", mount, "--root", root, "--json", *option)
    assert r.returncode == 0, words(r)
    assert bool(json.loads(r.stdout)) == some


# ---- bench ----


@pytest.mark.parametrize("what", ["put", "get", "rand", "guard"])
def test_bench_json_has_pairs_and_a_ratio(what, tmp_path):
    r = run("bench", what, "--dir", tmp_path, "--block", BLOCK, "--total", TOTAL, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    answer = json.loads(r.stdout)
    assert len(answer["figures"]) == 1
    f = answer["figures"][0]
    assert f["block_bytes"] == BLOCK
    assert len(f["ours"]["slices"]) == len(f["base"]["slices"]) == 2
    assert all(s["bytes"] > 0 and s["seconds"] > 0 for s in f["ours"]["slices"])
    assert 0 < f["ratio"]["lo"] <= f["ratio"]["median"] <= f["ratio"]["hi"]
    pairs = [(a["bytes"] / a["seconds"]) / (b["bytes"] / b["seconds"])
             for a, b in zip(f["ours"]["slices"], f["base"]["slices"])]
    assert f["ratio"]["median"] == pytest.approx(sum(pairs) / 2, rel=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_bench_scrape_reads_the_numbers_meanwhile(tmp_path):
    r = run("bench", "scrape", "--dir", tmp_path, "--block", BLOCK, "--total", TOTAL, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    figure, = json.loads(r.stdout)["figures"]
    assert figure["what"] == "get, watched"
    assert int(figure["remark"].split()[0]) >= 1
    assert list(tmp_path.iterdir()) == []


def test_bench_share_measures_both_ways_and_leaves_nothing(tmp_path):
    r = run("bench", "share", "--dir", tmp_path, "--block", BLOCK, "--total", TOTAL, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    figures = json.loads(r.stdout)["figures"]
    assert [f["what"] for f in figures] == ["put, shared", "get, shared"]
    assert all(s["bytes"] > 0 for f in figures for side in ("ours", "base") for s in f[side]["slices"])
    assert list(tmp_path.iterdir()) == []


def test_bench_takes_several_figures_at_once(tmp_path):
    r = run("bench", "get", "rand", "--direct", "--dir", tmp_path, "--block", BLOCK,
            "--total", TOTAL, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    figures = json.loads(r.stdout)["figures"]
    assert [f["what"] for f in figures] == ["get in order", "get at random"]
    assert all(f["ours"]["name"] == "direct" for f in figures)
    assert list(tmp_path.iterdir()) == []


def test_bench_encrypted_stands_beside_plain_and_the_cipher(tmp_path):
    r = run("bench", "put", "get", "rand", "--encrypt", "--dir", tmp_path, "--block", BLOCK, "--total", TOTAL,
            "--json", *SMALL)
    assert r.returncode == 0, words(r)
    figures = json.loads(r.stdout)["figures"]
    last = figures[-1]["base"]["name"]  # by the kind of the file system
    assert last in ("raw", "memcpy")
    assert [(f["what"], f["base"]["name"]) for f in figures] == [
        (what, base) for what in ("put", "get in order", "get at random")
        for base in ("plain", "OpenSSL", "memcpy" if what == "put" else last)]
    assert all(s["bytes"] > 0 and s["cpu_seconds"] > 0 for f in figures for side in ("ours", "base")
               for s in f[side]["slices"])
    assert all(f["ours"] == figures[i // 3 * 3]["ours"] for i, f in enumerate(figures))  # of the same rounds
    assert list(tmp_path.iterdir()) == []


def test_bench_gives_back_its_own_directory(tmp_path):
    r = run("bench", "get", "--total", TOTAL, "--block", BLOCK, *SMALL, cwd=tmp_path)
    assert r.returncode == 0, words(r)
    assert "get in order" in r.stdout
    assert list(tmp_path.iterdir()) == []


def test_bench_in_memory_is_compared_with_memcpy():
    shm = Path("/dev/shm")
    if not shm.is_dir():
        pytest.skip("no /dev/shm here")
    r = run("bench", "get", "--dir", shm / f"cistern-test-{os.getpid()}", "--block", BLOCK,
            "--total", TOTAL, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    assert json.loads(r.stdout)["figures"][0]["base"]["name"] == "memcpy"
    assert not (shm / f"cistern-test-{os.getpid()}").exists()


def test_bench_match_finds_every_key(tmp_path):
    r = run("bench", "match", "--dir", tmp_path, "--count", 2000, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    figures = json.loads(r.stdout)["figures"]
    assert [f["blocks"] for f in figures] == [2000, 2000]
    assert list(tmp_path.iterdir()) == []


def test_bench_open_takes_up_what_is_there(kept):
    mount, root, blocks = kept
    before = snapshot(mount / root)
    r = run("bench", "open", "--dir", mount, "--root", root, "--json", *SMALL)
    assert r.returncode == 0, words(r)
    assert json.loads(r.stdout)["figures"][0]["blocks"] == blocks
    assert snapshot(mount / root) == before


def test_bench_open_of_an_empty_place_is_explained(tmp_path):
    r = run("bench", "open", "--dir", tmp_path, "--root", "none", *SMALL)
    assert r.returncode in (3, 4), words(r)
    assert "none" in r.stderr
    assert list(tmp_path.glob("none")) == []


def test_a_stopped_bench_cleans_up(tmp_path):
    p = subprocess.Popen([CISTERN, "bench", "get", "--dir", str(tmp_path), "--block", str(BLOCK),
                          "--total", str(TOTAL), *SMALL, "--slices", "10000"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env())
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list(tmp_path.rglob("*.seg")):
        time.sleep(0.02)
    time.sleep(0.2)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    assert p.returncode == -signal.SIGINT, (p.returncode, out, err)
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_is_not_there_any_more_fails_the_bench(tmp_path):
    """Damage under a running bench: verified hits only, so it must end with exit status 4."""
    p = subprocess.Popen([CISTERN, "bench", "get", "--dir", str(tmp_path), "--block", str(BLOCK),
                          "--total", str(TOTAL), *SMALL, "--slices", "10000", "--buffered"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                         env=clean_env())
    deadline = time.monotonic() + 30
    segments = []
    while time.monotonic() < deadline:
        segments = list(tmp_path.rglob("*.seg"))
        if sum(s.stat().st_size for s in segments) >= TOTAL:
            break
        time.sleep(0.02)
    time.sleep(0.5)
    for s in segments:
        with open(s, "r+b") as f:
            f.write(b"\xa5" * (1 << 20))
    try:
        out, err = p.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        p.kill()
        out, err = p.communicate()
    assert p.returncode == 4, (p.returncode, out, err)
    assert "missed" in err
    assert list(tmp_path.iterdir()) == []


def test_a_full_stdout_is_an_error(kept):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    mount, root, _ = kept
    with open("/dev/full", "w") as full:
        r = subprocess.run([CISTERN, "ls", "--mount", mount, "--root", root], stdout=full,
                           stderr=subprocess.PIPE, text=True, env=clean_env(), timeout=60)
    assert r.returncode == 4, r.stderr


# ---- what goes with the command ----


def options_of(*verb):
    page = run(*verb, "--help").stdout
    return set(re.findall(r"^  --([a-z-]+)", page, re.M))


def verbs():
    page = run("help").stdout.split("verbs:\n")[1].split("\n\n")[0]
    return [line.split()[0] for line in page.splitlines() if line.split()[0] not in ("help", "version")]


@pytest.mark.parametrize("verb", verbs())
def test_the_man_page_and_the_completion_know_every_option(verb):
    """The completion in the branch of this verb."""
    man = (TOP / "docs" / "man" / "cistern.1").read_text().replace("\\-", "-")
    completion = (TOP / "deploy" / "completion" / "cistern.bash").read_text()
    target = re.search(r'target="([^"]*)"', completion).group(1)
    branch = re.search(rf"^    (?:\w+ \| )*{verb}(?: \| \w+)*\)$(.*?)^        ;;$", completion, re.M | re.S).group(1)
    offered = branch.replace("$target", target)
    for name in options_of(verb):
        if name != "help":
            assert f"Fl -{name}" in man, name
        assert re.search(rf"--{name}\b(?!-)", offered), name


@pytest.mark.parametrize("verb", ["fsck", "gc", "wipe", "retire"])
def test_the_synopsis_of_what_removes_is_whole(verb):
    man = (TOP / "docs" / "man" / "cistern.1").read_text()
    synopsis = re.search(rf"^\.Cm {verb}$(.*?)^\.Nm$", man, re.M | re.S).group(1)
    common = {"help", "mount", "root", "provider", "provider-path", "key-file"}
    assert set(re.findall(r"Fl -([a-z-]+)", synopsis)) == options_of(verb) - common


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize("words, offered", [
    (["plan", "--emit", ""], ["rtp", "k8s", "helm", "docker", "systemd"]),
    (["plan", "--dtype", "b"], ["bf16"]),
    (["doctor", "--only", "mount,shm-s"], ["mount,shm-size", "mount,shm-stale"]),
])
def test_the_completion_knows_values(words, offered):
    script = '. "$0"; COMP_WORDS=(cistern "$@"); COMP_CWORD=$#; _cistern; echo "${COMPREPLY[@]}"'
    env = os.environ | {"PATH": f"{Path(CISTERN).parent}:{os.environ['PATH']}"}
    r = subprocess.run(["bash", "-c", script, TOP / "deploy/completion/cistern.bash", *words], env=env, text=True,
                       stdout=subprocess.PIPE)
    assert r.stdout.split() == offered
