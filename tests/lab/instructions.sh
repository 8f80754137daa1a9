#!/usr/bin/env bash
# The stable figures: user instructions per request (callgrind) and system calls per request (strace), closed loop,
# 64 connections, against the lab's fast server.
#
#   tests/lab/instructions.sh [further flags of `hairspring run`]
#
# Instructions are the difference of a run of 25000 and one of 5000 requests, so that start and report do not count.
# valgrind has no epoll_pwait2 and no io_uring: only the epoll engine can be counted.
set -eu
cd "$(dirname "$0")/../.."
make -s -C tests/lab OUT="$PWD/target/lab"
[ -n "${HAIRSPRING:-}" ] || { cargo build --release --quiet; HAIRSPRING=target/release/hairspring; }
port=$((20000 + $$ % 10000))
work=$(mktemp -d)
target/lab/fastsrv -p $port -a 0 -d 300 >/dev/null &
server=$!
trap 'kill $server 2>/dev/null; rm -rf "$work"' EXIT
sleep 0.3
load=(run "http://127.0.0.1:$port/" -c 64 --cpus 1 --no-log --wait spin "$@")
if command -v valgrind >/dev/null; then
  for n in 5000 25000; do
    valgrind --tool=callgrind --callgrind-out-file="$work/cg.$n" "$HAIRSPRING" "${load[@]}" --engine epoll -n $n --out "$work/$n" >"$work/said.$n" 2>&1 || true
  done
  python3 - "$work" <<'P'
import json, re, sys
work = sys.argv[1]
read = lambda n: int(re.search(r"Collected : (\d+)", open(f"{work}/said.{n}").read()).group(1))
turns = [json.load(open(f"{work}/{n}/report.json"))["rounds"][0]["threads"][0] for n in (5000, 25000)]
idle = sum(t["turns"] - t["useful_turns"] for t in turns)
print(f"epoll: {(read(25000) - read(5000)) / 20000:.0f} user instructions per request ({idle} idle turns: more than a few hundred spoil the figure)")
P
else
  echo "SKIPPED: valgrind is not installed" >&2
fi
if command -v strace >/dev/null; then
  for engine in epoll uring; do
    strace -f -c -o "$work/strace" "$HAIRSPRING" "${load[@]}" --engine $engine -n 50000 --out "$work/$engine" >/dev/null 2>&1 || true
    awk -v engine=$engine '/total/ { printf "%s: %.2f system calls per request, start and end included\n", engine, $4 / 50000 }
      /epoll|recv|send|io_uring/ { printf "  %8.3f %s\n", $4 / 50000, $NF }' "$work/strace"
  done
else
  echo "SKIPPED: strace is not installed" >&2
fi
