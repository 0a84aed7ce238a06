//! TLS with clients and with instances: curl, openssl and rustls at the other end.

mod files;
mod instances;
mod passthrough;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::OK;
use crate::origin::Origin;
use crate::tools::has;
use files::Files;

const SOON: Duration = Duration::from_secs(10);
const HELLO: &[u8] = b"GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n";

/// A daemon with one listener of this protocol before these instances, unprobed.
fn front(
    files: &Files,
    protocol: &str,
    instances: &[SocketAddr],
    tls: &str,
    pool: &str,
) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let list: Vec<String> =
        instances.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    let certificate = files.certificate("server");
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\nprotocol = \"{protocol}\"\npool = \"web\"\n\
         timeouts = {{ head = \"3s\", idle = \"5s\", body = \"5s\" }}\n\
         tls = {{ certificates = [{certificate}]{tls} }}\n\
         [pool.web]\ninstances = [{}]\ntimeouts = {{ connect = \"5s\", response = \"9s\" }}\n{pool}\n\
         [pool.web.health]\ntype = \"none\"\n",
        list.join(", ")
    ));
    (daemon, bind)
}

/// How many handshakes ended like this.
fn handshakes(daemon: &Daemon, outcome: &str) -> f64 {
    daemon.metric("tidegate_tls_handshakes_total", &format!("outcome=\"{outcome}\""))
}

/// Waits until so many have: who is refused is told so before it is counted.
fn until_handshakes(daemon: &Daemon, outcome: &str, count: f64) {
    eventually(&format!("{outcome} {count} times"), SOON, || {
        (handshakes(daemon, outcome) == count).then_some(())
    });
}

