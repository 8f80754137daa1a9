//! Starts a server under test, waits until it answers, and stops it with its whole process group.
//!
//! A server is always a child process of its own, never a thread of ours, and dies with us: the kernel
//! kills it when the thread that started it ends. What it prints goes to a file, not among our results.
#![allow(unsafe_code)] // pre_exec: PR_SET_PDEATHSIG has no safe wrapper

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_setaffinity};

/// After SIGTERM a server gets this long before SIGKILL.
const STOP_PATIENCE: Duration = Duration::from_secs(6);
/// The stub is ready within milliseconds; this bounds a machine in trouble.
const STUB_READY: Duration = Duration::from_secs(15);
const PROBE_PAUSE: Duration = Duration::from_millis(20);
/// A probe's answer is cut off here.
const PROBE_BYTES: usize = 1 << 20;

/// Why a server could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// It could not be started at all.
    #[error("cannot start `{command}`: {source}")]
    Spawn {
        /// What was to be run.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("`{command}` ended before it was ready ({status}){said}")]
    Ended {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        said: String,
    },
    /// It did not become ready.
    #[error("`{command}` was not ready after {seconds} s{said}")]
    NotReady {
        /// What was run.
        command: String,
        /// How long it was waited for.
        seconds: u64,
        /// The end of what it printed.
        said: String,
    },
    /// The user did not want to wait any longer.
    #[error("interrupted while `{command}` was starting")]
    Cancelled {
        /// What was run.
        command: String,
    },
    /// Its output file.
    #[error("cannot write {path}: {source}")]
    Output {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    command: String,
    output: PathBuf,
    /// Where its output of this start begins.
    output_from: u64,
}

impl ServerProcess {
    /// Starts our stub and waits for its line of JSON; returns it with that line.
    pub fn start_stub(
        program: &Path,
        args: &[String],
        output: &Path,
    ) -> Result<(Self, serde_json::Value), ServerError> {
        let mut command = Command::new(program);
        command.args(args).stdout(Stdio::piped());
        let text = format!("{} {}", program.display(), args.join(" "));
        let mut server = Self::spawn(command, text, output, &[], false)?;
        let stdout = server.child.stdout.take().expect("it is piped");
        let (sender, receiver) = mpsc::channel();
        let reader = std::thread::Builder::new().spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(read.map(|_| line));
        });
        reader.map_err(|source| ServerError::Spawn { command: server.command.clone(), source })?;
        let line = receiver.recv_timeout(STUB_READY).ok().and_then(Result::ok).unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(ready) => Ok((server, ready)),
            Err(_) => Err(server.not_ready(STUB_READY)),
        }
    }

    /// Starts a command of the user's by `sh -c`, pinned to `cpus`, and waits until `probe` succeeds or `cancelled`.
    /// `clean_env`: of our environment it gets PATH alone.
    pub fn start_command(
        shell_text: &str,
        cpus: &[usize],
        clean_env: bool,
        output: &Path,
        patience: Duration,
        probe: impl Fn() -> bool,
        cancelled: impl Fn() -> bool,
    ) -> Result<Self, ServerError> {
        let mut command = Command::new("sh");
        command.args(["-c", shell_text]);
        if clean_env {
            command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        }
        let mut server = Self::spawn(command, shell_text.to_owned(), output, cpus, true)?;
        let began = Instant::now();
        while began.elapsed() < patience {
            if probe() {
                return Ok(server);
            }
            if cancelled() {
                return Err(ServerError::Cancelled { command: shell_text.to_owned() });
            }
            if !server.is_running() {
                break;
            }
            std::thread::sleep(PROBE_PAUSE);
        }
        Err(server.not_ready(patience))
    }

    /// Of its first process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// False once it has ended by itself.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGTERM to the group, patience until `hurry`, SIGKILL to what is left. Returns how the first process ended.
    pub fn stop(mut self, hurry: impl Fn() -> bool) -> io::Result<ExitStatus> {
        self.end(hurry)
    }

    fn spawn(
        mut command: Command,
        text: String,
        output: &Path,
        cpus: &[usize],
        keep_stdout: bool,
    ) -> Result<Self, ServerError> {
        let output_error = |source| ServerError::Output { path: output.display().to_string(), source };
        let log = OpenOptions::new().create(true).append(true).open(output).map_err(output_error)?;
        let output_from = log.metadata().map_err(output_error)?.len();
        if keep_stdout {
            command.stdout(log.try_clone().map_err(output_error)?);
        }
        command.stdin(Stdio::null()).stderr(log).process_group(0);
        let set = (!cpus.is_empty()).then(|| {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|&cpu| set.set(cpu));
            set
        });
        let prepare = move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if let Some(set) = &set {
                sched_setaffinity(None, set)?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure only makes two system calls; it allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn().map_err(|source| ServerError::Spawn { command: text.clone(), source })?;
        Ok(Self { child, command: text, output: output.to_owned(), output_from })
    }

    fn not_ready(&mut self, patience: Duration) -> ServerError {
        let ended = match self.child.try_wait() {
            Ok(Some(status)) => Some(status),
            // its output has ended, so it is about to
            _ => (0..50).find_map(|_| {
                std::thread::sleep(Duration::from_millis(2));
                self.child.try_wait().ok().flatten()
            }),
        };
        let _ = self.end(|| false);
        let (command, said) = (self.command.clone(), self.said());
        match ended {
            Some(status) => ServerError::Ended { command, status, said },
            None => ServerError::NotReady { command, seconds: patience.as_secs(), said },
        }
    }

    /// The last lines it printed since this start.
    fn said(&self) -> String {
        let text = tail(&self.output, self.output_from).unwrap_or_default();
        // It goes to a terminal, which it must not steer.
        let text: String = String::from_utf8_lossy(&text)
            .chars()
            .map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c })
            .collect();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        if last.is_empty() { String::new() } else { format!("; it said:\n  {last}") }
    }

    fn end(&mut self, hurry: impl Fn() -> bool) -> io::Result<ExitStatus> {
        let group = Pid::from_child(&self.child);
        let _ = kill_process_group(group, Signal::TERM);
        let began = Instant::now();
        let mut status = self.child.try_wait()?;
        while status.is_none() && began.elapsed() < STOP_PATIENCE && !hurry() {
            std::thread::sleep(Duration::from_millis(2));
            status = self.child.try_wait()?;
        }
        let _ = kill_process_group(group, Signal::KILL);
        match status {
            Some(status) => Ok(status),
            None => self.child.wait(),
        }
    }
}

