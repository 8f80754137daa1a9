//! Between the client and the server's work: connections, refusals, windows, timers.

use super::super::symptoms::Symptoms;
use super::super::timers::Clusters;
use super::super::{Of, Step, Test};
use super::{Rule, at_least, at_most, beside, conn_wait, explained, share, shown, slow, time};

pub(super) const ACCEPT_BOUND: Rule = Rule {
    name: "accept-bound",
    looked_for: "connections wait to be accepted",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &[],
    tests: |s| {
        let full = s.server.overflows.into_iter().chain(s.server.accept_used.map(|used| used / 80.0));
        let wait =
            s.server.accept_wait.zip(s.response).map(|(wait, response)| wait / (0.2 * response.max(1.0)));
        let pressure = full.chain(wait).reduce(f64::max);
        vec![
            slow(s),
            at_least(
                Step::Necessary,
                "the most of: overflows, fill over 80 %, wait over a fifth of the response",
                pressure,
                "times",
                1.0,
            ),
            at_least(Step::Necessary, "connects by request", s.fresh, "", 0.05),
            at_least(
                Step::Necessary,
                "waiting to be accepted, of the excess",
                accepting(s).map(|a| 100.0 * a),
                "%",
                20.0,
            ),
            at_least(Step::Sufficient, "connects by request", s.fresh, "", 0.5),
            explained(Step::Sufficient, accepting(s), 0.5),
        ]
    },
    explains: accepting,
    says: |s| {
        format!(
            "connections wait {} to be accepted; the accept queue was {} full at most, {} connections found no room",
            time(s.server.accept_wait),
            shown(s.server.accept_used, " %"),
            shown(s.server.overflows, "")
        )
    },
    disproof: |_| "with --keepalive on, the response time at p95 stays".to_owned(),
};

/// The wait is before the client may send, or, once the kernel has answered for the server, in front of its work.
fn accepting(s: &Symptoms) -> Option<f64> {
    let (excess, wait) = (s.excess?, s.server.accept_wait?);
    share(s, Some(wait.min(excess.excess_ns.0 as f64).max(excess.conn_wait_ns.0 as f64)))
}

pub(super) const SHED: Rule = Rule {
    name: "queue-limit",
    looked_for: "the server refuses at once what would wait too long (503)",
    needs_innocent_client: false,
    of: Of::Unsuccessful,
    follows_from: &[],
    tests: |s| {
        let refused = Some(100.0 * s.refusals.unavailable);
        vec![
            at_least(Step::Necessary, "requests answered 503", refused, "%", 1.0),
            at_most(
                Step::Necessary,
                "time of a 503 over that of a success",
                s.refusals.unavailable_speed,
                "times",
                0.5,
            ),
            at_least(
                Step::Sufficient,
                "requests at work while others wait",
                s.concurrency.and_then(|seen| seen.at_work),
                "requests",
                0.95,
            ),
            at_least(
                Step::Sufficient,
                "503 of the unsuccessful",
                of_unsuccessful(s, s.refusals.unavailable).map(|x| 100.0 * x),
                "%",
                80.0,
            ),
        ]
    },
    explains: |s| of_unsuccessful(s, s.refusals.unavailable),
    says: |s| {
        let places = s.queue_max.zip(s.service).zip(s.concurrency.and_then(|seen| seen.at_work));
        let places = places.map(|((wait, service), at_work)| (wait * at_work / service.max(1.0)).round());
        format!(
            "the server refuses {:.1} % of the requests at once (503): its queue is full; by the longest wait it holds about {} requests",
            100.0 * s.refusals.unavailable,
            places.map_or("?".to_owned(), |places| format!("{places:.0}"))
        )
    },
    disproof: |s| {
        format!(
            "at a rate below {} requests are still answered 503",
            shown(s.throughput.map(|rate| rate * (1.0 - s.refusals.unavailable)), "/s")
        )
    },
};

