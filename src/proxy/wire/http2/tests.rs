use http::{Request, Response};
use proptest::prelude::*;

use super::*;

const KEY: [u8; 24] = *b"dGhlIHNhbXBsZSBub25jZQ==";

fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).expect("a request").into_parts().0
}

fn read(parts: &request::Parts, ends: bool) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    read_request(parts, ends, &HeadLimits::default(), || KEY, &mut head).map(|()| head)
}

fn lines(fields: &Fields) -> Vec<(&str, &str)> {
    let text = |span| str::from_utf8(fields.get(span)).expect("text");
    fields.lines.iter().map(|line| (text(line.name), text(line.value))).collect()
}

#[test]
fn a_head_reads_as_one_of_http1_would() {
    let fields = [("accept", "*/*"), ("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("x", "2")];
    let parts = request("GET", "http://example.org:81/a?b", &fields);
    let head = read(&parts, true).expect("valid");
    let get = |span| str::from_utf8(head.fields.get(span)).expect("text");
    assert_eq!((get(head.method_name), head.method), ("GET", Method::Get));
    assert_eq!((get(head.path), get(head.authority)), ("/a?b", "example.org:81"));
    assert_eq!((head.version, head.body), (Version::Http2, BodyLength::None));
    assert!(head.keep_alive && !head.expects_continue && head.upgrade.is_none());
    let expected = [("accept", "*/*"), ("cookie", "a=1; b=2"), ("x", "1"), ("x", "2")];
    assert_eq!(lines(&head.fields), expected);
    assert_eq!(head.cookie("b"), Some(&b"2"[..]));
}

#[test]
fn bodies_are_as_long_as_announced_or_end_by_themselves() {
    for (fields, ends, expected) in [
        (&[][..], true, Ok(BodyLength::None)),
        (&[], false, Ok(BodyLength::Chunked)),
        (&[("content-length", "7")], false, Ok(BodyLength::Exactly(7))),
        (&[("content-length", "0")], true, Ok(BodyLength::Exactly(0))),
        (&[("content-length", "7")], true, Err("a body shorter than its length")),
        (
            &[("content-length", "7"), ("content-length", "7")],
            false,
            Err("more than one Content-Length"),
        ),
        (&[("content-length", "7, 7")], false, Err("invalid Content-Length")),
        (&[("content-length", "+7")], false, Err("invalid Content-Length")),
        (&[("content-length", "07")], false, Err("Content-Length with leading zeros")),
    ] {
        let head = read(&request("POST", "http://a/", fields), ends);
        let body = head.map(|head| head.body);
        assert_eq!(body, expected.map_err(HeadError::Ambiguous), "{fields:?} {ends}");
    }
    let expects = |ends| {
        let parts = request("POST", "http://a/", &[("expect", "100-continue")]);
        read(&parts, ends).expect("valid").expects_continue
    };
    assert!(expects(false) && !expects(true));
}

#[test]
fn what_is_ambiguous_or_speaks_of_the_connection_is_refused() {
    for (method, uri, fields) in [
        ("GET", "http://a/", &[("host", "b")][..]),
        ("GET", "/", &[]),
        ("GET", "/", &[("host", "a"), ("host", "a")]),
        ("GET", "http://u@a/", &[]),
        ("GET", "http://a,b/", &[]),
        ("GET", "ftp://a/", &[]),
        ("GET", "*", &[("host", "a")]),
        ("GET", "http://a/\u{e9}", &[]),
        ("GET", "http://a/", &[("connection", "close")]),
        ("GET", "http://a/", &[("keep-alive", "1")]),
        ("GET", "http://a/", &[("proxy-connection", "close")]),
        ("GET", "http://a/", &[("transfer-encoding", "chunked")]),
        ("GET", "http://a/", &[("upgrade", "websocket")]),
        ("GET", "http://a/", &[("te", "gzip")]),
        ("GET", "http://a/", &[("te", "trailers, gzip")]),
        ("GET", "http://a/", &[("x", " padded")]),
        ("GET", "http://a/", &[("cookie", "a=1"), ("cookie", "b=2\t")]),
    ] {
        let found = read(&request(method, uri, fields), true);
        let refused = matches!(found, Err(HeadError::Malformed(_) | HeadError::Ambiguous(_)));
        assert!(refused, "{method} {uri} {fields:?}: {found:?}");
    }
    let same = read(&request("GET", "http://A.example/", &[("host", "a.EXAMPLE")]), true);
    assert_eq!(same.expect("the same host").host(), b"A.example");
    let alone = read(&request("OPTIONS", "*", &[("host", "a"), ("te", "trailers")]), true);
    assert_eq!(alone.expect("valid").host(), b"a");
    let connect = read(&request("CONNECT", "a:443", &[]), false);
    assert_eq!(connect, Err(HeadError::Unsupported("CONNECT is not served here")));
}

#[test]
fn limits_count_crumbs_one_by_one() {
    let crumbs = vec![("cookie", "a=1"); 101];
    let parts = request("GET", "http://a/", &crumbs);
    assert_eq!(read(&parts, true), Err(HeadError::TooManyFields));
    assert!(read(&request("GET", "http://a/", &crumbs[1..]), true).is_ok());
    let long = format!("http://a/{}", "a".repeat(8 * 1024));
    assert_eq!(read(&request("GET", &long, &[]), true), Err(HeadError::TargetTooLong));
}

#[test]
fn an_extended_connect_reads_as_an_upgrade() {
    let mut parts = request("CONNECT", "http://a/chat", &[("sec-websocket-version", "13")]);
    parts.extensions.insert(Protocol::from_static("websocket"));
    let head = read(&parts, false).expect("valid");
    assert_eq!((head.method, head.body), (Method::Get, BodyLength::None));
    assert_eq!(head.upgrade.map(|upgrade| head.fields.get(upgrade)), Some(&b"websocket"[..]));
    assert_eq!(head.fields.value("sec-websocket-key"), Some(&KEY[..]));
    parts.extensions.insert(Protocol::from_static("connect-udp"));
    assert!(matches!(read(&parts, false), Err(HeadError::Unsupported(_))));
}

#[test]
fn calls_say_how_long_they_are_waited_for() {
    for (text, expected) in [
        ("1H", Some(3_600_000_000_000)),
        ("2M", Some(120_000_000_000)),
        ("99999999S", Some(99_999_999_000_000_000)),
        ("5m", Some(5_000_000)),
        ("5u", Some(5_000)),
        ("5n", Some(5)),
        ("123456789S", None),
        ("S", None),
        ("5", None),
        ("-5S", None),
        ("5s", None),
        ("", None),
    ] {
        let fields = [("content-type", "application/grpc"), ("grpc-timeout", text)];
        let of = |method, fields| {
            let head = read(&request(method, "http://a/", fields), true).expect("valid");
            head.grpc_timeout().map(|timeout| timeout.as_nanos())
        };
        assert_eq!(of("POST", &fields), expected, "{text}");
        assert_eq!((of("GET", &fields), of("POST", &fields[1..])), (None, None));
    }
}

#[test]
fn responses() {
    let of = |status: u16, fields: &[(&str, &str)], ends, method| {
        let mut response = Response::builder().status(status);
        for (name, value) in fields {
            response = response.header(*name, *value);
        }
        let parts = response.body(()).expect("a response").into_parts().0;
        let mut head = ResponseHead::default();
        read_response(&parts, ends, method, &mut head).map(|()| head)
    };
    for (status, fields, ends, method, expected) in [
        (200, &[][..], false, Method::Get, BodyLength::Chunked),
        (200, &[], true, Method::Get, BodyLength::None),
        (200, &[("content-length", "3")], false, Method::Get, BodyLength::Exactly(3)),
        (200, &[("content-length", "3")], true, Method::Head, BodyLength::None),
        (304, &[("content-length", "3")], true, Method::Get, BodyLength::None),
        (103, &[], false, Method::Get, BodyLength::None),
    ] {
        let head = of(status, fields, ends, method).expect("valid");
        assert_eq!((head.status, head.body), (status, expected), "{status} {fields:?}");
    }
    for (status, fields) in [
        (101, &[][..]),
        (200, &[("connection", "close")]),
        (200, &[("content-length", "3"), ("content-length", "4")]),
        (200, &[("x", "a ")]),
    ] {
        assert!(of(status, fields, false, Method::Get).is_err(), "{status} {fields:?}");
    }
    assert!(of(200, &[("content-length", "3")], true, Method::Get).is_err());
}

#[test]
fn trailers_that_decide_about_the_message_stay_behind() {
    let map = field_map(b"grpc-status: 0\r\nContent-Length: 1\r\nx-sum: a\r\nhost: b\r\n");
    assert_eq!(map["content-length"], "1");
    assert_eq!(trailer_lines(&map), Ok(b"grpc-status: 0\r\nx-sum: a\r\n".to_vec()));
    let many: HeaderMap =
        (0..33).map(|_| ("a", "b")).fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, HeaderValue::from_static(value));
            map
        });
    assert_eq!(trailer_lines(&many), Err(ChunkError("too many trailer fields")));
}

