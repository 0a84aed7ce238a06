//! The loop closed: instances come and go by the request rate, and no request fails.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::daemon::{Daemon, eventually, free_address, free_port, is_alive, signal_all};
use crate::load::Load;
use crate::origin::Origin;
use crate::tools::tell;

/// A provisioned pool of whoami instances that serve 60 requests a second and are to carry 40. None is
/// ejected for being slower than others, as those are that were there before a rush: another would be
/// brought in its place, and sizes here are to follow from the load alone.
pub fn pool(bind: SocketAddr, more: &str) -> String {
    let port = free_port();
    format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\n\
         [pool.web]\nport = {port}\ndrain_timeout = \"5s\"\n\
         [pool.web.health]\ntype = \"http\"\npath = \"/healthz\"\ninterval = \"2s\"\ntimeout = \"1s\"\n\
         [pool.web.outlier]\nmax_ejected = \"0%\"\n\
         [pool.web.scaling]\nmin = 3\nmax = 12\ntarget_requests_per_second = 40\n\
         scale_in = {{ hold = \"4s\", rate = \"100%\" }}\n\
         [pool.web.provisioner]\nkind = \"process\"\nzones = [\"a\", \"b\", \"c\"]\nstop = \"terminate\"\n\
         command = [\"{{self}}\", \"whoami\", \"--listen\", \"{{address}}\", \"--rate\", \"60\"]\n{more}"
    )
}

/// The same, where requests wait for about as long as a load does while nobody can take them: the next
/// instances are there after three seconds, and later on a busy machine.
fn patient_pool(bind: SocketAddr) -> String {
    pool(bind, "").replace("[pool.web]\n", "[pool.web]\nqueue = { timeout = \"9s\" }\n")
}

/// Waits until three instances, one in each zone, take traffic.
pub fn ready(config: &str) -> Daemon {
    let daemon = Daemon::start(config);
    eventually("three instances serve", Duration::from_secs(30), || {
        (daemon.eligible("web") == 3).then_some(())
    });
    daemon
}

fn zones(daemon: &Daemon) -> Vec<usize> {
    let instances = daemon.instances("web");
    let serving =
        instances.iter().filter(|i| i["life"] != "draining" && i["life"] != "terminating");
    let zones: Vec<String> = serving.map(|i| i["zone"].as_str().expect("a zone").into()).collect();
    ["a", "b", "c"].map(|zone| zones.iter().filter(|z| *z == zone).count()).into()
}

#[test]
fn a_step_is_met_at_once_and_given_back_slowly_without_a_failed_request() {
    let bind = free_address();
    let daemon = ready(&pool(bind, ""));
    assert_eq!(zones(&daemon), [1, 1, 1]);
    // A client that is late sends all at once what was due: what they carry leaves room for that.
    let load = Load::start(bind, 100, 70);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(daemon.eligible("web"), 3, "less than three are set to carry changes nothing");

    let step = SystemTime::now();
    load.set_rate(5 * 70);
    eventually("the pool has grown to carry the load", Duration::from_secs(30), || {
        (daemon.eligible("web") >= 9).then_some(())
    });
    // What boots first serves first: the last of them makes it even.
    eventually("its zones are even", Duration::from_secs(30), || {
        let spread = zones(&daemon);
        (spread.iter().max()? - spread.iter().min()? <= 1).then_some(())
    });
    let grown = daemon.instances("web");
    eventually("the new instances take traffic", Duration::from_secs(20), || {
        (load.so_far().instances.len() >= grown.len()).then_some(())
    });
    let tally = load.finish();

    // One that was down in the rush is replaced in another zone, and that is evened out then.
    eventually("the pool is back at its minimum", Duration::from_secs(120), || {
        let instances = daemon.instances("web");
        let is_least = instances.len() == 3 && daemon.eligible("web") == 3;
        (is_least && zones(&daemon) == [1, 1, 1]).then_some(())
    });
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    assert!(tally.ok > 1_000, "{tally:?}");

    let journal = daemon.json("/api/v1/pools/web/scaling?limit=1000");
    let decisions = journal["decisions"].as_array().expect("decisions");
    let launch = decisions.iter().rfind(|d| d["action"] == "launch" && d["from"] == 3);
    let launch = launch.unwrap_or_else(|| panic!("a launch from 3 in {decisions:?}"));
    assert!(
        launch["to"].as_u64() > Some(3) && launch["reason"].as_str().is_some_and(|r| !r.is_empty())
    );
    let decided = Duration::from_secs_f64(launch["t"].as_f64().expect("seconds"));
    let decided = SystemTime::UNIX_EPOCH + decided;
    let after = decided.duration_since(step).expect("nothing was ordered before the step");
    tell(&format!("a step to five times the load: ordered after {after:.2?}"));
    assert!(after < Duration::from_secs(2), "ordered after {after:?}: {launch}");
    assert!(launch["terms"].as_object().is_some_and(|terms| !terms.is_empty()), "{launch}");
    assert!(decisions.iter().any(|d| d["action"] == "drain"), "{decisions:?}");
    assert!(daemon.metric("tidegate_scaling_decisions_total", "pool=\"web\"") >= 2.0);
    assert!(daemon.metric("tidegate_provisioner_operations_total", "operation=\"launch\"") >= 1.0);
}

