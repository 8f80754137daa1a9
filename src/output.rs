//! I/O: the folder of results. Whole files appear at once (temporary name, then rename); the per-request
//! log is written by a thread of its own and appears when its round is over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::load::sample::Sample;
use crate::record::{LogChunk, LogPort};
use crate::report::csv::{COLUMNS, RowBuffer, RowContext, row};

/// What a chunk holds: large enough that hand-overs are rare.
const CHUNK_ROWS: usize = 4_096;
/// All chunks together. Rows that fit are written after the load, not beside it.
const BUDGET_BYTES: usize = 64 << 20;
const WRITER_PAUSE: Duration = Duration::from_millis(5);
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
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&temporary, self.file(name))
        };
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

fn free_name(path: &Path) -> PathBuf {
    let numbered = |n: u32| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{n}"));
        path.with_file_name(name)
    };
    (1..).map(numbered).find(|candidate| !candidate.exists()).expect("some number is free")
}

/// What became of the rows of one round.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOutcome {
    /// Rows in the file, of this round.
    pub rows: u64,
    /// Rows that reached the writer but not the file.
    pub lost: u64,
    /// Why.
    pub error: Option<String>,
}

/// Writes the log of one round beside and after the load.
#[derive(Debug)]
pub struct LogWriter {
    load_over: Arc<AtomicBool>,
    thread: JoinHandle<LogOutcome>,
}

impl LogWriter {
    /// Starts the writer for `rows_expected` rows (if that is known) from `threads` workers; each gets a port. The rows
    /// are added to what `name` already holds.
    pub fn start(
        dir: &OutDir,
        name: &str,
        context: RowContext,
        threads: usize,
        rows_expected: Option<u64>,
    ) -> (Self, Vec<LogPort>) {
        let budget = BUDGET_BYTES / (CHUNK_ROWS * size_of::<Sample>());
        let needed = rows_expected.map_or(budget, |n| (n as usize).div_ceil(CHUNK_ROWS));
        let chunks = needed.min(budget) + 2 * threads;
        let (full_sender, full) = bounded(chunks);
        let (empty_sender, empty) = bounded(chunks);
        for _ in 0..chunks {
            empty_sender.send(Vec::with_capacity(CHUNK_ROWS)).expect("there is room for every chunk");
        }
        let ports =
            (0..threads).map(|_| LogPort { full: full_sender.clone(), empty: empty.clone() }).collect();
        let load_over = Arc::new(AtomicBool::new(false));
        let mut writer = Writer {
            target: dir.file(name),
            temporary: dir.file(&format!(".{name}.tmp")),
            context,
            full,
            empty: empty_sender,
            start_at: chunks / 2,
            load_over: load_over.clone(),
            bytes_before: 0,
            outcome: LogOutcome::default(),
        };
        // Opened here, before the load: connections must not take its descriptor.
        let file = writer.open();
        let thread =
            std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(file));
        (Self { load_over, thread: thread.expect("a thread can be started") }, ports)
    }

    /// Waits until every row that was handed over is in the file; call it when the workers have ended.
    pub fn finish(self) -> LogOutcome {
        self.load_over.store(true, Ordering::Release);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Writer {
    target: PathBuf,
    temporary: PathBuf,
    context: RowContext,
    full: Receiver<LogChunk>,
    empty: Sender<Vec<Sample>>,
    /// Chunks that may wait before writing begins while the load still runs.
    start_at: usize,
    load_over: Arc<AtomicBool>,
    /// Length of the file without the rows of this round.
    bytes_before: u64,
    outcome: LogOutcome,
}

type CsvFile = BufWriter<File>;

impl Writer {
    fn run(mut self, file: io::Result<CsvFile>) -> LogOutcome {
        let mut file = match file {
            Ok(file) => Some(file),
            Err(error) => {
                self.outcome.error = Some(error.to_string());
                None
            }
        };
        let mut line = RowBuffer::default();
        loop {
            let over = self.load_over.load(Ordering::Acquire);
            if !over && self.full.len() < self.start_at {
                std::thread::sleep(WRITER_PAUSE);
                continue;
            }
            match self.full.try_recv() {
                Ok(mut chunk) => {
                    self.write(&mut file, &chunk, &mut line);
                    chunk.samples.clear();
                    let _ = self.empty.try_send(chunk.samples);
                }
                Err(TryRecvError::Empty) if !over => std::thread::sleep(WRITER_PAUSE),
                Err(_) => break,
            }
        }
        if let Some(file) = file {
            self.close(file);
        }
        self.outcome
    }

    fn open(&mut self) -> io::Result<CsvFile> {
        let earlier = self.target.exists();
        if earlier {
            fs::copy(&self.target, &self.temporary)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.temporary)?;
        if !earlier {
            file.set_len(0)?;
        }
        let mut writer = BufWriter::with_capacity(1 << 18, file);
        if !earlier {
            writeln!(writer, "{}", COLUMNS.join(","))?;
        }
        writer.flush()?;
        self.bytes_before = fs::metadata(&self.temporary)?.len();
        Ok(writer)
    }

    fn write(&mut self, file: &mut Option<CsvFile>, chunk: &LogChunk, line: &mut RowBuffer) {
        for sample in &chunk.samples {
            let Some(writer) = file.as_mut().filter(|_| self.outcome.error.is_none()) else {
                self.outcome.lost += 1;
                continue;
            };
            match writer.write_all(row(sample, chunk.thread, self.context, line)) {
                Ok(()) => self.outcome.rows += 1,
                Err(error) => {
                    self.outcome.error = Some(error.to_string());
                    self.outcome.lost += 1;
                }
            }
        }
    }

    /// The file takes its name even if it is incomplete: what could be written is kept, up to its last whole row.
    fn close(&mut self, file: CsvFile) {
        let flushed = file.into_inner().map(drop).map_err(io::IntoInnerError::into_error);
        let whole = flushed.is_ok() && self.outcome.error.is_none();
        let counted =
            if whole { Ok(self.outcome.rows) } else { keep_whole_rows(&self.temporary, self.bytes_before) };
        let renamed = counted.and_then(|rows| {
            self.outcome.lost += self.outcome.rows - rows;
            self.outcome.rows = rows;
            fs::rename(&self.temporary, &self.target)
        });
        if let Some(error) = flushed.err().or(renamed.err()) {
            self.outcome.error.get_or_insert(error.to_string());
        }
    }
}

/// Cuts a file behind its last whole row; returns how many rows it has from byte `from` on.
fn keep_whole_rows(path: &Path, from: u64) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let (mut rows, mut end, mut at) = (0, from, from);
    let mut block = [0; 1 << 16];
    loop {
        match file.read(&mut block)? {
            0 => break,
            n => {
                let ends = block[..n].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
                for (offset, _) in ends {
                    rows += 1;
                    end = at + offset as u64 + 1;
                }
                at += n as u64;
            }
        }
    }
    file.set_len(end)?;
    Ok(rows)
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
    fn a_cut_file_ends_with_a_whole_row_and_its_rows_are_counted() {
        let scratch = Scratch::new("cut");
        let path = scratch.0.join("x.csv");
        for (text, kept, rows) in
            [("a,b\n1,2\n3,", "a,b\n1,2\n", 1), ("a,b\n", "a,b\n", 0), ("a,b\n1", "a,b\n", 0)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(keep_whole_rows(&path, 4).unwrap(), rows);
            assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        }
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
