//! Zones: what operators move elsewhere, what is lost at once, and what goes first.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::access_log;
use crate::daemon::{Daemon, done, eventually, free_address, signal_all, talk, verb};
use crate::load::Load;
use crate::origin::Origin;
use crate::scaling::pool;
use crate::tcp::{connect, echo};

const SOON: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(30);
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// What the status says of a zone.
fn zone(daemon: &Daemon, name: &str) -> Value {
    let status = daemon.json("/api/v1/status");
    let zones = status["zones"].as_array().expect("zones");
    zones.iter().find(|zone| zone["zone"] == name).expect("the zone").clone()
}

fn until_state(daemon: &Daemon, name: &str, state: &str) {
    eventually(&format!("zone {name} is {state}"), LATER, || {
        (zone(daemon, name)["state"] == state).then_some(())
    });
}

/// Two instances in each of three zones that carry 40 requests a second each.
fn six(config: &str) -> Daemon {
    let daemon = Daemon::start(config);
    eventually("six instances serve", LATER, || (daemon.eligible("web") == 6).then_some(()));
    daemon
}

#[test]
fn an_evacuated_zone_gets_nothing_new_within_a_second_and_no_request_fails() {
    let bind = free_address();
    let config = pool(bind, "").replace("min = 3", "min = 6");
    let config = format!("[log]\naccess = \"access.json\"\n{config}");
    let daemon = six(&config);
    let load = Load::start(bind, 50, 100);
    eventually("all zones have traffic", LATER, || {
        (load.so_far().zones.len() == 3 && load.so_far().sent > 100).then_some(())
    });
    let of_a = || load.so_far().zones.get("a").copied().unwrap_or(0);
    let more_is_sent = |more: u64| {
        let sent = load.so_far().sent;
        eventually("more is sent", LATER, || (load.so_far().sent > sent + more).then_some(()));
    };

    done(&daemon, &["zone", "evacuate", "a"]);
    let in_a_second = Timestamp::now() + Duration::from_secs(1);
    eventually("what ran there has ended", SOON, || {
        let instances = daemon.instances("web");
        let mut of_zone = instances.iter().filter(|instance| instance["zone"] == "a");
        of_zone.all(|instance| instance["in_flight"] == 0).then_some(())
    });
    // Each client has counted its last answer from there before it asks again.
    more_is_sent(100);
    let so_far = of_a();
    eventually("others serve in its stead", LATER, || (daemon.eligible("web") == 6).then_some(()));
    more_is_sent(300);
    assert_eq!(of_a(), so_far, "nothing new");
    let went_there: Vec<Timestamp> = access_log::lines(&daemon, "access.json")
        .iter()
        .filter(|line| line["zone"] == "a")
        .map(|line| line["time"].as_str().and_then(|time| time.parse().ok()).expect("a time"))
        .collect();
    let last = went_there.iter().max().expect("all zones had traffic");
    assert!(*last < in_a_second, "{last}, and not before {in_a_second}");
    assert_eq!(zone(&daemon, "a"), json!({"zone": "a", "state": "evacuated", "share": 0.0}));
    assert_eq!(daemon.metric("tidegate_zone_evacuated", "zone=\"a\""), 1.0);
    assert_eq!(daemon.metric("tidegate_zone_share", "zone=\"a\""), 0.0);
    assert!(verb(&daemon, &["status"]).1.contains("a evacuated 0%"));
    let kept = daemon.instance_pids("web", Some("a"));
    assert_eq!(kept.len(), 2, "its instances are kept");
    let instances = daemon.instances("web");
    let of_zone = instances.iter().filter(|instance| instance["zone"] == "a");
    for instance in of_zone {
        let word = |key: &str| instance[key].as_str().expect("a word").to_owned();
        assert_eq!((word("health"), word("admin")), ("up".into(), "evacuated".into()));
    }
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);

    let daemon = Daemon::start_in(daemon.crash(), &config);
    assert_eq!(zone(&daemon, "a")["state"], "evacuated", "after a restart");
    daemon.reload(|text| text.replace("max = 12", "max = 11"));
    eventually("the config is read again", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "success") == 1.0).then_some(())
    });
    assert_eq!(zone(&daemon, "a")["state"], "evacuated", "after a reload");
    done(&daemon, &["zone", "restore", "a"]);
    until_state(&daemon, "a", "up");
    let (code, text) = verb(&daemon, &["zone", "restore", "a"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("zone \"a\" is not evacuated"), "{text}");
    let load = Load::start(bind, 20, 50);
    eventually("zone a has traffic again", LATER, || {
        load.so_far().zones.contains_key("a").then_some(())
    });
    assert_eq!(load.finish().failed, 0);
    eventually(
        "the pool is even again, and no larger than it was",
        Duration::from_secs(120),
        || {
            let instances = daemon.instances("web");
            let count = |zone: &str| instances.iter().filter(|one| one["zone"] == zone).count();
            (["a", "b", "c"].map(count) == [2, 2, 2]).then_some(())
        },
    );
}

