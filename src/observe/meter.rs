//! Counters of the data plane: one shard per worker, written by that worker alone.
//!
//! A shard's cell is a relaxed load and store, not a locked add: only its worker writes it, and a
//! scrape that reads a value one request old is fine. Meters are kept for as long as the daemon
//! lives, also when their pool or listener leaves the config, so no counter ever goes down.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::model::Totals;

/// A number that one thread writes and any thread reads.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    /// Adds `n`. Only the thread that owns the shard may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` off (for gauges). Only the thread that owns the shard may call this.
    pub fn sub(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_sub(n), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Counts the bytes of one connection in one direction: among those of its listener, and by themselves.
#[derive(Clone, Copy, Debug)]
pub struct Odometer<'a> {
    /// What the worker counts for the listener.
    pub listener: &'a Tally,
    /// What is counted of this connection, or of one exchange on it.
    pub trip: &'a Cell<u64>,
}

impl Odometer<'_> {
    /// So many bytes have moved.
    pub fn add(self, bytes: u64) {
        self.listener.add(bytes);
        self.trip.set(self.trip.get() + bytes);
    }
}

/// Upper bounds of the latency buckets, in seconds; above the last is `+Inf`.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A latency histogram with [`LATENCY_BOUNDS`].
#[derive(Debug, Default)]
pub struct Latency {
    /// Counts per bucket (not cumulative); the last is above all bounds.
    pub buckets: [Tally; LATENCY_BOUNDS.len() + 1],
    /// Sum of all values, in nanoseconds.
    pub sum_ns: Tally,
}

impl Latency {
    /// Adds one value.
    pub fn observe(&self, value: Duration) {
        let seconds = value.as_secs_f64();
        let bucket = LATENCY_BOUNDS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].add(1);
        self.sum_ns.add(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Why a request was tried on another instance (or on a fresh connection).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetryReason {
    /// The connection was refused, reset or timed out before anything was sent.
    Connect,
    /// A kept connection was closed by the instance just as it was used again.
    Stale,
    /// The instance said that it takes no more now, and has not looked at the request.
    Refused,
    /// The connection broke after the request was sent and before a byte came back.
    Reset,
    /// The instance went down while the request waited for it.
    Condemned,
    /// The instance took longer than one try may.
    Timeout,
}

impl RetryReason {
    /// All of them, in the order of [`PoolShard::retries`].
    pub const ALL: [Self; 6] =
        [Self::Connect, Self::Stale, Self::Refused, Self::Reset, Self::Condemned, Self::Timeout];

    /// The word for the `reason` label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Stale => "stale",
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::Condemned => "condemned",
            Self::Timeout => "timeout",
        }
    }
}

/// Why tidegate itself answered (or cut) a request, or could not finish one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailReason {
    /// No instance could take it, and it could not wait.
    NoInstance,
    /// The hold queue was full.
    QueueFull,
    /// It waited in the hold queue for too long.
    QueueTimeout,
    /// No instance accepted a connection.
    Connect,
    /// No connection to an instance stood in time.
    ConnectTimeout,
    /// This machine has no file descriptors, ports or memory left for a connection.
    Shortage,
    /// The instance broke the connection before the response head was whole.
    Reset,
    /// The instance sent no response head in time.
    ResponseTimeout,
    /// The request cannot be said in the version of HTTP that the instance speaks.
    Unsendable,
    /// The instance sent something that is no valid response.
    BadResponse,
    /// The response broke off in the middle of its body.
    CutResponse,
    /// The instance said nothing for too long in the middle of a response's body.
    StalledResponse,
    /// The client's body is no valid chunked coding.
    BadBody,
    /// The client broke off.
    ClientGone,
    /// The client stopped sending or reading in the middle of a message.
    ClientTimeout,
    /// The client sent or read a body more slowly than it must.
    ClientTooSlow,
    /// The client's body turned out to be larger than it may be.
    BodyTooLarge,
    /// The exchange as a whole took too long.
    TotalTimeout,
    /// The instance broke a tunnel: a TCP connection, or one that was switched to another protocol.
    CutTunnel,
    /// Nothing moved in a tunnel for too long, in either direction.
    TunnelTimeout,
}

