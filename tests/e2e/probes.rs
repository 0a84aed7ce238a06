//! Active health checks, as instances see them and as traffic feels them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{OK, exchange, status};
use crate::origin::Origin;

const SOON: Duration = Duration::from_secs(15);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// How often probes are made that are soon to tell.
const OFTEN: &str = "interval = \"200ms\"\ntimeout = \"200ms\"\n";

/// A pool `p` of these, with a check by HTTP and more of `health`.
fn start(bind: SocketAddr, instances: &[SocketAddr], health: &str) -> Daemon {
    let instances: Vec<_> =
        instances.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\ninstances = [{}]\n\
         [pool.p.health]\ntype = \"http\"\npath = \"/healthz\"\n{health}",
        instances.join(", ")
    ))
}

/// Answers at once, but probes only until `hangs`; counts them.
fn hanging(hangs: &Arc<AtomicBool>, probes: &Arc<AtomicU64>) -> Origin {
    let (hangs, probes) = (Arc::clone(hangs), Arc::clone(probes));
    Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            let is_probe = request.starts_with(b"GET /healthz");
            probes.fetch_add(u64::from(is_probe), Ordering::Relaxed);
            if is_probe && hangs.load(Ordering::Relaxed) {
                // Until the probe gives up.
                let _ = peer.request();
                return;
            }
            if peer.stream.write_all(OK).is_err() {
                return;
            }
        }
    })
}

#[test]
fn probes_that_all_time_out_cost_no_request() {
    let (hangs, probes) = (Arc::default(), Arc::default());
    let origins = [hanging(&hangs, &probes), hanging(&hangs, &probes)];
    let bind = free_address();
    // One serves for as long as it was asked within two intervals: that is the pause that clients may
    // make on a busy machine.
    let pace = "interval = \"1s\"\nserving_interval = \"1s\"\ntimeout = \"500ms\"\n";
    let daemon = start(bind, &origins.each_ref().map(|origin| origin.address), pace);
    eventually("both are up", SOON, || (daemon.eligible("p") == 2).then_some(()));
    hangs.store(true, Ordering::Relaxed);
    let get = || assert_eq!(status(&exchange(bind, GET)), "200");
    let why = eventually("one of them is held", SOON, || {
        (0..10).for_each(|_| get());
        let instances = daemon.instances("p");
        let is_held =
            |one: &&serde_json::Value| one["why"].as_str().is_some_and(|why| why.contains("last"));
        let held = instances.iter().find(is_held)?;
        (daemon.eligible("p") == 1).then(|| held["why"].as_str().expect("text").to_owned())
    });
    assert_eq!(
        why,
        "its probes fail (no answer within 500ms), but it serves traffic and is among the last"
    );
    // Some probes more.
    let until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < until {
        get();
    }
    assert_eq!(daemon.eligible("p"), 1);
    assert_eq!(daemon.log().matches("an instance stays up").count(), 1, "{}", daemon.log());
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    hangs.store(false, Ordering::Relaxed);
    eventually("both are well", SOON, || {
        daemon
            .instances("p")
            .iter()
            .all(|one| one["why"].as_str().is_some_and(|why| why.starts_with("up")))
            .then_some(())
    });
}

#[test]
fn traffic_takes_the_place_of_probes() {
    let (hangs, probes) = (Arc::default(), Arc::<AtomicU64>::default());
    let origin = hanging(&hangs, &probes);
    let bind = free_address();
    // Long enough that traffic need not stand in for a probe each time where a machine is busy.
    let pace = "interval = \"500ms\"\nserving_interval = \"5s\"\ntimeout = \"500ms\"\n";
    let daemon = start(bind, &[origin.address], pace);
    eventually("it is up", SOON, || (daemon.eligible("p") == 1).then_some(()));
    let during = |busy: bool| {
        let (before, began) = (probes.load(Ordering::Relaxed), Instant::now());
        while began.elapsed() < Duration::from_secs(5) {
            if busy {
                assert_eq!(status(&exchange(bind, GET)), "200");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        (probes.load(Ordering::Relaxed) - before, began.elapsed().as_millis() as u64 / 500)
    };
    let ((idle, intervals), (busy, _)) = (during(false), during(true));
    assert!((7..=intervals + 2).contains(&idle), "every 500 ms: {idle}");
    assert!(busy * 2 <= idle, "{busy} with traffic, {idle} without");
}

#[test]
fn probes_share_connections_and_look_at_what_they_are_told() {
    let origin = Origin::answering(
        b"HTTP/1.1 203 Fine\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nready\r\n0\r\n\r\n",
    );
    let health = format!(
        "{OFTEN}port = {}\nmethod = \"OPTIONS\"\nhost = \"app.example\"\n\
         headers = {{ x-probe = \"7\" }}\nstatus = [203]\nbody = \"ready\"\n\
         [pool.p.zones]\npanic_below = \"0%\"\n",
        origin.address.port()
    );
    let daemon = start(free_address(), &[free_address()], &health);
    let count = |what: &str| origin.text().matches(what).count();
    eventually("it is up", SOON, || (daemon.eligible("p") == 1).then_some(()));
    let begins = "OPTIONS /healthz HTTP/1.1\r\nHost: app.example\r\n";
    eventually("many probes", SOON, || (count(begins) >= 25).then_some(()));
    assert!(count("\r\nx-probe: 7\r\n") >= 25);
    // The first is made before the instance is up, and its connection is not kept. Nor is that of one
    // that is late on a busy machine.
    let connections = *origin.connections.lock().expect("whole");
    assert!((3..=8).contains(&connections), "{connections} for {} probes", count(begins));
    daemon.reload(|config| config.replace("body = \"ready\"", "body = \"steady\""));
    eventually("it is down", SOON, || (daemon.eligible("p") == 0).then_some(()));
    assert!(daemon.log().contains("does not contain the text"), "{}", daemon.log());
}

#[test]
fn an_agent_drains_its_instance_and_brings_it_back() {
    let says = Arc::new(Mutex::new("up ready"));
    let to_say = Arc::clone(&says);
    let agent = Origin::start(move |peer| {
        let line = *to_say.lock().expect("whole");
        let _ = writeln!(peer.stream, "{line}");
    });
    let (bind, origin) = (free_address(), Origin::answering(OK));
    let port = agent.address.port();
    let health = format!("{OFTEN}agent = {{ port = {port}, interval = \"200ms\" }}\n");
    let daemon = start(bind, &[origin.address], &health);
    eventually("it is up", SOON, || (daemon.eligible("p") == 1).then_some(()));
    assert_eq!(status(&exchange(bind, GET)), "200");
    let say = |line, expected: &str| {
        *says.lock().expect("whole") = line;
        eventually(expected, SOON, || (daemon.instances("p")[0]["why"] == expected).then_some(()));
    };
    say("drain", "its agent says drain");
    daemon.reload(|config| {
        config.replace("interval = \"200ms\"\ntimeout", "interval = \"300ms\"\ntimeout")
    });
    eventually("it is reloaded", SOON, || daemon.log().contains("reloaded").then_some(()));
    assert_eq!(daemon.instances("p")[0]["why"], "its agent says drain");
    say("ready down #leaving", "its agent says down: leaving");
    say("up 50% maxconn:9", "up");
    assert_eq!(status(&exchange(bind, GET)), "200");
    say("maint", "its agent says maint");
    say("ready", "up");
}
