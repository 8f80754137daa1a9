//! What the other end does wrong: rows 1 to 21, 38, 39 and 41 of the table.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::trial::{Mode, Ran, Trial, Tried, under_way};
use crate::support::{Network, Peer, Scratch, Scripted, Stub, answer, exchange, free_port, long, ok};

const HEAD: &str = "HTTP/1.1 200 OK\r\n";
const TEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345";
/// What has been sent should have arrived before what follows.
const APART: Duration = Duration::from_millis(5);

pub(super) fn refused(trial: Trial) -> Tried {
    let target = format!("http://127.0.0.1:{}/", free_port());
    trial.run(&target, "-n 8 -c 2", 1).only(&["connect-refused"]);
    Ok(())
}

pub(super) fn unanswered_syn(trial: Trial) -> Tried {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    // nobody accepts: connections until the kernel takes no more
    let connect = |_| TcpStream::connect_timeout(&addr, Duration::from_millis(100)).ok();
    let full: Vec<TcpStream> = (0..8).map_while(connect).collect();
    assert!((1..8).contains(&full.len()), "the backlog cannot be filled: {}", full.len());
    let ran = trial.run(&format!("http://{addr}/"), "-n 4 -c 2 --connect-timeout 150ms", 1);
    timed_out_connects(&ran);
    Ok(())
}

/// Each was given its 150 ms, and none was sent.
fn timed_out_connects(ran: &Ran) {
    ran.only(&["connect-timeout"]);
    for row in &ran.rows.rows {
        let waited = row.ns("done_ns") - row.ns("intended_ns");
        assert!(waited >= 150_000_000 && row.number("issued_ns").is_none(), "{row:?}");
    }
}

pub(super) fn blackhole(trial: Trial) -> Tried {
    // a host that is never there, behind an interface that takes everything; and routes that lead nowhere
    let network = Network::new(
        "ip link add v0 type veth peer name v1; ip link set v0 up; ip link set v1 up; ip addr add 10.9.9.1/24 dev v0; \
         ip neigh add 10.9.9.2 lladdr 02:00:00:00:00:02 dev v0; ip route add blackhole 10.9.8.0/24; \
         ip route add prohibit 10.9.7.0/24",
    )?;
    network.within(|| {
        timed_out_connects(&trial.run("http://10.9.9.2/", "-n 4 -c 2 --connect-timeout 150ms", 1));
        trial.run("http://10.9.8.1/", "-n 4 -c 2", 1).only(&["local-resource"]);
        trial.run("http://10.9.7.1/", "-n 4 -c 2", 1).only(&["local-resource"]);
        trial.run("http://10.9.6.1/", "-n 4 -c 2", 1).only(&["connect-refused"]);
    });
    Ok(())
}

pub(super) fn reset_at_accept(trial: Trial) -> Tried {
    let server = Scripted::new(Peer::reset);
    let ran = trial.run(&server.url("/"), "-n 8 -c 2", 1);
    ran.only(&["reset"]);
    assert!(ran.report["totals"]["connects"].as_u64().unwrap() <= 8 * 5, "{}", ran.finished);
    Ok(())
}

pub(super) fn reset_in_the_head(trial: Trial) -> Tried {
    trial.half(("reset", "stale-keepalive", ""), |_| true)?;
    trial.half(("reset", "reset", ""), |peer| {
        peer.send(HEAD);
        std::thread::sleep(APART);
        true
    })
}

pub(super) fn reset_in_the_body(trial: Trial) -> Tried {
    trial.half(("reset", "reset", ""), |peer| {
        peer.send(TEN);
        std::thread::sleep(APART);
        true
    })
}

fn ends_after(trial: Trial, class: &str, text: &'static str) -> Tried {
    trial.half((class, class, ""), move |peer| {
        peer.send(text);
        false
    })
}

