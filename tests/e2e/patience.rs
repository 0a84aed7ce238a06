//! How long clients and instances may take, and how slow they may be on average.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::daemon::eventually;
use crate::http::{OK, exchange, front, proxy, status};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};
use crate::strict::read_until_closed;

const SOON: Duration = Duration::from_secs(10);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// An address where connections are neither accepted nor refused: its accept queue is full.
struct Blackhole {
    address: SocketAddr,
    _listener: Socket,
    _waiting: Vec<Socket>,
}

impl Blackhole {
    fn open() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        listener.listen(0).expect("an option");
        let address = listener.local_addr().expect("bound").as_socket().expect("an address");
        let waiting = std::iter::repeat_with(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let connected = socket.connect_timeout(&address.into(), Duration::from_millis(300));
            connected.is_ok().then_some(socket)
        });
        let waiting = waiting.take(100).map_while(|socket| socket).collect();
        Self { address, _listener: listener, _waiting: waiting }
    }
}

#[test]
fn an_instance_that_takes_no_connection_is_given_up_in_time() {
    let hole = Blackhole::open();
    let (daemon, bind) = proxy(&[hole.address], "");
    let began = Instant::now();
    let answer = exchange(bind, GET);
    let took = began.elapsed();
    assert_eq!(status(&answer), "504", "{answer}");
    assert!(took > Duration::from_millis(900) && took < SOON, "{took:?}");
    assert_eq!(daemon.failures("connect_timeout"), 1.0);
}

#[test]
fn what_an_instance_takes_no_connection_for_another_one_serves() {
    let (hole, origin) = (Blackhole::open(), Origin::answering(OK));
    let (daemon, bind) = proxy(&[hole.address, origin.address], "balance = \"round-robin\"");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab";
    eventually("it was tried first at least once", SOON, || {
        assert_eq!(status(&exchange(bind, post)), "200", "nothing was sent, so it may be repeated");
        (daemon.retries("connect") >= 1.0).then_some(())
    });
    assert_eq!(daemon.failures("connect"), 0.0);
}

#[test]
fn a_client_that_stops_reading_is_let_go_with_all_that_it_holds() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
            let block = vec![b'x'; 1 << 20];
            while peer.stream.write_all(&block).is_ok() {}
        }
    });
    for framing in ["HTTP/1.1", "HTTP/1.0"] {
        let listener = "timeouts = { body = \"1s\" }";
        let (daemon, bind) = front(&[origin.address], listener, "");
        let mut stream = connect(bind);
        stream.write_all(format!("GET / {framing}\r\nHost: a\r\n\r\n").as_bytes()).expect("sent");
        read_until(&mut stream, "\r\n\r\n");
        eventually("it is given up", SOON, || {
            (daemon.failures("client_timeout") == 1.0).then_some(())
        });
        eventually("nothing of it is left", SOON, || {
            let in_flight = &daemon.instances("web")[0]["in_flight"];
            let active = daemon.metric("tidegate_connections_active", "");
            (*in_flight == 0 && active == 0.0).then_some(())
        });
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 1_000_000_000, "not whole");
    }
}

#[test]
fn a_client_that_stops_sending_is_answered_and_let_go() {
    let origin = Origin::start(|peer| drop(peer.request()));
    let (daemon, bind) = front(&[origin.address], "timeouts = { body = \"1s\" }", "");
    let half = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf";
    assert_eq!(status(&exchange(bind, half)), "408");
    assert_eq!(daemon.failures("client_timeout"), 1.0);
}

/// Sends a body in pieces, one each 100 ms, until it is whole or there is an answer.
fn upload(bind: SocketAddr, pieces: usize, piece: &[u8]) -> String {
    let mut stream = connect(bind);
    let len = pieces * piece.len();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("sent");
    for _ in 0..pieces {
        if stream.write_all(piece).is_err() || answers_within(&stream, Duration::from_millis(100)) {
            break;
        }
    }
    read_until(&mut stream, "\r\n\r\n")
}

