//! The head of a request: httparse reads the fields, this file decides what they mean and refuses what is ambiguous.
//!
//! Message framing follows RFC 9112 §6.3, targets §3.2, Host §3.2 as well. No body is read here.

use super::{Reject, reject};

/// The most header or trailer fields; more is 431.
pub(super) const MAX_FIELDS: usize = 100;

/// The longest request id, in visible ASCII characters.
const MAX_ID: usize = 128;

/// The methods this server tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Head,
    Post,
    Options,
    /// Known to HTTP, used by no path here: 405.
    Other,
    /// Not known: 501.
    Unknown,
}

/// What `X-Request-Id` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestId {
    Absent,
    Valid(String),
    /// Longer than 128 bytes, empty, repeated, or with bytes other than visible ASCII.
    Invalid,
}

/// How long the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// The parts of a head that matter to this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// The path without its query; `*` for `OPTIONS *`.
    pub(crate) path: String,
    /// HTTP/1.0, whose clients must be told that a connection stays.
    pub(crate) http10: bool,
    pub(crate) keep_alive: bool,
    pub(crate) request_id: RequestId,
}

/// Parses a whole head, its empty line included: the head, the framing of its body, whether it expects 100.
pub(super) fn parse_head(bytes: &[u8]) -> Result<(Head, Framing, bool), Reject> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len == bytes.len() => {}
        Ok(_) => return reject(400, "the head is malformed"),
        Err(httparse::Error::TooManyHeaders) => {
            return reject(431, "there are more than 100 header fields");
        }
        Err(httparse::Error::Version) if names_other_version(bytes) => {
            return reject(505, "this server speaks HTTP/1.1 and HTTP/1.0");
        }
        Err(_) => return reject(400, "the head is malformed"),
    }
    let method = method(parsed.method.unwrap_or(""));
    let path = path(method, parsed.method == Some("CONNECT"), parsed.path.unwrap_or(""))?;
    let http10 = parsed.version == Some(0);
    let fields = Fields(parsed.headers);
    fields.check_host(http10)?;
    let framing = fields.framing(method, http10)?;
    let expects = fields.expects(http10)?;
    let head =
        Head { method, path, http10, keep_alive: fields.keep_alive(http10), request_id: fields.request_id() };
    Ok((head, framing, expects))
}

/// RFC 9110 `tchar`.
pub(super) fn is_token_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// A trailer field is read only to refuse what is none.
pub(super) fn check_trailer_field(line: &[u8]) -> Result<(), Reject> {
    let name = line.iter().take_while(|b| is_token_byte(**b)).count();
    let value_is_plain = line.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
    if name == 0 || line.get(name) != Some(&b':') || !value_is_plain {
        return reject(400, "a trailer field is malformed");
    }
    Ok(())
}

/// Whether the request line is one but for its version, which is well-formed and none that we speak.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|b| *b == b'\n').next().unwrap_or(head);
    let words: Vec<&[u8]> = line.strip_suffix(b"\r").unwrap_or(line).split(|b| *b == b' ').collect();
    let [_, _, version] = words[..] else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
        && !matches!(version, b"HTTP/1.0" | b"HTTP/1.1")
}

fn method(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "OPTIONS" => Method::Options,
        "PUT" | "DELETE" | "PATCH" | "TRACE" | "CONNECT" => Method::Other,
        _ => Method::Unknown,
    }
}

/// The path of an origin-form or absolute-form target.
fn path(method: Method, connect: bool, target: &str) -> Result<String, Reject> {
    let bad = || reject(400, "the request target is malformed");
    if connect || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return bad();
    }
    if target == "*" {
        return if method == Method::Options { Ok("*".to_owned()) } else { bad() };
    }
    let rest = match target.split_once("://") {
        _ if target.starts_with('/') => target,
        Some((scheme, rest))
            if scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https") =>
        {
            let authority = rest.find(['/', '?']).unwrap_or(rest.len());
            if authority == 0 || !rest[..authority].bytes().all(is_host_byte) {
                return bad();
            }
            &rest[authority..]
        }
        _ => return bad(),
    };
    let path = rest.split('?').next().unwrap_or(rest);
    Ok(match (path, method) {
        ("", Method::Options) => "*".to_owned(),
        ("", _) => "/".to_owned(),
        _ => path.to_owned(),
    })
}

