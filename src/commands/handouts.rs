//! `--summary` and `--junit`: the verdict in the files that CI servers show.
//!
//! Both are opened before the load, so that a path that cannot be written is refused while nothing is lost, and so that no
//! verdict of an earlier run stays in the JUnit file of one that ended early: that file is empty then, which CI servers call
//! an error. The summary is appended to, since a job's steps share one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use hairspring::analyze::gate::SlaReport;
use hairspring::cli::{HandoutArgs, OnInconclusive};
use hairspring::report::{CaseOutcome, Judged, junit, markdown};

use super::{Console, Failure, Measured};

/// What a file is.
#[derive(Clone, Copy)]
pub(crate) enum Form {
    /// `--junit`
    Junit,
    /// `--summary`
    Markdown,
}

/// The files that were asked for, open.
pub(crate) struct Handouts {
    summary: Option<(PathBuf, File)>,
    junit: Option<(PathBuf, File)>,
}

impl Handouts {
    /// Opens them.
    pub(crate) fn open(args: &HandoutArgs) -> Result<Self, Failure> {
        let open = |flag: &str, path: &Option<PathBuf>, options: &OpenOptions| {
            let Some(path) = path.clone() else { return Ok(None) };
            match options.open(&path) {
                Ok(file) => Ok(Some((path, file))),
                Err(error) => {
                    Err(Failure::environment(format!("cannot write {flag} {}: {error}", path.display())))
                }
            }
        };
        let mut options = OpenOptions::new();
        let summary = open("--summary", &args.summary, options.append(true).create(true))?;
        let mut options = OpenOptions::new();
        let junit = open("--junit", &args.junit, options.write(true).create(true).truncate(true))?;
        Ok(Self { summary, junit })
    }

    /// Writes what `render` makes of each form; `render` is told whether the other file could not be written. True, and said,
    /// if one could not.
    pub(crate) fn write(
        self,
        console: &mut Console<'_>,
        mut render: impl FnMut(Form, bool) -> String,
    ) -> bool {
        // The second file knows of the first one's failure; the other way round only the exit code does.
        let mut failed = false;
        for (form, file) in [(Form::Junit, self.junit), (Form::Markdown, self.summary)] {
            let Some((path, mut file)) = file else { continue };
            if let Err(error) = file.write_all(render(form, failed).as_bytes()) {
                console.warn(&format!("cannot write {}: {error}", path.display()));
                failed = true;
            }
        }
        failed
    }

    /// Writes them and says the last line; a file that cannot be written is in both.
    pub(crate) fn conclude(self, command: &str, measured: Measured, console: &mut Console<'_>) -> u8 {
        let verdicts = measured.saved.verdicts();
        self.conclude_by(command, measured, &verdicts, console)
    }

    /// The same by other verdicts than its own.
    pub(crate) fn conclude_by(
        self,
        command: &str,
        mut measured: Measured,
        verdicts: &[SlaReport],
        console: &mut Console<'_>,
    ) -> u8 {
        let failed = self.write(console, |form, failed| {
            measured.judgement.environment_failed |= failed;
            let judged = measured.judged(command, verdicts);
            match form {
                Form::Junit => junit::render(&judged),
                Form::Markdown => markdown::render(&judged),
            }
        });
        measured.judgement.environment_failed |= failed;
        measured.judgement.conclude(console)
    }
}

impl Measured {
    /// For readers that see no terminal.
    pub(crate) fn judged<'a>(&'a self, command: &'a str, verdicts: &'a [SlaReport]) -> Judged<'a> {
        let Self { saved, judgement } = self;
        let exit_code = judgement.exit_code();
        Judged {
            command,
            saved,
            verdicts,
            exit_code,
            words: judgement.words(exit_code),
            environment_failed: judgement.environment_failed,
            strict: judgement.strict,
            inconclusive: match judgement.on_inconclusive {
                OnInconclusive::Say => CaseOutcome::Error,
                OnInconclusive::Fail => CaseOutcome::Failed,
                OnInconclusive::Pass => CaseOutcome::Skipped,
            },
        }
    }
}
