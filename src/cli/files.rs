//! The grammars of the files that flags name: `--requests` (JSON lines) and `--replay` (CSV). Their bytes are handed in;
//! each error names the line.

use std::borrow::Cow;
use std::io::BufRead;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::values::{announces_body, check_field, check_method};
use crate::load::request::Requests;
use crate::load::time::Nanos;
use crate::plan::Outgoing;

/// Weights are kept in millionths, up to a million.
const WEIGHT_UNIT: f64 = 1e6;
const WEIGHT_MAX: f64 = 1e6;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    method: Option<String>,
    path: Option<String>,
    headers: Option<Fields>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    weight: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "headers are {\"Name\": \"value\"} or [[\"Name\", \"value\"]]")]
enum Fields {
    List(Vec<(String, String)>),
    Map(std::collections::BTreeMap<String, String>),
}

/// The requests of a mix, one JSON object a line. `common`: fields that are in every one, unless the line has its own.
pub fn parse_requests(text: &[u8], common: &[(String, String)]) -> Result<Vec<Outgoing>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("not UTF-8: {error}"))?;
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    let requests: Vec<Outgoing> = lines
        .map(|(line, number)| parse_request(line, common).map_err(|why| format!("line {number}: {why}")))
        .collect::<Result<_, _>>()?;
    match requests.len() {
        0 => Err("no request in it: write one JSON object a line, as in {\"path\": \"/\"}".to_owned()),
        n if n > Requests::MAX => Err(format!("{n} requests: at most {}", Requests::MAX)),
        _ => Ok(requests),
    }
}

fn parse_request(line: &str, common: &[(String, String)]) -> Result<Outgoing, String> {
    let parsed: Line<'_> = serde_json::from_str(line).map_err(|error| {
        // the line is known better than "line 1" of a single line
        error.to_string().replace(" at line 1 column", " at column")
    })?;
    let body = parsed.body.map(|raw| body(raw.get())).transpose()?.flatten();
    let method = parsed.method.unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" }.to_owned());
    check_method(&method)?;
    if let Some(path) = &parsed.path
        && (!path.starts_with('/') || !path.bytes().all(|b| b.is_ascii_graphic() && b != b'#'))
    {
        return Err(format!("path {path:?}: begins with / and has no blanks, # or non-ASCII characters"));
    }
    let own = match parsed.headers {
        None => Vec::new(),
        Some(Fields::List(list)) => list,
        Some(Fields::Map(map)) => map.into_iter().collect(),
    };
    let own = own
        .iter()
        .map(|(name, value)| check_field(name, value).map_err(|why| format!("header {name:?}: {why}")))
        .collect::<Result<Vec<_>, _>>()?;
    let replaced = |name: &str| own.iter().any(|(mine, _)| mine.eq_ignore_ascii_case(name));
    let mut fields: Vec<_> = common.iter().filter(|(name, _)| !replaced(name)).cloned().collect();
    fields.extend(own);
    let weight = parsed.weight.unwrap_or(1.0);
    let millionths = (weight * WEIGHT_UNIT).round();
    if !(millionths >= 1.0 && weight <= WEIGHT_MAX) {
        return Err(format!("weight {weight}: from 0.000001 to 1000000; leave out what is never to be sent"));
    }
    let body = body.or_else(|| announces_body(&method).then(Vec::new));
    Ok(Outgoing { method, target: parsed.path, fields, body, weight: millionths as u64 })
}

/// A text is the body itself; any other value is sent as it is written; null is none.
fn body(raw: &str) -> Result<Option<Vec<u8>>, String> {
    if raw == "null" {
        return Ok(None);
    }
    if raw.starts_with('"') {
        let text: String = serde_json::from_str(raw).map_err(|error| format!("body: {error}"))?;
        return Ok(Some(text.into_bytes()));
    }
    Ok(Some(raw.as_bytes().to_vec()))
}

const REPLAY_SYNTAX: &str = "an offset from the start is a number, in nanoseconds, or in the unit of its column: offset_ns, \
                             offset_ms or offset_s";

/// The offsets of a replay: a column of that name, or the first column (nanoseconds) where there is no header.
pub fn parse_replay(mut input: impl BufRead) -> Result<Vec<Nanos>, String> {
    let (mut column, mut unit, mut first) = (0, "ns", true);
    let mut offsets: Vec<Nanos> = Vec::new();
    let (mut line, mut number) = (String::new(), 0);
    loop {
        line.clear();
        number += 1;
        if input.read_line(&mut line).map_err(|error| format!("line {number}: {error}"))? == 0 {
            break;
        }
        let text = line.trim();
        if text.is_empty() {
            continue;
        }
        if std::mem::take(&mut first) && !text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            (column, unit) =
                offset_column(text).ok_or_else(|| format!("line {number}: {text:?}: {REPLAY_SYNTAX}"))?;
            continue;
        }
        let field = nth_field(text, column);
        let offset: Nanos = format!("{field}{unit}")
            .parse()
            .map_err(|_| format!("line {number}: {field:?}: {REPLAY_SYNTAX}"))?;
        if let Some(&last) = offsets.last().filter(|&&last| last > offset) {
            let (last, offset) = (last.exact(), offset.exact());
            return Err(format!("line {number}: {offset} comes after {last}: offsets are sorted"));
        }
        offsets.push(offset);
    }
    if offsets.is_empty() {
        return Err("no offset in it".to_owned());
    }
    Ok(offsets)
}

