//! The paths that probes ask: did each answer every time, and within the time a probe waits?

use super::super::diagnose::Evidence;
use super::super::stats::Percentile;
use super::{Findings, judged, not_evaluable};
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::record::Tally;

/// What a Kubernetes probe waits by default: `timeoutSeconds` 1.
const PROBE_TIMEOUT: Nanos = Nanos::from_secs(1);

pub(super) fn judge(plan: &Plan, tally: &Tally, findings: &mut Findings) {
    let rows = plan.mix.iter().flat_map(|mix| &mix.requests);
    for (row, counted) in rows.zip(tally.templates.iter()) {
        let path = row.path.as_deref().unwrap_or("(URL)");
        let (answers, in_time) = (format!("{path} answers"), format!("{path} in time"));
        let (share, unit, limit) = ("% of requests not successful", "ms at p99", PROBE_TIMEOUT.as_ms());
        if counted.requests == 0 {
            findings.checks.push(not_evaluable(&answers, share, 0.0, "it was not asked for"));
            continue;
        }
        let failed = counted.requests - counted.successful;
        let figure = 100.0 * failed as f64 / counted.requests as f64;
        let meaning = format!("{failed} of {} were not successful", counted.requests);
        let evidence = Evidence { figure, limit: 0.0, unit: share, statistic: None, critical: None, meaning };
        findings.checks.push(judged(&answers, evidence));
        let responses = counted.response_ok.as_ref();
        let p99 = responses.and_then(|r| r.at_rank(Percentile::P99.rank(r.count())));
        let max = responses.and_then(|r| r.max());
        findings.checks.push(match p99.zip(max) {
            None => not_evaluable(&in_time, unit, limit, "nothing succeeded"),
            Some((p99, max)) => {
                let meaning =
                    format!("p99 {p99}, max {max}; a probe that is not told otherwise waits {PROBE_TIMEOUT}");
                let (statistic, critical) = (None, None);
                judged(&in_time, Evidence { figure: p99.as_ms(), limit, unit, statistic, critical, meaning })
            }
        });
    }
    if findings.checks.is_empty() {
        let why = "the health paths were not asked for: the request is of other flags";
        findings.checks.push(not_evaluable("health", "% of requests not successful", 0.0, why));
    }
}