/// The last few KiB of a file, from byte `from` on.
fn tail(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    const BYTES: u64 = 4096;
    let mut file = std::fs::File::open(path)?;
    let start = file.metadata()?.len().saturating_sub(BYTES).max(from);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.take(BYTES).read_to_end(&mut text)?;
    Ok(text)
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.end(|| false);
    }
}

/// One GET on a connection of its own: status and body. For readiness and statistics, never for measuring.
pub fn get(address: SocketAddr, host: &str, target: &str, patience: Duration) -> io::Result<(u16, Vec<u8>)> {
    let began = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(patience))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut block = [0; 4096];
    // A server that keeps the connection open, trickles or goes quiet has still answered, as far as it got.
    while answer.len() < PROBE_BYTES
        && let Some(left) = patience.checked_sub(began.elapsed()).filter(|left| !left.is_zero())
    {
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut block) {
            Ok(0) | Err(_) => break,
            Ok(n) => answer.extend_from_slice(&block[..n]),
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(&answer) {
        Ok(httparse::Status::Complete(length)) => Ok((head.code.unwrap_or(0), answer[length..].to_vec())),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output() -> PathBuf {
        let name = format!("hairspring-server-{}-{:?}", std::process::id(), std::thread::current().id());
        std::env::temp_dir().join(name)
    }

    #[test]
    fn a_command_that_ends_early_is_reported_with_its_words() {
        let path = output();
        let error = ServerProcess::start_command(
            "echo no such port; exit 3",
            &[],
            false,
            &path,
            STUB_READY,
            || false,
            || false,
        );
        let text = error.unwrap_err().to_string();
        assert!(text.contains("exit status: 3") && text.contains("no such port"), "{text}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn stopping_takes_the_whole_group_along() {
        let path = output();
        let said = || std::fs::read_to_string(output()).is_ok_and(|text| text.ends_with('\n'));
        let command = "sleep 100 & echo $!; wait";
        let server =
            ServerProcess::start_command(command, &[], false, &path, STUB_READY, said, || false).unwrap();
        let grandchild: i32 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        server.stop(|| false).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        // gone, or a zombie that nobody has reaped yet; the kernel may need a moment
        let ended = (0..1_000).any(|_| {
            std::thread::sleep(Duration::from_millis(2));
            state().is_empty() || state().contains(") Z ")
        });
        assert!(ended, "{}", state());
        std::fs::remove_file(path).unwrap();
    }
}
