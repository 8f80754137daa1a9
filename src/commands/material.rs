//! Reads the files that plans name, once and before any load, and notes in the plans what was in them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

use hairspring::cli::{parse_replay, parse_requests};
use hairspring::load::schedule::Load;
use hairspring::load::time::Nanos;
use hairspring::plan::{Body, Material, Outgoing, Plan};
use hairspring::preset;
use xxhash_rust::xxh64::{Xxh64, xxh64};

use super::Failure;

/// The material of `plans`; a replay's table is read once and shared by those that name it.
pub(super) fn read(plans: Vec<Plan>) -> Result<Vec<(Plan, Material)>, Failure> {
    let mut replays: HashMap<String, Replay> = HashMap::new();
    let mut all = Vec::with_capacity(plans.len());
    for mut plan in plans {
        let mut offsets = None;
        if let Load::Replay { file, rows, digest } = &mut plan.load {
            if !replays.contains_key(file) {
                replays.insert(file.clone(), read_replay(file)?);
            }
            let replay = &replays[file];
            *rows = replay.offsets.len() as u64;
            digest.clone_from(&replay.digest);
            offsets = Some(Arc::clone(&replay.offsets));
        }
        let requests = read_requests(&mut plan)?;
        all.push((plan, Material { requests, replay: offsets }));
    }
    Ok(all)
}

fn read_requests(plan: &mut Plan) -> Result<Vec<Outgoing>, Failure> {
    if let Some(mix) = &mut plan.mix {
        let failed = |why: String| Failure::environment(format!("--requests {}: {why}", mix.file));
        let bytes = match preset::mix_lines(&mix.file) {
            Some(lines) => lines.into_bytes(),
            None => std::fs::read(&mix.file).map_err(|error| failed(error.to_string()))?,
        };
        let requests = parse_requests(&bytes, &plan.request.headers).map_err(failed)?;
        mix.digest = format!("{:016x}", xxh64(&bytes, 0));
        mix.requests = requests.iter().map(Outgoing::row).collect();
        return Ok(requests);
    }
    let request = &plan.request;
    let body = match &request.body {
        Body::None => None,
        Body::Text { text } => Some(text.clone().into_bytes()),
        Body::File { path } => Some(
            std::fs::read(path)
                .map_err(|error| Failure::environment(format!("cannot read --body-file {path}: {error}")))?,
        ),
    };
    let (method, fields) = (request.method.clone(), request.headers.clone());
    Ok(vec![Outgoing { method, target: None, fields, body, weight: 1 }])
}

struct Replay {
    offsets: Arc<[Nanos]>,
    digest: String,
}

fn read_replay(path: &str) -> Result<Replay, Failure> {
    let failed = |why: String| Failure::environment(format!("--replay {path}: {why}"));
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut hashing = Hashing { inner: file, hash: Xxh64::new(0) };
    let offsets = parse_replay(BufReader::new(&mut hashing)).map_err(failed)?;
    Ok(Replay { offsets: offsets.into(), digest: format!("{:016x}", hashing.hash.digest()) })
}

/// Digests what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Xxh64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(&buffer[..n]);
        Ok(n)
    }
}
