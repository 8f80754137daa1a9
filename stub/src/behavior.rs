//! How a server can be made to be slow, or to fail, in ways whose size is known: its flags, and what each does to a request.
//!
//! PURE: no I/O, no clocks. What depends on what came before (the order of requests, the previous body, the time since the
//! start) is handed in; `history.rs` remembers it. So the demand of a request stays a function of (work seed, id), and these
//! effects come on top of it by the server's own history: with them, two models are given equal demand, not equal service.

use std::str::FromStr;

use serde::Serialize;

use crate::work::parse_duration;

/// The flags. All are off by default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, clap::Args)]
#[command(next_help_heading = "Behaviour")]
pub struct Behavior {
    /// Not ready until so long after the start: /health/startup, /health/ready and infer requests are answered 503
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = parse_duration)]
    #[serde(rename = "startup_delay_ns")]
    pub startup_delay: u64,
    /// Added to the service time of the first infer request
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = parse_duration)]
    #[serde(rename = "cold_start_ns")]
    pub cold_start: u64,
    /// The first N infer requests take longer: FACTOR times their service time at first, falling linearly to once, as in 20,3
    #[arg(long, value_name = "N,FACTOR")]
    pub warm_up: Option<WarmUp>,
    /// A prefix cache for each connection: so much of the service time is saved on the share of a body that begins like the
    /// connection's previous one, as in 0.8
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub prefix_cache: f64,
    /// So much of each service time is spent holding one lock of the whole server, whatever the model, as in 0.2
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = parse_share)]
    pub lock: f64,
    /// All stands still for LENGTH every EVERY, as in 2s,200ms
    #[arg(long, value_name = "EVERY,LENGTH")]
    pub stall: Option<Stall>,
    /// Memory that each infer request leaves behind (1 GiB in all at most)
    #[arg(long, default_value_t = 0, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(..=16 << 20))]
    pub leak_bytes: u32,
    /// Descriptors that each infer request leaves open, as far as there are any
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u32).range(..=16))]
    pub leak_fds: u32,
    /// Read no faster than so many bytes per second; the reading thread sleeps, so with another model than threads all its
    /// connections wait [default: no limit]
    #[arg(long, value_name = "BYTES/s", value_parser = clap::value_parser!(u32).range(1..))]
    pub read_rate: Option<u32>,
    /// Write no faster than so many bytes per second; the writing thread sleeps [default: no limit]
    #[arg(long, value_name = "BYTES/s", value_parser = clap::value_parser!(u32).range(1..))]
    pub write_rate: Option<u32>,
    /// SO_SNDBUF of connections; the kernel doubles it, and has a least size [default: the kernel's]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub send_buffer: Option<u32>,
    /// SO_RCVBUF of connections, likewise
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    pub receive_buffer: Option<u32>,
    /// The accepting thread sleeps so long at each connection
    #[arg(long, default_value = "0ms", value_name = "TIME", value_parser = parse_duration)]
    #[serde(rename = "accept_delay_ns")]
    pub accept_delay: u64,
}

/// Bytes read or written at once where there is a rate.
pub(crate) const PIECE: usize = 1024;

impl Behavior {
    /// Whether a request has to know how many came before it.
    pub(crate) fn counts(&self) -> bool {
        self.cold_start > 0 || self.warm_up.is_some()
    }

    /// What a demand of `demand` ns takes from the `order`-th infer request (from 0), whose body begins, for `known` of `len`
    /// bytes, like the connection's previous one.
    pub(crate) fn service(&self, demand: u64, order: u64, known: usize, len: usize) -> u64 {
        let warm = self.warm_up.map_or(1.0, |warm_up| warm_up.factor(order));
        let cached = if len == 0 { 0.0 } else { known as f64 / len as f64 };
        let cold = if order == 0 { self.cold_start } else { 0 };
        (demand as f64 * warm * (1.0 - self.prefix_cache * cached)).round() as u64 + cold
    }

    /// How much of a service time is spent under the lock.
    pub(crate) fn locked(&self, service: u64) -> u64 {
        (service as f64 * self.lock).round() as u64
    }

    /// Whether the server takes infer requests, `age` ns after its start.
    pub(crate) fn is_ready(&self, age: u64) -> bool {
        age >= self.startup_delay
    }
}

/// `--warm-up`
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct WarmUp {
    requests: u64,
    factor: f64,
}

impl WarmUp {
    fn factor(self, order: u64) -> f64 {
        let left = self.requests.saturating_sub(order) as f64 / self.requests as f64;
        1.0 + (self.factor - 1.0) * left
    }
}

