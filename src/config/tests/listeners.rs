//! What is set for listeners: limits, trust, messages, sockets.

use std::time::Duration;

use super::{POOL, check, good};
use crate::config::{Origin, load};
use crate::model::{
    ConnectMethod, ForwardedStyle, Limit, Listener, ListenerLimits, Page, ProxyHeader,
    SocketOptions,
};

/// A listener and a pool, but for `lines`, of which the first is line 5.
fn with(lines: &str) -> String {
    format!("[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\npool = \"web\"\n{lines}\n{POOL}")
}

/// What `lines` make of a listener.
fn listener(lines: &str) -> Listener {
    good(&with(lines)).config.listeners.remove(0)
}

#[test]
fn defaults_of_a_listener() {
    let it = listener("");
    assert_eq!(it.limits, ListenerLimits::default());
    let l = it.limits;
    assert_eq!((l.head, l.fields, l.target), (16_384, 100, 8_192));
    assert_eq!((l.body, l.body_rate), (16 << 30, 500));
    assert_eq!((l.requests, l.streams), (Limit::AtMost(100_000), 100));
    assert_eq!(l.connections, Limit::AtMost(65_536));
    assert_eq!(l.connections_per_client, Limit::AtMost(16_384));
    assert!(it.trusted.is_empty() && it.errors.is_empty());
    assert_eq!(it.proxy_protocol, ProxyHeader::Off);
    assert_eq!(it.forwarded, ForwardedStyle::XForwarded);
    assert_eq!(it.request_id.as_deref(), Some("x-request-id"));
    assert_eq!(it.connect, ConnectMethod::Refuse);
    assert_eq!(it.socket, SocketOptions::default());
}

#[test]
fn limits() {
    let l = listener(
        "limits = { head = \"64KiB\", fields = 256, target = \"64KiB\", body = \"2MB\", body_rate = \"1KiB\",\
         requests = 1, streams = 7, connections = 2, connections_per_client = 3 }",
    )
    .limits;
    assert_eq!((l.head, l.fields, l.target), (65_536, 256, 65_536));
    assert_eq!((l.body, l.body_rate), (2_000_000, 1_024));
    assert_eq!((l.requests, l.streams), (Limit::AtMost(1), 7));
    assert_eq!(l.connections, Limit::AtMost(2));
    assert_eq!(l.connections_per_client, Limit::AtMost(3));
    let l = listener(
        "limits = { head = \"1KiB\", fields = 1, body = \"unlimited\", body_rate = \"off\",\
         requests = \"unlimited\", connections = \"unlimited\", connections_per_client = \"unlimited\" }",
    )
    .limits;
    // A target is a part of the head.
    assert_eq!((l.head, l.fields, l.target), (1_024, 1, 1_024));
    assert_eq!((l.body, l.body_rate), (u64::MAX, 0));
    assert_eq!(l.requests, Limit::Unlimited);
    assert_eq!(l.connections, Limit::Unlimited);
    assert_eq!(l.connections_per_client, Limit::Unlimited);
    assert_eq!(listener("limits.body = \"0B\"").limits.body, 0);
}

