//! The verdict of the instrument on itself: VALID, SUSPECT or INVALID, with the rule, figure and limit that
//! decided.
//!
//! Only the instrument's own faults convict: lateness of its sends, its own waiting for a processor, time
//! the hypervisor took, its clock. A bound pool, a server that died or a rate it did not take are findings
//! about the target: SUSPECT at most, and the gate decides. Disturbance is related to the percentile it
//! disturbs: 20 µs of lag spoils a 50 µs answer, not a 50 ms one.

use serde::{Deserialize, Serialize};

use super::summary::TABLED;
use crate::facts::{Host, Round};
use crate::load::sample::Failure;
use crate::plan::Plan;
use crate::record::{Distribution, Tally, count_of};

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
    /// The checks that did not pass.
    pub findings: Vec<Check>,
    /// All checks.
    pub checks: Vec<Check>,
}

struct Rule {
    name: &'static str,
    about: About,
    unit: &'static str,
    suspect_above: f64,
    invalid_above: Option<f64>,
    meaning: &'static str,
}

/// All thresholds, in one place. METHOD.md explains them.
const RULES: [Rule; 11] = [
    Rule {
        name: "send-lag",
        about: About::Instrument,
        unit: "% of the response time at the same percentile",
        suspect_above: 2.0,
        invalid_above: Some(5.0),
        meaning: "how late our own sends were; fewer connections per thread, more --cpus or --wait spin lower it",
    },
    Rule {
        name: "run-delay",
        about: About::Instrument,
        unit: "% of the run",
        suspect_above: 1.0,
        invalid_above: Some(5.0),
        meaning: "something else ran on our processors; keep the server and others off them (taskset), or name other --cpus",
    },
    Rule {
        name: "stalls",
        about: About::Instrument,
        unit: "% of the run",
        suspect_above: 1.0,
        invalid_above: Some(5.0),
        meaning: "our loops came to a turn more than 5 ms late: stopped, swapped out or starved",
    },
    Rule {
        name: "local-resource",
        about: About::Instrument,
        unit: "% of the scheduled",
        suspect_above: 0.0,
        invalid_above: Some(0.1),
        meaning: "this machine ran out of descriptors, ports or memory; raise ulimit -n, keep connections alive, lower -c",
    },
    Rule {
        name: "steal",
        about: About::Instrument,
        unit: "% of the run",
        suspect_above: 0.5,
        invalid_above: Some(5.0),
        meaning: "the hypervisor gave our processors to others; repeat, or measure on bare metal",
    },
    Rule {
        name: "clock-cost",
        about: About::Instrument,
        unit: "ns a read",
        suspect_above: 250.0,
        invalid_above: None,
        meaning: "reading the clock is a system call here; choose the tsc clock source",
    },
    Rule {
        name: "out-of-range",
        about: About::Target,
        unit: "values",
        suspect_above: 0.0,
        invalid_above: None,
        meaning: "response times beyond the histogram's hour; percentiles among them are reported as the maximum",
    },
    Rule {
        name: "pool-bound",
        about: About::Target,
        unit: "% of the response time at p99",
        suspect_above: 5.0,
        invalid_above: None,
        meaning: "requests waited for a free connection or a connect; with more -c the results would differ",
    },
    Rule {
        name: "not-offered",
        about: About::Target,
        unit: "% of the scheduled",
        suspect_above: 0.1,
        invalid_above: None,
        meaning: "requests of the schedule were never sent before the run ended; the target did not take this rate",
    },
    Rule {
        name: "server-timing",
        about: About::Target,
        unit: "answers",
        suspect_above: 0.0,
        invalid_above: None,
        meaning: "the server's own account was longer than the whole response; it is left out of all figures",
    },
    Rule {
        name: "server-died",
        about: About::Target,
        unit: "servers",
        suspect_above: 0.0,
        invalid_above: None,
        meaning: "a server that we started was gone when the load was over; see its output file",
    },
];

/// Judges the rounds of one target; `tally` is all of them together.
pub fn judge(plan: &Plan, host: &Host, rounds: &[Round], tally: &Tally) -> Validity {
    let mut checks = Vec::with_capacity(RULES.len() + 2);
    for rule in &RULES {
        match rule.name {
            "send-lag" => checks.extend(send_lag(rule, tally)),
            name => checks.push(check(rule, name.to_owned(), figure(name, plan, host, rounds, tally))),
        }
    }
    let findings: Vec<Check> =
        checks.iter().filter(|c| matches!(c.level, Level::Suspect | Level::Invalid)).cloned().collect();
    let verdict = match findings.iter().map(|c| c.level).max() {
        Some(Level::Invalid) => Verdict::Invalid,
        Some(_) => Verdict::Suspect,
        None => Verdict::Valid,
    };
    Validity { verdict, findings, checks }
}

