//! What is refused, cut or passed on, byte by byte and in both directions: the attack classes of
//! HTTP/1.1 against the real daemon.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::http::{OK, exchange, proxy, status};
use crate::origin::Origin;

/// Requests that must be refused before anything of them reaches an instance: with which status, and
/// what they are. `H` stands for a Host field, each `\n` for CR LF, `\r` and `~` for a bare CR and LF.
const REFUSED: &[(&str, &str)] = &[
    // Start lines.
    ("400", "GET /\nH\n"),
    ("400", "GET\nH\n"),
    ("400", "\n\nGET / HTTP/1.1\nH\n"),
    ("400", "~GET / HTTP/1.1\nH\n"),
    ("400", " GET / HTTP/1.1\nH\n"),
    ("400", "GET  / HTTP/1.1\nH\n"),
    ("400", "GET /  HTTP/1.1\nH\n"),
    ("400", "GET\t/\tHTTP/1.1\nH\n"),
    ("400", "GET / HTTP/1.1 \nH\n"),
    ("400", "GET / HTTP/1.1~H\n"),
    ("400", "GET / HTTP/1.1\rH\n"),
    ("400", "GET / http/1.1\nH\n"),
    ("400", "GET / HTTP/1\nH\n"),
    ("400", "GET / HTTP/1.10\nH\n"),
    ("505", "GET / HTTP/1.2\nH\n"),
    ("505", "GET / HTTP/2.0\nH\n"),
    ("505", "PRI * HTTP/2.1\n\nSM\n\n"),
    ("400", "G@T / HTTP/1.1\nH\n"),
    ("400", "GET /\0 HTTP/1.1\nH\n"),
    ("400", "GET /\x7f HTTP/1.1\nH\n"),
    ("400", "GET /\u{e9} HTTP/1.1\nH\n"),
    ("400", "GET /#a HTTP/1.1\nH\n"),
    ("400", "GET * HTTP/1.1\nH\n"),
    ("400", "GET a HTTP/1.1\nH\n"),
    ("400", "GET a:80 HTTP/1.1\nH\n"),
    ("400", "GET ftp://a/ HTTP/1.1\nH\n"),
    ("400", "GET http://u@a/ HTTP/1.1\nH\n"),
    ("400", "GET http:///a HTTP/1.1\nH\n"),
    ("501", "CONNECT a:80 HTTP/1.1\nH\n"),
    // Hosts.
    ("400", "GET / HTTP/1.1\n\n"),
    ("400", "GET http://a/ HTTP/1.1\n\n"),
    ("400", "GET / HTTP/1.1\nHost:\n\n"),
    ("400", "GET / HTTP/1.1\nH\nH\n"),
    ("400", "GET / HTTP/1.1\nH\nhost: b\n\n"),
    ("400", "GET / HTTP/1.0\nH\nHost: b\n\n"),
    ("400", "GET / HTTP/1.1\nHost: a, b\n\n"),
    ("400", "GET / HTTP/1.1\nHost: a,b\n\n"),
    ("400", "GET / HTTP/1.1\nHost: u@a\n\n"),
    ("400", "GET / HTTP/1.1\nHost: a/b\n\n"),
    ("400", "GET / HTTP/1.1\nHost: a:b\n\n"),
    ("400", "GET / HTTP/1.1\nHost: a\0\n\n"),
    ("400", "GET / HTTP/1.1\nHost: [::1\n\n"),
    ("400", "GET http://a/ HTTP/1.1\nHost: b c\n\n"),
    // Fields.
    ("400", "GET / HTTP/1.1\nH\nA : b\n\n"),
    ("400", "GET / HTTP/1.1\nHost : a\n\n"),
    ("400", "GET / HTTP/1.1\n H\n"),
    ("400", "GET / HTTP/1.1\nH\nA: b\n c\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA: b~B: c\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA: b\rB: c\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA: b\0c\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA: \x0b\n\n"),
    ("400", "GET / HTTP/1.1\nH\n: b\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA\u{e9}: b\n\n"),
    ("400", "GET / HTTP/1.1\nH\nA: b\n~"),
    ("417", "GET / HTTP/1.1\nH\nExpect: 200-ok\n\n"),
    // Framing.
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 1\nContent-Length: 1\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 1\nContent-Length: 2\n\nab"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 1, 1\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: +1\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: -1\n\n"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 0x1\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 01\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 1 1\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length:\n\n"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length: 18446744073709551617\n\na"),
    ("400", "POST / HTTP/1.1\nH\nContent-Length : 1\n\na"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding:\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: chunked,\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: ,chunked\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: chunked, chunked\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: chunked, identity\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: \x0bchunked\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: chunked\0\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding:\n chunked\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding : chunked\n\n0\n\n"),
    ("400", "POST / HTTP/1.1\nH\nTransfer-Encoding: chunked\nTransfer-Encoding: x\n\n0\n\n"),
    ("400", "POST / HTTP/1.0\nH\nTransfer-Encoding: chunked\n\n0\n\n"),
    ("501", "POST / HTTP/1.1\nH\nTransfer-Encoding: xchunked\n\n"),
    ("501", "POST / HTTP/1.1\nH\nTransfer-Encoding: identity\n\n"),
    ("501", "POST / HTTP/1.1\nH\nTransfer-Encoding: gzip, chunked\n\n0\n\n"),
    ("400", "TRACE / HTTP/1.1\nH\nContent-Length: 1\n\na"),
];

