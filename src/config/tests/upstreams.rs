//! How pools connect to their instances.

use std::time::Duration;

use super::{LISTENER, POOL, PROVISIONED, check, check_pool, good};
use crate::config::{Origin, Setting};
use crate::model::{
    KeepAlive, Limit, Pool, PoolTimeouts, ProxyVersion, SocketOptions, UpstreamSettings,
};

/// The pool that `lines` make.
fn pool(lines: &str) -> Pool {
    good(&format!("{LISTENER}{POOL}{lines}\n")).config.pools[0].as_ref().clone()
}

#[test]
fn defaults_of_a_pool() {
    let it = pool("");
    assert_eq!(it.upstream, UpstreamSettings::default());
    assert_eq!(it.timeouts, PoolTimeouts::default());
    assert_eq!(it.timeouts.total, Duration::from_secs(86_400));
    let keep = it.upstream.keep_alive;
    assert_eq!((keep.max, keep.age), (128, Duration::from_secs(3_600)));
    assert_eq!(keep.requests, Limit::AtMost(100_000));
    assert_eq!((it.upstream.source, it.upstream.proxy_protocol), (None, None));
}

#[test]
fn connections() {
    let it = pool(
        "timeouts.total = \"5m\"\nkeep_alive = { max = 0, age = \"1m\", requests = \"unlimited\" }\n\
         source = \"10.0.0.9\"\nproxy_protocol = \"v2\"\ntcp = { keepalive = \"30s\", user_timeout = \"20s\" }",
    );
    assert_eq!(it.timeouts.total, Duration::from_secs(300));
    let keep = KeepAlive { max: 0, age: Duration::from_secs(60), requests: Limit::Unlimited };
    assert_eq!(it.upstream.keep_alive, keep);
    assert_eq!(it.upstream.source, Some([10, 0, 0, 9].into()));
    assert_eq!(it.upstream.proxy_protocol, Some(ProxyVersion::V2));
    let socket = SocketOptions {
        keepalive: Some(Duration::from_secs(30)),
        user_timeout: Some(Duration::from_secs(20)),
    };
    assert_eq!(it.upstream.socket, socket);
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let it = pool(&format!("proxy_protocol = \"{}\"", version.word()));
        assert_eq!(it.upstream.proxy_protocol, Some(version));
    }
    assert_eq!(pool("proxy_protocol = \"off\"").upstream.proxy_protocol, None);
}

#[test]
fn faults_of_connections() {
    for (lines, expected) in [
        ("timeouts.total = \"0s\"", "7:18: pool.web.timeouts.total: must be at least \"1ms\""),
        ("keep_alive = \"off\"", "7:14: pool.web.keep_alive: must be a table, not a string"),
        ("keepalive = {}", "7:1: pool.web.keepalive: unknown key; did you mean \"keep_alive\"?"),
        (
            "keep_alive.max = \"unlimited\"",
            "7:18: pool.web.keep_alive.max: must be a whole number, not a string",
        ),
        (
            "keep_alive.age = 3",
            "7:18: pool.web.keep_alive.age: 3 has no unit; did you mean \"3s\"?",
        ),
        (
            "keep_alive.requests = 0",
            "7:23: pool.web.keep_alive.requests: 0 is less than 1; write \"unlimited\" to lift the bound",
        ),
        (
            "proxy_protocol = \"v3\"",
            "7:18: pool.web.proxy_protocol: \"v3\" is not one of \"off\", \"v1\", \"v2\"",
        ),
        ("proxy_protocol = \"accept\"", "7:18: pool.web.proxy_protocol: \"accept\" is not one of"),
        (
            "tcp.user_timeot = \"1s\"",
            "7:5: pool.web.tcp.user_timeot: unknown key; did you mean \"user_timeout\"?",
        ),
        ("tcp.keepalive = \"1ms\"", "7:17: pool.web.tcp.keepalive: must be at least \"1s\""),
        (
            "source = \"10.0.0.9:80\"",
            "7:10: pool.web.source: \"10.0.0.9:80\" has a port; the kernel picks the port: write \"10.0.0.9\"",
        ),
        (
            "source = \"0.0.0.0\"",
            "7:10: pool.web.source: 0.0.0.0 is not the address of one machine; leave it out",
        ),
        (
            "source = \"eth0\"",
            "7:10: pool.web.source: \"eth0\" is not an IP address; write it like \"10.0.0.9\"",
        ),
        (
            "source = \"2001:db8::9\"",
            "7:10: pool.web.source: no connection from 2001:db8::9 can reach 10.0.0.1; write an address of the same family",
        ),
    ] {
        check_pool(lines, &[expected]);
    }
    check(
        &format!(
            "{LISTENER}{}",
            PROVISIONED.replace("port = 8000", "port = 8000\nsource = \"::1\"")
        ),
        &[
            "7:10: pool.web.source: no connection from ::1 can reach 127.0.k.n, where its instances are",
        ],
    );
    check(
        &format!(
            "{LISTENER}[pool.web]\nsource = \"10.0.0.9\"\ninstances = [{{ address = \"10.0.0.1:80\" }}, {{ address = \"[::1]:80\" }}]\n"
        ),
        &["6:10: pool.web.source: no connection from 10.0.0.9 can reach ::1"],
    );
    check(
        &format!("defaults.source = \"::9\"\n{LISTENER}{POOL}"),
        &["1:19: defaults.source: no connection from ::9 can reach 10.0.0.1"],
    );
}

#[test]
fn what_pools_inherit() {
    let text = format!(
        "[defaults]\ntcp = {{ keepalive = \"30s\" }}\nkeep_alive = {{ max = 7, age = \"2m\" }}\nsource = \"10.0.0.9\"\n\
         timeouts.total = \"1h\"\n{LISTENER}{POOL}tcp.user_timeout = \"9s\"\nkeep_alive.age = \"3m\"\n",
    );
    let loaded = good(&text);
    let told = |key: &str| {
        let find = |setting: &&Setting| setting.key == key;
        let it = loaded.explanation.iter().find(find).unwrap_or_else(|| panic!("{key}"));
        (it.value.as_str(), it.origin)
    };
    let (file, inherited) = (|line| Origin::File { line }, |line| Origin::Defaults { line });
    // One line sets both.
    assert_eq!(told("listener[1].tcp.keepalive"), ("\"30s\"", inherited(2)));
    assert_eq!(told("pool.web.tcp.keepalive"), ("\"30s\"", inherited(2)));
    assert_eq!(told("pool.web.tcp.user_timeout"), ("\"9s\"", file(12)));
    assert_eq!(told("pool.web.keep_alive.max"), ("7", inherited(3)));
    assert_eq!(told("pool.web.keep_alive.age"), ("\"3m\"", file(13)));
    assert_eq!(told("pool.web.keep_alive.requests"), ("100000", Origin::BuiltIn));
    assert_eq!(told("pool.web.source"), ("\"10.0.0.9\"", inherited(4)));
    assert_eq!(told("pool.web.timeouts.total"), ("\"1h\"", inherited(5)));
    assert_eq!(told("pool.web.proxy_protocol"), ("\"off\"", Origin::BuiltIn));
    let pool = &loaded.config.pools[0];
    assert_eq!(pool.upstream.socket.user_timeout, Some(Duration::from_secs(9)));
    assert_eq!(loaded.config.listeners[0].socket.user_timeout, None);
    assert_eq!(pool.upstream.keep_alive.max, 7);
}
