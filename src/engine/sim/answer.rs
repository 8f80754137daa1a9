//! What the scripted server answers: bytes, the pieces they come in, how it ends, and whether the client has any excuse
//! for not taking it as a success.

use std::ops::Range;

use super::dice::Dice;
use super::world::Faults;
use crate::load::time::Nanos;

/// One answer, ready to be put on the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// In order, with the pause before each.
    pub(super) pieces: Vec<(Nanos, Vec<u8>)>,
    /// The piece that brings the first byte of the final head.
    pub(super) begins_with: Option<usize>,
    pub(super) ending: Ending,
    /// The piece that makes it whole (one beyond the last: the ending does); `None` if nothing does, or if it is wrong.
    pub(super) whole_with: Option<usize>,
    /// Nothing is wrong with it, and nothing goes wrong with the connection because of it.
    pub(super) clean: bool,
    /// It says that the connection ends with it.
    pub(super) last: bool,
    /// The piece that makes it whole brings bytes that do not belong to it.
    pub(super) surplus: bool,
}

/// What happens to the connection after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It stays open.
    Open,
    /// It stays open, but nothing comes any more.
    Silence,
    /// The server closes it.
    Fin,
    /// The server resets it.
    Rst,
}

/// What an answer depends on.
pub(super) struct Question<'a> {
    pub(super) id: &'a str,
    pub(super) closing: bool,
    pub(super) queue: Nanos,
    pub(super) service: Nanos,
    pub(super) body_max: usize,
}

/// Bytes before they are cut.
struct Text {
    bytes: Vec<u8>,
    status: u16,
    /// Where the final head begins and ends.
    head: Range<usize>,
    right: bool,
    until_close: bool,
    closing: bool,
}

const PAUSE_MAX: Nanos = Nanos::from_millis(60);
const GAP_MAX: Nanos = Nanos::from_millis(1);
const BYTE_GAP_MAX: Nanos = Nanos::from_micros(20);

/// Makes up an answer.
pub(super) fn compose(question: &Question<'_>, faults: &Faults, dice: &mut Dice) -> Answer {
    let Text { mut bytes, status, head, right, until_close, closing } = text(question, faults, dice);
    let whole = bytes.len();
    let mut ending = if closing || until_close { Ending::Fin } else { Ending::Open };
    let mut clean = right;
    if dice.strikes("surplus", faults.surplus) && !until_close {
        clean = false;
        match dice.below(2) {
            0 => bytes.extend_from_slice(b"nobody asked for this"),
            _ => bytes.extend_from_within(..whole),
        }
    }
    for (fault, rate, early_end) in [
        ("reset", faults.reset, Ending::Rst),
        ("fin", faults.fin, Ending::Fin),
        ("stall", faults.stall, Ending::Silence),
    ] {
        if dice.strikes(fault, rate) {
            bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize);
            (ending, clean) = (early_end, false);
        }
    }
    // The end of the stream ends a close-delimited body wherever it is cut.
    let arrives =
        if until_close { bytes.len() >= head.end && ending == Ending::Fin } else { bytes.len() >= whole };
    let pieces = cut(bytes, whole, faults, dice);
    let whole_with =
        (right && arrives).then(|| if until_close { pieces.len() } else { reach(&pieces, whole).0 });
    let sent: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
    Answer {
        status,
        begins_with: (sent > head.start).then(|| reach(&pieces, head.start + 1).0),
        surplus: sent > whole && reach(&pieces, whole).1 > whole,
        last: closing || until_close,
        pieces,
        ending,
        whole_with,
        clean,
    }
}

fn text(question: &Question<'_>, faults: &Faults, dice: &mut Dice) -> Text {
    let mut bytes = Vec::with_capacity(256);
    if dice.strikes("garbage", faults.garbage) {
        bytes.extend_from_slice(b"SSH-2.0-this is not HTTP\r\n");
        return Text {
            head: 0..bytes.len(),
            bytes,
            status: 0,
            right: false,
            until_close: false,
            closing: false,
        };
    }
    if dice.strikes("interim", faults.interim) {
        for _ in 0..=dice.below(3) {
            bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n");
        }
    }
    let (status, reason) = if dice.strikes("unavailable", faults.unavailable) {
        (503, "Service Unavailable")
    } else {
        (200, "OK")
    };
    let wrong = dice.strikes("wrong_id", faults.wrong_id);
    let closing = question.closing || dice.strikes("closing", faults.closing);
    let until_close = dice.strikes("until_close", faults.until_close);
    let chunked = dice.strikes("chunked", faults.chunked) && !until_close;
    let body = vec![b'.'; dice.below(question.body_max as u64 + 1) as usize];
    let mut head = format!(
        "HTTP/1.1 {status} {reason}\r\nX-Request-Id: {}{}\r\n",
        question.id,
        if wrong { "9" } else { "" }
    );
    head += &format!(
        "Server-Timing: queue;dur={}, service;dur={}\r\n",
        milliseconds(question.queue),
        milliseconds(question.service)
    );
    if closing {
        head += "Connection: close\r\n";
    }
    match (until_close, chunked) {
        (true, _) => {}
        (_, true) => head += "Transfer-Encoding: chunked\r\n",
        _ => head += &format!("Content-Length: {}\r\n", body.len()),
    }
    let begin = bytes.len();
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    let head = begin..bytes.len();
    if chunked {
        for chunk in body.chunks(1 + dice.below(64) as usize) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(&body);
    }
    Text { bytes, status, head, right: !wrong, until_close, closing }
}

