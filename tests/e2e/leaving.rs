//! Clients that leave: what was done for them ends, and whom they kept waiting gets their place.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::daemon::{Daemon, eventually};
use crate::http::{OK, exchange, front, status};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(10);

const GET: &[u8] = b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";

fn asking(bind: SocketAddr) -> TcpStream {
    let mut stream = connect(bind);
    stream.write_all(GET).expect("sent");
    stream
}

fn in_flight(daemon: &Daemon) -> f64 {
    daemon.metric("tidegate_instance_in_flight", "")
}

/// The place of who leaves is free a moment before that is counted.
fn has_left(daemon: &Daemon) {
    eventually("it is counted", SOON, || (daemon.failures("client_gone") == 1.0).then_some(()));
}

fn waiting(daemon: &Daemon, count: f64) {
    eventually("the queue", SOON, || {
        (daemon.metric("tidegate_queue_depth", "pool=\"web\"") == count).then_some(())
    });
}

#[test]
fn an_instance_learns_that_nobody_waits_for_its_response_any_more() {
    let (told, ends) = mpsc::channel();
    let origin = Origin::start(move |peer| {
        if peer.request().is_some() {
            // Not a byte of a response.
            let _ = told.send(matches!(peer.stream.read(&mut [0]), Ok(0) | Err(_)));
        }
    });
    // Nothing but the client's leaving ends the wait within the time of this test.
    let (daemon, bind) = front(&[origin.address], "", "timeouts = { response = \"60s\" }");
    let stream = asking(bind);
    eventually("it is under way", SOON, || origin.text().contains("GET /slow").then_some(()));
    assert_eq!(in_flight(&daemon), 1.0);
    drop(stream);
    assert!(ends.recv_timeout(Duration::from_secs(5)).expect("the connection is closed"));
    eventually("its place is free", SOON, || (in_flight(&daemon) == 0.0).then_some(()));
    has_left(&daemon);
    assert_eq!(daemon.metric("tidegate_retries_total", ""), 0.0, "nobody else was asked");
    let blamed = daemon.metric("tidegate_instance_requests_total", "class=\"failed\"");
    assert_eq!(blamed, 0.0, "the instance did nothing wrong");
}

#[test]
fn an_instance_learns_that_nobody_reads_its_response_any_more() {
    let (told, ends) = mpsc::channel();
    let origin = Origin::start(move |peer| {
        if peer.request().is_some() {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
            let _ = peer.stream.write_all(head);
            let _ = told.send(matches!(peer.stream.read(&mut [0]), Ok(0) | Err(_)));
        }
    });
    let (daemon, bind) = front(&[origin.address], "", "timeouts = { response = \"60s\" }");
    let mut stream = asking(bind);
    read_until(&mut stream, "hello");
    drop(stream);
    assert!(ends.recv_timeout(Duration::from_secs(5)).expect("the connection is closed"));
    has_left(&daemon);
    assert_eq!(in_flight(&daemon), 0.0);
}

#[test]
fn who_leaves_the_queue_gives_its_place_to_others_and_is_asked_of_no_instance() {
    let (go, may_go) = mpsc::channel();
    let may_go = Mutex::new(may_go);
    let origin = Origin::start(move |peer| {
        while peer.request().is_some() {
            let _ = may_go.lock().expect("whole").recv_timeout(SOON);
            let _ = peer.stream.write_all(OK);
        }
    });
    let pool = "max_in_flight = 1\nqueue = { max = 1, timeout = \"60s\" }\n\
                timeouts = { response = \"60s\" }";
    let (daemon, bind) = front(&[origin.address], "", pool);
    let mut first = asking(bind);
    eventually("it is under way", SOON, || (in_flight(&daemon) == 1.0).then_some(()));
    let leaver = asking(bind);
    waiting(&daemon, 1.0);
    let get = "GET /refused HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(bind, get)), "503", "the queue is full");
    assert_eq!(daemon.failures("queue_full"), 1.0);
    drop(leaver);
    waiting(&daemon, 0.0);
    has_left(&daemon);
    let mut second = asking(bind);
    waiting(&daemon, 1.0);
    for stream in [&mut first, &mut second] {
        go.send(()).expect("the instance waits");
        read_until(stream, "\r\n\r\nok");
    }
    assert_eq!(origin.text().matches("GET /slow").count(), 2, "{}", origin.text());
    let shed = daemon.metric("tidegate_requests_shed_total", "pool=\"web\"");
    assert_eq!(shed, 1.0, "who left was not shed");
}
