//! What the threading models share, and what they must do differently: nothing but threading.

use std::collections::BTreeMap;
use std::io::Write;
use std::thread;

use hairspring_stub::{Model, WorkKind};

use crate::support::{Client, MODELS, get, infer, start};

#[test]
fn every_model_gives_identical_answers() {
    let answers = |model| {
        let server = start(model, "exp:200us", |config| {
            config.work_seed = 42;
            config.payload_bytes = 1000;
        });
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.addr())).collect();
        let mut answers = BTreeMap::new();
        for i in 0..100 {
            let id = format!("r{i}");
            answers.insert(id.clone(), clients[i % 4].exchange(infer(&id)).content());
        }
        answers
    };
    let expected = answers(Model::Single);
    assert_eq!(expected["r0"].json()["payload"].as_str().map(str::len), Some(1000));
    assert_ne!(expected["r0"].json()["payload"], expected["r1"].json()["payload"]);
    for model in MODELS {
        assert_eq!(answers(model), expected, "{model:?}");
    }
}

#[test]
fn a_single_thread_serves_one_at_a_time_and_shows_who_waited() {
    let server = start(Model::Single, "fixed:5ms", |_| {});
    let addr = server.addr();
    let clients: Vec<_> = (0..20)
        .map(|c| {
            thread::spawn(move || {
                let mut client = Client::connect(addr);
                let answers = (0..10).map(|i| client.exchange(infer(&format!("{c}-{i}"))));
                answers
                    .map(|a| (a.timing("queue").expect("queue"), a.timing("service").expect("service")))
                    .fold((0.0, 0.0), |sum, t| (sum.0 + t.0, sum.1 + t.1))
            })
        })
        .collect();
    let (queue, service) = clients
        .into_iter()
        .map(|c| c.join().expect("client"))
        .fold((0.0, 0.0), |s, t| (s.0 + t.0, s.1 + t.1));
    // In theory (N − 1)/N = 95 %, less the ramp of the first wave.
    assert!(queue >= 0.9 * (queue + service), "queue {queue} ms, service {service} ms");
    assert!(service >= 200.0 * 5.0, "service {service} ms");
}

#[test]
fn a_pool_answers_health_and_stats_while_it_is_saturated() {
    let server = start(Model::Pool, "fixed:1s", |config| config.workers = 1);
    let mut busy: Vec<Client> = (0..3).map(|_| Client::connect(server.addr())).collect();
    busy.iter_mut().for_each(|client| client.send(infer("b")));
    crate::support::until("a full pool", || {
        let counts = server.counts();
        (counts.queued, counts.in_flight) == (Some(2), 1)
    });
    let mut client = Client::connect(server.addr());
    for path in ["/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(client.exchange(get(path)).status, 200);
    }
    let stats = client.exchange(get("/stats")).json();
    assert_eq!(stats["in_flight"], 1);
    // 3, if all were read before the worker took the first
    assert!([2, 3].contains(&stats["queue_high_water"].as_u64().expect("a number")), "{stats}");
    assert_eq!(stats["statuses"], serde_json::json!({ "200": 3 }), "the health answers alone");
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    for model in MODELS {
        let server = start(model, "fixed:0ms", |config| config.payload_bytes = 100_000);
        let mut greedy = Client::connect(server.addr());
        let requests: String = (0..100).map(|i| infer(&i.to_string())).collect();
        let mut writer = greedy.writer();
        let sender = thread::spawn(move || writer.write_all(requests.as_bytes()));
        let mut other = Client::connect(server.addr());
        for i in 0..20 {
            assert_eq!(other.exchange(infer(&i.to_string())).status, 200, "{model:?}");
        }
        for i in 0..100 {
            let id = greedy.response().expect("an answer").json()["id"].clone();
            assert_eq!(id, i.to_string(), "{model:?}");
        }
        sender.join().expect("sender").expect("sent");
    }
}

#[test]
fn all_requests_are_stamped_by_the_kernel_and_logged_in_order() {
    for (model, work) in MODELS.into_iter().flat_map(|m| [(m, WorkKind::Sleep), (m, WorkKind::Spin)]) {
        let path =
            std::env::temp_dir().join(format!("stub-log-{}-{model:?}-{work:?}.csv", std::process::id()));
        let server = start(model, "fixed:300us", |config| {
            config.work = work;
            config.server_log = Some(path.clone());
        });
        assert!(server.counts().kernel_stamps, "this kernel stamps");
        let addr = server.addr();
        let clients: Vec<_> = (0..5)
            .map(|c| {
                thread::spawn(move || {
                    let mut client = Client::connect(addr);
                    for i in 0..20 {
                        let answer = client.exchange(infer(&format!("{c},{i}")));
                        let timing = |name| answer.timing(name).expect(name);
                        assert!(timing("recv") <= timing("queue") + timing("service"));
                        assert!(timing("service") >= 0.3);
                    }
                })
            })
            .collect();
        clients.into_iter().for_each(|client| client.join().expect("client"));
        server.stop().expect("stop");
        let mut ids = Vec::new();
        for row in csv::Reader::from_path(&path).expect("log").records() {
            let row = row.expect("row");
            let times: Vec<u64> = (1..6).map(|i| row[i].parse().expect("a stamp")).collect();
            let [received, read, started, ended, written] = times[..] else { panic!("{row:?}") };
            // Sleeping begins when the request is there and its thread free, which may be before the read.
            let begun = if work == WorkKind::Sleep { started.max(read) } else { started };
            assert!(read <= begun, "{model:?} {row:?}");
            assert!([received, started, ended, written].is_sorted() && read <= ended, "{model:?} {row:?}");
            assert_eq!(&row[6], "200");
            ids.push(row[0].to_owned());
        }
        ids.sort_unstable();
        let mut expected: Vec<String> =
            (0..5).flat_map(|c| (0..20).map(move |i| format!("{c},{i}"))).collect();
        expected.sort_unstable();
        assert_eq!(ids, expected, "{model:?}");
        std::fs::remove_file(&path).expect("remove");
    }
}

#[test]
fn stopping_finishes_what_was_read() {
    for model in MODELS {
        let server = start(model, "fixed:150ms", |_| {});
        let mut busy = Client::connect(server.addr());
        let mut idle = Client::connect(server.addr());
        assert_eq!(idle.exchange(get("/health/live")).status, 200, "{model:?}");
        busy.send(infer("last"));
        crate::support::until("service", || server.counts().in_flight == 1);
        let stopping = thread::spawn(move || server.stop());
        let answer = busy.response().expect("the answer");
        assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")), "{model:?}");
        assert!(busy.is_closed() && idle.is_closed(), "{model:?}");
        drop((busy, idle));
        let counts = stopping.join().expect("stop").expect("stop");
        assert_eq!((counts.open, counts.statuses[&200]), (0, 2), "{model:?}");
    }
}
