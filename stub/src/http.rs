//! The request reader: bytes in, requests or rejections out, resumable at every byte (RFC 9112, read strictly).
//!
//! Pure: no sockets, no clocks; what it returns does not depend on how the bytes were cut. It frames messages and
//! refuses what is ambiguous; it knows no path and no answer. Line ends in the head may be a bare LF (as RFC 9112
//! §2.2 allows), chunk framing must be exact. After a rejection the reader is finished: the connection must close.

mod head;
#[cfg(test)]
mod tests;

use head::{Framing, MAX_FIELDS, parse_head};
pub(crate) use head::{Head, Method, RequestId};

/// The longest request line, in bytes; longer is 414.
const MAX_REQUEST_LINE: usize = 8 * 1024;
/// The longest field section, head or trailer, in bytes; longer is 431.
const MAX_FIELD_BYTES: usize = 32 * 1024;
/// The longest chunk-size line with its extensions.
const MAX_CHUNK_LINE: usize = 256;
/// The most bytes of empty lines before a request: a client that sends nothing else is neither idle nor late.
const MAX_EMPTY: usize = 64;

/// Why a request cannot be served, and with which status that is said. The connection closes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reject {
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
}

/// A rejection as an `Err`, to shorten the many places that refuse.
pub(crate) fn reject<T>(status: u16, reason: &'static str) -> Result<T, Reject> {
    Err(Reject { status, reason })
}

/// A whole request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// So many bytes the body has in common with the connection's previous one, from the start; the reader leaves it 0.
    pub(crate) known: usize,
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Nothing whole yet: feed more.
    NeedMore,
    /// The head asked for `100 Continue` and no byte of its body is here: say it, or refuse. Reported once.
    Expects,
    /// The next request.
    Request(Request),
    /// The bytes are no acceptable request.
    Reject(Reject),
}

/// The state of reading one connection's requests.
#[derive(Debug)]
pub(crate) struct Reader {
    body_limit: usize,
    buf: Vec<u8>,
    /// Where the unread part of `buf` starts.
    at: usize,
    /// Bytes of empty lines since the last request.
    empty: usize,
    /// All of `buf` was looked at, and more is needed.
    starved: bool,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Looking for the end of the head; positions count from `at`. No byte is searched twice.
    Head {
        searched: usize,
        line_start: usize,
        /// Where the request line ends.
        line_end: Option<usize>,
    },
    Body(Pending),
    Finished,
}

/// A request whose head is known.
#[derive(Debug)]
struct Pending {
    head: Head,
    framing: Framing,
    expects: bool,
    body: Vec<u8>,
    chunk: Chunk,
}

/// Where in a chunked body the reader is.
#[derive(Debug)]
enum Chunk {
    Size,
    Data(usize),
    DataEnd,
    Trailer { fields: usize, bytes: usize },
}

const NEW: State = State::Head { searched: 0, line_start: 0, line_end: None };

impl Reader {
    pub(crate) fn new(body_limit: usize) -> Self {
        Self { body_limit, buf: Vec::new(), at: 0, empty: 0, starved: true, state: NEW }
    }

