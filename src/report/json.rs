//! Reports as JSON, and histograms inside them: HdrHistogram V2, compressed, in base64, as the official
//! tools read it, with the exact figures beside it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::{COMPARISON_SCHEMA, Comparison, Noise, RANKING_SCHEMA, REPORT_SCHEMA, Ranking, Report};
use crate::analyze::gate::{Relative, Rule, SlaReport, SlaVerdict};
use crate::analyze::validity::Verdict;
use crate::load::time::Nanos;
use crate::record::{Batch, Batches, Distribution, RANGE_MAX, Tally};

/// A distribution as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedHistogram {
    /// `hdr-v2-deflate-base64`; values are nanoseconds.
    pub encoding: String,
    /// The histogram.
    pub data: String,
    /// Values, those out of range included.
    pub count: u64,
    /// Values beyond the histogram's range.
    pub out_of_range: u64,
    /// The exact sum of all values.
    pub sum_ns: u64,
    /// The exact least value.
    pub min_ns: Option<Nanos>,
    /// The exact greatest value.
    pub max_ns: Option<Nanos>,
}

const ENCODING: &str = "hdr-v2-deflate-base64";

/// A batch as it is saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBatch {
    /// Requests in it.
    pub requests: u64,
    /// The sum of the response times of the successful.
    pub sum_ns: u64,
    /// The successful by bucket: base64 of LEB128 numbers, for each bucket that is not empty its distance from the one
    /// before and its count.
    pub counts: String,
}

/// Why a file is not a report that can be judged.
#[derive(Debug, thiserror::Error)]
pub enum BadReport {
    /// Not JSON, or not these fields.
    #[error("it is not a report of this version: {0}")]
    Json(#[from] serde_json::Error),
    /// Another schema.
    #[error(
        "its schema is {0}; this program reads {REPORT_SCHEMA}, {COMPARISON_SCHEMA} and {RANKING_SCHEMA}"
    )]
    Schema(String),
    /// A histogram is missing or broken.
    #[error("its histogram `{0}` is missing or damaged")]
    Histogram(String),
    /// Its counts do not add up.
    #[error("its totals and histograms contradict each other")]
    Inconsistent,
}

/// What was measured, as files hold it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Saved {
    /// `report.json`.
    Report(Box<Report>),
    /// `comparison.json`.
    Comparison(Box<Comparison>),
    /// `ranking.json`.
    Ranking(Box<Ranking>),
}

