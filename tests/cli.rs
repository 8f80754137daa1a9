//! What is refused before anything is measured: bad usage is exit code 64, a bad environment is 1. Both say what to
//! do, on standard error, and leave nothing behind.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::{Row, Rows, Scratch, Scripted, Stub, check_report, free_port, ok};

/// Fails unless `flags` (and `rest`, as they are) are refused as bad usage with a message that has `says`.
fn refused(flags: &str, rest: &[&str], says: &str) {
    let scratch = Scratch::new("refused");
    let server = Scripted::answering(|_| ok("x"));
    let flags = flags.replace("URL", &server.url("/"));
    let command = rest.iter().fold(scratch.hairspring(&flags), |command, arg| command.arg(*arg));
    let finished = command.deadline(Duration::from_secs(10)).run().expect(64);
    assert!(finished.stdout.is_empty(), "{finished}");
    assert!(finished.stderr.to_lowercase().contains(&says.to_lowercase()), "no `{says}`: {finished}");
    assert_eq!(scratch.entries(), [""; 0], "something was left behind: {finished}");
    assert_eq!(server.accepted(), 0, "a connection was made: {finished}");
}

#[test]
fn loads_that_make_no_sense() {
    for (flags, says) in [
        ("run URL -c 0", "at least one connection"),
        ("run URL -n 0", "at least one request"),
        ("run URL -n 5 -c 20", "lower -c or raise -n"),
        ("run URL -n x", "--count"),
        ("run URL -c=-1", "--connections"),
        ("run URL -d 0", "for '--duration"),
        ("run URL -d 0s", "-d 0 measures nothing"),
        ("run URL -d 10", "unit"),
        ("run URL -d 10parsecs", "10parsecs"),
        ("run URL --rate 0", "rate of 0"),
        ("run URL --rate=-5", "--rate"),
        ("run URL --rate 10/m", "1000/s"),
        ("run URL --rate 100/s --think 1ms", "give one of them"),
        ("run URL --arrivals poisson", "give --rate"),
        ("run URL --arrivals poisson --stages 0s:1c,1s:2c", "--stages of rates"),
        ("run URL --arrivals sometimes --rate 1/s", "poisson"),
        ("run URL --arrivals poisson --rate 10/s --warmup 5", "--warmup is a time"),
        ("run URL --rate 100/s --stages 0s:1/s,1s:2/s", "give one of them"),
        ("run URL --rate 100/s --replay x.csv", "give one of them"),
        ("run URL --stages 0s:1/s,1s:2c", "cannot be mixed"),
        ("run URL --stages 0s:1/s,1s:2", "no unit"),
        ("run URL --stages 0s:1/s", "from 2 to"),
        ("run URL --stages 1s:1/s,2s:1/s", "begin at 0s"),
        ("run URL --stages 0s:1/s,1s:2/s -d 1s", "leave out -d and -n"),
        ("run URL --stages 0s:1/s,1s:2/s -n 5", "leave out -d and -n"),
        ("run URL --stages 0s:1/s,1s:2/s --think 1ms", "give one of them"),
        ("run URL --stages 0s:1c,1s:2c -c 4", "leave out -c"),
        ("run URL --stages 0s:1c,1s:2c --warmup 4", "--warmup is a time"),
        ("run URL --stages 0s:0c,1s:2c --warmup 1s", "begin higher"),
        ("run URL --stages 0s:0/s,1s:2/s --warmup 1s", "begin higher"),
        ("run URL --stages 0s:1/s,2h:2/s", "--max-time"),
        ("run URL --stages 0s:1c,1s:2c --threads 3", "a thread needs a connection"),
        ("run URL --replay x.csv --think 1ms", "give one of them"),
        ("run URL --replay x.csv --warmup 4", "--warmup is a time"),
        ("run URL --requests 400", "-n 400"),
        ("run URL --requests x.jsonl -X PUT", "leave out -X"),
        ("run URL --requests x.jsonl --body y", "leave out -X"),
        ("run URL --timeout 0s", "--timeout 0"),
        ("run URL --connect-timeout 0s", "--connect-timeout 0"),
        ("run URL --keepalive 0", "at least one request"),
        ("run URL --keepalive maybe", "on, off"),
        ("run URL --warmup soon", "100 or 2s"),
        ("run URL -n 4 -c 2 --threads 3", "a thread needs a connection"),
        ("run URL --threads 0", "at least one thread"),
        ("run URL --wait sometimes", "park"),
        ("run URL --engine warp", "epoll"),
        ("run URL --seed minus", "--seed"),
        ("compare --rounds 0", "--rounds 0"),
        ("compare --until 3% --max-rounds 0", "--max-rounds 0"),
        ("compare --until 3", "write percent"),
        ("compare --until 0%", "write percent"),
        ("compare --min-effect 2", "write percent"),
        ("compare --until 3% --rounds 5", "--rounds"),
        ("compare --max-rounds 5", "--until"),
        ("compare --on-inconclusive maybe", "pass"),
        ("capacity URL", "--sla 'p99<=50ms'"),
        ("capacity --sla p99<=1ms", "<URL|--stub"),
        ("capacity URL --sla throughput>=5/s", "limits from above"),
        ("capacity URL --sla p50>=5ms", "limits from above"),
        ("capacity URL --sla p99<=1ms --rate 5/s", "chooses rates"),
        ("capacity URL --sla p99<=1ms -n 500", "chooses rates"),
        ("capacity URL --sla p99<=1ms -d 5s", "chooses rates"),
        ("capacity URL --sla p99<=1ms --stages 0s:1/s,1s:2/s", "chooses rates"),
        ("capacity URL --sla p99<=1ms --warmup 5", "chooses rates"),
        ("capacity URL --sla p99<=1ms --budget 0s", "--budget"),
        ("capacity URL --sla p99<=1ms --precision 5", "write percent"),
        ("capacity URL --sla p99<=1ms --start 0", "rate of 0"),
        ("gate none.json --against none.json", "--sla-against"),
        ("gate none.json --sla-against p99<=+5%", "--against"),
        ("gate none.json --against none.json --sla-against p99<=5%", "p99<=+5%"),
        ("compare --rounds 1001", "1000"),
        ("compare --clean-env", "--baseline-cmd"),
    ] {
        refused(flags, &[], says);
    }
}

