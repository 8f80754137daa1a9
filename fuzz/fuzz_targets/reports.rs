//! Saved reports and comparisons: read, judged, written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use hairspring::report::{Comparison, Report, json};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = serde_json::from_slice::<Report>(bytes) {
        let _ = report.judge(&["p95<=800ms".parse().unwrap(), "errors<1%".parse().unwrap()]);
        assert_eq!(serde_json::from_slice::<Report>(&json::render(&report)).unwrap(), report);
    }
    let _ = serde_json::from_slice::<Comparison>(bytes);
});
