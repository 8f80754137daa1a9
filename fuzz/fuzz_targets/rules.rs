//! SLA rules: what is accepted reads the same once it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use hairspring::analyze::gate::Rule;

fuzz_target!(|text: &str| {
    if let Ok(rule) = text.parse::<Rule>() {
        assert_eq!(rule.to_string().parse::<Rule>(), Ok(rule));
    }
});
