//! The server can do no more: its processors, its one thread, its workers, its lock.

use super::super::symptoms::Symptoms;
use super::super::{Of, Step, Test};
use super::{
    Rule, at_least, at_most, explained, model, share, shown, slow, time, waiting, waiting_and_service,
};

/// Below this, answers come so evenly that something lets requests through one by one.
const EVEN_BELOW: f64 = 0.35;

pub(super) const CPU_BOUND: Rule = Rule {
    name: "cpu-bound",
    looked_for: "the server uses all processors it may use, and its threads wait for more",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["throttled"],
    tests: |s| {
        vec![
            slow(s),
            at_least(Step::Necessary, "server's processors in use", s.server.cpu, "%", 90.0),
            at_least(Step::Necessary, "threads that run or want to", s.server.runnable, "threads", 1.5),
            explained(Step::Sufficient, waiting_and_service(s), 0.8),
            model(s.cpu_model),
        ]
    },
    explains: waiting_and_service,
    says: |s| {
        format!(
            "the server is bound by its processors: it uses {} of the {} it may, {} threads run or want to, and each request takes {} of a processor",
            shown(s.server.cpu, " %"),
            shown(s.server.cores, ""),
            shown(s.server.runnable, ""),
            time(s.server.cpu_per_request)
        )
    },
    disproof: |s| {
        format!(
            "with twice the processors, throughput stays at {} and the response time does not fall",
            shown(s.throughput, "/s")
        )
    },
};

/// Requests at work while others wait, and one of them; by the server's account, or else by its threads.
pub(super) const SINGLE_THREAD: Rule = Rule {
    name: "single-thread",
    looked_for: "requests are served one at a time while others wait",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["cpu-bound", "throttled"],
    tests: |s| if s.service.is_some() { one_at_a_time(s) } else { one_busy_thread(s) },
    explains: |s| if s.service.is_some() { waiting(s) } else { waiting_and_service(s) },
    says: |s| {
        let one = match (s.service, s.server.busiest) {
            (Some(service), _) => format!("each takes {}", time(Some(service))),
            (None, busiest) => format!("one thread is on a processor {} of the time", shown(busiest, " %")),
        };
        format!(
            "requests are served one at a time while others wait: {one}, and {} of them end per second",
            shown(s.throughput, "")
        )
    },
    disproof: |s| {
        format!(
            "with a second worker that has a processor, throughput stays at {}",
            shown(s.throughput, "/s")
        )
    },
};

fn one_at_a_time(s: &Symptoms) -> Vec<Test> {
    let seen = s.concurrency;
    let level = seen.and_then(|seen| seen.at_work);
    vec![
        slow(s),
        at_most(Step::Necessary, "requests at work while others wait", level, "requests", 1.05),
        at_least(Step::Necessary, "waiting, of the excess", waiting(s).map(|w| 100.0 * w), "%", 50.0),
        at_least(
            Step::Sufficient,
            "of that time, one at work",
            seen.map(|seen| 100.0 * seen.share),
            "%",
            90.0,
        ),
        explained(Step::Sufficient, waiting(s), 0.8),
        model(s.model),
    ]
}

fn one_busy_thread(s: &Symptoms) -> Vec<Test> {
    let predicted = s.clients.map(f64::from).zip(s.server.cpu_per_request).map(|(n, demand)| n * demand);
    let off = s.response.zip(predicted).map(|(r, predicted)| (r / predicted.max(1.0) - 1.0).abs());
    vec![
        slow(s),
        at_least(
            Step::Necessary,
            "the busiest thread of the server",
            s.server.busiest,
            "% of a processor",
            90.0,
        ),
        at_most(Step::Necessary, "the next", s.server.next_busiest, "% of a processor", 50.0),
        explained(Step::Sufficient, waiting_and_service(s), 0.8),
        model(off),
    ]
}

