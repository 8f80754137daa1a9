//! The requests of a mix in a report.

use serde::{Deserialize, Serialize};

use crate::analyze::summary::Figures;
use crate::plan::Plan;
use crate::record::Tally;

/// What became of one request of a mix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TemplateRow {
    /// GET, POST, …
    pub method: String,
    /// Path and query; null where it is that of the URL.
    pub path: Option<String>,
    /// How often it was drawn.
    pub requests: u64,
    /// Of these successful.
    pub successful: u64,
    /// done − intended of the successful; null beyond the first 16 requests of the mix.
    pub response_ok_ns: Option<Figures>,
}

/// Each request of the plan's mix with what was counted of it; empty where there is but one request.
pub(super) fn templates(plan: &Plan, tally: &Tally) -> Vec<TemplateRow> {
    let rows = plan.mix.iter().flat_map(|mix| &mix.requests);
    rows.zip(tally.templates.iter())
        .map(|(row, counted)| TemplateRow {
            method: row.method.clone(),
            path: row.path.clone(),
            requests: counted.requests,
            successful: counted.successful,
            response_ok_ns: counted.response_ok.as_ref().map(Figures::of),
        })
        .collect()
}
