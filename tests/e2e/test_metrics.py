"""cistern metrics and the live part of cistern stat: an engine is told what to do, and the numbers are compared with it.

Other engines may run on this machine at the same time, so every question names the pid.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CISTERN_BUILD", TOP / "build"))
CISTERN = os.environ.get("CISTERN", str(BUILD / "cistern"))
ENGINE = BUILD / "tests" / "e2e" / "engine"
LIMIT = 90
BLOCK = 64 << 10

pytestmark = pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="statistics pages lie in /dev/shm")
promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool of the package prometheus is not here")


class Engine:
    def __init__(self, tmp, model="test", **env):
        self.p = subprocess.Popen([str(ENGINE), model], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                  env={**os.environ, "TMPDIR": str(tmp), **env})
        self.dir = self.p.stdout.readline().strip()
        assert self.dir, "the engine did not open its store"
        self.pid = self.p.pid

    def tell(self, *words):
        self.p.stdin.write(" ".join(map(str, words)) + "\n")
        self.p.stdin.flush()

    def ask(self, *words):
        self.tell(*words)
        return [int(x) for x in self.p.stdout.readline().split()]

    def end(self):
        if self.p.poll() is None:
            self.tell("quit")
        self.p.communicate(timeout=LIMIT)
        return self.p.returncode

    def page(self, handle=0):
        return Path(f"/dev/shm/cistern-stat-{self.pid}-{handle}")


@pytest.fixture
def engines(tmp_path):
    made = []

    def make(*args, **env):
        made.append(Engine(tmp_path, *args, **env))
        return made[-1]
    yield make
    for e in made:
        if e.p.poll() is None:
            e.p.kill()
        e.p.wait()
        for p in Path("/dev/shm").glob(f"cistern-stat-{e.pid}-*"):
            p.unlink(missing_ok=True)


@pytest.fixture
def engine(engines):
    return engines()


def run(*args, rc=0):
    r = subprocess.run([CISTERN, *map(str, args)], capture_output=True, text=True, timeout=LIMIT)
    assert r.returncode == rc, (r.returncode, r.stdout, r.stderr)
    return r


def parse(text):
    """name -> {labels: value}"""
    out = {}
    for line in text.splitlines():
        if line.startswith("#") or not line:
            continue
        name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
        one = out.setdefault(name, {})
        assert labels not in one, line
        one[labels] = float(value)
    return out


def numbers(pid):
    """Metrics of a process with one handle."""
    return {name: next(iter(v.values())) for name, v in parse(run("metrics", "--pid", pid).stdout).items()
            if not name.endswith("_bucket")}


def until(what, limit=LIMIT):
    end = time.monotonic() + limit
    while True:
        got = what()
        if got or time.monotonic() > end:
            return got
        time.sleep(0.1)


def renewed(pid):
    """The numbers after everything that was done so far."""
    updates = handle(pid)["metrics"]["up_ns"]
    assert until(lambda: handle(pid)["metrics"]["up_ns"] > updates)
    return numbers(pid)


def handle(pid):
    handles = json.loads(run("metrics", "--pid", pid, "--json").stdout)["handles"]
    assert len(handles) == 1
    return handles[0]


def table():
    """The rows of docs/METRICS.md: own name, kind, name for Prometheus."""
    return re.findall(r"^\| `(\w+)` \| (\w+) \| `(\w+)` \|", (TOP / "docs" / "METRICS.md").read_text(), re.M)


def rows():
    """The rows of the table that the library is made from."""
    text = (TOP / "src/metrics/metrics.def").read_text()
    return re.findall(r"^X\((\w+), (?:COUNTER|GAUGE),", text, re.M) + re.findall(r"^H\((\w+), \d+,", text, re.M)


# ---- what is said


@promtool
def test_promtool_accepts_it(engine):
    engine.ask("put", 8)
    engine.ask("get", 8)
    for text in (run("metrics", "--pid", engine.pid).stdout, run("metrics", "--pid", 1).stdout):
        r = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=LIMIT)
        assert r.returncode == 0, r.stdout + r.stderr
        assert r.stderr.strip() == "" and r.stdout.strip() == ""


def test_every_row_of_the_table_is_there_and_documented(engine):
    text = run("metrics", "--pid", engine.pid).stdout
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    helps = set(re.findall(r"^# HELP (\w+) \S", text, re.M))
    documented = table()
    assert [n for n, _, _ in documented] == rows() and len(documented) > 100
    own = {"cistern_handles", "cistern_handle_info", "cistern_handle_age_seconds"}
    assert set(kinds) == {p for _, _, p in documented} | own == helps
    for _, kind, prometheus in documented:
        assert kinds[prometheus] == kind


def test_the_values_are_those_of_the_run(engine):
    assert engine.ask("put", 20)[0] == 0
    assert engine.ask("match", 30) == [0, 20]
    assert engine.ask("get", 20)[:2] == [0, 20]
    assert engine.ask("get", 24)[:2] == [0, 20]
    n = renewed(engine.pid)
    want = {"put_ops_total": 1, "put_stored_blocks_total": 20, "put_bytes_total": 20 * BLOCK,
            "match_calls_total": 1, "match_keys_total": 30, "match_blocks_total": 20, "match_hit_calls_total": 1,
            "get_ops_total": 2, "get_hit_blocks_total": 40, "get_miss_blocks_total": 4,
            "get_bytes_total": 40 * BLOCK, "get_failed_ops_total": 0, "put_failed_ops_total": 0,
            "saved_tokens_total": 40 * 16, "index_blocks": 20, "breaker_open": 0, "tripped": 0,
            "get_latency_seconds_count": 2, "get_length_blocks_sum": 44, "get_length_blocks_count": 2,
            "put_length_blocks_sum": 20, "match_asked_blocks_sum": 30, "match_found_blocks_sum": 20,
            "read_staging_bytes": 8 << 20, "read_staging_free_bytes": 8 << 20, "read_staging_used_bytes": 0}
    assert {k: n["cistern_" + k] for k in want} == want
    assert n["cistern_get_latency_seconds_sum"] == pytest.approx(n["cistern_get_seconds_total"])
    assert n["cistern_match_hit_total_ratio"] == pytest.approx(20 / 30, abs=1e-6)
    assert n["cistern_filesystem_bytes"] >= n["cistern_filesystem_free_bytes"] > 0
    assert 0 <= n["cistern_handle_age_seconds"] < LIMIT


def test_histograms_add_up(engine):
    engine.ask("put", 3)
    for n in (1, 2, 3, 3):
        engine.ask("get", n)
    renewed(engine.pid)
    metrics = parse(run("metrics", "--pid", engine.pid).stdout)
    buckets = {re.search(r',le="([^"]+)"', k).group(1): v for k, v in metrics["cistern_get_length_blocks_bucket"].items()}
    assert {k: buckets[k] for k in ("1", "2", "4", "+Inf")} == {"1": 1, "2": 2, "4": 4, "+Inf": 4}
    for name in [n for n in metrics if n.endswith("_bucket")]:
        values = list(metrics[name].values())
        assert values == sorted(values)
        assert values[-1] == next(iter(metrics[name[:-7] + "_count"].values()))


def test_the_library_says_the_same(engine):
    engine.ask("put", 5)
    engine.tell("text")
    lines = []
    while (line := engine.p.stdout.readline().rstrip("\n")) != ".":
        lines.append(line)
    own = parse("\n".join(lines))
    page = parse(run("metrics", "--pid", engine.pid).stdout)
    assert list(own) == list(page)
    assert next(iter(own["cistern_put_stored_blocks_total"].values())) == 5


def test_labels_are_escaped_and_two_processes_are_told_apart(engines):
    a, b = engines('odd"\\model'), engines("test", CISTERN_ROOT="kv")
    text = run("metrics").stdout
    mine = {e.pid: [k for k in parse(text)["cistern_handle_info"] if f'pid="{e.pid}"' in k] for e in (a, b)}
    assert len(mine[a.pid]) == len(mine[b.pid]) == 1
    assert r'model="odd\"\\model"' in mine[a.pid][0]
    assert f'root="{b.dir}/kv"' in mine[b.pid][0]
    assert text.count("# TYPE cistern_get_ops_total ") == 1
    assert f'pid="{b.pid}"' not in run("metrics", "--pid", a.pid).stdout


# ---- who is there


def test_a_killed_process_is_gone_and_so_is_its_page(engine):
    assert engine.page().exists()
    engine.p.send_signal(signal.SIGKILL)
    engine.p.wait()
    assert 'pid="' not in run("metrics", "--pid", engine.pid).stdout
    # Once its numbers are old enough to ask whether anybody holds the file.
    assert until(lambda: run("metrics", "--pid", engine.pid) and not engine.page().exists())


def test_a_process_that_ends_leaves_nothing(engine):
    assert engine.page().exists()
    assert engine.end() == 0
    assert not engine.page().exists()


def test_a_stopped_process_is_stale_and_not_gone(engine):
    engine.p.send_signal(signal.SIGSTOP)
    try:
        assert until(lambda: handle(engine.pid)["stale"])
        assert "old" in run("stat", "--pid", engine.pid).stdout
    finally:
        engine.p.send_signal(signal.SIGCONT)
    assert until(lambda: not handle(engine.pid)["stale"])


def test_it_can_be_switched_off(engines):
    e = engines("test", CISTERN_STAT_PAGE="0")
    assert not e.page().exists()
    assert e.ask("put", 1)[0] == 0
    r = run("stat", "--pid", e.pid, rc=3)
    assert str(e.pid) in r.stderr and "stat_page" in r.stderr
    assert "cistern_handles 0" in run("metrics", "--pid", e.pid).stdout


def test_damaged_and_foreign_pages_are_left_out(engine):
    good = engine.page().read_bytes()
    others = [engine.page(n) for n in range(700, 707)]
    made = [b"", b"CISTSTAT", good[:-1], good[:200] + b"\xff" * 64 + good[264:], good, os.urandom(100000)]
    for path, data in zip(others, made):
        path.write_bytes(data)
        path.chmod(0o600)
    others[6].symlink_to("/etc/passwd")
    try:
        # The fifth is sound, and says of itself that it is handle 0.
        assert run("metrics", "--pid", engine.pid).stdout.count("cistern_handle_info{") == 1
    finally:
        for path in others:
            path.unlink(missing_ok=True)


# ---- stat


def test_stat_shows_rates_between_two_looks(engine):
    engine.ask("put", 4)
    engine.tell("work", 8)
    r = run("stat", "--pid", engine.pid, "--watch", 2, "--times", 3, "--json").stdout
    looks, at = [], 0
    while at < len(r.rstrip()):
        look, at = json.JSONDecoder().raw_decode(r, at)
        looks.append(look["handles"][0])
        at += len(r[at:]) - len(r[at:].lstrip())
    assert len(looks) == 3
    assert looks[0]["per_second"] == {}
    rate = looks[2]["per_second"]["get_ops"]
    grown = looks[2]["metrics"]["get_ops"] - looks[1]["metrics"]["get_ops"]
    passed = (looks[2]["metrics"]["up_ns"] - looks[1]["metrics"]["up_ns"]) / 1e9
    assert rate == pytest.approx(grown / passed if passed else 0)
    assert looks[2]["metrics"]["get_ops"] > looks[0]["metrics"]["get_ops"]
    text = run("stat", "--pid", engine.pid).stdout
    assert f"pid {engine.pid}" in text and "health: well" in text and "4 blocks known" in text


@pytest.mark.parametrize("args", [("stat", "--times", "3"), ("metrics", "--interval", "2"),
                                  ("metrics", "--json", "--listen", "1"), ("metrics", "--listen", "x"),
                                  ("metrics", "--listen", "70000"), ("metrics", "--listen", "::1:80"),
                                  ("metrics", "--listen", ":80"), ("metrics", "--pid", "0")])
def test_what_makes_no_sense_is_refused(args):
    r = run(*args, rc=2)
    assert r.stdout == "" and "--" in r.stderr


# ---- textfile


def test_a_textfile_is_never_half_there(engine, tmp_path):
    path = tmp_path / "cistern.prom"
    run("metrics", "--pid", engine.pid, "--textfile", path)
    assert path.stat().st_mode & 0o777 == 0o644
    last = path.read_text().splitlines()[-1]
    seen = set()
    p = subprocess.Popen([CISTERN, "metrics", "--pid", str(engine.pid), "--textfile", str(path), "--interval", "1"])
    try:
        def whole():
            text = path.read_text()
            assert text.startswith("# HELP") and text.endswith("\n")
            assert text.splitlines()[-1].split("{")[0] == last.split("{")[0]
            seen.add(path.stat().st_ino)
            return len(seen) > 3
        assert until(whole)
    finally:
        p.terminate()
        assert p.wait(timeout=LIMIT) == 0
    assert os.listdir(tmp_path / "..") and [f for f in os.listdir(tmp_path) if f.startswith("cistern.prom")] == ["cistern.prom"]
    r = run("metrics", "--textfile", tmp_path / "no" / "such.prom", rc=3)
    assert "such.prom" in r.stderr


# ---- HTTP


class Server:
    def __init__(self, *args, where="0"):
        self.p = subprocess.Popen([CISTERN, "metrics", "--listen", where, *map(str, args)], stderr=subprocess.PIPE,
                                  text=True)
        line = self.p.stderr.readline()
        self.url = re.match(r"(http://\S+)/metrics", line).group(1)
        self.address = re.match(r"http://(.*):(\d+)", self.url).groups()

    def get(self, path="/metrics", method="GET"):
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LIMIT) as r:
                return r.status, r.headers, r.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.headers, e.read().decode()

    def raw(self, data):
        with socket.create_connection((self.address[0].strip("[]"), int(self.address[1])), timeout=LIMIT) as s:
            s.sendall(data)
            out = b""
            while piece := s.recv(65536):
                out += piece
            return out

    def end(self):
        self.p.terminate()
        self.p.communicate(timeout=LIMIT)
        return self.p.returncode


@pytest.fixture
def serve():
    made = []

    def make(*args, **how):
        made.append(Server(*args, **how))
        return made[-1]
    yield make
    for s in made:
        if s.p.poll() is None:
            assert s.end() == 0


def test_http(engine, serve):
    s = serve("--pid", engine.pid)
    assert s.address[0] == "127.0.0.1"
    status, headers, text = s.get()
    assert status == 200 and headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert list(parse(text)) == list(parse(run("metrics", "--pid", engine.pid).stdout))
    assert s.get("/metrics?x=1")[0] == 200
    status, headers, body = s.get(method="HEAD")
    assert status == 200 and body == "" and int(headers["Content-Length"]) > 1000
    for path in ("/other", "/metrics/", "/../etc/passwd", "//metrics"):
        assert s.get(path)[0] == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = s.get(method=method)
        assert status == 405 and headers["Allow"] == "GET, HEAD"
    for _, headers, _ in (s.get(), s.get("/"), s.get("/other")):
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_live_page_lies_in_the_command(serve):
    s = serve()
    status, headers, text = s.get("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert text == (TOP / "deploy" / "live" / "index.html").read_text()


def refused(answer):
    """Libmicrohttpd closes some requests without a word."""
    return answer == b"" or re.match(rb"HTTP/1\.[01] [45]\d\d ", answer)


def test_requests_that_are_none(serve):
    s = serve()
    for data in (b"hello\r\n\r\n", b"GET /metrics\r\n\r\n", b"GET http://x/metrics HTTP/1.1\r\nHost: x\r\n\r\n",
                 b"GET \0 HTTP/1.1\r\n\r\n", b"GET / XTTP\r\n\r\n", b"GET / HTTP/9.1\r\n\r\n",
                 b"\0" * 1000 + b"\r\n\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"):
        assert refused(s.raw(data)), data
    assert b" 431 " in s.raw(b"GET / HTTP/1.1\r\nX: " + b"y" * 9000).split(b"\r\n")[0]
    assert b" 414 " in s.raw(b"GET /" + b"y" * 9000).split(b"\r\n")[0]
    for data in (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200000, os.urandom(1 << 20)):
        try:
            assert refused(s.raw(data))
        except ConnectionError:
            pass  # it was told to stop while it was still sending
    assert s.get()[0] == 200


def test_a_connection_carries_one_request(engine, serve):
    s = serve("--pid", engine.pid)
    one = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"
    for data in (one, one + one, b"GET /metrics HTTP/1.0\r\n\r\n", b"GET /metrics HTTP/1.0\n\n"):
        head, body = s.raw(data).split(b"\r\n\r\n")
        assert head.count(b"HTTP/1.1 200 OK") == 1 and b"\r\nConnection: close" in head
        assert f"\r\nContent-Length: {len(body)}".encode() in head
    for path, status in ((b"/metrics", b"200"), (b"/", b"200"), (b"/other", b"404")):
        head, body = s.raw(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n").split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status) and body == b""


def test_slow_clients_are_left(serve):
    s = serve()
    where = s.address[0], int(s.address[1])
    with socket.create_connection(where, timeout=LIMIT) as slow:
        for byte in b"GET / HTTP/1.0\r\n\r\n":
            slow.sendall(bytes([byte]))
            time.sleep(0.02)
        assert slow.recv(100).startswith(b"HTTP/1.1 200 OK")
    # More than are served at once. They say nothing more and go, and whoever waited behind them has an answer.
    many = [socket.create_connection(where, timeout=LIMIT) for _ in range(40)]
    for one in many:
        one.sendall(b"GET ")
    assert s.get()[0] == 200
    for one in many:
        assert one.recv(1) == b""
        one.close()
    # And a signal ends it while some are connected.
    with socket.create_connection(where, timeout=LIMIT) as last:
        last.sendall(b"GET ")
        assert s.end() == 0


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_addresses(serve):
    for where, host in (("localhost:0", None), ("0.0.0.0:0", "0.0.0.0"), ("[::1]:0", "[::1]")):
        if "::1" in where and not has_ipv6():
            continue
        s = serve(where=where)
        assert s.address[0] == host or host is None
        assert s.get()[0] == 200


def test_a_taken_port_and_a_foreign_address_are_named(serve):
    s = serve()
    where = ":".join(s.address)
    r = run("metrics", "--listen", where, rc=3)
    assert where in r.stderr and "in use" in r.stderr
    r = run("metrics", "--listen", "192.0.2.1:9464", rc=3)
    assert "192.0.2.1:9464" in r.stderr
    assert run("metrics", "--listen", "no.such.host.invalid:9464", rc=3).stderr


def test_counters_only_grow_while_many_scrape(engine, serve):
    s = serve("--pid", engine.pid)
    engine.ask("put", 4)
    counters = {p for _, kind, p in table() if kind == "counter"}
    failures = []
    engine.tell("work", 6)

    def scrape():
        last, end = {}, time.monotonic() + 5
        while time.monotonic() < end:
            now = {k: next(iter(v.values())) for k, v in parse(s.get()[2]).items() if k in counters}
            failures.extend((k, last[k], v) for k, v in now.items() if v < last.get(k, 0))
            last = now
        if not last.get("cistern_get_ops_total"):
            failures.append(last)
    threads = [threading.Thread(target=scrape) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []
    gets, hits = map(int, engine.p.stdout.readline().split())
    n = renewed(engine.pid)
    assert gets == hits == n["cistern_get_ops_total"] == n["cistern_get_hit_blocks_total"] > 0