/// Where a header has its column of offsets, and in which unit.
fn offset_column(header: &str) -> Option<(usize, &'static str)> {
    let units = [("offset_ns", "ns"), ("offset_ms", "ms"), ("offset_s", "s")];
    (0..=header.matches(',').count()).find_map(|at| {
        let name = nth_field(header, at);
        units.iter().find(|unit| unit.0 == name).map(|unit| (at, unit.1))
    })
}

/// A field of a CSV line; quotes are rare here, and only then is it taken apart by the book.
fn nth_field(line: &str, column: usize) -> Cow<'_, str> {
    if !line.contains('"') {
        return line.split(',').nth(column).unwrap_or_default().trim().into();
    }
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).trim(csv::Trim::All).from_reader(line.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    record.get(column).unwrap_or_default().to_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_request() {
        let text = br#"{"path": "/a?x=1", "weight": 2.5}

{"method": "PUT", "headers": {"B": "2", "A": "1"}, "body": {"z": 1, "a": [1.0, "x"]}}
{"body": "text", "headers": [["Accept", "x"], ["A", "3"], ["A", "4"]]}
{"method": "POST"}
{"method": "HEAD", "body": null}"#;
        let common = [("accept".to_owned(), "all".to_owned())];
        let requests = parse_requests(text, &common).unwrap();
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let accept = || field("accept", "all");
        let shown: Vec<_> = requests
            .iter()
            .map(|r| (r.method.as_str(), r.target.as_deref(), r.body.as_deref(), r.weight))
            .collect();
        assert_eq!(
            shown,
            [
                ("GET", Some("/a?x=1"), None, 2_500_000),
                ("PUT", None, Some(&br#"{"z": 1, "a": [1.0, "x"]}"#[..]), 1_000_000),
                ("POST", None, Some(&b"text"[..]), 1_000_000),
                ("POST", None, Some(&b""[..]), 1_000_000),
                ("HEAD", None, None, 1_000_000),
            ]
        );
        assert_eq!(requests[0].fields, [accept()]);
        assert_eq!(requests[1].fields, [accept(), field("A", "1"), field("B", "2")]);
        assert_eq!(requests[2].fields, [field("Accept", "x"), field("A", "3"), field("A", "4")]);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (line, says) in [
            (r#"{"path": "/", "wait": 1}"#, "wait"),
            (r#"{"path": "/""#, "column"),
            ("[1]", "column"),
            (r#"{"path": "x"}"#, "begins with /"),
            (r#"{"path": "/ä"}"#, "begins with /"),
            (r##"{"path": "/a#b"}"##, "begins with /"),
            (r#"{"method": "GE T"}"#, "not a method"),
            (r#"{"method": "CONNECT"}"#, "CONNECT"),
            (r#"{"headers": {"X-Request-Id": "1"}}"#, "sets this field itself"),
            (r#"{"headers": {"A": "1\r\nB: 2"}}"#, "line ends"),
            (r#"{"headers": {"A": 1}}"#, "headers are"),
            (r#"{"headers": [["A"]]}"#, "headers are"),
            (r#"{"weight": 0}"#, "weight 0"),
            (r#"{"weight": -1}"#, "weight -1"),
            (r#"{"weight": 1e9}"#, "weight"),
            (r#"{"weight": "1"}"#, "column"),
            (r#"{"path": "/", "path": "/"}"#, "duplicate"),
        ] {
            let error = parse_requests(format!("{{}}\n\n{line}\n").as_bytes(), &[]).unwrap_err();
            assert!(error.starts_with("line 3: ") && error.contains(says), "{line}: {error}");
        }
        assert!(parse_requests(b" \n", &[]).unwrap_err().contains("no request"));
        assert!(parse_requests(b"\xff", &[]).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_replay_is_a_column_of_offsets() {
        let parsed =
            |text: &str| parse_replay(text.as_bytes()).map(|all| all.iter().map(|t| t.0).collect::<Vec<_>>());
        assert_eq!(parsed("0\n5\n5\n1000000000\n"), Ok(vec![0, 5, 5, 1_000_000_000]));
        assert_eq!(parsed("offset_ms\n0.5\n2\n"), Ok(vec![500_000, 2_000_000]));
        assert_eq!(parsed("name, offset_s ,x\na,0,1\nb,1.000000001,2"), Ok(vec![0, 1_000_000_001]));
        assert_eq!(parsed("7,anything\r\n8,else\r\n"), Ok(vec![7, 8]));
        assert_eq!(parsed("\"a,b\",\"offset_ms\"\n\"x, y\",\"3\"\nz,4"), Ok(vec![3_000_000, 4_000_000]));
        for (text, says) in [
            ("", "no offset"),
            ("offset_ns\n", "no offset"),
            ("time\n1\n", "line 1: \"time\""),
            ("offset_h\n1\n", "line 1"),
            ("1\n2\nx\n", "line 3: \"x\""),
            ("1\n\n-2\n", "line 3: \"-2\""),
            ("offset_s\n2\n1.5\n", "line 3: 1.5s comes after 2s"),
            ("a,offset_ns\n1\n", "line 2: \"\""),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }
}
