//! HTTP/1.1 through the proxy, byte by byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, free_address, talk};
use crate::origin::Origin;

const SOON: Duration = Duration::from_secs(10);

/// A daemon with one HTTP listener before the given instances, unprobed and not waited for long.
pub fn proxy(instances: &[SocketAddr], more: &str) -> (Daemon, SocketAddr) {
    let listener = "timeouts = { head = \"1s\", idle = \"2s\", body = \"2s\" }";
    let pool = format!("timeouts = {{ connect = \"1s\", response = \"3s\" }}\n{more}");
    front(instances, listener, &pool)
}

/// A daemon with one HTTP listener before the given instances, unprobed, with these further keys.
pub fn front(instances: &[SocketAddr], listener: &str, pool: &str) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let list: Vec<String> =
        instances.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\n{listener}\n\
         [pool.web]\ninstances = [{}]\n{pool}\n[pool.web.health]\ntype = \"none\"\n",
        list.join(", ")
    ));
    (daemon, bind)
}

pub fn exchange(address: SocketAddr, request: &str) -> String {
    let answer = talk(address, request.as_bytes()).expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

pub fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn requests_are_forwarded_with_our_framing_on_a_kept_connection() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = proxy(&[origin.address], "");
    let answer = exchange(
        bind,
        "POST /a?b HTTP/1.1\r\nHost: x.test\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\
         X-Forwarded-For: 6.6.6.6\r\nContent-Length: 5\r\n\r\nhello\
         GET /second HTTP/1.1\r\nHost: x.test\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2, "pipelined: {answer}");
    assert_eq!(answer.matches("connection: close").count(), 1, "{answer}");
    let seen = origin.text();
    assert!(seen.starts_with("POST /a?b HTTP/1.1\r\nhost: x.test\r\n"), "{seen}");
    assert!(seen.contains("x-forwarded-for: 127.0.0.1\r\n") && !seen.contains("6.6.6.6"), "{seen}");
    assert!(!seen.to_ascii_lowercase().contains("x-hop"), "{seen}");
    assert!(seen.contains("content-length: 5\r\n\r\nhelloGET /second HTTP/1.1\r\n"), "{seen}");
    assert_eq!(*origin.connections.lock().expect("whole"), 1, "the upstream connection is kept");
    assert_eq!(daemon.metric("tidegate_requests_total", "pool=\"web\",code=\"200\""), 2.0);
}

#[test]
fn ambiguous_messages_reach_no_instance() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = proxy(&[origin.address], "");
    for (text, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\nHost: a\n\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "501"),
    ] {
        let answer = exchange(bind, text);
        assert_eq!(status(&answer), expected, "{text:?}: {answer}");
        assert!(answer.contains("connection: close"), "{text:?}: {answer}");
    }
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(status(&exchange(bind, &long)), "431");
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    assert_eq!(status(&exchange(bind, &long)), "414");
    assert_eq!(origin.text(), "", "nothing of all that got through");
    assert_eq!(daemon.metric("tidegate_refused_total", "reason=\"malformed\""), 8.0);
    assert_eq!(daemon.metric("tidegate_refused_total", "reason=\"head_too_large\""), 1.0);
    assert_eq!(daemon.metric("tidegate_refused_total", "reason=\"target_too_long\""), 1.0);
}

#[test]
fn a_broken_chunked_body_never_looks_whole() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(OK);
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let answer = exchange(
        bind,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n",
    );
    assert_eq!(status(&answer), "400", "{answer}");
    assert!(!origin.text().contains("0\r\n\r\n"), "no end mark: {}", origin.text());
}

#[test]
fn every_kind_of_response_body_arrives_as_it_was() {
    let cases: [(&[u8], &str, &str); 6] = [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nx-sum: 1\r\n\r\n",
            "1.1", "3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 1\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "1.0", "abc"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "1.1", "d\r\nuntil the end\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", "1.0", "until the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "1.1", ""),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz", "1.1",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nz"),
    ];
    for (response, version, expected) in cases {
        let origin = Origin::start(move |peer| {
            if peer.request().is_some() {
                let _ = peer.stream.write_all(response);
            }
        });
        let (_daemon, bind) = proxy(&[origin.address], "");
        let request = format!("GET / HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = exchange(bind, &request);
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        // An instance that sends no date gets ours.
        let undated: Vec<&str> =
            body.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect();
        assert_eq!(
            undated.concat(),
            expected,
            "{} to {version}",
            String::from_utf8_lossy(response)
        );
    }
}

