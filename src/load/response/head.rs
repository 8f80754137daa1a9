//! A whole head or trailer section in, what it means out: status, framing, reuse, ids, timing.
//!
//! The syntax is httparse's business, the meaning is decided here. Nothing is stored of the fields
//! themselves.

use std::mem::MaybeUninit;

use super::{Framing, Malformed};
use crate::load::server_timing::ServerTiming;

/// More fields than this are refused; httparse parses into an array of this size on the stack.
const MAX_FIELDS: usize = 100;

/// What one head says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) timing: ServerTiming,
    pub(super) id_mismatch: bool,
    /// It speaks of this one request: an id, or times.
    pub(super) personal: bool,
    http_1_0: bool,
    close: bool,
    keep_alive: bool,
    length: Length,
    coding: Coding,
}

/// What all Content-Length fields say together (RFC 9110 §8.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Length {
    #[default]
    Absent,
    Is(u64),
    Invalid,
}

/// What all Transfer-Encoding fields say together (RFC 9112 §6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    Absent,
    /// `chunked` is there, and it is the last.
    Chunked,
    /// `chunked` is not there.
    Other,
    /// `chunked` is there, but another one was applied after it.
    ChunkedInside,
    Invalid,
}

/// Parses one whole head: status line, fields, empty line (RFC 9112 §2.1).
#[inline]
pub(super) fn parse(section: &[u8], request_id: &[u8]) -> Result<Head, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_obsolete_multiline_headers_in_responses(true);
    let end = config.parse_response_with_uninit_headers(&mut parsed, section, &mut fields);
    match end.map_err(reason)? {
        httparse::Status::Complete(end) if end == section.len() => {}
        // The scan saw the end elsewhere than httparse: two readings of one head.
        _ => return Err(Malformed::BadHeader),
    }
    let status = parsed.code.unwrap_or(0);
    if status < 100 {
        return Err(Malformed::BadStatusLine);
    }
    let mut head = Head { status, http_1_0: parsed.version == Some(0), ..Head::default() };
    for field in &*parsed.headers {
        head.note(field.name, field.value, request_id);
    }
    Ok(head)
}

/// Parses a trailer section; of its fields only Server-Timing means anything to us, and none may
/// touch the framing (RFC 9110 §6.5.1).
pub(super) fn parse_trailer(section: &[u8], timing: &mut ServerTiming) -> Result<(), Malformed> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((end, fields))) if end == section.len() => {
            for field in fields.iter().filter(|f| f.name.eq_ignore_ascii_case("server-timing")) {
                timing.append(field.value);
            }
            Ok(())
        }
        Err(httparse::Error::TooManyHeaders) => Err(Malformed::TooManyFields),
        _ => Err(Malformed::BadTrailer),
    }
}

fn reason(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::Version => Malformed::BadVersion,
        httparse::Error::Status => Malformed::BadStatusLine,
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        _ => Malformed::BadHeader,
    }
}

impl Head {
    /// An interim response (RFC 9110 §15.2): another head follows.
    pub(super) fn is_informational(&self) -> bool {
        (100..200).contains(&self.status)
    }

    /// Whether the connection persists by what the head says (RFC 9112 §9.3).
    pub(super) fn persists(&self) -> bool {
        !self.close && (self.keep_alive || !self.http_1_0)
    }

    /// How the body ends, and the declared length: the order of RFC 9112 §6.3.
    ///
    /// Its second step, a tunnel after CONNECT, is left out: we never send CONNECT.
    pub(super) fn framing(&self, head_request: bool) -> Result<(Framing, u64), Malformed> {
        if head_request || self.is_informational() || matches!(self.status, 204 | 304) {
            return Ok((Framing::None, 0));
        }
        if self.coding != Coding::Absent {
            return match self.coding {
                _ if self.length != Length::Absent => Err(Malformed::AmbiguousFraming),
                // §6.1: Transfer-Encoding in HTTP/1.0 is faulty framing, whatever it says.
                _ if self.http_1_0 => Err(Malformed::BadTransferEncoding),
                Coding::Invalid => Err(Malformed::BadTransferEncoding),
                Coding::Chunked => Ok((Framing::Chunked, 0)),
                Coding::Absent | Coding::Other | Coding::ChunkedInside => Ok((Framing::Close, 0)),
            };
        }
        match self.length {
            Length::Invalid => Err(Malformed::BadContentLength),
            Length::Is(length) => Ok((Framing::Length, length)),
            Length::Absent => Ok((Framing::Close, 0)),
        }
    }

    fn note(&mut self, name: &str, value: &[u8], request_id: &[u8]) {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length first: most fields are none of ours and cost one comparison.
        match name.len() {
            10 if is("connection") => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            12 if is("x-request-id") => {
                self.personal = true;
                self.id_mismatch |= !request_id.is_empty() && value != request_id;
            }
            13 if is("server-timing") => {
                self.personal = true;
                self.timing.append(value);
            }
            14 if is("content-length") => {
                self.length = value.split(|byte| *byte == b',').fold(self.length, Length::and);
            }
            17 if is("transfer-encoding") => {
                let empty = list(value).next().is_none();
                let before = if empty { Coding::Invalid } else { self.coding };
                self.coding = list(value).fold(before, Coding::and);
            }
            _ => {}
        }
    }
}

impl Length {
    /// One more value: the same again is fine, anything else is not (RFC 9110 §8.6).
    fn and(self, value: &[u8]) -> Self {
        match (self, decimal(trim(value))) {
            (Self::Absent, Some(length)) => Self::Is(length),
            (Self::Is(known), Some(length)) if known == length => self,
            _ => Self::Invalid,
        }
    }
}

impl Coding {
    /// One more coding, applied after the ones before.
    ///
    /// Stricter than the grammar in one point: no quoted strings in parameters, which no coding has
    /// and in which a comma or the word `chunked` could hide.
    fn and(self, element: &[u8]) -> Self {
        let end = element.iter().position(|byte| !is_tchar(*byte));
        let (coding, rest) = element.split_at(end.unwrap_or(element.len()));
        let parameters = trim(rest);
        let valid = |b: &u8| is_tchar(*b) || matches!(b, b' ' | b'\t' | b';' | b'=');
        if coding.is_empty() || !(parameters.is_empty() || parameters[0] == b';') {
            return Self::Invalid;
        }
        match (self, coding.eq_ignore_ascii_case(b"chunked")) {
            _ if !parameters.iter().all(valid) => Self::Invalid,
            (Self::Invalid, _) => Self::Invalid,
            // §7.1: chunked has no parameters; §6.1: it is applied once at most.
            (Self::Absent | Self::Other, true) if parameters.is_empty() => Self::Chunked,
            (_, true) => Self::Invalid,
            (Self::Absent | Self::Other, false) => Self::Other,
            (Self::Chunked | Self::ChunkedInside, false) => Self::ChunkedInside,
        }
    }
}

/// The elements of a comma list; empty ones are skipped (RFC 9110 §5.6.1.2).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// Without white space around. CR and LF can stand here only as part of an obs-fold, which counts
/// as spaces (RFC 9112 §5.2); httparse lets no other control through.
fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// `1*DIGIT` that fits; no sign, no space, no underscore.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A character of a token (RFC 9110 §5.6.2).
pub(super) fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
