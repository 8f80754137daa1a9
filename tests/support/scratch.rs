//! A folder of a test's own, removed when the test passes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::program::Hairspring;

/// A scratch folder. It stays when its test fails.
#[derive(Debug)]
pub(crate) struct Scratch {
    root: PathBuf,
}

impl Scratch {
    /// A fresh folder; `name` is for people who look into it.
    pub(crate) fn new(name: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir()
            .join(format!("hairspring-tests-{}", std::process::id()))
            .join(format!("{name}-{number}"));
        // Another test may remove the folder above as the last of its own just now.
        let made = || ["work", "io"].iter().all(|name| fs::create_dir_all(root.join(name)).is_ok());
        assert!((0..100).any(|_| made()), "cannot make {}", root.display());
        Self { root }
    }

    /// The working directory of every program started here.
    pub(crate) fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// A path in the working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work().join(name)
    }

    /// Where the harness keeps what programs print; not in the way of the test.
    pub(super) fn io(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.root.join("io").join(format!("{}-{name}", NEXT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Writes a file into the working directory.
    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What stands in the working directory, sorted.
    pub(crate) fn entries(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.work())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// The program with these flags, split at blanks; flags that have blanks go to `arg`.
    pub(crate) fn hairspring(&self, flags: &str) -> Hairspring<'_> {
        Hairspring::new(self, flags)
    }

    /// A JSON file of the working directory.
    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        let path = self.path(name);
        let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the files of the failed test are in {}", self.root.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.root);
        let _ = fs::remove_dir(self.root.parent().unwrap_or(Path::new("/nonexistent")));
    }
}
