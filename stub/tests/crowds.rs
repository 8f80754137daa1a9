//! Crowds and want, against the program: thousands of idle connections, too few descriptors, too much to hold. It goes
//! on serving, it does not spin, and its memory stays within bounds.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::process::Stub;
use crate::support::{Client, MODELS, get, infer, until};

/// 10 000 in the long form; the machine of the short one is shared.
fn crowd() -> usize {
    if std::env::var_os("HAIRSPRING_LONG").is_some() { 10_000 } else { 2_500 }
}

/// A field of /proc/PID/status, in KiB.
fn status_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("the field");
    line.trim_matches([':', ' ', '\t', 'k', 'B']).trim().parse().expect("a number")
}

/// Clock ticks (10 ms) of CPU time the process has used.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let after_name = stat.rsplit(") ").next().expect("fields");
    let fields: Vec<&str> = after_name.split(' ').collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

fn stats(addr: std::net::SocketAddr) -> serde_json::Value {
    Client::connect(addr).exchange(get("/stats")).json()
}

#[test]
fn thousands_of_idle_connections_hold_up_nobody() {
    let crowd = crowd();
    let room = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if room < 2 * crowd as u64 {
        let line = format!("SKIPPED: {crowd} connections need more descriptors than {room}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return;
    }
    for model in MODELS {
        let stub = Stub::start(&["--model", model.name(), "--max-connections", "12000", "--backlog", "4096"]);
        let pid = stub.pid();
        let before = status_kib(pid, "VmRSS");
        let mut idle = Vec::with_capacity(crowd);
        for n in 0..crowd {
            let stream = TcpStream::connect(stub.addr()).expect("connect");
            // Closed by a reset: no TIME_WAIT of ten thousand ports is left behind.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("linger");
            if n % 3 == 0 {
                // Some have begun a request.
                (&stream).write_all(b"GET /health/live HT").expect("send");
            }
            idle.push(stream);
        }
        until("all accepted", || stats(stub.addr())["open"].as_u64() >= Some(crowd as u64));
        let mut client = Client::connect(stub.addr());
        for id in 0..200 {
            assert_eq!(client.exchange(infer(&id.to_string())).status, 200, "{model:?}");
        }
        let each = (status_kib(pid, "VmRSS") - before) * 1024 / crowd as u64;
        let bound = if model == hairspring_stub::Model::Threads { 100_000 } else { 20_000 };
        assert!(each < bound, "{model:?}: {each} bytes for an idle connection");
        println!("{model:?}: {each} bytes for each of {crowd} idle connections");
        // It waits for them, it does not ask them one by one.
        let ticks = cpu_ticks(pid);
        std::thread::sleep(Duration::from_millis(500));
        assert!(cpu_ticks(pid) - ticks <= 20, "{model:?}: busy with nothing");
        drop(idle);
        until("all gone", || stats(stub.addr())["open"].as_u64() <= Some(2));
    }
}

#[test]
fn without_descriptors_it_turns_away_and_recovers() {
    for model in MODELS {
        let stub = Stub::start_limited(&["--model", model.name()], 40);
        let pid = stub.pid();
        let mut first = Client::connect(stub.addr());
        assert_eq!(first.exchange(infer("1")).status, 200, "{model:?}");
        // More than it has descriptors for; those in excess are closed, not left hanging.
        let crowd: Vec<TcpStream> =
            (0..100).map(|_| TcpStream::connect(stub.addr()).expect("connect")).collect();
        until("a descriptor wanting", || first.exchange(get("/stats")).json()["dropped"].as_u64() > Some(0));
        for id in 0..20 {
            assert_eq!(first.exchange(infer(&id.to_string())).status, 200, "{model:?}: the accepted go on");
        }
        let (ticks, began) = (cpu_ticks(pid), Instant::now());
        std::thread::sleep(Duration::from_millis(500));
        let used = Duration::from_millis(10 * (cpu_ticks(pid) - ticks));
        assert!(used < began.elapsed() / 2, "{model:?}: it spins on the listener: {used:?}");
        drop(crowd);
        until("room again", || {
            let mut client = Client::connect(stub.addr());
            client.try_send(infer("again")).is_ok() && client.has_answer_soon()
        });
        let answer = Client::connect(stub.addr()).exchange(infer("well"));
        assert_eq!(answer.status, 200, "{model:?}");
    }
}

#[test]
fn what_clients_send_is_not_kept() {
    for model in MODELS {
        let stub = Stub::start(&["--model", model.name(), "--body-limit", "65536"]);
        let before = status_kib(stub.pid(), "VmRSS");
        // Each holds as much of a request as it is allowed, in the head and in the body.
        let mut clients = Vec::new();
        for _ in 0..64 {
            let mut head = Client::connect(stub.addr());
            head.send(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(30_000)));
            let mut body = Client::connect(stub.addr());
            body.send("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
            body.send("x".repeat(60_000));
            clients.extend([head, body]);
        }
        for id in 0..100 {
            let mut sender = Client::connect(stub.addr());
            sender.send("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
            let answer = sender.exchange("x".repeat(65536));
            assert_eq!(answer.status, 200, "{model:?}, {id}");
        }
        let grown = (status_kib(stub.pid(), "VmRSS").saturating_sub(before)) / 1024;
        // 64 × (32 KiB + 64 KiB), doubled where a buffer grows, and threads.
        assert!(grown < 40, "{model:?}: {grown} MiB for 128 unfinished requests");
        drop(clients);
    }
}
