//! The plan of a run: validated, explicit, serialisable. Every default is spelled out here, and the whole
//! of it stands in every report, so that a run can be repeated from its report.
//!
//! Not here: reading flags (cli), resolving names and reading files (main, run).

use serde::{Deserialize, Serialize};

use crate::load::driver::Keepalive;
use crate::load::io::Stamps;
use crate::load::schedule::{Arrivals, Extent, Load, Rate, RateAt, UsersAt};
use crate::load::time::Nanos;
use crate::preset::Scenario;
use crate::record::OkStatuses;

mod alerts;
mod engine;
mod helpers;
mod material;
mod scrape;

pub use alerts::Alerts;
pub use engine::{EnginePlan, WaitPlan};
pub use helpers::{Helpers, Monitor};
pub use material::{Material, Mix, MixRow, Outgoing};
pub use scrape::{Scrape, ScrapeFrom};

/// One target under one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What is measured.
    pub target: Target,
    /// What is sent. With a mix, its fields are in each request of the mix, and the rest of it is not used.
    pub request: Request,
    /// What requests are drawn from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
    /// Closed or open loop.
    pub load: Load,
    /// Over all threads.
    pub connections: u32,
    /// Sent before the measurement, reported apart.
    pub warmup: Extent,
    /// The measurement.
    pub measure: Extent,
    /// Requests per connection.
    pub keepalive: KeepalivePlan,
    /// Limits in time.
    pub limits: Limits,
    /// The instrument: threads, processors, waiting.
    pub client: Client,
    /// Statuses that count as success, as ranges with both ends included.
    pub ok: Vec<(u16, u16)>,
    /// Requests on a stale keep-alive connection are sent once more.
    pub retry_stale: bool,
    /// A digest of each response body is taken.
    pub digest: bool,
    /// One CSV row per request.
    pub log: bool,
    /// The run is recorded in slices of this length.
    #[serde(rename = "interval_ns", default)]
    pub interval: Nanos,
    /// The seed of everything random; round r uses mix(seed, r).
    pub seed: u64,
    /// How often the whole is repeated.
    pub rounds: u32,
    /// The gate's rules, in canonical form.
    pub sla: Vec<String>,
    /// What is told of it.
    #[serde(default)]
    pub alerts: Alerts,
    /// What is found is tested by an intervention.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
    /// The target's own metrics, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape: Option<Scrape>,
    /// The preset it was made from, where one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scenario: Option<Scenario>,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// `baseline`, `optimized`, or `target` of a plain run.
    pub name: String,
    /// Where requests go; for a stub, known once it listens.
    pub url: Option<Url>,
    /// Who runs the server.
    pub server: Server,
}

/// Who runs the server under test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Server {
    /// It runs already.
    External,
    /// Our stub, a fresh process each round.
    Stub(Stub),
    /// A command of the user's, a fresh process group each round.
    Command {
        /// Run by `sh -c`.
        command: String,
        /// The processors it is pinned to.
        cpus: Vec<usize>,
        /// It is given nothing but PATH of our environment.
        #[serde(default)]
        clean_env: bool,
        /// How long its URL may take to answer.
        #[serde(rename = "ready_timeout_ns")]
        ready_timeout: Nanos,
    },
}

/// The stub's settings; the texts are the stub's own flags, which it checks itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stub {
    /// `single`, `threads`, `pool` or `per-core`.
    pub model: String,
    /// Worker threads of `pool`, loops of `per-core`.
    pub workers: u32,
    /// The distribution of the service time.
    pub service: String,
    /// `sleep` or `spin`.
    pub work: String,
    /// The seed of the service times; round r uses mix(work_seed, r).
    pub work_seed: u64,
    /// The processors it is pinned to.
    pub cpus: Vec<usize>,
    /// Where the stub logs its stamps, one CSV per round.
    pub server_log: Option<String>,
    /// Further flags, passed on as they are.
    pub extra: Vec<String>,
}

/// An `http://` URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Url {
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// 80 where the URL names none.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// Host and port as they stand in a Host field.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 80 { host } else { format!("{host}:{}", self.port) }
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "http://{}{}", self.authority(), self.target)
    }
}

