//! The grammar of a suite: servers, variants, scenarios, gates and outputs in one TOML file. All else that a scenario sets are
//! flags of `run` and `compare`, parsed by the same definitions, so that a file cannot say what the command line could not.
//! Every error names its line. No I/O: the text is handed in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use clap::parser::ValueSource;
use serde::Deserialize;
use toml::Spanned;

use super::variants::{first_paragraph, is_name};
use super::{CliError, CompareArgs, HandoutArgs, RunArgs};
use crate::analyze::gate::Rule;

/// Flags of the whole suite: it has one folder and one verdict.
const OF_ALL: [(&str, &str); 3] = [("out", "--out"), ("summary", "--summary"), ("junit", "--junit")];

/// `hairspring suite`
#[derive(Debug, Clone, Args)]
pub struct SuiteArgs {
    /// Servers, variants, scenarios, gates and outputs; docs/FORMATS.md says how to write it
    #[arg(value_name = "FILE.toml")]
    pub file: PathBuf,
    /// Check the file and all that it names, measure nothing
    #[arg(long)]
    pub check: bool,
    /// Folder of the results, with a folder for each scenario [default: what the file says, or results]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Files for CI servers; the file can name them too.
    #[command(flatten)]
    pub handouts: HandoutArgs,
}

/// A suite whose scenarios are commands.
#[derive(Debug)]
pub struct Suite {
    /// Its name, in reports.
    pub name: String,
    /// Folder of the results.
    pub out: PathBuf,
    /// Files for CI servers.
    pub handouts: HandoutArgs,
    /// In the order in which they are run.
    pub scenarios: Vec<Scenario>,
}

/// One measurement of a suite.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, in reports and of its folder.
    pub name: String,
    /// File, line and name, for errors.
    pub place: String,
    /// What would stand on the command line.
    pub argv: Vec<String>,
    /// What that says.
    pub command: Measurement,
}

/// A command that measures.
#[derive(Debug)]
pub enum Measurement {
    /// One target.
    Run(Box<RunArgs>),
    /// Two or more.
    Compare(Box<CompareArgs>),
}

impl Measurement {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Compare(_) => "compare",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: Option<String>,
    #[serde(default)]
    outputs: Outputs,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    servers: BTreeMap<String, Server>,
    #[serde(default)]
    variants: BTreeMap<String, VariantTable>,
    #[serde(default, rename = "scenario")]
    scenarios: Vec<ScenarioTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outputs {
    out: Option<PathBuf>,
    summary: Option<PathBuf>,
    junit: Option<PathBuf>,
}

/// What every scenario has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    flags: Option<Spanned<String>>,
    #[serde(default)]
    gates: Vec<Spanned<String>>,
}

/// What is measured: a URL, with a command where we start it; or the stub.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    url: Option<String>,
    cmd: Option<String>,
    stub: Option<String>,
    flags: Option<Spanned<String>>,
}

/// A server under flags of its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantTable {
    server: Spanned<String>,
    flags: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioTable {
    name: Spanned<String>,
    server: Option<Spanned<String>>,
    baseline: Option<Spanned<String>>,
    optimized: Option<Spanned<String>>,
    #[serde(default)]
    variants: Vec<Spanned<String>>,
    preset: Option<String>,
    flags: Option<Spanned<String>>,
    #[serde(default)]
    gates: Vec<Spanned<String>>,
}

impl SuiteArgs {
    /// The suite that `text` describes, with what the command line says of its outputs; or everything that is wrong with it.
    pub fn suite(&self, text: &str) -> Result<Suite, Vec<CliError>> {
        let source = Source { text, file: self.file.display().to_string() };
        let document: Document = toml::from_str(text).map_err(|error| {
            vec![source.error(error.span().map_or(0, |span| span.start), error.message().trim())]
        })?;
        let (mut scenarios, mut errors) = (Vec::<Scenario>::new(), Vec::new());
        for table in &document.scenarios {
            match source.scenario(&document, table) {
                Ok(scenario) if scenarios.iter().any(|earlier| earlier.name == scenario.name) => {
                    errors.push(source.at(&table.name, "there are two scenarios of this name"));
                }
                Ok(scenario) => scenarios.push(scenario),
                Err(error) => errors.push(error),
            }
        }
        if document.scenarios.is_empty() {
            errors.push(source.error(0, "there is no [[scenario]] in it"));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let Outputs { out, summary, junit } = document.outputs;
        Ok(Suite {
            name: document.name.unwrap_or_else(|| "suite".to_owned()),
            out: self.out.clone().or(out).unwrap_or_else(|| PathBuf::from("results")),
            handouts: HandoutArgs {
                summary: self.handouts.summary.clone().or(summary),
                junit: self.handouts.junit.clone().or(junit),
            },
            scenarios,
        })
    }
}

/// The file, for errors that say where.
struct Source<'a> {
    text: &'a str,
    file: String,
}

