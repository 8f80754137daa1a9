"""What the lab's scripts share: building, starting and stopping programs on chosen processors, and what they said.

Traffic goes to 127.0.0.1 alone; every program that is started is bounded in time and killed at the end.
Standard library only. The server has processor 0, the client processor 1.
"""
import atexit
import json
import os
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAMS = os.path.join(ROOT, "target", "lab")
HAIRSPRING = os.environ.get("HAIRSPRING", os.path.join(ROOT, "target", "release", "hairspring"))
SERVER_CPU, CLIENT_CPU = 0, 1
_running = []


def build():
    subprocess.run(["make", "-s", "-C", HERE, f"OUT={PROGRAMS}"], check=True)
    if "HAIRSPRING" not in os.environ:
        subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=ROOT, check=True)


def find(name, *more):
    """The path of a peer, or None with a loud word."""
    for path in (name, *more):
        found = shutil.which(path)
        if found:
            return found
    print(f"SKIPPED: {name} is not installed", file=sys.stderr)
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """One of the lab's servers, pinned by itself; what it said when it was told to end is in `said`."""

    def __init__(self, program, *args, seconds=600):
        self.port = free_port()
        command = [os.path.join(PROGRAMS, program), "-p", str(self.port), "-a", str(SERVER_CPU)]
        command += ["-d", str(seconds), *map(str, args)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        _running.append(self.process)
        for _ in range(500):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.port}/"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        self.said = json.loads(out)
        return self.said


@atexit.register
def _end_all():
    for process in _running:
        if process.poll() is None:
            process.kill()


class Ran:
    """A client that has ended: what it printed, its exit code, its processor time in seconds.

    `watch(pid, ended)` is called in a thread of its own when it has begun; it is to return once the event `ended` is set.
    """

    def __init__(self, command, cpu=CLIENT_CPU, timeout=300, env=None, watch=None):
        with tempfile.TemporaryFile() as out:
            pin = lambda: os.sched_setaffinity(0, {cpu}) if cpu is not None else None
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, preexec_fn=pin, env=env)
            _running.append(process)
            # Asleep until it ends: polling would disturb what is measured.
            watchdog = threading.Timer(timeout, process.kill)
            watchdog.start()
            ended = threading.Event()
            watcher = watch and threading.Thread(target=watch, args=(process.pid, ended))
            if watcher:
                watcher.start()
            _, status, usage = os.wait4(process.pid, 0)
            watchdog.cancel()
            ended.set()
            if watcher:
                watcher.join()
            process.returncode = os.waitstatus_to_exitcode(status)
            self.code = process.returncode
            self.cpu_s = usage.ru_utime + usage.ru_stime
            self.user_s, self.system_s = usage.ru_utime, usage.ru_stime
            self.peak_kib = usage.ru_maxrss
            out.seek(0)
            self.text = out.read().decode(errors="replace")


class Hairspring(Ran):
    """A run of hairspring with its report. `keep`: the results folder stays until `forget`."""

    def __init__(self, url, *args, cpu=CLIENT_CPU, log=False, timeout=300, watch=None):
        self.out = tempfile.mkdtemp(prefix="hairspring-lab-")
        results = os.path.join(self.out, "results")
        command = [HAIRSPRING, "run", url, "--out", results, *map(str, args)]
        command += [] if "--cpus" in args else ["--cpus", str(cpu)]
        command += [] if log else ["--no-log"]
        # It pins itself; its helper threads may go where there is room.
        super().__init__(command, cpu=None, timeout=timeout, watch=watch)
        path = os.path.join(results, "report.json")
        self.report = json.load(open(path)) if os.path.exists(path) else None
        if self.report is None:
            raise SystemExit(f"{' '.join(command)}\n{self.text}")
        self.rows = os.path.join(results, "requests.csv")

    def forget(self):
        shutil.rmtree(self.out, ignore_errors=True)

    def us(self, figure, of="response_ns"):
        value = self.report[of][figure]
        return None if value is None else value / 1e3

    @property
    def verdict(self):
        return self.report["validity"]["verdict"]


def median(values):
    values = [v for v in values if v is not None]
    return statistics.median(values) if values else None


def spread(values):
    values = [v for v in values if v is not None]
    return f"{min(values):.2f}–{max(values):.2f}" if values else "-"


def machine():
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
    shield = os.environ.get("HAIRSPRING_LAB_SHIELD", "no processor shielded")
    return f"{os.cpu_count()} × {model}, Linux {os.uname().release}, {time.strftime('%Y-%m-%d')}, {shield}"


def table(head, rows):
    """A Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |")
    print()


def durations_us(text, pattern):
    """The first duration in `text` after `pattern`, in microseconds."""
    found = re.search(pattern + r"\D*?([\d.]+)\s*(us|µs|ms|s|secs|sec)\b", text)
    if not found:
        return None
    scale = {"us": 1, "µs": 1, "ms": 1e3, "s": 1e6, "sec": 1e6, "secs": 1e6}[found.group(2)]
    return float(found.group(1)) * scale
