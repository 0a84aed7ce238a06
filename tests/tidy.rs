//! The house rules that a machine can hold: who may import whom, how long a file may be, and words
//! that do not belong.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms import only rooms above them.
const ROOMS: [&str; 11] = [
    "base",
    "model",
    "config",
    "observe",
    "net",
    "provision",
    "fleet",
    "proxy",
    "scaling",
    "admin",
    "daemon",
];

/// The last room, which may import all.
const ROOF: &str = "cli";

/// These never import each other: what they share is in `model`, and `daemon` ties them.
const STRANGERS: [&str; 3] = ["fleet", "proxy", "scaling"];

/// Only this room talks to `provision` (and `daemon`, which makes the provisioners).
const PROVISION_USERS: [&str; 2] = ["scaling", "daemon"];

/// Crates that one room alone may name: a change of crate is a change of one room.
const CONFINED: [(&str, &str); 6] = [
    ("prometheus::", "src/observe/"),
    ("toml::", "src/config/"),
    ("socket2::", "src/net/"),
    ("redb::", "src/scaling/history.rs"),
    ("rustls::", "src/net/tls/"),
    ("x509_parser::", "src/net/tls/"),
];

/// Rooms (or files) that decide: no clock, no waiting, no talking.
const CORES: [&str; 43] = [
    "src/base/",
    "src/model/",
    "src/config/",
    "src/observe/access/line.rs",
    "src/net/proxy_protocol.rs",
    "src/net/tls/choice.rs",
    "src/net/tls/subject.rs",
    "src/fleet/member.rs",
    "src/fleet/member/",
    "src/fleet/membership.rs",
    "src/fleet/roster.rs",
    "src/fleet/health.rs",
    "src/fleet/outlier.rs",
    "src/fleet/warmth.rs",
    "src/fleet/watch.rs",
    "src/fleet/agent.rs",
    "src/fleet/probe/http.rs",
    "src/proxy/wire/flood.rs",
    "src/proxy/wire/http1.rs",
    "src/proxy/wire/http2.rs",
    "src/proxy/wire/websocket.rs",
    "src/proxy/budget.rs",
    "src/proxy/wire/chunked.rs",
    "src/proxy/balance/",
    "src/proxy/hold/line.rs",
    "src/proxy/route.rs",
    "src/proxy/upstream/http2/choose.rs",
    "src/scaling/capacity.rs",
    "src/scaling/demand/",
    "src/scaling/law.rs",
    "src/scaling/orders.rs",
    "src/scaling/outcome.rs",
    "src/scaling/placement.rs",
    "src/scaling/replacement.rs",
    "src/scaling/reserve.rs",
    "src/scaling/resize.rs",
    "src/scaling/roll.rs",
    "src/scaling/rules.rs",
    "src/scaling/scaler.rs",
    "src/scaling/schedule.rs",
    "src/scaling/simulate/",
    "src/scaling/size.rs",
    "src/scaling/tally.rs",
];

const LINES_MAX: usize = 700;

fn sources(under: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(under).expect("a folder of the source tree") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    found
}

/// Every source file with its path from the root of the project.
fn files() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("src"))
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(root).expect("within").display().to_string();
            (name, fs::read_to_string(path).expect("text"))
        })
        .collect()
}

fn room_of(file: &str) -> Option<&str> {
    file.strip_prefix("src/")?.split_once('/').map(|(room, _)| room)
}

/// The code before the tests, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

#[test]
fn rooms_import_only_what_is_above_them() {
    let mut faults = Vec::new();
    for (file, text) in files() {
        let Some(room) = room_of(&file).filter(|room| *room != ROOF) else { continue };
        let own = ROOMS.iter().position(|known| *known == room);
        let own = own.unwrap_or_else(|| panic!("{file} is in no known room"));
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
            for part in line.split("crate::").skip(1) {
                let name: String =
                    part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let Some(other) = ROOMS.iter().position(|known| *known == name) else {
                    if name == ROOF || line.contains("use crate::{") {
                        faults.push(format!("{file}: {line}"));
                    }
                    continue;
                };
                let strangers =
                    other != own && STRANGERS.contains(&room) && STRANGERS.contains(&name.as_str());
                let provision =
                    name == "provision" && room != "provision" && !PROVISION_USERS.contains(&room);
                if other > own || strangers || provision {
                    faults.push(format!("{file}: {line}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "imports against the order of the rooms:\n{}", faults.join("\n"));
}

#[test]
fn crates_stay_in_their_room() {
    let mut faults = Vec::new();
    for (file, text) in files() {
        for (name, home) in CONFINED {
            if !file.starts_with(home) && code(&text).any(|line| line.contains(name)) {
                faults.push(format!("{file} names {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn cores_neither_wait_nor_talk() {
    let banned = ["tokio::", "tracing::", "Instant::now", "SystemTime::now", "async "];
    let mut faults = Vec::new();
    let files = files();
    for core in CORES {
        assert!(files.iter().any(|(file, _)| file.starts_with(core)), "{core} is gone");
    }
    for (file, text) in &files {
        let is_clock = file == "src/base/clock.rs";
        if is_clock || file.contains("tests") || !CORES.iter().any(|core| file.starts_with(core)) {
            continue;
        }
        for line in code(text) {
            // The level of the log is a value like any other.
            let line = line.replace("tracing::Level", "Level");
            if banned.iter().any(|word| line.contains(word)) {
                faults.push(format!("{file}: {line}"));
            }
        }
    }
    assert!(faults.is_empty(), "cores that wait or talk:\n{}", faults.join("\n"));
}

#[test]
fn files_are_short_and_open_with_what_they_are() {
    let mut faults = Vec::new();
    for (file, text) in files() {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            faults.push(format!("{file} has {lines} lines"));
        }
        if !text.starts_with("//!") && !file.contains("tests") {
            faults.push(format!("{file} does not say what it is"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    let marks = ["TODO", "FIXME", "XXX", "unimplemented!"];
    let mut faults = Vec::new();
    for (file, text) in files() {
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                faults.push(format!("{file}:{}: {line}", number + 1));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