pub(super) const POOL: Rule = Rule {
    name: "pool",
    looked_for: "a fixed number of workers is at work while requests wait",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["cpu-bound", "throttled"],
    tests: |s| {
        let seen = s.concurrency;
        let level = seen.and_then(|seen| seen.at_work);
        let off = level.map(|level| 100.0 * (level / level.round().max(1.0) - 1.0).abs());
        let queued = s.excess.and_then(|excess| {
            excess.queue_ns?;
            Some(100.0 * excess.waiting().0 as f64 / excess.response_ns.0.max(1) as f64)
        });
        vec![
            slow(s),
            at_least(Step::Necessary, "requests at work while others wait", level, "requests", 1.5),
            at_most(Step::Necessary, "that number off a whole one", off, "%", 5.0),
            at_least(Step::Necessary, "waiting, of the response time", queued, "%", 50.0),
            at_most(
                Step::Necessary,
                "service stretched, with evenly spaced answers",
                one_by_one(s),
                "times",
                1.4,
            ),
            at_least(
                Step::Sufficient,
                "of that time, as many at work",
                seen.map(|seen| 100.0 * seen.share),
                "%",
                90.0,
            ),
            at_most(Step::Sufficient, "server's processors in use", s.server.cpu, "%", 70.0),
            explained(Step::Sufficient, waiting(s), 0.8),
            model(s.model),
        ]
    },
    explains: waiting,
    says: |s| {
        let workers = s.concurrency.and_then(|seen| seen.at_work).map_or(0.0, f64::round);
        format!(
            "a pool of {workers:.0}: whenever requests wait, {workers:.0} are at work, for {} each, while the processors are {} in use",
            time(s.service),
            shown(s.server.cpu, " %")
        )
    },
    disproof: |s| {
        let workers = s.concurrency.and_then(|seen| seen.at_work).map_or(0.0, f64::round);
        format!("with {:.0} workers, throughput stays at {}", workers + 1.0, shown(s.throughput, "/s"))
    },
};

/// How much longer than the shortest a typical service is, where answers come one by one; else it is the work itself: 1.
fn one_by_one(s: &Symptoms) -> Option<f64> {
    let spacing = s.concurrency?.spacing?;
    if spacing <= EVEN_BELOW { s.service_growth } else { Some(1.0) }
}

/// From one number of clients alone it is never more than consistent: that takes throughput against several.
pub(super) const LOCK: Rule = Rule {
    name: "lock",
    looked_for: "requests at work hold each other up, though processors are free",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["cpu-bound", "throttled", "single-thread"],
    tests: |s| {
        let seen = s.concurrency;
        let beyond = share(s, s.excess.and_then(|excess| excess.service_ns).map(|ns| ns.0 as f64));
        vec![
            slow(s),
            at_least(Step::Necessary, "requests at work", seen.map(|seen| seen.in_service), "requests", 1.5),
            at_least(Step::Necessary, "a typical service over the shortest", s.service_growth, "times", 1.5),
            at_least(Step::Necessary, "longer service, of the excess", beyond.map(|b| 100.0 * b), "%", 50.0),
            at_most(
                Step::Necessary,
                "spread of the times between answers",
                seen.and_then(|seen| seen.spacing),
                "of their mean",
                EVEN_BELOW,
            ),
            at_most(Step::Necessary, "server's processors in use", s.server.cpu, "%", 90.0),
            at_least(Step::Sufficient, "σ or κ of the scalability law above 0 with 95 %", None, "", 0.0),
        ]
    },
    explains: waiting_and_service,
    says: |s| {
        let gap = s.concurrency.map(|seen| seen.gap);
        format!(
            "a lock or another section that one request at a time can be in: {} are at work, yet one ends every {}, as evenly as that; about so much of each request is spent in it",
            shown(s.concurrency.map(|seen| seen.in_service), ""),
            time(gap)
        )
    },
    disproof: |s| {
        format!(
            "with half the connections, throughput falls below {} (a lock would keep it), or the service time stays",
            shown(s.throughput.map(|rate| 0.9 * rate), "/s")
        )
    },
};
