//! The program under test: started with a deadline, killed with its output when it exceeds it.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::Scratch;

/// A program that runs longer than this hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// A command line about to be run.
pub(crate) struct Hairspring<'a> {
    scratch: &'a Scratch,
    args: Vec<String>,
    deadline: Duration,
    stdout: Option<Stdio>,
    limit: Option<String>,
    wrapper: Vec<String>,
}

impl<'a> Hairspring<'a> {
    pub(super) fn new(scratch: &'a Scratch, flags: &str) -> Self {
        let args = flags.split_whitespace().map(str::to_owned).collect();
        Self { scratch, args, deadline: DEADLINE, stdout: None, limit: None, wrapper: Vec::new() }
    }

    /// One more argument, as it is.
    pub(crate) fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A flag and its value, as they are.
    pub(crate) fn args_pair(self, flag: &str, value: &str) -> Self {
        self.arg(flag).arg(value)
    }

    /// A run that is known to take longer, or must take less.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Standard output goes here instead of being kept.
    pub(crate) fn stdout_to(mut self, target: impl Into<Stdio>) -> Self {
        self.stdout = Some(target.into());
        self
    }

    /// A limit of the shell's `ulimit`, as in `-n 20`. What exceeds it gets an error, not a signal.
    pub(crate) fn ulimit(mut self, limit: &str) -> Self {
        self.limit = Some(limit.to_owned());
        self
    }

    /// It is run by another program, given with its arguments: `strace -f …`.
    pub(crate) fn under(mut self, wrapper: &str) -> Self {
        self.wrapper = wrapper.split_whitespace().map(str::to_owned).collect();
        self
    }

    /// Starts it and returns at once.
    pub(crate) fn start(self) -> Running {
        let program = env!("CARGO_BIN_EXE_hairspring");
        let mut command = match &self.limit {
            None => match &self.wrapper[..] {
                [] => Command::new(program),
                [wrapper, flags @ ..] => {
                    let mut command = Command::new(wrapper);
                    command.args(flags).arg(program);
                    command
                }
            },
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("trap '' XFSZ; ulimit {limit} && exec \"$0\" \"$@\""), program]);
                shell
            }
        };
        let (out, err) = (self.scratch.io("stdout"), self.scratch.io("stderr"));
        let stdout = self.stdout.unwrap_or_else(|| File::create(&out).unwrap().into());
        command.args(&self.args).current_dir(self.scratch.work()).process_group(0);
        command.stdin(Stdio::null()).stdout(stdout).stderr(File::create(&err).unwrap());
        let child = command.spawn().unwrap();
        Running { child, args: self.args, out, err, began: Instant::now(), deadline: self.deadline }
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Finished {
        self.start().wait()
    }
}

/// A program that runs. It is killed with its group when this is dropped.
pub(crate) struct Running {
    child: Child,
    args: Vec<String>,
    out: PathBuf,
    err: PathBuf,
    began: Instant,
    deadline: Duration,
}

impl Running {
    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// True until it has ended.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has printed so far.
    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.out).unwrap_or_default()).into_owned()
    }

    /// What it has complained about so far.
    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.err).unwrap_or_default()).into_owned()
    }

    /// The most memory it has had so far.
    fn peak_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").parse().ok()
    }

    /// Waits for its end; a test whose program exceeds its deadline fails with its output.
    pub(crate) fn wait(mut self) -> Finished {
        let mut peak_kib = 0;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let (stdout, stderr) = (self.stdout(), self.stderr());
                return Finished { status, args: self.args.join(" "), stdout, stderr, peak_kib };
            }
            peak_kib = self.peak_kib().unwrap_or(peak_kib);
            if self.began.elapsed() > self.deadline {
                let (args, out, err) = (self.args.join(" "), self.stdout(), self.stderr());
                panic!(
                    "`hairspring {args}` still runs after {:?}\nstdout:\n{out}\nstderr:\n{err}",
                    self.deadline
                );
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// How a program ended and what it said.
pub(crate) struct Finished {
    status: ExitStatus,
    args: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The most memory it had, as last seen a few milliseconds before its end.
    pub(crate) peak_kib: u64,
}

impl Finished {
    /// Its exit code; a death by a signal is a failure of the test.
    pub(crate) fn code(&self) -> i32 {
        assert!(self.status.signal().is_none(), "{self}");
        self.status.code().unwrap()
    }

    /// Fails unless it ended like this.
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { args, status, stdout, stderr, .. } = self;
        write!(f, "`hairspring {args}`: {status}\nstdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