#[test]
fn faults_of_limits() {
    for (lines, expected) in [
        ("limits = 3", "5:10: listener.l.limits: must be a table, not a number"),
        (
            "limits.heads = \"1KiB\"",
            "5:8: listener.l.limits.heads: unknown key; did you mean \"head\"?",
        ),
        (
            "limits.head = 16384",
            "5:15: listener.l.limits.head: 16384 has no unit; did you mean \"16384B\"?",
        ),
        (
            "limits.head = -1",
            "5:15: listener.l.limits.head: -1 has no unit; did you mean \"64KiB\"?",
        ),
        (
            "limits.head = true",
            "5:15: listener.l.limits.head: must be a size such as \"64KiB\", not a boolean",
        ),
        (
            "limits.head = \"16\"",
            "5:15: listener.l.limits.head: \"16\" is not a size: it has no unit; did you mean \"16KiB\"?",
        ),
        (
            "limits.head = \"16K\"",
            "5:15: listener.l.limits.head: \"16K\" is not a size: unknown unit \"K\"; use B, KiB, MiB or GiB",
        ),
        (
            "limits.head = \"1023B\"",
            "5:15: listener.l.limits.head: \"1023B\" is less than \"1KiB\"",
        ),
        (
            "limits.head = \"65KiB\"",
            "5:15: listener.l.limits.head: \"65KiB\" is more than \"64KiB\"",
        ),
        (
            "limits.head = \"unlimited\"",
            "5:15: listener.l.limits.head: \"unlimited\" is not a size",
        ),
        ("limits.fields = 0", "5:17: listener.l.limits.fields: 0 is less than 1"),
        ("limits.fields = 257", "5:17: listener.l.limits.fields: 257 is more than 256"),
        ("limits.target = \"0B\"", "5:17: listener.l.limits.target: \"0B\" is less than \"1B\""),
        (
            "limits.target = \"17KiB\"",
            "5:17: listener.l.limits.target: the target \"17KiB\" is longer than the head \"16KiB\", of which it is a part",
        ),
        (
            "limits.body = \"unlimted\"",
            "5:15: listener.l.limits.body: \"unlimted\" is not a size: \"unlimted\" does not start with a number; or write \"unlimited\"",
        ),
        (
            "limits.body = \"2000000000GiB\"",
            "5:15: listener.l.limits.body: \"2000000000GiB\" is more than \"1073741824GiB\"",
        ),
        (
            "limits.body_rate = \"0B\"",
            "5:20: listener.l.limits.body_rate: \"0B\" is less than \"1B\"; or write \"off\"",
        ),
        (
            "limits.body_rate = \"unlimited\"",
            "5:20: listener.l.limits.body_rate: \"unlimited\" is not a size",
        ),
        (
            "limits.requests = 0",
            "5:19: listener.l.limits.requests: 0 is less than 1; write \"unlimited\" to lift the bound",
        ),
        (
            "limits.connections = \"off\"",
            "5:22: listener.l.limits.connections: must be a number or \"unlimited\"",
        ),
        (
            "limits.connections_per_client = 1.5",
            "5:33: listener.l.limits.connections_per_client: must be a number or",
        ),
    ] {
        check(&with(lines), &[expected]);
    }
    // A head that cannot be read makes no target too long.
    check(&with("limits = { head = 64, target = \"32KiB\" }"), &["5:19: listener.l.limits.head: "]);
}

