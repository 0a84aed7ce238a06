//! A pool: its instances and everything that is set for it. Made by `config`, which guarantees the
//! invariants noted here.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, PoolId, Share, ZoneId};
use crate::model::affinity::Affinity;
use crate::model::outlier::Outlier;
use crate::model::queue::Queue;
use crate::model::rewrite::Rewrite;
use crate::model::scaling::Scaling;
use crate::model::socket::SocketOptions;
use crate::model::tls::PoolTls;
use crate::model::zones::Zones;

/// How an instance is picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Balance {
    /// Each in turn, by weight.
    RoundRobin,
    /// The less busy of two drawn at random; of all, where there are four or fewer.
    LeastRequest,
    /// At random, by weight.
    Random,
    /// Of two drawn at random, that with the lower product of what it costs ([`Cost`](crate::model::Cost))
    /// and how busy it is.
    PeakEwma,
    /// Each key has its instance, by a Maglev table: the most even.
    Maglev,
    /// Each key has its instance, by a hash ring, unless that is too busy compared with the others.
    Ring,
}

impl Balance {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RoundRobin,
        Self::LeastRequest,
        Self::Random,
        Self::PeakEwma,
        Self::Maglev,
        Self::Ring,
    ];

    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastRequest => "least-request",
            Self::Random => "random",
            Self::PeakEwma => "peak-ewma",
            Self::Maglev => "maglev",
            Self::Ring => "ring",
        }
    }

    /// Whether requests are told apart by a key.
    pub fn hashes(self) -> bool {
        matches!(self, Self::Maglev | Self::Ring)
    }
}

/// A bound that an operator may lift only by writing `"unlimited"`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// At most this many; at least 1.
    AtMost(u32),
    /// As many as there are.
    Unlimited,
}

impl Limit {
    /// The bound as a number that no count in this program reaches when unlimited.
    pub fn as_u32(self) -> u32 {
        match self {
            Self::AtMost(n) => n.min(u32::MAX >> 1),
            Self::Unlimited => u32::MAX >> 1,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(n) => write!(f, "{n}"),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

/// How long instances may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolTimeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// From the end of the request to the end of the response head.
    pub response: Duration,
    /// Longest pause in the body of a response.
    pub body: Duration,
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// Longest silence in a tunnel (TCP, WebSocket).
    pub tunnel: Duration,
    /// From the end of a request's head to the end of its response, queue and retries included.
    pub total: Duration,
}

impl Default for PoolTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            response: Duration::from_secs(30),
            body: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            tunnel: Duration::from_secs(3_600),
            total: Duration::from_secs(24 * 3_600),
        }
    }
}

/// Trying again elsewhere.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retry {
    /// How many more instances are tried after the first.
    pub attempts: u32,
    /// Retries may be at most this share of the requests of the last ten seconds, and three a second
    /// beside it. A refused connection is not counted, nor is one that was kept and turned out closed.
    pub budget: Share,
    /// How long one instance may take until its response head, where another could be tried; `None`
    /// gives it all of [`PoolTimeouts::response`].
    pub per_try: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 2, budget: Share(0.2), per_try: None }
    }
}

/// An instance that is written in the config.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaticInstance {
    /// Its name; its address unless set.
    pub id: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it stands.
    pub zone: ZoneId,
    /// Its share of traffic; at least 1.
    pub weight: u32,
}

/// What a probe asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HealthCheck {
    /// Nothing: every instance is taken for healthy.
    None,
    /// Whether it accepts a connection and, by TLS, makes the handshake.
    Tcp,
    /// Whether a request is answered as it should be.
    Http(HttpCheck),
    /// Whether it says by `grpc.health.v1` that it serves.
    Grpc(GrpcCheck),
}

/// A call of `grpc.health.v1.Health/Check`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GrpcCheck {
    /// The service that is asked for; nothing for the server as a whole.
    pub service: String,
    /// The host asked for; `None` for the address.
    pub host: Option<String>,
}

/// A request by HTTP/1.1, and what its answer has to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpCheck {
    /// The method, in upper case.
    pub method: String,
    /// The path, which starts with a slash.
    pub path: String,
    /// The host asked for; `None` for the address.
    pub host: Option<String>,
    /// More header fields; none of them frames the request.
    pub headers: Vec<(String, String)>,
    /// The statuses that pass.
    pub status: Vec<RangeInclusive<u16>>,
    /// What the body has to contain, in its first 64 KiB.
    pub body: Option<String>,
}

impl HttpCheck {
    /// `GET path`, which has to be answered with 2xx or 3xx.
    pub fn get(path: &str) -> Self {
        Self {
            method: "GET".into(),
            path: path.into(),
            host: None,
            headers: Vec::new(),
            status: vec![200..=399],
            body: None,
        }
    }
}

/// The agent that stands beside an instance and speaks of it, as HAProxy's agent check has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AgentCheck {
    /// Where it listens, on the address of the instance.
    pub port: u16,
    /// How often it is asked.
    pub interval: Duration,
}

