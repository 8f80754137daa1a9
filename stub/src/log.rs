//! The server log: one CSV row per infer request, written by a thread of its own.
//!
//! The hot path hands a record over a bounded channel and never waits: a record that finds no room, or that cannot be
//! written, is counted as lost. `docs/FORMATS.md` describes the columns.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};

use crate::evidence::Record;

/// Records that may wait for the writer.
const ROOM: usize = 1 << 16;

const COLUMNS: [&str; 7] = ["id", "received_ns", "read_ns", "started_ns", "ended_ns", "written_ns", "status"];

/// The hot path's end of the log.
#[derive(Debug)]
pub(crate) struct LogSender {
    records: Sender<Option<Record>>,
    lost: Arc<AtomicU64>,
}

impl LogSender {
    pub(crate) fn send(&self, record: Record) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.records.try_send(Some(record))
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Asks the writer to write what it has got and end.
    pub(crate) fn finish(&self) {
        // Blocks while the channel is full; an error means that the writer has ended already.
        let _ = self.records.send(None);
    }
}

/// The writer thread; its result is the first error in writing.
pub(crate) type LogThread = JoinHandle<io::Result<()>>;

/// Creates the file and the thread that writes it.
pub(crate) fn open(
    path: &Path,
    prepare: impl FnOnce() + Send + 'static,
) -> io::Result<(LogSender, LogThread)> {
    let mut csv = csv::Writer::from_writer(File::create(path)?);
    csv.write_record(COLUMNS)?;
    csv.flush()?;
    let (records, incoming) = bounded(ROOM);
    let lost = Arc::new(AtomicU64::new(0));
    let sender = LogSender { records, lost: Arc::clone(&lost) };
    let thread = std::thread::Builder::new().name("stub-log".to_owned()).spawn(move || {
        prepare();
        write_all(csv, &incoming, &lost)
    })?;
    Ok((sender, thread))
}

/// Writes until told to end. After an error records are only counted as lost, so that the server goes on.
fn write_all(
    mut csv: csv::Writer<File>,
    incoming: &Receiver<Option<Record>>,
    lost: &AtomicU64,
) -> io::Result<()> {
    let mut result: io::Result<()> = Ok(());
    loop {
        let written = match incoming.recv_timeout(Duration::from_millis(200)) {
            Ok(Some(record)) if result.is_ok() => write_row(&mut csv, &record).inspect_err(|_| {
                lost.fetch_add(1, Ordering::Relaxed);
            }),
            Ok(Some(_)) => {
                lost.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) if result.is_ok() => csv.flush(),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                return result.and_then(|()| csv.flush());
            }
        };
        result = result.and(written);
    }
}

/// The id, which a client chose, as text for a spreadsheet too: what would be a formula there gets an apostrophe.
fn inert(id: &str) -> String {
    if id.starts_with(['=', '+', '-', '@']) { format!("'{id}") } else { id.to_owned() }
}

fn write_row(csv: &mut csv::Writer<File>, record: &Record) -> io::Result<()> {
    let optional = |ns: Option<u64>| ns.map(|ns| ns.to_string()).unwrap_or_default();
    csv.write_record([
        inert(&record.id),
        optional(record.arrival.received),
        record.arrival.read.to_string(),
        optional(record.started),
        optional(record.ended),
        optional(record.written),
        record.status.to_string(),
    ])
    .map_err(io::Error::from)
}