#[test]
fn trust() {
    let it = listener(
        "trusted = [\"10.0.0.0/8\", \"192.0.2.7\", \"2001:db8::/32\", \"::1\"]\nproxy_protocol = \"require\"",
    );
    for (peer, is_trusted) in [
        ("10.255.0.1", true),
        ("11.0.0.1", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("::ffff:10.1.1.1", true),
        ("2001:db8:1::1", true),
        ("2001:db9::1", false),
        ("::1", true),
    ] {
        assert_eq!(it.trusts(peer.parse().expect("an address")), is_trusted, "{peer}");
    }
    assert_eq!(it.proxy_protocol, ProxyHeader::Require);
    let it = listener("trusted = \"0.0.0.0/0\"\nproxy_protocol = \"accept\"");
    assert_eq!((it.trusted.len(), it.proxy_protocol), (1, ProxyHeader::Accept));
    assert_eq!(listener("trusted = []\nproxy_protocol = \"off\"").trusted, []);
}

#[test]
fn faults_of_trust() {
    for (lines, expected) in [
        (
            "trusted = [\"10.1.0.0/8\"]",
            "5:12: listener.l.trusted[1]: \"10.1.0.0/8\" has bits set that are not of the network; did you mean \"10.0.0.0/8\"?",
        ),
        (
            "trusted = [\"::1\", \"2001:db8::1/32\"]",
            "5:19: listener.l.trusted[2]: \"2001:db8::1/32\" has bits set that are not of the network; did you mean \"2001:db8::/32\"?",
        ),
        (
            "trusted = [\"10.0.0.0/33\"]",
            "5:12: listener.l.trusted[1]: \"10.0.0.0/33\" is neither a network nor an address",
        ),
        (
            "trusted = [\"web\"]",
            "5:12: listener.l.trusted[1]: \"web\" is neither a network nor an address; write it like",
        ),
        (
            "trusted = [7]",
            "5:12: listener.l.trusted[1]: must be a network such as \"10.0.0.0/8\" or an address, not a number",
        ),
        (
            "trusted = {}",
            "5:11: listener.l.trusted: must be a network such as \"10.0.0.0/8\" or an address, not a table",
        ),
        (
            "trusted = [\"::ffff:10.0.0.0/104\"]",
            "5:12: listener.l.trusted[1]: \"::ffff:10.0.0.0/104\" is an IPv4 network in IPv6 clothes; write \"10.0.0.0/8\"",
        ),
        (
            "trusted = \"::ffff:10.0.0.1\"",
            "5:11: listener.l.trusted: \"::ffff:10.0.0.1\" is an IPv4 network in IPv6 clothes; write \"10.0.0.1\"",
        ),
        ("trustd = []", "5:1: listener.l.trustd: unknown key; did you mean \"trusted\"?"),
        (
            "proxy_protocol = \"accept\"",
            "5:18: listener.l.proxy_protocol: nobody could use \"accept\": only trusted peers may send it; add trusted = [\"10.0.0.0/8\"]",
        ),
        (
            "trusted = []\nproxy_protocol = \"require\"",
            "6:18: listener.l.proxy_protocol: nobody could use \"require\"",
        ),
        // It may be right but for a character.
        ("trusted = [\"x\"]\nproxy_protocol = \"require\"", "5:12: listener.l.trusted[1]: "),
        (
            "proxy_protocol = \"v1\"",
            "5:18: listener.l.proxy_protocol: \"v1\" is not one of \"off\", \"accept\", \"require\"",
        ),
        (
            "proxy_protocol = true",
            "5:18: listener.l.proxy_protocol: must be one of \"off\", \"accept\", \"require\", not a boolean",
        ),
    ] {
        check(&with(lines), &[expected]);
    }
    check(
        &format!("defaults.proxy_protocol = \"v1\"\n{}", with("")),
        &[
            "1:27: defaults.proxy_protocol: cannot be inherited; listeners read it and pools write it",
        ],
    );
}

#[test]
fn messages_and_sockets() {
    for (word, style) in [
        ("x-forwarded", ForwardedStyle::XForwarded),
        ("rfc7239", ForwardedStyle::Rfc7239),
        ("both", ForwardedStyle::Both),
        ("off", ForwardedStyle::Off),
    ] {
        assert_eq!(listener(&format!("forwarded = \"{word}\"")).forwarded, style);
        assert_eq!(style.word(), word);
    }
    let it = listener("request_id = \"X-Trace\"\nconnect = \"forward\"");
    assert_eq!((it.request_id.as_deref(), it.connect), (Some("x-trace"), ConnectMethod::Forward));
    assert_eq!(listener("request_id = \"off\"").request_id, None);
    assert_eq!(listener("connect = \"refuse\"").connect, ConnectMethod::Refuse);
    let tcp = "tcp = { keepalive = \"1m\", user_timeout = \"250ms\" }";
    let set = SocketOptions {
        keepalive: Some(Duration::from_secs(60)),
        user_timeout: Some(Duration::from_millis(250)),
    };
    assert_eq!(listener(tcp).socket, set);
    let off = "tcp = { keepalive = \"off\", user_timeout = \"off\" }";
    assert_eq!(listener(off).socket, SocketOptions::default());
    for (lines, expected) in [
        (
            "forwarded = \"x-forward\"",
            "5:13: listener.l.forwarded: \"x-forward\" is not one of \"x-forwarded\", \"rfc7239\", \"both\", \"off\"; did you mean \"x-forwarded\"?",
        ),
        (
            "request_id = \"x id\"",
            "5:14: listener.l.request_id: \"x id\" is not the name of a header field; or write \"off\"",
        ),
        (
            "request_id = \"\"",
            "5:14: listener.l.request_id: \"\" is not the name of a header field",
        ),
        (
            "request_id = true",
            "5:14: listener.l.request_id: must be the name of a header field, not a boolean",
        ),
        (
            "request_id = \"Host\"",
            "5:14: listener.l.request_id: host says something else; write a name of its own",
        ),
        (
            "request_id = \"TE\"",
            "5:14: listener.l.request_id: te cannot be changed: framing and routing depend on it",
        ),
        (
            "connect = \"allow\"",
            "5:11: listener.l.connect: \"allow\" is not one of \"refuse\", \"forward\"",
        ),
        (
            "tcp.keepalive = \"999ms\"",
            "5:17: listener.l.tcp.keepalive: must be at least \"1s\"; or write \"off\"",
        ),
        ("tcp.keepalive = \"10h\"", "5:17: listener.l.tcp.keepalive: must be at most \"32767s\""),
        (
            "tcp.keepalive = 60",
            "5:17: listener.l.tcp.keepalive: 60 has no unit; did you mean \"60s\"?",
        ),
        (
            "tcp.user_timeout = \"0s\"",
            "5:20: listener.l.tcp.user_timeout: must be at least \"1ms\"; or write \"off\"",
        ),
        (
            "tcp.user_timeout = \"25d\"",
            "5:20: listener.l.tcp.user_timeout: must be at most \"2147483647ms\"",
        ),
        (
            "tcp.keep_alive = \"1s\"",
            "5:5: listener.l.tcp.keep_alive: unknown key; did you mean \"keepalive\"?",
        ),
    ] {
        check(&with(lines), &[expected]);
    }
}

#[test]
fn bodies_of_errors() {
    let it = listener(
        "errors = { 503 = \"busy.html\", 599 = \"/busy.html\", 400 = \"busy.json\", 404 = \"busy.txt\" }",
    );
    let page = |content_type: &str, body: &str| Page {
        content_type: content_type.into(),
        body: body.into(),
    };
    assert_eq!(it.errors.len(), 4);
    assert_eq!(it.errors[&503], page("text/html; charset=utf-8", "<p>busy"));
    assert_eq!(it.errors[&599], page("text/html; charset=utf-8", "<p>busy"));
    assert_eq!(it.errors[&400], page("application/json", "{}"));
    assert_eq!(it.errors[&404], page("text/plain; charset=utf-8", "busy"));
    assert_eq!(listener("[listener.errors]\n404 = \"full.txt\"").errors[&404].body.len(), 65_536);
    for (lines, expected) in [
        ("errors = \"busy.html\"", "5:10: listener.l.errors: must be a table, not a string"),
        (
            "errors.399 = \"busy.html\"",
            "5:8: listener.l.errors.399: \"399\" is not the status of an error; write one from 400 to 599",
        ),
        ("errors.600 = \"busy.html\"", "5:8: listener.l.errors.600: \"600\" is not the status"),
        ("errors.0503 = \"busy.html\"", "5:8: listener.l.errors.0503: \"0503\" is not the status"),
        ("errors.busy = \"busy.html\"", "5:8: listener.l.errors.busy: \"busy\" is not the status"),
        ("errors.503 = 3", "5:14: listener.l.errors.503: must be a path, not a number"),
        ("errors.503 = \"\"", "5:14: listener.l.errors.503: must not be empty"),
        (
            "errors.503 = \"busy.htm\"",
            "5:14: listener.l.errors.503: what busy.htm is cannot be told by its name; name it .html, .json or .txt",
        ),
        (
            "errors.503 = \"none.html\"",
            "5:14: listener.l.errors.503: dir/none.html cannot be read: there is none; relative paths start where",
        ),
        (
            "errors.503 = \"large.txt\"",
            "5:14: listener.l.errors.503: dir/large.txt is larger than 64KiB",
        ),
    ] {
        check(&with(lines), &[expected]);
    }
    check(
        &with("errors = { 200 = \"busy.txt\", 503 = 7, 504 = \"none.txt\" }"),
        &["5:12: listener.l.errors.200: ", "5:36: listener.l.errors.503: "],
    );
}

#[test]
fn files_are_read_where_the_configuration_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("t.toml");
    let told = |file: &str| {
        std::fs::write(&config, with(&format!("errors.503 = \"{file}\""))).expect("written");
        load(&config).map(|loaded| loaded.config.listeners[0].errors[&503].body.clone())
    };
    std::fs::write(dir.path().join("busy.txt"), "busy").expect("written");
    assert_eq!(told("busy.txt"), Ok(b"busy".to_vec()));
    std::fs::create_dir(dir.path().join("folder.txt")).expect("made");
    std::fs::write(dir.path().join("large.txt"), vec![b'x'; 1 << 20]).expect("written");
    for (file, problem) in [
        ("none.txt", "cannot be read: No such file"),
        ("folder.txt", "cannot be read: it is not a file"),
        ("large.txt", "is larger than 64KiB"),
    ] {
        let faults = told(file).expect_err(file).to_string();
        assert!(faults.contains("t.toml:5:14: listener.l.errors.503: "), "{faults}");
        assert!(faults.contains(problem), "{faults}");
    }
}

