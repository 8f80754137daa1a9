//! `--confirm`: the first cause that a knob of ours can test. Which knob is turned how far, what that must bring if the cause
//! is the cause and what if it is not, and what follows once it has been measured.
//!
//! The prediction is a pure function of the run, so it is made before anything is changed. Its source is the model that sizes
//! the server (`recommend::model`), or the accounting where no model holds. The verdict is about intervals: **confirmed** where
//! the measured one overlaps the predicted one and excludes what would be seen otherwise; **refuted** where it misses the
//! predicted one on the side of otherwise; else **not decided**. Only this earns the word above *shown*.
//!
//! Not here: making the rounds (commands), the paired analysis of them (`paired`).

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::findings::{Finding, Findings, Sources, Step, Symptoms, Test, Word};
use super::recommend::model::{Ratio, Station};
use super::validity::Verdict as Validity;
use crate::load::schedule::{Extent, Load};
use crate::plan::{KeepalivePlan, Plan, Server, Stub};

mod change;
mod verdict;

use change::flag_of;
pub use change::{Change, PAIRS, rounds_of};
pub use verdict::{Confirmation, Trial, Verdict};

/// A model that was up to so far off the run is believed (the ladder's own limit), so no prediction is narrower.
const MODEL_WITHIN: f64 = 0.1;
/// What the accounting predicts holds within so much of the change (science.md 3.4, step 9).
const ACCOUNTING_WITHIN: f64 = 0.25;
/// Less than that cannot be told from no change.
const CHANGE_MIN: f64 = 0.1;

/// What is changed, and what that is expected to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intervention {
    /// The finding that it tests.
    pub rule: String,
    /// What is changed.
    pub change: Change,
    /// The figure of the response time: `mean`, `p99`.
    pub figure: String,
    /// If the finding is the cause: the change of the figure, as a share; −0.5 halves it.
    pub expected: f64,
    /// What that lies between.
    pub expected_interval: [f64; 2],
    /// If it is not.
    pub otherwise: f64,
    /// `model` or `accounting`.
    pub by: String,
}

/// What is known of the run.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    /// The run.
    pub sources: Sources<'a>,
    /// The figures of the rules.
    pub symptoms: &'a Symptoms,
    /// Processors that may be used here.
    pub allowed: &'a [usize],
    /// Rounds are missing.
    pub partial: bool,
}

/// With `--confirm`: the intervention that tests what was found, what was measured of it if it was tried, and the word that
/// the finding has then.
pub fn confirm(findings: &mut Findings, grounds: Grounds<'_>, trial: Option<&Trial>) -> Option<Confirmation> {
    if !grounds.sources.plan.confirm {
        return None;
    }
    let confirmation = Confirmation::of(propose(grounds, findings), trial);
    settle(findings, grounds.symptoms, &confirmation);
    Some(confirmation)
}

/// The intervention on the first finding that a knob of ours can test; or why nothing is changed, in words.
fn propose(grounds: Grounds<'_>, findings: &Findings) -> Result<Intervention, String> {
    let Grounds { sources, partial, .. } = grounds;
    if partial {
        return Err("the run is partial".to_owned());
    }
    if sources.validity.verdict == Validity::Invalid {
        return Err("the run is INVALID: what it found may be the instrument's own doing".to_owned());
    }
    if findings.findings.is_empty() {
        return Err("no cause is shown, and none is consistent with the figures".to_owned());
    }
    let changing = match &sources.plan.load {
        Load::Closed { .. } | Load::Constant { .. } | Load::Poisson { .. } | Load::Replay { .. } => false,
        Load::Users { .. } | Load::Stages { .. } => true,
    };
    if changing {
        return Err("the load changes with time: no model predicts its mean".to_owned());
    }
    let mut reasons = Vec::new();
    for finding in &findings.findings {
        match test(grounds, finding) {
            Ok(intervention) => return Ok(intervention),
            Err(why) => reasons.push(format!("{}: {why}", finding.rule)),
        }
    }
    Err(reasons.join("; "))
}

