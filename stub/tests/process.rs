//! The stub as a process: ready line, signals, exit codes, and curl as a client that is not ours.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Client, infer, until};

const STUB: &str = env!("CARGO_BIN_EXE_hairspring-stub");

/// A running stub; killed if a test fails.
pub(crate) struct Stub {
    child: Child,
    ready: serde_json::Value,
}

impl Stub {
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(Command::new(STUB).args(args))
    }

    /// One that may have so many descriptors.
    pub(crate) fn start_limited(args: &[&str], descriptors: u32) -> Self {
        let limited = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        Self::spawn(Command::new("sh").args(["-c", &limited, STUB]).args(args))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let ready = serde_json::from_str(&line).expect("JSON");
        Self { child, ready }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.ready["addr"].as_str().expect("addr").parse().expect("an address")
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("kill");
    }

    /// Waits for the end: exit code and stderr.
    fn wait(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().expect("wait").code();
        let mut text = String::new();
        self.child.stderr.take().expect("stderr").read_to_string(&mut text).expect("UTF-8");
        (code, text)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // Most have ended by now, which is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a stub that is expected to end at once.
fn fail(args: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = Command::new(STUB).args(args).output().expect("run");
    assert!(stdout.is_empty() || status.success(), "no ready line: {args:?}");
    (status.code(), String::from_utf8(stderr).expect("UTF-8"))
}

#[test]
fn the_ready_line_says_what_was_started() {
    let stub = Stub::start(&[
        "--mode",
        "multi",
        "--service",
        "normal:50ms,8ms",
        "--workers",
        "3",
        "--server-cpus",
        "0",
    ]);
    assert_eq!(stub.ready["ready"], true);
    assert_eq!(stub.ready["pid"], stub.child.id());
    assert_eq!((&stub.ready["model"], &stub.ready["workers"]), (&"pool".into(), &3.into()));
    assert_eq!(stub.ready["service"], "normal:50ms,8ms");
    assert_eq!(stub.ready["kernel_stamps"], true);
    assert!(stub.ready["sleep_method"].as_str().is_some_and(|s| s.contains("spin")));
}

#[test]
fn sigterm_and_sigint_finish_the_answer_and_exit_0() {
    for (mode, signal) in [("single", Signal::TERM), ("multi", Signal::INT)] {
        let log = std::env::temp_dir().join(format!("stub-term-{}-{mode}.csv", std::process::id()));
        let log_flag = log.to_str().expect("UTF-8");
        let stub = Stub::start(&["--mode", mode, "--service", "fixed:300ms", "--server-log", log_flag]);
        let mut client = Client::connect(stub.addr());
        client.send(infer("last"));
        if mode == "multi" {
            // The reactor is free to say when the request is in service.
            let mut other = Client::connect(stub.addr());
            until("service", || other.exchange(crate::support::get("/stats")).json()["in_flight"] == 1);
        } else {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        stub.signal(signal);
        assert_eq!(client.response().map(|r| r.status), Some(200), "{mode}");
        assert!(client.is_closed(), "{mode}");
        drop(client);
        assert_eq!(stub.wait().0, Some(0), "{mode}");
        let rows = std::fs::read_to_string(&log).expect("log");
        assert!(rows.lines().nth(1).is_some_and(|row| row.starts_with("last,")), "{rows}");
        std::fs::remove_file(&log).expect("remove");
    }
}

#[test]
fn a_port_in_use_or_an_unwritable_log_exits_1() {
    for model in ["pool", "per-core"] {
        let stub = Stub::start(&["--model", model]);
        let addr = stub.addr().to_string();
        for other in ["single", "per-core"] {
            let (code, message) = fail(&["--model", other, "--addr", &addr]);
            assert_eq!(code, Some(1), "{model} {other}");
            assert!(message.contains(&addr), "{message}");
        }
    }
    let (code, message) = fail(&["--server-log", "/nonexistent/folder/log.csv"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("/nonexistent/folder/log.csv"), "{message}");
    let (code, message) = fail(&["--server-cpus", "1023"]);
    assert_eq!(code, Some(1));
    assert!(message.contains("1023"), "{message}");
}

#[test]
fn bad_flags_exit_64_and_say_what_to_write() {
    for (args, hint) in [
        (["--service", "gauss:1ms"], "normal:50ms,8ms"),
        (["--service", "fixed:50"], "50ms"),
        (["--model", "fast"], "per-core"),
        (["--server-cpus", "1024"], "0,2-3"),
        (["--rate-limit", "0"], "100/s"),
        (["--workers", "0"], "1..="),
        (["--addr", "nowhere"], "--addr"),
        (["--header-timeout", "10"], "50ms"),
    ] {
        let (code, message) = fail(&args);
        assert_eq!(code, Some(64), "{args:?}");
        assert!(message.contains(hint), "{args:?}: {message}");
    }
    assert_eq!(fail(&["--mode", "single", "--model", "pool"]).0, Some(64));
    assert_eq!(fail(&["--help"]).0, Some(0));
    assert_eq!(fail(&["--version"]).0, Some(0));
}

#[test]
fn the_user_is_warned_about_what_has_no_effect_or_is_open_to_others() {
    let stub = Stub::start(&["--mode", "single", "--queue-limit", "5", "--addr", "127.0.0.1:0"]);
    stub.signal(Signal::TERM);
    let (code, message) = stub.wait();
    assert_eq!(code, Some(0));
    assert!(message.contains("--queue-limit has no effect"), "{message}");
}

#[test]
fn curl_agrees() {
    let curl = |args: &[&str]| {
        let output = Command::new("curl").args(["-sS", "--noproxy", "*", "-m", "10"]).args(args).output();
        output.map(|o| (o.status.success(), String::from_utf8_lossy(&o.stdout).into_owned()))
    };
    if curl(&["--version"]).is_err() {
        // Past the harness, which would swallow what a passing test prints.
        let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: curl is not installed\n");
        return;
    }
    for model in ["single", "threads", "pool", "per-core"] {
        let stub = Stub::start(&["--model", model]);
        let url = format!("http://{}", stub.addr());
        let infer = format!("{url}/v1/infer");
        let live = format!("{url}/health/live");
        let body = "x".repeat(5000);
        for (args, expected) in [
            (vec!["-d", &body, "-H", "X-Request-Id: c1", &infer], "\"id\":\"c1\""),
            (vec!["-d", &body, "-H", "Transfer-Encoding: chunked", &infer], "\"body_digest\":\"xxh64:"),
            (vec!["-d", &body, "-H", "Expect: 100-continue", &infer], "\"model\":\"hairspring-stub\""),
            (vec!["-0", "-d", &body, &infer], "\"payload\":"),
            (vec!["-I", &live], "HTTP/1.1 200 OK"),
            (
                vec![
                    "-o",
                    "/dev/null",
                    "-w",
                    "%{http_code} %{num_connects}\n",
                    &live,
                    "-o",
                    "/dev/null",
                    &live,
                ],
                "200 0",
            ),
            (vec!["-X", "POST", "-w", "%{http_code}", &infer], "411"),
            (vec!["-w", "%{http_code}", &url], "404"),
        ] {
            let (ok, text) = curl(&args).expect("curl");
            assert!(ok && text.contains(expected), "{model} {args:?}: {text}");
        }
        stub.signal(Signal::TERM);
        assert_eq!(stub.wait().0, Some(0));
    }
}
