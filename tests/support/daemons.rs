//! Real servers that log the id of each request: nginx, Apache, HAProxy, lighttpd, Python's http.server, uvicorn, Node.
//!
//! Each serves some of `/file` (Content-Length), `/chunked` and `/closing` (no length: the end of the connection ends the
//! body), and writes a line `ID STATUS PATH` a request.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::servers::{Foreign, READY, in_own_group};
use super::{Scratch, eventually, free_port, has, skipped};

/// Which server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Nginx,
    Apache,
    Haproxy,
    Lighttpd,
    HttpServer,
    Uvicorn,
    Node,
}

/// A server that runs.
pub(crate) struct Daemon {
    _process: Foreign,
    port: u16,
    log: PathBuf,
    /// What it serves.
    pub(crate) paths: &'static [&'static str],
}

impl Daemon {
    /// Starts it; `None`, said loudly, if its program is missing.
    pub(crate) fn start(scratch: &Scratch, kind: Kind) -> Option<Self> {
        scratch.write("www/file", "a small file\n");
        for page in ["chunked", "closing"] {
            scratch.write(&format!("www/{page}"), "a page <!--#echo var=\"DATE_GMT\" --> in pieces\n");
        }
        let log = scratch.write("access.log", "");
        for _ in 0..3 {
            let port = free_port();
            let said = File::create(scratch.io("daemon")).unwrap();
            let (mut command, paths) = kind.command(scratch, port, &log)?;
            let child = in_own_group(command.current_dir(scratch.work()).stderr(said)).spawn().unwrap();
            let mut process = Foreign(child);
            let up = eventually(READY, || {
                TcpStream::connect(("127.0.0.1", port)).is_ok() || process.0.try_wait().unwrap().is_some()
            });
            if up && process.0.try_wait().unwrap().is_none() {
                return Some(Self { _process: process, port, log, paths });
            }
        }
        panic!("{kind:?} did not start; see {}", scratch.work().display());
    }

    /// Where it listens.
    pub(crate) fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The ids it has logged for a path with a status, in order; waits until there are `expected`.
    pub(crate) fn ids(&self, path: &str, status: &str, expected: usize) -> Vec<String> {
        let read = || -> Vec<String> {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            let ours = lines.filter(|f| f.len() == 3 && f[0] != "-" && f[1] == status && f[2] == path);
            ours.map(|fields| fields[0].to_owned()).collect()
        };
        eventually(Duration::from_secs(15), || read().len() >= expected);
        read()
    }
}

impl Kind {
    /// The command that serves on `port`, and what it serves.
    fn command(self, scratch: &Scratch, port: u16, log: &Path) -> Option<(Command, &'static [&'static str])> {
        let dir = scratch.work().display().to_string();
        let script = |name: &str| format!("{}/tests/foreign/{name}", env!("CARGO_MANIFEST_DIR"));
        let append = || Stdio::from(File::options().append(true).open(log).unwrap());
        let all: &[&str] = &["/file", "/chunked", "/closing"];
        let configured = |program: &str, flags: &[&str], text: String| {
            let conf = scratch.write("daemon.conf", text);
            let mut command = Command::new(program);
            command.args(flags).arg(conf).stdout(Stdio::null());
            has(program).then_some(command)
        };
        Some(match self {
            Self::Nginx => (configured("nginx", &["-p", &dir, "-c"], nginx(&dir, port))?, all),
            Self::Apache => (configured("apache2", &["-DFOREGROUND", "-f"], apache(&dir, port))?, all),
            Self::Lighttpd => (configured("lighttpd", &["-D", "-f"], lighttpd(&dir, port))?, &["/file"]),
            Self::Haproxy => {
                let mut command = configured("haproxy", &["-db", "-f"], haproxy(port))?;
                command.stdout(append());
                (command, &["/file"])
            }
            Self::HttpServer => {
                let mut command = Command::new(python_with("http.server")?);
                command.arg("-u").arg(script("http_server.py")).arg(port.to_string()).stdout(append());
                (command, all)
            }
            Self::Uvicorn => {
                let mut command = Command::new(python_with("uvicorn")?);
                command.args(["-u", "-m", "uvicorn", "--app-dir", &script(""), "--no-access-log"]);
                command.args(["--port", &port.to_string(), "asgi:app"]).stdout(append());
                (command, &["/file", "/chunked"])
            }
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(script("server.js")).arg(port.to_string()).stdout(append());
                (has("node").then_some(command)?, all)
            }
        })
    }
}

/// A Python that has the module: `HAIRSPRING_PYTHON`, or the one on the path; says so loudly if there is none.
pub(crate) fn python_with(module: &str) -> Option<String> {
    let python = std::env::var("HAIRSPRING_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    skipped(&format!("`{python}` has no {module} (HAIRSPRING_PYTHON names another Python)"));
    None
}

fn nginx(dir: &str, port: u16) -> String {
    format!(
        "daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/error.log;
         events {{ worker_connections 256; }}
         http {{
           log_format ids '$http_x_request_id $status $uri'; access_log {dir}/access.log ids;
           client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2; fastcgi_temp_path {dir}/t3;
           uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5; keepalive_requests 1000000;
           ssi_types *;
           server {{ listen 127.0.0.1:{port}; root {dir}/www;
             location = /chunked {{ ssi on; }}
             location = /closing {{ ssi on; chunked_transfer_encoding off; }} }} }}\n"
    )
}

fn apache(dir: &str, port: u16) -> String {
    let modules: String = ["mpm_event", "authz_core", "include", "setenvif"]
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
        .concat();
    format!(
        "{modules}ServerRoot {dir}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {dir}/apache.pid
         DefaultRuntimeDir {dir}\nErrorLog {dir}/error.log\nDocumentRoot {dir}/www\nUser www-data\nGroup www-data
         LogFormat \"%{{X-Request-Id}}i %s %U\" ids\nCustomLog {dir}/access.log ids
         KeepAlive On\nMaxKeepAliveRequests 0\nKeepAliveTimeout 60
         SetEnvIf Request_URI ^/closing$ downgrade-1.0 force-response-1.0 nokeepalive
         <Directory {dir}/www>\nRequire all granted\nOptions +Includes\n</Directory>
         <LocationMatch ^/ch|^/clo>\nSetOutputFilter INCLUDES\n</LocationMatch>\n"
    )
}

fn lighttpd(dir: &str, port: u16) -> String {
    format!(
        "server.document-root = \"{dir}/www\"\nserver.port = {port}\nserver.bind = \"127.0.0.1\"
         server.modules = (\"mod_accesslog\")\nserver.errorlog = \"{dir}/error.log\"
         accesslog.filename = \"{dir}/access.log\"\naccesslog.format = \"%{{X-Request-Id}}i %s %U\"
         server.max-keep-alive-requests = 0\nmimetype.assign = (\"\" => \"text/plain\")\n"
    )
}

/// One thread: two that log at the same moment lose a line now and then (seen: 1 of 100 000).
fn haproxy(port: u16) -> String {
    format!(
        "global\n  log stdout format raw local0\n  maxconn 256\n  nbthread 1
defaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n  log global
frontend f\n  bind 127.0.0.1:{port}\n  capture request header X-Request-Id len 32
  log-format \"%[capture.req.hdr(0)] %ST %[capture.req.uri]\"
  http-request return status 200 content-type text/plain string \"a small file\\n\"\n"
    )
}
