//! hairspring: a precision instrument for HTTP latency. docs/ARCHITECTURE.md is the codemap; in short:
//!
//! [`cli`] turns flags into a [`plan`]; [`run`] makes one round of it: starts the server ([`sys`]), and one [`worker`] per
//! pinned thread wires the [`load`] driver (pure: who sends what when) to an [`engine`] (bytes and stamps) and a
//! [`mod@record`]er. [`analyze`] (pure) says what the figures mean, [`report`] (pure) gives them their forms, [`output`] writes
//! them. [`facts`] is the plain data between.

#![deny(unsafe_code)]

pub mod analyze;
pub mod cli;
pub mod engine;
pub mod facts;
pub mod load;
pub mod output;
pub mod plan;
pub mod preset;
pub mod record;
pub mod report;
pub mod run;
pub mod sys;
pub mod worker;