/// Chunked bodies that must never look whole to an instance.
const BROKEN_BODIES: &[&str] = &[
    "\n",
    "g\n",
    " 5\nhello\n",
    "5 \nhello\n",
    "0x5\nhello\n",
    "+5\nhello\n",
    "-5\nhello\n",
    "5_0\nhello\n",
    "5~hello\n",
    "5\rhello\n",
    "5\nhello~",
    "5\nhelloXX\n",
    "3\nhello\n",
    "5;\nhello\n",
    "5;a~b\nhello\n",
    "5;a\rb\nhello\n",
    "5;a\0\nhello\n",
    "5;a b\nhello\n",
    "5;a=\"b\nhello\n",
    "5;[\nhello\n",
    "10000000000000000\nhello\n",
    "0\nA: b\0\n\n",
    "0\nA : b\n\n",
    "0\nA: b\n c\n\n",
    "0\nA\n\n",
    "0\nA: b~\n",
    "0\n~",
];

/// A table's text as bytes on the wire: one byte a character.
fn wire(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in text.replace("H\n", "Host: a.test\n").chars() {
        match line {
            '\n' => bytes.extend_from_slice(b"\r\n"),
            '~' => bytes.push(b'\n'),
            other => bytes.push(u8::try_from(u32::from(other)).expect("one byte")),
        }
    }
    // Where the Host field was the last, the head ends here.
    if text.ends_with("H\n") {
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Sends `bytes` and reads to the end of the stream, which must come.
fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let answer = crate::daemon::talk(address, bytes).expect("an answer, and the end of the stream");
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_ambiguous_is_refused_and_reaches_nobody() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = proxy(&[origin.address], "");
    for (expected, text) in REFUSED {
        // What follows would be answered if the connection stayed.
        let mut bytes = wire(text);
        bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = talk(bind, &bytes);
        assert_eq!(status(&answer), *expected, "{text:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{text:?}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{text:?}: {answer}");
        assert_eq!(origin.text(), "", "{text:?} got through");
    }
}

#[test]
fn a_body_that_breaks_never_looks_whole_and_costs_both_connections() {
    for text in BROKEN_BODIES {
        let (origin, reused) = scripted(OK);
        let (_daemon, bind) = proxy(&[origin.address], "");
        let mut bytes = wire("POST / HTTP/1.1\nH\nTransfer-Encoding: chunked\n\n");
        bytes.extend_from_slice(&wire(text));
        bytes.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = talk(bind, &bytes);
        assert_eq!(status(&answer), "400", "{text:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{text:?}: {answer}");
        for _ in 0..4 {
            let get = "GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            assert_eq!(status(&exchange(bind, get)), "200", "after {text:?}");
        }
        let seen = origin.text();
        assert!(!seen.contains("\r\n0\r\n") && !seen.contains("smuggled"), "{text:?}: {seen}");
        assert!(!seen.contains("hello\r\nGET"), "{text:?}: {seen}");
        assert!(reused.load(Ordering::Relaxed) <= 3, "{text:?}");
    }
}

/// An instance that answers each request with these bytes, and how many requests came on
/// connections that had been used before.
fn scripted(response: &'static [u8]) -> (Origin, Arc<AtomicUsize>) {
    let reused = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&reused);
    let origin = Origin::start(move |peer| {
        let mut first = true;
        while peer.request().is_some() {
            if !std::mem::take(&mut first) {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            if peer.stream.write_all(response).is_err() {
                return;
            }
        }
    });
    (origin, reused)
}

#[test]
fn what_is_odd_and_clear_is_served_and_the_connection_stays() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = proxy(&[origin.address], "");
    let cases = [
        ("\nGET /a HTTP/1.1\nH\n", "GET /a HTTP/1.1\r\nhost: a.test\r\n"),
        ("GET /b HTTP/1.1\nHost:\ta.test\t\n\n", "GET /b HTTP/1.1\r\nhost: a.test\r\n"),
        ("GET http://b.test HTTP/1.1\nH\n", "GET / HTTP/1.1\r\nhost: b.test\r\n"),
        ("GET http://b.test?q HTTP/1.1\nH\n", "GET /?q HTTP/1.1\r\nhost: b.test\r\n"),
        ("OPTIONS http://b.test HTTP/1.1\nH\n", "OPTIONS * HTTP/1.1\r\nhost: b.test\r\n"),
        ("OPTIONS * HTTP/1.1\nH\n", "OPTIONS * HTTP/1.1\r\nhost: a.test\r\n"),
        ("GET /c HTTP/1.1\nH\nA: \u{e9}\n\n", "GET /c HTTP/1.1\r\n"),
        ("BREW /d HTTP/1.1\nH\n", "BREW /d HTTP/1.1\r\n"),
        (
            "POST /e HTTP/1.1\nH\nTransfer-Encoding: Chunked\n\n5;a=\"b\\\"\" ; c\nhello\n0\nA: b\n\n",
            "POST /e HTTP/1.1\r\n",
        ),
        ("GET /f HTTP/1.1\nH\nContent-Length: 5\n\nhello", "GET /f HTTP/1.1\r\n"),
        ("GET /g HTTP/1.0\nConnection: keep-alive\n\n", "GET /g HTTP/1.1\r\n"),
    ];
    let mut bytes = Vec::new();
    for (text, _) in cases {
        bytes.extend_from_slice(&wire(text));
    }
    bytes.extend_from_slice(b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let answer = talk(bind, &bytes);
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), cases.len() + 1, "{answer}");
    let seen = origin.text();
    for (text, expected) in cases {
        assert!(seen.contains(expected), "{text:?}: {seen}");
    }
    assert!(!seen.contains("a=\"b") && !seen.contains("Transfer-Encoding: Chunked"), "{seen}");
}