#[test]
fn a_tcp_listener_reads_no_messages() {
    let tcp = "protocol = \"tcp\"\n";
    check(
        &with(&format!(
            "{tcp}limits = {{ head = \"2KiB\", fields = 3, target = \"1KiB\", body = \"1B\", body_rate = \"off\", requests = 3 }}\n\
             forwarded = \"off\"\nrequest_id = \"off\"\nconnect = \"refuse\"\nerrors.503 = \"busy.txt\""
        )),
        &[
            "6:19: listener.l.limits.head: is for http listeners: a tcp listener does not read what it forwards; leave it out",
            "6:36: listener.l.limits.fields: is for http",
            "6:48: listener.l.limits.target: is for http",
            "6:63: listener.l.limits.body: is for http",
            "6:81: listener.l.limits.body_rate: is for http",
            "6:99: listener.l.limits.requests: is for http",
            "7:13: listener.l.forwarded: is for http",
            "8:14: listener.l.request_id: is for http",
            "9:11: listener.l.connect: is for http",
            "10:1: listener.l.errors: is for http",
        ],
    );
    // What is inherited is for those that it means something to.
    let text = format!(
        "[defaults]\nlimits = {{ head = \"2KiB\", connections = 7 }}\nforwarded = \"off\"\nrequest_id = \"off\"\n\
         errors.503 = \"none.txt\"\n{}",
        with(&format!(
            "{tcp}trusted = \"::1\"\nproxy_protocol = \"accept\"\ntcp.keepalive = \"9s\""
        ))
    );
    let loaded = good(&text);
    let it = &loaded.config.listeners[0];
    assert_eq!(it.limits.connections, Limit::AtMost(7));
    assert_eq!(it.proxy_protocol, ProxyHeader::Accept);
    assert_eq!(it.socket.keepalive, Some(Duration::from_secs(9)));
    assert!(it.errors.is_empty() && it.request_id.is_none());
    for key in ["limits.head", "forwarded", "request_id", "connect", "errors"] {
        let key = format!("listener.l.{key}");
        assert!(loaded.explanation.iter().all(|setting| setting.key != key), "{key}");
    }
}

