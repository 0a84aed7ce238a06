//! TCP listeners in trouble: instances that cannot be reached, peers that take nothing, ends that are
//! none; and what a tunnel holds while it is silent.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::daemon::{Daemon, eventually, free_address};
use crate::origin::Origin;
use crate::tcp::{connect, echo, relay};

const SOON: Duration = Duration::from_secs(15);

/// An address that answers no attempt to connect: its accept queue is full and nobody empties it.
struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("an address");
        listener.listen(0).expect("listening");
        let address = listener.local_addr().expect("an address").as_socket().expect("of IP");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            queue.push(stream);
            assert!(queue.len() < 64, "the queue has no end");
        }
        Self { address, _listener: listener, _queue: queue }
    }
}

#[test]
fn one_that_does_not_answer_costs_no_connection_and_another_zone_is_asked_next() {
    let (one, other, origin) = (BlackHole::new(), BlackHole::new(), echo());
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nname = \"raw\"\nbind = \"{bind}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\
         [pool.raw]\nbalance = \"round-robin\"\ntimeouts = {{ connect = \"300ms\" }}\n\
         retry = {{ attempts = 1, budget = \"100%\" }}\n\
         instances = [{{ address = \"{}\", zone = \"a\" }}, {{ address = \"{}\", zone = \"a\" }}, \
         {{ address = \"{}\", zone = \"b\" }}]\n[pool.raw.health]\ntype = \"none\"\n",
        one.address, other.address, origin.address
    ));
    for _ in 0..9 {
        let mut stream = connect(bind);
        stream.write_all(b"ping").expect("sent");
        stream
            .read_exact(&mut [0; 4])
            .expect("answered, by the first or the second that was asked");
    }
    let of_pool = |name: &str| daemon.metric(name, "pool=\"raw\"");
    let retries = of_pool("tidegate_retries_total");
    assert!(retries >= 2.0);
    assert_eq!(of_pool("tidegate_failures_total"), 0.0);
    // Only those that stood count, and only from when each was asked for.
    assert_eq!(of_pool("tidegate_upstream_connect_duration_seconds_count"), 9.0);
    let sum = of_pool("tidegate_upstream_connect_duration_seconds_sum");
    assert!(sum < 0.3 * retries, "{sum} s, and {retries} that did not answer");
}

/// Sends until nobody takes any more.
fn endless() -> Origin {
    Origin::start(|peer| {
        let block = vec![b'x'; 65_536];
        while peer.stream.write_all(&block).is_ok() {}
    })
}

/// How the stream ends, once all that has come is read.
fn end_of(mut stream: TcpStream) -> Result<(), ErrorKind> {
    let mut piece = vec![0; 65_536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error.kind()),
        }
    }
}

fn all_closed(daemon: &Daemon) {
    eventually("all are closed", SOON, || {
        (daemon.metric("tidegate_connections_active", "") == 0.0).then_some(())
    });
}

#[test]
fn what_was_not_delivered_when_time_is_up_does_not_look_delivered() {
    let origin = endless();
    let (daemon, bind) = relay(&[origin.address], "timeouts = { tunnel = \"1s\" }");
    let stream = connect(bind);
    // Reading before that would keep the tunnel from being silent.
    eventually("the tunnel is given up", SOON, || {
        let given_up = daemon.metric("tidegate_failures_total", "reason=\"tunnel_timeout\"");
        (given_up == 1.0).then_some(())
    });
    assert_eq!(end_of(stream), Err(ErrorKind::ConnectionReset));
}

#[test]
fn what_is_open_when_the_daemon_has_to_end_is_cut_on_both_sides() {
    for (patience, signals) in [("1s", 1), ("1h", 2)] {
        let (told, ends) = mpsc::channel();
        let origin = Origin::start(move |peer| {
            peer.stream.write_all(b"first").expect("sent");
            let stream = peer.stream.try_clone().expect("cloned");
            told.send(end_of(stream)).expect("the test waits");
        });
        let more = format!("drain_timeout = \"{patience}\"");
        let (mut daemon, bind) = relay(&[origin.address], &more);
        let mut stream = connect(bind);
        stream.read_exact(&mut [0; 5]).expect("it stands");
        for _ in 0..signals {
            daemon.signal(Signal::TERM);
            eventually("it stops", SOON, || {
                let status = daemon.get("/readyz").map(|(status, _)| status);
                (status != Some(200)).then_some(())
            });
        }
        assert!(daemon.wait(SOON).success());
        assert_eq!(end_of(stream), Err(ErrorKind::ConnectionReset), "{patience}");
        let end = ends.recv_timeout(SOON).expect("told");
        assert_eq!(end, Err(ErrorKind::ConnectionReset), "{patience}");
    }
}

