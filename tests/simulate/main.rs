//! `tidegate simulate` from outside, on a small trace that is made up: 40 minutes of waves with a step.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const POLICIES: [&str; 8] = [
    "tidegate",
    "Azure, basic rules",
    "Azure, tuned rules",
    "AWS target tracking",
    "HPA (CPU)",
    "KEDA (rate)",
    "fixed size",
    "optimum, knows the future",
];

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulate");
    command.current_dir(here).args(["simulate", "--config", "config.toml"]).args(arguments);
    command
}

fn simulate(arguments: &[&str]) -> Output {
    command(arguments).output().expect("it runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What a line of an outside simulator looks like.
fn line(t: f64, offered: f64) -> String {
    format!(
        "{{\"t\":{t:.1},\"offered\":{offered},\"completed\":{offered},\"shed\":0,\"queued\":0,\
         \"in_flight\":4,\"latency_mean_ms\":41.0,\"zones\":{{\
         \"a\":{{\"pending\":0,\"warming\":0,\"ready\":2,\"draining\":0,\"unhealthy\":0}},\
         \"b\":{{\"pending\":0,\"warming\":0,\"ready\":1,\"draining\":0,\"unhealthy\":0}}}}}}\n"
    )
}

fn driven(input: &str) -> Output {
    let mut child = command(&["--pool", "web", "--drive"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    // It may have ended at a bad line before all is written.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_table_has_all_policies_with_their_figures() {
    let text = stdout(&simulate(&["--pool", "web", "--trace", "trace.csv"]));
    assert!(text.starts_with("trace.csv: 0.04 days, "), "{text}");
    assert!(text.contains("at most 100 rps with 8 workers"), "{text}");
    for heading in ["VIOLATIONS %", "SHED %", "INSTANCE HOURS", "COST", "ACTIONS/DAY", "PEAK"] {
        assert!(text.contains(heading), "{heading}: {text}");
    }
    for policy in POLICIES {
        let row = text.lines().find(|line| line.starts_with(policy)).expect(policy);
        let figures = row[policy.len()..].split_whitespace();
        let figures: Vec<f64> = figures.map(|figure| figure.parse().expect(row)).collect();
        assert_eq!(figures.len(), 9, "{row}");
    }
}

#[test]
fn json_and_files_say_the_same_and_chance_is_seeded() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("some/where");
    let out = out.to_str().expect("text");
    let run = |seed| {
        let arguments =
            ["--pool", "web", "--trace", "trace.csv", "--json", "--seed", seed, "--out", out];
        let text = stdout(&simulate(&arguments));
        assert_eq!(fs::read_to_string(format!("{out}/report.json")).expect("written"), text);
        text
    };
    let (one, again, other) = (run("7"), run("7"), run("8"));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let report: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(report["instance"]["capacity_rps"], 100.0);
    assert_eq!(report["seed"], 7);
    let names: Vec<&str> = report["policies"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, POLICIES);
    for row in report["policies"].as_array().expect("a list") {
        let figure = |name: &str| row[name].as_f64().expect(name);
        let j = figure("relative_cost") + 0.1 * figure("violations_percent");
        assert!((figure("j") - j).abs() < 1e-9, "{row}");
        assert!(figure("peak") <= 40.0 && figure("mean") >= 2.0, "{row}");
    }
}

/// Enough of XML to find a picture that no program would open: each element is closed in order, and
/// nothing is bare that must be escaped.
fn assert_well_formed(text: &str) {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find('<') {
        let words = &rest[..start];
        assert!(!words.contains('>'), "{words}");
        for part in words.split('&').skip(1) {
            assert!(part.find(';').is_some_and(|end| end < 6), "a bare & before {part}");
        }
        let end = start + rest[start..].find('>').expect("an end");
        let tag = &rest[start + 1..end];
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name));
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().expect("a name"));
        }
        rest = &rest[end + 1..];
    }
    assert_eq!((open.len(), rest.trim()), (0, ""));
}

