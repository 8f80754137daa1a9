//! hairspring: a precision instrument for HTTP latency.
#![deny(unsafe_code)]

pub mod analyze;
pub mod engine;
pub mod facts;
pub mod load;
pub mod plan;
pub mod record;
pub mod run;
pub mod sys;
pub mod worker;
