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
use hairspring::report::json::Saved;
use hairspring::report::{CaseOutcome, Judged, junit, markdown};

use super::{Console, Failure, Judgement};

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

    /// Writes them and says the last line; a file that cannot be written is in both.
    pub(crate) fn conclude(
        self,
        command: &str,
        saved: &Saved,
        verdicts: &[SlaReport],
        mut judgement: Judgement,
        console: &mut Console<'_>,
    ) -> u8 {
        // The second file knows of the first one's failure; the other way round only the exit code does.
        let Self { summary, junit } = self;
        for (file, render) in
            [(junit, junit::render as fn(&Judged<'_>) -> String), (summary, markdown::render)]
        {
            let Some((path, mut file)) = file else { continue };
            let text = render(&judged(command, saved, verdicts, judgement));
            if let Err(error) = file.write_all(text.as_bytes()) {
                console.warn(&format!("cannot write {}: {error}", path.display()));
                judgement.environment_failed = true;
            }
        }
        judgement.conclude(console)
    }
}

fn judged<'a>(
    command: &'a str,
    saved: &'a Saved,
    verdicts: &'a [SlaReport],
    judgement: Judgement,
) -> Judged<'a> {
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