/// Cuts `bytes` into the pieces in which they travel; what lies behind `whole` is surplus.
fn cut(bytes: Vec<u8>, whole: usize, faults: &Faults, dice: &mut Dice) -> Vec<(Nanos, Vec<u8>)> {
    let bytewise = dice.strikes("bytewise", faults.bytewise);
    let mut at: Vec<usize> = match bytewise {
        true => (0..bytes.len()).collect(),
        false if dice.strikes("split", faults.split) => {
            (0..=dice.below(4)).map(|_| dice.below(bytes.len() as u64 + 1) as usize).collect()
        }
        false => Vec::new(),
    };
    if whole < bytes.len() && dice.chance(500) {
        at.push(whole);
    }
    at.push(0);
    at.push(bytes.len());
    at.sort_unstable();
    at.dedup();
    let gap = if bytewise { BYTE_GAP_MAX } else { GAP_MAX };
    let mut pieces: Vec<(Nanos, Vec<u8>)> = at
        .windows(2)
        .enumerate()
        .map(|(i, ends)| {
            (if i == 0 { Nanos::ZERO } else { dice.up_to(gap) }, bytes[ends[0]..ends[1]].to_vec())
        })
        .collect();
    if !pieces.is_empty() && dice.strikes("pause", faults.pause) {
        let at = dice.below(pieces.len() as u64) as usize;
        pieces[at].0 += dice.up_to(PAUSE_MAX);
    }
    pieces
}

/// The piece with which the first `length` bytes are there, and how many there are then.
fn reach(pieces: &[(Nanos, Vec<u8>)], length: usize) -> (usize, usize) {
    let mut sum = 0;
    let with = pieces.iter().position(|(_, bytes)| {
        sum += bytes.len();
        sum >= length
    });
    (with.expect("the caller saw that they are sent"), sum)
}

/// `dur` of Server-Timing, exact to the nanosecond.
fn milliseconds(time: Nanos) -> String {
    format!("{}.{:06}", time.0 / 1_000_000, time.0 % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question<'_> =
        Question { id: "7", closing: false, queue: Nanos(5), service: Nanos(1_500_000), body_max: 0 };

    #[test]
    fn without_faults_an_answer_is_one_piece() {
        let answer = compose(&QUESTION, &Faults::default(), &mut Dice::new(1));
        let expected = "HTTP/1.1 200 OK\r\nX-Request-Id: 7\r\n\
             Server-Timing: queue;dur=0.000005, service;dur=1.500000\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(answer.pieces, [(Nanos::ZERO, expected.as_bytes().to_vec())]);
        assert_eq!((answer.whole_with, answer.ending, answer.clean), (Some(0), Ending::Open, true));
    }

    #[test]
    fn a_cut_answer_is_the_same_bytes() {
        let faults = Faults { split: 1_000, bytewise: 200, pause: 500, ..Faults::default() };
        let whole = compose(&QUESTION, &Faults::default(), &mut Dice::new(1)).pieces.remove(0).1;
        for seed in 0..200 {
            let answer = compose(&QUESTION, &faults, &mut Dice::new(seed));
            let joined: Vec<u8> = answer.pieces.iter().flat_map(|(_, bytes)| bytes.clone()).collect();
            assert_eq!(joined, whole);
            assert!(answer.pieces.iter().all(|(_, bytes)| !bytes.is_empty()));
            assert_eq!(answer.whole_with, Some(answer.pieces.len() - 1));
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_is_whole_only_if_nothing_is_missing() {
        let faults = Faults { fin: 1_000, until_close: 500, surplus: 300, ..Faults::default() };
        let question = Question { body_max: 40, ..QUESTION };
        let answers: Vec<Answer> =
            (0..500).map(|seed| compose(&question, &faults, &mut Dice::new(seed))).collect();
        assert!(answers.iter().all(|a| !a.clean && a.ending == Ending::Fin));
        let whole = answers.iter().filter(|a| a.whole_with.is_some()).count();
        assert!((50..450).contains(&whole), "{whole}");
    }
}
