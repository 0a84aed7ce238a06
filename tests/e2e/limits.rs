//! What a listener's clients may send: as much as is set, and not a byte more.

use std::io::{Read, Write};

use crate::http::{OK, exchange, front, status};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

/// A request that closes, with a head of exactly `len` bytes.
fn get_with_head_of(len: usize) -> String {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: ";
    format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4))
}

/// A request that closes, with a target of exactly `len` bytes.
fn get_with_target_of(len: usize) -> String {
    let target = "x".repeat(len - 1);
    format!("GET /{target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_body_that_is_announced_too_large_is_not_begun() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { body = \"1KiB\" }", "");
    let post = |len: usize, more: &str, body: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\nConnection: close\r\n{more}\r\n{body}"
        )
    };
    let answer = exchange(bind, &post(1_024, "", &"x".repeat(1_024)));
    assert_eq!(status(&answer), "200", "as much as may be: {answer}");
    assert_eq!(origin.text().matches("POST").count(), 1);
    for (more, body) in [("", "x".repeat(1_025)), ("Expect: 100-continue\r\n", String::new())] {
        let answer = exchange(bind, &post(1_025, more, &body));
        assert_eq!(status(&answer), "413", "{more:?}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "no invitation: {answer}");
    }
    assert_eq!(origin.text().matches("POST").count(), 1, "{}", origin.text());
    assert_eq!(daemon.refused("body_too_large"), 2.0);
    assert_eq!(daemon.failures("body_too_large"), 0.0, "it never came so far");
}

#[test]
fn a_chunked_body_is_ended_where_it_exceeds_the_limit() {
    let origin = Origin::start(|peer| drop(peer.request()));
    let (daemon, bind) = front(&[origin.address], "limits = { body = \"1KiB\" }", "");
    let mut stream = connect(bind);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    // 1,000 bytes may come; the limit is passed in the middle of the second chunk, which never ends.
    stream.write_all(format!("3e8\r\n{}\r\n", "x".repeat(1_000)).as_bytes()).expect("sent");
    stream.write_all(format!("fff\r\n{}", "y".repeat(25)).as_bytes()).expect("sent");
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert_eq!(status(&answer), "413", "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(daemon.failures("body_too_large"), 1.0);
    assert!(!origin.text().ends_with("0\r\n\r\n"), "it never looks whole: {}", origin.text());
}

#[test]
fn a_chunked_body_may_be_as_large_as_the_limit() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { body = \"1KiB\" }", "");
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n";
    let half = format!("200\r\n{}\r\n", "x".repeat(512));
    let answer = exchange(bind, &format!("{head}\r\n{half}{half}0\r\n\r\n"));
    assert_eq!(status(&answer), "200", "framing does not count: {answer}");
    assert_eq!(daemon.failures("body_too_large"), 0.0);
}

#[test]
fn a_head_has_as_many_fields_as_it_may() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { fields = 5 }", "");
    let get = |more: usize| {
        let lines: String = (0..more).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n")
    };
    assert_eq!(status(&exchange(bind, &get(3))), "200");
    let answer = exchange(bind, &get(4));
    assert_eq!(status(&answer), "431", "{answer}");
    assert_eq!(daemon.refused("head_too_large"), 1.0);
    assert_eq!(origin.text().matches("GET").count(), 1);
}

#[test]
fn a_target_is_as_long_as_it_may_be_however_it_arrives() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { target = \"100B\" }", "");
    assert_eq!(status(&exchange(bind, &get_with_target_of(100))), "200");
    let answer = exchange(bind, &get_with_target_of(101));
    assert_eq!(status(&answer), "414", "all at once: {answer}");
    let mut stream = connect(bind);
    stream.write_all(&get_with_target_of(5_000).as_bytes()[..4_000]).expect("sent");
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert_eq!(status(&answer), "414", "before it ends: {answer}");
    assert_eq!(daemon.refused("target_too_long"), 2.0);
    assert_eq!(origin.text().matches("GET").count(), 1);
}

#[test]
fn a_head_that_arrives_in_pieces_is_as_large_as_it_may_be() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { head = \"1KiB\" }", "");
    assert_eq!(status(&exchange(bind, &get_with_head_of(1_024))), "200");
    let mut stream = connect(bind);
    stream.write_all(&get_with_head_of(3_000).as_bytes()[..2_000]).expect("sent");
    let answer = read_until(&mut stream, "\r\n\r\n");
    assert_eq!(status(&answer), "431", "before it ends: {answer}");
    assert_eq!(daemon.refused("head_too_large"), 1.0);
    assert_eq!(origin.text().matches("GET").count(), 1);
}

#[test]
fn a_head_that_arrives_at_once_is_as_large_as_it_may_be() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "limits = { head = \"1KiB\" }", "");
    assert_eq!(status(&exchange(bind, &get_with_head_of(1_024))), "200");
    let answer = exchange(bind, &get_with_head_of(1_025));
    assert_eq!(status(&answer), "431", "{answer}");
    assert_eq!(daemon.refused("head_too_large"), 1.0);
    assert_eq!(origin.text().matches("GET").count(), 1);
}

#[test]
fn a_head_may_be_larger_than_usual_where_that_is_set() {
    let origin = Origin::answering(OK);
    let limits = "limits = { head = \"64KiB\", target = \"32KiB\" }";
    let (daemon, bind) = front(&[origin.address], limits, "");
    for request in [get_with_head_of(60_000), get_with_target_of(30_000)] {
        let answer = exchange(bind, &request);
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(origin.text().contains(&"x".repeat(29_999)), "all of it arrives");
    }
    assert_eq!(status(&exchange(bind, &get_with_head_of(70_000))), "431");
    assert_eq!(status(&exchange(bind, &get_with_target_of(40_000))), "414");
    assert_eq!((daemon.refused("head_too_large"), daemon.refused("target_too_long")), (1.0, 1.0));
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = front(&[origin.address], "limits = { requests = 3 }", "");
    // All at once, and one too many.
    let answer = exchange(bind, &"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(4));
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answer}");
    assert_eq!(answer.matches("connection: close\r\n").count(), 1, "{answer}");
    let last = answer.rfind("HTTP/1.1 ").expect("an answer");
    assert!(answer[last..].contains("connection: close\r\n"), "the last says so: {answer}");
    assert_eq!(origin.text().matches("GET").count(), 3);
    // One after the other.
    let mut stream = connect(bind);
    for n in 1..=3 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let answer = read_until(&mut stream, "\r\n\r\nok");
        assert_eq!(answer.contains("connection: close\r\n"), n == 3, "{n}: {answer}");
    }
    assert_eq!(stream.read(&mut [0]).expect("an orderly end"), 0);
}
