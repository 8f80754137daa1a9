//! The texts were recorded on Linux 6.18 (2 processors, hybrid cgroups) unless a comment names another source.

use super::*;

const STAT: &str = "\
cpu  555000 686385 327150 878409 10217 3 35764 706 0 0
cpu0 265182 342791 157554 460929 3494 1 16324 364 0 0
cpu1 289817 343594 169595 417479 6723 2 19439 341 0 0
intr 1 2 3
ctxt 987654321
btime 1795000000
processes 12345
procs_running 4
procs_blocked 0
";

#[test]
fn processors_by_what_they_did() {
    let all = all_cpus(STAT).unwrap();
    assert_eq!(all.user, 555_000 + 686_385, "nice is user");
    assert_eq!((all.system, all.irq, all.softirq, all.steal), (327_150, 3, 35_764, 706));
    assert_eq!(all.busy(), 555_000 + 686_385 + 327_150 + 3 + 35_764);
    let each = each_cpu(STAT);
    assert_eq!(each.iter().map(|(id, ticks)| (*id, ticks.steal)).collect::<Vec<_>>(), [(0, 364), (1, 341)]);
    assert_eq!((named(STAT, "procs_running "), named(STAT, "ctxt ")), (Some(4), Some(987_654_321)));
    assert_eq!((all_cpus("cpu  1 2 3\n"), named(STAT, "procs_")), (None, None));
}

#[test]
fn threads_and_processes() {
    assert_eq!(schedstat("86054 2880199 2\n"), Some((86_054, 2_880_199)));
    assert_eq!(schedstat("86054"), None);
    // the name is the worst that prctl(2) lets one choose
    let stat = "9972 (a) R 1 (b) R 9969 9969 1534 0 -1 4194304 103 0 7 0 0 0 0 0 20 0 5 0 1250103 3133440 388 \
                18446744073709551615 93988062879744\n";
    let wanted = ProcessStat { minor_faults: 103, major_faults: 7, threads: 5 };
    assert_eq!(process_stat(stat), Some(wanted));
    assert_eq!(process_stat("9972 (cat) Z 1"), None);
    let status = "Threads:\t1\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
    assert_eq!(named(status, "voluntary_ctxt_switches:"), Some(12));
    assert_eq!(named(status, "nonvoluntary_ctxt_switches:"), Some(3));
    assert_eq!([processors("0-1"), processors("3"), processors("0-3,8,10-11\n")], [2, 1, 7].map(Some));
    assert_eq!(processors("3-1"), None);
    let io = "rchar: 6976\nwchar: 5\nsyscr: 10\nsyscw: 0\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n";
    assert_eq!((named(io, "read_bytes"), named(io, "write_bytes")), (Some(4_096), Some(8_192)));
    let limits = "\
Limit                     Soft Limit           Hard Limit           Units
Max processes             96364                96364                processes
Max open files            20000                30000                files
Max file locks            unlimited            unlimited            locks
";
    assert_eq!(soft_limit(limits, "Max open files"), Some(20_000));
    assert_eq!(soft_limit(limits, "Max file locks"), None);
}

#[test]
fn memory_and_pressure() {
    let meminfo = "MemTotal:       24683656 kB\nMemFree:        14455668 kB\nMemAvailable:   24046456 kB\n";
    assert_eq!(named(meminfo, "MemAvailable"), Some(24_046_456));
    let psi = "some avg10=0.32 avg60=1.19 avg300=3.22 total=4395432646\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    assert_eq!(pressure(psi), Some(4_395_432_646));
    assert_eq!(pressure(""), None);
}

#[test]
fn network_and_disks() {
    // the second line: 3331 dropped, once squeezed, in hexadecimal
    let softnet_stat =
        "070e9735 0000002a 00000002 00000000 00000000\n07f162f9 00000d03 00000001 00000000 00000000\n";
    assert_eq!(softnet(softnet_stat), Some((0x2a + 0xd03, 3)));
    assert_eq!(softnet("070e9735\n"), None);
    let dev = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 43721554311 251641391    0 3373    0     0          0         0 43721554311 251641391    0    0    0     0       0          0
  eth0: 332166977   15359    0    0    0     0          0         0   895154    9228    0    0    0     0       0          0
  eth1:1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0
";
    let wanted = NetBytes { received: 332_167_977, sent: 897_154, loopback: 43_721_554_311 };
    assert_eq!(net_dev(dev), Some(wanted));
    let diskstats = "\
   7       0 loop0 9 0 9 0 9 0 9 0 0 0 0
 254       0 vda 100 0 2000 50 10 0 300 5 0 60 55 0 0 0 0 0 0
 254       1 vda1 100 0 2000 50 10 0 300 5 0 60 55 0 0 0 0 0 0
";
    assert_eq!(disks(diskstats, &["vda".to_owned()]), (2_000 * 512, 300 * 512));
    let netstat = "\
TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPSynRetrans
TcpExt: 42 7145 4381 6
IpExt: InNoRoutes ListenDrops
IpExt: 0 1
";
    assert_eq!(paired(netstat, "TcpExt", "ListenOverflows"), Some(7_145));
    assert_eq!(paired(netstat, "TcpExt", "ListenDrops"), Some(4_381));
    assert_eq!(paired(netstat, "TcpExt", "TCPNew"), None);
    let snmp = "Tcp: RtoAlgorithm MaxConn RetransSegs\nTcp: 1 -1 10513\n";
    assert_eq!(paired(snmp, "Tcp", "RetransSegs"), Some(10_513));
    assert_eq!(paired(snmp, "Tcp", "MaxConn"), None, "-1 is no count");
}

#[test]
fn the_cgroup_that_limits_processor_time() {
    let hybrid = "4:memory:/process_api/6165\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/lab/x\n0::/elsewhere\n";
    let mounts = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    assert_eq!(cpu_cgroup(hybrid, mounts).as_deref(), Some("/sys/fs/cgroup/cpu/lab/x"));
    let joined = "1:cpu,cpuacct:/\n";
    let mount = "32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n";
    assert_eq!(cpu_cgroup(joined, mount).as_deref(), Some("/cg/cpu,cpuacct"));
    // version 2 alone, as systemd mounts it: cgroups(7)
    let unified = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
    let slice = "0::/system.slice/web.service\n";
    assert_eq!(cpu_cgroup(slice, unified).as_deref(), Some("/sys/fs/cgroup/system.slice/web.service"));
    // seen from inside a container the mount begins at its own group
    let bind = "29 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
    assert_eq!(cpu_cgroup("0::/docker/abc\n", bind).as_deref(), Some("/sys/fs/cgroup"));
    assert_eq!(cpu_cgroup("0::/other\n", bind), None);
    // kernel Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst
    let v2 =
        "usage_usec 10\nuser_usec 5\nsystem_usec 5\nnr_periods 50\nnr_throttled 40\nthrottled_usec 3200000\n";
    assert_eq!(throttling(v2), Some((40, 3_200_000_000)));
    let v1 = "nr_periods 50\nnr_throttled 40\nthrottled_time 3200000123\n";
    assert_eq!(throttling(v1), Some((40, 3_200_000_123)));
    assert_eq!(throttling("usage_usec 16349487301\n"), None, "the root has no quota");
}
