//! Finds the end of a head or a trailer section, and never starts over when more bytes come.
//!
//! It knows lines and nothing else: no status line, no fields. Where the section lies whole in the
//! slice just fed, that slice is handed on and nothing is copied; otherwise the parts accumulate in
//! one buffer that is reused and that never holds more than the limit.

/// Scans for the empty line that ends a section (RFC 9112 §2.1), across any split of the stream.
#[derive(Debug)]
pub(super) struct Gather {
    /// What was seen of an incomplete section; empty between sections.
    buffer: Vec<u8>,
    at: At,
    /// The last byte seen was a CR.
    after_cr: bool,
    /// A line ended in a bare LF.
    pub(super) bare_lf: bool,
    /// How many lines began with white space: obs-fold (RFC 9112 §5.2).
    pub(super) folded: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    /// After a CR that is the first byte of its line.
    LineStartCr,
    InLine,
}

/// What came of one slice.
pub(super) enum Gathered<'a> {
    /// All of the slice was kept; the section goes on.
    Incomplete,
    /// The section is longer than the limit.
    TooLarge,
    /// The section with its final empty line, of which `used` bytes were in this slice.
    /// `exact`: every line ended in CRLF and none was folded.
    Whole { section: &'a [u8], used: usize, exact: bool },
}

impl Gather {
    pub(super) fn new() -> Self {
        let buffer = Vec::new();
        Self { buffer, at: At::InLine, after_cr: false, bare_lf: false, folded: 0 }
    }

    /// Gets ready for a head. An empty first line is no end: it is not a status line either.
    #[inline]
    pub(super) fn begin_head(&mut self) {
        self.begin(At::InLine);
    }

    /// Gets ready for a trailer section, which is mostly nothing but its final empty line.
    #[inline]
    pub(super) fn begin_trailer(&mut self) {
        self.begin(At::LineStart);
    }

    fn begin(&mut self, at: At) {
        self.buffer.clear();
        self.at = at;
        self.after_cr = false;
        self.bare_lf = false;
        self.folded = 0;
    }

    /// How many bytes of the section came with earlier slices.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Takes in the next slice of a section that may have `limit` bytes.
    #[inline]
    pub(super) fn take<'a>(&'a mut self, bytes: &'a [u8], limit: usize) -> Gathered<'a> {
        let room = limit.saturating_sub(self.buffer.len());
        let window = &bytes[..bytes.len().min(room)];
        let end = self.find_end(window);
        let exact = !self.bare_lf && self.folded == 0;
        match end {
            Some(used) if self.buffer.is_empty() => Gathered::Whole { section: &window[..used], used, exact },
            Some(used) => {
                self.buffer.extend_from_slice(&window[..used]);
                Gathered::Whole { section: &self.buffer, used, exact }
            }
            None if window.len() == room => Gathered::TooLarge,
            None => {
                self.buffer.extend_from_slice(window);
                Gathered::Incomplete
            }
        }
    }

    /// Where the section ends in `bytes`, which follow the bytes scanned before.
    #[inline]
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut next = 0;
        loop {
            if self.at == At::InLine {
                let rest = &bytes[next..];
                let Some(lf) = find_lf(rest) else {
                    self.after_cr = rest.last().map_or(self.after_cr, |last| *last == b'\r');
                    return None;
                };
                let cr = if lf == 0 { self.after_cr } else { rest[lf - 1] == b'\r' };
                self.bare_lf |= !cr;
                self.after_cr = false;
                self.at = At::LineStart;
                next += lf + 1;
            }
            let byte = *bytes.get(next)?;
            match (self.at, byte) {
                (_, b'\n') => {
                    self.bare_lf |= self.at == At::LineStart;
                    return Some(next + 1);
                }
                (At::LineStart, b'\r') => {
                    self.at = At::LineStartCr;
                    next += 1;
                }
                (At::LineStart, b' ' | b'\t') => {
                    self.folded = self.folded.saturating_add(1);
                    self.at = At::InLine;
                }
                // A first byte of a line, or what follows a stray CR (rejected when parsed).
                _ => self.at = At::InLine,
            }
        }
    }
}

/// The first LF, eight bytes at a time: the scan would otherwise cost as much as the parsing.
#[inline]
fn find_lf(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const LF: u64 = u64::from_ne_bytes([b'\n'; 8]);
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        // The classic test for a zero byte; its lowest hit is exact, the ones above it may not be.
        let differs = u64::from_le_bytes(*word) ^ LF;
        let hit = differs.wrapping_sub(ONES) & !differs & HIGH;
        if hit != 0 {
            return Some(index * 8 + hit.trailing_zeros() as usize / 8);
        }
    }
    let in_tail = tail.iter().position(|byte| *byte == b'\n')?;
    Some(words.len() * 8 + in_tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_scan_finds_what_a_byte_scan_finds() {
        for len in 0..40 {
            for lf in 0..=len {
                for fill in [b'a', 0x0b, 0x8a, 0x00, 0xff] {
                    let mut bytes = vec![fill; len];
                    bytes.iter_mut().skip(lf).step_by(3).for_each(|byte| *byte = b'\n');
                    let expected = bytes.iter().position(|byte| *byte == b'\n');
                    assert_eq!(find_lf(&bytes), expected, "{bytes:?}");
                }
            }
        }
    }
}
