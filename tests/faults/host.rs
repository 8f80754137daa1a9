//! What this machine and its user do to a run: rows 22 to 37 (but 32), 40 and 42 of the table.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hairspring::engine::Clock;
use hairspring::sys::clock::Monotonic;
use rustix::process::Signal;
use serde_json::json;

use super::machine::Tmpfs;
use super::trial::{Mode, Ran, Trial, Tried, under_way};
use crate::support::{Network, Scratch, Scripted, check_report, eventually, has, ok};

const MS: fn(u64) -> Duration = Duration::from_millis;

/// A server whose answers take so long.
fn slow(ms: u64) -> Scripted {
    Scripted::answering(move |_| {
        std::thread::sleep(MS(ms));
        ok("x")
    })
}

pub(super) fn needs(program: &str) -> Tried {
    if has(program) { Ok(()) } else { Err(format!("there is no {program}")) }
}

/// The client itself stands still: what was due meanwhile is late by its own fault, and the run convicts itself.
pub(super) fn client_stopped(trial: Trial) -> Tried {
    let (scratch, server) = (Scratch::new("stopped-client"), slow(1));
    let flags = format!("-d 900ms -c 2 --sla p99<=10s {}", trial.think());
    let mut running = trial.command(&scratch, &server.url("/"), &flags).start();
    under_way(&scratch, &mut running, MS(150));
    running.signal(Signal::STOP);
    std::thread::sleep(MS(350));
    running.signal(Signal::CONT);
    let ran = Ran::check(&scratch, running.wait(), 3);
    ran.only(&["200"]);
    assert_eq!(ran.verdict(), "invalid", "{}", ran.finished);
    Ok(())
}

/// Too few descriptors from the start, and from the middle of a run on.
pub(super) fn no_descriptors(trial: Trial) -> Tried {
    let server = slow(30);
    let scratch = Scratch::new("few");
    let rate = if trial.mode == Mode::Open { "--rate 4000/s" } else { "" };
    let command = trial.with_load(&scratch, &server.url("/"), &format!("-n 120 -c 60 {rate}"));
    let ran = Ran::check(&scratch, command.ulimit("-n 30").run(), 0);
    ran.only(&["200", "local-resource"]).some(&["local-resource"]);
    ran.because("local-resource", "Too many open files");
    assert!(ran.found("local-resource"), "{}", ran.finished);
    if trial.mode != Mode::Off {
        return Ok(()); // connections that last need no more descriptors later
    }
    needs("prlimit")?;
    let scratch = Scratch::new("fewer");
    let mut running = trial.command(&scratch, &server.url("/"), "-d 500ms -c 20 --think 1ms").start();
    under_way(&scratch, &mut running, MS(200));
    let pid = running.pid().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, "--nofile=24:24"]).status().unwrap().success());
    let ran = Ran::check(&scratch, running.wait(), 0);
    ran.only(&["200", "local-resource"]).some(&["200", "local-resource"]);
    Ok(())
}

/// Ten local ports for twenty connections.
pub(super) fn no_ports(trial: Trial) -> Tried {
    let network = Network::new("echo 40000 40009 > /proc/sys/net/ipv4/ip_local_port_range")?;
    network.within(|| {
        let server = Scripted::at("127.0.0.1:8080", |mut peer| {
            while peer.request().is_some() {
                std::thread::sleep(MS(30));
                peer.send(ok("x"));
            }
        });
        let ran = trial.run(&server.url("/"), "-n 40 -c 20", 0);
        ran.only(&["200", "local-resource"]).some(&["200", "local-resource"]);
        ran.because("local-resource", "Cannot assign requested address");
    });
    Ok(())
}

/// Buffers of a page; and a line of one megabit a second, with and without room for what does not fit.
pub(super) fn narrow_path(trial: Trial) -> Tried {
    let tiny = "for x in rmem wmem; do echo 4096 4096 4096 > /proc/sys/net/ipv4/tcp_$x; done";
    let line = "ip link set lo mtu 1500; tc qdisc add dev lo root tbf rate 1mbit burst 3kb";
    for (setup, n, bytes) in [
        (tiny.to_owned(), 20, 40_000),
        (format!("{line} latency 2s"), 2, 12_000),
        // what does not fit into the queue is lost and has to be sent again
        (format!("{line} limit 6kb"), 2, 8_000),
    ] {
        Network::new(&setup)?.within(|| {
            let scratch = Scratch::new("narrow");
            scratch.write("body", vec![b'b'; bytes]);
            let rate = if trial.mode == Mode::Open { "--rate 20/s" } else { "" };
            let flags =
                format!("--service fixed:0ms --payload-bytes {bytes} --body-file body -n {n} -c 2 {rate}");
            let command = trial.with_load(&scratch, "--stub pool", &flags);
            Ran::check(&scratch, command.run(), 0).only(&["200"]);
        });
    }
    Ok(())
}

