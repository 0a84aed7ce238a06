use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::model::{FieldEdits, Listener, Rewrite};
use crate::proxy::rewrite::fixture::{edits, facts, listener, request};
use crate::proxy::wire::http1::parse_response;
use crate::proxy::wire::{BodyLength, RequestHead, ResponseHead};

/// How long one waits in the queue.
const QUEUE: Duration = Duration::from_millis(2_500);

fn of_route(response: &str) -> Rewrite {
    Rewrite { request: FieldEdits::default(), response: edits(response) }
}

fn busy_page() -> Listener {
    let page = Page { content_type: "text/html".into(), body: b"<p>busy</p>".to_vec() };
    Listener { errors: Arc::new(BTreeMap::from([(503, page)])), ..listener() }
}

/// The head of an answer, and its body.
fn written(
    answer: Answer<'_>,
    keep_alive: bool,
    facts: &Facts<'_>,
) -> (ResponseHead, String, String) {
    let mut out = Vec::new();
    write(answer, keep_alive, facts, &mut out);
    let mut head = ResponseHead::default();
    let method = facts.head.method;
    let len = parse_response(&out, method, &mut head).expect("valid").expect("whole");
    let body = out.split_off(len);
    assert_eq!(head.status, status(answer, facts));
    match head.body {
        BodyLength::Exactly(length) => assert_eq!(length, body.len() as u64),
        other => assert!(other == BodyLength::None && body.is_empty(), "{other:?}"),
    }
    (head, String::from_utf8(out).expect("text"), String::from_utf8(body).expect("text"))
}

fn value(head: &ResponseHead, name: &str) -> String {
    head.fields.value(name).map_or("-".to_owned(), |v| String::from_utf8_lossy(v).into_owned())
}