#[test]
fn tunnels_into_an_evacuated_zone_go_on_and_new_ones_go_elsewhere() {
    let (one, other) = (echo(), echo());
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\nprotocol = \"tcp\"\npool = \"db\"\n[pool.db]\n\
         instances = [{{ address = \"{}\", zone = \"a\" }}, {{ address = \"{}\", zone = \"b\" }}]\n",
        one.address, other.address
    ));
    eventually("both serve", LATER, || (daemon.eligible("db") == 2).then_some(()));
    let in_flight = |zone: &str| -> Vec<Value> {
        let instances = daemon.instances("db");
        let of_zone = instances.iter().filter(|instance| instance["zone"] == zone);
        of_zone.map(|instance| instance["in_flight"].clone()).collect()
    };
    let talk = |tunnel: &mut TcpStream| {
        tunnel.write_all(b"hello").expect("sent");
        let mut back = [0; 5];
        tunnel.read_exact(&mut back).expect("echoed");
        assert_eq!(&back, b"hello");
    };
    let mut tunnels: Vec<TcpStream> = (0..8).map(|_| connect(bind)).collect();
    tunnels.iter_mut().for_each(talk);
    let before = in_flight("a")[0].as_u64().expect("a number");
    assert!(before > 0, "zone a has some of them");

    done(&daemon, &["zone", "evacuate", "a", "--force"]);
    std::thread::sleep(Duration::from_secs(1));
    let mut later: Vec<TcpStream> = (0..8).map(|_| connect(bind)).collect();
    later.iter_mut().for_each(talk);
    tunnels.iter_mut().for_each(talk);
    assert_eq!(in_flight("a"), [json!(before)], "no new one, and none was cut");
    assert_eq!(in_flight("b"), [json!(16 - before)]);
    drop((tunnels, later));
    eventually("the zone is empty", SOON, || (in_flight("a") == [json!(0)]).then_some(()));
}

