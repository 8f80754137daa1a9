//! The walls of design.md, read from the source text: who may import whom, who prints, where `unsafe` may stand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What may not be in code under a path, as text that would name it.
struct Wall {
    /// Where it stands; the first that a file's path begins with, from the root of the repository.
    rooms: &'static [&'static str],
    /// Where it does not, though the room says so.
    except: &'static [&'static str],
    /// What may not be there.
    never: &'static [&'static str],
    why: &'static str,
}

const WALLS: [Wall; 8] = [
    Wall {
        rooms: &["src/load/", "src/analyze/", "src/report/"],
        except: &[],
        never: &[
            "std::net",
            "std::fs",
            "std::thread",
            "std::process",
            "std::env",
            "std::time::Instant",
            "std::time::SystemTime",
            "std::time::{",
            "std::time::*",
            "std::os",
            "Instant::now",
            "SystemTime::now",
            "UNIX_EPOCH",
            "libc",
            "mio",
            "io_uring",
            "rustix",
            "socket2",
            "signal_hook",
            "core_affinity",
        ],
        why: "the pure rooms read no clock, socket, file or process",
    },
    Wall {
        rooms: &["src/load/"],
        except: &[],
        never: &[
            "crate::analyze",
            "crate::cli",
            "crate::engine",
            "crate::facts",
            "crate::output",
            "crate::plan",
            "crate::preset",
            "crate::record",
            "crate::report",
            "crate::run",
            "crate::sys",
            "crate::worker",
            "crate::{",
        ],
        why: "load imports nothing else of ours",
    },
    Wall {
        rooms: &["src/engine/"],
        except: &[],
        never: &[
            "httparse",
            "crate::record",
            "crate::report",
            "crate::analyze",
            "crate::run",
            "crate::worker",
            "crate::plan",
            "crate::cli",
            "crate::output",
            "crate::facts",
            "crate::load::request",
            "crate::load::response",
            "crate::load::driver",
            "crate::load::connection",
            "crate::load::sample",
            "crate::load::schedule",
            "crate::load::{",
            "crate::{",
        ],
        why: "an engine knows no HTTP, no recorder and no report",
    },
    Wall {
        rooms: &["src/report/", "src/analyze/"],
        except: &[],
        never: &[
            "crate::run",
            "crate::engine",
            "crate::sys",
            "crate::worker",
            "crate::output",
            "crate::cli",
            "crate::{",
        ],
        why: "report and analyze know no run, engine or sys",
    },
    Wall {
        rooms: &["src/"],
        except: &["src/main.rs", "src/commands/"],
        never: &[
            "println!",
            "eprintln!",
            "print!",
            "eprint!",
            "dbg!",
            "io::stdout",
            "io::stderr",
            "hairspring_stub",
        ],
        why: "only main and its commands print, and only they know the stub",
    },
    Wall {
        rooms: &["src/commands/"],
        except: &[],
        never: &["println!", "eprintln!", "print!", "eprint!", "dbg!", "io::stdout", "io::stderr"],
        why: "commands speak through the console they are given",
    },
    Wall {
        rooms: &["stub/src/"],
        except: &["stub/src/main.rs"],
        never: &["println!", "eprintln!", "print!", "eprint!", "dbg!", "io::stdout", "io::stderr"],
        why: "the stub's library prints nothing",
    },
    Wall {
        rooms: &["stub/"],
        except: &[],
        never: &["hairspring::"],
        why: "the stub and the tool share no code",
    },
];

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: [&str; 5] =
    ["src/sys/", "src/engine/uring.rs", "src/engine/uring/", "stub/src/sys.rs", "stub/src/sys/"];
/// How far above it its reason may begin.
const SAFETY_LINES: usize = 3;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `dir`, with its path from the root.
fn sources(dir: &str) -> Vec<(String, String)> {
    files(dir, "rs")
}

/// Every file with this extension under `dir`, with its path from the root.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(dir)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|its| its == extension) {
                let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The code of a line: without a comment, and without what stands in quotes.
fn code(line: &str) -> String {
    let mut kept = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '"' => quoted = !quoted,
            '\'' if !quoted && chars.clone().nth(1) == Some('\'') => drop((chars.next(), chars.next())),
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            c if !quoted => kept.push(c),
            _ => {}
        }
    }
    kept
}

/// True if `word` stands in `code` as a path or macro of its own, not as part of a longer word.
fn names(code: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back().is_some_and(part);
        let after = code[at + word.len()..].chars().next().is_some_and(part);
        let ends_open = !word.ends_with(|c: char| part(c));
        !before && (ends_open || !after)
    })
}

