//! I/O: what is known while a command runs, for others: served to Prometheus (`--metrics-listen`), and in a file that is
//! replaced as a whole (`--metrics-file`), by one thread beside the load.
//!
//! It renders when it is asked, or when the file is due, and takes at most [`SHARE`] of one processor in the long run: who asks
//! more often waits, and so does the file. A file that cannot be written is tried again when it is due, and told of at the end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{replace, responder};
use crate::engine::Clock;
use crate::facts::live::Live;
use crate::load::time::Nanos;
use crate::report::openmetrics::{self, CONTENT_TYPE};
use crate::sys::clock::{Monotonic, own_cpu};
use crate::sys::helper::Helper;

/// The most of one processor in the long run: with the monitor's share less than 0.5 %.
const SHARE: f64 = 0.0009;
/// As if it had been idle for so long before: the first questions are answered at once.
const CREDIT: Nanos = Nanos::from_secs(10);
/// Where a connection could not be accepted, the next is tried so much later.
const RECOVERY: Nanos = Nanos::from_secs(1);

/// Who is told, and how.
#[derive(Debug, Clone, Default)]
pub struct Outlets {
    /// Where it is served.
    pub listen: Option<SocketAddr>,
    /// The file, and how often it is written.
    pub file: Option<(PathBuf, Nanos)>,
}

/// The thread that tells.
#[derive(Debug)]
pub struct Publisher {
    live: Arc<Live>,
    at: Option<SocketAddr>,
    /// Closed, it is the sign to end.
    running: UnixStream,
    thread: JoinHandle<Option<String>>,
}

impl Publisher {
    /// Binds, writes the file for the first time, and starts the thread on the processors `cpus`. An error says what could not
    /// be had.
    pub fn start(outlets: Outlets, cpus: &[usize]) -> Result<Self, String> {
        let Outlets { listen, file } = outlets;
        let live = Arc::new(Live::default());
        let listener = listen.map(|at| bind(at).map_err(|error| format!("--metrics-listen {at}: {error}")));
        let listener = listener.transpose()?;
        let at = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let file =
            file.map(|(path, every)| Target { path, every, due: Nanos::ZERO, failures: 0, failure: None });
        if let Some(target) = &file {
            let written = target.write(&live);
            written
                .map_err(|error| format!("cannot write --metrics-file {}: {error}", target.path.display()))?;
        }
        let failed = |error: io::Error| format!("the metrics' thread cannot be started: {error}");
        let (running, stopped) = UnixStream::pair().map_err(failed)?;
        let teller = Teller { live: Arc::clone(&live), listener, file, stopped };
        let cpus = cpus.to_vec();
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(move || teller.run(&cpus));
        Ok(Self { live, at, running, thread: thread.map_err(failed)? })
    }

    /// What is to be kept up to date.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// Where it is served.
    pub fn served_at(&self) -> Option<SocketAddr> {
        self.at
    }

    /// Writes the file once more, and ends. What went wrong meanwhile.
    pub fn finish(self) -> Option<String> {
        drop(self.running);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn bind(at: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(at)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The file.
#[derive(Debug)]
struct Target {
    path: PathBuf,
    every: Nanos,
    due: Nanos,
    failures: u64,
    /// The first of them.
    failure: Option<String>,
}

impl Target {
    fn write(&self, live: &Live) -> io::Result<()> {
        let name = self.path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::IsADirectory))?;
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(".tmp");
        let temporary = self.path.parent().unwrap_or(Path::new("")).join(temporary);
        // A machine that goes down takes the run with it: nothing here is worth waiting for the disk.
        let written =
            replace(&self.path, &temporary, openmetrics::render(&live.snapshot()).as_bytes(), false);
        written.inspect_err(|_| drop(std::fs::remove_file(&temporary)))
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failures += 1;
            self.failure.get_or_insert(error.to_string());
        }
    }
}

struct Teller {
    live: Arc<Live>,
    listener: Option<TcpListener>,
    file: Option<Target>,
    stopped: UnixStream,
}

