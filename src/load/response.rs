//! A resumable HTTP/1.1 response decoder (RFC 9112): bytes in, one answer's facts out.
//!
//! It decides where an answer ends, what it was, and whether its connection may be used again. It
//! reads no socket and no clock, and it stores no body: a body is counted and, if asked, digested, so
//! that 10 GiB cost as much memory as two bytes. What it answers depends on the bytes alone, never on
//! how the network cut them: fed whole or byte by byte, the result is the same.
//!
//! A load generator that misreads one answer attributes every later byte of the connection to the
//! wrong request, so framing is strict: what two readers could read differently is [`Malformed`], and
//! the connection is of no further use. Lenient only where the RFC allows it and nothing hangs on it,
//! and then it is noted: bare LF ([`Response::bare_lf`]) and obs-fold ([`Response::folded`]).
//!
//! Deliberate readings of RFC 9112:
//! - §2.2 lets a *server* skip empty lines before a request line. Nothing of the kind is said of
//!   responses, so a CRLF before a status line is [`Malformed::BadStatusLine`].
//! - §4: the reason phrase and the space before it may be missing, as with many servers.
//! - §2.3: HTTP/1.0 and HTTP/1.1 only; any other version is [`Malformed::BadVersion`].
//!
//! `gather` finds the end of a head, `head` says what it means, `chunked` is the transfer coding.

mod chunked;
mod gather;
mod head;
mod memo;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh64::Xxh64;

use self::chunked::{Chunked, Piece};
use self::gather::{Gather, Gathered};
use self::head::Head;
use self::memo::Memo;
use super::server_timing::ServerTiming;

/// Caps on what a server can make us keep or wade through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one head, status line to empty line.
    pub head_bytes: usize,
    /// Interim (1xx) responses before the final one.
    pub informational: u32,
    /// Bytes of the extensions of one chunk.
    pub chunk_extension_bytes: usize,
    /// Bytes of the trailer section with its final empty line.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            informational: 32,
            chunk_extension_bytes: 4 * 1024,
            trailer_bytes: 16 * 1024,
        }
    }
}

/// How the end of the body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// There is no body: HEAD, 204, 304.
    #[default]
    None,
    /// Content-Length.
    Length,
    /// Transfer-Encoding with chunked last.
    Chunked,
    /// The end of the stream ends the body.
    Close,
}

/// The facts of one answer. All zero until the head of the final response is decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// The three digits, 100 to 999; 0 before the head is decoded.
    pub status: u16,
    /// The connection may carry another request once this answer is complete (RFC 9112 §9.3).
    pub keep_alive: bool,
    /// How the end of the body is known.
    pub framing: Framing,
    /// Body bytes so far, without chunk framing.
    pub body_bytes: u64,
    /// Everything so far: interim responses, head, framing, body, trailers.
    pub total_bytes: u64,
    /// Interim (1xx) responses before the final one.
    pub informational: u32,
    /// XXH64 (seed 0) of the body without chunk framing, once complete and if asked.
    pub digest: Option<u64>,
    /// The answer echoes an X-Request-Id, and it is not the one that was sent.
    pub id_mismatch: bool,
    /// Server-Timing, of head and trailers.
    pub timing: ServerTiming,
    /// A line of a head ended in a bare LF (RFC 9112 §2.2).
    pub bare_lf: bool,
    /// Head lines that continued the one before: obs-fold, read as spaces (RFC 9112 §5.2).
    pub folded: u32,
}

/// Why an answer cannot be read; its connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Malformed {
    /// Not HTTP at all, or a status that is not three digits from 100.
    #[error("the status line is not one of HTTP/1.1")]
    BadStatusLine,
    /// `HTTP/` and then neither 1.0 nor 1.1.
    #[error("the HTTP version is neither 1.0 nor 1.1")]
    BadVersion,
    /// No colon, white space before it, a control character, a fold before the first field.
    #[error("a header line is not a valid field")]
    BadHeader,
    /// More than [`Limits::head_bytes`].
    #[error("the head is larger than the limit")]
    HeadTooLarge,
    /// More than 100 fields in a head or a trailer section.
    #[error("there are more than 100 header fields")]
    TooManyFields,
    /// More than [`Limits::informational`].
    #[error("there are more interim (1xx) responses than the limit")]
    TooManyInformational,
    /// Not a decimal number, too large a one, or two that differ.
    #[error("Content-Length is invalid or contradicts itself")]
    BadContentLength,
    /// Transfer-Encoding together with Content-Length.
    #[error("Transfer-Encoding and Content-Length together leave the framing ambiguous")]
    AmbiguousFraming,
    /// Not a list of codings, chunked twice or with parameters, or in HTTP/1.0.
    #[error("Transfer-Encoding is invalid")]
    BadTransferEncoding,
    /// A chunk size, extension or line end that the grammar does not allow, or beyond a limit.
    #[error("the chunked coding is invalid")]
    BadChunk,
    /// A trailer line that is not a valid field, a bare LF or a fold included.
    #[error("the trailer section is invalid")]
    BadTrailer,
    /// More than [`Limits::trailer_bytes`].
    #[error("the trailer section is larger than the limit")]
    TrailerTooLarge,
    /// 101, which answers an Upgrade that was never asked for.
    #[error("the server switched protocols (101) without being asked")]
    UnexpectedUpgrade,
}

