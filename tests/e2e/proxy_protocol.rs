//! Who the client is, how many connections it may have, and where ours come from.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, eventually, free_address, talk};
use crate::origin::Origin;
use crate::streaming::read_until;
use crate::tcp::{connect, echo};

const SOON: Duration = Duration::from_secs(10);

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 1000 443\r\n";

/// A daemon with one listener and one instance, with these further keys.
fn daemon(instance: SocketAddr, listener: &str, pool: &str) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"front\"\nbind = \"{bind}\"\npool = \"p\"\n{listener}\n\
         [pool.p]\ninstances = [{{ address = \"{instance}\" }}]\n{pool}\n\
         [pool.p.health]\ntype = \"none\"\n"
    ));
    (daemon, bind)
}

const TRUSTED: &str = "trusted = [\"127.0.0.0/8\"]";

fn refused(daemon: &Daemon, reason: &str) -> f64 {
    daemon.metric("tidegate_refused_total", &format!("reason=\"{reason}\""))
}

/// Answers each request with nothing but a status.
fn quiet() -> Origin {
    Origin::answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
}

/// Connects, and sends these bytes. Who is refused may be reset before they are sent, and even before
/// it knows that it was connected.
fn send(bind: SocketAddr, bytes: &[u8]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(bind)?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(bytes).map(|()| stream)
}

/// Sends these bytes and waits for the reset.
fn is_reset(bind: SocketAddr, bytes: &[u8]) {
    let end = send(bind, bytes).and_then(|mut stream| stream.read(&mut [0; 1]));
    let end = end.expect_err("no orderly end");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{:?}", String::from_utf8_lossy(bytes));
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn requests_are_told_of_the_client_that_the_header_names() {
    let origin = quiet();
    let keys = format!("proxy_protocol = \"accept\"\n{TRUSTED}");
    let (_daemon, bind) = daemon(origin.address, &keys, "");
    let v2: &[u8] =
        &[SIGNATURE, b"\x21\x11\x00\x0C", &[192, 0, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1]].concat();
    for (header, client) in [
        (LINE, "192.0.2.1"),
        (v2, "192.0.2.2"),
        (b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n", "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&[SIGNATURE, b"\x20\0\0\0"].concat(), "127.0.0.1"),
        (b"", "127.0.0.1"),
    ] {
        let answer = talk(bind, &[header, REQUEST].concat()).expect("an answer");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{client}");
        let told = origin.text().to_ascii_lowercase();
        let last = told.rsplit("get /").next().expect("a request");
        assert!(last.contains(&format!("x-forwarded-for: {client}\r\n")), "{last}");
    }
}

#[test]
fn a_client_behind_a_proxy_is_not_trusted_for_the_proxys_sake() {
    let origin = quiet();
    let keys = format!("proxy_protocol = \"require\"\n{TRUSTED}");
    let (_daemon, bind) = daemon(origin.address, &keys, "");
    let lie =
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.9.9.9\r\nConnection: close\r\n\r\n";
    talk(bind, &[LINE, lie].concat()).expect("an answer");
    assert!(!origin.text().contains("10.9.9.9"), "{}", origin.text());
}

#[test]
fn a_listener_that_requires_a_header_takes_nothing_else() {
    let origin = quiet();
    let keys = format!("proxy_protocol = \"require\"\ntimeouts = {{ head = \"1s\" }}\n{TRUSTED}");
    let (daemon, bind) = daemon(origin.address, &keys, "");
    let answer = talk(bind, &[LINE, REQUEST].concat()).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    is_reset(bind, REQUEST);
    is_reset(bind, b"PROXY TCP4 1.2.3.4\r\n\r\n");
    is_reset(bind, &[SIGNATURE, b"\x21\x11\x00\x01\x00"].concat());
    assert_eq!(refused(&daemon, "proxy_header"), 3.0);
    // Too slow, and silent.
    is_reset(bind, &LINE[..30]);
    is_reset(bind, b"");
    assert_eq!(refused(&daemon, "proxy_header"), 5.0);
    // Who leaves without a word was refused nothing.
    drop(connect(bind));
    eventually("all are closed", SOON, || {
        (daemon.metric("tidegate_connections_active", "listener=\"front\"") == 0.0).then_some(())
    });
    assert_eq!(refused(&daemon, "proxy_header"), 5.0);
    assert!(!origin.text().contains("PROXY"));
}

#[test]
fn who_is_not_trusted_is_not_listened_to() {
    let origin = quiet();
    let foreign = "trusted = [\"192.0.2.0/24\"]";
    for (mode, served) in [("accept", true), ("require", false)] {
        let keys = format!("proxy_protocol = \"{mode}\"\n{foreign}");
        let (daemon, bind) = daemon(origin.address, &keys, "");
        if served {
            let answer = talk(bind, &[LINE, REQUEST].concat()).expect("an answer");
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "it is a broken request");
            assert_eq!(refused(&daemon, "malformed") + refused(&daemon, "unsupported"), 1.0);
            let answer = talk(bind, REQUEST).expect("an answer");
            assert!(answer.starts_with(b"HTTP/1.1 200"));
        } else {
            is_reset(bind, &[LINE, REQUEST].concat());
        }
        assert_eq!(refused(&daemon, "proxy_header"), if served { 0.0 } else { 1.0 });
    }
}

