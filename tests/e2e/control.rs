//! The operator's side: verbs, status, metrics.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::daemon::{BINARY, Daemon, ask, eventually, free_address, run, talk};
use crate::load::Load;
use crate::origin::Origin;
use crate::scaling;

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_drained_instance_gets_nothing_new_until_that_is_undone() {
    let bind = free_address();
    let daemon = scaling::ready(&scaling::pool(bind, ""));
    let admin = daemon.admin.to_string();
    let id = daemon.instances("web")[0]["id"].as_str().expect("an id").to_owned();
    let load = Load::start(bind, 20, 60);
    let of = |load: &Load| load.so_far().instances.get(&id).copied().unwrap_or(0);
    eventually("it takes traffic", SOON, || (of(&load) > 5).then_some(()));
    let (status, out, err) = run(&["drain", "web", &id, "--admin", &admin], SOON);
    assert_eq!(status.code(), Some(0), "{out}{err}");
    let others_serve = |more: u64| {
        let so_far = load.so_far().ok;
        eventually("the others serve", Duration::from_secs(20), || {
            (load.so_far().ok >= so_far + more).then_some(())
        });
    };
    // What it was asked before is answered, and counted by its clients: each of them asks for more only
    // then.
    eventually("it has nothing left to do", SOON, || {
        let instances = daemon.instances("web");
        let it = instances.iter().find(|i| i["id"] == id.as_str())?;
        (it["eligible"] == false && it["in_flight"] == 0).then_some(())
    });
    others_serve(60);
    let before = of(&load);
    others_serve(120);
    assert_eq!(of(&load), before, "nothing new");
    let shown = daemon.instances("web");
    let shown = shown.iter().find(|i| i["id"] == id.as_str()).expect("still there");
    assert_eq!((&shown["admin"], &shown["eligible"]), (&"draining".into(), &false.into()));
    let (status, out, _) = run(&["status", "--admin", &admin], SOON);
    assert_eq!(status.code(), Some(0));
    let line = out.lines().find(|line| line.contains(&id)).expect("its line");
    assert!(line.contains("draining") && line.contains("operator"), "{line}");
    let (status, ..) = run(&["drain", "web", &id, "--undo", "--admin", &admin], SOON);
    assert_eq!(status.code(), Some(0));
    eventually("it takes traffic again", SOON, || (of(&load) > before).then_some(()));
    assert_eq!(load.finish().failed, 0);
    let (status, _, err) = run(&["drain", "web", "nobody", "--admin", &admin], SOON);
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("nobody"), "{err}");
}

#[test]
fn explain_says_where_the_next_request_goes_and_why() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let address = origin.address;
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{}\"\npool = \"p\"\n[pool.p]\nmax_in_flight = 7\ninstances = [\
         {{ address = \"{address}\", id = \"one\", zone = \"a\" }}, \
         {{ address = \"{}\", id = \"two\", zone = \"b\" }}]\n",
        free_address(),
        free_address(),
    ));
    let admin = daemon.admin.to_string();
    let explain = |more: &[&str]| {
        let (status, out, err) = run(&[&["explain"], more, &["--admin", &admin]].concat(), SOON);
        (status.code(), out, err)
    };
    eventually("the second is down", SOON, || {
        daemon.instances("p").iter().any(|one| one["health"] == "down").then_some(())
    });
    let (code, out, err) = explain(&["p", "--client", "192.0.2.7"]);
    assert_eq!(code, Some(0), "{err}");
    let two = out.lines().find(|line| line.contains(" two ")).expect("its line");
    assert!(two.contains(" no ") && two.ends_with("fails its probes"), "{out}");
    let next = "the next request of 192.0.2.7 goes to one, the only candidate";
    assert!(out.contains(next) && out.contains("0 of 7"), "{out}");
    daemon.post("/api/v1/pools/p/instances/one/drain").expect("an answer");
    let (_, out, _) = explain(&["p", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["instances"][0]["why"], "drained by an operator");
    assert_eq!(told["next"], "is answered 503 (no_instance): nothing is eligible, nor on its way");
    let (code, _, err) = explain(&["nobody"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("nobody"), "{err}");
    assert_eq!(explain(&["p", "--client", "me"]).0, Some(2));
}

#[test]
fn a_drain_survives_a_restart() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let config = format!(
        "[[listener]]\nbind = \"{}\"\npool = \"p\"\n\
         [pool.p]\ninstances = [{{ address = \"{}\", id = \"one\" }}]\n",
        free_address(),
        origin.address
    );
    let daemon = Daemon::start(&config);
    let (status, body) = daemon.post("/api/v1/pools/p/instances/one/drain").expect("an answer");
    assert!(status < 300, "{status} {body}");
    let daemon = Daemon::start_in(daemon.crash(), &config);
    assert_eq!(daemon.instances("p")[0]["admin"], "draining");
}

