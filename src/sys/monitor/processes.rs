//! One side's processes and their threads: what they used, counted from the first sample on.
//!
//! Processor time is the clock of each process, which threads that have ended stay in. Run-queue delay and switches are
//! summed over threads; what a thread did between its last sample and its end is not in them.
#![allow(unsafe_code)] // the clock of another process has no safe wrapper

use std::collections::BTreeMap;
use std::fs;

use super::machine::text;
use super::parse;
use super::table::{Name, Sheet};
use crate::facts::system::{Side, ThreadSeen};
use crate::load::time::Nanos;

/// So many threads of a side are reported.
const THREADS_SHOWN: usize = 32;
const PERCENT_OF_NS: f64 = 100.0 / 1e9;

/// The processes of one side.
#[derive(Debug)]
pub(super) struct Processes {
    side: Side,
    root: u32,
    /// The root's children are of the side too.
    with_children: bool,
    /// Processors' worth they may use.
    cores: Option<f64>,
    /// The folder of the root's cgroup.
    cgroup: Option<String>,
    /// Each process with its clock when last seen.
    seen: BTreeMap<u32, u64>,
    threads: BTreeMap<(u32, u32), Thread>,
    ended: Vec<Thread>,
    /// Since the first sample, over all there were.
    used: Used,
    first: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Used {
    cpu_ns: u64,
    run_delay_ns: u64,
    voluntary: u64,
    involuntary: u64,
}

#[derive(Debug)]
struct Thread {
    /// What it used since the first sample.
    seen: ThreadSeen,
    before: (u64, u64),
    switches_before: Option<(u64, u64)>,
    /// Seen in the sample that is being taken.
    alive: bool,
}

impl Processes {
    /// `cores` is what the plan pins the side to, if it does.
    pub(super) fn new(side: Side, root: u32, cores: Option<usize>) -> Self {
        let cgroup = text(&format!("/proc/{root}/cgroup")).zip(text("/proc/self/mountinfo"));
        let cgroup = cgroup.and_then(|(cgroup, mounts)| parse::cpu_cgroup(&cgroup, &mounts));
        let allowed = || {
            let status = text(&format!("/proc/{root}/status"))?;
            parse::processors(status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?)
        };
        let cores = cores.map(|n| n as f64).or_else(|| allowed().map(|n| n as f64));
        let quota = cgroup.as_deref().and_then(quota);
        let cores = quota.into_iter().chain(cores).reduce(f64::min);
        let mut processes = Self {
            side,
            root,
            with_children: side == Side::Server,
            cores,
            cgroup,
            seen: BTreeMap::new(),
            threads: BTreeMap::new(),
            ended: Vec::new(),
            used: Used::default(),
            first: true,
        };
        processes.look_for_children();
        processes
    }

    pub(super) fn cores(&self) -> Option<f64> {
        self.cores
    }

    /// What is read at every interval.
    pub(super) fn fast(&mut self, sheet: &mut Sheet) {
        let mut busiest = None;
        let alive = self.sample_clocks();
        self.threads.values_mut().for_each(|thread| thread.alive = false);
        for &pid in &alive {
            busiest = self.sample_threads(pid).into_iter().chain(busiest).max();
        }
        let ended: Vec<(u32, u32)> =
            self.threads.iter().filter(|(_, thread)| !thread.alive).map(|(id, _)| *id).collect();
        for id in ended {
            self.ended.extend(self.threads.remove(&id));
        }
        most_used(&mut self.ended);
        self.first = false;
        let there = !alive.is_empty();
        let visible = there && self.threads.values().any(|thread| thread.before != (0, 0));
        let cpu = there.then_some(self.used.cpu_ns);
        let percent = self.cores.map(|cores| PERCENT_OF_NS / cores);
        sheet.counter(self.name("cpu"), cpu.filter(|_| percent.is_some()), percent.unwrap_or_default());
        sheet.counter(self.name("cores"), cpu, 1e-9);
        sheet.counter(self.name("run_delay"), visible.then_some(self.used.run_delay_ns), PERCENT_OF_NS);
        sheet.unless("the kernel keeps no schedstat");
        let busiest = busiest.zip(sheet.elapsed()).filter(|_| visible);
        let busiest = busiest.map(|(ns, elapsed)| ns as f64 * PERCENT_OF_NS / elapsed);
        sheet.gauge(self.name("busiest_thread"), busiest);
        sheet.gauge(self.name("threads"), there.then_some(self.threads.len() as f64));
        // statm, as VmRSS, adds up what stat only estimates
        let pages = |pid: &u32| parse::resident_pages(&text(&format!("/proc/{pid}/statm"))?);
        let resident = alive.iter().filter_map(pages).reduce(|a, b| a + b);
        let page = rustix::param::page_size() as f64;
        sheet.gauge(self.name("rss"), resident.map(|pages| pages as f64 * page));
        let open = alive.iter().filter_map(|pid| descriptors(*pid)).reduce(|a, b| a + b);
        sheet.gauge(self.name("fds"), open.map(|n| n as f64));
        sheet.unless("the descriptors of another user's process are not readable");
    }