    /// Takes in what was read from the connection.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buf.drain(..self.at);
        self.at = 0;
        self.buf.extend_from_slice(bytes);
        self.starved = false;
    }

    /// Whether part of a request is here: a client that stops now is late, not idle.
    pub(crate) fn has_begun(&self) -> bool {
        self.in_body() || self.at < self.buf.len()
    }

    /// Whether the head is complete and the body is not.
    pub(crate) fn in_body(&self) -> bool {
        matches!(self.state, State::Body(_))
    }

    /// Whether there are bytes not looked at yet. The beginning of a request whose rest is awaited is none: who took it
    /// for one would turn in circles for as long as the client keeps it waiting.
    pub(crate) fn buffered(&self) -> bool {
        !self.starved && self.at < self.buf.len()
    }

    /// The head of the request whose body is awaited.
    pub(crate) fn pending_head(&self) -> Option<&Head> {
        match &self.state {
            State::Body(pending) => Some(&pending.head),
            State::Head { .. } | State::Finished => None,
        }
    }

    /// Goes on as far as the bytes reach.
    pub(crate) fn next(&mut self) -> Progress {
        let progress = self.step().unwrap_or_else(Progress::Reject);
        self.starved = matches!(progress, Progress::NeedMore);
        if matches!(progress, Progress::Reject(_)) {
            self.state = State::Finished;
        }
        progress
    }

    fn step(&mut self) -> Result<Progress, Reject> {
        if matches!(self.state, State::Head { .. }) {
            let Some(len) = self.find_head()? else {
                return Ok(Progress::NeedMore);
            };
            let (head, framing, expects) = parse_head(&self.buf[self.at..self.at + len])?;
            if matches!(framing, Framing::Length(n) if n > self.body_limit as u64) {
                return reject(413, "the body is longer than this server takes");
            }
            self.at += len;
            self.empty = 0;
            self.state =
                State::Body(Pending { head, framing, expects, body: Vec::new(), chunk: Chunk::Size });
        }
        let State::Body(pending) = &mut self.state else {
            return Ok(Progress::NeedMore);
        };
        let unread = &self.buf[self.at..];
        if std::mem::take(&mut pending.expects) && unread.is_empty() && pending.framing != Framing::Length(0)
        {
            return Ok(Progress::Expects);
        }
        let (used, done) = match pending.framing {
            Framing::Length(len) => pending.take_length(unread, len as usize),
            Framing::Chunked => pending.take_chunks(unread, self.body_limit)?,
        };
        self.at += used;
        if !done {
            return Ok(Progress::NeedMore);
        }
        match std::mem::replace(&mut self.state, NEW) {
            State::Body(Pending { head, body, .. }) => {
                Ok(Progress::Request(Request { head, body, known: 0 }))
            }
            State::Head { .. } | State::Finished => Ok(Progress::NeedMore),
        }
    }

    /// The length of the head, once its end is here; rejects what has outgrown its limit before that.
    fn find_head(&mut self) -> Result<Option<usize>, Reject> {
        let State::Head { searched, line_start, line_end } = &mut self.state else {
            return Ok(None);
        };
        if *searched == 0 {
            // RFC 9112 §2.2: empty lines before a request line are ignored.
            while let [b'\n', ..] | [b'\r', b'\n', ..] = &self.buf[self.at..] {
                let bytes = if self.buf[self.at] == b'\n' { 1 } else { 2 };
                self.at += bytes;
                self.empty += bytes;
                if self.empty > MAX_EMPTY {
                    return reject(400, "there are only empty lines where a request should be");
                }
            }
            match &self.buf[self.at..] {
                [] | [b'\r'] => return Ok(None),
                // Refused at its first byte: a TLS hello would otherwise keep its client waiting for the deadline.
                [first, ..] if !head::is_token_byte(*first) => {
                    return reject(400, "this is not HTTP");
                }
                _ => {}
            }
        }
        let unread = &self.buf[self.at..];
        while let Some(lf) = unread[*searched..].iter().position(|b| *b == b'\n') {
            let end = *searched + lf;
            let line_is_empty = matches!(&unread[*line_start..end], [] | [b'\r']);
            *line_start = end + 1;
            *searched = end + 1;
            let line_end = *line_end.get_or_insert(end);
            limit_head(line_end, end - line_end)?;
            if line_is_empty {
                return Ok(Some(end + 1));
            }
        }
        *searched = unread.len();
        match *line_end {
            Some(line_end) => limit_head(line_end, unread.len() - 1 - line_end)?,
            None => limit_head(unread.len(), 0)?,
        }
        Ok(None)
    }
}

