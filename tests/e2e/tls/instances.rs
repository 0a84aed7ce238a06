//! Instances that are spoken to by TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use super::files::Files;
use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{exchange, status};
use crate::origin::Origin;
use crate::tools::{Ended, has};

/// An instance under TLS that answers every request with what it was asked.
pub struct Secure {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Secure {
    /// How many connections were made to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// How many requests it was asked.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn start(files: &Files, shown: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let connections = Arc::<AtomicUsize>::default();
        let requests = Arc::<AtomicUsize>::default();
        let (config, counter) = (files.server(shown), Arc::clone(&connections));
        let asked = Arc::clone(&requests);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = socket.set_read_timeout(Some(Duration::from_secs(10)));
                let connection = ServerConnection::new(Arc::clone(&config)).expect("a server");
                let asked = Arc::clone(&asked);
                std::thread::spawn(move || answer(StreamOwned::new(connection, socket), &asked));
            }
        });
        Self { address, connections, requests }
    }
}

/// Answers requests without bodies, each with its head, and everything else with itself.
fn answer(mut stream: StreamOwned<ServerConnection, std::net::TcpStream>, asked: &AtomicUsize) {
    let (mut seen, mut piece) = (Vec::new(), vec![0; 65_536]);
    while let Ok(n) = stream.read(&mut piece)
        && n > 0
    {
        seen.extend_from_slice(&piece[..n]);
        let reply = if !seen.starts_with(b"GET ") {
            std::mem::take(&mut seen)
        } else if seen.ends_with(b"\r\n\r\n") {
            asked.fetch_add(1, Ordering::Relaxed);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", seen.len());
            [head.into_bytes(), std::mem::take(&mut seen)].concat()
        } else {
            continue;
        };
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

/// A daemon with a plain listener before these instances.
fn front(protocol: &str, instances: &[SocketAddr], pool: &str) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let list: Vec<String> =
        instances.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\nprotocol = \"{protocol}\"\n\
         [pool.web]\ninstances = [{}]\ntimeouts = {{ connect = \"5s\" }}\n{pool}\n\
         [pool.web.health]\ntype = \"none\"\n",
        list.join(", ")
    ));
    (daemon, bind)
}

const ASK: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn instances_are_asked_by_tls_on_kept_connections() {
    let files = Files::new();
    let instance = Secure::start(&files, "server");
    let tls = format!("upstream_tls = {{ ca = \"{}\" }}", files.path("ca.pem"));
    let (daemon, bind) = front("http", &[instance.address], &tls);
    for _ in 0..5 {
        let answer = exchange(bind, ASK);
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.contains("\r\n\r\nGET /x HTTP/1.1\r\nhost: a\r\n"), "{answer}");
    }
    assert!(instance.connections() <= 2, "one of each worker is kept");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

/// An instance that has something else to say.
fn not_tls() -> Origin {
    Origin::start(|peer| drop(peer.stream.write_all(b"220 mail.test ESMTP\r\n")))
}

#[test]
fn who_is_not_who_they_should_be_is_not_asked() {
    let files = Files::new();
    let (good, plain) = (Secure::start(&files, "server"), not_tls());
    let ca = files.path("ca.pem");
    for (instances, tls, answered) in [
        (vec![good.address], format!("{{ ca = \"{ca}\", server_name = \"web.test\" }}"), true),
        (vec![good.address], format!("{{ ca = \"{ca}\", server_name = \"bank.test\" }}"), false),
        (vec![good.address], format!("{{ ca = \"{}\" }}", files.path("other.pem")), false),
        (vec![good.address], "{ verify = false }".into(), true),
        (vec![plain.address], format!("{{ ca = \"{ca}\" }}"), false),
        // Another takes what one cannot.
        (vec![plain.address, good.address], format!("{{ ca = \"{ca}\" }}"), true),
    ] {
        let (daemon, bind) = front("http", &instances, &format!("upstream_tls = {tls}"));
        for _ in 0..2 {
            let answer = exchange(bind, ASK);
            let expected = if answered { "200" } else { "502" };
            assert_eq!(status(&answer), expected, "{tls} {answer}");
        }
        assert_eq!(daemon.failures("tls"), if answered { 0.0 } else { 2.0 }, "{tls}");
    }
    assert!(*plain.connections.lock().expect("whole") > 0);
}

#[test]
fn bytes_go_to_instances_by_tls() {
    let files = Files::new();
    let instance = Secure::start(&files, "server");
    let tls = format!("upstream_tls = {{ ca = \"{}\" }}", files.path("ca.pem"));
    let (daemon, bind) = front("tcp", &[instance.address], &tls);
    let mut stream = crate::streaming::connect(bind);
    let long = vec![7; 1_000_000];
    for said in [&b"hello"[..], &long] {
        let mut writes = stream.try_clone().expect("cloned");
        let sent = said.to_vec();
        let writing = std::thread::spawn(move || writes.write_all(&sent).expect("sent"));
        let mut back = vec![0; said.len()];
        stream.read_exact(&mut back).expect("sent back");
        assert!(back == said);
        writing.join().expect("it ended");
    }
    stream.shutdown(std::net::Shutdown::Write).expect("ended");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("ended in order");
    assert_eq!(rest, b"");
    eventually("it is over", Duration::from_secs(10), || {
        (daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
    });
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn openssl_is_an_instance_too() {
    if !has("openssl", "openssl") {
        return;
    }
    let files = Files::new();
    for version in ["-tls1_3", "-tls1_2"] {
        let child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", version, "-www"])
            .args(["-cert", &files.path("server.pem"), "-key", &files.path("server.key")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut server = Ended(child.expect("openssl runs"));
        let mut lines = BufReader::new(server.0.stdout.take().expect("piped")).lines();
        let address = lines.find_map(|line| {
            line.expect("a line").strip_prefix("ACCEPT ").and_then(|text| text.parse().ok())
        });
        let tls = format!("upstream_tls = {{ ca = \"{}\" }}", files.path("ca.pem"));
        let (_daemon, bind) = front("http", &[address.expect("an address")], &tls);
        let answer = exchange(bind, ASK);
        assert!(answer.contains("HTTP/1.1 200") || answer.contains("HTTP/1.0 200"), "{answer}");
        assert!(answer.contains("Ciphers supported in s_server binary"), "{answer}");
    }
}
