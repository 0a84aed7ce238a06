//! What operators say of scaling, and what of it outlives the daemon.

use std::fs;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{BINARY, Daemon, done, eventually, free_address, signal_all, talk, verb};
use crate::load::Load;
use crate::scaling::{pool, ready};

const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

fn size_override(daemon: &Daemon) -> Value {
    daemon.json("/api/v1/pools/web")["override"].clone()
}

fn decisions(daemon: &Daemon) -> Vec<Value> {
    let journal = daemon.json("/api/v1/pools/web/scaling?limit=1000");
    journal["decisions"].as_array().expect("decisions").clone()
}

fn reasons(daemon: &Daemon, action: &str) -> Vec<String> {
    let decisions = decisions(daemon);
    let of = decisions.iter().filter(|decision| decision["action"] == action);
    of.map(|decision| decision["reason"].as_str().expect("a reason").to_owned()).collect()
}

fn until_eligible(daemon: &Daemon, count: usize) {
    eventually(&format!("{count} instances serve, and no more"), LATER, || {
        (daemon.eligible("web") == count && daemon.instances("web").len() == count).then_some(())
    });
}

#[test]
fn a_size_set_by_hand_holds_for_its_time_and_ends_by_itself() {
    let daemon = ready(&pool(free_address(), ""));
    let (code, text) = verb(&daemon, &["scale", "web", "13"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("may have 3 to 12 instances, not 13"), "{text}");
    assert_eq!(verb(&daemon, &["scale", "nothing", "5"]).0, Some(1));

    // Several times what it takes to get there.
    done(&daemon, &["scale", "web", "6", "--for", "15s"]);
    let size = size_override(&daemon);
    assert_eq!((&size["desired"], size["until"].is_u64()), (&json!(6), true), "{size}");
    let (_, status) = verb(&daemon, &["status"]);
    assert!(status.contains("override 6 for "), "{status}");
    until_eligible(&daemon, 6);
    until_eligible(&daemon, 3);
    assert_eq!(size_override(&daemon), Value::Null);
    let told = reasons(&daemon, "override");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("is over") && told[1].contains("set the size to 6"), "{told:?}");
}

#[test]
fn a_size_set_by_hand_survives_a_restart_and_a_reload() {
    let config = pool(free_address(), "");
    let daemon = ready(&config);
    let body = r#"{"desired": 5}"#;
    let post = |daemon: &Daemon, body: &str| {
        let text = format!(
            "POST /api/v1/pools/web/scaling HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            daemon.admin,
            body.len()
        );
        let answer = talk(daemon.admin, text.as_bytes()).expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answer = post(&daemon, body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""override":{"desired":5,"until":null}"#), "{answer}");
    let answer = post(&daemon, r#"{"desired": 2}"#);
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("3 to 12"), "{answer}");
    until_eligible(&daemon, 5);

    let daemon = Daemon::start_in(daemon.crash(), &config);
    assert_eq!(size_override(&daemon), json!({"desired": 5, "until": null}));
    daemon.reload(|text| text.replace("max = 12", "max = 10"));
    assert_eq!(size_override(&daemon)["desired"], 5);
    until_eligible(&daemon, 5);
    // It began once. A crash may take the newest records with it, and this was one of them.
    let told = reasons(&daemon, "override");
    assert!(told.len() <= 1, "{told:?}");
    done(&daemon, &["scale", "web", "--auto"]);
    until_eligible(&daemon, 3);
    assert_eq!(size_override(&daemon), Value::Null);
}

#[test]
fn a_protected_instance_is_not_taken_and_that_survives_a_restart() {
    let config = pool(free_address(), "");
    let daemon = ready(&config);
    done(&daemon, &["scale", "web", "6"]);
    until_eligible(&daemon, 6);
    let of = |daemon: &Daemon, wanted: &dyn Fn(&Value) -> bool| -> Vec<String> {
        let instances = daemon.instances("web");
        let wanted = instances.iter().filter(|instance| wanted(instance));
        wanted.map(|instance| instance["id"].as_str().expect("an id").to_owned()).collect()
    };
    let protected = eventually("every zone has two", LATER, || {
        Some(of(&daemon, &|instance| instance["zone"] == "a")).filter(|in_a| in_a.len() == 2)
    });
    for id in &protected {
        done(&daemon, &["protect", "web", id]);
    }
    assert_eq!(verb(&daemon, &["protect", "web", "nobody"]).0, Some(1));
    let (_, status) = verb(&daemon, &["status"]);
    assert_eq!(status.matches("protected from scale-in").count(), 2, "{status}");

    let daemon = Daemon::start_in(daemon.crash(), &config);
    eventually("they are protected again", LATER, || {
        (of(&daemon, &|instance| instance["protected"] == true) == protected).then_some(())
    });
    until_eligible(&daemon, 6);
    done(&daemon, &["scale", "web", "--auto"]);
    until_eligible(&daemon, 3);
    let left = of(&daemon, &|_| true);
    assert!(protected.iter().all(|id| left.contains(id)), "{protected:?} in {left:?}");
    for id in &protected {
        done(&daemon, &["protect", "web", id, "--undo"]);
    }
    eventually("the zones are even again", LATER, || {
        let in_a = of(&daemon, &|instance| instance["zone"] == "a");
        (in_a.len() == 1 && daemon.eligible("web") == 3).then_some(())
    });
}

#[test]
fn recommendations_are_recorded_and_not_carried_out_and_off_decides_nothing() {
    let bind = free_address();
    let daemon = ready(&pool(bind, ""));
    let pids = daemon.instance_pids("web", None);
    let with_mode = |text: &str, mode: &str| {
        let (before, after) = text.split_once("[pool.web.scaling]\n").expect("a section");
        let after = after.split_once("min = ").expect("a minimum").1;
        format!("{before}[pool.web.scaling]\nmode = \"{mode}\"\nmin = {after}")
    };
    daemon.reload(|text| with_mode(&text, "recommend"));
    eventually("it is reloaded", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "success") == 1.0).then_some(())
    });
    let load = Load::start(bind, 100, 150);
    eventually("more are recommended", LATER, || {
        let decisions = decisions(&daemon);
        let found = decisions.iter().find(|decision| decision["action"] == "recommend")?;
        assert_eq!(found["from"], 3, "{found}");
        (found["to"].as_u64() > Some(3)).then_some(())
    });
    let tally = eventually("it adds up", LATER, || {
        let tally = daemon.json("/api/v1/pools/web/scaling")["tally"].clone();
        (tally["short_seconds"].as_f64() >= Some(2.0)).then_some(tally)
    });
    assert!(
        tally["recommended_instance_seconds"].as_f64()
            > tally["existing_instance_seconds"].as_f64(),
        "{tally}"
    );
    assert!(daemon.metric("tidegate_scaling_tally_short_seconds_total", "pool=\"web\"") >= 2.0);
    assert!(daemon.metric("tidegate_scaling_tally_instance_seconds_total", "existing") >= 6.0);
    let (_, status) = verb(&daemon, &["status"]);
    assert!(status.contains("mode recommend"), "{status}");
    assert_eq!(daemon.instance_pids("web", None), pids, "nothing came and nothing went");

    daemon.reload(|text| with_mode(&text, "off"));
    assert_eq!(load.finish().failed, 0);
    signal_all(&pids[..1], Signal::KILL);
    eventually("it is known to be gone", LATER, || (daemon.eligible("web") == 2).then_some(()));
    // Enforced, it would be replaced within three seconds.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(daemon.eligible("web"), 2);
    assert_eq!(reasons(&daemon, "launch").len(), 1, "only the first three");
    assert_eq!(daemon.json("/api/v1/pools/web/scaling").get("tally"), None);
    daemon.reload(|text| with_mode(&text, "enforce"));
    eventually("it is replaced", LATER, || (daemon.eligible("web") == 3).then_some(()));
}

