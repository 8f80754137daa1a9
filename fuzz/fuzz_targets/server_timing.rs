//! Server-Timing fields.
#![no_main]

use libfuzzer_sys::fuzz_target;
use hairspring::load::server_timing::ServerTiming;

fuzz_target!(|bytes: &[u8]| ServerTiming::default().append(bytes));
