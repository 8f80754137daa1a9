//! One run against one fault: on an engine, in a way of offering the load; and what holds of it whatever the fault is.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    Finished, Hairspring, Peer, Rows, Running, Scratch, Scripted, check_report, eventually,
};

/// How the load is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Closed loop, connections that last.
    On,
    /// Closed loop, a connection for each request.
    Off,
    /// Open loop over connections that last.
    Open,
}

pub(super) const ALL: &[Mode] = &[Mode::On, Mode::Off, Mode::Open];

impl Mode {
    /// Its name in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Open => "open",
        }
    }
}

/// An engine under a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    pub(super) engine: &'static str,
    pub(super) mode: Mode,
}

/// What a trial comes to: it holds (or the test has panicked), or cannot be made here, and why.
pub(super) type Tried = Result<(), String>;

impl Trial {
    pub(super) fn is_uring(self) -> bool {
        self.engine == "uring"
    }

    /// A pause between requests, where answers drive the load: a refusal is answered at once.
    pub(super) fn think(self) -> &'static str {
        if self.mode == Mode::Open { "" } else { "--think 1ms" }
    }

    /// A run with these flags that ends within 20 s.
    pub(super) fn command<'a>(self, scratch: &'a Scratch, target: &str, flags: &str) -> Hairspring<'a> {
        let rate = if self.mode == Mode::Open { "--rate 400/s" } else { "" };
        self.with_load(scratch, target, &format!("{rate} {flags}"))
    }

    /// The same; where the loop is open, the flags say at which rate.
    pub(super) fn with_load<'a>(self, scratch: &'a Scratch, target: &str, flags: &str) -> Hairspring<'a> {
        let keepalive = if self.mode == Mode::Off { "--keepalive off" } else { "" };
        let flags = format!("run {target} --engine {} --wait park {keepalive} {flags}", self.engine);
        scratch.hairspring(&flags).deadline(Duration::from_secs(20))
    }

    /// The whole of a simple trial.
    pub(super) fn run(self, target: &str, flags: &str, code: i32) -> Ran {
        let scratch = Scratch::new("trial");
        let finished = self.command(&scratch, target, flags).run();
        Ran::check(&scratch, finished, code)
    }

    /// Eight requests over one connection after the other, of which every second meets `fault` (true: the connection is then
    /// reset): it ends as `class`, or, where the connection was not fresh, as `reused`; the others are none the worse.
    pub(super) fn half(
        self,
        (class, reused, detail): (&str, &str, &str),
        fault: impl Fn(&mut Peer) -> bool + Send + Sync + 'static,
    ) -> Tried {
        let server = Scripted::new(move |mut peer| {
            while let Some(heard) = peer.request() {
                if heard.id().parse::<u64>().unwrap().is_multiple_of(2) {
                    peer.send(crate::support::ok("fine"));
                } else if fault(&mut peer) {
                    return peer.reset();
                } else {
                    return;
                }
            }
        });
        let ran = self.run(&server.url("/"), "-n 8 -c 1", 0);
        let class = if self.mode == Mode::Off { class } else { reused };
        for row in &ran.rows.rows {
            let faulty = row.ns("request_id") % 2 == 1;
            assert_eq!(row.text("outcome"), if faulty { class } else { "200" }, "{}", ran.finished);
            assert_eq!(row.text("detail"), if faulty { detail } else { "" }, "{}", ran.finished);
        }
        assert_eq!(server.heard().len(), 8, "a failed request must not be sent again");
        Ok(())
    }
}

/// A run that ended, wrote its report, and whose totals add up.
pub(super) struct Ran {
    pub(super) report: Value,
    pub(super) rows: Rows,
    pub(super) finished: Finished,
}

impl Ran {
    pub(super) fn check(scratch: &Scratch, finished: Finished, code: i32) -> Self {
        let finished = finished.expect(code);
        let there = scratch.path("results/report.json").exists();
        assert!(there, "no report was written: {finished}");
        let report = scratch.json("results/report.json");
        let rows = check_report(&report, &scratch.path("results/requests.csv"));
        assert!(finished.stdout.contains("scheduled = "), "the report is not printed: {finished}");
        assert!(!finished.stderr.contains("panicked"), "{finished}");
        Self { report, rows, finished }
    }

    /// How many ended like this.
    pub(super) fn count(&self, class: &str) -> u64 {
        self.report["outcomes"][class].as_u64().unwrap_or(0)
    }

    /// Fails if a request ended otherwise.
    pub(super) fn only(&self, classes: &[&str]) -> &Self {
        let sum: u64 = classes.iter().map(|class| self.count(class)).sum();
        assert_eq!(sum, self.report["totals"]["scheduled"].as_u64().unwrap(), "{}", self.finished);
        self
    }

    /// Fails unless some requests ended like each of these.
    pub(super) fn some(&self, classes: &[&str]) -> &Self {
        for class in classes {
            assert!(self.count(class) > 0, "none is {class}: {}", self.finished);
        }
        self
    }

    /// Fails unless every detail of `class` begins with `detail`.
    pub(super) fn because(&self, class: &str, detail: &str) {
        for row in self.rows.rows.iter().filter(|row| row.text("outcome") == class) {
            assert!(row.text("detail").starts_with(detail), "{row:?}");
        }
    }

    pub(super) fn verdict(&self) -> &str {
        self.report["validity"]["verdict"].as_str().unwrap()
    }

    /// True if this rule found something.
    pub(super) fn found(&self, rule: &str) -> bool {
        let findings = self.report["validity"]["findings"].as_array().unwrap();
        findings.iter().any(|finding| finding["rule"] == rule)
    }
}

/// Waits until the load has begun, and `longer`.
pub(super) fn under_way(scratch: &Scratch, running: &mut Running, longer: Duration) {
    let tasks = format!("/proc/{}/task", running.pid());
    let works = || {
        let names = std::fs::read_dir(&tasks).into_iter().flatten().flatten();
        names
            .map(|task| task.path().join("comm"))
            .any(|comm| std::fs::read_to_string(comm).is_ok_and(|name| name.starts_with("worker-")))
    };
    let begun = || (scratch.path("results/plan.json").exists() && works()) || !running.is_running();
    assert!(eventually(Duration::from_secs(15), begun), "the load does not begin");
    std::thread::sleep(longer);
    assert!(running.is_running(), "it ended early: {}", running.stderr());
}