/// No room for the log, and no room for what is printed.
pub(super) fn disk_full(trial: Trial) -> Tried {
    let server = Scripted::answering(|_| ok("x"));
    let scratch = Scratch::new("no-space");
    let disk = Tmpfs::mount(&scratch.path("disk"), "64k").ok_or("no tmpfs can be mounted")?;
    let n = if trial.mode == Mode::Open { 400 } else { 1_000 };
    let command = trial.command(&scratch, &server.url("/"), &format!("-n {n} -c 2 --out disk/results"));
    let finished = command.run().expect(1);
    assert!(finished.stderr.contains("No space left"), "{finished}");
    assert!(finished.stdout.contains(&format!("{n} scheduled = {n} completed")), "{finished}");
    drop(disk);
    let scratch = Scratch::new("dev-full");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let finished = trial.command(&scratch, &server.url("/"), "-n 8 -c 2").stdout_to(full).run().expect(1);
    assert!(finished.stderr.contains("cannot write to standard output"), "{finished}");
    check_report(&scratch.json("results/report.json"), &scratch.path("results/requests.csv")).expect_ids(8);
    Ok(())
}

/// Nobody reads what is said, or nobody can; and a locale of another time.
pub(super) fn no_reader(trial: Trial) -> Tried {
    let server = Scripted::answering(|_| ok("x"));
    let complete = |scratch: &Scratch| {
        let report = scratch.json("results/report.json");
        check_report(&report, &scratch.path("results/requests.csv")).expect_ids(8);
    };
    let scratch = Scratch::new("no-reader");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let finished = trial.command(&scratch, &server.url("/"), "-n 8 -c 2").stdout_to(writer).run().expect(0);
    assert!(finished.stderr.is_empty(), "{finished}");
    complete(&scratch);
    let scratch = Scratch::new("closed");
    scratch.write("closed.sh", "exec \"$@\" >&- 2>&-\n");
    trial.command(&scratch, &server.url("/"), "-n 8 -c 2").under("sh closed.sh").run().expect(0);
    complete(&scratch);
    let scratch = Scratch::new("locale");
    let command = trial.command(&scratch, &server.url("/"), "-n 8 -c 2");
    Ran::check(&scratch, command.under("env LC_ALL=de_DE.ISO-8859-1 LANG=C").run(), 0).only(&["200"]);
    Ok(())
}

/// The user stops the run: once, twice, by each of the signals.
pub(super) fn signals(trial: Trial) -> Tried {
    for signals in [&[Signal::INT][..], &[Signal::INT, Signal::INT], &[Signal::TERM], &[Signal::HUP]] {
        let (scratch, server) = (Scratch::new("signal"), slow(5));
        let flags = "-n 50000 -c 4 --sla p95<=10s";
        let mut running = trial.command(&scratch, &server.url("/"), flags).start();
        under_way(&scratch, &mut running, MS(50));
        assert!(eventually(MS(10_000), || server.heard().len() >= 8), "no requests: {}", running.stderr());
        signals.iter().for_each(|signal| running.signal(*signal));
        let ran = Ran::check(&scratch, running.wait(), 130);
        ran.only(&["200", "unsent"]).some(&["200", "unsent"]);
        assert_eq!(ran.report["partial"], true, "{}", ran.finished);
        assert_eq!(ran.report["sla"]["verdict"], "not_evaluated", "{}", ran.finished);
    }
    Ok(())
}

