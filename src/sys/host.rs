//! Facts about the machine and about our own threads, read from /proc and /sys. What cannot be read is
//! `None`, never zero.

use std::fs;

use super::{affinity, clock};
use crate::facts::{Host, ThreadTimes};
use crate::load::time::Nanos;

/// Reads the facts about this machine.
pub fn read() -> Host {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok();
    let field = |name: &str| {
        let text = cpuinfo.as_deref()?;
        text.lines()
            .find(|line| line.starts_with(name))?
            .split_once(':')
            .map(|(_, value)| value.trim().to_owned())
    };
    Host {
        kernel: line("/proc/sys/kernel/osrelease"),
        cpu_model: field("model name"),
        cpus: affinity::allowed(),
        virtualized: field("flags").map(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| memory(&text)),
        nofile: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        clock_read_ns: clock::read_cost(),
    }
}

/// What the scheduler gave the calling thread, up to now.
pub fn thread_times() -> ThreadTimes {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let number = |at: usize| schedstat.as_deref()?.split_whitespace().nth(at)?.parse().ok();
    let status = fs::read_to_string("/proc/thread-self/status").ok();
    let switches = |name: &str| {
        let line = status.as_deref()?.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.trim().parse().ok()
    };
    ThreadTimes {
        on_cpu_ns: number(0),
        run_delay_ns: number(1),
        involuntary_switches: switches("nonvoluntary_ctxt_switches"),
        voluntary_switches: switches("voluntary_ctxt_switches"),
    }
}

/// Time the hypervisor took from these processors since boot, from /proc/stat; in steps of a tick (10 ms).
pub fn steal(cpus: &[usize]) -> Option<Nanos> {
    steal_in(&fs::read_to_string("/proc/stat").ok()?, cpus)
}

fn steal_in(stat: &str, cpus: &[usize]) -> Option<Nanos> {
    // USER_HZ is 100 on every Linux ABI that Rust supports.
    const TICK: u64 = 10_000_000;
    let of = |cpu: usize| -> Option<u64> {
        let name = format!("cpu{cpu} ");
        stat.lines().find_map(|line| line.strip_prefix(&name))?.split_whitespace().nth(7)?.parse().ok()
    };
    cpus.iter().map(|&cpu| of(cpu)).sum::<Option<u64>>().map(|ticks| Nanos(ticks * TICK))
}

fn memory(meminfo: &str) -> Option<u64> {
    let kib: u64 =
        meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

fn line(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number_of_the_named_processors() {
        let stat = "cpu  9 9 9 9 9 9 9 300 0 0\ncpu0 1 2 3 4 5 6 7 100 0 0\ncpu1 1 2 3 4 5 6 7 200 0 0\ncpu10 0 0 0 0 0 0 0 5 0 0\n";
        assert_eq!(steal_in(stat, &[1]), Some(Nanos::from_secs(2)));
        assert_eq!(steal_in(stat, &[0, 10]), Some(Nanos::from_millis(1_050)));
        assert_eq!(steal_in(stat, &[0, 7]), None);
    }

    #[test]
    fn own_times_grow() {
        let before = thread_times();
        let mut x = 0u64;
        for i in 0..2_000_000u64 {
            x = std::hint::black_box(x ^ i);
        }
        let used = thread_times().since(before);
        assert!(used.on_cpu_ns.is_none_or(|ns| ns < 60_000_000_000), "{used:?}");
        std::thread::sleep(std::time::Duration::from_millis(1));
        let slept = thread_times().since(before).voluntary_switches;
        assert!(slept.is_none_or(|n| n >= 1), "a sleep is a switch: {slept:?}");
    }

    #[test]
    fn memory_is_in_bytes() {
        assert_eq!(memory("MemTotal:       24000 kB\nMemFree: 1 kB\n"), Some(24_576_000));
    }
}
