//! The files of `--requests` and `--replay`, and `--stages`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use clap::Args;
use hairspring::cli::{RunArgs, parse_replay, parse_requests};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_requests(bytes, &[]);
    let _ = parse_replay(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let command = RunArgs::augment_args(clap::Command::new("run"));
        let _ = command.try_get_matches_from(["run", "http://127.0.0.1/", &format!("--stages={text}")]);
    }
});