pub(super) fn end_in_the_body(trial: Trial) -> Tried {
    ends_after(trial, "truncated-body", TEN)?;
    ends_after(trial, "truncated-body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
}

pub(super) fn end_in_a_chunk(trial: Trial) -> Tried {
    ends_after(trial, "truncated-body", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123")?;
    ends_after(trial, "truncated-body", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n")
}

pub(super) fn end_in_the_head(trial: Trial) -> Tried {
    trial.half(("no-response", "stale-keepalive", ""), |_| false)?;
    ends_after(trial, "truncated-head", "HTTP/1.1 200 OK\r\nContent-Le")?;
    ends_after(trial, "truncated-head", "HTTP/1.1 100 Continue\r\n\r\n")
}

pub(super) fn half_close(trial: Trial) -> Tried {
    trial.half(("no-response", "stale-keepalive", ""), |peer| {
        peer.half_close();
        peer.hold(); // the client has to close
        false
    })?;
    // a whole answer first: it counts
    let server = Scripted::new(|mut peer| {
        if peer.request().is_some() {
            peer.send(ok("fine")).half_close();
            peer.hold();
        }
    });
    trial.run(&server.url("/"), "-n 8 -c 1 --retry-stale", 0).only(&["200"]);
    Ok(())
}

/// Our server is asked by one that closes its sending half behind the request.
pub(super) fn half_close_of_the_client(_: Trial) -> Tried {
    use std::io::{Read, Write};
    for model in ["single", "threads", "pool", "per-core"] {
        let scratch = Scratch::new("half-closed");
        let stub = Stub::start(&scratch, &format!("--model {model} --service fixed:5ms"));
        let mut stream = TcpStream::connect(stub.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
            .write_all(b"POST /v1/infer HTTP/1.1\r\nHost: x\r\nX-Request-Id: 0\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answered = Vec::new();
        stream.read_to_end(&mut answered).unwrap();
        assert!(answered.starts_with(b"HTTP/1.1 200"), "{model}: {}", String::from_utf8_lossy(&answered));
    }
    Ok(())
}

pub(super) fn stale_keepalive(trial: Trial) -> Tried {
    let server = || {
        Scripted::new(|mut peer| {
            if peer.request().is_some() {
                peer.send(ok("first"));
                peer.request(); // and goes, as if it had gone a moment before
            }
        })
    };
    let (once, again) = (server(), server());
    let ran = trial.run(&once.url("/"), "-n 8 -c 1", 0);
    let reused = trial.mode != Mode::Off;
    let outcomes = if reused { json!({"200": 4, "stale-keepalive": 4}) } else { json!({"200": 8}) };
    assert_eq!(ran.report["outcomes"], outcomes, "{}", ran.finished);
    let ran = trial.run(&again.url("/"), "-n 8 -c 1 --retry-stale", 0);
    ran.only(&["200"]);
    assert_eq!(ran.report["totals"]["retries"].as_u64().unwrap() >= 6, reused, "{}", ran.finished);
    Ok(())
}

pub(super) fn connection_close(trial: Trial) -> Tried {
    let server = Scripted::new(|mut peer| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").hold();
        }
    });
    let ran = trial.run(&server.url("/"), "-n 8 -c 2", 0);
    ran.only(&["200"]);
    assert!(ran.report["totals"]["connects"].as_u64().unwrap() >= 8, "{}", ran.finished);
    Ok(())
}

pub(super) fn byte_by_byte(trial: Trial) -> Tried {
    for (n, pause) in [(8, 0), (2, 10)] {
        let server = Scripted::new(move |mut peer| {
            while peer.request().is_some() {
                for byte in ok("slow") {
                    peer.send([byte]);
                    std::thread::sleep(Duration::from_millis(pause));
                }
            }
        });
        trial.run(&server.url("/"), &format!("-n {n} -c 2"), 0).only(&["200"]);
    }
    Ok(())
}

/// 200 MiB, or 10 GiB in the long form: memory stays what it is.
pub(super) fn endless(trial: Trial) -> Tried {
    let huge: u64 = if long() && trial.mode == Mode::On { 10 << 30 } else { 200 << 20 };
    let server = Scripted::new(move |mut peer| {
        while peer.request().is_some() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {huge}\r\n\r\n"));
            peer.pour(&vec![b'x'; 1 << 20], huge);
        }
    });
    let scratch = Scratch::new("huge");
    let command = trial.command(&scratch, &server.url("/"), "-n 1 -c 1 --timeout 5m");
    let ran = Ran::check(&scratch, command.deadline(Duration::from_secs(300)).run(), 0);
    ran.only(&["200"]);
    assert!(ran.report["totals"]["bytes_received"].as_u64().unwrap() > huge, "{}", ran.finished);
    let peak = ran.finished.peak_kib;
    assert!((1_024..96 << 10).contains(&peak), "{peak} KiB for a body of {huge} bytes");
    let endless = |class_detail: &'static str, piece: &'static str| {
        trial.half(("malformed", "malformed", class_detail), move |peer| {
            peer.send(HEAD.repeat(usize::from(!piece.starts_with("HTTP"))));
            peer.pour(piece.as_bytes(), 1 << 30);
            false
        })
    };
    endless(
        "head-too-large",
        "X-Filler: another field of many, and none of them is the last one of all\r\n",
    )?;
    endless("too-many-informational", "HTTP/1.1 103 Early Hints\r\n\r\n")
}

/// The answer is there before the request is whole: it counts, and the rest of the request is not insisted on.
pub(super) fn early_answer(trial: Trial) -> Tried {
    let server = Scripted::new(|mut peer| {
        while peer.head().is_some() {
            peer.send("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno");
            peer.hold();
        }
    });
    let scratch = Scratch::new("early");
    scratch.write("body", vec![b'b'; 4 << 20]);
    let command = trial.command(&scratch, &server.url("/"), "-n 8 -c 2 --body-file body");
    Ran::check(&scratch, command.run(), 0).only(&["413"]);
    Ok(())
}

pub(super) fn surplus(trial: Trial) -> Tried {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        trial.half(("surplus", "surplus", ""), move |peer| {
            peer.send(text).hold();
            false
        })?;
    }
    Ok(())
}

pub(super) fn garbage(trial: Trial) -> Tried {
    for text in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], &[0; 512], TLS_ALERT] {
        trial.half(("malformed", "malformed", "bad-status-line"), move |peer| {
            peer.send(text).hold();
            false
        })?;
    }
    // a server that speaks TLS says that it is no TLS that it hears, and goes
    trial.half(("malformed", "malformed", "bad-status-line"), |peer| {
        peer.send(TLS_ALERT);
        false
    })
}

