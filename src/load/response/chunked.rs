//! The chunked transfer coding (RFC 9112 §7.1), strictly: a lenient reading of a chunk size is how
//! two peers come to disagree about where an answer ends.
//!
//! Sizes, extensions and line ends are checked byte by byte and forgotten; data is only measured.
//! The trailer section belongs to the caller.

use super::Malformed;
use super::head::is_tchar;

/// Sixteen hexadecimal digits are what a u64 holds; leading zeros count.
const MAX_DIGITS: u8 = 16;

/// Where in the coding we are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chunked {
    state: State,
    /// In a chunk-size line: the size so far. In data: what is left of it.
    size: u64,
    /// Digits of this chunk's size so far.
    digits: u8,
    /// Bytes of this chunk's extensions so far, white space included.
    extension: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// White space after the size or after an extension: only `;` may follow.
    BeforeSemicolon,
    /// After `;`.
    BeforeName,
    Name,
    /// White space after a name: `=` or `;` follows.
    AfterName,
    /// After `=`.
    BeforeValue,
    Value,
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    AfterQuoted,
    LineLf,
    Data,
    DataCr,
    DataLf,
}

/// What the first bytes of a slice are, and how many.
pub(super) enum Piece {
    /// Body bytes.
    Data(usize),
    /// Chunk sizes, extensions, line ends.
    Framing(usize),
    /// Likewise, and with them the last chunk is over: the trailer section follows.
    Last(usize),
}

impl Chunked {
    /// Decodes the next piece; takes at least one byte where there is one.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8], max_extension: usize) -> Result<Piece, Malformed> {
        if self.state == State::Data {
            let count = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len());
            self.size -= count as u64;
            if self.size == 0 {
                self.state = State::DataCr;
            }
            return Ok(Piece::Data(count));
        }
        for (at, &byte) in bytes.iter().enumerate() {
            self.state = self.after(byte).ok_or(Malformed::BadChunk)?;
            match self.state {
                State::Data if self.size == 0 => return Ok(Piece::Last(at + 1)),
                State::Data => return Ok(Piece::Framing(at + 1)),
                State::Size | State::LineLf | State::DataLf => {}
                _ if self.extension == max_extension => return Err(Malformed::BadChunk),
                _ => self.extension += 1,
            }
        }
        Ok(Piece::Framing(bytes.len()))
    }

    /// The state after one byte of framing, or `None` where the byte may not stand.
    fn after(&mut self, byte: u8) -> Option<State> {
        use State::*;
        Some(match (self.state, byte) {
            (Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < MAX_DIGITS => {
                self.size = self.size << 4 | u64::from((byte as char).to_digit(16)?);
                self.digits += 1;
                Size
            }
            (Size, _) if self.digits == 0 => return None,
            (Size | Value | AfterQuoted | Name, b'\r') => LineLf,
            (Size | Value | AfterQuoted | BeforeSemicolon | Name | AfterName, b';') => BeforeName,
            (Size | Value | AfterQuoted | BeforeSemicolon, b' ' | b'\t') => BeforeSemicolon,
            (BeforeName, b' ' | b'\t') => BeforeName,
            (BeforeName | Name, _) if is_tchar(byte) => Name,
            (Name | AfterName, b' ' | b'\t') => AfterName,
            (Name | AfterName, b'=') => BeforeValue,
            (BeforeValue, b' ' | b'\t') => BeforeValue,
            (BeforeValue, b'"') => Quoted,
            (BeforeValue | Value, _) if is_tchar(byte) => Value,
            (Quoted, b'"') => AfterQuoted,
            (Quoted, b'\\') => Escaped,
            (Quoted | Escaped, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
            (LineLf, b'\n') => Data,
            (DataCr, b'\r') => DataLf,
            (DataLf, b'\n') => {
                *self = Self::default();
                Size
            }
            _ => return None,
        })
    }
}
