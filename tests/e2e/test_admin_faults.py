"""The fail-at-N loops of the operator's functions (tests/admin/fail_at.c), and that they missed no call of storage."""

import os
import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CISTERN_BUILD", TOP / "build"))
PROGRAM = BUILD / "tests" / "admin" / "fail_at"
FUNCTIONS = ["fsck", "repair", "verify", "gc", "shrink", "wipe", "tenant", "retire", "ttl", "export", "import", "undo", "short", "explain", "pins",
             "warm"]
CANNOT_FAIL = {"mem_destroy", "ring_destroy", "file_close", "close"}
# What only a second failure would hit: the call that sends what an earlier failure kept back.
SECOND = {("admin.c", "submit")}


@pytest.fixture(scope="module")
def sites(tmp_path_factory):
    return tmp_path_factory.mktemp("sites")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_each_call_failing_in_turn(function, sites):
    r = subprocess.run([PROGRAM, "--sites", sites / function, function], stdout=subprocess.PIPE, text=True, timeout=400)
    assert r.returncode == 0, r.stdout
    assert re.search(r"^[1-9]\d* passed, 0 failed$", r.stdout, re.M)


def test_no_call_was_missed(sites):
    rows = [line.split() for f in FUNCTIONS if (sites / f).exists() for line in (sites / f).read_text().splitlines()]
    if len({f for f in FUNCTIONS if (sites / f).exists()}) < len(FUNCTIONS):
        pytest.skip("not all loops ran")
    # A return address is behind its call.
    text = "\n".join(hex(int(r[1], 16) - 1) for r in rows)
    places = subprocess.run(["addr2line", "-e", PROGRAM], input=text, stdout=subprocess.PIPE, text=True,
                            check=True).stdout.splitlines()
    hit = set()
    for (verb, _, calls, hits), place in zip(rows, places):
        name, _, number = place.split(" ")[0].rpartition(":")
        if int(hits) or verb in CANNOT_FAIL and int(calls):
            hit |= {(os.path.basename(name), int(number) - back if number.isdigit() else 0, verb) for back in range(4)}
    missed = []
    second = set(SECOND)
    for path in sorted((TOP / "src" / "admin").glob("*.c")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for verb in re.findall(r"\bops->(\w+)\(", line):
                if verb not in CANNOT_FAIL and (path.name, number, verb) not in hit:
                    if (path.name, verb) in second:
                        second.remove((path.name, verb))
                    else:
                        missed.append(f"{path.name}:{number}: {verb}")
    if missed:
        pytest.fail("no fault hit\n" + "\n".join(missed))
