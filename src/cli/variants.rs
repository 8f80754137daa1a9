//! `compare` of more than two: variants, their names and their flags. A variant's flags are those of `run`, parsed by the
//! same definitions, and take the place of the common ones.

use clap::parser::ValueSource;
use clap::{Args, FromArgMatches};

use super::values::{parse_model, parse_url};
use super::{CliError, CommonArgs, CompareArgs, TargetArgs, usage};
use crate::analyze::summary::TABLED;
use crate::plan::Url;

/// The stub's threading models, in the order of `--stub all`.
const MODELS: [&str; 4] = ["single", "threads", "pool", "per-core"];
/// What `--stub` takes for all of them.
const ALL: &str = "all";
/// At most so many variants: their pairs need rounds, and a table of all pairs has to be read.
const MOST: usize = 16;
/// Flags of the whole comparison: requests are only common with one seed, and there is one folder and one exit code.
const OF_ALL: [(&str, &str); 6] = [
    ("seed", "--seed"),
    ("out", "--out"),
    ("strict", "--strict"),
    ("on_inconclusive", "--on-inconclusive"),
    ("metrics_listen", "--metrics-listen"),
    ("metrics_file", "--metrics-file"),
];

/// `--variant 'NAME: FLAGS'`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name, in reports and of its files.
    pub name: String,
    /// What it sets beside the common flags, as typed.
    pub flags: String,
}

/// What a variant can set.
#[derive(Debug, Clone, Args)]
struct VariantArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// One of those that are compared: what it measures, and all its flags.
pub(super) struct Side {
    pub(super) name: String,
    /// None: the stub of this model.
    pub(super) url: Option<Url>,
    pub(super) model: String,
    pub(super) command: Option<String>,
    pub(super) common: CommonArgs,
}

impl Side {
    pub(super) fn is_started(&self) -> bool {
        self.url.is_none() || self.command.is_some()
    }
}

pub(super) fn parse_variant(text: &str) -> Result<Variant, String> {
    const FORM: &str = "write 'NAME: FLAGS', as in 'closed: --keepalive off'";
    let (name, flags) = text.split_once(':').ok_or(FORM)?;
    let (name, flags) = (name.trim().to_owned(), flags.trim().to_owned());
    if !is_name(&name) {
        return Err(format!(
            "{FORM}; the name is also that of files: letters, digits, and - _ . between them, at most 40"
        ));
    }
    if name == "target" {
        return Err("`target` is what `run` calls its own: give another name".to_owned());
    }
    Ok(Variant { name, flags })
}

/// Whether it can also be the name of a file or a folder.
pub(super) fn is_name(text: &str) -> bool {
    let of_file = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(of_file) && text.len() <= 40
}

/// A model, or all of them.
pub(super) fn parse_models(text: &str) -> Result<String, String> {
    if text == ALL { Ok(text.to_owned()) } else { parse_model(text) }
}

/// `--rank-by`: the key of a figure.
pub(super) fn parse_figure(text: &str) -> Result<String, String> {
    let tabled = TABLED.iter().find(|(name, p)| *name == text || p.to_string() == text);
    match (text, tabled) {
        ("mean", _) => Ok(text.to_owned()),
        (_, Some((name, _))) => Ok((*name).to_owned()),
        _ => Err("p50, p90, p95, p99, p99.9 or mean".to_owned()),
    }
}

impl CompareArgs {
    /// The variants in their order: those of `--stub all`, then each `--variant`. None where baseline and optimized are
    /// compared.
    pub fn variants(&self) -> Vec<Variant> {
        let all = self.target.stub_model.as_deref() == Some(ALL);
        let models = MODELS.iter().filter(|_| all);
        let models =
            models.map(|model| Variant { name: (*model).to_owned(), flags: format!("--stub {model}") });
        models.chain(self.variant.iter().cloned()).collect()
    }

    /// The names of the variants that the gate judges.
    pub fn judged(&self) -> Vec<String> {
        match self.judge.is_empty() {
            true => self.variants().into_iter().map(|variant| variant.name).collect(),
            false => self.judge.clone(),
        }
    }

