//! A listener: an address that clients connect to, and what is spoken there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::base::{ListenerId, PoolId};
use crate::model::pool::Limit;
use crate::model::socket::SocketOptions;
use crate::model::tls::ListenerTls;

/// What a listener speaks with its clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 with those who begin with it.
    Http,
    /// HTTP within TLS.
    Https,
    /// Bytes both ways, unread.
    Tcp,
    /// The same within TLS, which ends here.
    Tls,
    /// TLS that ends at an instance: only the name that the client asks for is read.
    TlsPassthrough,
}

impl Protocol {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::TlsPassthrough => "tls-passthrough",
        }
    }

    /// Whether requests are read; otherwise bytes are forwarded.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// Whether routes say where what comes goes; otherwise all of it goes to one pool.
    pub fn has_routes(self) -> bool {
        self.is_http() || self == Self::TlsPassthrough
    }

    /// Whether clients ask for a name (SNI).
    pub fn has_names(self) -> bool {
        self.has_tls() || self == Self::TlsPassthrough
    }

    /// Whether TLS ends here.
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
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

/// What a client may send, and how much of this machine it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerLimits {
    /// Bytes of a request head (431); at most [`ListenerLimits::HEAD_MAX`].
    pub head: u32,
    /// Field lines of a request head (431); at most [`ListenerLimits::FIELDS_MAX`].
    pub fields: u32,
    /// Bytes of a request target (414).
    pub target: u32,
    /// Bytes of a request body (413).
    pub body: u64,
    /// Bytes a second that a body must make on average, in either direction, whenever the client is what is
    /// waited for; counted once such waits add up to `timeouts.body`. 0 turns it off.
    pub body_rate: u64,
    /// Requests on one connection, then it is closed.
    pub requests: Limit,
    /// Requests on one HTTP/2 connection that are under way at the same time; at most
    /// [`ListenerLimits::STREAMS_MAX`].
    pub streams: u32,
    /// Connections that are open at the same time.
    pub connections: Limit,
    /// Connections that are open at the same time from one address (an IPv6 network of 64 bits);
    /// trusted peers are not counted.
    pub connections_per_client: Limit,
}

impl ListenerLimits {
    /// The largest `head` that may be configured.
    pub const HEAD_MAX: u32 = 64 * 1024;
    /// The largest `fields` that may be configured.
    pub const FIELDS_MAX: u32 = 256;
    /// The largest `streams` that may be configured.
    pub const STREAMS_MAX: u32 = 10_000;
}

impl Default for ListenerLimits {
    /// Safe at an internet edge, and in nobody's way.
    fn default() -> Self {
        Self {
            head: 16 * 1024,
            fields: 100,
            target: 8 * 1024,
            body: 16 << 30,
            body_rate: 500,
            requests: Limit::AtMost(100_000),
            streams: 100,
            connections: Limit::AtMost(65_536),
            connections_per_client: Limit::AtMost(16_384),
        }
    }
}

/// How instances are told who the client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ForwardedStyle {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
    /// Both.
    Both,
    /// Not at all; what came from the client is removed nevertheless.
    Off,
}

impl ForwardedStyle {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::XForwarded => "x-forwarded",
            Self::Rfc7239 => "rfc7239",
            Self::Both => "both",
            Self::Off => "off",
        }
    }
}

/// What becomes of CONNECT requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ConnectMethod {
    /// They are answered 501.
    #[default]
    Refuse,
    /// They go to an instance like any request; a 2xx answer opens a tunnel to it.
    Forward,
}

impl ConnectMethod {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Forward => "forward",
        }
    }
}

/// Whether connections begin with a PROXY protocol header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ProxyHeader {
    /// No.
    #[default]
    Off,
    /// Those of trusted peers may.
    Accept,
    /// All do, and all must come from trusted peers.
    Require,
}

impl ProxyHeader {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Accept => "accept",
            Self::Require => "require",
        }
    }
}

/// A body that tidegate sends by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// For `Content-Type`.
    pub content_type: String,
    /// Its bytes.
    pub body: Vec<u8>,
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
    /// How it speaks TLS; `Some` exactly when its protocol has it.
    pub tls: Option<Arc<ListenerTls>>,
    /// Where traffic goes that no route matches; `None` answers 404 then.
    pub pool: Option<PoolId>,
    /// How long clients may take.
    pub timeouts: ListenerTimeouts,
    /// What clients may send.
    pub limits: ListenerLimits,
    /// Peers that stand before us (other proxies): what they say about clients is believed.
    pub trusted: Vec<IpNet>,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyHeader,
    /// How instances are told who the client is.
    pub forwarded: ForwardedStyle,
    /// The field (in lower case) that carries the request id; `None` makes none.
    pub request_id: Option<String>,
    /// The fields (in lower case) by which any listener of the config tells instances of verified
    /// clients. What clients send of that name passes nowhere.
    pub client_subjects: Arc<[String]>,
    /// What becomes of CONNECT requests.
    pub connect: ConnectMethod,
    /// Options of its connections' sockets.
    pub socket: SocketOptions,
    /// Bodies of our own answers, by status; the rest get one line of text.
    pub errors: Arc<BTreeMap<u16, Page>>,
}

impl Listener {
    /// Whether what this peer says about clients is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}