/// handshake_failure, fatal.
const TLS_ALERT: &[u8] = b"\x15\x03\x01\x00\x02\x02\x28";

/// Each wrong framing once, a right answer between any two.
pub(super) fn wrong_framing(trial: Trial) -> Tried {
    let wrong = wrong_framings();
    let n = 2 * wrong.len();
    let texts: Vec<String> = wrong.iter().map(|(text, _)| text.clone()).collect();
    let server = Scripted::new(move |mut peer| {
        while let Some(heard) = peer.request() {
            let id: usize = heard.id().parse().unwrap();
            if id.is_multiple_of(2) {
                peer.send(ok("fine"));
            } else {
                peer.send(&texts[id / 2]).hold(); // the client has to close
                return;
            }
        }
    });
    let ran = trial.run(&server.url("/"), &format!("-n {n} -c 1"), 0);
    for row in &ran.rows.rows {
        let id = row.ns("request_id") as usize;
        let (outcome, detail) = if id % 2 == 1 { ("malformed", wrong[id / 2].1) } else { ("200", "") };
        assert_eq!((row.text("outcome"), row.text("detail")), (outcome, detail), "{:?}", wrong[id / 2].0);
        assert_eq!(row.text("status_code"), if id % 2 == 1 { "-1" } else { "200" });
    }
    Ok(())
}

