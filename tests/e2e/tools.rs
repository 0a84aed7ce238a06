//! With tools that are not ours. Each test says loudly that it was left out where its tool is not
//! installed.

use std::fs;
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::daemon::{ask, eventually, free_address};
use crate::scaling;

/// Whether `tool` can be started; if not, the skipped test says so.
pub fn has(tool: &str, package: &str) -> bool {
    let found = Command::new(tool)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skipped(&format!("{tool} is not installed (Debian: apt-get install {package})"));
    }
    found
}

/// Says why a test was left out.
pub fn skipped(why: &str) {
    tell(&format!("SKIPPED: {why}"));
}

/// Says something that is seen also when the test passes: what `eprintln` says is swallowed then.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A process that ends with its test.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn h2load_steps_to_four_times_the_load_without_a_failed_request() {
    if !has("h2load", "nghttp2-client") {
        return;
    }
    let bind = free_address();
    let daemon = scaling::ready(&scaling::pool(bind, ""));
    // 120 clients with 4 requests a second each: 480 where three are set to carry 120.
    let output = Command::new("h2load")
        .args(["--h1", "--rps", "4", "-c", "120", "-D", "12", "-T", "10s", "-t", "1"])
        .arg(format!("http://{bind}/"))
        .output()
        .expect("h2load runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with("requests:")).expect("a summary");
    for nothing in [" 0 failed", " 0 errored", " 0 timeout"] {
        assert!(line.contains(nothing), "{text}");
    }
    let codes = text.lines().find(|line| line.starts_with("status codes:")).expect("codes");
    assert!(codes.contains(" 0 3xx, 0 4xx, 0 5xx"), "{codes}");
    assert!(daemon.eligible("web") >= 9, "{:?}", daemon.instances("web"));
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    if !has("promtool", "prometheus") {
        return;
    }
    let bind = free_address();
    let daemon = scaling::ready(&scaling::pool(bind, ""));
    ask(bind, "GET", "/").expect("an answer");
    let (_, metrics) = daemon.get("/metrics").expect("metrics");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    promtool.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("fed");
    let output = promtool.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && words.trim().is_empty(), "{words}");
}

#[test]
fn a_real_prometheus_scrapes_it() {
    if !has("prometheus", "prometheus") {
        return;
    }
    let bind = free_address();
    let daemon = scaling::ready(&scaling::pool(bind, ""));
    let web = free_address();
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("prometheus.yml");
    fs::write(
        &config,
        format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: tidegate\n    \
             static_configs: [{{ targets: ['{}'] }}]\n",
            daemon.admin
        ),
    )
    .expect("written");
    let _prometheus = Ended(
        Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={web}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus runs"),
    );
    let query = |text: &str| ask(web, "GET", &format!("/api/v1/query?query={text}"));
    eventually("the scrape is up", Duration::from_secs(30), || {
        let (_, body) = query("up%7Bjob=%22tidegate%22%7D")?;
        body.contains(",\"1\"]").then_some(())
    });
    eventually("three instances are seen", Duration::from_secs(30), || {
        let (_, body) = query("sum(tidegate_instance_up)")?;
        body.contains(",\"3\"]").then_some(())
    });
}