impl Malformed {
    /// The name in logs and reports; it never changes. Serialised it is the same.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::BadStatusLine => "bad-status-line",
            Self::BadVersion => "bad-version",
            Self::BadHeader => "bad-header",
            Self::HeadTooLarge => "head-too-large",
            Self::TooManyFields => "too-many-fields",
            Self::TooManyInformational => "too-many-informational",
            Self::BadContentLength => "bad-content-length",
            Self::AmbiguousFraming => "ambiguous-framing",
            Self::BadTransferEncoding => "bad-transfer-encoding",
            Self::BadChunk => "bad-chunk",
            Self::BadTrailer => "bad-trailer",
            Self::TrailerTooLarge => "trailer-too-large",
            Self::UnexpectedUpgrade => "unexpected-upgrade",
        }
    }
}

/// What came of one slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All of it was taken in; the answer goes on.
    Partial,
    /// The answer ended after `used` bytes of the slice. What follows is not part of it.
    Complete {
        /// At most the length of the slice.
        used: usize,
    },
}

/// What the end of the stream means for the answer that was awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is complete; a body framed by the close of the connection ends here.
    Complete,
    /// No byte has come since `begin`.
    Nothing,
    /// The head of the final response is missing or incomplete.
    TruncatedHead,
    /// The body is shorter than its framing said (RFC 9112 §8): never a success.
    TruncatedBody,
}

/// Decodes one answer after the other; one per connection, reused for its whole life.
pub struct Decoder {
    limits: Limits,
    gather: Gather,
    memo: Memo,
    state: State,
    response: Response,
    hasher: Xxh64,
    head_request: bool,
    digest: bool,
    first_byte_here: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    /// So many body bytes are missing, at least one.
    Length(u64),
    Chunked(Chunked),
    Trailer,
    UntilClose,
    Done,
    Failed(Malformed),
}

/// What every response we can read begins with.
const START: &[u8] = b"HTTP/1.";

impl Decoder {
    /// A decoder that awaits nothing: before the first `begin` every byte is surplus.
    pub fn new(limits: Limits) -> Self {
        Self {
            // Below the length of START the order of errors would depend on how the stream is cut.
            limits: Limits { head_bytes: limits.head_bytes.max(START.len()), ..limits },
            gather: Gather::new(),
            memo: Memo::default(),
            state: State::Done,
            response: Response::default(),
            hasher: Xxh64::new(0),
            head_request: false,
            digest: false,
            first_byte_here: false,
        }
    }

    /// Gets ready for the answer to one request, whatever became of the one before.
    ///
    /// `head_request`: it was a HEAD, so its answer has no body whatever the headers say.
    /// `digest`: compute [`Response::digest`].
    pub fn begin(&mut self, head_request: bool, digest: bool) {
        self.gather.begin_head();
        self.state = State::Head;
        self.response = Response::default();
        self.head_request = head_request;
        self.digest = digest;
        self.first_byte_here = false;
        if digest {
            self.hasher.reset(0);
        }
    }

    /// Takes in bytes as they arrive.
    ///
    /// `request_id` is the X-Request-Id that was sent, to be compared with an echoed one; empty if
    /// none was sent. After completion nothing is taken (`used` is 0) until the next `begin`; after an
    /// error the same error comes back.
    pub fn feed(&mut self, bytes: &[u8], request_id: &[u8]) -> Result<Progress, Malformed> {
        self.first_byte_here = false;
        let mut used = 0;
        loop {
            match self.state {
                State::Done => return Ok(Progress::Complete { used }),
                State::Failed(reason) => return Err(reason),
                _ if used == bytes.len() => return Ok(Progress::Partial),
                _ => {}
            }
            match self.step(&bytes[used..], request_id) {
                Ok(taken) => {
                    used += taken;
                    self.response.total_bytes += taken as u64;
                }
                Err(reason) => self.state = State::Failed(reason),
            }
        }
    }

    /// The peer ended the stream in order (FIN). After a reset do not ask: a reset ends no body.
    pub fn eof(&mut self) -> End {
        match self.state {
            State::Head if self.response.total_bytes == 0 => End::Nothing,
            State::Head => End::TruncatedHead,
            State::UntilClose => {
                self.finish();
                End::Complete
            }
            State::Done => End::Complete,
            State::Length(_) | State::Chunked(_) | State::Trailer => End::TruncatedBody,
            State::Failed(_) if self.response.status == 0 => End::TruncatedHead,
            State::Failed(_) => End::TruncatedBody,
        }
    }

    /// The final response; complete once `feed` or `eof` said so.
    pub fn response(&self) -> &Response {
        &self.response
    }

    /// True while no byte that can belong to the final response has been seen: after `begin`, and
    /// again right after a complete interim response.
    pub fn awaiting_first_byte(&self) -> bool {
        matches!(self.state, State::Head) && self.gather.len() == 0
    }