#[test]
fn an_evacuation_needs_room_elsewhere_and_ends_by_itself() {
    let bind = free_address();
    let config = pool(bind, "")
        .replace("min = 3", "min = 6")
        .replace("max = 12", "max = 6")
        .replace("target_requests_per_second = 40", "target_requests_per_second = 10");
    let daemon = six(&config);
    let (code, text) = verb(&daemon, &["zone", "evacuate", "x"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("there is no zone \"x\"; the zones are a, b, c"), "{text}");

    let load = Load::start(bind, 60, 60);
    eventually("the agent has seen the demand", LATER, || {
        daemon.log().contains("but 6 is the most there may be").then_some(())
    });
    let (code, text) = verb(&daemon, &["zone", "evacuate", "b"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("in pool \"web\" the demand is ") && text.contains("carries 40"),
        "{text}"
    );
    assert!(text.contains("or force it"), "{text}");
    assert_eq!(zone(&daemon, "b")["state"], "up");
    load.set_rate(20);
    done(&daemon, &["zone", "evacuate", "b", "--force", "--for", "6s"]);
    let until = zone(&daemon, "b")["until"].as_u64().expect("an end");
    assert!(verb(&daemon, &["status"]).1.contains("b evacuated for "));
    until_state(&daemon, "b", "up");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    assert!(now.as_secs() >= until, "{now:?} is before {until}");
    for name in ["a", "b"] {
        done(&daemon, &["zone", "evacuate", name, "--force"]);
    }
    let (code, text) = verb(&daemon, &["zone", "evacuate", "c", "--force"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("nothing that may take traffic would be left"), "{text}");
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn a_frozen_zone_is_lost_at_once_and_comes_back() {
    let bind = free_address();
    let daemon = six(&pool(bind, "").replace("min = 3", "min = 6"));
    let load = Load::start(bind, 60, 150);
    eventually("all zones have traffic", LATER, || {
        (load.so_far().zones.len() == 3 && load.so_far().sent > 200).then_some(())
    });
    let frozen = daemon.instance_pids("web", Some("a"));
    signal_all(&frozen, Signal::STOP);
    let began = Instant::now();
    let took = eventually("nothing in zone a takes traffic", LATER, || {
        let instances = daemon.instances("web");
        let mut of_zone = instances.iter().filter(|instance| instance["zone"] == "a");
        of_zone.all(|instance| instance["eligible"] == false).then(|| began.elapsed())
    });
    let state = zone(&daemon, "a")["state"].clone();
    signal_all(&frozen, Signal::CONT);
    eprintln!("a frozen zone had no traffic after {took:?}");
    // By their probes alone it takes six seconds or longer: these begin when traffic has shown nothing
    // for two, and three must fail.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(state, "lost");
    assert!(daemon.log().contains("its zone is lost"), "the log says why");
    until_state(&daemon, "a", "up");
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn traffic_follows_levels_and_the_own_zone() {
    let bind = free_address();
    let origins = [Origin::answering(OK), Origin::answering(OK), Origin::answering(OK)];
    let [a, b, c] = [0, 1, 2].map(|n| origins[n].address);
    let instances = format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"web\"\n[pool.web]\ninstances = [\
         {{ id = \"a1\", address = \"{a}\", zone = \"a\" }}, \
         {{ id = \"b1\", address = \"{b}\", zone = \"b\" }}, \
         {{ id = \"c1\", address = \"{c}\", zone = \"c\" }}]\n"
    );
    // Which of the three answers twenty requests.
    let answers = || {
        let heard = || origins.each_ref().map(|origin| origin.text().matches("GET / ").count());
        let before = heard();
        for _ in 0..20 {
            let answer = talk(bind, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            assert!(answer.is_some_and(|answer| answer.starts_with(b"HTTP/1.1 200")));
        }
        let after = heard();
        [0, 1, 2].map(|n| after[n] - before[n])
    };
    let tiers = |daemon: &Daemon| daemon.json("/api/v1/pools/web")["tiers"].clone();
    let levels = "zones = { mode = \"priority\", levels = [[\"a\"], [\"b\", \"c\"]] }\n";
    let daemon = Daemon::start(&format!("{instances}{levels}"));
    let first = json!([{"zones": ["a"], "share": 1.0}, {"zones": ["b", "c"], "share": 0.0}]);
    eventually("level one", SOON, || (tiers(&daemon) == first).then_some(()));
    assert_eq!(daemon.metric("tidegate_zone_share", "zone=\"a\""), 1.0);
    assert_eq!(answers(), [20, 0, 0]);
    done(&daemon, &["zone", "evacuate", "a"]);
    assert_eq!(tiers(&daemon), json!([{"zones": ["b", "c"], "share": 1.0}]));
    let [of_a, of_b, of_c] = answers();
    assert!(of_a == 0 && of_b > 0 && of_c > 0, "{of_a} {of_b} {of_c}");
    done(&daemon, &["drain", "web", "b1"]);
    let both = json!([{"zones": ["c"], "share": 1.0}]);
    assert_eq!(tiers(&daemon), both, "level two as far as it goes");
    assert_eq!(answers(), [0, 0, 20]);
    done(&daemon, &["zone", "restore", "a"]);
    eventually("level one again", SOON, || {
        (tiers(&daemon)[0] == json!({"zones": ["a"], "share": 1.0})).then_some(())
    });

    drop(daemon);

    let local = "zones = { mode = \"local-first\", spill_at = \"70%\" }\n";
    let zone_of_node = "[node]\nworkers = 2\nzone = \"b\"\n";
    let daemon = {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = std::process::Command::new("sh");
        // The config begins with its [node]: the zone goes in there.
        let script = format!(
            "sed -i 's/^workers = 2$/workers = 2\\nzone = \"b\"/' \"$3\" && exec {} \"$@\"",
            crate::daemon::BINARY
        );
        command.args(["-c", &script, "sh"]);
        Daemon::start_by(command, dir, &format!("{instances}{local}"))
    };
    assert!(std::fs::read_to_string(daemon.config_path()).expect("it").starts_with(zone_of_node));
    let own = json!([
        {"zones": ["b"], "share": 1.0, "spill_at": 0.7}, {"zones": ["a", "c"], "share": 0.0}
    ]);
    eventually("the own zone first", SOON, || (tiers(&daemon) == own).then_some(()));
    assert_eq!(answers(), [0, 20, 0]);
}
