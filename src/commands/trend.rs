//! `hairspring trend`: the history that saved reports make up; measures nothing.

use std::fs;
use std::path::{Path, PathBuf};

use hairspring::analyze::paired::Criteria;
use hairspring::cli::TrendArgs;
use hairspring::report::json::{BadReport, Saved};
use hairspring::report::{LeftOut, Observation, TrendReport, text};

use super::{Console, Failure};

/// What is shown unless `--metric` says otherwise.
const METRICS: [&str; 4] = ["p50", "p95", "p99", "throughput"];
/// Folders in folders are looked into so far.
const DEPTH: u32 = 8;

pub(crate) fn execute(args: &TrendArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let (mut observations, mut left_out) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let unusable = |why: &dyn std::fmt::Display| {
            Failure::environment(format!("cannot use {}: {why}", path.display()))
        };
        if path.is_dir() {
            let mut files = Vec::new();
            json_files(path, DEPTH, &mut files).map_err(|error| unusable(&error))?;
            for file in files {
                let name = file.display().to_string();
                let parsed =
                    fs::read(&file).map_err(|error| error.to_string()).map(|bytes| Saved::parse(&bytes));
                let why = match parsed {
                    Ok(Ok(saved)) => {
                        observations.extend(Observation::of(&name, &saved));
                        continue;
                    }
                    // plans, suites, and what is not ours
                    Ok(Err(BadReport::Schema(_))) => continue,
                    Ok(Err(error)) => error.to_string(),
                    Err(why) => why,
                };
                left_out.push(LeftOut { file: name, why });
            }
        } else {
            let bytes = fs::read(path).map_err(|error| unusable(&error))?;
            let saved = Saved::parse(&bytes).map_err(|error| unusable(&error))?;
            observations.extend(Observation::of(&path.display().to_string(), &saved));
        }
    }
    if observations.is_empty() {
        let said = left_out.iter().map(|left| format!("\nhairspring: {}: {}", left.file, left.why));
        return Err(Failure::environment(format!(
            "there is no report.json, comparison.json or ranking.json to look at{}",
            said.collect::<String>()
        )));
    }
    let default = METRICS.map(str::to_owned);
    let metrics = if args.metrics.is_empty() { &default[..] } else { &args.metrics };
    let criteria = Criteria { min_effect: args.min_effect, ..Criteria::default() };
    let report = TrendReport::new(observations, left_out, metrics, args.window, criteria);
    if let Some(path) = &args.json {
        fs::write(path, report.to_json()).map_err(|error| {
            Failure::environment(format!("cannot write --json {}: {error}", path.display()))
        })?;
    }
    console.print(&text::trend(&report));
    Ok(if console.print_failed { Failure::ENVIRONMENT } else { 0 })
}

/// Every `*.json` below, in the order of names; links to folders are not followed.
fn json_files(folder: &Path, depth: u32, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (kind, path) = (entry.file_type()?, entry.path());
        if kind.is_dir() && depth > 0 {
            json_files(&path, depth - 1, found)?;
        } else if !kind.is_dir() && path.extension().is_some_and(|extension| extension == "json") {
            found.push(path);
        }
    }
    Ok(())
}
