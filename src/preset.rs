//! Scenario presets: names for sets of plan fields. A flag on the command line wins over its preset, and
//! the report prints the plan that came out of both.

/// Values that a preset puts in the place of the built-in defaults. `None` leaves the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// What `--preset` takes.
    pub name: &'static str,
    /// Why one would use it.
    pub intent: &'static str,
    /// `-n`
    pub requests: u64,
    /// `-c`
    pub connections: u32,
    /// `--service`
    pub service: &'static str,
    /// `--work`
    pub work: &'static str,
    /// `--workers`
    pub workers: u32,
    /// `--rounds`
    pub rounds: u32,
}

/// All presets; the first is the default of `compare` and of runs on a stub.
pub const PRESETS: [Preset; 2] = [
    Preset {
        name: "quick",
        intent: "the founding case in short: 400 requests over 20 connections, about 50 ms of work each, 1 against 8 workers",
        requests: 400,
        connections: 20,
        service: "normal:50ms,8ms",
        work: "sleep",
        workers: 8,
        rounds: 3,
    },
    Preset {
        name: "founding",
        intent: "the founding case itself: 127.6 ms of work each (one thread: N·S = 2552 ms), 1 against 4 workers, as 4.4 \
                 were effective then",
        requests: 400,
        connections: 20,
        service: "fixed:127.6ms",
        work: "sleep",
        workers: 4,
        rounds: 3,
    },
];

/// The preset of this name.
pub fn find(name: &str) -> Option<Preset> {
    PRESETS.into_iter().find(|preset| preset.name == name)
}
