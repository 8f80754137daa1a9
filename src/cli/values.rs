//! The syntax of single values: rates, extents, processors, fields, statuses. Each error says what to write instead.

use crate::analyze::gate::Rule;
use crate::load::schedule::{Extent, Rate};
use crate::load::time::Nanos;
use crate::plan::{KeepalivePlan, Url};
use crate::preset::{self, PRESETS, Preset};

use super::{CliError, usage};

/// Ids at and above this abort core_affinity.
const CPU_IDS: usize = 1024;

pub(super) fn parse_rules(texts: &[String]) -> Result<Vec<Rule>, CliError> {
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| CliError::Usage(format!("--sla: {error}"))))
        .collect()
}

pub(super) fn parse_url(text: &str) -> Result<Url, CliError> {
    text.parse().map_err(|error: crate::plan::BadUrl| CliError::Usage(error.to_string()))
}

pub(super) fn is_loopback(url: &Url) -> bool {
    url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("`{text}` is not a rate: write requests per second, as in 1000/s or 0.5/s");
    let number = text.trim().strip_suffix("/s").unwrap_or(text).trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || fraction.len() > 3 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let milli_per_s: u64 = format!("{whole}{fraction:0<3}").parse().map_err(|_| wrong())?;
    match milli_per_s {
        0 => Err("a rate of 0 sends nothing".to_owned()),
        r if r > 100_000_000_000 => Err(format!("`{text}`: at most 100000000/s")),
        milli_per_s => Ok(Rate { milli_per_s }),
    }
}

/// `--requests` once was the long name of `-n`.
pub(super) fn parse_mix(text: &str) -> Result<String, String> {
    match text.parse::<u64>() {
        Ok(n) => Err(format!("a file of requests is expected; {n} requests are -n {n}")),
        Err(_) => Ok(text.to_owned()),
    }
}

pub(super) fn parse_share(text: &str) -> Result<f64, String> {
    let wrong = || format!("`{text}` is not a share: write percent, as in 2% or 0.5%");
    let number = text.strip_suffix('%').ok_or_else(wrong)?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let share = number.parse::<f64>().map_err(|_| wrong())? / 100.0;
    if plain && share > 0.0 && share < 1.0 { Ok(share) } else { Err(wrong()) }
}

pub(super) fn parse_extent(text: &str) -> Result<Extent, String> {
    if let Ok(count) = text.parse() {
        return Ok(Extent { count: Some(count), time: None });
    }
    match text.parse() {
        Ok(time) => Ok(Extent { count: None, time: Some(time) }),
        Err(_) => Err(format!("`{text}` is neither a number of requests nor a time, as in 100 or 2s")),
    }
}

pub(super) fn parse_keepalive(text: &str) -> Result<KeepalivePlan, String> {
    match text {
        "on" => Ok(KeepalivePlan::On),
        "off" => Ok(KeepalivePlan::Requests(1)),
        number => match number.parse() {
            Ok(0) => Err("a connection carries at least one request".to_owned()),
            Ok(n) => Ok(KeepalivePlan::Requests(n)),
            Err(_) => Err(format!("`{text}`: write on, off, or how many requests a connection carries")),
        },
    }
}

/// `--monitor-interval`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitorInterval {
    /// No monitor.
    Off,
    /// Between samples.
    Every(Nanos),
}

pub(super) fn parse_monitor(text: &str) -> Result<MonitorInterval, String> {
    const LEAST: Nanos = Nanos::from_millis(10);
    match (text, text.parse::<Nanos>()) {
        ("off" | "0", _) | (_, Ok(Nanos::ZERO)) => Ok(MonitorInterval::Off),
        (_, Ok(interval)) if interval >= LEAST => Ok(MonitorInterval::Every(interval)),
        _ => Err(format!("`{text}`: write a time from {} on, as in 100ms, or off", LEAST.exact())),
    }
}

/// Processors, ascending, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuList(pub Vec<usize>);

