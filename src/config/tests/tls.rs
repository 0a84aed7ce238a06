//! TLS of listeners and pools, and what instances are asked by.

use std::path::PathBuf;
use std::sync::Arc;

use super::{LISTENER, POOL, check, check_pool, faults_of, good};
use crate::config::{Origin, Setting};
use crate::model::{
    CertificateFiles, ClientAuth, Listener, ListenerTls, Pool, PoolTls, Protocol, TlsVersion,
    UpstreamVersion,
};

const ONE: &str = "certificates = [{ cert = \"a.pem\", key = \"a.key\" }]";

/// A listener on port 81 with `lines` in it, which begin with line 9 of the text.
fn listener(lines: &str) -> String {
    format!(
        "{LISTENER}{POOL}[[listener]]\nbind = \"127.0.0.1:81\"\n{lines}\npool = \"web\"\nname = \"l\"\n"
    )
}

fn made(lines: &str) -> Listener {
    good(&listener(lines)).config.listeners[1].clone()
}

fn files(name: &str) -> CertificateFiles {
    CertificateFiles {
        cert: format!("dir/{name}.pem").into(),
        key: format!("dir/{name}.key").into(),
        ocsp: None,
    }
}

#[test]
fn listeners() {
    let expected = ListenerTls {
        certificates: vec![files("a")],
        client_ca: None,
        client_auth: ClientAuth::Required,
        client_subject: "x-client-subject".into(),
        min_version: TlsVersion::Tls12,
    };
    for (word, protocol) in [("https", Protocol::Https), ("tls", Protocol::Tls)] {
        let it = made(&format!("protocol = \"{word}\"\ntls.{ONE}"));
        assert_eq!(it.protocol, protocol);
        assert_eq!(it.tls.as_deref(), Some(&expected));
        assert_eq!(protocol.is_http(), it.request_id.is_some(), "as http, or as tcp");
        assert!(it.client_subjects.is_empty(), "clients are asked for nothing");
    }
    let it = made(
        "protocol = \"https\"\npool = \"web\"\n[listener.tls]\nmin_version = \"1.3\"\nclient_ca = \"/ca.pem\"\n\
         client_auth = \"optional\"\nclient_subject = \"X-Who\"\n\
         certificates = [{ cert = \"a.pem\", key = \"a.key\" }, { cert = \"b.pem\", key = \"b.key\", ocsp = \"b.ocsp\" }]\n\
         [[listener]]\nbind = \"127.0.0.1:82\"",
    );
    let expected = ListenerTls {
        certificates: vec![
            files("a"),
            CertificateFiles { ocsp: Some("dir/b.ocsp".into()), ..files("b") },
        ],
        client_ca: Some("/ca.pem".into()),
        client_auth: ClientAuth::Optional,
        client_subject: "x-who".into(),
        min_version: TlsVersion::Tls13,
    };
    assert_eq!(it.tls.as_deref(), Some(&expected));
}