#[test]
fn what_follows_a_bad_request_is_not_looked_at() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = proxy(&[origin.address], "");
    let good = |path: &str| format!("GET {path} HTTP/1.1\nH\n");
    let mut bytes =
        [wire(&good("/1")), wire("POST /2 HTTP/1.1\nH\nContent-Length: 2\n\nab")].concat();
    bytes.extend_from_slice(&wire("GET /bad HTTP/1.1\nHost : a\n\n"));
    bytes.extend_from_slice(&wire(&good("/4")));
    let answer = talk(bind, &bytes);
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
    assert!(answer.rfind("HTTP/1.1 400 ") > answer.rfind("HTTP/1.1 200 "), "{answer}");
    let seen = origin.text();
    assert!(seen.contains("GET /1 ") && seen.contains("POST /2 "), "{seen}");
    assert!(!seen.contains("/bad") && !seen.contains("/4"), "{seen}");
}

#[test]
fn a_trailer_that_decides_about_the_message_stays_here() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = proxy(&[origin.address], "");
    let answer = talk(
        bind,
        &wire(
            "POST / HTTP/1.1\nH\nConnection: close, x-hop\nTransfer-Encoding: chunked\n\n0\n\
             X-Sum:\t1 \nX-Hop: 1\nHost: evil\nContent-Length: 5\nTransfer_Encoding: x\n\
             Authorization: y\nX-Forwarded-For: 6.6.6.6\nCookie: z\n\n",
        ),
    );
    assert_eq!(status(&answer), "200", "{answer}");
    let seen = origin.text();
    assert!(seen.ends_with("0\r\nX-Sum: 1\r\n\r\n"), "{seen}");
}

/// What becomes of a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// 502, and nothing of it reaches the client.
    Refused,
    /// The client can tell that it is not whole.
    Cut,
    /// It arrives; nobody uses the connection again.
    Once,
    /// It arrives; the connection is used again.
    Again,
}
use Outcome::{Again, Cut, Once, Refused};