#[test]
fn variants_that_cannot_be_compared() {
    for (flags, variants, says) in [
        ("--stub pool", &[][..], "nothing to compare"),
        ("URL", &[], "nothing to compare"),
        ("--cmd x", &[], "nothing to compare"),
        ("URL", &["a: -c 1"], "from 2 to 16"),
        ("URL", &["a: -c 1", "a: -c 2"], "two with the name a"),
        ("URL --aa", &["a:", "a-again: -c 2"], "two with the name a-again"),
        ("--stub all", &["pool: --workers 9"], "two with the name pool"),
        ("URL", &["a -c 1", "b: -c 2"], "NAME: FLAGS"),
        ("URL", &["a/b: -c 1", "b: -c 2"], "letters, digits"),
        ("URL", &["../a: -c 1", "b: -c 2"], "letters, digits"),
        ("URL", &["target: -c 1", "b: -c 2"], "another name"),
        ("URL", &["a: --body 'open", "b:"], "variant a: missing closing quote"),
        ("URL", &["a:", "b: --frobnicate"], "variant b: unexpected argument '--frobnicate'"),
        ("URL", &["a:", "b: --keepalive maybe"], "variant b: invalid value 'maybe'"),
        ("URL", &["a:", "b: -n 5 -c 20"], "variant b: -n 5 is less than -c 20"),
        ("URL -n 5", &["a: -c 1", "b: -c 20"], "variant b: -n 5 is less than -c 20"),
        ("URL", &["a:", "b: --rounds 7"], "variant b: unexpected argument '--rounds'"),
        ("URL", &["a:", "b: --seed 7"], "variant b: --seed is of the whole comparison"),
        ("URL", &["a:", "b: --out there"], "variant b: --out is of the whole"),
        ("URL", &["a:", "b: --sla p95"], "variant b: "),
        ("URL", &["a:", "b: --workers 3"], "variant b: --workers"),
        ("URL", &["a:", "b: --stub octopus"], "variant b: invalid value 'octopus'"),
        ("URL", &["a:", "b: --stub all"], "variant b: --stub all is several"),
        ("URL", &["a:", "b: https://127.0.0.1/"], "variant b: "),
        ("--stub all", &["b: --cmd x"], "variant b: what does it measure"),
        ("", &["a: -c 1", "b: -c 2"], "variant a: what does it measure"),
        ("--baseline-stub pool", &["a: URL", "b: URL"], "--baseline-stub names one of two"),
        ("--optimized-url URL --stub all", &[], "--optimized-url names one of two"),
        ("URL --stub pool", &["a:", "b:"], "--stub"),
        ("URL --judge c", &["a:", "b:"], "--judge c: no variant"),
        ("--judge baseline", &[], "are for variants"),
        ("--rank-by p95", &[], "are for variants"),
        ("--stub all --rank-by p42", &[], "p99.9 or mean"),
        ("--stub all --rounds 0", &[], "--rounds 0"),
    ] {
        let variants: Vec<&str> = variants.iter().flat_map(|variant| ["--variant", variant]).collect();
        refused(&format!("compare {flags}"), &variants, says);
    }
}

