//! What the answers of a round were, by id: for comparing the outputs of two sides, and their times request by request.

use crate::load::sample::Sample;

/// Digests are kept for the first so many ids of a round (48 MiB); what lies beyond is not compared.
const MAX: u64 = 4 << 20;
const AT_START: usize = 64 << 10;

/// The digests of one round's responses, by id.
#[derive(Debug, Clone, Default)]
pub struct Digests {
    /// `digests[seq]`: status and body of the successful answer; 0 where there was none.
    by_seq: Vec<u64>,
    /// Beside it, the response time in nanoseconds (to seven digits).
    response_ns: Vec<f32>,
}

impl Digests {
    /// With room for the first ids.
    pub(super) fn for_thread() -> Self {
        Self { by_seq: vec![0; AT_START], response_ns: vec![0.0; AT_START] }
    }

    pub(super) fn record(&mut self, sample: &Sample, status: u16) {
        let (Some(digest), true) = (sample.digest, sample.id.seq < MAX) else { return };
        let at = sample.id.seq as usize;
        if self.by_seq.len() <= at {
            self.resize((at + 1).next_power_of_two());
        }
        self.by_seq[at] = digest.wrapping_add(u64::from(status)).max(1);
        self.response_ns[at] = sample.response().0 as f32;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.by_seq.len() < other.by_seq.len() {
            self.resize(other.by_seq.len());
        }
        for (mine, theirs) in self.by_seq.iter_mut().zip(&other.by_seq) {
            *mine = (*mine).max(*theirs);
        }
        for (mine, theirs) in self.response_ns.iter_mut().zip(&other.response_ns) {
            *mine = mine.max(*theirs);
        }
    }

    fn resize(&mut self, ids: usize) {
        self.by_seq.resize(ids, 0);
        self.response_ns.resize(ids, 0.0);
    }

    /// For each id that both answered successfully: ln of `other`'s response time over ours.
    pub fn log_ratios(&self, other: &Self) -> Vec<f64> {
        let both = self.response_ns.iter().zip(&other.response_ns).filter(|&(a, b)| *a > 0.0 && *b > 0.0);
        both.map(|(a, b)| (f64::from(*b) / f64::from(*a)).ln()).collect()
    }

    /// Every id that either has, with both digests.
    pub fn pairs<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (u64, Option<u64>, Option<u64>)> + 'a {
        let at = |digests: &Self, seq: usize| digests.by_seq.get(seq).copied().filter(|&d| d != 0);
        (0..self.by_seq.len().max(other.by_seq.len()))
            .map(move |seq| (seq as u64, at(self, seq), at(other, seq)))
            .filter(|(_, a, b)| a.is_some() || b.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{recorder, sample};
    use super::*;
    use crate::load::sample::Outcome;
    use crate::load::time::Nanos;

    #[test]
    fn the_table_of_digests_has_an_end() {
        let mut recorder = recorder();
        for seq in [0, MAX - 1, MAX, MAX * 1_000] {
            recorder.record(&sample(seq, Nanos(500), Outcome::Completed(200)));
        }
        let digests = recorder.finish(0, 0).digests;
        assert_eq!(digests.by_seq.len() as u64, MAX);
        let kept: Vec<u64> = digests.pairs(&digests).map(|(seq, ..)| seq).collect();
        assert_eq!(kept, [0, MAX - 1]);
    }

    #[test]
    fn digests_pair_by_id_and_see_status_and_body() {
        let digests = |rows: &[(u64, u64, u16)]| {
            let mut recorder = recorder();
            for &(seq, digest, status) in rows {
                let sample = sample(seq, Nanos(50), Outcome::Completed(status));
                recorder.record(&Sample { digest: Some(digest), ..sample });
            }
            recorder.finish(0, 0).digests
        };
        let a = digests(&[(0, 7, 200), (1, 7, 200), (2, 7, 200), (3, 7, 500), (100_000, 7, 200)]);
        let b = digests(&[(0, 7, 200), (1, 8, 200), (2, 7, 204), (4, 7, 200), (100_000, 7, 200)]);
        let pairs: Vec<(u64, bool, bool, bool)> =
            a.pairs(&b).map(|(seq, a, b)| (seq, a.is_some(), b.is_some(), a == b)).collect();
        assert_eq!(
            pairs,
            [
                (0, true, true, true),
                (1, true, true, false),
                (2, true, true, false),
                (4, false, true, false),
                (100_000, true, true, true)
            ]
        );
    }
}
