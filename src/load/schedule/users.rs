//! Users over time, piecewise linear: when is user k wanted?

use serde::{Deserialize, Serialize};

use crate::load::time::Nanos;

/// A point of `--stages`: the number of users at an instant. Between two points it is linear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsersAt {
    /// After the start of the measurement.
    #[serde(rename = "at_ns")]
    pub at: Nanos,
    /// How many then; of two points at the same time the second holds from there on.
    pub users: u32,
}

/// User k is wanted at t if and only if users(t) > k: at 2.5 users there are three.
#[derive(Debug, Clone)]
pub(super) struct Users {
    points: Vec<UsersAt>,
}

impl Users {
    /// The points are in order of time.
    pub(super) fn new(points: &[UsersAt]) -> Self {
        Self { points: points.to_vec() }
    }

    /// How many there are at the start.
    pub(super) fn at_start(&self) -> u64 {
        // of several points at the start the last holds
        let last = self.points.iter().take_while(|point| point.at == Nanos::ZERO).last();
        last.map_or(0, |point| u64::from(point.users))
    }

    /// The first instant at or after `from` at which user `k` is wanted; `None` if that is never again.
    pub(super) fn wanted(&self, k: u64, from: Nanos) -> Option<Nanos> {
        let first = self.points.partition_point(|point| point.at <= from).saturating_sub(1);
        self.points[first..].windows(2).find_map(|pair| {
            let [begin, end] = [pair[0], pair[1]];
            let length = i128::from((end.at - begin.at).0);
            let since = i128::from(from.saturating_sub(begin.at).0);
            let slope = i128::from(end.users) - i128::from(begin.users);
            // all that follows is multiplied by the length: how far below k + 0 the number of users is
            let missing = (i128::from(k) - i128::from(begin.users)) * length;
            let within = if slope * since > missing {
                since
            } else if slope > 0 {
                (missing / slope + 1).max(since)
            } else {
                return None;
            };
            (within < length).then(|| Nanos(begin.at.0 + within as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::rng::Rng;

    fn users(points: &[(u64, u32)]) -> Users {
        Users::new(&points.iter().map(|&(at, users)| UsersAt { at: Nanos(at), users }).collect::<Vec<_>>())
    }

    #[test]
    fn a_ramp_a_hold_a_step_and_a_spike() {
        // up to 10, hold, down to 5 at once, a spike to 20, and down to nothing
        let shape = users(&[
            (0, 0),
            (1_000, 10),
            (2_000, 10),
            (2_000, 5),
            (3_000, 5),
            (3_010, 20),
            (3_020, 5),
            (4_000, 0),
        ]);
        let wanted = |k, from| shape.wanted(k, Nanos(from)).map(|t| t.0);
        assert_eq!(wanted(0, 0), Some(1), "users(t) > 0");
        assert_eq!(wanted(9, 0), Some(901), "users(900) is 9, not more than 9");
        assert_eq!(wanted(9, 950), Some(950));
        assert_eq!(wanted(9, 2_000), Some(3_003), "users(3002.67) is 9");
        assert_eq!(wanted(9, 3_018), None);
        assert_eq!(wanted(19, 0), Some(3_010), "more than 19 at the tip alone");
        assert_eq!(wanted(20, 0), None, "a number that is only reached");
        assert_eq!(wanted(4, 2_500), Some(2_500));
        assert_eq!(wanted(0, 3_999), Some(3_999));
        assert_eq!(wanted(0, 4_000), None, "the end");
    }

    /// Against the definition, instant by instant.
    #[test]
    fn wanted_is_what_the_number_of_users_says() {
        let mut rng = Rng::new(11);
        for _ in 0..200 {
            let mut pick = |n: u64| rng.next_u64() % n;
            let mut points = vec![(0, pick(6) as u32)];
            for _ in 0..1 + pick(5) {
                points.push((points.last().unwrap().0 + pick(40), pick(6) as u32));
            }
            let shape = users(&points);
            let end = points.last().unwrap().0;
            let more_than = |k: u64, t: u64| {
                let at = points.iter().rposition(|point| point.0 <= t).unwrap();
                let [(t0, u0), (t1, u1)] = [points[at], points[at + 1]];
                let (t0, u0, t1, u1) = (t0 as i64, i64::from(u0), t1 as i64, i64::from(u1));
                (u1 - u0) * (t as i64 - t0) > (k as i64 - u0) * (t1 - t0)
            };
            for k in 0..6 {
                for from in 0..end {
                    let expected = (from..end).find(|&t| more_than(k, t)).map(Nanos);
                    assert_eq!(shape.wanted(k, Nanos(from)), expected, "user {k} from {from}: {points:?}");
                }
            }
        }
    }
}
