"""Struct layouts duplicated in ctypes: a client that never saw the header works on the drop-in."""
import ctypes as c
import os

import pytest

from usrbio_ctypes import Cqe, Ior, Iov, Ring, Timespec


def test_sizes_are_those_of_the_specification():
    assert (c.sizeof(Iov), c.sizeof(Ior), c.sizeof(Cqe)) == (312, 600, 24)
    assert (Iov.id.offset, Iov.size.offset, Iov.numa.offset) == (16, 288, 304)
    assert (Ior.iorh.offset, Ior.for_read.offset, Ior.io_depth.offset, Ior.flags.offset) == (312, 576, 580, 592)
    assert (Cqe.result.offset, Cqe.userdata.offset) == (8, 16)


def test_write_and_read_back(lib, mount):
    iov = Iov()
    assert lib.hf3fs_iovcreate(iov, mount.encode(), 8396798, 0, -1) == 0
    assert iov.base and iov.iovh and iov.mount_point.decode() == mount
    fd = os.open(os.path.join(mount, "file"), os.O_CREAT | os.O_RDWR, 0o644)
    assert lib.hf3fs_is_hf3fs(fd)
    assert lib.hf3fs_reg_fd(fd, 0) <= 0
    write, read = Ring(lib, mount, 64, False), Ring(lib, mount, 64, True)
    data = os.urandom(1 << 20)
    c.memmove(iov.base, data, len(data))
    parts = [(i * 16384, i * 16384, 16384) for i in range(64)]
    assert write.run(iov, parts, fd) == [16384] * 64
    assert os.pread(fd, len(data), 0) == data
    assert os.fstat(fd).st_size == len(data)
    assert read.run(iov, [(at + (4 << 20), off, n) for at, off, n in parts], fd) == [16384] * 64
    assert c.string_at(iov.base + (4 << 20), len(data)) == data
    assert read.run(iov, [(0, len(data) - 10, 100), (200, len(data), 100)], fd) == [10, 0]
    lib.hf3fs_dereg_fd(fd)
    os.close(fd)
    write.close()
    read.close()
    read.close()
    lib.hf3fs_iovdestroy(iov)
    assert not iov.iovh
    assert os.listdir(os.path.join(mount, "3fs-virt", "iovs")) == []


def test_signs_of_errors(lib, mount):
    iov, ior = Iov(), Ior()
    assert lib.hf3fs_iovcreate(iov, b"/nonexistent", 4096, 0, -1) == -2
    assert lib.hf3fs_iorcreate4(ior, mount.encode(), 0, True, 0, 0, -1, 0) == -22
    assert lib.hf3fs_reg_fd(1 << 20, 0) == 9
    ring = Ring(lib, mount, 4, True)
    assert lib.hf3fs_wait_for_ios(ring.ior, (Cqe * 1)(), 1, 1, Timespec(5, 0)) == 0  # a relative time: long past
    ring.close()


def test_mount_point_of_a_path(lib, mount):
    buf = c.create_string_buffer(4096)
    deep = os.path.join(mount, "not", "there")
    assert lib.hf3fs_extract_mount_point(buf, 4096, deep.encode()) == len(mount) + 1
    assert buf.value.decode() == mount
    assert lib.hf3fs_extract_mount_point(buf, 4096, b"/usr") == -1


@pytest.mark.parametrize("jobs", [1, 3])
def test_forked_jobs(lib, mount, jobs):
    """The library was used before the fork; each job has rings of its own."""
    test_write_and_read_back(lib, mount)
    pids = []
    for n in range(jobs):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                os.mkdir(os.path.join(mount, "job%d" % n))
                open(os.path.join(mount, "job%d" % n, ".cistern-mount"), "w").close()
                test_write_and_read_back(lib, os.path.join(mount, "job%d" % n))
                status = 0
            finally:
                os._exit(status)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * jobs
