//! Admission and deadlines: who is refused, who is too slow, and that the others do not notice.

use hairspring_stub::Model;

use crate::support::{Client, MODELS, get, infer, start, until};

#[test]
fn a_full_queue_is_answered_503() {
    let path = std::env::temp_dir().join(format!("stub-refused-{}.csv", std::process::id()));
    let server = start(Model::Pool, "fixed:400ms", |config| {
        config.workers = 1;
        config.queue_limit = Some(1);
        config.server_log = Some(path.clone());
    });
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(server.addr())).collect();
    clients[0].send(infer("served"));
    until("the first in service", || server.counts().in_flight == 1);
    clients[1].send(infer("waits"));
    until("the second waiting", || server.counts().queued == Some(1));
    let refused = clients[2].exchange(infer("refused"));
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
    assert_eq!(refused.field("X-Request-Id"), Some("refused"));
    assert!(refused.timing("recv").is_some() && refused.timing("service").is_none());
    assert_eq!(clients[2].exchange(get("/health/ready")).status, 200, "the connection stays");
    for client in &mut clients[..2] {
        assert_eq!(client.response().map(|r| r.status), Some(200));
    }
    let counts = server.stop().expect("stop");
    assert_eq!((counts.queue_high_water, counts.statuses[&503]), (Some(1), 1));
    let log = std::fs::read_to_string(&path).expect("log");
    let row = log.lines().find(|line| line.starts_with("refused,")).expect("a row");
    let cells: Vec<&str> = row.split(',').collect();
    assert_eq!((cells[3], cells[4], cells[6]), ("", "", "503"), "never started");
    assert!(!cells[5].is_empty(), "its answer was written");
    assert_eq!(log.lines().count(), 4);
    std::fs::remove_file(&path).expect("remove");
}

#[test]
fn an_id_is_no_formula_in_the_log() {
    let path = std::env::temp_dir().join(format!("stub-formula-{}.csv", std::process::id()));
    let server = start(Model::Single, "fixed:0ms", |config| config.server_log = Some(path.clone()));
    let mut client = Client::connect(server.addr());
    for id in ["=1+1", "@SUM(A1)", "-2", "+2", "a=b"] {
        let answer = client.exchange(infer(id));
        assert_eq!(answer.field("X-Request-Id"), Some(id), "it is echoed as it is");
    }
    server.stop().expect("stop");
    let log = std::fs::read_to_string(&path).expect("log");
    let ids: Vec<&str> = log.lines().skip(1).map(|row| row.split(',').next().expect("an id")).collect();
    assert_eq!(ids, ["'=1+1", "'@SUM(A1)", "'-2", "'+2", "a=b"]);
    std::fs::remove_file(&path).expect("remove");
}

#[test]
fn the_rate_limit_is_answered_429() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| config.rate_limit = Some(0.1));
        let mut client = Client::connect(server.addr());
        assert_eq!(client.exchange(infer("1")).status, 200, "{model:?}");
        let refused = client.exchange(infer("2"));
        assert_eq!(refused.status, 429, "{model:?}");
        let wait: u64 = refused.field("Retry-After").expect("Retry-After").parse().expect("seconds");
        assert!((1..=10).contains(&wait), "{model:?}: {wait}");
        assert_eq!(client.exchange(get("/health/live")).status, 200, "{model:?}");
    }
}

#[test]
fn slow_requests_are_answered_408_and_hold_up_nobody() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| {
            config.header_timeout = 200_000_000;
            config.body_timeout = 200_000_000;
        });
        let mut slow_head = Client::connect(server.addr());
        slow_head.send("POST /v1/infer HTTP/1.1\r\nHos");
        let mut slow_body = Client::connect(server.addr());
        slow_body.send("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
        let mut idle = Client::connect(server.addr());
        let mut other = Client::connect(server.addr());
        for i in 0..50 {
            assert_eq!(other.exchange(infer(&i.to_string())).status, 200, "{model:?}");
        }
        for slow in [&mut slow_head, &mut slow_body] {
            assert_eq!(slow.response().map(|r| r.status), Some(408), "{model:?}");
            assert!(slow.is_closed(), "{model:?}");
        }
        assert_eq!(idle.exchange(get("/health/live")).status, 200, "{model:?}: idle is not late");
    }
}

#[test]
fn idle_connections_are_closed_silently() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| config.idle_timeout = 100_000_000);
        let mut fresh = Client::connect(server.addr());
        let mut used = Client::connect(server.addr());
        assert_eq!(used.exchange(infer("1")).status, 200, "{model:?}");
        assert!(fresh.is_closed() && used.is_closed(), "{model:?}");
        until("both gone", || server.counts().open == 0);
    }
}

#[test]
fn connections_over_the_cap_are_answered_503() {
    for model in [Model::Single, Model::Threads, Model::Pool] {
        let server = start(model, "fixed:0ms", |config| config.max_connections = 1);
        let mut first = Client::connect(server.addr());
        assert_eq!(first.exchange(infer("1")).status, 200, "{model:?}");
        let mut second = Client::connect(server.addr());
        let refused = second.response().expect("an answer");
        assert_eq!((refused.status, refused.field("Connection")), (503, Some("close")), "{model:?}");
        assert!(second.is_closed(), "{model:?}");
        drop((first, second));
        until("room", || server.counts().open == 0);
        assert_eq!(Client::connect(server.addr()).exchange(infer("3")).status, 200, "{model:?}");
        assert_eq!(server.counts().turned_away, 1, "{model:?}");
    }
}
