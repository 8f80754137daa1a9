#!/usr/bin/env python3
"""Speed: client processor time per request and requests per second, closed loop, one client thread, beside the peers.

    tests/lab/performance.py [--rounds 7] [--seconds 4] [--connections 64] [--only NAME,…]

Each round runs every client once, in an order drawn anew, against a fresh lab server (fastsrv) on processor 0; the client
has processor 1. Requests are the server's count; processor time is the whole process's, from its exit status, so start-up
and report count too. Ratios are taken within a round, to the lab's raw epoll loop (epollcli), which parses nothing;
medians over rounds are printed, with the least and the greatest. The machine should be quiet.
"""
import argparse
import os
import random

import lab


def clients(c, seconds, url, port):
    """Name -> command, or None where the program is missing."""
    oha = lab.find("oha", "/opt/oha/bin/oha", os.path.expanduser("~/.cargo/bin/oha"))
    found = {name: lab.find(name) for name in ("wrk", "ab", "h2load", "hey")}
    ours = [lab.HAIRSPRING, "run", url, "-c", str(c), "-d", f"{seconds}s", "--cpus", str(lab.CLIENT_CPU)]
    return {
        "raw epoll loop": [os.path.join(lab.PROGRAMS, "epollcli"), "-p", str(port), "-c", str(c), "-d", str(seconds)],
        "hairspring epoll": ours + ["--engine", "epoll", "--no-log"],
        "hairspring uring": ours + ["--engine", "uring", "--no-log"],
        "hairspring epoll + log": ours + ["--engine", "epoll"],
        "ab": found["ab"] and [found["ab"], "-q", "-k", "-c", str(c), "-t", str(seconds), "-n", "100000000", url],
        "wrk": found["wrk"] and [found["wrk"], "-t1", f"-c{c}", f"-d{seconds}s", "--latency", url],
        "h2load": found["h2load"] and [found["h2load"], "--h1", "-t1", f"-c{c}", f"-D{seconds}", url],
        "oha": oha and [oha, "--no-tui", "-c", str(c), "-z", f"{seconds}s", url],
        "hey": found["hey"] and [found["hey"], "-c", str(c), "-z", f"{seconds}s", "-cpus", "1", url],
    }


def one(name, command, seconds, keep_alive):
    server = lab.Server("fastsrv", *(["-k"] if keep_alive else []))
    try:
        port, url = server.port, server.url
        command = [part.replace("@PORT@", str(port)).replace("@URL@", url) for part in command]
        out = None
        if name.startswith("hairspring"):
            import tempfile
            out = tempfile.mkdtemp(prefix="hairspring-lab-")
            command += ["--out", os.path.join(out, "results")]
        ran = lab.Ran(command, timeout=seconds * 5 + 30, cpu=None if name.startswith("hairspring") else lab.CLIENT_CPU)
    finally:
        said = server.stop()
    if out:
        import shutil
        shutil.rmtree(out, ignore_errors=True)
    if ran.code != 0 and name != "ab":
        print(f"{name} ended with {ran.code}:\n{ran.text[-400:]}")
        return None
    n = said["reqs"]
    return {"us": ran.cpu_s / n * 1e6, "user_us": ran.user_s / n * 1e6, "per_s": n / seconds, "peak_mib": ran.peak_kib / 1024}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    lab.build()
    commands = clients(args.connections, args.seconds, "@URL@", "@PORT@")
    names = [n for n, command in commands.items() if command]
    if args.only:
        names = [n for n in names if n in args.only.split(",") or n == "raw epoll loop"]
    order, figures = random.Random(args.seed), {name: [] for name in names}
    for _ in range(args.rounds):
        order.shuffle(names)
        for name in names:
            figures[name].append(one(name, commands[name], args.seconds, keep_alive=name == "ab"))
    raw = figures["raw epoll loop"]
    rows = []
    for name in commands:
        if name not in figures:
            continue
        mine = figures[name]
        pairs = [(m, r) for m, r in zip(mine, raw) if m and r]
        cpu = [m["us"] / r["us"] for m, r in pairs]
        rate = [m["per_s"] / r["per_s"] for m, r in pairs]
        rows.append([
            name,
            f"{lab.median([m['us'] for m, _ in pairs]):.2f}",
            f"**{lab.median(cpu):.3f}** ({lab.spread(cpu)})",
            f"{lab.median([m['per_s'] for m, _ in pairs]):,.0f}",
            f"{lab.median(rate):.3f} ({lab.spread(rate)})",
            f"{lab.median([m['user_us'] for m, _ in pairs]):.2f}",
            f"{lab.median([m['peak_mib'] for m, _ in pairs]):.0f}",
        ])
    print(f"{lab.machine()}; {args.connections} connections, {args.rounds} rounds of {args.seconds} s, medians (range)\n")
    lab.table(["client", "µs/request", "× raw, processor time", "requests/s", "× raw, rate", "user µs/request", "peak MiB"], rows)
    with_log, without = figures.get("hairspring epoll + log"), figures.get("hairspring epoll")
    if with_log and without:
        ratio = [a["us"] / b["us"] for a, b in zip(with_log, without) if a and b]
        print(f"per-request log on / off, processor time of the whole process: {lab.median(ratio):.3f} ({lab.spread(ratio)})")


if __name__ == "__main__":
    main()