impl FromStr for WarmUp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(',').map(|(n, factor)| (n.trim().parse(), factor.trim().parse()));
        match parts {
            Some((Ok(requests @ 1..=1_000_000), Ok(factor))) if (1.0..=1_000.0).contains(&factor) => {
                Ok(Self { requests, factor })
            }
            _ => {
                Err(format!("\"{text}\": give a number of requests and a factor from 1 to 1000, as in 20,3"))
            }
        }
    }
}

/// `--stall`: from `every` after the start on, and again each `every`, nothing goes on for `length`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stall {
    #[serde(rename = "every_ns")]
    every: u64,
    #[serde(rename = "length_ns")]
    length: u64,
}

impl Stall {
    /// If it stands still at `age` ns after the start: until when.
    pub(crate) fn until(self, age: u64) -> Option<u64> {
        let begun = age / self.every * self.every;
        (begun > 0 && age < begun + self.length).then_some(begun + self.length)
    }

    /// When that ends which would have lasted from `from` to `to` with nothing standing still.
    pub(crate) fn stretched(self, from: u64, to: u64) -> u64 {
        let (mut at, mut left) = (self.until(from).unwrap_or(from), to - from);
        loop {
            let next = (at / self.every + 1) * self.every;
            // What is over when the stall begins is over.
            if at + left <= next {
                return at + left;
            }
            left -= next - at;
            at = next + self.length;
        }
    }
}

impl FromStr for Stall {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hint = || format!("\"{text}\": give a period and a shorter length, as in 2s,200ms");
        let (every, length) = text.split_once(',').ok_or_else(hint)?;
        let (every, length) = (parse_duration(every.trim())?, parse_duration(length.trim())?);
        if length == 0 || length >= every { Err(hint()) } else { Ok(Self { every, length }) }
    }
}

/// Bytes that both begin with.
pub(crate) fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| format!("\"{text}\" is no share: give a number from 0 to 1, as in 0.2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_requests_take_longer_and_the_others_do_not() {
        let cold = Behavior { cold_start: 1_000, warm_up: "4,3".parse().ok(), ..Behavior::default() };
        let each: Vec<u64> = (0..6).map(|order| cold.service(100, order, 0, 0)).collect();
        assert_eq!(each, [1_300, 250, 200, 150, 100, 100]);
        assert!(cold.counts() && !Behavior::default().counts());
        assert_eq!(Behavior::default().service(100, 0, 7, 7), 100, "nothing is on by default");
    }

    #[test]
    fn a_known_prefix_saves_its_share() {
        let cache = Behavior { prefix_cache: 0.8, ..Behavior::default() };
        assert_eq!(cache.service(1_000, 0, 0, 50), 1_000);
        assert_eq!(cache.service(1_000, 0, 25, 50), 600);
        assert_eq!(cache.service(1_000, 9, 50, 50), 200);
        assert_eq!(cache.service(1_000, 9, 0, 0), 1_000, "no body, no prefix");
        assert_eq!((common_prefix(b"abcx", b"abdx"), common_prefix(b"", b"a")), (2, 0));
    }

    #[test]
    fn a_stall_holds_up_what_it_meets_and_nothing_else() {
        let stall: Stall = "100ns,10ns".parse().expect("stall");
        assert_eq!((stall.until(5), stall.until(99)), (None, None), "none at the start");
        assert_eq!((stall.until(100), stall.until(109), stall.until(110)), (Some(110), Some(110), None));
        for (from, to, end) in [
            (0, 50, 50),
            (0, 100, 100),
            (50, 101, 111),
            (105, 106, 111),
            (90, 100, 100),
            // 10 left before the stall at 100, then 90 until that at 200, then the last 50
            (90, 240, 260),
        ] {
            assert_eq!(stall.stretched(from, to), end, "{from} to {to}");
        }
    }

    #[test]
    fn it_is_ready_after_its_delay() {
        let slow = Behavior { startup_delay: 7, ..Behavior::default() };
        assert!(!slow.is_ready(6) && slow.is_ready(7) && Behavior::default().is_ready(0));
    }

    #[test]
    fn wrong_values_say_what_to_write() {
        for bad in ["", "20", "0,3", "20,0.5", "20,nan", "x,3"] {
            assert!(bad.parse::<WarmUp>().is_err_and(|e| e.contains("20,3")), "{bad}");
        }
        for bad in ["", "2s", "2s,2s", "2s,0s", "200ms,2s"] {
            assert!(bad.parse::<Stall>().is_err_and(|e| e.contains("2s,200ms")), "{bad}");
        }
        for bad in ["", "-0.1", "1.1", "nan", "20%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }
}
