#!/usr/bin/env python3
"""A against A: two stubs that are the same, compared many times. A tool that cries wolf calls them different.

    tests/lab/aa.py [--trials 48] [--rounds 8]

Each trial is one `hairspring compare` with a fresh server process for each round; whatever it calls `faster` or `slower` is
false. The stub, the load and the seed change from trial to trial. Server on processor 0, client on processor 1. Prints
Markdown.
"""
import argparse
import collections
import json
import os
import shutil
import tempfile
import time

import lab

FIGURES = ["p50", "p90", "p95", "p99", "mean"]
STUBS = [
    ("single, sleeping 1 ms", ["--stub", "single", "--service", "fixed:1ms"], ["-c", "4", "-n", "400"]),
    ("pool of 4, sleeping exp:2ms", ["--stub", "pool", "--workers", "4", "--service", "exp:2ms"], ["-c", "8", "-n", "600"]),
    ("threads, spinning 200 us", ["--stub", "threads", "--service", "fixed:200us", "--work", "spin"], ["-c", "2", "-n", "1000"]),
    ("per-core, spinning 100 us, open loop",
     ["--stub", "per-core", "--workers", "1", "--service", "fixed:100us", "--work", "spin"],
     ["--rate", "1000/s", "--arrivals", "poisson", "-c", "32", "-n", "500"]),
]


def trial(number, rounds):
    name, stub, load = STUBS[number % len(STUBS)]
    out = tempfile.mkdtemp(prefix="hairspring-lab-")
    kinds = {"--stub": "--baseline-stub"}
    command = [lab.HAIRSPRING, "compare", *[kinds.get(word, word) for word in stub], "--optimized-stub", stub[1]]
    command += [*load, "--rounds", str(rounds), "--seed", str(1000 + number), "--no-log", "--cpus", str(lab.CLIENT_CPU),
                "--server-cpus", str(lab.SERVER_CPU), "--out", os.path.join(out, "results")]
    began = time.monotonic()
    ran = lab.Ran(command, cpu=None)
    seconds = time.monotonic() - began
    path = os.path.join(out, "results", "comparison.json")
    if not os.path.exists(path):
        raise SystemExit(f"{' '.join(command)}\n{ran.text}")
    comparison = json.load(open(path))
    shutil.rmtree(out, ignore_errors=True)
    return name, comparison, seconds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=8)
    args = parser.parse_args()
    lab.build()
    verdicts, worst, spent, invalid, cried = collections.Counter(), collections.defaultdict(float), [], 0, 0
    for number in range(args.trials):
        name, comparison, seconds = trial(number, args.rounds)
        spent.append(seconds)
        invalid += comparison["validity"] == "invalid"
        cried += any(comparison["effects"][f]["verdict"] in ("faster", "slower") for f in FIGURES)
        for figure in FIGURES:
            effect = comparison["effects"][figure]
            verdicts[name, figure, effect["verdict"]] += 1
            worst[name, figure] = max(worst[name, figure], abs(effect["change"]))
    print(f"{lab.machine()}; {args.trials} trials of {args.rounds} rounds a side, "
          f"{sum(spent) / len(spent) / args.rounds / 2:.2f} s a round; {invalid} of the trials were INVALID\n")
    words = ["same", "inconclusive", "faster", "slower"]
    rows = []
    for name, _, _ in STUBS:
        for figure in FIGURES:
            rows.append([name, figure, *[verdicts[name, figure, w] for w in words], f"{100 * worst[name, figure]:.1f} %"])
    lab.table(["both sides", "figure", *words, "largest change"], rows)
    false = sum(n for (_, _, word), n in verdicts.items() if word in ("faster", "slower"))
    unknown = sum(n for (_, _, word), n in verdicts.items() if word not in words)
    print(f"false differences: {false} of {sum(verdicts.values())} verdicts, in {cried} of {args.trials} trials; "
          f"verdicts of another name: {unknown}")


if __name__ == "__main__":
    main()
