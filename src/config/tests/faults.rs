//! Every fault is found, at its place, together with all others.

use std::path::Path;

use proptest::prelude::*;

use super::{PROVISIONED, SMALLEST, check, compiled, faults_of, good};
use crate::config::{compile, later, load};

/// One listener that leads to the pool `web`, in four lines.
const LISTENER: &str = "[[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n\n";
/// One pool that is right, in two lines.
const POOL: &str = "[pool.web]\ninstances = [{ address = \"10.0.0.1:80\" }]\n";

/// Checks the faults of `lines` in a pool that is right but for them; the first is line 7.
#[track_caller]
fn check_pool(lines: &str, expected: &[&str]) {
    check(&format!("{LISTENER}{POOL}{lines}\n"), expected);
}

/// Checks the faults of a listener and routes beside a pool `web` in lines 1 and 2.
#[track_caller]
fn check_listeners(lines: &str, expected: &[&str]) {
    check(&format!("{POOL}{lines}\n"), expected);
}

#[test]
fn five_different_faults_are_all_listed() {
    let text = r#"[admin]
bind = "0.0.0.0:9900"

[[listener]]
bind = "0.0.0.0:8080"
pool = "wbe"

[pool.web]
balanc = "random"
timeouts = { connect = 3 }
instances = [{ address = "10.0.1.4:80", weight = 0 }]
"#;
    let Err(faults) = compiled(text) else { panic!("it must be refused") };
    assert_eq!(
        faults.to_string(),
        r#"dir/t.toml:2:8: admin.bind: 0.0.0.0:9900 is not a loopback address: it would need token_file and TLS, and TLS on the admin API is not available in this version yet (comes with TLS); did you mean "127.0.0.1:9900"?
dir/t.toml:6:8: listener[1].pool: there is no pool "wbe"; did you mean "web"?
dir/t.toml:9:1: pool.web.balanc: unknown key; did you mean "balance"?
dir/t.toml:10:24: pool.web.timeouts.connect: 3 has no unit; did you mean "3s"?
dir/t.toml:11:50: pool.web.instances[1].weight: 0 is less than 1
5 faults"#
    );
}

#[test]
fn columns_count_characters() {
    check(
        "\"ärger\" = 1\n[[listener]]\r\nname = \"w\"\r\nbind = [\"127.0.0.1:80\", \"ü\", \"x\"]\npool = 7\n",
        &[
            "1:1: ärger: unknown key",
            "4:25: listener.w.bind[2]: \"ü\" is not an IP address",
            "4:30: listener.w.bind[3]: \"x\" is not an IP address",
            "5:8: listener.w.pool: must be a string, not a number",
        ],
    );
}

#[test]
fn syntax() {
    for (text, expected) in [
        // A line that is broken in itself hides nothing else.
        (
            format!("{LISTENER}{POOL}port =\nport2 = 3\n"),
            vec!["7:7: ", "8:1: pool.web.port2: unkn"],
        ),
        (
            format!("{LISTENER}{POOL}retry = 1\nretry = 2\n"),
            vec!["7:9: pool.web.retry: must be a table", "8:1: \"retry\" is there twice"],
        ),
        (
            format!("{LISTENER}{POOL}[pool.web]\nport = 0\n"),
            vec!["7:7: \"web\" is there twice", "8:8: pool.web.port: 0 is less than 1"],
        ),
        // A bracket that is missing may hide whole tables: nothing else is told then.
        (format!("{LISTENER}[pool.web\nport2 = 3\n"), vec!["5:10: "]),
        (format!("{LISTENER}{POOL}x = [1,\n[pool.api]\n"), vec!["8:2: "]),
        ("a b".into(), vec!["1:3: "]),
    ] {
        check(&text, &expected);
    }
}

