//! Answers: whole and in pieces they must read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use hairspring::load::response::{Decoder, Limits, Malformed, Progress, Response};

fn decoded(bytes: &[u8], head: bool, size: usize) -> (Result<usize, Malformed>, Response) {
    let mut decoder = Decoder::new(Limits::default());
    decoder.begin(head, true);
    let mut used = 0;
    for piece in bytes.chunks(size.max(1)) {
        match decoder.feed(piece, b"7") {
            Ok(Progress::Partial) => used += piece.len(),
            Ok(Progress::Complete { used: last }) => return (Ok(used + last), decoder.response().clone()),
            Err(reason) => return (Err(reason), Response::default()),
        }
    }
    decoder.eof();
    (Ok(used), decoder.response().clone())
}

fuzz_target!(|input: (bool, u8, &[u8])| {
    let (head, size, bytes) = input;
    assert_eq!(decoded(bytes, head, usize::from(size)), decoded(bytes, head, bytes.len()));
});