#[test]
fn what_listeners_inherit() {
    let text = format!(
        "[defaults]\nlimits = {{ head = \"2KiB\", body = \"unlimited\" }}\ntrusted = [\"10.0.0.0/8\", \"::1/128\"]\n\
         errors = {{ 503 = \"busy.txt\" }}\ntcp.keepalive = \"30s\"\nrequest_id = \"X-Id\"\n{}\
         [[listener]]\nname = \"m\"\nbind = \"127.0.0.1:81\"\npool = \"web\"\n\
         limits.head = \"4KiB\"\ntrusted = []\nerrors.502 = \"busy.html\"\ntcp.keepalive = \"off\"\nforwarded = \"both\"\n",
        with("proxy_protocol = \"accept\""),
    );
    let loaded = good(&text);
    let (file, inherited, built_in) =
        (|line| Origin::File { line }, |line| Origin::Defaults { line }, Origin::BuiltIn);
    for (key, value, origin) in [
        ("l.limits.head", "\"2KiB\"", inherited(2)),
        ("l.limits.target", "\"2KiB\"", built_in),
        ("l.limits.fields", "100", built_in),
        ("l.limits.body", "\"unlimited\"", inherited(2)),
        ("l.limits.body_rate", "\"500B\"", built_in),
        ("l.limits.requests", "100000", built_in),
        ("l.limits.streams", "100", built_in),
        ("l.limits.connections", "65536", built_in),
        ("l.limits.connections_per_client", "16384", built_in),
        ("l.trusted", "[\"10.0.0.0/8\", \"::1\"]", inherited(3)),
        ("l.proxy_protocol", "\"accept\"", file(11)),
        ("l.forwarded", "\"x-forwarded\"", built_in),
        ("l.request_id", "\"x-id\"", inherited(6)),
        ("l.connect", "\"refuse\"", built_in),
        ("l.tcp.keepalive", "\"30s\"", inherited(5)),
        ("l.tcp.user_timeout", "\"off\"", built_in),
        ("l.errors", "{ 503 = \"busy.txt\" }", inherited(4)),
        ("m.limits.head", "\"4KiB\"", file(18)),
        ("m.limits.target", "\"4KiB\"", built_in),
        ("m.limits.body", "\"unlimited\"", inherited(2)),
        ("m.trusted", "[]", file(19)),
        ("m.errors", "{ 502 = \"busy.html\" }", file(20)),
        ("m.tcp.keepalive", "\"off\"", file(21)),
        ("m.forwarded", "\"both\"", file(22)),
    ] {
        let key = format!("listener.{key}");
        let found: Vec<_> =
            loaded.explanation.iter().filter(|setting| setting.key == key).collect();
        let [one] = found.as_slice() else { panic!("{key} is there {} times", found.len()) };
        assert_eq!((one.value.as_str(), one.origin), (value, origin), "{key}");
    }
    let [l, m] = loaded.config.listeners.as_slice() else { panic!("two listeners") };
    assert_eq!((l.limits.head, m.limits.head), (2_048, 4_096));
    assert_eq!((l.trusted.len(), m.trusted.len()), (2, 0));
    assert_eq!((l.socket.keepalive, m.socket.keepalive), (Some(Duration::from_secs(30)), None));
    assert!(l.errors.contains_key(&503) && !m.errors.contains_key(&503));
    // An inherited fault is told once; a target that is written must fit every head.
    check(
        &format!(
            "defaults.limits = {{ target = \"3KiB\", head = 7 }}\n{}",
            with("limits.head = \"2KiB\"")
        ),
        &[
            "1:45: defaults.limits.head: 7 has no unit",
            "6:15: listener.l.limits.head: the target \"3KiB\" is longer than the head \"2KiB\"",
        ],
    );
}
