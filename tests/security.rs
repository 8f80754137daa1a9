//! What SECURITY.md promises and no other test shows: terminals are not steered, environments are not passed on, and
//! the `unsafe` parts do what they say, under valgrind (`HAIRSPRING_LONG=1`).

use std::process::Command;
use std::time::Duration;

use crate::support::{ENGINES, Scratch, Scripted, answer, free_port, has};

/// A comparison whose servers are this command and never answer; what it said on standard error.
fn started(scratch: &Scratch, command: &str, flags: &str) -> String {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let flags = format!("compare --baseline-url {url} --optimized-url {url} --ready-timeout 5s {flags}");
    scratch.hairspring(&flags).args_pair("--baseline-cmd", command).run().expect(1).stderr
}

#[test]
fn a_started_server_gets_a_clean_environment_on_request() {
    let scratch = Scratch::new("environment");
    let command = "/usr/bin/env > said; exit 3";
    started(&scratch, command, "");
    let all = std::fs::read_to_string(scratch.path("said")).unwrap();
    let (own, _) = std::env::vars()
        .find(|(name, _)| !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].contains(&&**name))
        .unwrap();
    assert!(all.lines().any(|line| line.starts_with(&format!("{own}="))), "{own} is passed on: {all}");
    started(&scratch, command, "--clean-env --out other");
    let clean = std::fs::read_to_string(scratch.path("said")).unwrap();
    // What sh adds by itself is not ours.
    let ours: Vec<&str> = clean
        .lines()
        .filter(|line| !["PWD=", "OLDPWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
        .collect();
    assert!(ours.len() == 1 && ours[0].starts_with("PATH="), "{clean}");
}

#[test]
fn what_a_server_prints_does_not_steer_the_terminal() {
    let scratch = Scratch::new("terminal");
    let said = started(&scratch, r"printf 'no \033]0;title\007 \033[2Jport\n' >&2; exit 3", "");
    assert!(said.contains("no ") && said.contains("port"), "{said}");
    assert!(!said.chars().any(|c| c.is_control() && c != '\n'), "{said:?}");
}

#[test]
fn what_a_server_answers_reaches_no_report() {
    let scratch = Scratch::new("answers");
    // In every place of an answer that holds text.
    let server = Scripted::answering(move |_| {
        let plain = answer(200, "x");
        let text = String::from_utf8_lossy(&plain).replacen(
            "\r\n",
            " =cmd|calc<script>\r\nServer: =cmd|calc<script>\r\nServer-Timing: =cmd|calc<script>;desc=\"=cmd\";dur=1\r\n",
            1,
        );
        text.into_bytes()
    });
    let finished = scratch.hairspring(&format!("run {} -n 20 -c 2 --wait park", server.url("/"))).run();
    let mut texts = vec![finished.stdout, finished.stderr];
    for name in ["report.json", "requests.csv", "response.hlog", "response.hgrm"] {
        texts.push(std::fs::read_to_string(scratch.path(&format!("results/{name}"))).unwrap());
    }
    for text in &texts {
        assert!(!text.contains("cmd|calc") && !text.contains("<script>"), "{text}");
    }
    let rows = csv::Reader::from_path(scratch.path("results/requests.csv")).unwrap().into_records().count();
    assert_eq!(rows, 20);
}

/// Runs on both engines against the stub, each of the two under valgrind: any error of memory is exit code 99.
#[test]
fn no_memory_error_under_valgrind() {
    if std::env::var_os("HAIRSPRING_LONG").is_none() || !has("valgrind") {
        return;
    }
    let valgrind = "valgrind -q --error-exitcode=99 --trace-children=yes --track-origins=yes";
    for engine in ENGINES {
        let scratch = Scratch::new("valgrind");
        let flags = format!(
            "run --stub pool --workers 2 --service fixed:1ms -n 300 -c 4 --engine {engine} --wait park --stamps user"
        );
        let finished = scratch.hairspring(&flags).under(valgrind).deadline(Duration::from_secs(300)).run();
        assert!([0, 3].contains(&finished.code()), "{finished}");
        assert!(!finished.stderr.contains("=="), "{finished}");
        assert!(finished.stdout.contains("300 scheduled = 300 completed"), "{finished}");
    }
    let version = Command::new("valgrind").arg("--version").output().unwrap();
    println!("clean under {}", String::from_utf8_lossy(&version.stdout).trim());
}
