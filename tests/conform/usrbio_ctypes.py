"""A client as people write it in Python: its own copies of the structures, no header, the library by path."""
import ctypes as c
import os
import pathlib
import time

import pytest


class Iov(c.Structure):
    _fields_ = [("base", c.c_void_p), ("iovh", c.c_void_p), ("id", c.c_uint8 * 16), ("mount_point", c.c_char * 256),
                ("size", c.c_size_t), ("block_size", c.c_size_t), ("numa", c.c_int)]


class Ior(c.Structure):
    _fields_ = [("iov", Iov), ("iorh", c.c_void_p), ("mount_point", c.c_char * 256), ("for_read", c.c_bool),
                ("io_depth", c.c_int), ("priority", c.c_int), ("timeout", c.c_int), ("flags", c.c_uint64)]


class Cqe(c.Structure):
    _fields_ = [("index", c.c_int32), ("reserved", c.c_int32), ("result", c.c_int64), ("userdata", c.c_void_p)]


class Timespec(c.Structure):
    _fields_ = [("tv_sec", c.c_long), ("tv_nsec", c.c_long)]


def library_path():
    build = os.environ.get("CISTERN_BUILD") or pathlib.Path(__file__).parents[2] / "build"
    return os.environ.get("CISTERN_USRBIO_LIB") or str(pathlib.Path(build) / "hf3fs" / "libhf3fs_api_shared.so")


def load():
    path = library_path()
    if not os.path.exists(path):
        pytest.skip("the drop-in is not built: " + path)
    lib = c.CDLL(path)
    lib.hf3fs_iovcreate.argtypes = [c.POINTER(Iov), c.c_char_p, c.c_size_t, c.c_size_t, c.c_int]
    lib.hf3fs_iovwrap.argtypes = [c.POINTER(Iov), c.c_void_p, c.c_char_p, c.c_char_p, c.c_size_t, c.c_size_t, c.c_int]
    lib.hf3fs_iovopen.argtypes = [c.POINTER(Iov), c.c_char_p, c.c_char_p, c.c_size_t, c.c_size_t, c.c_int]
    lib.hf3fs_iovdestroy.argtypes = [c.POINTER(Iov)]
    lib.hf3fs_iorcreate4.argtypes = [c.POINTER(Ior), c.c_char_p, c.c_int, c.c_bool, c.c_int, c.c_int, c.c_int,
                                     c.c_uint64]
    lib.hf3fs_iordestroy.argtypes = [c.POINTER(Ior)]
    lib.hf3fs_reg_fd.argtypes = [c.c_int, c.c_uint64]
    lib.hf3fs_dereg_fd.argtypes = [c.c_int]
    lib.hf3fs_dereg_fd.restype = None
    lib.hf3fs_prep_io.argtypes = [c.POINTER(Ior), c.POINTER(Iov), c.c_bool, c.c_void_p, c.c_int, c.c_size_t,
                                  c.c_uint64, c.c_void_p]
    lib.hf3fs_submit_ios.argtypes = [c.POINTER(Ior)]
    lib.hf3fs_wait_for_ios.argtypes = [c.POINTER(Ior), c.POINTER(Cqe), c.c_int, c.c_int, c.POINTER(Timespec)]
    lib.hf3fs_is_hf3fs.argtypes = [c.c_int]
    lib.hf3fs_is_hf3fs.restype = c.c_bool
    lib.hf3fs_extract_mount_point.argtypes = [c.c_char_p, c.c_int, c.c_char_p]
    return lib


def deadline(seconds):
    t = time.time() + seconds
    return Timespec(int(t), int(t % 1 * 1e9))


class Ring:
    def __init__(self, lib, mount, entries, read, flags=0):
        self.lib, self.read, self.ior, self.entries = lib, read, Ior(), entries
        assert lib.hf3fs_iorcreate4(self.ior, mount.encode(), entries, read, 0, 0, -1, flags) == 0

    def run(self, iov, jobs, fd):
        """jobs: (offset in the memory, offset in the file, length); results in their order."""
        order = {}
        for n, (at, off, length) in enumerate(jobs):
            rc = self.lib.hf3fs_prep_io(self.ior, iov, self.read, iov.base + at, fd, off, length, n + 1)
            assert rc >= 0, os.strerror(-rc)
            order[rc] = n
        assert self.lib.hf3fs_submit_ios(self.ior) == 0
        cqes, results = (Cqe * len(jobs))(), [None] * len(jobs)
        while None in results:
            left = results.count(None)
            n = self.lib.hf3fs_wait_for_ios(self.ior, cqes, left, left, deadline(20))
            assert n > 0
            for cqe in cqes[:n]:
                assert order[cqe.index] == cqe.userdata - 1
                results[cqe.userdata - 1] = cqe.result
        return results

    def close(self):
        self.lib.hf3fs_iordestroy(self.ior)
        assert not self.ior.iorh
