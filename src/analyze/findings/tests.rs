//! Each rule on constructed evidence: shown, only consistent, not shown, not evaluated.

use super::*;
use crate::load::time::Nanos;

const MS: u64 = 1_000_000;

fn ms(ms: u64) -> Nanos {
    Nanos(ms * MS)
}

/// 10 ms unloaded, and an excess of these parts.
fn excess(queue: u64, service: u64, conn_wait: u64, beside: u64) -> Excess {
    let excess = ms(queue + service + conn_wait + beside);
    Excess {
        unloaded_ns: ms(10),
        response_ns: ms(10) + excess,
        excess_ns: excess,
        queue_ns: Some(ms(queue)),
        service_ns: Some(ms(service)),
        conn_wait_ns: ms(conn_wait),
        beside_ns: ms(beside),
    }
}

/// Everything is visible and fine: 4 clients, 10 ms each, answers by chance.
fn healthy() -> Symptoms {
    Symptoms {
        client: Client { charge: Some(("busy".to_owned(), 9.5, "%".to_owned(), 95.0)) },
        excess: Some(excess(0, 0, 0, 1)),
        clients: Some(4),
        throughput: Some(400.0),
        response: Some(10.2e6),
        service: Some(10e6),
        service_growth: Some(1.0),
        queue_max: Some(1e5),
        concurrency: Some(Concurrency {
            at_work: None,
            share: 0.0,
            waiting: 0.0,
            spacing: Some(0.9),
            gap: 2.5e6,
            in_service: 3.9,
        }),
        model: None,
        cpu_model: Some(0.9),
        stalls: Some(Stalls::default()),
        server: ServerSide {
            cpu: Some(10.0),
            cores: Some(1.0),
            cpu_per_request: Some(2e5),
            run_delay_per_request: Some(1e4),
            runnable: Some(0.1),
            busiest: Some(3.0),
            next_busiest: Some(3.0),
            others: Some(0.05),
            throttled: Some(0.0),
            overflows: Some(0.0),
            accept_used: Some(0.0),
            accept_wait: Some(0.0),
            flow_limited: Some(0.0),
            flow_wait: Some(0.0),
            syn_retransmits: Some(0.0),
            data_retransmits: Some(0.0),
        },
        refusals: Refusals::default(),
        fresh: Some(0.01),
        connect_share: Some(0.0),
        ack_delayed: Some((0.0, 0.0)),
        lost: Some(Lost { connects: Some(clusters(0)), responses: Some(clusters(0)), connect_ns: 0.0 }),
        left_out: Vec::new(),
    }
}

/// So many of 1000 are late, all at timers.
fn clusters(late: u64) -> Clusters {
    let chance = if late == 0 { 1.0 } else { 1e-6 };
    Clusters { all: 1_000, late, at_timers: late, chance, ..Clusters::default() }
}

fn with(change: impl FnOnce(&mut Symptoms)) -> Symptoms {
    let mut symptoms = healthy();
    change(&mut symptoms);
    symptoms
}

fn word(found: &Findings, rule: &str) -> Word {
    let all = found.findings.iter().chain(&found.cleared).chain(&found.not_evaluated);
    all.into_iter().find(|finding| finding.rule == rule).unwrap_or_else(|| panic!("no {rule}")).word
}

/// `rule` is found with `expected`, first of all, and nothing else is shown.
fn assert_first(symptoms: &Symptoms, rule: &str, expected: Word) {
    let found = find(symptoms);
    let first = found.findings.first().unwrap_or_else(|| panic!("{rule}: nothing is found: {found:#?}"));
    assert_eq!((first.rule.as_str(), first.word), (rule, expected), "{found:#?}");
    assert!(!first.says.contains('?') && !first.disproof.is_empty(), "{first:#?}");
    let shown: Vec<_> = found.findings.iter().filter(|f| f.word == Word::Shown).map(|f| &f.rule).collect();
    assert!(shown.len() <= 1, "{rule}: {shown:?}");
}