pub(super) const RATE_LIMITED: Rule = Rule {
    name: "rate-limited",
    looked_for: "the server admits only so many requests per second (429)",
    needs_innocent_client: false,
    of: Of::Unsuccessful,
    follows_from: &[],
    tests: |s| {
        vec![
            at_least(Step::Necessary, "requests answered 429", Some(100.0 * s.refusals.too_many), "%", 1.0),
            at_most(
                Step::Sufficient,
                "time of a 429 over that of a success",
                s.refusals.too_many_speed,
                "times",
                0.5,
            ),
            at_least(
                Step::Sufficient,
                "429 of the unsuccessful",
                of_unsuccessful(s, s.refusals.too_many).map(|x| 100.0 * x),
                "%",
                80.0,
            ),
        ]
    },
    explains: |s| of_unsuccessful(s, s.refusals.too_many),
    says: |s| {
        format!(
            "the server admits {} and answers {:.1} % of the requests 429 at once",
            shown(admitted(s), " requests per second"),
            100.0 * s.refusals.too_many
        )
    },
    disproof: |s| format!("at a rate below {} requests are still answered 429", shown(admitted(s), "/s")),
};

fn admitted(s: &Symptoms) -> Option<f64> {
    Some(s.throughput? * (1.0 - s.refusals.too_many))
}

fn of_unsuccessful(s: &Symptoms, share: f64) -> Option<f64> {
    (s.refusals.unsuccessful > 0.0).then(|| share / s.refusals.unsuccessful)
}

pub(super) const FLOW_CONTROL: Rule = Rule {
    name: "flow-control",
    looked_for: "a receive window or a send buffer holds bytes back",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &[],
    tests: |s| {
        let limited = s.server.flow_limited.map(|share| 100.0 * share);
        vec![
            slow(s),
            at_least(
                Step::Necessary,
                "time held back, of the time with something to send",
                limited,
                "%",
                10.0,
            ),
            at_least(
                Step::Necessary,
                "beside the server's work, of the excess",
                beside(s).map(|b| 100.0 * b),
                "%",
                20.0,
            ),
            explained(Step::Sufficient, beside(s), 0.8),
        ]
    },
    explains: beside,
    says: |s| {
        format!(
            "the receiver's window or the sender's buffer holds bytes back for {:.0} % of the time in which there is something to send, {} for each request",
            100.0 * s.server.flow_limited.unwrap_or_default(),
            time(s.server.flow_wait)
        )
    },
    disproof: |_| {
        "with a quarter of the bytes, or larger socket buffers, the time beside the server's work stays"
            .to_owned()
    },
};

pub(super) const CHURN: Rule = Rule {
    name: "connection-churn",
    looked_for: "connections are opened for one or two requests each, and opening them takes time",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["accept-bound", "syn-retransmission"],
    tests: |s| {
        vec![
            slow(s),
            at_least(Step::Necessary, "connects by request", s.fresh, "", 0.5),
            at_least(
                Step::Necessary,
                "connecting, of the mean response",
                s.connect_share.map(|c| 100.0 * c),
                "%",
                20.0,
            ),
            explained(Step::Sufficient, conn_wait(s), 0.8),
        ]
    },
    explains: conn_wait,
    says: |s| {
        format!(
            "{} connects by request: opening connections is {} of the mean response time",
            shown(s.fresh, ""),
            shown(s.connect_share.map(|share| 100.0 * share), " %")
        )
    },
    disproof: |_| {
        "with keep-alive on both sides, the mean response time falls by less than half of that".to_owned()
    },
};