#[test]
fn urls_that_cannot_be_measured() {
    for (url, says) in [
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://:8080/", "no host"),
        ("127.0.0.1:8080/", "http://host:port/path"),
        ("localhost", "http://host:port/path"),
        ("ftp://127.0.0.1/", "http://host:port/path"),
        ("https://127.0.0.1/", "https is not supported"),
        ("HTTPS://127.0.0.1/", "https is not supported"),
        ("http://127.0.0.1:0/", "port"),
        ("http://127.0.0.1:65536/", "port"),
        ("http://[::1/", "]"),
        ("http://user:word@127.0.0.1/", "Authorization"),
        ("http://127.0.0.1/a b", "percent-encode"),
        ("http://127.0.0.1/\r\nX-Evil: 1", "percent-encode"),
    ] {
        refused("run", &[url], says);
        refused("compare", &["--baseline-url", url, "--optimized-url", url], says);
    }
}

#[test]
fn rules_are_parsed_before_any_load() {
    for rule in [
        "p95=<800ms",
        "p95",
        "p101<=1s",
        "p95<=800",
        "errors<1ms",
        "p95<=fast",
        "speed<=1ms",
        "",
        "p95<=-1ms",
    ] {
        let says = if rule.is_empty() { "--sla" } else { rule };
        refused("run URL --sla", &[rule], says);
        refused("compare --sla", &[rule], says);
        refused("gate none.json --sla", &[rule], says);
    }
    refused("gate none.json", &[], "--sla");
}

#[test]
fn requests_that_would_not_be_one_request() {
    for (field, says) in [
        ("no colon", "Name: value"),
        (": empty name", "name"),
        ("Sp ace: x", "name"),
        ("A: b\r\nX-Evil: 1", "line ends"),
        ("A: b\nX-Evil: 1", "line ends"),
        ("X-Request-Id: 7", "sets this field itself"),
        ("x-request-id: 7", "sets this field itself"),
        ("Content-Length: 3", "--body"),
        ("Transfer-Encoding: chunked", "--body"),
        ("Connection: close", "--keepalive"),
        ("Expect: 100-continue", "not supported"),
    ] {
        refused("run URL -H", &[field], says);
    }
    refused("run URL -X", &["GE T"], "is not a method");
    refused("run URL -X", &["GET / HTTP/1.1\r\nX: y"], "is not a method");
    refused("run URL -X", &[""], "is not a method");
    refused("run URL -X CONNECT", &[], "CONNECT");
    refused("run URL --body x --body-file y", &[], "--body-file");
    for list in ["2yy", "", "99", "200-", "300-200", "2xx,,3xx"] {
        refused("run URL --ok", &[list], "2xx,304");
    }
}

