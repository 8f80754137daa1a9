//! What to change, what it will bring, what it costs, how to see whether it did: from findings and models only.
//!
//! A prediction is this very run once more, with its own arrivals and service times, on an ideal station of another size
//! (`model`); its interval is that of ten consecutive parts, widened by how far the model was off the run itself. Where no
//! model applies, the accounting says what would be left if the cause were gone, as far as its share is known. Without a
//! finding there is no advice but limits to watch.

use serde::{Deserialize, Serialize};

use super::findings::{Excess, Finding, Findings, Of, Sources, Symptoms, Word};
use super::gate::{Limit, Metric, Rule, SlaReport, SlaVerdict};
use super::stats::Percentile;
use super::theory::Theory;
use super::validity::Verdict;
use crate::load::time::Nanos;

mod health;
mod kubernetes;
pub(super) mod model;

pub use health::{Health, Penalty};
use model::{Predicted, Station};

/// What a change is expected to do to one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Improvement {
    /// `p95`, or `mean at and above p95` by the accounting.
    pub figure: String,
    /// As measured; null where the percentile fell among the unsuccessful.
    pub from_ns: Option<Nanos>,
    /// As predicted.
    pub to_ns: Nanos,
    /// 95 %: the prediction is not less than this; null where too little was kept to say.
    pub low_ns: Option<Nanos>,
    /// And not more than this.
    pub high_ns: Option<Nanos>,
}

/// One piece of advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendation {
    /// 1: do this first.
    pub priority: u32,
    /// What to do.
    pub what: String,
    /// The rule it follows from, or `model`, `measured`.
    pub from: String,
    /// What it will bring; null where that is not a latency.
    pub improvement: Option<Improvement>,
    /// In plain words.
    pub cost: String,
    /// How to see whether it did.
    pub verify: String,
}

/// Advice and the score.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// The most urgent first.
    pub recommendations: Vec<Recommendation>,
    /// How well the target is, in one number.
    pub health: Health,
}

/// What advice is made from.
#[derive(Clone, Copy)]
pub struct Grounds<'a> {
    /// The run.
    pub sources: Sources<'a>,
    /// The figures of the rules.
    pub symptoms: &'a Symptoms,
    /// What the rules found.
    pub findings: &'a Findings,
    /// Theory beside the measurement.
    pub theory: &'a Theory,
    /// The gate's rules.
    pub rules: &'a [Rule],
    /// And their verdict.
    pub sla: &'a SlaReport,
    /// Rounds are missing, or one was interrupted.
    pub partial: bool,
}

/// The response time that the gate asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Goal {
    percentile: Percentile,
    /// `None`: no rule; then hardly anybody shall wait.
    limit: Option<Nanos>,
}

impl Goal {
    /// The strictest rule on a percentile; without one, p95 alone.
    fn of(rules: &[Rule]) -> Self {
        let asked = rules.iter().filter_map(|rule| match (rule.metric(), rule.limit()) {
            (Metric::Percentile(percentile), Limit::Time(limit)) if rule.op().is_upper_limit() => {
                Some(Self { percentile, limit: Some(limit) })
            }
            _ => None,
        });
        asked.min_by_key(|goal| goal.limit).unwrap_or(Self { percentile: Percentile::P95, limit: None })
    }

    fn in_words(self) -> String {
        match self.limit {
            Some(limit) => format!("{}<={}", self.percentile, limit.exact()),
            None => "hardly anybody waits".to_owned(),
        }
    }
}

/// All advice on one target. Nothing is advised about a run that is INVALID but how to measure it.
pub fn advise(grounds: Grounds<'_>) -> Advice {
    let mut recommendations: Vec<Recommendation> = Vec::new();
    for finding in &grounds.findings.findings {
        recommendations.extend(remedies(grounds, finding));
    }
    if grounds.sources.validity.verdict != Verdict::Invalid && !grounds.partial {
        recommendations.extend(to_watch(grounds));
        recommendations.extend(kubernetes::advise(grounds));
    }
    for (recommendation, priority) in recommendations.iter_mut().zip(1..) {
        recommendation.priority = priority;
    }
    Advice { recommendations, health: health::score(grounds) }
}

fn remedies(grounds: Grounds<'_>, finding: &Finding) -> Vec<Recommendation> {
    let Grounds { sources, symptoms, rules, .. } = grounds;
    let goal = Goal::of(rules);
    let station = match finding.rule.as_str() {
        "single-thread" | "pool" => Station::of_workers(sources, symptoms),
        "cpu-bound" => Station::of_processors(sources, symptoms),
        _ => None,
    };
    let mut advice: Vec<Recommendation> = match station {
        Some(station) => sized(grounds, finding, &station, goal),
        None => remedy(grounds, finding).into_iter().collect(),
    };
    if finding.word == Word::ConsistentWith {
        for recommendation in &mut advice {
            recommendation.what = format!("if {} is the cause: {}", finding.rule, recommendation.what);
        }
    }
    advice
}

