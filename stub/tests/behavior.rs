//! Ways to be slow: each is seen from outside, in every threading model it concerns. Least times are exact, greatest are not.

use std::time::{Duration, Instant};

use hairspring_stub::{Behavior, Model, Server};

use crate::support::{Client, MODELS, Response, get, infer, start, until};

fn behaving(model: Model, service: &str, adjust: impl FnOnce(&mut Behavior)) -> Server {
    start(model, service, |config| adjust(&mut config.behavior))
}

/// Milliseconds of the service that `Server-Timing` tells.
fn service(response: &Response) -> f64 {
    assert_eq!(response.status, 200);
    response.timing("service").expect("a service time")
}

#[test]
fn a_starting_server_is_alive_but_not_ready() {
    for model in MODELS {
        let server = behaving(model, "fixed:0ms", |behavior| behavior.startup_delay = 400_000_000);
        let began = Instant::now();
        let mut client = Client::connect(server.addr());
        assert_eq!(client.exchange(get("/health/live")).status, 200, "{model:?}");
        for path in ["/health/startup", "/health/ready"] {
            assert_eq!(client.exchange(get(path)).status, 503, "{model:?} {path}");
        }
        let refused = client.exchange(infer("early"));
        assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")), "{model:?}");
        assert!(began.elapsed() < Duration::from_millis(400), "the test was too slow to tell anything");
        until("it to be ready", || client.exchange(get("/health/startup")).status == 200);
        assert_eq!(client.exchange(infer("late")).status, 200, "{model:?}");
    }
}

#[test]
fn the_first_requests_of_a_server_take_longer() {
    for model in MODELS {
        let server = behaving(model, "fixed:2ms", |behavior| {
            behavior.cold_start = 60_000_000;
            behavior.warm_up = "4,11".parse().ok();
        });
        let mut client = Client::connect(server.addr());
        let each: Vec<f64> = (0..6).map(|i| service(&client.exchange(infer(&i.to_string())))).collect();
        let least = [82.0, 17.0, 12.0, 7.0, 2.0, 2.0];
        assert!(each.iter().zip(least).all(|(ms, least)| *ms >= least), "{model:?}: {each:?}");
        assert!(each[5] < 60.0, "{model:?}: {each:?}");
    }
}

#[test]
fn each_connection_has_a_prefix_cache() {
    let request = |body: &str| {
        format!("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    for model in MODELS {
        let server = behaving(model, "fixed:80ms", |behavior| behavior.prefix_cache = 1.0);
        let mut client = Client::connect(server.addr());
        let mut timed = |body: &str| service(&client.exchange(request(body)));
        let (cold, warm, half) = (timed("abcdefgh"), timed("abcdefgh"), timed("abcdxxxx"));
        assert!(cold >= 80.0 && half >= 40.0, "{model:?}: {cold} {half}");
        assert!(warm < 40.0 && half < 80.0, "{model:?}: {warm} {half}");
        let mut other = Client::connect(server.addr());
        assert!(service(&other.exchange(request("abcdefgh"))) >= 80.0, "{model:?}: another client is cold");
    }
}

/// The time in which four clients are served at once, 40 ms each.
fn four_at_once(server: &Server) -> Duration {
    let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(server.addr())).collect();
    let began = Instant::now();
    clients.iter_mut().enumerate().for_each(|(i, client)| client.send(infer(&i.to_string())));
    clients.iter_mut().for_each(|client| assert_eq!(client.response().map(|r| r.status), Some(200)));
    began.elapsed()
}

#[test]
fn a_lock_makes_its_share_serial_whatever_the_model() {
    for model in [Model::Threads, Model::Pool] {
        let locked = behaving(model, "fixed:40ms", |behavior| behavior.lock = 1.0);
        assert!(four_at_once(&locked) >= Duration::from_millis(160), "{model:?}");
        // three times 10 ms until the last has the lock, and its 40 ms
        let partly = behaving(model, "fixed:40ms", |behavior| behavior.lock = 0.25);
        let took = four_at_once(&partly);
        assert!(
            took >= Duration::from_millis(70) && took < Duration::from_millis(160),
            "{model:?}: {took:?}"
        );
    }
}

#[test]
fn a_stall_holds_up_everything() {
    for model in MODELS {
        let server = behaving(model, "fixed:1ms", |behavior| behavior.stall = "300ms,100ms".parse().ok());
        let mut client = Client::connect(server.addr());
        let mut exchanges = |request: &dyn Fn(u32) -> String| -> Duration {
            let one = |i| {
                let began = Instant::now();
                assert_eq!(client.exchange(request(i)).status, 200);
                began.elapsed()
            };
            let until = Instant::now() + Duration::from_millis(650);
            (0..).map_while(|i| (Instant::now() < until).then_some(i)).map(one).max().expect("some")
        };
        assert!(exchanges(&|i| infer(&i.to_string())) >= Duration::from_millis(90), "{model:?}");
        assert!(exchanges(&|_| get("/health/live")) >= Duration::from_millis(90), "{model:?}");
    }
}

#[test]
fn what_leaks_is_missing_afterwards() {
    let open = || std::fs::read_dir("/proc/self/fd").expect("/proc").count();
    let resident = || {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
    };
    let server = behaving(Model::Pool, "fixed:0ms", |behavior| {
        behavior.leak_bytes = 4 << 20;
        behavior.leak_fds = 16;
    });
    let mut client = Client::connect(server.addr());
    assert_eq!(client.exchange(infer("first")).status, 200);
    let (files, bytes) = (open(), resident());
    (0..20).for_each(|i| assert_eq!(client.exchange(infer(&i.to_string())).status, 200));
    // Other tests of this process open and close their own meanwhile.
    assert!(open() >= files + 20 * 16 - 100, "{files} descriptors, then {}", open());
    assert!(resident() >= bytes + (40 << 20), "{bytes} bytes, then {}", resident());
}

#[test]
fn slow_reading_and_writing_take_their_time() {
    let body = "x".repeat(8 << 10);
    let request =
        format!("POST /v1/infer HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for model in MODELS {
        let took = |adjust: fn(&mut Behavior)| {
            let server = start(model, "fixed:0ms", |config| {
                config.payload_bytes = 8 << 10;
                adjust(&mut config.behavior);
            });
            let mut client = Client::connect(server.addr());
            let began = Instant::now();
            assert_eq!(client.exchange(&request).status, 200);
            began.elapsed()
        };
        assert!(
            took(|behavior| behavior.read_rate = Some(80 << 10)) >= Duration::from_millis(100),
            "{model:?}"
        );
        assert!(
            took(|behavior| behavior.write_rate = Some(80 << 10)) >= Duration::from_millis(80),
            "{model:?}"
        );
        assert!(
            took(|behavior| behavior.accept_delay = 120_000_000) >= Duration::from_millis(110),
            "{model:?}"
        );
    }
}

#[test]
fn a_small_send_buffer_makes_the_server_wait_for_its_client() {
    // The client reads nothing. Left to itself the kernel takes 1 MiB from the server; a small buffer does not, and the
    // server gives up on the client.
    let gives_up = |send_buffer| {
        let server = start(Model::Threads, "fixed:0ms", |config| {
            config.payload_bytes = 1 << 20;
            config.behavior.send_buffer = send_buffer;
            config.body_timeout = 200_000_000;
        });
        let mut client = Client::connect(server.addr());
        client.send(infer("1"));
        until("it to be served", || server.counts().statuses.contains_key(&200));
        std::thread::sleep(Duration::from_millis(600));
        server.counts().open == 0
    };
    assert!(gives_up(Some(4096)));
    assert!(!gives_up(None));
}
