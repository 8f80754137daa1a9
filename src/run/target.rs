//! I/O: the target of a round: started, if it is ours to start, its name resolved, and answering.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::RunError;
use crate::engine::{Clock, uring};
use crate::load::rng::mix;
use crate::load::time::Nanos;
use crate::plan::{EnginePlan, Plan, Scrape, ScrapeFrom, Server, Stub, Target, Url};
use crate::sys::affinity;
use crate::sys::clock::Monotonic;
use crate::sys::server::{self, ServerProcess};
use crate::sys::signal::StopFlag;

const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a stub may be starting, and how often it is asked.
const STARTUP_PATIENCE: Nanos = Nanos::from_secs(60);
const STARTUP_PAUSE: Duration = Duration::from_millis(5);
const STARTUP_PATH: &str = "/health/startup";
/// Where the stub answers.
const STUB_PATH: &str = "/v1/infer";

/// A target that answers.
pub(super) struct Running {
    pub(super) process: Option<ServerProcess>,
    pub(super) url: Url,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) ready: Option<Value>,
    /// From its start to its readiness, if it was ours to start.
    pub(super) startup: Option<Nanos>,
}

pub(super) fn start_server(
    plan: &Plan,
    index: u32,
    addresses: &[SocketAddr],
    output: &Path,
    stop: &StopFlag,
) -> Result<Running, RunError> {
    let Target { name, url, server } = &plan.target;
    let began = Monotonic.now();
    let since = || Some(Monotonic.now().saturating_sub(began));
    if let Server::Stub(stub) = server {
        let program = std::env::current_exe()
            .map_err(|source| RunError::Instrument { what: "cannot find our own program", source })?;
        let (process, ready) = ServerProcess::start_stub(&program, &stub_args(stub, name, index), output)?;
        let addr = ready["addr"].as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        let address = addr.ok_or_else(|| RunError::Instrument {
            what: "the stub's ready line has no address",
            source: io::ErrorKind::InvalidData.into(),
        })?;
        let target = url.as_ref().map_or(STUB_PATH, |url| &url.target).to_owned();
        let url = Url { host: address.ip().to_string(), port: address.port(), target };
        // It listens before it serves, as real ones do; a stub without a start-up time has told all by its line.
        if ready["behavior"]["startup_delay_ns"].as_u64().is_some_and(|delay| delay > 0) {
            await_startup(address, stop);
        }
        let startup = since();
        return Ok(Running {
            process: Some(process),
            url,
            addresses: vec![address],
            ready: Some(ready),
            startup,
        });
    }
    let url = url.clone().expect("only a stub has no URL of its own");
    let process = match server {
        Server::Command { command, cpus, clean_env, ready_timeout } => {
            let answers = || answers(&url, addresses);
            if answers() {
                return Err(RunError::Occupied(url.to_string(), name.clone()));
            }
            let patience = Duration::from_nanos(ready_timeout.0);
            let cancelled = || stop.count() > 0;
            Some(ServerProcess::start_command(
                command, cpus, *clean_env, output, patience, answers, cancelled,
            )?)
        }
        _ => None,
    };
    let startup = process.as_ref().and_then(|_| since());
    Ok(Running { process, url, addresses: addresses.to_vec(), ready: None, startup })
}

/// Before any load: the engine asked for is to be had; the addresses of a target that has a URL, resolved once; and nobody
/// may answer yet where a command is to be started.
pub fn look_up(plan: &Plan) -> Result<Vec<SocketAddr>, RunError> {
    if plan.client.engine == EnginePlan::Uring {
        uring::available().map_err(RunError::Engine)?;
    }
    if let Some(Scrape { from: ScrapeFrom::Url(url), .. }) = &plan.scrape {
        resolve(url)?;
    }
    let Some(url) = &plan.target.url else { return Ok(Vec::new()) };
    let addresses = resolve(url)?;
    if matches!(plan.target.server, Server::Command { .. }) && answers(url, &addresses) {
        return Err(RunError::Occupied(url.to_string(), plan.target.name.clone()));
    }
    Ok(addresses)
}

/// Until `/health/startup` is answered 200; a server that never says so is measured as it is.
fn await_startup(address: SocketAddr, stop: &StopFlag) {
    let until = Monotonic.now() + STARTUP_PATIENCE;
    let started =
        || server::get(address, "localhost", STARTUP_PATH, PROBE_PATIENCE).is_ok_and(|(s, _)| s == 200);
    while Monotonic.now() < until && stop.count() == 0 && !started() {
        std::thread::sleep(STARTUP_PAUSE);
    }
}

pub(super) fn answers(url: &Url, addresses: &[SocketAddr]) -> bool {
    addresses.iter().any(|&a| server::get(a, &url.authority(), &url.target, PROBE_PATIENCE).is_ok())
}

/// The command line of the stub in round `index` of target `name`.
pub fn stub_args(stub: &Stub, name: &str, index: u32) -> Vec<String> {
    let mut args: Vec<String> =
        ["stub", "--addr", "127.0.0.1:0", "--model", &stub.model].map(str::to_owned).into();
    let mut flag = |name: &str, value: String| args.extend([format!("--{name}"), value]);
    flag("workers", stub.workers.to_string());
    flag("service", stub.service.clone());
    flag("work", stub.work.clone());
    flag("work-seed", mix(stub.work_seed, u64::from(index)).to_string());
    if !stub.cpus.is_empty() {
        flag("server-cpus", affinity::list(&stub.cpus));
    }
    if let Some(path) = &stub.server_log {
        flag("server-log", server_log_path(path, name, index).display().to_string());
    }
    args.extend(stub.extra.iter().cloned());
    args
}

/// `stamps.csv` of a comparison becomes `stamps-baseline-r0.csv`; of the first round of a plain run it stays as it is.
fn server_log_path(path: &str, name: &str, index: u32) -> PathBuf {
    let path = Path::new(path);
    if name == "target" && index == 0 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{name}-r{index}{extension}"))
}

pub(super) fn resolve(url: &Url) -> Result<Vec<SocketAddr>, RunError> {
    let failed = |source| RunError::Resolve { host: url.host.clone(), source };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (url.host.as_str(), url.port).to_socket_addrs().map_err(failed)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "the name has no address")));
    }
    Ok(addresses)
}

pub(super) fn stats(running: &Running) -> Option<Value> {
    let (_, body) =
        server::get(running.addresses[0], &running.url.authority(), "/stats", PROBE_PATIENCE).ok()?;
    serde_json::from_slice(&body).ok()
}
