"""What a program that was built against Cistern relies on: names, behaviour under dlopen, and the installed tree.

The libraries are those in $CISTERN_BUILD (make test-abi). Symbols are read with nm, as the dynamic linker sees them.
"""
import os
import re
import shlex
import shutil
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("CISTERN_BUILD", os.path.join(TOP, "build"))
CISTERN = os.path.join(BUILD, "libcistern.so.0")
DROP_IN = os.path.join(BUILD, "hf3fs", "libhf3fs_api_shared.so")
MAPS = {CISTERN: "src/engine/cistern.map", DROP_IN: "src/usrbio/usrbio.map"}
HEADERS = {CISTERN: (("include/cistern.h", "include/cistern_admin.h"), r"\bCISTERN_API\b[^;]*?\b(cistern_\w+)\s*\("),
           DROP_IN: (("include/hf3fs_usrbio.h",), r"\b(hf3fs_\w+)\s*\(")}
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))
MAKE = shlex.split(os.environ.get("MAKE", "make"))

release_only = pytest.mark.skipif(bool(os.environ.get("CISTERN_SAN")), reason="a sanitizer adds symbols of its own; the "
                                  "release build is checked by make test")
both = pytest.mark.parametrize("lib", [CISTERN, DROP_IN], ids=["cistern", "drop-in"])


def output(*command, **kw):
    return subprocess.run(command, check=True, capture_output=True, text=True, **kw).stdout


def source(path):
    with open(os.path.join(TOP, path)) as f:
        return re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)


def exported(lib):
    """Names that the dynamic linker finds; the version node itself is an absolute symbol and no function."""
    names = set()
    for line in output("nm", "-D", "--defined-only", lib).splitlines():
        address, kind, name = line.split()
        if kind != "A":
            names.add(name.split("@")[0])
    return names


def undefined(path):
    return {line.split()[-1].split("@")[0] for line in output("nm", "-u", path).splitlines() if line.startswith(" ")}


def in_map(lib):
    body = source(MAPS[lib]).split("global:")[1].split("local:")[0]
    return set(re.findall(r"\w+", body))


def in_header(lib):
    paths, pattern = HEADERS[lib]
    text = "".join(re.sub(r"^\s*#.*(?:\\\n.*)*$", "", source(path), flags=re.M) for path in paths)
    return set(re.findall(pattern, text))


@release_only
@both
def test_exported_symbols_are_the_map(lib):
    assert exported(lib) == in_map(lib)


@both
def test_map_is_the_header(lib):
    extra = {"cistern_usrbio_info"} if lib == DROP_IN else set()
    assert len(in_header(lib)) >= 21
    assert in_map(lib) - extra == in_header(lib)


@release_only
def test_symbols_of_the_library_carry_their_version():
    lines = output("nm", "-D", "--defined-only", "--with-symbol-versions", CISTERN).splitlines()
    versions = {line.split("@")[-1] for line in lines if "@" in line}
    assert versions == {"CISTERN_0"}


@both
def test_soname(lib):
    soname = re.search(r"SONAME.*\[(.*)\]", output("readelf", "-d", lib)).group(1)
    assert soname == os.path.basename(lib)


@release_only
@both
def test_a_guest_does_not_end_its_host(lib):
    forbidden = {"abort", "exit", "_exit", "_Exit", "quick_exit", "__assert_fail", "__assert", "err", "errx",
                 "printf", "puts", "perror", "__printf_chk", "__fprintf_chk", "fprintf", "system"}
    assert undefined(lib) & forbidden == set()


@release_only
def test_no_object_of_a_release_refers_to_abort_exit_or_assert():
    seen = 0
    for folder, _, names in os.walk(os.path.join(BUILD, "obj", "src")):
        for name in names:
            # Objects of sources that are gone may be left in the build folder.
            if name.endswith(".o") and os.path.exists(os.path.join(TOP, os.path.relpath(folder, BUILD + "/obj"),
                                                                   name[:-2] + ".c")):
                seen += 1
                bad = undefined(os.path.join(folder, name)) & {"abort", "exit", "_exit", "_Exit", "__assert_fail"}
                assert not bad, "%s refers to %s" % (name, bad)
    assert seen > 20


@release_only
@both
def test_nothing_of_ours_runs_at_load_time(lib):
    """Only what the compiler's own start-up files bring: its frame tables, and which CPU this is."""
    section = re.search(r" \.init_array\s+INIT_ARRAY\s+(\w+)\s+\w+\s+(\w+)", output("readelf", "-SW", lib))
    start, size = (int(x, 16) for x in section.groups())
    names = {}
    for line in output("nm", lib).splitlines():
        if re.match(r"[0-9a-f]+ [tT] ", line):
            names[int(line.split()[0], 16)] = line.split()[2]
    run = [names[int(r.split()[-1], 16)] for r in output("readelf", "-rW", lib).splitlines()
           if re.match(r"[0-9a-f]{8,} ", r) and start <= int(r.split()[0], 16) < start + size]
    assert run and set(run) <= {"frame_dummy", "__cpu_indicator_init", "init_have_lse_atomics", "init_cpu_features"}