impl FailReason {
    /// All of them, in the order of [`PoolShard::failures`].
    pub const ALL: [Self; 20] = [
        Self::NoInstance,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Connect,
        Self::ConnectTimeout,
        Self::Shortage,
        Self::Reset,
        Self::ResponseTimeout,
        Self::Unsendable,
        Self::BadResponse,
        Self::CutResponse,
        Self::StalledResponse,
        Self::BadBody,
        Self::ClientGone,
        Self::ClientTimeout,
        Self::ClientTooSlow,
        Self::BodyTooLarge,
        Self::TotalTimeout,
        Self::CutTunnel,
        Self::TunnelTimeout,
    ];

    /// The word for the `reason` label.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoInstance => "no_instance",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Shortage => "shortage",
            Self::Reset => "reset",
            Self::ResponseTimeout => "response_timeout",
            Self::Unsendable => "unsendable",
            Self::BadResponse => "bad_response",
            Self::CutResponse => "cut_response",
            Self::StalledResponse => "stalled_response",
            Self::BadBody => "bad_body",
            Self::ClientGone => "client_gone",
            Self::ClientTimeout => "client_timeout",
            Self::ClientTooSlow => "client_too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::TotalTimeout => "total_timeout",
            Self::CutTunnel => "cut_tunnel",
            Self::TunnelTimeout => "tunnel_timeout",
        }
    }

    /// Whether it failed only for lack of capacity: load that was shed, and that more instances would
    /// have carried.
    pub fn is_shed(self) -> bool {
        matches!(self, Self::NoInstance | Self::QueueFull | Self::QueueTimeout)
    }
}

/// What one worker counts for one pool.
#[derive(Debug)]
#[repr(align(128))]
pub struct PoolShard {
    /// Requests (or TCP connections) that arrived for the pool, whatever became of them.
    pub offered: Tally,
    /// Requests that an instance answered; TCP connections that reached one.
    pub completed: Tally,
    /// Requests that nothing could take.
    pub shed: Tally,
    /// Responses sent to clients by status code; index is the code less 100.
    pub codes: Box<[Tally; 500]>,
    /// From the end of the request head to the end of the response.
    pub duration: Latency,
    /// Time to connect to an instance.
    pub connect: Latency,
    /// Time in the hold queue, of those that waited.
    pub queue_wait: Latency,
    /// By [`RetryReason`].
    pub retries: [Tally; RetryReason::ALL.len()],
    /// By [`FailReason`].
    pub failures: [Tally; FailReason::ALL.len()],
}

impl Default for PoolShard {
    fn default() -> Self {
        Self {
            offered: Tally::default(),
            completed: Tally::default(),
            shed: Tally::default(),
            codes: Box::new(std::array::from_fn(|_| Tally::default())),
            duration: Latency::default(),
            connect: Latency::default(),
            queue_wait: Latency::default(),
            retries: Default::default(),
            failures: Default::default(),
        }
    }
}

impl PoolShard {
    /// A response with this status went to a client.
    pub fn count_code(&self, status: u16) {
        if let Some(tally) = self.codes.get(usize::from(status).wrapping_sub(100)) {
            tally.add(1);
        }
    }

    /// A request is tried again.
    pub fn count_retry(&self, reason: RetryReason) {
        self.retries[reason as usize].add(1);
    }

    /// A request (or TCP connection) could not be served as asked.
    pub fn count_failure(&self, reason: FailReason) {
        self.failures[reason as usize].add(1);
        if reason.is_shed() {
            self.shed.add(1);
        }
    }
}

/// A pool's counters, one shard per worker.
#[derive(Debug)]
pub struct PoolMeter {
    /// Indexed by worker.
    pub shards: Box<[PoolShard]>,
}

impl PoolMeter {
    /// Zeroed counters for this many workers.
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers).map(|_| PoolShard::default()).collect() }
    }

    /// The totals over all workers.
    pub fn totals(&self) -> Totals {
        let sum = |get: fn(&PoolShard) -> &Tally| self.shards.iter().map(|s| get(s).get()).sum();
        Totals {
            offered: sum(|s| &s.offered),
            completed: sum(|s| &s.completed),
            shed: sum(|s| &s.shed),
        }
    }
}

