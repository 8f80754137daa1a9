//! The servers, their loads, and what is wrong with them.

/// One scenario.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What may come first; empty where nothing is wrong.
    pub(super) cause: &'static [&'static str],
    /// What is true beside it.
    pub(super) also: &'static [&'static str],
    pub(super) server: Server,
    /// Flags of the load.
    pub(super) run: &'static str,
    /// Bytes of the request's body.
    pub(super) body: usize,
    pub(super) beside: Beside,
    /// Part of the short form.
    pub(super) always: bool,
}

/// What is measured.
pub(super) enum Server {
    /// Flags of `hairspring stub`.
    Stub(&'static str),
    /// A script that listens on the port it is given, on processor 0.
    Python(&'static str),
    Nginx,
}

/// What goes on beside it.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    Nothing,
    /// Something that burns this processor.
    Spinner(u32),
    /// A CPU quota of so many processors for the server.
    Quota(f64),
}

const fn stub(
    name: &'static str,
    cause: &'static [&'static str],
    flags: &'static str,
    run: &'static str,
) -> Scenario {
    Scenario {
        name,
        cause,
        also: &[],
        server: Server::Stub(flags),
        run,
        body: 0,
        beside: Beside::Nothing,
        always: false,
    }
}

/// Writes head and body apart, with Nagle's algorithm on and one thread for each connection.
const IN_PIECES: &str = r"
import socket, sys, threading
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    data = b''
    while True:
        more = c.recv(65536)
        if not more: return
        data += more
        while b'\r\n\r\n' in data:
            _, data = data.split(b'\r\n\r\n', 1)
            c.send(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n')
            c.send(b'hello ')
            c.send(b'world')
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(128)
while True:
    c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
";

/// One thread over all connections that computes for some milliseconds on each request.
const ONE_THREAD: &str = r"
import selectors, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(128); s.setblocking(False)
sel = selectors.DefaultSelector(); sel.register(s, selectors.EVENT_READ, None)
while True:
    for key, _ in sel.select():
        if key.data is None:
            c, _ = s.accept(); c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sel.register(c, selectors.EVENT_READ, c); continue
        data = key.data.recv(65536)
        if not data:
            sel.unregister(key.data); key.data.close(); continue
        n = sum(i * i for i in range(40000))
        body = str(n).encode()
        key.data.send(b'HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n' % len(body) + body)
";

/// Lets 8 threads sleep under one lock, and says nothing of its times.
const ASLEEP: &str = r"
import socket, sys, threading, time
def serve(c):
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        if not c.recv(65536): return
        time.sleep(0.01)
        c.send(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(128)
while True:
    c, _ = s.accept(); threading.Thread(target=serve, args=(c,), daemon=True).start()
";

pub(super) const SCENARIOS: &[Scenario] = &[
    stub(
        "one thread computes",
        &["single-thread"],
        "--server-cpus 0 --model single --work spin --service fixed:5ms",
        "-c 8 -d 2s",
    ),
    Scenario {
        always: true,
        ..stub(
            "one thread sleeps",
            &["single-thread"],
            "--server-cpus 0 --model single --service fixed:5ms",
            "-c 8 -d 2s",
        )
    },
    stub(
        "one thread, Poisson at 0.9 of its rate",
        &["single-thread"],
        "--server-cpus 0 --model single --service fixed:5ms",
        "--rate 170/s --arrivals poisson -c 64 -d 4s",
    ),
    stub(
        "pool of 2",
        &["pool"],
        "--server-cpus 0 --model pool --workers 2 --service normal:10ms,2ms",
        "-c 16 -d 2s",
    ),
    Scenario {
        always: true,
        ..stub(
            "pool of 4",
            &["pool"],
            "--server-cpus 0 --model pool --workers 4 --service normal:20ms,3ms",
            "-c 20 -d 2s",
        )
    },
    stub(
        "pool of 8, exponential",
        &["pool"],
        "--server-cpus 0 --model pool --workers 8 --service exp:20ms",
        "-c 40 -d 3s",
    ),
    stub(
        "pool of 4, Poisson at 0.95 of its rate",
        &["pool"],
        "--server-cpus 0 --model pool --workers 4 --service fixed:20ms",
        "--rate 190/s --arrivals poisson -c 128 -d 4s",
    ),
    stub(
        "four workers compute on one processor",
        &["cpu-bound"],
        "--server-cpus 0 --model pool --workers 4 --work spin --service fixed:5ms",
        "-c 16 -d 3s",
    ),
    stub(
        "a thread for each connection computes",
        &["cpu-bound"],
        "--server-cpus 0 --model threads --work spin --service fixed:5ms",
        "-c 8 -d 3s",
    ),
    stub(
        "global lock, threads",
        &["lock"],
        "--server-cpus 0 --model threads --service fixed:10ms --lock 0.5",
        "-c 8 -d 3s",
    ),
    stub(
        "global lock, pool",
        &["lock"],
        "--server-cpus 0 --model pool --workers 8 --service fixed:10ms --lock 0.8",
        "-c 8 -d 3s",
    ),
    stub(
        "slow to accept",
        &["accept-bound"],
        "--server-cpus 0 --model threads --service fixed:1ms --accept-delay 10ms",
        "-c 16 --keepalive off -d 3s",
    ),
    Scenario {
        also: &["syn-retransmission"],
        ..stub(
            "slow to accept, short queue",
            &["accept-bound", "syn-retransmission"],
            "--server-cpus 0 --model threads --service fixed:1ms --accept-delay 10ms --backlog 4",
            "-c 16 --keepalive off -d 5s",
        )
    },
    Scenario {
        also: &["pool"],
        ..stub(
            "queue limit",
            &["queue-limit", "pool"],
            "--server-cpus 0 --model pool --workers 2 --service normal:20ms,3ms --queue-limit 4",
            "--rate 200/s -c 64 -d 3s",
        )
    },
    Scenario {
        always: true,
        ..stub(
            "rate limit",
            &["rate-limited"],
            "--server-cpus 0 --model threads --service fixed:2ms --rate-limit 100/s",
            "--rate 200/s -c 16 -d 3s",
        )
    },
    stub(
        "stalls of 200 ms each second",
        &["stalls"],
        "--server-cpus 0 --model threads --service fixed:2ms --stall 1s,200ms",
        "--rate 200/s -c 64 -d 6s",
    ),
    stub(
        "stalls of 100 ms, pool",
        &["stalls"],
        "--server-cpus 0 --model pool --workers 4 --service fixed:1ms --stall 700ms,100ms",
        "--rate 400/s -c 128 -d 6s",
    ),
    Scenario {
        body: 300_000,
        ..stub(
            "slow reader",
            &["flow-control"],
            "--server-cpus 0 --model threads --service fixed:1ms --read-rate 4000000 --receive-buffer 4096",
            "-c 4 -d 3s",
        )
    },
    stub(
        "tiny send buffer",
        &["flow-control"],
        "--server-cpus 0 --model threads --service fixed:1ms --send-buffer 4096 --payload-bytes 4000000",
        "-c 4 -d 3s",
    ),
    Scenario {
        beside: Beside::Quota(0.15),
        also: &["cpu-bound", "single-thread"],
        ..stub(
            "CPU quota, one thread",
            &["throttled"],
            "--server-cpus 0 --model single --work spin --service fixed:5ms",
            "--rate 40/s -c 32 -d 3s",
        )
    },
    Scenario {
        beside: Beside::Quota(0.2),
        also: &["cpu-bound"],
        ..stub(
            "CPU quota, threads",
            &["throttled"],
            "--server-cpus 0 --model threads --work spin --service fixed:10ms",
            "--rate 30/s -c 32 -d 4s",
        )
    },
    Scenario {
        beside: Beside::Spinner(0),
        ..stub(
            "noisy neighbour",
            &["noisy-neighbour"],
            "--server-cpus 0 --model single --work spin --service fixed:10ms",
            "--rate 15/s -c 4 -d 5s",
        )
    },
    Scenario {
        beside: Beside::Spinner(0),
        ..stub(
            "noisy neighbour, threads",
            &["noisy-neighbour"],
            "--server-cpus 0 --model threads --work spin --service fixed:8ms",
            "--rate 20/s -c 8 -d 5s",
        )
    },
    stub(
        "more than the client can send",
        &["client-bound"],
        "--server-cpus 0 --model per-core --workers 1 --service fixed:0ms",
        "--rate 400000/s -c 64 -d 2s",
    ),
    Scenario {
        beside: Beside::Spinner(1),
        ..stub(
            "the client's processor is taken",
            &["client-bound"],
            "--server-cpus 0 --model threads --service fixed:2ms",
            "--rate 2000/s -c 16 -d 3s",
        )
    },
    Scenario {
        beside: Beside::Spinner(1),
        ..stub(
            "the client's processor is taken, closed loop",
            &["client-bound"],
            "--server-cpus 0 --model threads --service fixed:1ms",
            "-c 16 -d 3s",
        )
    },
    stub(
        "connections for one request each",
        &["connection-churn"],
        "--server-cpus 0 --model per-core --workers 1 --service fixed:0ms",
        "--rate 300/s -c 8 --keepalive off -d 3s --wait spin",
    ),
    Scenario {
        always: true,
        ..stub(
            "nothing wrong: as many workers as clients",
            &[],
            "--server-cpus 0 --model pool --workers 8 --service fixed:10ms",
            "-c 8 -d 2s",
        )
    },
    stub(
        "nothing wrong: a third of the rate",
        &[],
        "--server-cpus 0 --model pool --workers 8 --service normal:20ms,2ms",
        "--rate 100/s -c 32 -d 3s",
    ),
    stub(
        "nothing wrong: at once",
        &[],
        "--server-cpus 0 --model per-core --workers 1 --service fixed:0ms",
        "--rate 200/s -c 8 -d 3s --wait spin",
    ),
    stub(
        "nothing wrong: work that varies",
        &[],
        "--server-cpus 0 --model threads --service lognormal:10ms,0.5",
        "--rate 50/s -c 32 -d 4s",
    ),
    Scenario {
        server: Server::Nginx,
        ..stub("nothing wrong: nginx", &[], "", "--rate 300/s -c 8 -d 3s --wait spin")
    },
    Scenario {
        server: Server::Python(ASLEEP),
        ..stub("nothing wrong: a sleeping script", &[], "", "-c 8 -d 2s")
    },
    Scenario {
        server: Server::Python(ONE_THREAD),
        ..stub("a script with one thread", &["single-thread"], "", "-c 8 -d 3s")
    },
    Scenario {
        server: Server::Python(IN_PIECES),
        ..stub("a script that writes in pieces", &["delayed-ack"], "", "-c 4 -d 3s")
    },
];
