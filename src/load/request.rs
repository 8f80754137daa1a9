//! What is sent: heads of requests rendered once, with a hole for the id, and which of them an id gets.
//!
//! Per request only the id's digits (and, rarely, two more header lines) are copied in. Bodies are
//! registered with the engine at start and never copied. Of a mix, the id decides: a pure function of the
//! seed and the id, whatever the threads and connections. HTTP/1.1 only.

use super::io::BodyId;
use super::rng::mix;
use super::schedule::{Phase, RequestId};

/// A request ready to be sent with any id.
#[derive(Debug, Clone)]
pub struct Template {
    /// Request line and all fixed fields, up to and with `X-Request-Id: `.
    prefix: Vec<u8>,
    head_request: bool,
    body: Option<(BodyId, u64)>,
}

impl Template {
    /// `method target HTTP/1.1` with these fields, in this order. The caller has checked them; `host` is left out
    /// when the fields bring their own Host. `body`: which of the registered bodies follows, and its length.
    pub fn new(
        method: &str,
        target: &str,
        host: &str,
        fields: &[(String, String)],
        body: Option<(BodyId, u64)>,
    ) -> Self {
        let mut prefix = format!("{method} {target} HTTP/1.1\r\n");
        if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            prefix += &format!("Host: {host}\r\n");
        }
        for (name, value) in fields {
            prefix += &format!("{name}: {value}\r\n");
        }
        if let Some((_, length)) = body {
            prefix += &format!("Content-Length: {length}\r\n");
        }
        prefix += "X-Request-Id: ";
        Self {
            prefix: prefix.into_bytes(),
            head_request: method == "HEAD",
            body: body.filter(|(_, length)| *length > 0),
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

    /// The registered body that follows the head, and its length.
    pub fn body(&self) -> Option<(BodyId, u64)> {
        self.body
    }
}

/// The stream that requests are drawn from, in each phase its own.
const DRAWS: [u64; 2] = [0x0064_7261_7773_5f77, 0x0064_7261_7773_5f6d];

/// All requests of a run, and how often each is drawn.
#[derive(Debug, Clone)]
pub struct Requests {
    templates: Vec<Template>,
    /// Sums of the weights up to and with each.
    sums: Vec<u64>,
    seeds: [u64; 2],
}

impl From<Template> for Requests {
    /// One request for all ids.
    fn from(template: Template) -> Self {
        Self::new(vec![(template, 1)], 0)
    }
}

impl Requests {
    /// More than these cannot be told apart in a sample.
    pub const MAX: usize = 1 << 16;

    /// Each with its weight. There is at least one, none weighs nothing, and all together fit a u64.
    pub fn new(weighted: Vec<(Template, u64)>, seed: u64) -> Self {
        assert!((1..=Self::MAX).contains(&weighted.len()), "from one to {} requests", Self::MAX);
        let mut sum = 0u64;
        let mut add = |weight: u64| {
            assert!(weight > 0, "a request that is never drawn");
            sum = sum.checked_add(weight).expect("weights are not that large");
            sum
        };
        let (templates, sums) =
            weighted.into_iter().map(|(template, weight)| (template, add(weight))).unzip();
        Self { templates, sums, seeds: DRAWS.map(|stream| mix(seed, stream)) }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.templates.len()
    }

    /// Which of them `id` sends.
    pub fn draw(&self, id: RequestId) -> u16 {
        let all = match self.sums[..] {
            [] | [_] => return 0,
            [.., all] => all,
        };
        let random = mix(self.seeds[usize::from(id.phase == Phase::Measure)], id.seq);
        let at = ((u128::from(random) * u128::from(all)) >> 64) as u64;
        self.sums.partition_point(|&sum| sum <= at) as u16
    }

    /// One of them.
    pub fn get(&self, index: u16) -> &Template {
        &self.templates[usize::from(index)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &Template, seq: u64, phase: Phase, attempt: u8, close: bool) -> String {
        let mut out = b"left over".to_vec();
        template.render(RequestId { phase, seq }, attempt, close, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_is_complete_and_ends_once() {
        let fields = [("Accept".to_owned(), "*/*".to_owned())];
        let post = Template::new("POST", "/v1/infer", "[::1]:80", &fields, Some((BodyId(2), 7)));
        assert_eq!(
            rendered(&post, 18, Phase::Measure, 1, false),
            "POST /v1/infer HTTP/1.1\r\nHost: [::1]:80\r\nAccept: */*\r\nContent-Length: 7\r\nX-Request-Id: 18\r\n\r\n"
        );
        assert_eq!((post.body(), post.is_head()), (Some((BodyId(2), 7)), false));
    }

    #[test]
    fn a_host_of_the_user_replaces_ours_and_extras_follow_the_id() {
        let fields = [("hOST".to_owned(), "example".to_owned())];
        let head = Template::new("HEAD", "/", "127.0.0.1", &fields, None);
        assert_eq!(
            rendered(&head, 0, Phase::Warmup, 2, true),
            "HEAD / HTTP/1.1\r\nhOST: example\r\nX-Request-Id: w0\r\nX-Attempt: 2\r\nConnection: close\r\n\r\n"
        );
        assert!(head.is_head() && head.body().is_none());
    }
    fn weighing(weights: &[u64], seed: u64) -> Requests {
        let template = Template::new("GET", "/", "x", &[], None);
        Requests::new(weights.iter().map(|&weight| (template.clone(), weight)).collect(), seed)
    }

    #[test]
    fn a_mix_is_drawn_by_weight() {
        let requests = weighing(&[700, 200, 99, 1], 5);
        let mut drawn = [0u32; 4];
        for seq in 0..100_000 {
            drawn[usize::from(requests.draw(RequestId { phase: Phase::Measure, seq }))] += 1;
        }
        // four standard deviations of each count
        for (count, (mean, four_sigma)) in
            drawn.into_iter().zip([(70_000, 580), (20_000, 506), (9_900, 378), (100, 40)])
        {
            assert!(count.abs_diff(mean) <= four_sigma, "{drawn:?}");
        }
    }

    #[test]
    fn a_draw_depends_on_seed_phase_and_seq_alone() {
        let of = |seed, phase| -> Vec<u16> {
            (0..64).map(|seq| weighing(&[1, 1, 1], seed).draw(RequestId { phase, seq })).collect()
        };
        assert_eq!(of(1, Phase::Measure), of(1, Phase::Measure));
        assert_ne!(of(1, Phase::Measure), of(2, Phase::Measure));
        assert_ne!(of(1, Phase::Measure), of(1, Phase::Warmup));
        assert_eq!(weighing(&[3], 9).draw(RequestId { phase: Phase::Measure, seq: 1 }), 0);
    }
}