#[test]
fn every_failure_is_a_valid_response_that_nobody_keeps() {
    let failures = FailReason::ALL.into_iter().filter_map(|reason| for_failure(reason, QUEUE));
    let heads = [HeadError::TooManyFields, HeadError::Version, HeadError::Malformed("x")];
    let others = [HEAD_TIMEOUT, TARGET_TOO_LONG, HEAD_TOO_LARGE, NO_ROUTE];
    let nobody = RequestHead::default();
    for answer in failures.chain(heads.map(|e| for_head(e).0)).chain(others) {
        let (head, text, body) = written(answer, false, &facts(&nobody, &listener()));
        assert!(!head.fields.get(head.reason).is_empty(), "{answer:?}");
        assert!(!head.keep_alive);
        let Says::Wrong { text: line, retry_after } = answer.says else { panic!("{answer:?}") };
        assert_eq!(body, format!("{line}\n"));
        assert_eq!(value(&head, "retry-after"), retry_after.map_or("-".into(), |s| s.to_string()));
        assert_eq!(value(&head, "cache-control"), "no-store");
        assert_eq!(value(&head, "content-type"), "text/plain");
        assert_eq!(value(&head, "date"), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert!(text.len() + body.len() < 300, "small: {text}");
    }
}

#[test]
fn what_is_shed_may_come_again_when_the_queue_has_turned_over() {
    for (reason, timeout_ms, seconds) in [
        (FailReason::QueueFull, 0, Some(1)),
        (FailReason::QueueFull, 1_000, Some(1)),
        (FailReason::QueueTimeout, 1_001, Some(2)),
        (FailReason::NoInstance, 20_000, Some(20)),
        (FailReason::Shortage, 20_000, Some(1)),
        (FailReason::Connect, 20_000, None),
    ] {
        let answer = for_failure(reason, Duration::from_millis(timeout_ms)).expect("an answer");
        let Says::Wrong { retry_after, .. } = answer.says else { panic!("{answer:?}") };
        assert_eq!(retry_after, seconds, "{reason:?}");
    }
}

#[test]
fn a_page_takes_the_place_of_the_line_and_of_nothing_else() {
    let listener = busy_page();
    let busy = for_failure(FailReason::QueueFull, QUEUE).expect("an answer");
    for (line, page, kept) in [
        ("GET / HTTP/1.1", "<p>busy</p>", "-"),
        ("GET / HTTP/1.0", "<p>busy</p>", "keep-alive"),
        ("HEAD / HTTP/1.1", "", "-"),
        ("HEAD / HTTP/1.0", "", "keep-alive"),
    ] {
        let head = request(&format!("{line}\r\nHost: a\r\n\r\n"));
        let facts = facts(&head, &listener);
        let (head, _, body) = written(busy, true, &facts);
        assert_eq!(body, page, "{line}");
        assert_eq!(value(&head, "content-type"), "text/html");
        assert_eq!(value(&head, "content-length"), "11", "{line}");
        assert_eq!(value(&head, "cache-control"), "no-store");
        assert_eq!(value(&head, "retry-after"), "3");
        assert_eq!(value(&head, "connection"), kept, "{line}");
        let (head, _, _) = written(busy, false, &facts);
        assert_eq!(value(&head, "connection"), "close");
        let (head, ..) = written(NO_ROUTE, true, &facts);
        assert_eq!(value(&head, "content-type"), "text/plain", "404 has no page");
    }
}

#[test]
fn a_route_edits_failures_but_not_what_makes_them_safe() {
    let route = of_route(
        "cache-control=public cdn-cache-control=max-age=9 content-type=x/y -retry-after \
         +retry-after=9 x-frame-options=DENY +x-id={client} -date",
    );
    let (head, listener) = (request("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), listener());
    let facts = Facts { route: &route, ..facts(&head, &listener) };
    let busy = for_failure(FailReason::QueueFull, QUEUE).expect("an answer");
    let (_, text, _) = written(busy, true, &facts);
    assert_eq!(
        text,
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\n\
         cache-control: no-store\r\nretry-after: 3\r\nx-frame-options: DENY\r\nx-id: 192.0.2.7\r\n\
         content-length: 23\r\n\r\n"
    );
}

#[test]
fn redirects_lead_where_their_template_says() {
    for (to, line, host, status, location) in [
        ("https://{host}{path}{query}", "/a?b", "a.test:80", 308, "https://a.test/a?b"),
        ("https://{host}{path}{query}", "//b.test", "a.test", 301, "https://a.test//b.test"),
        ("https://{host}:8443{path}", "/", "[::1]:80", 302, "https://[::1]:8443/"),
        ("/new{path}", "//b.test", "a", 307, "/new//b.test"),
        ("{path}/", "/a", "a", 301, "/a/"),
        ("{path}/", "//b.test", "a", 301, "/.//b.test/"),
        ("{path}/", "/\\b.test", "a", 301, "/./\\b.test/"),
        ("https://a.test{path}", "/", "a", 303, "https://a.test/"),
    ] {
        let to = Template::parse(to).expect("a template");
        let there = Redirect { status: if status == 400 { 301 } else { status }, to };
        let head = request(&format!("GET {line} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let listener = listener();
        let facts = facts(&head, &listener);
        let (head, text, body) = written(redirect(&there, &facts), true, &facts);
        assert_eq!((head.status, value(&head, "location").as_str()), (status, location));
        if status != 400 {
            assert_eq!((value(&head, "content-length").as_str(), &*body), ("0", ""), "{text}");
            assert_eq!(value(&head, "cache-control"), "-", "its status says how long it holds");
            assert_eq!(value(&head, "content-type"), "-");
        }
    }
}

#[test]
fn the_client_of_a_call_is_told_in_fields() {
    let listener = busy_page();
    for (kind, status, code) in [
        ("application/grpc", 503, "14"),
        ("application/grpc+proto", 504, "4"),
        ("Application/gRPC;x=y", 404, "12"),
        ("application/grpc", 400, "13"),
        ("application/grpc", 413, "8"),
        ("application/grpc", 501, "2"),
        ("application/grpc-web", 503, "-"),
        ("text/plain", 503, "-"),
    ] {
        let head = request(&format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n\r\n"));
        let facts = facts(&head, &listener);
        let (head, text, said) = written(answer(status, "not now"), true, &facts);
        assert_eq!(value(&head, "grpc-status"), code, "{text}");
        if code != "-" {
            assert_eq!((head.status, said.as_str()), (200, ""), "{text}");
            assert_eq!(value(&head, "content-type"), "application/grpc");
            assert_eq!(value(&head, "grpc-message"), "not now");
        } else {
            assert_eq!(head.status, status, "{text}");
        }
    }
}

#[test]
fn routes_answer_with_their_page() {
    let page = || Some(Page { content_type: "text/plain".into(), body: b"ok".to_vec() });
    for (line, status, page, length, body) in [
        ("GET / HTTP/1.1", 200, page(), "2", "ok"),
        ("GET / HTTP/1.0", 200, page(), "2", "ok"),
        ("HEAD / HTTP/1.1", 200, page(), "2", ""),
        ("GET / HTTP/1.1", 200, None, "0", ""),
        ("GET / HTTP/1.1", 204, page(), "-", ""),
        ("GET / HTTP/1.1", 205, page(), "0", ""),
        ("GET / HTTP/1.1", 304, page(), "-", ""),
        ("GET / HTTP/1.1", 503, page(), "2", "ok"),
        ("GET / HTTP/1.1", 599, page(), "2", "ok"),
    ] {
        let head = request(&format!("{line}\r\nHost: a\r\n\r\n"));
        // The page of the listener is for failures; a route says itself what it has to say.
        let listener = busy_page();
        let respond = Respond { status, page };
        let facts = facts(&head, &listener);
        let (head, text, said) = written(fixed(&respond), true, &facts);
        assert_eq!((value(&head, "content-length").as_str(), &*said), (length, body), "{text}");
        let kept = if status >= 400 { "no-store" } else { "-" };
        assert_eq!(value(&head, "cache-control"), kept);
        assert_eq!(value(&head, "retry-after"), "-");

        let route = of_route("cache-control=max-age=60 content-type=text/css");
        let (head, ..) = written(fixed(&respond), true, &Facts { route: &route, ..facts });
        assert_eq!(value(&head, "cache-control"), "max-age=60", "the route's to say");
        assert_eq!(value(&head, "content-type"), "text/css");
    }
}