/// Leading `super::` of paths that leave the room: more than the file is deep in it.
fn escapes(path: &str, room: &str, line: &str) -> bool {
    let inside = path.strip_prefix(room).unwrap_or_default();
    let depth = inside.matches('/').count() + usize::from(!inside.ends_with("mod.rs"));
    // a module of tests within the file is one deeper
    let most = depth + usize::from(line.starts_with("    "));
    line.match_indices("super::").any(|(at, _)| {
        let run = line[at..].split("super::").take_while(|part| part.is_empty()).count();
        run > most
    })
}

/// Everything in one file that a wall forbids.
fn breaches(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut breach = |number: usize, what: &str| found.push(format!("{path}:{}: {what}", number + 1));
    let under = |rooms: &[&str]| rooms.iter().any(|room| path.starts_with(room));
    let lines: Vec<&str> = text.lines().collect();
    if !text.starts_with("//!") {
        breach(0, "a file says first what it is, with //!");
    }
    for (number, line) in lines.iter().enumerate() {
        let code = code(line);
        for wall in WALLS.iter().filter(|wall| under(wall.rooms) && !under(wall.except)) {
            for word in wall.never.iter().filter(|word| names(&code, word)) {
                breach(number, &format!("`{word}`: {}", wall.why));
            }
        }
        if path.starts_with("src/load/") && escapes(path, "src/load/", &code) {
            breach(number, "super:: leads out of load");
        }
        if names(&code, "unsafe") {
            let above = &lines[number.saturating_sub(SAFETY_LINES)..=number];
            if !under(&UNSAFE_ROOMS) {
                breach(number, "unsafe outside its rooms");
            } else if !above.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                breach(number, "unsafe without a SAFETY line");
            }
        }
    }
    found
}

#[test]
fn no_wall_is_breached() {
    let found: Vec<String> = ["src", "stub/src"]
        .into_iter()
        .flat_map(sources)
        .flat_map(|(path, text)| breaches(&path, &text))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Code with the marks of a conflict does not compile; a document with them is only seen by its readers.
#[test]
fn no_document_is_half_merged() {
    let marked =
        |text: &str| text.lines().any(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> "));
    let documents = files("docs", "md");
    assert!(documents.len() > 20, "{}", documents.len());
    let found: Vec<&String> =
        documents.iter().filter(|(_, text)| marked(text)).map(|(path, _)| path).collect();
    assert!(found.is_empty(), "{found:?}");
    assert!(marked("a\n<<<<<<< HEAD\n"));
}

/// The checker itself: every kind of breach is found where it is planted, and what only looks like one is not.
#[test]
fn planted_breaches_are_found() {
    for (path, line) in [
        ("src/load/time.rs", "use std::net::SocketAddr;"),
        ("src/load/driver.rs", "use std::time::Instant;"),
        ("src/load/driver.rs", "    let now = std::time::SystemTime::now();"),
        ("src/analyze/stats.rs", "use std::{thread, vec}; use std::thread::sleep;"),
        ("src/report/csv.rs", "use std::fs::File;"),
        ("src/report/mod.rs", "let home = std::env::var(name);"),
        ("src/load/response/head.rs", "use libc::c_int;"),
        ("src/load/response/head.rs", "use rustix::io::Errno;"),
        ("src/load/request.rs", "use crate::plan::Plan;"),
        ("src/load/request.rs", "use crate::{load, plan};"),
        ("src/load/request.rs", "use super::super::plan::Plan;"),
        ("src/load/response/head.rs", "use super::super::super::plan::Plan;"),
        ("src/engine/epoll.rs", "use crate::record::Recorder;"),
        ("src/engine/epoll.rs", "use httparse::Response;"),
        ("src/engine/sim.rs", "use crate::load::driver::Driver;"),
        ("src/report/text.rs", "use crate::run::round;"),
        ("src/analyze/gate.rs", "fn f(c: &crate::sys::clock::Monotonic) {}"),
        ("src/analyze/gate.rs", "use crate::{engine::Clock, load};"),
        ("src/output.rs", "    println!(\"done\");"),
        ("src/run.rs", "eprint!(\"x\");"),
        ("src/sys/host.rs", "writeln!(std::io::stderr(), \"x\");"),
        ("src/run.rs", "use hairspring_stub::Server;"),
        ("src/commands/run.rs", "println!(\"x\");"),
        ("src/worker.rs", "unsafe { f() };"),
        ("src/sys/socket.rs", "unsafe { f() };"),
        ("src/main.rs", "let x = unsafe { f() };"),
        ("stub/src/http.rs", "use hairspring::load::time::Nanos;"),
        ("stub/src/server.rs", "eprintln!(\"listening\");"),
        ("stub/src/http.rs", "unsafe fn f() {}"),
    ] {
        let text = format!("//! A file.\n{line}\n");
        assert!(breaches(path, &text).iter().any(|b| b.starts_with(&format!("{path}:2:"))), "{path}: {line}");
    }
    assert_eq!(breaches("src/load/x.rs", "use crate::load::y;\n").len(), 1, "a file without its first line");
    let innocent = "//! A file.\n\
        use super::time::Nanos; // not std::net\n\
        use crate::load::io::Op;\n\
        const TEXT: &str = \"std::fs unsafe println!\";\n\
        fn mionics(libcx: u8) -> char { '\"' }\n\
        /// unsafe std::thread\n\
        fn unsafely() {}\n\
        mod tests {\n    use super::super::time::Nanos;\n}\n";
    assert_eq!(breaches("src/load/x.rs", innocent), [""; 0]);
    let safe = "//! A file.\n// SAFETY: nothing happens.\n#[allow(unsafe_code)]\nunsafe { f() };\n";
    assert_eq!(breaches("src/sys/x.rs", safe), [""; 0]);
    assert!(!sources("src").is_empty() && !sources("stub/src").is_empty());
}

/// A version as numbers: 1.88 is below 1.88.1.
fn version(text: &str) -> Vec<u32> {
    text.split('.').map(|part| part.parse().unwrap_or_else(|_| panic!("`{text}` is not a version"))).collect()
}

/// Every package that is built for this machine, as cargo tells it.
fn packages() -> Vec<Value> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let host = Command::new("rustc").arg("-vV").output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned();
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &host])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    serde_json::from_value(metadata["packages"].take()).unwrap()
}

