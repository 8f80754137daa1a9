//! I/O: the writer of the per-request log. Rows that fit into its chunks are written after the load; where there are
//! more, they are written beside it from when three quarters of the chunks wait, a chunk at a time.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::OutDir;
use crate::facts::HelperReport;
use crate::record::{LogChunk, LogPort};
use crate::report::csv::{COLUMNS, RowBuffer, RowContext};
use crate::sys::helper::Helper;

/// What a chunk holds at least, and three times as many of the ordinary: so many that hand-overs are rare, so few that
/// writing them takes some 0.1 ms.
const CHUNK_ROWS: usize = 400;
/// All chunks together.
const BUDGET_BYTES: usize = 64 << 20;
/// Between looks at how many chunks wait.
const PAUSE: Duration = Duration::from_millis(20);
/// Between two chunks: whoever else needs the processor waits for one of them, not for all.
const BREATH: Duration = Duration::from_millis(1);

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
    thread: JoinHandle<(LogOutcome, HelperReport)>,
}

impl LogWriter {
    /// Starts the writer for `rows_expected` rows (if that is known) from `threads` workers; each gets a port. It
    /// keeps to the processors `cpus`. The rows are added to what `name` already holds. Fails if there can be no thread.
    pub fn start(
        dir: &OutDir,
        name: &str,
        context: RowContext,
        threads: usize,
        rows_expected: Option<u64>,
        cpus: &[usize],
    ) -> io::Result<(Self, Vec<LogPort>)> {
        let budget = BUDGET_BYTES / (CHUNK_ROWS * LogChunk::SAMPLE_BYTES);
        let needed = rows_expected.map_or(usize::MAX, |n| (n as usize).div_ceil(CHUNK_ROWS));
        // Each thread has an open chunk, and may leave one that is not full.
        let chunks = needed.min(budget) + 2 * threads;
        let (full_sender, full) = bounded(chunks);
        let (empty_sender, empty) = bounded(chunks);
        for _ in 0..chunks {
            empty_sender.send(LogChunk::with_capacity(CHUNK_ROWS)).expect("there is room for every chunk");
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
            start_at: if needed <= budget { usize::MAX } else { chunks - chunks / 4 },
            hurry_at: chunks - chunks / 8,
            load_over: load_over.clone(),
            bytes_before: 0,
            taken: 0,
            error: None,
            buffer: RowBuffer::default(),
        };
        // Opened here, before the load: connections must not take its descriptor.
        let file = writer.open();
        let cpus = cpus.to_vec();
        let thread = Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(file, &cpus))?;
        Ok((Self { load_over, thread }, ports))
    }

    /// Waits until every row that was handed over is in the file; call it when the workers have ended. Beside what became of
    /// them, what the writer took while the load ran.
    pub fn finish(self) -> (LogOutcome, HelperReport) {
        self.load_over.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Writer {
    target: PathBuf,
    temporary: PathBuf,
    context: RowContext,
    full: Receiver<LogChunk>,
    empty: Sender<LogChunk>,
    /// So many chunks may wait before writing begins while the load still runs.
    start_at: usize,
    /// With so many waiting, there is no breath between chunks.
    hurry_at: usize,
    load_over: Arc<AtomicBool>,
    /// Length of the file without the rows of this round.
    bytes_before: u64,
    /// Rows that were handed over.
    taken: u64,
    error: Option<String>,
    buffer: RowBuffer,
}

impl Writer {
    fn run(mut self, file: io::Result<File>, cpus: &[usize]) -> (LogOutcome, HelperReport) {
        let helper = Helper::begin("log", cpus);
        let mut file = file.inspect_err(|error| self.error = Some(error.to_string())).ok();
        while !self.load_over.load(Ordering::Acquire) {
            let waiting = self.full.len();
            if waiting < self.start_at {
                std::thread::park_timeout(PAUSE);
            } else {
                self.take_chunk(&mut file);
                if waiting < self.hurry_at {
                    std::thread::sleep(BREATH);
                }
            }
        }
        let beside = helper.account();
        while self.take_chunk(&mut file) {}
        self.flush(&mut file);
        (self.close(file), beside)
    }

    fn open(&mut self) -> io::Result<File> {
        let earlier = self.target.exists();
        if earlier {
            fs::copy(&self.target, &self.temporary)?;
        }
        let mut file = OpenOptions::new().create(true).append(true).open(&self.temporary)?;
        if !earlier {
            file.set_len(0)?;
            writeln!(file, "{}", COLUMNS.join(","))?;
        }
        self.bytes_before = file.metadata()?.len();
        Ok(file)
    }

    /// False if none waits.
    fn take_chunk(&mut self, file: &mut Option<File>) -> bool {
        let Ok(mut chunk) = self.full.try_recv() else { return false };
        self.taken += chunk.len() as u64;
        if self.error.is_none() {
            for sample in chunk.samples() {
                if self.buffer.is_full() {
                    self.flush(file);
                }
                self.buffer.push(&sample, chunk.thread(), self.context);
            }
        }
        chunk.clear();
        let _ = self.empty.try_send(chunk);
        true
    }

    /// The first error is the last attempt.
    fn flush(&mut self, file: &mut Option<File>) {
        if let (Some(file), None) = (file, &self.error)
            && let Err(error) = file.write_all(self.buffer.rows())
        {
            self.error = Some(error.to_string());
        }
        self.buffer.clear();
    }

    /// The file takes its name even if it is incomplete: what could be written is kept, up to its last whole row.
    fn close(mut self, file: Option<File>) -> LogOutcome {
        let Some(file) = file else { return LogOutcome { rows: 0, lost: self.taken, error: self.error } };
        drop(file);
        let counted = match self.error {
            None => Ok(self.taken),
            Some(_) => keep_whole_rows(&self.temporary, self.bytes_before),
        };
        let renamed = counted.and_then(|rows| fs::rename(&self.temporary, &self.target).map(|()| rows));
        let rows = renamed.unwrap_or_else(|error| {
            self.error.get_or_insert(error.to_string());
            0
        });
        LogOutcome { rows, lost: self.taken - rows, error: self.error }
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

    #[test]
    fn a_cut_file_ends_with_a_whole_row_and_its_rows_are_counted() {
        let path = std::env::temp_dir().join(format!("hairspring-log-{}.csv", std::process::id()));
        for (text, kept, rows) in
            [("a,b\n1,2\n3,", "a,b\n1,2\n", 1), ("a,b\n", "a,b\n", 0), ("a,b\n1", "a,b\n", 0)]
        {
            fs::write(&path, text).unwrap();
            assert_eq!(keep_whole_rows(&path, 4).unwrap(), rows);
            assert_eq!(fs::read_to_string(&path).unwrap(), kept);
        }
        fs::remove_file(path).unwrap();
    }
}