#[test]
fn wrong_types_and_unknown_keys() {
    for (lines, expected) in [
        (
            "balance = 3",
            "7:11: pool.web.balance: must be one of \"round-robin\", \"least-request\", \"random\", not a number",
        ),
        (
            "balance = \"least-requests\"",
            "7:11: pool.web.balance: \"least-requests\" is not one of \"round-robin\", \"least-request\", \"random\"; did you mean \"least-request\"?",
        ),
        (
            "balance = \"mgalev\"",
            "7:11: pool.web.balance: \"mgalev\" is not one of \"round-robin\", \"least-request\", \"random\"; did you mean \"maglev\"?",
        ),
        ("queue = 3", "7:9: pool.web.queue: must be a table, not a number"),
        ("queue.max = -1", "7:13: pool.web.queue.max: -1 is less than 0"),
        (
            "queue.max = 5_000_000_000",
            "7:13: pool.web.queue.max: 5000000000 is more than 4294967295",
        ),
        (
            "queue.max = 99999999999999999999",
            "7:13: pool.web.queue.max: 99999999999999999999 is more than",
        ),
        (
            "queue.max = \"7\"",
            "7:13: pool.web.queue.max: must be a whole number, not a string; write 7 without quotes",
        ),
        ("queue.max = 1.5", "7:13: pool.web.queue.max: must be a whole number, not a fraction"),
        ("queue.maxx = 1", "7:7: pool.web.queue.maxx: unknown key; did you mean \"max\"?"),
        (
            "max_in_flight = 0",
            "7:17: pool.web.max_in_flight: 0 is less than 1; write \"unlimited\" to lift the bound",
        ),
        (
            "max_in_flight = \"lots\"",
            "7:17: pool.web.max_in_flight: must be a number or \"unlimited\", not a string",
        ),
        (
            "drain_timeout = \"30\"",
            "7:17: pool.web.drain_timeout: \"30\" is not a duration: it has no unit; did you mean \"30s\"?",
        ),
        (
            "drain_timeout = 1.5",
            "7:17: pool.web.drain_timeout: 1.5 has no unit; did you mean \"1.5s\"?",
        ),
        (
            "drain_timeout = -1",
            "7:17: pool.web.drain_timeout: -1 has no unit; did you mean \"5s\"?",
        ),
        (
            "drain_timeout = true",
            "7:17: pool.web.drain_timeout: must be a duration such as \"5s\", not a boolean",
        ),
        (
            "drain_timeout = \"0s\"",
            "7:17: pool.web.drain_timeout: must be at least \"1ms\"; zero never means",
        ),
        ("timeouts.tunnel = \"0.5ms\"", "7:19: pool.web.timeouts.tunnel: must be at least \"1ms\""),
        ("retry.budget = 20", "7:16: pool.web.retry.budget: 20 has no unit; did you mean \"20%\"?"),
        (
            "retry.budget = 0.2",
            "7:16: pool.web.retry.budget: 0.2 has no unit; did you mean \"20%\"?",
        ),
        (
            "retry.budget = \"0.2\"",
            "7:16: pool.web.retry.budget: \"0.2\" is not a share: it has no unit",
        ),
        ("retry.budget = \"120%\"", "7:16: pool.web.retry.budget: \"120%\" is more than the whole"),
        ("zzz = 1", "7:1: pool.web.zzz: unknown key"),
        ("port = 65536", "7:8: pool.web.port: 65536 is more than 65535"),
        (
            "health.type = \"ping\"",
            "7:15: pool.web.health.type: \"ping\" is not one of \"http\", \"tcp\", \"none\"",
        ),
        ("health.rise = 0", "7:15: pool.web.health.rise: 0 is less than 1"),
        ("zones = 3", "7:9: pool.web.zones: must be a table, not a number"),
        ("zones.foo = 3", "7:7: pool.web.zones.foo: unknown key"),
    ] {
        check_pool(lines, &[expected]);
    }
    check(
        "pools = 3\n[nod]\n[lisener]",
        &[
            "1:1: listener: there is none",
            "1:1: pools: unknown key; did you mean \"pool\"?",
            "2:2: nod: unknown key; did you mean \"node\"?",
            "3:2: lisener: unknown key; did you mean \"listener\"?",
        ],
    );
    check(
        "[listener]\nbind = \"127.0.0.1:80\"\n[pool]\nweb = 3\n",
        &[
            "1:1: listener: must be a list of tables, not a table; write [[listener]]",
            "4:7: pool.web: must be a table, not a number",
        ],
    );
    check(
        "node = 3\nlistener = [3]\n",
        &[
            "1:8: node: must be a table, not a number",
            "2:13: listener[1]: must be a table, not a number",
        ],
    );
}