@both
def test_load_use_in_a_thread_unload_a_hundred_times(lib, tmp_path):
    program = "unload_cistern" if lib == CISTERN else "unload_usrbio"
    run = subprocess.run([os.path.join(BUILD, "tests", "abi", program), lib, str(tmp_path), "100"],
                         capture_output=True, text=True, timeout=240)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "100 rounds" in run.stdout


def test_public_headers_compile_alone():
    for header in ("cistern.h", "cistern_admin.h", "hf3fs_usrbio.h"):
        path = os.path.join(TOP, "include", header)
        for command in (CC + ["-std=c11", "-x", "c"], CXX + ["-std=c++17", "-x", "c++"]):
            subprocess.run(command + ["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", path], check=True)


# ---- The installed tree


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """make install into a folder of its own, as a packager does, and then moved to its place."""
    top = tmp_path_factory.mktemp("install")
    stage, prefix = str(top / "stage"), str(top / "prefix")
    subprocess.run(MAKE + ["-s", "install", "DESTDIR=" + stage, "prefix=" + prefix], cwd=TOP, check=True,
                   stdout=subprocess.DEVNULL)
    shutil.move(stage + prefix, prefix)
    return prefix


def installed_files(tree):
    return {os.path.relpath(os.path.join(folder, n), tree) for folder, _, names in os.walk(tree) for n in names}


def pkg_config(tree, *words):
    env = dict(os.environ, PKG_CONFIG_PATH=os.path.join(tree, "lib", "pkgconfig"))
    return output("pkg-config", *words, "cistern", env=env).split()


def sanitize():
    san = os.environ.get("CISTERN_SAN")
    return ["-fsanitize=" + san] if san else []


@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_client_builds_through_pkg_config_and_works(tree, tmp_path, language):
    compiler = CC + ["-std=c11", "-x", "c"] if language == "c" else CXX + ["-std=c++17", "-x", "c++"]
    program = str(tmp_path / "client")
    subprocess.run(compiler + ["-Wall", "-Wextra", "-Werror", os.path.join(TOP, "tests/abi/client.c"), "-x", "none",
                               "-o", program] + pkg_config(tree, "--cflags", "--libs") + sanitize(), check=True)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CISTERN_", "LD_"))}
    env["LD_LIBRARY_PATH"] = os.path.join(tree, "lib")
    mount = tmp_path / "mount"
    mount.mkdir()
    run = subprocess.run([program, str(mount)], env=env, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "stored and read back" in run.stdout
    # The drop-in that it used is the installed one.
    assert os.path.realpath(os.path.join(tree, "lib/cistern/hf3fs/libhf3fs_api_shared.so")) in run.stdout


def test_the_command_runs_from_the_installed_tree(tree):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("CISTERN_", "LD_"))}
    run = subprocess.run([os.path.join(tree, "bin", "cistern"), "--version"], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert pkg_config(tree, "--modversion")[0] in run.stdout


def test_a_real_3fs_client_is_not_shadowed(tree):
    """No search path, no flag and no include path of ours may lead to a file that 3FS has too."""
    files = installed_files(tree)
    same_name = {f for f in files if os.path.basename(f) in ("libhf3fs_api_shared.so", "hf3fs_usrbio.h")}
    assert same_name == {"lib/cistern/hf3fs/libhf3fs_api_shared.so", "include/cistern/hf3fs_usrbio.h"}
    flags = pkg_config(tree, "--cflags", "--libs", "--static")
    assert "-I%s/include" % tree in flags and "-L%s/lib" % tree in flags
    assert not [f for f in flags if "hf3fs" in f or f.rstrip("/").endswith("include/cistern")]
    for dependent in ("lib/libcistern.so.0", "bin/cistern"):
        assert "hf3fs" not in output("readelf", "-d", os.path.join(tree, dependent))


def test_installing_again_and_uninstalling_leaves_nothing(tree, tmp_path):
    where = ["DESTDIR=" + str(tmp_path), "prefix=/usr"]
    for goal in ("install", "install", "uninstall"):
        subprocess.run(MAKE + ["-s", goal] + where, cwd=TOP, check=True, stdout=subprocess.DEVNULL)
        if goal == "install":
            assert os.path.exists(str(tmp_path) + "/usr/lib/libcistern.so")
    assert installed_files(str(tmp_path)) == set()