impl Saved {
    /// Reads any; the schema says which.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadReport> {
        let value: serde_json::Value = serde_json::from_slice(bytes)?;
        match value["schema"].as_str() {
            Some(REPORT_SCHEMA) => Ok(Self::Report(Box::new(serde_json::from_value(value)?))),
            Some(COMPARISON_SCHEMA) => Ok(Self::Comparison(Box::new(serde_json::from_value(value)?))),
            Some(RANKING_SCHEMA) => Ok(Self::Ranking(Box::new(serde_json::from_value(value)?))),
            other => Err(BadReport::Schema(other.unwrap_or("missing").to_owned())),
        }
    }

    /// What was measured, in its order.
    pub fn reports(&self) -> Vec<&Report> {
        match self {
            Self::Report(report) => vec![report],
            Self::Comparison(comparison) => vec![&comparison.baseline, &comparison.optimized],
            Self::Ranking(ranking) => ranking.variants.iter().map(|variant| &variant.report).collect(),
        }
    }

    /// The worst of them.
    pub fn validity(&self) -> Verdict {
        match self {
            Self::Report(report) => report.validity.verdict,
            Self::Comparison(comparison) => comparison.validity,
            Self::Ranking(ranking) => ranking.validity,
        }
    }

    /// Whether the answers were the same, where that is known.
    pub fn outputs_identical(&self) -> Option<bool> {
        match self {
            Self::Report(_) => None,
            Self::Comparison(comparison) => comparison.outputs_identical,
            Self::Ranking(ranking) => ranking.outputs_identical,
        }
    }

    /// The file it stands in.
    pub fn file(&self) -> &'static str {
        match self {
            Self::Report(_) => "report.json",
            Self::Comparison(_) => "comparison.json",
            Self::Ranking(_) => "ranking.json",
        }
    }

    /// The verdict of its own gate.
    pub fn sla_verdict(&self) -> SlaVerdict {
        match self {
            Self::Report(report) => report.sla.verdict,
            Self::Comparison(comparison) => comparison.sla.verdict,
            Self::Ranking(ranking) => ranking.sla_verdict,
        }
    }

    /// `--aa`: the first side against itself.
    pub fn noise(&self) -> Option<&Noise> {
        match self {
            Self::Report(_) => None,
            Self::Comparison(comparison) => comparison.noise.as_ref(),
            Self::Ranking(ranking) => ranking.noise.as_ref(),
        }
    }

    /// What a gate judges: the report; of a comparison, the optimized side; of a ranking, the variants that were to be judged.
    pub fn judged(&self) -> Vec<&Report> {
        match self {
            Self::Report(report) => vec![report],
            Self::Comparison(comparison) => vec![&comparison.optimized],
            Self::Ranking(ranking) => ranking.judged().map(|variant| &variant.report).collect(),
        }
    }

    /// The verdicts of its own gates, one for each of those.
    pub fn verdicts(&self) -> Vec<SlaReport> {
        match self {
            Self::Report(report) => vec![report.sla.clone()],
            Self::Comparison(comparison) => vec![comparison.sla.clone()],
            Self::Ranking(ranking) => ranking.judged().map(|variant| variant.sla.clone()).collect(),
        }
    }

    /// Takes these verdicts for its own.
    pub fn adopt(&mut self, mut verdicts: Vec<SlaReport>) {
        match self {
            Self::Report(report) => report.sla = verdicts.remove(0),
            Self::Comparison(comparison) => {
                comparison.sla = verdicts.remove(0);
                comparison.sla_met = comparison.sla.verdict == SlaVerdict::Met;
            }
            Self::Ranking(ranking) => ranking.adopt(verdicts),
        }
    }

    /// Judges each of those by other rules.
    pub fn judge(&self, rules: &[Rule]) -> Result<Vec<SlaReport>, BadReport> {
        match self {
            Self::Report(report) => Ok(vec![report.judge(rules)?]),
            Self::Comparison(comparison) => Ok(vec![comparison.judge(rules)?]),
            Self::Ranking(ranking) => ranking.judge(rules),
        }
    }

    /// Judges each of those against an earlier report; these verdicts join theirs.
    pub fn judge_against(
        &self,
        baseline: &Report,
        rules: &[Relative],
        mut verdicts: Vec<SlaReport>,
    ) -> Result<Vec<SlaReport>, BadReport> {
        match self {
            Self::Report(report) => Ok(vec![report.judge_against(baseline, rules, verdicts.remove(0))?]),
            Self::Comparison(comparison) => {
                Ok(vec![comparison.judge_against(baseline, rules, verdicts.remove(0))?])
            }
            Self::Ranking(ranking) => ranking.judge_against(baseline, rules, verdicts),
        }
    }
}

/// Readable JSON with a line end.
pub fn render(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("reports have string keys and finite depth");
    bytes.push(b'\n');
    bytes
}

/// The distributions of a tally by name.
pub fn save(tally: &Tally) -> BTreeMap<String, SavedHistogram> {
    [
        ("response_ok", &tally.response_ok),
        ("response_not_ok", &tally.response_not_ok),
        ("undisturbed", &tally.undisturbed),
        ("service", &tally.service),
        ("first_byte", &tally.first_byte),
        ("conn_wait", &tally.conn_wait),
        ("send_lag", &tally.send_lag),
        ("connect", &tally.connect),
        ("server_queue", &tally.server_queue),
        ("server_service", &tally.server_service),
    ]
    .into_iter()
    .chain(tally.kernel.iter().flat_map(|(_, split)| {
        [("send_path", &split.send_path), ("remote", &split.remote), ("wake_up", &split.wake_up)]
    }))
    .map(|(name, distribution)| (name.to_owned(), save_one(distribution)))
    .collect()
}

