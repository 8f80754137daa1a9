//! What the engine would have of io_uring, each thing apart, so that an older kernel costs only what it lacks.

/// Something that a kernel may lack and the engine can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// One thread submits; the kernel need not lock (6.0).
    SingleIssuer,
    /// Completions are finished in our own enter, never by interrupting us (6.1). Needs [`Feature::SingleIssuer`].
    DeferTaskrun,
    /// Completions are finished at the next system call; where they cannot be deferred (5.19).
    CoopTaskrun,
    /// A submission that fails does not stop those behind it (5.18).
    SubmitAll,
    /// No array of indices between the submission queue and its entries (6.6).
    NoSqArray,
    /// The ring needs no descriptor look-up (5.18).
    RegisteredRing,
    /// Waits end at a time instead of after one (6.12).
    AbsoluteTimeouts,
    /// A wait is not booked as waiting for a disk (6.15).
    NoIowait,
    /// Received bytes go to whichever buffer of a common pool is free (5.19).
    BufferRing,
    /// One receive operation serves a connection for life (6.0). Needs [`Feature::BufferRing`].
    MultishotReceive,
    /// Transmit stamps come as completions instead of through the sockets' error queues (6.17).
    StampCompletions,
}

impl Feature {
    /// Every one, in the order in which a report lists them.
    pub const ALL: [Self; 11] = [
        Self::SingleIssuer,
        Self::DeferTaskrun,
        Self::CoopTaskrun,
        Self::SubmitAll,
        Self::NoSqArray,
        Self::RegisteredRing,
        Self::AbsoluteTimeouts,
        Self::NoIowait,
        Self::BufferRing,
        Self::MultishotReceive,
        Self::StampCompletions,
    ];

    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SingleIssuer => "single issuer",
            Self::DeferTaskrun => "deferred task work",
            Self::CoopTaskrun => "cooperative task work",
            Self::SubmitAll => "submit all",
            Self::NoSqArray => "submission without index array",
            Self::RegisteredRing => "registered ring",
            Self::AbsoluteTimeouts => "absolute timeouts",
            Self::NoIowait => "waits not booked as iowait",
            Self::BufferRing => "buffer ring",
            Self::MultishotReceive => "multishot receive",
            Self::StampCompletions => "transmit stamps as completions",
        }
    }
}

/// A set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u16);

impl Features {
    /// All of them.
    pub const ALL: Self = Self((1 << Feature::ALL.len()) - 1);

    /// True if `feature` is in it.
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u16) != 0
    }

    /// With `feature`.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | (1 << feature as u16))
    }

    /// Without `feature`.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u16))
    }
}

/// What is in use, and what is not and why.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    used: Features,
    missing: Vec<(Feature, String)>,
}

impl Inventory {
    pub(super) fn has(&self, feature: Feature) -> bool {
        self.used.has(feature)
    }

    pub(super) fn gained(&mut self, feature: Feature) {
        self.used = self.used.with(feature);
    }

    /// Only the first reason is kept.
    pub(super) fn lacks(&mut self, feature: Feature, why: impl Into<String>) {
        self.used = self.used.without(feature);
        if !self.missing.iter().any(|(known, _)| *known == feature) {
            self.missing.push((feature, why.into()));
        }
    }

    pub(super) fn features(&self) -> Vec<String> {
        let used = Feature::ALL.into_iter().filter(|&feature| self.has(feature));
        used.map(|feature| feature.name().to_owned()).collect()
    }

    pub(super) fn missing(&self) -> Vec<String> {
        self.missing.iter().map(|(feature, why)| format!("{}: {why}", feature.name())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        for (at, feature) in Feature::ALL.into_iter().enumerate() {
            assert_eq!(feature as usize, at, "the order of ALL is that of the enum");
            assert!(Features::ALL.has(feature) && !Features::default().has(feature));
            let without = Features::ALL.without(feature);
            assert!(!without.has(feature));
            assert_eq!(without.with(feature), Features::ALL);
        }
    }

    #[test]
    fn what_was_lost_is_missing_for_its_first_reason() {
        let mut inventory = Inventory::default();
        inventory.gained(Feature::BufferRing);
        inventory.gained(Feature::NoIowait);
        inventory.lacks(Feature::NoIowait, "one");
        inventory.lacks(Feature::NoIowait, "two");
        assert_eq!(inventory.features(), ["buffer ring"]);
        assert_eq!(inventory.missing(), ["waits not booked as iowait: one"]);
    }
}
