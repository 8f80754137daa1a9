//! What must hold of every run, whatever goes wrong in its world. The client's account (samples, tallies) is held
//! against the plan, against itself, and against the server's journal.

use std::collections::{BTreeMap, BTreeSet};

use hairspring::engine::sim::{Exchange, World};
use hairspring::load::io::Stamps;
use hairspring::load::sample::{Failure, Outcome, Sample};
use hairspring::load::schedule::{
    Arrival, Arrivals, Extent, Load, Offer, Phase, RateAt, RequestId, Schedule, Shard, UsersAt,
};
use hairspring::load::time::Nanos;
use hairspring::plan::{KeepalivePlan, Plan};

use super::scenario::Scenario;
use super::stage::{Account, Part};

/// What a busy client may need for a turn, at most.
const BUSY: Nanos = Nanos::from_millis(5);
/// A sleeping worker looks at its stop flag this often.
const STOP_SEEN_AFTER: Nanos = Nanos::from_millis(100);

pub(crate) fn check(scenario: &Scenario, account: &Account) {
    conservation(scenario, account);
    ids(scenario, account);
    totals(account);
    intended(scenario, account);
    templates(scenario, account);
    ends(scenario, account);
    slices(scenario, account);
    for (part, world) in account.parts.iter().zip(&scenario.worlds) {
        against_the_journal(&scenario.plan, world, part);
        causes(scenario, world, part);
        connects(&scenario.plan, world, part);
        one_at_a_time(part);
    }
}

/// Nothing scheduled vanishes.
fn conservation(scenario: &Scenario, account: &Account) {
    let tally = &account.round.recorded.measured;
    tally.assert_conserved();
    account.round.recorded.warmup.assert_conserved();
    assert_eq!(account.round.recorded.log_lost, 0);
    let drawn = account.samples().count() as u64;
    let undrawn: u64 = account.parts.iter().map(|part| part.counts.driver.undrawn).sum();
    assert_eq!(tally.scheduled, drawn + undrawn, "drawn and undrawn");
    match planned(scenario) {
        Some(n) => assert_eq!(tally.scheduled, n, "the plan has {n} requests"),
        None => assert_eq!(undrawn, 0, "the time was over, not the requests"),
    }
}

/// How many measured requests the plan has, where that follows from the plan alone.
fn planned(scenario: &Scenario) -> Option<u64> {
    match (scenario.plan.load.think(), scenario.plan.measure.time) {
        (Some(_), None) => scenario.plan.measure.count,
        (Some(_), Some(_)) => None,
        (None, _) => Some(due(scenario).len() as u64),
    }
}

/// Open loop: when each measured request is due after the start of the measurement, worked out one by one.
fn due(scenario: &Scenario) -> Vec<Nanos> {
    let plan = &scenario.plan;
    let within = |(i, offset): &(u64, Nanos)| {
        plan.measure.count.is_none_or(|n| *i < n) && plan.measure.time.is_none_or(|t| *offset < t)
    };
    let of_rate =
        |i: u64, milli_per_s| Nanos((u128::from(i) * 1_000_000_000_000 / u128::from(milli_per_s)) as u64);
    let all: Box<dyn Iterator<Item = Nanos>> = match &plan.load {
        Load::Constant { rate } => Box::new((0..).map(|i| of_rate(i, rate.milli_per_s))),
        Load::Replay { .. } => {
            Box::new(scenario.material.replay.iter().flat_map(|table| table.iter().copied()))
        }
        // the gaps are drawn by one thread that has all, and without a warm-up
        Load::Poisson { .. } | Load::Stages { .. } => {
            let offer = Offer { warmup: Extent::NONE, ..scenario.material.offer(plan, plan.seed) };
            let mut whole = Schedule::new(&offer, Shard { index: 0, of: 1 }, Nanos::ZERO);
            Box::new(std::iter::from_fn(move || Some(whole.draw_due(Nanos::MAX)?.intended)))
        }
        Load::Closed { .. } | Load::Users { .. } => Box::new(std::iter::empty()),
    };
    let due: Vec<Nanos> = (0..).zip(all).take_while(within).map(|(_, offset)| offset).collect();
    if let Load::Stages { arrivals: Arrivals::Constant, stages } = &plan.load {
        for (i, at) in due.iter().enumerate() {
            let (before, after) = (area(stages, at.0), area(stages, at.0 + 1));
            assert!(
                before <= i as f64 + 1e-6 && i as f64 - 1e-6 <= after,
                "{i} is due at {at:?}: {stages:?}"
            );
        }
        let all = area(stages, stages.last().unwrap().at.0);
        assert!((due.len() as f64 - all).abs() < 1.0 + 1e-6, "{} of {all}: {stages:?}", due.len());
    }
    due
}

