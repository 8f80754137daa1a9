#!/usr/bin/env python3
"""Keeps everything else off one processor while a command runs.

    tests/lab/shield.py [--cpu 1] COMMAND …

Every thread that may be moved, the interrupts and the kernel's unbound work go to the other processors, and back when the
command ends: what one does on bare metal with `isolcpus` or `cset shield`, where one may not reboot. Needs root. Threads that
are bound to the processor by the kernel stay. The command itself may use all processors; it pins what it wants there. The other
programs have the idle class meanwhile (SCHED_IDLE), so that on the processors they share with the server they wait for it;
those with a negative nice value and the kernel's own threads do not.
"""
import argparse
import glob
import os
import signal
import subprocess
import sys

WORKQUEUES = "/sys/devices/virtual/workqueue/cpumask"
# With it each session is a group of its own, and the idle class counts within a session only.
AUTOGROUP = "/proc/sys/kernel/sched_autogroup_enabled"


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


def may_wait(thread):
    """A program's thread of ordinary priority, or the kernel's memory sampler."""
    try:
        stat = open(f"/proc/{thread}/stat").read()
        fields = stat[stat.rindex(")") + 2:].split()
        # fields 9 (flags), 19 (nice) of proc(5)
        program = not int(fields[6]) & 0x200000
        ordinary = policy(thread) == os.SCHED_OTHER and int(fields[16]) >= 0
        return ordinary and (program or "(kdamond" in stat)
    except OSError:
        return False


def policy(thread):
    try:
        return os.sched_getscheduler(thread)
    except OSError:
        return None


def schedule(thread, wanted):
    try:
        os.sched_setscheduler(thread, wanted, os.sched_param(0))
    except OSError:
        pass  # gone


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
    waiting = [thread for thread in before if thread != os.getpid() and may_wait(thread)]
    irqs = {path: open(path).read().strip() for path in glob.glob("/proc/irq/[0-9]*/smp_affinity")}
    settings = {path: open(path).read().strip() for path in (WORKQUEUES, AUTOGROUP) if os.path.exists(path)}
    for wanted in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(wanted, lambda *_: sys.exit(1))
    code = 1
    try:
        for path in irqs:
            write(path, mask(others))
        if WORKQUEUES in settings:
            write(WORKQUEUES, mask(others))
        if AUTOGROUP in settings:
            write(AUTOGROUP, "0")
        for thread, cpus in before.items():
            if args.cpu in cpus and cpus - {args.cpu}:
                move(thread, cpus - {args.cpu})
        for thread in waiting:
            schedule(thread, os.SCHED_IDLE)
        environment = {**os.environ, "HAIRSPRING_LAB_SHIELD": f"processor {args.cpu} shielded"}
        code = subprocess.run(args.command, preexec_fn=lambda: os.sched_setaffinity(0, everywhere), env=environment).returncode
    finally:
        for path, was in {**irqs, **settings}.items():
            write(path, was)
        for thread in waiting:
            schedule(thread, os.SCHED_OTHER)
        for thread in threads():
            now = affinity(thread)
            # those born meanwhile have what their parents had
            if thread not in before and policy(thread) == os.SCHED_IDLE:
                schedule(thread, os.SCHED_OTHER)
            if now == others:
                move(thread, before.get(thread, everywhere))
    return code


if __name__ == "__main__":
    sys.exit(main())
