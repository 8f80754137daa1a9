//! Baseline against optimized: what changed per percentile, whether the answers stayed the same, and one
//! sentence that follows from the figures.
//!
//! The unit is the round: each figure is the median over rounds, with the spread over rounds beside it. What may be called
//! a difference is decided in `paired`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::attribution::{Evidence, Split};
use super::paired::{self, Criteria, Difference, Effect};
use super::stats::median;
use super::summary::{Figures, TABLED};
use crate::load::time::Nanos;
use crate::record::{Digests, Tally};

/// The change of one figure, baseline minus optimized; positive is faster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Median over rounds.
    pub baseline_ns: Nanos,
    /// Median over rounds.
    pub optimized_ns: Nanos,
    /// Median over rounds of baseline − optimized, in nanoseconds.
    pub absolute_ns: i64,
    /// Median over rounds of (baseline − optimized) / baseline.
    pub relative: f64,
    /// The least and the greatest `relative` of the rounds.
    pub relative_range: [f64; 2],
    /// Rounds in which both sides have the figure.
    pub rounds: u32,
}

/// The paired requests of one round: the same id, answered successfully by both.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedRound {
    /// How many.
    pub requests: u64,
    /// The median over them of ln(optimized/baseline).
    pub median_log_ratio: f64,
}

impl PairedRound {
    /// Of the requests of one round; none where no request is on both sides.
    pub fn of(baseline: &Digests, optimized: &Digests) -> Option<Self> {
        let ratios = baseline.log_ratios(optimized);
        Some(Self { requests: ratios.len() as u64, median_log_ratio: median(&ratios)? })
    }
}

/// The second view of a comparison: per-request ratios on the common requests. The unit is still the round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairedRequests {
    /// Ids with a response time on both sides, over all rounds.
    pub requests: u64,
    /// Of the median ratio of each round.
    pub effect: Effect,
}

/// The view of paired requests, if there were any.
pub fn paired_requests(rounds: &[PairedRound], criteria: Criteria) -> Option<PairedRequests> {
    let ratios: Vec<f64> = rounds.iter().map(|round| round.median_log_ratio).collect();
    let requests = rounds.iter().map(|round| round.requests).sum();
    Some(PairedRequests { requests, effect: paired::effect(&ratios, criteria, None)? })
}

/// The effect on each figure, in the order of rounds; `noise` has those of the baseline against itself. Figures as in
/// [`improvement`].
pub fn effects(
    rounds: &[(Figures, Figures)],
    criteria: Criteria,
    noise: Option<&BTreeMap<String, Effect>>,
) -> BTreeMap<String, Effect> {
    let one = |name: &str| {
        let ratios = log_ratios(name, rounds.iter().map(|(b, o)| (b, o)));
        let noise = noise.and_then(|effects| paired::noise_floor(effects.get(name)?));
        Some((name.to_owned(), paired::effect(&ratios, criteria, noise)?))
    };
    names().filter_map(one).collect()
}

/// The figures that are compared.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLED.iter().map(|(name, _)| *name).chain(["mean", "max"])
}

/// The figure of this name in nanoseconds, if there is one that has a logarithm.
pub(super) fn positive(name: &str, figures: &Figures) -> Option<f64> {
    let figure = match name {
        "mean" => figures.mean,
        "max" => figures.max,
        _ => figures.percentile(name),
    };
    figure.map(|figure| figure.0 as f64).filter(|figure| *figure > 0.0)
}

/// The figure of this name on both sides of each round that has it on both.
fn pairs<'a>(name: &str, rounds: impl IntoIterator<Item = (&'a Figures, &'a Figures)>) -> Vec<(f64, f64)> {
    rounds.into_iter().filter_map(|(a, b)| Some((positive(name, a)?, positive(name, b)?))).collect()
}

/// ln(second/first) of the figure of this name, of each round that has it on both sides.
pub(super) fn log_ratios<'a>(
    name: &str,
    rounds: impl IntoIterator<Item = (&'a Figures, &'a Figures)>,
) -> Vec<f64> {
    pairs(name, rounds).iter().map(|(a, b)| (b / a).ln()).collect()
}

/// Response figures of each round, baseline and optimized; keys as in [`Figures`]. A figure that is censored in every
/// round has no entry.
pub fn improvement(rounds: &[(Figures, Figures)]) -> BTreeMap<String, Change> {
    names().filter_map(|name| Some((name.to_owned(), change(name, rounds)?))).collect()
}

fn change(name: &str, rounds: &[(Figures, Figures)]) -> Option<Change> {
    let pairs = pairs(name, rounds.iter().map(|(b, o)| (b, o)));
    let over = |f: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(f).collect::<Vec<f64>>();
    let relative = over(&|(b, o)| (b - o) / b);
    Some(Change {
        baseline_ns: Nanos(median(&over(&|p| p.0))?.round() as u64),
        optimized_ns: Nanos(median(&over(&|p| p.1))?.round() as u64),
        absolute_ns: median(&over(&|(b, o)| b - o))?.round() as i64,
        relative: median(&relative)?,
        relative_range: [
            relative.iter().copied().fold(f64::INFINITY, f64::min),
            relative.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ],
        rounds: pairs.len() as u32,
    })
}

