//! Bodies that take their time, in both directions at once, and connections that end in the middle.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};

use crate::daemon::eventually;
use crate::http::{OK, exchange, front, proxy, status};
use crate::origin::Origin;

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream
}

/// Reads until `end` has come, or fails.
pub fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let read = stream.read(&mut byte);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        assert!(matches!(read, Ok(1)), "{read:?} before {end:?}, after {so_far:?}");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

#[test]
fn a_chunk_goes_on_before_the_next_one_comes() {
    let origin = Origin::start(|peer| {
        while peer.request().is_some() {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
            let _ = peer.stream.write_all(head);
            // The rest is sent when the client has seen this much.
            let _ = peer.stream.read(&mut [0; 1]);
        }
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let mut stream = connect(bind);
    // Before the instance has waited long enough for us, and closes.
    stream.set_read_timeout(Some(Duration::from_secs(6))).expect("set");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "5\r\nhello");
}

#[test]
fn an_upload_that_breaks_does_not_harm_an_early_response() {
    let origin = Origin::start(|peer| {
        let _ = peer.stream.read(&mut [0; 1]);
        let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
        std::thread::sleep(Duration::from_millis(500));
        let _ = peer.stream.write_all(b"cd");
        let _ = peer.stream.read_to_end(&mut Vec::new());
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    let mut stream = connect(bind);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    read_until(&mut stream, "ab");
    stream.write_all(b"no chunk\r\n").expect("sent");
    read_until(&mut stream, "cd");
}

#[test]
fn a_slow_upload_is_no_fault_of_the_instance() {
    let origin = Origin::answering(OK);
    let pool = "timeouts = { response = \"2s\" }";
    let (daemon, bind) = front(&[origin.address], "timeouts = { body = \"10s\" }", pool);
    let mut stream = connect(bind);
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16000\r\n\r\n").expect("sent");
    for _ in 0..4 {
        // Together longer than the response may take, each shorter than the pause in a body.
        std::thread::sleep(Duration::from_millis(1_000));
        stream.write_all(&[b'x'; 4_000]).expect("sent");
    }
    read_until(&mut stream, "\r\n\r\nok");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn a_response_is_waited_for_no_longer_than_that_after_an_upload() {
    let origin = Origin::start(|peer| {
        let _ = peer.stream.read_to_end(&mut Vec::new());
    });
    let pool = "timeouts = { response = \"3s\" }";
    let (_daemon, bind) = front(&[origin.address], "timeouts = { body = \"10s\" }", pool);
    let mut stream = connect(bind);
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n").expect("sent");
    std::thread::sleep(Duration::from_secs(1));
    stream.write_all(b"x").expect("sent");
    std::thread::sleep(Duration::from_secs(1));
    // Nothing is waited for before the last byte goes.
    let began = Instant::now();
    stream.write_all(b"x").expect("sent");
    read_until(&mut stream, "HTTP/1.1 504");
    // The daemon's clock for this is as coarse as the worker is busy. From the head it were one second.
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_leaves_in_a_large_upload_holds_no_slot() {
    let origin = Origin::start(|peer| {
        let _ = std::io::copy(&mut peer.stream, &mut std::io::sink());
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    let mut stream = connect(bind);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&vec![b'x'; 200_000]).expect("sent");
    drop(stream);
    eventually("the slot is free", Duration::from_secs(10), || {
        let gone = daemon.metric("tidegate_failures_total", "reason=\"client_gone\"");
        (gone == 1.0 && daemon.instances("web")[0]["in_flight"] == 0).then_some(())
    });
}

#[test]
fn a_connection_idles_as_long_after_a_large_upload_as_after_a_small_one() {
    let origin = Origin::answering(OK);
    let listener = "timeouts = { head = \"1s\", idle = \"10s\" }";
    let (_daemon, bind) = front(&[origin.address], listener, "");
    let mut stream = connect(bind);
    let head = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&vec![b'x'; 200_000]).expect("sent");
    read_until(&mut stream, "\r\n\r\nok");
    // Longer than a head may take, shorter than a connection may idle.
    std::thread::sleep(Duration::from_millis(1_500));
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "\r\n\r\nok");
}

#[test]
fn a_failure_without_another_instance_keeps_its_reason() {
    let origin = Origin::start(|peer| drop(peer.request()));
    let (daemon, bind) = proxy(&[origin.address], "");
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(status(&exchange(bind, get)), "502");
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"reset\""), 1.0);
    assert_eq!(daemon.metric("tidegate_retries_total", ""), 0.0, "nothing was tried again");
}

#[test]
fn a_kept_connection_does_not_outlive_the_address_that_it_leads_to() {
    let old = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold");
    let new = Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew");
    let (daemon, bind) = proxy(&[old.address], "");
    let with_id = |text: String, was: SocketAddr, is: SocketAddr| {
        let was = [
            format!("{{ address = \"{was}\" }}"),
            format!("{{ id = \"one\", address = \"{was}\" }}"),
        ];
        let is = format!("{{ id = \"one\", address = \"{is}\" }}");
        text.replace(&was[0], &is).replace(&was[1], &is)
    };
    daemon.reload(|text| with_id(text, old.address, old.address));
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    eventually("the id is there", Duration::from_secs(10), || {
        (daemon.instances("web")[0]["id"] == "one").then_some(())
    });
    for _ in 0..20 {
        assert!(exchange(bind, get).ends_with("old"));
    }
    let reloads = daemon.log().matches("config reloaded").count();
    daemon.reload(|text| with_id(text, old.address, new.address));
    eventually("reloaded", Duration::from_secs(10), || {
        (daemon.log().matches("config reloaded").count() > reloads).then_some(())
    });
    for _ in 0..20 {
        assert!(exchange(bind, get).ends_with("new"));
    }
}

#[test]
fn large_bodies_pass_when_there_are_no_file_descriptors_left() {
    const LEN: usize = 300_000;
    let origin = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let len = if request.starts_with(b"GET /large") { LEN } else { 2 };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n");
            let _ = peer.stream.write_all(head.as_bytes());
            let _ = peer.stream.write_all(&vec![b'x'; len]);
        }
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    let mut stream = connect(bind);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "\r\n\r\nxx");
    let none = Rlimit { current: Some(1), maximum: Some(1) };
    prlimit(Some(daemon.pid()), Resource::Nofile, none).expect("set");
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").expect("sent");
    read_until(&mut stream, "\r\n\r\n");
    stream.read_exact(&mut vec![0; LEN]).expect("all of it");
}

#[test]
fn a_shortage_of_our_own_is_not_held_against_the_instance() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(OK);
        }
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    let mut stream = connect(bind);
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    stream.write_all(get).expect("sent");
    read_until(&mut stream, "\r\n\r\nok");
    let all = getrlimit(Resource::Nofile);
    let none = Rlimit { current: Some(1), maximum: all.maximum };
    let before = prlimit(Some(daemon.pid()), Resource::Nofile, none).expect("set");
    stream.write_all(get).expect("sent");
    read_until(&mut stream, "HTTP/1.1 503");
    prlimit(Some(daemon.pid()), Resource::Nofile, before).expect("set");
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"shortage\""), 1.0);
    let blamed = daemon.metric("tidegate_instance_requests_total", "class=\"failed\"");
    assert_eq!(blamed, 0.0);
}
