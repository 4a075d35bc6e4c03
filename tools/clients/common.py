"""What the scripts beside it share: the modes of the drop-in, a mount, cases and their count.

Each script takes a program that others wrote for 3FS, already built where it needs that, and drives it on the drop-in in
six modes: plain and CISTERN_USRBIO_STRICT=all, each with io_uring or what the machine allows, with threads and inline.
A mode is a process of its own, so that the library is loaded afresh. Exit status 1: a case failed; 3: something is
missing, and the last line says what.
"""
import argparse
import errno
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

CHUNK = 65536
LIBRARY = "libhf3fs_api_shared.so"


def missing(what):
    print("missing: " + what, file=sys.stderr)
    sys.exit(3)


def expect_errno(wanted, call, *args, **kwargs):
    """The OSError with this errno, and no other answer."""
    try:
        answer = call(*args, **kwargs)
    except OSError as e:
        assert e.errno == wanted, "%s instead of %s" % (errno.errorcode.get(e.errno), errno.errorcode[wanted])
        return
    raise AssertionError("%r instead of %s" % (answer, errno.errorcode[wanted]))


class Place:
    """What a case is given: the arguments, a mount that is removed at the end, and what is strict."""

    def __init__(self, args):
        self.args, self.strict = args, os.environ["CISTERN_USRBIO_STRICT"] == "all"
        self.mount = tempfile.mkdtemp(prefix="mount-", dir=args.dir)
        pathlib.Path(self.mount, ".cistern-mount").touch()

    def file(self, name, data=b""):
        path = os.path.join(self.mount, name)
        with open(path, "wb") as f:
            f.write(data)
        return path

    def links(self):
        try:
            return os.listdir(os.path.join(self.mount, "3fs-virt", "iovs"))
        except FileNotFoundError:
            return []

    def remove(self):
        """The mount, and the memory that a client which failed left behind it."""
        for name in self.links():
            target = os.readlink(os.path.join(self.mount, "3fs-virt", "iovs", name))
            if target.startswith("/dev/shm/") and os.path.exists(target):
                os.unlink(target)
        shutil.rmtree(self.mount, ignore_errors=True)


def run_mode(args, cases):
    place, failed = Place(args), 0
    try:
        for case in cases:
            try:
                case(place)
            except Exception as e:  # any answer of a foreign program is a finding
                failed += 1
                print("  FAILED %s: %s: %s" % (case.__name__, type(e).__name__, e))
    finally:
        place.remove()
    print("  %d passed, %d failed" % (len(cases) - failed, failed))
    return failed


def main(doc, cases, arguments, start=None):
    """arguments: (option, help) of the paths that the client consists of. start: makes the command of one mode."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", default="build/hf3fs/" + LIBRARY, help="the drop-in")
    parser.add_argument("--dir", default=tempfile.gettempdir(), help="where mounts are made")
    for option, text in arguments:
        parser.add_argument(option, required=True, help=text)
    args = parser.parse_args()
    if "CISTERN_CLIENT_MODE" in os.environ:
        sys.exit(1 if run_mode(args, cases(args)) else 0)
    lib = os.path.realpath(args.lib)
    if not os.path.exists(lib):
        missing("the drop-in, %s: run make, or name it with --lib" % args.lib)
    failed = 0
    for strict in ("0", "all"):
        for backend in ("auto", "threads", "inline"):
            print("strict %s, %s" % (strict, backend), flush=True)
            env = dict(os.environ, CISTERN_CLIENT_MODE="1", CISTERN_USRBIO_STRICT=strict,
                       CISTERN_USRBIO_BACKEND=backend, CISTERN_USRBIO_CHUNK=str(CHUNK),
                       LD_LIBRARY_PATH=os.path.dirname(lib) + ":" + os.environ.get("LD_LIBRARY_PATH", ""))
            command = [sys.executable, os.path.abspath(sys.argv[0])] + sys.argv[1:]
            rc = subprocess.run(start(lib, command) if start else command, env=env).returncode
            if rc == 3:
                sys.exit(3)
            failed += rc != 0
    print("all modes passed" if not failed else "%d modes failed" % failed)
    sys.exit(1 if failed else 0)