    /// What is read once a second; the processes are looked for anew.
    pub(super) fn slow(&mut self, sheet: &mut Sheet) {
        self.look_for_children();
        let switches = self.sample_switches();
        let pids: Vec<u32> = self.seen.keys().copied().collect();
        let there = !pids.is_empty();
        sheet.gauge(self.name("processes"), there.then_some(pids.len() as f64));
        sheet.counter(self.name("voluntary_switches"), switches.then_some(self.used.voluntary), 1.0);
        sheet.counter(self.name("involuntary_switches"), switches.then_some(self.used.involuntary), 1.0);
        let read = |pid: &u32, file: &str| text(&format!("/proc/{pid}/{file}"));
        let stats: Vec<_> = pids.iter().filter_map(|pid| parse::process_stat(&read(pid, "stat")?)).collect();
        let sum = |of: fn(&parse::ProcessStat) -> u64| {
            (!stats.is_empty()).then(|| stats.iter().map(of).sum::<u64>())
        };
        sheet.counter(self.name("faults"), sum(|stat| stat.minor_faults), 1.0);
        sheet.counter(self.name("major_faults"), sum(|stat| stat.major_faults), 1.0);
        let fds: Vec<(u64, Option<u64>)> = pids
            .iter()
            .filter_map(|pid| {
                let limit = parse::soft_limit(&read(pid, "limits").unwrap_or_default(), "Max open files");
                Some((descriptors(*pid)?, limit))
            })
            .collect();
        let used = fds.iter().filter_map(|(n, limit)| Some(100.0 * *n as f64 / (*limit)?.max(1) as f64));
        sheet.gauge(self.name("fds_used"), used.reduce(f64::max));
        sheet.unless("the descriptors are not readable, or not limited");
        let io = |name| {
            let of = |pid: &u32| parse::named(&read(pid, "io")?, name);
            there.then(|| pids.iter().filter_map(of).reduce(|a, b| a + b)).flatten()
        };
        sheet.counter(self.name("disk_read"), io("read_bytes"), 1.0);
        sheet.unless("/proc/PID/io is not readable");
        sheet.counter(self.name("disk_written"), io("write_bytes"), 1.0);
        sheet.unless("/proc/PID/io is not readable");
        let throttled = self.cgroup.as_deref().and_then(|folder| text(&format!("{folder}/cpu.stat")));
        let throttled = throttled.and_then(|text| parse::throttling(&text)).filter(|_| there);
        sheet.counter(self.name("throttled"), throttled.map(|(_, ns)| ns), PERCENT_OF_NS);
        sheet.unless("its cgroup has no cpu.stat with nr_throttled: no quota can be set there");
        sheet.counter(self.name("throttles"), throttled.map(|(n, _)| n), 1.0);
        sheet.unless("its cgroup has no cpu.stat with nr_throttled: no quota can be set there");
    }

    /// The threads that used most.
    pub(super) fn into_threads(mut self) -> Vec<ThreadSeen> {
        self.ended.extend(std::mem::take(&mut self.threads).into_values());
        most_used(&mut self.ended);
        self.ended.into_iter().map(|thread| thread.seen).collect()
    }

    fn name(&self, what: &'static str) -> Name {
        let side = if self.side == Side::Client { "client" } else { "server" };
        format!("{side}.{what}").into()
    }

    /// Adds what each process used; returns those that are there.
    fn sample_clocks(&mut self) -> Vec<u32> {
        let used = &mut self.used.cpu_ns;
        self.seen.retain(|&pid, before| {
            let Some(now) = clock_of(pid) else { return false };
            *used += now.saturating_sub(*before);
            *before = now;
            true
        });
        self.seen.keys().copied().collect()
    }

    /// Adds what each thread of a process used; returns the most that one of them did.
    fn sample_threads(&mut self, pid: u32) -> Option<u64> {
        let mut most = None;
        for tid in numbered(&format!("/proc/{pid}/task")) {
            let task = format!("/proc/{pid}/task/{tid}");
            let schedstat = text(&format!("{task}/schedstat"));
            let now = schedstat.and_then(|text| parse::schedstat(&text)).unwrap_or_default();
            // what began after the first sample counts from its begin
            let (side, first) = (self.side, self.first);
            let thread = self.threads.entry((pid, tid)).or_insert_with(|| {
                let name = text(&format!("{task}/comm")).unwrap_or_default().trim().to_owned();
                Thread {
                    seen: ThreadSeen {
                        side,
                        pid,
                        tid,
                        name,
                        on_cpu_ns: Nanos::ZERO,
                        run_delay_ns: Nanos::ZERO,
                        voluntary_switches: None,
                        involuntary_switches: None,
                    },
                    before: if first { now } else { (0, 0) },
                    switches_before: (!first).then_some((0, 0)),
                    alive: true,
                }
            });
            let on_cpu = now.0.saturating_sub(thread.before.0);
            let run_delay = now.1.saturating_sub(thread.before.1);
            (thread.before, thread.alive) = (now, true);
            thread.seen.on_cpu_ns.0 += on_cpu;
            thread.seen.run_delay_ns.0 += run_delay;
            self.used.run_delay_ns += run_delay;
            most = most.max(Some(on_cpu));
        }
        most
    }