fn answers_within(stream: &TcpStream, limit: Duration) -> bool {
    stream.set_read_timeout(Some(limit)).expect("set");
    let answers = stream.peek(&mut [0]).is_ok();
    stream.set_read_timeout(Some(SOON)).expect("set");
    answers
}

#[test]
fn an_upload_makes_at_least_its_rate_on_average() {
    let origin = Origin::answering(OK);
    // No pause is as long as that, even where a machine is busy.
    let listener = "timeouts = { body = \"3s\" }\nlimits = { body_rate = \"1000B\" }";
    let (daemon, bind) = front(&[origin.address], listener, "");
    let began = Instant::now();
    let answer = upload(bind, 200, &[b'x'; 20]);
    let took = began.elapsed();
    assert_eq!(status(&answer), "408", "200 B/s, and never a pause: {answer}");
    assert!(took > Duration::from_secs(2) && took < SOON, "{took:?}");
    assert_eq!(daemon.failures("client_too_slow"), 1.0);
    let answer = upload(bind, 20, &[b'x'; 1_000]);
    assert_eq!(status(&answer), "200", "{answer}");
    daemon.reload(|text| text.replace("\"1000B\"", "\"off\""));
    eventually("reloaded", SOON, || daemon.log().contains("config reloaded").then_some(()));
    let answer = upload(bind, 20, &[b'x'; 20]);
    assert_eq!(status(&answer), "200", "nothing is asked for: {answer}");
    assert_eq!(daemon.failures("client_too_slow"), 1.0);
}

#[test]
fn an_exchange_takes_no_longer_than_it_may() {
    let silent = Origin::start(|peer| while peer.request().is_some() {});
    let pool = "timeouts = { total = \"1s\" }";
    let (daemon, bind) = front(&[silent.address], "", pool);
    let began = Instant::now();
    let answer = exchange(bind, GET);
    let took = began.elapsed();
    assert_eq!(status(&answer), "504", "{answer}");
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(daemon.failures("total_timeout"), 1.0);
    // A body that comes and comes.
    let answer = upload(bind, 100, b"x");
    assert_eq!(status(&answer), "504", "{answer}");
    assert_eq!(daemon.failures("total_timeout"), 2.0);
}

#[test]
fn a_response_takes_no_longer_than_the_exchange_may() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // Eight seconds, and never a pause.
            for _ in 0..80 {
                std::thread::sleep(Duration::from_millis(100));
                let _ = peer.stream.write_all(b"1\r\nx\r\n");
            }
            let _ = peer.stream.write_all(b"0\r\n\r\n");
        }
    });
    let (daemon, bind) = front(&[origin.address], "", "timeouts = { total = \"1s\" }");
    let began = Instant::now();
    let answer = read_until_closed(bind, GET.as_bytes());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(status(&answer) == "200" && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(daemon.failures("total_timeout"), 1.0);
}

#[test]
fn an_exchange_that_waits_in_the_queue_takes_no_longer_than_it_may() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            // What follows is no request, and noted all the same.
            let _ = peer.request();
        }
    });
    let pool = "max_in_flight = 1\nqueue = { max = 9, timeout = \"20s\" }\n\
                timeouts = { total = \"1s\" }";
    let (daemon, bind) = front(&[origin.address], "connect = \"forward\"", pool);
    // A tunnel is no exchange any more, and takes the only place for as long as it stands.
    let mut tunnel = connect(bind);
    tunnel.write_all(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n").expect("sent");
    read_until(&mut tunnel, "\r\n\r\n");
    let began = Instant::now();
    let answer = exchange(bind, GET);
    let took = began.elapsed();
    assert_eq!(status(&answer), "504", "{answer}");
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(4), "{took:?}");
    assert_eq!(daemon.failures("total_timeout"), 1.0);
    tunnel.write_all(b"still here").expect("sent");
    eventually("the tunnel stands", SOON, || origin.text().ends_with("still here").then_some(()));
}
