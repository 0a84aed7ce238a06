use std::sync::Arc;

use super::*;
use crate::model::{ClientAuth, FieldEdits, Listener, ListenerTls, Part, TlsVersion, Variable};
use crate::proxy::rewrite::UNCHANGED;
use crate::proxy::rewrite::fixture::{edits, facts, listener, onward, request};
use crate::proxy::wire::http1::HeadLimits;
use crate::proxy::wire::http1::{parse_request, parse_response};
use crate::proxy::wire::{Method, RequestHead};

fn response(text: &str) -> ResponseHead {
    let mut head = ResponseHead::default();
    let len = parse_response(text.as_bytes(), Method::Get, &mut head).expect("a response");
    assert_eq!(len, Some(text.len()), "the whole text is one head");
    head
}

fn written(facts: &Facts<'_>, pool: &Rewrite) -> String {
    let mut out = Vec::new();
    write_request(facts, &onward(pool), &mut out);
    String::from_utf8(out).expect("text")
}

fn to_request(edits: FieldEdits) -> Rewrite {
    Rewrite { request: edits, response: FieldEdits::default() }
}

fn to_response(edits: FieldEdits) -> Rewrite {
    Rewrite { request: FieldEdits::default(), response: edits }
}

/// The lines of `head` whose names begin so, without their ends, in their order.
fn lines(head: &str, names: &[&str]) -> Vec<String> {
    let is_one = |line: &&str| names.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    head.split("\r\n").filter(is_one).map(str::to_owned).collect()
}

