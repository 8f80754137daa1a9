//! A preset fills in the flags that were not given. A flag of the user's wins, and one that says how long the load is, or how it
//! comes, takes the place of all that the preset says about that.

use clap::Args;

use crate::load::schedule::UsersAt;
use crate::load::time::Nanos;
use crate::plan::Plan;
use crate::preset::{Preset, Shape};

use super::values::parse_preset;
use super::{CliError, CommonArgs, RunArgs, Stages, StubArgs, usage};

/// Slices in a run of a preset whose time was scaled: as many as without, but none too short to be merged meanwhile.
const INTERVAL_MIN: Nanos = Nanos::from_millis(100);

/// `hairspring presets`
#[derive(Debug, Clone, Args)]
pub struct PresetsArgs {
    /// One of them
    #[arg(value_name = "NAME", value_parser = parse_preset)]
    pub preset: Option<Preset>,
}

impl PresetsArgs {
    /// The plan of a run with this preset and nothing else, on a machine whose usable processors are `allowed`.
    pub fn plan(preset: Preset, allowed: &[usize]) -> Result<Plan, CliError> {
        #[derive(clap::Parser)]
        struct Run {
            #[command(flatten)]
            args: RunArgs,
        }
        let argv = ["run", "--preset", preset.name];
        let run = <Run as clap::Parser>::try_parse_from(argv).map_err(|e| CliError::Usage(e.to_string()))?;
        run.args.plan(allowed)
    }
}

impl CommonArgs {
    /// These flags, and where there are none, those of the preset in `scale` of its time.
    pub(super) fn filled(&self, preset: Preset, scale: f64) -> Result<Self, CliError> {
        let mut filled = self.clone();
        let load = &mut filled.load;
        let scaled = |seconds: u64| Nanos((seconds as f64 * scale * 1e9).round() as u64);
        let paced = load.rate.is_some() || load.replay.is_some();
        let shaped = paced || load.stages.is_some() || load.requests.is_some() || load.duration.is_some();
        match preset.shape {
            _ if shaped => {}
            // Without a preset of the user's this is the default, which knows about -c.
            Shape::Requests(_) if scale < 1.0 => load.requests = Some(preset.requests(scale)),
            Shape::Requests(_) => {}
            Shape::Seconds(seconds) => load.duration = Some(scaled(seconds)),
            Shape::Users(_) if load.connections.is_some() => {
                return usage(format!(
                    "the users of --preset {} come and go, so there is no one -c: give --stages, or -d, of your own",
                    preset.name
                ));
            }
            Shape::Users(points) => {
                let at = |&(second, users): &(u64, u32)| UsersAt { at: scaled(second), users };
                load.stages = Some(Stages::Users(points.iter().map(at).collect()));
            }
        }
        let closed = !paced && !matches!(load.stages, Some(Stages::Rate(_)));
        if closed && preset.think_ms > 0 {
            load.think.get_or_insert(Nanos::from_millis(preset.think_ms));
        }
        let request = &mut filled.request;
        let own = request.method.is_some() || request.body.is_some() || request.body_file.is_some();
        if !own && request.mix.is_none() {
            request.mix = preset.mix();
        }
        if scale < 1.0 {
            let scaled = Nanos((1e9 * scale) as u64).max(INTERVAL_MIN);
            filled.tool.interval.get_or_insert(scaled);
        }
        Ok(filled)
    }
}

impl StubArgs {
    /// The further flags of the stub: the user's, and those of the preset that the user did not give.
    pub(super) fn extra_with(&self, preset: Preset) -> Vec<String> {
        let own = self.extra();
        let given = |flag: &str| own.iter().any(|arg| arg.split('=').next() == Some(flag));
        let of_preset = preset.stub.iter().filter(|[flag, _]| !given(flag)).flatten();
        let mut extra: Vec<String> = of_preset.map(|&text| text.to_owned()).collect();
        extra.extend(own);
        extra
    }
}