/// Why a client's message was refused before any pool saw it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefuseReason {
    /// The head breaks the grammar, or its framing is ambiguous.
    Malformed,
    /// The head is too large, or has too many fields.
    HeadTooLarge,
    /// The request target is too long.
    TargetTooLong,
    /// The body is announced to be too large.
    BodyTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// A method, version, expectation or transfer coding that is not served here.
    Unsupported,
    /// No route matched and the listener has no pool of its own.
    NoRoute,
    /// The listener has as many connections as it may.
    Connections,
    /// The client has as many connections as it may.
    ConnectionsPerClient,
    /// The connection should begin with a PROXY protocol header and does not, or with a broken one, or
    /// it comes from a peer that is not trusted.
    ProxyHeader,
}

impl RefuseReason {
    /// All of them, in the order of [`ListenerShard::refused`].
    pub const ALL: [Self; 10] = [
        Self::Malformed,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::BodyTooLarge,
        Self::HeadTimeout,
        Self::Unsupported,
        Self::NoRoute,
        Self::Connections,
        Self::ConnectionsPerClient,
        Self::ProxyHeader,
    ];

    /// The word for the `reason` label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::Unsupported => "unsupported",
            Self::NoRoute => "no_route",
            Self::Connections => "connections",
            Self::ConnectionsPerClient => "connections_per_client",
            Self::ProxyHeader => "proxy_header",
        }
    }
}

/// How a TLS handshake with a client ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Handshake {
    /// A new session.
    Full,
    /// A session that a ticket brought back: no certificate was shown or signed for.
    Resumed,
    /// The client speaks no version that the listener does.
    Version,
    /// They have no suite, group or signature scheme in common.
    Cipher,
    /// The client wants an application protocol, and none that the listener has (ALPN).
    Protocol,
    /// The client does not like the listener's certificate, or says it does not know who signed it.
    Certificate,
    /// The client had to show a certificate, and has none.
    ClientCertificateMissing,
    /// The client's certificate is not good.
    ClientCertificateBad,
    /// The client ended the connection, or said that it gives up.
    ClientGone,
    /// It took too long.
    Timeout,
    /// What the client sent is no TLS.
    NotTls,
    /// The client breaks the protocol.
    Broken,
    /// This side could not go on.
    Internal,
}

impl Handshake {
    /// All of them, in the order of [`ListenerShard::handshakes`].
    pub const ALL: [Self; 13] = [
        Self::Full,
        Self::Resumed,
        Self::Version,
        Self::Cipher,
        Self::Protocol,
        Self::Certificate,
        Self::ClientCertificateMissing,
        Self::ClientCertificateBad,
        Self::ClientGone,
        Self::Timeout,
        Self::NotTls,
        Self::Broken,
        Self::Internal,
    ];

    /// The word for the `outcome` label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "ok_full",
            Self::Resumed => "ok_resumed",
            Self::Version => "no_shared_version",
            Self::Cipher => "no_shared_cipher",
            Self::Protocol => "no_shared_protocol",
            Self::Certificate => "bad_certificate",
            Self::ClientCertificateMissing => "client_certificate_missing",
            Self::ClientCertificateBad => "client_certificate_bad",
            Self::ClientGone => "client_gone",
            Self::Timeout => "timeout",
            Self::NotTls => "not_tls",
            Self::Broken => "broken",
            Self::Internal => "internal",
        }
    }
}

/// How a route answers in an instance's stead.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnswerKind {
    /// It sends the client elsewhere.
    Redirect,
    /// It says what is in the config.
    Respond,
}

impl AnswerKind {
    /// All of them, in the order of [`ListenerShard::answered`].
    pub const ALL: [Self; 2] = [Self::Redirect, Self::Respond];

    /// The word for the `kind` label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Redirect => "redirect",
            Self::Respond => "respond",
        }
    }
}

/// What a client's HTTP/2 connection was closed for having too much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloodKind {
    /// Streams that the client reset.
    Reset,
    /// Streams that the client reset before they were answered.
    AbusiveReset,
    /// PING frames.
    Ping,
    /// SETTINGS frames.
    Settings,
    /// DATA frames with nothing in them.
    EmptyData,
    /// WINDOW_UPDATE frames of the connection.
    ConnectionWindow,
    /// WINDOW_UPDATE frames of streams.
    StreamWindow,
    /// CONTINUATION frames of one head.
    Continuation,
    /// Frames that have no use: PRIORITY, unknown ones, answers to nothing.
    Glitch,
    /// What the HTTP/2 engine itself allows a client to do wrong: errors that make it reset streams, tiny
    /// DATA frames, huge heads.
    Engine,
}