#[test]
fn instances_are_told_by_a_header_on_tcp_connections() {
    for (version, told) in [
        ("v1", LINE.to_vec()),
        ("v2", {
            let ends = [192, 0, 2, 1, 198, 51, 100, 2, 0x03, 0xE8, 0x01, 0xBB];
            [SIGNATURE, b"\x21\x11\x00\x0C", &ends].concat()
        }),
    ] {
        let origin = echo();
        let listener = format!("protocol = \"tcp\"\nproxy_protocol = \"accept\"\n{TRUSTED}");
        let (daemon, bind) =
            daemon(origin.address, &listener, &format!("proxy_protocol = \"{version}\""));
        let mut stream = connect(bind);
        stream.write_all(&[LINE, b"hello"].concat()).expect("sent");
        let mut back = vec![0; told.len() + 5];
        stream.read_exact(&mut back).expect("sent back");
        assert_eq!(back, [&told, &b"hello"[..]].concat(), "{version}");
        let inward = daemon.metric("tidegate_bytes_total", "listener=\"front\",direction=\"in\"");
        assert_eq!(inward, 5.0, "headers are no payload");
    }
}

#[test]
fn a_client_without_a_header_is_told_of_as_the_socket_has_it() {
    let origin = echo();
    let (_daemon, bind) = daemon(origin.address, "protocol = \"tcp\"", "proxy_protocol = \"v1\"");
    let mut stream = connect(bind);
    let own = stream.local_addr().expect("an address");
    // Not a word from the client: the header does not wait for one.
    let told = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), bind.port());
    let mut back = vec![0; told.len()];
    stream.read_exact(&mut back).expect("sent back");
    assert_eq!(String::from_utf8_lossy(&back), told);
}

#[test]
fn instances_are_told_by_a_header_on_http_connections_that_serve_one_client() {
    let origin = quiet();
    let (_daemon, bind) = daemon(origin.address, "", "proxy_protocol = \"v1\"");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut ports = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(bind);
        ports.push(stream.local_addr().expect("an address").port());
        for _ in 0..2 {
            stream.write_all(request).expect("sent");
            assert!(read_until(&mut stream, "\r\n\r\n").starts_with("HTTP/1.1 200"));
        }
    }
    let text = origin.text();
    for port in ports {
        let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\nGET /", bind.port());
        assert_eq!(text.matches(&line).count(), 2, "{text}");
    }
    assert_eq!(*origin.connections.lock().expect("whole"), 4);
}

