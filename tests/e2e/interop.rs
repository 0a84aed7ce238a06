//! Clients and instances that are not ours, each with each: curl, wrk, h2load, openssl, Python (also
//! its grpcio, h2, wsproto and websockets) and node before nginx, node, grpcio, `tidegate whoami` and
//! an HTTP/1.0 server of Python. What is missing on a machine is said loudly, and `.ci/run` installs
//! it.

mod grpc;
mod http2;
mod rotation;
mod tls;
mod websocket;
mod websocket_http2;

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use tempfile::TempDir;

use crate::daemon::{BINARY, Daemon, ask, eventually, free_address};
use crate::tools::{Ended, has, skipped};

const SMALL: usize = 1_000;
const LARGE: usize = 8 * 1024 * 1024;

/// How long a program is waited for until it says something, or listens.
const PATIENCE: Duration = Duration::from_secs(30);

/// A script beside this file.
fn script(name: &str) -> String {
    format!("{}/tests/e2e/interop/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Which nginx: `$NGINX`, or the one on the path.
fn nginx() -> String {
    std::env::var("NGINX").unwrap_or_else(|_| "nginx".into())
}

/// Whether everything is there that a test of all clients needs besides its client.
fn has_instances() -> bool {
    has(&nginx(), "nginx-light") && has("node", "nodejs") && has("python3", "python3")
}

/// A Python with these modules: `$PYTHON`, the one on the path, or Debian's.
fn python(modules: &str) -> Option<String> {
    let named = std::env::var("PYTHON").into_iter();
    let known = ["python3", "/usr/bin/python3"].map(String::from);
    let found = named.chain(known).find(|python| {
        let mut import = Command::new(python);
        import.args(["-c", &format!("import {modules}")]).stderr(Stdio::null());
        import.status().is_ok_and(|status| status.success())
    });
    if found.is_none() {
        let packages: Vec<String> = modules
            .split(", ")
            .map(|module| format!("python3-{}", if module == "grpc" { "grpcio" } else { module }))
            .collect();
        let packages = packages.join(" ");
        skipped(&format!("no Python has {modules} (Debian: apt-get install {packages})"));
    }
    found
}

/// Starts `command` quietly and waits until `address` accepts connections.
fn listening(address: SocketAddr, command: &mut Command) -> Ended {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let ended = Ended(command.spawn().expect("it starts"));
    eventually("it listens", PATIENCE, || TcpStream::connect(address).ok());
    ended
}

/// A single process of nginx that serves `locations` on `address`, with `options` of its `listen`; all
/// it writes is in `dir`.
fn start_nginx(address: SocketAddr, options: &str, dir: &Path, locations: &str) -> Ended {
    let at = dir.display();
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {at}/{name};\n"))
        .collect();
    let text = format!(
        "daemon off;\nmaster_process off;\npid {at}/pid;\nevents {{ worker_connections 1024; }}\n\
         http {{\naccess_log off;\nsendfile on;\nclient_max_body_size 0;\n{folders}\
         server {{\nlisten {address} {options};\nroot {at};\n{locations}}}\n}}\n"
    );
    let config = dir.join("nginx.conf");
    fs::write(&config, text).expect("written");
    let log = dir.join("error.log");
    let mut command = Command::new(nginx());
    // nginx itself takes this variable for a list of sockets.
    command.env_remove("NGINX").arg("-e").arg(log).arg("-c").arg(config);
    listening(address, &mut command)
}

/// Runs a client to its end, at most a minute, and gives what it said to stdout and stderr.
fn client(program: &str, arguments: &[&str]) -> (String, String) {
    let mut command = Command::new("timeout");
    command.args(["-k", "1", "60", program]).args(arguments);
    let output = command.env("no_proxy", "*").env("NO_PROXY", "*").output().expect("timeout runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    (out, err)
}

/// What says something line by line, as it comes.
struct Lines {
    lines: Receiver<String>,
    _process: Ended,
}

impl Lines {
    fn of(command: &mut Command) -> Self {
        let command = command.env("no_proxy", "*").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (told, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if told.send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, _process: Ended(child) }
    }

    /// The next line.
    fn next(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// The line after which nothing comes any more.
    fn last(&self) -> String {
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => last = line,
                Err(mpsc::RecvTimeoutError::Disconnected) => return last,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("no end after {last:?}"),
            }
        }
    }
}

/// Instances of four kinds, and a daemon with a listener before each.
struct Stage {
    daemon: Daemon,
    /// With the files `small` and `large`.
    folder: TempDir,
    /// nginx: files from itself, the rest from node behind it.
    nginx: SocketAddr,
    node: SocketAddr,
    /// node itself, past the daemon.
    node_itself: SocketAddr,
    whoami: SocketAddr,
    /// Python's file server: HTTP/1.0, a connection per response.
    old: SocketAddr,
    _instances: Vec<Ended>,
}

impl Stage {
    fn set() -> Self {
        Self::set_behind("")
    }

    /// Behind listeners with `more` of their keys.
    fn set_behind(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let content: Vec<u8> =
            (0..LARGE as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        fs::write(folder.path().join("small"), &content[..SMALL]).expect("written");
        fs::write(folder.path().join("large"), &content).expect("written");
        let [nginx, node, whoami, old] = [(); 4].map(|()| free_address());
        let mut in_node = Command::new("node");
        in_node.arg(script("server.js")).arg(node.port().to_string()).arg(folder.path());
        let mut in_old = Command::new("python3");
        in_old.args(["-m", "http.server", "--bind", "127.0.0.1", &old.port().to_string()]);
        in_old.arg("--directory").arg(folder.path()).stderr(Stdio::null());
        let to_node = format!("proxy_pass http://{node};\nproxy_http_version 1.1;\n");
        let locations =
            format!("location = /echo {{\n{to_node}}}\nlocation = /chunked {{\n{to_node}}}\n");
        let instances = vec![
            listening(node, &mut in_node),
            listening(old, &mut in_old),
            listening(
                whoami,
                Command::new(BINARY).args(["whoami", "--listen", &whoami.to_string()]),
            ),
            start_nginx(nginx, "", folder.path(), &locations),
        ];
        let mut config = String::new();
        let mut before = |name: &str, instance: SocketAddr| {
            let bind = free_address();
            config.push_str(&listener(name, bind, instance, more));
            bind
        };
        let (node_itself, node) = (node, before("node", node));
        let (nginx, whoami, old) =
            (before("nginx", nginx), before("whoami", whoami), before("old", old));
        let daemon = Daemon::start(&config);
        Self { daemon, folder, nginx, node, node_itself, whoami, old, _instances: instances }
    }

    /// Those that serve files and sum up bodies.
    fn whole(&self) -> [(&'static str, SocketAddr); 2] {
        [("nginx", self.nginx), ("node", self.node)]
    }

    /// The path of a file in the folder.
    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Those that take many requests at once.
    fn busy(&self) -> [(&'static str, SocketAddr); 3] {
        [("nginx", self.nginx), ("node", self.node), ("whoami", self.whoami)]
    }

    /// How many connections node was asked for so far, this one included.
    fn connections_of_node(&self) -> u32 {
        let (_, body) = ask(self.node_itself, "GET", "/connections").expect("an answer");
        body.parse().expect("a number")
    }

    /// Client connections of a listener since the start.
    fn connections(&self, name: &str) -> f64 {
        self.daemon.metric("tidegate_connections_total", &format!("listener=\"{name}\""))
    }

    /// Nothing was refused, nothing failed, nothing is left.
    fn assert_clean(&self) {
        self.assert_clean_but_for_those_who_leave();
        assert_eq!(self.daemon.failures("client_gone"), 0.0);
    }

    /// The same after a client that does not wait for all that it has asked for.
    fn assert_clean_but_for_those_who_leave(&self) {
        eventually("no connection is left", PATIENCE, || {
            (self.daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
        });
        assert_eq!(self.daemon.metric("tidegate_refused_total", ""), 0.0);
        let failures = self.daemon.metric("tidegate_failures_total", "");
        assert_eq!(failures, self.daemon.failures("client_gone"));
    }
}

/// A listener with `more` of its keys, and a pool with one instance.
fn listener(name: &str, bind: SocketAddr, instance: SocketAddr, more: &str) -> String {
    format!(
        "[[listener]]\nname = \"{name}\"\nbind = \"{bind}\"\npool = \"{name}\"\n\
         {more}\n\
         [pool.{name}]\ninstances = [{{ address = \"{instance}\" }}]\n\
         [pool.{name}.health]\ntype = \"none\"\n"
    )
}

/// Whether two files are the same.
fn same(one: &str, other: &str) -> bool {
    fs::read(one).expect("a file") == fs::read(other).expect("a file")
}

#[test]
fn curl() {
    if !has_instances() || !has("curl", "curl") {
        return;
    }
    let stage = Stage::set();
    let [small, large, down] = ["small", "large", "down"].map(|name| stage.file(name));
    for (name, bind) in stage.whole() {
        let url = |path: &str| format!("http://{bind}{path}");
        let curl = |more: &[&str]| client("curl", &[&["-sS"], more].concat());
        for path in ["/small", "/large", "/chunked"] {
            let (told, _) = curl(
                &[
                    ["-w", "%{http_code} %{num_connects}\n", "-o", &down, &url("/small")]
                        .as_slice(),
                    &["-o", &down, &url(path)],
                ]
                .concat(),
            );
            assert_eq!(told, "200 1\n200 0\n", "{name}: one connection");
            let original = if path == "/small" { &small } else { &large };
            assert!(same(&down, original), "{name}: {path}");
            curl(&["--http1.0", "-o", &down, &url(path)]);
            assert!(same(&down, original), "{name}: {path} to HTTP/1.0");
        }
        let head = curl(&["-I", &url("/small")]).0.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200 ok\r\n"), "{name}: {head}");
        assert!(head.contains("content-length: 1000\r\n"), "{name}: {head}");
        for file in [&small, &large] {
            let sum = client("sha256sum", &[file]).0;
            let len = fs::metadata(file).expect("a file").len();
            for framing in ["X: Content-Length", "Transfer-Encoding: chunked"] {
                let data = format!("@{file}");
                let echo = url("/echo");
                let (seen, told) = curl(&["-v", "--data-binary", &data, "-H", framing, &echo]);
                let expected = format!("\"length\":{len},\"sha256\":\"{}\"", &sum[..64]);
                assert!(seen.contains(&expected), "{name} {framing}: {seen}");
                // curl asks before it sends more than a mebibyte.
                let invited = told.contains("> Expect: 100-continue");
                assert!(invited || file == &small, "{name} {framing}: {told}");
                assert_eq!(invited, told.contains("< HTTP/1.1 100 Continue"), "{name}: {told}");
            }
        }
        let many = url("/small?n=[1-300]");
        let quiet = ["--no-progress-meter", "-Z", "--parallel-max", "20", "-o", "/dev/null"];
        let (codes, _) = curl(&[&quiet[..], &["-w", "%{http_code}\n", &many]].concat());
        assert_eq!(codes, "200\n".repeat(300), "{name}");
    }
    stage.assert_clean();
}

#[test]
fn an_instance_that_speaks_http_1_0() {
    if !has_instances() || !has("curl", "curl") {
        return;
    }
    let stage = Stage::set();
    let [original, down] = ["large", "down"].map(|name| stage.file(name));
    let [small, large] = ["small", "large"].map(|name| format!("http://{}/{name}", stage.old));
    let told = ["-w", "%{http_code} %{http_version} %{num_connects}\n"];
    let urls = ["-o", &down, &small, "-o", &down, &small, "-o", &down, &large];
    let (told, _) = client("curl", &[&["-sS"], &told[..], &urls].concat());
    assert_eq!(told, "200 1.1 1\n200 1.1 0\n200 1.1 0\n", "the client's connection is kept");
    assert!(same(&down, &original));
    let (head, _) = client("curl", &["-sSI", &small]);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    stage.assert_clean();
}

#[test]
fn python_http_client() {
    if !has_instances() {
        return;
    }
    let stage = Stage::set();
    for (name, bind) in stage.whole() {
        client("python3", &[&script("client.py"), &bind.to_string(), &stage.file("")]);
        assert_eq!(stage.connections(name), 9.0, "{name}: one, then eight, each kept");
    }
    stage.assert_clean();
}

#[test]
fn node_http_agent() {
    if !has_instances() {
        return;
    }
    let stage = Stage::set();
    for (name, bind) in stage.whole() {
        client("node", &[&script("client.js"), &bind.to_string(), &stage.file(""), name]);
        assert_eq!(stage.connections(name), 9.0, "{name}: one, then eight, each kept");
    }
    stage.assert_clean();
}

#[test]
fn wrk() {
    if !has_instances() || !has("wrk", "wrk") {
        return;
    }
    let stage = Stage::set();
    let post = stage.file("post.lua");
    fs::write(&post, "wrk.method = 'POST'\nwrk.body = string.rep('x', 20000)\n").expect("written");
    for (name, bind) in stage.busy() {
        let before = stage.connections_of_node();
        for (path, more) in [("small", [].as_slice()), ("echo", &["-s", &post])] {
            let url = format!("http://{bind}/{path}");
            let (told, _) =
                client("wrk", &[&["-t", "1", "-c", "16", "-d", "1s"], more, &[&url]].concat());
            let bad = told.contains("Non-2xx") || told.contains("Socket errors");
            assert!(!bad, "{name}: {told}");
            let line = told.lines().find(|line| line.contains(" requests in ")).expect("a summary");
            let requests = line.trim().split(' ').next().and_then(|n| n.parse::<u32>().ok());
            assert!(requests.is_some_and(|n| n > 50), "{name}: {told}");
        }
        let made = stage.connections_of_node() - before;
        assert!(name == "nginx" || made <= 64, "kept, not made for each request: {made}");
    }
    // When its time is over it leaves whatever is under way.
    stage.assert_clean_but_for_those_who_leave();
}

#[test]
fn h2load_in_http_1_1() {
    if !has_instances() || !has("h2load", "nghttp2-client") {
        return;
    }
    let stage = Stage::set();
    let small = stage.file("small");
    for (name, bind) in stage.busy() {
        for (path, more) in [("small", [].as_slice()), ("echo", &["-d", &small])] {
            let url = format!("http://{bind}/{path}");
            // Four requests at once on each connection.
            let load = ["--h1", "-t", "1", "-c", "16", "-m", "4", "-n", "2000"];
            let (told, _) = client("h2load", &[&load[..], more, &[&url]].concat());
            for expected in
                ["2000 succeeded, 0 failed, 0 errored, 0 timeout", "2000 2xx, 0 3xx, 0 4xx, 0 5xx"]
            {
                assert!(told.contains(expected), "{name}: {told}");
            }
        }
    }
    stage.assert_clean();
}
