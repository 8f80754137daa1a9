//! The diagnosis of a run: did it settle, did it stay, did requests leave as planned, do they depend on each other, do all
//! threads and connections tell the same story?
//!
//! Findings about the run, not convictions of the instrument (`validity` has those). Each check passes, fails or is not
//! evaluable, with figure and limit; none can be switched off and none drops data. A check fails where the difference is
//! both significant (about 1 %) and large enough to matter: with many requests everything is significant.

use serde::{Deserialize, Serialize};

use super::intervals;
use super::stats::{Percentile, median};
use super::summary::Figures;
use super::theory::Arrivals;
use crate::facts::Round;
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::{Distribution, Moments, Passage, Slices, Tally};

mod arrivals;
mod dependence;
mod normal;
pub(super) mod stationarity;
mod warmup;

pub(super) use dependence::spearman;
use stationarity::{Adf, Allow};

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// There is not enough to go by.
    NotEvaluable,
    /// Nothing found.
    Pass,
    /// Something that whoever reads the figures must know.
    Fail,
}

/// One check; of several rounds, the worst.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Stable name.
    pub check: String,
    /// What it found.
    pub outcome: Outcome,
    /// How large the effect is.
    pub figure: Option<f64>,
    /// Its unit.
    pub unit: String,
    /// It matters from here on.
    pub limit: f64,
    /// The test statistic, where there is a test.
    pub statistic: Option<f64>,
    /// It is significant beyond this.
    pub critical: Option<f64>,
    /// In which round.
    pub round: u32,
    /// What it means, or why it was not evaluable.
    pub meaning: String,
}

/// All checks, and the beginning of the run apart where it differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// In a fixed order.
    pub checks: Vec<Check>,
    /// One for each round whose beginning differs from the rest. The figures of the report include it.
    pub cold_starts: Vec<ColdStart>,
}

/// The beginning of a run that had not settled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// Which round.
    pub round: u32,
    /// The suggested cut, from t0: a `--warmup` of this length would have left it out.
    pub until_ns: Nanos,
    /// Response times of the successful that ended before it.
    pub cold_ns: Figures,
    /// Those after it.
    pub rest_ns: Figures,
}

/// MSER-5 needs eight batches.
const INTERVALS_FOR_WARMUP: usize = 40;
const INTERVALS_MIN: usize = 50;
/// Means compared by halves and trend.
const BATCHES: usize = 10;
/// t with 18 degrees of freedom, two-sided 1 %.
const HALVES_CRITICAL: f64 = 2.878;
/// Normal, two-sided and one-sided 1 %.
const TWO_SIDED: f64 = 2.576;
const ONE_SIDED: f64 = 2.326;
/// Gaps that a test of their distribution looks at: of more, microseconds are significant.
const GAPS_MAX: usize = 2_000;
const GAPS_MIN: usize = 100;
const PASSAGES_MIN: usize = 200;
/// So that each of twenty batches has about five requests beyond p90.
const REQUESTS_FOR_TAU: u64 = 1_000;

/// Of one target.
pub fn diagnose(plan: &Plan, rounds: &[Round]) -> Diagnosis {
    let mut diagnosis = Diagnosis { checks: Vec::new(), cold_starts: Vec::new() };
    for round in rounds {
        let series = Series::of(&round.recorded.slices);
        let blocks = round.recorded.passages.blocks();
        let (warmup, cold) = warmup(&series, &round.recorded.slices);
        diagnosis.cold_starts.extend(cold.map(|cold| ColdStart { round: round.index, ..cold }));
        let mut checks = vec![warmup];
        checks.extend(stationarity(&series));
        checks.push(departures(Arrivals::of(plan), &blocks));
        checks.push(drift(Arrivals::of(plan), &blocks));
        checks.push(independence(&blocks));
        checks.push(worth(&round.recorded.measured));
        checks.extend(homogeneity(&round.recorded.connections));
        checks.iter_mut().for_each(|check| check.round = round.index);
        worse_of(&mut diagnosis.checks, checks);
    }
    diagnosis
}

