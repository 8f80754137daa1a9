//! What the target told of itself: each series in figures, and which of them move with its response time.
//!
//! Both are seen over the same slices of time, so one can rise with the other; that is no cause, in either direction.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::diagnose::spearman;
use super::special::t_quantile;
use super::stats::Percentile;
use crate::facts::Round;
use crate::facts::scraped::{Kind, ScrapedSeries};
use crate::load::time::Nanos;

/// Fewer slices of time say nothing.
const SLICES_MIN: usize = 8;
/// How often chance alone may reach [`Comovement::by_chance`], over all series of a report together.
const ERROR: f64 = 0.05;

/// One series over all rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeriesFigures {
    /// How it is read.
    pub kind: Kind,
    /// The first value of all.
    pub first: f64,
    /// The last.
    pub last: f64,
    /// Of a level; of a counter, of its rate per second: the mean, null with fewer than two values in each round.
    pub mean: Option<f64>,
    /// The least.
    pub min: Option<f64>,
    /// The greatest.
    pub max: Option<f64>,
    /// Beside the response times; null where there are not slices enough, or one of the two does not vary.
    pub moves_with_p95: Option<Comovement>,
}

/// Does a series rise and fall with the p95 of the response time?
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Comovement {
    /// Spearman's, of the series' mean in a slice of time and the p95 of the successful that ended in it.
    pub rank_correlation: f64,
    /// Slices that have both.
    pub slices: u64,
    /// In 95 of 100 runs no series of the report is beyond this, in either direction, if nothing hangs together (Bonferroni over
    /// the series, Student's t; slices taken as independent).
    pub by_chance: f64,
}

impl Comovement {
    /// Chance alone hardly ever does this.
    pub fn is_shown(&self) -> bool {
        self.rank_correlation.abs() > self.by_chance
    }
}

/// By the names of the series; one without any value is left out.
pub fn figures(rounds: &[Round]) -> BTreeMap<String, SeriesFigures> {
    let mut all: BTreeMap<&str, Series> = BTreeMap::new();
    for round in rounds {
        let Some(scraped) = &round.scraped else { continue };
        let slices = Slices::of(round);
        for series in &scraped.series {
            let known = all.entry(&series.name).or_insert_with(|| Series::new(series.kind));
            known.add(&scraped.at, series, &slices);
        }
    }
    let correlations: BTreeMap<&str, f64> = all
        .iter()
        .filter(|(_, series)| series.pairs.len() >= SLICES_MIN)
        .filter_map(|(name, series)| Some((*name, spearman(&series.pairs)?)))
        .collect();
    let tested = correlations.len();
    let figures = all.iter().filter_map(|(name, series)| {
        let moves = correlations.get(name).map(|&rank_correlation| Comovement {
            rank_correlation,
            slices: series.pairs.len() as u64,
            by_chance: by_chance(series.pairs.len(), tested),
        });
        Some(((*name).to_owned(), series.figures(moves)?))
    });
    figures.collect()
}

/// Of a counter, for each row its increase per second since the row before that has a value. One that went back was set anew.
pub fn rates(at: &[Nanos], series: &ScrapedSeries) -> Vec<Option<f64>> {
    steps(at, series).into_iter().map(|step| step.map(|step| step.value)).collect()
}

/// A level when it was seen, or a rate in the middle of its time.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Nanos,
    value: f64,
    /// How much it counts in the mean.
    seconds: f64,
}

fn steps(at: &[Nanos], series: &ScrapedSeries) -> Vec<Option<Point>> {
    let mut before: Option<(Nanos, f64)> = None;
    let step = |(&at, value): (&Nanos, &Option<f64>)| {
        let value = (*value)?;
        let (since, old) = before.replace((at, value))?;
        let seconds = at.saturating_sub(since).as_secs();
        let grown = if value >= old { value - old } else { value };
        (seconds > 0.0).then(|| Point { at: Nanos(since.0.midpoint(at.0)), value: grown / seconds, seconds })
    };
    at.iter().zip(&series.values).map(step).collect()
}

fn points(at: &[Nanos], series: &ScrapedSeries) -> Vec<Point> {
    match series.kind {
        Kind::Counter => steps(at, series).into_iter().flatten().collect(),
        Kind::Gauge => {
            let seen = at.iter().zip(&series.values);
            seen.filter_map(|(&at, value)| Some(Point { at, value: (*value)?, seconds: 1.0 })).collect()
        }
    }
}

/// The slices of one round: where each begins, and the p95 in it.
struct Slices {
    length: Nanos,
    p95: Vec<(Nanos, f64)>,
}

impl Slices {
    fn of(round: &Round) -> Self {
        let slices = &round.recorded.slices;
        let p95 = slices.iter().filter_map(|slice| {
            let p95 = slice.responses.at_rank(Percentile::P95.rank(slice.responses.count()))?;
            Some((slice.start, p95.0 as f64))
        });
        Self { length: slices.interval(), p95: p95.collect() }
    }
}

/// One series, while rounds are put together.
struct Series {
    kind: Kind,
    ends: Option<(f64, f64)>,
    sum: f64,
    seconds: f64,
    range: Option<(f64, f64)>,
    /// Its mean in a slice, and the slice's p95.
    pairs: Vec<(f64, f64)>,
}

