//! What instances are told of clients, and what routes and pools change, redirect and answer.

use std::fs;
use std::net::SocketAddr;

use crate::daemon::{Daemon, free_address};
use crate::http::{OK, exchange, status};
use crate::origin::Origin;

/// A daemon with a listener that has these keys, these routes, and a pool of one instance with these.
fn daemon(
    instance: SocketAddr,
    listener: &str,
    routes: &[&str],
    pool: &str,
) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let routes: String =
        routes.iter().map(|route| format!("[[route]]\nlistener = \"web\"\n{route}\n")).collect();
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("busy.html"), "<p>come back later</p>").expect("written");
    let config = format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\n{listener}\n{routes}\
         [pool.web]\ninstances = [{{ address = \"{instance}\" }}]\n{pool}\n\
         [pool.web.health]\ntype = \"none\"\n"
    );
    (Daemon::start_in(dir, &config), bind)
}

fn get(bind: SocketAddr, target: &str, fields: &str) -> String {
    let head = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n");
    exchange(bind, &format!("{head}{fields}\r\n"))
}

/// The value of the only field of that name, in whatever case.
fn field(head: &str, name: &str) -> Option<String> {
    let mut found = head.split("\r\n").take_while(|line| !line.is_empty()).filter_map(|line| {
        let (other, value) = line.split_once(':')?;
        other.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    });
    let value = found.next();
    assert_eq!(found.next(), None, "{name} is there once: {head}");
    value
}

const CAME: &str = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n\
    Forwarded: for=198.51.100.1\r\nVia: 1.1 edge\r\n";

#[test]
fn strangers_are_introduced_anew_and_trusted_peers_are_believed() {
    for (keys, x_for, x_proto, forwarded) in [
        ("", Some("127.0.0.1"), Some("http"), None),
        ("trusted = [\"127.0.0.0/8\"]", Some("198.51.100.1, 127.0.0.1"), Some("https"), None),
        (
            "trusted = [\"127.0.0.0/8\"]\nforwarded = \"both\"",
            Some("198.51.100.1, 127.0.0.1"),
            Some("https"),
            Some("for=198.51.100.1, for=127.0.0.1;host=shop.test;proto=http"),
        ),
        (
            "trusted = [\"10.0.0.0/8\"]\nforwarded = \"rfc7239\"",
            None,
            None,
            Some("for=127.0.0.1;host=shop.test;proto=http"),
        ),
        ("trusted = [\"127.0.0.0/8\"]\nforwarded = \"off\"", None, None, None),
    ] {
        let origin = Origin::answering(OK);
        let (_daemon, bind) = daemon(origin.address, keys, &[], "");
        assert_eq!(status(&get(bind, "/", CAME)), "200");
        let seen = origin.text();
        assert_eq!(field(&seen, "x-forwarded-for").as_deref(), x_for, "{keys}: {seen}");
        assert_eq!(field(&seen, "x-forwarded-proto").as_deref(), x_proto, "{keys}: {seen}");
        assert_eq!(field(&seen, "forwarded").as_deref(), forwarded, "{keys}: {seen}");
        assert!(seen.contains("Via: 1.1 edge\r\n") && seen.contains("via: 1.1 tidegate\r\n"));
    }
}

#[test]
fn requests_have_an_id_unless_it_is_turned_off() {
    let origin = Origin::answering(OK);
    let routes = ["path_prefix = \"/\"\npool = \"web\"\n\
        set_response_header = { x-id = \"{request_id}\" }"];
    let (_daemon, bind) = daemon(origin.address, "", &routes, "");
    let made = field(&get(bind, "/", ""), "x-id").expect("an id");
    assert!(made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    assert_eq!(field(&origin.text(), "x-request-id"), Some(made.clone()));
    let next = field(&get(bind, "/", "X-Request-Id: a b\r\n"), "x-id").expect("an id");
    assert!(next != made && next.len() == 32, "{next}");
    let passed = get(bind, "/", "X-Request-Id: from-the-edge.7\r\n");
    assert_eq!(field(&passed, "x-id").as_deref(), Some("from-the-edge.7"));
    assert!(origin.text().contains("X-Request-Id: from-the-edge.7\r\n"), "{}", origin.text());

    let origin = Origin::answering(OK);
    let (_daemon, bind) = daemon(origin.address, "request_id = \"off\"", &[], "");
    assert_eq!(status(&get(bind, "/", "")), "200");
    assert_eq!(field(&origin.text(), "x-request-id"), None);
}

#[test]
fn the_route_edits_first_and_then_the_pool() {
    let origin = Origin::answering(
        b"HTTP/1.1 200 OK\r\nServer: secret\r\nX-Old: 1\r\nContent-Length: 2\r\n\r\nok",
    );
    let route = "path_prefix = \"/\"\npool = \"web\"\nremove_request_header = [\"x-a\"]\n\
        set_request_header = { x-b = \"{client}\", host = \"{host}.internal\" }\n\
        add_request_header = { x-c = \"{path}{query}\" }\n\
        remove_response_header = [\"server\"]\nadd_response_header = { x-route = \"1\" }";
    let pool = "remove_request_header = [\"x-d\"]\nset_request_header = { x-c = \"pool\" }\n\
        remove_response_header = [\"x-old\"]\nset_response_header = { x-route = \"pool\" }";
    let (_daemon, bind) = daemon(origin.address, "", &[route], pool);
    let answer = get(bind, "/p?q", "X-A: 1\r\nX-B: 2\r\nX-C: 3\r\nX-D: 4\r\nX-E: 5\r\n");
    let seen = origin.text();
    for (name, expected) in [
        ("host", Some("shop.test.internal")),
        ("x-a", None),
        ("x-b", Some("127.0.0.1")),
        ("x-c", Some("pool")),
        ("x-d", None),
        ("x-e", Some("5")),
        ("x-forwarded-host", Some("shop.test")),
    ] {
        assert_eq!(field(&seen, name).as_deref(), expected, "{name}: {seen}");
    }
    for (name, expected) in [
        ("server", None),
        ("x-old", None),
        ("x-route", Some("pool")),
        ("content-length", Some("2")),
    ] {
        assert_eq!(field(&answer, name).as_deref(), expected, "{name}: {answer}");
    }
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[test]
fn routes_redirect_and_answer_by_themselves() {
    let origin = Origin::answering(OK);
    let routes = [
        "path_prefix = \"/old\"\n\
         redirect = { to = \"https://{host}{path}{query}\", status = 308 }\n\
         set_response_header = { x-from = \"{client}\" }",
        "path_prefix = \"/healthz\"\n\
         respond = { status = 200, body = \"fine\", type = \"text/plain\" }",
    ];
    let (daemon, bind) = daemon(origin.address, "", &routes, "");
    let answer = get(bind, "/old//x?y", "");
    assert_eq!(status(&answer), "308", "{answer}");
    assert_eq!(field(&answer, "location").as_deref(), Some("https://shop.test/old//x?y"));
    assert_eq!(field(&answer, "x-from").as_deref(), Some("127.0.0.1"));
    assert!(field(&answer, "date").is_some(), "{answer}");

    // Both on one connection: a HEAD has no body, and what follows is a head.
    let answers = exchange(
        bind,
        "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("content-type: text/plain\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("content-length: 4\r\n").count(), 2, "{answers}");
    assert_eq!(answers.matches("fine").count(), 1, "{answers}");
    assert!(answers.ends_with("\r\n\r\nfine"), "{answers}");

    // The body of a request that is answered here is not waited for.
    let posted = exchange(
        bind,
        "POST /old HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nthe first bytes",
    );
    assert_eq!((status(&posted), field(&posted, "connection").as_deref()), ("308", Some("close")));

    assert_eq!(status(&get(bind, "/", "")), "200");
    assert!(!origin.text().contains("/old") && !origin.text().contains("/healthz"));
    assert_eq!(daemon.metric("tidegate_answered_total", "kind=\"redirect\""), 2.0);
    assert_eq!(daemon.metric("tidegate_answered_total", "kind=\"respond\""), 2.0);
    assert_eq!(daemon.metric("tidegate_requests_total", "pool=\"web\""), 1.0, "the pool saw one");
}

#[test]
fn failures_are_told_on_the_operators_page() {
    let nobody = free_address();
    let keys = "errors = { 400 = \"busy.html\", 502 = \"busy.html\" }";
    let route = "path_prefix = \"/\"\npool = \"web\"\n\
        set_response_header = { cache-control = \"public\", x-route = \"1\" }";
    let (_daemon, bind) = daemon(nobody, keys, &[route], "retry = { attempts = 0 }");
    let answer = get(bind, "/", "");
    assert_eq!(status(&answer), "502", "{answer}");
    assert!(answer.ends_with("\r\n\r\n<p>come back later</p>"), "{answer}");
    assert_eq!(field(&answer, "cache-control").as_deref(), Some("no-store"));
    assert_eq!(field(&answer, "x-route").as_deref(), Some("1"));
    let type_ = field(&answer, "content-type").expect("a type");
    assert!(type_.starts_with("text/html"), "{type_}");

    let head = exchange(bind, "HEAD / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(status(&head), "502", "{head}");
    assert!(head.ends_with("\r\n\r\n") && !head.contains("<p>"), "{head}");
    assert_eq!(field(&head, "content-length").as_deref(), Some("22"));

    // Before there is a route, there is the listener's page.
    let broken = exchange(bind, "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(status(&broken), "400", "{broken}");
    assert!(broken.ends_with("<p>come back later</p>"), "{broken}");
    assert_eq!(field(&broken, "x-route"), None);
}