pub(super) const DELAYED_ACK: Rule = Rule {
    name: "delayed-ack",
    looked_for: "the server writes an answer in pieces, and waits 40 ms for the acknowledgement of the first",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &[],
    tests: |s| {
        let percent = |share: Option<f64>| share.map(|share| 100.0 * share);
        vec![
            slow(s),
            at_least(
                Step::Necessary,
                "requests that take 36–46 ms beside the server's work",
                percent(s.ack_delayed.map(|(all, _)| all)),
                "%",
                3.0,
            ),
            at_least(
                Step::Necessary,
                "the same, of those beyond 20 ms",
                percent(s.ack_delayed.map(|(_, late)| late)),
                "%",
                80.0,
            ),
            at_least(
                Step::Sufficient,
                "the same, of those beyond 20 ms",
                percent(s.ack_delayed.map(|(_, late)| late)),
                "%",
                90.0,
            ),
            explained(Step::Sufficient, beside(s), 0.8),
        ]
    },
    explains: beside,
    says: |s| {
        format!(
            "{} of the requests take 40 ms beside the server's work: it writes its answer in pieces without TCP_NODELAY, and the client's kernel delays its acknowledgement",
            shown(s.ack_delayed.map(|(all, _)| 100.0 * all), " %")
        )
    },
    disproof: |_| {
        "with TCP_NODELAY on the server's sockets, or one write for each answer, the 40 ms stay".to_owned()
    },
};

pub(super) const RTO: Rule = Rule {
    name: "syn-retransmission",
    looked_for: "connects take 1, 2, 3, … s: their first packets were lost",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["accept-bound"],
    tests: |s| {
        let mut tests =
            at_timers("connects", s.lost.and_then(|lost| lost.connects), s.server.syn_retransmits);
        tests.push(explained(Step::Sufficient, conn_wait(s), 0.5));
        tests
    },
    explains: conn_wait,
    says: |s| {
        let seen = s.lost.and_then(|lost| lost.connects);
        format!(
            "{} of the connects take 1, 2, 3, … s, which is when a lost SYN is sent again; {} SYNs were",
            shown(seen.map(|seen| 100.0 * seen.share()), " %"),
            shown(s.server.syn_retransmits, "")
        )
    },
    disproof: |_| "with a longer accept queue (--backlog, somaxconn), connects of a second stay".to_owned(),
};

pub(super) const DATA_RTO: Rule = Rule {
    name: "data-retransmission",
    looked_for: "answers come 200 ms, 600 ms, 1.4 s, … late: a packet was lost, and sent again when its timer ran out",
    needs_innocent_client: true,
    of: Of::Excess,
    follows_from: &["accept-bound", "syn-retransmission"],
    tests: |s| {
        let mut tests = vec![slow(s)];
        let responses = s.lost.and_then(|lost| lost.responses);
        tests.extend(at_timers("answers", responses, s.server.data_retransmits));
        tests.push(explained(Step::Sufficient, beside(s), 0.5));
        tests
    },
    explains: beside,
    says: |s| {
        let seen = s.lost.and_then(|lost| lost.responses);
        format!(
            "{} of the answers come 200 ms, 600 ms, 1.4 s, … later than a typical one, which is when TCP sends again what was lost; {} segments were",
            shown(seen.map(|seen| 100.0 * seen.share()), " %"),
            shown(s.server.data_retransmits, "")
        )
    },
    disproof: |_| "where no segment is sent again, as many answers come that late".to_owned(),
};

/// Times that cluster where a timer of TCP runs out, and segments that were sent again: one without the other shows nothing.
fn at_timers(what: &str, seen: Option<Clusters>, sent_again: Option<f64>) -> Vec<Test> {
    let percent = |of: fn(&Clusters) -> f64| seen.as_ref().map(|seen| 100.0 * of(seen));
    let by_each = sent_again.zip(seen).map(|(n, seen)| n / (seen.at_timers as f64).max(1.0));
    vec![
        at_least(Step::Necessary, &format!("{what} at timers"), percent(Clusters::share), "%", 0.5),
        at_least(
            Step::Necessary,
            &format!("the same, of the {what} that are as late"),
            percent(Clusters::of_late),
            "%",
            80.0,
        ),
        at_least(Step::Necessary, "segments sent again", sent_again, "", 1.0),
        at_least(Step::Sufficient, "segments sent again, by each of them", by_each, "", 0.8),
        at_most(Step::Sufficient, "chance of as many at timers", percent(|seen| seen.chance), "%", 1.0),
    ]
}