/// A monotonic clock that is ten hours ahead of the machine's. (A step of the wall clock would be one of the whole machine;
/// what becomes of kernel stamps then is tested in `sys::stamps`.)
pub(super) fn another_clock(trial: Trial) -> Tried {
    needs("unshare")?;
    let scratch = Scratch::new("time");
    scratch.write("time.sh", "exec \"$@\"\n");
    let wrapper = "unshare -T --monotonic 36000 --boottime 36000 sh time.sh";
    if !Command::new("unshare").args(["-T", "--monotonic", "1", "true"]).status().is_ok_and(|s| s.success()) {
        return Err("no time namespace can be made".to_owned());
    }
    let command = trial.command(&scratch, "--stub pool", "--service fixed:5ms -n 40 -c 2 --stamps rx");
    let ran = Ran::check(&scratch, command.under(wrapper).run(), 0);
    ran.only(&["200"]);
    let p50 = ran.report["response_ns"]["p50"].as_u64().unwrap();
    assert!((5_000_000..1_000_000_000).contains(&p50), "{p50} ns: {}", ran.finished);
    let ahead = ran.rows.rows[0].ns("intended_ns").saturating_sub(Monotonic.now().0) / 1_000_000_000;
    assert!((35_900..=36_000).contains(&ahead), "its clock is {ahead} s ahead");
    let timestamp: f64 = ran.rows.rows[0].text("timestamp_ms").parse().unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as f64;
    assert!((now - timestamp).abs() < 60_000.0, "the date is {timestamp} ms, now it is {now}");
    Ok(())
}

fn two_processors() -> Tried {
    let processors = std::thread::available_parallelism().map_or(1, |n| n.get());
    if processors < 2 { Err("there is one processor only".to_owned()) } else { Ok(()) }
}

/// The threads are moved to another processor than theirs.
pub(super) fn moved(trial: Trial) -> Tried {
    needs("taskset")?;
    two_processors()?;
    let (scratch, server) = (Scratch::new("moved"), slow(1));
    let flags = format!("-d 500ms -c 2 --cpus 1 --sla p50<=10s {}", trial.think());
    let mut running = trial.command(&scratch, &server.url("/"), &flags).start();
    under_way(&scratch, &mut running, MS(150));
    let pid = running.pid().to_string();
    let taskset = Command::new("taskset").args(["-a", "-c", "-p", "0", &pid]).output().unwrap();
    assert!(taskset.status.success(), "{taskset:?}");
    let ran = Ran::check(&scratch, running.wait(), 3);
    ran.only(&["200"]);
    assert!(ran.found("moved"), "{}", ran.finished);
    Ok(())
}

/// A process that is ended when dropped.
struct Neighbour(Child);

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Somebody more important burns the processor of the client.
pub(super) fn noisy_neighbour(trial: Trial) -> Tried {
    needs("taskset")?;
    let (scratch, server) = (Scratch::new("neighbour"), slow(1));
    // It is the process we kill (each of these executes the next), and it ends by itself, should nobody come to kill it.
    let loops = "i=0; while [ $i -lt 20000000 ]; do i=$((i + 1)); done";
    let burn = ["-n", "-20", "taskset", "-c", "1", "sh", "-c", loops];
    two_processors()?;
    let spawned = Command::new("nice").args(burn).stdin(Stdio::null()).spawn();
    let neighbour = Neighbour(spawned.map_err(|error| format!("nice: {error}"))?);
    let flags = format!("-d 500ms -c 2 --cpus 1 {}", trial.think());
    let ran = Ran::check(&scratch, trial.command(&scratch, &server.url("/"), &flags).run(), 0);
    drop(neighbour);
    ran.only(&["200"]);
    assert_ne!(ran.verdict(), "valid", "{}", ran.finished);
    Ok(())
}

