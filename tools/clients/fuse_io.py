#!/usr/bin/env python3
"""3FS's own Python package on the drop-in: a client that makes its shared memory and its symlinks itself.

    tools/clients/fuse_io.py --package DIR [--lib build/hf3fs/libhf3fs_api_shared.so] [--dir TMP]

DIR holds hf3fs_py_usrbio*.so, linked with libhf3fs_api_shared.so, and the folder hf3fs_fuse. Data goes in through the
package and is read back with plain system calls, and the other way around; then the ways in which its calls fail.
"""
import datetime
import errno
import multiprocessing
import os
import sys
from multiprocessing import shared_memory

import common

MIB = 1 << 20


class Memory:
    """A block of shared memory of Python, made known by the package; unlinked at once, as its users do."""

    def __init__(self, io, mount, size, **kwargs):
        self.shm = shared_memory.SharedMemory(create=True, size=size)
        self.iov = io.make_iovec(self.shm, mount, **kwargs)
        self.shm.unlink()


def opened(io, path, flags):
    fd = os.open(path, flags | os.O_CREAT, 0o644)
    io.register_fd(fd)
    return fd


def done_with(io, fd):
    io.deregister_fd(fd)
    os.close(fd)


def seconds(n):
    return datetime.timedelta(seconds=n)


def mount_points(io, place):
    path = place.file("a")
    assert io.extract_mount_point(path) == place.mount
    assert io.extract_mount_point(place.mount + "/no/such/file") == place.mount
    assert io.extract_mount_point("/proc/self/status") is None


def write_then_posix(io, place):
    memory, data = Memory(io, place.mount, MIB), os.urandom(MIB)
    ring = io.make_ioring(place.mount, 64, for_read=False)
    fd = opened(io, place.mount + "/written", os.O_RDWR)
    memory.shm.buf[:] = data
    for i in range(64):
        ring.prepare(memory.iov[i * 16384:(i + 1) * 16384], False, fd, (63 - i) * 16384, userdata=i)
    done = ring.submit().wait(min_results=64, timeout=seconds(30))
    assert sorted(d.userdata for d in done) == list(range(64)) and {d.result for d in done} == {16384}
    done_with(io, fd)
    with open(place.mount + "/written", "rb") as f:
        assert f.read() == b"".join(data[i * 16384:(i + 1) * 16384] for i in reversed(range(64)))


def posix_then_read(io, place):
    data = os.urandom(MIB + 777)
    path, memory = place.file("to-read", data), Memory(io, place.mount, 2 * MIB)
    ring, fd = io.make_ioring(place.mount, 300, priority=io.IorPriority.HIGH, numa=0), opened(io, path, os.O_RDONLY)
    spans = [(n * 4099, n * 4099 % MIB, 1 + n * 13) for n in range(257)]
    for n, (at, off, length) in enumerate(spans):
        ring.prepare(memory.iov[at:at + length], True, fd, off, n)
    done = ring.submit().wait(max_results=300, min_results=257, timeout=seconds(30))
    for d in done:
        at, off, length = spans[d.userdata]
        assert d.result == min(length, len(data) - off) and d.base_off == at
        assert bytes(memory.shm.buf[at:at + d.result]) == data[off:off + d.result]
    assert len(done) == 257
    done_with(io, fd)


def read_file(io, place):
    data = os.urandom(3 * MIB + 5)
    path, seen = place.file("whole", data), []
    assert io.read_file(path) == data
    assert io.read_file(path, place.mount, block_size=MIB) == data
    assert io.read_file(path, block_size=MIB, off=MIB + 3) == data[MIB + 3:]
    io.read_file(path, block_size=MIB, cb=lambda buf, off: seen.append((off, bytes(buf))))
    assert b"".join(b for _, b in seen) == data and [o for o, _ in seen] == [0, MIB, 2 * MIB, 3 * MIB]
    common.expect_errno(errno.ENOENT, os.stat, path + "-not")