impl Source<'_> {
    fn error(&self, offset: usize, why: &str) -> CliError {
        CliError::Usage(format!("{}:{}: {why}", self.file, self.line(offset)))
    }

    /// About a value of the file, which is named.
    fn at(&self, value: &Spanned<String>, why: &str) -> CliError {
        CliError::Usage(format!("{}: {why}", self.place(value)))
    }

    fn place(&self, value: &Spanned<String>) -> String {
        format!("{}:{}: {}", self.file, self.line(value.span().start), value.get_ref())
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.text[..offset].matches('\n').count()
    }

    fn scenario(&self, document: &Document, table: &ScenarioTable) -> Result<Scenario, CliError> {
        let name = table.name.get_ref();
        if !is_name(name) {
            let why =
                "the name is also that of a folder: letters, digits, and - _ . between them, at most 40";
            return Err(self.at(&table.name, why));
        }
        let mut argv = self.words(document.defaults.flags.as_ref())?;
        let compares = self.target(document, table, &mut argv)?;
        if let Some(preset) = &table.preset {
            argv.extend(["--preset".to_owned(), preset.clone()]);
        }
        argv.extend(self.words(table.flags.as_ref())?);
        for gate in document.defaults.gates.iter().chain(&table.gates) {
            let rule: Result<Rule, _> = gate.get_ref().parse();
            rule.map_err(|error| self.error(gate.span().start, &error.to_string()))?;
            argv.extend(["--sla".to_owned(), gate.get_ref().clone()]);
        }
        let refused = |why: String| self.at(&table.name, &why);
        let command = match compares {
            true => Measurement::Compare(Box::new(parsed(&argv).map_err(refused)?)),
            false => Measurement::Run(Box::new(parsed(&argv).map_err(refused)?)),
        };
        Ok(Scenario { name: name.clone(), place: self.place(&table.name), argv, command })
    }

    /// Appends what names the target or targets; true where there are several, to be compared.
    fn target(
        &self,
        document: &Document,
        table: &ScenarioTable,
        argv: &mut Vec<String>,
    ) -> Result<bool, CliError> {
        let sides = [("baseline", &table.baseline), ("optimized", &table.optimized)];
        match (&table.server, sides, &table.variants[..]) {
            (Some(server), [(_, None), (_, None)], []) => {
                argv.extend(self.server(document, server)?);
                Ok(false)
            }
            (None, [(_, Some(_)), (_, Some(_))], []) => {
                for (side, server) in sides {
                    argv.extend(self.side(document, side, server.as_ref().expect("it was matched"))?);
                }
                Ok(true)
            }
            (None, [(_, None), (_, None)], variants) if !variants.is_empty() => {
                for variant in variants {
                    argv.extend(["--variant".to_owned(), self.variant(document, variant)?]);
                }
                Ok(true)
            }
            (None, [(_, None), (_, None)], []) if table.preset.is_some() => Ok(false),
            _ => Err(self.at(
                &table.name,
                "what does it measure? Give one of: server; baseline and optimized; variants; or only a preset, for the stub",
            )),
        }
    }

    /// A server as `run` and variants take it.
    fn server(&self, document: &Document, name: &Spanned<String>) -> Result<Vec<String>, CliError> {
        let Some(server) = document.servers.get(name.get_ref()) else {
            return Err(self.at(name, "there is no [servers] of this name"));
        };
        let mut words = match (&server.url, &server.stub) {
            (Some(url), None) => vec![url.clone()],
            (None, Some(model)) => vec!["--stub".to_owned(), model.clone()],
            _ => {
                return Err(
                    self.at(name, "a server has either a url or a stub, the model of the stub server")
                );
            }
        };
        if let Some(cmd) = &server.cmd {
            words.extend(["--cmd".to_owned(), cmd.clone()]);
        }
        words.extend(self.words(server.flags.as_ref())?);
        Ok(words)
    }

    /// A server as one of two sides. Baseline and optimized share all their flags.
    fn side(&self, document: &Document, side: &str, name: &Spanned<String>) -> Result<Vec<String>, CliError> {
        let words = self.server(document, name)?;
        let server = &document.servers[name.get_ref()];
        if server.flags.is_some() {
            let why = "baseline and optimized differ in what is measured alone: write its flags into the scenario, for both, or \
                       make them variants";
            return Err(self.at(name, why));
        }
        let mut side_words = Vec::with_capacity(words.len() + 1);
        if server.url.is_some() {
            side_words.push(format!("--{side}-url"));
        }
        side_words.extend(words.into_iter().map(|word| match word.as_str() {
            "--stub" => format!("--{side}-stub"),
            "--cmd" => format!("--{side}-cmd"),
            _ => word,
        }));
        Ok(side_words)
    }

    /// `NAME: FLAGS` of a variant, or of a server that is one as it is.
    fn variant(&self, document: &Document, name: &Spanned<String>) -> Result<String, CliError> {
        let words = match document.variants.get(name.get_ref()) {
            Some(variant) => {
                let mut words = self.server(document, &variant.server)?;
                words.extend(self.words(variant.flags.as_ref())?);
                words
            }
            None if document.servers.contains_key(name.get_ref()) => self.server(document, name)?,
            None => return Err(self.at(name, "there is no [variants] and no [servers] of this name")),
        };
        Ok(format!("{}: {}", name.get_ref(), shell_words::join(words)))
    }

    /// Flags, split as a shell does.
    fn words(&self, flags: Option<&Spanned<String>>) -> Result<Vec<String>, CliError> {
        let Some(flags) = flags else { return Ok(Vec::new()) };
        shell_words::split(flags.get_ref()).map_err(|error| self.at(flags, &error.to_string()))
    }
}

