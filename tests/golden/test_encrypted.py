"""The encrypted golden store: a release wrote it with the key beside it, and it stays readable for ever, by the library
and by the reader that shares no code with it. It was made once, with tests/admin/writer; it is never made again.
"""
import json
import os
import shutil
import subprocess
import sys

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
GOLDEN = os.path.join(HERE, "encrypted")
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
READER = os.path.join(TOP, "tools", "cistern_read.py")
sys.path.insert(0, os.path.join(TOP, "tools"))

with open(os.path.join(GOLDEN, "expected.json")) as f:
    EXPECTED = json.load(f)


@pytest.fixture()
def store(tmp_path):
    """A copy, with the modes that version control does not keep."""
    shutil.copytree(os.path.join(GOLDEN, "root"), tmp_path / "root")
    shutil.copy(os.path.join(GOLDEN, "key"), tmp_path / "key")
    for folder, _, names in os.walk(tmp_path):
        os.chmod(folder, 0o700)
        for name in names:
            os.chmod(os.path.join(folder, name), 0o600)
    return tmp_path


def cistern(*args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("CISTERN")}
    return subprocess.run([os.path.join(BUILD, "cistern"), *map(str, args)], capture_output=True, text=True, env=env,
                          timeout=60)


def read(store, *args, key="key"):
    return subprocess.run([sys.executable, READER, "--key-file", store / key, *args, store / "root"],
                          capture_output=True, timeout=120)


def module_or_skip():
    try:
        import cryptography  # noqa: F401
    except ImportError:
        pytest.skip("Python has no module cryptography here: the second reader needs it for encrypted stores")


def test_the_library_verifies_every_payload(store):
    r = cistern("verify", store / "root", "--key-file", store / "key", "--json")
    assert r.returncode == 0, r.stderr
    seen = json.loads(r.stdout)["summary"]
    assert (seen["blocks"], seen["dead"], seen["bad"]) == (5, 1, 0)
    r = cistern("fsck", store / "root", "--key-file", store / "key", "--json")
    assert r.returncode == 0 and json.loads(r.stdout)["findings"] == [], r.stdout


def test_the_library_names_the_key_that_it_wants(store):
    r = cistern("verify", store / "root")
    assert r.returncode not in (0, 1) and EXPECTED["key_id"] in r.stderr


def test_the_second_reader_finds_what_was_written(store):
    module_or_skip()
    r = read(store, "--json")
    assert r.returncode == 0, r.stderr
    got = json.loads(r.stdout)
    segments = got["spaces"][0]["shards"][0]["segments"]
    assert {s["header"]["key_id"] for s in segments} == {EXPECTED["key_id"]}
    blocks = [{"key": b["key"], "dead": b["dead"], "parts": [[p[k] for k in ("part", "offset", "length", "check")]
                                                           for p in b["parts"]]}
              for s in segments for b in s["blocks"]]
    assert blocks == EXPECTED["blocks"]
    assert [d["key"] for s in segments for d in s["dead"]] == EXPECTED["dead"]
    assert all(p["ok"] for s in segments for b in s["blocks"] if not b["dead"] for p in b["parts"])


def test_both_readers_extract_the_same_bytes(store):
    """The library's answer is an export, which is plain: the payload stands in it."""
    module_or_skip()
    block = next(b for b in EXPECTED["blocks"] if not b["dead"])
    bytes_ = read(store, "--key", block["key"], "--part", str(block["parts"][0][0])).stdout
    assert len(bytes_) == block["parts"][0][2]
    r = cistern("export", "golden", store / "x", "--mount", store, "--root", "root", "--key-file", store / "key")
    assert r.returncode == 0, r.stderr
    assert bytes_ in (store / "x").read_bytes()


@pytest.mark.parametrize("suffix, at, finding", [(".seg", 100, "not what was stored"), (".toc", 4096 + 140, "torn"),
                                                 (".toc", 160, "checksum")])
def test_the_second_reader_finds_damage(store, suffix, at, finding):
    module_or_skip()
    path = next((store / "root").glob("*/*/*" + suffix))
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    r = read(store)
    assert r.returncode == 1 and finding in r.stdout.decode(), r.stdout


def test_without_the_key_the_second_reader_says_which(store):
    (store / "other").write_text("11" * 32 + "\n")
    r = read(store, "--json", key="other")
    assert r.returncode == 1 and f"key {EXPECTED['key_id']} was not given" in "".join(json.loads(r.stdout)["findings"])