    /// Adds the switches of the threads that are known; false if none is told.
    fn sample_switches(&mut self) -> bool {
        let mut any = false;
        for ((pid, tid), thread) in &mut self.threads {
            let status = text(&format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
            let named = |name| parse::named(&status, name);
            let now = named("voluntary_ctxt_switches:").zip(named("nonvoluntary_ctxt_switches:"));
            let Some(now) = now else { continue };
            any = true;
            if let Some(before) = thread.switches_before.replace(now) {
                let more = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
                self.used.voluntary += more.0;
                self.used.involuntary += more.1;
                *thread.seen.voluntary_switches.get_or_insert(0) += more.0;
                *thread.seen.involuntary_switches.get_or_insert(0) += more.1;
            }
        }
        any
    }

    /// The root and all below it. What is new since the first sample counts from its begin.
    fn look_for_children(&mut self) {
        let mut open = vec![self.root];
        let mut steps = 0;
        while let Some(pid) = open.pop()
            && steps < 4_096
        {
            steps += 1;
            let Some(now) = clock_of(pid) else { continue };
            let before = if self.first { now } else { 0 };
            self.seen.entry(pid).or_insert(before);
            if self.with_children {
                for tid in numbered(&format!("/proc/{pid}/task")) {
                    let children = text(&format!("/proc/{pid}/task/{tid}/children")).unwrap_or_default();
                    open.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
                }
            }
        }
    }
}

/// Keeps the few that used most.
fn most_used(threads: &mut Vec<Thread>) {
    threads.sort_by_key(|thread| std::cmp::Reverse((thread.seen.on_cpu_ns, thread.seen.run_delay_ns)));
    threads.truncate(THREADS_SHOWN);
}

/// The entries of a folder whose names are numbers.
fn numbered(folder: &str) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// How many descriptors a process has open: the size of the folder since Linux 6.2, else its entries.
fn descriptors(pid: u32) -> Option<u64> {
    let folder = format!("/proc/{pid}/fd");
    let entries = || Some(fs::read_dir(&folder).ok()?.count() as u64);
    match fs::metadata(&folder).ok()?.len() {
        0 => entries(),
        n => fs::read_dir(&folder).ok().map(|_| n),
    }
}

/// Processors' worth that a cgroup's quota leaves; `None` without one.
fn quota(folder: &str) -> Option<f64> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| *n > 0.0);
    let v1 = || {
        let quota = number(&text(&format!("{folder}/cpu.cfs_quota_us"))?)?;
        Some(quota / number(&text(&format!("{folder}/cpu.cfs_period_us"))?)?)
    };
    let v2 = || {
        let max = text(&format!("{folder}/cpu.max"))?;
        let (quota, period) = max.trim().split_once(' ')?;
        Some(number(quota)? / number(period)?)
    };
    v1().or_else(v2)
}

/// Nanoseconds that all threads of a process, also those that have ended, were on a processor. `None` once it is gone.
fn clock_of(pid: u32) -> Option<u64> {
    // The kernel's MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED), as clock_getcpuclockid(3) makes it.
    let clock = (!(pid as libc::clockid_t) << 3) | 2;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call; the kernel refuses a clock it does not know.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    (result == 0).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Clock;
    use crate::sys::clock::Monotonic;

    #[test]
    fn own_work_is_seen_as_it_was_done() {
        let mut own = Processes::new(Side::Client, std::process::id(), Some(1));
        let mut sheet = Sheet::new();
        let mut sample = |own: &mut Processes| {
            sheet.begin(Monotonic.now());
            own.fast(&mut sheet);
            own.slow(&mut sheet);
            sheet.end(Monotonic.now());
        };
        sample(&mut own);
        let before = clock_of(std::process::id()).unwrap();
        let mut x = 0u64;
        for i in 0..20_000_000u64 {
            x = std::hint::black_box(x ^ i);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
        let used = clock_of(std::process::id()).unwrap() - before;
        sample(&mut own);
        assert!(own.used.cpu_ns >= used, "{} < {used}", own.used.cpu_ns);
        let (table, _) = sheet.finish();
        let mean =
            |name: &str| table.series.iter().find(|series| series.metric == name).unwrap().mean.unwrap();
        assert!(mean("client.cpu") > 0.0 && mean("client.rss") > 1e6 && mean("client.fds") >= 3.0);
        assert!(mean("client.voluntary_switches") > 0.0);
        let tid = rustix::thread::gettid().as_raw_nonzero().get() as u32;
        let threads = own.into_threads();
        assert!(
            threads.iter().any(|thread| thread.tid == tid && thread.on_cpu_ns > Nanos::ZERO),
            "{threads:?}"
        );
    }

    #[test]
    fn a_process_that_is_gone_has_no_clock() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(clock_of(child.id()), None);
    }
}