pub(super) fn parse_cpus(text: &str) -> Result<CpuList, String> {
    let wrong = || format!("`{text}` is not a list of processors: write 0,2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |t: &str| t.trim().parse::<usize>().map_err(|_| wrong());
        let (from, to) = (number(from)?, number(to)?);
        if from > to {
            return Err(wrong());
        }
        if to >= CPU_IDS {
            return Err(format!("processor {to}: ids from {CPU_IDS} on are not supported"));
        }
        cpus.extend(from..=to);
    }
    cpus.sort_unstable();
    cpus.dedup();
    Ok(CpuList(cpus))
}

pub(super) fn parse_model(text: &str) -> Result<String, String> {
    match text {
        "single" | "threads" | "pool" | "per-core" => Ok(text.to_owned()),
        "multi" => Ok("pool".to_owned()),
        _ => Err(format!("`{text}` is not a threading model: single, threads, pool (or multi), per-core")),
    }
}

pub(super) fn parse_preset(text: &str) -> Result<Preset, String> {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    let there_are =
        || format!("`{text}` is not a preset; there are {} (see `hairspring presets`)", names.join(", "));
    preset::find(text).ok_or_else(there_are)
}

pub(super) fn parse_scale(text: &str) -> Result<f64, String> {
    let scale = text.parse().ok().filter(|scale| (1e-4..=1.0).contains(scale));
    scale.ok_or_else(|| format!("`{text}`: from 0.0001 to 1, as in 0.1 for a tenth of the time"))
}

pub(super) fn parse_ok(text: &str) -> Result<Vec<(u16, u16)>, CliError> {
    let one = |part: &str| -> Option<(u16, u16)> {
        if let Some(class) = part.strip_suffix("xx") {
            let class: u16 = class.parse().ok().filter(|c| (1..=9).contains(c))?;
            return Some((class * 100, class * 100 + 99));
        }
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let status = |t: &str| t.parse::<u16>().ok().filter(|s| (100..=999).contains(s));
        Some((status(from)?, status(to)?)).filter(|(from, to)| from <= to)
    };
    let parts: Option<Vec<_>> = text.split(',').map(|part| one(part.trim())).collect();
    parts.ok_or_else(|| {
        CliError::Usage(format!("--ok {text}: write statuses and classes, as in 2xx,304,400-404"))
    })
}

pub(super) fn parse_header(field: &str) -> Result<(String, String), CliError> {
    let Some((name, value)) = field.split_once(':') else {
        return usage(format!("-H {field:?}: a field is written `Name: value`"));
    };
    check_field(name, value).or_else(|why| usage(format!("-H {field:?}: {why}")))
}

/// The field as it is sent, or why it cannot be.
pub(super) fn check_field(name: &str, value: &str) -> Result<(String, String), &'static str> {
    let value = value.trim_matches([' ', '\t']);
    if !is_token(name) {
        return Err("the name of a field has letters, digits and dashes, and no blank before the colon");
    }
    if value.bytes().any(|b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err("control characters (line ends too) cannot stand in a field");
    }
    match name.to_ascii_lowercase().as_str() {
        "x-request-id" | "x-attempt" => Err("hairspring sets this field itself"),
        "content-length" | "transfer-encoding" => Err("the framing follows from --body and --body-file"),
        "connection" => Err("use --keepalive"),
        "expect" => Err("100-continue is not supported"),
        "upgrade" => Err("upgrading the protocol is not supported"),
        _ => Ok((name.to_owned(), value.to_owned())),
    }
}

pub(super) fn check_method(method: &str) -> Result<(), String> {
    match method {
        "CONNECT" => Err("CONNECT asks for a tunnel, not for an answer; it is not supported".to_owned()),
        _ if is_token(method) => Ok(()),
        _ => Err(format!("{method:?} is not a method: letters, as in POST")),
    }
}

/// A server may ask for the length of a body that such a method announces (RFC 9110 §8.6).
pub(super) fn announces_body(method: &str) -> bool {
    ["POST", "PUT", "PATCH"].contains(&method)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}
