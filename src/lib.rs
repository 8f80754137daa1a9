//! hairspring: a precision instrument for HTTP latency.
#![deny(unsafe_code)]

pub mod analyze;
pub mod load;
