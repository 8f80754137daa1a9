//! Servers that are programs: the stub as a process of its own, nginx, Python's http.server.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Running, Scratch, eventually};

pub(super) const READY: Duration = Duration::from_secs(15);

/// True if the program is installed; says so loudly if it is not.
pub(crate) fn has(program: &str) -> bool {
    let asked = Command::new(program)
        .arg(if ["nginx", "apache2", "haproxy", "lighttpd"].contains(&program) { "-v" } else { "--version" })
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = asked.is_ok_and(|status| status.success());
    if !there {
        skipped(&format!("{program} is not installed here"));
    }
    there
}

/// Says that a test is skipped, past the harness, which would swallow what a passing test prints.
pub(crate) fn skipped(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

/// A port nobody listens on at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One connection: these bytes there, everything back until the server closes.
pub(crate) fn exchange(addr: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect_timeout(&addr, READY).unwrap();
    stream.set_read_timeout(Some(READY)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// `hairspring stub` in a process of its own.
pub(crate) struct Stub {
    process: Running,
    /// Its line of JSON.
    pub(crate) ready: serde_json::Value,
}

impl Stub {
    /// Starts it and waits for its line.
    pub(crate) fn start(scratch: &Scratch, flags: &str) -> Self {
        Self::start_under(scratch, "", flags)
    }

    /// The same, run by another program that becomes it: `taskset -c 0`.
    pub(crate) fn start_under(scratch: &Scratch, wrapper: &str, flags: &str) -> Self {
        let mut process = scratch.hairspring(&format!("stub {flags}")).under(wrapper).deadline(READY).start();
        let up = eventually(READY, || process.stdout().ends_with('\n') || !process.is_running());
        let line = process.stdout();
        assert!(up && !line.is_empty(), "stub {flags}: not ready: {}", process.stderr());
        Self { ready: serde_json::from_str(&line).unwrap(), process }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.ready["addr"].as_str().unwrap().parse().unwrap()
    }

    /// The URL of its work.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1/infer", self.addr())
    }

    /// The process, to be killed or stopped.
    pub(crate) fn process(&mut self) -> &mut Running {
        &mut self.process
    }
}

/// A foreign server in a process group of its own, killed when dropped.
pub(super) struct Foreign(pub(super) Child);

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

pub(super) fn in_own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.stdin(Stdio::null()).process_group(0)
}

/// nginx with a configuration and an access log of its own.
pub(crate) struct Nginx {
    _process: Foreign,
    port: u16,
    log: PathBuf,
}

impl Nginx {
    /// Serves `/file` (Content-Length), `/chunked` (through SSI) and `/proxied` (from itself, chunked).
    pub(crate) fn start(scratch: &Scratch) -> Option<Self> {
        if !has("nginx") {
            return None;
        }
        scratch.write("www/file", "a small file\n");
        scratch.write("www/chunked", "<!--# echo var=\"request_method\" --> in pieces\n");
        for _ in 0..3 {
            let port = free_port();
            let dir = scratch.work();
            let dir = dir.display();
            let conf = format!(
                "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;\n\
                 events {{ worker_connections 256; }}\n\
                 http {{\n\
                   log_format ids '$http_x_request_id $status $connection $connection_requests $uri';\n\
                   access_log {dir}/access.log ids;\n\
                   client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;\n\
                   uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
                   keepalive_requests 100000;\n\
                   server {{ listen 127.0.0.1:{port}; root {dir}/www;\n\
                     location = /chunked {{ ssi on; ssi_types *; }} }}\n\
                 }}\n"
            );
            let conf = scratch.write("nginx.conf", conf);
            let mut command = Command::new("nginx");
            command.arg("-c").arg(conf).arg("-p").arg(scratch.work());
            let said = File::create(scratch.io("nginx")).unwrap();
            let child = in_own_group(command.stdout(Stdio::null()).stderr(said)).spawn().unwrap();
            let mut process = Foreign(child);
            let up = eventually(READY, || {
                TcpStream::connect(("127.0.0.1", port)).is_ok() || process.0.try_wait().unwrap().is_some()
            });
            if up && process.0.try_wait().unwrap().is_none() {
                return Some(Self { _process: process, port, log: scratch.path("access.log") });
            }
        }
        panic!("nginx did not start; see {}", scratch.work().display());
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The fields of the log's lines for a path, once there are `expected` of them or nothing more comes.
    pub(crate) fn log(&self, path: &str, expected: usize) -> Vec<Vec<String>> {
        let read = || -> Vec<Vec<String>> {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines = text.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
            lines.filter(|fields| fields.last().is_some_and(|uri| uri == path)).collect()
        };
        eventually(Duration::from_secs(5), || read().len() >= expected);
        read()
    }
}

/// Python's http.server on a free port.
pub(crate) struct Python {
    _process: Foreign,
    port: u16,
    log: PathBuf,
}

impl Python {
    /// Serves the folder `www` of the scratch folder; `protocol` is HTTP/1.0 or HTTP/1.1.
    pub(crate) fn start(scratch: &Scratch, protocol: &str) -> Option<Self> {
        if !has("python3") {
            return None;
        }
        scratch.write("www/file", "a small file\n");
        let log = scratch.io("python");
        let mut command = Command::new("python3");
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--protocol", protocol]);
        command.arg("--directory").arg(scratch.path("www"));
        command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        let mut process = Foreign(in_own_group(&mut command).spawn().unwrap());
        let mut line = String::new();
        // `Serving HTTP on 127.0.0.1 port 40317 (http://…) ...`
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace().skip_while(|word| *word != "port");
        let port = words.nth(1).and_then(|word| word.parse().ok());
        let port = port.unwrap_or_else(|| panic!("`{line}`: {}", fs::read_to_string(&log).unwrap()));
        Some(Self { _process: process, port, log })
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Log lines of GET requests for a path, once there are `expected` or nothing more comes.
    pub(crate) fn log(&self, path: &str, expected: usize) -> Vec<String> {
        let read = || -> Vec<String> {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let wanted = format!("\"GET {path} ");
            text.lines().filter(|line| line.contains(&wanted)).map(str::to_owned).collect()
        };
        eventually(Duration::from_secs(5), || read().len() >= expected);
        read()
    }
}