/// The distribution of this name.
pub fn restore(saved: &BTreeMap<String, SavedHistogram>, name: &str) -> Result<Distribution, BadReport> {
    let damaged = || BadReport::Histogram(name.to_owned());
    let saved = saved.get(name).filter(|s| s.encoding == ENCODING).ok_or_else(damaged)?;
    let bytes = STANDARD.decode(&saved.data).map_err(|_| damaged())?;
    let read: Histogram<u64> =
        Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|_| damaged())?;
    if !plausible(saved, &read) {
        return Err(damaged());
    }
    Ok(Distribution::restore(
        read,
        saved.out_of_range,
        u128::from(saved.sum_ns),
        saved.min_ns.unwrap_or(Nanos::MAX),
        saved.max_ns.unwrap_or(Nanos::ZERO),
    ))
}

/// The exact figures must be those of some set of values in these buckets.
fn plausible(saved: &SavedHistogram, read: &Histogram<u64>) -> bool {
    if read.len().checked_add(saved.out_of_range) != Some(saved.count) {
        return false;
    }
    let (Some(min), Some(max)) = (saved.min_ns, saved.max_ns) else {
        return saved.count == 0 && saved.min_ns.is_none() && saved.max_ns.is_none() && saved.sum_ns == 0;
    };
    let (count, sum) = (u128::from(saved.count), u128::from(saved.sum_ns));
    let summed = count * u128::from(min.0) <= sum && sum <= count * u128::from(max.0);
    let same = |value: u64, exact: Nanos| read.lowest_equivalent(value) == read.lowest_equivalent(exact.0);
    let lowest = read.is_empty() || same(read.min(), min);
    let highest = if saved.out_of_range > 0 { max > RANGE_MAX } else { same(read.max(), max) };
    saved.count > 0 && min <= max && summed && lowest && highest
}

/// The batches of each round.
pub fn save_batches(rounds: &[Batches]) -> Vec<Vec<SavedBatch>> {
    let one = |batch: &Batch| {
        let (mut bytes, mut last) = (Vec::new(), 0);
        for &(bucket, n) in &batch.counts {
            leb128(&mut bytes, u32::from(bucket - last));
            leb128(&mut bytes, n);
            last = bucket;
        }
        SavedBatch { requests: batch.requests, sum_ns: batch.sum_ns, counts: STANDARD.encode(bytes) }
    };
    rounds.iter().map(|round| round.as_slice().iter().map(one).collect()).collect()
}

/// The batches of each round, back from a report.
pub fn restore_batches(saved: &[Vec<SavedBatch>]) -> Result<Vec<Batches>, BadReport> {
    let one = |batch: &SavedBatch| {
        let bytes = STANDARD.decode(&batch.counts).ok()?;
        let mut rest = bytes.as_slice();
        let (mut counts, mut last) = (Vec::new(), 0_u16);
        while !rest.is_empty() {
            let (step, n) = (read_leb128(&mut rest)?, read_leb128(&mut rest)?);
            last = last.checked_add(u16::try_from(step).ok()?)?;
            counts.push((last, n));
        }
        let batch = Batch { requests: batch.requests, sum_ns: batch.sum_ns, counts };
        (batch.successful() <= batch.requests).then_some(batch)
    };
    let round =
        |round: &Vec<SavedBatch>| Some(Batches::restore(round.iter().map(one).collect::<Option<_>>()?));
    let rounds: Option<Vec<Batches>> = saved.iter().map(round).collect();
    rounds.ok_or_else(|| BadReport::Histogram("batches".to_owned()))
}

/// The batches hold the very requests of the histograms. A report of an earlier version has none.
pub fn batches_fit(tally: &Tally) -> bool {
    let batches = || tally.batches.iter().flat_map(Batches::as_slice);
    let sum = |of: fn(&Batch) -> u64| batches().map(of).try_fold(0, u64::checked_add);
    tally.batches.is_empty()
        || (sum(Batch::successful) == Some(tally.successful)
            && sum(|batch| batch.requests)
                == tally.response_ok.count().checked_add(tally.response_not_ok.count()))
}

