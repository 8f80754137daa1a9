//! Nothing is lost: interrupted, cut, capped, or on whatever network.

use super::*;

#[test]
fn an_interrupted_run_accounts_for_all_of_its_plan() {
    let mut world = World::new(settings(CLOSED_LOOP, 2), count(100));
    let conns = world.settle();
    world.event(conns[0], Event::Received(OK));
    world.settle();
    world.driver.interrupt(world.now);
    world.event(conns[1], Event::Received(OK));
    assert!(!world.driver.is_done(), "one is still in flight");
    world.advance(ms(1_000)); // min(drain, 2 s); the timeout comes at the same moment and goes first
    assert!(world.driver.is_done());
    let (samples, undrawn) = (world.samples.len() as u64, world.driver.counts().undrawn);
    assert_eq!((samples, undrawn), (3, 97));
}

#[test]
fn what_is_in_flight_when_the_drain_ends_is_unsent() {
    let mut settings = settings(Load::Constant { rate: Rate { milli_per_s: 1_000_000 } }, 1);
    settings.drain = ms(50);
    let mut world = World::new(settings, Extent { count: None, time: Some(ms(10)) });
    world.settle();
    world.advance(ms(30)); // the load ended 20 ms ago; the drain goes on
    assert!(!world.driver.is_done());
    world.advance(ms(50));
    assert_eq!(world.outcomes(), [Outcome::Unsent]);
    assert_eq!(world.driver.counts().undrawn, 9);
    assert!(world.driver.is_done());
}

#[test]
fn the_time_cap_ends_a_run_that_has_only_a_count() {
    let mut settings = settings(Load::Closed { think: ms(100) }, 1);
    settings.time_cap = ms(250);
    let mut world = World::new(settings, count(1_000));
    for _ in 0..5 {
        for conn in world.settle() {
            world.event(conn, Event::Received(OK));
        }
        world.advance(ms(100));
    }
    assert!(world.driver.is_done());
    assert!(world.driver.counts().capped);
    assert_eq!(world.samples.len() as u64 + world.driver.counts().undrawn, 1_000);
}

/// Any sequence of events that an engine may report: every drawn request ends exactly once. `HAIRSPRING_SEEDS` asks for
/// more seeds than the usual.
#[test]
fn nothing_is_lost_whatever_the_network_does() {
    let seeds = option_env!("HAIRSPRING_SEEDS").and_then(|n| n.parse().ok()).unwrap_or(400);
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let mut pick = |n: u64| rng.next_u64() % n;
        let load = match pick(4) {
            0 => CLOSED_LOOP,
            3 => Load::Poisson { rate: Rate { milli_per_s: 1 + pick(2_000_000) } },
            1 => Load::Closed { think: ms(pick(20)) },
            _ => Load::Constant { rate: Rate { milli_per_s: 1 + pick(2_000_000) } },
        };
        let mut settings = settings(load, 1 + pick(5) as u32);
        settings.retry_stale = pick(2) == 0;
        settings.drain = ms(pick(2_000));
        if pick(2) == 0 {
            settings.keepalive = Keepalive::Requests(1 + pick(3) as u32);
        }
        let by_chance = matches!(settings.load, Load::Poisson { .. });
        let (warm, measured) = (if by_chance { 0 } else { pick(10) }, 1 + pick(40));
        let mut world = World::resting(settings);
        let mut alive: Vec<ConnId> = Vec::new();
        if pick(2) == 0 {
            world.driver.open_all();
            for _ in 0..100_000 {
                world.tick(world.now + ms(1));
                happen(&mut world, &mut alive, &mut pick);
                if world.driver.is_opened() {
                    break;
                }
            }
            assert!(world.driver.is_opened(), "seed {seed}");
        }
        world.start(count(warm), count(measured));
        for step in 0.. {
            assert!(step < 200_000, "seed {seed} does not end");
            world.tick(world.now + Nanos::from_micros(pick(3_000)));
            if pick(500) == 0 {
                world.driver.interrupt(world.now);
            }
            if world.driver.is_done() {
                break;
            }
            happen(&mut world, &mut alive, &mut pick);
        }
        let measured_samples = world.samples.iter().filter(|s| s.id.phase == Phase::Measure);
        let mut seqs: Vec<u64> = measured_samples.map(|s| s.id.seq).collect();
        let ended = seqs.len() as u64;
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len() as u64, ended, "seed {seed}: a request ended twice");
        assert_eq!(ended + world.driver.counts().undrawn, measured, "seed {seed}: a request is lost");
        assert_eq!(world.driver.in_flight(), 0, "seed {seed}");
    }
}

/// One thing that can happen on the network, by chance.
fn happen(world: &mut World, alive: &mut Vec<ConnId>, pick: &mut impl FnMut(u64) -> u64) {
    const PIECES: [&[u8]; 6] =
        [OK, CLOSING, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe", b"llo", b"garbage", b"H"];
    const REASONS: [CloseReason; 4] =
        [CloseReason::Eof, CloseReason::Reset, CloseReason::Local(105), CloseReason::TimedOut];
    if let Some(conn) = world.take(Asked::Close) {
        if let Some(at) = alive.iter().position(|&c| c == conn) {
            alive.remove(at);
            world.event(conn, Event::Closed(CloseReason::Requested));
        }
        return;
    }
    if pick(2) == 0
        && let Some(conn) = world.take(Asked::Send)
    {
        if alive.contains(&conn) {
            world.event(conn, Event::Sent(Tag(0)));
            world.event(conn, Event::SentAll(Tag(0)));
        }
        return;
    }
    if pick(3) == 0
        && let Some(conn) = world.take(Asked::Connect)
    {
        match pick(5) {
            0 => world.event(conn, Event::Closed(CloseReason::Refused(111))),
            1 => alive.push(conn), // and silence: the connect timeout has to end it
            _ => {
                world.event(conn, Event::Connected);
                alive.push(conn);
            }
        }
        return;
    }
    if alive.is_empty() {
        return;
    }
    let at = pick(alive.len() as u64) as usize;
    let conn = alive[at];
    // `Sent` precedes whatever the send can cause
    if let Some(at) = world.asked.iter().position(|&asked| asked == (conn, Asked::Send)) {
        world.asked.remove(at);
        world.event(conn, Event::Sent(Tag(0)));
        world.event(conn, Event::SentAll(Tag(0)));
    }
    match pick(12) {
        0 => {
            alive.remove(at);
            world.event(conn, Event::Closed(REASONS[pick(4) as usize]));
        }
        n if n < 8 => {
            world.event(conn, Event::Received(PIECES[if pick(3) > 0 { 0 } else { pick(6) as usize }]));
        }
        _ => {}
    }
}

/// Found by simulation, seed 58: with nothing else to wake it, a sleeping worker was told of the end of the load too late,
/// and answers that came after the drain were counted.
#[test]
fn the_end_of_the_load_and_the_time_cap_are_deadlines() {
    let load = Load::Constant { rate: Rate { milli_per_s: 1_000_000 } };
    let settings = |time_cap| Settings { drain: ms(5), time_cap, ..settings(load.clone(), 1) };
    let mut world = World::new(settings(ms(500)), count(1));
    world.settle();
    assert_eq!(world.driver.next_deadline(), ms(2), "t0 + 1/rate: the load is over");
    world.tick(ms(2));
    assert_eq!(world.driver.next_deadline(), ms(7), "the drain is over");
    let mut world = World::new(settings(ms(100)), Extent { count: None, time: Some(ms(1_000)) });
    world.settle();
    assert_eq!(world.driver.next_deadline(), ms(101), "no connection is free, so no arrival is a deadline");
}
