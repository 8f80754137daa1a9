//! Every fault of the list, as a table: what is done, and what must come of it, on both engines, in each way of offering a
//! load. docs/RELIABILITY.md shows this table; a test keeps it so.
//!
//! Whatever the fault, `Ran::check` holds: the run ends, with the exit code that is documented, a report is written and
//! printed, and scheduled = Σ outcomes in the report and in the log. A row says the rest.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::trial::{ALL, Mode, Trial, Tried};
use super::{host, peers, scarce};
use crate::support::{ENGINES, long, skipped};

/// A row.
struct Fault {
    name: &'static str,
    injection: &'static str,
    expected: &'static str,
    exit: &'static str,
    modes: &'static [Mode],
    /// Not a matter of the engine.
    once: bool,
    /// It takes so much of the machine that other tests would suffer: tried in the long form only.
    heavy: bool,
    attempt: fn(Trial) -> Tried,
}

const fn row(
    name: &'static str,
    injection: &'static str,
    expected: &'static str,
    exit: &'static str,
    attempt: fn(Trial) -> Tried,
) -> Fault {
    Fault { name, injection, expected, exit, modes: ALL, once: false, heavy: false, attempt }
}

const fn once(mut fault: Fault) -> Fault {
    fault.once = true;
    fault
}

const fn heavy(mut fault: Fault) -> Fault {
    fault.heavy = true;
    fault
}

