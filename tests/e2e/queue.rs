//! The hold queue of a pool: who waits, in which order, and who is turned away.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{exchange, front, status};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(20);

const CLOSING: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";

/// An instance that answers a request each time that it is told to. It closes a connection on which
/// `/reset` is asked for.
fn gated() -> (Origin, mpsc::Sender<()>) {
    let (go, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    let origin = Origin::start(move |peer| {
        let Some(request) = peer.request() else { return };
        if !request.starts_with(b"GET /reset") {
            let _ = may_go.lock().expect("whole").recv_timeout(SOON);
            let _ = peer.stream.write_all(CLOSING);
        }
    });
    (origin, go)
}

/// A pool of this instance, which takes one request at a time, behind two workers.
fn before(origin: &Origin, queue: &str, routes: &str) -> (Daemon, SocketAddr) {
    let (bind, instance) = (free_address(), origin.address);
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"web\"\nbind = \"{bind}\"\npool = \"web\"\n{routes}\n\
         [pool.web]\ninstances = [{{ address = \"{instance}\" }}]\nmax_in_flight = 1\n\
         queue = {{ {queue} }}\ntimeouts = {{ response = \"60s\" }}\nhealth = {{ type = \"none\" }}\n"
    ));
    (daemon, bind)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// Asks on a connection of its own, and waits until `waiting` are in the queue.
fn asking(daemon: &Daemon, bind: SocketAddr, path: &str, waiting: f64) -> TcpStream {
    let mut stream = connect(bind);
    stream.write_all(get(path).as_bytes()).expect("sent");
    eventually(path, SOON, || {
        let served = daemon.metric("tidegate_instance_in_flight", "") >= 1.0;
        let depth = daemon.metric("tidegate_queue_depth", "pool=\"web\"");
        (served && depth == waiting).then_some(())
    });
    stream
}

/// The paths that the instance was asked for, in that order.
fn asked_for(origin: &Origin) -> Vec<String> {
    let text = origin.text();
    text.lines()
        .filter_map(|line| line.strip_prefix("GET ")?.split(' ').next().map(str::to_owned))
        .collect()
}

#[test]
fn first_come_first_served_over_all_workers() {
    let (origin, go) = gated();
    let (daemon, bind) = before(&origin, "max = 20, timeout = \"60s\", order = \"fifo\"", "");
    let paths: Vec<String> = (0..12).map(|n| format!("/{n}")).collect();
    let waiting = (0..).map(f64::from);
    let mut clients: Vec<TcpStream> = paths
        .iter()
        .zip(waiting)
        .map(|(path, waiting)| asking(&daemon, bind, path, waiting))
        .collect();
    for client in &mut clients {
        go.send(()).expect("the instance waits");
        read_until(client, "\r\n\r\nok");
    }
    assert_eq!(asked_for(&origin), paths);
    assert_eq!(daemon.metric("tidegate_queue_wait_seconds_count", "pool=\"web\""), 11.0);
}