#[test]
fn the_picture_is_well_formed_and_may_show_a_part() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().to_str().expect("text");
    let picture = |more: &[&str]| {
        let arguments = ["--pool", "web", "--trace", "trace.csv", "--out", out];
        stdout(&simulate(&[&arguments[..], more].concat()));
        fs::read_to_string(dir.path().join("report.svg")).expect("written")
    };
    let whole = picture(&[]);
    assert_well_formed(&whole);
    for word in ["web on trace.csv", "requests/s", "needed (optimum)", "violations", ">00:00<"] {
        assert!(whole.contains(word), "{word}");
    }
    let part = picture(&["--from", "20m", "--hours", "0.25"]);
    assert_well_formed(&part);
    assert!(part.contains(">00:25<") && !part.contains(">00:00<"), "only its own times");
}

#[test]
fn a_stronger_or_slower_instance_changes_the_figures() {
    let hours = |more: &[&str]| {
        let arguments = ["--pool", "web", "--trace", "trace.csv", "--json"];
        let text = stdout(&simulate(&[&arguments[..], more].concat()));
        let report: Value = serde_json::from_str(&text).expect("JSON");
        report["policies"][5]["instance_hours"].as_f64().expect("a figure")
    };
    let usual = hours(&[]);
    assert!(hours(&["--capacity", "200"]) < usual * 0.75);
    assert!(hours(&["--drain", "10m"]) > usual);
    let scaled = hours(&["--peak", "30", "--days", "0.02"]);
    assert!(scaled > 0.0);
}

#[test]
fn wrong_input_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let bad = dir.path().join("bad.csv");
    fs::write(&bad, "timestamp_s,count\n0,7\n60,many\n").expect("written");
    let bad = bad.to_str().expect("text");
    for (arguments, code, expected) in [
        (&["--pool", "web", "--trace", bad][..], 1, "bad.csv: line 3: the count \"many\""),
        (&["--pool", "web", "--trace", "none.csv"], 1, "none.csv: No such file"),
        (&["--pool", "wbe", "--trace", "trace.csv"], 1, "no pool \"wbe\"; there is "),
        (&["--pool", "fixed", "--drive"], 1, "pool \"fixed\" does not scale"),
        (&["--pool", "web"], 2, "--trace"),
        (&["--pool", "web", "--drive", "--trace", "trace.csv"], 2, "cannot be used with"),
        (&["--pool", "web", "--drive", "--boot", "30s"], 2, "cannot be used with"),
        (&["--pool", "web", "--trace", "trace.csv", "--capacity", "0"], 2, "above 0"),
    ] {
        let output = simulate(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

/// The simulator waits for each answer before it goes on: nothing may stay in a buffer.
#[test]
fn each_line_is_answered_before_the_next_is_sent() {
    let mut child = command(&["--pool", "web", "--drive"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut input = child.stdin.take().expect("piped");
    let mut answers = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut desired = 0;
    for second in 1..=400u32 {
        let offered = if second < 200 { 150.0 } else { 1_500.0 };
        input.write_all(line(f64::from(second), offered).as_bytes()).expect("read");
        let answer: Value =
            serde_json::from_str(&answers.next().expect("an answer").expect("text")).expect("JSON");
        assert_eq!(answer["t"], f64::from(second));
        assert!(answer["reason"].is_string());
        desired = answer["desired"].as_u64().expect("a number");
        assert!((2..=40).contains(&desired), "{answer}");
    }
    assert!(desired >= 15, "{desired} for 1500 rps at 82 each");
    drop(input);
    assert!(answers.next().is_none());
    assert!(child.wait().expect("it ends").success());
}

#[test]
fn a_bad_line_ends_it_with_its_number() {
    for (bad, expected) in [
        ("nonsense\n".to_owned(), "stdin, line 3: expected"),
        (line(1.0, 100.0), "stdin, line 3: t is 1, not after 2 of the line before"),
        ("{\"t\":3.0}\n".to_owned(), "stdin, line 3: missing field `offered`"),
        ("\n".to_owned(), "stdin, line 3: it is empty"),
    ] {
        let output = driven(&(line(1.0, 100.0) + &line(2.0, 100.0) + &bad + &line(9.0, 100.0)));
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
        let answers = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(answers, 2, "{bad}");
    }
    assert!(driven("").status.success());
}
