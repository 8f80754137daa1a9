//! `Server-Timing` (W3C): the four durations a server can tell us about one request.
//!
//! Only what attribution uses is kept: the metrics `recv`, `queue`, `queue-from-read` and `service`,
//! each with its `dur`. Other metrics and parameters are skipped, any bytes are tolerated, nothing is
//! allocated. Where W3C says that a missing or unparsable `dur` counts as 0, it is `None` here: a
//! browser shows a label then, but an absent measurement is not a measurement of zero, and a zero
//! would be added into the attribution as if the server had been infinitely fast.

use super::time::Nanos;

/// What the server said about its own part of the time; `None` where it said nothing usable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerTiming {
    /// `recv`: from the request's first byte in the server to its last.
    pub recv: Option<Nanos>,
    /// `queue`: from received (kernel stamp) until the work started.
    pub queue: Option<Nanos>,
    /// `queue-from-read`: from read (user space) until the work started.
    pub queue_from_read: Option<Nanos>,
    /// `service`: the work itself.
    pub service: Option<Nanos>,
}

impl ServerTiming {
    /// Takes in one field value; several fields of one answer (trailers too) append.
    ///
    /// Of two metrics with one name the first that has a usable `dur` wins. Metric names are
    /// case-sensitive, parameter names are not (both as in browsers).
    pub fn append(&mut self, field: &[u8]) {
        for metric in (Pieces { rest: Some(field), separator: b',' }) {
            let mut parts = Pieces { rest: Some(metric), separator: b';' };
            let slot = match parts.next().map(<[u8]>::trim_ascii) {
                Some(b"recv") => &mut self.recv,
                Some(b"queue") => &mut self.queue,
                Some(b"queue-from-read") => &mut self.queue_from_read,
                Some(b"service") => &mut self.service,
                _ => continue,
            };
            if slot.is_none() {
                *slot = parts.find_map(dur_value).and_then(parse_milliseconds);
            }
        }
    }
}

/// The pieces between separators, where a separator inside a quoted string does not count.
struct Pieces<'a> {
    rest: Option<&'a [u8]>,
    separator: u8,
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.take()?;
        let mut at = 0;
        while let Some(step) = text[at..].iter().position(|b| *b == self.separator || *b == b'"') {
            at += step;
            if text[at] != b'"' {
                self.rest = Some(&text[at + 1..]);
                return Some(&text[..at]);
            }
            at += quoted_len(&text[at..]);
        }
        Some(text)
    }
}

/// How long the quoted string is that `text` begins with, its quotes included if it has both.
fn quoted_len(text: &[u8]) -> usize {
    let mut escaped = false;
    let closes = |byte: &u8| {
        let closes = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    };
    text[1..].iter().position(closes).map_or(text.len(), |inner| inner + 2)
}

/// The value of a `dur` parameter, empty if it has none; `None` for any other parameter.
///
/// The search ends at the first `dur`, whatever its value: W3C lets the first duplicate win even if
/// it is invalid.
fn dur_value(param: &[u8]) -> Option<&[u8]> {
    let param = param.trim_ascii_start();
    let end = |b: &u8| *b == b'=' || b.is_ascii_whitespace();
    let (name, rest) = param.split_at(param.iter().position(end).unwrap_or(param.len()));
    if !name.eq_ignore_ascii_case(b"dur") {
        return None;
    }
    let Some(value) = rest.trim_ascii_start().strip_prefix(b"=") else {
        return Some(b"");
    };
    let value = value.trim_ascii_start();
    // Extraneous text after a value is skipped: after the closing quote, or after a space.
    Some(match value.strip_prefix(b"\"") {
        Some(inner) => match inner.iter().position(|b| *b == b'"') {
            Some(close) => &inner[..close],
            None => b"",
        },
        None => value.split(u8::is_ascii_whitespace).next().unwrap_or(b""),
    })
}

/// Longer than any request may take, and small enough that sums of it cannot overflow.
const LIMIT_NS: u64 = 1_000 * 3_600_000_000_000;

/// Decimal milliseconds to nanoseconds, exactly; what is below a nanosecond is cut off.
///
/// Stricter than the float rules of HTML, which ignore trailing garbage: `12s` would be 12 ms there.
fn parse_milliseconds(text: &[u8]) -> Option<Nanos> {
    let text = text.strip_prefix(b"+").unwrap_or(text);
    let (number, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], parse_exponent(&text[at + 1..])?),
        None => (text, 0),
    };
    // The value is `digits` times ten to the power of `scale`. Eighteen significant digits are enough:
    // the limit has sixteen, so what is dropped lies past the nanosecond.
    let (mut digits, mut scale) = (0u64, exponent + 6);
    let (mut any, mut fraction) = (false, false);
    for &byte in number {
        match byte {
            b'0'..=b'9' => {
                any = true;
                let kept = digits < 10u64.pow(17);
                if kept {
                    digits = digits * 10 + u64::from(byte - b'0');
                }
                scale += i32::from(!kept) - i32::from(fraction);
            }
            b'.' if !fraction => fraction = true,
            _ => return None,
        }
    }
    let power = 10u64.checked_pow(scale.unsigned_abs());
    let ns = match power {
        _ if !any => return None,
        _ if digits == 0 => 0,
        Some(power) if scale >= 0 => digits.checked_mul(power)?,
        None if scale >= 0 => return None,
        Some(power) => digits / power,
        None => 0,
    };
    (ns <= LIMIT_NS).then_some(Nanos(ns))
}

