//! Connecting: a socket with the options that are configured, in as few system calls as there can be
//! (`socket`, `connect`, `epoll_ctl`, and one for `TCP_NODELAY`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::model::SocketOptions;
use crate::net::options;

/// Connects to `address`, from the address `source` if there is one.
///
/// # Errors
/// What the kernel says; `EADDRNOTAVAIL` also for a source of another family than `address`.
pub async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    options: &SocketOptions,
) -> io::Result<TcpStream> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Messages are written whole: nothing is gained by holding back the end of one.
    socket.set_tcp_nodelay(true)?;
    options::set(&socket, options, &SocketOptions::default())?;
    if let Some(source) = source {
        bind_source(&socket, source, address)?;
    }
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => return Err(error),
        _ => {}
    }
    let stream = TcpStream::from_std(socket.into())?;
    // A connection that failed shows that along with the event, so one that stands is not asked.
    let ready = stream.ready(Interest::WRITABLE | Interest::ERROR).await?;
    if (ready.is_error() || ready.is_write_closed())
        && let Some(error) = stream.take_error()?
    {
        return Err(error);
    }
    Ok(stream)
}

/// Takes the address and leaves the port to `connect`: one port then serves as many connections as
/// there are addresses to connect to, where a port that is taken by `bind` serves one.
fn bind_source(socket: &Socket, source: IpAddr, address: SocketAddr) -> io::Result<()> {
    if source.is_ipv4() != address.is_ipv4() {
        return Err(Errno::ADDRNOTAVAIL.into());
    }
    setsockopt(socket, sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::new(source, 0).into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use nix::sys::socket::getsockopt;
    use socket2::SockRef;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[tokio::test]
    async fn connections_come_from_the_source_and_have_the_options() {
        for (own, source) in [("127.0.0.1", "127.0.0.9"), ("::1", "::1")] {
            let listener = match TcpListener::bind((ip(own), 0)) {
                Ok(listener) => listener,
                // Not every machine has IPv6.
                Err(_) if own == "::1" => continue,
                Err(error) => panic!("no socket: {error}"),
            };
            let options = SocketOptions {
                keepalive: Some(Duration::from_secs(7)),
                user_timeout: Some(Duration::from_secs(9)),
            };
            let address = listener.local_addr().expect("an address");
            let stream = connect(address, Some(ip(source)), &options).await.expect("connected");
            let (_, peer) = listener.accept().expect("accepted");
            assert_eq!(peer.ip(), ip(source));
            assert_eq!(peer, stream.local_addr().expect("an address"));
            assert!(getsockopt(&stream, sockopt::IpBindAddressNoPort).expect("an option"));
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().expect("an option"));
            assert!(socket.keepalive().expect("an option"));
            assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(7));
            assert_eq!(socket.tcp_user_timeout().expect("an option"), options.user_timeout);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_is_told() {
        let none = SocketOptions::default();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        for source in ["::1", "192.0.2.1"] {
            let error = connect(address, Some(ip(source)), &none).await.expect_err("not ours");
            assert_eq!(Errno::from_io_error(&error), Some(Errno::ADDRNOTAVAIL), "{source}");
        }
        let stream = connect(address, None, &none).await.expect("connected");
        assert!(!SockRef::from(&stream).keepalive().expect("an option"));
        drop((listener, stream));
        let error = connect(address, None, &none).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
