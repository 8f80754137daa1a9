//! The verdict of the instrument on itself: VALID, SUSPECT or INVALID, with the rule, figure and limit that
//! decided.
//!
//! Only the instrument's own faults convict: that it sent or read late, lost a request, was not given a processor.
//! A bound pool, a server that died or a rate it did not take are findings about the target: SUSPECT at most, and the
//! gate decides. What counts is how far the instrument moved the percentiles that are asked for, not how often it was
//! disturbed: 20 µs of lag spoils a 50 µs answer, not a 50 ms one, and one stop of 300 ms spoils no p99 of a minute.
//!
//! The table of rules is here; how each figure comes about is in `figures`.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

use self::figures::{Evidence, Seen};
use super::stats::Percentile;
use crate::facts::{Host, Round};
use crate::plan::Plan;
use crate::record::Tally;

mod figures;

/// How far a run can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No reason to doubt.
    Valid,
    /// Something is off; see the findings.
    Suspect,
    /// The figures are the instrument's as much as the target's.
    Invalid,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The figure is within its limits.
    Ok,
    /// The figure could not be had on this machine.
    NotEvaluated,
    /// Beyond the first limit.
    Suspect,
    /// Beyond the second limit.
    Invalid,
}

/// Whom a check is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum About {
    /// Ourselves: only this convicts.
    Instrument,
    /// The server, or the plan for it.
    Target,
}

/// One check with its figure and limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name.
    pub rule: String,
    /// Whom it is about.
    pub about: About,
    /// What it found.
    pub level: Level,
    /// The figure; null where it is not visible.
    pub figure: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// SUSPECT above this.
    pub suspect_above: f64,
    /// INVALID above this; null where it cannot convict.
    pub invalid_above: Option<f64>,
    /// What the figure is, and what to do if it is too high.
    pub meaning: String,
}

/// The verdict and what it rests on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validity {
    /// The worst of the findings.
    pub verdict: Verdict,
    /// The checks that did not pass, what convicts first.
    pub findings: Vec<Check>,
    /// All checks that apply to the run.
    pub checks: Vec<Check>,
}

impl Validity {
    /// True if this rule could have convicted.
    pub fn has_judged(&self, rule: &str) -> bool {
        self.checks.iter().any(|check| check.rule == rule && check.invalid_above.is_some())
    }
}

