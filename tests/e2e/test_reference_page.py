"""Walks RTP-LLM's page about its KV cache on 3FS: for each step the command that serves it is run, its answer checked.

The page is looked for in $CISTERN_REFERENCE_PAGE, else beside the repository; without it everything here is skipped.
It is cut at blank lines and before numbered steps into blocks: headings, steps, code, notes. PAGE names each by how it begins and says which
tests serve it; a block that is not in it, and a row that no block has, is a failure.
"""

import functools
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from minillm_run import ON, SMALL, STAGING, Server, environment, events, requests, run as minillm
from test_doctor import BUILD, CISTERN, FAKES, GIB, ROOT, TOP, Machine

PAGE = [
    ("Usage", "heading", []),
    ("RTP LLM supports using 3FS", "purpose", ["a_second_tier_outlives_the_process"]),
    ("When model computational", "purpose", ["a_second_tier_outlives_the_process"]),
    ("The framework integrates", "purpose", ["io_goes_through_the_native_client"]),
    ("Usage#", "heading", []),
    ("Currently, 3FS is disabled", "step", ["off_by_default"]),
    ("1. 3FS is currently only", "step", ["build", "switched_on_by_environment_or_arguments", "cuda"]),
    ("bazelisk build", "code", ["build"]),
    ("1. Business containers", "step", ["container_configuration"]),
    ('"container_configs"', "code", ["container_configuration"]),
    ("Note: The shm size", "note", ["shm_arithmetic", "memory_is_not_below_shm"]),
    ("Add RDMA loopback", "step", ["loopback_label"]),
    ('{ "name": "storage', "code", ["loopback_label"]),
    ("1. Add environment variables", "step", ["switched_on_by_environment_or_arguments"]),
    ("# Environment variables", "code", ["switched_on_by_environment_or_arguments"]),
    ("# Args", "code", ["switched_on_by_environment_or_arguments"]),
    ("1. Perform some validation", "step", ["directory", "shm_check"]),
    ("After the container is up", "step", ["directory"]),
    ("/3fs/stage/3fs/rtp_llm/", "code", ["directory"]),
    ("Verify that the shm", "step", ["shm_check"]),
    ("df -h", "code", ["shm_check"]),
    ("Check if /dev/shm", "step", ["shm_check", "memory_is_not_below_shm"]),
    ("Deployment Method#", "heading", []),
    ("Considering the group", "step", ["cluster_choice"]),
    ("3FS has already been", "step", ["cluster_choice"]),
]

FILE = Path(os.environ.get("CISTERN_REFERENCE_PAGE", TOP.parent / "shared" / "reference" / "rtp-llm-3fs.md"))
pytestmark = pytest.mark.skipif(not FILE.exists(), reason="RTP-LLM's page is not beside this repository")
MODEL = ["--layers", "32", "--kv-heads", "8", "--head-dim", "128", "--hours", "1"]


@functools.cache
def blocks():
    return [b for b in re.split(r"\n\s*\n|\n(?=\s*\d+\. )", FILE.read_text()) if b.strip()]


def plain(text):
    return " ".join(text.split())


def begins(block, key):
    """Headings are the whole block; everything else begins so."""
    return plain(block) == key if key in ("Usage", "Usage#", "Deployment Method#") else plain(block).startswith(key)


def block(key):
    return next(b for b in blocks() if begins(b, key))


def numbers(pattern, text):
    m = re.search(pattern, plain(text))
    assert m, f"the page does not say /{pattern}/ any more"
    return [int(g) for g in m.groups()]


