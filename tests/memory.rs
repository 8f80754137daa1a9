//! Memory does not grow with the number of requests: the program by its peak, the load path by what a long virtual run
//! adds. HAIRSPRING_LONG=1 makes the runs longer; the simulated hour is whole in a release build only.

use std::process::Command;
use std::time::{Duration, Instant};

use hairspring::load::schedule::{Extent, Load, Offer, Rate, Schedule, Shard};
use hairspring::load::time::Nanos;
use hairspring::record::{OkStatuses, Recorder, slicing};
use hairspring::worker::{self, Wait};

use crate::support::granting::{Granting, driver};
use crate::support::{Scratch, Stub, long};

const MIB: u64 = 1_024;
/// The chunks of the per-request log, all together.
const LOG_BUDGET: u64 = 64 * MIB;

#[test]
fn more_requests_take_no_more_memory() {
    let scratch = Scratch::new("memory");
    let stub = Stub::start(&scratch, "--model per-core --workers 1 --service fixed:0us");
    let peak = |n: u64, flags: &str| {
        let flags = format!("run {} -n {n} -c 8 --wait park {flags}", stub.url());
        let finished = scratch.hairspring(&flags).deadline(Duration::from_secs(300)).run().expect(0);
        finished.peak_kib
    };
    let (few, many) = if long() { (20_000, 400_000) } else { (5_000, 60_000) };
    let (a, b) = (peak(few, "--no-log"), peak(many, "--no-log"));
    assert!(a > MIB && b <= a + 2 * MIB, "{few} requests: {a} KiB; {many}: {b} KiB");
    // the log's chunks are all that may be added, whatever the number
    let c = peak(many, "");
    assert!(c <= a + LOG_BUDGET + 8 * MIB, "without log {a} KiB, with {c} KiB");
}

/// What a connection adds to the peak of the program's memory; the kernel's share of it is not in there. In a release build
/// and with HAIRSPRING_LONG=1 as the issue asks, with 10 000 of them.
#[test]
fn a_connection_takes_little_memory() {
    const MOST_BYTES: u64 = 4_096;
    let many: u64 = if long() { 10_000 } else { 1_000 };
    let few = 10;
    let scratch = Scratch::new("connections");
    let stub =
        Stub::start(&scratch, "--model per-core --workers 1 --service fixed:0us --max-connections 20000");
    for engine in ["epoll", "uring"] {
        let peak = |connections: u64| {
            let flags = format!(
                "run {} -n {} -c {connections} --threads 1 --wait park --engine {engine} --no-log -X POST",
                stub.url(),
                2 * many
            );
            let run = scratch.hairspring(&flags).deadline(Duration::from_secs(300)).run();
            let (finished, report) = (run.expect(0), scratch.json("results/report.json"));
            assert_eq!(
                (&report["totals"]["successful"], &report["totals"]["connects"]),
                (&(2 * many).into(), &connections.into())
            );
            finished.peak_kib
        };
        let (least, most) = (peak(few), peak(many));
        let bytes = most.saturating_sub(least) * 1_024 / (many - few);
        eprintln!("{engine}: {bytes} bytes a connection ({least} KiB with {few}, {most} KiB with {many})");
        assert!(least > MIB && bytes <= MOST_BYTES, "{engine}: {bytes} bytes a connection");
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// 100 000 requests a second, each answered after 300 µs, in virtual time: schedule, driver, worker and recorder as in a
/// measurement, over an engine that costs nothing.
fn virtual_run(seconds: u64, mut every_second: impl FnMut(u64)) -> u64 {
    let load = Load::Constant { rate: Rate { milli_per_s: 100_000_000 } };
    let mut engine = Granting::new(Nanos::from_micros(300));
    let time = engine.time();
    let mut driver = driver(load.clone(), 100);
    let extent = Extent { count: None, time: Some(Nanos::from_secs(seconds)) };
    let (mut ports, merger) = slicing(Nanos::from_secs(1), 1);
    let merger = std::cell::RefCell::new((merger, 0, &mut every_second));
    let mut recorder = Recorder::new(OkStatuses::new(vec![200..=299]), false, 0, None);
    recorder.slice(ports.remove(0), Nanos::ZERO);
    let offer = Offer::new(load, Extent::NONE, extent, 0);
    driver.start(Schedule::new(&offer, Shard { index: 0, of: 1 }, Nanos::ZERO), Nanos::ZERO);
    let stops = || {
        use hairspring::engine::Clock;
        let (merger, seen, every_second) = &mut *merger.borrow_mut();
        let second = time.now().0 / 1_000_000_000;
        if second > *seen {
            *seen = second;
            merger.merge();
            every_second(second);
        }
        0
    };
    let (counts, ended) = worker::run(&mut engine, &time, &mut driver, &mut recorder, Wait::Park, stops);
    ended.unwrap();
    let recorded = recorder.finish(counts.driver.undrawn, 0);
    let slices = merger.into_inner().0.finish(Nanos::ZERO);
    assert_eq!(slices.iter().map(|slice| slice.requests).sum::<u64>(), recorded.measured.scheduled);
    assert_eq!((recorded.measured.successful, recorded.slices_held), (seconds * 100_000, 0));
    recorded.measured.successful
}

/// Run by the test below in a process of its own: here, other tests would be in the figure.
#[test]
#[ignore = "run by a_simulated_run_does_not_grow"]
fn virtual_run_alone() {
    let Ok(seconds) = std::env::var("HAIRSPRING_VIRTUAL_SECONDS") else { return };
    let began = Instant::now();
    let (mut early, mut late) = (0, 0);
    let requests = virtual_run(seconds.parse().unwrap(), |second| {
        late = resident_kib();
        if second == 1 {
            early = late;
        }
    });
    println!("virtual: {requests} requests in {:.1?}, {early} KiB then {late} KiB", began.elapsed());
    // what does grow, up to a bound: 3600 packed slices of a few hundred bytes
    assert!(early > 0 && late <= early + 4 * MIB, "{early} KiB after a second, {late} KiB after {seconds}");
}

#[test]
fn a_simulated_run_does_not_grow() {
    let seconds = match (long(), cfg!(debug_assertions)) {
        (true, false) => 3_600,
        (true, true) => 60,
        _ => 4,
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["memory::virtual_run_alone", "--exact", "--ignored", "--nocapture"])
        .env("HAIRSPRING_VIRTUAL_SECONDS", seconds.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let figures = said.lines().find(|line| line.contains("virtual: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(figures.contains(&format!("{} requests", seconds * 100_000)), "{figures}");
    eprintln!("{figures}");
}
