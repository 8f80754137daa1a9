//! Labelled scenarios: servers whose trouble is known, and what hairspring says about them. A few always; all with
//! `HAIRSPRING_LONG=1`, which prints the table of docs/ACCURACY.md with `--nocapture`.
//!
//! The rules: nothing wrong is ever "shown"; a bound client is always found; the right cause comes first in three of four;
//! at most two are only "consistent with"; none where nothing is wrong. A run that is INVALID though its client is not the
//! scenario is made again, three times at most.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::support::{Nginx, Scratch, Stub, eventually, free_port, has, skipped};

mod scenarios;

use scenarios::{Beside, SCENARIOS, Scenario, Server};

const ATTEMPTS: usize = 3;

/// What was found in one scenario.
struct Outcome {
    scenario: &'static Scenario,
    /// Rule, word, share explained.
    found: Vec<(String, String, Option<f64>)>,
    validity: String,
    summary: String,
}

impl Outcome {
    fn shown(&self) -> impl Iterator<Item = &str> {
        self.found.iter().filter(|(_, word, _)| word == "shown").map(|(rule, ..)| rule.as_str())
    }

    /// Shown though it is neither the cause nor otherwise true.
    fn wrongly_shown(&self) -> Vec<&str> {
        let Scenario { cause, also, .. } = self.scenario;
        self.shown().filter(|rule| !cause.contains(rule) && !also.contains(rule)).collect()
    }

    fn is_right(&self) -> bool {
        match self.found.first() {
            Some((first, ..)) => self.scenario.cause.contains(&first.as_str()),
            None => self.scenario.cause.is_empty(),
        }
    }

    fn consistent(&self) -> usize {
        self.found.iter().filter(|(_, word, _)| word == "consistent_with").count()
    }

    fn row(&self) -> String {
        let found = self.found.iter().map(|(rule, word, share)| {
            let share = share.map_or(String::new(), |share| format!(" {:.0} %", 100.0 * share));
            format!("{rule} ({}{share})", word.replace('_', " "))
        });
        let found = found.collect::<Vec<_>>().join(", ");
        let cause = self.scenario.cause.first().copied().unwrap_or("nothing");
        let mark = if self.is_right() { "yes" } else { "NO" };
        format!(
            "| {} | {cause} | {} | {mark} | {} |",
            self.scenario.name,
            if found.is_empty() { "nothing" } else { &found },
            self.validity
        )
    }
}

/// A process in a group of its own, killed when dropped.
struct Group(Child);

impl Group {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0).spawn().unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// Burns this processor for half a minute at most.
fn spinner(cpu: u32) -> Group {
    let mut command = Command::new("taskset");
    Group::start(command.args(["-c", &cpu.to_string(), "timeout", "30", "sh", "-c", "while :; do :; done"]))
}

/// A cgroup with a CPU quota; removed when dropped.
struct Quota(std::path::PathBuf);

impl Quota {
    /// `None` where cgroups cannot be made here.
    fn of(pid: u32, share: f64) -> Option<Self> {
        let folder =
            std::path::PathBuf::from(format!("/sys/fs/cgroup/cpu/hairspring-tests-{}", std::process::id()));
        std::fs::create_dir_all(&folder).ok()?;
        let quota = Self(folder);
        let write = |file: &str, text: String| std::fs::write(quota.0.join(file), text).ok();
        write("cpu.cfs_period_us", "100000".to_owned())?;
        write("cpu.cfs_quota_us", format!("{:.0}", 100_000.0 * share))?;
        write("cgroup.procs", pid.to_string())?;
        Some(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let gone = || std::fs::remove_dir(&self.0).is_ok() || !self.0.exists();
        eventually(Duration::from_secs(5), gone);
    }
}

/// A server of a scenario, with its URL and process.
enum Running {
    Stub(Stub),
    Nginx(Nginx),
    Script(Group, u16),
}

impl Running {
    fn start(scratch: &Scratch, server: &Server) -> Option<Self> {
        match server {
            Server::Stub(flags) => Some(Self::Stub(Stub::start_under(scratch, "taskset -c 0", flags))),
            Server::Nginx => Nginx::start(scratch).map(Self::Nginx),
            Server::Python(script) => {
                if !has("python3") {
                    return None;
                }
                let (port, file) = (free_port(), scratch.write("server.py", script));
                let mut command = Command::new("taskset");
                let command = command.args(["-c", "0", "python3"]).arg(file).arg(port.to_string());
                let group = Group::start(command.stderr(Stdio::null()));
                let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
                assert!(eventually(Duration::from_secs(15), up), "the script does not listen");
                Some(Self::Script(group, port))
            }
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Stub(stub) => stub.url(),
            Self::Nginx(nginx) => nginx.url("/file"),
            Self::Script(_, port) => format!("http://127.0.0.1:{port}/"),
        }
    }