/// The chance that a request of the optimized is faster than one of the baseline: Mann and Whitney's U over all pairs of
/// scheduled requests, ties counted half; 0.5 is no difference. The unsuccessful rank last. A description without a test:
/// requests of one round share its luck (science.md 1.16). None where a side has no requests.
pub fn chance_faster(baseline: &Tally, optimized: &Tally) -> Option<f64> {
    let (baseline, optimized) = (ranked(baseline), ranked(optimized));
    let count = |side: &[(u64, u64)]| side.iter().map(|&(_, n)| u128::from(n)).sum::<u128>();
    let pairs = count(&baseline) * count(&optimized);
    let (mut slower, mut at, mut doubled) = (count(&baseline), 0, 0);
    for (value, n) in optimized {
        while baseline.get(at).is_some_and(|group| group.0 < value) {
            slower -= u128::from(baseline[at].1);
            at += 1;
        }
        let tied = baseline.get(at).filter(|group| group.0 == value).map_or(0, |group| u128::from(group.1));
        doubled += u128::from(n) * (2 * slower - tied);
    }
    (pairs > 0).then(|| doubled as f64 / (2 * pairs) as f64)
}

/// Response times with how often each was met, ascending: buckets, then what is beyond their range, then the unsuccessful.
fn ranked(tally: &Tally) -> Vec<(u64, u64)> {
    let buckets = tally.response_ok.histogram().iter_recorded();
    let buckets = buckets.map(|step| (step.value_iterated_to(), step.count_since_last_iteration()));
    let last = [
        (u64::MAX - 1, tally.response_ok.out_of_range()),
        (u64::MAX, tally.scheduled - tally.response_ok.count()),
    ];
    buckets.chain(last).filter(|group| group.1 > 0).collect()
}

/// Whether both variants gave the same answers to the same requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outputs {
    /// Requests that both answered successfully; status and body were compared.
    pub compared: u64,
    /// Of these, how many differ.
    pub different: u64,
    /// Requests that only one of the two answered successfully.
    pub missing: u64,
    /// Some of the ids that differ, as `round/id`.
    pub examples: Vec<String>,
}

impl Outputs {
    /// Adds one round.
    pub fn add(&mut self, round: u32, baseline: &Digests, optimized: &Digests) {
        const EXAMPLES: usize = 10;
        for (seq, a, b) in baseline.pairs(optimized) {
            match (a, b) {
                (Some(a), Some(b)) => {
                    self.compared += 1;
                    if a != b {
                        self.different += 1;
                        if self.examples.len() < EXAMPLES {
                            self.examples.push(format!("{round}/{seq}"));
                        }
                    }
                }
                _ => self.missing += 1,
            }
        }
    }

    /// True or false once something was compared.
    pub fn identical(&self) -> Option<bool> {
        (self.compared > 0).then_some(self.different == 0)
    }
}

/// One sentence about each side and the change, from the figures alone.
pub fn conclusion(
    baseline: &Evidence,
    optimized: &Evidence,
    change: Option<&Change>,
    effect: Option<&Effect>,
) -> String {
    let sides = "optimized against baseline";
    let mut sentences = vec![side("baseline", baseline), side("optimized", optimized)];
    sentences.push(change.map_or_else(
        || "There is no median response on both sides to compare.".to_owned(),
        |change| effect.and_then(effect_in_words).unwrap_or_else(|| in_words(change, sides)),
    ));
    sentences.join(" ")
}

/// The verdict on the median in words, where there are rounds enough for one.
fn effect_in_words(effect: &Effect) -> Option<String> {
    let [low, high] = effect.interval?;
    let percent = |share: f64| format!("{:+.1} %", 100.0 * share);
    let size = format!(
        "{} ({} to {} with {} %, {} rounds)",
        percent(effect.change),
        percent(low),
        percent(high),
        (1e4 * effect.confidence).round() / 1e2,
        effect.rounds
    );
    Some(match effect.verdict {
        Difference::Faster => format!("The median response is faster, optimized against baseline: {size}."),
        Difference::Slower => format!("The median response is slower, optimized against baseline: {size}."),
        Difference::Same => {
            format!("The median response is the same on both sides: {size}; {}.", effect.reason)
        }
        Difference::Inconclusive => {
            format!("No difference of the median response is shown: {size}; {}.", effect.reason)
        }
    })
}

/// The change of the median in words, where there are too few rounds for a verdict. Rounds that point both ways show no difference.
fn in_words(change: &Change, sides: &str) -> String {
    let [least, most] = change.relative_range;
    let percent = |share: f64| format!("{:+.1} %", -100.0 * share);
    if least < 0.0 && most > 0.0 {
        let (from, to) = (percent(most), percent(least));
        return format!(
            "No difference of the median response is shown: the rounds lie between {from} and {to}."
        );
    }
    let word = if change.relative >= 0.0 { "lower" } else { "higher" };
    let size = 100.0 * change.relative.abs();
    let rounds = match change.rounds {
        1 => "in one round, so nothing is known of its spread".to_owned(),
        n => format!("median of {n} rounds, which lie between {} and {}", percent(most), percent(least)),
    };
    format!("The median response is {size:.1} % {word}, {sides} ({rounds}).")
}