fn serial() -> Symptoms {
    with(|s| {
        s.excess = Some(excess(30, 0, 0, 0));
        s.concurrency = s.concurrency.map(|seen| Concurrency {
            at_work: Some(1.0),
            share: 0.99,
            spacing: Some(0.1),
            ..seen
        });
        s.model = Some(0.01);
    })
}

fn pool(workers: f64) -> Symptoms {
    with(|s| {
        s.excess = Some(excess(40, 5, 0, 0));
        s.concurrency = s.concurrency.map(|seen| Concurrency { at_work: Some(workers), share: 0.97, ..seen });
        s.model = Some(0.02);
    })
}

fn cpu() -> Symptoms {
    with(|s| {
        s.excess = Some(excess(10, 60, 0, 1));
        s.server.cpu = Some(99.0);
        s.server.runnable = Some(4.0);
        s.server.busiest = Some(25.0);
        s.server.cpu_per_request = Some(10e6);
        s.cpu_model = Some(0.03);
    })
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let found = find(&healthy());
    assert_eq!((found.findings.len(), found.not_evaluated.len()), (0, 0), "{found:#?}");
    assert!(found.summary.contains("nothing to explain"), "{}", found.summary);
}

#[test]
fn what_cannot_be_seen_is_not_evaluated_and_never_fine() {
    let found = find(&Symptoms { excess: Some(excess(0, 0, 0, 90)), ..Symptoms::default() });
    assert!(found.findings.is_empty(), "{found:#?}");
    for rule in [
        "client-bound",
        "cpu-bound",
        "single-thread",
        "throttled",
        "noisy-neighbour",
        "stalls",
        "accept-bound",
    ] {
        assert_eq!(word(&found, rule), Word::NotEvaluated, "{rule}");
    }
    assert_eq!(find(&Symptoms::default()).summary, "not evaluated: no request was successful");
}

#[test]
fn a_guilty_client_takes_the_word_from_all_rules_of_time() {
    let mut symptoms = serial();
    symptoms.client.charge = Some(("busy".to_owned(), 99.0, "% of the run".to_owned(), 95.0));
    assert_first(&symptoms, "client-bound", Word::Shown);
    let found = find(&symptoms);
    assert_eq!(word(&found, "single-thread"), Word::NotEvaluated);
    symptoms.refusals =
        Refusals { too_many: 0.5, unsuccessful: 0.5, too_many_speed: Some(0.1), ..Refusals::default() };
    assert_eq!(word(&find(&symptoms), "rate-limited"), Word::Shown, "what is counted stays");
}

#[test]
fn one_at_a_time_is_a_single_thread() {
    assert_first(&serial(), "single-thread", Word::Shown);
    let mut off = serial();
    off.model = Some(0.3);
    assert_first(&off, "single-thread", Word::ConsistentWith);
    let mut foreign = serial();
    (foreign.service, foreign.concurrency, foreign.service_growth) = (None, None, None);
    foreign.excess = Some(Excess { queue_ns: None, service_ns: None, ..excess(0, 0, 0, 30) });
    foreign.server.busiest = Some(99.0);
    (foreign.server.cpu_per_request, foreign.response) = (Some(10e6), Some(40e6));
    assert_first(&foreign, "single-thread", Word::Shown);
    foreign.server.next_busiest = Some(80.0);
    assert_eq!(word(&find(&foreign), "single-thread"), Word::NotShown);
}

#[test]
fn a_pool_shows_its_size() {
    for workers in [2.0, 4.0, 8.0] {
        assert_first(&pool(workers), "pool", Word::Shown);
        assert!(find(&pool(workers)).summary.contains(&format!("a pool of {workers:.0}")));
    }
    assert_eq!(word(&find(&pool(2.5)), "pool"), Word::NotShown);
    let mut blind = pool(4.0);
    blind.server = ServerSide::default();
    assert_first_of(&blind, "pool", Word::ConsistentWith);
    let mut locked = pool(4.0);
    locked.service_growth = Some(2.0);
    locked.concurrency = locked.concurrency.map(|seen| Concurrency { spacing: Some(0.1), ..seen });
    assert_eq!(word(&find(&locked), "pool"), Word::NotShown);
}

