#!/usr/bin/env python3
"""The verdict on itself, put to the test: random disturbances of the client against the lab's ground-truth server, and
negative controls in which only the server is at fault.

    tests/lab/verdict.py [--trials 80] [--seed 1] [--quiet 20]

A trial is a run with one kind of disturbance. Its p95 and p99 are compared with what the server says of that very run: the same
percentile of the time from a request's arrival in its socket (kernel stamp) to the end of the send of its answer, and the path
between, which is the median difference of the medians in five quiet runs of the plan. So a server that the machine held up counts
as slow, not as a client that is wrong. The larger of the two errors counts: where the server's own tail hides a disturbance of the
client at p99, the report is still wrong at p95. Where far more is asked than can be sent, the server's truth is its fixed delay,
and the client has transmit and receive stamps to fetch, so that it, and not the server, is the limit. Off by more than 5 %, the run must be INVALID; by less than 1 %, it must not. Needs root for cgroups and negative nice values (skipped, loudly,
without). Server on processor 0, client on processor 1.
"""
import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import lab

SECONDS = 5
SKIPPED = "nothing"
CGROUP = "/sys/fs/cgroup/cpu/hairspring-lab"


def start(url, rate, connections, seconds, *args):
    out = tempfile.mkdtemp(prefix="hairspring-lab-")
    command = [lab.HAIRSPRING, "run", url, "--rate", f"{rate}/s", "-c", str(connections), "-d", f"{seconds}s", "--cpus",
               str(lab.CLIENT_CPU), "--no-log", "--out", os.path.join(out, "results"), *args]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL), out


def finish(process, out):
    import json
    import shutil
    process.wait()  # blocking: a wait with a timeout polls, and would disturb; every run is bounded in time by itself
    report = json.load(open(os.path.join(out, "results", "report.json")))
    shutil.rmtree(out, ignore_errors=True)
    return report


# ---- what disturbs: each a function of (process, dice) that runs beside the load and returns what it did

def stops(process, dice):
    length, times = dice.uniform(0.002, 0.3), dice.randint(1, 8)
    for _ in range(times):
        time.sleep(dice.uniform(0.05, SECONDS / times - length if SECONDS / times > length + 0.06 else 0.06))
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(length)
            process.send_signal(signal.SIGCONT)
    return f"stopped {times} × {1000 * length:.0f} ms"


def spinner(process, dice):
    nice, length = dice.choice([0, -20]), dice.uniform(0.1, 5)
    time.sleep(dice.uniform(0.1, 1))
    def prepare():
        os.sched_setaffinity(0, {lab.CLIENT_CPU})
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        except PermissionError:
            print("SKIPPED: a negative nice value needs root", file=sys.stderr)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=prepare)
    time.sleep(length)
    other.kill()
    other.wait()
    return f"spinner, nice {nice}, {length:.1f} s"


def quota(process, dice):
    share = dice.choice([10, 20, 30, 50, 70, 90])
    try:
        os.makedirs(CGROUP, exist_ok=True)
        open(f"{CGROUP}/cpu.cfs_period_us", "w").write("100000")
        open(f"{CGROUP}/cpu.cfs_quota_us", "w").write(str(share * 1000))
        open(f"{CGROUP}/cgroup.procs", "w").write(str(process.pid))
    except OSError as error:
        print(f"SKIPPED: no cgroup v1 cpu controller to write to ({error})", file=sys.stderr)
        return SKIPPED
    return f"CFS quota {share} %"


def bursts(process, dice):
    """Something else that wakes up often and briefly, before us: at most a few per cent of the time."""
    length, share = 10 ** dice.uniform(-4.3, -2.7), dice.uniform(0.005, 0.05)
    def prepare():
        os.sched_setaffinity(0, {lab.CLIENT_CPU})
        try:
            os.setpriority(os.PRIO_PROCESS, 0, -20)
        except PermissionError:
            print("SKIPPED: a negative nice value needs root", file=sys.stderr)
    busy = f"""
import time
while True:
    end = time.perf_counter() + {length}
    while time.perf_counter() < end: pass
    time.sleep({length / share - length})
"""
    other = subprocess.Popen([sys.executable, "-c", busy], preexec_fn=prepare)
    time.sleep(SECONDS + 0.5)
    other.kill()
    other.wait()
    return f"bursts of {1e6 * length:.0f} µs, {100 * share:.1f} % of the time"


def brief_stops(process, dice):
    length, times = 10 ** dice.uniform(-3.3, -1.7), dice.randint(1, 3)
    for _ in range(times):
        time.sleep(dice.uniform(0.05, 0.8 * SECONDS / times))
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            time.sleep(length)
            process.send_signal(signal.SIGCONT)
    return f"stopped {times} × {1000 * length:.1f} ms"