    /// What is compared.
    pub(super) fn sides(&self) -> Result<Vec<Side>, CliError> {
        let variants = self.variants();
        if variants.is_empty() {
            return self.two_sides();
        }
        let two = [
            ("--baseline-stub", &self.baseline_stub),
            ("--optimized-stub", &self.optimized_stub),
            ("--baseline-url", &self.baseline_url),
            ("--optimized-url", &self.optimized_url),
        ];
        if let Some((flag, _)) = two.iter().find(|(_, given)| given.is_some()) {
            return usage(format!("{flag} names one of two sides; with variants each names its own target"));
        }
        if variants.len() < 2 || variants.len() > MOST {
            return usage(format!(
                "--variant is given for {}: from 2 to {MOST} can be compared",
                variants.len()
            ));
        }
        let again = self.aa.then(|| format!("{}-again", variants[0].name));
        for (at, Variant { name, .. }) in variants.iter().enumerate() {
            if variants[..at].iter().any(|earlier| earlier.name == *name) || again.as_ref() == Some(name) {
                return usage(format!("--variant: there are two with the name {name}"));
            }
        }
        if let Some(name) = self.judge.iter().find(|name| variants.iter().all(|v| v.name != **name)) {
            return usage(format!("--judge {name}: no variant has this name"));
        }
        variants.iter().map(|variant| self.side(variant).map_err(|error| error.of(&variant.name))).collect()
    }

    /// One variant: the common flags, and its own in their place.
    fn side(&self, variant: &Variant) -> Result<Side, CliError> {
        let words = shell_words::split(&variant.flags).map_err(|error| CliError::Usage(error.to_string()))?;
        let command = clap::Command::new("variant").no_binary_name(true).disable_help_flag(true);
        let mut matches = VariantArgs::augment_args(command)
            .try_get_matches_from(words)
            .map_err(|error| CliError::Usage(first_paragraph(&error.to_string())))?;
        let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
        if let Some((_, flag)) = OF_ALL.iter().find(|(id, _)| given(id)) {
            return usage(format!("{flag} is of the whole comparison: give it outside of the variant"));
        }
        let defaults: Vec<String> =
            matches.ids().map(|id| id.as_str().to_owned()).filter(|id| !given(id)).collect();
        let own = VariantArgs::from_arg_matches(&matches).expect("clap has checked it");
        let mut all = self.common_beside(&own);
        for id in defaults {
            // what is only a default must not replace a common flag
            let _ = matches.try_clear_id(&id);
        }
        all.update_from_arg_matches(&matches).expect("clap has checked it");
        let side = Side::of(&variant.name, all)?;
        own.common.refuse_idle_flags(side.url.is_none(), side.is_started())?;
        Ok(side)
    }

    /// The common flags, without those that a flag of `own` excludes.
    fn common_beside(&self, own: &VariantArgs) -> VariantArgs {
        let mut all = VariantArgs { target: self.target.clone(), common: self.common.clone() };
        if all.target.stub_model.as_deref() == Some(ALL) {
            all.target.stub_model = None;
        }
        if own.target.url.is_some() || own.target.stub_model.is_some() {
            all.target = TargetArgs { url: None, stub_model: None, cmd: None };
        }
        let (request, load) = (&own.common.request, &own.common.load);
        if request.body.is_some() || request.body_file.is_some() || request.mix.is_some() {
            let common = &mut all.common.request;
            (common.body, common.body_file, common.mix) = (None, None, None);
        }
        if load.rate.is_some() || load.stages.is_some() || load.replay.is_some() || load.think.is_some() {
            let common = &mut all.common.load;
            (common.rate, common.stages, common.replay, common.think) = (None, None, None, None);
        }
        all
    }

    fn two_sides(&self) -> Result<Vec<Side>, CliError> {
        let TargetArgs { url, stub_model, cmd } = &self.target;
        if url.is_some() || stub_model.is_some() || cmd.is_some() {
            return usage(
                "one target is nothing to compare: give --variant twice or more, --stub all, or --baseline-… and \
                 --optimized-…",
            );
        }
        if !self.judge.is_empty() || self.rank_by.is_some() {
            return usage(
                "--judge and --rank-by are for variants: give --variant twice or more, or --stub all",
            );
        }
        let side = |name: &str,
                    url: &Option<String>,
                    model: &Option<String>,
                    default: &str,
                    command: &Option<String>| {
            Ok(Side {
                name: name.to_owned(),
                url: url.as_deref().map(parse_url).transpose()?,
                model: model.as_deref().unwrap_or(default).to_owned(),
                command: command.clone(),
                common: self.common.clone(),
            })
        };
        let Self {
            baseline_url,
            baseline_stub,
            baseline_cmd,
            optimized_url,
            optimized_stub,
            optimized_cmd,
            ..
        } = self;
        Ok(vec![
            side("baseline", baseline_url, baseline_stub, "single", baseline_cmd)?,
            side("optimized", optimized_url, optimized_stub, "pool", optimized_cmd)?,
        ])
    }
}

