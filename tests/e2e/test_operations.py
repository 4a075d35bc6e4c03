"""docs/OPERATIONS.md is true: its blocks of commands run in their order, then each command of its tables.

/mnt in them becomes a folder of the test. A command ends with 0; those that answer a question may also end with 1. What
a command left in the environment or on disk is there for the next. The store belongs to the test, no engine runs.
"""
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
CISTERN = Path(os.environ.get("CISTERN", TOP / "build" / "cistern"))
PAGE = (TOP / "docs" / "OPERATIONS.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.M | re.S)
MAY_FIND = {"doctor", "explain"}


def spans(text):
    return re.findall(r"`(cistern [^`]+)`", text)


def sections():
    for part in re.split(r"^## ", PAGE, flags=re.M):
        yield part.split("\n", 1)[0], part


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """One bash for the whole page: run(command) gives (exit status, output)."""
    mnt = tmp_path_factory.mktemp("mnt")
    (mnt / "kv").mkdir()
    drop = re.compile(r"(CISTERN|THREEFS|REUSE_CACHE|ENABLE_3FS|HF3FS)")
    env = {k: v for k, v in os.environ.items() if not drop.match(k)}
    env["PATH"] = "%s:%s" % (CISTERN.parent, env["PATH"])
    bash = subprocess.Popen(["bash", "--norc", "-o", "pipefail"], env=env, text=True, cwd=str(mnt), bufsize=1,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def run(command):
        command = re.sub(r"/mnt(?=/)", str(mnt), command)
        bash.stdin.write("{ %s\n} </dev/null; echo; echo end-of-command $?\n" % command)
        lines = []
        for line in bash.stdout:
            m = re.match(r"end-of-command (\d+)$", line)
            if m:
                return int(m.group(1)), "".join(lines)
            lines.append(line)
        raise AssertionError("the shell ended: " + "".join(lines))

    run.mnt = mnt
    yield run
    bash.stdin.close()
    bash.wait(timeout=60)


def check(shell, command):
    status, text = shell(command)
    verb = shlex.split(command)[1] if command.startswith("cistern ") else ""
    assert status == 0 or (verb in MAY_FIND and status == 1), "%s: %d\n%s" % (command, status, text)
    return text


def run_blocks(shell, part):
    for block in re.findall(r"^```sh\n(.*?)^```$", part, re.M | re.S):
        for line in block.splitlines():
            text = check(shell, line)
            if line.startswith("cistern verify") or line.startswith("cistern fsck"):
                assert re.search(r"\b0 (?:bad|errors)", text), text


def test_the_page_in_its_order(shell):
    """Sections one after the other; the table of symptoms in its place, on a store that is there."""
    seen = 0
    for title, part in sections():
        run_blocks(shell, part)
        if title == "What to do when":
            (shell.mnt / "prompt.txt").write_text("some prompt that is not stored")
            for row in re.findall(r"^\|(?!---)[^|]*\|([^|]*)\|", part, re.M)[1:]:
                for command in spans(row):
                    assert check(shell, command).strip(), command
                    seen += 1
    assert len(BLOCKS) >= 15 and seen >= 15
    assert [p.name for p in (shell.mnt / "kv").iterdir() if p.name in ("rtp_llm", "moved", "locked")] == []


def test_every_verb_and_option_that_the_page_names_exists():
    pages = {}
    for command in spans(PAGE):
        words = shlex.split(command)
        verb = words[1]
        if verb not in pages:
            r = subprocess.run([str(CISTERN), verb, "--help"], capture_output=True, text=True, timeout=60)
            pages[verb] = r.stdout if verb != "version" else ""
            assert r.returncode == 0, command
        for option in (w.split("=")[0] for w in words[2:] if w.startswith("--")):
            assert option in pages[verb], command
    assert len(pages) >= 10


def test_the_metrics_and_the_errors_that_it_names_exist():
    known = set(re.findall(r"^\| `(\w+)`", (TOP / "docs" / "METRICS.md").read_text(), re.M))
    table = PAGE.split("What to watch:")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ") and "`" in line.split("|")[2]]
    names = [n for row in rows for n in re.findall(r"`([a-z][a-z_]+)`", row) if not n.startswith("_")]
    names += [n for n in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE.split("## What to do when")[1].split("\n## ")[0])
              if n not in ("space_dir", "shadow_every")]
    assert len(names) >= 20 and set(names) <= known, set(names) - known
    errors = set(re.findall(r"`(CISTERN_E[A-Z]+)`", (TOP / "docs" / "ERRORS.md").read_text()))
    assert set(re.findall(r"`(CISTERN_E(?!N)[A-Z]+)`", PAGE)) <= errors


def test_the_options_that_it_names_exist():
    header = (TOP / "include" / "cistern.h").read_text()
    for name in set(re.findall(r"`CISTERN_((?!E[A-Z]+`)[A-Z_]+)(?:=[^`]*)?`", PAGE)):
        assert re.search(r"\b%s\b" % name.lower(), header), name