fn limit_head(line: usize, fields: usize) -> Result<(), Reject> {
    if line > MAX_REQUEST_LINE {
        return reject(414, "the request line is longer than 8 KiB");
    }
    if fields > MAX_FIELD_BYTES {
        return reject(431, "the header fields are longer than 32 KiB");
    }
    Ok(())
}

impl Pending {
    fn take_length(&mut self, unread: &[u8], len: usize) -> (usize, bool) {
        let used = unread.len().min(len - self.body.len());
        self.body.extend_from_slice(&unread[..used]);
        (used, self.body.len() == len)
    }

    /// Takes as many steps of chunk framing as the bytes allow: the count of bytes used, and whether the body is whole.
    fn take_chunks(&mut self, unread: &[u8], limit: usize) -> Result<(usize, bool), Reject> {
        let mut used = 0;
        loop {
            let rest = &unread[used..];
            match &mut self.chunk {
                Chunk::Size => {
                    let Some(line) =
                        take_line(rest, MAX_CHUNK_LINE, (400, "the chunk-size line is too long"))?
                    else {
                        return Ok((used, false));
                    };
                    used += line.len() + 2;
                    let size = chunk_size(line)?;
                    if size > (limit - self.body.len()) as u64 {
                        return reject(413, "the body is longer than this server takes");
                    }
                    self.chunk = match size {
                        0 => Chunk::Trailer { fields: 0, bytes: 0 },
                        _ => Chunk::Data(size as usize),
                    };
                }
                Chunk::Data(left) => {
                    let taken = rest.len().min(*left);
                    self.body.extend_from_slice(&rest[..taken]);
                    used += taken;
                    *left -= taken;
                    if *left > 0 {
                        return Ok((used, false));
                    }
                    self.chunk = Chunk::DataEnd;
                }
                Chunk::DataEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        used += 2;
                        self.chunk = Chunk::Size;
                    }
                    [] | [b'\r'] => return Ok((used, false)),
                    _ => return reject(400, "a chunk is longer than its size"),
                },
                Chunk::Trailer { fields, bytes } => {
                    let too_long = (431, "the trailer is longer than 32 KiB");
                    let Some(line) = take_line(rest, MAX_FIELD_BYTES - *bytes, too_long)? else {
                        return Ok((used, false));
                    };
                    used += line.len() + 2;
                    if line.is_empty() {
                        return Ok((used, true));
                    }
                    *bytes = (*bytes + line.len()).min(MAX_FIELD_BYTES);
                    *fields += 1;
                    if *fields > MAX_FIELDS {
                        return reject(431, "the trailer has more than 100 fields");
                    }
                    head::check_trailer_field(line)?;
                }
            }
        }
    }
}

/// The next line without its CRLF, once it is whole; `too_long` when it exceeds `max`, 400 when it ends in a bare LF.
fn take_line<'a>(
    unread: &'a [u8],
    max: usize,
    too_long: (u16, &'static str),
) -> Result<Option<&'a [u8]>, Reject> {
    let (found, len) = match unread.iter().position(|b| *b == b'\n') {
        Some(end) => (true, end),
        None => (false, unread.len()),
    };
    if len > max + 1 {
        return reject(too_long.0, too_long.1);
    }
    match unread[..len].strip_suffix(b"\r") {
        _ if !found => Ok(None),
        Some(line) => Ok(Some(line)),
        None => reject(400, "a line of the chunked body does not end in CRLF"),
    }
}

/// `chunk-size [ chunk-ext ]`: 1 to 15 hexadecimal digits and nothing that could be read in two ways.
fn chunk_size(line: &[u8]) -> Result<u64, Reject> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    let (size, extension) = line.split_at(digits);
    let plain = extension.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
    if !(1..=15).contains(&digits) || !plain || !matches!(extension.first(), None | Some(b';')) {
        return reject(400, "the chunk size is not a hexadecimal number");
    }
    Ok(size.iter().fold(0, |n, b| n * 16 + u64::from(char::from(*b).to_digit(16).unwrap_or(0))))
}