/// Of each check, the worse is kept; of the equally bad, the one with the greater figure.
fn worse_of(kept: &mut Vec<Check>, checks: Vec<Check>) {
    if kept.is_empty() {
        *kept = checks;
        return;
    }
    let size = |check: &Check| check.figure.map_or(0.0, f64::abs);
    for (mine, theirs) in kept.iter_mut().zip(checks) {
        if (theirs.outcome, size(&theirs)) > (mine.outcome, size(mine)) {
            *mine = theirs;
        }
    }
}

/// The run by its slices of time, those in which nothing succeeded left out.
#[derive(Debug, Default)]
struct Series {
    /// ns after t0.
    starts: Vec<Nanos>,
    means: Vec<f64>,
    p90s: Vec<f64>,
}

impl Series {
    fn of(slices: &Slices) -> Self {
        let mut series = Self::default();
        for interval in slices.iter() {
            let responses = &interval.responses;
            let p90 = responses.at_rank(Percentile::P90.rank(responses.count()));
            if let (Some(mean), Some(p90)) = (responses.mean(), p90) {
                series.starts.push(interval.start);
                series.means.push(mean.0 as f64);
                series.p90s.push(p90.0 as f64);
            }
        }
        series
    }
}

pub(super) fn not_evaluable(check: &str, unit: &str, limit: f64, why: impl Into<String>) -> Check {
    Check {
        check: check.to_owned(),
        outcome: Outcome::NotEvaluable,
        figure: None,
        unit: unit.to_owned(),
        limit,
        statistic: None,
        critical: None,
        round: 0,
        meaning: why.into(),
    }
}

/// What makes a check fail: a statistic beyond its critical value (in size), and a figure beyond its limit (in size).
pub(super) struct Evidence {
    pub(super) figure: f64,
    pub(super) limit: f64,
    pub(super) unit: &'static str,
    pub(super) statistic: Option<f64>,
    pub(super) critical: Option<f64>,
    pub(super) meaning: String,
}

