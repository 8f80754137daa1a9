//! `--metrics-listen`, `--metrics-file`: from before the first load of a command until after its last.

use hairspring::cli::ToolArgs;
use hairspring::output::{Outlets, Publisher};

use super::{Console, Failure, Series};

/// What was asked for.
pub(super) fn asked(tool: &ToolArgs) -> Outlets {
    Outlets { listen: tool.metrics.metrics_listen, file: tool.metrics.file(tool.monitor_interval) }
}

/// Begins to tell of `all` that will be measured, if it is asked for; what cannot be had is refused while there is no load yet.
pub(super) fn publish(
    outlets: Outlets,
    all: &mut [Series],
    console: &mut Console<'_>,
) -> Result<Option<Publisher>, Failure> {
    if outlets.listen.is_none() && outlets.file.is_none() {
        return Ok(None);
    }
    let cpus = &all[0].plan.client.helpers.cpus;
    let publisher = Publisher::start(outlets, cpus).map_err(Failure::environment)?;
    if let Some(at) = publisher.served_at() {
        console.warn(&format!("metrics at http://{at}/metrics"));
        if !at.ip().is_loopback() {
            console.warn(&format!(
                "warning: {at} is not a loopback address: the metrics are there for everybody who reaches it"
            ));
        }
    }
    for series in all {
        series.live = Some(publisher.live());
    }
    Ok(Some(publisher))
}

/// Ends it. True, and said, if something could not be written.
pub(super) fn end(publisher: Option<Publisher>, console: &mut Console<'_>) -> bool {
    let failure = publisher.and_then(Publisher::finish);
    failure.inspect(|failure| console.warn(&format!("--metrics-file {failure}"))).is_some()
}