impl Teller {
    fn run(mut self, cpus: &[usize]) -> Option<String> {
        let _helper = Helper::begin("metrics", cpus);
        let began = Monotonic.now();
        let mut accept_from = Nanos::ZERO;
        if let Some(file) = &mut self.file {
            file.due = began + file.every;
        }
        loop {
            let now = Monotonic.now();
            match self.wait(now, accept_from) {
                Woken::Stopped => break,
                Woken::Asked => {
                    if self.answer().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                        accept_from = now + RECOVERY;
                    }
                }
                Woken::Time => {}
            }
            if let Some(file) = self.file.as_mut().filter(|file| file.due <= Monotonic.now()) {
                file.note(file.write(&self.live));
                file.due = (Monotonic.now() + file.every).max(began + affordable(own_cpu()));
            }
            let taken = own_cpu();
            self.live.account(taken);
            accept_from = accept_from.max(began + affordable(taken));
        }
        self.file.as_mut().and_then(|file| {
            file.note(file.write(&self.live));
            let failure = file.failure.as_ref()?;
            Some(format!("{} could not be written, {} times: {failure}", file.path.display(), file.failures))
        })
    }

    /// Until it is to end, is asked (from `accept_from` on), or something is due.
    fn wait(&self, now: Nanos, accept_from: Nanos) -> Woken {
        let listener = self.listener.as_ref();
        let file_due = self.file.as_ref().map(|file| file.due);
        let due = file_due.into_iter().chain(listener.map(|_| accept_from).filter(|&at| at > now)).min();
        let timeout = due.map(|due| {
            let left = due.saturating_sub(now).0;
            Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 }
        });
        let mut fds = vec![PollFd::from_borrowed_fd(self.stopped.as_fd(), PollFlags::IN)];
        let listening = listener.filter(|_| accept_from <= now);
        fds.extend(listening.map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)));
        // a signal is none of its business; anything else there is not
        let _ = poll(&mut fds, timeout.as_ref());
        match (fds[0].revents().is_empty(), fds.get(1).is_none_or(|asked| asked.revents().is_empty())) {
            (false, _) => Woken::Stopped,
            (true, false) => Woken::Asked,
            (true, true) => Woken::Time,
        }
    }

    /// One client. That it goes away, or takes too long, is its own affair; that it cannot be accepted is not.
    fn answer(&self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let (stream, _) = listener.accept()?;
        let _ = responder::answer(stream, CONTENT_TYPE, || openmetrics::render(&self.live.snapshot()));
        Ok(())
    }
}

enum Woken {
    Stopped,
    Asked,
    Time,
}

/// When one that has taken so much may be asked again, after its begin.
fn affordable(taken: Nanos) -> Nanos {
    Nanos((taken.0 as f64 / SHARE) as u64).saturating_sub(CREDIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_too_much_is_done_less_often() {
        assert_eq!(affordable(Nanos::from_millis(9)), Nanos::ZERO, "the credit");
        assert_eq!(affordable(Nanos::from_millis(18)), Nanos::from_secs(10));
    }

    #[test]
    fn a_file_that_could_not_be_written_is_tried_again_and_told_of() {
        let folder = std::env::temp_dir().join(format!("hairspring-metrics-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("m.prom");
        let outlets = Outlets { listen: None, file: Some((path.clone(), Nanos::from_millis(5))) };
        let publisher = Publisher::start(outlets, &[]).unwrap();
        publisher.live().begin_round("a", 1);
        // in the way of the new file, until it is taken away
        std::fs::create_dir(folder.join(".m.prom.tmp")).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(30));
        std::fs::remove_dir(folder.join(".m.prom.tmp")).unwrap();
        let failure = publisher.finish().unwrap();
        assert!(failure.contains("m.prom could not be written"), "{failure}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("hairspring_round{target=\"a\"} 1\n") && text.ends_with("# EOF\n"), "{text}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
