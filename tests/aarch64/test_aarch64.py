"""The tree built for aarch64, run by qemu-user (make check-aarch64): stores go from one machine to the other.

$A64 is its build folder, with what starts its programs below run/; $CISTERN the command of this machine.
"""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
A64 = Path(os.environ["A64"])
THERE = str(A64 / "run" / "cistern")
HERE = os.environ["CISTERN"]
BENCH = ["--quick", "--total", "32M", "--block", "256K", "--request", "4M", "--segment", "8M", "--staging", "16M",
         "--slices", "4", "--seconds", "0.1"]


def run(*command):
    drop = re.compile(r"(CISTERN|THREEFS|REUSE_CACHE|ENABLE_3FS|HF3FS)")
    env = {k: v for k, v in os.environ.items() if not drop.match(k)}
    r = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env, timeout=300)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


@pytest.mark.parametrize("path", ["cistern", "libcistern.so.0", "hf3fs/libhf3fs_api_shared.so"])
def test_it_is_of_the_other_machine(path):
    assert "AArch64" in run("readelf", "-h", A64 / path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A mount whose root "here" was written by this machine, and "there" by the other one, from an export of it."""
    mount = tmp_path_factory.mktemp("mount")
    run(HERE, "bench", "put", *BENCH, "--dir", mount, "--root", "here", "--keep")
    run(HERE, "export", "bench", mount / "x", "--with-salt", "--mount", mount, "--root", "here")
    run(THERE, "import", mount / "x", "--mount", mount, "--root", "there")
    return mount


def test_there_is_no_uring_and_threads_are_chosen(store):
    assert "backend=threads" in run(THERE, "stat", "--mount", store, "--root", "here")


def keys(command, store, root):
    lines = run(command, "ls", "--mount", store, "--root", root, "--blocks").splitlines()
    return sorted(word for line in lines for word in line.split() if re.fullmatch("[0-9a-f]{64}", word))


@pytest.mark.parametrize("root, reader", [("here", THERE), ("there", HERE)], ids=["read-there", "written-there"])
def test_a_store_of_one_is_whole_on_the_other(store, root, reader):
    assert len(keys(HERE, store, "here")) > 8
    assert keys(reader, store, root) == keys(HERE, store, "here")
    assert " 0 bad, 0 segments unreadable" in run(reader, "verify", "--mount", store, "--root", root)
    assert "0 errors" in run(reader, "fsck", "--mount", store, "--root", root)


@pytest.mark.parametrize("version", ["v1", "v1-0.1"])
def test_golden_stores_verify(version, tmp_path):
    shutil.copytree(TOP / "tests" / "golden" / version, tmp_path / "m")
    said = [run(c, "verify", "--mount", tmp_path / "m", "--root", "root").splitlines() for c in (HERE, THERE)]
    assert said[0][:-1] == said[1][:-1]
    counts = [re.match(r"(.*? bad, \d+ segments unreadable)", lines[-1]).group(1) for lines in said]
    assert counts[0] == counts[1] and " 0 bad" in counts[0]