def cistern(*args, code=0, env=None):
    r = subprocess.run([CISTERN, *map(str, args)], text=True, timeout=120, env=env or environment(),
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == code, r.stdout + r.stderr
    return r.stdout


def emitted(ranks):
    return json.loads(cistern("plan", *MODEL, "--tp", ranks, "--emit", "rtp"))


@pytest.fixture
def m(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def prompt(tmp_path):
    path = tmp_path / "prompt"
    path.write_text("What was computed once need not be computed again. " * 10)
    return path


# ---- The table ----


def test_every_block_of_the_page_is_served():
    for b in blocks():
        rows = [key for key, _, _ in PAGE if begins(b, key)]
        assert len(rows) == 1, f"{len(rows)} rows for {plain(b)[:80]!r}"
    for key, kind, tests in PAGE:
        assert len([b for b in blocks() if begins(b, key)]) == 1, f"no block begins with {key!r}"
        assert tests or kind == "heading", key
        for name in tests:
            assert callable(globals().get("test_" + name)), name
    assert len(PAGE) == len(blocks())


def test_a_page_that_grew_is_noticed(monkeypatch):
    grown = [*blocks(), "Another step of the page"]
    monkeypatch.setitem(globals(), "blocks", lambda: grown)
    with pytest.raises(AssertionError, match="0 rows for 'Another step"):
        test_every_block_of_the_page_is_served()


# ---- What it is for ----


def test_a_second_tier_outlives_the_process(prompt, tmp_path):
    """What one process computed the next one reads, after SIGKILL, and computes no more than the rest."""
    mount = tmp_path / "mount"
    mount.mkdir()
    words = [*ON, *STAGING, "--mount", mount, *SMALL]
    server = Server(*words)
    first = server.ask(prompt, "what?")
    for _ in range(5):  # what a slow device made the store drop is offered again
        done = server.flush()
        if done["stored"] >= first["prompt_tokens"] // 16:
            break
        server.ask(prompt, "what?")
    server.kill()
    second, = requests(*words, "--request", f"{prompt}:what?")
    assert first["tier2_tokens"] == 0 and second["tier2_tokens"] > 0
    assert second["computed_tokens"] < first["computed_tokens"]
    assert second["logits_hash"] == first["logits_hash"]


def test_io_goes_through_the_native_client(prompt, tmp_path):
    mount = tmp_path / "mount"
    mount.mkdir()
    events(minillm("--json", *ON, *STAGING, "--mount", mount, *SMALL, "--request", f"{prompt}:what?"))
    handle = json.loads(cistern("stat", "--json", "--mount", mount))["handle"]
    assert handle["provider"] in ("local", "hf3fs") and handle["provider_path"].endswith("/libhf3fs_api_shared.so")


# ---- Switches and build ----


def ready(prompt, *args, **env):
    done = minillm("--json", *STAGING, *SMALL, "--request", f"{prompt}:what?", *args, env=environment(**env))
    if done.returncode:
        return done.stderr
    event = next(e for e in events(done) if e["event"] == "ready")
    return event["reuse_cache"], event["enable_3fs"]


def test_off_by_default(prompt, m):
    assert ready(prompt, "--mount", m.mount) == (False, False)
    assert list(m.mount.iterdir()) == [], "storage was touched"
    del m.env["REUSE_CACHE"], m.env["ENABLE_3FS"]
    assert m.state("switches") == "warn"


def test_switched_on_by_environment_or_arguments(prompt, m):
    env = dict(pair.split("=") for pair in block("# Environment variables").splitlines()[1].split())
    args = block("# Args").splitlines()[1].split()
    assert set(env) == {"REUSE_CACHE", "ENABLE_3FS"} and len(args) == 4
    assert ready(prompt, "--mount", m.mount, **env) == (True, True)
    assert ready(prompt, "--mount", m.mount, *args) == (True, True)
    assert "needs reuse_cache" in ready(prompt, "--mount", m.mount, ENABLE_3FS=env["ENABLE_3FS"])
    o = emitted(4)
    assert o["env"] == env and o["args"].split() == args
    m.env |= env
    assert m.state("switches") == "pass"
    del m.env["REUSE_CACHE"]
    assert m.state("switches") == "fail"


CLIENT = """#include <cistern.h>
#include <stdio.h>
int main(void)
{
    struct cistern_options o = {.size = sizeof o};
    cistern *c = NULL;
    int rc = cistern_options_from_env(&o);
    rc = rc ? rc : cistern_open(&o, &c);
    printf("%s %s\\n", cistern_version(), cistern_error_name(rc));
    return 0;
}
"""


def test_build(tmp_path):
    """The page switches 3FS on when the engine is compiled. An engine links libcistern.so by pkg-config; the 3FS client
    is looked for when a store is opened, so that one build serves hosts with and without it."""
    assert "--config=3fs" in block("bazelisk build")
    make = [*shlex.split(os.environ.get("MAKE", "make")), "-s", f"O={os.path.relpath(BUILD, TOP)}"]
    prefix = tmp_path / "prefix"
    subprocess.run([*make, f"SAN={os.environ.get('CISTERN_SAN', '')}", "install", f"prefix={prefix}"], cwd=TOP,
                   check=True, stdout=subprocess.DEVNULL, timeout=900)
    env = environment(PKG_CONFIG_PATH=str(prefix / "lib/pkgconfig"), LD_LIBRARY_PATH=str(prefix / "lib"))
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "cistern"], env=env, text=True, check=True,
                           stdout=subprocess.PIPE).stdout.split()
    (tmp_path / "engine.c").write_text(CLIENT)
    san = os.environ.get("CISTERN_SAN")
    subprocess.run(["cc", "-Wall", "-Werror", str(tmp_path / "engine.c"), "-o", str(tmp_path / "engine"), *flags,
                    *([f"-fsanitize={san}"] if san else [])], env=env, check=True)
    out = subprocess.run([str(tmp_path / "engine")], env=env, text=True, stdout=subprocess.PIPE, check=True).stdout
    assert re.fullmatch(r"\d+\.\d+\.\d+ CISTERN_EDISABLED\n", out), "compiled in, and off until it is switched on"
    needed = subprocess.run(["readelf", "-d", str(prefix / "lib/libcistern.so.0")], text=True, check=True,
                            stdout=subprocess.PIPE).stdout
    assert "hf3fs" not in needed and "libcuda" not in needed