/// More workers or processors, and limits until there are more.
fn sized(grounds: Grounds<'_>, finding: &Finding, station: &Station, goal: Goal) -> Vec<Recommendation> {
    let from = || finding.rule.clone();
    let mut advice = Vec::new();
    let what = station.unit.name();
    if let Some((servers, predicted)) = station.enough(goal) {
        let (low, high) = (predicted.low, predicted.high);
        advice.push(Recommendation {
            priority: 0,
            what: format!(
                "give the server {servers} {what} instead of {} ({} at this load)",
                station.now,
                goal.in_words()
            ),
            from: from(),
            improvement: Some(Improvement {
                figure: goal.percentile.to_string(),
                from_ns: measured(grounds, goal.percentile),
                to_ns: predicted.value,
                low_ns: Some(low),
                high_ns: Some(high),
            }),
            cost: station.cost(servers),
            verify: format!(
                "measure again with the same load and {servers} {what}: {} lies between {low} and {high}",
                goal.percentile
            ),
        });
    } else if let Some(limit) = goal.limit {
        advice.push(Recommendation {
            priority: 0,
            what: format!("make the work shorter: no number of {what} brings {} to {limit}", goal.percentile),
            from: from(),
            improvement: None,
            cost: "work on the handler itself".to_owned(),
            verify: format!("the service time (Server-Timing) at {} is below {limit}", goal.percentile),
        });
    }
    advice.extend(limits(grounds, station, goal, from()));
    advice
}

/// How many may be in the server, and wait, and at which rate more is needed, at the present size.
fn limits(grounds: Grounds<'_>, station: &Station, goal: Goal, from: String) -> Vec<Recommendation> {
    let Some(limit) = goal.limit else { return Vec::new() };
    let mut advice = Vec::new();
    if let Some((inside, waiting)) = station.safe_concurrency(limit) {
        let Predicted { value, low, high } = station.mean_with(inside);
        let tally = grounds.sources.tally;
        advice.push(Recommendation {
            priority: 0,
            what: format!(
                "until then admit at most {inside} requests at once, {waiting} of them waiting, and answer further ones 503 at once"
            ),
            from: from.clone(),
            improvement: Some(Improvement {
                figure: "mean of those admitted".to_owned(),
                from_ns: tally.response_ok.mean(),
                to_ns: value,
                low_ns: Some(low),
                high_ns: Some(high),
            }),
            cost: "requests beyond that are refused instead of late".to_owned(),
            verify: format!(
                "with -c {inside} and no think time, the mean response time is at most {limit} (N·S/{})",
                station.now
            ),
        });
    }
    if let Some((rate, utilisation)) = station.rate_within(goal.percentile, limit) {
        advice.push(Recommendation {
            priority: 0,
            what: format!(
                "scale out when the rate reaches {rate:.1}/s ({:.0} % utilisation): beyond it, requests that arrive by chance miss {}",
                100.0 * utilisation,
                goal.in_words()
            ),
            from,
            improvement: None,
            cost: "one more instance of this size".to_owned(),
            verify: format!("--arrivals poisson --rate {rate:.1}/s --sla '{}' is met, and 1.2 times that rate is not", goal.in_words()),
        });
    }
    advice
}

fn measured(grounds: Grounds<'_>, p: Percentile) -> Option<Nanos> {
    let tally = grounds.sources.tally;
    tally.response_ok.at_rank(p.rank(tally.scheduled))
}

/// What, at what cost, and how to verify, where no model gives a size.
const REMEDIES: [(&str, &str, &str, &str); 12] = [
    (
        "client-bound",
        "measure again with a client that keeps up: more --cpus, fewer connections or a lower --rate, nothing else on its processors",
        "processors for the client",
        "the run is VALID and client-bound is not shown",
    ),
    (
        "lock",
        "shorten the section that one request at a time can be in, or split it; more workers bring nothing",
        "work on the code",
        "throughput at this number of connections rises, and the answers come less evenly",
    ),
    (
        "throttled",
        "raise the CPU quota of the server's cgroup (limits.cpu), or run fewer threads than it has processors",
        "processors' worth of the quota",
        "server.throttled is 0 and the stalls are gone",
    ),
    (
        "noisy-neighbour",
        "give the server processors of its own (cpuset, taskset, a dedicated node)",
        "processors that others cannot use",
        "server.run_delay falls to a few percent",
    ),
    (
        "stalls",
        "find what runs at that period: garbage collection, checkpoints, a cron job, log rotation",
        "work on the code or its runtime",
        "no silence of that length is left at the same rate",
    ),
    (
        "accept-bound",
        "accept faster (a thread that does nothing else, SO_REUSEPORT), keep connections alive, and lengthen the backlog",
        "a thread; memory for waiting connections",
        "server.accept_queue stays near 0 and machine.listen_overflows is 0",
    ),
    (
        "flow-control",
        "read and write in larger pieces, enlarge the socket buffers on the side that holds back, or send less",
        "memory for each connection",
        "rwnd_limited and sndbuf_limited are below 10 % of busy",
    ),
    (
        "connection-churn",
        "keep connections alive, on the server and in its clients",
        "idle connections: descriptors and memory",
        "connects by request fall below 0.1, and conn wait with them",
    ),
    (
        "delayed-ack",
        "write each answer in one piece, or set TCP_NODELAY on the server's sockets",
        "none",
        "no request takes 40 ms beside the server's work",
    ),
    (
        "syn-retransmission",
        "lengthen the accept queue (listen backlog and net.core.somaxconn), or accept faster",
        "memory for waiting connections",
        "machine.tcp_syn_retransmits is 0",
    ),
    (
        "data-retransmission",
        "find where packets are lost: an accept queue that is full, a policer or shaper, a network card's ring",
        "none to look: machine.softnet_dropped, machine.listen_drops, `tc -s qdisc`, `ethtool -S`",
        "machine.tcp_retransmits is 0, and no answer comes 200 ms late",
    ),
    (
        "single-thread",
        "serve requests on more than one thread, with a processor for each that computes",
        "one thread and up to one processor each",
        "throughput rises with the second one",
    ),
];

