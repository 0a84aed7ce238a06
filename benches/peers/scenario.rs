//! What is measured: one entry of [`SCENARIOS`] each. A new sort of traffic is a new entry, and at
//! most a new way for the client to speak ([`Client`]). What is not a steady load has a room of its own
//! ([`zone_loss`]).

use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::zone_loss;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// How a peer is set up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// It reads and routes each request.
    Http,
    /// The same under TLS, in HTTP/1.1 or HTTP/2.
    Https,
    /// It relays bytes.
    Tcp,
}

/// What the load generator speaks.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Client {
    /// Plain HTTP/1.1.
    Http1,
    /// HTTP/1.1 under TLS.
    Https1,
    /// HTTP/2 under TLS.
    H2 {
        /// Requests at a time on each connection.
        streams: usize,
    },
}

/// What is asked of a peer, and with it the figure that counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As many requests as it can: CPU time per request.
    Requests,
    /// As many bytes as it can: CPU time per GB.
    Bulk,
    /// Connections that do nothing: memory per connection.
    Idle,
    /// A constant rate, well below the most it can: latency.
    Tail,
}

impl Kind {
    /// The figure that counts.
    pub fn title(self) -> &'static str {
        match self {
            Self::Requests => "CPU µs/request",
            Self::Bulk => "CPU ms/GB",
            Self::Idle => "KiB/connection",
            Self::Tail => "p99.9 µs",
        }
    }
}

/// One exchange of a request and its response.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct Exchange {
    /// Bytes of the response body.
    pub download: u64,
    /// Bytes of the request body; 0 is a GET.
    pub upload: u64,
    /// Whether each request has a connection of its own.
    pub close: bool,
}

/// One scenario.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// As the command line and the results have it.
    pub name: &'static str,
    /// What it does, for readers.
    pub what: &'static str,
    /// How peers are set up.
    pub layer: Layer,
    /// What is asked of them.
    pub kind: Kind,
    /// What the client speaks.
    pub client: Client,
    /// What one request is.
    pub exchange: Exchange,
    /// Client connections.
    pub connections: usize,
    /// Instances behind each peer.
    pub instances: usize,
    /// Whether the floor splices, where that is cheaper than to copy.
    pub floor_splices: bool,
}

impl Scenario {
    /// Whether a peer can do that: the floor has no TLS.
    pub fn fits(&self, peer: Peer) -> bool {
        self.layer != Layer::Https || peer != Peer::Floor
    }
}

/// Most scenarios differ from this one in a word or two.
const SMALL: Scenario = Scenario {
    name: "h1_small",
    what: "HTTP/1.1 keep-alive, 64 connections, responses of 100 bytes",
    layer: Layer::Http,
    kind: Kind::Requests,
    client: Client::Http1,
    exchange: Exchange { download: 100, upload: 0, close: false },
    connections: 64,
    instances: 4,
    floor_splices: false,
};

const BULK: Scenario = Scenario { kind: Kind::Bulk, floor_splices: true, connections: 16, ..SMALL };

const TLS: Scenario = Scenario { layer: Layer::Https, client: Client::Https1, ..SMALL };

const fn download(bytes: u64) -> Exchange {
    Exchange { download: bytes, ..SMALL.exchange }
}

/// All of them, in the order of the results.
pub const SCENARIOS: [Scenario; 16] = [
    SMALL,
    Scenario {
        name: "h1_64k",
        what: "HTTP/1.1 keep-alive, 64 connections, responses of 64 KiB",
        exchange: download(64 * KIB),
        floor_splices: true,
        ..SMALL
    },
    Scenario {
        name: "h1_1m",
        what: "HTTP/1.1 keep-alive, 16 connections, responses of 1 MiB",
        exchange: download(MIB),
        ..BULK
    },
    Scenario {
        name: "h1_upload",
        what: "HTTP/1.1 keep-alive, 16 connections, POST of 1 MiB",
        exchange: Exchange { upload: MIB, ..SMALL.exchange },
        ..BULK
    },
    Scenario {
        name: "h1_close",
        what: "HTTP/1.1, a new client connection for each request",
        exchange: Exchange { close: true, ..SMALL.exchange },
        ..SMALL
    },
    Scenario {
        name: "many_backends",
        what: "as h1_small, with 1,000 instances",
        instances: 1_000,
        ..SMALL
    },
    Scenario {
        name: "tcp_small",
        what: "TCP that carries HTTP/1.1 keep-alive, 64 connections, responses of 100 bytes",
        layer: Layer::Tcp,
        ..SMALL
    },
    Scenario {
        name: "tcp_conn",
        what: "TCP, a new connection for each request",
        layer: Layer::Tcp,
        exchange: Exchange { close: true, ..SMALL.exchange },
        ..SMALL
    },
    Scenario {
        name: "tcp_bulk",
        what: "TCP, 4 connections, downloads of 100 MiB",
        layer: Layer::Tcp,
        exchange: download(100 * MIB),
        connections: 4,
        ..BULK
    },
    Scenario {
        name: "tls_h1",
        what: "HTTP/1.1 keep-alive under TLS 1.3, 64 connections, responses of 100 bytes",
        ..TLS
    },
    Scenario {
        name: "tls_1m",
        what: "HTTP/1.1 keep-alive under TLS 1.3, 16 connections, responses of 1 MiB",
        kind: Kind::Bulk,
        exchange: download(MIB),
        connections: 16,
        ..TLS
    },
    Scenario {
        name: "tls_handshake",
        what: "TLS 1.3, a new connection with a full handshake (ECDSA P-256) for each request, 32 at a time",
        exchange: Exchange { close: true, ..SMALL.exchange },
        connections: 32,
        ..TLS
    },
    Scenario {
        name: "h2_small",
        what: "HTTP/2 under TLS 1.3 to instances that speak HTTP/1.1, 10 connections of 32 requests at a time, \
               responses of 100 bytes",
        client: Client::H2 { streams: 32 },
        connections: 10,
        ..TLS
    },
    Scenario {
        name: "idle_mem",
        what: "5,000 keep-alive connections that have had one response each",
        kind: Kind::Idle,
        connections: 5_000,
        ..SMALL
    },
    Scenario {
        name: "idle_mem_tls",
        what: "as idle_mem, under TLS 1.3",
        kind: Kind::Idle,
        connections: 5_000,
        ..TLS
    },
    Scenario { name: "tail", what: "as h1_small, at a constant rate", kind: Kind::Tail, ..SMALL },
];

/// What can be chosen: one of these, or a zone that is lost, which is another sort of thing.
#[derive(Clone, Copy)]
pub enum Choice {
    /// A steady load.
    Steady(&'static Scenario),
    /// See [`zone_loss`].
    ZoneLoss,
}

impl Choice {
    /// All of them, in the order of the results.
    pub fn all() -> impl Iterator<Item = Self> {
        SCENARIOS.iter().map(Self::Steady).chain([Self::ZoneLoss])
    }

    /// As the command line and the results have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady(scenario) => scenario.name,
            Self::ZoneLoss => zone_loss::NAME,
        }
    }
}