/// Requests until `t`: the area under the rate, in trapezia.
fn area(stages: &[RateAt], t: u64) -> f64 {
    let trapezium = |pair: &[RateAt]| {
        let (begin, end) = (pair[0].at.0, pair[1].at.0);
        let (from, to) = (pair[0].rate.milli_per_s as f64, pair[1].rate.milli_per_s as f64);
        if t <= begin || begin == end {
            return 0.0;
        }
        let width = (t.min(end) - begin) as f64;
        let there = from + (to - from) * width / (end - begin) as f64;
        (from + there) / 2.0 * width / 1e12
    };
    stages.windows(2).map(trapezium).sum()
}

/// How long the warm-up of an open loop is.
fn warm(plan: &Plan) -> Nanos {
    match (&plan.load, plan.warmup.count) {
        (Load::Constant { rate }, Some(n)) => rate.offset(n),
        _ => plan.warmup.time.unwrap_or_default(),
    }
}

/// Every id once, on its own thread.
fn ids(scenario: &Scenario, account: &Account) {
    let of = scenario.worlds.len() as u64;
    let mut seen = BTreeSet::new();
    for (index, part) in account.parts.iter().enumerate() {
        let mut mine = Vec::new();
        for sample in &part.samples {
            assert_eq!(sample.id.phase, Phase::Measure);
            assert_eq!(sample.id.seq % of, index as u64, "{:?} on a thread that does not own it", sample.id);
            assert!(seen.insert(sample.id.seq), "{:?} ended twice", sample.id);
            mine.push(sample.id.seq);
        }
        mine.sort_unstable();
        let expected: Vec<u64> = (0..mine.len() as u64).map(|k| index as u64 + k * of).collect();
        assert_eq!(mine, expected, "ids are drawn in order, none is left out");
    }
}

/// Histograms, counters and samples say the same.
fn totals(account: &Account) {
    let tally = &account.round.recorded.measured;
    let count = |f: &dyn Fn(&Sample) -> bool| account.samples().filter(|s| f(s)).count() as u64;
    let sum = |f: &dyn Fn(&Sample) -> Option<Nanos>| -> u128 {
        account.samples().filter_map(f).map(|t| u128::from(t.0)).sum()
    };
    let ok = |s: &Sample| matches!(s.outcome, Outcome::Completed(200..400));
    assert_eq!(tally.successful, count(&ok));
    assert_eq!(tally.completed, count(&|s| matches!(s.outcome, Outcome::Completed(_))));
    assert_eq!(tally.failed, count(&|s| matches!(s.outcome, Outcome::Failed(_))));
    assert_eq!(tally.response_ok.count(), tally.successful);
    assert_eq!(tally.response_not_ok.count(), account.samples().count() as u64 - tally.successful);
    assert_eq!(tally.by_status.values().map(|d| d.count()).sum::<u64>(), tally.completed);
    assert_eq!(tally.outcomes.values().sum::<u64>(), tally.scheduled);
    assert_eq!(tally.conn_wait.count(), count(&|s| s.ready.is_some()));
    assert_eq!(tally.send_lag.count(), count(&|s| s.issued.is_some()));
    assert_eq!(tally.response_ok.sum(), sum(&|s| ok(s).then(|| s.response())));
    assert_eq!(tally.conn_wait.sum(), sum(&|s| s.conn_wait()));
    assert_eq!(tally.send_lag.sum(), sum(&|s| s.send_lag()));
    assert_eq!(tally.response_ok.max(), account.samples().filter(|s| ok(s)).map(Sample::response).max());
    assert_eq!(tally.first_intended, account.samples().map(|s| s.intended).min());
    assert_eq!(tally.last_done, account.samples().map(|s| s.done).max());
    assert_eq!(tally.bytes_received, account.samples().map(|s| s.bytes_received).sum::<u64>());
}