fn remedy(grounds: Grounds<'_>, finding: &Finding) -> Option<Recommendation> {
    let symptoms = grounds.symptoms;
    let refused = match finding.rule.as_str() {
        "queue-limit" => Some(symptoms.refusals.unavailable),
        "rate-limited" => Some(symptoms.refusals.too_many),
        _ => None,
    };
    let (what, cost, verify) = match (refused, finding.rule.as_str()) {
        (Some(share), "queue-limit") => {
            let workers = symptoms.concurrency?.at_work?.round();
            let needed = (workers / (1.0 - share).max(0.01)).ceil();
            (
                format!(
                    "for this load, about {needed:.0} workers instead of {workers:.0}; or let clients back off by Retry-After"
                ),
                "threads, and processors if the work computes".to_owned(),
                "no request is answered 503 at this rate".to_owned(),
            )
        }
        (Some(share), _) => {
            let rate = symptoms.throughput?;
            (
                format!(
                    "raise the rate limit from {:.1}/s to {rate:.1}/s, or let clients back off by Retry-After",
                    rate * (1.0 - share)
                ),
                "what the server needs for that rate: measure it with the limit raised".to_owned(),
                "no request is answered 429 at this rate".to_owned(),
            )
        }
        (None, rule) => {
            let (_, what, cost, verify) = REMEDIES.into_iter().find(|(name, ..)| *name == rule)?;
            (what.to_owned(), cost.to_owned(), verify.to_owned())
        }
    };
    let gone = grounds.findings.excess.zip(finding.explained).filter(|_| finding.of == Of::Excess);
    let improvement = gone.map(|(excess, share)| Improvement {
        figure: "mean at and above p95".to_owned(),
        from_ns: Some(excess.response_ns),
        to_ns: left(excess, share),
        low_ns: finding.explained_interval.map(|[_, most]| left(excess, most)),
        high_ns: finding.explained_interval.map(|[least, _]| left(excess, least)),
    });
    Some(Recommendation { priority: 0, what, from: finding.rule.clone(), improvement, cost, verify })
}

/// What requests at and above p95 take without this share of their excess.
fn left(excess: Excess, share: f64) -> Nanos {
    excess.response_ns.saturating_sub(Nanos((share * excess.excess_ns.0 as f64) as u64))
}

/// An alert fires from so many times what was measured.
const ALERT_AT: f64 = 1.5;
/// Fewer successful requests are no ground for a threshold.
const ALERT_REQUESTS_MIN: u64 = 200;

fn to_watch(grounds: Grounds<'_>) -> Option<Recommendation> {
    let tally = grounds.sources.tally;
    let p95 = measured(grounds, Percentile::P95).filter(|_| tally.successful >= ALERT_REQUESTS_MIN)?;
    let limit = Goal::of(grounds.rules).limit.map_or(Nanos::MAX, |limit| limit);
    let at = Nanos((ALERT_AT * p95.0 as f64) as u64).min(limit);
    let errors = (1.0 - tally.successful as f64 / tally.scheduled as f64).mul_add(ALERT_AT, 0.0).max(0.001);
    Some(Recommendation {
        priority: 0,
        what: format!(
            "alert where p95 stays above {at} or errors above {:.1} % at this load",
            100.0 * errors
        ),
        from: "measured".to_owned(),
        improvement: None,
        cost: "none".to_owned(),
        verify: format!(
            "p95 was {p95} here; the limit is {ALERT_AT} times that, at most what the gate allows"
        ),
    })
}

/// A gate that is not met.
fn failed(sla: &SlaReport) -> bool {
    sla.verdict == SlaVerdict::NotMet
}
