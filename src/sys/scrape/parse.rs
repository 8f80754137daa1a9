//! OpenMetrics text 1.0, and Prometheus' text format 0.0.4, which it grew from: samples, one by one. Pure.
//!
//! It reads what servers write, not what the grammar forbids: a line that is no sample is counted and passed over, the order
//! of families is free, `# EOF` may lack. What it needs of memory does not hang on the text: lines and labels are bounded, and
//! nothing is kept. Timestamps and exemplars are read over. Not read: names in quotes (Prometheus 3), the binary formats.
//! Why no library: docs/decisions/0025-openmetrics.md.

use std::fmt::Write;

use crate::facts::scraped::Kind;

/// A longer line is no sample.
const LINE_BYTES: usize = 8 << 10;
/// More labels than this make no sample.
const LABELS: usize = 64;
/// What a family's samples may be called behind its name.
const SUFFIXES: [&str; 8] = ["_total", "_sum", "_count", "_bucket", "_created", "_gsum", "_gcount", "_info"];

/// What was not told to the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Buckets of histograms and times of creation: they multiply series, and say little over time.
    pub left_out: u64,
    /// Lines that are neither samples nor comments.
    pub malformed: u64,
}

/// Tells each sample: its series as `name{label="value",…}` with labels in the order of their names, its kind, its value.
pub fn samples(text: &[u8], mut each: impl FnMut(&str, Kind, f64)) -> Passed {
    let mut passed = Passed::default();
    let (mut family, mut key) = (Family::default(), String::new());
    for line in text.split(|&byte| byte == b'\n') {
        let short = if line.len() <= LINE_BYTES { line } else { b"{" };
        let Ok(line) = std::str::from_utf8(short) else {
            passed.malformed += 1;
            continue;
        };
        let line = line.trim_matches([' ', '\t', '\r']);
        if let Some(comment) = line.strip_prefix('#') {
            if comment.trim() == "EOF" {
                break;
            }
            family = Family::told(comment).unwrap_or(family);
        } else if !line.is_empty() {
            match Sample::read(line) {
                None => passed.malformed += 1,
                Some(sample) => match family.kind(&sample) {
                    None => passed.left_out += 1,
                    Some(kind) => {
                        sample.key(&mut key);
                        each(&key, kind, sample.value);
                    }
                },
            }
        }
    }
    passed
}

/// The family that the last `# TYPE` named.
#[derive(Debug, Clone, Copy, Default)]
struct Family<'a> {
    name: &'a str,
    kind: &'a str,
}

impl<'a> Family<'a> {
    fn told(comment: &'a str) -> Option<Self> {
        let mut words = comment.split_ascii_whitespace();
        (words.next()? == "TYPE").then_some(())?;
        Some(Self { name: words.next()?, kind: words.next()? })
    }

    /// How a sample is read; none if it is left out.
    fn kind(&self, sample: &Sample<'_>) -> Option<Kind> {
        let suffix = sample.name.strip_prefix(self.name).filter(|_| !self.name.is_empty());
        let suffix = suffix.filter(|suffix| suffix.is_empty() || SUFFIXES.contains(suffix));
        match (suffix, self.kind) {
            (Some("_bucket"), "histogram" | "gaugehistogram") => None,
            (Some("_created"), "counter" | "histogram" | "summary") => None,
            (Some("" | "_total"), "counter") => Some(Kind::Counter),
            (Some("_sum" | "_count"), "histogram" | "summary") => Some(Kind::Counter),
            (Some(_), "gauge") => Some(Kind::Gauge),
            // nobody told, but so counters are called
            (None, _) | (_, "unknown" | "untyped") if sample.name.ends_with("_total") => Some(Kind::Counter),
            _ => Some(Kind::Gauge),
        }
    }
}

/// One line.
#[derive(Debug)]
struct Sample<'a> {
    name: &'a str,
    labels: Labels<'a>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (name, rest) = name(line, |c| c == ':')?;
        let (labels, rest) = match rest.trim_start_matches(BLANKS).strip_prefix('{') {
            Some(inside) => labels(inside)?,
            None => (Vec::new(), rest.starts_with(BLANKS).then_some(rest)?),
        };
        let mut words = rest.split(BLANKS).filter(|word| !word.is_empty());
        let value = words.next()?.parse().ok()?;
        let mut next = words.next();
        if next.is_some_and(|timestamp| timestamp.parse::<f64>().is_ok()) {
            next = words.next();
        }
        next.is_none_or(|exemplar| exemplar == "#").then_some(Self { name, labels, value })
    }

    /// Its series.
    fn key(&self, key: &mut String) {
        let mut labels = self.labels.clone();
        labels.sort_unstable();
        key.clear();
        key.push_str(self.name);
        for (at, (name, value)) in labels.iter().enumerate() {
            let _ = write!(key, "{}{name}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            key.push('}');
        }
    }
}