#[test]
fn faults_of_listeners() {
    for (lines, expected) in [
        (
            "protocol = \"https\"",
            "7:1: listener.l.tls.certificates: is missing; write [{ cert = \"a.pem\", key = \"a.key\" }]",
        ),
        (
            "protocol = \"tls\"\ntls = {}",
            "10:1: listener.l.tls.certificates: is missing; write [{ cert",
        ),
        (
            "protocol = \"https\"\ntls.certificates = []",
            "10:20: listener.l.tls.certificates: is an empty list",
        ),
        (
            "protocol = \"https\"\ntls.certificates = \"a.pem\"",
            "10:20: listener.l.tls.certificates: must be a list of tables, not a string",
        ),
        (
            "protocol = \"https\"\ntls.certificates = [{ cert = \"a.pem\" }]",
            "10:21: listener.l.tls.certificates[1].key: is missing; a certificate and its key go together",
        ),
        (
            "protocol = \"https\"\ntls.certificates = [{ key = \"a.key\" }]",
            "10:21: listener.l.tls.certificates[1].cert: is missing; a certificate and its key go",
        ),
        (
            "protocol = \"https\"\ntls.certificates = [{ crt = \"a.pem\", cert = \"a.pem\", key = \"a.key\" }]",
            "10:23: listener.l.tls.certificates[1].crt: unknown key; did you mean \"cert\"?",
        ),
        (
            "tls.certificates = [{ cert = \"a.pem\", key = \"a.key\" }]",
            "9:1: listener.l.tls: \"http\" has no TLS; write protocol = \"https\" or \"tls\"",
        ),
        ("protocol = \"tcp\"\ntls = {}", "10:1: listener.l.tls: \"tcp\" has no TLS"),
    ] {
        check(&listener(lines), &[expected]);
    }
    for (line, expected) in [
        (
            "client_auth = \"optional\"",
            "listener.l.tls.client_auth: has no effect: clients are asked for nothing; add client_ca",
        ),
        ("client_subject = \"x-who\"", "listener.l.tls.client_subject: has no effect: clients are"),
        (
            "min_version = \"1.1\"",
            "listener.l.tls.min_version: \"1.1\" is not one of \"1.2\", \"1.3\"",
        ),
        ("client_ca = \"\"", "listener.l.tls.client_ca: must not be empty"),
        ("ciphers = \"ALL\"", "listener.l.tls.ciphers: unknown key"),
    ] {
        let text = listener(&format!("protocol = \"https\"\ntls.{ONE}\ntls.{line}"));
        let place =
            if line.starts_with("ciphers") { 5 } else { 8 + line.find('=').expect("=") - 1 };
        check(&text, &[&format!("11:{place}: {expected}")]);
    }
    for field in ["forwarded", "via", "content-length", "x forwarded", "X-Forwarded-For"] {
        let line = format!("tls.client_subject = \"{field}\"");
        let text = listener(&format!(
            "protocol = \"https\"\ntls.{ONE}\ntls.client_ca = \"ca.pem\"\n{line}"
        ));
        check(&text, &["12:22: listener.l.tls.client_subject: "]);
    }
    let text = listener(&format!(
        "protocol = \"tls\"\ntls.{ONE}\ntls.client_ca = \"ca.pem\"\ntls.client_subject = \"x-who\""
    ));
    let expected =
        "12:22: listener.l.tls.client_subject: is for http listeners: a tls listener does not";
    check(&text, &[expected]);
    // One that may have TLS, for all that can be told.
    check(
        &listener(&format!("protocol = \"htps\"\ntls.{ONE}")),
        &["9:12: listener.l.protocol: \"htps\" is not one of"],
    );
    check(
        &format!("defaults.tls.min_version = \"1.3\"\n{LISTENER}{POOL}"),
        &["1:10: defaults.tls: cannot be inherited; write it in [[listener]]"],
    );
}

#[test]
fn what_tells_of_verified_clients_is_guarded_everywhere() {
    let secure = |name: &str, port: u16, field: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:{port}\"\nprotocol = \"https\"\npool = \"web\"\n\
             tls = {{ {ONE}, client_ca = \"ca.pem\"{field} }}\n"
        )
    };
    let text = format!(
        "{LISTENER}{POOL}{}{}{}",
        secure("a", 81, ""),
        secure("b", 82, ", client_subject = \"x-who\""),
        secure("c", 83, "")
    );
    let listeners = good(&text).config.listeners;
    let names: Arc<[String]> = ["x-client-subject".to_owned(), "x-who".to_owned()].into();
    assert_eq!(listeners.len(), 4);
    for listener in &listeners {
        assert_eq!(listener.client_subjects, names, "{}", listener.id);
    }
    // A listener that forwards bytes tells nobody.
    let tls = format!("protocol = \"tls\"\ntls = {{ {ONE}, client_ca = \"ca.pem\" }}");
    assert!(good(&listener(&tls)).config.listeners.iter().all(|it| it.client_subjects.is_empty()));
    check(
        &format!("{LISTENER}{POOL}{}", secure("a", 81, ", client_subject = \"x-request-id\"")),
        &[
            "1:1: listener[1].request_id: x-request-id tells of verified clients (tls.client_subject); give one",
            "7:1: listener.a.request_id: x-request-id tells of verified clients",
        ],
    );
}