    /// True if the first byte that can belong to the final response was in the slice last fed.
    ///
    /// To stamp the first byte, stamp whenever this is true and let a later stamp replace an earlier
    /// one: what looked like the beginning of the final response may turn out to be a 1xx whose rest
    /// arrives glued to the real one, which `awaiting_first_byte` before and after cannot show.
    pub fn first_byte_in_last_feed(&self) -> bool {
        self.first_byte_here
    }

    /// Takes at least one byte of `bytes`, which has one, or fails.
    fn step(&mut self, bytes: &[u8], request_id: &[u8]) -> Result<usize, Malformed> {
        match &mut self.state {
            State::Head => self.head(bytes, request_id),
            State::Trailer => self.trailer(bytes),
            State::UntilClose => {
                self.body(bytes);
                Ok(bytes.len())
            }
            State::Length(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= count as u64;
                let complete = *left == 0;
                self.body(&bytes[..count]);
                if complete {
                    self.finish();
                }
                Ok(count)
            }
            State::Chunked(chunked) => match chunked.next(bytes, self.limits.chunk_extension_bytes)? {
                Piece::Framing(count) => Ok(count),
                Piece::Data(count) => {
                    self.body(&bytes[..count]);
                    Ok(count)
                }
                Piece::Last(count) => {
                    self.gather.begin_trailer();
                    self.state = State::Trailer;
                    Ok(count)
                }
            },
            State::Done => Ok(0),
            State::Failed(reason) => Err(*reason),
        }
    }

    fn head(&mut self, bytes: &[u8], request_id: &[u8]) -> Result<usize, Malformed> {
        let seen = self.gather.len();
        self.first_byte_here |= seen == 0;
        if seen == 0
            && let Some((head, used)) = self.memo.recall(bytes)
        {
            self.take_in(&head)?;
            return Ok(used);
        }
        check_start(seen, bytes)?;
        let (head, used) = match self.gather.take(bytes, self.limits.head_bytes) {
            Gathered::Incomplete => return Ok(bytes.len()),
            Gathered::TooLarge => return Err(Malformed::HeadTooLarge),
            Gathered::Whole { section, used, exact } => {
                let head = head::parse(section, request_id)?;
                if exact {
                    self.memo.keep(section, head);
                }
                (head, used)
            }
        };
        let response = &mut self.response;
        response.bare_lf |= self.gather.bare_lf;
        response.folded = response.folded.saturating_add(self.gather.folded);
        if head.is_informational() {
            if head.status == 101 {
                return Err(Malformed::UnexpectedUpgrade);
            }
            if response.informational >= self.limits.informational {
                return Err(Malformed::TooManyInformational);
            }
            response.informational += 1;
            self.gather.begin_head();
            self.first_byte_here = false;
            return Ok(used);
        }
        self.take_in(&head)?;
        Ok(used)
    }

    /// The head of the final response: what follows it.
    fn take_in(&mut self, head: &Head) -> Result<(), Malformed> {
        let response = &mut self.response;
        let (framing, length) = head.framing(self.head_request)?;
        response.status = head.status;
        response.framing = framing;
        response.keep_alive = head.persists() && framing != Framing::Close;
        response.id_mismatch = head.id_mismatch;
        response.timing = head.timing;
        match framing {
            Framing::Length if length > 0 => self.state = State::Length(length),
            Framing::None | Framing::Length => self.finish(),
            Framing::Chunked => self.state = State::Chunked(Chunked::default()),
            Framing::Close => self.state = State::UntilClose,
        }
        Ok(())
    }

    fn trailer(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let (section, used) = match self.gather.take(bytes, self.limits.trailer_bytes) {
            Gathered::Incomplete => return Ok(bytes.len()),
            Gathered::TooLarge => return Err(Malformed::TrailerTooLarge),
            Gathered::Whole { section, used, .. } => (section, used),
        };
        if section != b"\r\n" {
            head::parse_trailer(section, &mut self.response.timing)?;
        }
        // As strict as the rest of the coding (§7.1): a bare LF here ends a chunked body.
        if self.gather.bare_lf {
            return Err(Malformed::BadTrailer);
        }
        self.finish();
        Ok(used)
    }

    fn body(&mut self, data: &[u8]) {
        self.response.body_bytes += data.len() as u64;
        if self.digest {
            self.hasher.update(data);
        }
    }

    fn finish(&mut self) {
        self.state = State::Done;
        self.response.digest = self.digest.then(|| self.hasher.digest());
    }
}

/// Refuses at once what cannot become a response, so that a TLS record or an HTTP/2 frame is called
/// by its name and not a head that never ended.
fn check_start(seen: usize, bytes: &[u8]) -> Result<(), Malformed> {
    let expected = START.get(seen..).unwrap_or_default();
    if bytes.starts_with(expected) {
        return Ok(());
    }
    let same = expected.iter().zip(bytes).take_while(|(a, b)| a == b).count();
    match seen + same {
        _ if same == expected.len().min(bytes.len()) => Ok(()),
        0..5 => Err(Malformed::BadStatusLine),
        _ => Err(Malformed::BadVersion),
    }
}
