//! A listener: an address that clients connect to, and what is spoken there.

use std::net::SocketAddr;
use std::time::Duration;

use crate::base::{ListenerId, PoolId};

/// What a listener speaks with its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.1.
    Http,
    /// Bytes both ways, unread.
    Tcp,
}

impl Protocol {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// How long a client may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerTimeouts {
    /// From the first byte of a request head to its last.
    pub head: Duration,
    /// Between two requests on a connection.
    pub idle: Duration,
    /// The longest pause within a body, in either direction.
    pub body: Duration,
}

/// An address (or several) that clients connect to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// Its name.
    pub id: ListenerId,
    /// Where it listens; at least one address.
    pub bind: Vec<SocketAddr>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where traffic goes that no route matches; `None` answers 404 then.
    pub pool: Option<PoolId>,
    /// How long clients may take.
    pub timeouts: ListenerTimeouts,
}
