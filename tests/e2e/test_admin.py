"""The operator's verbs on stores that are really damaged: ids, exit codes, and what is left afterwards.

Stores are made by tests/admin/writer.c, a program that can be left alive, closed or killed. Damage is done with plain
writes, so that a check is known by what was done and not by what the library believes.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

os.umask(0o077)  # as the library makes its files

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CISTERN_BUILD", TOP / "build"))
CISTERN = os.environ.get("CISTERN", str(BUILD / "cistern"))
WRITER = BUILD / "tests" / "admin" / "writer"
TOKENS = 16
sys.path.insert(0, str(TOP / "tools"))

import cistern_read as cr  # noqa: E402
from xxh3 import xxh3_64  # noqa: E402


def clean_env():
    drop = re.compile(r"(CISTERN|THREEFS|REUSE_CACHE|ENABLE_3FS|HF3FS)")
    return {k: v for k, v in os.environ.items() if not drop.match(k)}


def run(*args, timeout=120, **kw):
    return subprocess.run([CISTERN, *map(str, args)], timeout=timeout, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=clean_env(), **kw)


def words(r):
    return f"exit {r.returncode}\nstdout: {r.stdout}\nstderr: {r.stderr}"


def answer(*args, code=0, **kw):
    """The JSON of a verb that must end with `code`."""
    r = run(*args, "--json", **kw)
    assert r.returncode == code, words(r)
    return json.loads(r.stdout)


@contextlib.contextmanager
def short_silence(mount, root="r", ms=1000):
    """The root says a short silence meanwhile, so that wipe takes one; engines that are open keep theirs."""
    path = Path(mount) / root / "cistern.json"
    before = path.read_bytes()

    def put(data):
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").rename(path)

    put(json.dumps(json.loads(before) | {"silence_ms": ms}).encode())
    try:
        yield
    finally:
        put(before)


class Writer:
    """A process that stores; leave it alive, close() it, or kill() it."""

    def __init__(self, mount, name="main", model="m1", shard=0, shards=1, seed=1, root="r", key=None, tenant=None,
                 list_ms=None):
        given = {"WRITER_KEY_FILE": key, "WRITER_TENANT": tenant, "WRITER_LIST_MS": list_ms}
        env = clean_env() | {k: str(v) for k, v in given.items() if v}
        self.p = subprocess.Popen([WRITER, mount, root, name, model, str(shard), str(shards), str(seed)], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        line = self.p.stdout.readline()
        assert line.startswith("open 0"), line

    def say(self, command):
        self.p.stdin.write(command + "\n")
        self.p.stdin.flush()
        return self.p.stdout.readline().strip()

    def put(self, n):
        assert self.say(f"put {n}") == f"stored {n} flush 0"
        return self

    def close(self):
        assert self.say("close") == "close 0"
        assert self.p.wait(60) == 0

    def kill(self):
        self.p.kill()
        self.p.wait(60)


def fill(mount, blocks, **kw):
    w = Writer(mount, **kw)
    w.put(blocks)
    w.close()


def prompt(seed, tokens):
    """The text that the writer's prompt is made of."""
    return "".join(chr(97 + (i * 7 + i // 26 + seed * 11 + (i >> 5) * seed) % 26) for i in range(tokens))


def hits(mount, blocks, **kw):
    """(hits, wrong) as a new process sees them; it leaves no trace that matters."""
    w = Writer(mount, **kw)
    m = re.fullmatch(r"hits (\d+) wrong (\d+)", w.say(f"check {blocks}"))
    w.close()
    return int(m[1]), int(m[2])


def files(mount, pattern):
    return sorted(Path(mount).glob(pattern))


def snapshot(top):
    return {p.relative_to(top): p.read_bytes() for p in Path(top).rglob("*") if p.is_file()}


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    """Two closed writers with several segments each: 64 blocks of two parts."""
    mount = tmp_path_factory.mktemp("template")
    fill(mount, 40)
    fill(mount, 24, seed=2)
    return mount


@pytest.fixture
def store(template, tmp_path):
    mount = tmp_path / "mount"
    shutil.copytree(template, mount)
    return mount


def toc(store, n=0):
    return [p for p in files(store, "r/*/s0of1/*.toc") if p.stat().st_size > 4096][n]


def flip(path, at, bit=0):
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def sealed_frame(data, at, change):
    """Frame at `at` with fields changed and its checksum put right: a liar that passes for a frame."""
    records = struct.unpack_from("<H", data, at + 4)[0]
    frame = bytearray(data[at:at + 64 * (1 + records)])
    change(frame)
    frame[56:64] = bytes(8)
    frame[56:64] = struct.pack("<Q", xxh3_64(bytes(frame)))
    return frame


def fsck(store, *args, code=0):
    return answer("fsck", store / "r", *args, code=code)


def ids(result):
    return sorted({f["id"] for f in result["findings"]})


# ---- fsck ----


def test_a_good_store_has_no_findings(store):
    r = fsck(store)
    assert r["findings"] == []
    assert r["summary"]["blocks"] == 64 and r["summary"]["writers"] == 2
    text = run("fsck", "--mount", store, "--root", "r")
    assert text.returncode == 0 and "64 blocks" in text.stdout and text.stderr == "", words(text)


def test_fsck_writes_nothing_without_repair(store):
    (store / "r" / ".tmp-0123").write_bytes(b"x")
    flip(toc(store), 4096 + 70)
    before = snapshot(store)
    fsck(store, code=1)
    assert snapshot(store) == before


def damage_json(text):
    return lambda s: (s / "r" / "cistern.json").write_text(text)


def space_dir(s):
    return next(p for p in (s / "r").iterdir() if p.is_dir())


def edit_space(change):
    def do(s):
        path = space_dir(s) / "space.json"
        path.write_bytes(change(path.read_bytes()))
    return do


def pick(suffix, n=0):
    return lambda s: files(s, f"r/*/s0of1/*{suffix}")[n]


def swap(suffix):
    def do(s):
        a, b = files(s, f"r/*/s0of1/*{suffix}")[:2]
        x, y = a.read_bytes(), b.read_bytes()
        a.write_bytes(y)
        b.write_bytes(x)
    return do


def head_says_more(s):
    """A head of a closed writer that published a page more than its contents have."""
    path = pick(".head")(s)
    page = bytearray(path.read_bytes())
    page[88:96] = struct.pack("<Q", struct.unpack_from("<Q", page, 88)[0] + 4096)
    page[176:184] = bytes(8)
    page[176:184] = struct.pack("<Q", xxh3_64(bytes(page[:4096])))
    path.write_bytes(page)


def frame_change(at, value, fmt):
    def do(s):
        path = toc(s)
        data = bytearray(path.read_bytes())
        frame = sealed_frame(data, 4096, lambda f: struct.pack_into(fmt, f, at, value))
        data[4096:4096 + len(frame)] = frame
        path.write_bytes(data)
    return do


def last_data(s):
    """The data file of a segment with blocks, and where its last payload ends."""
    reader = cr.Reader(str(s / "r"), verify=False)
    for space in reader.store()["spaces"]:
        for shard in space["shards"]:
            for seg in shard["segments"]:
                if seg["blocks"]:
                    path = Path(os.path.join(s, "r", space["dir"], f"s{shard['shard']}of{shard['shards']}",
                                             os.path.basename(seg["path"]))).with_suffix(".seg")
                    return path, max(p["offset"] + p["length"] for b in seg["blocks"] for p in b["parts"])


def cut_data(s):
    path, end = last_data(s)
    os.truncate(path, end - 1)


def copy_segment(s):
    """A copy under another name: its header gives it away; and one in another shard directory with its own header
    rewritten, as a person with a hex editor would."""
    src = toc(s)
    data = bytearray(src.read_bytes())
    data[72:80] = struct.pack("<Q", 77)
    data[120:128] = bytes(8)
    data[120:128] = struct.pack("<Q", xxh3_64(bytes(data[:4096])))
    dst = src.with_name(src.name.replace(src.name[17:25], f"{77:08x}"))
    dst.write_bytes(data)
    shutil.copy(src.with_suffix(".seg"), dst.with_suffix(".seg"))


def foreign_space_contents(s):
    """A header of another space, with its checksum in order."""
    path = toc(s)
    data = bytearray(path.read_bytes())
    data[16:48] = bytes(range(32))
    data[120:128] = bytes(8)
    data[120:128] = struct.pack("<Q", xxh3_64(bytes(data[:4096])))
    path.write_bytes(data)


def later(path_of, at, fmt, value, checksum):
    def do(s):
        path = path_of(s)
        data = bytearray(path.read_bytes())
        struct.pack_into(fmt, data, at, value)
        data[checksum:checksum + 8] = bytes(8)
        data[checksum:checksum + 8] = struct.pack("<Q", xxh3_64(bytes(data[:4096])))
        path.write_bytes(data)
    return do


def pin_bytes(keys, space=bytes(32), created=1, expires=0, size=0, label="", version=1, flags=0):
    """A pin as docs/FORMAT.md has it."""
    head = struct.pack("<8sII32sQQQII64s40sQ", b"CISTNPN1", version, flags, space, created, expires, size, len(keys), 0,
                       label.encode(), b"", 0)
    body = b"".join(keys)
    return head[:184] + struct.pack("<Q", xxh3_64(head + body)) + body


def space_fingerprint(s):
    return hashlib.sha256((space_dir(s) / "space.json").read_bytes()).digest()


def plant_pin(s, name="00000000000000aa.pin", **kw):
    kw.setdefault("space", space_fingerprint(s))
    (space_dir(s) / name).write_bytes(pin_bytes([bytes(32)], **kw))


DAMAGE = {
    "CF001": (lambda s: (s / "r" / "cistern.json").unlink(), 1),
    "CF002": (damage_json("{]"), 1),
    "CF003": (damage_json('{"format":9,"capacity_bytes":0,"segment_bytes":0,"created_s":0}'), 1),
    "CF010": (lambda s: (s / "r" / "salt").unlink(), 1),
    "CF011": (lambda s: (s / "r" / "salt").write_bytes(b"short"), 1),
    "CF012": (lambda s: (s / "r" / "salt").chmod(0o644), 1),
    "CF020": (lambda s: toc(s).chmod(0o644), 1),
    "CF030": (damage_json('{"format":1,"capacity_bytes":4096,"segment_bytes":4096,"created_s":0}'), 1),
    "CF040": (lambda s: (space_dir(s) / "s0of1" / "notes.txt").write_text("mine"), 0),
    "CF041": (lambda s: (space_dir(s) / ".tmp-00").write_text("half"), 0),
    "CF100": (lambda s: (space_dir(s) / "space.json").unlink(), 1),
    "CF101": (edit_space(lambda b: b"nonsense"), 1),
    "CF102": (edit_space(lambda b: b.replace(b'"m1"', b'"m2"')), 1),
    "CF103": (edit_space(lambda b: b.replace(b",", b", ")), 1),
    "CF104": (lambda s: space_dir(s).rename(s / "r" / "by-hand"), 0),
    "CF110": (lambda s: (space_dir(s) / "s0of2").mkdir(mode=0o700), 1),
    "CF120": (lambda s: plant_pin(s, space=bytes(32)), 1),
    "CF121": (lambda s: plant_pin(s, expires=7), 0),
    "CF200": (lambda s: flip(pick(".head")(s), 60), 1),
    "CF201": (lambda s: pick(".head")(s).unlink(), 0),
    "CF202": (later(pick(".head"), 8, "<I", 9, 176), 0),
    "CF203": (later(pick(".head"), 12, "<I", 1, 176), 0),
    "CF204": (head_says_more, 1),
    "CF205": (lambda s: [p.unlink() for p in (toc(s), toc(s).with_suffix(".seg"))], 0),
    "CF207": (lambda s: [later(pick(".head"), 108, "<I", 1, 176)(s), later(pick(".head"), 12, "<I", 1, 176)(s)], 1),
    "CF300": (lambda s: flip(toc(s), 20), 1),
    "CF301": (swap(".toc"), 1),
    "CF302": (foreign_space_contents, 1),
    "CF303": (lambda s: flip(toc(s), 4096 + 100), 1),
    "CF304": (frame_change(8, 5, "<Q"), 1),
    "CF305": (frame_change(64 + 44, 0, "<I"), 1),
    "CF306": (frame_change(6, 0x8000, "<H"), 0),
    "CF307": (lambda s: [pick(".head", 1)(s).with_name(pick(".head", 1)(s).stem + "-00000099" + x).write_bytes(b"")
                         for x in (".seg", ".toc")], 0),
    "CF308": (copy_segment, 1),
    "CF400": (None, 1),
    "CF401": (cut_data, 1),
    "CF402": (lambda s: toc(s).unlink(), 0),
    "CF403": (lambda s: toc(s).with_suffix(".seg").unlink(), 1),
}


@pytest.mark.parametrize("check", sorted(k for k, v in DAMAGE.items() if v[0]))
def test_damage_is_told_by_its_id(store, check):
    do, code = DAMAGE[check]
    do(store)
    result = fsck(store, code=code)
    assert check in ids(result), result["findings"]
    assert all(f["advice"] and f["title"] and f["path"].startswith("r") for f in result["findings"])


def test_data_that_is_missing_and_contents_with_marks(tmp_path):
    """Contents that declare other blocks dead are no litter, whatever became of their data."""
    w = Writer(tmp_path).put(20)
    assert w.say("delete 3") == "deleted 1 flush 0"
    w.close()
    for p in files(tmp_path, "r/*/s0of1/*.seg"):
        p.unlink()
    result = fsck(tmp_path, "--repair", "--silence", 1, code=1)
    assert "CF400" in ids(result)
    assert files(tmp_path, "r/*/s0of1/*.toc"), "the mark is gone"


def test_an_aside_is_told(store):
    """Kind 4 in a frame behind the last one: the whole segment."""
    path = toc(store)
    data = path.read_bytes()
    reader = cr.Reader(str(store / "r"), verify=False)
    number, at = 0, 4096
    while at + 64 <= len(data) and data[at:at + 4] == b"CFRM":
        number += 1
        at += 64 * (1 + struct.unpack_from("<H", data, at + 4)[0])
        if data[at:at + 4] != b"CFRM":
            at = at if data[(at + 4095) // 4096 * 4096:][:4] != b"CFRM" else (at + 4095) // 4096 * 4096
    assert number and reader
    record = bytes(32) + data[48:64] + bytes([4, 2]) + bytes(14)
    frame = bytearray(struct.pack("<4sHHQQ16sQQQ", b"CFRM", 1, 0, number, at, data[48:64], 1 << 20, 0, 0) + record)
    frame[56:64] = struct.pack("<Q", xxh3_64(bytes(frame)))
    path.write_bytes(data[:at] + frame)
    assert "CF309" in ids(fsck(store))


def test_every_check_has_a_damage_or_a_reason():
    listed = {c["id"] for c in answer("fsck", "--list")}
    elsewhere = {"CF206",  # test_repair_removes_what_dead_writers_left
                 "CF311", "CF312",  # test_encrypted_roots_are_looked_at_with_and_without_the_key
                 "CF309",  # test_an_aside_is_told
                 "CF310"}  # storage that refuses: root reads everything here
    assert set(DAMAGE) | elsewhere == listed


def test_the_document_has_every_check():
    text = (TOP / "docs" / "FSCK.md").read_text()
    for c in answer("fsck", "--list"):
        assert f"| {c['id']} | {c['severity']} |" in text


def test_repair_removes_what_dead_writers_left(store):
    shard = space_dir(store) / "s0of1"
    before = snapshot(store)
    (space_dir(store) / ".tmp-00").write_bytes(b"half")
    (shard / "00000000000000aa.head").write_bytes(b"")
    (shard / "00000000000000aa-00000000.seg").write_bytes(b"")
    (shard / "00000000000000aa-00000000.toc").write_bytes(b"")
    (shard / "00000000000000ab-00000000.seg").write_bytes(b"data" * 2000)
    (shard / "keep.me").write_bytes(b"mine")
    edit_space(lambda b: b.replace(b":", b": "))(store)
    would = fsck(store, "--repair", "--dry-run", "--silence", 1, code=1)
    assert {f["repair"] for f in would["findings"]} == {"", "would be repaired"}
    assert (shard / "00000000000000ab-00000000.seg").exists()
    done = fsck(store, "--repair", "--silence", 1)
    assert {"CF041", "CF103", "CF206", "CF307", "CF402"} <= set(ids(done))
    assert done["summary"]["unrepaired"] == 0
    after = snapshot(store)
    assert after.pop(Path("r") / space_dir(store).name / "s0of1" / "keep.me") == b"mine"
    assert after == before
    assert hits(store, 40) == (40, 0)


def test_repair_leaves_a_live_writer_alone(tmp_path):
    """It is quiet for longer than --silence; but its process is one of this host and runs."""
    w = Writer(tmp_path).put(4)
    shard = space_dir(tmp_path) / "s0of1"
    head = files(tmp_path, "r/*/s0of1/*.head")[0]
    spare = shard / (head.stem + "-00000009.toc")
    spare.write_bytes(b"")
    result = fsck(tmp_path, "--repair", "--silence", 1)
    assert spare.exists()
    assert {f["repair"] for f in result["findings"] if f["id"] == "CF307"} == {"its writer may be alive"}
    assert any("it lives" in f["detail"] for f in result["findings"] if f["id"] == "CF203")
    w.put(30)
    w.close()
    assert hits(tmp_path, 30) == (30, 0)


def test_repair_cleans_up_after_a_killed_writer(tmp_path):
    w = Writer(tmp_path).put(30)
    w.kill()
    fsck(tmp_path, "--repair", "--silence", 1)
    after = fsck(tmp_path)
    assert not {"CF307", "CF402"} & set(ids(after))
    assert hits(tmp_path, 30) == (30, 0)


def test_a_directory_without_anything_of_ours(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "x").write_text("x")
    r = run("fsck", tmp_path / "r")
    assert r.returncode == 3 and "nothing of Cistern" in r.stderr, words(r)


def test_space_limits_fsck_to_a_space(store):
    fill(store, 4, name="other", model="m9")
    assert fsck(store, "--space", "other")["summary"]["blocks"] == 4
    assert fsck(store)["summary"]["blocks"] == 68


@pytest.mark.parametrize("args,expected", [
    (["fsck", "a", "b"], "unexpected word 'b'"),
    (["fsck", "--dry-run"], "--repair"),
    (["fsck", "--silence", "0"], "--silence"),
])
def test_usage(args, expected):
    r = run(*args)
    assert r.returncode == 2 and expected in r.stderr, words(r)


# ---- verify ----


def verify(store, *args, code=0):
    return answer("verify", store / "r", *args, code=code)


def payloads(store):
    """Every part as the independent reader sees it, but of dead blocks: {(key, part): (data file, offset, length)}."""
    found = {}
    for space in cr.Reader(str(store / "r"), verify=False).store()["spaces"]:
        for shard in space["shards"]:
            for seg in shard["segments"]:
                for b in (b for b in seg["blocks"] if not b["dead"]):
                    for p in b["parts"]:
                        found[b["key"], p["part"]] = (Path(seg["path"]).with_suffix(".seg"), p["offset"], p["length"])
    return found


def overwrite(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def test_verify_reads_everything_of_a_good_store(store):
    r = verify(store)
    assert r["bad"] == []
    assert r["summary"]["blocks"] == 64 and r["summary"]["bytes"] == 64 * 13000
    assert sum(s["blocks"] for s in r["segments"]) == 64
    text = run("verify", store / "r")
    assert text.returncode == 0 and "64 blocks" in text.stdout and text.stderr == "", words(text)


def test_verify_shows_each_bad_block_and_nothing_else(store):
    found = payloads(store)
    chosen = sorted(found)[::17]
    for key, part in chosen:
        path, offset, length = found[key, part]
        byte = path.read_bytes()[offset + length - 1]
        overwrite(path, offset + length - 1, bytes([byte ^ 64]))
    r = verify(store, code=1)
    assert sorted((b["key"], b["part"]) for b in r["bad"]) == chosen
    for b in r["bad"]:
        path, offset, length = found[b["key"], b["part"]]
        assert b["state"] == "checksum" and (b["offset"], b["length"]) == (offset, length)
        assert (store / b["segment"]).samefile(path)
    text = run("verify", store / "r")
    assert text.returncode == 1 and text.stdout.count("bad checksum") == len(chosen), words(text)


def test_verify_takes_an_exchange_for_what_it_is(store):
    """Two blocks of one length, exchanged: every byte is some block's, and none is right."""
    found = payloads(store)
    (a, b) = sorted(k for k in found if k[1] == 0)[:2]
    (pa, oa, n), (pb, ob, m) = found[a], found[b]
    assert n == m
    x, y = pa.read_bytes()[oa:oa + n], pb.read_bytes()[ob:ob + n]
    overwrite(pa, oa, y)
    overwrite(pb, ob, x)
    assert sorted(b["key"] for b in verify(store, code=1)["bad"]) == sorted([a[0], b[0]])


def test_verify_of_data_cut_and_gone(store):
    path, end = last_data(store)
    os.truncate(path, end - 1)
    states = {b["state"] for b in verify(store, code=1)["bad"]}
    assert states == {"short"}
    path.unlink()
    r = verify(store, code=1)
    assert {b["state"] for b in r["bad"]} == {"missing"}
    assert next(s for s in r["segments"] if (store / s["segment"]) == path)["bad"] == len(r["bad"])


def test_verify_leaves_out_what_is_dead(tmp_path):
    w = Writer(tmp_path).put(8)
    assert w.say("delete 3") == "deleted 1 flush 0"
    w.close()
    found = payloads(tmp_path)
    alive = {b["key"] for b in verify(tmp_path)["bad"]}
    assert alive == set()
    for path, offset, length in found.values():
        overwrite(path, offset, b"\xff" * length)
    r = verify(tmp_path, code=1)
    assert r["summary"]["dead"] == 1 and r["summary"]["bad"] == 7


def test_verify_counts_contents_that_cannot_be_read(store):
    flip(toc(store), 30)
    r = verify(store, code=1)
    assert r["summary"]["unreadable"] == 1 and r["bad"] == []


def test_verify_while_a_writer_lives_and_with_a_rate(tmp_path):
    w = Writer(tmp_path).put(20)
    assert verify(tmp_path, "--rate", 100)["summary"]["blocks"] == 20
    w.put(40)
    assert verify(tmp_path)["summary"]["blocks"] == 40
    w.kill()
    assert verify(tmp_path)["summary"]["bytes"] == 40 * 13000


def test_the_rate_is_kept(tmp_path):
    """As a floor on time only, which a loaded machine cannot break: 6.3 MiB at 10 MiB/s."""
    fill(tmp_path, 512)
    r = verify(tmp_path, "--rate", 10)
    assert r["summary"]["bytes"] == 512 * 13000
    assert r["summary"]["seconds"] > 0.5


# ---- gc and wipe ----


def test_gc_removes_litter_and_nothing_else(store):
    shard = space_dir(store) / "s0of1"
    before = snapshot(store)
    (store / "r" / ".tmp-9").write_bytes(b"x")
    (shard / "00000000000000ab-00000000.seg").write_bytes(b"data" * 2000)
    (shard / "00000000000000ac.head").write_bytes(b"")
    (shard / "stranger").write_bytes(b"")
    would = answer("gc", store / "r", "--dry-run", "--silence", 1)
    assert would["would_remove"] == 3 and (store / "r" / ".tmp-9").exists()
    done = answer("gc", store / "r", "--silence", 1)
    assert done["removed"] == 3 and {f["result"] for f in done["files"]} == {"removed"}
    (shard / "stranger").unlink()
    assert snapshot(store) == before
    assert answer("gc", store / "r")["removed"] == 0


def test_gc_after_crashes_leaves_what_was_stored(tmp_path):
    for n in (4, 9, 14):
        Writer(tmp_path).put(n).kill()
    Writer(tmp_path, seed=5).kill()
    answer("gc", tmp_path / "r", "--silence", 1)
    assert answer("gc", tmp_path / "r", "--silence", 1, "--dry-run")["would_remove"] == 0
    assert hits(tmp_path, 14) == (14, 0)


def test_gc_leaves_what_grows_while_it_watches(tmp_path):
    """A head without a process number, so that only watching can tell."""
    w = Writer(tmp_path).put(2)
    w.kill()
    shard = space_dir(tmp_path) / "s0of1"
    orphan = shard / "00000000000000ab-00000000.seg"
    orphan.write_bytes(b"data")
    p = subprocess.Popen([CISTERN, "gc", tmp_path / "r", "--silence", "3", "--json"], text=True,
                         stdout=subprocess.PIPE, env=clean_env())
    size = 4
    while p.poll() is None:
        size += 4
        with open(orphan, "ab") as f:
            f.write(b"more")
    out = json.loads(p.stdout.read())
    assert orphan.exists() and out["left"] == 1


def used(mount):
    return sum(p.stat().st_blocks * 512 for p in Path(mount).rglob("*") if p.is_file())


def stored(mount, seed=1):
    """Which of the first 200 blocks of the prompt contents name."""
    keys = [b["key"] for b in payload_keys(mount, seed)]
    have = {k for k, _ in payloads(mount)}
    return [i for i, k in enumerate(keys) if k in have]


def payload_keys(mount, seed):
    r = run("pin", mount / "r", "--prompt", "-", "--json", input=prompt(seed, 200 * TOKENS))
    assert r.returncode == 0, words(r)
    made = json.loads(r.stdout)
    path = space_dir(mount) / (made["id"] + ".pin")
    keys = read_pin(path)["keys"]
    path.unlink()
    return [{"key": k} for k in keys]


def shrink(mount, to, *args, code=0):
    return answer("gc", mount / "r", "--to", to, "--grace", 1, "--silence", 1, *args, code=code)


def test_gc_to_a_size_evicts_the_oldest(tmp_path):
    fill(tmp_path, 200)
    before = used(tmp_path)
    to = before // 2
    would = shrink(tmp_path, to, "--dry-run")
    assert used(tmp_path) == before and would["would_remove"] >= 2
    done = shrink(tmp_path, to)
    assert [f["path"] for f in done["files"]] == [f["path"] for f in would["files"]]
    assert {f["why"] for f in done["files"]} == {"evicted"}
    assert to - 300000 < used(tmp_path) <= to and done["disk_bytes"] == would["disk_bytes"] == before - used(tmp_path)
    left = stored(tmp_path)
    assert left == list(range(200 - len(left), 200)) and 60 < len(left) < 140
    assert hits(tmp_path, 200) == (len(left), 0)
    assert verify(tmp_path)["summary"]["blocks"] == len(left)
    assert not {"CF402", "CF403", "CF400"} & set(ids(fsck(tmp_path)))
    assert shrink(tmp_path, to)["removed"] == 0


def test_gc_to_a_size_keeps_what_is_pinned(tmp_path, ask):
    mount = tmp_path / "m"
    mount.mkdir()
    fill(mount, 200)
    answer("pin", mount / "r", "--prompt", ask(5))
    r = run("gc", mount / "r", "--to", "4K", "--grace", 1)
    assert r.returncode == 1 and "to pins (1 segments left)" in r.stderr, words(r)
    left = stored(mount)
    assert left[:5] == [0, 1, 2, 3, 4] and len(left) < 20
    assert explain(mount, "--prompt", ask(5), "--read", code=0)["run"] == 5


def test_gc_to_a_size_keeps_what_was_used(tmp_path):
    """The touches of heads count, as they do for engines: the oldest blocks were read, and others go."""
    w = Writer(tmp_path).put(200)
    for _ in range(20):
        assert w.say("check 12") == "hits 12 wrong 0"
    w.close()
    shrink(tmp_path, used(tmp_path) // 2)
    assert stored(tmp_path)[:12] == list(range(12))


def test_gc_to_a_size_leaves_a_live_writer_its_last_segments(tmp_path):
    w = Writer(tmp_path).put(200)
    shrink(tmp_path, "4K", code=1)
    left = len(stored(tmp_path))
    assert 15 <= left <= 50
    assert re.fullmatch(rf"hits {left} wrong 0", w.say("check 200"))
    w.put(60)
    assert w.say("check 60") == "hits 60 wrong 0"
    w.close()


def test_gc_to_a_size_takes_what_a_killed_writer_left(tmp_path):
    Writer(tmp_path).put(100).kill()
    assert shrink(tmp_path, used(tmp_path) // 3)["removed"] > 0
    n = len(stored(tmp_path))
    assert 0 < n < 40 and hits(tmp_path, 200) == (n, 0)


def test_gc_to_a_size_does_not_bring_deleted_blocks_back(tmp_path):
    """The note that block 3 is deleted stands in a later segment, which therefore does not go before the block does."""
    w = Writer(tmp_path).put(100)
    assert w.say("delete 60") == "deleted 1 flush 0"
    w.close()
    w = Writer(tmp_path, seed=2).put(100)
    for _ in range(20):
        w.say("check 100")
    w.close()
    for to in (used(tmp_path) * 3 // 4, used(tmp_path) // 2, used(tmp_path) // 4):
        shrink(tmp_path, to)
        w = Writer(tmp_path)
        assert re.fullmatch(r"hits \d+ wrong 0", w.say("check 60"))
        keys = payload_keys(tmp_path, 1)
        w.close()
        gone = run("explain", tmp_path / "r", "--key", keys[60]["key"], "--json")
        assert json.loads(gone.stdout)["blocks"][0]["why"] in ("dead", "evicted"), words(gone)


def test_wipe_shows_first(store):
    before = snapshot(store)
    r = run("wipe", store / "r", "--all")
    assert r.returncode == 0 and "would remove" in r.stdout and "--yes" in r.stderr, words(r)
    r = run("wipe", store / "r", "--all", "--yes", "--dry-run")
    assert r.returncode == 0 and snapshot(store) == before, words(r)


def test_wipe_takes_a_space_a_model_or_everything(store):
    fill(store, 4, name="other", model="m9")
    fill(store, 4, name="third", model="m9")
    one = answer("wipe", store / "r", "--space", "other", "--yes")
    assert {f["space"].split("-")[0] for f in one["files"]} == {"other"}
    names = {p.name.split("-")[0] for p in (store / "r").iterdir() if p.is_dir()}
    assert names == {"main", "third"}
    answer("wipe", store / "r", "--model", "m9", "--yes")
    assert {p.name.split("-")[0] for p in (store / "r").iterdir() if p.is_dir()} == {"main"}
    assert hits(store, 40) == (40, 0)
    fill(store, 2, name="other", model="m9")
    answer("wipe", store / "r", "--all", "--yes")
    assert sorted(p.name for p in (store / "r").iterdir()) == ["cistern.json", "salt"]
    fill(store, 2)
    assert hits(store, 2) == (2, 0)


def test_wipe_takes_a_name_as_a_whole(store):
    for name in ("mainly", "main2", "main-a"):
        fill(store, 2, name=name)
    dirs = {p.name.rsplit("-", 1)[0]: p.name for p in (store / "r").iterdir() if p.is_dir()}
    assert set(dirs) == {"main", "mainly", "main2", "main-a"}
    one = run("wipe", store / "r", "--space", "main")
    assert one.returncode == 0 and f"files, " in one.stdout and f" from {store}/r: {dirs['main']}\n" in one.stdout, words(one)
    for nothing in ("mai", "main-", "mainly-", dirs["main"] + "0", "none"):
        r = run("wipe", store / "r", "--space", nothing, "--yes")
        assert r.returncode == 1 and "no such space" in r.stderr and "removed 0 files" in r.stdout, words(r)
    for by in (dirs["main2"][:-20], dirs["mainly"]):
        done = answer("wipe", store / "r", "--space", by, "--yes")
        assert done["spaces"] == [d for d in dirs.values() if d.startswith(by)] and done["root"] == f"{store}/r"
    done = answer("wipe", store / "r", "--space", "main", "--yes")
    assert done["spaces"] == [dirs["main"]] and {f["space"] for f in done["files"]} == {dirs["main"]}
    assert [p.name for p in (store / "r").iterdir() if p.is_dir()] == [dirs["main-a"]]


def test_wipe_by_digits_wants_them_to_be_one_s(store):
    for dir in ("x-" + "a" * 32, "x-" + "a" * 31 + "b", "x-a-" + "0" * 32):
        shutil.copytree(space_dir(store), store / "r" / dir)
    assert answer("wipe", store / "r", "--space", "x-aa", code=1)["spaces"] == []
    assert answer("wipe", store / "r", "--space", "x-a")["spaces"] == ["x-a-" + "0" * 32]  # a name goes before digits
    assert answer("wipe", store / "r", "--space", "x-" + "a" * 32)["spaces"] == ["x-" + "a" * 32]
    assert sorted(answer("wipe", store / "r", "--space", "x")["spaces"]) == ["x-" + "a" * 32, "x-" + "a" * 31 + "b"]


def test_wipe_by_age(store):
    assert answer("wipe", store / "r", "--older-than", "1h", "--yes")["removed"] == 0
    for p in (store / "r").rglob("*"):
        os.utime(p, (1, 1))
    # Heads say when they were written, too, and that was now.
    assert answer("wipe", store / "r", "--older-than", "1h", "--yes")["removed"] == 0
    for p in files(store, "r/*/s0of1/*.head"):
        p.unlink()
    with short_silence(store):
        assert answer("wipe", store / "r", "--older-than", "1h", "--yes", "--silence", 1)["removed"] > 4


def test_wipe_keeps_what_is_not_ours(store):
    note = space_dir(store) / "s0of1" / "notes.txt"
    note.write_text("mine")
    answer("wipe", store / "r", "--all", "--yes")
    left = {p.name for p in (store / "r").rglob("*") if p.is_file()}
    assert left == {"cistern.json", "salt", "notes.txt"}


def test_wipe_refuses_a_live_writer_unless_forced(tmp_path):
    w = Writer(tmp_path).put(4)
    before = snapshot(tmp_path)
    with short_silence(tmp_path):
        r = answer("wipe", tmp_path / "r", "--all", "--yes", "--silence", 1, code=1)
    assert r["left"] == 1 and r["removed"] == 0
    assert snapshot(tmp_path) == before
    assert w.say("check 4") == "hits 4 wrong 0"
    assert answer("wipe", tmp_path / "r", "--all", "--yes", "--force")["removed"] >= 4
    assert re.fullmatch(r"hits \d wrong 0", w.say("check 4"))
    w.close()


@pytest.mark.parametrize("of_root, silence", [(None, 59), (3600000, 60)])
@pytest.mark.parametrize("what", [["--all"], ["--tenant", "x"]])
def test_wipe_refuses_a_silence_in_which_idle_writers_look_dead(tmp_path, of_root, silence, what):
    """Heads change four times in the silence of the root, and no more often than that when nothing is stored."""
    w = Writer(tmp_path).put(4)
    with short_silence(tmp_path, ms=of_root) if of_root else contextlib.nullcontext():
        before = snapshot(tmp_path)
        for more in (["--yes"], ["--dry-run"]):
            r = run("wipe", tmp_path / "r", *what, "--silence", silence, *more)
            assert r.returncode == 2 and f"the {of_root or 60000} ms of this root" in r.stderr, words(r)
            assert ("add --force" in r.stderr) == (what == ["--all"]) and r.stdout == "", words(r)
        assert snapshot(tmp_path).keys() == before.keys()
        if what == ["--all"]:
            assert answer("wipe", tmp_path / "r", "--all", "--yes", "--silence", silence, "--force")["removed"] >= 4
    w.close()


def test_gc_and_repair_warn_of_a_short_silence(store):
    for verb in (["gc"], ["fsck", "--repair"]):
        short, long = (run(*verb, store / "r", "--silence", n) for n in (59, 60))
        assert short.returncode == long.returncode == 0, words(short) + words(long)
        assert "shorter than the 60000 ms of this root" in short.stderr and "shorter" not in long.stderr, words(short)
    assert "shorter" not in run("fsck", store / "r", "--silence", 1).stderr


@pytest.mark.parametrize("args,expected", [
    (["wipe"], "wipe what?"),
    (["wipe", "--all", "--model", "x"], "wipe what?"),
    (["wipe", "--older-than", "soon"], "an age"),
    (["wipe", "--all", "--tenant", "x"], "wipe what?"),
    (["wipe", "--tenant", ""], "value is empty"),
    (["wipe", "--tenant", "x", "--force"], "--force does not go"),
    (["wipe", "--tenant", "x", "--tenant-file", "y"], "choose one"),
    (["wipe", "--all", "--tenant-file", "x"], "wipe what?"),
    (["wipe", "--tenant", "x", "--older-than", "1h"], "--older-than does not go"),
    (["wipe", "--all", "--grace", "3"], "belongs to --tenant"),
])
def test_usage_of_wipe(args, expected):
    r = run(*args)
    assert r.returncode == 2 and expected in r.stderr, words(r)


# ---- wipe of a tenant ----

ACME, GLOBEX = "acme-salt-7d1f", "globex-salt-0b2c"  # what payloads of theirs are signed with


def wipe_tenant(mount, *args, tenant=ACME, code=0, yes=True):
    with short_silence(mount):
        return answer("wipe", mount / "r", "--tenant", tenant, "--grace", 1, "--silence", 1, *(["--yes"] if yes else []),
                      *args, code=code)


def lies_on_disk(mount, tenant):
    return [p for p in Path(mount).rglob("*") if p.is_file() and tenant.encode() in p.read_bytes()]


def accepted(mount, *args):
    """By the independent reader, with payloads; and fsck has nothing but notes."""
    independent = subprocess.run([sys.executable, str(TOP / "tools" / "cistern_read.py"), str(mount / "r")],
                                 stdout=subprocess.PIPE, text=True, timeout=120)
    assert independent.returncode == 0 and ":BAD" not in independent.stdout, independent.stdout
    r = fsck(mount, *args)
    assert r["summary"]["warnings"] == r["summary"]["errors"] == 0, r["findings"]


@pytest.fixture
def tenants(tmp_path):
    """Two tenants and nobody in particular, the same prompt, one after the other."""
    mount = tmp_path / "mount"
    mount.mkdir()
    for tenant in (ACME, GLOBEX, None):
        fill(mount, 40, tenant=tenant)
    return mount


def test_wipe_of_a_tenant(tenants):
    assert lies_on_disk(tenants, ACME) and lies_on_disk(tenants, GLOBEX)
    assert hits(tenants, 40, tenant=ACME) == (40, 0)
    r = wipe_tenant(tenants)
    assert (r["tenant_blocks"], r["tenant_bytes"], r["other_blocks"], r["left"]) == (40, 40 * 13000, 0, 0)
    assert lies_on_disk(tenants, ACME) == []
    assert hits(tenants, 40, tenant=ACME) == (0, 0)
    assert hits(tenants, 40, tenant=GLOBEX) == hits(tenants, 40) == (40, 0)
    accepted(tenants)
    assert not [f for f in fsck(tenants)["findings"] if f["id"] != "CF206"]
    fill(tenants, 12, tenant=ACME)  # it comes back as a customer
    assert hits(tenants, 40, tenant=ACME) == (12, 0)


@pytest.mark.parametrize("text", [ACME, ACME + "\n"])
@pytest.mark.parametrize("by", ["file", "-"])
def test_the_salt_of_a_tenant_from_a_file(tenants, tmp_path, by, text):
    """Where neither ps nor the history of a shell shows it."""
    path = tmp_path / "salt.txt"
    path.write_text(text)
    with path.open() as f:
        r = answer("wipe", tenants / "r", "--tenant-file", path if by == "file" else "-", "--yes", "--grace", 1, stdin=f)
    assert r["tenant_blocks"] == 40 and lies_on_disk(tenants, ACME) == [] and lies_on_disk(tenants, GLOBEX)


@pytest.mark.parametrize("text", ["", "\n", ACME + "\n\n", ACME + "\nmore", "x" * 65536])
def test_a_file_that_is_not_a_salt(tenants, tmp_path, text):
    path = tmp_path / "salt.txt"
    path.write_text(text)
    before = snapshot(tenants)
    r = run("wipe", tenants / "r", "--tenant-file", path, "--yes")
    assert r.returncode == 2 and "one line" in r.stderr and snapshot(tenants) == before, words(r)
    r = run("wipe", tenants / "r", "--tenant-file", tmp_path / "none", "--yes")
    assert r.returncode == 3 and "No such file" in r.stderr, words(r)
    r = run("wipe", tenants / "r", "--tenant-file", tmp_path, "--yes")
    assert r.returncode == 3 and "directory" in r.stderr, words(r)


def test_wipe_of_a_tenant_shows_first(tenants):
    before = snapshot(tenants)
    r = wipe_tenant(tenants, yes=False)
    assert r["tenant_blocks"] == 40 and r["would_remove"] > 4
    assert {f["why"].split(" ", 1)[1] for f in r["files"]} == {"blocks of the tenant"}
    text = run("wipe", tenants / "r", "--tenant", ACME, "--yes", "--dry-run")
    assert text.returncode == 0 and "40 blocks of the tenant" in text.stdout, words(text)
    assert snapshot(tenants) == before


@pytest.mark.parametrize("tenant", ["nobody", ACME[:-1], ACME + "x"])
def test_wipe_of_a_tenant_that_is_not_there(tenants, tenant):
    before = snapshot(tenants)
    r = run("wipe", tenants / "r", "--tenant", tenant, "--yes")
    assert r.returncode == 0 and "no block of this tenant was found" in r.stderr, words(r)
    assert snapshot(tenants) == before


def test_wipe_of_a_tenant_in_some_spaces(tenants):
    fill(tenants, 8, name="other", model="m2", tenant=ACME)
    fill(tenants, 8, name="third", model="m3", tenant=ACME)
    assert wipe_tenant(tenants, "--space", "other")["tenant_blocks"] == 8
    assert wipe_tenant(tenants, "--model", "m3")["tenant_blocks"] == 8
    assert hits(tenants, 40, tenant=ACME) == (40, 0)
    assert wipe_tenant(tenants)["tenant_blocks"] == 40
    assert lies_on_disk(tenants, ACME) == []


def test_wipe_of_a_tenant_takes_what_shares_its_segments(tmp_path):
    w = Writer(tmp_path, tenant=GLOBEX).put(24)
    assert w.say(f"tenant {ACME}") == "tenant 0"
    w.put(4)
    assert w.say(f"tenant {GLOBEX}") == "tenant 0"
    w.put(60).close()
    would = wipe_tenant(tmp_path, yes=False)
    mixed = [f for f in would["files"] if "of others" in f["why"]]
    assert 0 < would["other_blocks"] < 60 and mixed, would
    r = wipe_tenant(tmp_path)
    assert (r["tenant_blocks"], r["other_blocks"], r["other_bytes"]) == (4, would["other_blocks"], would["other_blocks"] * 13000)
    assert lies_on_disk(tmp_path, ACME) == []
    assert hits(tmp_path, 60, tenant=ACME) == (0, 0)
    assert hits(tmp_path, 60, tenant=GLOBEX) == (60 - r["other_blocks"], 0)
    accepted(tmp_path)


def test_wipe_of_a_tenant_beside_engines_that_go_on(tmp_path):
    """They hear of it by themselves; what they may still write to is left, and goes when they have closed."""
    fill(tmp_path, 10, seed=2, tenant=ACME)
    acme, globex = Writer(tmp_path, tenant=ACME, list_ms=200), Writer(tmp_path, tenant=GLOBEX, list_ms=200)
    acme.put(70)  # more segments than may grow
    globex.put(20)
    other = Writer(tmp_path, tenant=ACME, list_ms=200)
    assert other.say("match 70") == "match 70"
    r = wipe_tenant(tmp_path, code=1)
    assert r["tenant_blocks"] == 80 and 1 <= r["left"] <= 2 and r["removed"] > 4
    left = [f for f in r["files"] if f["result"] == "left"]
    assert len(left) == r["left"] and all("wipe again" in f["why"] for f in left)
    for w in (acme, other):
        end = time.monotonic() + 20
        while w.say("match 70") != "match 0":
            assert time.monotonic() < end
            time.sleep(0.05)
        assert w.say("check 70") == "hits 0 wrong 0"
    assert globex.say("check 20") == "hits 20 wrong 0"
    assert hits(tmp_path, 70, tenant=ACME) == hits(tmp_path, 10, seed=2, tenant=ACME) == (0, 0)
    assert {p.stem for p in lies_on_disk(tmp_path, ACME)} == {Path(f["path"]).stem for f in left}
    assert wipe_tenant(tmp_path, code=1)["left"] == r["left"]  # nothing new to say
    globex.put(30).close()
    other.close()
    acme.close()
    assert wipe_tenant(tmp_path)["left"] == 0
    assert lies_on_disk(tmp_path, ACME) == []
    assert hits(tmp_path, 30, tenant=GLOBEX) == (30, 0)
    accepted(tmp_path)
    assert [p for p in files(tmp_path, "r/*/s0of1/*.toc") if p.stat().st_size <= 4096 + 128] == [], "notes about nothing"


def test_a_live_engine_of_a_tenant_goes_on(tmp_path):
    w = Writer(tmp_path, tenant=ACME, list_ms=200).put(20)
    assert wipe_tenant(tmp_path, code=1)["left"] >= 1
    assert w.say("check 20") == "hits 0 wrong 0"
    w.put(20)
    assert w.say("check 20") == "hits 20 wrong 0"
    w.close()
    assert hits(tmp_path, 20, tenant=ACME) == (20, 0)


def test_a_tenant_of_a_writer_that_was_killed(tmp_path):
    w = Writer(tmp_path, tenant=ACME).put(20)
    w.kill()
    fill(tmp_path, 20)
    assert wipe_tenant(tmp_path)["tenant_blocks"] == 20
    assert lies_on_disk(tmp_path, ACME) == [] and hits(tmp_path, 20) == (20, 0)


def test_wipe_of_a_tenant_keeps_what_its_segments_say_of_others(tmp_path):
    """The word that a block of nobody is deleted lies among the tenant's blocks."""
    fill(tmp_path, 20)
    other = Writer(tmp_path)
    assert other.say("delete 3") == "deleted 1 flush 0"
    assert other.say(f"tenant {ACME}") == "tenant 0"
    other.put(9).close()
    wipe_tenant(tmp_path)
    assert lies_on_disk(tmp_path, ACME) == []
    assert hits(tmp_path, 20) == (19, 0)
    assert wipe_tenant(tmp_path)["tenant_blocks"] == 0
    assert hits(tmp_path, 20) == (19, 0)


def test_wipe_of_a_tenant_in_all_shards(tmp_path):
    for shard in range(2):
        for tenant in (ACME, GLOBEX):
            fill(tmp_path, 20, shard=shard, shards=2, tenant=tenant)
    assert wipe_tenant(tmp_path)["tenant_blocks"] == 40
    assert lies_on_disk(tmp_path, ACME) == []
    for shard in range(2):
        assert hits(tmp_path, 20, shard=shard, shards=2, tenant=GLOBEX) == (20, 0)
        assert hits(tmp_path, 20, shard=shard, shards=2, tenant=ACME) == (0, 0)


@pytest.mark.parametrize("moment", ["contents", "data"])
def test_wipe_of_a_tenant_that_is_killed_and_done_again(tenants, moment):
    tocs = len(files(tenants, "r/*/s0of1/*.toc"))
    p = subprocess.Popen([CISTERN, "wipe", tenants / "r", "--tenant", ACME, "--yes", "--grace", "1" if moment == "data" else "60"],
                         env=clean_env(), stdout=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while moment == "contents" and len(files(tenants, "r/*/s0of1/*.toc")) >= tocs or \
            moment == "data" and p.poll() is None and len(files(tenants, "r/*/s0of1/*.seg")) >= tocs:
        assert time.monotonic() < end
        time.sleep(0.001)
    p.kill()
    p.wait()
    assert hits(tenants, 40, tenant=ACME) == (0, 0)
    wipe_tenant(tenants)
    assert lies_on_disk(tenants, ACME) == []
    assert hits(tenants, 40, tenant=GLOBEX) == hits(tenants, 40) == (40, 0)


def test_wipe_of_a_tenant_takes_its_pins_along(tenants, ask):
    answer("pin", tenants / "r", "--prompt", ask(4), "--tenant", ACME, "--label", "acme")
    answer("pin", tenants / "r", "--prompt", ask(4), "--label", "nobody")
    wipe_tenant(tenants)
    assert [p["label"] for p in pins(tenants)] == ["nobody"]


def test_wipe_of_a_tenant_in_an_encrypted_root(tmp_path):
    key = key_file(tmp_path, "key", KEYS[0])
    mount = tmp_path / "m"
    mount.mkdir()
    for tenant in (ACME, GLOBEX):
        fill(mount, 40, tenant=tenant, key=key)
    live = Writer(mount, tenant=ACME, key=key, list_ms=200).put(50)
    before = snapshot(mount)
    wanted = json.loads((mount / "r" / "cistern.json").read_text())["key_id"]
    r = run("wipe", mount / "r", "--tenant", ACME, "--yes")
    assert r.returncode not in (0, 1) and wanted in r.stderr, words(r)
    heads = {p for p in before if p.suffix == ".head"}
    assert {p: b for p, b in snapshot(mount).items() if p not in heads} == {p: b for p, b in before.items() if p not in heads}
    r = wipe_tenant(mount, "--key-file", key, code=1)
    assert r["tenant_blocks"] == 50 and r["left"] >= 1
    assert live.say("check 50") == "hits 0 wrong 0"
    assert hits(mount, 50, tenant=ACME, key=key) == (0, 0)
    live.close()
    wipe_tenant(mount, "--key-file", key)
    assert hits(mount, 40, tenant=GLOBEX, key=key) == (40, 0)
    assert wipe_tenant(mount, "--key-file", key)["tenant_blocks"] == 0
    r = fsck(mount, "--key-file", key)
    assert r["summary"]["warnings"] == r["summary"]["errors"] == 0, r["findings"]


def test_wipe_of_a_tenant_wants_the_salt(tenants):
    (tenants / "r" / "salt").write_bytes(b"short")
    r = run("wipe", tenants / "r", "--tenant", ACME, "--yes")
    assert r.returncode not in (0, 1) and "salt" in r.stderr, words(r)
    (tenants / "r" / "salt").unlink()
    r = run("wipe", tenants / "r", "--tenant", ACME, "--yes")
    assert r.returncode not in (0, 1), words(r)


def test_wipe_of_a_tenant_leaves_what_nobody_can_read(tenants):
    path = toc(tenants)
    flip(path, 20)
    r = wipe_tenant(tenants, code=1)
    left = [f for f in r["files"] if f["result"] == "left"]
    assert [Path(f["path"]).stem for f in left] == [path.stem] and "cannot be told" in left[0]["why"]
    assert path.exists()


# ---- retire ----


def test_retire_marks_a_space_and_takes_it_back(store):
    fill(store, 4, name="other", model="m9")
    mark = next((store / "r").glob("main-*")) / "retired"
    before = snapshot(store)
    r = run("retire", store / "r", "--space", "main", "--dry-run")
    assert r.returncode == 0 and "would be retired" in r.stdout and snapshot(store) == before, words(r)
    one = answer("retire", store / "r", "--space", "main")
    assert [(s["result"], s["retired"], s["changed"]) for s in one["spaces"]] == [("retired", True, True)]
    assert isinstance(json.loads(mark.read_text())["retired_s"], int)
    again = answer("retire", store / "r", "--model", "m1")
    assert [(s["result"], s["changed"]) for s in again["spaces"]] == [("was retired already", False)]
    assert any(n["note"] == "retired" for n in answer("stat", "--mount", store, "--root", "r")["notes"])
    assert answer("fsck", store / "r")["findings"] == []
    assert hits(store, 40) == (40, 0)
    assert run("retire", store / "r", "--space", "main", "--undo").returncode == 0
    assert not mark.exists() and snapshot(store) == before
    assert answer("retire", store / "r", "--space", "nobody", code=1)["spaces"] == []


def test_ttl_is_told_changed_and_taken_back(store):
    fill(store, 4, name="other", model="m9")
    file = next((store / "r").glob("main-*")) / "ttl"
    before = snapshot(store)
    assert [s["ttl_seconds"] for s in answer("ttl", store / "r")["spaces"]] == [None, None]
    assert "not said" in run("ttl", store / "r").stdout
    r = run("ttl", store / "r", "--space", "main", "--seconds", "86400", "--dry-run")
    assert r.returncode == 0 and "would be changed" in r.stdout and snapshot(store) == before, words(r)
    one = answer("ttl", store / "r", "--space", "main", "--seconds", "86400")["spaces"]
    assert [(s["result"], s["ttl_seconds"], s["changed"]) for s in one] == [("changed", 86400, True)]
    assert json.loads(file.read_text()) == {"ttl_seconds": 86400}
    again = answer("ttl", store / "r", "--model", "m1", "--seconds", "86400")["spaces"]
    assert [(s["result"], s["changed"]) for s in again] == [("was so already", False)]
    assert answer("fsck", store / "r")["findings"] == []
    assert hits(store, 40) == (40, 0)
    none = answer("ttl", store / "r", "--space", "main", "--none")["spaces"]
    assert [(s["ttl_seconds"], s["changed"]) for s in none] == [(0, True)] and file.exists()
    file.write_text("{")
    assert answer("ttl", store / "r", "--space", "main", code=4)["spaces"][0]["result"] == "failed"
    assert answer("ttl", store / "r", "--space", "main", "--seconds", "5")["spaces"][0]["ttl_seconds"] == 5
    assert answer("ttl", store / "r", "--space", "nobody", code=1)["spaces"] == []


@pytest.mark.parametrize("args", [["--seconds", "5"], ["--none"], ["--space", "main", "--none", "--seconds", "5"],
                                  ["--space", "main", "--seconds", "0"]])
def test_usage_of_ttl(store, args):
    r = run("ttl", store / "r", *args)
    assert r.returncode == 2, words(r)


def test_wipe_takes_the_mark_too(store):
    answer("retire", store / "r", "--space", "main")
    answer("ttl", store / "r", "--space", "main", "--seconds", "5")
    answer("wipe", store / "r", "--all", "--yes")
    assert sorted(p.name for p in (store / "r").iterdir()) == ["cistern.json", "salt"]


def test_usage_of_retire():
    r = run("retire")
    assert r.returncode == 2 and "retire what?" in r.stderr, words(r)


# ---- encryption ----

def key_file(tmp_path, name, *keys):
    path = tmp_path / name
    path.write_text("".join(k + "\n" for k in keys))
    return path


KEYS = ["%02x" % (i * 37 + 11) * 32 for i in range(2)]


def test_encrypted_roots_are_looked_at_with_and_without_the_key(tmp_path):
    """Structure is checked without the key; what needs records or payloads says which key it wants."""
    key, wrong = key_file(tmp_path, "key", KEYS[0]), key_file(tmp_path, "wrong", KEYS[1])
    fill(tmp_path, 40, key=key)
    root = tmp_path / "r"
    wanted = json.loads((root / "cistern.json").read_text())["key_id"]

    for args in ([], ["--key-file", wrong]):
        locked = fsck(tmp_path, *args)
        assert ids(locked) == ["CF311"], locked["findings"]
        assert all(wanted in f["detail"] for f in locked["findings"])
        for verb in (["verify", root], ["export", "main", tmp_path / "no.cst", "--mount", tmp_path, "--root", "r"],
                     ["explain", "--mount", tmp_path, "--root", "r", "--keys", "00" * 32]):
            r = run(*verb, *args)
            assert r.returncode not in (0, 1), words(r)
            assert wanted in r.stderr or verb[0] == "explain", words(r)
    for verb in ("ls", "stat"):
        assert run(verb, "--mount", tmp_path, "--root", "r").returncode == 0
    before = snapshot(root)
    assert run("gc", root, "--silence", 1).returncode == 0
    assert snapshot(root) == before

    assert ids(fsck(tmp_path, "--key-file", key)) == []
    seen = answer("verify", root, "--key-file", key)["summary"]
    assert seen["blocks"] == 40 and seen["bad"] == 0
    flip(files(tmp_path, "r/*/s0of1/*.seg")[0], 5)
    assert answer("verify", root, "--key-file", key, code=1)["summary"]["bad"] == 1


def test_stat_counts_segments_for_each_key(tmp_path):
    """Rotation: a key that has no segments any more may go."""
    fill(tmp_path, 20, key=key_file(tmp_path, "old", KEYS[0]))
    old = json.loads((tmp_path / "r" / "cistern.json").read_text())["key_id"]
    before = answer("stat", "--mount", tmp_path, "--root", "r")["keys"]
    both = key_file(tmp_path, "both", KEYS[1], KEYS[0])
    fill(tmp_path, 40, key=both)
    new = json.loads((tmp_path / "r" / "cistern.json").read_text())["key_id"]
    for args in ([], ["--key-file", both]):
        keys = answer("stat", "--mount", tmp_path, "--root", "r", *args)["keys"]
        assert old != new and set(keys) == {old, new} and keys[old] == before[old] and keys[new] > 0
    assert hits(tmp_path, 40, key=both) == (40, 0)


def test_frames_are_checked_without_the_key(tmp_path):
    fill(tmp_path, 40, key=key_file(tmp_path, "key", KEYS[0]))
    flip(toc(tmp_path), 4096 + 200)
    assert "CF303" in ids(fsck(tmp_path, code=1))


def test_a_plain_segment_in_an_encrypted_root_is_told(tmp_path):
    key = key_file(tmp_path, "key", KEYS[0])
    fill(tmp_path, 20)
    fill(tmp_path, 20, key=key)
    result = fsck(tmp_path, "--key-file", key, code=1)
    assert ids(result) == ["CF312"]
    assert hits(tmp_path, 20, key=key) == (20, 0)


def test_exports_are_plain_and_imports_are_encrypted_again(tmp_path):
    """From one encrypted root through a stream, which a plain root takes too, into another with another key."""
    keys = [key_file(tmp_path, "a", KEYS[0]), key_file(tmp_path, "b", KEYS[1])]
    tops = [tmp_path / x for x in ("one", "two", "three")]
    for t in tops:
        t.mkdir()
    fill(tops[0], 40, key=keys[0])
    sent = export(tops[0], tmp_path / "x.cst", "--with-salt", "--key-file", keys[0])
    assert sent["blocks"] == 40
    assert answer("import", tmp_path / "x.cst", "--mount", tops[1], "--root", "r", "--key-file", keys[1])["blocks"] == 40
    assert answer("import", tmp_path / "x.cst", "--mount", tops[2], "--root", "r")["blocks"] == 40
    assert json.loads((tops[1] / "r" / "cistern.json").read_text())["format"] == 2
    assert ids(fsck(tops[1], "--key-file", keys[1])) == []
    assert hits(tops[1], 40, key=keys[1]) == hits(tops[0], 40, key=keys[0]) == hits(tops[2], 40) == (40, 0)
    plain = b"".join(p.read_bytes() for p in files(tops[2], "r/*/s0of1/*.seg"))
    sealed = b"".join(p.read_bytes() for p in files(tops[1], "r/*/s0of1/*.seg"))
    assert plain[:64] in (tmp_path / "x.cst").read_bytes() and plain[:64] not in sealed


# ---- export and import ----


def export(store, to, *args, space="main", code=0):
    return answer("export", space, to, "--mount", store, "--root", "r", *args, code=code)


def take_in(file, mount, *args, code=0):
    r = run("import", file, "--mount", mount, "--root", "r", *args, "--json")
    assert r.returncode == code, words(r)
    return json.loads(r.stdout) if code == 0 else r.stderr


@pytest.fixture
def exported(store, tmp_path):
    export(store, tmp_path / "x.cst", "--with-salt")
    return tmp_path / "x.cst"


def test_a_space_travels(store, tmp_path):
    """Out with the salt, into nothing: the same keys, the same bytes, and a good store."""
    sent = export(store, tmp_path / "x.cst", "--with-salt")
    assert sent["blocks"] == 64 and sent["bytes"] == 64 * 13000 and sent["skipped"] == 0
    assert not list(tmp_path.glob("*.part")) and (tmp_path / "x.cst").stat().st_mode & 0o77 == 0
    (tmp_path / "new").mkdir()
    got = take_in(tmp_path / "x.cst", tmp_path / "new")
    assert {k: got[k] for k in ("space", "segments", "blocks", "bytes")} == \
        {k: sent[k] for k in ("space", "segments", "blocks", "bytes")}
    assert hits(tmp_path / "new", 40) == (40, 0)
    assert hits(tmp_path / "new", 24, seed=2) == (24, 0)
    assert verify(tmp_path / "new")["summary"]["blocks"] == 64
    assert fsck(tmp_path / "new")["findings"] == []
    assert set(payloads(store)) == set(payloads(tmp_path / "new"))
    independent = subprocess.run([sys.executable, str(TOP / "tools" / "cistern_read.py"), str(tmp_path / "new" / "r")],
                                 stdout=subprocess.PIPE, text=True)
    assert independent.returncode == 0, independent.stdout


def test_several_shards_travel(tmp_path):
    for shard in range(3):
        fill(tmp_path, 30, shard=shard, shards=3)
    export(tmp_path, tmp_path / "x.cst", "--with-salt")
    (tmp_path / "new").mkdir()
    assert take_in(tmp_path / "x.cst", tmp_path / "new")["blocks"] == 90
    for shard in range(3):
        assert hits(tmp_path / "new", 30, shard=shard, shards=3) == (30, 0)


def test_through_a_pipe(store, tmp_path):
    (tmp_path / "new").mkdir()
    out = subprocess.run([CISTERN, "export", "main", "-", "--with-salt", "--mount", store, "--root", "r"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean_env())
    assert out.returncode == 0 and b"exported" in out.stderr
    back = subprocess.run([CISTERN, "import", "-", "--mount", tmp_path / "new", "--root", "r"], input=out.stdout,
                          stdout=subprocess.PIPE, env=clean_env())
    assert back.returncode == 0
    assert hits(tmp_path / "new", 40) == (40, 0)


def test_import_beside_what_is_there(store, tmp_path):
    """Into the same root: everything twice, and a live engine goes on meanwhile."""
    export(store, tmp_path / "x.cst")
    w = Writer(store, seed=3).put(10)
    take_in(tmp_path / "x.cst", store)
    assert w.say("check 10") == "hits 10 wrong 0"
    w.close()
    assert verify(store)["summary"]["blocks"] == 64 + 64 + 10
    assert fsck(store)["findings"] == []
    assert hits(store, 40) == (40, 0)


def set_capacity(mount, value):
    path = Path(mount) / "r" / "cistern.json"
    about = json.loads(path.read_text())
    about["capacity_bytes"] = value
    path.write_text(json.dumps(about))


def test_an_import_stays_within_the_capacity(tmp_path):
    """Beside what is there it does not fit, and nothing of it is left; with room it does."""
    mount = tmp_path / "m"
    mount.mkdir()
    fill(mount, 100)
    export(mount, tmp_path / "x.cst")
    set_capacity(mount, used(mount) * 3 // 2)
    before = snapshot(mount)
    assert "gc --to" in take_in(tmp_path / "x.cst", mount, code=3)
    assert snapshot(mount) == before
    set_capacity(mount, used(mount) * 2 + (1 << 20))
    assert take_in(tmp_path / "x.cst", mount)["blocks"] == 100
    assert used(mount) <= json.loads((mount / "r" / "cistern.json").read_text())["capacity_bytes"]
    assert hits(mount, 100) == (100, 0)


def test_another_salt_is_refused(store, exported, tmp_path):
    (tmp_path / "mount2").mkdir()
    fill(tmp_path / "mount2", 3)
    before = snapshot(tmp_path / "mount2")
    said = take_in(exported, tmp_path / "mount2", code=3)
    assert "another salt" in said and "CISTERN_ESPACE" in said
    assert snapshot(tmp_path / "mount2") == before
    export(store, tmp_path / "bare.cst")
    (tmp_path / "new").mkdir()
    said = take_in(tmp_path / "bare.cst", tmp_path / "new", code=3)
    assert "does not bring one" in said
    assert not (tmp_path / "new" / "r").exists()


def test_the_salt_is_in_the_file_only_when_asked(store, exported, tmp_path):
    export(store, tmp_path / "bare.cst")
    salt = (store / "r" / "salt").read_bytes()
    assert salt in exported.read_bytes() and salt not in (tmp_path / "bare.cst").read_bytes()


def test_bad_and_dead_blocks_stay_behind(tmp_path):
    w = Writer(tmp_path).put(20)
    assert w.say("delete 3") == "deleted 1 flush 0"
    w.close()
    found = payloads(tmp_path)
    path, at, n = next(v for k, v in sorted(found.items()) if k[1] == 1)
    overwrite(path, at, bytes(n))
    sent = export(tmp_path, tmp_path / "x.cst", "--with-salt", code=1)
    assert (sent["blocks"], sent["skipped"]) == (18, 1)
    (tmp_path / "new").mkdir()
    assert take_in(tmp_path / "x.cst", tmp_path / "new")["blocks"] == 18
    assert hits(tmp_path / "new", 20) == (18, 0)


def test_a_damaged_export_leaves_nothing(exported, tmp_path):
    """One bit anywhere, or any cut: refused, and the root is as it was."""
    data = exported.read_bytes()
    mount = tmp_path / "new"
    mount.mkdir()
    take_in(exported, mount)
    before = {k: v for k, v in snapshot(mount).items()}
    places = [3, 20, 50, 90, 125, 130, 150, 200, 4000] + list(range(600, len(data), len(data) // 20)) + [len(data) - 1]
    bad = tmp_path / "bad.cst"
    for at in places:
        bad.write_bytes(data[:at] + bytes([data[at] ^ 16]) + data[at + 1:])
        said = take_in(bad, mount, code=4)
        assert "damaged" in said or at < 8 and "not an export" in said, (at, said)
        assert snapshot(mount) == before, f"bit at {at}"
    for cut in [0, 1, 127, 128, 140, 160, 1000, len(data) // 2, len(data) - 32, len(data) - 1]:
        bad.write_bytes(data[:cut])
        assert "cut" in take_in(bad, mount, code=4), cut
        assert snapshot(mount) == before, f"cut at {cut}"
    bad.write_bytes(data + b"x")
    assert "behind the end" in take_in(bad, mount, code=4)
    assert snapshot(mount) == before


def test_a_damaged_export_does_not_leave_a_space(exported, tmp_path):
    mount = tmp_path / "new"
    mount.mkdir()
    data = exported.read_bytes()
    bad = tmp_path / "bad.cst"
    bad.write_bytes(data[:-100000])
    take_in(bad, mount, code=4)
    assert sorted(p.name for p in (mount / "r").rglob("*")) == ["cistern.json", "salt"]


def test_an_import_that_is_killed_shows_nothing(exported, tmp_path):
    """All but the end has come, then SIGKILL: no block is there, and gc removes the rest."""
    mount = tmp_path / "new"
    mount.mkdir()
    data = exported.read_bytes()
    p = subprocess.Popen([CISTERN, "import", "-", "--mount", mount, "--root", "r"], stdin=subprocess.PIPE,
                         env=clean_env())
    p.stdin.write(data[:-200])
    p.stdin.flush()
    p.kill()
    p.wait(60)
    p.stdin.close()
    if (mount / "r" / "cistern.json").exists():
        assert answer("stat", "--mount", mount, "--root", "r").get("blocks", 0) == 0
        answer("gc", mount / "r", "--silence", 1)
        assert not files(mount, "r/*/*/*.seg")
    take_in(exported, mount)
    assert hits(mount, 40) == (40, 0)


@pytest.mark.parametrize("args,code,expected", [
    (["export", "main"], 2, "a space and a file"),
    (["import"], 2, "a file is needed"),
    (["import", "/nonexistent", "--mount", "/tmp"], 3, "/nonexistent"),
])
def test_usage_of_transfer(args, code, expected):
    r = run(*args)
    assert r.returncode == code and expected in r.stderr, words(r)


def test_export_of_no_or_several_spaces(store, tmp_path):
    fill(store, 2, name="main", model="m2")
    r = run("export", "main", tmp_path / "x", "--mount", store, "--root", "r")
    assert r.returncode == 3 and "2 spaces" in r.stderr and not (tmp_path / "x").exists(), words(r)
    r = run("export", "nope", tmp_path / "x", "--mount", store, "--root", "r")
    assert r.returncode == 3 and "no space" in r.stderr and not list(tmp_path.glob("x*")), words(r)


# ---- pin, unpin, pins, warm ----


def read_pin(path):
    """The keys of a pin, checked as docs/FORMAT.md says."""
    data = path.read_bytes()
    fields = struct.unpack_from("<8sII32sQQQII64s40sQ", data)
    assert fields[0] == b"CISTNPN1" and fields[1:3] == (1, 0) and len(data) == 192 + 32 * fields[7]
    assert xxh3_64(data[:184] + bytes(8) + data[192:]) == fields[11]
    keys = [data[192 + 32 * i:224 + 32 * i].hex() for i in range(fields[7])]
    return {"space": fields[3], "expires": fields[5], "bytes": fields[6], "keys": keys,
            "label": fields[9].rstrip(b"\0").decode()}


def pins(store, *args):
    return answer("pins", store / "r", *args)["pins"]


def test_a_pin_comes_and_goes(store, ask):
    made = answer("pin", store / "r", "--prompt", ask(40), "--label", "system prompt")
    assert made["keys"] == 40 and made["not_stored"] == 0 and made["pin_bytes"] == 40 * 16384, made
    path = space_dir(store) / (made["id"] + ".pin")
    assert path.stat().st_mode & 0o77 == 0
    pin = read_pin(path)
    assert pin["space"] == space_fingerprint(store) and pin["label"] == "system prompt"
    assert pin["keys"] == keys_in_order(store) and pin["bytes"] == 40 * 16384 and pin["expires"] == 0
    (listed,) = pins(store)
    assert (listed["id"], listed["keys"], listed["state"]) == (made["id"], 40, "holds")
    assert fsck(store)["findings"] == []
    text = run("pins", store / "r")
    assert "system prompt" in text.stdout and "1 pins" in text.stdout, words(text)
    assert answer("unpin", "system prompt", store / "r")["pins"][0]["id"] == made["id"]
    assert pins(store) == [] and not path.exists()
    assert answer("unpin", made["id"], store / "r", code=1)["pins"] == []


def test_a_pin_by_keys_and_its_expiry(store):
    keys = keys_in_order(store)
    made = answer("pin", store / "r", "--key", ",".join(keys[:2]), "--expires", "1h")
    pin = read_pin(space_dir(store) / (made["id"] + ".pin"))
    assert pin["keys"] == keys[:2] and 3500 < pin["expires"] - time.time() <= 3600
    assert answer("unpin", made["id"], store / "r")["pins"]
    assert answer("pin", store / "r", "--key", keys[0], "--dry-run")["id"] == ""
    assert pins(store) == []


def test_what_is_not_stored_yet_counts_as_full_blocks(store, ask):
    made = answer("pin", store / "r", "--prompt", ask(50))
    assert made["not_stored"] == 10 and made["pin_bytes"] == 50 * 16384


def test_more_than_half_of_the_capacity_is_refused(store, ask):
    json_path = store / "r" / "cistern.json"
    about = json.loads(json_path.read_text())
    about["capacity_bytes"] = 128 * 16384
    json_path.write_text(json.dumps(about))
    assert answer("pin", store / "r", "--prompt", ask(24, seed=2))["most_bytes"] == 64 * 16384
    before = snapshot(store)
    r = run("pin", store / "r", "--prompt", ask(41))
    assert r.returncode == 3 and "half of the capacity" in r.stderr, words(r)
    assert snapshot(store) == before
    made = answer("pin", store / "r", "--prompt", ask(40))
    assert made["pinned_bytes"] == made["most_bytes"]


def test_gc_removes_expired_pins_and_keeps_others(store, ask):
    made = answer("pin", store / "r", "--prompt", ask(4))
    plant_pin(store, expires=7)
    assert {p["state"] for p in pins(store)} == {"holds", "expired"}
    assert answer("gc", store / "r", "--silence", 1, "--dry-run")["would_remove"] == 1
    assert answer("gc", store / "r", "--silence", 1)["removed"] == 1
    assert [p["id"] for p in pins(store)] == [made["id"]]
    plant_pin(store, expires=7)
    assert fsck(store, "--repair")["summary"]["repaired"] == 1
    assert [p["id"] for p in pins(store)] == [made["id"]]


@pytest.mark.parametrize("kw,detail", [({"space": bytes(32)}, "another space"), ({"flags": 1}, "format version 1, flags"),
                                       ({"version": 2}, "format version 2")])
def test_a_pin_that_is_not_valid(store, kw, detail):
    plant_pin(store, **kw)
    (finding,) = [f for f in fsck(store, code=1)["findings"] if f["id"] == "CF120"]
    assert detail in finding["detail"]
    assert pins(store)[0]["state"] == "not valid"
    assert answer("unpin", "00000000000000aa", store / "r")["pins"]
    assert pins(store) == []


def test_wipe_takes_pins_along(store, ask):
    answer("pin", store / "r", "--prompt", ask(4))
    answer("wipe", store / "r", "--all", "--yes")
    assert sorted(p.name for p in (store / "r").iterdir()) == ["cistern.json", "salt"]


def test_an_export_has_no_pins(store, tmp_path, ask):
    answer("pin", store / "r", "--prompt", ask(4))
    export(store, tmp_path / "x.cst", "--with-salt")
    (tmp_path / "new").mkdir()
    take_in(tmp_path / "x.cst", tmp_path / "new")
    assert pins(tmp_path / "new") == []


def warm(store, *args, code=0):
    return answer("warm", store / "r", *args, code=code)


def test_warm_reads_and_verifies(store, ask):
    r = warm(store, "--prompt", ask(40))
    assert (r["blocks"], r["hits"], r["missing"], r["bad"]) == (40, 40, 0, 0)
    assert r["bytes"] == 40 * 13000 and r["not_warmed"] == []
    text = run("warm", store / "r", "--prompt", ask(40))
    assert text.returncode == 0 and "40 read and verified" in text.stdout, words(text)


def test_warm_tells_what_is_missing_and_what_is_bad(store, ask):
    keys = keys_in_order(store)
    path, offset, length = payloads(store)[keys[11], 1]
    overwrite(path, offset, bytes(length))
    r = warm(store, "--prompt", ask(45), code=1)
    assert (r["hits"], r["missing"], r["bad"]) == (39, 5, 1)
    assert [b["index"] for b in r["not_warmed"]] == [11, 40, 41, 42, 43, 44]


def test_warm_all_shards_and_pin(tmp_path, ask):
    mount = tmp_path / "m"
    mount.mkdir()
    fill(mount, 20, shard=0, shards=2)
    fill(mount, 12, shard=1, shards=2)
    r = warm(mount, "--prompt", ask(20), "--pin", "--label", "both", code=1)
    assert (r["hits"], r["missing"], r["bytes"]) == (12, 8, 32 * 13000)
    assert r["not_stored"] == 8 and r["pin_bytes"] == 40 * 16384
    assert [p["label"] for p in pins(mount)] == ["both"]


def test_the_rate_of_warm_is_kept(tmp_path, ask):
    mount = tmp_path / "m"
    mount.mkdir()
    fill(mount, 200)
    assert warm(mount, "--prompt", ask(200), "--rate", 5)["seconds"] > 0.4


@pytest.mark.parametrize("args,code,expected", [
    (["pin"], 2, "one of --prompt"),
    (["pin", "--key", "12"], 2, "64 hexadecimal"),
    (["pin", "--key", "ab" * 32, "--label", "x" * 64], 4, "too long"),
    (["pin", "--key", "ab" * 32, "--expires", "soon"], 2, "an age"),
    (["unpin"], 2, "an id or a label"),
    (["warm", "--key", "ab" * 32, "--label", "x"], 2, "belong to --pin"),
    (["gc", "--grace", "3"], 2, "belong to --to"),
])
def test_usage_of_pins(store, args, code, expected):
    r = run(*args, "--mount", store, "--root", "r")
    assert r.returncode == code and expected in r.stderr, words(r)


# ---- explain ----


def explain(store, *args, code=1, **kw):
    return answer("explain", store / "r", *args, code=code, **kw)


def why(result):
    """(run, reason, detail) of the block that ends the run."""
    last = result["blocks"][-1]
    assert last["index"] == result["run"] and all(b["why"] == "here" for b in result["blocks"][:-1])
    return result["run"], last["why"], last["detail"]


@pytest.fixture
def ask(tmp_path):
    """Writes the prompt of a seed, `blocks` long, and gives its file."""
    def make(blocks, seed=1, as_json=False):
        text = prompt(seed, blocks * TOKENS)
        path = tmp_path / f"prompt-{blocks}-{seed}"
        path.write_text(json.dumps([ord(c) for c in text]) if as_json else text)
        return path
    return make


def keys_in_order(store, seed=1):
    return [b["key"] for b in explain(store, "--prompt", "-", code=0, input=prompt(seed, 40 * TOKENS))["blocks"]]


@pytest.mark.parametrize("as_json", [False, True])
def test_explain_a_prompt_that_is_all_there(store, ask, as_json):
    r = explain(store, "--prompt", ask(40, as_json=as_json), "--read", code=0)
    assert r["run"] == 40 and len(r["blocks"]) == 40
    text = run("explain", store / "r", "--prompt", ask(40))
    assert text.returncode == 0 and "all 40 blocks" in text.stdout, words(text)


def test_explain_never_stored(store, ask):
    assert why(explain(store, "--prompt", ask(50)))[:2] == (40, "never stored")
    assert why(explain(store, "--prompt", ask(3, seed=9)))[:2] == (0, "never stored")
    text = run("explain", store / "r", "--prompt", ask(50))
    assert "block 40 " in text.stdout and "a match gives 40 blocks" in text.stdout, words(text)


def test_explain_with_keys(store, tmp_path):
    keys = keys_in_order(store)
    assert explain(store, "--key", ",".join(keys[:3]), code=0)["run"] == 3
    (tmp_path / "keys").write_text("\n".join(keys[:5] + ["ab" * 32]) + "\n")
    r = explain(store, "--keys", tmp_path / "keys")
    assert why(r)[:2] == (5, "never stored") and r["blocks"][-1]["key"] == "ab" * 32


def test_explain_another_space_names_the_field(store, ask):
    fill(store, 45, name="other", model="m2")
    r = explain(store, "--space", "main", "--prompt", ask(45))
    run_, reason, detail = why(r)
    assert (run_, reason) == (40, "other space") and 'model is "m2" there, "m1" here' in detail, detail
    assert "other-" in r["blocks"][-1]["segment"]


def test_explain_dead(tmp_path, ask):
    (tmp_path / "m").mkdir()
    w = Writer(tmp_path / "m").put(20)
    assert w.say("delete 7") == "deleted 1 flush 0"
    w.close()
    assert why(explain(tmp_path / "m", "--prompt", ask(20)))[:2] == (7, "dead")


def test_explain_a_dead_copy_beside_a_good_one(tmp_path, ask):
    (tmp_path / "m").mkdir()
    w = Writer(tmp_path / "m").put(20)
    assert w.say("delete 7") == "deleted 1 flush 0"
    w.put(20).close()
    assert explain(tmp_path / "m", "--prompt", ask(20), code=0)["run"] == 20


def test_explain_data_that_is_gone_or_bad(store, ask):
    keys = keys_in_order(store)
    found = payloads(store)
    path, offset, length = found[keys[11], 1]
    overwrite(path, offset, bytes(length))
    assert explain(store, "--prompt", ask(40), code=0)["run"] == 40
    assert why(explain(store, "--prompt", ask(40), "--read"))[:2] == (11, "bad payload")
    gone = {k for k in keys if found[k, 0][0] == found[keys[11], 0][0]}
    path.unlink()
    assert why(explain(store, "--prompt", ask(40)))[:2] == (min(keys.index(k) for k in gone), "no data")


def test_explain_a_cut_data_file(store, ask):
    keys = keys_in_order(store)
    path, offset, length = payloads(store)[keys[30], 0]
    os.truncate(path, offset)
    assert why(explain(store, "--prompt", ask(40)))[1] == "no data"


def test_explain_shards(tmp_path, ask):
    (tmp_path / "m").mkdir()
    fill(tmp_path / "m", 20, shard=0, shards=2)
    fill(tmp_path / "m", 12, shard=1, shards=2)
    run_, reason, detail = why(explain(tmp_path / "m", "--prompt", ask(20)))
    assert (run_, reason) == (12, "shard") and "shard 1 has none" in detail


def test_explain_parts_that_a_run_must_end_with(tmp_path, ask):
    """Every second block lacks a part that is needed in the last block of a run; the library's match agrees."""
    (tmp_path / "m").mkdir()
    w = Writer(tmp_path / "m", name="last")
    assert w.say("put 10") == "stored 10 flush 0"
    for n in (10, 9, 8, 2, 1):
        r = explain(tmp_path / "m", "--prompt", ask(n), code=1 if n % 2 == 0 else 0)
        assert w.say(f"match {n}") == f"match {r['run']}"
        if n % 2 == 0:
            assert why(r)[:2] == (n - 1, "parts")
    w.close()


def test_explain_agrees_with_match(store, tmp_path, ask):
    w = Writer(store)
    for n in (1, 7, 40, 60):
        assert w.say(f"match {n}") == f"match {explain(store, '--prompt', ask(n), code=int(n > 40))['run']}"
    w.close()


def test_explain_an_identity_that_was_not_stored(store, ask):
    run_, reason, detail = why(explain(store, "--prompt", ask(40), "--tenant", "t"))
    assert (run_, reason) == (0, "other salt") and "without the tenant" in detail


def test_explain_a_salt_that_was_replaced(store, ask):
    """The salt's time is that of its making; segments say in their headers when they were made."""
    (store / "r" / "salt").write_bytes(bytes(range(32)))
    later = 4102444800
    os.utime(store / "r" / "salt", (later, later))
    run_, reason, detail = why(explain(store, "--prompt", ask(40)))
    assert (run_, reason) == (0, "other salt") and "younger" in detail


def test_explain_an_aside(store, ask):
    test_an_aside_is_told(store)
    ends = [json.loads(run("explain", store / "r", "--prompt", ask(n, seed=seed), "--json").stdout)["blocks"][-1]["why"]
            for n, seed in ((40, 1), (24, 2))]
    assert sorted(ends) == ["here", "set aside"]


def remove_segment(path):
    path.unlink()
    path.with_suffix(".seg").unlink()


def segment_of(store, key):
    return payloads(store)[key, 0][0].with_suffix(".toc")


def test_explain_evicted_for_sure(store, ask):
    """Its children are there, and it is not."""
    keys = keys_in_order(store)
    first = segment_of(store, keys[0])
    gone = [i for i, k in enumerate(keys) if segment_of(store, k) == first]
    remove_segment(first)
    assert len(gone) < 40
    run_, reason, detail = why(explain(store, "--prompt", ask(40)))
    assert (run_, reason) == (0, "evicted") and "later blocks of this prompt are stored" in detail
    assert detail.endswith("it was evicted")


def test_explain_evicted_or_never_stored(store, ask):
    """A segment of the space is gone; what was in it nobody can tell."""
    assert why(explain(store, "--prompt", ask(3, seed=9)))[1] == "never stored"
    remove_segment(segment_of(store, keys_in_order(store)[0]))
    run_, reason, detail = why(explain(store, "--prompt", ask(3, seed=9)))
    assert (run_, reason) == (0, "evicted") and "evicted or never stored; 1 segments" in detail


def test_explain_a_put_that_was_dropped_or_an_eviction(store, ask):
    """A parent is missing, and no segment is."""
    keys = keys_in_order(store)
    r = explain(store, "--key", ",".join(["ab" * 32, keys[1]]))
    run_, reason, detail = why(r)
    assert (run_, reason) == (0, "evicted") and "or its put was dropped" in detail


def test_explain_a_shard_that_evicted(tmp_path, ask):
    mount = tmp_path / "m"
    mount.mkdir()
    fill(mount, 40, shard=0, shards=2)
    fill(mount, 40, shard=1, shards=2)
    tocs = [p for p in files(mount, "r/*/s1of2/*.toc") if p.stat().st_size > 4096]
    remove_segment(tocs[-1])
    _, reason, detail = why(explain(mount, "--prompt", ask(40)))
    assert reason == "shard" and "shard 1 has none: evicted or never stored there" in detail


def test_explain_an_open_breaker(store, ask):
    later(pick(".head"), 96, "<Q", int(time.time()), 176)(store)  # the template may be old by now
    DAMAGE["CF207"][0](store)
    run_, reason, detail = why(explain(store, "--prompt", ask(40)))
    assert (run_, reason) == (0, "breaker open") and "by the files the run has 40 blocks" in detail
    later(pick(".head"), 96, "<Q", 7, 176)(store)  # not written for long: its writer is gone
    assert explain(store, "--prompt", ask(40), code=0)["run"] == 40


def test_explain_the_cost_gate(store, ask):
    """40 blocks of 16 tokens and 16 KiB: at 1 MiB/s 625 ms to load."""
    slow = ["--read-rate", 1, "--prompt", ask(40)]
    run_, reason, detail = why(explain(store, "--prefill-rate", 2000, *slow))
    assert (run_, reason) == (0, "gated") and "in 625.0 ms, and computing takes 320.0 ms" in detail
    assert explain(store, "--prefill-rate", 1000, *slow, code=0)["run"] == 40
    assert explain(store, "--prefill-rate", 1, "--read", "--prompt", ask(40), code=0)["run"] == 40
    assert why(explain(store, "--prefill-rate", 1 << 30, "--read", "--prompt", ask(40)))[1] == "gated"
    r = run("explain", store / "r", "--prefill-rate", 5, "--prompt", ask(40))
    assert r.returncode == 4 and "needs a read rate" in r.stderr, words(r)


def test_explain_pinned(store, ask):
    answer("pin", store / "r", "--prompt", ask(7))
    blocks = explain(store, "--prompt", ask(40), code=0)["blocks"]
    assert [b["pinned"] for b in blocks] == [True] * 7 + [False] * 33
    assert "pinned" in blocks[0]["detail"] and "pinned" not in blocks[7]["detail"]


@pytest.mark.parametrize("args,code,expected", [
    (["explain"], 2, "one of --prompt"),
    (["explain", "--key", "12"], 2, "64 hexadecimal"),
    (["explain", "--key", "ab" * 32, "--lora", "x"], 2, "belong to --prompt"),
])
def test_usage_of_explain(store, args, code, expected):
    r = run(*args, "--mount", store, "--root", "r")
    assert r.returncode == code and expected in r.stderr, words(r)


def test_explain_wants_one_space(store, ask):
    fill(store, 2, name="main", model="m2")
    r = run("explain", store / "r", "--prompt", ask(2))
    assert r.returncode == 3 and "2 spaces" in r.stderr, words(r)