/// Answers to a GET that asks for the connection to stay.
const RESPONSES: &[(Outcome, &str)] = &[
    (Again, "HTTP/1.1 200 OK\nContent-Length: 5\n\nwhole"),
    (Again, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nwhole\n0\n\n"),
    (Again, "HTTP/1.0 200 OK\nConnection: keep-alive\nContent-Length: 5\n\nwhole"),
    (Again, "HTTP/1.1 200\nContent-Length: 5\n\nwhole"),
    (Again, "HTTP/1.1 200 \u{e9}\nContent-Length: 0005\n\nwhole"),
    (Again, "HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 5\n\nwhole"),
    (
        Again,
        "HTTP/1.1 102 X\n\nHTTP/1.1 103 X\nLink: <a>\n\nHTTP/1.1 200 OK\nContent-Length: 5\n\nwhole",
    ),
    (Again, "HTTP/1.1 204 No\n\n"),
    (Again, "HTTP/1.1 304 No\nContent-Length: 9\n\n"),
    (Again, "HTTP/1.1 205 No\nContent-Length: 0\n\n"),
    (Once, "HTTP/1.0 200 OK\nContent-Length: 5\n\nwhole"),
    (Once, "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 5\n\nwhole"),
    (Once, "HTTP/1.1 204 No\nContent-Length: 4\n\nevil"),
    (Once, "HTTP/1.1 204 No\nTransfer-Encoding: chunked\n\n"),
    (Once, "HTTP/1.1 304 No\nContent-Length: 4\n\nevil"),
    (Once, "HTTP/1.1 200 OK\nContent-Length: 5\n\nwholeevil"),
    (Once, "HTTP/1.1 200 OK\nContent-Length: 5\n\nwholeHTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
    (Once, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nwhole\n0\n\nevil"),
    (Refused, "evil\n\n"),
    (Refused, "\nHTTP/1.1 200 OK\nContent-Length: 4\n\nevil"),
    (Refused, "HTTP/1.1 200 OK~Content-Length: 4\n\nevil"),
    (Refused, "HTTP/1.1 200 evil\0\nContent-Length: 4\n\nevil"),
    (Refused, "HTTP/1.1 999 evil\n\n"),
    (Refused, "HTTP/1.1 20 evil\n\n"),
    (Refused, "HTTP/2.0 200 evil\n\n"),
    (Refused, "http/1.1 200 evil\n\n"),
    (Refused, "HTTP/1.1 200 OK\nContent-Length: 4\nContent-Length: 4\n\nevil"),
    (Refused, "HTTP/1.1 200 OK\nContent-Length: 4\nContent-Length: 5\n\nevil"),
    (Refused, "HTTP/1.1 200 OK\nContent-Length: 4, 4\n\nevil"),
    (Refused, "HTTP/1.1 200 OK\nContent-Length: evil\n\nevil"),
    (Refused, "HTTP/1.1 200 OK\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\nevil"),
    (Refused, "HTTP/1.1 200 OK\nTransfer-Encoding: gzip\n\nevil"),
    (Refused, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked, chunked\n\n4\nevil\n0\n\n"),
    (Refused, "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n4\nevil\n0\n\n"),
    (Refused, "HTTP/1.1 200 OK\nA: b\n evil\n\n"),
    (Refused, "HTTP/1.1 200 OK\nA : evil\n\n"),
    (Refused, "HTTP/1.1 200 OK\nA: evil\0\n\n"),
    (Refused, "HTTP/1.1 101 evil\nConnection: upgrade\nUpgrade: websocket\n\nevil"),
    (Refused, "HTTP/1.1 103 evil\nContent-Length: 4\n\nevil"),
    (Cut, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\nXX\nevil"),
    (Cut, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhelloevil\n0\n\n"),
    (Cut, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5~hello\n0\n\n"),
    (Cut, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nA: evil\0\n\n"),
    (Cut, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nevil\n\n"),
    (Cut, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5;evil\0\nhello\n0\n\n"),
];

#[test]
fn responses_arrive_whole_or_visibly_not_and_connections_are_used_again_only_after_good_ones() {
    for (outcome, text) in RESPONSES {
        let (origin, reused) = scripted(wire(text).leak());
        let (_daemon, bind) = proxy(&[origin.address], "");
        // Two workers, so most of these are on one that has seen the response before.
        for _ in 0..6 {
            let get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            let answer = read_until_closed(bind, get);
            let shown = format!("{outcome:?} {text:?}: {answer}");
            assert!(!answer.contains("evil"), "{shown}");
            let (_, body) = answer.rsplit_once("\r\n\r\n").unwrap_or_default();
            match outcome {
                Refused => assert_eq!(status(&answer), "502", "{shown}"),
                // Where the break came with the head, there may be no answer at all, or a 502.
                Cut => {
                    assert!(answer.contains(" 502 ") || !answer.ends_with("0\r\n\r\n"), "{shown}")
                }
                Once | Again if text.contains("whole") => {
                    let whole = body.ends_with("whole") || answer.ends_with("whole\r\n0\r\n\r\n");
                    assert!(status_of_last(&answer) == "200" && whole, "{shown}");
                }
                Once | Again => assert!(status(&answer).starts_with(['2', '3']), "{shown}"),
            }
        }
        let reused = reused.load(Ordering::Relaxed);
        assert_eq!(
            reused > 0,
            *outcome == Again,
            "{outcome:?} {text:?}: used {reused} times again"
        );
    }
}

/// The status of the final response behind any interim ones.
fn status_of_last(answer: &str) -> &str {
    answer.rfind("HTTP/1.1 ").map_or("none", |at| status(&answer[at..]))
}

/// What comes before the end of the stream, or before it is reset.
pub fn read_until_closed(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(request).expect("sent");
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "an end, or a reset");
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_response_that_the_instance_cuts_short_is_cut_for_the_client() {
    for (text, expected) in [
        ("HTTP/1.1 200 OK\nContent-Length: 10\n\nhalf", Cut),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n9\nhalf", Cut),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nhalf\n", Cut),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nhalf\n0\n", Cut),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n4\nhalf\n0\nA: b\n", Cut),
        ("HTTP/1.1 200 OK\nContent-Le", Refused),
        ("HTTP/1.1 103 Early\n\nHTTP/1.1 200 OK\n", Refused),
        ("HTTP/1.1 200 OK\n\nwhole", Once),
    ] {
        let response: &[u8] = wire(text).leak();
        let origin = Origin::start(move |peer| {
            if peer.request().is_some() {
                let _ = peer.stream.write_all(response);
            }
        });
        let (_daemon, bind) = proxy(&[origin.address], "");
        let answer =
            read_until_closed(bind, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        match expected {
            Refused => assert_eq!(status_of_last(&answer), "502", "{text:?}: {answer}"),
            Cut => {
                let whole = answer.ends_with("0\r\n\r\n") || answer.contains("content-length: 4");
                assert!(status(&answer) == "200" && !whole, "{text:?}: {answer}");
            }
            _ => assert!(answer.ends_with("\r\n5\r\nwhole\r\n0\r\n\r\n"), "{text:?}: {answer}"),
        }
    }
}

#[test]
fn an_early_answer_arrives_and_the_rest_of_the_body_is_no_request() {
    // The instance answers at the end of the head and reads on; the body looks like a request.
    let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2_000);
    for response in [&b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n"[..], OK] {
        let origin = Origin::start(move |peer| {
            let mut piece = [0; 4096];
            if matches!(peer.stream.read(&mut piece), Ok(n) if n > 0) {
                let _ = peer.stream.write_all(response);
            }
            while matches!(peer.stream.read(&mut piece), Ok(n) if n > 0) {}
        });
        let (_daemon, bind) = proxy(&[origin.address], "");
        for announced in [body.len(), body.len() + 50_000] {
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {announced}\r\n\r\n");
            let mut stream = TcpStream::connect(bind).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
            stream.write_all(head.as_bytes()).expect("sent");
            let mut start = [0; 12];
            stream.read_exact(&mut start).expect("an answer before the body");
            assert_eq!(start, response[..12]);
            let _ = stream.write_all(body.as_bytes());
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            let rest = String::from_utf8_lossy(&rest);
            assert!(!rest.contains("HTTP/1.1 "), "a second answer: {rest}");
        }
    }
}

#[test]
fn head_and_304_announce_what_they_do_not_carry() {
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let status = if request.starts_with(b"HEAD") { "200 OK" } else { "304 Not Modified" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 77\r\n\r\n");
            let _ = peer.stream.write_all(head.as_bytes());
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let requests = [
        "HEAD /1 HTTP/1.1\nH\n",
        "GET /2 HTTP/1.1\nH\n",
        "HEAD /3 HTTP/1.1\nConnection: close\nH\n",
    ];
    let answer = talk(bind, &requests.map(wire).concat());
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 304 Not Modified\r\n").count(), 1, "{answer}");
    assert_eq!(
        answer.to_ascii_lowercase().matches("content-length: 77\r\n").count(),
        3,
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}
