//! Options of TCP sockets. Those of a listening socket are inherited by every connection that it
//! accepts from then on, so there they cost nothing.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::model::SocketOptions;

/// Probes that go unanswered before the kernel gives a connection up.
const PROBES: u32 = 3;

/// The longest pause between two probes.
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Sets what is configured and turns off what is not; no system call for what is not and was not
/// (`before`).
///
/// # Errors
/// What the kernel says.
pub fn set(socket: &impl AsFd, options: &SocketOptions, before: &SocketOptions) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if options.keepalive != before.keepalive {
        match options.keepalive {
            Some(idle) => socket.set_tcp_keepalive(&keepalive(idle))?,
            None => socket.set_keepalive(false)?,
        }
    }
    if options.user_timeout != before.user_timeout {
        socket.set_tcp_user_timeout(options.user_timeout)?;
    }
    Ok(())
}

/// A silent connection is given up after twice the time that it may be silent, at most: the kernel
/// counts in seconds, at least one.
fn keepalive(idle: Duration) -> TcpKeepalive {
    let seconds = |time: Duration| Duration::from_secs(time.as_secs().max(1));
    TcpKeepalive::new()
        .with_time(seconds(idle))
        .with_interval(seconds((idle / PROBES).min(PROBE_PAUSE_MAX)))
        .with_retries(PROBES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::bind::listen_alone;

    #[test]
    fn accepted_connections_inherit_what_the_listener_was_told() {
        let listener = listen_alone(([127, 0, 0, 1], 0).into()).expect("a socket");
        listener.set_nonblocking(false).expect("an option");
        let address = listener.local_addr().expect("an address");
        let accept = || {
            let _client = std::net::TcpStream::connect(address).expect("connected");
            let (stream, _) = listener.accept().expect("accepted");
            let socket = SockRef::from(&stream);
            assert!(socket.tcp_nodelay().expect("an option"));
            let times = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
            let times = (times.0.expect("an option"), times.1.expect("an option"));
            (
                socket.keepalive().expect("an option").then_some(times),
                socket.tcp_user_timeout().expect("an option"),
            )
        };
        let none = SocketOptions::default();
        let some = SocketOptions {
            keepalive: Some(Duration::from_secs(60)),
            user_timeout: Some(Duration::from_millis(1_500)),
        };
        assert_eq!(accept(), (None, None));
        set(&listener, &some, &none).expect("set");
        let times = (Duration::from_secs(60), Duration::from_secs(20));
        assert_eq!(accept(), (Some(times), some.user_timeout));
        set(&listener, &none, &some).expect("set");
        assert_eq!(accept(), (None, None), "turned off again");
    }
}
