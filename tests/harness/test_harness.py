"""The tools that judge the tree are judged here: the runner's counts, and that lint sees what is planted for it."""
import os
import shutil
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RUN = os.path.join(TOP, "tests", "harness", "run")
NO_URING = os.path.join(os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build")), "tests", "harness", "no_uring")


def program(folder, name, body):
    path = folder / name
    path.write_text("#!/bin/sh\n" + body)
    path.chmod(0o755)
    return str(path)


def run(folder, *items):
    r = subprocess.run([RUN, "--logs", str(folder / "logs"), *items], capture_output=True, text=True, cwd=str(folder))
    return r.returncode, r.stdout.strip().splitlines()[-1], r.stdout


CMOCKA = """echo '[ RUN      ] a'; echo '[       OK ] a'; echo '[       OK ] b'
"""


def test_runner_adds_up_cmocka_and_pytest_and_plain(tmp_path):
    items = [program(tmp_path, "c", CMOCKA),
             program(tmp_path, "p", "echo '==== 3 passed, 1 skipped in 0.12s ===='"),
             program(tmp_path, "l", "echo '[       OK ] not counted twice'; echo '4 passed, 0 failed'")]
    assert run(tmp_path, *items)[:2] == (0, "9 passed, 0 failed, 1 skipped")


def test_runner_counts_failed_cases_and_shows_the_log(tmp_path):
    item = program(tmp_path, "f", CMOCKA + "echo because; echo '[  FAILED  ] tests: 2 test(s), listed below:'; exit 2")
    rc, last, text = run(tmp_path, item)
    assert (rc, last) == (1, "2 passed, 2 failed")
    assert "| because" in text


@pytest.mark.parametrize("body, failed", [
    (CMOCKA + "kill -SEGV $$", 1),   # died in a test
    ("exit 0", 1),                   # no test in it ran
    ("echo '1 failed in 0.1s'; exit 1", 1),
    (CMOCKA + "exit 3", 1),          # the cases are fine, the program is not
])
def test_runner_never_calls_these_good(tmp_path, body, failed):
    rc, last, _ = run(tmp_path, program(tmp_path, "x", body))
    assert rc == 1 and last.split(", ")[1] == "%d failed" % failed


def test_runner_ends_what_hangs(tmp_path):
    rc, last, text = run(tmp_path, "--timeout", "0.5", program(tmp_path, "h", "sleep 60 & sleep 60"))
    assert rc == 1 and last == "0 passed, 1 failed" and "no end after" in text


def test_runner_runs_side_by_side_what_is_built(tmp_path):
    """Each of two waits for the other's mark, and both for what a build leaves."""
    meet = "touch %s; n=0; until [ -e %s ] || [ $n = 300 ]; do sleep 0.1; n=$((n + 1)); done; " \
           "[ -e %s ] && [ -e built ] && echo '1 passed, 0 failed'"
    items = [program(tmp_path, a, meet % (a + ".here", b + ".here", b + ".here")) for a, b in ("xy", "yx")]
    make = program(tmp_path, "make", "sleep 0.3; touch built")
    rc, last, text = run(tmp_path, "--jobs", "2", "--make", make, *items, "build:it")
    assert (rc, last) == (0, "2 passed, 0 failed"), text
    assert text.index(" it ") < min(text.index(" x "), text.index(" y "))


def test_runner_fails_when_there_is_nothing_to_run(tmp_path):
    assert run(tmp_path)[:2] == (1, "0 passed, 0 failed")
    assert run(tmp_path, str(tmp_path / "absent"))[:2] == (1, "0 passed, 1 failed")


@pytest.mark.parametrize("test_rc, last", [(0, "12 passed, 0 failed, 1 skipped"), (1, "11 passed, 1 failed, 1 skipped")])
def test_ci_adds_up_lint_test_and_check_ci(tmp_path, test_rc, last):
    (tmp_path / ".ci").mkdir()
    shutil.copy(os.path.join(TOP, ".ci", "run"), tmp_path / ".ci" / "run")
    (tmp_path / "Makefile").write_text("lint:\n\t@test '$(WERROR)' = 1\ntest:\n\t@echo '%d passed, %d failed'; exit %d\n"
                                       "check-ci:\n\t@echo '4 passed, 0 failed, 1 skipped'\n"
                                       % (7 - test_rc, test_rc, test_rc))
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    r = subprocess.run(["bash", ".ci/run"], cwd=str(tmp_path), env=env, capture_output=True, text=True)
    assert (r.returncode, r.stdout.strip().splitlines()[-1]) == (test_rc, last), r.stdout + r.stderr


def test_io_uring_is_forbidden_below_no_uring():
    code = "import ctypes; l = ctypes.CDLL(None, use_errno=True); print(l.syscall(425, 1, None), ctypes.get_errno())"
    r = subprocess.run([NO_URING, "/usr/bin/python3", "-c", code], capture_output=True, text=True)
    assert r.stdout.split() == ["-1", "1"], r.stderr


# ---- Lint


@pytest.fixture
def tree(tmp_path):
    """A small tree that lint finds nothing in."""
    for path, text in {
        "src/base/a.h": "/* a.h - nothing. */\nint a(void);\n",
        "src/io/io.c": '/* io.c - storage. */\n#include "base/a.h"\n\nint f(void)\n{\n    return (int)pread(0, 0, 0, 0);\n}\n',
        "src/engine/e.c": '/* e.c - uses io. */\n#include "io/io.h"\n\nint g(void)\n{\n    return 0;\n}\n',
        "cli/main.c": '/* main.c - the command. */\n#include "cistern.h"\n\nint main(void)\n{\n    return printf("x");\n}\n',
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    shutil.copytree(os.path.join(TOP, "tools"), tmp_path / "tools")
    return tmp_path


def lint(tree, tool):
    r = subprocess.run(["tools/" + tool], cwd=str(tree), capture_output=True, text=True)
    return r.returncode, r.stdout


def test_lint_is_silent_about_a_good_tree(tree):
    for tool in ("check_layers", "check_source"):
        rc, out = lint(tree, tool)
        assert rc == 0 and "0 findings" in out, out


@pytest.mark.parametrize("path, line, word", [
    ("src/base/b.c", '#include "io/io.h"', "base may not include"),
    ("src/io/b.c", '#include "usrbio/state.h"', "io may not include"),
    ("src/usrbio/b.c", '#include "metrics/m.h"', "usrbio may not include"),
    ("src/engine/b.c", '#include "io/io_internal.h"', "private to io"),
    ("src/pool/b.c", '#include "hf3fs_usrbio.h"', "pool may not include"),
    ("src/extra/b.c", "", "not in the written order"),
    ("cli/b.c", '#include "engine/engine.h"', "only cistern.h"),
    ("examples/minillm/b.c", '#include "hf3fs_usrbio.h"', "only cistern.h"),
])
def test_lint_sees_a_layer_broken(tree, path, line, word):
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text("/* b.c - planted. */\n%s\n" % line)
    rc, out = lint(tree, "check_layers")
    assert rc == 1 and word in out, out


@pytest.mark.parametrize("path, text, word", [
    ("src/engine/b.c", "/* b. */\nint b(int fd)\n{\n    return fsync(fd);\n}\n", "fsync belongs to"),
    ("src/segment/b.c", "/* b. */\nint b(void)\n{\n    return io_uring_submit(0);\n}\n", "io_uring_submit belongs to"),
    ("src/index/b.c", "/* b. */\nvoid b(void)\n{\n    abort();\n}\n", "does not call abort"),
    ("src/usrbio/b.c", '/* b. */\nvoid b(void)\n{\n    fprintf(stderr, "x");\n}\n', "does not call fprintf"),
    ("src/base/b.c", "/* b. */\nvoid b(char *d)\n{\n    strcpy(d, d);\n}\n", "does not call strcpy"),
    ("src/base/b.c", "/* b. */\n__attribute__((constructor)) void b(void)\n{\n}\n", "load time"),
    ("src/base/b.c", "int b;\n", "does not open with a comment"),
    ("src/base/b.c", "/* b. */\n" + "\n" * 900, "more than 800 lines"),
    ("src/base/b.c", "/* b, see #" + "12. */\nint b;\n", "ticket"),
    ("cli/b.c", "/* b. TO" + "DO: more */\nint b;\n", "unfinished"),
], ids=lambda x: x if len(x) < 40 and x.isprintable() else "")
def test_lint_sees_what_is_planted(tree, path, text, word):
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_text(text)
    rc, out = lint(tree, "check_source")
    assert rc == 1 and word in out, out


def test_lint_leaves_tables_of_operations_and_comments_alone(tree):
    (tree / "src/engine/b.c").write_text(
        '/* b.c - unlink() and abort() in a comment. */\nint b(struct io *io)\n{\n'
        '    return io->ops->unlink(io, "abort()") + my_exit(1);\n}\n')
    assert lint(tree, "check_source")[0] == 0


def test_lint_counts_long_functions(tree):
    long = "int f%d(void)\n{\n" + "    x();\n" * 80 + "}\n\n"
    (tree / "cli/b.c").write_text("/* b. */\n" + "".join(long % i for i in range(4)))
    rc, out = lint(tree, "check_source")
    assert rc == 1 and "4 above 70" in out and "cli/b.c:2 f0" in out, out


def test_documents_are_compared_with_their_tables(tmp_path):
    for folder in ("tools", "docs", "include", "src/metrics", "src/base", "src/admin"):
        shutil.copytree(os.path.join(TOP, folder), tmp_path / folder)
    check = [str(tmp_path / "tools" / "doc_tables"), "--check"]
    subprocess.run(check[:1], cwd=str(tmp_path), check=True)
    assert subprocess.run(check, cwd=str(tmp_path)).returncode == 0
    table = tmp_path / "src/metrics/metrics.def"
    table.write_text(table.read_text() + 'X(planted, COUNTER, "not in the document")\n')
    assert subprocess.run(check, cwd=str(tmp_path), capture_output=True).returncode == 1