/// In the order of the list; the number of a row is its place. The last three are parts of the list's 32 and 36.
const FAULTS: [Fault; 45] = [
    row("connect refused", "a port nobody listens on", "`connect-refused`", "1", peers::refused),
    row(
        "SYN unanswered",
        "`listen(0)`, full, nobody accepts",
        "`connect-timeout`, not before its limit",
        "1",
        peers::unanswered_syn,
    ),
    row(
        "black hole",
        "network namespace: a host that is not there; routes blackhole, prohibit, none",
        "`connect-timeout`; `local-resource` where our own routes forbid it; `connect-refused` without a route",
        "1",
        peers::blackhole,
    ),
    row("RST at accept", "SO_LINGER 0", "`reset`, a bounded number of connects", "1", peers::reset_at_accept),
    row(
        "RST before or in the head",
        "every second request",
        "`reset`; `stale-keepalive` before any byte on a reused connection; the others unharmed",
        "0",
        peers::reset_in_the_head,
    ),
    row("RST in the body", "every second request", "`reset`", "0", peers::reset_in_the_body),
    row("FIN in the body", "short of Content-Length", "`truncated-body`", "0", peers::end_in_the_body),
    row("FIN in a chunk", "in it, and before the last CRLF", "`truncated-body`", "0", peers::end_in_a_chunk),
    row(
        "FIN before or in the head",
        "also behind a 100",
        "`no-response` or `stale-keepalive`; `truncated-head`",
        "0",
        peers::end_in_the_head,
    ),
    row(
        "half-close by the server",
        "`shutdown(WR)` without an answer; behind a whole one",
        "`no-response` or `stale-keepalive`; 200",
        "0",
        peers::half_close,
    ),
    once(row(
        "half-close by the client",
        "raw socket to each model of the stub",
        "it answers all the same",
        "–",
        peers::half_close_of_the_client,
    )),
    row(
        "stale keep-alive",
        "the server goes when the next request comes",
        "`stale-keepalive`, or 200 on the second attempt with `--retry-stale`",
        "0",
        peers::stale_keepalive,
    ),
    row(
        "`Connection: close` each time",
        "with each answer",
        "200, a connect for each",
        "0",
        peers::connection_close,
    ),
    row("one byte at a time", "at once, and one each 10 ms", "200", "0", peers::byte_by_byte),
    row(
        "huge and endless answers",
        "a body of 200 MiB (10 GiB in the long form); endless fields; endless 1xx",
        "200 within 96 MiB of memory; `malformed`",
        "0",
        peers::endless,
    ),
    row(
        "answer before the request is whole",
        "body of 4 MiB, answered after its head",
        "413, completed",
        "0",
        peers::early_answer,
    ),
    row("surplus bytes, glued answers", "behind every second answer", "`surplus`", "0", peers::surplus),
    row(
        "garbage, TLS on a plain port",
        "SSH banner, zeros, TLS alert",
        "`malformed: bad-status-line`",
        "0",
        peers::garbage,
    ),
    row("wrong framing", "15 kinds", "`malformed` with its reason", "0", peers::wrong_framing),
    row(
        "server stands still",
        "SIGSTOP for 200 ms (5 s in the long form), SIGCONT",
        "200, none lost; the longest response is the pause",
        "0",
        peers::server_stopped,
    ),
    row(
        "server dies and comes back",
        "SIGKILL, another on the same port 150 ms later",
        "`connect-refused` meanwhile; 200 again behind it",
        "0",
        peers::server_killed,
    ),
    row(
        "client stands still",
        "SIGSTOP for 350 ms, SIGCONT, `--sla`",
        "200; INVALID",
        "3",
        host::client_stopped,
    ),
    row(
        "no descriptors",
        "`ulimit -n` at the start, `prlimit` in the middle",
        "200 or `local-resource: Too many open files`, a finding",
        "0",
        host::no_descriptors,
    ),
    row(
        "no local ports",
        "namespace with 10 ports for 20 connections",
        "200 or `local-resource: Cannot assign …`",
        "0",
        host::no_ports,
    ),
    row(
        "narrow path",
        "buffers of 4 KiB; 1 Mbit/s (tbf), with and without loss",
        "200",
        "0",
        host::narrow_path,
    ),
    row(
        "disk full",
        "tmpfs of 64 KiB; stdout to /dev/full",
        "loud; the figures on stdout, or the report, are whole",
        "1",
        host::disk_full,
    ),
    row(
        "nobody reads",
        "stdout a broken pipe; stdout and stderr closed; ISO 8859-1",
        "200",
        "0",
        host::no_reader,
    ),
    row(
        "signals",
        "SIGINT once, twice, SIGTERM, SIGHUP",
        "200, the rest `unsent`; partial, no SLA verdict",
        "130",
        host::signals,
    ),
    row(
        "another clock",
        "time namespace, CLOCK_MONOTONIC 10 h ahead",
        "200; durations and dates are right",
        "0",
        host::another_clock,
    ),
    row(
        "processor taken away",
        "`taskset -p` in the middle, `--sla`",
        "200; INVALID by `moved`",
        "3",
        host::moved,
    ),
    heavy(row(
        "noisy neighbour",
        "`nice -20` spins on our processor",
        "200; not VALID",
        "0",
        host::noisy_neighbour,
    )),
    row(
        "little memory",
        "cgroup of 256 MiB for client and server; of 64 MiB for a server that leaks, and is killed",
        "200; 200, then `connect-refused`",
        "0",
        scarce::little_memory,
    ),
    row(
        "names",
        "own /etc/hosts: unknown; first address (IPv6) dead; changed in the middle",
        "an error before any load; 200 from the other; 200 (resolved once)",
        "1, 0",
        host::names,
    ),
    row("IPv6", "`[::1]`, `[::ffff:127.0.0.1]`", "200", "0", host::ipv6),
    row(
        "io_uring forbidden",
        "strace: io_uring_setup fails with EPERM",
        "uring: an error before any load that names `--engine epoll`; epoll: 200",
        "1, 0",
        host::no_uring,
    ),
    row(
        "interrupted calls",
        "strace: EINTR, EAGAIN, EBUSY again and again",
        "200; epoll: `timeout` at its limit where a readable socket is said to be empty",
        "0",
        host::interrupted_calls,
    ),
    row(
        "failing and short sends",
        "strace: ENOMEM, ENOBUFS; a return value without a send",
        "`local-resource`; `timeout`",
        "0",
        host::failing_sends,
    ),
    row(
        "backlog of 1",
        "200 connects at once (1 000 in the long form)",
        "200 or `connect-timeout`",
        "0",
        peers::short_backlog,
    ),
    heavy(row("many connections", "9 000", "200", "0", peers::many_connections)),
    once(row(
        "bad usage",
        "zero, absurd or contradictory values, CRLF in a field",
        "refused, nothing written",
        "64",
        host::bad_usage,
    )),
    row(
        "wrong answer",
        "another request's id; in `compare`, another body",
        "`mismatch`; outputs differ",
        "0, 2",
        peers::wrong_answer,
    ),
    row(
        "coarse clock",
        "made-up run (tests/validity.rs); the real clock's step is found and judged",
        "`clock-resolution` finds it",
        "0",
        host::coarse_clock,
    ),
    row(
        "few addresses",
        "`ulimit -v` of 40 MiB to 2 GiB; `prlimit --as` in the middle",
        "an error before any load, or 200; 200, the report made with a reserve",
        "1, 0",
        scarce::few_addresses,
    ),
    row(
        "few threads",
        "cgroup with room for 1 to 4 threads",
        "an error before any load",
        "1",
        scarce::few_threads,
    ),
    heavy(row(
        "completion queue full",
        "5 000 connects and 5 000 requests at once in one thread; the queue has room for 4 096",
        "200; the report counts the overflows (uring)",
        "0",
        scarce::many_completions,
    )),
];

