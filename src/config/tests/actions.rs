//! What routes do: forward, redirect, respond.

use super::{POOL, check, good};
use crate::base::PoolId;
use crate::config::{Origin, Setting};
use crate::model::{Action, Page, Redirect, Respond};

/// A route, but for `lines`, of which the first is line 6.
fn with(lines: &str) -> String {
    format!(
        "[[listener]]\nname = \"l\"\nbind = \"127.0.0.1:80\"\n[[route]]\nlistener = \"l\"\n{lines}\n{POOL}"
    )
}

/// What the route does.
fn action(lines: &str) -> Action {
    good(&with(lines)).config.routes.remove(0).action
}

fn redirect(lines: &str) -> Redirect {
    match action(lines) {
        Action::Redirect(redirect) => redirect.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

fn respond(lines: &str) -> Respond {
    match action(lines) {
        Action::Respond(respond) => respond.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_redirects() {
    for to in [
        "https://{host}{path}{query}",
        "http://example.com/",
        "{scheme}://www.{host}{path}",
        "/",
        "/new{path}",
        "/?from={client}&id={request_id}",
    ] {
        let it = redirect(&format!("redirect = {{ to = \"{to}\" }}"));
        assert_eq!((it.to.to_string().as_str(), it.status), (to, 308));
    }
    for status in [301, 302, 303, 307, 308] {
        let it = redirect(&format!("redirect = {{ to = \"/\", status = {status} }}"));
        assert_eq!(it.status, status);
    }
}

#[test]
fn good_responses() {
    let page = |content_type: &str, body: &str| {
        Some(Page { content_type: content_type.into(), body: body.into() })
    };
    assert_eq!(action("pool = \"web\""), Action::Pool(PoolId::new("web")));
    assert_eq!(respond("respond = {}"), Respond { status: 200, page: None });
    assert_eq!(respond("respond.status = 204"), Respond { status: 204, page: None });
    let plain = page("text/plain; charset=utf-8", "gone\n");
    let it = respond("respond = { status = 410, body = \"gone\\n\" }");
    assert_eq!(it, Respond { status: 410, page: plain });
    let it = respond("respond = { body = \"{}\", type = \"application/json\" }");
    assert_eq!(it, Respond { status: 200, page: page("application/json", "{}") });
    let it = respond("respond = { status = 503, file = \"busy.html\" }");
    assert_eq!(it, Respond { status: 503, page: page("text/html; charset=utf-8", "<p>busy") });
    let it = respond("respond = { status = 599, file = \"busy.txt\", type = \"text/x-a; b=c\" }");
    assert_eq!(it, Respond { status: 599, page: page("text/x-a; b=c", "busy") });
}

#[test]
fn one_thing_only() {
    for (lines, expected) in [
        ("", vec!["4:1: route[1].pool: is missing; write pool = \"NAME\", or redirect = "]),
        (
            "pool = \"web\"\nredirect = { to = \"/\" }",
            vec![
                "7:1: route[1].redirect: stands beside pool: a route does one thing; leave one of them out",
            ],
        ),
        (
            "pool = \"web\"\nredirect = { to = \"/\" }\nrespond = {}",
            vec![
                "7:1: route[1].redirect: stands beside pool: a",
                "8:1: route[1].respond: stands beside pool: a",
            ],
        ),
        (
            "respond = {}\nredirect = { to = \"/\" }",
            vec!["6:1: route[1].respond: stands beside redirect: a"],
        ),
        (
            "pool = \"wbe\"",
            vec!["6:8: route[1].pool: there is no pool \"wbe\"; did you mean \"web\"?"],
        ),
        (
            "redirct = {}\npool = \"web\"",
            vec!["6:1: route[1].redirct: unknown key; did you mean \"redirect\"?"],
        ),
    ] {
        check(&with(lines), &expected);
    }
}

#[test]
fn faults_of_redirects() {
    for (lines, expected) in [
        ("redirect = \"/\"", "6:12: route[1].redirect: must be a table, not a string"),
        (
            "redirect = {}",
            "6:1: route[1].redirect.to: is missing; write it like to = \"https://{host}{path}{query}\"",
        ),
        ("redirect = { to = 3 }", "6:19: route[1].redirect.to: must be a location such as"),
        (
            "redirect = { to = \"{hots}\" }",
            "6:19: route[1].redirect.to: \"{hots}\" has {hots} in it, which is no variable; there are {host} {path} {query} {scheme} {client} {request_id}",
        ),
        (
            "redirect = { to = \"/{\" }",
            "6:19: route[1].redirect.to: \"/{\" has a single brace; a brace that is meant as one is written twice; write {{ or }}",
        ),
        (
            "redirect = { to = \"/a b\" }",
            "6:19: route[1].redirect.to: ' ' must not be in a location; write it percent-encoded",
        ),
        ("redirect = { to = \"/ä\" }", "6:19: route[1].redirect.to: 'ä' must not be in a location"),
        (
            "redirect = { to = \"/\\r\\nx: y\" }",
            "6:19: route[1].redirect.to: '\\r' must not be in a location",
        ),
        (
            "redirect = { to = \"/\", status = 300 }",
            "6:33: route[1].redirect.status: 300 is not one of 301, 302, 303, 307, 308",
        ),
        (
            "redirect = { to = \"/\", status = \"301\" }",
            "6:33: route[1].redirect.status: must be a whole number, not a string; write 301 without quotes",
        ),
        ("redirect = { to = \"/\", code = 301 }", "6:24: route[1].redirect.code: unknown key"),
    ] {
        check(&with(lines), &[expected]);
    }
    // Where a browser would end up must not be the client's to choose.
    for to in [
        "",
        "example.com",
        "ftp://example.com",
        "{host}/x",
        "{path}",
        "{scheme}",
        "{scheme}{path}",
        "//example.com",
        "/{path}",
        "/{request_id}",
    ] {
        let problem = format!(
            "6:19: route[1].redirect.to: {to:?} starts neither with http://, https:// or {{scheme}}:// nor with one slash; write it like \"https://{{host}}{{path}}{{query}}\""
        );
        check(&with(&format!("redirect = {{ to = \"{to}\" }}")), &[problem.as_str()]);
    }
}

#[test]
fn faults_of_responses() {
    for (lines, expected) in [
        ("respond = 200", "6:11: route[1].respond: must be a table, not a number"),
        ("respond.status = 199", "6:18: route[1].respond.status: 199 is less than 200"),
        ("respond.status = 600", "6:18: route[1].respond.status: 600 is more than 599"),
        (
            "respond = { status = 204, body = \"x\" }",
            "6:34: route[1].respond.body: a response with status 204 has no body; leave it out",
        ),
        (
            "respond = { status = 205, body = \"x\" }",
            "6:34: route[1].respond.body: a response with status 205",
        ),
        (
            "respond = { status = 304, file = \"busy.txt\" }",
            "6:34: route[1].respond.file: a response with status 304",
        ),
        (
            "respond = { body = \"x\", file = \"busy.txt\" }",
            "6:32: route[1].respond.file: stands beside body: there is one body",
        ),
        (
            "respond = { type = \"text/plain\" }",
            "6:20: route[1].respond.type: is the type of a body, and there is none",
        ),
        ("respond = { body = \"\" }", "6:20: route[1].respond.body: must not be empty"),
        (
            "respond = { body = \"x\", type = \"html\" }",
            "6:32: route[1].respond.type: \"html\" is not a media type; write it like \"text/plain; charset=utf-8\"",
        ),
        (
            "respond = { body = \"x\", type = \"a/b;\\n\" }",
            "6:32: route[1].respond.type: \"a/b;\\n\" is not a media type",
        ),
        (
            "respond = { file = \"none.txt\" }",
            "6:20: route[1].respond.file: dir/none.txt cannot be read: there is none",
        ),
        (
            "respond = { file = \"busy.xml\" }",
            "6:20: route[1].respond.file: what busy.xml is cannot be told by its name",
        ),
        (
            "respond = { file = \"large.txt\", type = \"a/b\" }",
            "6:20: route[1].respond.file: dir/large.txt is larger than 64KiB",
        ),
    ] {
        check(&with(lines), &[expected]);
    }
}

#[test]
fn actions_are_explained() {
    let loaded = good(&with(
        "redirect = { to = \"/{{x}}{query}\" }\n[[route]]\nlistener = \"l\"\nrespond = { file = \"busy.txt\" }",
    ));
    let told = |key: &str| {
        let find = |setting: &&Setting| setting.key == key;
        loaded.explanation.iter().find(find).map(|it| (it.value.clone(), it.origin))
    };
    let file = |value: &str, line| Some((value.to_owned(), Origin::File { line }));
    assert_eq!(told("route[1].redirect.to"), file("\"/{{x}}{query}\"", 6));
    assert_eq!(told("route[1].redirect.status"), Some(("308".into(), Origin::BuiltIn)));
    assert_eq!(told("route[2].respond.status"), Some(("200".into(), Origin::BuiltIn)));
    assert_eq!(told("route[2].respond.file"), file("\"busy.txt\"", 9));
    assert_eq!(told("route[1].pool"), None);
}
