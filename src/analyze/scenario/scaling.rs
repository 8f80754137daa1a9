//! Throughput by the number of users: the Universal Scalability Law fitted to the stages of each round.

use serde::{Deserialize, Serialize};

use super::super::diagnose::Evidence;
use super::super::queueing::usl::{Bounds, POINTS_MIN, Usl};
use super::{Findings, between, judged, not_evaluable, seconds};
use crate::facts::Round;
use crate::load::rng::Rng;
use crate::load::schedule::Load;
use crate::load::time::Nanos;
use crate::plan::Plan;

/// The law, and what it was fitted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scaling {
    /// One for each stage of each round.
    pub points: Vec<ScalingPoint>,
    /// α (σ in the literature), contention: the share that is serial.
    pub contention: Option<Bounded>,
    /// β (κ), coherency: what each pair of users costs the others.
    pub coherency: Option<Bounded>,
    /// Throughput of one user, per second.
    pub single_per_s: Option<Bounded>,
    /// R²: the share of the variance of the throughput that the law explains.
    pub explained: Option<f64>,
    /// √((1−α)/β): beyond so many users throughput falls; null where none is in sight (within twice what was observed).
    pub users_at_most: Option<f64>,
    /// The throughput there, per second.
    pub most_per_s: Option<f64>,
}

/// Successful requests per second with so many users.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScalingPoint {
    /// The round.
    pub round: u32,
    /// Users.
    pub users: u32,
    /// Per second.
    pub throughput_per_s: f64,
}

/// A fitted value with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bounded {
    /// The value of the best fit.
    pub value: f64,
    /// What it lies between with 95 %, by resampling the points; null where that gave none.
    pub interval: Option<[f64; 2]>,
}

const RESAMPLES: usize = 400;
/// The first part of each stage: users that have just come.
const SETTLING: f64 = 0.2;
/// Of the variance, in percent.
const UNEXPLAINED_MAX: f64 = 10.0;

pub(super) fn judge(plan: &Plan, rounds: &[Round], findings: &mut Findings) {
    let (name, unit) = ("scalability-law", "% of the variance that the law does not explain");
    let points = points(plan, rounds);
    let of_fit: Vec<(f64, f64)> =
        points.iter().map(|point| (f64::from(point.users), point.throughput_per_s)).collect();
    let Some(law) = Usl::fit(&of_fit) else {
        let why = format!(
            "{} points; needs {POINTS_MIN} with three different numbers of users (stages that hold, as 0s:1c,10s:1c,10s:2c,…)",
            points.len()
        );
        findings.checks.push(not_evaluable(name, unit, UNEXPLAINED_MAX, why));
        return;
    };
    let intervals = Usl::intervals(&of_fit, RESAMPLES, &mut Rng::new(plan.seed));
    let bounded = |value, of: Option<Bounds>| {
        Some(Bounded { value, interval: of.map(|Bounds { low, high }| [low, high]) })
    };
    let most = law.clients_at_most().filter(|&users| law.throughput(users).is_some());
    let scaling = Scaling {
        points,
        contention: bounded(law.contention, intervals.map(|i| i.contention)),
        coherency: bounded(law.coherency, intervals.map(|i| i.coherency)),
        single_per_s: bounded(law.single, intervals.map(|i| i.single)),
        explained: Some(law.explained),
        users_at_most: most,
        most_per_s: most.and_then(|users| law.throughput(users)),
    };
    let meaning = "where the law does not describe the server, α and β say nothing about it".to_owned();
    let figure = 100.0 * (1.0 - law.explained).max(0.0);
    let evidence =
        Evidence { figure, limit: UNEXPLAINED_MAX, unit, statistic: None, critical: None, meaning };
    findings.checks.push(judged(name, evidence));
    findings.scaling = Some(scaling);
}

/// Of the stages that hold their number of users, without their beginnings.
fn points(plan: &Plan, rounds: &[Round]) -> Vec<ScalingPoint> {
    let Load::Users { stages, .. } = &plan.load else { return Vec::new() };
    let offset = plan.warmup.time.unwrap_or_default();
    let holds = stages.windows(2).filter(|pair| pair[1].at > pair[0].at && pair[0].users == pair[1].users);
    let holds: Vec<_> = holds.filter(|pair| pair[0].users > 0).collect();
    let mut points = Vec::new();
    for round in rounds {
        for pair in &holds {
            let settling = Nanos(((pair[1].at - pair[0].at).0 as f64 * SETTLING) as u64);
            let (from, to) = (pair[0].at + offset + settling, pair[1].at + offset);
            let time = seconds(round, from, to);
            let successful: u64 = between(round, from, to).map(|slice| slice.responses.count()).sum();
            if time > 0.0 && successful > 0 {
                let throughput_per_s = successful as f64 / time;
                points.push(ScalingPoint { round: round.index, users: pair[0].users, throughput_per_s });
            }
        }
    }
    points
}