#[test]
fn a_response_that_is_cut_or_invalid_is_never_passed_off_as_whole() {
    for (response, expected) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..], "200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", "200"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "502"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "502"),
        (b"garbage\r\n\r\n", "502"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "502"),
    ] {
        let origin = Origin::start(move |peer| {
            if peer.request().is_some() {
                let _ = peer.stream.write_all(response);
            }
        });
        let (_daemon, bind) = proxy(&[origin.address], "");
        let answer = exchange(bind, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&answer), expected, "{}: {answer}", String::from_utf8_lossy(response));
        let whole = answer.ends_with("0\r\n\r\n") || answer.contains("content-length: 4\r\n");
        assert!(expected != "200" || !whole, "{answer}");
    }
}

#[test]
fn head_is_understood() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let head = request.starts_with(b"HEAD");
            let body: &[u8] = if head { b"" } else { b"ok" };
            let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            let _ = peer.stream.write_all(body);
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let answer = exchange(
        bind,
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("200 OK").count(), 2, "{answer}");
    assert!(answer.ends_with("ok"));
}

/// Sends a head that waits for an invitation; what comes back, up to the first empty line.
fn expect_continue(bind: SocketAddr) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(bind).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("set");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    let answer = head_of(&mut stream);
    (stream, answer)
}

