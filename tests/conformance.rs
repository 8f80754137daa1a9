//! Other people's cases for the response decoder, as data: `conformance/*.txt`. Every case is fed whole, cut in two at
//! every byte, and byte by byte, by a fresh decoder and by one that has read all the cases before: one result.
//!
//! The bytes are our own, written from what a case of llhttp or curl is about and what RFC 9110 and 9112 say of it; the
//! case names both. Where the peer is known to judge otherwise the case says why we differ, and docs/CONFORMANCE.md
//! lists it: a deviation that is not documented fails here, and so does one that no longer is one.
//!
//! A case is a block of `key: value` lines, blocks are apart by an empty line, `#` begins a comment:
//! - `case`: its name; `source`: whose case it is (as often as it covers several); `rfc`: the paragraph;
//! - `send`: the next bytes (`\r \n \t \\ \xHH`, nothing else is added); `repeat: N BYTES` sends them N times;
//! - `request: HEAD`: what was asked for, GET otherwise;
//! - `expect`: one line for each answer that is awaited, `STATUS FRAMING REUSE NOTES… "BODY"` with FRAMING `none`,
//!   `length`, `chunked` or `close`, REUSE `keep` or `end`, NOTES `1xx=N`, `fold=N`, `lf`; or `malformed REASON`,
//!   `truncated-head`, `truncated-body`, `nothing`. After the last, `surplus N` for bytes that nobody asked for;
//! - `peer`: `accepts`, `refuses`, or `lenient`: accepts if told to be so; `deviation`: why we do not do as it does.

use std::fs;
use std::path::PathBuf;

use hairspring::load::response::{Decoder, End, Framing, Limits, Progress, Response};
use xxhash_rust::xxh64::xxh64;

/// One block of a file.
#[derive(Debug, Default)]
struct Case {
    name: String,
    sources: Vec<String>,
    rfc: String,
    wire: Vec<u8>,
    head_request: bool,
    /// In the words of `Heard`, bodies as they are.
    expected: Vec<String>,
    peer: String,
    deviation: Option<String>,
}

/// The bytes that `text` stands for.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("\\x{digits} in {text}"))
            }
            other => panic!("\\{other:?} in {text}"),
        });
    }
    bytes
}

fn parse(block: &str) -> Case {
    let mut case = Case::default();
    for line in block.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| panic!("`{line}` in\n{block}"));
        match key {
            "case" => case.name = value.to_owned(),
            "source" => case.sources.push(value.to_owned()),
            "rfc" => case.rfc = value.to_owned(),
            "send" => case.wire.extend(unescaped(value)),
            "repeat" => {
                let (count, text) = value.split_once(' ').unwrap_or_else(|| panic!("{line}"));
                case.wire.extend(unescaped(text).repeat(count.parse().expect("a number")));
            }
            "request" => case.head_request = value == "HEAD",
            "expect" => case.expected.push(value.to_owned()),
            "peer" => case.peer = value.to_owned(),
            "deviation" => case.deviation = Some(value.to_owned()),
            _ => panic!("`{key}` in\n{block}"),
        }
    }
    case
}

/// All cases of all files, sorted by file.
fn cases() -> Vec<Case> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let blocks = text.split("\n\n").map(str::trim);
        cases.extend(blocks.filter(|block| block.lines().any(|line| line.starts_with("case: "))).map(parse));
    }
    cases
}

/// The bytes of every case.
pub(crate) fn wires() -> impl Iterator<Item = Vec<u8>> {
    cases().into_iter().map(|case| case.wire)
}

/// An answer in the words of the files, its body by length and digest.
fn told(response: &Response) -> String {
    let framing = match response.framing {
        Framing::None => "none",
        Framing::Length => "length",
        Framing::Chunked => "chunked",
        Framing::Close => "close",
    };
    let reuse = if response.keep_alive { "keep" } else { "end" };
    let mut told = format!("{} {framing} {reuse}", response.status);
    if response.informational > 0 {
        told += &format!(" 1xx={}", response.informational);
    }
    if response.folded > 0 {
        told += &format!(" fold={}", response.folded);
    }
    if response.bare_lf {
        told += " lf";
    }
    format!("{told} {} {:016x}", response.body_bytes, response.digest.expect("it was asked for"))
}

/// An expectation with its body as `told` gives it.
fn told_of(expectation: &str) -> String {
    match expectation.split_once(" \"") {
        None => expectation.to_owned(),
        Some((words, body)) => {
            let body = unescaped(body.strip_suffix('"').expect("the body is quoted"));
            format!("{words} {} {:016x}", body.len(), xxh64(&body, 0))
        }
    }
}

