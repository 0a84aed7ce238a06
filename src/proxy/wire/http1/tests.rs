use super::*;
use crate::proxy::rewrite::UNCHANGED;
use crate::proxy::rewrite::fixture::{facts, listener, onward};
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead};

fn request(text: &str) -> Result<RequestHead, HeadError> {
    let mut head = RequestHead::default();
    parse_request(text.as_bytes(), &LIMITS, &mut head).map(|len| {
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

const LIMITS: HeadLimits = HeadLimits { fields: 100, target: 8192, allow_connect: false };

#[test]
fn targets_and_hosts() {
    for (line, host, path, authority) in [
        ("GET / HTTP/1.1", "a", "/", "a"),
        ("GET http://b:80/x HTTP/1.1", "a", "/x", "b:80"),
        ("OPTIONS * HTTP/1.1", "a", "*", "a"),
        ("GET http://b/%20?q=a HTTP/1.1", "a", "/%20?q=a", "b"),
        ("GET / HTTP/1.1", "[::1]:80", "/", "[::1]:80"),
        ("GET HTTP://b HTTP/1.1", "a", "/", "b"),
        ("GET http://b?x=/ HTTP/1.1", "a", "/?x=/", "b"),
        ("GET http://b:80?x HTTP/1.0", "a", "/?x", "b:80"),
        ("OPTIONS http://b HTTP/1.1", "a", "*", "b"),
        ("OPTIONS http://b/ HTTP/1.1", "a", "/", "b"),
        ("OPTIONS http://b?x HTTP/1.1", "a", "/?x", "b"),
        ("GET //b/x HTTP/1.1", "a", "//b/x", "a"),
        ("GET / HTTP/1.1", "a:", "/", "a:"),
        ("GET / HTTP/1.1", "[2001:db8::192.0.2.1]", "/", "[2001:db8::192.0.2.1]"),
        ("GET / HTTP/1.1", "a%2f-._~!$&'()*+;=", "/", "a%2f-._~!$&'()*+;="),
    ] {
        let head = request(&format!("{line}\r\nHost: {host}\r\n\r\n")).expect(line);
        assert_eq!(head.fields.get(head.path), path.as_bytes());
        assert_eq!(head.fields.get(head.authority), authority.as_bytes());
    }
    assert_eq!(request("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n").expect("v6").host(), b"[::1]");
}

/// Each as start line, `|`, and a field beside Host.
#[test]
fn what_is_no_request_is_refused_with_its_reason() {
    use HeadError::{Expectation, TargetTooLong, TooManyFields, Unsupported, Version};
    const BAD: HeadError = HeadError::Malformed("");
    const TWO: HeadError = HeadError::Ambiguous("");
    let other = Unsupported("");
    let long = format!("GET /{} HTTP/1.1|", "x".repeat(8192));
    let method = format!("{} / HTTP/1.1|", "X".repeat(65));
    let many = format!("GET / HTTP/1.1|{}A: b", "A: b\r\n".repeat(99));
    let options = format!("GET / HTTP/1.1|Connection: {}", "a,".repeat(64));
    let cases = [
        // Request lines.
        ("GET  / HTTP/1.1|", BAD),
        ("GET /  HTTP/1.1|", BAD),
        ("GET\t/ HTTP/1.1|", BAD),
        (" GET / HTTP/1.1|", BAD),
        ("\r\n\r\nGET / HTTP/1.1|", BAD),
        ("\nGET / HTTP/1.1|", BAD),
        ("GET / HTTP/1.1 |", BAD),
        ("GET / HTTP/1.10|", BAD),
        ("GET / http/1.1|", BAD),
        ("GET / HTTP/1|", BAD),
        ("GET / HTTP/01.1|", BAD),
        ("GET / HTTP /1.1|", BAD),
        ("GET / XTTP/1.1|", BAD),
        ("GET /|", BAD),
        ("GET|", BAD),
        ("G(T / HTTP/1.1|", BAD),
        ("G\u{e9}T / HTTP/1.1|", BAD),
        ("GET / HTTP/2.0|", Version),
        ("GET / HTTP/1.2|", Version),
        ("GET / HTTP/0.9|", Version),
        (&method, other),
        // Targets.
        ("GET x HTTP/1.1|", BAD),
        ("GET a:80 HTTP/1.1|", BAD),
        ("GET * HTTP/1.1|", BAD),
        ("GET /# HTTP/1.1|", BAD),
        ("GET /\0 HTTP/1.1|", BAD),
        ("GET /\x7f HTTP/1.1|", BAD),
        ("GET /\u{e9} HTTP/1.1|", BAD),
        ("GET ftp://h/ HTTP/1.1|", BAD),
        ("GET http://u@h/ HTTP/1.1|", BAD),
        ("GET http:/// HTTP/1.1|", BAD),
        ("GET http://:80/ HTTP/1.1|", BAD),
        ("GET http://a,b/ HTTP/1.1|", BAD),
        ("GET http://h:65536/ HTTP/1.1|", BAD),
        ("CONNECT a:80 HTTP/1.1|", other),
        (&long, TargetTooLong),
        // Fields.
        ("GET / HTTP/1.1|X : b", BAD),
        ("GET / HTTP/1.1|X\t: b", BAD),
        ("GET / HTTP/1.1|X: b\r\n c", BAD),
        ("GET / HTTP/1.1| X: b", BAD),
        ("GET / HTTP/1.1|X: b\0c", BAD),
        ("GET / HTTP/1.1|X: b\rc", BAD),
        ("GET / HTTP/1.1|X: b\nY: c", BAD),
        ("GET / HTTP/1.1|X: b\r", BAD),
        ("GET / HTTP/1.1|X: \x0b", BAD),
        ("GET / HTTP/1.1|X: \x7f", BAD),
        ("GET / HTTP/1.1|: b", BAD),
        ("GET / HTTP/1.1|X[]: b", BAD),
        ("GET / HTTP/1.1|X\u{e9}: b", BAD),
        ("GET / HTTP/1.1|X", BAD),
        ("GET / HTTP/1.1|Expect: 200-ok", Expectation),
        ("GET / HTTP/1.1|Expect:", Expectation),
        ("GET / HTTP/1.1|Expect: 100-continue, 100-continue", Expectation),
        (&many, TooManyFields),
        (&options, BAD),
        // Framing.
        ("POST / HTTP/1.1|Content-Length: 1\r\nTransfer-Encoding: chunked", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked\r\nContent-Length: 0", TWO),
        ("POST / HTTP/1.1|Content-Length: 1\r\nContent-Length: 1", TWO),
        ("POST / HTTP/1.1|Content-Length: 1\r\nContent-Length: 2", TWO),
        ("POST / HTTP/1.1|Content-Length: 1, 1", TWO),
        ("POST / HTTP/1.1|Content-Length: +1", TWO),
        ("POST / HTTP/1.1|Content-Length: -0", TWO),
        ("POST / HTTP/1.1|Content-Length: 0x1", TWO),
        ("POST / HTTP/1.1|Content-Length: 1_0", TWO),
        ("POST / HTTP/1.1|Content-Length: 1 0", TWO),
        ("POST / HTTP/1.1|Content-Length: 1.0", TWO),
        ("POST / HTTP/1.1|Content-Length: 00", TWO),
        ("POST / HTTP/1.1|Content-Length: 0200", TWO),
        ("POST / HTTP/1.1|Content-Length: \u{661}", TWO),
        ("POST / HTTP/1.1|Content-Length:", TWO),
        ("POST / HTTP/1.1|Content-Length: 99999999999999999999", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding:", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked,", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: ,chunked", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked, chunked", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked, gzip", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked;a=b", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: \"chunked\"", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: chunked\r\nTransfer-Encoding: x", TWO),
        ("POST / HTTP/1.1|Transfer-Encoding: gzip, chunked", other),
        ("POST / HTTP/1.1|Transfer-Encoding: gzip", other),
        ("POST / HTTP/1.1|Transfer-Encoding: identity", other),
        ("POST / HTTP/1.1|Transfer-Encoding: xchunked", other),
        ("POST / HTTP/1.0|Transfer-Encoding: chunked", TWO),
        ("POST / HTTP/1.0|Transfer-Encoding: identity\r\nContent-Length: 1", TWO),
        ("TRACE / HTTP/1.1|Content-Length: 1", TWO),
        // A second Host, whatever it says.
        ("GET / HTTP/1.1|Host: a", TWO),
        ("GET / HTTP/1.1|Host: b", TWO),
        ("GET http://a/ HTTP/1.1|host:a", TWO),
        ("GET / HTTP/1.0|Host: b", TWO),
    ];
    for (case, expected) in cases {
        let (line, field) = case.split_once('|').expect("two parts");
        let field = if field.is_empty() { String::new() } else { format!("{field}\r\n") };
        let text = format!("{line}\r\nHost: a\r\n{field}\r\n");
        let refused = request(&text).expect_err(&text);
        assert_eq!(
            std::mem::discriminant(&refused),
            std::mem::discriminant(&expected),
            "{text:?}: {refused:?}"
        );
    }
}

#[test]
fn a_host_that_is_none_is_refused() {
    for host in [
        "",
        " ",
        ":80",
        "a b",
        "a/b",
        "a:b",
        "a:65536",
        "a:1:2",
        "a@b",
        "a,b",
        "a?b",
        "a#b",
        "a\\b",
        "a%zz",
        "a%2",
        "<a>",
        "[::1",
        "[::1]x",
        "[::1]:x",
        "[]",
        "[a]",
        "[v1.a]",
        "[::1%25lo]",
        "::1",
        "\u{e9}",
    ] {
        for line in ["GET / HTTP/1.1", "GET / HTTP/1.0", "GET http://a/ HTTP/1.1"] {
            let text = format!("{line}\r\nHost: {host}\r\n\r\n");
            assert!(matches!(request(&text), Err(HeadError::Malformed(_))), "{text:?}");
        }
    }
    assert!(request("GET / HTTP/1.1\r\n\r\n").is_err());
    assert!(request("GET http://a/ HTTP/1.1\r\n\r\n").is_err());
    assert!(request("GET / HTTP/1.0\r\n\r\n").is_ok(), "HTTP/1.0 has no Host");
}

#[test]
fn what_is_odd_and_clear_is_accepted() {
    for field in [
        "X:b",
        "X:\tb\t ",
        "X:",
        "X: \u{e9}",
        "!#$%&'*+-.^_`|~: b",
        "Content-Length: 0",
        "Content-Length:\t7 ",
        "Transfer-Encoding: CHUNKED",
        "transfer-encoding:\tchunked\t",
        "Connection: ,,close",
        "Expect: 100-Continue",
    ] {
        let text = format!("\r\nPOST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        request(&text).expect(&text);
    }
    let limits = HeadLimits { fields: 1_000, ..LIMITS };
    let with = |n| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(n - 1));
    let mut head = RequestHead::default();
    assert!(parse_request(with(FIELDS_MAX).as_bytes(), &limits, &mut head).is_ok());
    let result = parse_request(with(FIELDS_MAX + 1).as_bytes(), &limits, &mut head);
    assert_eq!(result, Err(HeadError::TooManyFields));
}

#[test]
fn connect_is_read_where_it_is_allowed() {
    let limits = HeadLimits { allow_connect: true, ..LIMITS };
    let read = |target: &str, field: &str| {
        let mut head = RequestHead::default();
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n{field}\r\n");
        parse_request(text.as_bytes(), &limits, &mut head).map(|_| head)
    };
    for target in ["b:443", "[::1]:1"] {
        let head = read(target, "").expect(target);
        assert_eq!(head.fields.get(head.authority), target.as_bytes());
        assert!(head.path_only().is_empty() && head.upgrade.is_none());
    }
    for target in ["b", "b:", "/", "*", "http://b:443/", "u@b:1", ":1"] {
        assert!(read(target, "").is_err(), "{target}");
    }
    assert!(read("b:1", "Content-Length: 1\r\n").is_err());
    assert!(read("b:1", "Transfer-Encoding: chunked\r\n").is_err());
}

#[test]
fn a_switch_is_asked_for_properly_or_not_at_all() {
    let asked = |line: &str, fields: &str| {
        let head = request(&format!("{line}\r\nHost: a\r\n{fields}\r\n\r\n")).expect(fields);
        head.upgrade.map(|span| String::from_utf8_lossy(head.fields.get(span)).into_owned())
    };
    let get = "GET / HTTP/1.1";
    for (line, fields, expected) in [
        (get, "Connection: Upgrade\r\nUpgrade: websocket", Some("websocket")),
        (get, "Upgrade: WebSocket\r\nConnection: keep-alive, upgrade", Some("WebSocket")),
        (get, "Connection: upgrade\r\nUpgrade: h2c, HTTP/2.0, , foo/1", Some("foo/1")),
        (get, "Connection: upgrade\r\nUpgrade: H2C\r\nUpgrade: a, b", Some("a")),
        (get, "Connection: upgrade\r\nUpgrade: h2c", None),
        (get, "Connection: upgrade, HTTP2-Settings\r\nUpgrade: HTTP/2", None),
        (get, "Connection: upgrade\r\nUpgrade: TLS/1.3", None),
        (get, "Connection: upgrade\r\nUpgrade: web socket", None),
        (get, "Connection: upgrade\r\nUpgrade: /1", None),
        (get, "Connection: upgrade\r\nUpgrade: a/b/c", None),
        (get, "Connection: upgrade", None),
        (get, "Upgrade: websocket", None),
        (get, "Connection: \"upgrade\"\r\nUpgrade: websocket", None),
        ("GET / HTTP/1.0", "Connection: upgrade\r\nUpgrade: websocket", None),
        ("POST / HTTP/1.1", "Connection: upgrade\r\nUpgrade: websocket", None),
        (
            "POST / HTTP/1.1",
            "Connection: upgrade\r\nUpgrade: tcp\r\nContent-Length: 0",
            Some("tcp"),
        ),
        ("POST / HTTP/1.1", "Connection: upgrade\r\nUpgrade: tcp\r\nContent-Length: 1", None),
    ] {
        assert_eq!(asked(line, fields).as_deref(), expected, "{line} {fields}");
    }
    let switched = |line: &str, fields: &str| {
        let head = response(&format!("{line}\r\n{fields}\r\n\r\n"), Method::Get).expect(fields);
        assert!(head.body == BodyLength::None);
        head.upgrade.map(|span| String::from_utf8_lossy(head.fields.get(span)).into_owned())
    };
    let yes = "HTTP/1.1 101 Switching Protocols";
    for (line, fields, expected) in [
        (yes, "Connection: upgrade\r\nUpgrade: websocket", Some("websocket")),
        (yes, "Connection: upgrade\r\nUpgrade: h2c", Some("h2c")),
        (yes, "Connection: upgrade\r\nUpgrade: a, b", None),
        (yes, "Connection: upgrade\r\nUpgrade: a\r\nUpgrade: a", None),
        (yes, "Upgrade: websocket", None),
        (yes, "Connection: upgrade", None),
        ("HTTP/1.0 101 X", "Connection: upgrade\r\nUpgrade: websocket", None),
        ("HTTP/1.1 200 OK", "Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 0", None),
    ] {
        let found = if line.contains("200") {
            let text = format!("{line}\r\n{fields}\r\n\r\n");
            response(&text, Method::Get).expect("one").upgrade.map(|_| String::new())
        } else {
            switched(line, fields)
        };
        assert_eq!(found.as_deref(), expected, "{line} {fields}");
    }
}

#[test]
fn fields_that_pass_for_ours_behind_our_back_stay_here() {
    let head = request(
        "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nx-forwarded_host: evil\r\n\
         Content_Length: 5\r\nTRANSFER_ENCODING: chunked\r\nMy_Own: 1\r\nA_fourteen_xy: 1\r\n\r\n",
    )
    .expect("a request");
    assert_eq!(head.body, BodyLength::None);
    let mut out = Vec::new();
    write_request(&facts(&head, &listener()), &onward(&UNCHANGED), &mut out);
    let out = String::from_utf8(out).expect("text").to_ascii_lowercase();
    for gone in ["6.6.6.6", "evil", "content_length", "transfer_encoding"] {
        assert!(!out.contains(gone), "{out}");
    }
    assert!(out.contains("my_own: 1\r\na_fourteen_xy: 1\r\n"), "{out}");
}

#[test]
fn whatever_connection_nominates_stays_here() {
    let head = request(
        "POST / HTTP/1.1\r\nhost: a\r\nX-A: 1\r\nconnection: x-a, Host\r\nContent-Length: 2\r\n\
         Connection:\tContent-Length ,X-B\r\nx-b: 1\r\nX-AB: 1\r\n\r\n",
    )
    .expect("a request");
    assert!(head.keep_alive);
    let mut out = Vec::new();
    write_request(&facts(&head, &listener()), &onward(&UNCHANGED), &mut out);
    let out = String::from_utf8(out).expect("text").to_ascii_lowercase();
    assert!(out.contains("\r\nhost: a\r\n") && out.contains("\r\ncontent-length: 2\r\n"), "{out}");
    assert!(out.contains("x-ab: 1") && !out.contains("x-a:") && !out.contains("x-b:"), "{out}");
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
    use BodyLength::{Chunked, Exactly, None, UntilClose};
    let (get, head, connect) = (Method::Get, Method::Head, Method::Connect);
    let chunked = "Transfer-Encoding: chunked\r\n";
    // Whether the connection may be used again is in the last column.
    for (method, status, field, body, stays) in [
        (get, "200", "Content-Length: 5\r\n", Exactly(5), true),
        (get, "200", "Content-Length: 005\r\n", Exactly(5), true),
        (get, "200", chunked, Chunked, true),
        (get, "200", "", UntilClose, false),
        (get, "205", "Content-Length: 0\r\n", Exactly(0), true),
        (get, "205", "", UntilClose, false),
        (head, "200", "Content-Length: 5\r\n", None, true),
        (head, "200", chunked, None, true),
        (head, "200", "", None, true),
        (get, "304", "Content-Length: 5\r\n", None, true),
        (get, "304", chunked, None, true),
        (get, "204", "", None, true),
        (get, "204", "Content-Length: 0\r\n", None, true),
        (get, "204", "Content-Length: 5\r\n", None, false),
        (get, "204", chunked, None, false),
        (get, "100", "", None, true),
        (get, "103", "Content-Length: 0\r\n", None, true),
        (connect, "200", "Content-Length: 5\r\n", None, false),
        (connect, "299", chunked, None, false),
        (connect, "403", "Content-Length: 5\r\n", Exactly(5), true),
        (get, "200", "Connection: close\r\nContent-Length: 5\r\n", Exactly(5), false),
        (get, "200", "Connection: keep-alive, close\r\nContent-Length: 5\r\n", Exactly(5), false),
    ] {
        let text = format!("HTTP/1.1 {status} OK\r\n{field}\r\n");
        let head = response(&text, method).expect("a response");
        assert_eq!((head.body, head.keep_alive), (body, stays), "{method:?} {text:?}");
    }
    let old = response("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", get).expect("one");
    assert!(!old.keep_alive);
    let text = "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\n";
    assert!(response(text, get).expect("one").keep_alive);
}

#[test]
fn what_is_no_response_is_refused() {
    for start in [
        "HTTP/1.1 99 X",
        "HTTP/1.1 600 X",
        "HTTP/1.1 000 X",
        "HTTP/1.1 0200 X",
        "HTTP/1.1 20 X",
        "HTTP/1.1 2x0 X",
        "HTTP/1.1  200 X",
        "HTTP/1.1 200\tX",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200 O\nK",
        "HTTP/1.1 -20 X",
        "HTTP/1.1 +20 X",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "http/1.1 200 X",
        "HTTP/2.0 200 X",
        "HTTP/1.2 200 X",
        "HTTP/1 200 X",
        "ICY 200 OK",
        "\r\nHTTP/1.1 200 X",
        " HTTP/1.1 200 X",
    ] {
        let text = format!("{start}\r\nContent-Length: 0\r\n\r\n");
        assert!(response(&text, Method::Get).is_err(), "{text:?} must be refused");
    }
    for fields in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1, 1",
        "Content-Length: -1",
        "Content-Length: a",
        "Content-Length:",
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding:",
        "A: b\r\n c",
        "A : b",
        "A: b\nB: c",
        "A: b\rc",
        "A: \0",
        "A\0: b",
        ": b",
        "A",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
        assert!(response(&text, Method::Get).is_err(), "{text:?} must be refused");
    }
    for text in [
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 X\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 101 X\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\n",
    ] {
        assert!(response(text, Method::Get).is_err(), "{text:?} must be refused");
    }
    for (start, reason) in [
        ("HTTP/1.1 200", ""),
        ("HTTP/1.1 200 ", ""),
        ("HTTP/1.1 404 Gibt's\tnicht \u{e9}", "Gibt's\tnicht \u{e9}"),
        ("HTTP/1.0 200  OK ", " OK "),
    ] {
        // Host and Expect mean nothing in a response.
        let text = format!("{start}\r\nHost: a\r\nHost: b c\r\nExpect: x\r\n\r\n");
        let head = response(&text, Method::Get).expect(start);
        assert_eq!(head.fields.get(head.reason), reason.as_bytes());
    }
}

#[test]
fn heads_may_come_in_any_pieces() {
    let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
    let mut head = RequestHead::default();
    for cut in 0..text.len() - 4 {
        assert_eq!(parse_request(&text[..cut], &LIMITS, &mut head), Ok(None), "cut at {cut}");
    }
    assert_eq!(parse_request(text, &LIMITS, &mut head), Ok(Some(text.len() - 4)));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(input in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let _ = parse_request(&input, &LIMITS, &mut RequestHead::default());
        let _ = parse_response(&input, Method::Get, &mut ResponseHead::default());
    }
}
