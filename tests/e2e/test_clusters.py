"""Network clusters end to end: the command and an engine take the storage of their own, and cross only when told to.

Hosts are named by CISTERN_HOST. That the kernel's word goes before the file's is shown with a tmpfs whose source is
that of a 3FS mount, in a mount namespace of its own.
"""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from minillm_run import SMALL, STAGING, environment, run as minillm

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CISTERN_BUILD", TOP / "build"))
CISTERN = os.environ.get("CISTERN", str(BUILD / "cistern"))


class Site:
    """Two network clusters, each with its mount, and an engine or a command on a host of the first."""

    def __init__(self, path):
        self.a, self.b = path / "a", path / "b"
        self.file = path / "clusters.json"
        self.entries = [{"name": "near", "hosts": ["web-1*"], "storage": "stor-a", "mount": str(self.a)},
                        {"name": "far", "hosts": ["web-2*"], "storage": "stor-b", "mount": str(self.b)}]
        for mount in (self.a, self.b):
            mount.mkdir()
        self.env = environment(CISTERN_CLUSTERS=str(self.file), CISTERN_HOST="web-17", REUSE_CACHE="1", ENABLE_3FS="1")
        self.prompt = path / "prompt"
        self.prompt.write_text("What was computed once need not be computed again. " * 10)
        self.write()

    def write(self):
        self.file.write_text(json.dumps({"clusters": self.entries}))

    def cistern(self, *args, **env):
        return subprocess.run([CISTERN, *map(str, args)], env=self.env | env, text=True, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def resolve(self, *args, code=0, **env):
        r = self.cistern("clusters", "--json", *args, **env)
        assert r.returncode == code, r.stderr
        return json.loads(r.stdout)

    def engine(self, *args, **env):
        return minillm("--json", *STAGING, *SMALL, "--request", f"{self.prompt}:what?", *args, env=self.env | env)


def opened(done):
    """The event that says whether the second tier is open."""
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return next(e for e in events if e["event"] == "ready")


@pytest.fixture
def site(tmp_path):
    return Site(tmp_path)


def roots(site):
    return [(m / "rtp_llm" / "cistern.json").exists() for m in (site.a, site.b)]


# ---- The command ----


def test_this_host_is_in_a_cluster_because_of_a_pattern(site):
    answer = site.resolve()
    assert answer["text"] == (f"this host web-17 is in network cluster near, uses 3FS cluster stor-a mounted at {site.a}, "
                              "because pattern web-1*")
    assert (answer["verdict"], answer["cluster"], answer["storage"], answer["mount"], answer["pattern"]) == (
        "own", "near", "stor-a", str(site.a), "web-1*")
    assert answer["path"] == f"{site.a}/rtp_llm"
    assert [(c["name"], c["storage"], c["mount"], c["hosts"]) for c in answer["clusters"]] == [
        ("near", "stor-a", str(site.a), ["web-1*"]), ("far", "stor-b", str(site.b), ["web-2*"])]
    text = site.cistern("clusters").stdout
    assert text.splitlines()[0] == answer["text"] and "* near" in text and "* far" not in text


def test_a_name_goes_before_patterns(site):
    for answer in (site.resolve(CISTERN_CLUSTER="far"), site.resolve("--cluster", "far")):
        assert answer["cluster"] == "far" and answer["pattern"] == "" and "because it is named" in answer["text"]
    assert site.resolve("--host", "web-20")["cluster"] == "far"


def test_what_an_open_would_refuse_is_a_finding(site):
    answer = site.resolve("--mount", site.b, code=1)
    assert (answer["verdict"], answer["other"], answer["other_storage"]) == ("refused", "far", "stor-b")
    assert "near" in answer["text"] and "far" in answer["text"] and "CISTERN_CROSS_CLUSTER=1" in answer["text"]
    assert site.resolve("--mount", site.b, CISTERN_CROSS_CLUSTER="1")["verdict"] == "crossed"
    answer = site.resolve("--host", "mail-1", code=1)
    assert answer["verdict"] == "unknown" and "mail-1" in answer["text"] and str(site.file) in answer["text"]
    assert site.resolve("--host", "mail-1", "--mount", "/srv/kv")["verdict"] == "elsewhere"


def test_no_file_is_an_answer_too(site):
    del site.env["CISTERN_CLUSTERS"]
    if Path("/etc/cistern/clusters.json").exists():
        pytest.skip("this machine has a clusters file of its own")
    answer = site.resolve()
    assert answer["verdict"] == "none" and answer["clusters"] == []


@pytest.mark.parametrize("text, says", [
    ("{\n \"clusters\": [\n {\"name\": \"a\"\n]}", "line 4"),
    ('{"clusters": [{"name": "a", "storage": "s", "mount": "/m", "hots": []}]}', "clusters[0].hots: is no member"),
    ('{"clusters": [{"name": "a", "storage": "s", "mount": "m"}]}', "clusters[0].mount"),
])
def test_a_bad_file_names_the_place(site, text, says):
    site.file.write_text(text)
    for verb in (["clusters"], ["stat"], ["fsck", str(site.a / "rtp_llm")]):
        r = site.cistern(*verb)
        assert r.returncode == 3 and str(site.file) in r.stderr and says in r.stderr, r.stderr


def test_two_matches_no_such_name_and_no_file(site):
    site.entries[1]["hosts"].append("*7")
    site.write()
    r = site.cistern("clusters")
    assert r.returncode == 3 and "near by pattern web-1*" in r.stderr and "far by *7" in r.stderr
    command = r.stderr.split("name one: ")[1].split(" ")[0]  # CISTERN_CLUSTER=near
    assert site.resolve(**dict([command.split("=")]))["cluster"] == "near"
    r = site.cistern("clusters", CISTERN_CLUSTER="nowhere")
    assert r.returncode == 3 and "no network cluster nowhere" in r.stderr
    r = site.cistern("clusters", CISTERN_CLUSTERS="/nonexistent/c.json")
    assert r.returncode == 3 and "/nonexistent/c.json cannot be read" in r.stderr


def test_a_file_that_cannot_be_read(site):
    site.file.unlink()
    site.file.mkdir()
    r = site.cistern("clusters")
    assert r.returncode == 3 and f"{site.file} cannot be read" in r.stderr


# ---- An engine and the tools on a store ----


def test_an_engine_stores_with_its_own_cluster(site):
    ready = opened(site.engine())
    assert ready["enable_3fs"] and roots(site) == [True, False]
    stat = json.loads(site.cistern("stat", "--json").stdout)
    assert stat["root"] == f"{site.a}/rtp_llm" and "network cluster near" in stat["cluster"]
    assert (stat["handle"]["cluster"], stat["handle"]["cluster_storage"], stat["handle"]["cluster_crossed"]) == (
        "near", "stor-a", "0")
    opened(site.engine(CISTERN_HOST="web-21"))
    assert roots(site) == [True, True]


def refused(done):
    """The engine goes on without its second tier, and says why."""
    ready = opened(done)
    assert not ready["enable_3fs"], ready
    for word in ("near", "far", "stor-a", "stor-b", "CISTERN_CROSS_CLUSTER=1"):
        assert word in ready["tier2_error"], ready["tier2_error"]


def test_an_engine_does_not_cross(site):
    refused(site.engine("--mount", site.b))
    refused(site.engine(CISTERN_MOUNT=str(site.b)))
    refused(site.engine("--mount", site.b.parent, "--root", "b/rtp_llm"))
    refused(site.engine("--mount", f"{site.a}/../b/"))
    assert list(site.b.iterdir()) == list(site.a.iterdir()) == [], "storage was touched"


def test_an_engine_crosses_when_it_is_told_to(site):
    for done in (site.engine("--mount", site.b, CISTERN_CROSS_CLUSTER="1"),
                 site.engine("--mount", site.b, "--cross_cluster", "True")):
        assert opened(done)["enable_3fs"]
        assert "crossed to on purpose" in done.stderr and "far" in done.stderr
    assert roots(site) == [False, True]
    refused_stat = site.cistern("stat", "--mount", site.b)
    assert refused_stat.returncode == 3 and "CISTERN_ECLUSTER" in refused_stat.stderr
    r = site.cistern("stat", "--mount", site.b, "--json", CISTERN_CROSS_CLUSTER="1")
    assert r.returncode == 0 and "crossed to on purpose" in r.stderr
    assert json.loads(r.stdout)["handle"]["cluster_crossed"] == "1"


@pytest.mark.parametrize("verb", ["fsck", "verify", "gc", "pins"])
def test_the_tools_do_not_cross(site, verb):
    opened(site.engine(CISTERN_HOST="web-21"))
    before = sorted(site.b.rglob("*"))
    r = site.cistern(verb, site.b / "rtp_llm")
    assert r.returncode == 3 and "CISTERN_ECLUSTER" in r.stderr and "near" in r.stderr and "far" in r.stderr
    assert sorted(site.b.rglob("*")) == before
    r = site.cistern(verb, site.b / "rtp_llm", CISTERN_CROSS_CLUSTER="1")
    assert r.returncode in (0, 1) and "CISTERN_ECLUSTER" not in r.stderr
    r = site.cistern(verb, site.b / "rtp_llm", CISTERN_HOST="web-21")
    assert r.returncode in (0, 1) and "CISTERN_ECLUSTER" not in r.stderr


def test_a_link_to_another_cluster_is_seen_by_the_tools(site):
    opened(site.engine(CISTERN_HOST="web-21"))
    link = site.a.parent / "link"
    link.symlink_to(site.b)
    r = site.cistern("stat", "--mount", link)
    assert r.returncode == 3 and "CISTERN_ECLUSTER" in r.stderr


# ---- What the kernel says ----


def in_namespace(site, script):
    r = subprocess.run(["unshare", "--mount", "sh", "-ec", script], env=site.env, text=True, timeout=120,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if "unshare" in r.stderr and r.returncode:
        pytest.skip("no mount namespace here: " + r.stderr.strip())
    return r


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_the_kernel_knows_better_than_the_file(site):
    ask = f"{shlex.quote(CISTERN)} clusters --json"
    r = in_namespace(site, f"mount -t tmpfs hf3fs.stor-a {site.a}; {ask}")
    assert r.returncode == 0, r.stderr
    answer = json.loads(r.stdout)
    assert (answer["verdict"], answer["mounted"]) == ("own", "stor-a")
    r = in_namespace(site, f"mount -t tmpfs hf3fs.stor-b {site.a}; {ask}")
    answer = json.loads(r.stdout)
    assert r.returncode == 1 and (answer["verdict"], answer["mounted"], answer["other"]) == ("refused", "stor-b", "far")
    r = in_namespace(site, f"mkdir -p {site.a.parent}/own; mount -t tmpfs hf3fs.stor-b {site.b}; "
                           f"mount --bind {site.b} {site.a.parent}/own; {ask} --mount {site.a.parent}/own")
    assert r.returncode == 1 and json.loads(r.stdout)["verdict"] == "refused"


@pytest.mark.skipif(os.geteuid() != 0, reason="a host name of its own takes root")
def test_the_name_of_the_machine(site):
    del site.env["CISTERN_HOST"]
    r = subprocess.run(["unshare", "--uts", "sh", "-c", f"hostname web-29 && {shlex.quote(CISTERN)} clusters --json"],
                       env=site.env, text=True, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if "unshare" in r.stderr and r.returncode:
        pytest.skip("no namespace of names here: " + r.stderr.strip())
    assert json.loads(r.stdout)["cluster"] == "far"
