#!/usr/bin/env python3
"""Accuracy: what hairspring says against what is true, and what the peers say.

    tests/lab/accuracy.py [--rounds 5] [--peers] [delay] [freeze] [pacing] [engines]

The truth is the lab's: `truth` answers after a fixed delay, or freezes on a fixed phase of CLOCK_MONOTONIC; `reflat` is the
reference client. Server on processor 0, client on processor 1; medians over interleaved rounds. Prints Markdown.
"""
import argparse
import csv
import json
import math
import os
import random
import re
import sys
import tempfile

import lab


def nearest_rank(values, per_mille):
    """values sorted; the percentile in thousandths, by integer arithmetic."""
    return values[max(1, -(-per_mille * len(values) // 1000)) - 1]


# ---- fixed delays

def reflat(port, rate, seconds):
    ran = lab.Ran([os.path.join(lab.PROGRAMS, "reflat"), "-p", str(port), "-r", str(rate), "-c", "64", "-d", str(seconds)])
    return json.loads(ran.text)["intended"]["p50"]


def ours(url, rate, seconds, *args):
    run = lab.Hairspring(url, "--rate", f"{rate}/s", "-d", f"{seconds}s", "-c", 64, "--warmup", "100ms", *args)
    run.forget()
    return run.report


def p50(report, of="response_ns"):
    figures = report["kernel"][of] if of in ("remote_ns", "wake_up_ns") else report[of]
    return figures["p50"] / 1e3


def delay(args):
    print("## Fixed delays: bias of the reported median, µs above the true delay\n")
    for rate, seconds in ((997, 2.5), (97, 3)):
        rows = []
        for delay_us in (1_000, 10_000):
            found = {}
            server = lab.Server("truth", "-D", delay_us)
            for _ in range(args.rounds):
                def note(name, value):
                    found.setdefault(name, []).append(value - delay_us)
                tries = [
                    lambda: note("reflat", reflat(server.port, rate, seconds)),
                    lambda: note("epoll, spin", p50(ours(server.url, rate, seconds, "--wait", "spin", "--engine", "epoll"))),
                    lambda: note("uring, spin", p50(ours(server.url, rate, seconds, "--wait", "spin", "--engine", "uring"))),
                    lambda: note("epoll, park", p50(ours(server.url, rate, seconds, "--wait", "park", "--engine", "epoll"))),
                    lambda: note("epoll, kernel to kernel",
                                 p50(ours(server.url, rate, seconds, "--wait", "spin", "--engine", "epoll", "--stamps", "rxtx"), "remote_ns")),
                    lambda: note("uring, kernel to kernel",
                                 p50(ours(server.url, rate, seconds, "--wait", "spin", "--engine", "uring", "--stamps", "rxtx"), "remote_ns")),
                ]
                if args.peers:
                    tries += [lambda n=n, f=f: note(n, f(server.url, rate, seconds)) for n, f in peers().items()]
                random.shuffle(tries)
                for one in tries:
                    one()
            said = server.stop()
            base = lab.median(found["reflat"])
            for name, values in found.items():
                values = [v for v in values if not math.isnan(v)]
                m = lab.median(values)
                if m is None:
                    continue  # a peer whose output could not be read
                rows.append([f"{delay_us // 1000} ms", f"{rate}/s", name, f"{m:+.1f}", f"{m - base:+.1f}", lab.spread(values)])
            rows.append([f"{delay_us // 1000} ms", f"{rate}/s", "the server itself, late by", f"{said['sched_err_us']['p50']:+.2f}", "", ""])
        lab.table(["true delay", "rate", "client", "median, above the truth", "above reflat", "range over rounds"], rows)
        sys.stdout.flush()


def peers():
    """Name -> function of (url, rate, seconds) that gives its median in µs."""
    found = {}
    oha = lab.find("oha", "/opt/oha/bin/oha")
    if oha:
        def run_oha(url, rate, seconds, *more):
            ran = lab.Ran([oha, "--no-tui", "-c", "8", "-q", str(rate), "-z", f"{seconds}s", "--output-format", "json", *more, url])
            return json.loads(ran.text[ran.text.index("{"):])["latencyPercentiles"]["p50"] * 1e6
        found["oha -q"] = run_oha
        found["oha -q --latency-correction"] = lambda u, r, s: run_oha(u, r, s, "--latency-correction")
    wrk = lab.find("wrk")
    if wrk:
        found["wrk (closed, 1 connection)"] = lambda u, r, s: lab.durations_us(
            lab.Ran([wrk, "-t1", "-c1", f"-d{s}s", "--latency", u]).text, r"50%") or math.nan
    h2load = lab.find("h2load")
    if h2load:
        # h2load prints no percentiles here: the mean of its `time for request` line
        found["h2load --rps (mean)"] = lambda u, r, s: lab.durations_us(
            lab.Ran([h2load, "--h1", "-t1", "-c1", f"--rps={r}", f"-D{s}", u]).text,
            r"time for request:\s+\S+\s+\S+") or math.nan
    hey = lab.find("hey")
    if hey:
        def run_hey(url, rate, seconds):
            text = lab.Ran([hey, "-c", "8", "-q", str(rate / 8), "-z", f"{seconds}s", url]).text
            hit = re.search(r"50% in ([\d.]+) secs", text)
            return float(hit.group(1)) * 1e6 if hit else math.nan
        found["hey -q"] = run_hey
    ab = lab.find("ab")
    if ab:
        def run_ab(url, rate, seconds):
            with tempfile.NamedTemporaryFile() as file:
                lab.Ran([ab, "-q", "-k", "-c", "1", "-t", str(seconds), "-n", "1000000", "-g", file.name, url])
                rows = [int(line.split("\t")[4]) for line in open(file.name).read().splitlines()[1:]]
            return sorted(rows)[len(rows) // 2] * 1e3 if rows else math.nan
        found["ab (closed, whole ms)"] = run_ab
    return found


# ---- freezes

FREEZE_MS, PERIOD_MS, WORK_US = 200, 2_000, 100


def expectation(rows):
    """The exact response of each request: from its intended time and the phase of the freezes alone."""
    period, freeze, work = PERIOD_MS * 10**6, FREEZE_MS * 10**6, WORK_US * 10**3
    expected = []
    for intended in rows:
        phase = intended % period
        taken = intended if phase >= freeze else intended - phase + freeze
        due = taken + work
        phase = due % period
        if phase < freeze:
            due += freeze - phase
        expected.append(due - intended)
    return sorted(expected)


def freeze(args):
    print(f"## The server freezes {FREEZE_MS} ms every {PERIOD_MS / 1000:.0f} s; else it answers in {WORK_US / 1000} ms\n")
    print("The expectation knows the freeze alone, not how long the server takes over what has piled up in it: 200 requests at "
          "997.3/s, 59 at 293.7/s.\n")
    ranks = [("p50", 500), ("p95", 950), ("p99", 990), ("p99.9", 999)]
    rows = []
    variants = [(e, rate, ["--engine", e]) for e in ("epoll", "uring") for rate in args.rates]
    variants.append(("epoll, park", args.rates[0], ["--engine", "epoll", "--wait", "park"]))
    for repeat in range(args.rounds):
        for name, rate, flags in variants:
            server = lab.Server("truth", "-D", WORK_US, "-P", PERIOD_MS, "-F", FREEZE_MS)
            run = lab.Hairspring(server.url, "--rate", f"{rate}/s", "-d", "20s", "-c", 400, *flags, log=True)
            late_us = server.stop()["freeze_edge_us"]["max"]
            log = list(csv.DictReader(open(run.rows)))
            truth = expectation([int(r["intended_ns"]) for r in log])
            report = run.report["response_ns"]
            run.forget()
            row = [name, f"{rate}/s", repeat + 1]
            for label, per_mille in ranks:
                true = nearest_rank(truth, per_mille)
                said = report[label.replace(".", "")]
                row.append(f"{said / 1e6:.2f} ({100 * (said / true - 1):+.2f} %)")
            rows.append(row + [f"{late_us / 1e3:.2f}", run.verdict])
        print(f"expected here (last run): " + ", ".join(f"{l} {nearest_rank(truth, m) / 1e6:.2f} ms" for l, m in ranks) + "\n")
    lab.table(["hairspring", "rate", "round", *[f"{l} ms (off by)" for l, _ in ranks], "the server's edges late by at most, ms", "verdict"], rows)
    if args.peers:
        freeze_peers()


def freeze_peers():
    rows = []
    def one(name, command, read):
        server = lab.Server("truth", "-D", WORK_US, "-P", PERIOD_MS, "-F", FREEZE_MS)
        text = lab.Ran([part.replace("@", server.url) for part in command]).text
        server.stop()
        rows.append([name, *read(text)])
    oha, wrk, h2load, hey = lab.find("oha", "/opt/oha/bin/oha"), lab.find("wrk"), lab.find("h2load"), lab.find("hey")
    if oha:
        def read(text):
            p = json.loads(text[text.index("{"):])["latencyPercentiles"]
            return [f"{p[k] * 1e3:.2f}" if p.get(k) is not None else "–" for k in ("p50", "p95", "p99", "p99.9")]
        base = [oha, "--no-tui", "-c", "50", "-q", "1000", "-z", "20s", "--output-format", "json"]
        one("oha -q 1000", base + ["@"], read)
        one("oha -q 1000 --latency-correction", base + ["--latency-correction", "@"], read)
    if wrk:
        def read(text):
            us = [lab.durations_us(text, p) for p in (r"50%", r"99%")]
            return [f"{us[0] / 1e3:.2f}" if us[0] else "–", "–", f"{us[1] / 1e3:.2f}" if us[1] else "–", "–"]
        one("wrk (closed)", [wrk, "-t1", "-c50", "-d20s", "--latency", "@"], read)
    if hey:
        def read(text):
            at = lambda p: (re.search(rf"{p}% in ([\d.]+) secs", text) or [0, "nan"])[1]
            return [f"{float(at(p)) * 1e3:.2f}" for p in (50, 95, 99)] + ["–"]
        one("hey -q 20 -c 50", [hey, "-c", "50", "-q", "20", "-z", "20s", "@"], read)
    if h2load:
        def read(text):
            mean, top = lab.durations_us(text, r"time for request:\s+\S+\s+\S+"), lab.durations_us(text, r"time for request:\s+\S+")
            return [f"mean {mean / 1e3:.2f}" if mean else "–", "–", "–", f"max {top / 1e3:.2f}" if top else "–"]
        one("h2load --rps=20 -c 50", [h2load, "--h1", "-t1", "-c50", "--rps=20", "-D20", "@"], read)
    lab.table(["peer", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms"], rows)


# ---- pacing

def pacing(args):
    print("## Pacing: 10 000/s, constant, spinning\n")
    rows = []
    for repeat in range(args.rounds):
        for engine in ("epoll", "uring"):
            server = lab.Server("fastsrv", "-s")
            run = lab.Hairspring(server.url, "--rate", "10000/s", "-d", "5s", "-c", 64, "--wait", "spin", "--engine", engine)
            server.stop()
            lag = run.report["send_lag_ns"]
            row = [engine, repeat + 1, f"{lag['p50'] / 1e3:.2f}", f"{lag['p99'] / 1e3:.2f}", f"{lag['p999'] / 1e3:.1f}", f"{lag['max'] / 1e3:.0f}"]
            run.forget()
            rows.append(row + server_gaps(engine))
    lab.table(["engine", "round", "send lag p50 µs", "p99", "p99.9", "max", "|gap − 100 µs| at the server: p50 µs", "p99"], rows)


def server_gaps(engine):
    """Of the kernel's receive stamps at the stub."""
    out = tempfile.mkdtemp(prefix="hairspring-lab-")
    log = os.path.join(out, "stamps.csv")
    command = [lab.HAIRSPRING, "run", "--stub", "per-core", "--workers", "1", "--service", "fixed:1us", "--work", "spin",
               "--server-log", log, "--rate", "10000/s", "-d", "5s", "-c", "64", "--wait", "spin", "--engine", engine,
               "--no-log", "--out", os.path.join(out, "results")]
    lab.Ran(command, cpu=None)
    received = sorted(int(r["received_ns"]) for r in csv.DictReader(open(log)) if r["received_ns"])
    off = sorted(abs(b - a - 100_000) for a, b in zip(received, received[1:]))
    return [f"{nearest_rank(off, 500) / 1e3:.2f}", f"{nearest_rank(off, 990) / 1e3:.2f}"]


# ---- the two engines

def engines(args):
    print("## The engines on the same schedule: Poisson arrivals, 2 000/s, 1 ms\n")
    rows, agree = [], 0
    server = lab.Server("truth", "-D", 1_000)
    for repeat in range(args.rounds):
        found = {}
        for engine in random.sample(["epoll", "uring"], 2):
            found[engine] = ours(server.url, 2_000, 5, "--arrivals", "poisson", "--wait", "spin", "--engine", engine)
        assert len({found[e]["rounds"][0]["schedule_hash"] for e in found}) == 1
        for level in ("p50", "p95", "p99"):
            values = {e: found[e]["response_ns"][level] for e in found}
            bounds = {e: (i["low"] or 0, math.inf if i["high"] is None else i["high"])
                      for e, i in ((e, found[e]["response_intervals"][level]) for e in found)}
            cells = [f"{values[e] / 1e3:.1f} [{bounds[e][0] / 1e3:.1f}, {bounds[e][1] / 1e3:.1f}]" for e in ("epoll", "uring")]
            overlap = bounds["epoll"][0] <= bounds["uring"][1] and bounds["uring"][0] <= bounds["epoll"][1]
            agree += overlap
            verdicts = ", ".join(found[e]["validity"]["verdict"] for e in ("epoll", "uring"))
            rows.append([repeat + 1, level, *cells, f"{100 * (values['uring'] / values['epoll'] - 1):+.2f} %", "yes" if overlap else "no", verdicts])
    server.stop()
    lab.table(["round", "", "epoll µs [interval of the report]", "uring µs", "uring against epoll", "intervals overlap", "verdicts"], rows)
    print(f"{agree} of {len(rows)} pairs of intervals overlap")


def main():
    parts = {"delay": delay, "freeze": freeze, "pacing": pacing, "engines": engines}
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rates", type=float, nargs="*", default=[293.7, 997.3], help="of freeze, requests a second")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("parts", nargs="*", default=list(parts))
    args = parser.parse_args()
    lab.build()
    print(f"{lab.machine()}; {args.rounds} rounds\n")
    for name in args.parts:
        parts[name](args)


if __name__ == "__main__":
    main()