fn head_of(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

#[test]
fn the_instance_says_whether_it_wants_the_body() {
    let origin = Origin::start(|peer| {
        let head = head_of(&mut peer.stream);
        if head.contains("\r\nexpect: 100-continue\r\n") {
            let _ = peer.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
            let mut body = [0; 5];
            peer.stream.read_exact(&mut body).expect("the body");
            let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let (mut stream, invitation) = expect_continue(bind);
    assert_eq!(invitation, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").expect("sent");
    assert!(head_of(&mut stream).starts_with("HTTP/1.1 200 OK"));

    let refusing = Origin::start(|peer| {
        let _ = head_of(&mut peer.stream);
        let _ = peer.stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    });
    let (_daemon, bind) = proxy(&[refusing.address], "");
    let began = Instant::now();
    let (mut stream, mut answer) = expect_continue(bind);
    // A client is invited after a second for an instance that was not heard of, which may be the fault
    // of a busy machine.
    if answer.starts_with("HTTP/1.1 100 ") && began.elapsed() > Duration::from_millis(800) {
        answer = head_of(&mut stream);
    }
    assert!(answer.starts_with("HTTP/1.1 401 No"), "without a byte of the body: {answer}");
}

#[test]
fn a_client_that_waits_is_invited_if_the_instance_does_not_say() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    // The wait for the body begins before the invitation.
    let (_daemon, bind) = front(&[origin.address], "", "");
    let (mut stream, invitation) = expect_continue(bind);
    assert!(invitation.starts_with("HTTP/1.1 100 "), "{invitation}");
    stream.write_all(b"hello").expect("sent");
    assert!(head_of(&mut stream).starts_with("HTTP/1.1 200 OK"));
}

#[test]
fn large_bodies_pass_whole_in_both_directions() {
    const LEN: usize = 5_000_000;
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let body = &request[request.len() - LEN..];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
            let _ = peer.stream.write_all(head.as_bytes());
            let _ = peer.stream.write_all(body);
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let body: Vec<u8> =
        (0..LEN as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(bind).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
        let head = format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {LEN}\r\n\r\n"
        );
        let mut writer = stream.try_clone().expect("cloned");
        let sent = body.clone();
        let sending = std::thread::spawn(move || {
            writer.write_all(head.as_bytes()).and_then(|()| writer.write_all(&sent))
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        sending.join().expect("a thread").expect("sent");
        let start = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        assert!(answer[start..] == body[..], "{} bytes came back", answer.len() - start);
    }
}

#[test]
fn a_connection_that_the_instance_closed_is_not_used_again() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            // No word of closing: the proxy learns of it only by the end of the stream.
            let _ = peer.stream.write_all(OK);
        }
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    for n in 0..20 {
        let answer = exchange(bind, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(status(&answer), "200", "request {n}: {answer}");
    }
    assert_eq!(*origin.connections.lock().expect("whole"), 20);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn what_cannot_be_retried_is_not() {
    let origin = Origin::start(|peer| drop(peer.request()));
    let (daemon, bind) = proxy(&[origin.address, free_address()], "");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let before = origin.text().matches("POST").count();
    assert_eq!(status(&exchange(bind, post)), "502");
    assert!(origin.text().matches("POST").count() <= before + 1, "sent once at most");
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(bind, get)), "502");
    assert!(daemon.metric("tidegate_retries_total", "") >= 1.0, "the GET went to both");
}

#[test]
fn connect_failures_go_to_another_instance() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = proxy(&[free_address(), origin.address, free_address()], "");
    for _ in 0..20 {
        let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab";
        assert_eq!(status(&exchange(bind, post)), "200");
    }
    assert!(daemon.metric("tidegate_retries_total", "reason=\"connect\"") >= 1.0);
}

#[test]
fn slow_clients_and_silent_instances_are_timed_out() {
    let origin = Origin::start(|peer| {
        let _ = peer.request();
        std::thread::sleep(Duration::from_secs(20));
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    // Each of the defaults is ten seconds at least.
    const IN_TIME: Duration = Duration::from_secs(8);
    let began = Instant::now();
    assert_eq!(status(&exchange(bind, "GET / HTTP/1.1\r\nHo")), "408");
    assert!(began.elapsed() < IN_TIME, "head: {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(exchange(bind, ""), "", "an idle connection is closed without a word");
    assert!(began.elapsed() < IN_TIME, "idle: {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(
        status(&exchange(bind, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")),
        "504"
    );
    assert!(began.elapsed() < IN_TIME, "response: {:?}", began.elapsed());
    let began = Instant::now();
    let half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
    assert_eq!(status(&exchange(bind, half)), "408");
    assert!(began.elapsed() < IN_TIME, "body: {:?}", began.elapsed());
    assert_eq!(daemon.metric("tidegate_refused_total", "reason=\"head_timeout\""), 1.0);
}

#[test]
fn what_does_not_fit_waits_in_the_queue_and_what_waits_too_long_is_shed() {
    let (go, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    let origin = Origin::start(move |peer| {
        while peer.request().is_some() {
            let _ = may_go.lock().expect("whole").recv_timeout(SOON);
            let _ = peer.stream.write_all(OK);
        }
    });
    let pool = "max_in_flight = 1\nqueue = { max = 3, timeout = \"3s\" }";
    let (daemon, bind) = front(&[origin.address], "", pool);
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let clients: Vec<_> = (0..6).map(|_| std::thread::spawn(move || exchange(bind, get))).collect();
    let shed_for = |reason: &str| {
        eventually(reason, SOON, || (daemon.failures(reason) == 2.0).then_some(()));
        go.send(()).expect("the instance waits");
    };
    // One is served and three wait: two are too many. When the first is done one takes its place, which
    // then has the others wait for too long.
    shed_for("queue_full");
    shed_for("queue_timeout");
    let answers: Vec<String> = clients.into_iter().map(|c| c.join().expect("a thread")).collect();
    let ok = answers.iter().filter(|answer| status(answer) == "200").count();
    let shed: Vec<_> = answers.iter().filter(|answer| status(answer) == "503").collect();
    assert_eq!((ok, shed.len()), (2, 4), "{answers:?}");
    assert!(shed.iter().all(|answer| answer.contains("retry-after: 3")), "{answers:?}");
    eventually("the queue is empty", SOON, || {
        (daemon.metric("tidegate_queue_depth", "pool=\"web\"") == 0.0).then_some(())
    });
    assert_eq!(daemon.metric("tidegate_queue_wait_seconds_count", "pool=\"web\""), 3.0);
}

#[test]
fn routes_choose_the_pool() {
    let origins: Vec<Origin> = [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n0"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2",
    ]
    .map(Origin::answering)
    .into();
    let bind = free_address();
    let mut config = format!("[[listener]]\nname = \"web\"\nbind = \"{bind}\"\n");
    config.push_str("[[route]]\nlistener = \"web\"\nhost = \"api.test\"\npath_prefix = \"/v1/\"\npool = \"p1\"\n");
    config.push_str("[[route]]\nlistener = \"web\"\nhost = \"*.test\"\npool = \"p2\"\n");
    config.push_str("[[route]]\nlistener = \"web\"\npath_prefix = \"/static/\"\npool = \"p0\"\n");
    for (n, origin) in origins.iter().enumerate() {
        config.push_str(&format!(
            "[pool.p{n}]\ninstances = [{{ address = \"{}\" }}]\n[pool.p{n}.health]\ntype = \"none\"\n",
            origin.address
        ));
    }
    let daemon = Daemon::start(&config);
    for (host, path, expected) in [
        ("api.test", "/v1/x", Some("1")),
        ("API.test:80", "/v1/x", Some("1")),
        ("api.test", "/v2", Some("2")),
        ("other", "/static/x", Some("0")),
        ("other", "/", None),
    ] {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = exchange(bind, &text);
        match expected {
            Some(body) => assert!(answer.ends_with(body), "{host}{path}: {answer}"),
            None => assert_eq!(status(&answer), "404"),
        }
    }
    assert_eq!(daemon.metric("tidegate_refused_total", "reason=\"no_route\""), 1.0);
}