/// Why a text is not a URL that can be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not `http://`.
    #[error("`{0}` has no http:// in front: write http://host:port/path")]
    Scheme(String),
    /// TLS does not exist yet.
    #[error(
        "`{0}`: https is not supported yet; measure the plain port behind the TLS proxy, http://host:port/path"
    )]
    Tls(String),
    /// Nothing between the slashes.
    #[error("`{0}` has no host: write http://host:port/path")]
    Host(String),
    /// Port, user part, or characters that a request line cannot carry.
    #[error("`{text}`: {why}")]
    Other {
        /// The URL.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl std::str::FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let other = |why| BadUrl::Other { text: text.to_owned(), why };
        if text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            return Err(BadUrl::Tls(text.to_owned()));
        }
        let Some(rest) = text.get(..7).filter(|s| s.eq_ignore_ascii_case("http://")).map(|_| &text[7..])
        else {
            return Err(BadUrl::Scheme(text.to_owned()));
        };
        let split = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(split);
        let target = target.split('#').next().unwrap_or_default();
        if authority.contains('@') {
            return Err(other(
                "user and password in a URL are not supported; send an Authorization field with -H",
            ));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, after) =
                    v6.split_once(']').ok_or_else(|| other("the IPv6 address lacks its `]`"))?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_| other("not an IPv6 address between the brackets"))?;
                (host, after.strip_prefix(':').or(after.is_empty().then_some("")))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, Some("")),
            },
        };
        if host.is_empty() {
            return Err(BadUrl::Host(text.to_owned()));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(other("a URL has no blanks, control or non-ASCII characters; percent-encode them"));
        }
        let port = match port {
            None => return Err(other("after `]` comes `:port` or the path")),
            Some("") => 80,
            Some(port) => {
                let digits = port.bytes().all(|b| b.is_ascii_digit());
                let number = port.parse::<u16>().ok().filter(|&p| digits && p > 0);
                number.ok_or_else(|| other("the port is a number from 1 to 65535"))?
            }
        };
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { host: host.to_owned(), port, target })
    }
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// GET, POST, …
    pub method: String,
    /// Fields of the user, in order.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Body,
}

/// Where the request's body comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum Body {
    /// No body and no Content-Length.
    None,
    /// From the command line.
    Text {
        /// The body itself.
        text: String,
    },
    /// From a file, read once before the run.
    File {
        /// Its path.
        path: String,
    },
}

/// Limits in time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// From issued to the last byte.
    #[serde(rename = "timeout_ns")]
    pub timeout: Nanos,
    /// For one connect.
    #[serde(rename = "connect_timeout_ns")]
    pub connect_timeout: Nanos,
    /// How long outstanding requests are waited for after the end of the load.
    #[serde(rename = "drain_ns")]
    pub drain: Nanos,
    /// No request is drawn later than this after the start.
    #[serde(rename = "time_cap_ns")]
    pub time_cap: Nanos,
}

/// The instrument's own resources.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// The engine asked for.
    pub engine: EnginePlan,
    /// Which stamps the kernel is asked for.
    pub stamps: Stamps,
    /// Beside the load, one connection on a thread of its own that sends at this rate.
    pub probe: Option<Probe>,
    /// The system monitor; none with `--monitor-interval off`.
    #[serde(default)]
    pub monitor: Option<Monitor>,
    /// One thread on each of these processors.
    pub cpus: Vec<usize>,
    /// Each thread has its processor to itself as far as the plan knows.
    pub exclusive: bool,
    /// Where our other threads run.
    #[serde(default)]
    pub helpers: Helpers,
    /// How threads wait.
    pub wait: WaitPlan,
}

/// `--probe`: one connection that measures at a low rate, spinning, beside the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its rate.
    #[serde(rename = "rate_milli_per_s")]
    pub rate: Rate,
    /// Its processor.
    pub cpu: usize,
    /// A thread of the load runs on the same processor.
    pub shared: bool,
}

/// `--keepalive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepalivePlan {
    /// As many requests on a connection as the server allows.
    On,
    /// At most so many; 1 is off.
    Requests(u32),
}

impl From<KeepalivePlan> for Keepalive {
    fn from(plan: KeepalivePlan) -> Self {
        match plan {
            KeepalivePlan::On => Self::On,
            KeepalivePlan::Requests(n) => Self::Requests(n),
        }
    }
}

impl Plan {
    /// The statuses that count as success.
    pub fn ok_statuses(&self) -> OkStatuses {
        OkStatuses::new(self.ok.iter().map(|&(from, to)| from..=to).collect())
    }

    /// About how many requests an open loop has, warm-up included, as far as the plan says without being worked out.
    pub fn expected_requests(&self) -> Option<u64> {
        let rate = match &self.load {
            Load::Constant { rate } | Load::Poisson { rate } => *rate,
            Load::Replay { rows, .. } => return Some(*rows),
            Load::Closed { .. } | Load::Users { .. } | Load::Stages { .. } => return None,
        };
        let of = |extent: &Extent| {
            let timed =
                extent.time.map(|time| (time.as_secs() * rate.milli_per_s as f64 / 1e3).ceil() as u64);
            extent.count.into_iter().chain(timed).min()
        };
        Some(of(&self.measure)?.saturating_add(of(&self.warmup).unwrap_or(0)))
    }

