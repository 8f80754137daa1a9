//! What is told while and after a round is made.

use serde::{Deserialize, Serialize};

/// `--alert` and `--on-alert`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alerts {
    /// The rules, in canonical form; `analyze::alerts` reads them.
    pub rules: Vec<String>,
    /// Run by `sh -c` for each alert, with the alert on its standard input.
    pub command: Option<String>,
}
