//! The flags of `trend`.

use std::path::PathBuf;

use clap::Args;

use super::values::parse_share;
use super::variants::parse_figure;

/// `hairspring trend`
#[derive(Debug, Clone, Args)]
pub struct TrendArgs {
    /// Saved reports, comparisons and rankings, or folders in which to look for them
    #[arg(value_name = "DIR|FILE", required = true)]
    pub paths: Vec<PathBuf>,
    /// A figure: p50, p90, p95, p99, p99.9, mean, throughput; can be repeated [default: p50, p95, p99, throughput]
    #[arg(long = "metric", value_name = "FIGURE", value_parser = parse_metric)]
    pub metrics: Vec<String>,
    /// So many runs before a run are its baseline, at least 4
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(4..=1000))]
    pub window: u32,
    /// The least change that counts as faster or slower, as in 2% or 0.5%
    #[arg(long, value_name = "SHARE%", default_value = "2%", value_parser = parse_share)]
    pub min_effect: f64,
    /// Write it as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// A figure that ranks, or the throughput.
fn parse_metric(text: &str) -> Result<String, String> {
    let named = if text == "throughput" { Ok(text.to_owned()) } else { parse_figure(text) };
    named.map_err(|known| format!("{known}, or throughput"))
}
