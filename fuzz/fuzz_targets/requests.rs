//! The stub's request reader: whole and in pieces a stream must read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| hairspring_stub::fuzz_reader(input.1, usize::from(input.0)));