/// What `decoder` makes of a stream in these pieces, on which `awaited` answers are outstanding.
fn heard<'a>(
    decoder: &mut Decoder,
    case: &Case,
    awaited: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<String> {
    let (mut heard, mut surplus) = (Vec::new(), 0);
    decoder.begin(case.head_request, true);
    for mut piece in pieces {
        loop {
            match decoder.feed(piece, b"") {
                Ok(Progress::Partial) => break,
                Err(reason) => {
                    heard.push(format!("malformed {}", reason.name()));
                    return heard;
                }
                Ok(Progress::Complete { used }) => {
                    piece = &piece[used..];
                    if heard.len() < awaited {
                        heard.push(told(decoder.response()));
                    }
                    if heard.len() == awaited || !decoder.response().keep_alive {
                        surplus += piece.len();
                        break;
                    }
                    decoder.begin(case.head_request, true);
                }
            }
        }
    }
    if heard.len() < awaited {
        heard.push(match decoder.eof() {
            End::Complete => told(decoder.response()),
            End::Nothing => "nothing".to_owned(),
            End::TruncatedHead => "truncated-head".to_owned(),
            End::TruncatedBody => "truncated-body".to_owned(),
        });
    }
    if surplus > 0 {
        heard.push(format!("surplus {surplus}"));
    }
    heard
}

/// True unless the whole stream was taken for the answers that were awaited.
fn refused(case: &Case) -> bool {
    let last = case.expected.last().map_or("", String::as_str);
    ["malformed", "truncated", "nothing", "surplus"].iter().any(|word| last.starts_with(word))
}

#[test]
fn every_case_however_it_is_cut() {
    let mut reused = Decoder::new(Limits::default());
    for case in cases() {
        let awaited = case.expected.iter().filter(|line| !line.starts_with("surplus")).count();
        let expected: Vec<String> = case.expected.iter().map(|line| told_of(line)).collect();
        let mut check = |how: &str, pieces: &[&[u8]]| {
            let fresh = heard(&mut Decoder::new(Limits::default()), &case, awaited, pieces.iter().copied());
            assert_eq!(fresh, expected, "{}, {how}", case.name);
            let again = heard(&mut reused, &case, awaited, pieces.iter().copied());
            assert_eq!(again, expected, "{}, {how}, by a decoder in use", case.name);
        };
        check("whole", &[&case.wire]);
        check("byte by byte", &case.wire.chunks(1).collect::<Vec<_>>());
        // Those of limits are long; the square of their length would take minutes.
        let step = if case.wire.len() > 4_000 { 997 } else { 1 };
        for at in (0..=case.wire.len()).step_by(step) {
            let (left, right) = case.wire.split_at(at);
            check(&format!("cut at {at}"), &[left, right]);
        }
    }
}

#[test]
fn every_case_cites_its_source_and_every_deviation_is_documented() {
    let documented = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFORMANCE.md")).unwrap();
    let cases = cases();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name twice: {names:?}");
    for case in &cases {
        let Case { name, rfc, peer, deviation, .. } = case;
        assert!(!case.sources.is_empty() && !case.expected.is_empty(), "{name}");
        assert!(rfc.contains("9112 §") || rfc.contains("9110 §"), "{name}: {rfc}");
        let differs = match peer.as_str() {
            "accepts" => refused(case),
            "refuses" => !refused(case),
            "lenient" => false,
            _ => panic!("{name}: peer: {peer}"),
        };
        match deviation {
            None => assert!(!differs, "{name}: the peer {peer}; why do we not?"),
            // To a peer in a lenient mode we may differ, or not.
            Some(why) => {
                assert!(differs || peer == "lenient", "{name}: this is no deviation");
                assert!(why.contains('§'), "{name}: a deviation has its paragraph: {why}");
                assert!(documented.contains(&format!("| {name} |")), "docs/CONFORMANCE.md lacks {name}");
            }
        }
    }
    for row in documented.lines().filter_map(|line| line.strip_prefix("| ")) {
        let name = row.split(" |").next().unwrap();
        let listed = cases.iter().any(|case| case.name == name && case.deviation.is_some());
        assert!(
            listed || ["case", "what"].contains(&name),
            "docs/CONFORMANCE.md lists `{name}`, which is no deviation"
        );
    }
    let from = |peer: &str| cases.iter().flat_map(|c| &c.sources).filter(|s| s.starts_with(peer)).count();
    let counts = (from("llhttp "), from("curl "));
    println!("{} cases: llhttp {}, curl {}", cases.len(), counts.0, counts.1);
    assert!(counts.0 >= 76 && counts.1 >= 25, "{counts:?}");
}