#[test]
fn node_admin_and_log() {
    for (lines, expected) in [
        ("node.workers = 0", "1:16: node.workers: 0 is less than 1"),
        ("node.workers = 257", "1:16: node.workers: 257 is more than 256"),
        ("node.workers = \"many\"", "1:16: node.workers: must be a number or \"auto\""),
        ("node.zone = \"\"", "1:13: node.zone: a name must not be empty"),
        ("node.zone = \"a b\"", "1:13: node.zone: ' ' must not be in a name"),
        ("node.state_dir = \"\"", "1:18: node.state_dir: must not be empty"),
        (
            "admin.bind = \"127.0.0.1\"",
            "1:14: admin.bind: \"127.0.0.1\" is not an IP address with a port",
        ),
        (
            "admin.bind = \":9900\"",
            "1:14: admin.bind: \":9900\" is not an IP address with a port; did you mean",
        ),
        ("admin.bind = \"[::]:9900\"", "1:14: admin.bind: [::]:9900 is not a loopback address"),
        ("admin.bind = \"unix:\"", "1:14: admin.bind: has no path"),
        ("admin.token = \"x\"", "1:7: admin.token: unknown key; did you mean \"token_file\"?"),
        ("log.level = \"warning\"", "1:13: log.level: \"warning\" is not one of"),
        ("log.format = \"xml\"", "1:14: log.format: \"xml\" is not one of"),
    ] {
        let expected: &[&str] = &[expected];
        check(&format!("{lines}\n{LISTENER}{POOL}"), expected);
    }
}

