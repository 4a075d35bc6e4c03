#!/usr/bin/env python3
"""SGLang's second tier for KV pages on 3FS, on the drop-in: a store whose memory and links 3FS's Python package makes.

    tools/clients/hicache.py --sglang DIR --package DIR [--lib build/hf3fs/libhf3fs_api_shared.so] [--dir TMP]

--sglang is the folder that holds the folder sglang (a checkout's python/, or an unpacked wheel); --package as for
fuse_io.py. Needs torch, ninja and a C++ compiler (SGLang compiles a small extension of its own), fastapi, orjson, requests.
The modules of sglang/srt/mem_cache/storage/hf3fs are loaded as they are; what they only name of the rest of SGLang, the
host's pool and a record of statistics, are stand-ins, so that no GPU is needed. Pages go in through SGLang and are read
back with plain system calls, and the other way around.
"""
import os
import subprocess
import sys
import threading
import types

import common

PAGE, PAGES, STORAGE = 49152, 64, "sglang.srt.mem_cache.storage.hf3fs."


def stand_ins(root):
    for name in ("", ".srt", ".srt.mem_cache", ".srt.mem_cache.storage", ".srt.mem_cache.storage.hf3fs", ".srt.utils"):
        module = sys.modules["sglang" + name] = types.ModuleType("sglang" + name)
        module.__path__ = [os.path.join(root, "sglang", *name.split(".")[1:])]
    for name, value in (("mem_cache.pool_host", "HostKVCache"), ("observability.metrics_collector", "StorageMetrics")):
        parts = ("sglang.srt." + name).split(".")
        for i in range(3, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))
        setattr(sys.modules["sglang.srt." + name], value, type(value, (), {}))


OTHER_PROCESS = """import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
sys.stdout.buffer.write(os.pread(fd, int(sys.argv[3]), int(sys.argv[2])))
"""


def cases(args):
    sys.path.insert(0, args.package)
    stand_ins(args.sglang)
    os.environ.setdefault("TORCH_EXTENSIONS_DIR", os.path.join(args.dir, "torch-extensions"))
    os.environ.setdefault("MAX_JOBS", "1")
    try:
        import importlib
        import torch
        usrbio = importlib.import_module(STORAGE + "hf3fs_usrbio_client")
        storage = importlib.import_module(STORAGE + "storage_hf3fs")
        metadata = importlib.import_module(STORAGE + "mini_3fs_metadata_server")
    except ImportError as e:
        common.missing(str(e))
    if not usrbio.HF3FS_AVAILABLE:
        common.missing("hf3fs_fuse.io in " + args.package)

    def page(n=PAGE):
        return torch.randint(-2**15, 2**15, (n // 2,), dtype=torch.int16).view(torch.bfloat16)

    def raw(t):
        return bytes(t.view(torch.uint8).numpy())

    def client(place, name, entries=8):
        return usrbio.Hf3fsUsrBioClient(os.path.join(place.mount, name), PAGE * PAGES, PAGE, entries, 30)

    def pages_out_and_in(place):
        c, out = client(place, "pages"), [page() for _ in range(8)]
        places = [n * PAGE for n in (5, 0, 63, 7, 8, 9, 33, 2)]
        assert c.batch_write(places, out) == [PAGE] * 8
        c.flush()
        for at, t in zip(places, out):
            got = subprocess.run([sys.executable, "-c", OTHER_PROCESS, c.path, str(at), str(PAGE)],
                                 stdout=subprocess.PIPE, check=True).stdout
            assert got == raw(t)
        back = [torch.zeros_like(t) for t in out]
        assert c.batch_read(places, back) == [PAGE] * 8 and [raw(t) for t in back] == [raw(t) for t in out]
        c.close()

    def plain_writes_seen(place):
        c, data = client(place, "plain"), os.urandom(4 * PAGE)
        with open(c.path, "r+b") as f:
            f.seek(PAGE)
            f.write(data)
        back = [page() for _ in range(4)]
        assert c.batch_read([(n + 1) * PAGE for n in range(4)], back) == [PAGE] * 4
        assert b"".join(raw(t) for t in back) == data
        c.close()

    def never_written(place):
        """3FS has no data there and says so; an ordinary file has zeros."""
        c, back = client(place, "empty"), [page()]
        assert c.batch_read([40 * PAGE], back) == [0 if place.strict else PAGE]
        c.close()

    def bad_requests(place):
        for at, sizes in (([0] * 9, [PAGE] * 9), ([0, 1], [PAGE]), ([PAGE * PAGES], [PAGE]), ([0], [PAGE * 2])):
            c = client(place, "bad")
            try:
                c.batch_read(at, [page(n) for n in sizes])
            except ValueError:
                continue
            raise AssertionError("accepted: %r" % at)
        common.expect_errno(2, client, place, "no/such/directory/file")
        outside = os.path.join(args.dir, "not-in-a-mount")
        common.expect_errno(9, usrbio.Hf3fsUsrBioClient, outside, PAGE, PAGE, 1, 5)
        os.unlink(outside)

    def tier(place, name):
        t = storage.HiCacheHF3FS(0, os.path.join(place.mount, name), PAGE * PAGES, 4, PAGE, 8, 30, torch.bfloat16,
                                 metadata.Hf3fsLocalMetadataClient())
        t.register_mem_pool_host(types.SimpleNamespace(layout="layer_first", page_size=1))
        return t

    def whole_tier(place):
        t, pages = tier(place, "tier"), {"key%d" % n: page() for n in range(PAGES)}
        keys = list(pages)
        assert t._batch_set(keys, list(pages.values())) == [True] * PAGES
        assert t.batch_exists(keys + ["other"]) == PAGES and not t.exists("other")
        back = [torch.zeros(PAGE // 2, dtype=torch.bfloat16) for _ in keys]
        assert t._batch_get(keys[::-1], back) == [True] * PAGES
        assert [raw(x) for x in back] == [raw(pages[k]) for k in keys[::-1]]
        with open(t.file_path, "rb") as f:
            assert sorted(f.read(PAGE) for _ in range(PAGES)) == sorted(raw(x) for x in pages.values())
        t.delete("key3")
        assert not t.exists("key3") and t._batch_get(["key4"], back[:1]) == [True] and raw(back[0]) == raw(pages["key4"])
        t.clear()
        assert t.batch_exists(keys) == 0
        t.close()

    def tier_by_many_threads(place):
        t, wrong = tier(place, "threads"), []

        def work(who):
            for turn in range(5):
                keys = ["%d-%d-%d" % (who, turn, n) for n in range(4)]
                pages, back = [page() for _ in keys], [page() for _ in keys]
                if not all(t._batch_set(keys, pages)) or not all(t._batch_get(keys, back)) or \
                        [raw(x) for x in pages] != [raw(x) for x in back]:
                    wrong.append((who, turn))
                for k in keys:
                    t.delete(k)
        workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        t.close()
        assert not wrong, wrong

    def nothing_stays(place):
        assert place.links() == [], place.links()
    return [pages_out_and_in, plain_writes_seen, never_written, bad_requests, whole_tier, tier_by_many_threads,
            nothing_stays]


if __name__ == "__main__":
    common.main(__doc__, cases, [("--sglang", "the folder that holds sglang/"),
                                 ("--package", "the folder with hf3fs_py_usrbio*.so and hf3fs_fuse/")])
