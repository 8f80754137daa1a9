//! What a request costs and what it answers: pure functions of (work seed, request id).
//!
//! PURE: no I/O, no clocks, no threads. The same seed and id give the same service time and the same payload in every
//! threading model, on every run: common random numbers, so that two variants are compared on equal work. The
//! transcendental functions are the platform's, so another libm may differ in the last nanosecond.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh64::xxh64;

/// The longest service time a specification may name: an hour.
const MAX_NS: f64 = 3_600e9;

/// The alphabet of payloads: 64 characters that need no escaping in JSON, URLs or CSV.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The distribution of service times, with the text it was made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    text: String,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Fixed(f64),
    Normal { mean: f64, sd: f64 },
    Lognormal { median: f64, sigma: f64 },
    Exp { mean: f64 },
    Bimodal { first: f64, p: f64, second: f64 },
    Peaks { mean: f64, sd: f64, p: f64, peak: f64 },
}

impl Service {
    /// The service time of request `id`, in nanoseconds, never below 0.
    pub fn sample(&self, seed: u64, id: &[u8]) -> u64 {
        let mut rng = Rng::for_request(seed, id);
        let ns = match self.shape {
            Shape::Fixed(ns) => ns,
            Shape::Normal { mean, sd } => mean + sd * rng.normal(),
            Shape::Lognormal { median, sigma } => median * (sigma * rng.normal()).exp(),
            Shape::Exp { mean } => -mean * rng.uniform().ln(),
            Shape::Bimodal { first, p, second } => {
                if rng.uniform() < p {
                    first
                } else {
                    second
                }
            }
            Shape::Peaks { mean, sd, p, peak } => {
                if rng.uniform() < p {
                    peak
                } else {
                    mean + sd * rng.normal()
                }
            }
        };
        ns.clamp(0.0, MAX_NS).round() as u64
    }
}

impl Default for Service {
    /// No service time: `fixed:0ms`.
    fn default() -> Self {
        Self { text: "fixed:0ms".to_owned(), shape: Shape::Fixed(0.0) }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, arguments) = text.split_once(':').unwrap_or((text, ""));
        let parts: Vec<&str> = arguments.split(',').map(str::trim).collect();
        let shape = match (name, parts.as_slice()) {
            ("fixed", [t]) => Shape::Fixed(span(t)?),
            ("normal", [mean, sd]) => Shape::Normal { mean: span(mean)?, sd: span(sd)? },
            ("lognormal", [median, sigma]) => {
                Shape::Lognormal { median: span(median)?, sigma: number(sigma, 10.0, "sigma")? }
            }
            ("exp", [mean]) => Shape::Exp { mean: span(mean)? },
            ("bimodal", [first, p, second]) => Shape::Bimodal {
                first: span(first)?,
                p: number(p, 1.0, "probability")?,
                second: span(second)?,
            },
            ("peaks", [mean, sd, p, peak]) => Shape::Peaks {
                mean: span(mean)?,
                sd: span(sd)?,
                p: number(p, 1.0, "probability")?,
                peak: span(peak)?,
            },
            _ => {
                return Err(format!(
                    "\"{text}\" is no service time; use fixed:50ms, normal:50ms,8ms, lognormal:50ms,0.5, exp:50ms, \
                     bimodal:1ms,0.99,101ms or peaks:50ms,8ms,0.05,400ms"
                ));
            }
        };
        Ok(Self { text: text.to_owned(), shape })
    }
}

/// Parses a duration with its unit (ns, us, ms, s) into nanoseconds.
pub(crate) fn parse_duration(text: &str) -> Result<u64, String> {
    span(text).map(|ns| ns.round() as u64)
}

fn span(text: &str) -> Result<f64, String> {
    let hint = || {
        format!(
            "\"{text}\" is no duration; use a number and a unit, as in 50ms (ns, us, ms, s; at most 3600s)"
        )
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == 'µ');
    let unit = match &text[digits.len()..] {
        "ns" => 1.0,
        "us" | "µs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        _ => return Err(hint()),
    };
    let ns = decimal(digits).ok_or_else(hint)? * unit;
    if ns <= MAX_NS { Ok(ns) } else { Err(hint()) }
}

fn number(text: &str, max: f64, what: &str) -> Result<f64, String> {
    decimal(text)
        .filter(|value| *value <= max)
        .ok_or_else(|| format!("\"{text}\" is no {what}; use a number from 0 to {max}"))
}

/// A plain decimal number: no sign, exponent, `inf` or `nan`, all of which `f64::from_str` would take.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain { text.parse().ok() } else { None }
}

/// `len` characters of payload for request `id`.
pub(crate) fn payload(seed: u64, id: &[u8], len: usize) -> String {
    // A stream of its own: the payload must not change when a distribution draws one number more.
    let mut rng = Rng::for_request(seed ^ 0x7061_796c_6f61_6421, id);
    let mut text = String::with_capacity(len + 9);
    while text.len() < len {
        let mut bits = rng.next();
        for _ in 0..10 {
            text.push(char::from(ALPHABET[(bits & 63) as usize]));
            bits >>= 6;
        }
    }
    text.truncate(len);
    text
}

