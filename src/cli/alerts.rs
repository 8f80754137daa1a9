//! `--alert` and `--on-alert`.

use clap::Args;

use super::{CliError, usage};
use crate::analyze::alerts;
use crate::plan::Alerts;

/// What raises an alert, and who is told.
#[derive(Debug, Clone, Default, Args)]
pub struct AlertArgs {
    /// Report when and how long this held, with the requests under way; it never changes the exit code (--sla does). A metric
    /// of the monitor, as in 'server.cpu>80%'; of slices of time, as in 'errors>10%', 'p95>800ms', 'p95>+50%' (against the
    /// run's own start, or --against), 'capacity>90%'; default, the rules that hold without this flag; or none; can be repeated
    /// [default: server.cpu>80%, machine.memory>85%, errors>10%, p95>+50%, capacity>90%]
    #[arg(long, value_name = "RULE|default|none")]
    pub alert: Vec<String>,
    /// Run this (sh -c) for each alert, with the alert as JSON on its standard input: those of the monitor's metrics while the
    /// load runs, the others after the round; at most 4 at once, 10 s each
    #[arg(long, value_name = "CMD")]
    pub on_alert: Option<String>,
}

impl AlertArgs {
    /// No rule, and nobody who is told.
    pub(super) fn none() -> Self {
        Self { alert: vec!["none".to_owned()], on_alert: None }
    }

    pub(super) fn is_given(&self) -> bool {
        !self.alert.is_empty() || self.on_alert.is_some()
    }

    pub(super) fn plan(&self) -> Result<Alerts, CliError> {
        let rules = alerts::chosen(&self.alert).map_err(|bad| CliError::Usage(format!("--alert {bad}")))?;
        if rules.is_empty() && self.on_alert.is_some() {
            return usage("--on-alert has nothing to be told of with --alert none: leave one out");
        }
        if self.on_alert.as_ref().is_some_and(|command| command.trim().is_empty()) {
            return usage("--on-alert is empty: write a command, as in 'cat >> alerts.jsonl'");
        }
        let rules = rules.iter().map(ToString::to_string).collect();
        Ok(Alerts { rules, command: self.on_alert.clone() })
    }
}
