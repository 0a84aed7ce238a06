//! Tests of what a reload has to do.

use std::path::Path;

use super::*;
use crate::config::compile;

const BASE: &str = r#"
[node]
workers = 2
state_dir = "s"
[[listener]]
name = "a"
bind = ["127.0.0.1:80", "127.0.0.1:81"]
pool = "web"
[[listener]]
name = "b"
bind = "127.0.0.1:82"
pool = "api"
[pool.web]
instances = [{ address = "10.0.0.1:80" }]
[pool.api]
instances = [{ address = "10.0.0.2:80" }]
"#;

fn config(text: &str) -> Config {
    config_with(text, "")
}

/// The configuration, where every file that it names has this content.
fn config_with(text: &str, content: &str) -> Config {
    match compile(text, Path::new("t.toml"), &|_| Ok(content.into())) {
        Ok(loaded) => loaded.config,
        Err(faults) => panic!("{text}\n{faults}"),
    }
}

/// The difference that replacing `from` by `to` in [`BASE`] makes.
fn change(from: &str, to: &str) -> Difference {
    assert!(BASE.contains(from), "{from}");
    diff(&config(BASE), &config(&BASE.replace(from, to)))
}

fn words<N: ToString>(names: &[N]) -> String {
    names.iter().map(N::to_string).collect::<Vec<_>>().join(" ")
}

/// All four lists in one line.
fn told<N: ToString>(changes: &Changes<N>) -> String {
    let Changes { added, removed, changed, kept } = changes;
    format!("+{} -{} ~{} ={}", words(added), words(removed), words(changed), words(kept))
}

#[test]
fn nothing_changes() {
    let difference = diff(&config(BASE), &config(&format!("# a comment\n{BASE}")));
    assert_eq!(told(&difference.listeners), "+ - ~ =a b");
    assert_eq!(told(&difference.pools), "+ - ~ =api web");
    assert!(difference.binds.added.is_empty() && difference.binds.removed.is_empty());
    assert_eq!(words(&difference.binds.kept), "127.0.0.1:80 127.0.0.1:81 127.0.0.1:82");
    assert!(!difference.routes_changed && difference.needs_restart.is_empty());
}

#[test]
fn listeners_and_their_addresses() {
    // (what is replaced, by what, listeners, added, removed and kept addresses by their last digit)
    for (from, to, listeners, added, removed, kept) in [
        ("\"127.0.0.1:82\"", "\"127.0.0.1:83\"", "+ - ~b =a", "3", "2", "0 1"),
        ("name = \"b\"", "name = \"c\"", "+c -b ~ =a", "", "", "0 1 2"),
        ("[\"127.0.0.1:80\", \"127.0.0.1:81\"]", "\"127.0.0.1:81\"", "+ - ~a =b", "", "0", "1 2"),
        ("pool = \"api\"", "pool = \"web\"", "+ - ~b =a", "", "", "0 1 2"),
        ("pool = \"api\"", "pool = \"api\"\nprotocol = \"tcp\"", "+ - ~b =a", "", "", "0 1 2"),
        (
            "[pool.web]",
            "[[listener]]\nname = \"c\"\nbind = \"127.0.0.1:89\"\npool = \"web\"\n[pool.web]",
            "+c - ~ =a b",
            "9",
            "",
            "0 1 2",
        ),
        (
            "[[listener]]\nname = \"b\"\nbind = \"127.0.0.1:82\"\npool = \"api\"\n",
            "",
            "+ -b ~ =a",
            "",
            "2",
            "0 1",
        ),
    ] {
        let difference = change(from, to);
        assert_eq!(told(&difference.listeners), listeners, "{from} → {to}");
        let last = |binds: &[SocketAddr]| words(binds).replace("127.0.0.1:8", "");
        let Binds { added: a, removed: r, kept: k } = &difference.binds;
        assert_eq!(
            (last(a), last(r), last(k)),
            (added.into(), removed.into(), kept.into()),
            "{to}"
        );
    }
}

#[test]
fn what_is_in_a_file_counts() {
    let text = BASE.replace("pool = \"api\"", "pool = \"api\"\nerrors = { 503 = \"busy.txt\" }");
    let old = config_with(&text, "busy");
    let told = |content| told(&diff(&old, &config_with(&text, content)).listeners);
    assert_eq!(told("busy"), "+ - ~ =a b");
    assert_eq!(told("full"), "+ - ~b =a");
}

#[test]
fn an_address_that_moves_keeps_its_socket() {
    let swapped = BASE
        .replace("\"127.0.0.1:81\"]", "\"127.0.0.1:8x\"]")
        .replace(":82", ":81")
        .replace(":8x", ":82");
    let difference = diff(&config(BASE), &config(&swapped));
    assert_eq!(told(&difference.listeners), "+ - ~a b =");
    assert!(difference.binds.added.is_empty() && difference.binds.removed.is_empty());
}

#[test]
fn pools_and_routes() {
    assert_eq!(told(&change("10.0.0.1:80", "10.0.0.3:80").pools), "+ - ~web =api");
    let added = "[pool.new]\ninstances = [{ address = \"10.0.0.2:80\" }]\n[pool.api]";
    assert_eq!(told(&change("[pool.api]", added).pools), "+new - ~ =api web");
    let difference = change("\"api\"", "\"web\"");
    assert_eq!(told(&difference.pools), "+ - ~ =api web");
    assert!(!difference.routes_changed);
    let route = "[[route]]\nlistener = \"a\"\nhost = \"x.org\"\npool = \"api\"\n[pool.web]";
    let difference = change("[pool.web]", route);
    assert!(difference.routes_changed);
    assert_eq!(told(&difference.listeners), "+ - ~ =a b");
    let old = config(BASE);
    let mut new = old.clone();
    new.pools.pop();
    assert_eq!(told(&diff(&old, &new).pools), "+ -web ~ =api");
}

#[test]
fn what_needs_a_restart() {
    for (from, to, keys) in [
        ("workers = 2", "workers = 3", "node.workers"),
        ("\"s\"", "\"t\"", "node.state_dir"),
        ("[node]", "admin.bind = \"127.0.0.1:9901\"\n[node]", "admin.bind"),
        (
            "[node]\nworkers = 2",
            "admin.bind = \"unix:a\"\n[node]\nworkers = 3",
            "node.workers admin.bind",
        ),
        ("[node]", "admin.token_file = \"t\"\n[node]", "admin.token_file"),
        ("[node]", "log.level = \"debug\"\n[node]", "log"),
        ("[node]", "[node]\nzone = \"a\"", "node.zone"),
    ] {
        assert_eq!(words(&change(from, to).needs_restart), keys, "{to}");
    }
}
