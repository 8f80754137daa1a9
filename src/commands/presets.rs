//! `hairspring presets`: what there is to choose from.

use std::fmt::Write;

use hairspring::cli::PresetsArgs;
use hairspring::plan::{Plan, Server};
use hairspring::preset::PRESETS;
use hairspring::report::json;
use hairspring::sys::affinity;

use super::{Console, Failure};

pub(crate) fn execute(args: &PresetsArgs, console: &mut Console<'_>) -> Result<u8, Failure> {
    let allowed = affinity::allowed();
    if let Some(preset) = args.preset {
        let plan = json::render(&PresetsArgs::plan(preset, &allowed)?);
        console.print(&String::from_utf8_lossy(&plan));
        return Ok(0);
    }
    let mut text = String::new();
    for preset in PRESETS {
        let plan = PresetsArgs::plan(preset, &allowed)?;
        let rounds = if plan.rounds == 1 { String::new() } else { format!(", {} rounds", plan.rounds) };
        let _ = writeln!(text, "{}\n  {}", preset.name, preset.intent);
        let _ = writeln!(text, "  {}{rounds}; {}", plan.load_in_words(), server(&plan));
        if !preset.paths.is_empty() {
            let _ = writeln!(text, "  GET {}", preset.paths.join(", "));
        }
    }
    text.push_str(
        "\nA flag wins over its preset: hairspring run URL --preset basic -c 50. The whole plan: hairspring presets NAME\n",
    );
    console.print(&text);
    Ok(0)
}

/// The stub that is measured where no URL is given.
fn server(plan: &Plan) -> String {
    let Server::Stub(stub) = &plan.target.server else { return String::new() };
    let workers = if stub.model == "threads" { String::new() } else { format!(" of {}", stub.workers) };
    let mut text = format!("without a URL: stub {}{workers}, {} {}", stub.model, stub.work, stub.service);
    if !stub.extra.is_empty() {
        let _ = write!(text, ", {}", stub.extra.join(" "));
    }
    text
}
