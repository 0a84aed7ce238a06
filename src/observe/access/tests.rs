//! Tests of how lines look, and of their way to the file.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::line::{Stamp, write};
use super::queue::{BYTES_MAX, Batch, Queue, Task};
use super::*;
use crate::base::Clock;
use crate::config::{AccessTo, LogFormat, LogSettings};
use crate::model::{Health, Life};
use crate::observe::metrics::{Metrics, fixture};

/// 26 November 2026, 09:22:01.042 UTC.
const TIME_MS: u64 = 1_795_684_921_042;

fn request() -> Request<'static> {
    Request {
        method: b"GET",
        host: b"shop.test:8080",
        target: b"/a?b=c",
        referer: Some(b"http://shop.test/"),
        user_agent: Some(b"curl/8.5"),
    }
}

/// What is told of a request that waited, was tried twice and went well.
fn account() -> Account {
    let instance = fixture::instance("web", "i-1", "a", Health::Up, Life::Serving).instance;
    let mut account = Account::default();
    account.begin(true, || Duration::ZERO);
    account.known_by(Some(b"4f2a"));
    account.routed("shop.test/");
    account.meant_for(&"web".into());
    account.waited(Duration::from_micros(1_500));
    account.picked(&instance, "waited");
    account.picked(&instance, "retry");
    account.connected(true);
    Account { status: 200, bytes_in: 83, bytes_out: 140, body_out: 12, ..account }
}

fn line<'a>(request: Option<Request<'a>>, account: &'a Account) -> Line<'a> {
    Line {
        began_ms: TIME_MS,
        took_us: 2_000_340,
        listener: "front",
        client: "192.0.2.7",
        protocol: if request.is_some() { "HTTP/1.1" } else { "tcp" },
        request,
        account,
    }
}

fn written(line: &Line<'_>, style: Style) -> String {
    let mut out = Vec::new();
    write(line, style, &mut Stamp::default(), &mut out);
    String::from_utf8(out).expect("text")
}

fn parsed(line: &Line<'_>) -> Value {
    serde_json::from_str(&written(line, Style::Json)).expect("JSON")
}

#[test]
fn json_tells_everything() {
    let account = account();
    let expected = json!({
        "time": "2026-11-26T09:22:01.042Z", "listener": "front", "client": "192.0.2.7",
        "method": "GET", "host": "shop.test:8080", "path": "/a?b=c", "protocol": "HTTP/1.1",
        "status": 200, "bytes_in": 83, "bytes_out": 140, "duration_ms": 2000.34,
        "route": "shop.test/", "pool": "web", "attempts": 2, "wait_ms": 1.5,
        "instance": "i-1", "zone": "a", "reused": true, "pick": "retry", "request_id": "4f2a",
        "user_agent": "curl/8.5", "referer": "http://shop.test/",
    });
    assert_eq!(parsed(&line(Some(request()), &account)), expected);
}

#[test]
fn json_is_silent_on_what_is_not_there() {
    let mut account = Account::default();
    account.begin(true, || Duration::ZERO);
    account.failed("malformed");
    let expected = json!({
        "time": "2026-11-26T09:22:01.042Z", "listener": "front", "client": "192.0.2.7",
        "protocol": "tcp", "bytes_in": 0, "bytes_out": 0, "duration_ms": 2000.34,
        "pick": "none", "failure": "malformed",
    });
    assert_eq!(parsed(&line(None, &account)), expected);
}