pub(super) fn judged(check: &str, evidence: Evidence) -> Check {
    let Evidence { figure, limit, unit, statistic, critical, meaning } = evidence;
    let significant = statistic.zip(critical).is_none_or(|(s, c)| s.abs() > c.abs());
    let fails = significant && figure.abs() > limit;
    Check {
        check: check.to_owned(),
        outcome: if fails { Outcome::Fail } else { Outcome::Pass },
        figure: Some(figure),
        unit: unit.to_owned(),
        limit,
        statistic,
        critical,
        round: 0,
        meaning,
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn few_intervals(found: usize, needed: usize) -> String {
    format!(
        "{found} slices of time with answers, of {needed} needed; a longer run or a shorter --interval has more"
    )
}

/// The beginning, by MSER-5 on means and on p90s; the later cut counts.
fn warmup(series: &Series, slices: &Slices) -> (Check, Option<ColdStart>) {
    let (name, unit, limit) = ("warm-up", "% that the beginning differs from the rest", 5.0);
    let n = series.means.len();
    if n < INTERVALS_FOR_WARMUP {
        return (not_evaluable(name, unit, limit, few_intervals(n, INTERVALS_FOR_WARMUP)), None);
    }
    let cuts = [&series.means, &series.p90s].map(|values| warmup::mser(values, 5));
    let [Some(by_mean), Some(by_p90)] = cuts else {
        return (not_evaluable(name, unit, limit, "too few batches"), None);
    };
    let cut = by_mean.cut.max(by_p90.cut);
    let unsettled = by_mean.unsettled || by_p90.unsettled;
    let differs = |values: &[f64]| 100.0 * (mean(&values[..cut]) / mean(&values[cut..]) - 1.0);
    let [figure, by_p90] = if cut == 0 { [0.0; 2] } else { [differs(&series.means), differs(&series.p90s)] };
    let figure = if by_p90.abs() > figure.abs() { by_p90 } else { figure };
    let until = series.starts.get(cut).copied().unwrap_or_default();
    let meaning = if unsettled {
        "no steady state was found: the first half of the run differs from the second; run longer".to_owned()
    } else {
        format!(
            "the run has settled after {until}; as --warmup that would leave its beginning out of the figures"
        )
    };
    let check = judged(name, Evidence { figure, limit, unit, statistic: None, critical: None, meaning });
    let cold = (check.outcome == Outcome::Fail && !unsettled).then(|| cold_start(slices, until));
    (check, cold)
}

fn cold_start(slices: &Slices, until: Nanos) -> ColdStart {
    let (mut cold, mut rest) = (Distribution::default(), Distribution::default());
    for interval in slices.iter() {
        if interval.start < until { &mut cold } else { &mut rest }.merge(&interval.responses);
    }
    ColdStart { round: 0, until_ns: until, cold_ns: Figures::of(&cold), rest_ns: Figures::of(&rest) }
}

/// Halves, trend, unit root, level.
fn stationarity(series: &Series) -> Vec<Check> {
    let (n, unit, limit) = (series.means.len(), "% of the mean", 5.0);
    let names = ["first-against-second-half", "trend", "unit-root", "level"];
    if n < INTERVALS_MIN {
        let why = few_intervals(n, INTERVALS_MIN);
        return names.map(|name| not_evaluable(name, unit, limit, why.as_str())).to_vec();
    }
    let means = &series.means;
    let whole = mean(means);
    let percent = |value: f64| 100.0 * value / whole;
    let difference = percent(mean(&means[n / 2..]) - mean(&means[..n / 2]));
    // The level's own movement: how far the mean of any third is off.
    let moved =
        means.chunks(n.div_ceil(3)).map(|third| percent(mean(third) - whole).abs()).fold(0.0, f64::max);
    let batched: Vec<f64> = means.chunks(n.div_ceil(4 * BATCHES)).map(mean).collect();
    let points: Vec<(f64, f64)> = batched.iter().zip(0..).map(|(&mean, i)| (f64::from(i), mean)).collect();
    let slope = stationarity::theil_sen(&points).unwrap_or(0.0) * batched.len() as f64;
    let found = |statistic: Option<f64>, critical, figure, meaning: &str| {
        let meaning = meaning.to_owned();
        let statistic = statistic.unwrap_or(0.0); // of a series that does not vary at all
        Evidence { figure, limit, unit, statistic: Some(statistic), critical: Some(critical), meaning }
    };
    let [halves, trend, root, level] = names;
    vec![
        judged(
            halves,
            found(
                stationarity::halves(means, BATCHES),
                HALVES_CRITICAL,
                difference,
                "mean response time of the second half of the run, less that of the first (Welch's t of ten batches each)",
            ),
        ),
        judged(
            trend,
            found(
                stationarity::mann_kendall(&batched),
                TWO_SIDED,
                percent(slope),
                "rise over the whole run (Theil–Sen's slope; Mann–Kendall's z)",
            ),
        ),
        unit_root(root, stationarity::adf_by_aic(means, Allow::Constant), moved, limit, unit),
        judged(
            level,
            found(
                stationarity::kpss(means, stationarity::lags_max(n)),
                stationarity::KPSS_CRITICAL,
                moved,
                "the mean of a third of the run is off by as much (KPSS)",
            ),
        ),
    ]
}

/// Here the null is the fault: not rejecting it is what is found.
fn unit_root(name: &str, adf: Option<Adf>, moved: f64, limit: f64, unit: &'static str) -> Check {
    let Some(adf) = adf else {
        return not_evaluable(name, unit, limit, "the response times do not vary");
    };
    let wanders = adf.p_value > 0.05;
    let meaning = format!(
        "the level wanders instead of returning (augmented Dickey–Fuller, {} lags, p {:.3}; the figure is how far the mean of a third is off)",
        adf.lags, adf.p_value
    );
    let evidence = Evidence { figure: moved, limit, unit, statistic: None, critical: None, meaning };
    let mut check = judged(name, evidence);
    if !wanders {
        check.outcome = Outcome::Pass;
    }
    (check.statistic, check.critical) = (Some(adf.statistic), Some(-2.86));
    check
}

/// Times from one request leaving to the next, of consecutive ids.
fn gaps(blocks: &[Vec<Passage>]) -> Vec<f64> {
    let mut gaps = Vec::new();
    for block in blocks {
        for run in block.chunk_by(|a, b| a.seq + 1 == b.seq) {
            let mut issued: Vec<u64> = run.iter().map(|passage| passage.issued.0).collect();
            issued.sort_unstable();
            gaps.extend(issued.windows(2).map(|pair| (pair[1] - pair[0]) as f64));
        }
    }
    gaps
}

/// Do requests leave as planned?
fn departures(planned: Arrivals, blocks: &[Vec<Passage>]) -> Check {
    let name = "arrivals";
    let gaps = gaps(blocks);
    let (distance, variation) = ("max |F − exponential|", "standard deviation in gaps");
    let enough = gaps.len() >= GAPS_MIN;
    let few = format!("{} gaps between consecutive requests, of {GAPS_MIN} needed", gaps.len());
    match planned {
        Arrivals::Poisson { .. } if enough => {
            let thinned: Vec<f64> = gaps.iter().step_by(gaps.len().div_ceil(GAPS_MAX)).copied().collect();
            let [_, _, critical] = arrivals::ANDERSON_DARLING_CRITICAL;
            let found =
                arrivals::anderson_darling(&thinned).zip(arrivals::distance_from_exponential(&thinned));
            let Some((statistic, figure)) = found else {
                return not_evaluable(name, distance, 0.05, "the gaps do not vary");
            };
            let meaning = "gaps between requests as they left, against the exponential distribution that was planned (Anderson–Darling; Kolmogorov–Smirnov's distance)".to_owned();
            let (statistic, critical) = (Some(statistic.adjusted), Some(critical));
            judged(name, Evidence { figure, limit: 0.05, unit: distance, statistic, critical, meaning })
        }
        Arrivals::Constant { per_s } if enough => {
            let Some(found) = arrivals::evenness(&gaps, 1e9 / per_s) else {
                return not_evaluable(name, variation, 0.1, few);
            };
            let meaning = format!(
                "gaps between requests as they left, of one planned; {:.2} % are shorter than a tenth (catching up), 999 of 1000 are within {} of the plan",
                100.0 * found.bursts,
                Nanos(found.off_p999 as u64)
            );
            let figure = found.variation;
            judged(
                name,
                Evidence { figure, limit: 0.1, unit: variation, statistic: None, critical: None, meaning },
            )
        }
        Arrivals::Closed { .. } => not_evaluable(name, variation, 0.1, "a closed loop plans no arrivals"),
        Arrivals::Other => not_evaluable(name, variation, 0.1, "the plan has no single distribution of gaps"),
        Arrivals::Poisson { .. } | Arrivals::Constant { .. } => not_evaluable(name, variation, 0.1, few),
    }
}

/// Do requests leave ever later than planned?
fn drift(planned: Arrivals, blocks: &[Vec<Passage>]) -> Check {
    let (name, unit, limit) = ("drift", "% of the median response time", 5.0);
    if matches!(planned, Arrivals::Closed { .. }) {
        return not_evaluable(name, unit, limit, "a closed loop plans no arrivals");
    }
    let late = |passage: &Passage| (passage.issued.saturating_sub(passage.intended)).0 as f64;
    let points: Vec<(f64, f64)> = blocks
        .iter()
        .filter_map(|block| {
            let middle = median(&block.iter().map(late).collect::<Vec<_>>())?;
            Some((block[0].intended.0 as f64, middle))
        })
        .collect();
    let responses: Vec<f64> =
        blocks.iter().flatten().filter_map(|passage| Some(passage.response?.0 as f64)).collect();
    let statistic = stationarity::mann_kendall(&points.iter().map(|point| point.1).collect::<Vec<_>>());
    let (Some(slope), Some(typical)) = (stationarity::theil_sen(&points), median(&responses)) else {
        return not_evaluable(name, unit, limit, "too few requests");
    };
    if points.len() < 8 || typical <= 0.0 {
        return not_evaluable(name, unit, limit, "too few requests: eight blocks of 256 are needed");
    }
    let length = points[points.len() - 1].0 - points[0].0;
    let figure = 100.0 * slope * length / typical;
    let meaning =
        "how much later than planned requests left at the end than at the beginning (median of 256; Mann–Kendall's z): the pool, the target or the client falls behind".to_owned();
    let statistic = Some(statistic.unwrap_or(0.0));
    judged(name, Evidence { figure, limit, unit, statistic, critical: Some(TWO_SIDED), meaning })
}

/// Does a request take long because the one before did?
fn independence(blocks: &[Vec<Passage>]) -> Check {
    let (name, unit, limit) = ("independence", "rank correlation with the next request", 0.1);
    let pairs: Vec<(f64, f64)> = blocks
        .iter()
        .flat_map(|block| block.windows(2))
        .filter(|pair| pair[0].seq + 1 == pair[1].seq)
        .filter_map(|pair| Some((pair[0].response?.0 as f64, pair[1].response?.0 as f64)))
        .collect();
    if pairs.len() < PASSAGES_MIN {
        let why = format!("{} pairs of consecutive requests, of {PASSAGES_MIN} needed", pairs.len());
        return not_evaluable(name, unit, limit, why);
    }
    let Some(figure) = dependence::spearman(&pairs) else {
        return not_evaluable(name, unit, limit, "the response times do not vary");
    };
    let statistic = Some(figure * (pairs.len() as f64 - 1.0).sqrt());
    let meaning =
        "consecutive requests share their fate (a queue does that; Spearman's lag 1): intervals that take requests as independent are too narrow".to_owned();
    judged(name, Evidence { figure, limit, unit, statistic, critical: Some(TWO_SIDED), meaning })
}

/// How many requests say as much as one independent request would?
fn worth(tally: &Tally) -> Check {
    let (name, unit, limit) =
        ("independence-batches", "requests are worth one independent request (τ at p90)", 2.0);
    if tally.scheduled < REQUESTS_FOR_TAU || tally.batches.is_empty() {
        let why = format!("{} requests, of {REQUESTS_FOR_TAU} needed", tally.scheduled);
        return not_evaluable(name, unit, limit, why);
    }
    let (_, spread) = intervals::bounds(tally, Percentile::P90);
    if spread.degrees.is_infinite() {
        return not_evaluable(name, unit, limit, "the response times do not vary");
    }
    // Of independent requests, τ is a chi-square variable over its degrees of freedom.
    let statistic = Some(dependence::normal_of_ratio(spread.tau, spread.degrees).max(0.0));
    let meaning = format!(
        "slow requests come in stretches (their share between {:.0} batches varies more than chance has it, as a normal z): the intervals of this report allow for it",
        spread.degrees + 1.0
    );
    judged(name, Evidence { figure: spread.tau, limit, unit, statistic, critical: Some(ONE_SIDED), meaning })
}

/// Over threads, and over connections.
fn homogeneity(connections: &[Moments]) -> [Check; 2] {
    let (unit, limit) = ("% that the mean of one is off", 10.0);
    let threads: Vec<Moments> =
        connections.chunk_by(|a, b| a.thread == b.thread).map(Moments::total).collect();
    [("homogeneous-threads", &threads[..]), ("homogeneous-connections", connections)].map(|(name, groups)| {
        let Some(found) = dependence::homogeneity(groups) else {
            return not_evaluable(name, unit, limit, "fewer than two with 30 requests each, or times that do not vary");
        };
        let meaning = format!(
            "service time (done − issued) of {} of them: one differs from the others (variance between over variance within, as a normal z)",
            found.groups
        );
        // only a variance that is too large says that they differ
        let statistic = Some(found.z.max(0.0));
        let figure = 100.0 * found.spread;
        judged(name, Evidence { figure, limit, unit, statistic, critical: Some(ONE_SIDED), meaning })
    })
}

#[cfg(test)]
mod tests;