/// The slices say the same as the samples: each is in the slice in which it ended, or, late by a turn, in the one that
/// its thread had open.
fn slices(scenario: &Scenario, account: &Account) {
    let recorded = &account.round.recorded;
    assert_eq!(recorded.slices_held, 0, "slices were merged in every turn");
    let interval = scenario.plan.interval.0;
    let mut expected: BTreeMap<u64, (u64, u64, u128)> = BTreeMap::new();
    for part in &account.parts {
        let mut open = 0;
        for sample in &part.samples {
            open = open.max(sample.done.saturating_sub(account.t0).0 / interval);
            let slice = expected.entry(open * interval).or_default();
            slice.0 += 1;
            if matches!(sample.outcome, Outcome::Completed(200..400)) {
                slice.1 += 1;
                slice.2 += u128::from(sample.response().0);
            }
        }
    }
    let told: BTreeMap<u64, (u64, u64, u128)> = recorded
        .slices
        .iter()
        .map(|i| (i.start.0, (i.requests, i.responses.count(), i.responses.sum())))
        .collect();
    assert_eq!(told, expected, "slices of {interval} ns");
}

/// Intended times follow from the plan (open loop) or from the answer before (closed loop), and from nothing else.
fn intended(scenario: &Scenario, account: &Account) {
    let plan = &scenario.plan;
    let no_warmup = plan.warmup.count == Some(0);
    let start = account.t0 + warm(plan);
    match &plan.load {
        Load::Closed { think } => {
            for part in &account.parts {
                let mut before: BTreeMap<u32, Nanos> = BTreeMap::new();
                for sample in by_end(part) {
                    match before.insert(sample.connection, sample.done) {
                        Some(done) => assert_eq!(sample.intended, done + *think, "{sample:?}"),
                        None if no_warmup => assert_eq!(sample.intended, account.t0, "{sample:?}"),
                        None => assert!(sample.intended >= account.t0, "{sample:?}"),
                    }
                }
            }
        }
        Load::Users { think, stages } => {
            for (index, part) in account.parts.iter().enumerate() {
                let mut before: BTreeMap<u32, Nanos> = BTreeMap::new();
                for sample in by_end(part) {
                    let user = index as u64 + u64::from(sample.connection) * account.parts.len() as u64;
                    let wanted = |at: Nanos| at >= start && is_wanted(stages, user, (at - start).0);
                    assert!(wanted(sample.intended), "user {user} is not wanted then: {sample:?}");
                    let free = before.insert(sample.connection, sample.done).map(|done| done + *think);
                    let free = free.or_else(|| no_warmup.then_some(account.t0));
                    if let Some(free) = free {
                        assert!(sample.intended >= free, "{sample:?}");
                        let rested = sample.intended > free;
                        assert!(
                            !rested || !(wanted(free) || wanted(sample.intended - Nanos(1))),
                            "user {user} was wanted before: {sample:?}"
                        );
                    }
                }
            }
        }
        _ => {
            let due = due(scenario);
            for sample in account.samples() {
                assert_eq!(sample.intended, start + due[sample.id.seq as usize], "{sample:?}");
            }
        }
    }
    account.samples().for_each(Sample::assert_ordered);
}

/// Each request is what its id says, whatever the thread; the parts of a mix add up; the hash is that of what was drawn.
fn templates(scenario: &Scenario, account: &Account) {
    let plan = &scenario.plan;
    let table = scenario.material.table(plan.target.url.as_ref().unwrap(), plan.seed);
    let mut head = Vec::new();
    let mut counts = vec![0; table.count()];
    for sample in account.samples() {
        assert_eq!(sample.template, table.draw(sample.id), "{sample:?}");
        counts[usize::from(sample.template)] += 1;
        let template = table.get(sample.template);
        let body = template.body().map_or(0, |(_, length)| length);
        let lengths = [false, true].map(|close| {
            template.render(sample.id, sample.attempt, close, &mut head);
            head.len() as u64 + body
        });
        assert!(sample.bytes_sent == 0 || lengths.contains(&sample.bytes_sent), "{lengths:?}: {sample:?}");
    }
    let tallied: Vec<u64> = account.round.recorded.measured.templates.iter().map(|t| t.requests).collect();
    assert!(tallied.is_empty() == (counts.len() == 1) && (tallied.is_empty() || tallied == counts));
    let drivers = || account.parts.iter().map(|part| part.counts.driver);
    assert_eq!(drivers().map(|d| d.offered).sum::<u64>(), account.samples().count() as u64);
    let whole =
        Schedule::new(&scenario.material.offer(plan, plan.seed), Shard { index: 0, of: 1 }, account.t0);
    let hash = account.samples().fold(0u64, |sum, s| {
        sum.wrapping_add(whole.fingerprint(Arrival { id: s.id, intended: s.intended }, s.template))
    });
    assert_eq!(drivers().fold(0u64, |sum, d| sum.wrapping_add(d.schedule_hash)), hash);
}