fn pool(lines: &str) -> Pool {
    good(&format!("{LISTENER}{POOL}{lines}\n")).config.pools[0].as_ref().clone()
}

#[test]
fn pools() {
    let it = pool("");
    assert_eq!((it.upstream.version, it.upstream.tls), (UpstreamVersion::Http1, None));
    let built_in = PoolTls {
        ca: None,
        server_name: None,
        certificate: None,
        verify: true,
        min_version: TlsVersion::Tls12,
    };
    assert_eq!(pool("upstream_tls = {}").upstream.tls.as_deref(), Some(&built_in));
    let it = pool(
        "upstream = \"h2\"\nupstream_tls = { ca = \"ca.pem\", server_name = \"App.internal\", cert = \"a.pem\", key = \"a.key\", min_version = \"1.3\" }",
    );
    assert_eq!(it.upstream.version, UpstreamVersion::H2);
    let all = PoolTls {
        ca: Some(PathBuf::from("dir/ca.pem")),
        server_name: Some("app.internal".into()),
        certificate: Some(files("a")),
        verify: true,
        min_version: TlsVersion::Tls13,
    };
    assert_eq!(it.upstream.tls.as_deref(), Some(&all));
    let blind = pool("upstream_tls.verify = false").upstream.tls;
    assert_eq!(blind.as_deref(), Some(&PoolTls { verify: false, ..built_in }));
    for name in ["a", "10.0.0.1", "::1", "a_b.example", "xn--bcher-kva.example"] {
        let it = pool(&format!("upstream_tls.server_name = \"{name}\""));
        assert_eq!(it.upstream.tls.expect("TLS").server_name.as_deref(), Some(name));
    }
}

#[test]
fn faults_of_pools() {
    for (lines, expected) in [
        (
            "upstream = \"http2\"",
            "7:12: pool.web.upstream: \"http2\" is not one of \"http1\", \"h2\"; did you mean",
        ),
        (
            "upstream_tls = true",
            "7:16: pool.web.upstream_tls: must be a table, not a boolean; a table is written",
        ),
        (
            "upstream_tls.verify = \"no\"",
            "7:23: pool.web.upstream_tls.verify: must be true or false, not a string",
        ),
        (
            "upstream_tls.cert = \"a.pem\"",
            "7:21: pool.web.upstream_tls.key: is missing; a certificate and its key go together",
        ),
        ("upstream_tls.key = \"a.key\"", "7:20: pool.web.upstream_tls.cert: is missing; a cert"),
        (
            "upstream_tls = { verify = false, ca = \"ca.pem\" }",
            "7:39: pool.web.upstream_tls.ca: has no effect unless verify is true",
        ),
        ("upstream_tls.sni = \"a\"", "7:14: pool.web.upstream_tls.sni: unknown key"),
        (
            "upstream = \"h2\"\nproxy_protocol = \"v2\"",
            "8:18: pool.web.proxy_protocol: \"v2\" tells of one client, and h2 shares connections; write",
        ),
    ] {
        check_pool(lines, &[expected]);
    }
    for (health, by_tls) in [
        ("type = \"http\"", true),
        ("type = \"grpc\"", true),
        ("type = \"tls\"", true),
        ("type = \"https\", port = 8080", true),
        ("type = \"http\", port = 8080", false),
        ("type = \"tcp\"", false),
    ] {
        let probed = pool(&format!("upstream_tls = {{}}\nhealth = {{ {health} }}"));
        assert_eq!(probed.health.tls, by_tls, "{health}");
    }
    assert!(pool("health = { type = \"https\" }").health.tls, "traffic need not go so");
    assert!(!pool("health = { type = \"http\" }").health.tls);
    for name in ["a:443", "*.example.com", "a.", "", ".a", "a b", "-a", "1.2.3", &"a".repeat(64)] {
        let lines = format!("upstream_tls.server_name = \"{name}\"");
        let expected = "is neither a DNS name nor an IP address; write it like \"app.internal\"";
        let start = format!("7:28: pool.web.upstream_tls.server_name: {name:?} {expected}");
        check_pool(&lines, &[&start]);
    }
}