/// Names: of nobody; of two hosts, of which the first is dead; of another host from the middle of the run on.
pub(super) fn names(trial: Trial) -> Tried {
    needs("unshare")?;
    let server = Scripted::answering(|_| ok("x"));
    let port = server.addr().port();
    let with_names = |hosts: &str| {
        let scratch = Scratch::new("names");
        scratch.write("hosts", hosts);
        scratch.write("nsswitch.conf", "hosts: files\n");
        let bind = "mount --bind $PWD/hosts /etc/hosts && mount --bind $PWD/nsswitch.conf /etc/nsswitch.conf";
        scratch.write("names.sh", format!("{bind} && exec \"$@\"\n"));
        scratch
    };
    const WRAPPER: &str = "unshare -m sh names.sh";
    let scratch = with_names("127.0.0.1 localhost\n");
    let command = trial.command(&scratch, &format!("http://nobody.test:{port}/"), "-n 8 -c 2");
    let finished = command.under(WRAPPER).run().expect(1);
    if finished.stderr.contains("unshare") {
        return Err(finished.stderr);
    }
    assert!(finished.stderr.contains("cannot resolve `nobody.test`"), "{finished}");
    assert!(!scratch.path("results").exists(), "nothing was measured");
    // IPv6 comes first (RFC 6724), and nobody listens there
    let scratch = with_names("127.0.0.1 two.test\n::1 two.test\n");
    let command = trial.command(&scratch, &format!("http://two.test:{port}/"), "-n 8 -c 2");
    let ran = Ran::check(&scratch, command.under(WRAPPER).run(), 0);
    ran.only(&["200"]);
    let addresses = &ran.report["rounds"][0]["addresses"];
    assert_eq!(*addresses, json!([format!("[::1]:{port}"), format!("127.0.0.1:{port}")]), "{}", ran.finished);
    let printed = format!("GET http://two.test:{port}/ ([::1]:{port}, 127.0.0.1:{port})\n");
    assert!(ran.finished.stdout.starts_with(&printed), "the addresses are not printed: {}", ran.finished);
    let scratch = with_names("127.0.0.1 moving.test\n");
    let flags = format!("-d 400ms -c 2 {}", trial.think());
    let command = trial.command(&scratch, &format!("http://moving.test:{port}/"), &flags);
    let mut running = command.under(WRAPPER).start();
    under_way(&scratch, &mut running, MS(100));
    scratch.write("hosts", "127.0.0.3 moving.test\n");
    Ran::check(&scratch, running.wait(), 0).only(&["200"]);
    Ok(())
}

/// An IPv6 host; and an IPv4 host by its IPv6 name.
pub(super) fn ipv6(trial: Trial) -> Tried {
    let loopback =
        std::net::TcpListener::bind("[::1]:0").map_err(|error| format!("no IPv6 here: {error}"))?;
    drop(loopback);
    let server = Scripted::at("[::1]:0", |mut peer| {
        while peer.request().is_some() {
            peer.send(ok("six"));
        }
    });
    trial.run(&server.url("/"), "-n 8 -c 2", 0).only(&["200"]);
    let server = Scripted::answering(|_| ok("four"));
    let mapped = format!("http://[::ffff:127.0.0.1]:{}/", server.addr().port());
    trial.run(&mapped, "-n 8 -c 2", 0).only(&["200"]);
    Ok(())
}

/// io_uring is forbidden: who asks for it is told before any load; who does not, does not notice.
pub(super) fn no_uring(trial: Trial) -> Tried {
    needs("strace")?;
    let server = Scripted::answering(|_| ok("x"));
    let scratch = Scratch::new("forbidden");
    let command = trial.command(&scratch, &server.url("/"), "-n 8 -c 2");
    let command = command.under("strace -f -o /dev/null -e inject=io_uring_setup:error=EPERM");
    if trial.is_uring() {
        let finished = command.run().expect(1);
        assert!(finished.stderr.contains("--engine epoll"), "what to do: {finished}");
        assert!(server.heard().is_empty() && !scratch.path("results").exists(), "load was sent");
    } else {
        Ran::check(&scratch, command.run(), 0).only(&["200"]);
    }
    Ok(())
}

/// A run whose system calls strace spoils; each of `inject` must have struck.
fn injected(trial: Trial, server: &Scripted, flags: &str, inject: &[&str]) -> Ran {
    let scratch = Scratch::new("injected");
    let calls: Vec<&str> = inject.iter().map(|what| what.split(':').next().unwrap()).collect();
    let strace = inject.iter().map(|what| format!(" -e inject={what}")).collect::<String>();
    let command = trial.command(&scratch, &server.url("/"), &format!("-c 2 {flags}"));
    let strace = format!("strace -f -o trace -e trace={}{strace}", calls.join(","));
    let ran = Ran::check(&scratch, command.under(&strace).run(), 0);
    let trace = std::fs::read_to_string(scratch.path("trace")).unwrap();
    for call in calls {
        let struck = trace.lines().any(|line| line.contains(call) && line.contains("(INJECTED)"));
        assert!(struck, "no {call} was spoilt: {}", ran.finished);
    }
    ran
}

fn answering() -> Scripted {
    Scripted::answering(|_| ok("x"))
}