/// Which knob tests which finding.
fn test(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    match finding.rule.as_str() {
        "single-thread" | "pool" => more_workers(grounds, finding),
        "cpu-bound" => other_processors(grounds, finding),
        "lock" => fewer_connections(grounds, finding),
        "accept-bound" if grounds.symptoms.server.overflows >= Some(1.0) => longer_backlog(grounds, finding),
        "syn-retransmission" => longer_backlog(grounds, finding),
        "accept-bound" | "connection-churn" => kept_alive(grounds, finding),
        "queue-limit" => longer_queue(grounds, finding),
        "client-bound" => Err("give the client more processors or less to do first".to_owned()),
        _ => Err("hairspring owns no knob that tests it".to_owned()),
    }
}

/// Twice the workers: by the model, requests wait for half as many. With a lock, or anything else behind the workers, nothing
/// changes.
fn more_workers(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    let Grounds { sources, symptoms, allowed, .. } = grounds;
    let stub = stub(sources.plan, "the threads are the server's own")?;
    let from = match stub.model.as_str() {
        "single" => 1,
        "pool" => stub.workers,
        "per-core" if stub.workers == 1 => 1,
        "per-core" => return Err("connections are bound to a loop each: no queue is shared".to_owned()),
        _ => return Err("it has a thread for each connection, so there are no workers to add".to_owned()),
    };
    let station =
        Station::of_workers(sources, symptoms).ok_or("no model of the run: too few requests were kept")?;
    let to = 2 * from;
    let mut cpus = stub.cpus.clone();
    if station.computes {
        let spare = spare(sources.plan, allowed);
        cpus.extend(spare.into_iter().take((to as usize).saturating_sub(cpus.len())));
        if cpus.len() < to as usize {
            return Err(format!(
                "its work computes, and {to} workers need as many processors; {} are left for the server here",
                cpus.len()
            ));
        }
    }
    let change = Change::Workers { from, to, cpus };
    by_model(grounds, finding, change, &station, 2 * station.now)
}

/// One more where there is one, else one fewer.
fn other_processors(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    let Grounds { sources, symptoms, allowed, .. } = grounds;
    let from = match &sources.plan.target.server {
        Server::Stub(stub) => stub.cpus.clone(),
        Server::Command { cpus, .. } => cpus.clone(),
        Server::External => return Err("the server ran already, so its processors are not ours".to_owned()),
    };
    let station = Station::of_processors(sources, symptoms)
        .ok_or("no model of the run: it takes a closed loop, and a monitor that sees the server")?;
    if station.now as usize != from.len() {
        return Err("a quota, not its processors, is what it may use".to_owned());
    }
    let mut to = from.clone();
    match spare(sources.plan, allowed).first() {
        Some(&cpu) => to.push(cpu),
        None if to.len() > 1 => to.truncate(to.len() - 1),
        None => return Err("no processor is left to give it, and it has only one".to_owned()),
    }
    let servers = to.len() as u32;
    by_model(grounds, finding, Change::Processors { from, to }, &station, servers)
}

/// Under a lock requests pass one at a time, so half the connections wait for half as long, in the handler; without one,
/// nobody held anybody up, and nothing changes.
fn fewer_connections(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    let symptoms = grounds.symptoms;
    let clients = symptoms.clients.ok_or("it takes a closed loop without think time")?;
    let (from, to) = (clients, clients / 2);
    let figures = symptoms.concurrency.map(|seen| seen.gap).zip(symptoms.response).zip(symptoms.excess);
    let ((gap, response), excess) = figures.ok_or("the server gives no account of its times")?;
    if to == 0 {
        return Err("it takes two connections".to_owned());
    }
    let after = (f64::from(to) * gap).max(excess.unloaded_ns.0 as f64);
    by_accounting(finding, Change::Connections { from, to }, "mean", after / response.max(1.0) - 1.0)
}

