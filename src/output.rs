//! I/O: the folder of results. Whole files appear at once (temporary name, then rename); the per-request
//! log is written by a thread of its own (`log`) and appears when its round is over; what is known meanwhile is told by
//! another (`metrics`, `responder`), and the commands that alerts are told to run from a third (`hook`).

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

mod hook;
mod log;
mod metrics;
mod responder;

pub use hook::{AlertHook, AlertPort, AlertSource};
pub use log::{LogOutcome, LogWriter};
pub use metrics::{Outlets, Publisher};

/// Marks a folder as one of ours, so that no other is ever renamed.
const PLAN_FILE: &str = "plan.json";
/// Room kept free for the report: the log must not take the last of the disk.
const RESERVE_FILE: &str = ".reserve";
const RESERVE_BYTES: u64 = 256 << 10;

/// Why there is no folder for the results.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The folder is somebody else's.
    #[error("{0} exists and is not a results folder of hairspring: choose another --out")]
    NotOurs(PathBuf),
    /// The system said no.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The folder of results.
#[derive(Debug)]
pub struct OutDir {
    path: PathBuf,
}

impl Drop for OutDir {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.file(RESERVE_FILE));
    }
}

impl OutDir {
    /// Makes a fresh folder at `path` with `plan` in it. A folder of an earlier run is renamed to the first free of
    /// `path.1`, `path.2`, …; anything else that is in the way is an error.
    pub fn create(path: &Path, plan: &[u8]) -> Result<Self, OutputError> {
        let failed = |what| move |source| OutputError::Io { what, path: path.to_owned(), source };
        if path.exists() {
            let empty = path.is_dir() && fs::read_dir(path).map_err(failed("read"))?.next().is_none();
            if !empty {
                if !path.join(PLAN_FILE).is_file() {
                    return Err(OutputError::NotOurs(path.to_owned()));
                }
                fs::rename(path, free_name(path)).map_err(failed("rename"))?;
            }
        }
        fs::create_dir_all(path).map_err(failed("create the folder"))?;
        let dir = Self { path: path.to_owned() };
        dir.write(PLAN_FILE, plan)?;
        dir.reserve();
        Ok(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file in it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a whole file so that it is either the old or the new one at any time.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), OutputError> {
        let temporary = self.file(&format!(".{name}.tmp"));
        let write = || replace(&self.file(name), &temporary, bytes, true);
        let written = match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                let _ = fs::remove_file(self.file(RESERVE_FILE));
                write()
            }
            other => other,
        };
        written.map_err(|source| {
            let _ = fs::remove_file(&temporary);
            OutputError::Io { what: "write", path: self.file(name), source }
        })
    }

    /// Without room for it there is no reserve, and the run goes on.
    fn reserve(&self) {
        let allocate = || -> io::Result<()> {
            let file = File::create(self.file(RESERVE_FILE))?;
            Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)?)
        };
        if allocate().is_err() {
            let _ = fs::remove_file(self.file(RESERVE_FILE));
        }
    }
}

/// Writes a file so that it is either the old or the new one at any time; `synced`: also after the machine went down.
fn replace(path: &Path, temporary: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_data()?;
    }
    fs::rename(temporary, path)
}

fn free_name(path: &Path) -> PathBuf {
    let numbered = |n: u32| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{n}"));
        path.with_file_name(name)
    };
    (1..).map(numbered).find(|candidate| !candidate.exists()).expect("some number is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("hairspring-output-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn an_earlier_results_folder_is_renamed_and_nothing_else_ever_is() {
        let scratch = Scratch::new("rename");
        let path = scratch.0.join("results");
        OutDir::create(&path, b"first").unwrap();
        OutDir::create(&path, b"second").unwrap();
        OutDir::create(&path, b"third").unwrap();
        let plan = |name: &str| fs::read_to_string(scratch.0.join(name).join(PLAN_FILE)).unwrap();
        assert_eq!(
            (plan("results.1"), plan("results.2"), plan("results")),
            ("first".into(), "second".into(), "third".into())
        );

        let precious = scratch.0.join("home");
        fs::create_dir(&precious).unwrap();
        fs::write(precious.join("thesis.tex"), "years of work").unwrap();
        assert!(matches!(OutDir::create(&precious, b"x"), Err(OutputError::NotOurs(_))));
        assert!(precious.join("thesis.tex").exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_leaves_the_old_one() {
        let scratch = Scratch::new("atomic");
        let dir = OutDir::create(&scratch.0.join("out"), b"plan").unwrap();
        dir.write("report.json", b"old").unwrap();
        fs::create_dir(dir.file(".report.json.tmp")).unwrap();
        assert!(dir.write("report.json", b"new").is_err());
        assert_eq!(fs::read(dir.file("report.json")).unwrap(), b"old");
    }
}