def test_cuda(m):
    assert m.state("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-ok")) == "pass"
    m.file("/dev/nvidiactl", "")
    assert m.state("cuda", LD_LIBRARY_PATH=str(FAKES / "cuda-fail")) == "fail"


# ---- The container ----


def page_configuration():
    """The page's block is a piece of an object, with a comment and a comma too many."""
    text = re.sub(r"^\s*#.*$", "", block('"container_configs"'), flags=re.M)
    return json.loads("{" + re.sub(r",(\s*[\]}])", r"\1", text) + "}")


def values(configs):
    return {name: json.loads(text) for name, text in (line.split("=", 1) for line in configs)}


def test_container_configuration():
    page, ours = page_configuration(), emitted(4)
    assert set(values(page["container_configs"])) == {"JSON_VOLUME_MOUNTS", "JSON_VOLUMES"}
    assert values(ours["container_configs"]) == values(page["container_configs"])
    assert ours["meta_tag_list"] == page["meta_tag_list"]
    # What the page has as a comment: memory may be pinned.
    assert "memlock:-1:-1" in block('"container_configs"')
    assert "memlock: -1" in cistern("plan", *MODEL, "--tp", 4, "--emit", "docker")


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_shm_arithmetic(ranks):
    note = block("Note: The shm size")
    one, read, write = numbers(r"One TP requires (\d+)GB \((\d+)GB for reading and (\d+)GB for writing\)", note)
    some, sum_of_some, with_room = numbers(r"For (\d+)TP, 3FS requires (\d+)GB .*?set to (\d+)GB", note)
    assert (one, some * one) == (read + write, sum_of_some)
    o = json.loads(cistern("plan", *MODEL, "--tp", ranks, "--json"))
    assert o["staging_bytes_rank"] == one * GIB and o["staging_bytes"] == ranks * one * GIB
    assert o["shm_bytes"] >= o["staging_bytes"] and o["memory_bytes"] >= o["shm_bytes"]
    assert o["shm_bytes"] * some == with_room * GIB * ranks, "the head-room of the page, for any number of ranks"
    limit = values(emitted(ranks)["container_configs"])["JSON_VOLUMES"][0]["emptyDir"]["sizeLimit"]
    assert limit == f"{o['shm_bytes'] // GIB}Gi"
    if ranks == some:
        assert limit == f"{with_room}Gi" and f'sizeLimit\\":\\"{limit}' in block('"container_configs"')


def test_loopback_label(m):
    label = json.loads(block('{ "name": "storage'))
    assert emitted(4)["labels"] == [label]
    assert m.state("storage-node") == "pass"
    m.file("/proc/4711/comm", "storage_main\n")
    answer = m.ask("storage-node")
    assert answer["state"] == "fail"
    assert json.loads(re.search(r"\{.*?\}", answer["remedy"]).group(0)) == label


# ---- After it started ----


