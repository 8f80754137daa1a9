//! What a plan names and files hold: the requests as they go out, and the offsets of a replay. Read by the commands,
//! before any load.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Plan, Url};
use crate::load::io::BodyId;
use crate::load::request::{Requests, Template};
use crate::load::schedule::Offer;
use crate::load::time::Nanos;

/// `--requests`: the mix that requests are drawn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mix {
    /// The file it stands in.
    pub file: String,
    /// xxh64 of the file, 16 hex digits; empty until it was read.
    pub digest: String,
    /// What is in it, in the order of its lines; empty until it was read.
    pub requests: Vec<MixRow>,
}

/// One request of a mix, without its fields and its body, which may be large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixRow {
    /// GET, POST, …
    pub method: String,
    /// Path and query; null where it is that of the URL.
    pub path: Option<String>,
    /// Its share is this over the sum of all.
    pub weight: f64,
    /// Length of its body.
    pub body_bytes: u64,
}

/// A request as it goes out, but for its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// GET, POST, …
    pub method: String,
    /// Path and query; `None` for those of the URL.
    pub target: Option<String>,
    /// Fields of the user, in order.
    pub fields: Vec<(String, String)>,
    /// `None`: no body and no Content-Length.
    pub body: Option<Vec<u8>>,
    /// Its share is this over the sum of all; in millionths.
    pub weight: u64,
}

impl Outgoing {
    /// As the plan shows it.
    pub fn row(&self) -> MixRow {
        MixRow {
            method: self.method.clone(),
            path: self.target.clone(),
            weight: self.weight as f64 / 1e6,
            body_bytes: self.body.as_ref().map_or(0, |body| body.len() as u64),
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// At least one; the body with [`BodyId`] i is that of the i-th.
    pub requests: Vec<Outgoing>,
    /// The offsets of `--replay`, ascending; shared by all threads.
    pub replay: Option<Arc<[Nanos]>>,
}

impl Material {
    /// What engines are given to send.
    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.requests.iter().map(|request| request.body.clone().unwrap_or_default()).collect()
    }

    /// The table of requests to `url`; `seed` is the round's.
    pub fn table(&self, url: &Url, seed: u64) -> Requests {
        let template = |(index, request): (usize, &Outgoing)| {
            let body = request.body.as_ref().map(|body| (BodyId(index as u32), body.len() as u64));
            let target = request.target.as_ref().unwrap_or(&url.target);
            (Template::new(&request.method, target, &url.authority(), &request.fields, body), request.weight)
        };
        Requests::new(self.requests.iter().enumerate().map(template).collect(), seed)
    }

    /// What is offered; `seed` is the round's.
    pub fn offer(&self, plan: &Plan, seed: u64) -> Offer {
        let replay = self.replay.clone();
        Offer { replay, ..Offer::new(plan.load.clone(), plan.warmup, plan.measure, seed) }
    }
}