/// The digest of a request body, as answers state it.
pub(crate) fn digest(body: &[u8]) -> String {
    format!("xxh64:{:016x}", xxh64(body, 0))
}

/// SplitMix64, started from a hash of the request id.
struct Rng(u64);

impl Rng {
    fn for_request(seed: u64, id: &[u8]) -> Self {
        Self(xxh64(id, seed))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in the open interval (0, 1): its logarithm is always finite.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(spec: &str) -> Vec<f64> {
        let service: Service = spec.parse().expect(spec);
        (0..10_000).map(|i| service.sample(7, i.to_string().as_bytes()) as f64).collect()
    }

    /// Mean and standard deviation over 10 000 ids, in milliseconds.
    fn moments(spec: &str) -> (f64, f64) {
        let xs = samples(spec);
        let mean = xs.iter().sum::<f64>() / xs.len() as f64;
        let variance = xs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / xs.len() as f64;
        (mean / 1e6, variance.sqrt() / 1e6)
    }

    #[test]
    fn distributions_have_their_mean_and_deviation() {
        // Lognormal(median 50, sigma 0.5): mean 50·exp(σ²/2) = 56.657, sd = mean·sqrt(exp(σ²) − 1) = 30.195.
        // Bimodal 1 (0.99), 101: mean 2, sd 9.95. Peaks: 0.95·50 + 0.05·400, sd sqrt(0.95·64 + 0.95·0.05·350²).
        for (spec, mean, mean_off, sd, sd_off) in [
            ("fixed:50ms", 50.0, 1e-9, 0.0, 1e-9),
            ("normal:50ms,8ms", 50.0, 0.3, 8.0, 0.25),
            ("lognormal:50ms,0.5", 56.657, 1.2, 30.195, 1.8),
            ("exp:50ms", 50.0, 2.0, 50.0, 3.0),
            ("bimodal:1ms,0.99,101ms", 2.0, 0.4, 9.95, 1.0),
            ("peaks:50ms,8ms,0.05,400ms", 67.5, 3.0, 76.68, 5.0),
        ] {
            let (got_mean, got_sd) = moments(spec);
            assert!((got_mean - mean).abs() <= mean_off, "{spec}: mean {got_mean}");
            assert!((got_sd - sd).abs() <= sd_off, "{spec}: sd {got_sd}");
        }
    }

    #[test]
    fn a_service_time_is_a_pure_function_of_seed_and_id() {
        let service: Service = "normal:50ms,8ms".parse().expect("spec");
        assert_eq!(service.sample(1, b"17"), service.sample(1, b"17"));
        assert_ne!(service.sample(1, b"17"), service.sample(2, b"17"));
        assert_ne!(service.sample(1, b"17"), service.sample(1, b"18"));
        assert!(samples("normal:1ms,10ms").iter().all(|x| *x >= 0.0), "truncated at 0");
    }

    #[test]
    fn payloads_are_seeded_ascii_of_the_length_asked_for() {
        for len in [0, 1, 9, 10, 11, 256, 1000] {
            let text = payload(1, b"a", len);
            assert_eq!(text.len(), len);
            assert!(text.bytes().all(|b| ALPHABET.contains(&b)));
        }
        assert_eq!(payload(1, b"a", 64), payload(1, b"a", 64));
        assert_ne!(payload(1, b"a", 64), payload(1, b"b", 64));
        assert_ne!(payload(1, b"a", 64), payload(2, b"a", 64));
        assert_eq!(digest(b""), "xxh64:ef46db3751d8e999");
    }

    #[test]
    fn wrong_specifications_say_what_to_write() {
        for bad in [
            "",
            "fixed",
            "fixed:",
            "fixed:50",
            "fixed:-1ms",
            "fixed:1e3ms",
            "fixed:infs",
            "fixed:nanms",
            "fixed:1m",
            "fixed:4000s",
            "fixed:1ms,2ms",
            "normal:50ms",
            "normal:50ms,8",
            "lognormal:50ms,x",
            "lognormal:50ms,11",
            "exp:",
            "bimodal:1ms,1.5,2ms",
            "bimodal:1ms,99%,2ms",
            "peaks:1ms,1ms,0.1",
            "gauss:1ms",
            "fixed:.ms",
        ] {
            let message = bad.parse::<Service>().expect_err(bad);
            assert!(message.contains("use "), "{bad}: {message}");
        }
        for good in ["fixed:0ms", "fixed:1.5us", "fixed:7ns", "normal:50ms, 8ms", "exp:1s"] {
            assert_eq!(good.parse::<Service>().expect(good).to_string(), good);
        }
    }
}
