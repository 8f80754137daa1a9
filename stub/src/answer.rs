//! Answers and how they look on the wire.
//!
//! Renders status line, fields and body into a buffer. It knows no socket and decides nothing.

use std::io::Write;

use crate::evidence::Record;
use crate::http::{Head, Reject};

/// What of a request decides the form of its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo {
    head_only: bool,
    http10: bool,
    keep_alive: bool,
}

impl ReplyTo {
    pub(crate) fn request(head: &Head) -> Self {
        Self {
            head_only: head.method == crate::http::Method::Head,
            http10: head.http10,
            keep_alive: head.keep_alive,
        }
    }

    /// To bytes that were no request, or to a client that is turned away: the connection closes.
    pub(crate) fn nobody() -> Self {
        Self { head_only: false, http10: false, keep_alive: false }
    }
}

/// An answer, before it is known how it will be sent.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(&'static str, String)>,
    content_type: &'static str,
    pub(crate) body: Vec<u8>,
    /// The evidence of an infer request, to be logged when the answer is written.
    pub(crate) record: Option<Record>,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &impl serde::Serialize) -> Self {
        Self {
            status,
            fields: Vec::new(),
            content_type: "application/json",
            // Only maps with non-string keys fail to serialise; there are none.
            body: serde_json::to_vec(body).unwrap_or_default(),
            record: None,
        }
    }

    pub(crate) fn text(content_type: &'static str, text: String) -> Self {
        Self { status: 200, fields: Vec::new(), content_type, body: text.into_bytes(), record: None }
    }

    pub(crate) fn error(status: u16, reason: &str) -> Self {
        Self::json(status, &serde_json::json!({ "error": reason }))
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Appends the answer to `out` and says whether the connection stays open.
    pub(crate) fn render(&self, to: ReplyTo, closing: bool, unix_seconds: u64, out: &mut Vec<u8>) -> bool {
        let stays = to.keep_alive && !closing;
        let connection = match (stays, to.http10) {
            (false, _) => "Connection: close\r\n",
            (true, true) => "Connection: keep-alive\r\n",
            (true, false) => "",
        };
        // Writing to a Vec cannot fail.
        let _ = write!(
            out,
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{connection}",
            self.status,
            reason_phrase(self.status),
            http_date(unix_seconds),
            self.content_type,
            self.body.len(),
        );
        for (name, value) in &self.fields {
            let _ = write!(out, "{name}: {value}\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if !to.head_only {
            out.extend_from_slice(&self.body);
        }
        stays
    }
}

impl From<Reject> for Answer {
    fn from(reject: Reject) -> Self {
        Self::error(reject.status, reject.reason)
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// IMF-fixdate (RFC 9110 §5.6.7).
fn http_date(unix_seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let days = unix_seconds / 86_400;
    // Civil date from day count, with years that begin in March (H. Hinnant's algorithm).
    let z = days + 719_468;
    let (era, day_of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let time = unix_seconds % 86_400;
    format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        time / 3_600,
        time / 60 % 60,
        time % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_rfc_9110_says() {
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(951_782_399), "Mon, 28 Feb 2000 23:59:59 GMT");
        assert_eq!(http_date(951_782_400), "Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(4_102_444_800), "Fri, 01 Jan 2100 00:00:00 GMT");
    }

    #[test]
    fn an_answer_says_whether_the_connection_stays() {
        let to = |head_only, http10, keep_alive| ReplyTo { head_only, http10, keep_alive };
        let render = |to, closing| {
            let mut out = Vec::new();
            let stays = Answer::error(404, "x").with("Allow", "GET").render(to, closing, 0, &mut out);
            (stays, String::from_utf8(out).expect("ASCII"))
        };
        let (stays, text) = render(to(false, false, true), false);
        assert!(
            stays && text.starts_with("HTTP/1.1 404 Not Found\r\nDate: ") && !text.contains("Connection")
        );
        assert!(text.ends_with("Content-Length: 13\r\nAllow: GET\r\n\r\n{\"error\":\"x\"}"));
        let (stays, text) = render(to(true, true, true), false);
        assert!(stays && text.contains("Connection: keep-alive\r\n") && text.ends_with("\r\n\r\n"));
        let (stays, text) = render(to(false, false, true), true);
        assert!(!stays && text.contains("Connection: close\r\n"));
    }
}