    fn pid(&mut self) -> Option<u32> {
        match self {
            Self::Stub(stub) => Some(stub.process().pid()),
            Self::Nginx(_) => None,
            Self::Script(group, _) => Some(group.0.id()),
        }
    }
}

/// Runs it; `None` where this machine cannot.
fn play(scenario: &'static Scenario) -> Option<Outcome> {
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let outcome = attempt(scenario)?;
        let done = outcome.validity != "invalid" || scenario.cause.contains(&"client-bound");
        last = Some(outcome);
        if done {
            break;
        }
    }
    last
}

fn attempt(scenario: &'static Scenario) -> Option<Outcome> {
    let scratch = Scratch::new("attribution");
    let mut server = Running::start(&scratch, &scenario.server)?;
    let pid = server.pid();
    let _spinner = if let Beside::Spinner(cpu) = scenario.beside { Some(spinner(cpu)) } else { None };
    let _quota = match scenario.beside {
        Beside::Quota(share) => {
            let Some(quota) = Quota::of(pid?, share) else {
                skipped("no cgroup with a CPU quota can be made here");
                return None;
            };
            Some(quota)
        }
        _ => None,
    };
    let method = if matches!(server, Running::Stub(_)) { "-X POST" } else { "" };
    let pid = pid.map_or(String::new(), |pid| format!("--server-pid {pid}"));
    let flags = format!("run {} {method} --cpus 1 --no-log {pid} {}", server.url(), scenario.run);
    let mut command = scratch.hairspring(&flags).deadline(Duration::from_secs(60));
    if scenario.body > 0 {
        let body = scratch.write("body", vec![b'x'; scenario.body]);
        command = command.args_pair("--body-file", &body.display().to_string());
    }
    let finished = command.run();
    let report = scratch.json("results/report.json");
    let findings = report["findings"]["findings"].as_array().unwrap_or_else(|| panic!("{finished}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Some(Outcome {
        scenario,
        found: findings
            .iter()
            .map(|finding| (text(&finding["rule"]), text(&finding["word"]), finding["explained"].as_f64()))
            .collect(),
        validity: text(&report["validity"]["verdict"]),
        summary: text(&report["findings"]["summary"]),
    })
}

/// Two processors: the server has 0, the client 1.
fn possible() -> bool {
    let possible = std::thread::available_parallelism().is_ok_and(|n| n.get() >= 2) && has("taskset");
    if !possible {
        skipped("labelled scenarios need two processors and taskset");
    }
    possible
}

#[test]
fn nothing_wrong_is_shown() {
    if !possible() {
        return;
    }
    let long = std::env::var_os("HAIRSPRING_LONG").is_some();
    let wanted = std::env::var("HAIRSPRING_SCENARIO").ok();
    let chosen = SCENARIOS.iter().filter(|scenario| match &wanted {
        Some(part) => scenario.name.contains(part.as_str()),
        None => long || scenario.always,
    });
    println!(
        "| scenario | label | found (share explained) | first is right | validity |\n|---|---|---|---|---|"
    );
    let told = |outcome: &Outcome| println!("{}\n<!-- {} -->", outcome.row(), outcome.summary);
    let outcomes: Vec<Outcome> = chosen.filter_map(play).inspect(told).collect();
    let judged: Vec<&Outcome> = outcomes
        .iter()
        .filter(|o| o.validity != "invalid" || o.scenario.cause.contains(&"client-bound"))
        .collect();
    for outcome in &judged {
        assert!(outcome.wrongly_shown().is_empty(), "wrongly shown: {}\n{}", outcome.row(), outcome.summary);
        assert!(outcome.consistent() <= 2, "{}", outcome.row());
        if outcome.scenario.cause.is_empty() {
            assert!(outcome.found.is_empty(), "nothing is wrong: {}\n{}", outcome.row(), outcome.summary);
        }
        if outcome.scenario.cause.contains(&"client-bound") {
            assert!(outcome.is_right(), "a bound client is not found: {}", outcome.row());
        }
    }
    let right = judged.iter().filter(|outcome| outcome.is_right()).count();
    println!("{right} of {} right, {} INVALID and not judged", judged.len(), outcomes.len() - judged.len());
    assert!(4 * right >= 3 * judged.len(), "{right} of {}", judged.len());
    if long && wanted.is_none() {
        assert!(judged.len() >= 24, "too few could be judged: {}", judged.len());
    }
}
