//! TCP listeners: bytes both ways, unread.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

use crate::daemon::{Daemon, eventually, free_address};
use crate::origin::Origin;

const SOON: Duration = Duration::from_secs(10);

pub fn relay(instances: &[SocketAddr], more: &str) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let list: Vec<String> =
        instances.iter().map(|address| format!("{{ address = \"{address}\" }}")).collect();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"raw\"\nbind = \"{bind}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\
         [pool.raw]\ninstances = [{}]\n{more}\n[pool.raw.health]\ntype = \"none\"\n",
        list.join(", ")
    ));
    (daemon, bind)
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream
}

/// Closes a connection with a reset.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("an option");
}

/// Sends everything back, and what it read in all after the client's end mark.
pub fn echo() -> Origin {
    Origin::start(|peer| {
        let mut total = 0;
        let mut piece = vec![0; 65_536];
        while let Ok(n) = peer.stream.read(&mut piece) {
            if n == 0 {
                let _ = peer.stream.write_all(format!("end after {total}").as_bytes());
                return;
            }
            total += n;
            if peer.stream.write_all(&piece[..n]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn small_messages_large_streams_and_half_close() {
    let origin = echo();
    let (daemon, bind) = relay(&[free_address(), origin.address], "");
    let mut stream = connect(bind);
    for _ in 0..100 {
        stream.write_all(b"ping").expect("sent");
        let mut pong = [0; 4];
        stream.read_exact(&mut pong).expect("answered");
        assert_eq!(&pong, b"ping");
    }
    const LEN: usize = 20_000_000;
    let mut writer = stream.try_clone().expect("cloned");
    let sending = std::thread::spawn(move || {
        let block: Vec<u8> = (0..LEN as u32).map(|n| (n % 251) as u8).collect();
        writer.write_all(&block).expect("sent");
        writer.shutdown(Shutdown::Write).expect("an end mark");
    });
    let mut back = Vec::new();
    stream.read_to_end(&mut back).expect("all of it, after our end mark");
    sending.join().expect("a thread");
    let end = format!("end after {}", LEN + 400);
    assert!(back.ends_with(end.as_bytes()), "half-close is passed on");
    assert_eq!(back.len(), LEN + end.len());
    assert!(back[..LEN].iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
    let inward = daemon.metric("tidegate_bytes_total", "listener=\"raw\",direction=\"in\"");
    assert_eq!(inward, (LEN + 400) as f64);
}

#[test]
fn a_silent_tunnel_is_cut_and_a_talking_one_is_not() {
    let (told, ends) = mpsc::channel();
    let origin = Origin::start(move |peer| {
        let mut ping = [0; 4];
        let end = loop {
            if let Err(error) = peer.stream.read_exact(&mut ping) {
                break error.kind();
            }
            peer.stream.write_all(&ping).expect("sent");
        };
        told.send(end).expect("the test waits");
    });
    let (daemon, bind) = relay(&[origin.address], "timeouts = { tunnel = \"3s\" }");
    let mut stream = connect(bind);
    let mut pong = [0; 4];
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(1));
        stream.write_all(b"ping").expect("sent");
        stream.read_exact(&mut pong).expect("a talking tunnel stays");
    }
    // Either could take an end mark for the other's last word.
    let end = stream.read(&mut pong).expect_err("no end mark");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    assert_eq!(ends.recv_timeout(SOON).expect("told"), ErrorKind::ConnectionReset);
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"tunnel_timeout\""), 1.0);
    assert_eq!(daemon.metric("tidegate_failures_total", "pool=\"raw\""), 1.0);
}

#[test]
fn nobody_there_closes_at_once() {
    let (daemon, bind) = relay(&[free_address()], "");
    let mut stream = connect(bind);
    let ended = stream.read(&mut [0; 1]).expect_err("no end as of a connection that was served");
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"connect\""), 1.0);
    assert_eq!(daemon.metric("tidegate_requests_shed_total", "pool=\"raw\""), 0.0);
}