def trial(dice, kind, path_ns, plan):
    delay_ms, rate = plan
    server = lab.Server("truth", *([] if kind is overload else ["-S"]), "-D", delay_ms * 1000)
    if kind is overload:
        process, out = start(server.url, 3_000_000, 2_000, 0.3, "--engine", "epoll", "--stamps", "rxtx")
        did = "3 000 000/s asked"
    else:
        process, out = start(server.url, rate, max(64, 8 * delay_ms * rate // 1000), SECONDS)
        did = kind(process, dice)
    report = finish(process, out)
    served = server.stop()["residence_us"]
    true, off = {}, {}
    for level in ("p95", "p99"):
        true[level] = path_ns[plan] + (1e6 * delay_ms if kind is overload else 1e3 * served[level])
        said = report["response_ns"][level]
        off[level] = (said / true[level] - 1) if said is not None else float("inf")
    return did, off, true, report


def overload(process, dice):
    raise NotImplementedError


def word(report):
    return report["validity"]["verdict"].upper()


def why(report):
    worst = [f for f in report["validity"]["findings"] if f["about"] == "instrument"]
    worst.sort(key=lambda f: f["level"] != "invalid")
    return ", ".join(f"{f['rule']} {f['figure']:.3g}" for f in worst[:2])


PLANS = [(1, 1_000), (5, 400), (20, 1_500)]


def quiet_path(plan):
    """What lies between the server's time and the client's when nothing disturbs; ns."""
    found = []
    for _ in range(5):
        server = lab.Server("truth", "-S", "-D", plan[0] * 1000)
        process, out = start(server.url, plan[1], max(64, 8 * plan[0] * plan[1] // 1000), SECONDS)
        response = finish(process, out)["response_ns"]["p50"]
        found.append(response - 1e3 * server.stop()["residence_us"]["p50"])
    print(f"path at {plan[0]} ms, {plan[1]}/s: {lab.spread([f / 1e3 for f in found])} µs", file=sys.stderr)
    return lab.median(found)


def disturbances(args, dice):
    matrix, rows = collections.Counter(), []
    path_ns = {plan: quiet_path(plan) for plan in PLANS} if args.trials else {}
    kinds = [stops, bursts, spinner, bursts, brief_stops, quota, bursts, overload]
    for number in range(args.trials):
        kind, plan = kinds[number % len(kinds)], dice.choice(PLANS)
        if kind is overload:
            plan = PLANS[0]  # with longer delays the pool or the server would be the limit, not the client
        did, off, true, report = trial(dice, kind, path_ns, plan)
        if did == SKIPPED:
            continue
        worst = max(off.values())
        truth = "> 5 %" if worst > 0.05 else "< 1 %" if worst < 0.01 else "1–5 %"
        matrix[truth, word(report)] += 1
        wrong = (truth == "> 5 %" and word(report) != "INVALID") or (truth == "< 1 %" and word(report) == "INVALID")
        rows.append([number, f"{plan[0]} ms, {plan[1]}/s", did, f"{true['p99'] / 1e6:.3f}", *[f"{100 * off[l]:+.1f} %" for l in ("p95", "p99")], word(report), why(report),
                     "**WRONG**" if wrong else ""])
        print(*rows[-1], sep=" | ", file=sys.stderr, flush=True)
    return matrix, rows


def controls(args):
    """Only the server, the plan or nobody is at fault: none may be INVALID."""
    url = lambda server: server.url
    cases = []
    def lab_case(name, server_args, rate, connections, seconds=4):
        server = lab.Server("truth", *server_args)
        process, out = start(server.url, rate, connections, seconds)
        report = finish(process, out)
        server.stop()
        cases.append([name, word(report), why(report), f"{(report['response_ns']['p99'] or 0) / 1e6:.3f}"])
    def stub_case(name, *flags):
        out = tempfile.mkdtemp(prefix="hairspring-lab-")
        command = [lab.HAIRSPRING, "run", "--stub", "single", "--no-log", "--cpus", str(lab.CLIENT_CPU), "--server-cpus",
                   str(lab.SERVER_CPU), "--out", os.path.join(out, "results"), *flags]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        report = finish(process, out)
        cases.append([name, word(report), why(report), f"{(report['response_ns']['p99'] or 0) / 1e6:.3f}"])
    lab_case("server frozen 200 ms every 2 s, pool free", ["-D", "100", "-P", "2000", "-F", "200"], 1_000, 400, 8)
    lab_case("server frozen 200 ms every 2 s, pool bound", ["-D", "100", "-P", "2000", "-F", "200"], 1_000, 5, 8)
    lab_case("-c 1 --rate above 1/S", ["-D", "5000"], 400, 1)
    stub_case("rate at 3× the server's capacity", "--service", "fixed:2ms", "--rate", "1500/s", "-c", "50", "-d", "3s", "--drain", "2s")
    stub_case("slow accept", "--service", "fixed:4ms", "--keepalive", "off", "--rate", "200/s", "-c", "50", "-d", "4s")
    for number in range(args.quiet):
        plan = PLANS[number % len(PLANS)]
        lab_case(f"quiet, {plan[0]} ms, {plan[1]}/s", ["-D", plan[0] * 1000], plan[1], max(64, 8 * plan[0] * plan[1] // 1000))
    return cases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--quiet", type=int, default=20, help="0 leaves out the negative controls")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    lab.build()
    matrix, rows = disturbances(args, random.Random(args.seed))
    cases = controls(args) if args.quiet else []
    print(f"{lab.machine()}; seed {args.seed}\n")
    verdicts = ["VALID", "SUSPECT", "INVALID"]
    lab.table(["p95 or p99 is off by", *verdicts], [[t, *[matrix[t, v] for v in verdicts]] for t in ("< 1 %", "1–5 %", "> 5 %")])
    wrong = sum(1 for row in rows if row[-1])
    print(f"{len(rows)} disturbances, {wrong} judged wrongly\n")
    lab.table(["#", "plan", "disturbance", "true p99 ms", "p95 off by", "p99 off by", "verdict", "because", ""], rows)
    quiet = [c for c in cases if c[0].startswith("quiet")]
    lab.table(["negative control", "verdict", "findings", "p99 ms"], cases)
    print(f"{len(quiet)} quiet runs: " + ", ".join(f"{v} × {sum(c[1] == v for c in quiet)}" for v in verdicts))


if __name__ == "__main__":
    main()
