//! How many requests the server worked on at once while others waited, and how evenly its answers came: what tells one
//! thread, a pool and a lock apart. From the server's own account of consecutive requests.

use crate::record::{Passage, Worked};

/// Of a stretch, the ends are left out: there, requests before and after it are at work too.
const ENDS: usize = 4;
/// A stretch has at least so many requests that were at work; an eighth of all, as those that were refused were not.
const STRETCH_MIN: usize = 32;
/// So much of the watched time requests must wait for the level to be worth a word.
const WAITING_MIN: f64 = 0.05;
/// Requests whose queue time is shorter than this share of the service are not waiting: it is the way to the handler.
const WAIT_MIN: f64 = 0.1;

/// What was seen in the stretches of consecutive requests that were kept.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Concurrency {
    /// The number of requests in the handler while others waited, weighted by time; `None` where hardly any waited.
    pub at_work: Option<f64>,
    /// Of that time, the share in which it was `at_work` rounded.
    pub share: f64,
    /// The share of the watched time in which requests waited.
    pub waiting: f64,
    /// Standard deviation over mean of the times between answers: 1 by chance, near 0 where something lets them through
    /// one by one.
    pub spacing: Option<f64>,
    /// Mean time between answers, ns.
    pub gap: f64,
    /// In the handler at once, whether others waited or not, weighted by time.
    pub in_service: f64,
}

/// One request at the server, ns.
#[derive(Debug, Clone, Copy)]
struct Visit {
    received: f64,
    started: f64,
    ended: f64,
}

impl Visit {
    /// The way back is not known and small: the answer counts as the end of the work.
    fn of(passage: &Passage) -> Option<Self> {
        let Worked { queue, service } = passage.server?;
        let ended = passage.intended.0 as f64 + passage.response?.0 as f64;
        let started = ended - service.0 as f64;
        let waited = if queue.0 as f64 > WAIT_MIN * service.0 as f64 { queue.0 as f64 } else { 0.0 };
        Some(Self { received: started - waited, started, ended })
    }
}

impl Concurrency {
    /// Of the blocks of all rounds; `None` where the server gave no account, or too few requests were kept.
    pub(super) fn of(rounds: &[Vec<Passage>]) -> Option<Self> {
        let mut watch = Watch::default();
        let mut gaps: Vec<f64> = Vec::new();
        for passages in rounds {
            for stretch in passages.chunk_by(|a, b| a.seq + 1 == b.seq) {
                let visits: Vec<Visit> = stretch.iter().filter_map(Visit::of).collect();
                if visits.len() < STRETCH_MIN || visits.len() < stretch.len() / 8 {
                    continue;
                }
                let mut ends: Vec<f64> = visits.iter().map(|visit| visit.ended).collect();
                ends.sort_by(f64::total_cmp);
                let (from, to) = (ends[ends.len() / ENDS], ends[ends.len() - 1 - ends.len() / ENDS]);
                watch.look(&visits, from, to);
                gaps.extend(
                    ends.windows(2)
                        .filter(|pair| pair[0] >= from && pair[1] <= to)
                        .map(|pair| pair[1] - pair[0]),
                );
            }
        }
        (watch.watched > 0.0 && !gaps.is_empty()).then(|| watch.seen(&gaps))
    }
}

/// Time by how many were at work.
#[derive(Debug, Default)]
struct Watch {
    watched: f64,
    /// ns while others waited, by the number at work.
    levels: Vec<f64>,
    /// Integral of the number at work.
    work: f64,
}