/// Where the time of one side went.
pub fn side(name: &str, evidence: &Evidence) -> String {
    let Some(split) = evidence.median.filter(|split| split.timed > 0) else {
        return format!("Where the {name}'s time went is not evaluated: its answers carry no Server-Timing.");
    };
    let (part, time) = largest(&split);
    let share = 100.0 * time.0 as f64 / split.response_ns.0.max(1) as f64;
    let mut text = format!(
        "At the {name}'s median {share:.0} % of the response time is {part} ({time} of {})",
        split.response_ns
    );
    let model = evidence
        .closed_loop
        .and_then(|c| Some((c, c.servers?, c.predicted_ns?, c.p50_residual?, c.mean_residual?)));
    if let Some((closed, servers, predicted, residual, mean_residual)) = model {
        let fit = if mean_residual.abs() <= 0.05 { "explains it" } else { "does not explain it" };
        text += &format!(
            "; the closed network {fit}: N·S/c = {} × {} / {servers} = {predicted} (measured P50 {:+.1} %, mean {:+.1} % \
             off the model)",
            closed.clients,
            closed.service_mean_ns,
            residual * 100.0,
            mean_residual * 100.0
        );
    }
    text + "."
}

fn largest(split: &Split) -> (&'static str, Nanos) {
    let parts = [
        ("queueing in the server", split.queue_ns.unwrap_or_default()),
        ("service", split.service_ns.unwrap_or_default()),
        ("transport and client", split.beside_the_server()),
        ("waiting for a connection", split.conn_wait_ns),
        ("our own send lag", split.send_lag_ns),
    ];
    parts.into_iter().max_by_key(|(_, time)| *time).expect("there are five")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(p50: u64) -> Figures {
        Figures { p50: Some(Nanos(p50)), ..Figures::default() }
    }

    #[test]
    fn the_change_is_the_median_over_rounds_not_of_pooled_figures() {
        let rounds = [
            (figures(1_000), figures(100)),
            (figures(2_000), figures(1_000)),
            (figures(1_000), figures(700)),
        ];
        let change = &improvement(&rounds)["p50"];
        assert_eq!((change.baseline_ns, change.optimized_ns), (Nanos(1_000), Nanos(700)));
        assert_eq!(change.absolute_ns, 900);
        assert_eq!(change.relative, 0.5);
        assert_eq!(change.relative_range, [0.3, 0.9]);
        assert_eq!(change.rounds, 3);
    }

    /// Values in ns, which below 2048 have buckets of their own; `unsuccessful` more.
    fn tally(values: impl IntoIterator<Item = u64>, unsuccessful: u64) -> Tally {
        let mut tally = Tally::default();
        values.into_iter().for_each(|value| tally.response_ok.record(Nanos(value)));
        tally.scheduled = tally.response_ok.count() + unsuccessful;
        tally
    }

    /// go-moremath's U (science.md 1.11), shifted to be positive; and the unsuccessful last.
    #[test]
    fn the_chance_that_one_request_is_faster_than_another() {
        let u = |baseline: &Tally, optimized: &Tally| {
            chance_faster(baseline, optimized).unwrap() * (baseline.scheduled * optimized.scheduled) as f64
        };
        let first = tally([3, 2, 4, 6], 0);
        assert_eq!(u(&first, &tally([13, 12, 14, 16], 0)), 0.0);
        assert_eq!(u(&first, &tally([1, 5, 7, 8], 0)), 5.0);
        let (long, longer) = (tally((42..=1_040).step_by(2), 0), tally((1..=1_199).step_by(2), 0));
        assert_eq!((long.scheduled, longer.scheduled), (500, 600));
        assert!((u(&long, &longer) - 135_250.0).abs() < 1e-6);
        assert_eq!(chance_faster(&first, &first), Some(0.5));
        assert_eq!(u(&first, &tally([1], 1)), 4.0);
        assert_eq!(u(&tally([], 2), &tally([1], 1)), 3.0);
        assert_eq!(chance_faster(&first, &Tally::default()), None);
    }

    #[test]
    fn rounds_that_point_both_ways_show_no_difference() {
        let words = |rounds: &[(Figures, Figures)]| in_words(&improvement(rounds)["p50"], "b against a");
        let both = [(figures(100), figures(90)), (figures(100), figures(101))];
        assert_eq!(
            words(&both),
            "No difference of the median response is shown: the rounds lie between -10.0 % and +1.0 %."
        );
        let one_way = [(figures(100), figures(90)), (figures(100), figures(80))];
        assert!(
            words(&one_way)
                .starts_with("The median response is 15.0 % lower, b against a (median of 2 rounds")
        );
        assert!(words(&[(figures(100), figures(150))]).contains("50.0 % higher"));
    }

    #[test]
    fn a_figure_that_is_censored_everywhere_has_no_change() {
        let rounds = [(figures(1_000), Figures::default())];
        assert!(!improvement(&rounds).contains_key("p50"));
        assert!(improvement(&[]).is_empty());
    }
}
