"""An exporter of the test's own: GET / is the live page as it lies in deploy/, GET /metrics what the test says.

Run alone it invents an hour of traffic on four stores and goes on for as long as it is let, to look at the page:

    tests/e2e/fake_exporter.py [PORT]
"""

import math
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "deploy" / "live" / "index.html"
BOUNDS = [1e-4 * 2 ** i for i in range(16)]


def escaped(value):
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Store:
    """What one process reports: numbers by the name of their row, counters with `_total` added, and one histogram."""

    def __init__(self, pid, model="llama-3.1-70b", shard=0, root="/3fs/stage/3fs/rtp_llm"):
        self.labels = {"pid": pid, "root": root, "model": model, "shard": shard}
        self.gauges = dict(breaker_open=0, breaker_puts_open=0, breaker_ranks=0, tripped=0, retired=0, read_slots=1024,
                           read_slots_quarantined=0, write_slots=1024, write_slots_quarantined=0,
                           read_staging_bytes=4 << 30, read_staging_used_bytes=0, write_staging_bytes=4 << 30,
                           write_staging_used_bytes=0, usage_bytes=0, capacity_bytes=0)
        self.counters = {}
        self.buckets = [0] * (len(BOUNDS) + 1)

    def add(self, **more):
        for name, n in more.items():
            self.counters[name] = self.counters.get(name, 0) + n

    def took(self, seconds, times=1):
        for i, bound in enumerate([*BOUNDS, math.inf]):
            if seconds <= bound:
                self.buckets[i] += times

    def text(self):
        labels = ",".join(f'{k}="{escaped(v)}"' for k, v in self.labels.items())
        lines = [f"cistern_{k}{{{labels}}} {v:.17g}" for k, v in self.gauges.items()]
        lines += [f"cistern_{k}_total{{{labels}}} {v:.17g}" for k, v in self.counters.items()]
        lines += [f'cistern_get_latency_seconds_bucket{{{labels},le="{"+Inf" if b == math.inf else f"{b:.9g}"}"}} {n}'
                  for b, n in zip([*BOUNDS, math.inf], self.buckets)]
        return "\n".join(lines) + "\n"


class Exporter:
    """Serves on a port of its own until stop(); `stores` is what /metrics shows, whoever changes it."""

    def __init__(self, port=0):
        self.stores, self.asked, self.lock = [], [], threading.Lock()
        self.server = None
        self.port = port
        self.start()

    def start(self):
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                with outer.lock:
                    outer.asked.append(self.path)
                    text = "".join(s.text() for s in outer.stores)
                kind, body = {"/": ("text/html; charset=utf-8", PAGE.read_bytes()),
                              "/metrics": ("text/plain; version=0.0.4", text.encode())}.get(self.path, (None, b""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # a browser that is closed leaves requests behind

        self.server = Server(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"


class Traffic:
    """Two models, one of two shards, with a day's ups and downs squeezed into minutes."""

    BLOCK = 2 << 20

    def __init__(self, seed=1):
        self.rng = random.Random(seed)
        self.stores = [Store(4100 + i, model, shard) for i, (model, shard) in enumerate(
            [("llama-3.1-70b", 0), ("llama-3.1-70b", 1), ("qwen3-32b", 0), ("deepseek-v3", 0)])]
        self.t = 0
        for s in self.stores:
            self.grow(s, 3600, 0.81)

    def grow(self, s, dt, hit):
        rng, n = self.rng, 40 * dt * (0.6 + 0.4 * (int(s.labels["pid"]) % 3))
        n = int(n * (1 + 0.35 * math.sin(self.t / 23 + int(s.labels["pid"]))) * rng.uniform(0.8, 1.2)) + 1
        found = sum(rng.random() < hit for _ in range(n)) if n < 5000 else int(n * hit)
        new = int((n - found) * rng.uniform(0.7, 0.9))
        s.add(match_keys=n, match_blocks=found, get_hit_blocks=found, get_miss_blocks=0, get_error_blocks=0,
              get_bytes=found * self.BLOCK, put_stored_blocks=new, get_timeouts=0, put_timeouts=0, put_bytes=new * self.BLOCK,
              put_dropped_blocks=0, put_dropped_full_blocks=0, put_dropped_budget_blocks=0,
              put_dropped_retired_blocks=0, bad_checksum_blocks=0, bad_length_blocks=0, bad_span_blocks=0,
              negative_blocks=0, segments_aside=0, io_read_errors=0, io_write_errors=0, io_timeouts=0,
              breaker_opened=0, breaker_puts_opened=0, shadow_differs=0, sync_errors=0,
              evicted_bytes=(1 << 30) if rng.random() < dt / 8 else 0,
              carried_bytes=(90 << 20) if rng.random() < dt / 8 else 0,
              saved_tokens=found * 64, saved_seconds=found * 64 / 9000,
              spent_seconds=found * 0.0021)
        for _ in range(min(60, n // 4 + 1)):
            s.took(rng.lognormvariate(math.log(0.0021), 0.7), 1 if dt < 60 else 400)
        s.gauges |= dict(read_staging_used_bytes=min(4 << 30, n * 9 * self.BLOCK), write_staging_used_bytes=new * 20 * self.BLOCK,
                         usage_bytes=int(1.31e12 + 2e9 * math.sin(self.t / 11)), capacity_bytes=2e12,
                         filesystem_used_bytes=8.4e12, filesystem_free_bytes=5.6e12)

    def step(self, dt):
        self.t += dt
        for s in self.stores:
            self.grow(s, dt, 0.84 + 0.08 * math.sin(self.t / 40))


def main():
    exporter = Exporter(int(sys.argv[1]) if len(sys.argv) > 1 else 9498)
    traffic = Traffic()
    exporter.stores = traffic.stores
    print(exporter.url)
    while True:
        time.sleep(0.25)
        with exporter.lock:
            traffic.step(0.25)


if __name__ == "__main__":
    main()
