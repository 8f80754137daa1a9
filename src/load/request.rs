//! What is sent: the head of a request rendered once, with a hole for the id.
//!
//! Per request only the id's digits (and, rarely, two more header lines) are copied in. The body is
//! registered with the engine at start and never copied. HTTP/1.1 only; one request for all ids (a
//! mix by (seed, seq) would be a table of these).

use super::schedule::RequestId;

/// A request ready to be sent with any id.
#[derive(Debug, Clone)]
pub struct Template {
    /// Request line and all fixed fields, up to and with `X-Request-Id: `.
    prefix: Vec<u8>,
    head_request: bool,
    has_body: bool,
}

impl Template {
    /// `method target HTTP/1.1` with these fields, in this order. The caller has checked them; `host` is left out
    /// when the fields bring their own Host.
    pub fn new(
        method: &str,
        target: &str,
        host: &str,
        fields: &[(String, String)],
        body_length: Option<usize>,
    ) -> Self {
        let mut prefix = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            prefix += &format!("Host: {host}\r\n");
        }
        for (name, value) in fields {
            prefix += &format!("{name}: {value}\r\n");
        }
        if let Some(length) = body_length {
            prefix += &format!("Content-Length: {length}\r\n");
        }
        prefix += "X-Request-Id: ";
        Self {
            prefix: prefix.into_bytes(),
            head_request: method == "HEAD",
            has_body: body_length.is_some_and(|length| length > 0),
        }
    }

    /// Renders the head for `id` into `out`, which is cleared first. `close`: ask the server to close after the answer.
    /// A retry says so in `X-Attempt`.
    pub fn render(&self, id: RequestId, attempt: u8, close: bool, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(id.text(&mut [0; RequestId::TEXT_MAX]));
        if attempt > 1 {
            out.extend_from_slice(b"\r\nX-Attempt: ");
            out.push(b'0' + attempt);
        }
        if close {
            out.extend_from_slice(b"\r\nConnection: close");
        }
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// True for HEAD, whose answer has no body whatever its header says.
    pub fn is_head(&self) -> bool {
        self.head_request
    }

    /// True if the registered body follows the head.
    pub fn has_body(&self) -> bool {
        self.has_body
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::Phase;

    fn rendered(template: &Template, seq: u64, phase: Phase, attempt: u8, close: bool) -> String {
        let mut out = b"left over".to_vec();
        template.render(RequestId { phase, seq }, attempt, close, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_complete_and_ends_once() {
        let fields = [("Accept".to_owned(), "*/*".to_owned())];
        let post = Template::new("POST", "/v1/infer", "[::1]:80", &fields, Some(7));
        assert_eq!(
            rendered(&post, 18, Phase::Measure, 1, false),
            "POST /v1/infer HTTP/1.1\r\nHost: [::1]:80\r\nAccept: */*\r\nContent-Length: 7\r\nX-Request-Id: 18\r\n\r\n"
        );
        assert!(post.has_body() && !post.is_head());
    }

    #[test]
    fn a_host_of_the_user_replaces_ours_and_extras_follow_the_id() {
        let fields = [("hOST".to_owned(), "example".to_owned())];
        let head = Template::new("HEAD", "/", "127.0.0.1", &fields, None);
        assert_eq!(
            rendered(&head, 0, Phase::Warmup, 2, true),
            "HEAD / HTTP/1.1\r\nhOST: example\r\nX-Request-Id: w0\r\nX-Attempt: 2\r\nConnection: close\r\n\r\n"
        );
        assert!(head.is_head() && !head.has_body());
    }
}