#[test]
fn one_more_than_fits_is_turned_away_at_once_and_told_when_to_come_again() {
    let (origin, go) = gated();
    let (daemon, bind) = before(&origin, "max = 2, timeout = \"29500ms\"", "");
    let clients = ["/0", "/1", "/2"].iter().zip([0.0, 1.0, 2.0]);
    let clients: Vec<_> =
        clients.map(|(path, waiting)| asking(&daemon, bind, path, waiting)).collect();
    let began = Instant::now();
    let answer = exchange(bind, &get("/3"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(status(&answer), "503");
    assert!(answer.contains("\r\nretry-after: 30\r\n"), "{answer}");
    assert_eq!(daemon.failures("queue_full"), 1.0);
    for mut client in clients {
        go.send(()).expect("the instance waits");
        read_until(&mut client, "\r\n\r\nok");
    }
}

#[test]
fn what_matters_more_goes_first_and_what_matters_less_makes_room() {
    let routes = ["high", "low"].map(|priority| {
        format!(
            "[[route]]\nlistener = \"web\"\npath_prefix = \"/{priority}/\"\npool = \"web\"\n\
             priority = \"{priority}\"\n"
        )
    });
    let (origin, go) = gated();
    let (daemon, bind) = before(&origin, "max = 4, timeout = \"60s\"", &routes.concat());
    let mut first = asking(&daemon, bind, "/first", 0.0);
    let mut low = asking(&daemon, bind, "/low/1", 1.0);
    let mut shed = asking(&daemon, bind, "/low/2", 2.0);
    let mut normal = asking(&daemon, bind, "/normal", 3.0);
    let mut high = asking(&daemon, bind, "/high/1", 4.0);
    assert_eq!(status(&exchange(bind, &get("/low/3"))), "503", "nobody goes for its like");
    let mut higher = asking(&daemon, bind, "/high/2", 4.0);
    let answer = read_until(&mut shed, "\r\n\r\n");
    assert!(answer.contains("503") && answer.contains("\r\nretry-after: 60\r\n"), "{answer}");
    assert_eq!(daemon.failures("queue_full"), 2.0);
    for client in [&mut first, &mut high, &mut higher, &mut normal, &mut low] {
        go.send(()).expect("the instance waits");
        read_until(client, "\r\n\r\nok");
    }
    let order = ["/first", "/high/1", "/high/2", "/normal", "/low/1"];
    assert_eq!(asked_for(&origin), order);
}

#[test]
fn those_who_wait_hold_no_more_than_they_may() {
    let (origin, go) = gated();
    let (daemon, bind) = before(&origin, "max = 20, timeout = \"60s\", bytes = \"4KiB\"", "");
    let mut first = asking(&daemon, bind, "/first", 0.0);
    let put = |length: usize| {
        let body = "x".repeat(length);
        format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    assert_eq!(status(&exchange(bind, &put(4_096))), "503", "alone it is too large");
    let mut large = connect(bind);
    large.write_all(put(3_000).as_bytes()).expect("sent");
    eventually("it waits", SOON, || {
        (daemon.metric("tidegate_queue_depth", "pool=\"web\"") == 1.0).then_some(())
    });
    assert_eq!(status(&exchange(bind, &put(1_000))), "503", "both are too large");
    let mut small = asking(&daemon, bind, "/small", 2.0);
    assert_eq!(daemon.failures("queue_full"), 2.0);
    for client in [&mut first, &mut large, &mut small] {
        go.send(()).expect("the instance waits");
        read_until(client, "\r\n\r\nok");
    }
}

#[test]
fn a_retry_that_waits_for_another_instance_holds_up_nobody() {
    let ((one, go_one), (two, go_two)) = (gated(), gated());
    let pool = "max_in_flight = 1\nqueue = { max = 9, timeout = \"60s\" }\n\
                timeouts = { response = \"60s\" }";
    let (daemon, bind) = front(&[one.address, two.address], "", pool);
    let mut held = [asking(&daemon, bind, "/held", 0.0), asking(&daemon, bind, "/held", 0.0)];
    eventually("both are busy", SOON, || {
        let busy = |origin: &Origin| asked_for(origin) == ["/held"];
        (busy(&one) && busy(&two)).then_some(())
    });
    let mut retried = connect(bind);
    retried.write_all(get("/reset").as_bytes()).expect("sent");
    eventually("it waits", SOON, || {
        (daemon.metric("tidegate_queue_depth", "pool=\"web\"") == 1.0).then_some(())
    });
    go_one.send(()).expect("it waits");
    // It broke on the first instance, and waits for the second.
    eventually("it was tried", SOON, || one.text().contains("/reset").then_some(()));
    eventually("it waits again", SOON, || {
        (daemon.metric("tidegate_queue_depth", "pool=\"web\"") == 1.0).then_some(())
    });
    for path in ["/a", "/b"] {
        let mut other = connect(bind);
        other.write_all(get(path).as_bytes()).expect("sent");
        go_one.send(()).expect("it waits");
        read_until(&mut other, "\r\n\r\nok");
    }
    assert_eq!(daemon.metric("tidegate_queue_depth", "pool=\"web\""), 1.0, "it still waits");
    assert!(!two.text().contains("/a") && !two.text().contains("/reset"));
    go_two.send(()).expect("it waits");
    for client in &mut held {
        read_until(client, "\r\n\r\nok");
    }
    eventually("it is tried again", SOON, || two.text().contains("/reset").then_some(()));
    // That one breaks too, and then nobody is left.
    assert!(read_until(&mut retried, "\r\n\r\n").contains("502"));
}