/// At p50, p95 and p99: the lag's percentile against that of the response, successful or not.
fn send_lag<'a>(rule: &'a Rule, tally: &'a Tally) -> impl Iterator<Item = Check> + 'a {
    let responses = all_responses(tally);
    TABLED.into_iter().filter(|(name, _)| ["p50", "p95", "p99"].contains(name)).map(move |(name, p)| {
        let at = |d: &Distribution| d.at_rank(p.rank(d.count()));
        let share = at(&tally.send_lag).zip(at(&responses));
        let figure = share.map(|(lag, response)| 100.0 * lag.0 as f64 / response.0.max(1) as f64);
        check(rule, format!("send-lag-{name}"), figure)
    })
}

fn figure(name: &str, plan: &Plan, host: &Host, rounds: &[Round], tally: &Tally) -> Option<f64> {
    let threads = rounds.iter().map(|round| round.wall.0 * round.threads.len() as u64).sum::<u64>() as f64;
    let share_of_run = |ns: u64| (threads > 0.0).then(|| 100.0 * ns as f64 / threads);
    match name {
        "run-delay" => {
            let each = rounds.iter().flat_map(|r| &r.threads).map(|t| t.times.run_delay_ns);
            share_of_run(each.sum::<Option<u64>>()?)
        }
        "steal" => share_of_run(rounds.iter().map(|r| r.steal.map(|ns| ns.0)).sum::<Option<u64>>()?),
        "clock-cost" => Some(host.clock_read_ns.0 as f64),
        "out-of-range" => {
            Some((tally.response_ok.out_of_range() + tally.response_not_ok.out_of_range()) as f64)
        }
        "pool-bound" if plan.load.think().is_some() => Some(0.0),
        "pool-bound" => {
            let p = crate::analyze::stats::Percentile::P99;
            let at = |d: &Distribution| d.at_rank(p.rank(d.count()));
            let (wait, response) = at(&tally.conn_wait).zip(at(&all_responses(tally)))?;
            Some(100.0 * wait.0 as f64 / response.0.max(1) as f64)
        }
        // what the user stopped, the target need not have taken
        "not-offered" if rounds.iter().any(|round| round.interrupted) => None,
        "not-offered" => {
            let never = tally.scheduled - tally.response_ok.count() - tally.response_not_ok.count();
            Some(100.0 * never as f64 / tally.scheduled.max(1) as f64)
        }
        "stalls" => share_of_run(rounds.iter().flat_map(|r| &r.threads).map(|t| t.counts.stalled.0).sum()),
        "local-resource" => {
            let ours = count_of(tally, Failure::LocalResource(0));
            Some(100.0 * ours as f64 / tally.scheduled.max(1) as f64)
        }
        "server-timing" => Some(tally.timing_rejected as f64),
        "server-died" => Some(rounds.iter().filter(|r| r.server_survived == Some(false)).count() as f64),
        _ => unreachable!("every rule has a figure"),
    }
}

fn all_responses(tally: &Tally) -> Distribution {
    let mut all = tally.response_ok.clone();
    all.merge(&tally.response_not_ok);
    all
}

fn check(rule: &Rule, name: String, figure: Option<f64>) -> Check {
    let level = match figure {
        None => Level::NotEvaluated,
        Some(x) if rule.invalid_above.is_some_and(|limit| x > limit) => Level::Invalid,
        Some(x) if x > rule.suspect_above => Level::Suspect,
        Some(_) => Level::Ok,
    };
    Check {
        rule: name,
        about: rule.about,
        level,
        figure,
        unit: rule.unit.to_owned(),
        suspect_above: rule.suspect_above,
        invalid_above: rule.invalid_above,
        meaning: rule.meaning.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_both_limits_and_silence_is_not_health() {
        let rule = &RULES[0];
        let level = |figure| check(rule, String::new(), figure).level;
        assert_eq!(level(Some(2.0)), Level::Ok);
        assert_eq!(level(Some(2.1)), Level::Suspect);
        assert_eq!(level(Some(5.1)), Level::Invalid);
        assert_eq!(level(None), Level::NotEvaluated);
    }

    #[test]
    fn only_the_instrument_can_be_convicted() {
        assert!(RULES.iter().all(|rule| rule.about == About::Instrument || rule.invalid_above.is_none()));
    }
}