#[test]
fn listeners() {
    check("", &["1:1: listener: there is none"]);
    for (lines, expected) in [
        ("[[listener]]\npool = \"web\"", vec!["3:1: listener[1].bind: is missing"]),
        (
            "[[listener]]\nbind = []\npool = \"web\"",
            vec!["4:8: listener[1].bind: is an empty list"],
        ),
        (
            "[[listener]]\nbind = \"*:80\"\npool = \"web\"",
            vec![
                "4:8: listener[1].bind: \"*:80\" is not an IP address with a port; did you mean \"0.0.0.0:80\"?",
            ],
        ),
        (
            "[[listener]]\nbind = \"localhost:80\"\npool = \"web\"",
            vec![
                "4:8: listener[1].bind: \"localhost:80\" is not an IP address with a port; did you mean \"127.0.0.1:80\"?",
            ],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:0\"\npool = \"web\"",
            vec!["4:8: listener[1].bind: port 0"],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:80\"",
            vec!["3:1: listener[1].pool: is missing, and no route"],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:80\"\nprotocol = \"tcp\"",
            vec!["3:1: listener[1].pool: is missing: a tcp"],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:80\"\npool = 3",
            vec!["5:8: listener[1].pool: must be a string"],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"\nprotocol = \"htp\"",
            vec![
                "6:12: listener[1].protocol: \"htp\" is not one of \"http\", \"tcp\"; did you mean \"http\"?",
            ],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:9900\"\npool = \"web\"",
            vec!["4:8: listener[1].bind: 127.0.0.1:9900 is taken already, by the admin API"],
        ),
        (
            "[[listener]]\nname = \"a/b\"\nbind = \"127.0.0.1:80\"\npool = \"web\"",
            vec!["4:8: listener.a/b.name: '/' must not"],
        ),
        (
            "[[listener]]\nname = \"a\"\nbind = \"127.0.0.1:80\"\npool = \"web\"\n\
             [[listener]]\nname = \"a\"\nbind = [\"127.0.0.1:81\", \"127.0.0.1:80\", \"127.0.0.1:81\"]\npool = \"web\"",
            vec![
                "8:8: listener.a.name: another listener has the name \"a\" too",
                "9:25: listener.a.bind: 127.0.0.1:80 is ",
                "9:41: listener.a.bind: 127.0.0.1:81 is there twice",
            ],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n[[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"",
            vec!["7:8: listener[2].bind: 127.0.0.1:80 is there twice"],
        ),
        (
            "[[listener]]\nname = \"127.0.0.1:81\"\nbind = \"127.0.0.1:80\"\npool = \"web\"\n[[listener]]\nbind = \"127.0.0.1:81\"\npool = \"web\"",
            vec!["7:1: listener[2].name: another listener has the name"],
        ),
    ] {
        check_listeners(lines, &expected);
    }
}

#[test]
fn routes() {
    let with = |route: &str| {
        format!(
            "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\n[[route]]\nlistener = \"l\"\npool = \"web\"\n{route}"
        )
    };
    for (route, expected) in [
        ("host = \"*\"", "9:8: route[1].host: is not a host pattern; leave host out"),
        ("host = \"*example.com\"", "9:8: route[1].host: after * there must be a dot"),
        ("host = \"a.*.com\"", "9:8: route[1].host: \"a.*.com\" is not a host name"),
        (
            "host = \"example.com:80\"",
            "9:8: route[1].host: has a port; hosts are compared without a port: write \"example.com\"",
        ),
        ("host = \"example.com.\"", "9:8: route[1].host: ends in a dot"),
        ("host = \"exämple.com\"", "9:8: route[1].host: has characters that are not ASCII"),
        ("host = \"-a.com\"", "9:8: route[1].host: \"-a.com\" is not a host name"),
        ("host = \"\"", "9:8: route[1].host: \"\" is not a host name"),
        ("host = \"[::g]\"", "9:8: route[1].host: \"[::g]\" is not an IPv6 address"),
        (
            "path_prefix = \"v1\"",
            "9:15: route[1].path_prefix: \"v1\" does not start with a slash; did you mean \"/v1\"?",
        ),
        ("path_prefix = \"/a b\"", "9:15: route[1].path_prefix: ' ' never is"),
        ("path_prefix = \"/a?b\"", "9:15: route[1].path_prefix: has a question mark"),
        ("method = []", "9:10: route[1].method: is an empty list"),
        (
            "method = [\"GET\", \"post\"]",
            "9:18: route[1].method[2]: \"post\" is not in upper case; did you mean \"POST\"?",
        ),
        ("method = \"G T\"", "9:10: route[1].method: \"G T\" is not a method"),
        ("header = \"x\"", "9:10: route[1].header: must be a table, not a string"),
        ("header = { x = 1 }", "9:10: route[1].header: the value of x must be a string"),
        ("header = { \"x y\" = \"1\" }", "9:10: route[1].header: \"x y\" is not the name"),
        ("header = { X = \"1\", x = \"1\" }", "9:10: route[1].header: x is there twice"),
        ("header = { x = \"1 \" }", "9:10: route[1].header: the value of x can never"),
        ("prefix = \"/\"", "9:1: route[1].prefix: unknown key; did you mean \"path_prefix\"?"),
    ] {
        check_listeners(&with(route), &[expected]);
    }
    let listener = "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\npool = \"web\"\n";
    let tcp =
        "[[listener]]\nname = \"t\"\nbind = \"127.0.0.1:81\"\npool = \"web\"\nprotocol = \"tcp\"\n";
    for (text, expected) in [
        (format!("{listener}[[route]]\n"), vec!["7:1: route[1].listener: is missing", "7:1: route[1].pool: is missing"]),
        (
            format!("{listener}[[route]]\nlistener = \"L1\"\npool = \"we\"\n"),
            vec!["8:12: route[1].listener: there is no listener \"L1\"", "9:8: route[1].pool: there is no pool \"we\"; did you mean \"web\"?"],
        ),
        (
            format!("{tcp}[[route]]\nlistener = \"t\"\npool = \"web\"\n"),
            vec!["9:12: route[1].listener: the listener \"t\" speaks tcp"],
        ),
        (
            // A listener whose name is wrong may be the one that a route means.
            "[[listener]]\nname = \"l l\"\nbind = \"127.0.0.1:80\"\n[[route]]\nlistener = \"l\"\npool = \"web\"".into(),
            vec!["4:8: listener.l l.name: ' ' must not be in a name"],
        ),
    ] {
        check_listeners(&text, &expected);
    }
}

#[test]
fn instances() {
    for (pool, expected) in [
        ("", vec!["5:7: pool.web: has neither instances nor a provisioner"]),
        ("instances = []", vec!["5:7: pool.web: has neither instances nor a provisioner"]),
        ("instances = 3", vec!["6:13: pool.web.instances: must be a list of tables, not a number"]),
        (
            "instances = [\"10.0.0.1:80\"]",
            vec!["6:14: pool.web.instances[1]: must be a table, not a string"],
        ),
        ("instances = [{}]", vec!["6:14: pool.web.instances[1].address: is missing"]),
        (
            "instances = [{ address = \"10.0.0.1\" }]",
            vec![
                "6:26: pool.web.instances[1].address: 10.0.0.1 has no port, and the pool has none",
            ],
        ),
        (
            "port = \"x\"\ninstances = [{ address = \"10.0.0.1\" }]",
            vec!["6:8: pool.web.port: must be a whole number"],
        ),
        (
            "instances = [{ address = \"web-1.local:80\" }]",
            vec![
                "6:26: pool.web.instances[1].address: the host name \"web-1.local\" is not available in this version yet (comes with discovery by DNS)",
            ],
        ),
        (
            "instances = [{ address = \"localhost\" }]",
            vec![
                "6:26: pool.web.instances[1].address: the host name \"localhost\" is not available",
            ],
        ),
        (
            "instances = [{ address = \"10.0.0.256:80\" }]",
            vec!["6:26: pool.web.instances[1].address: \"10.0.0.256:80\" is not an IP address"],
        ),
        (
            "instances = [{ address = \"10.0.0.1:0\" }]",
            vec!["6:26: pool.web.instances[1].address: port 0"],
        ),
        (
            "instances = [{ address = \"0.0.0.0:80\" }]",
            vec!["6:26: pool.web.instances[1].address: 0.0.0.0 is not the address of one machine"],
        ),
        (
            "instances = [{ address = \"10.0.0.1:80\", weight = 0, zone = \"ä\", id = \"\" }]",
            vec![
                "6:50: pool.web.instances[1].weight: 0 is less than 1",
                "6:60: pool.web.instances[1].zone: 'ä' must not be in a name",
                "6:70: pool.web.instances[1].id: a name must not be empty",
            ],
        ),
        (
            "port = 80\ninstances = [{ address = \"10.0.0.1:80\" }, { address = \"10.0.0.1\" }]",
            vec!["7:55: pool.web.instances[2].address: 10.0.0.1:80 is in the pool twice"],
        ),
        (
            "instances = [{ address = \"10.0.0.1:80\", id = \"a\" }, { address = \"10.0.0.2:80\", id = \"a\" }]",
            vec![
                "6:86: pool.web.instances[2].id: another instance of the pool has the id \"a\" too",
            ],
        ),
    ] {
        check(&format!("{LISTENER}[pool.web]\n{pool}\n"), &expected);
    }
    let long = "x".repeat(65);
    check(
        &format!("{LISTENER}{POOL}[pool.{long}]\ninstances = [{{ address = \"10.0.0.1:80\" }}]\n"),
        &[&format!("7:7: pool.{long}: a name has at most 64 characters")],
    );
    check(
        &format!("{LISTENER}{POOL}[pool.\"..\"]\ninstances = [{{ address = \"10.0.0.1:80\" }}]\n"),
        &["7:7: pool...: a name must not be only dots"],
    );
}

#[test]
fn health() {
    check_pool(
        "health = { interval = \"1s\" }",
        &["7:23: pool.web.health.interval: the timeout \"2s\" is longer than the interval \"1s\""],
    );
    check_pool(
        "health = { timeout = \"10s\" }",
        &["7:22: pool.web.health.timeout: the timeout \"10s\" is longer than the interval \"5s\""],
    );
    check_pool("health = { type = \"none\", timeout = \"10s\" }", &[]);
    check_pool(
        "health = { path = \"/healthz\" }",
        &["7:19: pool.web.health.path: is only for checks by HTTP; add type = \"http\""],
    );
    check_pool(
        "health = { type = \"http\", path = \"healthz\" }",
        &["7:34: pool.web.health.path: \"healthz\" does not start with a slash"],
    );
}

#[test]
fn scaling_and_provisioner() {
    let full = format!("{LISTENER}{PROVISIONED}");
    check(&full, &[]);
    for (from, to, expected) in [
        (
            "min = 3",
            "min = 0",
            vec![
                "8:7: pool.web.scaling.min: 0 is not available in this version yet (comes with scale to zero)",
            ],
        ),
        ("min = 3", "min = 13", vec!["8:7: pool.web.scaling.min: min 13 is above max 12"]),
        ("max = 12", "max = 0", vec!["9:7: pool.web.scaling.max: 0 is less than 1"]),
        ("max = 12", "", vec!["7:11: pool.web.scaling.max: is missing"]),
        (
            "= 70",
            "= 0",
            vec!["10:30: pool.web.scaling.target_requests_per_second: must be a number above 0"],
        ),
        (
            "= 70",
            "= -1.5",
            vec!["10:30: pool.web.scaling.target_requests_per_second: must be a number above 0"],
        ),
        (
            "= 70",
            "= inf",
            vec!["10:30: pool.web.scaling.target_requests_per_second: must be a number above 0"],
        ),
        (
            "= 70",
            "= \"70\"",
            vec![
                "10:30: pool.web.scaling.target_requests_per_second: must be a number above 0, not a string",
            ],
        ),
        (
            "= 70",
            "= 70\nscale_in.rate = 10",
            vec!["11:17: pool.web.scaling.scale_in.rate: 10 has no unit; did you mean \"10%\"?"],
        ),
        (
            "target_requests_per_second = 70",
            "",
            vec!["7:11: pool.web.scaling.target_requests_per_second: is missing"],
        ),
        ("port = 8000", "", vec!["5:7: pool.web.port: is missing"]),
        (
            "\"process\"",
            "\"proces\"",
            vec![
                "12:8: pool.web.provisioner.kind: \"proces\" is not one of \"process\"; did you mean \"process\"?",
            ],
        ),
        (
            "\"process\"",
            "\"azure-vms\"",
            vec![
                "12:8: pool.web.provisioner.kind: \"azure-vms\" is not one of \"process\"; did you mean \"azure-vmss\"?",
            ],
        ),
        (
            "\"process\"",
            "\"exec\"\nscript = \"x\"",
            vec!["12:8: pool.web.provisioner.kind: \"exec\" is not available"],
        ),
        ("kind = \"process\"", "", vec!["11:11: pool.web.provisioner.kind: is missing"]),
        (
            "[\"{self}\", \"whoami\"]",
            "[]",
            vec!["13:11: pool.web.provisioner.command: is an empty list"],
        ),
        (
            "[\"{self}\", \"whoami\"]",
            "\"whoami\"",
            vec!["13:11: pool.web.provisioner.command: must be a list, not a string"],
        ),
        (
            "[\"{self}\", \"whoami\"]",
            "[\"\"]",
            vec!["13:12: pool.web.provisioner.command[1]: must not be empty"],
        ),
        (
            "command = [\"{self}\", \"whoami\"]",
            "",
            vec!["11:11: pool.web.provisioner.command: is missing"],
        ),
        ("zones = [\"a\", \"b\"]", "", vec!["11:11: pool.web.provisioner.zones: is missing"]),
        (
            "zones = [\"a\", \"b\"]",
            "zones = []",
            vec!["14:9: pool.web.provisioner.zones: is an empty list"],
        ),
        (
            "[\"a\", \"b\"]",
            "[\"a\", \"a\"]",
            vec!["14:15: pool.web.provisioner.zones: the zone \"a\" is there twice"],
        ),
        (
            "[\"a\", \"b\"]",
            "[\"a\", \"b\"]\nstop = \"kill\"",
            vec!["15:8: pool.web.provisioner.stop: \"kill\" is not one of"],
        ),
        (
            "bind = \"127.0.0.1:80\"",
            "bind = [\"127.0.0.1:80\", \"0.0.0.0:8000\"]",
            vec![
                "6:8: pool.web.port: the listener \"127.0.0.1:80\" takes port 8000 on every address",
            ],
        ),
    ] {
        assert!(full.contains(from), "{from}");
        check(&full.replacen(from, to, 1), &expected);
    }
    let zones: Vec<String> = (0..255).map(|n| format!("\"z{n}\"")).collect();
    check(
        &full.replace("\"a\", \"b\"", &zones.join(",")),
        &["14:9: pool.web.provisioner.zones: 255 zones are more than 254"],
    );
    check_pool(
        "[pool.web.scaling]\nmax = 3\ntarget_requests_per_second = 7",
        &["7:11: pool.web.scaling: has no provisioner"],
    );
    let (without, _) = full.split_once("[pool.web.scaling]").expect("it is there");
    let (_, provisioner) = full.split_once("[pool.web.prov").expect("it is there");
    check(
        &format!("{without}[pool.web.prov{provisioner}"),
        &["7:11: pool.web.provisioner: has no scaling beside it; add [pool.web.scaling]"],
    );
    check(
        &format!("{full}{}", PROVISIONED.replace("pool.web", "pool.api")),
        &["17:8: pool.web.port: 8000 is the port of the pool \"api\" too"],
    );
}

#[test]
fn defaults() {
    let check_defaults = |lines: &str, expected: &[&str]| {
        check(&format!("[defaults]\n{lines}\n{LISTENER}{POOL}"), expected);
    };
    check_defaults("name = \"x\"", &["2:8: defaults.name: cannot be inherited"]);
    check_defaults("bind = 3", &["2:8: defaults.bind: must be a list"]);
    check_defaults("instances = []", &["2:13: defaults.instances: cannot be inherited"]);
    check_defaults("idle = \"3s\"", &["2:1: defaults.idle: unknown key"]);
    check_defaults(
        "timeouts.idel = \"3s\"",
        &["2:10: defaults.timeouts.idel: unknown key; did you mean \"idle\"?"],
    );
    check_defaults("timeouts.idle = 3", &["2:17: defaults.timeouts.idle: 3 has no unit"]);
    check_defaults("pool = \"wbe\"", &[]);
    check_defaults(
        "balanec = \"random\"",
        &["2:1: defaults.balanec: unknown key; did you mean \"balance\"?"],
    );
    check_defaults(
        "scaling.minn = 3",
        &["2:9: defaults.scaling.minn: unknown key; did you mean \"min\"?"],
    );
    // A default with a fault is told once, whoever inherits it.
    check(
        &format!(
            "[defaults]\nhealth.timeout = \"9s\"\n{LISTENER}{POOL}[pool.b]\ninstances = [{{ address = \"10.0.0.1:80\" }}]"
        ),
        &["2:18: defaults.health.timeout: the timeout \"9s\" is longer than the interval \"5s\""],
    );
}

#[test]
fn every_key_for_later_is_refused() {
    for (key, word, sentence) in later::all() {
        let (table, name) = key.rsplit_once('.').expect("every key is in a table");
        // Where a file would have the key, and how faults name it.
        let (header, path) = match table.split_once('.') {
            _ if table == "listener" => (
                "[[listener]]\nbind = \"127.0.0.1:81\"\npool = \"web\"".into(),
                "listener[2]".into(),
            ),
            _ if table == "pool" => {
                ("[pool.x]\ninstances = [{ address = \"10.0.0.1:80\" }]".into(), "pool.x".into())
            }
            Some(("pool", rest)) => (format!("[pool.web.{rest}]"), format!("pool.web.{rest}")),
            _ => (format!("[{table}]"), table.to_owned()),
        };
        let value = word.unwrap_or("something");
        let text = format!("{LISTENER}{POOL}{header}\n{name} = \"{value}\"\n");
        let line = text.lines().count();
        let wanted = format!(" {path}.{name}: ");
        let found = faults_of(&text);
        assert!(
            found.iter().any(|fault| fault.starts_with(&format!("{line}:"))
                && fault.contains(&wanted)
                && fault.contains(&sentence)),
            "{key} {word:?}: {found:?}"
        );
        // As a default too.
        if let Some(inherited) = key.strip_prefix("pool.").or_else(|| key.strip_prefix("listener."))
        {
            let found = faults_of(&format!("defaults.{inherited} = \"{value}\"\n{LISTENER}{POOL}"));
            let wanted = format!(" defaults.{inherited}: ");
            assert!(
                found.iter().any(|fault| fault.contains(&wanted) && fault.contains(&sentence)),
                "default of {key} {word:?}: {found:?}"
            );
        }
    }
}

#[test]
fn the_only_word_there_is_is_accepted() {
    good(&format!(
        "log.access = \"off\"\n{LISTENER}proxy_protocol = \"off\"\n{POOL}upstream = \"http1\"\nzones.mode = \"spread\"\n"
    ));
    check_pool(
        "zones.mode = \"local-first\"",
        &[
            "7:14: pool.web.zones.mode: \"local-first\" is not available in this version yet (comes with zone-aware routing); leave it out or write \"spread\"",
        ],
    );
    check_pool(
        "zones.mode = 3",
        &["7:14: pool.web.zones.mode: anything but \"spread\" is not available"],
    );
    check_pool(
        "[pool.web.outlier]\nfoo = 1",
        &[
            "7:11: pool.web.outlier: not available in this version yet (comes with outlier ejection)",
        ],
    );
    check_pool(
        "[[pool.web.scaling.schedule]]\nname = \"n\"",
        &[
            "7:12: pool.web.scaling: has no provisioner",
            "7:12: pool.web.scaling.max: is missing",
            "7:12: pool.web.scaling.target_requests_per_second: is missing",
            "7:20: pool.web.scaling.schedule: not available in this version yet (comes with schedules)",
        ],
    );
}

#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let missing = dir.path().join("none.toml");
    let Err(faults) = load(&missing) else { panic!("there is no such file") };
    let shown = faults.to_string();
    assert!(shown.starts_with(&format!("{}: cannot be read: ", missing.display())), "{shown}");
    assert!(shown.ends_with("; write one there, or name another with --config FILE\n1 fault"));

    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, b"[node]\nzone = \"\xff\"\n").expect("written");
    let Err(faults) = load(&binary) else { panic!("it is not text") };
    assert!(faults.to_string().contains("binary.toml:2:9: is not UTF-8 here"), "{faults}");
}