#[test]
fn silent_tunnels_hold_no_pipes() {
    let origin = echo();
    let (daemon, bind) = relay(&[origin.address], "");
    let pipes = || {
        let of_daemon = format!("/proc/{}/fd", daemon.pid().as_raw_nonzero());
        let files = fs::read_dir(of_daemon).expect("it lives").flatten();
        let names = files.filter_map(|file| fs::read_link(file.path()).ok());
        names.filter(|name| name.to_string_lossy().starts_with("pipe:")).count()
    };
    // It may have inherited some.
    let before = pipes();
    let block = vec![b'x'; 4_000_000];
    let mut spliced = 0;
    let open: Vec<TcpStream> = (0..8)
        .map(|_| {
            let stream = connect(bind);
            let mut writer = stream.try_clone().expect("cloned");
            std::thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&block).expect("sent"));
                let mut back = vec![0; block.len()];
                (&stream).read_exact(&mut back).expect("sent back");
            });
            spliced = spliced.max(pipes());
            stream
        })
        .collect();
    assert!(spliced > before, "so much is spliced");
    eventually("no pipe is left", SOON, || (pipes() == before).then_some(()));
    for mut stream in open {
        stream.write_all(b"still there?").expect("sent");
        stream.read_exact(&mut [0; 12]).expect("it is");
    }
}

/// The timer of the connection between these two, as `/proc/net/tcp` has it: 2 is keepalive.
fn timer(own: SocketAddr, peer: SocketAddr) -> Option<String> {
    let hex = |address: SocketAddr| match address {
        SocketAddr::V4(it) => {
            format!("{:08X}:{:04X}", u32::from_le_bytes(it.ip().octets()), it.port())
        }
        SocketAddr::V6(_) => unreachable!("these tests speak IPv4"),
    };
    let table = fs::read_to_string("/proc/net/tcp").expect("a table");
    let pair = format!(" {} {} ", hex(own), hex(peer));
    let line = table.lines().find(|line| line.contains(&pair))?;
    Some(line.split_whitespace().nth(5)?[..2].to_owned())
}

#[test]
fn both_sides_of_a_tunnel_are_kept_alive_if_that_is_set() {
    for (keys, expected) in [("", "00"), ("tcp = { keepalive = \"60s\" }", "02")] {
        let (told, peers) = mpsc::channel();
        let origin = Origin::start(move |peer| {
            told.send(peer.stream.peer_addr().expect("an address")).expect("the test waits");
            let _ = peer.stream.read(&mut [0; 1]);
        });
        let bind = free_address();
        let _daemon = Daemon::start(&format!(
            "[defaults]\n{keys}\n\
             [[listener]]\nbind = \"{bind}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\
             [pool.raw]\ninstances = [{{ address = \"{}\" }}]\n[pool.raw.health]\ntype = \"none\"\n",
            origin.address
        ));
        let stream = connect(bind);
        let client = stream.local_addr().expect("an address");
        let own = peers.recv_timeout(SOON).expect("it is reached");
        for (own, peer) in [(bind, client), (own, origin.address)] {
            eventually(&format!("timer {expected} of {own}"), SOON, || {
                timer(own, peer).filter(|timer| timer == expected)
            });
        }
    }
}

#[test]
fn who_acknowledges_nothing_is_given_up_if_that_is_set() {
    // A client that takes nothing.
    let origin = endless();
    let bind = free_address();
    let daemon = Daemon::start(&format!(
        "[[listener]]\nbind = \"{bind}\"\nprotocol = \"tcp\"\npool = \"raw\"\n\
         tcp = {{ user_timeout = \"1s\" }}\n\
         [pool.raw]\ninstances = [{{ address = \"{}\" }}]\n[pool.raw.health]\ntype = \"none\"\n",
        origin.address
    ));
    let _stream = connect(bind);
    all_closed(&daemon);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0, "that is the client's affair");
    // An instance that takes nothing.
    let (done, until) = mpsc::channel::<()>();
    let until = std::sync::Mutex::new(until);
    let origin = Origin::start(move |_| {
        let _ = until.lock().expect("whole").recv_timeout(SOON);
    });
    let (daemon, bind) = relay(&[origin.address], "tcp = { user_timeout = \"1s\" }");
    let mut stream = connect(bind);
    let block = vec![b'x'; 65_536];
    let end = loop {
        if let Err(error) = stream.write_all(&block) {
            break error.kind();
        }
    };
    assert!(matches!(end, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{end}");
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"cut_tunnel\""), 1.0);
    drop(done);
}