impl Series {
    fn new(kind: Kind) -> Self {
        Self { kind, ends: None, sum: 0.0, seconds: 0.0, range: None, pairs: Vec::new() }
    }

    fn add(&mut self, at: &[Nanos], series: &ScrapedSeries, slices: &Slices) {
        for &value in series.values.iter().flatten() {
            self.ends = Some((self.ends.map_or(value, |(first, _)| first), value));
        }
        let points = points(at, series);
        for point in &points {
            self.sum += point.value * point.seconds;
            self.seconds += point.seconds;
            let (min, max) = self.range.unwrap_or((point.value, point.value));
            self.range = Some((min.min(point.value), max.max(point.value)));
        }
        for &(start, p95) in &slices.p95 {
            let from = points.partition_point(|point| point.at < start);
            let to = points.partition_point(|point| point.at < start + slices.length);
            let within = &points[from..to];
            if !within.is_empty() {
                let mean = within.iter().map(|point| point.value).sum::<f64>() / within.len() as f64;
                self.pairs.push((mean, p95));
            }
        }
    }

    fn figures(&self, moves_with_p95: Option<Comovement>) -> Option<SeriesFigures> {
        let (first, last) = self.ends?;
        Some(SeriesFigures {
            kind: self.kind,
            first,
            last,
            mean: (self.seconds > 0.0).then(|| self.sum / self.seconds),
            min: self.range.map(|(min, _)| min),
            max: self.range.map(|(_, max)| max),
            moves_with_p95,
        })
    }
}

/// r of t = r √((n−2)/(1−r²)) at the quantile that leaves [`ERROR`] to all series together, on both sides.
fn by_chance(pairs: usize, series: usize) -> f64 {
    let degrees = pairs as f64 - 2.0;
    let t = t_quantile(1.0 - ERROR / (2.0 * series as f64), degrees);
    t / (degrees + t * t).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(kind: Kind, values: &[Option<f64>]) -> ScrapedSeries {
        ScrapedSeries { name: "m".to_owned(), kind, values: values.to_vec() }
    }

    const SECOND: Nanos = Nanos::from_secs(1);

    fn seconds(n: u64) -> Vec<Nanos> {
        (0..n).map(Nanos::from_secs).collect()
    }

    #[test]
    fn a_counter_is_read_as_its_rate_also_over_gaps_and_restarts() {
        let counter = series(Kind::Counter, &[Some(10.0), Some(14.0), None, Some(24.0), Some(3.0)]);
        let at = seconds(5);
        assert_eq!(rates(&at, &counter), [None, Some(4.0), None, Some(5.0), Some(3.0)]);
        let mut all = Series::new(Kind::Counter);
        all.add(&at, &counter, &Slices { length: SECOND, p95: Vec::new() });
        let figures = all.figures(None).unwrap();
        assert_eq!((figures.first, figures.last), (10.0, 3.0));
        // 4 + 10 + 3 in four seconds
        assert_eq!((figures.mean, figures.min, figures.max), (Some(4.25), Some(3.0), Some(5.0)));
    }

    #[test]
    fn a_series_is_paired_with_the_slice_that_it_was_seen_in() {
        let slices = Slices {
            length: Nanos::from_secs(2),
            p95: [0, 2, 4].map(|s| (Nanos::from_secs(s), s as f64 * 10.0)).to_vec(),
        };
        let gauge = series(Kind::Gauge, &[Some(1.0), Some(3.0), Some(8.0), None, None]);
        let mut all = Series::new(Kind::Gauge);
        all.add(&seconds(5), &gauge, &slices);
        assert_eq!(all.pairs, [(2.0, 0.0), (8.0, 20.0)], "what was not seen is not paired");
        assert_eq!(all.figures(None).unwrap().mean, Some(4.0));
        let counter = series(Kind::Counter, &[Some(0.0), Some(2.0), Some(6.0), Some(6.0), Some(16.0)]);
        let mut all = Series::new(Kind::Counter);
        all.add(&seconds(5), &counter, &slices);
        assert_eq!(all.pairs, [(3.0, 0.0), (5.0, 20.0)], "rates belong to the middle of their time");
    }

    /// 5 % of all reports, by simulation of series that have nothing to do with the response time.
    #[test]
    fn chance_reaches_the_limit_about_as_often_as_it_says() {
        let mut rng = crate::load::rng::Rng::new(7);
        let (series, slices, runs) = (10, 20, 400);
        let limit = by_chance(slices, series);
        let mut reached = 0;
        for _ in 0..runs {
            let mut draw = || (0..slices).map(|_| rng.next_u64() as f64).collect::<Vec<_>>();
            let p95 = draw();
            let beyond = (0..series).any(|_| {
                let pairs: Vec<_> = draw().into_iter().zip(p95.iter().copied()).collect();
                spearman(&pairs).unwrap().abs() > limit
            });
            reached += u32::from(beyond);
        }
        let share = f64::from(reached) / f64::from(runs);
        assert!((0.02..0.09).contains(&share), "{share} beyond {limit}");
        assert!((by_chance(20, 1) - 0.4438).abs() < 1e-3, "as in tables of r: {}", by_chance(20, 1));
    }
}