/// System calls that are interrupted, again and again; and sockets that say "not now" though they could.
pub(super) fn interrupted_calls(trial: Trial) -> Tried {
    needs("strace")?;
    if trial.is_uring() {
        injected(trial, &answering(), "-n 40", &["io_uring_enter:error=EINTR:when=6+3"]).only(&["200"]);
        injected(trial, &answering(), "-n 40", &["io_uring_enter:error=EAGAIN:when=6+3"]).only(&["200"]);
        injected(trial, &answering(), "-n 40", &["io_uring_enter:error=EBUSY:when=6+3"]).only(&["200"]);
        return Ok(());
    }
    let storm =
        ["recvfrom:error=EINTR:when=1+2", "sendto:error=EINTR:when=1+2", "epoll_pwait2:error=EINTR:when=1+2"];
    injected(trial, &answering(), "-n 40", &storm).only(&["200"]);
    // An edge is told once: what is not read then waits for more, or for the timeout.
    let ran = injected(
        trial,
        &answering(),
        "-n 10 --timeout 300ms --drain 5s",
        &["recvfrom:error=EAGAIN:when=5+7"],
    );
    ran.only(&["200", "timeout"]).some(&["200"]);
    Ok(())
}

/// The kernel has no memory for a send; and takes less of it than there is.
pub(super) fn failing_sends(trial: Trial) -> Tried {
    needs("strace")?;
    if trial.is_uring() {
        return Err("sends go through the ring, where strace cannot reach them".to_owned());
    }
    for (errno, detail) in [("ENOMEM", "Cannot allocate memory"), ("ENOBUFS", "No buffer space")] {
        let ran = injected(trial, &answering(), "-n 20", &[&format!("sendto:error={errno}:when=3+5")]);
        ran.only(&["200", "local-resource"]).some(&["200", "local-resource"]);
        ran.because("local-resource", detail);
    }
    // the bytes that it claims to have taken are lost: such a request cannot be answered rightly
    let server = Scripted::new(|mut peer| {
        while let Some(heard) = peer.request() {
            if !heard.line().starts_with("GET ") {
                return peer.hold();
            }
            peer.send(ok("x"));
        }
    });
    let ran = injected(trial, &server, "-n 10 --timeout 300ms --drain 5s", &["sendto:retval=7:when=3+7"]);
    ran.only(&["200", "timeout"]).some(&["200", "timeout"]);
    Ok(())
}

/// What argv alone can tell is refused before anything happens.
pub(super) fn bad_usage(_: Trial) -> Tried {
    let scratch = Scratch::new("usage");
    for flags in [
        "-d 0s",
        "-n 0",
        "-c 0",
        "-n 8 -c 9",
        "--rate 0/s",
        "--rate 1000000000/s",
        "--timeout 0s",
        "-X G(T",
        "--sla p101<=1s",
        "--ok teapot",
    ] {
        let finished = scratch.hairspring(&format!("run http://127.0.0.1:9/ {flags}")).run().expect(64);
        assert!(!finished.stderr.is_empty() && finished.stdout.is_empty(), "{finished}");
    }
    for url in ["http://127.0.0.1:9/\u{fc}", "http://h\u{f6}st/", "https://x/", "ftp://x/", "http:///", "x"] {
        scratch.hairspring("run").arg(url).run().expect(64);
    }
    for field in ["X: a\r\nY: b", "X: a\nY: b", "X: a\u{1}b", "no colon", ": x"] {
        scratch.hairspring("run http://127.0.0.1:9/").args_pair("-H", field).run().expect(64);
    }
    assert_eq!(scratch.entries(), [""; 0], "something was written");
    Ok(())
}

/// A clock that shows every 4 ms only is told as such. No clock of this machine can be made so coarse for one process, so this
/// is the rule of the verdict on a made-up run; see `tests/validity.rs`, and `sys::clock` for how the step is found.
pub(super) fn coarse_clock(trial: Trial) -> Tried {
    let server = Scripted::answering(|_| ok("x"));
    let ran = trial.run(&server.url("/"), "-n 20 -c 2", 0);
    let checks = ran.report["validity"]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["rule"] == "clock-resolution").expect("it is judged");
    assert!(check["figure"].as_f64().is_some_and(|figure| figure > 0.0), "{check}");
    Ok(())
}
