//! WebSockets (RFC 6455): what upgrades is a tunnel after 101, and a request like any other without.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::authority::Authority;
use crate::daemon::{Daemon, eventually, free_address};
use crate::http::{OK, proxy};
use crate::interop::{client, has_instances, listener, listening, python, script, start_nginx};
use crate::origin::Origin;

/// What a browser sends, and an instance's answer to it.
const FIELDS: [&str; 6] = [
    "upgrade: websocket",
    "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version: 13",
    "sec-websocket-protocol: chat, superchat",
    "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
    "origin: http://x.test",
];
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
    connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    sec-websocket-protocol: chat\r\n\r\n";

/// What is not for tunnels: each is shorter than they are silent here.
const IMPATIENT: &str = "timeouts = { head = \"2s\", idle = \"2s\", body = \"2s\" }";

fn upgrade() -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n{}\r\n\r\n",
        FIELDS.join("\r\n")
    )
}

/// A connection on which an upgrade was asked for.
fn asked(daemon: &(Daemon, SocketAddr)) -> TcpStream {
    let mut stream = TcpStream::connect(daemon.1).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(upgrade().as_bytes()).expect("sent");
    stream
}

/// The next head.
fn head(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = stream.read(&mut byte);
        let so_far = String::from_utf8_lossy(&text).into_owned();
        assert!(matches!(read, Ok(1)), "{read:?} after {so_far:?}");
        text.push(byte[0]);
    }
    String::from_utf8(text).expect("text")
}

fn expect(stream: &mut TcpStream, expected: &str) {
    let mut text = vec![0; expected.len()];
    stream.read_exact(&mut text).unwrap_or_else(|err| panic!("{err} instead of {expected:?}"));
    assert_eq!(String::from_utf8_lossy(&text), expected);
}

fn all_is_given_back(daemon: &Daemon) {
    eventually("nothing is left of it", Duration::from_secs(10), || {
        let connections = daemon.metric("tidegate_connections_active", "");
        (connections == 0.0 && daemon.instances("web")[0]["in_flight"] == 0).then_some(())
    });
}

/// Switches, greets in the same write, and sends everything back.
fn echo() -> Origin {
    Origin::start(|peer| {
        if peer.request().is_none() {
            return;
        }
        let _ = peer.stream.write_all(format!("{SWITCHED}welcome").as_bytes());
        let mut piece = vec![0; 65_536];
        while let Ok(n) = peer.stream.read(&mut piece)
            && n > 0
            && peer.stream.write_all(&piece[..n]).is_ok()
        {}
    })
}

#[test]
fn what_upgrades_passes_untouched_and_bytes_flow_both_ways() {
    let origin = echo();
    let proxy = proxy(&[origin.address], "");
    let mut stream = asked(&proxy);
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
    let answer = answer.to_ascii_lowercase();
    for field in SWITCHED.lines().skip(1).map(str::to_ascii_lowercase) {
        assert!(answer.contains(&format!("{field}\r\n")), "{field} in {answer}");
    }
    let seen = origin.text();
    assert!(seen.to_ascii_lowercase().contains("connection: upgrade\r\n"), "{seen}");
    for field in FIELDS {
        let (name, value) = field.split_once(' ').expect("a field");
        let same = |line: &str| {
            line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
                && line[name.len()..].trim() == value
        };
        assert!(seen.lines().any(same), "{field} in {seen}");
    }
    expect(&mut stream, "welcome");
    stream.write_all(b"at once").expect("sent");
    expect(&mut stream, "at once");
    // Longer than heads, bodies, responses and idle connections may take.
    std::thread::sleep(Duration::from_millis(3_500));
    stream.write_all(b"later").expect("sent");
    expect(&mut stream, "later");
    const LEN: usize = 8_000_000;
    let mut writer = stream.try_clone().expect("cloned");
    let sending = std::thread::spawn(move || {
        let block: Vec<u8> = (0..LEN as u32).map(|n| (n % 251) as u8).collect();
        writer.write_all(&block)
    });
    let mut back = vec![0; LEN];
    stream.read_exact(&mut back).expect("all of it");
    sending.join().expect("a thread").expect("sent");
    assert!(back.iter().enumerate().all(|(n, byte)| *byte == (n % 251) as u8));
    drop(stream);
    all_is_given_back(&proxy.0);
}

#[test]
fn the_client_may_close_first() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(SWITCHED.as_bytes());
            let mut all = String::new();
            let _ = peer.stream.read_to_string(&mut all);
            let _ = peer.stream.write_all(format!("after the end of {all:?}").as_bytes());
        }
    });
    let proxy = proxy(&[origin.address], "");
    let mut stream = asked(&proxy);
    head(&mut stream);
    stream.write_all(b"goodbye").expect("sent");
    stream.shutdown(Shutdown::Write).expect("an end mark");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("closed in order");
    assert_eq!(rest, "after the end of \"goodbye\"");
    all_is_given_back(&proxy.0);
}