fn wrong_framings() -> Vec<(String, &'static str)> {
    vec![
        ("\r\nHTTP/1.1 200 OK\r\n\r\n".to_owned(), "bad-status-line"),
        ("HTTP/1.1 20 OK\r\n\r\n".to_owned(), "bad-status-line"),
        ("HTTP/3.0 200 OK\r\n\r\n".to_owned(), "bad-version"),
        (format!("{HEAD}no colon\r\n\r\n"), "bad-header"),
        (format!("{HEAD}Content-Length: -1\r\n\r\n"), "bad-content-length"),
        (format!("{HEAD}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), "bad-content-length"),
        (
            format!("{HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "ambiguous-framing",
        ),
        (format!("{HEAD}Transfer-Encoding: chunked, chunked\r\n\r\n"), "bad-transfer-encoding"),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), "bad-chunk"),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"), "bad-chunk"),
        (format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n"), "bad-trailer"),
        (format!("{HEAD}X: {}\r\n\r\n", "a".repeat(70_000)), "head-too-large"),
        (format!("{HEAD}{}\r\n", "A: b\r\n".repeat(101)), "too-many-fields"),
        ("HTTP/1.1 102 Processing\r\n\r\n".repeat(40), "too-many-informational"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_owned(), "unexpected-upgrade"),
    ]
}

/// The server stands still for 200 ms, or 5 s in the long form: no request is lost, and those that came meanwhile waited.
pub(super) fn server_stopped(trial: Trial) -> Tried {
    let pause = Duration::from_millis(if long() && trial.mode == Mode::Open { 5_000 } else { 200 });
    let scratch = Scratch::new("stopped");
    let mut stub = Stub::start(&scratch, "--model pool --workers 4 --service fixed:1ms");
    let mut running = trial
        .command(
            &scratch,
            &stub.url(),
            &format!("--body x -d {}ms -c 4 {}", pause.as_millis() + 600, trial.think()),
        )
        .start();
    under_way(&scratch, &mut running, Duration::from_millis(200));
    stub.process().signal(Signal::STOP);
    std::thread::sleep(pause);
    stub.process().signal(Signal::CONT);
    let ran = Ran::check(&scratch, running.wait(), 0);
    ran.only(&["200"]);
    let longest = ran.report["response_ns"]["max"].as_u64().unwrap();
    assert!(longest >= 9 * pause.as_nanos() as u64 / 10, "{longest} ns: {}", ran.finished);
    Ok(())
}

/// The server dies, and another comes up in its place 150 ms later.
pub(super) fn server_killed(trial: Trial) -> Tried {
    let scratch = Scratch::new("killed");
    let model = "--model pool --workers 4 --service fixed:1ms";
    let mut stub = Stub::start(&scratch, model);
    let (addr, url) = (stub.addr(), stub.url());
    let mut running =
        trial.command(&scratch, &url, &format!("--body x -d 1200ms -c 4 {}", trial.think())).start();
    under_way(&scratch, &mut running, Duration::from_millis(200));
    stub.process().signal(Signal::KILL);
    std::thread::sleep(Duration::from_millis(150));
    drop(stub);
    let _next = Stub::start(&scratch, &format!("{model} --addr {addr}"));
    assert!(running.is_running(), "it ended with its server");
    let ran = Ran::check(&scratch, running.wait(), 0);
    ran.only(&["200", "connect-refused", "reset", "stale-keepalive", "no-response"]);
    ran.some(&["200", "connect-refused"]);
    let of = |class| ran.rows.rows.iter().filter(move |row| row.text("outcome") == class);
    let last_refused = of("connect-refused").map(|row| row.ns("done_ns")).max();
    let after = of("200").filter(|row| row.number("issued_ns") > last_refused).count();
    assert!(after > 20, "it does not recover: {}", ran.finished);
    Ok(())
}

/// An accept queue of one, and hundreds who want in at once (a thousand in the long form).
pub(super) fn short_backlog(trial: Trial) -> Tried {
    let scratch = Scratch::new("backlog");
    let stub = Stub::start(&scratch, "--model single --service fixed:0us --backlog 1");
    let n = if long() { 1_000 } else { 200 };
    let ran = trial.run(&stub.url(), &format!("--body x -n {n} -c {n} --connect-timeout 250ms"), 0);
    ran.only(&["200", "connect-timeout"]).some(&["200"]);
    Ok(())
}

/// Many connections: all are served, and their descriptors come back.
pub(super) fn many_connections(trial: Trial) -> Tried {
    let connections = 9_000;
    let scratch = Scratch::new("many");
    let stub = Stub::start(&scratch, "--model per-core --workers 1 --service fixed:0us --backlog 4096");
    let flags = format!("--body x -n {} -c {connections}", 2 * connections);
    let command = trial.command(&scratch, &stub.url(), &flags).deadline(Duration::from_secs(120));
    Ran::check(&scratch, command.run(), 0).only(&["200"]);
    let still = exchange(stub.addr(), "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(still.starts_with(b"HTTP/1.1 200"), "the server is worn out");
    Ok(())
}

/// The answer to another request; and in a comparison, another answer to the right request.
pub(super) fn wrong_answer(trial: Trial) -> Tried {
    trial.half(("mismatch", "mismatch", ""), |peer| {
        peer.send("HTTP/1.1 200 OK\r\nX-Request-Id: 12345\r\nContent-Length: 2\r\n\r\nok").hold();
        false
    })?;
    let [right, wrong] = ["right", "wrong"].map(|body| Scripted::answering(move |_| answer(200, body)));
    let scratch = Scratch::new("differ");
    let flags = format!("compare --engine {} -n 8 -c 2 --rounds 1 --wait park", trial.engine);
    let finished = scratch
        .hairspring(&flags)
        .args_pair("--baseline-url", &right.url("/"))
        .args_pair("--optimized-url", &wrong.url("/"))
        .run();
    let comparison = scratch.json("results/comparison.json");
    let invalid = ["baseline", "optimized"].map(|side| comparison[side]["validity"]["verdict"] == "invalid");
    assert_eq!(finished.code(), if invalid.contains(&true) { 3 } else { 2 }, "{finished}");
    assert!(finished.stdout.contains("ANSWERS DIFFER: 8 of 8"), "{finished}");
    Ok(())
}