/// As `assert_first`, where figures are missing and the sentence says so.
fn assert_first_of(symptoms: &Symptoms, rule: &str, expected: Word) {
    let found = find(symptoms);
    assert_eq!(
        found.findings.first().map(|f| (f.rule.as_str(), f.word)),
        Some((rule, expected)),
        "{found:#?}"
    );
}

#[test]
fn processors_in_use_are_a_bottleneck_where_threads_wait_for_them() {
    assert_first(&cpu(), "cpu-bound", Word::Shown);
    let mut open = cpu();
    open.cpu_model = None;
    assert_first(&open, "cpu-bound", Word::ConsistentWith);
    let mut alone = cpu();
    alone.server.runnable = Some(1.0);
    assert_eq!(word(&find(&alone), "cpu-bound"), Word::NotShown);
}

#[test]
fn a_lock_is_never_more_than_consistent_with_one_run() {
    let symptoms = with(|s| {
        s.excess = Some(excess(0, 30, 0, 1));
        s.service_growth = Some(4.0);
        s.concurrency = s.concurrency.map(|seen| Concurrency { spacing: Some(0.1), ..seen });
    });
    assert_first(&symptoms, "lock", Word::ConsistentWith);
    let mut by_chance = symptoms;
    by_chance.concurrency = by_chance.concurrency.map(|seen| Concurrency { spacing: Some(1.0), ..seen });
    assert_eq!(word(&find(&by_chance), "lock"), Word::NotShown);
}

#[test]
fn a_quota_and_what_follows_from_it() {
    let symptoms = with(|s| {
        s.excess = Some(excess(50, 20, 0, 0));
        s.server.throttled = Some(50.0);
        s.server.cpu = Some(99.0);
        s.server.runnable = Some(2.0);
        s.cpu_model = Some(0.02);
        s.stalls =
            Some(Stalls { count: 20, length: ms(60), period: Some(ms(100)), tail_share: 0.8, covered: 0.0 });
    });
    assert_first(&symptoms, "throttled", Word::Shown);
    let found = find(&symptoms);
    for rule in ["stalls", "cpu-bound"] {
        assert_eq!(word(&found, rule), Word::NotShown, "{rule} follows");
    }
}

#[test]
fn a_neighbour_shows_in_the_run_queue() {
    let symptoms = with(|s| {
        s.excess = Some(excess(0, 10, 0, 0));
        s.server.others = Some(0.8);
        s.server.run_delay_per_request = Some(7e6);
        s.server.cpu = Some(40.0);
    });
    assert_first(&symptoms, "noisy-neighbour", Word::Shown);
    let mut alone = symptoms;
    alone.server.others = Some(0.1);
    assert_eq!(word(&find(&alone), "noisy-neighbour"), Word::NotShown);
}

#[test]
fn stalls_show_their_period_and_length() {
    let stalls = Stalls { count: 4, length: ms(200), period: Some(ms(2_000)), tail_share: 0.9, covered: 0.6 };
    let symptoms = with(|s| {
        s.excess = Some(excess(140, 0, 0, 0));
        s.stalls = Some(stalls);
    });
    assert_first(&symptoms, "stalls", Word::Shown);
    let says = find(&symptoms).summary;
    assert!(says.contains("200.0ms") && says.contains("every 2000.0ms"), "{says}");
    let mut long = symptoms;
    long.stalls = Some(Stalls { period: None, covered: 0.9, ..stalls });
    assert_eq!(word(&find(&long), "stalls"), Word::NotShown, "long requests are no stalls");
}

#[test]
fn refusals_are_named_by_their_status() {
    let refused = |too_many: f64, unavailable: f64| Refusals {
        too_many,
        unavailable,
        unsuccessful: too_many + unavailable,
        requests: (1_000.0 * (too_many + unavailable)) as u64,
        too_many_speed: Some(0.05),
        unavailable_speed: Some(0.05),
    };
    let mut shed = pool(4.0);
    shed.refusals = refused(0.0, 0.3);
    let found = find(&shed);
    assert_eq!((word(&found, "queue-limit"), word(&found, "pool")), (Word::Shown, Word::Shown));
    assert_eq!(word(&found, "rate-limited"), Word::NotShown);
    let limited = with(|s| s.refusals = refused(0.4, 0.0));
    assert_first(&limited, "rate-limited", Word::Shown);
    assert!(find(&limited).summary.contains("admits 240 requests per second"), "{}", find(&limited).summary);
    let broken = with(|s| s.refusals = Refusals { unavailable_speed: Some(1.0), ..refused(0.0, 0.3) });
    assert_eq!(word(&find(&broken), "queue-limit"), Word::NotShown, "a slow 503 is no refusal");
}

