use super::*;
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead, Version};

fn request(text: &str) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    parse_request(text.as_bytes(), &mut head).map(|len| {
        assert_eq!(len, Some(text.len()), "the whole text is one head");
        head
    })
}

fn response(text: &str, method: Method) -> Result<ResponseHead, HeadError> {
    let mut head = ResponseHead::default();
    parse_response(text.as_bytes(), method, &mut head).map(|len| {
        assert_eq!(len, Some(text.len()), "the whole text is one head");
        head
    })
}

const FORWARDED: Forwarded<'_> = Forwarded { client: "192.0.2.7", scheme: "http" };

#[test]
fn a_request_goes_on_with_our_framing_and_without_this_hops_fields() {
    let head = request(
        "POST /a?b=c HTTP/1.1\r\nHost: Example.com:8080\r\nConnection: close, X-Secret\r\n\
         X-Secret: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: h2c\r\n\
         X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nAccept: */*\r\n\
         Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    )
    .expect("a request");
    assert!(!head.keep_alive && head.expects_continue);
    assert_eq!(head.body, BodyLength::Exactly(3));
    assert_eq!((head.path_only(), head.host()), (&b"/a"[..], &b"Example.com"[..]));
    let mut out = Vec::new();
    write_request(&head, FORWARDED, &mut out);
    assert_eq!(
        String::from_utf8(out).expect("text"),
        "POST /a?b=c HTTP/1.1\r\nhost: Example.com:8080\r\nAccept: */*\r\n\
         x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\
         x-forwarded-host: Example.com:8080\r\ncontent-length: 3\r\n\r\n"
    );
}

#[test]
fn targets_and_hosts() {
    for (line, host, path, authority) in [
        ("GET / HTTP/1.1", "a", "/", "a"),
        ("GET http://b:80/x HTTP/1.1", "a", "/x", "b:80"),
        ("OPTIONS * HTTP/1.1", "a", "*", "a"),
        ("GET http://b/%20?q=a HTTP/1.1", "", "/%20?q=a", "b"),
        ("GET / HTTP/1.1", "[::1]:80", "/", "[::1]:80"),
        ("GET / HTTP/1.1", "", "/", ""),
    ] {
        let head = request(&format!("{line}\r\nHost: {host}\r\n\r\n")).expect(line);
        assert_eq!(head.fields.get(head.path), path.as_bytes());
        assert_eq!(head.fields.get(head.authority), authority.as_bytes());
    }
    assert_eq!(request("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").expect("v6").host(), b"[::1]");
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(101));
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /# HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\n\r\n",
        long.as_str(),
    ] {
        assert!(request(text).is_err(), "{text:?} must be refused");
    }
}

#[test]
fn connections_stay_or_close_by_version_and_field() {
    for (version, field, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n");
        assert_eq!(request(&text).expect("a request").keep_alive, stays, "{text:?}");
    }
}

#[test]
fn response_bodies_follow_rfc_9112_section_6_3() {
    for (method, status, field, body) in [
        (Method::Get, 200, "Content-Length: 5\r\n", BodyLength::Exactly(5)),
        (Method::Get, 200, "Transfer-Encoding: chunked\r\n", BodyLength::Chunked),
        (Method::Get, 200, "", BodyLength::UntilClose),
        (Method::Head, 200, "Content-Length: 5\r\n", BodyLength::None),
        (Method::Get, 204, "", BodyLength::None),
        (Method::Get, 304, "Content-Length: 5\r\n", BodyLength::None),
        (Method::Get, 100, "", BodyLength::None),
    ] {
        let text = format!("HTTP/1.1 {status} OK\r\n{field}\r\n");
        let head = response(&text, method).expect("a response");
        assert_eq!(head.body, body, "{method:?} {text:?}");
        assert_eq!(head.keep_alive, body != BodyLength::UntilClose);
    }
    for text in [
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 600 X\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
    ] {
        assert!(response(text, Method::Get).is_err(), "{text:?} must be refused");
    }
}

#[test]
fn a_response_is_written_for_the_clients_version() {
    let head = response(
        "HTTP/1.0 200 Fine\r\nServer: x\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n",
        Method::Get,
    )
    .expect("a response");
    let write = |body, keep_alive, version| {
        let mut out = Vec::new();
        write_response(&head, body, keep_alive, version, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(
        write(head.body, true, Version::Http11),
        "HTTP/1.1 200 Fine\r\nServer: x\r\ncontent-length: 2\r\n\r\n"
    );
    assert_eq!(
        write(BodyLength::UntilClose, false, Version::Http10),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(
        write(BodyLength::None, true, Version::Http10),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nContent-Length: 2\r\nconnection: keep-alive\r\n\r\n"
    );
}

#[test]
fn a_204_announces_no_body() {
    let head = response("HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", Method::Get).expect("one");
    let mut out = Vec::new();
    write_response(&head, head.body, true, Version::Http11, &mut out);
    assert_eq!(out, b"HTTP/1.1 204 No\r\n\r\n");
}

#[test]
fn heads_may_come_in_any_pieces() {
    let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    let mut head = RequestHead::default();
    for cut in 0..text.len() - 4 {
        assert_eq!(parse_request(&text[..cut], &mut head), Ok(None), "cut at {cut}");
    }
    assert_eq!(parse_request(text, &mut head), Ok(Some(text.len() - 4)));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(input in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = parse_request(&input, &mut RequestHead::default());
        let _ = parse_response(&input, Method::Get, &mut ResponseHead::default());
    }

    /// Whatever we forward, a strict parser (ours) reads as the same request.
    #[test]
    fn what_is_written_reads_back(
        path in "/[a-z0-9/%?=&]{0,30}",
        host in "[a-z0-9.-]{1,20}",
        names in proptest::collection::vec("x-[a-z]{1,10}", 0..8),
        value in "[ -~]{0,40}",
        length in proptest::option::of(0u64..1_000_000),
    ) {
        let mut text = format!("PUT {path} HTTP/1.1\r\nHost: {host}\r\n");
        for name in &names {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        text.push_str("\r\n");
        let head = request(&text).expect("a request");
        let mut out = Vec::new();
        write_request(&head, FORWARDED, &mut out);
        let again = request(std::str::from_utf8(&out).expect("text")).expect("reads back");
        proptest::prop_assert_eq!(again.fields.get(again.path), head.fields.get(head.path));
        proptest::prop_assert_eq!(again.fields.get(again.authority), host.as_bytes());
        proptest::prop_assert_eq!(again.body, head.body);
        for name in &names {
            proptest::prop_assert_eq!(again.fields.value(name), Some(value.trim().as_bytes()));
        }
    }
}