def test_directory(m):
    path = block("/3fs/stage/3fs/rtp_llm/").strip()
    compose = cistern("plan", *MODEL, "--emit", "docker")
    mount, root = (re.search(rf'CISTERN_{name}: "(.*)"', compose).group(1) for name in ("MOUNT", "ROOT"))
    assert mount + root == path
    if not Path(mount).exists():  # not on a machine with 3FS
        del m.env["CISTERN_MOUNT"]
        for check in ("mount", "root"):
            answer = m.ask(check)
            assert answer["state"] == "fail" and mount.rstrip("/") in answer["cause"]
    there = m.mount / mount.strip("/")
    m.env["CISTERN_MOUNT"] = str(there)
    assert (m.state("mount"), m.state("root")) == ("fail", "fail")
    there.mkdir(parents=True)
    assert (m.state("mount"), m.state("root")) == ("pass", "pass")
    (there / root).mkdir(mode=0o700)
    answer = m.ask("root")
    assert answer["state"] == "pass" and str(m.mount) + path.rstrip("/") in answer["cause"]


@pytest.mark.skipif(not ROOT, reason="a tmpfs of its own size is mounted, which takes root")
def test_shm_check(m):
    """What the page looks at with df."""
    size, = numbers(r"such as (\d+)GB", block("Check if /dev/shm"))
    shm = m.sys / "dev" / "shm"
    m.env["THREEFS_READ_IOV_SIZE"] = m.env["THREEFS_WRITE_IOV_SIZE"] = "4G"

    def state(mib):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(shm)], check=True)
        try:
            return m.ask("shm-size", "--tp", 4)
        finally:
            subprocess.run(["umount", str(shm)], check=True)

    assert state(size * 1024)["state"] == "pass"
    for small in (64, 31 * 1024):  # what Docker gives, and less than four ranks need
        answer = state(small)
        assert answer["state"] == "fail" and "32 GiB" in answer["cause"] and answer["remedy"]


@pytest.mark.skipif(not ROOT, reason="a tmpfs of its own size is mounted, which takes root")
def test_memory_is_not_below_shm(m):
    size, = numbers(r"not less than (\d+)GB", block("Check if /dev/shm"))
    shm = m.sys / "dev" / "shm"
    m.env["THREEFS_READ_IOV_SIZE"] = m.env["THREEFS_WRITE_IOV_SIZE"] = "4G"
    m.file("/proc/meminfo", f"MemTotal:       {512 << 20} kB\n")
    m.file("/proc/self/cgroup", "0::/pod\n")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}g", "tmpfs", str(shm)], check=True)
    try:
        for limit, state in ((size - 16, "fail"), (size - 4, "warn"), (size + 16, "pass")):
            m.file("/sys/fs/cgroup/pod/memory.max", f"{limit * GIB}\n")
            answer = m.ask("memory", "--tp", 4)
            assert answer["state"] == state, limit
            if state != "pass":
                assert f"ask for {size}Gi" in answer["remedy"]
    finally:
        subprocess.run(["umount", str(shm)], check=True)


# ---- Where it runs ----


def test_cluster_choice(m):
    """The page's data centers, each with a 3FS of its own: a host takes that of its own."""
    centers = re.search(r"deployed in (.*?) data centers", plain(block("3FS has already been"))).group(1)
    names = [re.sub(r"\W+", "-", w.strip()).lower() for w in re.split(r",(?: and)?| and ", centers) if w.strip()]
    assert len(names) == 4, names
    entries = [{"name": n, "hosts": [f"{n}-gpu-*"], "storage": f"stor-{i}", "mount": f"/3fs/{n}"}
               for i, n in enumerate(names)]
    m.file("/etc/cistern/clusters.json", json.dumps({"clusters": entries}))
    del m.env["CISTERN_MOUNT"]
    env = m.env | {"CISTERN_CLUSTERS": str(m.sys / "etc/cistern/clusters.json")}
    for i, entry in enumerate(entries):
        far = entries[i - 1]
        env["CISTERN_HOST"] = f"{entry['name']}-gpu-7"
        o = json.loads(cistern("clusters", "--json", env=env))
        assert (o["cluster"], o["storage"], o["path"]) == (entry["name"], f"stor-{i}", entry["mount"] + "/rtp_llm")
        o = json.loads(cistern("clusters", "--json", "--mount", far["mount"], env=env, code=1))
        assert (o["verdict"], o["other"]) == ("refused", far["name"])
        m.file("/proc/sys/kernel/hostname", env["CISTERN_HOST"] + "\n")
        for storage, state in ((entry["storage"], "pass"), (far["storage"], "fail")):
            m.mounted("fuse.hf3fs", at=entry["mount"])
            info = m.sys / "proc/self/mountinfo"
            info.write_text(info.read_text().replace("- fuse.hf3fs fuse.hf3fs", f"- fuse.hf3fs hf3fs.{storage}"))
            assert m.state("cluster") == state
