//! Scenario presets: a name for a load, a server that shows something under it, and what is then judged.
//!
//! A preset is nothing but values for the defaults of flags: a flag on the command line wins, and the report prints the plan
//! that came out of both. docs/SCENARIOS.md says what each is for and how to read it.

use serde::{Deserialize, Serialize};

/// Values that a preset puts in the place of the built-in defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What `--preset` takes.
    pub name: &'static str,
    /// Why one would use it.
    pub intent: &'static str,
    /// `-n`, `-d` or `--stages`.
    pub shape: Shape,
    /// `-c`; where users come and go, the shape says how many.
    pub connections: u32,
    /// `--think`, in milliseconds.
    pub think_ms: u64,
    /// `--timeout`, in milliseconds.
    pub timeout_ms: u64,
    /// `--rounds`, each with a fresh server.
    pub rounds: u32,
    /// `--stub`, of a run without a URL.
    pub model: &'static str,
    /// `--workers`
    pub workers: u32,
    /// `--service`
    pub service: &'static str,
    /// `--work`
    pub work: &'static str,
    /// Further flags of the stub.
    pub stub: &'static [[&'static str; 2]],
    /// These paths are asked for, by GET and in equal parts, instead of what `--body` and the URL say.
    pub paths: &'static [&'static str],
    /// What the report says beyond the figures of any run.
    pub judged: Judged,
}

/// How long a preset's load lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// So many requests.
    Requests(u64),
    /// So many seconds.
    Seconds(u64),
    /// Users that come and go: (second, users), linear in between; two at the same second are a step.
    Users(&'static [(u64, u32)]),
}

/// Which questions a scenario asks of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// None beyond those of any run.
    Nothing,
    /// The first request of a round against the later ones.
    FirstAgainstLater,
    /// Each path of the mix: did it answer, and fast enough for a probe?
    Health,
    /// The stages, and whether the last is as good as the first.
    Recovery,
    /// Does it get slower, or its server larger, with time?
    Endurance,
    /// How does it behave beyond its capacity, and what is that?
    Exhaustion,
    /// Throughput by the number of users.
    Scaling,
}

/// What a plan keeps of the preset it was made from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scenario {
    /// Its name.
    pub preset: String,
    /// `--time-scale`: its durations and numbers of requests were multiplied by this.
    pub time_scale: f64,
    /// What is asked.
    pub judged: Judged,
}

/// What most presets have in common: quick.
const BASE: Preset = Preset {
    name: "quick",
    intent: "the founding case in short: 400 requests over 20 connections, about 50 ms of work each, 1 against 8 workers",
    shape: Shape::Requests(400),
    connections: 20,
    think_ms: 0,
    timeout_ms: 30_000,
    rounds: 3,
    model: "pool",
    workers: 8,
    service: "normal:50ms,8ms",
    work: "sleep",
    stub: &[],
    paths: &[],
    judged: Judged::Nothing,
};

const HEALTH_PATHS: &[&str] = &["/health/startup", "/health/live", "/health/ready"];

