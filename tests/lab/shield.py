#!/usr/bin/env python3
"""Keeps everything else off one processor while a command runs.

    tests/lab/shield.py [--cpu 1] COMMAND …

Every thread that may be moved, the interrupts and the kernel's unbound work go to the other processors, and back when the
command ends: what one does on bare metal with `isolcpus` or `cset shield`, where one may not reboot. Needs root. Threads that
are bound to the processor by the kernel stay. The command itself may use all processors; it pins what it wants there.
"""
import argparse
import glob
import os
import signal
import subprocess
import sys

WORKQUEUES = "/sys/devices/virtual/workqueue/cpumask"


def threads():
    return [int(path.rsplit("/", 1)[1]) for path in glob.glob("/proc/[0-9]*/task/[0-9]*")]


def move(thread, cpus):
    try:
        os.sched_setaffinity(thread, cpus)
    except (OSError, ValueError):
        pass  # bound by the kernel, or gone


def affinity(thread):
    try:
        return os.sched_getaffinity(thread)
    except OSError:
        return set()


def write(path, text):
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        pass  # some interrupts cannot be moved


def mask(cpus):
    return f"{sum(1 << cpu for cpu in cpus):x}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cpu", type=int, default=1)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("shield.py: needs root")
    everywhere = set(range(os.cpu_count()))
    others = everywhere - {args.cpu}
    before = {thread: affinity(thread) for thread in threads()}
    irqs = {path: open(path).read().strip() for path in glob.glob("/proc/irq/[0-9]*/smp_affinity")}
    unbound = open(WORKQUEUES).read().strip() if os.path.exists(WORKQUEUES) else None
    for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(wanted, lambda *_: sys.exit(1))
    code = 1
    try:
        for path in irqs:
            write(path, mask(others))
        if unbound:
            write(WORKQUEUES, mask(others))
        for thread, cpus in before.items():
            if args.cpu in cpus and cpus - {args.cpu}:
                move(thread, cpus - {args.cpu})
        environment = {**os.environ, "HAIRSPRING_LAB_SHIELD": f"processor {args.cpu} shielded"}
        code = subprocess.run(args.command, preexec_fn=lambda: os.sched_setaffinity(0, everywhere), env=environment).returncode
    finally:
        for path, was in irqs.items():
            write(path, was)
        if unbound:
            write(WORKQUEUES, unbound)
        for thread in threads():
            now = affinity(thread)
            # those born meanwhile have what their parents had
            if now == others:
                move(thread, before.get(thread, everywhere))
    return code


if __name__ == "__main__":
    sys.exit(main())
