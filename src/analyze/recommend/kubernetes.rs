//! What to write into a Kubernetes manifest: resources of what the server used at this load, probes of how long it took to
//! start and to answer on its health paths. The fields are those of the Kubernetes documentation (*Liveness, Readiness, and
//! Startup Probes*); times in them are whole seconds.

use super::{Grounds, Recommendation};
use crate::analyze::findings::Sources;
use crate::analyze::stats::Percentile;
use crate::load::time::Nanos;

/// A limit is so many times the most that was used.
const HEADROOM: f64 = 1.25;
/// A probe waits so many times the p99 of its path.
const TIMEOUT_TIMES: f64 = 3.0;
/// A start may take so many times the longest that was seen before it counts as failed.
const START_TIMES: f64 = 3.0;
/// A start is asked after about so often.
const START_LOOKS: f64 = 10.0;
/// Kubernetes' own default, and the least that forgives one lost probe.
const FAILURES_MIN: u64 = 3;

pub(super) fn advise(grounds: Grounds<'_>) -> Option<Recommendation> {
    let Sources { rounds, system, .. } = grounds.sources;
    let starts: Vec<Nanos> = rounds.iter().filter_map(|round| round.server_facts.startup).collect();
    let health = health_path(grounds);
    let used = system.and_then(|figures| {
        let (cores, rss) = (figures.get("server.cores")?, figures.get("server.rss")?);
        Some(resources(cores.mean, cores.max, rss.max))
    });
    let probe = StartupProbe::of(&starts);
    let parts = [
        used,
        probe.map(|probe| probe.in_words(&starts)),
        health.map(|(path, p99)| {
            format!("liveness and readiness probes of {path}: timeoutSeconds {} (p99 {p99})", timeout(p99))
        }),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return None;
    }
    let mut verify = vec!["server.throttled stays 0 at this load"];
    if probe.is_some() {
        verify.push("no restart is counted while it starts (kubectl get pod)");
    }
    Some(Recommendation {
        priority: 0,
        what: format!("in Kubernetes at this load: {}", parts.join("; ")),
        from: "measured".to_owned(),
        improvement: None,
        cost: "what it used: the mean processor time and the most memory as requests, the most and a quarter as limits"
            .to_owned(),
        verify: verify.join("; "),
    })
}

/// Memory cannot be taken back, so the request is the most that was used; of processor time it is the mean.
fn resources(cores_mean: f64, cores_max: f64, rss_max: f64) -> String {
    let milli = |cores: f64| (cores * 20.0).ceil() * 50.0;
    let mebi = |bytes: f64| (bytes / 1024.0 / 1024.0 / 16.0).ceil() * 16.0;
    format!(
        "requests cpu {:.0}m memory {:.0}Mi, limits cpu {:.0}m memory {:.0}Mi",
        milli(cores_mean),
        mebi(rss_max),
        milli(HEADROOM * cores_max),
        mebi(HEADROOM * rss_max)
    )
}

fn timeout(p99: Nanos) -> u64 {
    (TIMEOUT_TIMES * p99.as_secs()).ceil().max(1.0) as u64
}

/// Whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StartupProbe {
    initial_delay: u64,
    period: u64,
    failures: u64,
}

impl StartupProbe {
    /// Nobody asks before the quickest start was over; then a tenth of a start is waited between looks, and it has failed
    /// when it takes three times the longest.
    fn of(starts: &[Nanos]) -> Option<Self> {
        let (least, most) = (starts.iter().min()?, starts.iter().max()?);
        let initial_delay = least.as_secs().floor() as u64;
        let period = (most.as_secs() / START_LOOKS).ceil().max(1.0) as u64;
        let patience = (START_TIMES * most.as_secs() - initial_delay as f64) / period as f64;
        Some(Self { initial_delay, period, failures: (patience.ceil() as u64).max(FAILURES_MIN) })
    }

    fn in_words(self, starts: &[Nanos]) -> String {
        let Self { initial_delay, period, failures } = self;
        let (least, most) =
            (starts.iter().min().expect("it has some"), starts.iter().max().expect("likewise"));
        let seen = match starts.len() {
            1 => format!("one start took {most}"),
            n => format!("{n} starts took {least} to {most}"),
        };
        format!(
            "startupProbe initialDelaySeconds {initial_delay} periodSeconds {period} failureThreshold {failures} ({seen})"
        )
    }
}

/// The slowest health path of a mix.
fn health_path(grounds: Grounds<'_>) -> Option<(String, Nanos)> {
    let Sources { plan, tally, .. } = grounds.sources;
    let rows = plan.mix.iter().flat_map(|mix| &mix.requests).zip(tally.templates.iter());
    let health = rows.filter_map(|(row, counted)| {
        let path = row.path.as_ref().filter(|path| path.contains("health"))?;
        let responses = counted.response_ok.as_ref()?;
        Some((path.clone(), responses.at_rank(Percentile::P99.rank(responses.count()))?))
    });
    health.max_by_key(|(_, p99)| *p99)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(ms: &[u64]) -> (u64, u64, u64) {
        let starts: Vec<Nanos> = ms.iter().copied().map(Nanos::from_millis).collect();
        let StartupProbe { initial_delay, period, failures } = StartupProbe::of(&starts).unwrap();
        (initial_delay, period, failures)
    }

    #[test]
    fn a_start_up_probe_forgives_three_times_the_longest_start() {
        assert_eq!(probe(&[40]), (0, 1, 3));
        assert_eq!(probe(&[5_200, 6_400]), (5, 1, 15), "5 + 15 · 1 >= 3 · 6.4");
        assert_eq!(probe(&[42_000]), (42, 5, 17), "42 + 17 · 5 >= 126");
        assert_eq!(StartupProbe::of(&[]), None);
    }

    #[test]
    fn resources_come_in_steps() {
        let text = resources(0.41, 0.98, 33.0 * 1024.0 * 1024.0);
        assert_eq!(text, "requests cpu 450m memory 48Mi, limits cpu 1250m memory 48Mi");
        assert_eq!((timeout(Nanos::from_millis(2)), timeout(Nanos::from_millis(700))), (1, 3));
    }
}