def blocks_of_memory(io, place):
    memory, path = Memory(io, place.mount, MIB, block_size=CROSS), place.file("blocks", os.urandom(MIB))
    assert any(name.endswith(".b%d" % CROSS) for name in place.links())
    ring, fd = io.make_ioring(place.mount, 4), opened(io, path, os.O_RDONLY)
    ring.prepare(memory.iov[CROSS - 8192:CROSS], True, fd, 0, "in")
    ring.prepare(memory.iov[CROSS * 2 - 4096:CROSS * 2 + 4096], True, fd, 0, "across")
    got = {d.userdata: d.result for d in ring.submit().wait(min_results=2, timeout=seconds(30))}
    assert got == {"in": 8192, "across": -errno.EINVAL if place.strict else 8192}, got
    done_with(io, fd)


def batches(io, place):
    memory, path = Memory(io, place.mount, MIB), place.file("batches", os.urandom(65536))
    ring, fd = io.make_ioring(place.mount, 8, io_depth=4), opened(io, path, os.O_RDONLY)
    for i in range(3):
        ring.prepare(memory.iov[i * 4096:(i + 1) * 4096], True, fd, 0)
    early = ring.submit().wait(max_results=8, min_results=3, timeout=seconds(0.3 if place.strict else 30))
    assert len(early) == (0 if place.strict else 3), len(early)
    ring.prepare(memory.iov[65536:69632], True, fd, 0)
    assert len(early) + len(ring.submit().wait(max_results=8, min_results=4 - len(early), timeout=seconds(30))) == 4
    done_with(io, fd)


def holes(io, place):
    path, memory = place.file("holes", b"x" * 65536), Memory(io, place.mount, MIB)
    with open(path, "r+b") as f:
        f.seek(524288)
        f.write(b"y" * 65536)
        f.truncate(MIB)
    fd, got = opened(io, path, os.O_RDONLY), []
    for flags, off, length in ((0, 0, MIB), (0, 786432, 4096), (0, 32768, 524288), (2, 32768, 524288), (0, MIB, 4096)):
        ring = io.make_ioring(place.mount, 1, flags=flags)
        ring.prepare(memory.iov[:length], True, fd, off)
        got.append(ring.submit().wait(min_results=1, timeout=seconds(30))[0].result)
    assert got == ([589824, 0, 524288, -errno.ENODATA, 0] if place.strict else
                   [MIB, 4096, 524288, -errno.ENODATA, 0]), got
    done_with(io, fd)


def waiting_in_vain(io, place):
    ring = io.make_ioring(place.mount, 4)
    assert ring.wait(min_results=1, timeout=seconds(0.05)) == []
    assert ring.wait(max_results=4) == []
    assert ring.submit().wait() == []


def refusals(io, place):
    memory, path = Memory(io, place.mount, MIB), place.file("refusals", bytes(8192))
    read, write = io.make_ioring(place.mount, 2), io.make_ioring(place.mount, 2, for_read=False)
    r, w, plain = opened(io, path, os.O_RDONLY), opened(io, path, os.O_WRONLY), os.open(path, os.O_RDONLY)
    buf = memory.iov[:4096]
    common.expect_errno(errno.EINVAL, io.register_fd, r)
    common.expect_errno(errno.EBADF, io.register_fd, 1023)
    with open("/proc/self/status") as other:
        common.expect_errno(errno.EBADF, io.register_fd, other.fileno())
    common.expect_errno(errno.EBADF, read.prepare, buf, True, plain, 0)
    common.expect_errno(errno.EACCES, read.prepare, buf, True, w, 0)
    common.expect_errno(errno.EACCES, write.prepare, buf, False, r, 0)
    common.expect_errno(errno.EINVAL, read.prepare, buf, False, w, 0)
    common.expect_errno(errno.EINVAL, read.prepare, memory.iov[0:0], True, r, 0)
    for entries, depth in ((0, 0), (4, 5)):
        common.expect_errno(errno.EINVAL, io.make_ioring, place.mount, entries, io_depth=depth)
    common.expect_errno(errno.EINVAL, io.make_ioring, place.mount, 4, timeout=-1)
    common.expect_errno(errno.ENOENT, io.make_ioring, "/proc/no-such-mount", 4)
    common.expect_errno(errno.ENOENT, io.make_iovec, memory.shm, "/proc/no-such-mount")
    for _ in range(2):
        read.prepare(buf if _ else memory.iov[8192:12288], True, r, 0)
    common.expect_errno(errno.EAGAIN, read.prepare, memory.iov[16384:20480], True, r, 0)
    assert [d.result for d in read.submit().wait(min_results=2, timeout=seconds(30))] == [4096, 4096]
    read.prepare(memory.iov[16384:20480], True, r, 0)
    assert read.submit().wait(min_results=1, timeout=seconds(30))[0].result == 4096
    for fd in (r, w):
        done_with(io, fd)
    os.close(plain)