#[test]
fn an_instance_that_refuses_costs_no_connection() {
    let origin = echo();
    let instances = [free_address(), free_address(), origin.address];
    let (daemon, bind) = relay(&instances, "balance = \"round-robin\"\nretry = { attempts = 0 }");
    for _ in 0..9 {
        let mut stream = connect(bind);
        stream.write_all(b"ping").expect("sent");
        stream.read_exact(&mut [0; 4]).expect("answered");
    }
    assert!(daemon.metric("tidegate_retries_total", "reason=\"connect\"") >= 1.0);
    assert_eq!(daemon.metric("tidegate_failures_total", "pool=\"raw\""), 0.0);
}

#[test]
fn the_instance_may_end_its_half_first() {
    let (heard, rest) = mpsc::channel();
    let origin = Origin::start(move |peer| {
        peer.stream.write_all(b"all I have to say").expect("sent");
        peer.stream.shutdown(Shutdown::Write).expect("an end mark");
        let mut said = Vec::new();
        peer.stream.read_to_end(&mut said).expect("the client goes on");
        heard.send(said).expect("the test waits");
    });
    let (_daemon, bind) = relay(&[origin.address], "");
    let mut stream = connect(bind);
    let mut said = String::new();
    stream.read_to_string(&mut said).expect("up to the end mark");
    assert_eq!(said, "all I have to say");
    let long = vec![b'x'; 1_000_000];
    stream.write_all(&long).expect("taken");
    drop(stream);
    assert_eq!(rest.recv_timeout(SOON).expect("to the end"), long);
}

#[test]
fn a_reset_is_passed_on_both_ways() {
    let (told, ends) = mpsc::channel();
    let origin = Origin::start(move |peer| {
        let mut order = [0; 5];
        peer.stream.read_exact(&mut order).expect("an order");
        peer.stream.write_all(b"heard").expect("sent");
        if &order == b"break" {
            reset(peer.stream.try_clone().expect("cloned"));
        } else {
            let end = peer.stream.read(&mut order).map_err(|error| error.kind());
            told.send(end).expect("the test waits");
        }
    });
    let (daemon, bind) = relay(&[origin.address], "");
    let order = |order: &[u8]| {
        let mut stream = connect(bind);
        stream.write_all(order).expect("sent");
        stream.read_exact(&mut [0; 5]).expect("answered");
        stream
    };
    let end = order(b"break").read(&mut [0; 1]).expect_err("no orderly end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    reset(order(b"serve"));
    let end = ends.recv_timeout(SOON).expect("told");
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    drop(order(b"serve"));
    assert_eq!(ends.recv_timeout(SOON).expect("told"), Ok(0), "an end is no reset");
    eventually("all are closed", SOON, || {
        (daemon.metric("tidegate_connections_active", "listener=\"raw\"") == 0.0).then_some(())
    });
    // A client may leave as it likes.
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"cut_tunnel\""), 1.0);
    assert_eq!(daemon.metric("tidegate_failures_total", "pool=\"raw\""), 1.0);
}

#[test]
fn who_waits_may_have_ended_its_half_but_not_have_left() {
    let origin = echo();
    let more = "max_in_flight = 1\nqueue = { max = 2, timeout = \"20s\" }";
    let (daemon, bind) = relay(&[origin.address], more);
    let depth = |waiting: f64| {
        eventually("the queue", SOON, || {
            (daemon.metric("tidegate_queue_depth", "pool=\"raw\"") == waiting).then_some(())
        });
    };
    let mut first = connect(bind);
    first.write_all(b"ping").expect("sent");
    first.read_exact(&mut [0; 4]).expect("served");
    let mut patient = connect(bind);
    patient.write_all(b"last words").expect("sent");
    patient.shutdown(Shutdown::Write).expect("an end mark");
    depth(1.0);
    let leaver = connect(bind);
    depth(2.0);
    let mut refused = connect(bind);
    let end = refused.read(&mut [0; 1]).expect_err("the queue is full");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    reset(leaver);
    depth(1.0);
    drop(first);
    let mut answer = String::new();
    patient.read_to_string(&mut answer).expect("served in the end");
    assert_eq!(answer, "last wordsend after 10");
    for (reason, count) in [("client_gone", 1.0), ("queue_full", 1.0)] {
        let label = format!("reason=\"{reason}\"");
        assert_eq!(daemon.metric("tidegate_failures_total", &label), count, "{reason}");
    }
    let shed = daemon.metric("tidegate_requests_shed_total", "pool=\"raw\"");
    assert_eq!(shed, 1.0, "who left was not shed");
}
