//! The requests of a mix, counted apart.

use super::Distribution;
use crate::load::time::Nanos;

/// Requests of a mix beyond the first so many are counted but get no histogram of their own.
const HISTOGRAMS_MAX: usize = 16;

/// What became of one request of a mix, each time it was drawn.
#[derive(Debug, Clone, Default)]
pub struct TemplateTally {
    /// How often it was drawn.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// `done - intended` of the successful; `None` beyond the first 16 requests of the mix.
    pub response_ok: Option<Distribution>,
}

/// All of a mix; empty where there is but one request.
#[derive(Debug, Clone, Default)]
pub struct TemplateTallies(Vec<TemplateTally>);

impl TemplateTallies {
    /// For a mix of `count`.
    pub fn new(count: usize) -> Self {
        let tally = |index| TemplateTally {
            response_ok: (index < HISTOGRAMS_MAX).then(Distribution::default),
            ..TemplateTally::default()
        };
        Self(if count > 1 { (0..count).map(tally).collect() } else { Vec::new() })
    }

    /// In the order of the mix.
    pub fn iter(&self) -> impl Iterator<Item = &TemplateTally> {
        self.0.iter()
    }

    pub(super) fn record(&mut self, template: u16, response: Nanos, successful: bool) {
        let Some(tally) = self.0.get_mut(usize::from(template)) else { return };
        tally.requests += 1;
        if successful {
            tally.successful += 1;
            if let Some(distribution) = &mut tally.response_ok {
                distribution.record(response);
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            mine.requests += theirs.requests;
            mine.successful += theirs.successful;
            if let (Some(mine), Some(theirs)) = (&mut mine.response_ok, &theirs.response_ok) {
                mine.merge(theirs);
            }
        }
    }
}