/// All presets; the first is what flags default to without one.
pub const PRESETS: [Preset; 12] = [
    BASE,
    Preset {
        name: "founding",
        intent: "the founding case itself: 127.6 ms of work each (one thread: N·S = 2552 ms), 1 against 4 workers, as 4.4 \
                 were effective then",
        service: "fixed:127.6ms",
        workers: 4,
        ..BASE
    },
    Preset {
        name: "cold-start",
        intent: "a fresh server: how long until it is ready, and how much slower its first requests are than its later ones",
        shape: Shape::Requests(60),
        connections: 1,
        rounds: 8,
        service: "normal:20ms,2ms",
        stub: &[["--startup-delay", "300ms"], ["--cold-start", "150ms"], ["--warm-up", "10,2"]],
        judged: Judged::FirstAgainstLater,
        ..BASE
    },
    Preset {
        name: "sequential",
        intent: "one client, one request after another: the first of its session against the later ones",
        shape: Shape::Requests(40),
        connections: 1,
        rounds: 8,
        stub: &[["--prefix-cache", "0.7"]],
        judged: Judged::FirstAgainstLater,
        ..BASE
    },
    Preset {
        name: "health",
        intent: "the three health paths, one request at a time",
        shape: Shape::Requests(600),
        connections: 1,
        rounds: 1,
        paths: HEALTH_PATHS,
        judged: Judged::Health,
        ..BASE
    },
    Preset {
        name: "health-concurrent",
        intent: "the three health paths, 100 requests at once",
        shape: Shape::Requests(6_000),
        connections: 100,
        rounds: 1,
        paths: HEALTH_PATHS,
        judged: Judged::Health,
        ..BASE
    },
    Preset {
        name: "basic",
        intent: "everyday load: 10 users for a minute",
        shape: Shape::Seconds(60),
        connections: 10,
        rounds: 1,
        ..BASE
    },
    Preset {
        name: "stress",
        intent: "more users than workers: 50 for five minutes",
        shape: Shape::Seconds(300),
        connections: 50,
        rounds: 1,
        ..BASE
    },
    Preset {
        name: "spike",
        intent: "10 users, suddenly 100 for two minutes, suddenly 10 again: what do they wait, and is it over when they are gone?",
        shape: Shape::Users(&[(0, 10), (20, 10), (20, 100), (140, 100), (140, 10), (170, 10)]),
        rounds: 1,
        judged: Judged::Recovery,
        ..BASE
    },
    Preset {
        name: "endurance",
        intent: "20 users for half an hour: does it get slower, or its server larger?",
        shape: Shape::Seconds(1_800),
        rounds: 1,
        judged: Judged::Endurance,
        ..BASE
    },
    Preset {
        name: "exhaustion",
        intent: "10 to 100 users within 30 s against a pool of 4, then 10 again: what is its capacity, does it refuse fast what \
                 is too much, and does it recover?",
        shape: Shape::Users(&[(0, 10), (5, 10), (35, 100), (45, 100), (45, 10), (60, 10)]),
        think_ms: 100,
        timeout_ms: 1_000,
        rounds: 1,
        workers: 4,
        stub: &[["--queue-limit", "16"], ["--rate-limit", "400/s"]],
        judged: Judged::Exhaustion,
        ..BASE
    },
    Preset {
        name: "scaling",
        intent: "throughput with 1, 2, 4, … 64 users: contention and coherency by the Universal Scalability Law",
        shape: Shape::Users(&[
            (0, 1),
            (10, 1),
            (10, 2),
            (20, 2),
            (20, 4),
            (30, 4),
            (30, 8),
            (40, 8),
            (40, 16),
            (50, 16),
            (50, 32),
            (60, 32),
            (60, 64),
            (70, 64),
        ]),
        rounds: 3,
        model: "threads",
        service: "normal:20ms,2ms",
        stub: &[["--lock", "0.05"]],
        judged: Judged::Scaling,
        ..BASE
    },
];

/// The preset of this name.
pub fn find(name: &str) -> Option<Preset> {
    PRESETS.into_iter().find(|preset| preset.name == name)
}

impl Preset {
    /// What a plan keeps of it.
    pub fn scenario(self, time_scale: f64) -> Scenario {
        Scenario { preset: self.name.to_owned(), time_scale, judged: self.judged }
    }

    /// The mix of its paths as `--requests` names it; none where it has none.
    pub fn mix(self) -> Option<String> {
        (!self.paths.is_empty()).then(|| format!("{MIX}{}", self.name))
    }

    /// Its load in a trial: times multiplied by `scale`, and numbers of requests, but not below what its questions need.
    pub fn requests(self, scale: f64) -> u64 {
        let Shape::Requests(n) = self.shape else { return BASE_REQUESTS };
        let least = u64::from(self.connections).max(12).min(n);
        ((n as f64 * scale).round() as u64).max(least)
    }
}

const MIX: &str = "preset:";
/// For loads that end by a count where the preset's own ends by time.
const BASE_REQUESTS: u64 = 400;

/// The lines behind a name that [`Preset::mix`] gave; `None` of any other, which is a file's.
pub fn mix_lines(name: &str) -> Option<String> {
    let preset = find(name.strip_prefix(MIX)?)?;
    Some(preset.paths.iter().map(|path| format!("{{\"method\":\"GET\",\"path\":\"{path}\"}}\n")).collect())
}
