//! What each request is answered: routing, the infer handler, health and stats.
//!
//! The same for every threading model. `route` is quick and may run in a reactor; `infer` takes the service time and
//! runs wherever the model does its work.

use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::json;

use crate::answer::Answer;
use crate::clock;
use crate::evidence::{Arrival, Record};
use crate::history::Begun;
use crate::http::{Head, Method, Request, RequestId};
use crate::metrics;
use crate::shared::Shared;
use crate::work;

/// An admitted infer request, ready to be served.
#[derive(Debug)]
pub(crate) struct Infer {
    id: Option<String>,
    body: Vec<u8>,
    known: usize,
    arrival: Arrival,
}

/// What routing came to.
#[derive(Debug)]
pub(crate) enum Routed {
    /// Answered at once.
    Answer(Answer),
    /// To be served, which takes the service time.
    Infer(Infer),
}

/// Answers what needs no service; checks the rate limit of what does.
pub(crate) fn route(shared: &Shared, request: Request, arrival: Arrival) -> Routed {
    if let Some(refusal) = refuse(&request.head) {
        return Routed::Answer(refusal);
    }
    let Head { path, request_id, .. } = request.head;
    let id = match request_id {
        RequestId::Absent => None,
        RequestId::Valid(id) => Some(id),
        RequestId::Invalid => {
            let answer =
                Answer::error(400, "X-Request-Id must be one value of 1 to 128 visible ASCII characters");
            let infer = Infer { id: None, body: Vec::new(), known: 0, arrival };
            return Routed::Answer(if path == INFER { infer.refused(answer) } else { answer });
        }
    };
    if path == INFER {
        let infer = Infer { id, body: request.body, known: request.known, arrival };
        if let Some(wait) = shared.history.not_ready_for() {
            return Routed::Answer(infer.refused(retry_after(503, STARTING, wait)));
        }
        return match shared.rate_limit.as_ref().map_or(Ok(()), |limit| limit.admit(clock::now())) {
            Ok(()) => Routed::Infer(infer),
            Err(wait) => Routed::Answer(infer.refused(retry_after(429, "the rate limit is reached", wait))),
        };
    }
    let answer = match path.as_str() {
        "*" => Answer::json(200, &json!({})).with("Allow", "GET, HEAD, POST, OPTIONS"),
        STATS => Answer::json(200, &shared.counts()),
        METRICS => Answer::text(metrics::CONTENT_TYPE, metrics::render(&shared.counts(), shared.started)),
        "/health/startup" | "/health/ready" if shared.history.not_ready_for().is_some() => {
            Answer::error(503, STARTING)
        }
        _ => Answer::json(200, &json!({ "status": "ok" })),
    };
    Routed::Answer(echo(answer, id.as_deref()))
}

/// Refuses by the head alone: unknown method, unknown path, wrong method.
pub(crate) fn refuse(head: &Head) -> Option<Answer> {
    let allow = match head.path.as_str() {
        INFER => "POST",
        "/health/live" | "/health/ready" | "/health/startup" | STATS | METRICS => "GET, HEAD",
        "*" => "OPTIONS",
        _ => "",
    };
    let allowed = match head.method {
        Method::Unknown => return Some(Answer::error(501, "the method is not known")),
        Method::Get | Method::Head => "GET, HEAD",
        Method::Post => "POST",
        Method::Options => "OPTIONS",
        Method::Other => "",
    };
    if allow.is_empty() {
        return Some(Answer::error(404, "there is nothing at this path"));
    }
    (allow != allowed).then(|| Answer::error(405, "the path does not take this method").with("Allow", allow))
}

/// Serves an infer request: takes its service time, within which it makes the payload.
pub(crate) fn infer(shared: &Shared, infer: Infer) -> Answer {
    shared.counters.in_flight.fetch_add(1, Ordering::Relaxed);
    let plan = &shared.plan;
    let key = infer.id.as_deref().unwrap_or("").as_bytes();
    let demand = plan.service.sample(plan.work_seed, key);
    let service = shared.history.service(demand, infer.known, infer.body.len());
    let Arrival { received, read } = infer.arrival;
    let begun = Begun::due(plan.work, service, received.unwrap_or(read));
    let content = Content {
        id: infer.id.as_deref(),
        body_digest: work::digest(&infer.body),
        model: "hairspring-stub",
        payload: work::payload(plan.work_seed, key, plan.payload_bytes),
    };
    let mut answer = echo(Answer::json(200, &content), infer.id.as_deref());
    shared.history.perform(plan.work, service, begun);
    let ended = Begun::end();
    shared.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
    let record = Record { started: Some(begun.at), ended: Some(ended), ..infer.record(200) };
    if let Some(timing) = record.server_timing() {
        answer = answer.with(SERVER_TIMING, timing);
    }
    answer.record = Some(record);
    answer
}

/// Answers an infer request that found the queue full.
pub(crate) fn queue_full(infer: Infer) -> Answer {
    infer.refused(retry_after(503, "the queue is full", 0))
}

/// An answer that says when to come back: whole seconds, at least one.
pub(crate) fn retry_after(status: u16, reason: &str, wait_ns: u64) -> Answer {
    let seconds = wait_ns.div_ceil(1_000_000_000).max(1);
    Answer::error(status, reason).with("Retry-After", seconds.to_string())
}

const INFER: &str = "/v1/infer";
const STATS: &str = "/stats";
const METRICS: &str = "/metrics";
const STARTING: &str = "the server is still starting";
const SERVER_TIMING: &str = "Server-Timing";

/// The answer's body: a pure function of (work seed, request id, body).
#[derive(Serialize)]
struct Content<'a> {
    id: Option<&'a str>,
    body_digest: String,
    model: &'a str,
    payload: String,
}

impl Infer {
    fn record(self, status: u16) -> Record {
        Record { id: self.id.unwrap_or_default(), arrival: self.arrival, status, ..Record::default() }
    }

    /// Gives a refusal the id, the evidence and the log record of this request.
    fn refused(self, answer: Answer) -> Answer {
        let mut answer = echo(answer, self.id.as_deref());
        let record = self.record(answer.status);
        if let Some(timing) = record.server_timing() {
            answer = answer.with(SERVER_TIMING, timing);
        }
        answer.record = Some(record);
        answer
    }
}

fn echo(answer: Answer, id: Option<&str>) -> Answer {
    match id {
        Some(id) => answer.with("X-Request-Id", id),
        None => answer,
    }
}
