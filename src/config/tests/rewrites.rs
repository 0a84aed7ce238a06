//! Header fields that routes and pools remove, set and add.

use super::{LISTENER, POOL, check, check_pool, good};
use crate::config::{Origin, Setting};
use crate::model::{FieldEdits, Rewrite};

/// The edits in one line: `-a` is removed, `b=x` set, `+c=y` added.
fn told(edits: &FieldEdits) -> String {
    let remove = edits.remove.iter().map(|name| format!("-{name}"));
    let set = edits.set.iter().map(|(name, value)| format!("{name}={value}"));
    let add = edits.add.iter().map(|(name, value)| format!("+{name}={value}"));
    remove.chain(set).chain(add).collect::<Vec<_>>().join(" ")
}

/// What a pool changes.
fn rewrite(lines: &str) -> Rewrite {
    good(&format!("{LISTENER}{POOL}{lines}\n")).config.pools[0].upstream.rewrite.clone()
}

const EDITS: &str = r#"remove_request_header = ["X-A", "x-b"]
set_request_header = { X-C = "{client}", host = "api.{host}:81", x-d = ["1", "2"] }
add_request_header = { X-c = ["a{{b}}", ""], "x.y" = "ü" }
remove_response_header = "Server"
set_response_header = { strict-transport-security = "max-age=1" }
add_response_header = { via = "t", x-id = "{request_id}" }
"#;

const REQUEST: &str =
    "-x-a -x-b x-c={client} host=api.{host}:81 x-d=1 +x-d=2 +x-c=a{{b}} +x-c= +x.y=ü";
const RESPONSE: &str = "-server strict-transport-security=max-age=1 +via=t +x-id={request_id}";

#[test]
fn of_pools_and_routes() {
    assert_eq!(rewrite(""), Rewrite::default());
    let it = rewrite(EDITS);
    assert_eq!((told(&it.request).as_str(), told(&it.response).as_str()), (REQUEST, RESPONSE));
    let route = format!("[[route]]\nlistener = \"127.0.0.1:80\"\npool = \"web\"\n{EDITS}");
    let config = good(&format!("{LISTENER}{route}{POOL}")).config;
    assert_eq!(*config.routes[0].rewrite, it);
    assert_eq!(config.pools[0].upstream.rewrite, Rewrite::default());
}

#[test]
fn edits_are_explained() {
    let loaded = good(&format!("{LISTENER}{POOL}{EDITS}"));
    for (key, value, line) in [
        ("remove_request_header", "[x-a, x-b]", 7),
        (
            "set_request_header",
            "{ host = [\"api.{host}:81\"], x-c = [\"{client}\"], x-d = [\"1\", \"2\"] }",
            8,
        ),
        ("add_request_header", "{ x-c = [\"a{{b}}\", \"\"], \"x.y\" = [\"ü\"] }", 9),
        ("remove_response_header", "[server]", 10),
    ] {
        let find = |setting: &&Setting| setting.key == format!("pool.web.{key}");
        let found = loaded.explanation.iter().find(find).map(|it| (it.value.as_str(), it.origin));
        assert_eq!(found, Some((value, Origin::File { line })), "{key}");
    }
}

#[test]
fn fields_that_cannot_be_changed() {
    for name in [
        "connection",
        "Content-Length",
        "transfer-encoding",
        "TE",
        "trailer",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "Expect",
    ] {
        let lower = name.to_ascii_lowercase();
        for side in ["request", "response"] {
            let key = format!("remove_{side}_header");
            check_pool(
                &format!("{key} = [\"x\", \"{name}\"]"),
                &[&format!(
                    "7:{}: pool.web.{key}[2]: {lower} cannot be changed: framing and routing depend on it; tidegate writes it itself",
                    key.len() + 10
                )],
            );
            for key in [format!("set_{side}_header"), format!("add_{side}_header")] {
                check_pool(
                    &format!("{key} = {{ {name} = \"x\" }}"),
                    &[&format!(
                        "7:{}: pool.web.{key}.{name}: {lower} cannot be changed",
                        key.len() + 6
                    )],
                );
            }
        }
    }
}

