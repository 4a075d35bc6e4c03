#!/usr/bin/python3
"""What storage that stops answering costs the example engine: build/minillm on a 3FS client that hangs on demand
(tests/fakes/slow_usrbio.c), with the default limits: 1,000 ms a read, four failures, a probe each 1,000 ms.

    make bench-hang     or     bench/hang_engine.py [--ranks N] [--rounds N] [--build DIR]

Prints, and ends with an error above: what match and get of all prompts took until the breaker opened (2,000 ms), what
they took for each prompt after that (median; 1 ms), and the time from the moment when storage answered again to the
prompt that hit (1,000 ms, and the time of one prompt, for hits are seen when somebody asks).
"""
import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP / "tests/e2e"))
LOST_MS, REQUEST_MS, PROBE_MS = 2000, 1, 1000
HANGING = 24  # prompts while it hangs, and as many for its return


def prompt(folder, number):
    path = folder / ("prompt%d.txt" % number)
    path.write_text((("Prompt %d is not prompt %d, from its first word on. " % (number, number + 1)) * 30)[:1000])
    return path


def waited_ms(answer):
    return 1e3 * (answer["match_s"] + answer["get_s"])


def stored(run, arguments, prompts):
    """Another engine stores them all."""
    server = run.Server(*arguments)
    try:
        for path in prompts:
            server.ask(path, "what?")
            server.flush()
    finally:
        server.quit()


def hit_after(server, prompts):
    """When storage answers again: milliseconds until the prompt that hits (None: none did), and of the longest prompt."""
    since, length = time.monotonic(), 0
    for path in prompts:
        asked = time.monotonic()
        answer = server.ask(path, "what?")
        length = max(length, 1e3 * (time.monotonic() - asked))
        if answer["tier2_tokens"]:
            return 1e3 * (asked - since), length
        time.sleep(0.02)
    return None, length


def one_round(run, slow, ranks):
    with tempfile.TemporaryDirectory(prefix="cistern-hang-") as tmp:
        folder = pathlib.Path(tmp)
        (folder / "mount").mkdir()
        prompts = [prompt(folder, i) for i in range(2 * HANGING)]
        arguments = [*run.ON, *run.STAGING, "--mount", folder / "mount", "--tp_size", ranks, *run.SMALL]
        stored(run, arguments, prompts)
        switch = folder / "hang"
        server = run.Server(*arguments, "--provider_path", slow, "--tier1-blocks", 4096, env=run.environment(
            SLOW_USRBIO_HANG=str(switch), CISTERN_USRBIO_BACKEND="threads"))
        try:
            switch.touch()
            hung = [waited_ms(server.ask(path, "what?")) for path in prompts[:HANGING]]
            opened = next(i for i in range(HANGING) if i + 1 == HANGING or hung[i + 1] < 100)
            switch.unlink()
            back, length = hit_after(server, prompts[HANGING:])
        finally:
            switch.unlink(missing_ok=True)  # a server that hangs does not end
            server.quit()
        # A breaker that never opened: all were lost, and the last one stands for those after it.
        return sum(hung[:opened + 1]), opened + 1, statistics.median(hung[opened + 1:] or hung[-1:]), back, length


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--ranks", type=int, nargs="*", default=[1, 2])
    ap.add_argument("--rounds", type=int, default=3)
    ap.add_argument("--build", default=str(TOP / "build"))
    a = ap.parse_args()
    os.environ["CISTERN_BUILD"] = os.path.abspath(a.build)
    import minillm_run  # which looks at CISTERN_BUILD
    slow = os.path.join(os.path.abspath(a.build), "tests/fakes/slow/libhf3fs_api_shared.so")
    bad = 0
    print("| ranks | lost, ms | in prompts | match and get of a prompt after that, ms | back, ms | a prompt, ms |")
    print("|---:|---:|---:|---:|---:|---:|")
    for ranks in a.ranks:
        for _ in range(a.rounds):
            lost, prompts, after, back, length = one_round(minillm_run, slow, ranks)
            good = lost <= LOST_MS and after <= REQUEST_MS and back is not None and back <= PROBE_MS + length
            bad += not good
            print("| %d | %.0f | %d | %.3f | %s | %.0f |%s" % (ranks, lost, prompts, after, "never" if back is None
                                                           else "%.0f" % back, length, "" if good else " too much"),
                  flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
