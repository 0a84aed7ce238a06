//! What operators get wrong, and what machines do to them: a clear word, and no traffic lost.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use crate::daemon::{Daemon, ask, eventually, free_address, free_port, run};
use crate::load::Load;
use crate::origin::Origin;
use crate::scaling;

const SOON: Duration = Duration::from_secs(10);

fn write_config(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tidegate.toml");
    fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    (dir, path)
}

#[test]
fn check_lists_every_fault_with_its_place() {
    let (_dir, path) = write_config(
        "[[listener]]\nbind = \"127.0.0.1:8080\"\npool = \"wbe\"\n\n[pool.web]\nbalanse = \"random\"\n\
         timeouts = { connect = 3 }\ninstances = [{ address = \"10.0.0.1:80\", weight = 0 }]\n\n\
         [pool.web.health]\ntype = \"grcp\"\n",
    );
    let (status, out, err) = run(&["check", "--config", &path], SOON);
    assert_eq!(status.code(), Some(1));
    let text = out + &err;
    for (place, word) in
        [(":3:", "web"), (":6:", "balance"), (":7:", "\"3s\""), (":8:", "weight"), (":11:", "grpc")]
    {
        let line = text.lines().find(|line| line.contains(&format!("tidegate.toml{place}")));
        let line = line.unwrap_or_else(|| panic!("a fault at {place} in:\n{text}"));
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn check_accepts_the_shipped_config() {
    let path = format!("{}/config/tidegate.toml", env!("CARGO_MANIFEST_DIR"));
    let (status, out, err) = run(&["check", "--config", &path], SOON);
    assert_eq!(status.code(), Some(0), "{out}{err}");
}

#[test]
fn a_missing_config_and_an_unreachable_daemon_have_their_exit_codes() {
    let (status, _, err) = run(&["run", "--config", "/nowhere/tidegate.toml"], SOON);
    assert_eq!(status.code(), Some(1), "{err}");
    assert!(err.contains("/nowhere/tidegate.toml"), "{err}");
    let admin = free_address().to_string();
    let (status, _, err) = run(&["status", "--admin", &admin], SOON);
    assert_eq!(status.code(), Some(3), "{err}");
    let (status, _, _) = run(&["dance"], SOON);
    assert_eq!(status.code(), Some(2));
}

#[test]
fn a_taken_address_is_found_out_although_the_port_could_be_shared() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let bind = taken.local_addr().expect("an address");
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let admin = free_address();
    let (_dir, path) = write_config(&format!(
        "[node]\nstate_dir = \"state\"\n[admin]\nbind = \"{admin}\"\n[[listener]]\nbind = \"{bind}\"\n\
         pool = \"p\"\n[pool.p]\ninstances = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let (status, _, err) = run(&["run", "--config", &path], SOON);
    assert_eq!(status.code(), Some(4), "{err}");
    assert!(err.contains(&bind.to_string()) && err.contains("another process"), "{err}");
}

#[test]
fn a_second_daemon_on_the_same_address_or_state_refuses_to_start() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let bind = free_address();
    let pool = format!("[pool.p]\ninstances = [{{ address = \"{}\" }}]\n", origin.address);
    let daemon = Daemon::start(&format!("[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n{pool}"));
    let state = daemon.dir.path().join("state").display().to_string();
    let (other, admin) = (free_address(), free_address());
    let config = |bind, state: &str| {
        format!(
            "[node]\nstate_dir = \"{state}\"\n[admin]\nbind = \"{admin}\"\n[[listener]]\n\
             bind = \"{bind}\"\npool = \"p\"\n{pool}"
        )
    };
    let (_dir, path) = write_config(&config(other, &state));
    let (status, _, err) = run(&["run", "--config", &path], SOON);
    assert_eq!(status.code(), Some(4), "{err}");
    assert!(err.contains("another tidegate") && err.contains(&state), "{err}");
    let (_dir, path) = write_config(&config(bind, "state"));
    let (status, _, err) = run(&["run", "--config", &path], SOON);
    assert_eq!(status.code(), Some(4), "{err}");
    assert!(err.contains(&bind.to_string()), "{err}");
    assert_eq!(ask(bind, "GET", "/").expect("an answer").0, 200, "the first goes on");
}

#[test]
fn a_missing_command_is_explained_and_costs_no_traffic() {
    let bind = free_address();
    let config = scaling::pool(bind, "");
    let daemon = scaling::ready(&config);
    let load = Load::start(bind, 20, 60);
    daemon.reload(|text| text.replace("{self}", "/no/such/program"));
    eventually("the reload is through", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "success") == 1.0).then_some(())
    });
    // More than three can carry, less than they can serve: growth is wanted and fails.
    load.set_rate(150);
    eventually("the failure is told", Duration::from_secs(20), || {
        daemon.log().contains("/no/such/program").then_some(())
    });
    let outcomes = "operation=\"launch\",outcome=\"rejected\"";
    eventually("the failure is counted", SOON, || {
        (daemon.metric("tidegate_provisioner_operations_total", outcomes) >= 1.0).then_some(())
    });
    std::thread::sleep(Duration::from_secs(2));
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    let attempts = daemon.metric("tidegate_provisioner_operations_total", outcomes);
    assert!(attempts < 10.0, "it backs off: {attempts} attempts");
}

