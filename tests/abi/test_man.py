"""Manual pages: one for every public function and every command, without a warning, and the installed tree as a whole.

Installed with make install into a folder of its own (make test-abi).
"""
import os
import re
import shutil
import subprocess

import pytest
from test_abi import BUILD, CISTERN, DROP_IN, MAKE, TOP, in_header, in_map

MAN = os.path.join(TOP, "docs", "man")
PAGES = sorted(os.listdir(MAN))


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    stage = str(tmp_path_factory.mktemp("man"))
    subprocess.run(MAKE + ["-s", "install", "DESTDIR=" + stage, "prefix=/usr"], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL)
    return stage + "/usr"


def names(page):
    with open(os.path.join(MAN, page)) as f:
        section = f.read().split(".Sh NAME\n")[1].split("\n.Nd")[0]
    return re.findall(r"^\.Nm (\S+)", section, re.M)


def synopsis(page):
    with open(os.path.join(MAN, page)) as f:
        return set(re.findall(r"^\.Fo (\w+)$", f.read(), re.M))


def test_every_public_function_has_a_page():
    explained = {n: page for page in PAGES for n in names(page)}
    missing = {f for f in in_map(CISTERN) if f not in explained or f not in synopsis(explained[f])}
    assert missing == set()
    assert in_header(DROP_IN) == synopsis("hf3fs_usrbio.3")


def test_no_page_speaks_of_a_function_that_is_not_there():
    known = in_map(CISTERN) | {page.split(".")[0] for page in PAGES}
    for page in PAGES:
        with open(os.path.join(MAN, page)) as f:
            text = f.read()
        assert set(re.findall(r"^\.Xr (?:\( )?((?:lib)?cistern\w*)", text, re.M)) <= known, page


def test_a_name_has_one_page():
    every = [n for page in PAGES if page.endswith(".3") for n in names(page)]
    assert len(every) == len(set(every))


@pytest.mark.parametrize("page", PAGES)
def test_formatters_have_no_complaint(page):
    path = os.path.join(MAN, page)
    if not shutil.which("mandoc") and not shutil.which("groff"):
        pytest.skip("neither mandoc nor groff is installed")
    if shutil.which("mandoc"):
        r = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True)
        assert (r.returncode, r.stdout) == (0, "")
    if shutil.which("groff"):
        r = subprocess.run(["groff", "-ww", "-mdoc", "-z", "-Tutf8", path], capture_output=True, text=True)
        if "can't find macro file" not in r.stderr and "can't open 'mdoc" not in r.stderr:  # groff-base is not all of it
            assert (r.returncode, r.stderr) == (0, "")


def test_every_name_leads_to_its_page_when_installed(installed):
    for page in PAGES:
        folder = os.path.join(installed, "share/man/man" + page[-1])
        with open(os.path.join(MAN, page)) as f:
            text = f.read()
        for name in names(page):
            with open(os.path.join(folder, name + page[-2:])) as f:
                assert f.read() == text, name
    there = set(os.listdir(os.path.join(installed, "share/man/man3")))
    assert there == {n + ".3" for page in PAGES if page.endswith(".3") for n in names(page)}


def test_the_installed_tree_is_whole(installed):
    for path in ("bin/cistern", "lib/libcistern.so", "lib/libcistern.so.0", "lib/pkgconfig/cistern.pc",
                 "lib/cistern/hf3fs/libhf3fs_api_shared.so", "include/cistern.h", "include/cistern_admin.h",
                 "include/cistern/hf3fs_usrbio.h", "share/man/man1/cistern.1", "share/man/man3/cistern_put.3",
                 "share/bash-completion/completions/cistern", "share/doc/cistern/README.md",
                 "share/doc/cistern/METRICS.md", "share/doc/cistern/examples/tier2.c"):
        assert os.path.isfile(os.path.join(installed, path)), path
    built = os.path.join(BUILD, "libcistern.so.0")
    with open(built, "rb") as a, open(os.path.join(installed, "lib/libcistern.so.0"), "rb") as b:
        assert a.read() == b.read()


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_the_installed_completion_completes(installed):
    script = '. "$1"; COMP_WORDS=(cistern fs); COMP_CWORD=1; COMP_LINE="cistern fs"; COMP_POINT=10; ' \
             'f=$(complete -p cistern | sed "s/.*-F \\([^ ]*\\).*/\\1/"); $f cistern fs cistern; echo "${COMPREPLY[@]}"'
    r = subprocess.run(["bash", "-c", script, "bash", installed + "/share/bash-completion/completions/cistern"],
                       capture_output=True, text=True)
    assert r.stdout.split() == ["fsck"], r.stderr


def test_nothing_is_left_after_uninstalling_but_shared_directories(installed):
    subprocess.run(MAKE + ["-s", "uninstall", "DESTDIR=" + installed[:-4], "prefix=/usr"], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL)
    assert [f for _, _, files in os.walk(installed) for f in files] == []
    ours = [d for d, _, _ in os.walk(installed) if "cistern" in os.path.relpath(d, installed)]
    assert ours == []
