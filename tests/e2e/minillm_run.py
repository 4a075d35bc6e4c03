"""Runs build/minillm for tests: one-shot, or as a server that can be killed."""
import json
import os
import select
import signal
import subprocess

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MINILLM = os.path.join(os.environ.get("CISTERN_BUILD", os.path.join(ROOT, "build")), "minillm")
SMALL = ["--layers", "2", "--d-model", "96", "--heads", "4", "--kv-heads", "2", "--head-dim", "32",
         "--ffn", "160", "--block-tokens", "16", "--max-tokens", "2048", "--tier1-blocks", "256"]
ON = ["--reuse_cache", "True", "--enable_3fs", "True"]
STAGING = ["--threefs_read_iov_size", "8M", "--threefs_write_iov_size", "8M"]
LIMIT_S = 60


def environment(**more):
    """Ours, without any switch that the caller's may hold."""
    drop = ("REUSE_CACHE", "ENABLE_3FS", "THREEFS_", "CISTERN_", "MINILLM_", "HF3FS_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(drop)}
    return {**env, **more}


def run(*args, env=None):
    return subprocess.run([MINILLM, *map(str, args)], env=env or environment(), timeout=LIMIT_S,
                          capture_output=True, text=True)


def events(done):
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def requests(*args, env=None):
    """The request events of a run that must succeed."""
    return [e for e in events(run("--json", *args, env=env)) if e["event"] == "request"]


def logits(path):
    return np.fromfile(path, np.float32).reshape(-1, 256)


class Server:
    def __init__(self, *args, env=None):
        self.process = subprocess.Popen([MINILLM, "--serve", "--json", *map(str, args)], text=True,
                                        env=env or environment(), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, bufsize=0)
        self.pending = b""
        self.ready = self.event()

    def event(self):
        fd = self.process.stdout.fileno()
        while b"\n" not in self.pending:
            if not select.select([fd], [], [], LIMIT_S)[0]:
                self.kill()
                raise TimeoutError("minillm says nothing")
            more = os.read(fd, 65536)
            if not more:
                raise EOFError("minillm ended: " + self.process.stderr.read())
            self.pending += more
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def send(self, line):
        self.process.stdin.write(line + "\n")

    def ask(self, path, question):
        self.send("%s\t%s" % (path, question))
        return self.event()

    def flush(self):
        self.send("flush")
        return self.event()

    def kill(self):
        """SIGKILL to all ranks at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.close_pipes()

    def terminate(self, every_rank=False):
        """SIGTERM; the last event and the exit status."""
        if every_rank:
            os.killpg(self.process.pid, signal.SIGTERM)
        else:
            self.process.terminate()
        last = self.event()
        self.process.wait(LIMIT_S)
        self.stderr = self.process.stderr.read()
        self.close_pipes()
        return last, self.process.returncode

    def quit(self):
        self.send("quit")
        self.process.wait(LIMIT_S)
        self.close_pipes()
        return self.process.returncode

    def close_pipes(self):
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
