//! The server could do more but is kept from running: by a quota, by others, or it stands still.

use super::super::symptoms::Symptoms;
use super::super::{Of, Step};
use super::{Rule, at_least, at_most, explained, share, shown, slow, time};

pub(super) const THROTTLED: Rule = Rule {
    name: "throttled",
    looked_for: "the quota of the server's cgroup holds it up",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &[],
    tests: |s| {
        vec![
            slow(s),
            at_least(Step::Necessary, "time held up by the quota", s.server.throttled, "%", 2.0),
            at_least(Step::Sufficient, "time held up by the quota", s.server.throttled, "%", 10.0),
            explained(Step::Sufficient, held_up(s), 0.5),
        ]
    },
    explains: held_up,
    says: |s| {
        format!(
            "the quota of the server's cgroup holds it up {} of the time; it may use {} processors",
            shown(s.server.throttled, " %"),
            shown(s.server.cores, "")
        )
    },
    disproof: |_| "with twice the quota, the response time at p95 does not fall".to_owned(),
};

/// Of the slow requests' time, what lay in stalls; at least their share of the time held up.
fn held_up(s: &Symptoms) -> Option<f64> {
    let excess = s.excess?;
    let in_stalls = s.stalls.map_or(0.0, |stalls| stalls.tail_share);
    let least = s.server.throttled? / 100.0;
    Some(in_stalls.max(least) * excess.response_ns.0 as f64 / excess.excess_ns.0.max(1) as f64)
}

pub(super) const NEIGHBOUR: Rule = Rule {
    name: "noisy-neighbour",
    looked_for: "something else runs on the server's processors",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["throttled"],
    tests: |s| {
        let delay = share(s, s.server.run_delay_per_request);
        vec![
            slow(s),
            at_least(Step::Necessary, "processors used by others", s.server.others, "processors", 0.3),
            at_least(
                Step::Necessary,
                "waiting for a processor, of the excess",
                delay.map(|d| 100.0 * d),
                "%",
                20.0,
            ),
            at_most(Step::Necessary, "server's processors in use", s.server.cpu, "%", 90.0),
            explained(Step::Sufficient, delay, 0.5),
        ]
    },
    explains: |s| share(s, s.server.run_delay_per_request),
    says: |s| {
        format!(
            "others run on the server's processors: they use {} processors, and the server's threads wait {} for one with each request, though the server uses only {} of what it may",
            shown(s.server.others, ""),
            time(s.server.run_delay_per_request),
            shown(s.server.cpu, " %")
        )
    },
    disproof: |_| {
        "with the others stopped or on other processors, the server's run-queue delay stays".to_owned()
    },
};

pub(super) const STALLS: Rule = Rule {
    name: "stalls",
    looked_for: "the server stands still now and then, and answers nobody",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["throttled"],
    tests: |s| {
        let stalls = s.stalls;
        let covered = stalls.map(|stalls| if stalls.period.is_some() { 0.0 } else { 100.0 * stalls.covered });
        let share = stalls.map(|stalls| 100.0 * stalls.tail_share);
        vec![
            slow(s),
            at_least(Step::Necessary, "stalls", stalls.map(|stalls| stalls.count as f64), "", 3.0),
            at_least(Step::Necessary, "slow requests' time in them", share, "%", 20.0),
            at_most(Step::Necessary, "irregular ones that one long request covers", covered, "%", 50.0),
            at_most(Step::Sufficient, "irregular ones that one long request covers", covered, "%", 20.0),
            at_least(Step::Sufficient, "slow requests' time in them", share, "%", 50.0),
        ]
    },
    explains: |s| {
        let (excess, stalls) = (s.excess?, s.stalls?);
        share(s, Some(stalls.tail_share * excess.response_ns.0 as f64))
    },
    says: |s| {
        let Some(stalls) = s.stalls else { return String::new() };
        let period =
            stalls.period.map_or("at no regular interval".to_owned(), |period| format!("every {period}"));
        format!(
            "the server stands still {} times for about {}, {period}; {:.0} % of the time of the slow requests lies in these stalls",
            stalls.count,
            stalls.length,
            100.0 * stalls.tail_share
        )
    },
    disproof: |s| {
        let length = s.stalls.map(|stalls| stalls.length.0 as f64);
        format!("at a twentieth of the rate, no request takes {} any more", time(length.map(|ns| ns / 2.0)))
    },
};