/// The run ends when it should: nothing is given up before, nothing is counted that ended later.
fn ends(scenario: &Scenario, account: &Account) {
    let limits = scenario.plan.limits;
    let cap = account.t0 + limits.time_cap + limits.drain;
    let natural = load_ends(scenario).map_or(cap, |end| cap.min(account.t0 + end + limits.drain));
    // after a warm-up by count the measurement begins when it begins
    let least =
        scenario.plan.measure.time.map_or(natural, |time| natural.min(account.t0 + time + limits.drain));
    let (mut earliest, mut latest) = (least, natural);
    if let [first, rest @ ..] = &scenario.interrupts[..] {
        let pressed = (*first).max(account.t0);
        let second = rest.first().map_or(Nanos::MAX, |second| (*second).max(account.t0));
        let cut = second.min(pressed + limits.drain);
        earliest = earliest.min(cut);
        latest = latest.min(cut + STOP_SEEN_AFTER);
    }
    for (part, world) in account.parts.iter().zip(&scenario.worlds) {
        let latest = latest + slack(world);
        assert!(part.ended <= latest, "ended at {:?}, not by {latest:?}", part.ended);
        for sample in &part.samples {
            assert!(sample.done <= latest, "{sample:?} ended after {latest:?}");
            let given_up = sample.outcome == Outcome::Unsent;
            assert!(!given_up || sample.done >= earliest, "{sample:?} was given up before {earliest:?}");
        }
    }
}

/// users(t) > k, by the two points around t.
fn is_wanted(stages: &[UsersAt], k: u64, t: u64) -> bool {
    let Some(at) = stages.iter().rposition(|point| point.at.0 <= t).filter(|at| at + 1 < stages.len()) else {
        return false;
    };
    let (begin, end) = (stages[at], stages[at + 1]);
    let (length, since) = (i128::from((end.at - begin.at).0), i128::from(t - begin.at.0));
    let (from, to) = (i128::from(begin.users), i128::from(end.users));
    from * length + (to - from) * since > i128::from(k) * length
}

/// When the load ends, after t0, where that follows from the plan alone.
fn load_ends(scenario: &Scenario) -> Option<Nanos> {
    let plan = &scenario.plan;
    if plan.load.think().is_some() {
        let start = if plan.warmup.count == Some(0) { Nanos::ZERO } else { plan.warmup.time? };
        return Some(start + plan.measure.time?);
    }
    let counted = match (&plan.load, plan.measure.count) {
        (Load::Constant { rate }, Some(n)) => Some(rate.offset(n)),
        (Load::Replay { .. }, n) => {
            let table = scenario.material.replay.as_ref().unwrap();
            let rows = n.map_or(table.len(), |n| table.len().min(n as usize));
            Some(table[rows - 1])
        }
        _ => None,
    };
    Some(warm(plan) + [counted, plan.measure.time].into_iter().flatten().min()?)
}

fn slack(world: &World) -> Nanos {
    world.stops.iter().fold(BUSY, |sum, stop| sum + stop.length)
}

fn text(id: RequestId) -> String {
    String::from_utf8(id.text(&mut [0; RequestId::TEXT_MAX]).to_vec()).unwrap()
}

/// In the order in which they ended: one that waited for its transmit stamp is recorded a turn later.
fn by_end(part: &Part) -> Vec<&Sample> {
    let mut samples: Vec<&Sample> = part.samples.iter().collect();
    samples.sort_by_key(|sample| sample.done);
    samples
}