#[test]
fn what_pools_inherit() {
    let text = format!(
        "[defaults]\nupstream = \"h2\"\nupstream_tls = {{ ca = \"ca.pem\", min_version = \"1.3\" }}\n{LISTENER}{POOL}\
         [pool.x]\nupstream_tls.server_name = \"x\"\ninstances = [{{ address = \"10.0.0.1:80\" }}]\n"
    );
    let loaded = good(&text);
    let [web, x] = loaded.config.pools.as_slice() else { panic!("two pools") };
    assert_eq!(web.upstream.tls, None, "a default makes no pool speak TLS");
    let tls = x.upstream.tls.as_ref().expect("TLS");
    assert_eq!((&tls.ca, tls.min_version), (&Some("dir/ca.pem".into()), TlsVersion::Tls13));
    assert_eq!(x.upstream.version, UpstreamVersion::H2);
    let find = |setting: &&Setting| setting.key == "pool.x.upstream_tls.ca";
    let ca = loaded.explanation.iter().find(find).expect("explained");
    assert_eq!((ca.value.as_str(), ca.origin), ("\"ca.pem\"", Origin::Defaults { line: 3 }));
}

#[test]
fn what_is_explained_of_listeners() {
    let text =
        listener(&format!("protocol = \"https\"\ntls = {{ {ONE}, client_ca = \"ca.pem\" }}"));
    let settings = good(&text).explanation;
    for (key, value, origin) in [
        ("certificates[1].cert", "\"a.pem\"", Origin::File { line: 10 }),
        ("certificates[1].key", "\"a.key\"", Origin::File { line: 10 }),
        ("client_ca", "\"ca.pem\"", Origin::File { line: 10 }),
        ("client_auth", "\"required\"", Origin::BuiltIn),
        ("client_subject", "\"x-client-subject\"", Origin::BuiltIn),
        ("min_version", "\"1.2\"", Origin::BuiltIn),
    ] {
        let key = format!("listener.l.tls.{key}");
        let it = settings.iter().find(|it| it.key == key).unwrap_or_else(|| panic!("{key}"));
        assert_eq!((it.value.as_str(), it.origin), (value, origin), "{key}");
    }
}

#[test]
fn connections_are_routed_by_name_alone_where_tls_passes_through() {
    let listener =
        "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\nprotocol = \"tls-passthrough\"\n";
    let route = |more: &str| format!("{listener}[[route]]\nlistener = \"l\"\n{more}{POOL}");
    let config = good(&route("host = \"*.example.com\"\npool = \"web\"\n")).config;
    let listener_made = &config.listeners[0];
    assert_eq!((listener_made.protocol, &listener_made.pool), (Protocol::TlsPassthrough, &None));
    assert!(listener_made.tls.is_none() && config.routes.len() == 1);
    let problem = "is about requests, and a tls-passthrough listener reads none";
    for (key, value) in [
        ("path_prefix", "\"/a\""),
        ("method", "[\"GET\"]"),
        ("header", "{ a = \"b\" }"),
        ("priority", "\"high\""),
        ("set_request_header", "{ a = \"b\" }"),
        ("remove_response_header", "[\"a\"]"),
    ] {
        let found = faults_of(&route(&format!("{key} = {value}\npool = \"web\"\n")));
        assert!(found.len() == 1 && found[0].contains(&format!("{key}: {problem}")), "{found:?}");
    }
    for (key, value) in [("redirect", "{ to = \"https://a/\" }"), ("respond", "{ status = 200 }")] {
        let found = faults_of(&route(&format!("{key} = {value}\n")));
        assert!(found.iter().any(|it| it.contains(&format!("{key}: {problem}"))), "{found:?}");
    }
    let found = faults_of(&format!("{listener}{POOL}"));
    assert!(found[0].contains("is missing, and no route is for this listener"), "{found:?}");
    let found = faults_of(&format!("{listener}tls.certificates = []\npool = \"web\"\n{POOL}"));
    assert!(found[0].contains("\"tls-passthrough\" has no TLS"), "{found:?}");
}
