"""A client that makes its own links: shared memory of Python, wrapped, and unlinked at once or kept for others."""
import ctypes as c
import os
import uuid
from multiprocessing import shared_memory

from usrbio_ctypes import Iov, Ring

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
