//! What is kept from one request to the next: connections to instances, and the options of sockets.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::daemon::eventually;
use crate::http::{OK, front};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(10);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn get(stream: &mut TcpStream) {
    stream.write_all(GET).expect("sent");
    read_until(stream, "\r\n\r\nok");
}

fn made(origin: &Origin) -> usize {
    *origin.connections.lock().expect("whole")
}

#[test]
fn connections_to_instances_serve_as_many_requests_as_they_may() {
    for (keys, connections) in
        [("max = 0", 6), ("requests = 1", 6), ("requests = 2", 3), ("requests = 3", 2), ("", 1)]
    {
        let origin = Origin::answering(OK);
        let pool = format!("keep_alive = {{ {keys} }}");
        let (daemon, bind) = front(&[origin.address], "", &pool);
        let mut stream = connect(bind);
        for _ in 0..6 {
            get(&mut stream);
        }
        assert_eq!(made(&origin), connections, "{keys}");
        assert_eq!(daemon.metric("tidegate_retries_total", ""), 0.0, "{keys}: none was stale");
    }
}

#[test]
fn connections_to_instances_are_used_for_as_long_as_they_may() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = front(&[origin.address], "", "keep_alive = { age = \"2s\" }");
    let mut stream = connect(bind);
    let began = Instant::now();
    get(&mut stream);
    // However often it is used.
    let replaced = eventually("another connection is made", SOON, || {
        get(&mut stream);
        (made(&origin) == 2).then(|| began.elapsed())
    });
    // How old it was is told by a clock that is as coarse as the worker is busy.
    assert!(replaced > Duration::from_secs(1), "{replaced:?}");
}

/// Answers once all of `together` requests are there, so that each needs a connection of its own, and
/// counts those that stand.
fn counting(together: usize, open: &Arc<AtomicUsize>) -> Origin {
    let (open, asked) = (Arc::clone(open), AtomicUsize::new(0));
    Origin::start(move |peer| {
        open.fetch_add(1, Ordering::Relaxed);
        while peer.request().is_some() {
            asked.fetch_add(1, Ordering::Relaxed);
            eventually("all are there", SOON, || {
                (asked.load(Ordering::Relaxed) >= together).then_some(())
            });
            let _ = peer.stream.write_all(OK);
        }
        open.fetch_sub(1, Ordering::Relaxed);
    })
}

#[test]
fn no_more_unused_connections_are_kept_than_may_be() {
    const TOGETHER: usize = 12;
    let open = Arc::<AtomicUsize>::default();
    let origin = counting(TOGETHER, &open);
    let (daemon, bind) = front(&[origin.address], "", "keep_alive = { max = 1 }");
    let mut clients: Vec<TcpStream> = (0..TOGETHER).map(|_| connect(bind)).collect();
    for client in &mut clients {
        client.write_all(GET).expect("sent");
    }
    for client in &mut clients {
        read_until(client, "\r\n\r\nok");
    }
    assert_eq!(made(&origin), TOGETHER);
    let kept = || open.load(Ordering::Relaxed);
    // One for each of the two workers, if each has served one of them.
    eventually("the rest are closed", SOON, || (kept() <= 2).then_some(()));
    assert!(kept() >= 1);
    get(&mut clients[0]);
    assert_eq!(made(&origin), TOGETHER, "what was kept is used");
    daemon.reload(|text| text.replace("max = 1 ", "max = 0 "));
    eventually("none is kept any more", SOON, || (kept() == 0).then_some(()));
}

#[test]
fn unused_connections_are_closed_in_time() {
    let open = Arc::<AtomicUsize>::default();
    let origin = counting(1, &open);
    let (_daemon, bind) = front(&[origin.address], "", "timeouts = { idle = \"1s\" }");
    let mut stream = connect(bind);
    let began = Instant::now();
    get(&mut stream);
    eventually("it is closed", SOON, || (open.load(Ordering::Relaxed) == 0).then_some(()));
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
}

/// The timer that the kernel keeps for our side of a connection (`tr` and `tm->when` of
/// `/proc/net/tcp`), in seconds, if it is the one of `SO_KEEPALIVE`.
fn keepalive_timer(bind: SocketAddr, client: SocketAddr) -> Option<f64> {
    let hex = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("{address} is not of IPv4") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux");
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row[1] == hex(bind) && row[2] == hex(client)).expect("accepted");
    let (kind, when) = row[5].split_once(':').expect("a timer");
    // In hundredths, as all that the kernel tells.
    let left = u64::from_str_radix(when, 16).expect("a number") as f64 / 100.0;
    (kind == "02").then_some(left)
}

#[test]
fn the_options_of_a_listener_follow_a_reload() {
    let origin = Origin::answering(OK);
    let listener = "tcp = { keepalive = \"off\" }";
    let (daemon, bind) = front(&[origin.address], listener, "");
    // Enough of them for both workers. As long as an answer is not acknowledged, its timer is the one
    // that is shown.
    let all_have = |what: &str, is_it: fn(Option<f64>) -> bool| {
        let clients: Vec<TcpStream> = (0..16)
            .map(|_| {
                let mut stream = connect(bind);
                get(&mut stream);
                stream
            })
            .collect();
        let address = |client: &TcpStream| client.local_addr().expect("an address");
        eventually(what, SOON, || {
            let mut timers = clients.iter().map(|client| keepalive_timer(bind, address(client)));
            timers.all(is_it).then_some(())
        });
    };
    all_have("off", |timer| timer.is_none());
    let reloaded = |count: f64| {
        eventually("reloaded", SOON, || {
            let reloads = daemon.metric("tidegate_config_reloads_total", "success");
            (reloads == count).then_some(())
        });
    };
    daemon.reload(|text| text.replace("\"off\"", "\"600s\""));
    reloaded(1.0);
    all_have("on", |timer| timer.is_some_and(|left| (500.0..=601.0).contains(&left)));
    daemon.reload(|text| text.replace("\"600s\"", "\"off\""));
    reloaded(2.0);
    all_have("off again", |timer| timer.is_none());
}
