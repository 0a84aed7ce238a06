//! TCP listeners: bytes both ways, unread.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::daemon::{Daemon, free_address};
use crate::origin::Origin;

fn relay(instances: &[SocketAddr], more: &str) -> (Daemon, SocketAddr) {
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

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream
}

/// Sends everything back, and what it read in all after the client's end mark.
fn echo() -> Origin {
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
fn a_silent_tunnel_is_closed_and_a_talking_one_is_not() {
    let origin = echo();
    let (_daemon, bind) = relay(&[origin.address], "timeouts = { tunnel = \"1s\" }");
    let mut stream = connect(bind);
    let mut pong = [0; 4];
    for _ in 0..4 {
        std::thread::sleep(Duration::from_millis(500));
        stream.write_all(b"ping").expect("sent");
        stream.read_exact(&mut pong).expect("a talking tunnel stays");
    }
    assert_eq!(stream.read(&mut pong).expect("closed in order"), 0);
}

#[test]
fn nobody_there_closes_at_once() {
    let (daemon, bind) = relay(&[free_address()], "");
    let mut stream = connect(bind);
    let ended = stream.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)));
    assert_eq!(daemon.metric("tidegate_failures_total", "reason=\"connect\""), 1.0);
}
