//! I/O: the commands of `--on-alert`, started from a thread of their own, so that neither the load nor the monitor waits
//! for one. A few at once, each for a bounded time, in a process group that is killed when that is over. One that fails is
//! counted and said, and the run goes on.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rustix::process::{Pid, Signal, kill_process_group};

use super::OutDir;
use crate::facts::HelperReport;
use crate::facts::alerts::{ALERT_SCHEMA, Alert, Commands, Event};
use crate::sys::helper::Helper;

/// Commands that run at once; further alerts wait.
const ALIVE_MAX: usize = 4;
/// Alerts that wait; further ones are not told of.
const WAITING_MAX: usize = 256;
/// A command that takes longer is killed; so is what runs or waits so long after the round.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between looks at commands that run.
const PAUSE: Duration = Duration::from_millis(20);
/// Failures that are told one by one.
const FAILURES_MAX: usize = 8;

/// Whose alerts are told.
#[derive(Debug, Clone)]
pub struct AlertSource {
    /// The name of the target.
    pub target: String,
    /// From 0.
    pub round: u32,
}

/// Where alerts are told; never blocks.
#[derive(Debug, Clone)]
pub struct AlertPort {
    alerts: Sender<Alert>,
    untold: Arc<AtomicU64>,
}

impl AlertPort {
    /// Has the command told, if not too many wait already.
    pub fn tell(&self, alert: &Alert) {
        if self.alerts.try_send(alert.clone()).is_err() {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs the command for the alerts of one round.
#[derive(Debug)]
pub struct AlertHook {
    give_up: Arc<AtomicBool>,
    thread: JoinHandle<(Commands, HelperReport)>,
}

impl AlertHook {
    /// Starts the thread, which keeps to `cpus`, and so do the commands. What they print is added to `NAME.alerts.txt` in
    /// the folder of the results.
    pub fn start(command: &str, source: AlertSource, dir: &OutDir, cpus: &[usize]) -> (Self, AlertPort) {
        let (sender, alerts) = bounded(WAITING_MAX);
        let give_up = Arc::new(AtomicBool::new(false));
        let mut runner = Runner {
            command: command.to_owned(),
            output: dir.file(&format!("{}.alerts.txt", source.target)),
            source,
            alerts,
            give_up: give_up.clone(),
            alive: Vec::with_capacity(ALIVE_MAX),
            commands: Commands::default(),
        };
        let cpus = cpus.to_vec();
        let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(move || {
            let helper = Helper::begin("alerts", &cpus);
            runner.run();
            (runner.commands, helper.account())
        });
        let port = AlertPort { alerts: sender, untold: Arc::default() };
        (Self { give_up, thread: thread.expect("a thread can be started") }, port)
    }

    /// Waits for the commands, until `hurry` or their time is over. `port` has to be the last.
    pub fn finish(self, port: AlertPort, hurry: impl Fn() -> bool) -> (Commands, HelperReport) {
        let untold = port.untold.clone();
        drop(port);
        let began = Instant::now();
        while !self.thread.is_finished() {
            if hurry() || began.elapsed() > PATIENCE {
                self.give_up.store(true, Ordering::Release);
            }
            std::thread::sleep(PAUSE);
        }
        let (mut commands, helper) =
            self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        commands.untold += untold.load(Ordering::Relaxed);
        (commands, helper)
    }
}

struct Runner {
    command: String,
    output: PathBuf,
    source: AlertSource,
    alerts: Receiver<Alert>,
    give_up: Arc<AtomicBool>,
    alive: Vec<Running>,
    commands: Commands,
}

struct Running {
    child: Child,
    began: Instant,
}

impl Runner {
    /// Until every port is gone and every command has ended.
    fn run(&mut self) {
        loop {
            let give_up = self.give_up.load(Ordering::Acquire);
            self.reap(give_up);
            if give_up {
                self.commands.untold += self.alerts.try_iter().count() as u64;
                return;
            }
            match self.receive() {
                Ok(alert) => self.start(&alert),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) if self.alive.is_empty() => return,
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// The next alert; while commands run, without waiting for long.
    fn receive(&self) -> Result<Alert, RecvTimeoutError> {
        match self.alive.len() {
            0 => self.alerts.recv().map_err(|_| RecvTimeoutError::Disconnected),
            ALIVE_MAX => {
                std::thread::sleep(PAUSE);
                Err(RecvTimeoutError::Timeout)
            }
            _ => self.alerts.recv_timeout(PAUSE),
        }
    }

    fn start(&mut self, alert: &Alert) {
        match self.spawn(alert) {
            Ok(child) => self.alive.push(Running { child, began: Instant::now() }),
            Err(error) => self.failed(&format!("could not be started: {error}")),
        }
    }

    fn spawn(&self, alert: &Alert) -> io::Result<Child> {
        let AlertSource { target, round } = &self.source;
        let event = Event { schema: ALERT_SCHEMA, target, round: *round, alert };
        let mut line = serde_json::to_vec(&event).expect("an alert has string keys");
        line.push(b'\n');
        let output = OpenOptions::new().create(true).append(true).open(&self.output)?;
        let mut child = Command::new("sh")
            .args(["-c", &self.command])
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        // It fits into the pipe, so this does not wait. A command need not read it.
        let _ = child.stdin.take().expect("it is piped").write_all(&line);
        Ok(child)
    }

    /// Counts those that have ended, and ends those whose time is over, or all if `late`.
    fn reap(&mut self, late: bool) {
        for Running { mut child, began } in std::mem::take(&mut self.alive) {
            let ended = child.try_wait();
            match ended {
                Ok(None) if !late && began.elapsed() < PATIENCE => self.alive.push(Running { child, began }),
                Ok(Some(status)) if status.success() => self.commands.succeeded += 1,
                Ok(Some(status)) => self.failed(&format!("ended with {status}")),
                _ => {
                    let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                    let _ = child.wait();
                    self.failed(&format!("was killed after {} s", began.elapsed().as_secs()));
                }
            }
        }
    }

    fn failed(&mut self, how: &str) {
        self.commands.failed += 1;
        if self.commands.failures.len() < FAILURES_MAX {
            self.commands.failures.push(how.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::time::Nanos;

    fn alert(rule: &str) -> Alert {
        Alert {
            rule: rule.to_owned(),
            start_ns: Nanos::from_millis(5),
            end_ns: None,
            value: Some(1.5),
            limit: 1.0,
            unit: "%".to_owned(),
            against_ns: None,
            live: true,
            requests: None,
        }
    }

    /// What a command comes to that is told of `n` alerts, and what it left in the folder.
    fn told(command: &str, n: usize, hurry: bool) -> (Commands, String) {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);
        let id = (std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("hairspring-hook-{}-{}", id.0, id.1));
        let dir = OutDir::create(&path, b"{}").unwrap();
        let source = AlertSource { target: "target".to_owned(), round: 3 };
        let (hook, port) = AlertHook::start(command, source, &dir, &[]);
        (0..n).for_each(|at| port.clone().tell(&alert(&format!("errors>{at}"))));
        let began = Instant::now();
        let (commands, helper) = hook.finish(port, || hurry && began.elapsed() > Duration::from_millis(300));
        assert_eq!(helper.name, "alerts");
        let output = std::fs::read_to_string(dir.file("target.alerts.txt")).unwrap_or_default();
        std::fs::remove_dir_all(&path).unwrap();
        (commands, output)
    }

    #[test]
    fn every_alert_is_told_once_on_one_line() {
        let (commands, output) = told("cat", 20, false);
        assert_eq!(commands, Commands { succeeded: 20, ..Commands::default() });
        let mut rules: Vec<String> = output
            .lines()
            .map(|line| {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!((&event["round"], &event["start_ns"]), (&3.into(), &5_000_000.into()));
                event["rule"].as_str().unwrap().to_owned()
            })
            .collect();
        rules.sort_unstable();
        let mut expected: Vec<String> = (0..20).map(|at| format!("errors>{at}")).collect();
        expected.sort_unstable();
        assert_eq!(rules, expected);
    }

    #[test]
    fn a_command_need_not_read_and_may_fail() {
        let (commands, _) = told("exit 7", 2, false);
        assert_eq!((commands.succeeded, commands.failed), (0, 2));
        assert!(commands.failures.iter().all(|how| how.contains("7")), "{commands:?}");
        let (commands, _) = told("/no/such/program", 1, false);
        assert_eq!(commands.failed, 1);
    }

    #[test]
    fn what_hangs_is_killed_and_what_waits_for_it_is_counted() {
        let began = Instant::now();
        let (commands, _) = told("sleep 60 & sleep 61", 7, true);
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        assert_eq!(commands.succeeded, 0);
        assert_eq!(commands.failed + commands.untold, 7, "{commands:?}");
        assert!(commands.failed > 0, "{commands:?}");
        assert!(commands.failures.iter().all(|how| how.contains("killed")), "{commands:?}");
    }

    #[test]
    fn too_many_at_once_are_counted_and_nobody_waits() {
        let (commands, _) = told("sleep 0.05", 2 * WAITING_MAX, true);
        assert!(commands.untold > 0, "{commands:?}");
        assert_eq!(commands.succeeded + commands.failed + commands.untold, 2 * WAITING_MAX as u64);
    }
}
