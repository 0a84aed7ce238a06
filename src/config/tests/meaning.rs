//! Faults that are found when the file is taken as a whole.

use super::{LISTENER, POOL, PROVISIONED, check, check_pool};

/// Checks the faults of a listener and routes beside a pool `web` in lines 1 and 2.
#[track_caller]
fn check_listeners(lines: &str, expected: &[&str]) {
    check(&format!("{POOL}{lines}\n"), expected);
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
                "6:12: listener[1].protocol: \"htp\" is not one of \"http\", \"https\", \"tcp\", \"tls\", \"tls-passthrough\"; did you mean \"http\"?",
            ],
        ),
        (
            "[[listener]]\nbind = \"127.0.0.1:9900\"\npool = \"web\"",
            vec!["4:8: listener[1].bind: 127.0.0.1:9900 is taken already, by the admin API"],
        ),
        (
            "[[listener]]\nbind = [\"0.0.0.0:9900\", \"[::]:9900\"]\npool = \"web\"",
            vec!["4:9: listener[1].bind: 0.0.0.0:9900 and 127.0.0.1:9900 of the admin API overlap"],
        ),
        (
            "[[listener]]\nbind = [\"127.0.0.1:80\", \"0.0.0.0:81\", \"0.0.0.0:80\"]\npool = \"web\"",
            vec!["4:39: listener[1].bind: 0.0.0.0:80 and 127.0.0.1:80 overlap"],
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
        (
            "priority = \"hihg\"",
            "9:12: route[1].priority: \"hihg\" is not one of \"high\", \"normal\", \"low\"; did you mean \"high\"?",
        ),
        ("header = \"x\"", "9:10: route[1].header: must be a table, not a string"),
        ("header = { x = 1 }", "9:10: route[1].header: the value of x must be a string"),
        ("header = { \"x y\" = \"1\" }", "9:10: route[1].header: \"x y\" is not the name"),
        ("header = { X = \"1\", x = \"1\" }", "9:10: route[1].header: x is there twice"),
        ("header = { x = \"1 \" }", "9:10: route[1].header: the value of x can never"),
        (
            "path_prefx = \"/\"",
            "9:1: route[1].path_prefx: unknown key; did you mean \"path_prefix\"?",
        ),
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
            format!("{listener}[[route]]\nlistener = \"l\"\npriority = \"low\"\nrespond = {{}}\n"),
            vec!["9:12: route[1].priority: is for requests that wait for an instance"],
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
                "6:85: pool.web.instances[2].id: another instance of the pool has the id \"a\" too",
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
        "health = { serving_interval = \"4s\" }",
        &[
            "7:31: pool.web.health.serving_interval: the serving_interval \"4s\" is shorter than the interval \"5s\"",
        ],
    );
    check_pool(
        "health = { type = \"http\", method = \"HEAD\", body = \"x\" }",
        &["7:51: pool.web.health.body: answers to HEAD have no body; use GET"],
    );
    check_pool(
        "health = { type = \"http\", headers = { Host = \"a\" } }",
        &[
            "7:37: pool.web.health.headers: host has a key of its own; write host = \"app.example.com\"",
        ],
    );
    check_pool(
        "health = { type = \"http\", headers = { Connection = \"a\" } }",
        &["7:37: pool.web.health.headers: connection is the probe's own; leave it out"],
    );
    check_pool(
        "health = { type = \"http\", status = [\"399-200\", 100, \"2xx\"], body = \"\", host = \"a b\" }",
        &[
            "7:37: pool.web.health.status[1]: nothing is in \"399-200\"; did you mean \"200-399\"?",
            "7:48: pool.web.health.status[2]: 100 is less than 200",
            "7:53: pool.web.health.status[3]: \"2xx\" is not a range of statuses from 200 to 599; write it like \"200-399\"",
            "7:68: pool.web.health.body: every body contains an empty text",
            "7:79: pool.web.health.host: \"a b\" is not a host",
        ],
    );
    check_pool("health = { type = \"http\", status = 204, port = 81, host = \"[::1]:80\" }", &[]);
    check_pool(
        "health = { agent = { interval = \"1s\" } }",
        &["7:12: pool.web.health.agent.port: is missing; write where the agent listens"],
    );
    check_pool(
        "health = { body = \"x\" }",
        &["7:19: pool.web.health.body: is only for checks by HTTP; add type = \"http\""],
    );
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
        ("min = 3", "min = 0", vec![]),
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
    // What is missing in one place hides nothing in another.
    check(
        &format!(
            "{}{}",
            full.replace("max = 12", "").replace("min = 3", "min = -1"),
            PROVISIONED.replace("pool.web", "pool.api").replace("command", "comand"),
        ),
        &[
            "6:8: pool.web.port: 8000 is the port of the pool \"api\" too",
            "7:11: pool.web.scaling.max: is missing",
            "8:7: pool.web.scaling.min: -1 is less than 0",
            "21:11: pool.api.provisioner.command: is missing",
            "23:1: pool.api.provisioner.comand: unknown key; did you mean \"command\"?",
        ],
    );
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
        &["6:8: pool.web.port: 8000 is the port of the pool \"api\" too"],
    );
}

#[test]
fn defaults() {
    let check_defaults = |lines: &str, expected: &[&str]| {
        check(&format!("[defaults]\n{lines}\n{LISTENER}{POOL}"), expected);
    };
    check_defaults("name = \"x\"", &["2:8: defaults.name: cannot be inherited"]);
    check_defaults("bind = \"127.0.0.1:80\"", &["2:8: defaults.bind: cannot be inherited"]);
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
