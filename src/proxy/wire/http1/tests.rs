use super::*;
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead};

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
}
