//! The machine's own figures: processors, memory, pressure, disks, network.

use std::fs;

use super::parse;
use super::table::Sheet;

/// A tick of /proc/stat is 10 ms on every Linux ABI that Rust supports: ticks per second are hundredths of a processor.
const PERCENT_OF_TICK: f64 = 1.0;
/// Microseconds per second as percent.
const PERCENT_OF_US: f64 = 100.0 / 1e6;

/// What is read of the machine, found once.
#[derive(Debug)]
pub(super) struct Machine {
    /// Processors, with the names of their metrics.
    cpus: Vec<(usize, [String; 5])>,
    disks: Vec<String>,
}

impl Machine {
    pub(super) fn new() -> Self {
        let names = |id: usize| {
            ["user", "system", "irq", "softirq", "steal"].map(|what| format!("machine.cpu{id}.{what}"))
        };
        let stat = text("/proc/stat").unwrap_or_default();
        let cpus = parse::each_cpu(&stat).into_iter().map(|(id, _)| (id, names(id))).collect();
        let whole =
            |name: &String| !["loop", "ram", "zram", "dm-", "md"].iter().any(|kind| name.starts_with(kind));
        let disks = fs::read_dir("/sys/block").into_iter().flatten().flatten();
        let disks = disks.filter_map(|entry| entry.file_name().into_string().ok()).filter(whole).collect();
        Self { cpus, disks }
    }

    /// What is read at every interval.
    pub(super) fn fast(&self, sheet: &mut Sheet) {
        let stat = text("/proc/stat");
        let stat = stat.as_deref();
        let all = stat.and_then(parse::all_cpus);
        let scale = PERCENT_OF_TICK / self.cpus.len().max(1) as f64;
        sheet.counter("machine.cpu", all.map(|ticks| ticks.busy()), scale);
        sheet.counter("machine.user", all.map(|ticks| ticks.user), scale);
        sheet.counter("machine.system", all.map(|ticks| ticks.system), scale);
        sheet.counter("machine.irq", all.map(|ticks| ticks.irq), scale);
        sheet.counter("machine.softirq", all.map(|ticks| ticks.softirq), scale);
        sheet.counter("machine.steal", all.map(|ticks| ticks.steal), scale);
        sheet.counter("machine.iowait", all.map(|ticks| ticks.iowait), scale);
        let each = stat.map(parse::each_cpu).unwrap_or_default();
        for (id, names) in &self.cpus {
            let ticks = each.iter().find(|(other, _)| other == id).map(|(_, ticks)| ticks);
            let parts = ticks.map(|t| [t.user, t.system, t.irq, t.softirq, t.steal]);
            for (at, name) in names.iter().enumerate() {
                sheet.counter(name.clone(), parts.map(|parts| parts[at]), PERCENT_OF_TICK);
            }
        }
        let running = stat.and_then(|stat| parse::named(stat, "procs_running "));
        // the monitor itself is running while it looks
        sheet.gauge("machine.run_queue", running.map(|n| n.saturating_sub(1) as f64));
        sheet.counter("machine.switches", stat.and_then(|stat| parse::named(stat, "ctxt ")), 1.0);
    }

    /// What is read once a second.
    pub(super) fn slow(&self, sheet: &mut Sheet) {
        let memory = text("/proc/meminfo");
        let memory = |name| parse::named(memory.as_deref()?, name);
        let used = memory("MemTotal").zip(memory("MemAvailable"));
        sheet
            .gauge("machine.memory", used.map(|(all, free)| 100.0 * (1.0 - free as f64 / all.max(1) as f64)));
        for (name, path) in [
            ("machine.psi_cpu", "/proc/pressure/cpu"),
            ("machine.psi_memory", "/proc/pressure/memory"),
            ("machine.psi_io", "/proc/pressure/io"),
        ] {
            sheet.counter(name, text(path).and_then(|text| parse::pressure(&text)), PERCENT_OF_US);
            sheet.unless("no pressure stall information in /proc/pressure");
        }
        let disks = text("/proc/diskstats").filter(|_| !self.disks.is_empty());
        let disks = disks.map(|text| parse::disks(&text, &self.disks));
        sheet.counter("machine.disk_read", disks.map(|(read, _)| read), 1.0);
        sheet.unless("no disk in /sys/block");
        sheet.counter("machine.disk_written", disks.map(|(_, written)| written), 1.0);
        sheet.unless("no disk in /sys/block");
        let net = text("/proc/self/net/dev").and_then(|text| parse::net_dev(&text));
        sheet.counter("machine.net_received", net.map(|net| net.received), 1.0);
        sheet.counter("machine.net_sent", net.map(|net| net.sent), 1.0);
        sheet.counter("machine.loopback", net.map(|net| net.loopback), 1.0);
        let (netstat, snmp) = (text("/proc/self/net/netstat"), text("/proc/self/net/snmp"));
        let tcp = |name| parse::paired(netstat.as_deref()?, "TcpExt", name);
        sheet.counter("machine.listen_overflows", tcp("ListenOverflows"), 1.0);
        sheet.counter("machine.listen_drops", tcp("ListenDrops"), 1.0);
        let retransmits = snmp.and_then(|text| parse::paired(&text, "Tcp", "RetransSegs"));
        sheet.counter("machine.tcp_retransmits", retransmits, 1.0);
        sheet.counter("machine.tcp_syn_retransmits", tcp("TCPSynRetrans"), 1.0);
        let softnet = text("/proc/self/net/softnet_stat").or_else(|| text("/proc/net/softnet_stat"));
        let softnet = softnet.and_then(|text| parse::softnet(&text));
        sheet.counter("machine.softnet_dropped", softnet.map(|(dropped, _)| dropped), 1.0);
        sheet.counter("machine.softnet_squeezed", softnet.map(|(_, squeezed)| squeezed), 1.0);
    }
}

/// A file of /proc or /sys, opened anew each time: it must not take a descriptor from the load for long.
pub(super) fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}