#[test]
fn faults_of_edits() {
    for (lines, expected) in [
        (
            "set_request_header = \"x\"",
            "7:22: pool.web.set_request_header: must be a table, not a string; a table is written { key = value }",
        ),
        (
            "set_request_header.\"a b\" = \"x\"",
            "7:20: pool.web.set_request_header.a b: \"a b\" is not the name of a header field",
        ),
        (
            "set_request_header = { x = 1 }",
            "7:28: pool.web.set_request_header.x: must be a string or a list of strings, not a number",
        ),
        (
            "set_request_header = { x = [] }",
            "7:28: pool.web.set_request_header.x: is an empty list",
        ),
        (
            "set_request_header = { x = [\"1\", 2] }",
            "7:34: pool.web.set_request_header.x[2]: must be a string or",
        ),
        (
            "set_request_header = { x = \"1\", X = \"2\" }",
            "7:33: pool.web.set_request_header.X: is there twice; case does not matter",
        ),
        (
            "add_response_header = { x = \"a\\nb\" }",
            "7:29: pool.web.add_response_header.x: '\\n' must not be in the value of a header field",
        ),
        (
            "add_response_header = { x = \"a\\u0000\" }",
            "7:29: pool.web.add_response_header.x: '\\0' must not be",
        ),
        (
            "add_response_header = { x = \" a\" }",
            "7:29: pool.web.add_response_header.x: white space at its ends is no part",
        ),
        (
            "add_response_header = { x = \"{ip}\" }",
            "7:29: pool.web.add_response_header.x: \"{ip}\" has {ip} in it, which is no variable; there are {host} {path} {query} {scheme} {client} {request_id}",
        ),
        (
            "add_response_header = { x = \"}\" }",
            "7:29: pool.web.add_response_header.x: \"}\" has a single brace",
        ),
        ("remove_request_header = []", "7:25: pool.web.remove_request_header: is an empty list"),
        (
            "remove_request_header = [\"x\", \"X\"]",
            "7:31: pool.web.remove_request_header: x is there twice",
        ),
        (
            "remove_request_header = {}",
            "7:25: pool.web.remove_request_header: must be the name of a header field, not a table",
        ),
        (
            "remove_response_header = \"X\"\nset_response_header = { x = \"1\" }",
            "8:25: pool.web.set_response_header.x: x is both set and removed; setting it removes what was there",
        ),
        (
            "remove_request_header = \"host\"",
            "7:25: pool.web.remove_request_header: host can only be set",
        ),
        (
            "add_request_header.host = \"a\"",
            "7:20: pool.web.add_request_header.host: host can only be set",
        ),
        (
            "remove_response_header = \"host\"",
            "7:26: pool.web.remove_response_header: host can not be in a response",
        ),
        (
            "set_response_header.host = \"a\"",
            "7:21: pool.web.set_response_header.host: host can not be in a response",
        ),
        (
            "add_response_header.host = \"a\"",
            "7:21: pool.web.add_response_header.host: host can not be in a response",
        ),
        (
            "set_request_header.host = [\"a\", \"b\"]",
            "7:28: pool.web.set_request_header.host: is not one host; write it like",
        ),
        (
            "set_request_header.host = \"\"",
            "7:27: pool.web.set_request_header.host: is not one host",
        ),
        (
            "set_request_header.host = \"a/b\"",
            "7:27: pool.web.set_request_header.host: is not one host",
        ),
        (
            "set_request_header.host = \"{path}\"",
            "7:27: pool.web.set_request_header.host: is not one host",
        ),
        (
            "set_requst_header = {}",
            "7:1: pool.web.set_requst_header: unknown key; did you mean \"set_request_header\"?",
        ),
    ] {
        check_pool(lines, &[expected]);
    }
    // Removing and adding is one way to set.
    assert_eq!(
        told(&rewrite("remove_request_header = \"x\"\nadd_request_header.x = \"1\"").request),
        "-x +x=1"
    );
}

#[test]
fn edits_are_not_inherited() {
    for key in ["remove", "set", "add"] {
        for side in ["request", "response"] {
            let key = format!("{key}_{side}_header");
            check(
                &format!("defaults.{key} = 3\n{LISTENER}{POOL}"),
                &[&format!(
                    "1:{}: defaults.{key}: cannot be inherited; write it in [[route]] or [pool.NAME]",
                    key.len() + 13
                )],
            );
        }
    }
}

#[test]
fn a_request_that_goes_nowhere_is_not_changed() {
    let with = |action: &str| {
        format!("{LISTENER}[[route]]\nlistener = \"127.0.0.1:80\"\n{action}\n{EDITS}{POOL}")
    };
    for action in ["redirect = { to = \"/\" }", "respond = {}"] {
        check(
            &with(action),
            &[
                "8:25: route[1].remove_request_header: changes a request that is answered here: no instance sees it",
                "9:22: route[1].set_request_header: changes a request",
                "10:22: route[1].add_request_header: changes a request",
            ],
        );
    }
    let text = with("respond = {}");
    let requests: Vec<&str> = EDITS.lines().take(3).collect();
    let config = good(&text.replace(&requests.join("\n"), "")).config;
    assert_eq!(told(&config.routes[0].rewrite.response), RESPONSE);
}
