//! What there is too little of: memory, addresses, threads, room for completions. Rows 32 and 43 to 45 of the table.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::host::needs;
use super::trial::{Mode, Ran, Trial, Tried, under_way};
use crate::support::{Finished, Scratch, Scripted, Stub, ok};

/// A cgroup (v1) of its own, removed when dropped; everything in it has ended then.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(controller: &str, limit: &str, value: &str) -> Result<Self, String> {
        let name = format!("hairspring-{}-{value}", std::process::id());
        let path = PathBuf::from(format!("/sys/fs/cgroup/{controller}/{name}"));
        let made = std::fs::create_dir_all(&path).and_then(|()| std::fs::write(path.join(limit), value));
        made.map_err(|error| format!("no {controller} cgroup can be made: {error}"))?;
        Ok(Self(path))
    }

    /// A script in `scratch` that joins it and becomes what it is given.
    fn wrapper(&self, scratch: &Scratch) -> &'static str {
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"\n", self.0.display());
        scratch.write("cgroup.sh", script);
        "sh cgroup.sh"
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// 256 MiB of memory for client and server; and so little that the server, which leaks, is killed.
pub(super) fn little_memory(trial: Trial) -> Tried {
    let (cgroup, scratch) = (Cgroup::new("memory", "memory.limit_in_bytes", "256M")?, Scratch::new("little"));
    let command = trial.command(&scratch, "--stub pool", "--service fixed:0ms -n 400 -c 8");
    Ran::check(&scratch, command.under(cgroup.wrapper(&scratch)).run(), 0).only(&["200"]);
    let (cgroup, scratch) = (Cgroup::new("memory", "memory.limit_in_bytes", "64M")?, Scratch::new("oom"));
    let mut stub = Stub::start(&scratch, "--model pool --service fixed:1ms --leak-bytes 1000000");
    std::fs::write(cgroup.0.join("cgroup.procs"), stub.process().pid().to_string()).unwrap();
    let flags = format!("--body x -d 2s -c 2 {}", trial.think());
    let ran = Ran::check(&scratch, trial.command(&scratch, &stub.url(), &flags).run(), 0);
    ran.only(&["200", "reset", "stale-keepalive", "no-response", "connect-refused"]);
    ran.some(&["200", "connect-refused"]);
    assert!(!stub.process().is_running(), "there was enough memory for the server");
    Ok(())
}

/// Refused before any load, for this reason; or all of it is there. True if refused.
fn refused(scratch: &Scratch, server: &Scripted, finished: Finished, reason: &str) -> bool {
    if finished.code() == 0 {
        Ran::check(scratch, finished, 0).only(&["200"]);
        return false;
    }
    let finished = finished.expect(1);
    assert!(finished.stderr.contains("hairspring: ") && finished.stderr.contains(reason), "{finished}");
    assert!(!finished.stderr.contains("panicked"), "{finished}");
    assert!(server.heard().is_empty(), "it had no room for a report, and sent load all the same: {finished}");
    true
}

fn bytes_of_address_space(pid: u32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4_096
}

/// Fewer and fewer addresses from the start; and none from the middle of the run on, where the reserve has to do.
pub(super) fn few_addresses(trial: Trial) -> Tried {
    needs("prlimit")?;
    let mut refusals = Vec::new();
    for mib in [40, 70, 100, 150, 200, 300, 2_000] {
        let (scratch, server) = (Scratch::new("addresses"), Scripted::answering(|_| ok("x")));
        let command = trial.command(&scratch, &server.url("/"), "-n 40 -c 2 --threads 1");
        let finished = command.ulimit(&format!("-v {}", mib << 10)).run();
        refusals.push(refused(&scratch, &server, finished, "memory"));
    }
    assert!(refusals[0], "40 MiB are enough, so nothing was tried");
    // in between, it depends on how many threads get an arena of their own from the C library before there is no room
    assert!(!refusals[6], "{refusals:?}");
    let (scratch, server) = (Scratch::new("no-more"), Scripted::answering(|_| ok("x")));
    let flags = format!("-d 900ms -c 2 --threads 1 {}", trial.think());
    // one arena: others would have addresses of their own in reserve
    let command = trial.command(&scratch, &server.url("/"), &flags).under("env MALLOC_ARENA_MAX=1");
    let mut running = command.start();
    under_way(&scratch, &mut running, Duration::from_millis(200));
    let limit = format!("--as={}", bytes_of_address_space(running.pid()));
    let status = Command::new("prlimit").args(["--pid", &running.pid().to_string(), &limit]).status();
    assert!(status.unwrap().success());
    let ran = Ran::check(&scratch, running.wait(), 0);
    ran.only(&["200"]);
    assert!(
        ran.finished.stderr.contains("there is no more memory"),
        "the limit was not felt: {}",
        ran.finished
    );
    Ok(())
}

/// No room for one of our threads, whichever it is.
pub(super) fn few_threads(trial: Trial) -> Tried {
    let mut refusals = Vec::new();
    for threads in [1, 2, 3, 4, 100] {
        let cgroup = Cgroup::new("pids", "pids.max", &threads.to_string())?;
        let (scratch, server) = (Scratch::new("threads"), Scripted::answering(|_| ok("x")));
        let command = trial.command(&scratch, &server.url("/"), "-n 40 -c 2 --threads 1");
        let finished = command.under(cgroup.wrapper(&scratch)).run();
        refusals.push(refused(&scratch, &server, finished, "thread cannot be started"));
    }
    // main, and one each for the log, the monitor, the slices, the load
    assert_eq!(refusals, [true, true, true, true, false]);
    Ok(())
}

/// More completions at once than their queue has room for: 5 000 connects, then as many requests, in one thread.
pub(super) fn many_completions(trial: Trial) -> Tried {
    const MANY: usize = 5_000;
    let scratch = Scratch::new("completions");
    let stub = Stub::start(&scratch, "--model per-core --workers 1 --service fixed:0us --backlog 8192");
    // an open loop begins with a burst, too: all of it is due within a millisecond
    let load = if trial.mode == Mode::Open { "--rate 5000000/s" } else { "" };
    let flags = format!("--body x -n {MANY} -c {MANY} --threads 1 {load}");
    let command = trial.with_load(&scratch, &stub.url(), &flags).deadline(Duration::from_secs(60));
    let ran = Ran::check(&scratch, command.run(), 0);
    ran.only(&["200"]);
    let threads = ran.report["rounds"][0]["threads"].as_array().unwrap();
    let overflows: u64 = threads.iter().map(|thread| thread["engine"]["overflows"].as_u64().unwrap()).sum();
    // a connection for each request: answers and farewells come between the connects, which may then find room
    let sure = trial.mode != Mode::Off;
    assert!(overflows > 0 || !trial.is_uring() || !sure, "nothing overflowed: {}", ran.finished);
    assert!(overflows == 0 || trial.is_uring(), "{overflows} overflows: {}", ran.finished);
    Ok(())
}