#[test]
fn the_api_answers_only_to_its_own_name() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{}\"\npool = \"p\"\n[pool.p]\ninstances = [{{ address = \"{}\" }}]\n",
        free_address(),
        origin.address
    ));
    let text = "GET /api/v1/status HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n";
    let answer = talk(daemon.admin, text.as_bytes()).expect("an answer");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    for (path, expected) in [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/api/v1/status", 200),
        ("/api/v1/pools/p", 200),
        ("/api/v1/pools/q", 404),
        ("/api/v1/nothing", 404),
    ] {
        assert_eq!(daemon.get(path).expect("an answer").0, expected, "{path}");
    }
    assert_eq!(daemon.post("/api/v1/status").expect("an answer").0, 405);
}

#[test]
fn static_instances_are_probed_and_counted_by_zone() {
    let up = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let sick = Origin::answering(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\nbalance = \"round-robin\"\n\
         instances = [{{ address = \"{}\", zone = \"a\" }}, {{ address = \"{}\", zone = \"b\" }}]\n\
         [pool.p.health]\ntype = \"http\"\npath = \"/healthz\"\n",
        up.address, sick.address
    ));
    for _ in 0..10 {
        assert_eq!(ask(bind, "GET", "/").expect("an answer").0, 200);
    }
    assert!(!sick.text().contains("GET / "), "only probes: {}", sick.text());
    assert_eq!(daemon.metric("tidegate_instance_up", "zone=\"a\""), 1.0);
    assert_eq!(daemon.metric("tidegate_instance_up", "zone=\"b\""), 0.0);
    assert_eq!(daemon.metric("tidegate_zone_share", "zone=\"a\""), 1.0);
    assert_eq!(daemon.metric("tidegate_requests_total", "code=\"200\""), 10.0);
    assert_eq!(daemon.metric("tidegate_request_duration_seconds_count", "pool=\"p\""), 10.0);
}

#[test]
fn idle_connections_are_closed_when_the_daemon_stops() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let bind = free_address();
    let mut daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\ninstances = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let mut idle = TcpStream::connect(bind).expect("connected");
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_millis(200));
    daemon.signal(rustix::process::Signal::INT);
    assert!(daemon.wait(SOON).success(), "it does not wait for idle clients");
}

#[test]
fn a_daemon_that_stops_says_so() {
    let origin = Origin::answering(b"");
    let bind = free_address();
    let mut daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\ninstances = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    // A request that is not answered keeps it from ending.
    let mut busy = TcpStream::connect(bind).expect("connected");
    busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    eventually("it is under way", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 1.0).then_some(())
    });
    daemon.signal(rustix::process::Signal::TERM);
    eventually("it is not ready any more", SOON, || {
        daemon.get("/readyz").filter(|(status, _)| *status == 503)
    });
    for path in ["/api/v1/reload", &format!("/api/v1/pools/p/instances/{}/drain", origin.address)] {
        let (status, body) = daemon.post(path).expect("an answer");
        assert!(status == 503 && body.contains("is stopping"), "{path}: {status} {body}");
    }
    daemon.signal(rustix::process::Signal::TERM);
    assert!(daemon.wait(SOON).success(), "the second signal ends it");
}

#[test]
fn as_many_files_as_may_be_are_allowed_and_too_few_are_told_of_once() {
    let script = "ulimit -S -n 500; ulimit -H -n 5000; exec \"$0\" \"$@\"";
    for (connections, told) in [(400, 0), (500, 1)] {
        let mut command = Command::new("sh");
        command.args(["-c", script, BINARY]);
        let dir = tempfile::tempdir().expect("a directory");
        let config = format!(
            "[[listener]]\nbind = \"{}\"\npool = \"p\"\nlimits = {{ connections = {connections} }}\n\
             [pool.p]\ninstances = [{{ address = \"{}\" }}]\n[pool.p.health]\ntype = \"none\"\n",
            free_address(),
            free_address(),
        );
        let daemon = Daemon::start_by(command, dir, &config);
        let path = format!("/proc/{}/limits", daemon.pid().as_raw_nonzero());
        let limits = fs::read_to_string(path).expect("it lives");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
        assert_eq!(line.matches(" 5000 ").count(), 2, "{line}");
        let log = daemon.log();
        assert_eq!(log.matches("limit of open files").count(), told, "{connections}: {log}");
        assert_eq!(log.matches("open_files=5000 needed=5096").count(), told, "{log}");
    }
}
