//! The functional tests: the real binary against real sockets, on loopback alone.
//!
//! One test binary, so that it links once. `support` is the harness; each other module is one subject:
//! - `conformance`: answers that other people's parsers are tested with, however they are cut;
//! - `attribution`: labelled scenarios, and what is said to be wrong with them;
//! - `cli`: what is refused before anything is measured, and how it says so;
//! - `confirm`: what `--confirm` changes, what it predicts and what it makes of the measurement;
//! - `e2e`: every threading model under every load, every kind of answer, both commands;
//! - `faults`: what servers, disks and users do to a run in progress;
//! - `formats`: the files, recomputed from the CSV by a second implementation;
//! - `fuzz`: readers of other people's bytes, with bytes gone wrong, and the round trip of every file;
//! - `golden`: the texts of reports, from made-up samples;
//! - `foreign`: servers (nginx, Apache, HAProxy, …) and clients (curl, wrk, …) as the other end, HdrHistogram's Python port as the reader;
//! - `memory`: it does not grow with the number of requests;
//! - `presets`: each scenario in a fraction of its time, and what it says;
//! - `statistics`: coverage of intervals, wrong verdicts, false alarms and power, by simulation;
//! - `security`: terminals that are not steered, environments that are not passed on, memory errors under valgrind;
//! - `simulation`: the whole load path in virtual worlds, by seed;
//! - `tidy`: the walls between the rooms, read from the source text;
//! - `validity`: each rule of the verdict at each level, from made-up runs.
//!
//! No test asserts a tight time: the machine is shared. A program that is missing is skipped with a line that
//! begins with `SKIPPED:`.
#![allow(clippy::print_stderr, clippy::print_stdout)] // where a failed test left its files; figures

mod attribution;
mod cli;
mod confirm;
mod conformance;
mod e2e;
mod faults;
mod foreign;
mod formats;
mod fuzz;
mod golden;
mod memory;
mod presets;
mod security;
mod simulation;
mod statistics;
mod support;
mod tidy;
mod validity;
