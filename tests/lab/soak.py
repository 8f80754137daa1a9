#!/usr/bin/env python3
"""Soak: half an hour at half of what the engine can do, log on. Does anything grow, drift or get lost?

    tests/lab/soak.py [--minutes 30] [--rate PER_S] [--engines epoll,uring]

The maximum is that of a closed loop of 64 connections for 5 s; then a constant rate of half of it (of at most --rate). Memory
and descriptors come from /proc while it runs, lateness from the rows of the log. A series is flat if zero lies inside the 95 %
interval of its slope: least squares over the means of 20 blocks, which leaves dependence shorter than a block no say; the
first tenth of the run is not in it. Totals must be exact: scheduled = completed + failed + unsent, the server's own count, and
every row of the log. Server, sampler and log writer on processor 0, client on processor 1. Needs disk for the log (about 150
bytes a request; TMPDIR says where), and says so before it begins. Prints Markdown; exit code 1 if a total is not exact.
"""
import argparse
import os
import shutil
import signal
import sys
import tempfile
import time

import lab

BLOCKS = 20
T_95 = 2.101  # Student, two-sided 95 %, 18 degrees of freedom: BLOCKS less two
RESERVE = 2 << 30  # bytes of disk that stay free
READ = 4 << 20
PARSE = 128 << 10  # of each READ, for lateness: whole blocks, so that the tail within one is seen


# ---- slopes

def slope(series):
    """[(time s, value)] -> means of the first and the last block, slope per hour, half its interval; None if too short."""
    begin, end = series[0][0], series[-1][0]
    blocks = [[] for _ in range(BLOCKS)]
    for t, value in series:
        blocks[min(BLOCKS - 1, int((t - begin) / (end - begin) * BLOCKS))].append((t / 3600, value))
    if not all(blocks):
        return None
    mean = lambda values: sum(values) / len(values)
    x, y = [mean([t for t, _ in b]) for b in blocks], [mean([v for _, v in b]) for b in blocks]
    square = sum((t - mean(x)) ** 2 for t in x)
    per_hour = sum((t - mean(x)) * (v - mean(y)) for t, v in zip(x, y)) / square
    residuals = [v - mean(y) - per_hour * (t - mean(x)) for t, v in zip(x, y)]
    error = (sum(r * r for r in residuals) / (BLOCKS - 2) / square) ** 0.5
    return y[0], y[-1], per_hour, T_95 * error


# ---- what is sampled

class Sampler:
    """Memory and descriptors of the tool while it runs; interrupts it before the disk is full."""

    def __init__(self, every):
        self.every, self.memory, self.descriptors, self.stopped = every, [], [], False

    def __call__(self, pid, ended):
        os.sched_setaffinity(0, {lab.SERVER_CPU})  # of this thread
        page, began = os.sysconf("SC_PAGE_SIZE"), time.monotonic()
        while not ended.wait(self.every):
            try:
                resident = int(open(f"/proc/{pid}/statm").read().split()[1]) * page
                descriptors = len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                return
            t = time.monotonic() - began
            self.memory.append((t, resident / 2**20))
            self.descriptors.append((t, descriptors))
            if shutil.disk_usage(tempfile.gettempdir()).free < RESERVE and not self.stopped:
                self.stopped = True
                os.kill(pid, signal.SIGINT)


