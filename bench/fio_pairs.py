#!/usr/bin/env python3
"""fio through the drop-in against fio's own io_uring engine, in alternating pairs.

    bench/fio_pairs.py --engine PATH/hf3fs_usrbio.so --dir DIR [--pairs 10] [--slices 4] [--markdown]

PATH/hf3fs_usrbio.so is the external fio engine for 3FS USRBIO, built unmodified against this fio's headers and linked
with the drop-in; DIR becomes a mount. That engine opens its files without O_DIRECT and submits and waits in whole
batches, so both sides run buffered, with iodepth_batch and iodepth_batch_complete_min equal to the depth. A pair is
--slices short runs of each engine in turns, added up, because neighbours on a shared machine come and go within
seconds; the ratio is taken within the pair. Exit status 1 if a median is below --least.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys

PATTERNS = [(jobs, rw, bs) for jobs in ("processes", "threads") for rw in ("write", "read", "randread")
            for bs in ("1m", "4k")]


def run(args, engine, jobs, rw, bs):
    command = ["fio", "--name=pairs", "--directory=" + args.dir, "--filename_format=pairs.$jobnum", "--rw=" + rw,
               "--bs=" + bs, "--size=%dm" % args.size_mib, "--numjobs=%d" % args.jobs, "--group_reporting",
               "--time_based", "--runtime=%dms" % args.slice_ms, "--direct=0", "--invalidate=0",
               "--iodepth=%d" % args.depth, "--iodepth_batch=%d" % args.depth,
               "--iodepth_batch_complete_min=%d" % args.depth, "--iodepth_batch_complete_max=%d" % args.depth,
               "--output-format=json"]
    command += ["--ioengine=external:" + args.engine, "--mountpoint=" + args.dir] if engine == "usrbio" else \
        ["--ioengine=io_uring"]
    command += ["--thread"] if jobs == "threads" else []
    out = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    job = json.loads(out[out.index("{"):])["jobs"][0]
    side = job["write" if rw == "write" else "read"]
    if job["error"] or not side["total_ios"]:
        sys.exit("fio failed: " + " ".join(command))
    cpu_us = (job["usr_cpu"] + job["sys_cpu"]) / 100 * job["job_runtime"] * 1000
    return side["io_bytes"], side["runtime"] / 1000, side["total_ios"], cpu_us


def add_up(slices):
    """MiB/s and microseconds of processor per I/O."""
    total, seconds, ios, cpu_us = map(sum, zip(*slices))
    return total / seconds / 2**20, cpu_us / ios


def pattern(args, jobs, rw, bs):
    """One row: medians of both engines in MiB/s and microseconds of processor per I/O, and of the ratio."""
    ours, theirs = [], []
    for n in range(args.pairs):
        slices = {"usrbio": [], "io_uring": []}
        for k in range(args.slices):
            for engine in sorted(slices, reverse=(n + k) % 2 == 0):
                slices[engine].append(run(args, engine, jobs, rw, bs))
        ours.append(add_up(slices["usrbio"]))
        theirs.append(add_up(slices["io_uring"]))
    ratios = sorted(a[0] / b[0] for a, b in zip(ours, theirs))
    quarter = len(ratios) // 4
    med = statistics.median
    return (jobs, rw, bs, med(x[0] for x in ours), med(x[0] for x in theirs), med(ratios), ratios[quarter],
            ratios[-1 - quarter], med(x[1] for x in ours), med(x[1] for x in theirs))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--engine", required=True)
    p.add_argument("--dir", required=True)
    p.add_argument("--pairs", type=int, default=10)
    p.add_argument("--slices", type=int, default=4, help="of each engine in a pair")
    p.add_argument("--slice-ms", type=int, default=400)
    p.add_argument("--jobs", type=int, default=2)
    p.add_argument("--depth", type=int, default=32)
    p.add_argument("--size-mib", type=int, default=256)
    p.add_argument("--least", type=float, default=0.9)
    p.add_argument("--markdown", action="store_true")
    p.add_argument("--only", default="", help="patterns whose 'jobs rw bs' contains this")
    args = p.parse_args()
    args.dir, args.engine = os.path.realpath(args.dir), os.path.realpath(args.engine)
    os.makedirs(args.dir, exist_ok=True)
    open(os.path.join(args.dir, ".cistern-mount"), "a").close()
    for engine in ("io_uring", "usrbio"):  # lays the files out, warms up both
        run(args, engine, "processes", "write", "1m")
    form = "| %s | %s | %s | %.0f | %.0f | **%.3f** | %.2f–%.2f | %.2f | %.2f |" if args.markdown else \
        "%-10s %-9s %-3s  drop-in %7.0f MiB/s  io_uring %7.0f MiB/s  ratio %.3f [%.2f..%.2f]  cpu/IO %.2f : %.2f us"
    if args.markdown:
        print("| jobs as | pattern | block | drop-in MiB/s | fio io_uring MiB/s | ratio | quartiles | drop-in µs CPU per "
              "I/O | io_uring |\n|---|---|---|---|---|---|---|---|---|")
    failed = 0
    for row in PATTERNS:
        if args.only not in " ".join(row):
            continue
        result = pattern(args, *row)
        failed += result[5] < args.least
        print(form % result, flush=True)
    for n in range(args.jobs):
        os.unlink(os.path.join(args.dir, "pairs.%d" % n))
    return 1 if failed else 0


sys.exit(main())