impl Watch {
    /// Between `from` and `to`.
    fn look(&mut self, visits: &[Visit], from: f64, to: f64) {
        // (time, change of the waiting, change of those at work)
        let mut events: Vec<(f64, i32, i32)> =
            visits.iter().flat_map(|v| [(v.received, 1, 0), (v.started, -1, 1), (v.ended, 0, -1)]).collect();
        events.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut now, mut waiting, mut working) = (from, 0, 0);
        for (at, wait, work) in events {
            let until = at.clamp(from, to);
            let lasted = until - now;
            now = until;
            self.watched += lasted;
            self.work += lasted * f64::from(working.max(0));
            if waiting > 0 && lasted > 0.0 {
                let level = usize::try_from(working).unwrap_or(0);
                self.levels.resize(self.levels.len().max(level + 1), 0.0);
                self.levels[level] += lasted;
            }
            waiting += wait;
            working += work;
        }
    }

    fn seen(&self, gaps: &[f64]) -> Concurrency {
        let waited: f64 = self.levels.iter().sum();
        let weighted: f64 = self.levels.iter().enumerate().map(|(level, time)| level as f64 * time).sum();
        let waiting = waited / self.watched;
        let at_work = (waiting >= WAITING_MIN).then(|| weighted / waited);
        let near = at_work
            .map_or(0.0, |level| self.levels.get(level.round() as usize).copied().unwrap_or(0.0) / waited);
        let n = gaps.len() as f64;
        let mean = gaps.iter().sum::<f64>() / n;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / n;
        Concurrency {
            at_work,
            share: near,
            waiting,
            spacing: (mean > 0.0).then(|| variance.sqrt() / mean),
            gap: mean,
            in_service: self.work / self.watched,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::analyze::queueing::pathwise;
    use crate::load::rng::Rng;
    use crate::load::time::Nanos;

    const MS: f64 = 1e6;

    fn unit(rng: &mut Rng) -> f64 {
        ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// 400 requests by chance to an ideal pool.
    fn pool(servers: u32, load: f64, service_ms: impl Fn(&mut Rng) -> f64) -> Vec<Passage> {
        let mut rng = Rng::new(7);
        let mut at = 0.0;
        let arrivals: Vec<Nanos> = (0..400)
            .map(|_| {
                at += -unit(&mut rng).ln() * 10.0 * MS / (load * f64::from(servers));
                Nanos(at as u64)
            })
            .collect();
        let service: Vec<Nanos> =
            arrivals.iter().map(|_| Nanos((service_ms(&mut rng) * MS) as u64)).collect();
        let responses = pathwise::fifo(&arrivals, &service, NonZeroU32::new(servers).unwrap());
        let each = arrivals.iter().zip(&service).zip(&responses).zip(0..);
        each.map(|(((&intended, &service), &response), seq)| Passage {
            seq,
            intended,
            issued: intended,
            response: Some(response),
            server: Some(Worked { queue: response.saturating_sub(service), service }),
        })
        .collect()
    }

    #[test]
    fn the_number_of_servers_is_seen_while_requests_wait() {
        for servers in [1, 2, 4, 8] {
            for load in [0.85, 1.5] {
                let seen =
                    Concurrency::of(&[pool(servers, load, |rng| 5.0 - 10.0 * unit(rng).ln() / 2.0)]).unwrap();
                let level = seen.at_work.unwrap();
                assert!((level - f64::from(servers)).abs() < 0.01, "{servers}: {seen:?}");
                assert!(seen.share > 0.98, "{servers}: {seen:?}");
            }
        }
    }

    #[test]
    fn an_idle_server_has_no_level() {
        let seen = Concurrency::of(&[pool(8, 0.1, |_| 10.0)]).unwrap();
        assert_eq!(seen.at_work, None, "{seen:?}");
        assert!((seen.in_service - 0.8).abs() < 0.2, "{seen:?}");
    }

    #[test]
    fn answers_by_chance_are_not_even_and_those_of_a_lock_are() {
        let by_chance = Concurrency::of(&[pool(4, 1.5, |rng| -10.0 * unit(rng).ln())]).unwrap();
        assert!(by_chance.spacing.unwrap() > 0.7, "{by_chance:?}");
        let one_by_one = Concurrency::of(&[pool(1, 1.5, |_| 10.0)]).unwrap();
        assert!(one_by_one.spacing.unwrap() < 0.05, "{one_by_one:?}");
    }

    #[test]
    fn nothing_is_said_without_the_servers_account() {
        let mut silent = pool(2, 0.9, |_| 10.0);
        silent.iter_mut().for_each(|passage| passage.server = None);
        assert_eq!(Concurrency::of(&[silent]), None);
        assert_eq!(Concurrency::of(&[]), None);
    }
}
