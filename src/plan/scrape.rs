//! Where the target's own metrics are asked for.

use serde::{Deserialize, Serialize};

use super::{BadUrl, Url};
use crate::load::time::Nanos;

/// `--scrape`: the target's own metrics, over connections of their own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scrape {
    /// Where.
    pub from: ScrapeFrom,
    /// From one question to the next.
    #[serde(rename = "interval_ns")]
    pub interval: Nanos,
}

/// Where a target's metrics are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrapeFrom {
    /// At an address of their own.
    Url(Url),
    /// At the address of the target, which is known once it runs: path and query.
    Path(String),
}

impl ScrapeFrom {
    /// The URL, of a target at `target`.
    pub fn url(&self, target: &Url) -> Url {
        match self {
            Self::Url(url) => url.clone(),
            Self::Path(path) => Url { target: path.clone(), ..target.clone() },
        }
    }
}

impl std::fmt::Display for ScrapeFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Path(path) => path.fmt(f),
        }
    }
}

impl std::str::FromStr for ScrapeFrom {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if !text.starts_with('/') {
            return text.parse().map(Self::Url);
        }
        // the same characters and the same cut as in a URL
        let url: Url = format!("http://target{text}").parse()?;
        Ok(Self::Path(url.target))
    }
}