def rows_and_lateness(path, every):
    """How many rows the log has, and of each interval [(s, p50 µs)], [(s, p99 µs)] of send_lag, from a sample of them."""
    lags, rows, begin = {}, 0, None
    with open(path, "rb") as file:
        names = file.readline().decode().split(",")
        intended, ready, issued = (names.index(f"{n}_ns") for n in ("intended", "ready", "issued"))
        while block := file.read(READ):
            rows += block.count(b"\n")
            # the first and the last line of what is parsed may be half ones
            for line in block[:PARSE].split(b"\n")[1:-1]:
                cells = line.split(b",", issued + 1)
                if cells[issued]:
                    due = int(cells[intended])
                    begin = due if begin is None else begin
                    lags.setdefault(int((due - begin) / 1e9 / every), []).append(int(cells[issued]) - max(due, int(cells[ready])))
    figures = {50: [], 99: []}
    for slot in sorted(lags):
        values = sorted(lags[slot])
        for percent, series in figures.items():
            series.append((slot * every, values[max(1, -(-percent * len(values) // 100)) - 1] / 1e3))
    return rows, figures[50], figures[99]


# ---- one engine

def maximum(engine):
    """Requests per second, and bytes of a row of the log."""
    server = lab.Server("fastsrv")
    run = lab.Hairspring(server.url, "--engine", engine, "-c", 64, "-d", "5s", log=True)
    server.stop()
    row = os.path.getsize(run.rows) / max(1, run.report["logs"][0]["rows"])
    run.forget()
    return run.report["throughput_per_s"], row


def soak(engine, minutes, cap):
    seconds = minutes * 60
    every = min(5.0, seconds / 120)
    most, row = maximum(engine)
    rate = int(min(most / 2, cap or most))
    needed = int(rate * seconds * row * 1.05)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if needed + RESERVE > free:
        raise SystemExit(f"the log of {rate}/s for {minutes} min needs {needed / 2**30:.1f} GiB and {RESERVE / 2**30:.0f} GiB "
                         f"must stay free, but {tempfile.gettempdir()} has {free / 2**30:.1f} GiB: use --rate, or TMPDIR")
    server, sampler = lab.Server("fastsrv", seconds=int(seconds) + 900), Sampler(every)
    run = lab.Hairspring(server.url, "--engine", engine, "--rate", f"{rate}/s", "-c", 256, "-d", f"{int(seconds)}s", log=True,
                         timeout=seconds + 800, watch=sampler)
    said = server.stop()
    try:
        rows, median, tail = rows_and_lateness(run.rows, every)
    finally:
        run.forget()
    series = {"memory, MiB": sampler.memory, "descriptors": sampler.descriptors, "send lag p50, µs": median,
              "send lag p99, µs": tail}
    columns = run.report["intervals"]["columns"]
    slices = [dict(zip(columns, r)) for r in run.report["intervals"]["rows"]]
    for figure in ("p50", "p99"):
        series[f"response {figure}, µs"] = [(s["start_ns"] / 1e9, s[f"{figure}_ns"] / 1e3) for s in slices if s[f"{figure}_ns"]]
    return {"engine": engine, "most": most, "rate": rate, "run": run, "said": said, "rows": rows, "stopped": sampler.stopped,
            "series": {n: [(t, v) for t, v in s if seconds / 10 <= t <= seconds] for n, s in series.items()}}


def totals(one):
    """[(what, said, must be)]"""
    report, totals = one["run"].report, one["run"].report["totals"]
    log, warm_up = report["logs"][0], report["warmup"]["scheduled"]
    drawn = sum(r["offered"] for r in report["rounds"])
    return [
        ("completed + failed + unsent = scheduled", totals["completed"] + totals["failed"] + totals["unsent"], totals["scheduled"]),
        ("Σ outcomes = scheduled", sum(report["outcomes"].values()), totals["scheduled"]),
        ("server's count = completed + warm-up", one["said"]["reqs"], totals["completed"] + warm_up),
        ("lines of the log = its rows", one["rows"], log["rows"]),
        ("rows + lost = drawn", one["rows"] + log["lost"], drawn),
    ]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, help="at most so many a second")
    parser.add_argument("--engines", default="epoll,uring")
    args = parser.parse_args()
    lab.build()
    print(f"{lab.machine()}; {args.minutes:g} minutes at half the maximum, constant rate, 256 connections, log on\n")
    runs, sums, slopes, exact = [], [], [], True
    for engine in args.engines.split(","):
        one = soak(engine, args.minutes, args.rate)
        report, run = one["run"].report, one["run"]
        panicked = "panicked" in run.text
        exact &= run.code == 0 and not panicked and not one["stopped"]
        word = "**stopped: disk**" if one["stopped"] else f"{run.code}{' **panic**' if panicked else ''}"
        t = report["totals"]
        runs.append([engine, f"{one['most']:,.0f}", f"{one['rate']:,}", f"{t['scheduled']:,}", f"{t['failed']:,}", f"{t['unsent']:,}",
                     f"{report['logs'][0]['lost']:,}", word, run.verdict, ", ".join(f["rule"] for f in report["validity"]["findings"])])
        for what, said, wanted in totals(one):
            exact &= said == wanted
            sums.append([engine, what, f"{said:,}", "exact" if said == wanted else f"**{said - wanted:+,}**"])
        for name, series in one["series"].items():
            found = slope(series) if len(series) > 1 else None
            if found is None:
                slopes.append([engine, name, None, None, None, None, "too few samples"])
                continue
            first, last, per_hour, half = found
            flat = "yes" if abs(per_hour) <= half else "**no**"
            slopes.append([engine, name, f"{first:.2f}", f"{last:.2f}", f"{per_hour:+.3f}", f"{per_hour - half:+.3f} … {per_hour + half:+.3f}", flat])
    lab.table(["engine", "maximum /s", "rate /s", "scheduled", "failed", "unsent", "rows lost", "exit", "verdict", "findings"], runs)
    lab.table(["engine", "total", "count", ""], sums)
    lab.table(["engine", "series", "first block", "last block", "slope per hour", "95 %", "flat"], slopes)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
