//! The stub server of hairspring: it stands in for an inference API whose threading can be chosen and whose work is
//! known.
//!
//! One handler, one request reader, four threading models that differ in nothing but threading. What a request costs
//! and answers is a pure function of (work seed, `X-Request-Id`, body), so two models can be compared on equal work;
//! every answer says, from kernel time stamps, how long its request waited and was served.
//!
//! Reading order: `config` (flags) · `server` (start, stop) · `models` (threading) · `connection` (one client) ·
//! `http` (request reader) · `handler` (answers) · `work` (service times, pure) · `behavior` (ways to be slow, pure) and
//! `history` (what they need to remember) · `admission` (limits) · `evidence`, `log`, `counts`, `metrics` (what is told) · `clock`,
//! `threading`, `sys` (the machine).

#![deny(unsafe_code)]

mod admission;
mod answer;
mod behavior;
mod clock;
mod config;
mod connection;
mod counts;
mod error;
mod evidence;
mod handler;
mod history;
mod http;
mod log;
mod metrics;
mod models;
mod server;
mod shared;
mod sys;
mod threading;
mod work;

use std::io::Write;

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

pub use behavior::{Behavior, Stall, WarmUp};
pub use config::{Args, Config, Cpus, Mode, Model, WorkKind};
pub use counts::Counts;
pub use error::Error;
pub use server::Server;
pub use work::Service;

/// Runs the stub until SIGTERM or SIGINT: warnings go to `err`, the one ready line to `out`.
pub fn run(args: Args, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Error> {
    let config = Config::try_from(args)?;
    for warning in config.warnings() {
        // Nobody may be reading; that is no reason not to serve.
        let _ = writeln!(err, "warning: {warning}");
    }
    // Before anyone can know that the server is there: a signal must not find it without a handler.
    let mut signals =
        Signals::new([SIGTERM, SIGINT]).map_err(|e| Error::environment("cannot await signals", e))?;
    let server = Server::start(config)?;
    writeln!(out, "{}", ready_line(&server))
        .and_then(|()| out.flush())
        .map_err(|e| Error::environment("cannot write the ready line", e))?;
    signals.forever().next();
    let counts = server.stop()?;
    let unfinished = counts.in_flight + counts.queued.unwrap_or(0);
    if unfinished > 0 {
        let _ = writeln!(
            err,
            "warning: {unfinished} requests were unfinished after 5 s and are neither answered nor logged"
        );
    }
    match counts.log_lost {
        Some(lost @ 1..) => Err(Error::Environment(format!(
            "the server log lacks {lost} requests, which came faster than they were written"
        ))),
        _ => Ok(()),
    }
}

/// What the server is, in one line of JSON.
fn ready_line(server: &Server) -> serde_json::Value {
    let config = server.config();
    json!({
        "ready": true,
        "addr": server.addr().to_string(),
        "pid": std::process::id(),
        "model": config.model.name(),
        "workers": config.worker_count(),
        "server_cpus": config.server_cpus,
        "work": config.work.name(),
        "sleep_method": clock::SLEEP_METHOD,
        "spin_method": clock::SPIN_METHOD,
        "service": config.service.to_string(),
        "work_seed": config.work_seed,
        "payload_bytes": config.payload_bytes,
        "queue_limit": config.queue_limit,
        "rate_limit": config.rate_limit,
        "max_connections": config.max_connections,
        "behavior": config.behavior,
        "kernel_stamps": server.counts().kernel_stamps,
    })
}

/// The request reader for `fuzz/`: fed whole and in pieces of `size`, it must come to the same end.
#[cfg(fuzzing)]
pub fn fuzz_reader(bytes: &[u8], size: usize) {
    let end = |pieces: std::slice::Chunks<'_, u8>| {
        let mut reader = http::Reader::new(1 << 16);
        let mut requests = Vec::new();
        for piece in pieces {
            reader.feed(piece);
            loop {
                match reader.next() {
                    http::Progress::NeedMore => break,
                    http::Progress::Expects => {}
                    http::Progress::Reject(reject) => return (requests, Some(reject)),
                    http::Progress::Request(request) => requests.push(request),
                }
            }
        }
        (requests, None)
    };
    assert_eq!(end(bytes.chunks(size.max(1))), end(bytes.chunks(bytes.len().max(1))));
}