/// True if a licence expression can be met with these licences.
fn allowed(expression: &str, licences: &[String]) -> bool {
    let ors = expression.replace('/', " OR ");
    // `(A OR B) AND C` is the only kind of nesting there is; an AND in brackets would be refused.
    ors.split(" AND ").all(|part| {
        let part = part.trim_matches(['(', ')']);
        part.split(" OR ").any(|licence| licences.iter().any(|one| one == licence.trim()))
    })
}

#[test]
fn every_dependency_has_a_licence_and_a_source_that_deny_toml_allows() {
    let deny = fs::read_to_string(root().join("deny.toml")).unwrap();
    let list = |key: &str| -> Vec<String> {
        let line = deny.lines().find_map(|line| line.strip_prefix(&format!("{key} = ["))).expect(key);
        line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let (licences, sources) = (list("allow"), list("allow-registry"));
    let wrong: Vec<String> = packages()
        .iter()
        .filter(|package| {
            let licence = package["license"].as_str().unwrap_or("none");
            let source = package["source"].as_str();
            let known = |source: &str| sources.iter().any(|one| source == format!("registry+{one}"));
            !allowed(licence, &licences) || !source.is_none_or(known)
        })
        .map(|package| format!("{} {} {}", package["name"], package["license"], package["source"]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let ours = ["MIT".to_owned(), "Zlib".to_owned()];
    assert!(allowed("MIT/Apache-2.0", &ours) && allowed("(A OR MIT) AND Zlib", &ours));
    assert!(!allowed("GPL-3.0", &ours) && !allowed("MIT AND GPL-3.0", &ours) && !allowed("none", &ours));
}

#[test]
fn no_dependency_needs_a_newer_compiler_than_we_promise() {
    let packages = packages();
    let ours = packages.iter().find(|package| package["name"] == "hairspring").unwrap();
    let promised = version(ours["rust_version"].as_str().expect("the workspace declares its MSRV"));
    let newer: Vec<String> = packages
        .iter()
        .filter_map(|package| Some((package, package["rust_version"].as_str()?)))
        .filter(|(_, needs)| version(needs) > [&promised[..], &[u32::MAX]].concat())
        .map(|(package, needs)| format!("{} {} needs {needs}", package["name"], package["version"]))
        .collect();
    assert!(newer.is_empty(), "we promise {promised:?}: {newer:?}");
    assert!(packages.len() > 20, "that is not the whole tree: {}", packages.len());
    assert!(version("1.90") > version("1.88") && version("1.88.1") > version("1.88"));
}

#[test]
fn what_the_workspace_declares() {
    let manifest = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let stub = manifest("stub/Cargo.toml");
    let dependencies = stub.split("[dependencies]").nth(1).expect("the stub has dependencies");
    assert!(!dependencies.contains("path ="), "the stub depends on a package of this workspace");
    for path in ["Cargo.toml", "stub/Cargo.toml"] {
        let text = manifest(path);
        assert!(text.contains("[lints]\nworkspace = true"), "{path} does not take the workspace's lints");
    }
    for lib in ["src/lib.rs", "stub/src/lib.rs"] {
        assert!(manifest(lib).contains("#![deny(unsafe_code)]"), "{lib}");
    }
    assert!(Path::new(&root().join("Cargo.lock")).is_file(), "Cargo.lock is committed");
}