/// Runs curl against the name that the server's certificate is for; its exit code and what it got.
fn curl(files: &Files, bind: SocketAddr, arguments: &[&str]) -> (Option<i32>, String) {
    let (ca, port) = (files.path("ca.pem"), bind.port());
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10", "--noproxy", "*", "--http1.1"])
        .args(["--cacert", &ca, "--resolve", &format!("web.test:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://web.test:{port}/"))
        .output()
        .expect("curl runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn curl_is_served_by_both_versions() {
    if !has("curl", "curl") {
        return;
    }
    let (files, origin) = (Files::new(), Origin::answering(OK));
    let (daemon, bind) = front(&files, "https", &[origin.address], "", "");
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        assert_eq!(curl(&files, bind, version), (Some(0), "ok".into()), "{version:?}");
    }
    assert_eq!(handshakes(&daemon, "ok_full"), 2.0);
    assert!(origin.text().contains("x-forwarded-proto: https\r\n"), "{}", origin.text());
    assert_eq!(origin.text().matches("\nhost: web.test").count(), 2);
    assert!(*origin.connections.lock().expect("whole") <= 2, "one of each worker");
    // Who knows no authority of ours says so.
    let (code, _) = curl(&files, bind, &["--cacert", &files.path("other.pem")]);
    assert_eq!(code, Some(60));
    until_handshakes(&daemon, "bad_certificate", 1.0);
}

#[test]
fn openssl_resumes_its_sessions() {
    if !has("openssl", "openssl") {
        return;
    }
    let (files, origin) = (Files::new(), Origin::answering(OK));
    let (daemon, bind) = front(&files, "https", &[origin.address], "", "");
    let talk = |arguments: &[&str]| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-connect", &bind.to_string(), "-servername", "web.test"])
            .args(["-CAfile", &files.path("ca.pem"), "-verify_return_error"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs");
        child.stdin.take().expect("piped").write_all(HELLO).expect("sent");
        let output = child.wait_with_output().expect("its end");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let session = files.path("session");
    for version in ["-tls1_3", "-tls1_2"] {
        let before = handshakes(&daemon, "ok_resumed");
        let first = talk(&[version, "-ign_eof", "-sess_out", &session]);
        assert!(first.contains("\nNew, TLSv1.") && first.contains("200 OK"), "{first}");
        for _ in 0..2 {
            let again = talk(&[version, "-ign_eof", "-sess_in", &session]);
            assert!(again.contains("\nReused, TLSv1.") && again.contains("200 OK"), "{again}");
        }
        assert_eq!(handshakes(&daemon, "ok_resumed"), before + 2.0, "{version}");
    }
    assert!(talk(&["-tls1_2", "-reconnect"]).matches("\nReused, TLSv1.2").count() == 5);
}

#[test]
fn clients_show_certificates_and_instances_are_told() {
    let (files, origin) = (Files::new(), Origin::answering(OK));
    let ca = files.path("ca.pem");
    for (auth, without) in [("required", false), ("optional", true)] {
        let tls = format!(", client_ca = \"{ca}\", client_auth = \"{auth}\"");
        let (daemon, bind) = front(&files, "https", &[origin.address], &tls, "");
        let forged =
            b"GET / HTTP/1.1\r\nHost: a\r\nX-Client-Subject: CN=boss\r\nConnection: close\r\n\r\n";
        let answer = files.talk(bind, Some("client"), forged).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let seen = origin.text();
        assert!(seen.contains("x-client-subject: CN=alice\r\n"), "{seen}");
        let answer = files.talk(bind, None, forged);
        assert_eq!(answer.is_ok(), without, "{answer:?}");
        assert!(!origin.text().contains("boss"), "{}", origin.text());
        assert!(files.talk(bind, Some("stranger"), forged).is_err(), "nobody knows who signed it");
        let missing = if without { 0.0 } else { 1.0 };
        until_handshakes(&daemon, "client_certificate_missing", missing);
        until_handshakes(&daemon, "client_certificate_bad", 1.0);
        assert_eq!(handshakes(&daemon, "ok_full"), if without { 2.0 } else { 1.0 });
    }
}

#[test]
fn large_bodies_go_both_ways() {
    let files = Files::new();
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let at = request.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            let body = &request[at..];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if peer
                .stream
                .write_all(head.as_bytes())
                .and_then(|()| peer.stream.write_all(body))
                .is_err()
            {
                return;
            }
        }
    });
    let (daemon, bind) = front(&files, "https", &[origin.address], "", "");
    for len in [1, 10_000, 100_000, 5_000_000] {
        let body: Vec<u8> = (0..len).map(|n: u32| (n / 7) as u8).collect();
        let mut stream = files.connect(bind, None).expect("connected");
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("ended in order");
        assert!(answer.ends_with(&body), "{} bytes came", answer.len());
    }
    assert_eq!(daemon.metric("tidegate_requests_total", "code=\"200\""), 4.0);
}

#[test]
fn what_was_cut_does_not_look_whole() {
    let files = Files::new();
    let origin = Origin::start(|peer| {
        let Some(request) = peer.request() else { return };
        let cut = request.starts_with(b"GET /cut");
        let framing =
            if cut { "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" } else { "\r\nhello" };
        let _ = peer.stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes());
    });
    let (_daemon, bind) = front(&files, "https", &[origin.address], "", "");
    for (path, whole) in [("/", true), ("/cut", false)] {
        let mut stream = files.connect(bind, None).expect("connected");
        // To a client of HTTP/1.0 only the end of the connection says where the body ends.
        let request = format!("GET {path} HTTP/1.0\r\nHost: a\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(answer.ends_with(b"hello") || !whole, "{answer:?}");
        assert_eq!(ended.is_ok(), whole, "{path}: {ended:?}");
    }
}