#[test]
fn decisions_outlive_the_daemon_with_what_became_of_them() {
    let config = pool(free_address(), "");
    let mut daemon = ready(&config);
    eventually("the outcome of the launch is measured", LATER, || {
        let decisions = decisions(&daemon);
        let launch = decisions.iter().find(|decision| decision["action"] == "launch")?;
        let outcome = launch["outcome"].as_str().expect("text");
        outcome.starts_with("accepted; 3 of 3 up after ").then_some(())
    });
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(LATER).success());
    let before_id = |decision: &Value| decision["id"].as_u64().expect("an id");
    let daemon = Daemon::start_in(daemon.crash(), &config);
    let newest = eventually("it decides again", LATER, || {
        let decisions = decisions(&daemon);
        let launches = decisions.iter().filter(|decision| decision["action"] == "launch");
        (launches.count() == 2).then_some(decisions)
    });
    let ids: Vec<u64> = newest.iter().map(before_id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).rev().collect::<Vec<_>>(), "one after the other");
    let first = newest.iter().rfind(|decision| decision["action"] == "launch").expect("the first");
    let outcome = first["outcome"].as_str().expect("text");
    assert!(outcome.starts_with("accepted; 3 of 3 up after "), "{first}");
    assert_eq!(daemon.metric("tidegate_history_errors_total", ""), 0.0);
    let (_, status) = verb(&daemon, &["status"]);
    assert!(status.contains(" ago: "), "the last decision: {status}");
}

#[test]
fn a_history_that_cannot_be_used_stops_nothing() {
    for garbage in [true, false] {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        let path = state.join("history.redb");
        if garbage {
            fs::create_dir_all(&state).expect("a directory");
            fs::write(&path, "garbage".repeat(1_000)).expect("written");
        } else {
            // What no user may open for writing.
            fs::create_dir_all(&path).expect("a directory");
        }
        let daemon = Daemon::start_in(dir, &pool(free_address(), ""));
        until_eligible(&daemon, 3);
        done(&daemon, &["scale", "web", "4"]);
        until_eligible(&daemon, 4);
        let errors = daemon.metric("tidegate_history_errors_total", "");
        assert_eq!(errors, 1.0, "told once: {}", daemon.log());
        let corrupt = daemon.dir.path().join("state/history.redb.corrupt");
        assert_eq!(corrupt.exists(), garbage);
        let log = daemon.log();
        let told = if garbage { "is set aside as .corrupt" } else { "cannot be written" };
        assert_eq!(log.matches(told).count(), 1, "{log}");
    }
}

#[test]
fn a_history_that_has_no_room_stops_nothing() {
    // No file may be longer than 16 KiB, which is as good as a disk that is full.
    let script = "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, BINARY]);
    let dir = tempfile::tempdir().expect("a directory");
    let daemon = Daemon::start_by(command, dir, &pool(free_address(), ""));
    until_eligible(&daemon, 3);
    done(&daemon, &["scale", "web", "4"]);
    until_eligible(&daemon, 4);
    assert_eq!(daemon.metric("tidegate_history_errors_total", ""), 1.0, "{}", daemon.log());
    assert_eq!(daemon.log().matches("the history cannot be written").count(), 1);
    assert_eq!(reasons(&daemon, "launch").len(), 2, "the journal is in memory");
}