#[test]
fn an_instance_that_requires_a_header_from_a_certain_address_is_healthy() {
    let origin = Origin::start(|peer| {
        let mut first = [0; 6];
        let whose = peer.stream.peer_addr().expect("an address").ip().to_string();
        if peer.stream.read_exact(&mut first).is_ok() && &first == b"PROXY " && whose == "127.0.0.9"
        {
            while peer.request().is_some() {
                let _ = peer.stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
        }
    });
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\npool = \"p\"\n\
         [pool.p]\ninstances = [{{ address = \"{}\" }}]\n\
         proxy_protocol = \"v1\"\nsource = \"127.0.0.9\"\n\
         [pool.p.health]\ntype = \"http\"\npath = \"/healthz\"\n",
        origin.address
    ));
    // Its first probe may have been late.
    eventually("it is up", SOON, || (daemon.eligible("p") == 1).then_some(()));
    let answer = talk(bind, REQUEST).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    let text = origin.text();
    assert!(text.starts_with("UNKNOWN\r\nGET /healthz HTTP/1.1\r\n"), "{text}");
}

#[test]
fn connections_come_from_the_address_that_is_set() {
    let origin = Origin::start(|peer| {
        let from = peer.stream.peer_addr().expect("an address").ip().to_string();
        let _ = peer.stream.write_all(from.as_bytes());
    });
    let (_daemon, bind) = daemon(origin.address, "protocol = \"tcp\"", "source = \"127.0.0.9\"");
    let mut from = String::new();
    connect(bind).read_to_string(&mut from).expect("told");
    assert_eq!(from, "127.0.0.9");
}

#[test]
fn a_listener_takes_as_many_connections_as_it_may_over_all_workers() {
    let origin = echo();
    let keys = "protocol = \"tcp\"\nlimits = { connections = 5 }";
    let (daemon, bind) = daemon(origin.address, keys, "");
    let served = || {
        let mut stream = send(bind, b"ping")?;
        stream.read_exact(&mut [0; 4]).map(|()| stream)
    };
    let mut open: Vec<TcpStream> = (0..5).map(|_| served().expect("a place")).collect();
    assert_eq!(served().expect_err("full").kind(), ErrorKind::ConnectionReset);
    assert_eq!(refused(&daemon, "connections"), 1.0);
    open.pop();
    open.push(eventually("a place", SOON, || served().ok()));
    daemon.reload(|text| text.replace("connections = 5", "connections = 6"));
    open.push(eventually("one more place", SOON, || served().ok()));
    assert_eq!(served().expect_err("full").kind(), ErrorKind::ConnectionReset);
}

/// Connects from this address, if it is not refused before that is known.
fn connect_from(source: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("an address");
    socket.connect(&to.into())?;
    socket.set_read_timeout(Some(SOON)).expect("an option");
    Ok(socket.into())
}

#[test]
fn a_client_takes_as_many_connections_as_it_may() {
    let origin = echo();
    let keys = "protocol = \"tcp\"\nproxy_protocol = \"accept\"\ntrusted = [\"127.0.0.3/32\"]\n\
                limits = { connections_per_client = 2 }";
    let (daemon, bind) = daemon(origin.address, keys, "");
    let served = |source: u8, header: &[u8]| {
        let mut stream = connect_from([127, 0, 0, source], bind)?;
        stream.write_all(&[header, b"ping"].concat())?;
        stream.read_exact(&mut [0; 4]).map(|()| stream)
    };
    let mut open = vec![served(1, b"").expect("one"), served(1, b"").expect("two")];
    assert_eq!(served(1, b"").expect_err("three").kind(), ErrorKind::ConnectionReset);
    open.push(served(2, b"").expect("another client"));
    // A trusted peer is not counted, but whom it speaks for is, together with its own connections.
    open.extend((0..4).map(|_| served(3, b"").expect("trusted")));
    open.extend((0..2).map(|_| served(3, LINE).expect("a client of its own")));
    assert_eq!(served(3, LINE).expect_err("three").kind(), ErrorKind::ConnectionReset);
    let own = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    assert_eq!(served(3, own).expect_err("three").kind(), ErrorKind::ConnectionReset);
    assert_eq!(refused(&daemon, "connections_per_client"), 3.0);
    open.clear();
    for _ in 0..2 {
        open.push(eventually("a place", SOON, || served(1, b"").ok()));
    }
}
