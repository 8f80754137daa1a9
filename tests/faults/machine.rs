//! What the machine refuses: room on the disk, descriptors, a reader of our output.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use hairspring::load::sample::{Outcome, Sample};
use hairspring::load::schedule::{Phase, RequestId};
use hairspring::load::server_timing::ServerTiming;
use hairspring::load::time::Nanos;
use hairspring::output::{LogWriter, OutDir};
use hairspring::record::{OkStatuses, Recorder};
use hairspring::report::csv::RowContext;
use serde_json::json;

use crate::support::{Rows, Scratch, Scripted, check_report, ok};

/// A file system of this size, unmounted when dropped; `None` where we may not mount one.
pub(super) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(super) fn mount(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            refused => {
                let why = format!("no tmpfs can be mounted here, so no disk can be full: {refused:?}");
                crate::support::skipped(&why);
                None
            }
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_loud_and_loses_no_figure() {
    let scratch = Scratch::new("full-disk");
    let Some(disk) = Tmpfs::mount(&scratch.path("disk"), "64k") else { return };
    let server = Scripted::answering(|_| ok("x"));
    let flags = format!("run {} -n 3000 -c 4 --wait park --out disk/results", server.url("/"));
    let finished = scratch.hairspring(&flags).run().expect(1);
    assert!(finished.stderr.contains("No space left"), "{finished}");
    assert!(finished.stdout.contains("3000 scheduled = 3000 completed"), "{finished}");
    assert!(finished.stdout.contains("validity:"), "{finished}");
    // what could be written is whole rows
    let rows = Rows::read(&scratch.path("disk/results/requests.csv"));
    assert!(rows.rows.len() > 50 && rows.rows.len() < 3_000, "{}", rows.rows.len());
    drop(disk);
}

/// Without room for any file of results, all of them are still on standard output, and each missing file is named.
#[test]
fn a_disk_without_room_for_the_report_still_shows_every_result() {
    let scratch = Scratch::new("no-room");
    let Some(disk) = Tmpfs::mount(&scratch.path("disk"), "12k") else { return };
    let server = Scripted::answering(|_| ok("x"));
    let flags =
        format!("run {} -n 500 -c 4 --no-log --wait park --out disk/a --sla p50<=900s", server.url("/"));
    let finished = scratch.hairspring(&flags).run().expect(1);
    assert!(finished.stderr.contains("cannot write disk/a/report.json: No space left"), "{finished}");
    assert!(finished.stdout.contains("500 scheduled = 500 completed"), "{finished}");
    assert!(finished.stdout.contains("FAIL: the environment failed (exit code 1)"), "{finished}");
    std::fs::remove_dir_all(scratch.path("disk/a")).unwrap();
    let flags = "compare --service fixed:0ms -n 40 -c 2 --rounds 2 --no-log --wait park --out disk/b";
    let finished = scratch.hairspring(flags).run().expect(1);
    assert!(finished.stderr.contains("cannot write disk/b/comparison.json: No space left"), "{finished}");
    assert!(finished.stdout.contains("2 rounds each") && finished.stdout.contains("80 of 80"), "{finished}");
    drop(disk);
}

/// Room for the report, but not for the interval log behind it.
#[test]
fn an_export_that_cannot_be_written_is_an_environment_failure() {
    let scratch = Scratch::new("export-limit");
    let server = Scripted::answering(|_| ok("x"));
    // an empty folder of that name is in the way of the temporary file; the folder of results must be ours and fresh
    let flags = format!("run {} -d 1500ms -c 2 --no-log --wait park", server.url("/"));
    let running = scratch.hairspring(&flags).start();
    let there = || scratch.path("results/plan.json").is_file();
    assert!(crate::support::eventually(std::time::Duration::from_secs(10), there));
    std::fs::create_dir(scratch.path("results/.response.hlog.tmp")).unwrap();
    let finished = running.wait().expect(1);
    assert!(finished.stderr.contains("cannot write results/response.hlog"), "{finished}");
    assert!(finished.stdout.contains("validity:"), "{finished}");
    assert!(scratch.path("results/report.json").is_file() && scratch.path("results/response.hgrm").is_file());
}

/// A log whose reader does nothing until all is recorded: a pipe in place of the file.
#[test]
fn a_log_that_cannot_keep_up_loses_rows_and_nothing_else() {
    let scratch = Scratch::new("slow-log");
    let dir = OutDir::create(&scratch.path("out"), b"{}").unwrap();
    std::fs::write(dir.file("requests.csv"), "").unwrap();
    let pipe = dir.file(".requests.csv.tmp");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let reader = std::thread::spawn(move || {
        let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap();
        wait.recv().unwrap();
        let (mut rows, mut buffer) = (0, vec![0; 1 << 16]);
        // both ends are ours: what ends the reading is the row that says so
        loop {
            let n = std::io::Read::read(&mut reader, &mut buffer).unwrap();
            rows += buffer[..n].iter().filter(|byte| **byte == b'\n').count() as u64;
            if buffer[..n].ends_with(b"END") {
                return rows;
            }
        }
    });
    let context = RowContext { round: 0, wall_offset: Nanos::ZERO };
    let (writer, mut ports) = LogWriter::start(&dir, "requests.csv", context, 1, None, &[0]).unwrap();
    let mut recorder = Recorder::new(OkStatuses::new(vec![200..=299]), false, 0, ports.pop());
    let total = 1_300_000;
    for seq in 0..total {
        recorder.record(&sample(seq));
    }
    // the last rows are handed over only when there is room again
    go.send(()).unwrap();
    let recorded = recorder.finish(0, 0);
    let (outcome, _) = writer.finish();
    std::fs::OpenOptions::new()
        .write(true)
        .open(dir.file("requests.csv"))
        .unwrap()
        .write_all(b"END")
        .unwrap();
    assert_eq!(outcome.error, None);
    assert!(recorded.log_lost > 0 && outcome.lost == 0, "{} lost, {outcome:?}", recorded.log_lost);
    assert_eq!(outcome.rows + recorded.log_lost, total);
    assert_eq!(reader.join().unwrap(), outcome.rows);
    assert_eq!((recorded.measured.scheduled, recorded.measured.response_ok.count()), (total, total));
}

fn sample(seq: u64) -> Sample {
    let at = Nanos(1_000 * seq);
    Sample {
        id: RequestId { phase: Phase::Measure, seq },
        template: 0,
        intended: at,
        ready: Some(at),
        issued: Some(at),
        transmitted: None,
        arrived: None,
        first_byte: Some(at + Nanos(500)),
        done: at + Nanos(500),
        read_gap: Nanos::ZERO,
        own_wait: Nanos::ZERO,
        arrival_gap: None,
        outcome: Outcome::Completed(200),
        bytes_sent: 100,
        bytes_received: 100,
        connection: 0,
        connect: None,
        attempt: 1,
        server: ServerTiming::default(),
        digest: None,
    }
}

#[test]
fn a_log_that_cannot_be_written_to_its_end_is_an_environment_failure_with_its_count() {
    let scratch = Scratch::new("log-limit");
    let server = Scripted::answering(|_| ok("x"));
    // no file may grow beyond 256 KiB: the report fits, the log does not
    let flags = format!("run {} -n 3000 -c 4 --wait park --sla errors<=100%", server.url("/"));
    let finished = scratch.hairspring(&flags).ulimit("-f 512").run().expect(1);
    let report = scratch.json("results/report.json");
    let log = &report["logs"][0];
    let (written, lost) = (log["rows"].as_u64().unwrap(), log["lost"].as_u64().unwrap());
    let rows = Rows::read(&scratch.path("results/requests.csv"));
    assert!(lost > 0 && !rows.rows.is_empty(), "{log}");
    assert!(log["error"].as_str().is_some_and(|error| error.contains("too large")), "{log}");
    assert!(finished.stderr.contains("rows are missing in requests.csv"), "{finished}");
    // the figures are complete all the same
    assert_eq!(report["totals"]["completed"], 3_000);
    assert_eq!(report["histograms"]["response_ok"]["count"], 3_000);
    assert!(finished.stdout.contains("3000 scheduled = 3000 completed"), "{finished}");
    assert_eq!(written + lost, 3_000, "{log}");
    assert_eq!(rows.rows.len() as u64, written, "the report counts rows that the file does not have: {log}");
}

#[test]
fn a_server_log_that_cannot_be_written() {
    let scratch = Scratch::new("server-log");
    let absent =
        "run --stub pool --service fixed:0ms -n 4 -c 1 --wait park --server-log no/such/folder/x.csv";
    let finished = scratch.hairspring(absent).run().expect(1);
    assert!(finished.stderr.contains("no/such/folder/x.csv"), "{finished}");
    let full = "run --stub pool --service fixed:0ms -n 40 -c 1 --wait park --server-log /dev/full";
    let finished = scratch.hairspring(full).run().expect(1);
    assert!(finished.stderr.contains("/dev/full") || finished.stderr.contains("server log"), "{finished}");
}

#[test]
fn a_server_log_has_a_row_for_every_request() {
    let scratch = Scratch::new("server-log-rows");
    let flags =
        "run --stub single --service fixed:1ms -n 30 -c 3 --warmup 5 --wait park --server-log stamps.csv";
    scratch.hairspring(flags).run().expect(0);
    let server = Rows::read(&scratch.path("stamps.csv"));
    let client = check_report(&scratch.json("results/report.json"), &scratch.path("results/requests.csv"));
    assert_eq!(server.rows.len(), 35);
    for row in &client.rows {
        let id = row.text("request_id");
        let mut matching = server.rows.iter().filter(|r| r.text("id") == id);
        let theirs = matching.next().unwrap_or_else(|| panic!("id {id} is not in the server's log"));
        assert!(matching.next().is_none(), "id {id} twice");
        // one clock for both: the server's stamps lie within the client's
        let stamps =
            ["received", "read", "started", "ended", "written"].map(|s| theirs.ns(&format!("{s}_ns")));
        let [received, read, started, ended, _] = stamps;
        // service may begin before the server has read what is there
        for order in [[received, read, ended], [received, started, ended]] {
            let all = [&[row.ns("issued_ns")][..], &order, &[row.ns("done_ns")]].concat();
            assert!(all.is_sorted(), "{row:?} {theirs:?}");
        }
        assert_eq!(row.ns("server_service_ns"), stamps[3] - stamps[2]);
        assert_eq!(row.ns("server_queue_ns"), stamps[2] - stamps[0]);
    }
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    let scratch = Scratch::new("head");
    let server = Scripted::answering(|_| ok("x"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let flags = format!("run {} -n 20 -c 2 --wait park", server.url("/"));
    let finished = scratch.hairspring(&flags).stdout_to(writer).run().expect(0);
    assert!(!finished.stderr.contains("panicked"), "{finished}");
    assert_eq!(scratch.json("results/report.json")["totals"]["completed"], 20);
    for flags in ["run --help", "gate results/report.json --sla p50<=900s"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let finished = scratch.hairspring(flags).stdout_to(writer).run();
        assert!([0, 3].contains(&finished.code()) && finished.stderr.is_empty(), "{finished}");
    }
}

#[test]
fn descriptors_that_run_out_are_our_own_fault() {
    let scratch = Scratch::new("descriptors");
    let server = Scripted::answering(|_| ok("x"));
    let flags = format!("run {} -n 120 -c 60 --wait park", server.url("/"));
    let finished = scratch.hairspring(&flags).ulimit("-n 30").run();
    assert!([0, 1].contains(&finished.code()), "{finished}");
    let report = scratch.json("results/report.json");
    check_report(&report, &scratch.path("results/requests.csv")).expect_ids(120);
    let ours = report["outcomes"]["local-resource"].as_u64().unwrap_or(0);
    assert!(ours > 0, "{finished}");
    assert_eq!(ours + report["outcomes"]["200"].as_u64().unwrap_or(0), 120, "{}", report["outcomes"]);
    let details = report["outcome_details"].as_object().unwrap();
    assert!(details.keys().all(|key| key.starts_with("local-resource: Too many open files")), "{details:?}");
    assert_eq!(details.values().next(), Some(&json!(ours)));
}