#[test]
fn combined_lines_are_as_other_tools_read_them() {
    let whole = account();
    let silent = Request { referer: None, user_agent: None, ..request() };
    let connect = Request { method: b"CONNECT", target: b"", ..silent };
    let unread = Account { status: 400, pool: None, ..account() };
    let cut = Account { failure: Some("cut_tunnel"), ..account() };
    let start = "192.0.2.7 - - [26/Nov/2026:09:22:01 +0000]";
    for (request, account, rest) in [
        (Some(request()), &whole, r#""GET /a?b=c HTTP/1.1" 200 12 "http://shop.test/" "curl/8.5""#),
        (Some(silent), &whole, r#""GET /a?b=c HTTP/1.1" 200 12 "-" "-""#),
        (Some(connect), &whole, r#""CONNECT shop.test:8080 HTTP/1.1" 200 12 "-" "-""#),
        (None, &unread, r#""-" 400 12 "-" "-""#),
        (None, &whole, r#""CONNECT web TCP" 200 12 "-" "-""#),
        (None, &cut, r#""CONNECT web TCP" 502 12 "-" "-""#),
    ] {
        let found = written(&line(request, account), Style::Combined);
        assert_eq!(found, format!("{start} {rest}\n"));
    }
}

#[test]
fn what_clients_write_stays_in_its_place() {
    for (hostile, in_json, in_combined) in [
        (&b"a\"b\\c"[..], r#"a\"b\\c"#, r"a\x22b\x5Cc"),
        (b"x\r\n192.0.2.9 - -", r"x\u000d\u000a192.0.2.9 - -", r"x\x0D\x0A192.0.2.9 - -"),
        (b"\x1b[2J\x7f", r"\u001b[2J\u007f", r"\x1B[2J\x7F"),
        ("z\u{fc}rich".as_bytes(), "z\u{fc}rich", r"z\xC3\xBCrich"),
        (b"\xff\xc3(", "\u{fffd}\u{fffd}(", r"\xFF\xC3("),
        ("\u{85}\u{9b}\u{2028}".as_bytes(), r"\u0085\u009b\u2028", r"\xC2\x85\xC2\x9B\xE2\x80\xA8"),
    ] {
        let request = Request { target: hostile, user_agent: Some(hostile), ..request() };
        let account = account();
        let line = line(Some(request), &account);
        let json = written(&line, Style::Json);
        assert!(json.contains(&format!("\"path\":\"{in_json}\"")), "{json}");
        assert!(json.contains(&format!("\"user_agent\":\"{in_json}\"")), "{json}");
        let combined = written(&line, Style::Combined);
        assert!(combined.contains(&format!("\"GET {in_combined} HTTP/1.1\"")), "{combined}");
        assert!(combined.ends_with(&format!(" \"{in_combined}\"\n")), "{combined}");
    }
}

#[test]
fn a_second_that_lies_back_is_told_as_it_was() {
    let account = account();
    let (mut stamp, mut out) = (Stamp::default(), Vec::new());
    for began_ms in [TIME_MS, TIME_MS - 1_000, 0, u64::MAX] {
        write(&Line { began_ms, ..line(None, &account) }, Style::Json, &mut stamp, &mut out);
    }
    let text = String::from_utf8(out).expect("text");
    let times: Vec<&str> = text.lines().map(|line| &line[9..28]).collect();
    assert_eq!(
        times,
        [
            "2026-11-26T09:22:01",
            "2026-11-26T09:22:00",
            "1970-01-01T00:00:00",
            "9999-12-30T22:00:00"
        ]
    );
}

proptest! {
    #[test]
    fn every_line_is_one_and_reads_back(
        method in prop::collection::vec(any::<u8>(), 0..20),
        target in prop::collection::vec(any::<u8>(), 0..80),
        user_agent in prop::option::of(prop::collection::vec(any::<u8>(), 0..80)),
        text in "\\PC{0,30}|.{0,30}",
        id in prop::collection::vec(any::<u8>(), 0..40),
        numbers in any::<(u16, u64, u64, u64, u32)>(),
        (began_ms, took_us) in any::<(u64, u64)>(),
    ) {
        let (status, bytes_in, bytes_out, body_out, attempts) = numbers;
        let account = Account {
            status, bytes_in, bytes_out, body_out, attempts,
            route: text.clone(), request_id: id, ..account()
        };
        let request = Request {
            method: &method, host: text.as_bytes(), target: &target,
            referer: Some(text.as_bytes()), user_agent: user_agent.as_deref(),
        };
        let line = Line { began_ms, took_us, ..line(Some(request), &account) };
        let json = written(&line, Style::Json);
        prop_assert_eq!(json.matches('\n').count(), 1);
        prop_assert!(!json.trim_end_matches('\n').contains(char::is_control));
        let value: Value = serde_json::from_str(&json).expect("JSON");
        prop_assert_eq!(&value["path"], &String::from_utf8_lossy(&target).into_owned());
        prop_assert_eq!(&value["host"], &text);
        prop_assert_eq!(&value["bytes_in"], bytes_in);
        let combined = written(&line, Style::Combined);
        prop_assert!(combined.bytes().all(|b| matches!(b, b' '..=b'~' | b'\n')));
        prop_assert_eq!(combined.matches('\n').count(), 1);
        // Three quoted parts, and nothing in them looks like their end.
        prop_assert_eq!(combined.matches('"').count(), 6, "{}", combined);
    }
}

fn settings(path: &Path) -> LogSettings {
    LogSettings {
        level: tracing::Level::INFO,
        access: AccessTo::File(path.to_owned()),
        format: LogFormat::Json,
    }
}

#[test]
fn lines_arrive_whole_from_all_sinks_and_after_a_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, moved) = (folder.path().join("access"), folder.path().join("access.1"));
    let dropped = Metrics::new(1, "0").access_log_dropped();
    let log = AccessLog::open(&settings(&path), Clock::start(), dropped.clone()).expect("opened");
    const EACH: usize = 2_000;
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let sink = log.sink();
            std::thread::spawn(move || {
                let account = account();
                for _ in 0..EACH {
                    sink.write(&line(Some(request()), &account));
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().expect("a thread");
    }
    let sink = log.sink();
    let account = account();
    fs::rename(&path, &moved).expect("moved");
    log.reopen();
    sink.write(&line(None, &account));
    drop(sink);
    log.close();
    let read = |path: &Path| fs::read_to_string(path).expect("text");
    let all = [read(&moved), read(&path)];
    assert_eq!(all.concat().lines().count(), 3 * EACH + 1);
    assert!(all.concat().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
    assert!(all[1].ends_with(&written(&line(None, &account), Style::Json)), "opened anew");
    assert_eq!(dropped.get(), 0);
}

#[test]
fn what_does_not_fit_is_dropped_and_counted() {
    let queue = Arc::new(Queue::default());
    let dropped = Metrics::new(1, "0").access_log_dropped();
    let sink = AccessSink::new(Arc::clone(&queue), Style::Json, dropped.clone());
    let account = account();
    let line = line(Some(request()), &account);
    let length = written(&line, Style::Json).len();
    let count = BYTES_MAX / length + 1_000;
    for _ in 0..count {
        sink.write(&line);
    }
    sink.flush();
    let mut batch = Batch::default();
    assert_eq!(queue.next(&mut batch), Task { reopen: false, end: false });
    assert!(batch.bytes.len() <= BYTES_MAX && batch.bytes.len() > BYTES_MAX - 128 * 1024);
    assert_eq!(batch.bytes.len(), batch.lines as usize * length, "whole lines only");
    assert_eq!(batch.lines + dropped.get(), count as u64);
    queue.reopen();
    assert!(!queue.close(Duration::ZERO), "nobody writes");
    let last = Task { reopen: true, end: true };
    assert_eq!(queue.next(&mut batch), last, "who ends has not forgotten that the file was moved");
}

#[test]
fn a_file_that_cannot_be_opened_is_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let dropped = Metrics::new(1, "0").access_log_dropped();
    let path = folder.path().join("none/access");
    let error = AccessLog::open(&settings(&path), Clock::start(), dropped).expect_err("no folder");
    let text = error.to_string();
    assert!(text.contains("none/access") && text.contains("check log.access"), "{text}");
}

#[test]
fn without_an_access_log_nothing_is_collected() {
    let mut account = Account::default();
    account.begin(false, || panic!("nobody asks for the time"));
    account.known_by(Some(b"id"));
    account.routed("/");
    account.meant_for(&"web".into());
    assert!(account.request_id.is_empty() && account.route.is_empty() && account.pool.is_none());
    assert!(!AccessSink::default().is_on());
    AccessLog::default().close();
}
