//! Who still goes to a zone: its packets, as the kernel carries them. That is seen of a zone that is
//! frozen or killed too, and asks nothing of any peer.
//!
//! It needs the network namespace of its own, where nobody else's packets are.

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use memchr::memmem;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tidegate::base::Clock;

/// `ETH_P_IP`, in the order of the network.
const IP: i32 = 0x0800_u16.to_be() as i32;
/// How often it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);
/// What is kept of a packet: its head, and the first line of a request.
const KEPT: u32 = 256;
/// Two connects to one address within this are more than probes: none of the peers probes one
/// instance so often.
const CROWD: f64 = 0.1;

/// What a packet to the zone began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sent {
    Connect,
    Request,
}

/// A packet: when, in seconds, to which address, and what it was.
type Seen = (f64, Ipv4Addr, Sent);

/// Watches until it is asked.
pub struct Watch {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Seen>>,
}

impl Watch {
    /// Watches a zone, with the times of `clock`.
    ///
    /// # Errors
    /// If packets cannot be seen here.
    pub fn start(zone: Ipv4Addr, clock: Clock) -> io::Result<Self> {
        let mut socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(IP)))?;
        socket.attach_filter(&to_network(zone))?;
        socket.set_read_timeout(Some(LOOK))?;
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            let (mut seen, mut packet) = (Vec::new(), [0; KEPT as usize]);
            while !told.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut packet) else { continue };
                let Some((address, sent)) = read(&packet[..length]) else { continue };
                seen.push((clock.elapsed().as_secs_f64(), address, sent));
            }
            seen
        });
        Ok(Self { ends, thread })
    }

    /// When, from `from` to `until`, the last request went to the zone: one that was sent, or a connect
    /// that was one of many; 0, if none did.
    pub fn last(self, from: f64, until: f64) -> f64 {
        self.ends.store(true, Ordering::Relaxed);
        let seen = self.thread.join().unwrap_or_default();
        let in_time = |(at, ..): &&Seen| (from..until).contains(at);
        let seen: Vec<&Seen> = seen.iter().filter(in_time).collect();
        let one_of_many = |at: f64, address: Ipv4Addr| {
            let near = |(other, to, sent): &&&Seen| {
                *sent == Sent::Connect && *to == address && (at - CROWD..at).contains(other)
            };
            seen.iter().any(|other| near(&other))
        };
        let requests = seen.iter().filter(|(at, address, sent)| match sent {
            Sent::Request => true,
            Sent::Connect => one_of_many(*at, *address),
        });
        requests.map(|(at, ..)| *at).fold(from, f64::max) - from
    }
}

/// The program that lets TCP to the 256 addresses around `zone` pass.
fn to_network(zone: Ipv4Addr) -> [SockFilter; 7] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, 9),
        SockFilter::new(JUMP_IF_EQUAL, 0, 4, 6),
        SockFilter::new(LOAD_WORD, 0, 0, 16),
        SockFilter::new(AND, 0, 0, 0xffff_ff00),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, zone.to_bits() & 0xffff_ff00),
        SockFilter::new(RETURN, 0, 0, KEPT),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// What an IPv4 packet of TCP begins, if anything.
fn read(packet: &[u8]) -> Option<(Ipv4Addr, Sent)> {
    let tcp = usize::from(packet.first()? & 0xf) * 4;
    let address = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
    let (offset, flags) = (packet.get(tcp + 12)?, packet.get(tcp + 13)?);
    let (syn, ack) = (flags & 0x02 != 0, flags & 0x10 != 0);
    if syn && !ack {
        return Some((address, Sent::Connect));
    }
    let data = packet.get(tcp + usize::from(offset >> 4) * 4..)?;
    memmem::find(data, b"GET /b/").map(|_| (address, Sent::Request))
}