#[test]
fn scale_in_ends_nothing_that_still_runs() {
    let bind = free_address();
    // Whenever an instance is drained, what it was asked before has the time to end.
    let config = pool(bind, "").replace("drain_timeout = \"5s\"", "drain_timeout = \"20s\"");
    let daemon = ready(&config);
    let load = Load::start(bind, 60, 300);
    eventually("the pool has grown", Duration::from_secs(30), || {
        (daemon.eligible("web") >= 7).then_some(())
    });
    // Long requests on every instance, still running when the load is long gone.
    let slow: Vec<_> = (0..30)
        .map(|_| {
            std::thread::spawn(move || {
                let text = "GET /?delay=8s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                let mut stream = TcpStream::connect(bind).expect("connected");
                stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
                stream.write_all(text.as_bytes()).expect("sent");
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).map(|_| answer)
            })
        })
        .collect();
    std::thread::sleep(Duration::from_millis(500));
    let tally = load.finish();
    // Their instances are drained after the hold of 4 s, when they are half way.
    let whole = slow
        .into_iter()
        .filter_map(|client| client.join().expect("a thread").ok())
        .filter(|answer| answer.starts_with(b"HTTP/1.1 200"))
        .count();
    assert_eq!(whole, 30, "what runs when its instance is drained may end");
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
    eventually("the pool is back at its minimum", Duration::from_secs(60), || {
        (daemon.instances("web").len() == 3).then_some(())
    });
}

