//! `--metrics-listen`, `--metrics-file`, `--scrape`: figures for others while a command runs, and figures of the target's own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

use super::{CliError, MonitorInterval, usage};
use crate::load::time::Nanos;
use crate::plan::{Scrape, ScrapeFrom};

/// A file of metrics is written no more often.
const FILE_EVERY: Nanos = Nanos::from_secs(1);
/// How often the target may be asked.
const SCRAPE_EVERY: (Nanos, Nanos) = (Nanos::from_millis(100), Nanos::from_secs(3_600));

/// Live figures, out and in.
#[derive(Debug, Clone, Default, Args)]
pub struct MetricsArgs {
    /// Serve the live figures as OpenMetrics at http://ADDR/metrics while the command runs: a port (of 127.0.0.1), or an
    /// address with a port
    #[arg(long, value_name = "ADDR", value_parser = parse_listen)]
    pub metrics_listen: Option<SocketAddr>,
    /// Write them to this file once a second, replaced as a whole, as for node_exporter's textfile collector
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Ask the target for its own metrics (OpenMetrics or Prometheus text) while the load runs: a URL, or a path at the
    /// target, as in /metrics
    #[arg(long, value_name = "URL|PATH")]
    pub scrape: Option<String>,
    /// How often [default: 1s]
    #[arg(long, value_name = "TIME", requires = "scrape")]
    pub scrape_interval: Option<Nanos>,
}

impl MetricsArgs {
    /// The flag that was given first, if any was.
    pub(super) fn given(&self) -> Option<&'static str> {
        let flags = [
            ("--metrics-listen", self.metrics_listen.is_some()),
            ("--metrics-file", self.metrics_file.is_some()),
            ("--scrape", self.scrape.is_some()),
        ];
        flags.iter().find(|(_, given)| *given).map(|(flag, _)| *flag)
    }

    /// What is asked of the target.
    pub(super) fn scrape(&self) -> Result<Option<Scrape>, CliError> {
        let Some(text) = &self.scrape else { return Ok(None) };
        let from = text.parse::<ScrapeFrom>().or_else(|error| usage(format!("--scrape: {error}")))?;
        let interval = self.scrape_interval.unwrap_or(Nanos::from_secs(1));
        let (least, most) = SCRAPE_EVERY;
        if interval < least || interval > most {
            return usage(format!("--scrape-interval {}: from {least} to {most}", interval.exact()));
        }
        Ok(Some(Scrape { from, interval }))
    }

    /// The file and how often it is written: with each sample of the monitor, but no more often than once a second.
    pub fn file(&self, monitor: MonitorInterval) -> Option<(PathBuf, Nanos)> {
        let every = match monitor {
            MonitorInterval::Off => FILE_EVERY,
            MonitorInterval::Every(interval) => interval.max(FILE_EVERY),
        };
        self.metrics_file.clone().map(|file| (file, every))
    }
}

/// A port alone is one of this machine's loopback address.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let port = text.strip_prefix("localhost:").or(text.strip_prefix(':')).unwrap_or(text);
    let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    let address = if digits { port.parse().ok().map(loopback) } else { text.parse().ok() };
    address.ok_or_else(|| {
        format!("`{text}`: write a port, as in 9464, or an address with a port, as in 127.0.0.1:9464 or [::1]:9464")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_the_loopback_address() {
        for (text, address) in [
            ("9464", "127.0.0.1:9464"),
            (":0", "127.0.0.1:0"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:80", "0.0.0.0:80"),
            ("[::1]:9", "[::1]:9"),
        ] {
            assert_eq!(parse_listen(text).unwrap().to_string(), address);
        }
        for text in ["", ":", "65536", "host:80", "127.0.0.1", "::1", "1 "] {
            assert!(parse_listen(text).unwrap_err().contains("write a port"), "{text}");
        }
    }

    #[test]
    fn a_path_is_at_the_target_and_a_url_anywhere() {
        let of = |scrape: &str, interval| {
            let args = MetricsArgs {
                scrape: Some(scrape.to_owned()),
                scrape_interval: interval,
                ..MetricsArgs::default()
            };
            args.scrape().map(|scrape| scrape.unwrap()).map_err(|error| error.to_string())
        };
        let target = "http://10.0.0.1:8080/v1/infer".parse().unwrap();
        let url = |scrape: &str| of(scrape, None).unwrap().from.url(&target).to_string();
        assert_eq!(url("/metrics?x=1#y"), "http://10.0.0.1:8080/metrics?x=1");
        assert_eq!(url("http://a:9/m"), "http://a:9/m");
        for (text, says) in [("metrics", "http://"), ("/me trics", "blanks"), ("https://a/m", "https")] {
            assert!(of(text, None).unwrap_err().contains(says), "{text}");
        }
        assert!(of("/m", Some(Nanos::from_millis(99))).unwrap_err().contains("from 100"));
        assert_eq!(of("/m", Some(Nanos::from_millis(100))).unwrap().interval, Nanos::from_millis(100));
    }
}