/// With room for all that come, no SYN is dropped: in a closed loop all wait alike, N/X; in an open one the time of the
/// retransmissions is gone.
fn longer_backlog(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    let Grounds { sources, symptoms, .. } = grounds;
    let stub = stub(sources.plan, "the accept queue is the server's own")?;
    let from = flag_of(stub, "--backlog");
    let to = (4 * sources.plan.connections).max(2 * from.unwrap_or(0)).clamp(16, 1_024);
    if from.is_none_or(|from| from >= to) {
        return Err("the accept queue holds all connections already".to_owned());
    }
    let change = Change::Backlog { from: from.unwrap_or_default(), to };
    let ok = &sources.tally.response_ok;
    let p99 = ok.at_rank(super::stats::Percentile::P99.rank(ok.count()));
    match (symptoms.clients, p99.zip(symptoms.throughput), symptoms.lost) {
        (Some(clients), Some((p99, rate)), _) if rate > 0.0 => {
            let after = f64::from(clients) * 1e9 / rate;
            by_accounting(finding, change, "p99", after / p99.0.max(1) as f64 - 1.0)
        }
        (_, _, Some(lost)) => {
            let gone = lost.connect_ns / symptoms.response.ok_or("nothing succeeded")?.max(1.0);
            by_accounting(finding, change, "mean", -gone)
        }
        _ => Err("the connects were not seen".to_owned()),
    }
}

/// On connections that stay, nobody waits to be accepted.
fn kept_alive(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    let Grounds { sources, symptoms, .. } = grounds;
    let KeepalivePlan::Requests(from) = sources.plan.keepalive else {
        return Err("connections are kept alive already: it is the server that closes them".to_owned());
    };
    let accepting = symptoms.server.accept_wait.zip(symptoms.response).map(|(wait, all)| wait / all.max(1.0));
    let gone = if finding.rule == "accept-bound" { accepting } else { symptoms.connect_share };
    by_accounting(finding, Change::Keepalive { from }, "mean", -gone.ok_or("the wait was not seen")?)
}

/// Twice the places: those that are let in wait for twice as many.
fn longer_queue(grounds: Grounds<'_>, finding: &Finding) -> Result<Intervention, String> {
    let Grounds { sources, symptoms, .. } = grounds;
    let stub = stub(sources.plan, "the queue is the server's own")?;
    let from = flag_of(stub, "--queue-limit").ok_or("the stub has no limit of its own")?;
    let waits = sources.tally.server_queue.mean().zip(symptoms.response);
    let (wait, response) = waits.ok_or("the server gives no account of its times")?;
    let change = Change::QueueLimit { from, to: 2 * from };
    by_accounting(finding, change, "mean", wait.0 as f64 / response.max(1.0))
}

fn by_model(
    grounds: Grounds<'_>,
    finding: &Finding,
    change: Change,
    station: &Station,
    servers: u32,
) -> Result<Intervention, String> {
    let servers = NonZeroU32::new(servers).ok_or("no server would be left")?;
    let more = f64::from(servers.get()) / f64::from(station.now);
    let Ratio { value, low, high } =
        station.ratio(servers, [1.0, more].map(|times| drawn(grounds, times)), MODEL_WITHIN);
    let (expected, expected_interval) = (value - 1.0, [low - 1.0, high - 1.0]);
    finish(Intervention {
        rule: finding.rule.clone(),
        change,
        figure: "mean".to_owned(),
        expected,
        expected_interval,
        otherwise: 0.0,
        by: "model".to_owned(),
    })
}

/// How many requests a round of the trial has at so many times the throughput of the run, where it begins with an empty queue.
fn drawn(grounds: Grounds<'_>, times: f64) -> Option<usize> {
    let Sources { plan, rounds, .. } = grounds.sources;
    let Extent { count, time } = rounds_of(plan, rounds.first()?.wall).measure;
    let rate = grounds.symptoms.throughput.filter(|_| plan.warmup == Extent::NONE)?;
    let in_time = (times * rate * time?.as_secs()).ceil() as u64;
    usize::try_from(count.map_or(in_time, |count| count.min(in_time))).ok()
}