#[test]
fn bytes_are_relayed_unread_to_their_ends() {
    let files = Files::new();
    let origin = Origin::start(|peer| {
        let mut all = Vec::new();
        let _ = peer.stream.read_to_end(&mut all);
        all.reverse();
        let _ = peer.stream.write_all(&all);
    });
    let (daemon, bind) = front(&files, "tls", &[origin.address], "", "");
    let bytes: Vec<u8> = (0..1_000_000).map(|n: u32| (n / 5) as u8).collect();
    let mut stream = files.connect(bind, None).expect("connected");
    stream.write_all(&bytes).expect("sent");
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("ended in order");
    back.reverse();
    assert!(back == bytes, "{} bytes came", back.len());
    // Without a word it is no end.
    let mut stream = files.connect(bind, None).expect("connected");
    stream.write_all(b"abc").expect("sent");
    eventually("it goes through", SOON, || {
        (daemon.metric("tidegate_bytes_total", "direction=\"in\"") >= 1_000_003.0).then_some(())
    });
    stream.sock.shutdown(std::net::Shutdown::Write).expect("ended");
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect_err("cut");
    assert_eq!(back, b"");
}

#[test]
fn a_client_of_websocket_gets_its_tunnel() {
    let files = Files::new();
    let origin =
        crate::tunnel::agreeing("101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade");
    let (_daemon, bind) = front(&files, "https", &[origin.address], "", "");
    let mut stream = files.connect(bind, None).expect("connected");
    let request = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
    stream.write_all(request).expect("sent");
    let mut seen = Vec::new();
    while !seen.ends_with(b"welcome") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("more");
        seen.push(byte[0]);
    }
    assert!(seen.starts_with(b"HTTP/1.1 101"), "{seen:?}");
    let long = vec![7; 300_000];
    for said in [&b"x"[..], &long] {
        stream.write_all(said).expect("sent");
        let mut back = vec![0; said.len()];
        stream.read_exact(&mut back).expect("sent back");
        assert!(back == said);
    }
    stream.conn.send_close_notify();
    stream.flush().expect("sent");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("ended in order");
    assert_eq!(rest, " and goodbye");
}

#[test]
fn what_is_no_handshake_is_told_so_and_counted() {
    let files = Files::new();
    let (daemon, bind) = front(&files, "https", &[free_address()], "", "");
    let counted = |outcome: &str| until_handshakes(&daemon, outcome, 1.0);
    let mut stream = TcpStream::connect(bind).expect("connected");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    let mut alert = Vec::new();
    stream.read_to_end(&mut alert).expect("ended in order");
    assert_eq!((alert[0], alert.len()), (21, 7), "{alert:?}");
    counted("not_tls");
    // It holds a place while it says nothing, and not for longer than a head may take.
    let began = Instant::now();
    let mut silent = TcpStream::connect(bind).expect("connected");
    silent.write_all(&[22, 3, 1, 0, 100, 1]).expect("sent");
    eventually("it is a connection", SOON, || {
        (daemon.metric("tidegate_connections_active", "") == 1.0).then_some(())
    });
    let _ = silent.read_to_end(&mut Vec::new());
    let took = began.elapsed();
    // The daemon's clock for this is as coarse as the worker is busy.
    assert!((1_500..10_000).contains(&took.as_millis()), "{took:?}");
    counted("timeout");
    drop(TcpStream::connect(bind).expect("connected"));
    counted("client_gone");
    assert!(!daemon.log().contains("TLS"), "strangers do not fill the log: {}", daemon.log());
}

#[test]
fn the_proxy_protocol_comes_before_tls() {
    let (files, origin) = (Files::new(), Origin::answering(OK));
    let bind = free_address();
    let _daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\nprotocol = \"https\"\npool = \"web\"\n\
         trusted = [\"127.0.0.0/8\"]\nproxy_protocol = \"require\"\n\
         tls = {{ certificates = [{}] }}\n\
         [pool.web]\ninstances = [{{ address = \"{}\" }}]\n[pool.web.health]\ntype = \"none\"\n",
        files.certificate("server"),
        origin.address
    ));
    let mut socket = TcpStream::connect(bind).expect("connected");
    socket.write_all(b"PROXY TCP4 192.0.2.9 198.51.100.2 1000 443\r\n").expect("sent");
    let mut stream = files.shake(socket, None).expect("a handshake");
    stream.write_all(HELLO).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(origin.text().contains("x-forwarded-for: 192.0.2.9\r\n"), "{}", origin.text());
}