impl Fault {
    fn trials(&self) -> Vec<Trial> {
        let (engines, modes) =
            if self.once { (&ENGINES[..1], &self.modes[..1]) } else { (&ENGINES[..], self.modes) };
        engines.iter().flat_map(|engine| modes.iter().map(move |&mode| Trial { engine, mode })).collect()
    }
}

/// HAIRSPRING_FAULT=n tries that row alone.
fn try_rows(rows: std::ops::RangeInclusive<usize>) {
    let only: Option<usize> = std::env::var("HAIRSPRING_FAULT").ok().and_then(|text| text.parse().ok());
    let mut broken = Vec::new();
    for number in rows.filter(|number| only.is_none_or(|only| only == *number)) {
        let fault = &FAULTS[number - 1];
        if fault.heavy && !long() {
            skipped(&format!("fault {number} {}: only with HAIRSPRING_LONG=1", fault.name));
            continue;
        }
        for trial in fault.trials() {
            let label = format!("{number} {}, {}, {}", fault.name, trial.engine, trial.mode.name());
            match catch_unwind(AssertUnwindSafe(|| (fault.attempt)(trial))) {
                Ok(Ok(())) => {}
                Ok(Err(why)) => skipped(&format!("fault {label}: {why}")),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().map_or("a panic", String::as_str);
                    broken.push(format!("{label}: {text}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "these do not hold:\n{}", broken.join("\n"));
}

#[test]
fn faults_1_to_9() {
    try_rows(1..=9);
}

#[test]
fn faults_10_to_16() {
    try_rows(10..=16);
}

#[test]
fn faults_17_to_22() {
    try_rows(17..=22);
}

#[test]
fn faults_23_to_29() {
    try_rows(23..=29);
}

#[test]
fn faults_30_to_36() {
    try_rows(30..=36);
}

#[test]
fn faults_37_to_45() {
    try_rows(37..=45);
}

/// The table of the document is this one. HAIRSPRING_UPDATE_GOLDEN=1 writes it.
#[test]
fn the_document_has_every_row() {
    const BEGIN: &str = "<!-- the table of tests/faults/table.rs -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RELIABILITY.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the mark of the table");
    let (table, after) = rest.split_once(BEGIN).expect("the mark behind the table");
    let expected = table_text();
    if std::env::var_os("HAIRSPRING_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, [before, BEGIN, &expected, BEGIN, after].concat()).unwrap();
        return;
    }
    assert!(table == expected, "docs/RELIABILITY.md differs; HAIRSPRING_UPDATE_GOLDEN=1 writes it anew");
}

fn table_text() -> String {
    let mut text =
        "| # | fault | how it is made | what must come of it | exit code | epoll | uring |\n".to_owned();
    text += "|---|---|---|---|---|---|---|\n";
    for (number, fault) in (1..).zip(&FAULTS) {
        let Fault { name, injection, expected, exit, modes, once, .. } = fault;
        let modes: Vec<&str> = modes.iter().map(|mode| mode.name()).collect();
        let [epoll, uring] = match (once, number) {
            (true, _) => ["holds".to_owned(), "–".to_owned()],
            (_, 37) => [modes.join(", "), "not made: sends go through the ring".to_owned()],
            _ => [modes.join(", "), modes.join(", ")],
        };
        let _ =
            writeln!(text, "| {number} | {name} | {injection} | {expected} | {exit} | {epoll} | {uring} |");
    }
    text
}