fn by_accounting(
    finding: &Finding,
    change: Change,
    figure: &str,
    expected: f64,
) -> Result<Intervention, String> {
    let ends = [1.0 - ACCOUNTING_WITHIN, 1.0 + ACCOUNTING_WITHIN].map(|times| (times * expected).max(-1.0));
    finish(Intervention {
        rule: finding.rule.clone(),
        change,
        figure: figure.to_owned(),
        expected: expected.max(-1.0),
        expected_interval: [ends[0].min(ends[1]), ends[0].max(ends[1])],
        otherwise: 0.0,
        by: "accounting".to_owned(),
    })
}

/// A prediction that does not differ from the other tests nothing.
fn finish(intervention: Intervention) -> Result<Intervention, String> {
    let [low, high] = intervention.expected_interval;
    let apart = (intervention.expected - intervention.otherwise).abs() >= CHANGE_MIN;
    if apart && !(low..=high).contains(&intervention.otherwise) {
        return Ok(intervention);
    }
    Err(format!(
        "with {} the {} would change by {:+.0} % ({:+.0} to {:+.0} %), which cannot be told from no change",
        intervention.change.in_words(),
        intervention.figure,
        100.0 * intervention.expected,
        100.0 * low,
        100.0 * high
    ))
}

fn stub<'a>(plan: &'a Plan, otherwise: &str) -> Result<&'a Stub, String> {
    match &plan.target.server {
        Server::Stub(stub) => Ok(stub),
        _ => Err(otherwise.to_owned()),
    }
}

/// Processors that neither server nor load uses.
fn spare(plan: &Plan, allowed: &[usize]) -> Vec<usize> {
    let of_server: &[usize] = match &plan.target.server {
        Server::Stub(Stub { cpus, .. }) | Server::Command { cpus, .. } => cpus,
        Server::External => &[],
    };
    let probe = plan.client.probe.map(|probe| probe.cpu);
    let used = |cpu: &usize| plan.client.cpus.contains(cpu) || of_server.contains(cpu) || probe == Some(*cpu);
    allowed.iter().copied().filter(|cpu| !used(cpu)).collect()
}

/// The word that a confirmation leaves the finding with; and a lock is suspected where more workers brought nothing.
fn settle(findings: &mut Findings, symptoms: &Symptoms, confirmation: &Confirmation) {
    let Some(intervention) = &confirmation.intervention else { return };
    let Some(at) = findings.findings.iter().position(|finding| finding.rule == intervention.rule) else {
        return;
    };
    match confirmation.verdict {
        Verdict::Confirmed => {
            findings.findings[at].word = Word::Confirmed;
            findings.findings[at].note = Some(confirmation.says.clone());
        }
        Verdict::Refuted => {
            let mut refuted = findings.findings.remove(at);
            refuted.word = Word::NotShown;
            refuted.note = Some(format!("refuted by intervention: {}", confirmation.says));
            let of_workers = matches!(intervention.change, Change::Workers { .. });
            findings.cleared.push(refuted);
            if let (true, Some(brought)) = (of_workers, confirmation.brought_nothing()) {
                suspect_lock(findings, brought, &confirmation.says);
            }
        }
        Verdict::NotDecided | Verdict::NotTested => return,
    }
    findings.summarize(symptoms);
}

fn suspect_lock(findings: &mut Findings, brought: f64, says: &str) {
    for list in [&mut findings.cleared, &mut findings.not_evaluated] {
        let Some(at) = list.iter().position(|finding| finding.rule == "lock") else { continue };
        let mut lock = list.remove(at);
        lock.word = Word::ConsistentWith;
        lock.says =
            format!("what all workers share holds them up, a lock or something behind the server: {says}");
        lock.tests = vec![Test {
            figure: "change of the mean with twice the workers".to_owned(),
            value: Some(100.0 * brought.abs()),
            unit: "%".to_owned(),
            limit: 100.0 * verdict::NOTHING_WITHIN,
            at_least: false,
            step: Step::Necessary,
            holds: Some(true),
        }];
        "with half the connections, the time in the handler stays".clone_into(&mut lock.disproof);
        lock.note = Some("raised by intervention".to_owned());
        findings.findings.push(lock);
        return;
    }
}

#[cfg(test)]
mod tests;