#[test]
fn targets_that_contradict_themselves() {
    refused("run", &[], "--stub");
    refused("run URL --stub pool", &[], "--stub");
    refused("run --stub octopus", &[], "per-core");
    refused("run --stub pool --workers 0", &[], "--workers 0");
    refused("compare --baseline-stub octopus", &[], "per-core");
    refused("compare --baseline-url URL --baseline-stub single", &[], "--baseline-stub");
    refused("compare --baseline-cmd true", &[], "--baseline-url");
    refused("compare --optimized-cmd true", &[], "--optimized-url");
    refused("compare --preset marathon", &[], "founding");
    refused("run --preset marathon", &[], "hairspring presets");
    refused("run URL --time-scale 0.5", &[], "--preset");
    refused("run --preset basic --time-scale 0", &[], "0.0001");
    refused("run --preset spike -c 5", &[], "--stages");
    refused("run --preset basic --rounds 0", &[], "from 1 to 1000");
    refused("run URL --stub-flags --lock=0.2", &[], "leave them out");
    refused("run --stub pool --stub-flags --lock=2", &[], "no share");
    refused("run --stub pool --stub-flags --stall=2s,3s", &[], "2s,200ms");
    for flag in [
        "--workers 2",
        "--service fixed:1ms",
        "--work spin",
        "--work-seed 3",
        "--server-log x",
        "--queue-limit 3",
    ] {
        refused(&format!("run URL {flag}"), &[], "--stub MODEL");
    }
    for flag in ["--rate-limit 3/s", "--payload-bytes 3", "--backlog 3"] {
        refused(&format!("compare --baseline-url URL --optimized-url URL {flag}"), &[], "--stub MODEL");
    }
    refused("run URL --server-cpus 0", &[], "taskset");
    refused("run URL --cpus 9999", &[], "9999");
    refused("run URL --cpus 1-0", &[], "0,2-3");
    refused("run URL --cpus ,", &[], "0,2-3");
    refused("frobnicate", &[], "frobnicate");
    refused("run URL --frobnicate", &[], "--frobnicate");
}

/// The stub alone knows its distributions; its refusal is ours, and it comes before anything is written.
#[test]
fn flags_that_the_stub_refuses() {
    for service in ["fixed:50parsecs", "gamma:1ms", "normal:50ms", "exp:-1ms"] {
        refused("run --stub pool --service", &[service], "service");
        refused("compare --service", &[service], "service");
    }
    refused("run --stub pool --workers 5000 --service fixed:0ms", &[], "workers");
    refused("run --stub pool --rate-limit never", &[], "rate");
    refused("stub --model octopus", &[], "per-core");
    refused("stub --mode single --model pool", &[], "--model");
    refused("stub --service gamma:1ms", &[], "gamma:1ms");
    refused("stub --addr nowhere", &[], "nowhere");
}

/// What stands in a file cannot be told from argv: exit code 1, but before any load.
#[test]
fn files_that_make_no_sense() {
    for (flag, text, says) in [
        ("--requests", "{}\n{\"pth\": 1}", "x.in: line 2: unknown field `pth`"),
        (
            "--requests",
            "{}\n\n{\"headers\": {\"Connection\": \"close\"}}",
            "line 3: header \"Connection\": use --keepalive",
        ),
        ("--requests", "{\"method\": \"CONNECT\"}", "line 1: CONNECT"),
        ("--requests", "", "no request in it"),
        ("--replay", "offset_ms\n3\n2", "x.in: line 3: 2ms comes after 3ms"),
        ("--replay", "1\nsoon", "line 2: \"soon\""),
        ("--replay", "when\n1", "line 1: \"when\""),
        ("--replay", "", "no offset in it"),
    ] {
        for missing in [false, true] {
            let scratch = Scratch::new("files");
            let server = Scripted::answering(|_| ok("x"));
            let finished = scratch.hairspring(&format!("run {} {flag} x.in", server.url("/")));
            let (says, left) = if missing { ("No such file", 0) } else { (says, 1) };
            if !missing {
                scratch.write("x.in", text);
            }
            let finished = finished.run().expect(1);
            assert!(finished.stdout.is_empty() && finished.stderr.contains(says), "no `{says}`: {finished}");
            assert_eq!((scratch.entries().len(), server.accepted()), (left, 0), "{finished}");
        }
    }
}

#[test]
fn a_refusal_does_not_move_an_earlier_result() {
    let scratch = Scratch::new("keeps");
    scratch.hairspring("run --stub pool --service fixed:0ms -n 2 -c 1 --wait park").run().expect(0);
    let before = std::fs::read(scratch.path("results/report.json")).unwrap();
    for flags in ["run --stub pool -n 5 -c 20", "run --stub pool --service gamma:1ms", "compare --sla p95"] {
        scratch.hairspring(flags).run().expect(64);
        assert_eq!(scratch.entries(), ["results"], "after `{flags}`");
        assert_eq!(std::fs::read(scratch.path("results/report.json")).unwrap(), before);
    }
}

