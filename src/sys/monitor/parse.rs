//! The grammar of the texts in /proc and of cgroups, pure. What a text does not have is `None`.

/// Ticks (1/100 s) of one processor, or of all, by what they were spent on. proc_pid_stat(5), proc_stat(5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CpuTicks {
    /// User and nice; guests are in it.
    pub(super) user: u64,
    pub(super) system: u64,
    pub(super) idle: u64,
    pub(super) iowait: u64,
    pub(super) irq: u64,
    pub(super) softirq: u64,
    pub(super) steal: u64,
}

impl CpuTicks {
    pub(super) fn busy(&self) -> u64 {
        self.user + self.system + self.irq + self.softirq
    }
}

/// /proc/stat: all processors together.
pub(super) fn all_cpus(stat: &str) -> Option<CpuTicks> {
    cpu_ticks(stat.lines().find_map(|line| line.strip_prefix("cpu "))?)
}

/// /proc/stat: each processor that is online, with its id.
pub(super) fn each_cpu(stat: &str) -> Vec<(usize, CpuTicks)> {
    let cpu = |line: &str| {
        let (id, ticks) = line.strip_prefix("cpu")?.split_once(' ')?;
        Some((id.parse().ok()?, cpu_ticks(ticks)?))
    };
    stat.lines().filter_map(cpu).collect()
}

fn cpu_ticks(numbers: &str) -> Option<CpuTicks> {
    let numbers: Vec<u64> = numbers.split_whitespace().map_while(|n| n.parse().ok()).collect();
    let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = &numbers[..] else { return None };
    Some(CpuTicks { user: user + nice, system, idle, iowait, irq, softirq, steal })
}

/// The number behind a name at the begin of a line: `ctxt 12`, `MemTotal:  12 kB`, `nr_throttled 3`.
pub(super) fn named(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// /proc/PID/task/TID/schedstat: nanoseconds on a processor, and waiting for one.
pub(super) fn schedstat(text: &str) -> Option<(u64, u64)> {
    let mut numbers = text.split_whitespace().map(|n| n.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

/// What of /proc/PID/stat is of interest. The name in it can have blanks and parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProcessStat {
    pub(super) minor_faults: u64,
    pub(super) major_faults: u64,
    pub(super) threads: u64,
}

pub(super) fn process_stat(text: &str) -> Option<ProcessStat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // the third field of proc_pid_stat(5) is our first
    let number = |field: usize| fields.get(field - 3)?.parse().ok();
    Some(ProcessStat { minor_faults: number(10)?, major_faults: number(12)?, threads: number(20)? })
}

/// Resident pages in /proc/PID/statm.
pub(super) fn resident_pages(statm: &str) -> Option<u64> {
    statm.split_whitespace().nth(1)?.parse().ok()
}

/// The soft limit of a line of /proc/PID/limits; `None` where it is unlimited.
pub(super) fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many processors a list like `0-3,8` names.
pub(super) fn processors(list: &str) -> Option<u64> {
    let one = |part: &str| -> Option<u64> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to): (u64, u64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        to.checked_sub(from).map(|n| n + 1)
    };
    list.split(',').map(one).sum()
}

/// Microseconds in which some task waited: /proc/pressure/*.
pub(super) fn pressure(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

/// /proc/net/softnet_stat: packets dropped, and times the budget ran out, over all processors.
pub(super) fn softnet(text: &str) -> Option<(u64, u64)> {
    let of_line = |line: &str| {
        let mut words = line.split_whitespace().skip(1).map(|word| u64::from_str_radix(word, 16).ok());
        Some((words.next()??, words.next()??))
    };
    text.lines().map(of_line).try_fold((0, 0), |sum, line| line.map(|(a, b)| (sum.0 + a, sum.1 + b)))
}

/// Bytes through interfaces: /proc/net/dev.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NetBytes {
    pub(super) received: u64,
    pub(super) sent: u64,
    /// Through `lo`, which receives all it sends.
    pub(super) loopback: u64,
}

pub(super) fn net_dev(text: &str) -> Option<NetBytes> {
    let mut sum = NetBytes::default();
    for line in text.lines().skip(2) {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|n| n.parse().ok()).collect();
        let (received, sent) = (*numbers.first()?, *numbers.get(8)?);
        match name.trim() {
            "lo" => sum.loopback += sent,
            _ => (sum.received, sum.sent) = (sum.received + received, sum.sent + sent),
        }
    }
    Some(sum)
}

/// Bytes read from and written to whole disks: /proc/diskstats. Partitions, loop devices and the like would count the
/// same bytes twice.
pub(super) fn disks(text: &str, devices: &[String]) -> (u64, u64) {
    const SECTOR: u64 = 512;
    let of_line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let known = devices.iter().any(|device| Some(&device.as_str()) == words.get(2));
        let sectors = |at: usize| words.get(at)?.parse::<u64>().ok();
        known.then(|| Some((sectors(5)?, sectors(9)?))).flatten()
    };
    let sum = text.lines().filter_map(of_line).fold((0, 0), |sum, (r, w)| (sum.0 + r, sum.1 + w));
    (sum.0 * SECTOR, sum.1 * SECTOR)
}

/// A counter of /proc/net/netstat or snmp, where a line of names precedes a line of numbers.
pub(super) fn paired(text: &str, protocol: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(':'));
    let at = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// The folder that holds `cpu.stat` of the cgroup a process is in, from /proc/PID/cgroup and /proc/self/mountinfo:
/// version 1's controller `cpu` where it is mounted, else version 2.
pub(super) fn cpu_cgroup(cgroup: &str, mountinfo: &str) -> Option<String> {
    let v1 = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        controllers.split(',').any(|c| c == "cpu").then(|| parts.next()).flatten().map(str::to_owned)
    };
    let (kind, path) = match cgroup.lines().find_map(v1) {
        Some(path) => ("cgroup", path),
        None => ("cgroup2", cgroup.lines().find_map(|line| line.strip_prefix("0::"))?.to_owned()),
    };
    let mount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let (fields, after): (Vec<&str>, Vec<&str>) =
            (before.split(' ').collect(), after.split(' ').collect());
        let controls = kind == "cgroup2" || after.last()?.split(',').any(|option| option == "cpu");
        if *after.first()? != kind || !controls {
            return None;
        }
        let (root, point) = (*fields.get(3)?, *fields.get(4)?);
        // in a container the mount shows a part of the tree only
        let inside = if root == "/" { Some(path.as_str()) } else { path.strip_prefix(root) };
        inside.map(|inside| format!("{point}{inside}").trim_end_matches('/').to_owned())
    };
    mountinfo.lines().find_map(mount)
}

/// `cpu.stat` of a cgroup: periods in which it was throttled, and for how many nanoseconds.
pub(super) fn throttling(cpu_stat: &str) -> Option<(u64, u64)> {
    let usec = || named(cpu_stat, "throttled_usec ").map(|us| us * 1_000);
    Some((named(cpu_stat, "nr_throttled ")?, named(cpu_stat, "throttled_time ").or_else(usec)?))
}

#[cfg(test)]
mod tests;
