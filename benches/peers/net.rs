//! A network of its own where that is possible, and ports.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};
use rustix::thread::UnshareFlags;

/// The congestion control that every namespace may choose, and that costs nothing beside the work:
/// others would put timers into what is measured.
const CONGESTION: &str = "reno";
const CONGESTION_FILE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Moves this process (which must not have threads yet) into a network namespace that has nothing
/// but its loopback interface, so that no port and no setting is shared with anyone. False where
/// the user may not do that.
///
/// # Errors
/// If the namespace is there and of no use.
pub fn unshare() -> io::Result<bool> {
    #[expect(deprecated, reason = "what makes it unsafe is another flag, about file descriptors")]
    let unshared = rustix::thread::unshare(UnshareFlags::NEWNET);
    if let Err(error) = unshared {
        eprintln!("without a network namespace of its own ({error}): on free ports instead");
        return Ok(false);
    }
    raise_loopback()?;
    std::fs::write(CONGESTION_FILE, CONGESTION)?;
    Ok(true)
}

/// What TCP uses here.
pub fn congestion() -> String {
    std::fs::read_to_string(CONGESTION_FILE).unwrap_or_default().trim().to_owned()
}

/// `ip link set lo up`, which is one message to the kernel.
fn raise_loopback() -> io::Result<()> {
    const LENGTH: u32 = 32;
    const NEW_LINK: u16 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
    const FIRST_INTERFACE: u32 = 1;
    const UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACKNOWLEDGE.to_ne_bytes());
    // Sequence and sender, then family and type: all unspecified.
    message.extend([0; 12]);
    message.extend(FIRST_INTERFACE.to_ne_bytes());
    // The flags, and which of them to change.
    message.extend(UP.to_ne_bytes());
    message.extend(UP.to_ne_bytes());
    let netlink = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    sendto(&netlink, &message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 256];
    let (read, _) = recv(&netlink, &mut answer, RecvFlags::empty())?;
    match answer[..read].get(16..20) {
        Some([0, 0, 0, 0]) => Ok(()),
        Some(&[a, b, c, d]) => Err(io::Error::from_raw_os_error(-i32::from_ne_bytes([a, b, c, d]))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Ports that are free on every address, below those that the kernel gives to clients.
///
/// # Errors
/// If there are not so many.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let ports: Vec<u16> = (21_000..32_000).filter(free).take(count).collect();
    if ports.len() == count { Ok(ports) } else { Err(io::ErrorKind::AddrInUse.into()) }
}
