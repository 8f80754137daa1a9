//! I/O: the thread that asks the target for its own metrics, beside the load.

use std::sync::atomic::AtomicBool;

use super::start::StartLine;
use super::{RunError, Running, resolve};
use crate::facts::HelperReport;
use crate::facts::scraped::Scraped;
use crate::plan::{Plan, ScrapeFrom};
use crate::sys::helper::Helper;
use crate::sys::scrape::Scraper;

/// What is asked, if the plan asks.
pub(super) fn scraper(plan: &Plan, running: &Running) -> Result<Option<Scraper>, RunError> {
    let Some(scrape) = &plan.scrape else { return Ok(None) };
    let url = scrape.from.url(&running.url);
    let addresses = match &scrape.from {
        ScrapeFrom::Path(_) => running.addresses.clone(),
        ScrapeFrom::Url(url) => resolve(url)?,
    };
    let (authority, path) = (url.authority(), url.target);
    Ok(Some(Scraper { addresses, authority, path, interval: scrape.interval }))
}

/// From the start of the load on; nothing is asked of one that did not start.
pub(super) fn scraping(
    plan: &Plan,
    scraper: &Scraper,
    start: &StartLine,
    load_over: &AtomicBool,
) -> (Option<Scraped>, HelperReport) {
    let helper = Helper::begin("scrape", &plan.client.helpers.cpus);
    let scraped = start.wait(true).map(|t0| scraper.watch(t0, load_over));
    (scraped, helper.account())
}
