//! Each way in which an exchange fails has a status and a counted reason. Those of clients that leave,
//! stop or exceed a limit are beside what they are about: `leaving`, `patience`, `limits`.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{OK, exchange, front, status};
use crate::origin::Origin;
use crate::streaming::connect;
use crate::strict::read_until_closed;

const SOON: Duration = Duration::from_secs(10);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Sends these bytes and closes.
fn saying(response: Vec<u8>) -> Origin {
    Origin::start(move |peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(&response);
        }
    })
}

/// One exchange on a daemon of its own; the answer, after exactly this reason was counted once.
fn once(instance: SocketAddr, pool: &str, request: &str, reason: &str) -> String {
    let (daemon, bind) = front(&[instance], "", pool);
    let answer = read_until_closed(bind, request.as_bytes());
    assert_eq!(daemon.failures(reason), 1.0, "{reason}: {answer}");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 1.0, "{reason}, and no other");
    answer
}

#[test]
fn what_instances_do_wrong() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n";
    let cases = [
        ("", "reset", "502", &b""[..]),
        ("", "bad_response", "502", b"garbage\r\n\r\n"),
        ("", "bad_response", "502", b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"),
        ("", "bad_response", "502", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n"),
        ("", "cut_response", "200", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
        (
            "",
            "cut_response",
            "200",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        ),
    ];
    for (pool, reason, expected, response) in cases {
        let answer = once(saying(response.to_vec()).address, pool, GET, reason);
        assert_eq!(status(&answer), expected, "{reason}: {answer}");
    }
    let silent = Origin::start(|peer| while peer.request().is_some() {});
    let pool = "timeouts = { response = \"500ms\" }";
    assert_eq!(status(&once(silent.address, pool, GET, "response_timeout")), "504");
    assert_eq!(status(&once(free_address(), "", GET, "connect")), "502");
    assert_eq!(status(&once(silent.address, "", post, "bad_body")), "400");
}

#[test]
fn what_nobody_can_take() {
    let sick = Origin::answering(b"HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n");
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\n\
         instances = [{{ address = \"{}\" }}]\n[pool.p.health]\ntype = \"http\"\n\
         [pool.p.zones]\npanic_below = \"0%\"\n",
        sick.address
    ));
    let answer = exchange(bind, GET);
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.contains("\r\nretry-after: 5\r\n"), "{answer}");
    assert_eq!(daemon.failures("no_instance"), 1.0);
    assert_eq!(daemon.metric("tidegate_requests_shed_total", "pool=\"p\""), 1.0);
}

#[test]
fn what_waits_too_long() {
    let silent = Origin::start(|peer| while peer.request().is_some() {});
    let pool = "max_in_flight = 1\nqueue = { max = 1, timeout = \"500ms\" }";
    let (daemon, bind) = front(&[silent.address], "", pool);
    let mut busy = connect(bind);
    busy.write_all(GET.as_bytes()).expect("sent");
    eventually("the only place is taken", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 1.0).then_some(())
    });
    let answer = exchange(bind, GET);
    assert_eq!(status(&answer), "503", "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert_eq!(daemon.failures("queue_timeout"), 1.0);
    assert_eq!(daemon.metric("tidegate_requests_shed_total", "pool=\"web\""), 1.0);
}

#[test]
fn interim_responses_pass_up_to_sixteen() {
    let hint = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n";
    let with = |count: usize| [hint.repeat(count).as_bytes(), OK].concat();
    let (daemon, bind) = front(&[saying(with(16)).address], "", "");
    let answer = exchange(bind, GET);
    assert_eq!(answer.matches("HTTP/1.1 103 ").count(), 16, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 1, "{answer}");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    let answer = once(saying(with(17)).address, "", GET, "bad_response");
    assert_eq!(answer.matches("HTTP/1.1 502 ").count(), 1, "{answer}");
    assert!(!answer.contains("HTTP/1.1 200 "), "{answer}");
}

#[test]
fn the_head_of_a_response_may_have_64_kib() {
    let with = |len: usize| {
        let (start, end) = ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: ", "\r\n\r\nok");
        let value = "x".repeat(len + 2 - start.len() - end.len());
        format!("{start}{value}{end}").into_bytes()
    };
    let (_daemon, bind) = front(&[saying(with(60_000)).address], "", "");
    let answer = exchange(bind, GET);
    assert!(status(&answer) == "200" && answer.ends_with("\r\n\r\nok"), "{} bytes", answer.len());
    let answer = once(saying(with(66_000)).address, "", GET, "bad_response");
    assert_eq!(status(&answer), "502", "{} bytes", answer.len());
    // One that never ends is not read for ever.
    let endless = Origin::start(|peer| {
        if peer.request().is_some() {
            let mut sent = peer.stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while sent.is_ok() {
                sent = peer.stream.write_all(b"A: b\r\n");
            }
        }
    });
    assert_eq!(status(&once(endless.address, "", GET, "bad_response")), "502");
}

#[test]
fn a_response_whose_end_is_the_connections_is_reset_when_it_is_cut() {
    // An HTTP/1.0 client knows the end of what came chunked only by the end of the connection.
    for response in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nno chunk\r\n",
    ] {
        let origin = saying(response.to_vec());
        let (daemon, bind) = front(&[origin.address], "", "");
        let mut stream = connect(bind);
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).expect_err("no end as of a whole response");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        assert_eq!(daemon.failures("cut_response"), 1.0);
    }
}
