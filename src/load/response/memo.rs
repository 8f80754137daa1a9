//! The head that a connection saw last. Most servers send the same head with every answer, at least until their
//! Date moves on; the same bytes mean the same, so they are compared instead of parsed (about a tenth of the work).
//!
//! Only what depends on nothing else is kept: no interim heads, none with ids or times in them, none that was read
//! leniently.

use super::head::Head;

/// Longer heads are parsed each time, so that 10 000 connections stay small.
const BYTES_MAX: usize = 512;

/// At most one head.
#[derive(Debug)]
pub(super) struct Memo {
    /// The whole section, with its empty line. Empty: nothing is kept.
    section: Vec<u8>,
    head: Head,
}

impl Default for Memo {
    /// With room for any head it may keep: no allocation under the first answer.
    fn default() -> Self {
        Self { section: Vec::with_capacity(BYTES_MAX), head: Head::default() }
    }
}

impl Memo {
    /// The head that `bytes` begin with, and its length, if it is the one kept.
    pub(super) fn recall(&self, bytes: &[u8]) -> Option<(Head, usize)> {
        let known = !self.section.is_empty() && bytes.starts_with(&self.section);
        known.then_some((self.head, self.section.len()))
    }

    /// Keeps `head`, which is what `section` says.
    pub(super) fn keep(&mut self, section: &[u8], head: Head) {
        self.section.clear();
        if section.len() <= BYTES_MAX && !head.personal && !head.is_informational() {
            self.section.extend_from_slice(section);
            self.head = head;
        }
    }
}