/// Names and values.
type Labels<'a> = Vec<(&'a str, &'a str)>;

const BLANKS: [char; 2] = [' ', '\t'];

/// A name and what follows it.
fn name(text: &str, also: impl Fn(char) -> bool) -> Option<(&str, &str)> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || also(c);
    let end = text.find(|c| !of_name(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    name.starts_with(|c: char| !c.is_ascii_digit()).then_some((name, rest))
}

/// Labels and what follows their brace. Values stay as they are escaped.
fn labels(mut text: &str) -> Option<(Labels<'_>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches(BLANKS);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (label, rest) = name(text, |_| false)?;
        let rest = rest.trim_start_matches(BLANKS).strip_prefix('=')?;
        let value = rest.trim_start_matches(BLANKS).strip_prefix('"')?;
        let end = closing_quote(value)?;
        labels.push((label, &value[..end]));
        if labels.len() > LABELS {
            return None;
        }
        text = value[end + 1..].trim_start_matches(BLANKS);
        text = match text.strip_prefix(',') {
            Some(more) => more,
            None => text.starts_with('}').then_some(text)?,
        };
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<(String, Kind, f64)>, Passed) {
        let mut all = Vec::new();
        let passed = samples(text.as_bytes(), |key, kind, value| all.push((key.to_owned(), kind, value)));
        (all, passed)
    }

    fn one(line: &str) -> Option<(String, f64)> {
        let (all, passed) = read(line);
        assert_eq!(all.len() as u64 + passed.malformed, 1, "{line}");
        all.into_iter().next().map(|(key, _, value)| (key, value))
    }

    #[test]
    fn families_say_what_their_samples_are() {
        let (all, passed) = read(
            "# HELP http_requests Requests.\n# TYPE http_requests counter\nhttp_requests_total{code=\"200\"} 1027 # {trace_id=\"a b\"} 1 2\n\
             http_requests_created{code=\"200\"} 1.5e9\n# TYPE old counter\nold 3 1395066363000\n\
             # TYPE h histogram\nh_bucket{le=\"+Inf\"} 5\nh_count 5\nh_sum 0.5\n\
             # TYPE s summary\ns{quantile=\"0.5\"} 0.1\ns_count 2\n\
             # TYPE temperature_total gauge\ntemperature_total 21\nlone_total 4\nlone 5\n# EOF\nafter 1\n",
        );
        use Kind::{Counter, Gauge};
        let expected = [
            ("http_requests_total{code=\"200\"}", Counter, 1027.0),
            ("old", Counter, 3.0),
            ("h_count", Counter, 5.0),
            ("h_sum", Counter, 0.5),
            ("s{quantile=\"0.5\"}", Gauge, 0.1),
            ("s_count", Counter, 2.0),
            ("temperature_total", Gauge, 21.0),
            ("lone_total", Counter, 4.0),
            ("lone", Gauge, 5.0),
        ];
        assert_eq!(all, expected.map(|(key, kind, value)| (key.to_owned(), kind, value)));
        assert_eq!(passed, Passed { left_out: 2, malformed: 0 });
    }

    #[test]
    fn labels_are_put_in_order_and_keep_their_escapes() {
        let line = r#"m { b = "x\"y\\" , a="}, =\n", } 7"#;
        assert_eq!(one(line), Some((r#"m{a="}, =\n",b="x\"y\\"}"#.to_owned(), 7.0)));
        assert_eq!(one("m{} 1"), Some(("m".to_owned(), 1.0)));
        assert_eq!(one("a:b\t-3.5e-2\r"), Some(("a:b".to_owned(), -0.035)));
        assert_eq!(one("m +Inf").unwrap().1, f64::INFINITY);
        assert!(one("m NaN").unwrap().1.is_nan());
    }

    #[test]
    fn what_is_no_sample_is_counted() {
        let long = format!("m{{a=\"{}\"}} 1", "x".repeat(LINE_BYTES));
        let many = format!("m{{{}}} 1", "a=\"\",".repeat(LABELS + 1));
        for line in [
            "m",
            "m{a=\"b\"",
            "m{a=\"b} 1",
            "m{a=b} 1",
            "m{a=\"b\" c=\"d\"} 1",
            "m one",
            "9m 1",
            "m{9=\"\"} 1",
            "<html>",
            "m 1 x",
            "m 1 2 3",
            "{\"quoted\"} 1",
            "m{a=\"\\\"} 1",
            &long,
            &many,
        ] {
            assert_eq!(one(line), None, "{line}");
        }
        assert_eq!(samples(b"m{a=\"\xff\"} 1\nm 1\n", |_, _, _| {}).malformed, 1);
    }
}