#[test]
fn an_instance_that_never_becomes_healthy_gets_no_traffic() {
    let bind = free_address();
    let config = scaling::pool(bind, "").replace("path = \"/healthz\"", "path = \"/?status=503\"");
    let daemon = Daemon::start(&config);
    eventually("three instances are there", SOON, || {
        (daemon.instances("web").len() == 3).then_some(())
    });
    std::thread::sleep(Duration::from_secs(3));
    let instances = daemon.instances("web");
    assert!(instances.iter().all(|i| i["eligible"] == false), "{instances:?}");
    assert!(instances.iter().all(|i| i["why"].as_str().is_some_and(|why| why.contains("probe"))));
    let (status, _) = ask(bind, "GET", "/").expect("an answer");
    assert_eq!(status, 503, "after its time in the queue");
    assert!(instances.len() <= 4, "no storm of launches: {instances:?}");
}

#[test]
fn a_bad_reload_changes_nothing_and_a_good_one_drops_no_connection() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let other = Origin::answering(b"HTTP/1.1 204 No Content\r\n\r\n");
    let (bind, more) = (free_address(), free_address());
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"p\"\n\
         [pool.p]\ninstances = [{{ address = \"{}\" }}]\n",
        origin.address
    ));
    let mut kept = std::net::TcpStream::connect(bind).expect("connected");
    let mut exchange = |expected: &str| {
        use std::io::Read;
        kept.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
        let mut answer = [0; 12];
        kept.read_exact(&mut answer).expect("answered");
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {expected}"));
        let mut rest = vec![0; 4096];
        let _ = kept.read(&mut rest);
    };
    exchange("200");
    daemon.reload(|text| text.replace("pool = \"p\"", "pool = \"q\""));
    eventually("the bad one is refused", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "failure") == 1.0).then_some(())
    });
    exchange("200");
    assert!(daemon.log().contains("the old one stays in force"), "{}", daemon.log());
    let second = format!(
        "[[listener]]\nname = \"more\"\nbind = \"{more}\"\npool = \"r\"\n\
         [pool.r]\ninstances = [{{ address = \"{}\" }}]\n",
        other.address
    );
    daemon.reload(|text| text.replace("pool = \"q\"", "pool = \"p\"") + &second);
    eventually("the new listener serves", SOON, || {
        ask(more, "GET", "/").filter(|(status, _)| *status == 204)
    });
    exchange("200");
    daemon.reload(|text| {
        text.replace(&second, "").replace(&origin.address.to_string(), &other.address.to_string())
    });
    eventually("the listener is gone", SOON, || ask(more, "GET", "/").is_none().then_some(()));
    eventually("the new instance serves", SOON, || {
        ask(bind, "GET", "/").filter(|(status, _)| *status == 204)
    });
    exchange("204");
}

#[test]
fn reloads_under_load_fail_no_request() {
    let bind = free_address();
    let daemon = scaling::ready(&scaling::pool(bind, ""));
    let load = Load::start(bind, 50, 100);
    for n in 0..20 {
        daemon.reload(|text| {
            let text = text.replace("max = 12", "max = 11");
            if n % 2 == 0 { text } else { text.replace("max = 11", "max = 12") }
        });
        std::thread::sleep(Duration::from_millis(100));
    }
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert!(daemon.metric("tidegate_config_reloads_total", "success") >= 1.0);
}

#[test]
fn admin_refuses_to_be_reached_from_elsewhere() {
    for admin in ["0.0.0.0", "192.0.2.1"] {
        let port = free_port();
        let (_dir, path) = write_config(&format!(
            "[admin]\nbind = \"{admin}:{port}\"\n[[listener]]\nbind = \"127.0.0.1:{port}\"\n\
             pool = \"p\"\n[pool.p]\ninstances = [{{ address = \"127.0.0.1:1\" }}]\n"
        ));
        let (status, _, err) = run(&["run", "--config", &path], SOON);
        assert_eq!(status.code(), Some(1), "{err}");
        assert!(err.contains("token_file") && err.contains("TLS"), "{err}");
    }
}