struct Rule {
    name: &'static str,
    about: About,
    figure: fn(&Evidence<'_>) -> Seen,
    unit: &'static str,
    suspect_above: f64,
    invalid_above: Option<f64>,
    meaning: &'static str,
}

/// How far the instrument moved a percentile; one check for each that is judged.
const DISTURBANCE: Rule = Rule {
    name: "disturbance",
    about: About::Instrument,
    figure: |_| Seen::Moot, // see `disturbances`
    unit: "% of that response percentile",
    suspect_above: 1.0,
    invalid_above: Some(3.0),
    meaning: "so much of it is our own: sent late, read late, or waiting for a loop that was stopped or busy; give the client \
        a processor of its own (--cpus, taskset), fewer connections per thread, a lower rate, or --wait spin",
};

/// The other thresholds. METHOD.md explains them.
const RULES: [Rule; 21] = [
    Rule {
        name: "stalls",
        about: About::Instrument,
        figure: figures::stalls,
        unit: "% of the run",
        suspect_above: 1.0,
        invalid_above: Some(20.0),
        meaning: "our loops came to a turn more than 5 ms late: stopped, swapped out or starved",
    },
    Rule {
        name: "run-delay",
        about: About::Instrument,
        figure: figures::run_delay,
        unit: "% of the run",
        suspect_above: 1.0,
        invalid_above: Some(20.0),
        meaning: "something else ran on our processors; keep the server and others off them (taskset), or name other --cpus",
    },
    Rule {
        name: "moved",
        about: About::Instrument,
        figure: figures::moved,
        unit: "threads",
        suspect_above: 0.0,
        invalid_above: Some(0.0),
        meaning: "client threads were taken off their processors during the run (taskset, a cpuset, a processor switched off); \
            leave them where the plan has them",
    },
    Rule {
        name: "helpers",
        about: About::Instrument,
        figure: figures::helpers,
        unit: "% of the run",
        suspect_above: 1.0,
        invalid_above: Some(20.0),
        meaning: "our threads that merge and write took so much of a processor that the server or the client needs; leave one \
            to them (--cpus, --server-cpus), or use --no-log",
    },
    Rule {
        name: "wake-delay",
        about: About::Instrument,
        figure: figures::wake_delay,
        unit: "% of the median response time",
        suspect_above: 1.0,
        invalid_above: Some(5.0),
        meaning: "each time an answer woke us we waited so long for a processor, unseen by our own stamps; use --wait spin or \
            --stamps rx",
    },
    Rule {
        name: "steal",
        about: About::Instrument,
        figure: figures::steal,
        unit: "% of the run",
        suspect_above: 0.5,
        invalid_above: Some(20.0),
        meaning: "the hypervisor gave our processors to others; repeat, or measure on bare metal",
    },
    Rule {
        name: "busy",
        about: About::Instrument,
        figure: figures::busy,
        unit: "% of the run",
        suspect_above: 95.0,
        invalid_above: None,
        meaning: "a client thread was busy all the time, so the client may be the bottleneck; more --cpus, or a --rate below \
            saturation",
    },
    Rule {
        name: "loop-loss",
        about: About::Instrument,
        figure: figures::loop_loss,
        unit: "% of the connections' time",
        suspect_above: 1.0,
        invalid_above: None,
        meaning: "closed loop: connections whose turn it was waited for our loop, so the load was lower than the plan's; \
            fewer connections per thread, or more --cpus",
    },
    Rule {
        name: "own-backlog",
        about: About::Instrument,
        figure: figures::own_backlog,
        unit: "% of the scheduled",
        suspect_above: 0.1,
        invalid_above: Some(1.0),
        meaning: "requests that were never sent because our own loop did not come to them; the rate is more than this client \
            can send",
    },
    Rule {
        name: "allocations",
        about: About::Instrument,
        figure: figures::allocations,
        unit: "per 100 requests",
        suspect_above: 10.0,
        invalid_above: None,
        meaning: "our loop asked for memory while it measured, which it should not: please report it",
    },
    Rule {
        name: "local-resource",
        about: About::Instrument,
        figure: figures::local_resource,
        unit: "% of the scheduled",
        suspect_above: 0.0,
        invalid_above: Some(0.1),
        meaning: "this machine ran out of descriptors, ports or memory; raise ulimit -n, keep connections alive, lower -c",
    },
    Rule {
        name: "clock-cost",
        about: About::Instrument,
        figure: figures::clock_cost,
        unit: "ns a read",
        suspect_above: 250.0,
        invalid_above: None,
        meaning: "reading the clock is a system call here; choose the tsc clock source",
    },
    Rule {
        name: "clock-error",
        about: About::Instrument,
        figure: figures::clock_error,
        unit: "% of the median response time",
        suspect_above: 1.0,
        invalid_above: None,
        meaning: "the counter was found so far off CLOCK_MONOTONIC at the worst of its comparisons",
    },
    Rule {
        name: "clock-resolution",
        about: About::Instrument,
        figure: figures::clock_resolution,
        unit: "% of the median response time",
        suspect_above: 1.0,
        invalid_above: Some(5.0),
        meaning: "the clock advances in steps of this size, and no difference between two stamps is finer; choose the tsc clock \
            source",
    },
    Rule {
        name: "littles-law",
        about: About::Instrument,
        figure: figures::littles_law,
        unit: "parts in 10^9 of the time in flight",
        suspect_above: 1.0,
        invalid_above: Some(1.0),
        meaning: "requests in flight, integrated over time, and the sum of their times differ: samples were lost or doubled; \
            please report it",
    },
    Rule {
        name: "conservation",
        about: About::Instrument,
        figure: figures::conservation,
        unit: "requests",
        suspect_above: 0.0,
        invalid_above: Some(0.0),
        meaning: "scheduled is not completed + failed + unsent: please report it",
    },
    Rule {
        name: "out-of-range",
        about: About::Target,
        figure: figures::out_of_range,
        unit: "values",
        suspect_above: 0.0,
        invalid_above: None,
        meaning: "response times beyond the histogram's hour; percentiles among them are reported as the maximum",
    },
    Rule {
        name: "pool-bound",
        about: About::Target,
        figure: figures::pool_bound,
        unit: "% of the response time at p99",
        suspect_above: 5.0,
        invalid_above: None,
        meaning: "requests waited for a free connection or a connect; with more -c the results would differ",
    },
    Rule {
        name: "not-offered",
        about: About::Target,
        figure: figures::not_offered,
        unit: "% of the scheduled",
        suspect_above: 0.1,
        invalid_above: None,
        meaning: "requests of the schedule were never sent before the run ended; the target did not take this rate",
    },
    Rule {
        name: "server-timing",
        about: About::Target,
        figure: figures::server_timing,
        unit: "answers",
        suspect_above: 0.0,
        invalid_above: None,
        meaning: "the server's own account was longer than the whole response; it is left out of all figures",
    },
    Rule {
        name: "server-died",
        about: About::Target,
        figure: figures::server_died,
        unit: "servers",
        suspect_above: 0.0,
        invalid_above: None,
        meaning: "a server that we started was gone when the load was over; see its output file",
    },
];

/// Judges the rounds of one target; `tally` is all of them together, `asked` the percentiles that its gate asks for.
pub fn judge(plan: &Plan, host: &Host, rounds: &[Round], tally: &Tally, asked: &[Percentile]) -> Validity {
    let evidence = Evidence { plan, host, rounds, tally };
    let mut checks = disturbances(tally, asked);
    checks
        .extend(RULES.iter().filter_map(|rule| check(rule, rule.name.to_owned(), (rule.figure)(&evidence))));
    let mut findings: Vec<Check> =
        checks.iter().filter(|c| matches!(c.level, Level::Suspect | Level::Invalid)).cloned().collect();
    findings.sort_by_key(|check| Reverse(check.level));
    let verdict = match findings.first().map(|check| check.level) {
        Some(Level::Invalid) => Verdict::Invalid,
        Some(_) => Verdict::Suspect,
        None => Verdict::Valid,
    };
    Validity { verdict, findings, checks }
}

/// How far the instrument moved p50, p95, p99, and every percentile that is asked for. p99.9 is looked at too, but cannot
/// convict unasked: in most runs it rests on a handful of requests.
pub fn disturbances(tally: &Tally, asked: &[Percentile]) -> Vec<Check> {
    let convicting = [Percentile::P50, Percentile::P95, Percentile::P99];
    let mut judged = [&convicting[..], &[Percentile::P999], asked].concat();
    judged.sort_unstable();
    judged.dedup();
    let checks = judged.into_iter().filter_map(|p| {
        let convicts = convicting.contains(&p) || asked.contains(&p);
        let rule = Rule { invalid_above: DISTURBANCE.invalid_above.filter(|_| convicts), ..DISTURBANCE };
        let mut check = check(&rule, format!("{}-{p}", rule.name), figures::disturbance(tally, p))?;
        if !figures::is_beyond_reading(tally, p) {
            check.level = check.level.min(Level::Suspect);
        }
        Some(check)
    });
    checks.collect()
}

fn check(rule: &Rule, name: String, seen: Seen) -> Option<Check> {
    let figure = match seen {
        Seen::Is(figure) => Some(figure),
        Seen::Hidden => None,
        Seen::Moot => return None,
    };
    let level = match figure {
        None => Level::NotEvaluated,
        Some(x) if rule.invalid_above.is_some_and(|limit| x > limit) => Level::Invalid,
        Some(x) if x > rule.suspect_above => Level::Suspect,
        Some(_) => Level::Ok,
    };
    Some(Check {
        rule: name,
        about: rule.about,
        level,
        figure,
        unit: rule.unit.to_owned(),
        suspect_above: rule.suspect_above,
        invalid_above: rule.invalid_above,
        meaning: rule.meaning.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_instrument_can_be_convicted_and_every_rule_says_what_to_do() {
        for rule in RULES.iter().chain([&DISTURBANCE]) {
            assert!(rule.about == About::Instrument || rule.invalid_above.is_none(), "{}", rule.name);
            assert!(rule.invalid_above.is_none_or(|limit| limit >= rule.suspect_above), "{}", rule.name);
            assert!(rule.meaning.len() > 20 && !rule.unit.is_empty(), "{}", rule.name);
        }
    }
}