#[test]
fn connections_that_wait_are_told_apart() {
    let accept = with(|s| {
        s.excess = Some(excess(40, 0, 0, 1));
        (s.fresh, s.connect_share) = (Some(1.0), Some(0.01));
        (s.server.accept_wait, s.server.accept_used) = (Some(35e6), Some(90.0));
    });
    assert_first(&accept, "accept-bound", Word::Shown);
    let churn = with(|s| {
        s.excess = Some(excess(0, 0, 20, 1));
        (s.fresh, s.connect_share) = (Some(1.0), Some(0.4));
    });
    assert_first(&churn, "connection-churn", Word::Shown);
    let lost = with(|s| {
        s.excess = Some(excess(0, 0, 900, 1));
        (s.fresh, s.server.syn_retransmits) = (Some(0.1), Some(52.0));
        s.lost = s.lost.map(|lost| Lost { connects: Some(clusters(50)), ..lost });
    });
    assert_first(&lost, "syn-retransmission", Word::Shown);
}

#[test]
fn what_is_between_client_and_server_is_told_apart() {
    let window = with(|s| {
        s.excess = Some(excess(0, 0, 0, 60));
        (s.server.flow_limited, s.server.flow_wait) = (Some(0.7), Some(40e6));
    });
    assert_first(&window, "flow-control", Word::Shown);
    let delayed = with(|s| {
        s.excess = Some(excess(0, 0, 0, 40));
        s.ack_delayed = Some((0.9, 0.98));
    });
    assert_first(&delayed, "delayed-ack", Word::Shown);
}

#[test]
fn late_answers_are_lost_packets_only_with_segments_sent_again() {
    let late = with(|s| {
        s.excess = Some(excess(0, 0, 0, 210));
        s.lost = s.lost.map(|lost| Lost { responses: Some(clusters(30)), ..lost });
        s.server.data_retransmits = Some(31.0);
    });
    assert_first(&late, "data-retransmission", Word::Shown);
    let again = |n: Option<f64>| {
        with(|s| {
            *s = late.clone();
            s.server.data_retransmits = n;
        })
    };
    assert_eq!(
        word(&find(&again(Some(3.0))), "data-retransmission"),
        Word::ConsistentWith,
        "too few of them"
    );
    assert_eq!(word(&find(&again(Some(0.0))), "data-retransmission"), Word::NotShown);
    assert_eq!(word(&find(&again(None)), "data-retransmission"), Word::NotEvaluated);
    let by_chance = with(|s| {
        *s = late.clone();
        s.lost = s
            .lost
            .map(|lost| Lost { responses: Some(Clusters { late: 60, chance: 0.3, ..clusters(30) }), ..lost });
    });
    assert_eq!(word(&find(&by_chance), "data-retransmission"), Word::NotShown);
}

#[test]
fn at_most_two_are_only_consistent_with_the_figures() {
    let mut much = serial();
    much.model = Some(0.5);
    much.server.others = Some(0.9);
    much.server.run_delay_per_request = Some(9e6);
    much.server.flow_limited = Some(0.5);
    much.stalls = Some(Stalls { count: 5, length: ms(100), period: None, tail_share: 0.4, covered: 0.3 });
    much.excess = Some(Excess { beside_ns: ms(9), excess_ns: ms(39), ..excess(30, 0, 0, 0) });
    let found = find(&much);
    assert_eq!(found.findings.len(), CONSISTENT_MAX, "{found:#?}");
    assert_eq!(found.findings[0].rule, "single-thread", "it explains most");
    assert!(found.cleared.iter().any(|f| f.note.as_deref() == Some("two others explain more")));
}
