"""A client that makes its own links: shared memory of Python, wrapped, and unlinked at once or kept for others."""
import ctypes as c
import errno
import os
import subprocess
import sys
import uuid
from multiprocessing import shared_memory

from usrbio_ctypes import Iov, Ring, library_path

SIZE = 1 << 20


def wrap(lib, mount, shm, ident):
    iov = Iov()
    base = c.addressof(c.c_char.from_buffer(shm.buf))
    assert lib.hf3fs_iovwrap(iov, base, ident.bytes, mount.encode(), SIZE, 0, -1) == 0
    assert not iov.iovh
    return iov


def release(shm):
    """ctypes still points into the buffer: only the name is taken away, the mapping ends with the process."""
    shm.unlink()
    shm.close = lambda: None


def test_own_link_in_an_untouched_mount(lib, mount):
    Ring(lib, mount, 1, True).close()  # makes the directory of links
    links = os.path.join(mount, "3fs-virt", "iovs")
    assert os.path.isdir(links) and not os.path.islink(links)
    shm, ident = shared_memory.SharedMemory(create=True, size=SIZE), uuid.uuid4()
    link = os.path.join(links, str(ident))
    os.symlink("/dev/shm/" + shm.name.lstrip("/"), link)
    iov = wrap(lib, mount, shm, ident)
    fd = os.open(os.path.join(mount, "file"), os.O_CREAT | os.O_RDWR, 0o644)
    assert lib.hf3fs_reg_fd(fd, 0) <= 0
    write, read = Ring(lib, mount, 16, False), Ring(lib, mount, 16, True)
    data = os.urandom(65536)
    shm.buf[:65536] = data
    assert write.run(iov, [(i * 4096, i * 4096, 4096) for i in range(16)], fd) == [4096] * 16
    assert read.run(iov, [(131072 + i * 4096, i * 4096, 4096) for i in range(16)], fd) == [4096] * 16
    assert bytes(shm.buf[131072:131072 + 65536]) == data

    other = Iov()  # found by its id, as another process would
    assert lib.hf3fs_iovopen(other, ident.bytes, mount.encode(), SIZE, 0, -1) == 0
    assert c.string_at(other.base, 65536) == data
    lib.hf3fs_iovdestroy(other)
    assert os.path.lexists(link)
    os.unlink(link)
    assert lib.hf3fs_iovopen(other, ident.bytes, mount.encode(), SIZE, 0, -1) == -2
    lib.hf3fs_dereg_fd(fd)
    os.close(fd)
    write.close()
    read.close()
    release(shm)


def test_unlinked_at_once(lib, mount):
    shm, ident = shared_memory.SharedMemory(create=True, size=SIZE), uuid.uuid4()
    iov = wrap(lib, mount, shm, ident)
    release(shm)
    fd = os.open(os.path.join(mount, "file"), os.O_CREAT | os.O_RDWR, 0o644)
    assert lib.hf3fs_reg_fd(fd, 0) <= 0
    write = Ring(lib, mount, 4, False)
    shm.buf[:5] = b"hello"
    assert write.run(iov, [(0, 7, 5)], fd) == [5]
    assert os.pread(fd, 100, 0) == b"\0" * 7 + b"hello"
    lib.hf3fs_dereg_fd(fd)
    os.close(fd)
    write.close()


def test_links_follow_the_grammar(lib, mount):
    """Names as the client of another language parses them: uuid, then .b<block size>."""
    iov = Iov()
    assert lib.hf3fs_iovcreate(iov, mount.encode(), SIZE, 65536, -1) == 0
    (name,) = os.listdir(os.path.join(mount, "3fs-virt", "iovs"))
    text, block = name.split(".")
    assert uuid.UUID(text).bytes == bytes(iov.id) and block == "b65536"
    target = os.readlink(os.path.join(mount, "3fs-virt", "iovs", name))
    assert target.startswith("/dev/shm/hf3fs-iov-") and os.stat(target).st_size == SIZE
    lib.hf3fs_iovdestroy(iov)
    assert not os.path.exists(target)


def test_the_directory_of_links_is_there_before_a_ring(lib, mount):
    """A client that asks for its mount point, or registers a file, may make its link next."""
    for first in ("extract", "register"):
        place = os.path.join(mount, first)
        os.mkdir(place)
        open(os.path.join(place, ".cistern-mount"), "w").close()
        if first == "extract":
            buf = c.create_string_buffer(256)
            assert lib.hf3fs_extract_mount_point(buf, 256, (place + "/x").encode()) == len(place) + 1
            assert os.path.realpath(place) == buf.value.decode()
        else:
            fd = os.open(place + "/x", os.O_CREAT | os.O_RDONLY, 0o644)
            assert lib.hf3fs_reg_fd(fd, 0) <= 0
            lib.hf3fs_dereg_fd(fd)
            os.close(fd)
        os.symlink("/dev/shm/x", os.path.join(place, "3fs-virt", "iovs", str(uuid.uuid4())))


def test_errno_after_a_failed_hardlink_and_punchhole(mount):
    """The Python binding of 3FS raises errno rather than what hf3fs_hardlink gave."""
    lib = c.CDLL(library_path(), use_errno=True)
    path = os.path.join(mount, "target")
    open(path, "w").close()
    for target, link, wanted in ((path, path, errno.EEXIST), (path, "bare", errno.ENOENT), (mount, path + "2", errno.EISDIR),
                                 (path, "/proc/self/x", errno.ENOTTY), (path + "-none", path + "2", errno.ENOENT)):
        c.set_errno(0)
        assert lib.hf3fs_hardlink(target.encode(), link.encode()) == wanted == c.get_errno(), (target, link)
    c.set_errno(0)
    assert lib.hf3fs_punchhole(-1, 0, None, None, c.c_size_t(0)) == errno.EBADF == c.get_errno()


STRICT_BLOCKS = """import os, sys, uuid
from multiprocessing import shared_memory
import ctypes as c
import usrbio_ctypes as u
mount, lib, got = sys.argv[1], u.load(), []
fd = os.open(mount + "/blocks", os.O_CREAT | os.O_RDWR, 0o644)
os.truncate(fd, 65536)
assert lib.hf3fs_reg_fd(fd, 0) <= 0
for suffix in ("", ".b4096"):
    shm, ident, iov = shared_memory.SharedMemory(create=True, size=65536), uuid.uuid4(), u.Iov()
    os.symlink("/dev/shm/" + shm.name.lstrip("/"), mount + "/3fs-virt/iovs/" + str(ident) + suffix)
    base = c.addressof(c.c_char.from_buffer(shm.buf))
    assert lib.hf3fs_iovwrap(iov, base, ident.bytes, mount.encode(), 65536, 4096, -1) == 0
    got += u.Ring(lib, mount, 2, False).run(iov, [(2048, 0, 4096)], fd)
    shm.unlink()
    shm.close = lambda: None
print(got, flush=True)
os._exit(0)  # ctypes still points into the memory
"""


def test_the_name_of_the_link_cuts_wrapped_memory_into_blocks(mount):
    """One transfer of 4 KiB at 2 KiB: across a block only where the link says that there are blocks."""
    run = subprocess.run([sys.executable, "-c", STRICT_BLOCKS, mount],
                         env=dict(os.environ, CISTERN_USRBIO_STRICT="crossing", PYTHONPATH=os.path.dirname(__file__),
                                  CISTERN_USRBIO_LIB=library_path()), stdout=subprocess.PIPE, text=True)
    assert run.stdout == "[4096, -22]\n"