/// The arguments of a command. A flag that comes again takes the place of the earlier one, so a scenario wins over defaults;
/// those that can be repeated add up.
fn parsed<T: Args>(argv: &[String]) -> Result<T, String> {
    let command = clap::Command::new("scenario").no_binary_name(true).disable_help_flag(true);
    let said = |error: clap::Error| first_paragraph(&error.to_string());
    let matches =
        T::augment_args(command.args_override_self(true)).try_get_matches_from(argv).map_err(said)?;
    let given = |id: &str| matches.value_source(id) == Some(ValueSource::CommandLine);
    match OF_ALL.iter().find(|(id, _)| given(id)) {
        Some((_, flag)) => Err(format!("{flag} is of the whole suite: write it under [outputs]")),
        None => T::from_arg_matches(&matches).map_err(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, Server};

    fn suite(text: &str) -> Result<Suite, Vec<String>> {
        let args =
            SuiteArgs { file: "s.toml".into(), out: None, check: false, handouts: HandoutArgs::default() };
        args.suite(text).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    fn plans(scenario: &Scenario) -> Vec<Plan> {
        match &scenario.command {
            Measurement::Run(args) => vec![args.plan(&[0, 1]).unwrap()],
            Measurement::Compare(args) => args.plans(&[0, 1]).unwrap(),
        }
    }

    #[test]
    fn a_scenario_is_a_command_line() {
        let suite = suite(
            r#"
            name = "nightly"
            [outputs]
            out = "there"
            junit = "x.xml"
            [defaults]
            flags = "-n 60 --seed 7"
            gates = ["errors<1%"]
            [servers.app]
            url = "http://127.0.0.1:1/"
            cmd = "serve it"
            [servers.small]
            stub = "pool"
            flags = "--workers 2"
            [servers.one]
            stub = "single"
            [variants.closing]
            server = "app"
            flags = "--keepalive off -H 'A: b c'"
            [[scenario]]
            name = "plain"
            server = "small"
            flags = "-n 40 -c 4"
            gates = ["p95<=1s"]
            [[scenario]]
            name = "two"
            baseline = "one"
            optimized = "app"
            flags = "--ignore-output"
            [[scenario]]
            name = "several"
            variants = ["closing", "one"]
            [[scenario]]
            name = "alone"
            preset = "founding"
            "#,
        )
        .unwrap();
        assert_eq!((suite.name.as_str(), suite.out.to_str()), ("nightly", Some("there")));
        assert_eq!(suite.handouts.junit, Some("x.xml".into()));
        let [plain, two, several, alone] = &suite.scenarios[..] else { panic!("{suite:?}") };
        let [plan] = &plans(plain)[..] else { panic!("one") };
        assert_eq!((plan.measure.count, plan.connections, plan.seed), (Some(40), 4, 7), "the scenario wins");
        assert_eq!(plan.sla, ["errors<1%", "p95<=1s"], "gates add up");
        assert!(matches!(&plan.target.server, Server::Stub(stub) if stub.workers == 2));
        let [baseline, optimized] = &plans(two)[..] else { panic!("two") };
        assert!(matches!(&baseline.target.server, Server::Stub(stub) if stub.model == "single"));
        assert!(matches!(&optimized.target.server, Server::Command { command, .. } if command == "serve it"));
        let [closing, one] = &plans(several)[..] else { panic!("two") };
        assert_eq!([&closing.target.name, &one.target.name], ["closing", "one"]);
        assert_eq!(closing.request.headers.len(), 1);
        assert!(matches!(&closing.target.server, Server::Command { .. }));
        let [alone] = &plans(alone)[..] else { panic!("one") };
        assert!(matches!(&alone.target.server, Server::Stub(stub) if stub.workers == 4));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let server = "[servers.a]\nstub = 'pool'\n";
        for (text, expected) in [
            ("nam = 'x'\n", "s.toml:1: unknown field `nam`"),
            ("[servers.a]\nstub = 'pool'\nworkers = 3\n", "s.toml:3: unknown field `workers`"),
            ("[[scenario]]\nserver = 'a'\n", "missing field `name`"),
            ("name = 3\n", "s.toml:1: invalid type: integer `3`"),
            ("name = \n", "s.toml:1: "),
            ("name = 'x'\n", "s.toml:1: there is no [[scenario]]"),
            ("[[scenario]]\nname = 'x'\n", "s.toml:4: x: what does it measure?"),
            ("[[scenario]]\nname = '../x'\npreset = 'basic'\n", "s.toml:4: ../x: the name is also"),
            ("[[scenario]]\nname = 'x'\nserver = 'b'\n", "s.toml:5: b: there is no [servers]"),
            ("[[scenario]]\nname = 'x'\nvariants = ['a',\n 'b']\n", "s.toml:6: b: there is no [variants]"),
            ("[[scenario]]\nname = 'x'\nserver = 'a'\nbaseline = 'a'\n", "s.toml:4: x: what does it"),
            ("[[scenario]]\nname = 'x'\nserver = 'a'\nflags = '-n \"3'\n", "s.toml:6: -n \"3: "),
            (
                "[[scenario]]\nname = 'x'\nserver = 'a'\nflags = '--fast'\n",
                "s.toml:4: x: unexpected argument",
            ),
            (
                "[[scenario]]\nname = 'x'\nserver = 'a'\nflags = '--out b'\n",
                "s.toml:4: x: --out is of the whole",
            ),
            ("[[scenario]]\nname = 'x'\nserver = 'a'\ngates = ['p95<=1s',\n'p95=1s']\n", "s.toml:7: "),
            ("[servers.b]\n[[scenario]]\nname = 'x'\nserver = 'b'\n", "s.toml:6: b: a server has either"),
            (
                "[servers.b]\nstub='single'\nflags='--workers 1'\n[[scenario]]\nname = 'x'\nbaseline = 'a'\noptimized = 'b'\n",
                "s.toml:9: b: baseline and optimized differ",
            ),
            (
                "[[scenario]]\nname = 'x'\nserver = 'a'\n[[scenario]]\nname = 'x'\nserver = 'a'\n",
                "s.toml:7: x: there are two scenarios",
            ),
        ] {
            let own = text.starts_with('[') && !text.starts_with("[servers.a]");
            let text = if own { format!("{server}{text}") } else { text.to_owned() };
            let errors = suite(&text).expect_err(&text);
            assert!(errors.len() == 1 && errors[0].contains(expected), "{text}\n{errors:?}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let text = "[[scenario]]\nname = 'x'\n[[scenario]]\nname = 'y'\nserver = 'b'\n";
        assert_eq!(suite(text).unwrap_err().len(), 2);
    }
}
