//! Listening sockets: one per worker in a `SO_REUSEPORT` group, so that the kernel spreads
//! connections and no lock is shared.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}; {hint}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    pub error: io::Error,
    hint: &'static str,
}

impl BindError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "another process listens there (see `ss -ltnp`)",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE"
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address",
            _ => "check the `bind` of the listener",
        };
        Self { address, error, hint }
    }
}

/// Listens on `address` with `count` sockets.
///
/// A group shares its address with any other `SO_REUSEPORT` socket of the same user: a second
/// daemon would silently take half of the connections. So the address is first bound without the
/// option, which fails if anyone listens there.
///
/// # Errors
/// If the address is taken or may not be bound.
pub fn listen_group(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |error| BindError::new(address, error);
    drop(bound(address, false).map_err(fail)?);
    let mut address = address;
    let mut group = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = bound(address, true).map_err(fail)?;
        socket.listen(BACKLOG).map_err(fail)?;
        let listener = TcpListener::from(socket);
        // Port 0 asks for any port; the rest of the group must share the one that was given.
        address = listener.local_addr().map_err(fail)?;
        group.push(listener);
    }
    Ok(group)
}

/// Listens on `address` with one socket that shares with nobody.
///
/// # Errors
/// If the address is taken or may not be bound.
pub fn listen_alone(address: SocketAddr) -> Result<TcpListener, BindError> {
    let fail = |error| BindError::new(address, error);
    let socket = bound(address, false).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without it a restart fails while connections of the last process are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit it: one system call fewer for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_one_port_and_hides_it_from_nobody() {
        let group = listen_group(([127, 0, 0, 1], 0).into(), 3).expect("a group");
        let address = group[0].local_addr().expect("an address");
        assert!(group.iter().all(|socket| socket.local_addr().is_ok_and(|a| a == address)));
        let error = listen_group(address, 1).expect_err("taken");
        assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("another process listens there"), "{error}");
        drop(group);
        listen_alone(address).expect("free again");
    }

    #[test]
    fn an_address_of_another_machine_is_explained() {
        let error = listen_alone(([192, 0, 2, 1], 0).into()).expect_err("not ours");
        assert!(error.to_string().contains("no such address"), "{error}");
    }
}