#[test]
fn a_killed_instance_is_replaced_and_no_request_fails() {
    let bind = free_address();
    let daemon = ready(&pool(bind, ""));
    let load = Load::start(bind, 40, 80);
    std::thread::sleep(Duration::from_secs(2));
    let victim = daemon.instance_pids("web", Some("b"));
    assert_eq!(victim.len(), 1);
    signal_all(&victim, Signal::KILL);
    eventually("another one serves in its stead", Duration::from_secs(30), || {
        let now = daemon.instance_pids("web", Some("b"));
        (!now.is_empty() && now != victim && daemon.eligible("web") == 3).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn a_killed_zone_costs_no_request() {
    let bind = free_address();
    let daemon = ready(&pool(bind, ""));
    let load = Load::start(bind, 100, 230);
    eventually("two in each zone", Duration::from_secs(30), || {
        (daemon.eligible("web") >= 6).then_some(())
    });
    signal_all(&daemon.instance_pids("web", Some("a")), Signal::KILL);
    std::thread::sleep(Duration::from_secs(3));
    eventually("the capacity is back", Duration::from_secs(30), || {
        (daemon.eligible("web") >= 5).then_some(())
    });
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn all_instances_killed_at_once_are_waited_for() {
    let bind = free_address();
    let daemon = ready(&patient_pool(bind));
    let load = Load::start(bind, 40, 80);
    std::thread::sleep(Duration::from_secs(2));
    let killed = daemon.instance_pids("web", None);
    signal_all(&killed, Signal::KILL);
    eventually("three others serve", Duration::from_secs(30), || {
        let now = daemon.instance_pids("web", None);
        let others = now.len() == 3 && !now.iter().any(|pid| killed.contains(pid));
        (others && daemon.eligible("web") == 3).then_some(())
    });
    std::thread::sleep(Duration::from_secs(1));
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn a_frozen_zone_costs_at_most_what_was_in_flight_there() {
    let bind = free_address();
    let daemon = ready(&pool(bind, ""));
    let load = Load::start(bind, 100, 230);
    eventually("two in each zone", Duration::from_secs(30), || {
        (daemon.eligible("web") >= 6).then_some(())
    });
    let frozen = daemon.instance_pids("web", Some("b"));
    signal_all(&frozen, Signal::STOP);
    let at = Instant::now();
    let noticed = eventually("the zone is known as down", Duration::from_secs(10), || {
        let instances = daemon.instances("web");
        let mut there = instances.iter().filter(|i| i["zone"] == "b").peekable();
        there.peek()?;
        there.all(|i| i["eligible"] == false).then(|| at.elapsed())
    });
    assert!(noticed < Duration::from_secs(5), "4 s and the time to see it, not {noticed:?}");
    let before = load.so_far().ok;
    eventually("traffic goes on elsewhere", Duration::from_secs(10), || {
        (load.so_far().ok > before + 300).then_some(())
    });
    let tally = load.finish();
    signal_all(&frozen, Signal::CONT);
    // Idempotent requests without a byte of response go elsewhere once the instance is down.
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn term_drains_and_leaves_no_child() {
    let bind = free_address();
    let mut daemon = ready(&pool(bind, ""));
    let pids = daemon.instance_pids("web", None);
    assert_eq!(pids.len(), 3);
    let slow = std::thread::spawn(move || {
        let text = "GET /?delay=2s HTTP/1.1\r\nHost: a\r\n\r\n";
        crate::daemon::talk(bind, text.as_bytes())
    });
    eventually("it runs", Duration::from_secs(10), || {
        (daemon.metric("tidegate_instance_in_flight", "") == 1.0).then_some(())
    });
    daemon.signal(Signal::TERM);
    let answer = slow.join().expect("a thread").expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "what runs is finished");
    let status = daemon.wait(Duration::from_secs(15));
    assert!(status.success(), "{status}: {}", daemon.log());
    assert!(!pids.iter().any(|pid| is_alive(*pid)), "no child is left");
}

#[test]
fn children_of_a_crashed_daemon_are_adopted() {
    let bind = free_address();
    let config = pool(bind, "");
    let daemon = ready(&config);
    let mut before = daemon.instance_pids("web", None);
    let dir = daemon.crash();
    assert!(before.iter().all(|pid| is_alive(*pid)), "they survive the crash");
    let mut daemon = Daemon::start_in(dir, &config);
    eventually("they serve again", Duration::from_secs(20), || {
        (daemon.eligible("web") == 3).then_some(())
    });
    let mut after = daemon.instance_pids("web", None);
    before.sort_unstable();
    after.sort_unstable();
    assert_eq!(before, after, "the same processes, not new ones");
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(Duration::from_secs(15)).success());
    assert!(!after.iter().any(|pid| is_alive(*pid)), "adopted children are ours to end");
}

#[test]
fn a_provisioner_that_leaves_the_config_takes_its_instances_along() {
    let origin = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let bind = free_address();
    let daemon = ready(&patient_pool(bind));
    let pids = daemon.instance_pids("web", None);
    let load = Load::start(bind, 20, 60);
    let mut before = String::new();
    daemon.reload(|text| {
        before.clone_from(&text);
        let (kept, _) = text.split_once("[pool.web.scaling]").expect("a section");
        let fixed = format!("[pool.web]\ninstances = [{{ address = \"{}\" }}]\n", origin.address);
        kept.replace("[pool.web]\n", &fixed).replace("/healthz", "/")
    });
    eventually("what was provisioned is gone", Duration::from_secs(30), || {
        (daemon.instances("web").len() == 1 && !pids.iter().any(|pid| is_alive(*pid))).then_some(())
    });
    let desired = daemon.json("/api/v1/pools/web")["desired"].clone();
    assert_eq!(desired, 1, "the one of the config");
    daemon.reload(|_| before);
    eventually("the pool is provisioned again", Duration::from_secs(30), || {
        (daemon.instances("web").len() == 3 && daemon.eligible("web") == 3).then_some(())
    });
    let tally = load.finish();
    assert_eq!(tally.failed, 0, "{:?}", tally.failures);
}

#[test]
fn what_a_crashed_daemon_left_of_a_pool_that_is_gone_is_taken_away() {
    let bind = free_address();
    let config = pool(bind, "");
    let daemon = ready(&config);
    let pids = daemon.instance_pids("web", None);
    assert_eq!(pids.len(), 3);
    let renamed =
        config.replace("pool.web", "pool.shop").replace("pool = \"web\"", "pool = \"shop\"");
    let daemon = Daemon::start_in(daemon.crash(), &renamed);
    eventually("the old ones are gone, the new ones serve", Duration::from_secs(30), || {
        let gone = !pids.iter().any(|pid| is_alive(*pid));
        (gone && daemon.eligible("shop") == 3).then_some(())
    });
    assert!(daemon.log().contains("left them behind"), "{}", daemon.log());
}
