//! The stub's integration tests: the real server on real sockets, and the real program.
//!
//! One binary, so that there is one link step. Nothing here asserts a tight time: times only order events.

#![allow(clippy::print_stdout)] // figures

mod behavior;
mod crowds;
mod hostile;
mod limits;
mod models;
mod process;
mod protocol;
mod support;