/// A connection carries one request after the other, and one is ready only when the one before has ended.
fn one_at_a_time(part: &Part) {
    let mut before: BTreeMap<u32, Nanos> = BTreeMap::new();
    for sample in by_end(part) {
        let done = before.insert(sample.connection, sample.done).unwrap_or_default();
        assert!(
            sample.ready.is_none_or(|ready| ready >= done),
            "ready while its connection was busy: {sample:?}"
        );
    }
}

/// What the client says of a request is what the server did with it.
fn against_the_journal(plan: &Plan, world: &World, part: &Part) {
    let mut journal: BTreeMap<(&str, u8), &Exchange> = BTreeMap::new();
    for exchange in &part.exchanges {
        let twice = journal.insert((&exchange.id, exchange.attempt), exchange);
        assert!(twice.is_none(), "sent twice: {exchange:?} after {twice:?}");
        let most = if plan.retry_stale { 2 } else { 1 };
        assert!(exchange.attempt <= most, "a retry that nobody asked for: {exchange:?}");
        assert!(
            !exchange.ignored_close,
            "sent on after the answer said that the connection ends: {exchange:?}"
        );
    }
    let retries = part.exchanges.iter().filter(|e| e.attempt > 1 && !e.id.starts_with('w')).count() as u64;
    assert!(retries <= part.counts.driver.retries, "more retries than were counted");
    for sample in &part.samples {
        let exchange = journal.get(&(text(sample.id).as_str(), sample.attempt)).copied();
        if let (Some(issued), Some(exchange)) = (sample.issued, exchange) {
            assert_eq!(exchange.conn.index, sample.connection, "{sample:?} {exchange:?}");
            assert!(
                issued <= exchange.handed && exchange.handed - issued <= Nanos(1),
                "issued is not when the bytes were handed over: {sample:?} {exchange:?}"
            );
        }
        if let Outcome::Completed(status) = sample.outcome {
            let exchange = exchange.unwrap_or_else(|| panic!("{sample:?} was never answered"));
            completed(plan, sample, status, exchange, world);
        }
        if let Some(exchange) = exchange.filter(|exchange| exchange.clean) {
            no_excuse(plan, world, sample, exchange);
        }
    }
}

fn completed(plan: &Plan, sample: &Sample, status: u16, exchange: &Exchange, world: &World) {
    let both = || format!("{sample:?} {exchange:?}");
    assert!(exchange.sound && exchange.status == status, "not what was answered: {}", both());
    assert!(exchange.readable.is_some_and(|at| at <= sample.done), "done before it was there: {}", both());
    assert!(sample.first_byte >= exchange.begun, "a first byte before it was there: {}", both());
    let seen = exchange.surplus && world.faults.short_read == 0;
    assert!(!seen, "bytes that nobody asked for went unnoticed: {}", both());
    kernel_stamps(plan, sample, exchange, world);
    assert_eq!(sample.server.queue, Some(exchange.started - exchange.arrived), "{}", both());
    assert_eq!(sample.server.service, Some(exchange.ended - exchange.started), "{}", both());
}

/// A stamp of the kernel is what the virtual kernel saw, or missing for a reason.
fn kernel_stamps(plan: &Plan, sample: &Sample, exchange: &Exchange, world: &World) {
    let both = || format!("{sample:?} {exchange:?}");
    let (asked, faults) = (plan.client.stamps, &world.faults);
    match sample.arrived {
        None => assert!(asked == Stamps::User || faults.stamp_missing > 0, "no arrival: {}", both()),
        Some(_) if asked == Stamps::User => panic!("a stamp that nobody asked for: {}", both()),
        Some(arrived) if exchange.by_close => assert!(Some(arrived) <= exchange.readable, "{}", both()),
        Some(arrived) => assert_eq!(Some(arrived), exchange.readable, "{}", both()),
    }
    match sample.transmitted {
        // an answer may overtake the request that it does not wait for
        None => assert!(
            asked != Stamps::RxTx || exchange.early || faults.stamp_missing + faults.stamp_late > 0,
            "no departure: {}",
            both()
        ),
        Some(_) if asked != Stamps::RxTx => panic!("a stamp that nobody asked for: {}", both()),
        Some(left) if exchange.early => assert!(sample.issued <= Some(left), "{}", both()),
        Some(left) => assert_eq!(left, exchange.handed_last + world.leaves_after(), "{}", both()),
    }
    let chain =
        [sample.issued, sample.transmitted.filter(|_| !exchange.early), sample.arrived, Some(sample.done)];
    let known: Vec<Nanos> = chain.into_iter().flatten().collect();
    assert!(known.is_sorted(), "issued <= transmitted <= arrived <= done: {}", both());
}