#[test]
fn help_has_an_example_for_every_command() {
    let scratch = Scratch::new("help");
    let general = scratch.hairspring("--help").run().expect(0);
    assert!(general.stdout.contains("Exit codes:"), "{general}");
    for command in ["run", "compare", "gate", "stub"] {
        assert!(general.stdout.contains(&format!("\n  {command} ")), "{command} is not in {general}");
        let help = scratch.hairspring(&format!("{command} --help")).run().expect(0);
        assert!(help.stdout.contains(&format!("\n  hairspring {command} ")), "no example: {help}");
        assert!(help.stderr.is_empty(), "{help}");
    }
    let version = scratch.hairspring("--version").run().expect(0);
    assert!(version.stdout.starts_with("hairspring "), "{version}");
    let nothing = scratch.hairspring("").run().expect(64);
    assert!(nothing.stdout.is_empty() && nothing.stderr.contains("Usage"), "{nothing}");
    assert_eq!(scratch.entries(), [""; 0]);
}

#[test]
fn each_example_of_the_help_is_a_command_line_that_parses() {
    let scratch = Scratch::new("examples");
    for command in ["run", "compare", "gate", "stub"] {
        let help = scratch.hairspring(&format!("{command} --help")).run().expect(0).stdout;
        let examples = help.lines().filter(|line| line.starts_with(&format!("  hairspring {command}")));
        for example in examples {
            // an unknown flag at the end: it is named only if everything before it was accepted
            let example = example.trim().trim_start_matches("hairspring ");
            let mut example_run = scratch.hairspring("");
            for (n, part) in example.split('\'').enumerate() {
                let words: Vec<&str> =
                    if n % 2 == 1 { vec![part] } else { part.split_whitespace().collect() };
                example_run = words.into_iter().fold(example_run, |run, word| run.arg(word));
            }
            let finished = example_run.arg("--no-such-flag").run().expect(64);
            assert!(finished.stderr.contains("--no-such-flag"), "{finished}");
        }
    }
}

/// Fails unless `flags` end with exit code 1 and a message that has `says`.
fn fails(scratch: &Scratch, flags: &str, says: &str) {
    let finished = scratch.hairspring(flags).deadline(Duration::from_secs(20)).run().expect(1);
    assert!(finished.stderr.contains(says), "no `{says}`: {finished}");
}

#[test]
fn files_and_folders_that_are_in_the_way() {
    let scratch = Scratch::new("files");
    let server = Scripted::answering(|_| ok("x"));
    let url = server.url("/");
    fails(&scratch, &format!("run {url} -n 1 -c 1 --body-file absent.json"), "absent.json");
    fails(&scratch, &format!("run {url} -n 1 -c 1 --body-file ."), "--body-file");
    assert_eq!(scratch.entries(), [""; 0]);
    scratch.write("regular", "a file");
    for out in ["regular", "regular/results", "/proc/hairspring-results", "/dev/null"] {
        fails(&scratch, &format!("run {url} -n 1 -c 1 --out {out}"), out);
    }
    scratch.write("thesis/chapter.tex", "years of work");
    fails(&scratch, &format!("run {url} -n 1 -c 1 --out thesis"), "choose another --out");
    assert_eq!(scratch.entries(), ["regular", "thesis"], "a foreign folder was moved");
    assert_eq!(std::fs::read(scratch.path("thesis/chapter.tex")).unwrap(), b"years of work");
    assert_eq!(std::fs::read_dir(scratch.path("thesis")).unwrap().count(), 1);
    assert_eq!(std::fs::read(scratch.path("regular")).unwrap(), b"a file");
    assert_eq!(server.accepted(), 0, "the load began before the folder was there");
    fails(&scratch, "gate absent.json --sla p95<=1ms", "absent.json");
    fails(&scratch, "gate thesis --sla p95<=1ms", "thesis");
}

