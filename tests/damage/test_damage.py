"""Damage: a verified hit or a miss, never wrong bytes, never a crash, never a hang, and counted where it can be noticed.

Each case copies a store, reads every block (all are hits), damages one file (tools/damage.py, seeded) under an open
handle, and reads again: with the same handle, with a new one that may write and stores the missing blocks again, and
with a third. A case is repeated by its name: `pytest -k 'data-flip-3'`. CISTERN_DAMAGE_SEEDS=N runs N seeds per kind.
"""
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
VICTIM = os.path.join(BUILD, "tests", "damage", "victim")
SEEDS = int(os.environ.get("CISTERN_DAMAGE_SEEDS", "7"))
BLOCKS = 64
sys.path.insert(0, os.path.join(TOP, "tools"))

import damage  # noqa: E402

# misses: whether blocks become misses. counted: metrics of which at least one must have moved; none: the kind cannot be
# noticed, and `why` says why (then none of the metrics below may move either: the table would be wrong).
Expect = namedtuple("Expect", "misses counted why", defaults=("",))
BYTES = {"bad_checksum_blocks", "bad_length_blocks"}
CONTENTS = {"contents_torn", "contents_bad", "contents_short"}
NOTICED = BYTES | CONTENTS | {"head_bad", "data_missing", "data_short", "space_healed", "contents_later"}
TABLE = {
    ("data", "flip"): Expect(True, {"bad_checksum_blocks"}),
    ("data", "truncate"): Expect(True, {"bad_length_blocks"}),
    ("data", "zero"): Expect(True, {"bad_checksum_blocks"}),
    ("data", "extend"): Expect(True, {"bad_checksum_blocks"}),
    ("data", "delete"): Expect(True, {"data_missing"}),
    ("data", "swap"): Expect(True, BYTES),
    ("data", "append"): Expect(False, set(), "nothing reads behind the end of what contents name"),
    ("contents", "flip"): Expect(True, CONTENTS),
    ("contents", "truncate"): Expect(True, CONTENTS),
    ("contents", "zero"): Expect(True, CONTENTS),
    ("contents", "extend"): Expect(True, CONTENTS),
    ("contents", "delete"): Expect(True, CONTENTS | {"contents_missing"}),
    ("contents", "swap"): Expect(True, CONTENTS),
    ("contents", "append"): Expect(False, {"contents_torn"}),
    ("contents", "misdirect"): Expect(True, {"bad_checksum_blocks"}),
    ("head", "flip"): Expect(False, {"head_bad"}),
    ("head", "truncate"): Expect(False, {"head_bad"}),
    ("head", "zero"): Expect(False, {"head_bad"}),
    ("head", "extend"): Expect(False, {"head_bad"}),
    ("head", "delete"): Expect(False, {"head_bad", "head_missing"}),
    ("head", "swap"): Expect(False, {"head_bad"}),
    ("head", "append"): Expect(False, set(), "a head is its first page; nothing reads behind it"),
    ("space", "flip"): Expect(False, {"space_healed"}),
    ("space", "truncate"): Expect(False, {"space_healed"}),
    ("space", "zero"): Expect(False, {"space_healed"}),
    ("space", "extend"): Expect(False, {"space_healed"}),
    ("space", "delete"): Expect(False, {"space_healed"}),
    ("space", "swap"): Expect(False, {"space_healed"}),
    ("space", "append"): Expect(False, {"space_healed"}),
}
# With CISTERN_TEST_KEY_FILE the store is encrypted, and nobody without the key can write a valid frame.
FORGING = set() if os.environ.get("CISTERN_TEST_KEY_FILE") else {"misdirect"}
CASES = [(target, kind, seed) for target, kind in TABLE if kind in FORGING or kind != "misdirect"
         for seed in range(SEEDS if kind != "append" else min(SEEDS, 2))]


def put(mount, space, first, count):
    subprocess.run([VICTIM, "put", mount, space, str(first), str(count)], check=True, timeout=60,
                   stdout=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A store of two writers and several segments, and a second space to swap descriptions with."""
    if not os.path.exists(VICTIM):
        pytest.fail(f"{VICTIM} is not built: make damage-programs")
    mount = tmp_path_factory.mktemp("template")
    put(str(mount), "main", 0, 44)
    put(str(mount), "main", 44, BLOCKS - 44)
    put(str(mount), "other", 0, 4)
    return mount


def run_case(template, folder, target, kind, seed):
    """(what was done, the lines that victim printed, its exit status, stderr)"""
    mount = folder / f"{target}-{kind}-{seed}"
    shutil.copytree(template, mount)
    child = subprocess.Popen([VICTIM, "check", str(mount), "main", str(BLOCKS)], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        before = child.stdout.readline()
        done = damage.damage(str(mount / "store"), target, kind, seed, "main-")
        out, err = child.communicate("go\n", timeout=30)
    except BaseException:
        child.kill()
        child.communicate()
        raise
    shutil.rmtree(mount)
    return done, [json.loads(line) for line in (before + out).splitlines()], child.returncode, err


@pytest.fixture(scope="module")
def results(template, tmp_path_factory, request):
    """All chosen cases, two at a time."""
    folder = tmp_path_factory.mktemp("cases")
    chosen = [i.callspec.params["case"] for i in request.session.items
              if i.function is test_damage and getattr(i, "callspec", None)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return {case: pool.submit(run_case, template, folder, *case) for case in chosen}


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c)))
def test_damage(results, case):
    done, phases, status, err = results[case].result()
    target, kind, _ = case
    expect = TABLE[target, kind]
    told = f"{json.dumps(done)}\n" + "\n".join(map(json.dumps, phases)) + err
    assert status == 0, told
    assert [p["phase"] for p in phases] == ["before", "live", "reopened", "again"], told
    assert all(p["open"] == "0" for p in phases), told
    before, live, reopened, again = (p["blocks"] for p in phases)
    assert before == "h" * BLOCKS, told
    for blocks in (live, reopened, again):
        assert len(blocks) == BLOCKS and set(blocks) <= {"h", "m"}, told
    if target == "contents" and kind == "delete":
        assert "m" not in live or expect.misses, told  # a listing may have shown that the segment went
    elif target != "data":
        assert live == before, told  # an open handle has them in memory
    elif kind not in ("delete", "append"):
        assert "m" in live, told
    assert ("m" in reopened) == expect.misses, told
    assert again == before and not err, told  # what was missing was stored again
    moved = {name for p in phases[1:] for name in p["metrics"]} & NOTICED | \
            {name for p in phases[1:] for name in p["metrics"]} & expect.counted
    if expect.counted:
        assert moved & expect.counted, told
    else:
        assert expect.why and not moved, told


def test_the_table_has_every_kind():
    assert {k for k in TABLE} == {(t, k) for t in damage.TARGETS for k in damage.KINDS} | {("contents", "misdirect")}
    for target in damage.TARGETS:
        assert SEEDS < 7 or sum(1 for c in CASES if c[0] == target) >= 40


def test_the_same_seed_does_the_same(template, tmp_path):
    for case in (("data", "zero", 1), ("contents", "extend", 2), ("head", "flip", 3),
                 *(("contents", kind, 4) for kind in FORGING)):
        copies = [tmp_path / f"{n}-{case[1]}" for n in "ab"]
        for copy in copies:
            shutil.copytree(template, copy)
        first, second = (damage.damage(str(c / "store"), *case, "main-") for c in copies)
        assert first == second
        assert (copies[0] / "store" / first["file"]).read_bytes() == \
               (copies[1] / "store" / second["file"]).read_bytes() != \
               (template / "store" / first["file"]).read_bytes()
