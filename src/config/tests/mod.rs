//! Tests of the whole way from text to configuration.

mod actions;
mod affinity;
mod any_text;
mod faults;
mod later;
mod listeners;
mod meaning;
mod outlier;
mod reference;
mod rewrites;
mod scaling;
mod tls;
mod upstreams;
mod values;
mod zones;

use std::io;
use std::path::Path;

use crate::config::{Faults, Loaded, compile};

/// The smallest useful file: one listener, one pool.
const SMALLEST: &str = r#"
[[listener]]
bind = "0.0.0.0:8080"
pool = "web"

[pool.web]
instances = [{ address = "10.0.1.4:80", zone = "1" }, { address = "10.0.2.4:80", zone = "2" }]
"#;

/// A pool whose instances are child processes, for texts that start with a listener.
const PROVISIONED: &str = r#"[pool.web]
port = 8000
[pool.web.scaling]
min = 3
max = 12
target_requests_per_second = 70
[pool.web.provisioner]
kind = "process"
command = ["{self}", "whoami"]
zones = ["a", "b"]
"#;

/// One listener that leads to the pool `web`, in four lines.
const LISTENER: &str = "[[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n\n";
/// One pool that is right, in two lines.
const POOL: &str = "[pool.web]\ninstances = [{ address = \"10.0.0.1:80\" }]\n";

fn compiled(text: &str) -> Result<Loaded, Faults> {
    compile(text, Path::new("dir/t.toml"), &read)
}

/// The files beside the configuration, in these tests.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("dir/busy.html" | "/busy.html") => Ok(b"<p>busy".to_vec()),
        Some("dir/busy.json") => Ok(b"{}".to_vec()),
        Some("dir/busy.txt") => Ok(b"busy".to_vec()),
        Some("dir/full.txt") => Ok(vec![b'x'; 64 * 1024]),
        Some("dir/large.txt") => Ok(vec![b'x'; 64 * 1024 + 1]),
        _ => Err(io::Error::other("there is none")),
    }
}

/// Compiles a text that must be right.
fn good(text: &str) -> Loaded {
    match compiled(text) {
        Ok(loaded) => loaded,
        Err(faults) => panic!("{text}\n{faults}"),
    }
}

/// The faults of a text, each without the file.
fn faults_of(text: &str) -> Vec<String> {
    let faults = compiled(text).map_or_else(|faults| faults.0, |_| Vec::new());
    let strip = |fault: String| fault.strip_prefix("dir/t.toml:").map(str::to_owned);
    faults.iter().map(|fault| strip(fault.to_string()).expect("names the file")).collect()
}

/// Checks that exactly these faults are found: each line starts as given.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = faults_of(text);
    let all = found.join("\n");
    assert_eq!(found.len(), expected.len(), "in\n{text}\nfound\n{all}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "in\n{text}\nexpected\n{expected}\nfound\n{all}");
    }
}

/// Checks the faults of `lines` in a pool that is right but for them; the first is line 7.
#[track_caller]
fn check_pool(lines: &str, expected: &[&str]) {
    check(&format!("{LISTENER}{POOL}{lines}\n"), expected);
}