proptest! {
    /// Lines to a map and back are the same lines, but for the case of names and the order of those that
    /// differ in name.
    #[test]
    fn lines_survive_a_map(
        fields in proptest::collection::vec(("[a-zA-Z][a-z0-9-]{0,12}", "([!-~]([ -~]{0,20}[!-~])?)?"), 0..20),
    ) {
        let mut text = Vec::new();
        for (name, value) in &fields {
            write_field(name.as_bytes(), value.as_bytes(), &mut text);
        }
        let map = field_map(&text);
        prop_assert_eq!(map.len(), fields.len());
        for name in map.keys() {
            let expected = fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_str()));
            let expected: Vec<&str> = expected.map(|(_, value)| value.as_str()).collect();
            let found: Vec<_> = map.get_all(name).iter().collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// Whatever is read has lines that stand in its bytes as HTTP/1.1 would write them.
    #[test]
    fn laid_out_lines_are_lines(
        fields in proptest::collection::vec(("(cookie|x-[a-z]{1,3}|accept)", "[!-~]{0,9}"), 0..30),
    ) {
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let head = read(&request("GET", "http://a/", &fields), true).expect("valid");
        for field in &head.fields.lines {
            let from = &head.fields.bytes[field.name.start as usize..];
            let Ok(Some(Line::Field(line))) = line::read(from) else {
                return Err(TestCaseError::fail("not a line"));
            };
            prop_assert_eq!(line.name as u32, field.name.len);
            prop_assert_eq!((line.value_end - line.value) as u32, field.value.len);
        }
    }
}