#[test]
fn servers_that_cannot_be_had() {
    let scratch = Scratch::new("servers");
    fails(&scratch, "run http://no-such-host.invalid/ -n 2 -c 1", "no-such-host.invalid");
    let taken = Stub::start(&scratch, "--addr 127.0.0.1:0 --model single");
    fails(&scratch, &format!("stub --addr {}", taken.addr()), &taken.addr().to_string());
    let url = format!("http://127.0.0.1:{}/", free_port());
    for (cmd, says) in
        [("echo-no-such-program", "not found"), ("echo sorry; exit 3", "sorry"), ("true", "ended")]
    {
        let finished = scratch
            .hairspring(&format!("compare --baseline-url {url} -n 8 -c 2 --service fixed:0ms --baseline-cmd"))
            .arg(cmd)
            .run()
            .expect(1);
        assert!(finished.stderr.contains(says), "no `{says}`: {finished}");
    }
    let slow = scratch
        .hairspring(&format!(
            "compare --baseline-url {url} -n 8 -c 2 --service fixed:0ms --ready-timeout 300ms --baseline-cmd"
        ))
        .arg("sleep 20")
        .deadline(Duration::from_secs(10))
        .run()
        .expect(1);
    assert!(slow.stderr.contains("not ready"), "{slow}");
    // what answers already cannot have been started by the command
    let finished = scratch
        .hairspring(&format!(
            "compare --baseline-url http://{}/health/live -n 8 -c 2 --service fixed:0ms --baseline-cmd",
            taken.addr()
        ))
        .arg("sleep 20")
        .run()
        .expect(1);
    assert!(finished.stderr.contains("already"), "{finished}");
    let absent = scratch.hairspring("run --stub pool --cpus 900 -n 1 -c 1").run().expect(1);
    assert!(absent.stderr.contains("900") && absent.stderr.contains("available"), "{absent}");
    let absent = scratch.hairspring("run --stub pool --server-cpus 900 -n 1 -c 1").run().expect(1);
    assert!(absent.stderr.contains("900"), "{absent}");
}

#[test]
fn nobody_listening_is_reported_and_counted() {
    let scratch = Scratch::new("nobody");
    // bound but not listening: nobody else can take the port meanwhile
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    let finished =
        scratch.hairspring(&format!("run http://127.0.0.1:{port}/ -n 12 -c 3 --wait park")).run().expect(1);
    assert!(finished.stderr.contains("no request completed"), "{finished}");
    assert!(finished.stderr.contains("connect-refused × 12"), "{finished}");
    let report = scratch.json("results/report.json");
    assert_eq!(report["outcomes"], serde_json::json!({"connect-refused": 12}));
    let rows = check_report(&report, &scratch.path("results/requests.csv"));
    rows.expect_ids(12);
    let no_stamps = |row: &Row| row.number("issued_ns").is_none() && row.text("status_code") == "-1";
    assert!(rows.rows.iter().all(no_stamps));
}

#[test]
fn an_earlier_results_folder_is_kept_under_a_number() {
    let scratch = Scratch::new("numbers");
    let server = Scripted::answering(|_| ok("x"));
    for n in 1..=3 {
        let flags = format!("run {} -n {n} -c 1 --wait park", server.url("/"));
        scratch.hairspring(&flags).run().expect(0);
    }
    assert_eq!(scratch.entries(), ["results", "results.1", "results.2"]);
    for (folder, rows) in [("results.1", 1), ("results.2", 2), ("results", 3)] {
        assert_eq!(Rows::read(&scratch.path(folder).join("requests.csv")).rows.len(), rows, "{folder}");
        assert_eq!(scratch.json(&format!("{folder}/report.json"))["totals"]["scheduled"], rows);
    }
    let custom = format!("run {} -n 1 -c 1 --no-log --out deep/er/out", server.url("/"));
    scratch.hairspring(&custom).run().expect(0);
    assert!(scratch.path("deep/er/out/report.json").is_file());
    assert!(!scratch.path("deep/er/out/requests.csv").exists(), "--no-log left a log");
    assert_eq!(scratch.json("deep/er/out/report.json")["logs"], serde_json::json!([]));
}

#[test]
fn the_stub_says_where_it_is_in_one_line() {
    let scratch = Scratch::new("line");
    let mut stub = Stub::start(&scratch, "--mode multi --workers 3 --service fixed:1ms");
    assert_eq!(stub.ready["model"], "pool");
    assert_eq!(stub.ready["workers"], 3);
    assert_eq!(stub.process().stdout().lines().count(), 1);
    assert_ne!(stub.addr().port(), 0);
    assert!(TcpListener::bind(stub.addr()).is_err(), "it does not listen where it says");
    stub.process().signal(rustix::process::Signal::TERM);
    let ended = crate::support::eventually(Duration::from_secs(10), || !stub.process().is_running());
    assert!(ended, "SIGTERM does not end the stub");
}
