use super::fixture::{edits, facts, listener, request};
use super::*;

#[test]
fn variables_stand_for_what_is_known() {
    let listener = listener();
    for (line, host, expected) in [
        ("GET /a/b?c=d?e HTTP/1.1", "Shop.example:8080", "Shop.example|/a/b|?c=d?e"),
        ("GET / HTTP/1.1", "[::1]:80", "[::1]|/|"),
        ("GET /? HTTP/1.1", "a", "a|/|?"),
        ("GET http://b:1/x HTTP/1.1", "a", "b|/x|"),
    ] {
        let head = request(&format!("{line}\r\nHost: {host}\r\n\r\n"));
        let facts = Facts {
            request_id: Some(RequestId::Came(b"id")),
            scheme: "https",
            ..facts(&head, &listener)
        };
        let template = Template::parse("{host}|{path}|{query} {scheme} {client} {request_id} {{");
        let mut out = b"before ".to_vec();
        facts.render(&template.expect("a template"), &mut out);
        let expected = format!("before {expected} https 192.0.2.7 id {{");
        assert_eq!(String::from_utf8_lossy(&out), expected, "{line}");
    }
}

#[test]
fn a_harmless_request_id_is_passed_on_and_any_other_replaced() {
    let long = "x".repeat(RequestId::LEN_MAX);
    let longer = format!("X-Request-ID: {long}x\r\n");
    let long_enough = format!("x-request-id: {long}\r\n");
    for (lines, came) in [
        ("X-Request-Id: 0b9c7d:a@b+c/d~e_f.g=h-i\r\n", Some("0b9c7d:a@b+c/d~e_f.g=h-i")),
        ("x-request-id: 1\r\nOther: 2\r\n", Some("1")),
        (&long_enough, Some(long.as_str())),
        (&longer, None),
        ("", None),
        ("X-Request-Id:\r\n", None),
        ("X-Request-Id: a b\r\n", None),
        ("X-Request-Id: a,b\r\n", None),
        ("X-Request-Id: \"a\"\r\n", None),
        ("X-Request-Id: a;b\r\n", None),
        ("X-Request-Id: a{b\r\n", None),
        ("X-Request-Id: a\r\nX-Request-Id: a\r\n", None),
        ("X-Request-Id: a\r\nConnection: x-request-id\r\n", None),
    ] {
        let head = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let mut entropy = Entropy::seeded(1);
        let id = RequestId::of(&head, "x-request-id", &mut entropy);
        match came {
            Some(came) => assert_eq!(id, RequestId::Came(came.as_bytes()), "{lines:?}"),
            None => {
                let made = String::from_utf8_lossy(id.as_bytes()).into_owned();
                assert!(matches!(id, RequestId::Made(_)), "{lines:?}");
                assert!(made.len() == 32 && u128::from_str_radix(&made, 16).is_ok(), "{made}");
                assert!(is_harmless(id.as_bytes()), "the next of our kind passes it on");
                let next = RequestId::of(&head, "x-request-id", &mut entropy);
                assert_ne!(id, next);
            }
        }
    }
}

#[test]
fn the_pool_edits_what_the_route_has_made() {
    for (route, pool, dropped, added) in [
        ("", "", "", ""),
        ("-a b=1 +c=2", "", "a b", "b=1 c=2"),
        ("", "-a b=1 +c=2", "a b", "b=1 c=2"),
        ("-a a=1 +a=2", "", "a", "a=1 a=2"),
        ("a=1 +b=1 +c=1", "a=2 -b +c=2", "a b", "c=1 a=2 c=2"),
        ("-a", "a=1", "a", "a=1"),
        ("a=1", "-a +a=2", "a", "a=2"),
    ] {
        let (of_route, of_pool) = (edits(route), edits(pool));
        let edits = Edits::new(&of_route, &of_pool);
        let names = ["a", "b", "c", "ab"].into_iter().filter(|name| edits.drops(name.as_bytes()));
        assert_eq!(names.collect::<Vec<_>>().join(" "), dropped, "{route} then {pool}");
        let list: Vec<_> = edits.added().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(list.join(" "), added, "{route} then {pool}");
    }
    let of_route = edits("-x-secret");
    let edits = Edits::new(&of_route, &UNCHANGED.request);
    assert!(edits.drops(b"X-Secret") && !edits.drops(b"x-secrets"));
}

proptest::proptest! {
    /// The look at the length is a shortcut and nothing more.
    #[test]
    fn what_is_dropped_is_what_is_named(
        removed in proptest::collection::vec("[a-c]{1,2}|[a-b]{64,66}", 0..6),
        set in proptest::collection::vec("[a-c]{1,2}|[a-b]{64,66}", 0..6),
        name in "[a-cA-C]{1,2}|[a-bA-B]{64,66}",
    ) {
        let template = Template::default();
        let of_route = FieldEdits { remove: removed.clone(), ..FieldEdits::default() };
        let of_pool = FieldEdits {
            set: set.iter().map(|name| (name.clone(), template.clone())).collect(),
            ..FieldEdits::default()
        };
        let named = removed.iter().chain(&set).any(|other| *other == name.to_ascii_lowercase());
        proptest::prop_assert_eq!(Edits::new(&of_route, &of_pool).drops(name.as_bytes()), named);
    }
}

#[test]
fn trailers_say_nothing_of_verified_clients() {
    let listener =
        Listener { client_subjects: ["x-client-subject".to_owned()].into(), ..listener() };
    for (lines, kept) in [
        ("", ""),
        ("x-sum: 1\r\n", "x-sum: 1\r\n"),
        ("X-Client-Subject: CN=boss\r\n", ""),
        (
            "a: 1\r\nx_client.subject: CN=boss\r\nx-client-subjects: 2\r\n",
            "a: 1\r\nx-client-subjects: 2\r\n",
        ),
        ("x-client-subject: 1\r\nx-client-subject: 2\r\nb: 3\r\n", "b: 3\r\n"),
    ] {
        let mut lines = lines.as_bytes().to_vec();
        drop_poses(&listener, &mut lines);
        assert_eq!(String::from_utf8_lossy(&lines), kept);
    }
}
