//! Every fault is found, at its place, together with all others.

use super::{LISTENER, POOL, check, check_pool, compiled};
use crate::config::load;

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
            "7:11: pool.web.balance: must be one of \"round-robin\", \"least-request\", \"random\", \"peak-ewma\", \"maglev\", \"ring\", not a number",
        ),
        (
            "balance = \"least-requests\"",
            "7:11: pool.web.balance: \"least-requests\" is not one of \"round-robin\", \"least-request\", \"random\", \"peak-ewma\", \"maglev\", \"ring\"; did you mean \"least-request\"?",
        ),
        (
            "balance = \"mgalev\"",
            "7:11: pool.web.balance: \"mgalev\" is not one of \"round-robin\", \"least-request\", \"random\", \"peak-ewma\", \"maglev\", \"ring\"; did you mean \"maglev\"?",
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
        ("queue.bytes = 7", "7:15: pool.web.queue.bytes: 7 has no unit; did you mean \"7B\"?"),
        (
            "queue.order = \"lifo\"",
            "7:15: pool.web.queue.order: \"lifo\" is not one of \"fifo\", \"adaptive\"",
        ),
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
            "7:15: pool.web.health.type: \"ping\" is not one of \"http\", \"https\", \"grpc\", \"tls\", \"tcp\", \"none\"",
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
        (
            "admin.tokenfile = \"x\"",
            "1:7: admin.tokenfile: unknown key; did you mean \"token_file\"?",
        ),
        ("log.level = \"warning\"", "1:13: log.level: \"warning\" is not one of"),
        ("log.format = \"xml\"", "1:14: log.format: \"xml\" is not one of"),
        ("log.access = \"\"", "1:14: log.access: has no path; write \"off\", \"stdout\" or a file"),
    ] {
        let expected: &[&str] = &[expected];
        check(&format!("{lines}\n{LISTENER}{POOL}"), expected);
    }
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