impl FloodKind {
    /// All of them, in the order of [`ListenerShard::floods`].
    pub const ALL: [Self; 10] = [
        Self::Reset,
        Self::AbusiveReset,
        Self::Ping,
        Self::Settings,
        Self::EmptyData,
        Self::ConnectionWindow,
        Self::StreamWindow,
        Self::Continuation,
        Self::Glitch,
        Self::Engine,
    ];

    /// The word for the `kind` label.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::AbusiveReset => "abusive_reset",
            Self::Ping => "ping",
            Self::Settings => "settings",
            Self::EmptyData => "empty_data",
            Self::ConnectionWindow => "connection_window",
            Self::StreamWindow => "stream_window",
            Self::Continuation => "continuation",
            Self::Glitch => "glitch",
            Self::Engine => "engine",
        }
    }
}

/// What one worker counts for one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ListenerShard {
    /// Connections accepted.
    pub accepted: Tally,
    /// Connections open now.
    pub active: Tally,
    /// Bytes from clients.
    pub bytes_in: Tally,
    /// Bytes to clients.
    pub bytes_out: Tally,
    /// By [`RefuseReason`].
    pub refused: [Tally; RefuseReason::ALL.len()],
    /// By [`AnswerKind`].
    pub answered: [Tally; AnswerKind::ALL.len()],
    /// By [`FloodKind`].
    pub floods: [Tally; FloodKind::ALL.len()],
    /// By [`Handshake`].
    pub handshakes: [Tally; Handshake::ALL.len()],
}

impl ListenerShard {
    /// A TLS handshake ended.
    pub fn count_handshake(&self, outcome: Handshake) {
        self.handshakes[outcome as usize].add(1);
    }

    /// A message was refused.
    pub fn count_refusal(&self, reason: RefuseReason) {
        self.refused[reason as usize].add(1);
    }

    /// A route answered a request by itself.
    pub fn count_answer(&self, kind: AnswerKind) {
        self.answered[kind as usize].add(1);
    }

    /// A connection was closed because of a flood.
    pub fn count_flood(&self, kind: FloodKind) {
        self.floods[kind as usize].add(1);
    }
}

/// A listener's counters, one shard per worker.
#[derive(Debug)]
pub struct ListenerMeter {
    /// Indexed by worker.
    pub shards: Box<[ListenerShard]>,
}

impl ListenerMeter {
    /// Zeroed counters for this many workers.
    pub fn new(workers: usize) -> Self {
        Self { shards: (0..workers).map(|_| ListenerShard::default()).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_land_in_the_bucket_whose_bound_holds_them() {
        let latency = Latency::default();
        for ms in [0u64, 1, 2, 10_000, 10_001] {
            latency.observe(Duration::from_millis(ms));
        }
        let counts: Vec<u64> = latency.buckets.iter().map(Tally::get).collect();
        assert_eq!(counts[0], 1, "0 ms is within 0.5 ms");
        assert_eq!(counts[1], 1, "1 ms is within 1 ms");
        assert_eq!(counts[2], 1, "2 ms is within 2.5 ms");
        assert_eq!(counts[13], 1, "10 s is within 10 s");
        assert_eq!(counts[14], 1, "10.001 s is above all bounds");
        assert_eq!(latency.sum_ns.get(), 20_004_000_000);
    }

    #[test]
    fn reasons_index_their_own_tally() {
        for (index, reason) in RetryReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, reason) in FailReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, reason) in RefuseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
        for (index, outcome) in Handshake::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
        for (index, kind) in AnswerKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        for (index, kind) in FloodKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn totals_sum_all_workers() {
        let meter = PoolMeter::new(2);
        meter.shards[0].offered.add(3);
        meter.shards[1].offered.add(4);
        meter.shards[1].count_code(204);
        meter.shards[1].count_code(99);
        assert_eq!(meter.totals(), Totals { offered: 7, completed: 0, shed: 0 });
        assert_eq!(meter.shards[1].codes[104].get(), 1);
    }
}