/// Lines, words and characters that a file may be put together from, right or wrong.
fn pieces() -> impl Strategy<Value = String> {
    let shipped = include_str!("../../../config/tidegate.toml").replace("# ", "");
    let lines: Vec<String> =
        shipped.lines().chain(SMALLEST.lines()).map(|line| format!("{line}\n")).collect();
    let tokens = [
        "[", "]", "[[", "]]", "{", "}", "=", ",", "\"", "'", "\n", ".", "pool", "web", "3", "\\",
        "\"\"\"", "ä",
    ];
    prop_oneof![
        4 => proptest::sample::select(lines),
        2 => proptest::sample::select(tokens.map(str::to_owned).to_vec()),
        1 => ".{0,8}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = compiled(&text);
    }

    #[test]
    fn no_mixture_makes_it_panic(parts in proptest::collection::vec(pieces(), 0..40)) {
        let text = parts.concat();
        if let Err(faults) = compiled(&text) {
            prop_assert!(!faults.0.is_empty());
            prop_assert!(faults.0.is_sorted());
            for fault in &faults.0 {
                prop_assert!((1..=text.lines().count() + 1).contains(&fault.line), "{}", fault);
                prop_assert!(!fault.to_string().contains('\n'), "{}", fault);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_refused_or_right(cut in 0usize..6_000, len in 0usize..30, with in ".{0,3}") {
        let text = include_str!("../../../config/tidegate.toml");
        let at = |n: usize| (n.min(text.len())..=text.len()).find(|n| text.is_char_boundary(*n));
        let (start, end) = (at(cut).expect("the end is one"), at(cut + len).expect("the end is one"));
        let damaged = format!("{}{with}{}", &text[..start], &text[end..]);
        let _ = compile(&damaged, Path::new("x.toml"));
    }
}