impl Side {
    fn of(name: &str, args: VariantArgs) -> Result<Self, CliError> {
        let VariantArgs { target: TargetArgs { url, stub_model, cmd }, common } = args;
        let (url, model) = match (url, stub_model) {
            (Some(url), _) => (Some(parse_url(&url)?), String::new()),
            (None, Some(model)) if model == ALL => {
                return usage("--stub all is several variants: name one model");
            }
            (None, Some(model)) => (None, model),
            (None, None) => {
                return usage("what does it measure? Give a URL or --stub MODEL, for it or for all");
            }
        };
        if cmd.is_some() && url.is_none() {
            return usage("--cmd starts the server of a URL: give the URL");
        }
        Ok(Self { name: name.to_owned(), url, model, command: cmd, common })
    }
}

impl CliError {
    /// Says which variant it is about.
    pub(super) fn of(self, variant: &str) -> Self {
        let says = |text| format!("variant {variant}: {text}");
        match self {
            Self::Usage(text) => Self::Usage(says(text)),
            Self::Machine(text) => Self::Machine(says(text)),
        }
    }
}

/// What clap says of an error, without the usage of a command that nobody typed.
pub(super) fn first_paragraph(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split("\n\nUsage")
        .next()
        .unwrap_or(text)
        .split("\n\nFor more")
        .next()
        .unwrap_or(text)
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::load::io::Stamps;
    use crate::load::time::Nanos;
    use crate::plan::{Body, KeepalivePlan, Plan, Server};

    #[derive(Parser)]
    #[command(no_binary_name = true)]
    struct Compare {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn plans(argv: &[&str]) -> Result<Vec<Plan>, CliError> {
        Compare::try_parse_from(argv).unwrap().args.plans(&[0, 1])
    }

    #[test]
    fn a_variant_changes_what_it_says_and_nothing_else() {
        let common =
            ["http://127.0.0.1:1/", "-n", "60", "--body", "b", "-H", "A: 1", "--timeout", "3s", "--digest"];
        let common = [&common[..], &["--rate", "10/s", "--no-log", "--stamps", "rx"]].concat();
        let variants =
            ["--variant", "same:", "--variant", "off: --keepalive off --think 1ms --body-file 'a b'"];
        let last = ["--variant", "stub: --stub multi --workers 3 -n 50"];
        let plans = plans(&[&common[..], &variants, &last].concat()).unwrap();
        let [same, off, stub] = &plans[..] else { panic!("{} plans", plans.len()) };
        assert_eq!([same, off, stub].map(|p| p.target.name.as_str()), ["same", "off", "stub"]);
        for plan in &plans {
            assert_eq!((plan.limits.timeout, plan.request.headers.len()), (Nanos::from_secs(3), 1));
            assert_eq!((plan.log, plan.digest, plan.client.stamps), (false, true, Stamps::Rx));
        }
        assert_eq!((same.measure.count, same.keepalive), (Some(60), KeepalivePlan::On));
        assert!(same.load.think().is_none() && off.load.think() == Some(Nanos::from_millis(1)));
        assert_ne!(off.keepalive, KeepalivePlan::On);
        assert_eq!(off.request.body, Body::File { path: "a b".to_owned() });
        assert_eq!((off.target.url.clone(), stub.measure.count), (same.target.url.clone(), Some(50)));
        assert!(matches!(&stub.target.server, Server::Stub(s) if s.model == "pool" && s.workers == 3));
        assert_eq!(stub.target.url, None);
        assert_eq!(
            plans.iter().map(|plan| plan.rounds).collect::<Vec<_>>(),
            [7; 3],
            "as many as three pairs need"
        );
    }

    #[test]
    fn all_models_of_the_stub_are_variants() {
        let argv = [
            "--stub",
            "all",
            "--workers",
            "2",
            "--variant",
            "more: --stub pool --workers 9",
            "--rounds",
            "2",
        ];
        let plans = plans(&argv).unwrap();
        let models: Vec<(&str, u32)> = plans
            .iter()
            .map(|plan| match &plan.target.server {
                Server::Stub(stub) => (plan.target.name.as_str(), stub.workers),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(models, [("single", 2), ("threads", 2), ("pool", 2), ("per-core", 2), ("more", 9)]);
        assert_eq!(plans[4].rounds, 2);
    }

    #[test]
    fn the_figure_that_ranks_is_the_gates_unless_another_is_named() {
        for (flags, figure) in [
            (&[][..], "p95"),
            (&["--sla", "errors<1%", "--sla", "p99<=1s"], "p99"),
            (&["--sla", "errors<1%"], "p50"),
            (&["--rank-by", "p99.9"], "p999"),
            (&["--rank-by", "mean"], "mean"),
        ] {
            let args = Compare::parse_from([&["--stub", "all"][..], flags].concat()).args;
            assert_eq!(args.figure(&args.plans(&[0, 1]).unwrap()[0]), figure);
        }
    }
}