def numbers_used_again(io, place):
    path = place.file("again", bytes(4096))
    fd = opened(io, path, os.O_RDONLY)
    done_with(io, fd)
    assert opened(io, path, os.O_RDONLY) == fd
    os.close(fd)  # without deregister_fd: the number is spoilt on 3FS, and in strict mode
    again = os.open(path, os.O_RDONLY)
    assert again == fd
    if place.strict:
        common.expect_errno(errno.EINVAL, io.register_fd, again)
        os.close(again)
    else:
        io.register_fd(again)
        done_with(io, again)


def links_and_holes_of_files(io, place):
    path = place.file("linked", b"z" * (4 * common.CHUNK))
    io.hardlink(path, path + "-too")
    assert os.stat(path).st_nlink == 2
    common.expect_errno(errno.EEXIST, io.hardlink, path, path + "-too")
    common.expect_errno(errno.ENOENT, io.hardlink, path, "bare-name")
    common.expect_errno(errno.EISDIR, io.hardlink, place.mount, path + "-dir")
    io.punch_hole(path, [common.CHUNK], [3 * common.CHUNK])
    fd = os.open(path, os.O_RDWR)
    io.punch_hole(fd, [0], [common.CHUNK])
    common.expect_errno(errno.EINVAL, io.punch_hole, fd, [1], [common.CHUNK])
    os.close(fd)
    with open(path, "rb") as f:
        assert f.read() == bytes(3 * common.CHUNK) + b"z" * common.CHUNK


def child(io, path, mount, answer):
    memory, ring, fd = Memory(io, mount, MIB), io.make_ioring(mount, 4), opened(io, path, os.O_RDONLY)
    ring.prepare(memory.iov[:MIB], True, fd, 0)
    done = ring.submit().wait(min_results=1, timeout=seconds(30))
    answer.send_bytes(bytes(memory.shm.buf[:done[0].result]) if done else b"")
    done_with(io, fd)
    del ring, memory


def forked(io, place):
    data = os.urandom(MIB)
    path, context = place.file("forked", data), multiprocessing.get_context("fork")
    ends = [context.Pipe(duplex=False) for _ in range(3)]
    children = [context.Process(target=child, args=(io, path, place.mount, w)) for _, w in ends]
    for c in children:
        c.start()
    assert [r.recv_bytes() == data for r, _ in ends] == [True] * 3
    for c in children:
        c.join()
    posix_then_read(io, place)


def nothing_stays(io, place):
    before = set(os.listdir("/dev/shm"))
    for _ in range(50):
        memory, ring = Memory(io, place.mount, 65536), io.make_ioring(place.mount, 16)
        ring.ior.destroy()
        assert len(place.links()) >= 1
        del ring, memory
    assert place.links() == [], place.links()
    mine = [x for x in set(os.listdir("/dev/shm")) - before if x.startswith("psm_")]
    assert not mine, mine


CROSS = 65536
CASES = (mount_points, write_then_posix, posix_then_read, read_file, blocks_of_memory, batches, holes, waiting_in_vain,
         refusals, numbers_used_again, links_and_holes_of_files, forked, nothing_stays)


def cases(args):
    sys.path.insert(0, args.package)
    try:
        import hf3fs_fuse.io as io
    except ImportError as e:
        common.missing("a package in %s: %s" % (args.package, e))

    def bound(case):
        def run(place):
            case(io, place)
        run.__name__ = case.__name__
        return run
    return [bound(c) for c in CASES]


if __name__ == "__main__":
    common.main(__doc__, cases, [("--package", "the folder with hf3fs_py_usrbio*.so and hf3fs_fuse/")])