#[test]
fn the_instance_may_close_first() {
    let origin = Origin::start(|peer| {
        if peer.request().is_some() {
            let _ = peer.stream.write_all(format!("{SWITCHED}goodbye").as_bytes());
            let _ = peer.stream.shutdown(Shutdown::Write);
            while peer.request().is_some() {}
        }
    });
    let proxy = proxy(&[origin.address], "");
    let mut stream = asked(&proxy);
    head(&mut stream);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).expect("closed in order");
    assert_eq!(rest, "goodbye");
    stream.write_all(b"after the end").expect("sent");
    drop(stream);
    eventually("what came after the end arrived", Duration::from_secs(10), || {
        origin.text().ends_with("\r\n\r\nafter the end").then_some(())
    });
    all_is_given_back(&proxy.0);
}

#[test]
fn an_answer_other_than_101_is_a_response_like_any_other() {
    let origin = Origin::start(|peer| {
        let refusal = b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 99\r\n\
            Content-Length: 9\r\n\r\nnot today";
        let refused = peer.request().is_some() && peer.stream.write_all(refusal).is_ok();
        while refused && peer.request().is_some() && peer.stream.write_all(OK).is_ok() {}
    });
    let proxy = proxy(&[origin.address], "");
    let mut stream = asked(&proxy);
    let answer = head(&mut stream).to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 426 upgrade required\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-version: 99\r\n"), "{answer}");
    expect(&mut stream, "not today");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("sent");
    let answer = head(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "the connection is kept: {answer}");
    expect(&mut stream, "ok");
    assert_eq!(*origin.connections.lock().expect("whole"), 1, "on both sides");
}

#[test]
fn a_silent_websocket_is_closed_and_a_talking_one_is_not() {
    let origin = echo();
    let proxy = proxy_with_tunnel_of_three_seconds(&origin);
    let mut stream = asked(&proxy);
    head(&mut stream);
    expect(&mut stream, "welcome");
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(1));
        stream.write_all(b"ping").expect("sent");
        expect(&mut stream, "ping");
    }
    let began = Instant::now();
    assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    // Sooner than the read gives up by itself.
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    all_is_given_back(&proxy.0);
}

fn proxy_with_tunnel_of_three_seconds(origin: &Origin) -> (Daemon, SocketAddr) {
    let bind = free_address();
    let config = listener("web", bind, origin.address, IMPATIENT)
        .replace("[pool.web]\n", "[pool.web]\ntimeouts = { tunnel = \"3s\" }\n");
    (Daemon::start(&config), bind)
}

#[test]
fn python_websockets() {
    let Some(python) = python("websockets").filter(|_| has_instances()) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let [server, node, nginx] = [(); 3].map(|()| free_address());
    let port = |address: SocketAddr| address.port().to_string();
    let mut in_python = Command::new(&python);
    in_python.arg(script("websocket.py")).arg("serve").arg(port(server));
    let mut in_node = Command::new("node");
    in_node.arg(script("server.js")).arg(port(node)).arg(dir.path());
    let locations = format!(
        "location = /refused {{ return 403; }}\nlocation = /websocket {{\n\
         proxy_pass http://{server};\nproxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection upgrade;\n}}\n"
    );
    let _instances = [
        listening(server, in_python.stderr(Stdio::null())),
        listening(node, &mut in_node),
        start_nginx(nginx, "", dir.path(), &locations),
    ];
    let authority = Authority::new("tests");
    let secure = format!("{IMPATIENT}\n{}", authority.issue_local().https());
    let trusted = format!("SSL_CERT_FILE={}", authority.ca());
    let mut config = String::new();
    let mut urls = Vec::new();
    for (name, instance, refuses) in
        [("python", server, false), ("node", node, true), ("nginx", nginx, true)]
    {
        for (scheme, more) in [("ws", IMPATIENT), ("wss", &secure)] {
            let bind = free_address();
            config.push_str(&listener(&format!("{name}-{scheme}"), bind, instance, more));
            urls.push((format!("{scheme}://{bind}"), refuses));
        }
    }
    let daemon = Daemon::start(&config);
    for (url, refuses) in &urls {
        let (websocket, refused) = (format!("{url}/websocket"), format!("{url}/refused"));
        let script = script("websocket.py");
        let all = [trusted.as_str(), &python, &script, "talk", &websocket, &refused];
        client("env", if *refuses { &all } else { &all[..5] });
    }
    eventually("no connection is left", Duration::from_secs(10), || {
        (daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
    });
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}