fn leb128(bytes: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn read_leb128(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return u32::try_from(value).ok();
        }
    }
    None
}

fn save_one(distribution: &Distribution) -> SavedHistogram {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new()
        .serialize(distribution.histogram(), &mut bytes)
        .expect("a histogram of known bounds can be serialised into memory");
    SavedHistogram {
        encoding: ENCODING.to_owned(),
        data: STANDARD.encode(bytes),
        count: distribution.count(),
        out_of_range: distribution.out_of_range(),
        sum_ns: u64::try_from(distribution.sum()).unwrap_or(u64::MAX),
        min_ns: distribution.min(),
        max_ns: distribution.max(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    #[test]
    fn a_distribution_survives_saving() {
        let mut rng = Rng::new(3);
        let mut tally = Tally::default();
        for _ in 0..5_000 {
            tally.response_ok.record(Nanos(rng.next_u64() % 4_000_000_000_000));
        }
        assert!(tally.response_ok.out_of_range() > 0, "the range is meant to be exceeded");
        let back = restore(&save(&tally), "response_ok").unwrap();
        assert_eq!((back.count(), back.sum()), (tally.response_ok.count(), tally.response_ok.sum()));
        for rank in [1, 2, 2_500, 4_499, 4_999, 5_000] {
            assert_eq!(back.at_rank(rank), tally.response_ok.at_rank(rank), "rank {rank}");
        }
    }

    #[test]
    fn batches_survive_saving() {
        let batch = |requests, counts: &[(u16, u32)]| Batch { requests, sum_ns: 7, counts: counts.to_vec() };
        let rounds = vec![
            Batches::restore(vec![batch(400, &[(0, 1), (127, 128), (4_000, 200)]), batch(3, &[])]),
            Batches::restore(vec![batch(u64::from(u32::MAX), &[(128, u32::MAX)])]),
        ];
        let mut saved = save_batches(&rounds);
        assert_eq!(restore_batches(&saved).unwrap(), rounds);
        for damage in ["!", "gA==", "gICAgIAB", "AAD/"] {
            saved[0][0].counts = damage.to_owned();
            assert!(restore_batches(&saved).is_err(), "{damage}");
        }
        // more successful requests than requests
        let saved = save_batches(&[Batches::restore(vec![batch(1, &[(1, 2)])])]);
        assert!(restore_batches(&saved).is_err());
    }

    #[test]
    fn damage_is_noticed() {
        let mut saved = save(&Tally::default());
        saved.get_mut("service").unwrap().data.truncate(10);
        saved.get_mut("send_lag").unwrap().count = 1;
        saved.get_mut("connect").unwrap().encoding = "hdr-v3".to_owned();
        let mut full = Tally::default();
        [5, 7, 900].into_iter().for_each(|ns| full.response_ok.record(Nanos(ns)));
        for (name, change) in [
            ("min above max", (Some(901), Some(900), 912)),
            ("max below all", (Some(5), Some(6), 18)),
            ("no min", (None, Some(900), 912)),
            ("impossible sum", (Some(5), Some(900), 0)),
        ] {
            let mut edited = save(&full);
            let one = edited.get_mut("response_ok").unwrap();
            (one.min_ns, one.max_ns, one.sum_ns) = (change.0.map(Nanos), change.1.map(Nanos), change.2);
            assert!(restore(&edited, "response_ok").is_err(), "{name}");
        }
        assert!(restore(&save(&full), "response_ok").is_ok());
        for name in ["service", "send_lag", "connect", "nothing"] {
            assert!(matches!(restore(&saved, name), Err(BadReport::Histogram(_))), "{name}");
        }
        assert!(matches!(Saved::parse(b"{\"schema\":\"x/9\"}"), Err(BadReport::Schema(_))));
        assert!(matches!(Saved::parse(b"{"), Err(BadReport::Json(_))));
        assert!(matches!(Saved::parse(b"{\"schema\":\"hairspring.report/1\"}"), Err(BadReport::Json(_))));
    }
}