/// Active health checks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// What is asked.
    pub check: HealthCheck,
    /// By TLS: as the pool's traffic, or in any way where that has none.
    pub tls: bool,
    /// The port that probes go to; `None` for that of the traffic.
    pub port: Option<u16>,
    /// Whom to ask beside the instance itself.
    pub agent: Option<AgentCheck>,
    /// How often, while nothing changes.
    pub interval: Duration,
    /// How often one is asked that answers live requests well; not shorter than the interval.
    pub serving_interval: Duration,
    /// How long an answer may take; not longer than the interval.
    pub timeout: Duration,
    /// Passes in a row until a down instance is up.
    pub rise: u32,
    /// Failures in a row until an up instance is down.
    pub fall: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: HealthCheck::Tcp,
            tls: false,
            port: None,
            agent: None,
            interval: Duration::from_secs(5),
            serving_interval: Duration::from_secs(20),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
        }
    }
}

/// What happens to provisioned instances when the daemon stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopPolicy {
    /// They are terminated.
    Terminate,
    /// They go on, and the next daemon adopts them.
    Keep,
}

/// Instances as child processes on loopback addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessSettings {
    /// The program and its arguments, with `{self} {address} {id} {zone} {size}` in them.
    pub command: Vec<String>,
    /// Zone k (from 1) is `127.0.k.x`; at least one, at most 254.
    pub zones: Vec<ZoneId>,
    /// The port that each instance listens on.
    pub port: u16,
    /// What happens to them when the daemon stops.
    pub stop: StopPolicy,
}

/// Where new instances come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Provisioning {
    /// Child processes.
    Process(ProcessSettings),
}

impl Provisioning {
    /// What happens to provisioned instances when the daemon stops.
    pub fn stop(&self) -> StopPolicy {
        match self {
            Self::Process(process) => process.stop,
        }
    }
}

/// Which version of the PROXY protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

impl ProxyVersion {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Which version of HTTP instances are asked by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpstreamVersion {
    /// HTTP/1.1: a request at a time on each connection.
    #[default]
    Http1,
    /// HTTP/2: many.
    H2,
}

impl UpstreamVersion {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2 => "h2",
        }
    }
}

/// Connections to instances that are kept from one request to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// Unused ones that are kept, per instance and worker; 0 keeps none.
    pub max: u32,
    /// None is used again that is older than this.
    pub age: Duration,
    /// Requests on one connection, then it is closed.
    pub requests: Limit,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { max: 128, age: Duration::from_secs(3_600), requests: Limit::AtMost(100_000) }
    }
}

/// How instances are connected to, and what they are told.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct UpstreamSettings {
    /// What is spoken to them where requests are read.
    pub version: UpstreamVersion,
    /// How it is spoken by TLS; `None` for plain connections.
    pub tls: Option<Arc<PoolTls>>,
    /// Connections that are kept.
    pub keep_alive: KeepAlive,
    /// The address that connections come from; `None` leaves it to the kernel.
    pub source: Option<IpAddr>,
    /// Options of their sockets.
    pub socket: SocketOptions,
    /// Each connection begins with a PROXY protocol header of this version, so it serves one client
    /// only and is not kept.
    pub proxy_protocol: Option<ProxyVersion>,
    /// What is changed in the heads of all requests to the pool and of their responses.
    pub rewrite: Rewrite,
}

/// A pool as it is configured.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// Its name.
    pub id: PoolId,
    /// How an instance is picked.
    pub balance: Balance,
    /// Which requests go to the same instance.
    pub affinity: Affinity,
    /// Bound of requests in flight per instance, over all workers.
    pub max_in_flight: Limit,
    /// The hold queue.
    pub queue: Queue,
    /// How long instances may take.
    pub timeouts: PoolTimeouts,
    /// Trying again elsewhere.
    pub retry: Retry,
    /// How instances are connected to.
    pub upstream: UpstreamSettings,
    /// How long a draining instance may finish what runs.
    pub drain_timeout: Duration,
    /// Instances from the config; their ids and addresses are unique.
    pub instances: Vec<StaticInstance>,
    /// Active health checks.
    pub health: Health,
    /// Passive health.
    pub outlier: Outlier,
    /// How long an instance that is new, or was away, takes until it gets its full share of the
    /// traffic; `None` gives it that at once.
    pub slow_start: Option<Duration>,
    /// How traffic is spread over zones.
    pub zones: Zones,
    /// The agent's orders; `Some` exactly when `provisioning` is.
    pub scaling: Option<Arc<Scaling>>,
    /// Where new instances come from.
    pub provisioning: Option<Provisioning>,
}

impl Pool {
    /// A pool of that name with every key at its default, and nothing in it.
    pub fn new(id: PoolId) -> Self {
        Self {
            id,
            balance: Balance::LeastRequest,
            affinity: Affinity::default(),
            max_in_flight: Limit::AtMost(200),
            queue: Queue::default(),
            timeouts: PoolTimeouts::default(),
            retry: Retry::default(),
            upstream: UpstreamSettings::default(),
            drain_timeout: Duration::from_secs(60),
            instances: Vec::new(),
            health: Health::default(),
            outlier: Outlier::default(),
            slow_start: Some(Duration::from_secs(30)),
            zones: Zones::default(),
            scaling: None,
            provisioning: None,
        }
    }
}