/// A right answer on a connection on which nothing went wrong is a completed request, unless time was up.
fn no_excuse(plan: &Plan, world: &World, sample: &Sample, exchange: &Exchange) {
    let later = |limit: Nanos, slack| exchange.readable.is_none_or(|at| at + slack >= limit);
    // However long the client was stopped: an answer that was there in time is not a timeout. Short reads take turns.
    let turns = if world.faults.short_read > 0 { slack(world) } else { Nanos::ZERO };
    let excused = match sample.outcome {
        Outcome::Completed(_) => true,
        Outcome::Failed(Failure::Timeout) => later(sample.issued.unwrap() + plan.limits.timeout, turns),
        Outcome::Unsent => later(sample.done, slack(world)),
        Outcome::Failed(_) => false,
    };
    assert!(excused, "failed without a cause: {sample:?} {exchange:?}");
}

/// Every failure has something in the world that can cause it, and comes when it should.
fn causes(scenario: &Scenario, world: &World, part: &Part) {
    let (faults, limits) = (&world.faults, &scenario.plan.limits);
    let ends =
        faults.fin + faults.reset + faults.idle_fin + faults.idle_reset + faults.closing + faults.until_close;
    let ends = ends + faults.hung_up + faults.reset_up;
    let strange = faults.surplus + faults.unsolicited + faults.greeting;
    for sample in &part.samples {
        let Outcome::Failed(failure) = sample.outcome else { continue };
        let cause = match failure {
            Failure::ConnectRefused => faults.refused > 0,
            Failure::ConnectTimeout => {
                let handshake = world.latency + world.latency + world.jitter;
                let slow = handshake + slack(world) > limits.connect_timeout || !world.stops.is_empty();
                faults.unanswered + faults.slow_accept > 0 || slow
            }
            Failure::LocalResource(_) => faults.local > 0,
            Failure::Reset if sample.issued.is_none() => faults.handshake_reset + faults.reset_up > 0,
            // Without any answer it is a reset only where no answer came before.
            Failure::Reset => ends > 0 && (sample.bytes_received > 0 || faults.interim > 0 || first(sample)),
            Failure::NoResponse => ends > 0 && first(sample),
            Failure::StaleKeepalive => ends > 0 && !first(sample),
            Failure::TruncatedHead | Failure::TruncatedBody => faults.fin > 0 || (ends > 0 && strange > 0),
            Failure::Malformed(_) => faults.garbage + strange > 0,
            Failure::Surplus => strange > 0,
            Failure::Mismatch => faults.wrong_id + strange > 0,
            Failure::Timeout => {
                let issued = sample.issued.expect("only an issued request times out");
                let (due, slack) = (issued + limits.timeout, slack(world));
                sample.done >= due && sample.done <= due + slack
            }
        };
        assert!(cause, "nothing can have caused it: {sample:?}");
    }
    if strange == 0 {
        assert_eq!(part.counts.driver.unsolicited, 0);
    }
}

/// It was the first on its connection, or would have been.
fn first(sample: &Sample) -> bool {
    sample.connect.is_some() || sample.issued.is_none()
}

/// No connect without a reason.
fn connects(plan: &Plan, world: &World, part: &Part) {
    assert_eq!(part.connects, part.counts.driver.connects, "connects of the client and of the network");
    let calm = world.faults == Default::default()
        && part.samples.iter().all(|s| matches!(s.outcome, Outcome::Completed(_)));
    let slots = part.exchanges.iter().map(|e| e.conn.index).collect::<BTreeSet<_>>().len() as u64;
    let warm = part.exchanges.iter().filter(|e| e.id.starts_with('w')).count();
    if calm && warm == 0 {
        match plan.keepalive {
            KeepalivePlan::On => assert!(part.connects <= u64::from(plan.connections).max(slots)),
            KeepalivePlan::Requests(n) => {
                let needed = part.exchanges.len() as u64 / u64::from(n) + u64::from(plan.connections);
                assert!(part.connects <= needed, "{} connects", part.connects);
            }
        }
    }
}
