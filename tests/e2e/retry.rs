//! Trying again: where, how often, and why, as the metrics tell it.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{OK, exchange, front, status};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(10);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Takes a request and closes without a word.
fn breaking() -> Origin {
    Origin::start(|peer| drop(peer.request()))
}

/// An element of `instances`.
fn instance(address: SocketAddr, zone: &str) -> String {
    format!("{{ address = \"{address}\", zone = \"{zone}\" }}")
}

#[test]
fn another_zone_is_preferred_to_another_instance() {
    let (one, other, good) = (breaking(), breaking(), Origin::answering(OK));
    let bind = free_address();
    // Round robin goes from zone to zone, and from the second of a zone to the first of the same.
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\nbalance = \"round-robin\"\n\
         retry = {{ attempts = 1 }}\ninstances = [{}, {}, {}]\n[pool.p.health]\ntype = \"none\"\n",
        instance(one.address, "a"),
        instance(other.address, "a"),
        instance(good.address, "b"),
    ));
    let mut stream = connect(bind);
    for _ in 0..12 {
        // With one more attempt, only the other zone can serve it.
        stream.write_all(GET).expect("sent");
        let answer = read_until(&mut stream, "\r\n\r\nok");
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert!(daemon.retries("reset") >= 1.0);
    assert!(other.text().contains("GET") || one.text().contains("GET"));
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn retries_are_bounded_by_their_budget() {
    const REQUESTS: usize = 300;
    let origins = [breaking(), breaking()];
    let addresses = [origins[0].address, origins[1].address];
    let pool = "retry = { attempts = 1, budget = \"10%\" }";
    let (daemon, bind) = front(&addresses, "", pool);
    // One connection is served by one worker, which has a budget of its own.
    let began = Instant::now();
    let mut stream = connect(bind);
    for _ in 0..REQUESTS {
        stream.write_all(GET).expect("sent");
        let answer = read_until(&mut stream, "the instance closed the connection\n");
        assert_eq!(status(&answer), "502", "{answer}");
    }
    let took = began.elapsed().as_secs_f64();
    let retries = daemon.retries("reset");
    // What ten seconds without a request grant, the requests' share, and what flows in meanwhile.
    let most = 30.0 + 0.1 * REQUESTS as f64 + 3.0 * took + 1.0;
    assert!(retries >= 30.0, "{retries} in {took:.1} s");
    assert!(retries <= most, "{retries} in {took:.1} s, at most {most}");
    assert!(most < REQUESTS as f64, "too slow to show anything: {took:.1} s");
    let arrived: usize = origins.iter().map(|origin| origin.text().matches("GET").count()).sum();
    assert_eq!(arrived as f64, REQUESTS as f64 + retries, "no more reaches the instances");
    assert_eq!(daemon.failures("reset"), REQUESTS as f64);
}

#[test]
fn a_kept_connection_that_closes_at_the_next_request_is_stale() {
    // Serves one request on each connection, takes a second one and closes: it was closing already.
    let origin = Origin::start(|peer| {
        if peer.request().is_some() && peer.stream.write_all(OK).is_ok() {
            let _ = peer.request();
        }
    });
    let (daemon, bind) = front(&[origin.address], "", "retry = { attempts = 0 }");
    let mut stream = connect(bind);
    for _ in 0..3 {
        stream.write_all(GET).expect("sent");
        let answer = read_until(&mut stream, "\r\n\r\nok");
        assert_eq!(status(&answer), "200", "{answer}");
    }
    assert_eq!(daemon.retries("stale"), 2.0, "each but the first");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    // It may have done what it was asked for: that is not asked for twice.
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").expect("sent");
    let answer = read_until(&mut stream, "the instance closed the connection\n");
    assert_eq!(status(&answer), "502", "{answer}");
    assert_eq!(origin.text().matches("POST").count(), 1);
    assert_eq!((daemon.retries("stale"), daemon.failures("reset")), (2.0, 1.0));
}

/// Answers what is asked for, except that probes may be told that it is sick, and one path never is.
fn with_health(healthy: &Arc<AtomicBool>, stuck: bool) -> Origin {
    let healthy = Arc::clone(healthy);
    Origin::start(move |peer| {
        while let Some(request) = peer.request() {
            let is_probe = request.starts_with(b"GET /healthz");
            if stuck && !is_probe {
                // Nothing, for as long as the connection stands.
                let _ = peer.request();
                return;
            }
            let sick = is_probe && !healthy.load(Ordering::Relaxed);
            let answer: &[u8] =
                if sick { b"HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n" } else { OK };
            if peer.stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

#[test]
fn nobody_waits_for_an_instance_that_is_down() {
    let [first_up, second_up] = [true, false].map(|up| Arc::new(AtomicBool::new(up)));
    let (first, second) = (with_health(&first_up, true), with_health(&second_up, false));
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n[pool.p]\n\
         timeouts = {{ response = \"60s\" }}\ninstances = [{}, {}]\n[pool.p.health]\n\
         type = \"http\"\npath = \"/healthz\"\ninterval = \"500ms\"\ntimeout = \"500ms\"\n",
        instance(first.address, "a"),
        instance(second.address, "b"),
    ));
    let get = "GET /stuck HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let client = std::thread::spawn(move || exchange(bind, get));
    eventually("it is under way", SOON, || first.text().contains("GET /stuck").then_some(()));
    second_up.store(true, Ordering::Relaxed);
    eventually("both are up", SOON, || (daemon.eligible("p") == 2).then_some(()));
    assert_eq!(daemon.metric("tidegate_retries_total", ""), 0.0);
    first_up.store(false, Ordering::Relaxed);
    let answer = client.join().expect("an answer");
    assert_eq!(status(&answer), "200", "{answer}");
    assert!(second.text().contains("GET /stuck"));
    assert_eq!(daemon.retries("condemned"), 1.0);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}