fn is_host_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~:%[]!$&'()*+;=".contains(&b)
}

/// The header fields, with the questions asked of them.
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn values(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |f| f.name.eq_ignore_ascii_case(name)).map(|f| f.value)
    }

    /// The elements of a list-valued field, over all its lines.
    fn elements(&self, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.values(name).flat_map(|v| v.split(|b| *b == b',')).map(<[u8]>::trim_ascii)
    }

    fn check_host(&self, http10: bool) -> Result<(), Reject> {
        let mut hosts = self.values("Host");
        match (hosts.next(), hosts.next()) {
            (None, _) if !http10 => reject(400, "HTTP/1.1 wants a Host field"),
            (_, Some(_)) => reject(400, "there is more than one Host field"),
            (Some(host), _) if !host.iter().copied().all(is_host_byte) => {
                reject(400, "the Host field is malformed")
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 §6.3. Whatever two parties could frame differently is refused.
    fn framing(&self, method: Method, http10: bool) -> Result<Framing, Reject> {
        let mut lengths = self.values("Content-Length");
        let length = lengths.next();
        if self.values("Transfer-Encoding").next().is_some() {
            if http10 {
                return reject(400, "HTTP/1.0 has no Transfer-Encoding");
            }
            if length.is_some() {
                return reject(400, "there is both Content-Length and Transfer-Encoding");
            }
            return self.transfer_coding();
        }
        match length {
            Some(_) if lengths.next().is_some() => reject(400, "there is more than one Content-Length"),
            Some(digits) if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) => {
                reject(400, "Content-Length is not a number")
            }
            // All digits, yet no u64: longer than anything could take.
            Some(digits) => Ok(Framing::Length(
                std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(u64::MAX),
            )),
            None if method == Method::Post => reject(411, "a POST needs Content-Length or chunked coding"),
            None => Ok(Framing::Length(0)),
        }
    }

    fn transfer_coding(&self) -> Result<Framing, Reject> {
        let is_chunked = |coding: &&[u8]| coding.eq_ignore_ascii_case(b"chunked");
        let codings: Vec<&[u8]> = self.elements("Transfer-Encoding").collect();
        match codings.split_last() {
            Some((last, [])) if is_chunked(last) => Ok(Framing::Chunked),
            Some((last, rest)) if is_chunked(last) && !rest.iter().any(|c| is_chunked(c) || c.is_empty()) => {
                reject(501, "chunked is the only transfer coding understood")
            }
            _ => reject(400, "Transfer-Encoding does not end in a single chunked"),
        }
    }

    fn expects(&self, http10: bool) -> Result<bool, Reject> {
        let mut any = false;
        for expectation in self.elements("Expect") {
            if !expectation.eq_ignore_ascii_case(b"100-continue") {
                return reject(417, "100-continue is the only expectation understood");
            }
            any = true;
        }
        Ok(any && !http10)
    }

    fn keep_alive(&self, http10: bool) -> bool {
        let says =
            |option: &str| self.elements("Connection").any(|e| e.eq_ignore_ascii_case(option.as_bytes()));
        !says("close") && (!http10 || says("keep-alive"))
    }

    fn request_id(&self) -> RequestId {
        let mut ids = self.values("X-Request-Id");
        match (ids.next(), ids.next()) {
            (None, _) => RequestId::Absent,
            (Some(id), None) if (1..=MAX_ID).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic) => {
                RequestId::Valid(String::from_utf8_lossy(id).into_owned())
            }
            _ => RequestId::Invalid,
        }
    }
}
