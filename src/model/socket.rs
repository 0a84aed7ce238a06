//! Options of TCP sockets that an operator may set.

use std::time::Duration;

/// What is set on a TCP socket beyond what tidegate always sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketOptions {
    /// A connection that is silent this long is probed by the kernel (`SO_KEEPALIVE`, `TCP_KEEPIDLE`).
    pub keepalive: Option<Duration>,
    /// Sent bytes that stay unacknowledged this long end the connection (`TCP_USER_TIMEOUT`, RFC 5482).
    pub user_timeout: Option<Duration>,
}
