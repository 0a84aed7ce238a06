//! CONNECT, where a listener forwards it: a 2xx opens a tunnel to the instance, and nothing else does.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::daemon::eventually;
use crate::http::{front, status};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(10);

const CONNECT: &[u8] = b"CONNECT db.test:5432 HTTP/1.1\r\nHost: db.test:5432\r\n\r\n";

const FORWARD: &str =
    "connect = \"forward\"\ntimeouts = { head = \"3s\", idle = \"3s\", body = \"3s\" }";

/// Agrees with these lines, greets, sends everything back, and tells when the client has ended.
pub fn agreeing(lines: &'static str) -> Origin {
    Origin::start(move |peer| {
        if peer.request().is_none() {
            return;
        }
        let _ = peer.stream.write_all(format!("HTTP/1.1 {lines}\r\n\r\nwelcome").as_bytes());
        let mut piece = vec![0; 65_536];
        while let Ok(n) = peer.stream.read(&mut piece)
            && n > 0
            && peer.stream.write_all(&piece[..n]).is_ok()
        {}
        let _ = peer.stream.write_all(b" and goodbye");
    })
}

#[test]
fn a_2xx_opens_a_tunnel() {
    // A length means nothing there (RFC 9110 §9.3.6).
    for lines in ["200 Connection established", "204 Fine", "200 OK\r\nContent-Length: 3"] {
        let origin = agreeing(lines);
        let (daemon, bind) = front(&[origin.address], FORWARD, "");
        let mut stream = connect(bind);
        stream.write_all(CONNECT).expect("sent");
        let answer = read_until(&mut stream, "\r\n\r\n");
        assert_eq!(status(&answer), &lines[..3], "{lines}: {answer}");
        let lower = answer.to_ascii_lowercase();
        assert!(!lower.contains("content-length") && !lower.contains("transfer-"), "{answer}");
        read_until(&mut stream, "welcome");
        let seen = origin.text();
        assert!(seen.starts_with("CONNECT db.test:5432 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.contains("host: db.test:5432\r\n"), "{seen}");
        // What looks like HTTP is not.
        for said in ["GET / HTTP/1.1\r\n\r\n", "\0\r\n", &"long".repeat(100_000)] {
            stream.write_all(said.as_bytes()).expect("sent");
            let mut back = vec![0; said.len()];
            stream.read_exact(&mut back).expect("sent back");
            assert!(back == said.as_bytes());
        }
        stream.shutdown(Shutdown::Write).expect("an end mark");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("closed in order");
        assert_eq!(rest, " and goodbye", "{lines}");
        eventually("nothing is left of it", SOON, || {
            let active = daemon.metric("tidegate_connections_active", "");
            (active == 0.0 && daemon.instances("web")[0]["in_flight"] == 0).then_some(())
        });
        assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    }
}

#[test]
fn what_is_sent_before_the_answer_belongs_to_the_tunnel() {
    let origin = Origin::start(|peer| {
        let mut seen = Vec::new();
        let mut piece = [0; 4_096];
        while !seen.ends_with(b"\r\n\r\nearly") {
            let n = peer.stream.read(&mut piece).expect("more");
            if n == 0 {
                return;
            }
            seen.extend_from_slice(&piece[..n]);
            if seen.ends_with(b"\r\n\r\n") {
                let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            }
        }
        let _ = peer.stream.write_all(b"heard");
    });
    let (_daemon, bind) = front(&[origin.address], FORWARD, "");
    let mut stream = connect(bind);
    stream.write_all(&[CONNECT, b"early"].concat()).expect("sent");
    read_until(&mut stream, "\r\n\r\nheard");
}

#[test]
fn anything_but_a_2xx_is_a_response_like_any_other() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let answer: &[u8] = if request.starts_with(b"CONNECT") {
                b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nnot there"
            } else {
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            };
            let _ = peer.stream.write_all(answer);
        }
    });
    let (daemon, bind) = front(&[origin.address], FORWARD, "");
    let mut stream = connect(bind);
    stream.write_all(CONNECT).expect("sent");
    let answer = read_until(&mut stream, "not there");
    assert_eq!(status(&answer), "403", "{answer}");
    assert!(answer.to_ascii_lowercase().contains("content-length: 9\r\n"), "{answer}");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "\r\n\r\nok");
    assert_eq!(*origin.connections.lock().expect("whole"), 1, "both connections are kept");
    assert_eq!(daemon.metric("tidegate_requests_total", "code=\"403\""), 1.0);
}

#[test]
fn a_tunnel_that_is_refused_by_default_reaches_nobody() {
    let origin = agreeing("200 OK");
    let (daemon, bind) = front(&[origin.address], "", "");
    let mut stream = connect(bind);
    stream.write_all(CONNECT).expect("sent");
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert_eq!(status(&answer), "501", "{answer}");
    assert_eq!(daemon.refused("unsupported"), 1.0);
    assert_eq!(origin.text(), "");
}