    /// One line that names the load: `closed loop, 400 requests over 20 connections`.
    pub fn load_in_words(&self) -> String {
        let extent = match (self.measure.count, self.measure.time) {
            (Some(n), None) => format!("{n} requests"),
            (None, Some(time)) => time.exact(),
            (Some(n), Some(time)) => format!("{n} requests or {}", time.exact()),
            (None, None) => "no end".to_owned(),
        };
        let pause = match self.load.think() {
            Some(think) if think > Nanos::ZERO => format!(", {} think time", think.exact()),
            _ => String::new(),
        };
        let most = self.connections;
        match &self.load {
            Load::Closed { .. } => format!("closed loop, {extent} over {most} connections{pause}"),
            Load::Users { stages, .. } => {
                let stages = stages.iter().map(|UsersAt { at, users }| (*at, format!("{users}c")));
                format!("closed loop, users {}{pause}", in_words(stages))
            }
            Load::Constant { rate } => {
                format!("open loop, {extent} at {} over at most {most} connections", per_s(*rate))
            }
            Load::Poisson { rate } => {
                format!("open loop, {extent}, Poisson at {} over at most {most} connections", per_s(*rate))
            }
            Load::Stages { arrivals, stages } => {
                let stages = stages.iter().map(|RateAt { at, rate }| (*at, per_s(*rate)));
                let poisson = if *arrivals == Arrivals::Poisson { ", Poisson" } else { "" };
                format!("open loop{poisson}, {} over at most {most} connections", in_words(stages))
            }
            Load::Replay { file, rows, .. } => {
                let cut =
                    if self.measure == Extent::default() { String::new() } else { format!(" ({extent})") };
                format!(
                    "open loop, replay of {rows} arrivals from {file}{cut} over at most {most} connections"
                )
            }
        }
    }
}

fn per_s(rate: Rate) -> String {
    format!("{}/s", rate.milli_per_s as f64 / 1e3)
}

/// As in `--stages`, of long ones the first and the last few.
fn in_words(stages: impl Iterator<Item = (Nanos, String)>) -> String {
    let time = |at: Nanos| if at == Nanos::ZERO { "0s".to_owned() } else { at.exact() };
    let mut points: Vec<String> = stages.map(|(at, value)| format!("{}:{value}", time(at))).collect();
    if points.len() > 8 {
        points.splice(4..points.len() - 3, ["…".to_owned()]);
    }
    points.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_read_as_they_were_written() {
        let points = [(0, 1), (1_500, 2), (1_500, 3), (60_000, 0)];
        let text = in_words(points.iter().map(|(at, n)| (Nanos::from_millis(*at), format!("{n}c"))));
        assert_eq!(text, "0s:1c,1.5s:2c,1.5s:3c,60s:0c");
        let many = in_words((0..20).map(|n| (Nanos::from_secs(n), format!("{n}c"))));
        assert_eq!(many, "0s:0c,1s:1c,2s:2c,3s:3c,…,17s:17c,18s:18c,19s:19c");
    }

    #[test]
    fn urls_come_apart() {
        for (text, host, port, target) in [
            ("http://127.0.0.1:8080/v1/infer?x=1#top", "127.0.0.1", 8080, "/v1/infer?x=1"),
            ("http://localhost", "localhost", 80, "/"),
            ("HTTP://[::1]:90?q", "::1", 90, "/?q"),
            ("http://example.test:/", "example.test", 80, "/"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.target.as_str()), (host, port, target), "{text}");
        }
        assert_eq!("http://[::1]:90/".parse::<Url>().unwrap().to_string(), "http://[::1]:90/");
    }

    #[test]
    fn urls_that_cannot_be_measured_say_why() {
        for (text, says) in [
            ("127.0.0.1:80/x", "no http://"),
            ("https://a/", "https is not supported"),
            ("http:///x", "no host"),
            ("http://:80/", "no host"),
            ("http://a:0/", "port"),
            ("http://a:99999/", "port"),
            ("http://a:+80/", "port"),
            ("http://[::1/", "`]`"),
            ("http://[::g]/", "IPv6"),
            ("http://[::1]x/", "after `]`"),
            ("http://u:p@a/", "user and password"),
            ("http://a/b c", "percent-encode"),
            ("http://a/\r\nX: y", "percent-encode"),
            ("http://ä/", "percent-encode"),
            ("", "no http://"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
