//! OpenMetrics and Prometheus text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use hairspring::sys::scrape::parse;

fuzz_target!(|bytes: &[u8]| {
    parse::samples(bytes, |_, _, _| {});
});