#[test]
fn a_request_goes_on_with_our_framing_and_without_this_hops_fields() {
    let head = request(
        "POST /a?b=c HTTP/1.1\r\nHost: Example.com:8080\r\nConnection: close, X-Secret\r\n\
         X-Secret: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: h2c\r\n\
         X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nAccept: */*\r\n\
         Expect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(!head.keep_alive && head.expects_continue);
    assert_eq!(head.body, BodyLength::Exactly(3));
    assert_eq!((head.path_only(), head.host()), (&b"/a"[..], &b"Example.com"[..]));
    assert_eq!(
        written(&facts(&head, &listener()), &UNCHANGED),
        "POST /a?b=c HTTP/1.1\r\nhost: Example.com:8080\r\nAccept: */*\r\n\
         x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\n\
         x-forwarded-host: Example.com:8080\r\nvia: 1.1 tidegate\r\ncontent-length: 3\r\n\r\n"
    );
}

#[test]
fn instances_are_told_of_the_client_as_far_as_its_peer_is_trusted() {
    const CAME: &str = "X-Forwarded-For: 198.51.100.1, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
        x-forwarded-for: 10.0.0.2\r\nX-Forwarded-For:\r\nX-Forwarded-Host: shop.test\r\n\
        Forwarded: for=198.51.100.1;proto=https\r\n";
    const OURS: [&str; 3] =
        ["x-forwarded-for: 192.0.2.7", "x-forwarded-proto: http", "x-forwarded-host: a.test"];
    const ELEMENT: &str = "for=192.0.2.7;host=a.test;proto=http";
    use ForwardedStyle::{Both, Off, Rfc7239, XForwarded};
    let alone = format!("forwarded: {ELEMENT}");
    let behind = format!("forwarded: for=198.51.100.1;proto=https, {ELEMENT}");
    let kept = [
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: shop.test",
        "x-forwarded-for: 198.51.100.1, 10.0.0.1, 10.0.0.2, 192.0.2.7",
    ];
    for (style, trusted, came, expected) in [
        (XForwarded, false, "", OURS.to_vec()),
        (XForwarded, false, CAME, OURS.to_vec()),
        (XForwarded, true, "", OURS.to_vec()),
        (XForwarded, true, CAME, kept.to_vec()),
        (Rfc7239, false, "", vec![&*alone]),
        (Rfc7239, false, CAME, vec![&*alone]),
        (Rfc7239, true, "", vec![&*alone]),
        (Rfc7239, true, CAME, vec![&*behind]),
        (Both, false, CAME, [&OURS[..], &[&*alone]].concat()),
        (Both, true, CAME, [&kept[..], &[&*behind]].concat()),
        (Off, false, CAME, vec![]),
        (Off, true, CAME, vec![]),
    ] {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{came}\r\n"));
        let listener = Listener { forwarded: style, ..listener() };
        let facts = Facts { trusted, ..facts(&head, &listener) };
        let told = lines(&written(&facts, &UNCHANGED), &["x-forwarded-", "forwarded"]);
        assert_eq!(told, expected, "{style:?}, trusted: {trusted}, {came:?}");
    }
}

/// A listener that tells of verified clients in `x-who`; another one does in `x-client-subject`.
fn verifying() -> Listener {
    let tls = ListenerTls {
        certificates: Vec::new(),
        client_ca: Some("ca.pem".into()),
        client_auth: ClientAuth::Optional,
        client_subject: "x-who".into(),
        min_version: TlsVersion::Tls12,
    };
    let client_subjects = ["x-client-subject".to_owned(), "x-who".to_owned()].into();
    Listener { tls: Some(tls.into()), client_subjects, ..listener() }
}

#[test]
fn only_we_tell_of_verified_clients() {
    const FORGED: &str = "X-Who: CN=admin\r\nx_who: CN=admin\r\nX.Who: CN=admin\r\nx-whom: me\r\nx-wh: o\r\n\
        X-Client-Subject: CN=admin\r\nX-Client_Subject: CN=admin\r\nx-client-subjects: 1\r\n";
    const KEPT: [&str; 3] = ["x-whom: me", "x-wh: o", "x-client-subjects: 1"];
    let names = ["x-wh", "x_wh", "x.wh", "x-client", "x_client"];
    let verifying = verifying();
    // A listener that verifies nobody drops what others tell all the same.
    let plain = Listener { tls: None, ..verifying.clone() };
    let unasked =
        ListenerTls { client_ca: None, ..(**verifying.tls.as_ref().expect("TLS")).clone() };
    let unasked = Listener { tls: Some(unasked.into()), ..verifying.clone() };
    for (listener, client_subject, told) in [
        (&verifying, Some("CN=alice,O=Tide\\, Inc."), Some("x-who: CN=alice,O=Tide\\, Inc.")),
        (&verifying, Some(""), Some("x-who: ")),
        (&verifying, None, None),
        (&plain, None, None),
        (&plain, Some("CN=alice"), None),
        (&unasked, Some("CN=alice"), None),
    ] {
        for (connection, trusted) in [("", false), ("", true), ("Connection: x-who\r\n", false)] {
            let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{connection}{FORGED}\r\n"));
            let facts = Facts { client_subject, trusted, ..facts(&head, listener) };
            let found = lines(&written(&facts, &UNCHANGED), &names);
            let expected: Vec<&str> = KEPT.into_iter().chain(told).collect();
            assert_eq!(found, expected, "{client_subject:?}, trusted: {trusted}, {connection:?}");
        }
    }
    // Where nobody is verified, the names are like any other.
    let listener = Listener { client_subjects: Arc::default(), ..plain };
    let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{FORGED}\r\n"));
    assert_eq!(lines(&written(&facts(&head, &listener), &UNCHANGED), &names).len(), 8);
    // An operator may say something else.
    let pool = to_request(edits("x-who=nobody"));
    let facts = Facts { client_subject: Some("CN=alice"), ..facts(&head, &verifying) };
    assert_eq!(lines(&written(&facts, &pool), &["x-who:"]), ["x-who: nobody"]);
}

#[test]
fn a_connection_field_takes_nothing_from_what_we_tell() {
    let head = request(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n\
         Connection: x-forwarded-for, x-forwarded-proto, via\r\nVia: 1.1 x\r\n\r\n",
    );
    for trusted in [false, true] {
        let listener = listener();
        let text = written(&Facts { trusted, ..facts(&head, &listener) }, &UNCHANGED);
        assert_eq!(
            lines(&text, &["x-forwarded-for", "x-forwarded-proto", "via"]),
            ["x-forwarded-for: 192.0.2.7", "x-forwarded-proto: http", "via: 1.1 tidegate"]
        );
    }
}

#[test]
fn forwarded_quotes_what_is_no_token() {
    for (client, host, came, expected) in [
        ("192.0.2.7", "a.test:80", "", "for=192.0.2.7;host=\"a.test:80\";proto=http"),
        ("2001:db8::1", "[::1]", "", "for=\"[2001:db8::1]\";host=\"[::1]\";proto=http"),
        ("192.0.2.7", "a", "", "for=192.0.2.7;host=a;proto=http"),
        ("192.0.2.7", "a", "for=\"[::2]\"", "for=\"[::2]\", for=192.0.2.7;host=a;proto=http"),
        ("192.0.2.7", "a", "for=\"_a\\\"b\"", "for=\"_a\\\"b\", for=192.0.2.7;host=a;proto=http"),
        ("192.0.2.7", "a", "for=\"open", "for=192.0.2.7;host=a;proto=http"),
        ("192.0.2.7", "a", "for=\"open\\\"", "for=192.0.2.7;host=a;proto=http"),
    ] {
        let came = format!("Forwarded: {came}\r\n");
        let head = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n{came}\r\n"));
        let listener = Listener { forwarded: ForwardedStyle::Rfc7239, ..listener() };
        let facts = Facts { client, trusted: true, ..facts(&head, &listener) };
        let told = lines(&written(&facts, &UNCHANGED), &["forwarded"]);
        assert_eq!(told, [format!("forwarded: {expected}")]);
    }
}

#[test]
fn via_grows_by_the_version_that_was_received() {
    for (version, came, expected) in [
        ("1.1", "", vec!["via: 1.1 tidegate"]),
        ("1.0", "", vec!["via: 1.0 tidegate"]),
        ("1.1", "Via: 2 a, 1.1 b\r\n", vec!["Via: 2 a, 1.1 b", "via: 1.1 tidegate"]),
    ] {
        let head = request(&format!("GET / HTTP/{version}\r\nHost: a\r\n{came}\r\n"));
        assert_eq!(lines(&written(&facts(&head, &listener()), &UNCHANGED), &["via"]), expected);
    }
}

#[test]
fn there_is_one_request_id() {
    let listener = Listener { request_id: Some("x-request-id".into()), ..listener() };
    let made = RequestId::Made([b'7'; 32]);
    let made_line = format!("x-request-id: {}", "7".repeat(32));
    for (came, id, expected) in [
        ("", made, &*made_line),
        ("X-Request-Id: a b\r\n", made, &*made_line),
        ("X-Request-Id: a\r\nX-REQUEST-ID: b\r\n", made, &*made_line),
        ("X-Request-Id: a\r\n", RequestId::Came(b"a"), "X-Request-Id: a"),
    ] {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{came}\r\n"));
        let facts = Facts { request_id: Some(id), ..facts(&head, &listener) };
        assert_eq!(lines(&written(&facts, &UNCHANGED), &["x-request-id"]), [expected]);
    }
}

#[test]
fn requests_are_edited_by_their_route_and_then_by_their_pool() {
    let head = request(
        "GET /p?q HTTP/1.1\r\nHost: a.test:80\r\nX-A: 1\r\nx-b: 2\r\nX-C: 3\r\nX-B: 4\r\n\r\n",
    );
    let listener = Listener { request_id: Some("x-request-id".into()), ..listener() };
    let names = ["host", "x-a", "x-b", "x-c", "x-request-id", "x-forwarded-proto", "via"];
    for (route, pool, expected) in [
        (
            "-x-a",
            "",
            "host: a.test:80|x-b: 2|X-C: 3|X-B: 4|x-forwarded-proto: http|via: 1.1 tidegate|\
             x-request-id: id",
        ),
        (
            "x-b={path}{query} +x-c=new",
            "-x-a +x-c={client}",
            "host: a.test:80|X-C: 3|x-forwarded-proto: http|via: 1.1 tidegate|x-request-id: id|\
             x-b: /p?q|x-c: new|x-c: 192.0.2.7",
        ),
        (
            "host={host}.internal -x-a -x-b -x-c",
            "-via -x-request-id x-forwarded-proto=https",
            "host: a.test.internal|x-forwarded-proto: https",
        ),
        (
            "host=one -x-a -x-b -x-c -via",
            "host=two x-request-id={request_id}{request_id}",
            "host: two|x-forwarded-proto: http|x-request-id: idid",
        ),
        ("+host=two -x-a -x-b -x-c -via", "-x-request-id", "host: two|x-forwarded-proto: http"),
        ("-host -x-a -x-b -x-c -via", "-x-request-id", "host: a.test:80|x-forwarded-proto: http"),
    ] {
        let (route, pool) = (to_request(edits(route)), to_request(edits(pool)));
        let mut id = [b' '; 32];
        id[..2].copy_from_slice(b"id");
        let facts = Facts {
            request_id: Some(RequestId::Made(id)),
            route: &route,
            ..facts(&head, &listener)
        };
        // The made-up id is shorter than one that is made.
        let text = written(&facts, &pool).replace(&" ".repeat(30), "");
        assert_eq!(lines(&text, &names).join("|"), expected);
        assert!(text.contains("x-forwarded-host: a.test:80\r\n"), "of the client: {text}");
    }
}

#[test]
fn a_response_is_written_for_the_clients_version() {
    let head = response(
        "HTTP/1.0 200 Fine\r\nServer: x\r\nConnection: keep-alive\r\nDate: then\r\n\
         Content-Length: 2\r\n\r\n",
    );
    let write = |body, keep_alive, version| {
        let mut out = Vec::new();
        let request = RequestHead { version, ..RequestHead::default() };
        let listener = listener();
        write_response(&head, body, keep_alive, &facts(&request, &listener), &UNCHANGED, &mut out);
        String::from_utf8(out).expect("text")
    };
    assert_eq!(
        write(head.body, true, Version::Http11),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nDate: then\r\ncontent-length: 2\r\n\r\n"
    );
    assert_eq!(
        write(BodyLength::UntilClose, false, Version::Http10),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nDate: then\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(
        write(BodyLength::None, true, Version::Http10),
        "HTTP/1.1 200 Fine\r\nServer: x\r\nDate: then\r\nContent-Length: 2\r\n\
         connection: keep-alive\r\n\r\n"
    );
}

fn response_written(text: &str, route: &str, pool: &str) -> String {
    let (request, listener) = (request("GET /p HTTP/1.1\r\nHost: a\r\n\r\n"), listener());
    let (route, pool) = (to_response(edits(route)), to_response(edits(pool)));
    let facts = Facts { route: &route, ..facts(&request, &listener) };
    let head = response(text);
    let mut out = Vec::new();
    write_response(&head, head.body, true, &facts, &pool, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn a_204_announces_no_body() {
    let text =
        response_written("HTTP/1.1 204 No\r\nDate: then\r\nContent-Length: 5\r\n\r\n", "", "");
    assert_eq!(text, "HTTP/1.1 204 No\r\nDate: then\r\n\r\n");
}

#[test]
fn responses_are_edited_and_dated() {
    const TEXT: &str =
        "HTTP/1.1 200 OK\r\nServer: x\r\nX-Powered-By: y\r\nContent-Length: 1\r\n\r\n";
    const DATE: &str = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    for (route, pool, expected) in [
        ("", "", format!("Server: x\r\nX-Powered-By: y\r\n{DATE}")),
        ("-server", "-x-powered-by", DATE.to_owned()),
        ("server=us +x-p={path}", "-x-powered-by -date", "server: us\r\nx-p: /p\r\n".to_owned()),
        ("-server -x-powered-by", "date=now", "date: now\r\n".to_owned()),
    ] {
        let text = response_written(TEXT, route, pool);
        assert_eq!(text, format!("HTTP/1.1 200 OK\r\n{expected}content-length: 1\r\n\r\n"));
    }
}

#[test]
fn any_number_is_written_in_digits() {
    for number in [0, 9, 10, 12_345, u64::MAX] {
        let mut out = Vec::new();
        write_number(number, &mut out);
        assert_eq!(out, number.to_string().into_bytes());
    }
}

/// All that templates can be filled in with, in one.
fn everything() -> Template {
    let parts = Variable::ALL.into_iter().map(Part::Variable);
    Template { parts: parts.collect() }
}

proptest::proptest! {
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
        let head = request(&text);
        let again = request(&written(&facts(&head, &listener()), &UNCHANGED));
        proptest::prop_assert_eq!(again.fields.get(again.path), head.fields.get(head.path));
        proptest::prop_assert_eq!(again.fields.get(again.authority), host.as_bytes());
        proptest::prop_assert_eq!(again.body, head.body);
        for name in &names {
            proptest::prop_assert_eq!(again.fields.value(name), Some(value.trim().as_bytes()));
        }
    }

    /// Lines that are copied in runs come out as if each had been written by itself.
    #[test]
    fn runs_of_lines_are_the_lines(
        came in proptest::collection::vec(("[a-z]{1,3}", "[ \t]{0,2}", "[!-~]{0,3}", "[ \t]{0,1}"), 0..12),
        dropped in proptest::collection::vec(proptest::bool::ANY, 12),
    ) {
        let mut text = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
        let mut expected = Vec::new();
        for ((name, before, value, after), dropped) in came.iter().zip(&dropped) {
            text.push_str(&format!("q{name}:{before}{value}{after}\r\n"));
            if !dropped {
                expected.extend_from_slice(format!("q{name}: {value}\r\n").as_bytes());
            }
        }
        let head = request(&format!("{text}\r\n"));
        let mut out = Vec::new();
        let mut index = 0;
        copy_lines(&head.fields, &mut out, |line| {
            let stays = line.known == Known::Other;
            index += usize::from(stays);
            stays && !dropped[index - 1]
        });
        proptest::prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    }

    /// No client can make a line of its own out of what templates are filled in with.
    #[test]
    fn nothing_that_came_becomes_a_line(
        target in "/[ -~\r\n\t\0\u{80}-\u{ff}]{0,20}|/(%0d%0a|\r\n|[a-z?]){0,9}",
        host in "[ -~\r\n\0]{0,12}|[a-z]{1,5}(\r\n[a-z]: [a-z]){0,2}",
        id in "[ -~\r\n\0]{0,12}",
        trusted in proptest::bool::ANY,
    ) {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: {id}\r\n\r\n");
        let mut head = RequestHead::default();
        if let Ok(Some(_)) = parse_request(text.as_bytes(), &HeadLimits::default(), &mut head) {
            let edited = FieldEdits {
                remove: vec!["via".to_owned()],
                set: vec![("x-set".to_owned(), everything()), ("host".to_owned(), everything())],
                add: vec![("x-add".to_owned(), everything())],
            };
            let rewrite = Rewrite { request: edited.clone(), response: edited };
            let listener = Listener {
                forwarded: ForwardedStyle::Both,
                request_id: Some("x-request-id".to_owned()),
                ..listener()
            };
            let mut entropy = crate::base::Entropy::seeded(1);
            let request_id = Some(RequestId::of(&head, "x-request-id", &mut entropy));
            let facts = Facts { request_id, trusted, route: &rewrite, ..facts(&head, &listener) };
            let made = matches!(request_id, Some(RequestId::Made(_)));
            let passed = head.fields.lines.iter().filter(|line| {
                let is_id = head.fields.get(line.name).eq_ignore_ascii_case(b"x-request-id");
                line.known == Known::Other && !(is_id && made)
            });
            let named = usize::from(!head.fields.get(head.authority).is_empty());
            // The request line, Host, what passed, an id, what is told of the client, three that are
            // edited in, and the empty line.
            let expected = 2 + passed.count() + usize::from(made) + 3 + named + 3 + 1;
            let mut out = Vec::new();
            write_request(&facts, &onward(&rewrite), &mut out);
            let ends = out.windows(2).filter(|two| two == b"\r\n").count();
            let breaks = out.iter().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)).count();
            proptest::prop_assert_eq!(ends, expected, "{:?}", String::from_utf8_lossy(&out));
            proptest::prop_assert_eq!(breaks, 2 * ends);
        }
    }
}