fn parse_exponent(text: &[u8]) -> Option<i32> {
    let short = text.len() <= 5;
    let number = std::str::from_utf8(text).ok().filter(|_| short)?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(fields: &[&[u8]]) -> ServerTiming {
        let mut timing = ServerTiming::default();
        fields.iter().for_each(|field| timing.append(field));
        timing
    }

    fn queue(field: &str) -> Option<u64> {
        parsed(&[field.as_bytes()]).queue.map(|ns| ns.0)
    }

    #[test]
    fn the_four_metrics_and_no_others() {
        let field = b"recv;dur=0.25, queue;dur=12.5, queue-from-read;dur=12, svc;dur=3, service;dur=130";
        let expected = ServerTiming {
            recv: Some(Nanos(250_000)),
            queue: Some(Nanos(12_500_000)),
            queue_from_read: Some(Nanos(12_000_000)),
            service: Some(Nanos(130_000_000)),
        };
        assert_eq!(parsed(&[field]), expected);
        assert_eq!(parsed(&[b"svc;dur=3, Queue;dur=1, queues;dur=2"]), ServerTiming::default());
    }

    #[test]
    fn several_fields_append_and_the_first_metric_wins() {
        let timing = parsed(&[b"queue;dur=1, queue;dur=2", b"queue;dur=3, recv;dur=4"]);
        assert_eq!(timing.queue, Some(Nanos::from_millis(1)));
        assert_eq!(timing.recv, Some(Nanos::from_millis(4)));
        assert_eq!(queue("queue, queue;dur=2"), Some(2_000_000), "the first has no measurement");
    }

    #[test]
    fn w3c_parameters() {
        for (field, expected) in [
            ("queue;dur=1;dur=2", Some(1_000_000)),
            ("queue;dur=x;dur=2", None),
            ("queue;dur;dur=2", None),
            ("queue;dur=;dur=2", None),
            ("queue;dur=\"1.5\"", Some(1_500_000)),
            ("queue;dur=\"1.5\" junk;desc=x", Some(1_500_000)),
            ("queue;dur=\"1.5", None),
            ("queue;dur=1.5 junk", Some(1_500_000)),
            ("queue ; dur = 1.5 ; desc = d", Some(1_500_000)),
            ("queue\t;\tdur\t=\t42\t", Some(42_000_000)),
            ("queue;DuR=1", Some(1_000_000)),
            ("queue;desc=\"a;dur=9,b\\\";dur=8\";dur=1", Some(1_000_000)),
            ("queue;foo=bar;desc=d;foo=bar;dur=1;foo=bar,x", Some(1_000_000)),
            ("queue;dur foo=12", None),
            ("queue;foo dur=12", None),
            ("a, b;desc=\"x,queue;dur=3\"", None),
            ("a, b;desc=\"x,y;z\", queue;dur=3", Some(3_000_000)),
            ("queue==\"\"foo;dur=1", None),
            (";dur=1", None),
            ("", None),
            (",;=,;,\"", None),
            ("queue", None),
        ] {
            assert_eq!(queue(field), expected, "{field}");
        }
    }

    #[test]
    fn milliseconds_are_exact_decimals() {
        for (text, expected) in [
            ("0", Some(0)),
            ("0.1", Some(100_000)),
            ("127.6", Some(127_600_000)),
            ("0.000001", Some(1)),
            ("0.0000019", Some(1)),
            ("0.0000009", Some(0)),
            ("3500000000.000001", Some(3_500_000_000_000_001)), // a double makes …000 of it
            ("+1", Some(1_000_000)),
            (".5", Some(500_000)),
            ("5.", Some(5_000_000)),
            ("1e3", Some(1_000_000_000)),
            ("25E-2", Some(250_000)),
            ("1e-9999", Some(0)),
            ("0e9999", Some(0)),
            ("3600000000", Some(3_600_000_000_000_000)),
            ("3600000000.000001", None),
            ("1e999", None),
            ("99999999999999999999999999999999999999999999", None),
            ("1000000000000000000000000000000000000000e-39", Some(1_000_000)),
            ("0.3333333333333333333333333333333333333333333", Some(333_333)),
            ("-1", None),
            ("-0", None),
            ("NaN", None),
            ("inf", None),
            ("1.2.3", None),
            ("12ms", None),
            ("1e", None),
            ("1e99999999999", None),
            ("0x10", None),
            (".", None),
            ("e5", None),
        ] {
            assert_eq!(parse_milliseconds(text.as_bytes()).map(|ns| ns.0), expected, "{text}");
        }
    }

    #[test]
    fn any_bytes_are_tolerated() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            let mut field = b"queue;dur=\"1.5\";desc=\"a\\\"b\", recv;dur=2e1".to_vec();
            for _ in 0..4 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let at = state as usize % field.len();
                field[at] = (state >> 32) as u8;
            }
            let timing = parsed(&[&field]);
            let sum = timing.queue.unwrap_or_default() + timing.recv.unwrap_or_default();
            assert!(sum.0 <= 2 * LIMIT_NS);
        }
    }
}
