//! Connections to instances: made, kept while unused, and let go of. Per worker, so no lock.
//!
//! HTTP/1.1 uses a connection for one request at a time, and an unused one is kept here. Those of HTTP/2
//! are shared ([`http2`]).

pub mod http2;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use rustix::io::Errno;
use tokio::net::TcpStream;

use crate::base::Ms;
use crate::model::{Instance, Pool};
use crate::net::dial;
use crate::net::stream::Stream;
use crate::observe::FailReason;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::timer::Timer;
use crate::proxy::wire::proxy_protocol::{self, Ends};

/// A worker's unused connections, by the serial of their instance.
#[derive(Debug, Default)]
pub struct Upstreams {
    /// The last used at the end.
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    upstream: Upstream,
    since: Ms,
}

/// A connection to an instance.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: Stream,
    made: Ms,
    /// Requests whose responses were read to their end.
    served: u32,
}

impl Upstream {
    /// A connection that has just been made.
    pub fn new(stream: Stream, now: Ms) -> Self {
        Self { stream, made: now, served: 0 }
    }

    /// Whether it was kept from an earlier request: the instance may be closing it just now.
    pub fn is_reused(&self) -> bool {
        self.served > 0
    }

    fn is_too_old(&self, pool: &Pool, now: Ms) -> bool {
        now.since(self.made) >= pool.upstream.keep_alive.age
    }
}

impl Upstreams {
    /// A kept connection that nobody has closed and nothing arrived on, the last used first.
    pub fn take(&self, pool: &Pool, instance: &Instance, now: Ms) -> Option<Upstream> {
        if !keeps_any(pool) {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&instance.vitals.serial)?;
        while let Some(Idle { upstream, .. }) = kept.pop() {
            if !upstream.is_too_old(pool, now) && upstream.stream.is_quiet() {
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection whose last response was read to its end, as far as the pool keeps any.
    pub fn keep(&self, pool: &Pool, instance: &Instance, mut upstream: Upstream, now: Ms) {
        upstream.served += 1;
        let rule = pool.upstream.keep_alive;
        let is_spent = upstream.served >= rule.requests.as_u32() || upstream.is_too_old(pool, now);
        let vitals = &instance.vitals;
        if is_spent || vitals.is_closed() || vitals.is_down() || !keeps_any(pool) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(vitals.serial).or_default();
        if kept.len() < rule.max as usize {
            kept.push(Idle { upstream, since: now });
        }
    }

    /// Lets go of connections that are unused for too long, too old or too many, were closed, or lead
    /// to an instance that takes no traffic.
    pub fn sweep(&self, now: Ms, snapshot: &Snapshot) {
        self.idle.borrow_mut().retain(|serial, kept| {
            let pool = snapshot.pools.iter().find(|pool| pool.has_member(*serial));
            let Some(pool) = pool.map(|view| &view.pool).filter(|pool| keeps_any(pool)) else {
                return false;
            };
            kept.retain(|Idle { upstream, since }| {
                now.since(*since) < pool.timeouts.idle
                    && !upstream.is_too_old(pool, now)
                    && upstream.stream.is_quiet()
            });
            let surplus = kept.len().saturating_sub(pool.upstream.keep_alive.max as usize);
            kept.drain(..surplus);
            !kept.is_empty()
        });
    }
}

/// A connection that was introduced as one client's is of no use to another.
fn keeps_any(pool: &Pool) -> bool {
    pool.upstream.proxy_protocol.is_none()
}

/// Whether a connection failed for want of something on this machine (file descriptors, memory, free
/// ports), so that it says nothing about the instance.
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// How a connection that failed is counted.
pub fn reason(error: &io::Error) -> FailReason {
    match error.kind() {
        _ if is_shortage(error) => FailReason::Shortage,
        io::ErrorKind::TimedOut => FailReason::ConnectTimeout,
        _ => FailReason::Connect,
    }
}

/// Connects to the instance as its pool is configured, however long that takes.
///
/// # Errors
/// What the kernel says.
pub async fn dial(pool: &Pool, instance: &Instance) -> io::Result<TcpStream> {
    dial::connect(instance.address, pool.upstream.source, &pool.upstream.socket).await
}

/// The same, within the pool's limit.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub async fn connect(pool: &Pool, instance: &Instance, timer: &Timer) -> io::Result<TcpStream> {
    let dialed = timer.within(pool.timeouts.connect, dial(pool, instance)).await;
    dialed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Writes what every connection to the pool's instances begins with: who the client is, if the pool is
/// to be told by the PROXY protocol. Ends that are not known are not made up.
pub fn introduce(pool: &Pool, ends: impl FnOnce() -> Option<Ends>, out: &mut Vec<u8>) {
    if let Some(version) = pool.upstream.proxy_protocol {
        proxy_protocol::write(version, ends(), out);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::model::{KeepAlive, Limit, ProxyVersion, TrafficPlan};
    use crate::observe::PoolMeter;
    use crate::observe::metrics::fixture;
    use crate::proxy::snapshot::{PoolShared, PoolView};

    struct Fixture {
        listener: TcpListener,
        pool: Pool,
        instance: Arc<Instance>,
        upstreams: Upstreams,
    }

    impl Fixture {
        async fn new(keep_alive: KeepAlive) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
            let mut pool = fixture::pool("p");
            pool.upstream.keep_alive = keep_alive;
            let instance = Arc::new(Instance {
                id: "i".into(),
                pool: "p".into(),
                zone: "a".into(),
                address: listener.local_addr().expect("an address"),
                weight: 1,
                vitals: Arc::default(),
            });
            Self { listener, pool, instance, upstreams: Upstreams::default() }
        }

        /// A new connection; the instance's end of it.
        async fn made(&self, now: Ms) -> (Upstream, TcpStream) {
            let stream = TcpStream::connect(self.instance.address).await.expect("connected");
            let (peer, _) = self.listener.accept().await.expect("accepted");
            (Upstream::new(stream.into(), now), peer)
        }

        fn take(&self, now: Ms) -> Option<Upstream> {
            self.upstreams.take(&self.pool, &self.instance, now)
        }

        fn keep(&self, upstream: Upstream, now: Ms) {
            self.upstreams.keep(&self.pool, &self.instance, upstream, now);
        }

        fn sweep(&self, now: Ms) -> usize {
            let shared = PoolShared::new("p".into(), 0, Arc::new(PoolMeter::new(1)));
            let members = vec![(Arc::clone(&self.instance), true)];
            let pool = Arc::new(self.pool.clone());
            let view =
                PoolView::build(pool, members, &TrafficPlan::default(), false, Arc::new(shared));
            let snapshot = Snapshot { pools: vec![view], ..Snapshot::default() };
            self.upstreams.sweep(now, &snapshot);
            self.upstreams.idle.borrow().values().map(Vec::len).sum()
        }
    }

    fn rule(max: u32, age_s: u64, requests: u32) -> KeepAlive {
        let requests = Limit::AtMost(requests);
        KeepAlive { max, age: Duration::from_secs(age_s), requests }
    }

    #[tokio::test]
    async fn connections_serve_as_many_requests_as_they_may() {
        let f = Fixture::new(rule(9, 60, 3)).await;
        let (upstream, _peer) = f.made(Ms(0)).await;
        assert!(!upstream.is_reused());
        f.keep(upstream, Ms(0));
        for _ in 0..2 {
            let upstream = f.take(Ms(0)).expect("kept");
            assert!(upstream.is_reused());
            f.keep(upstream, Ms(0));
        }
        assert!(f.take(Ms(0)).is_none(), "the third was its last");
    }

    #[tokio::test]
    async fn no_connection_is_used_that_is_too_old() {
        let mut f = Fixture::new(rule(9, 60, 100)).await;
        f.pool.timeouts.idle = Duration::from_secs(3_600);
        let (upstream, _peer) = f.made(Ms(1_000)).await;
        f.keep(upstream, Ms(50_000));
        let upstream = f.take(Ms(60_999)).expect("young enough");
        f.keep(upstream, Ms(60_999));
        assert_eq!(f.sweep(Ms(60_999)), 1);
        assert!(f.take(Ms(61_000)).is_none(), "a minute after it was made, however often used");
        let (upstream, _peer) = f.made(Ms(0)).await;
        f.keep(upstream, Ms(60_000));
        assert_eq!(f.sweep(Ms(60_000)), 0, "not even kept");
    }

    #[tokio::test]
    async fn no_more_are_kept_than_may_be_also_after_a_reload() {
        let mut f = Fixture::new(rule(2, 60, 100)).await;
        let mut peers = Vec::new();
        for _ in 0..3 {
            let (upstream, peer) = f.made(Ms(0)).await;
            f.keep(upstream, Ms(0));
            peers.push(peer);
        }
        assert_eq!(f.sweep(Ms(0)), 2);
        f.pool.upstream.keep_alive.max = 1;
        assert_eq!(f.sweep(Ms(0)), 1);
        f.pool.upstream.proxy_protocol = Some(ProxyVersion::V2);
        assert!(f.take(Ms(0)).is_none(), "it was not introduced");
        assert_eq!(f.sweep(Ms(0)), 0);
        let (upstream, _peer) = f.made(Ms(0)).await;
        f.keep(upstream, Ms(0));
        assert_eq!(f.sweep(Ms(0)), 0, "one that was introduced is of no use to others");
        f.pool.upstream.proxy_protocol = None;
        f.pool.upstream.keep_alive.max = 0;
        let (upstream, _peer) = f.made(Ms(0)).await;
        f.keep(upstream, Ms(0));
        assert!(f.take(Ms(0)).is_none());
    }

    #[tokio::test]
    async fn what_idles_too_long_was_closed_or_spoke_unasked_is_let_go() {
        let f = Fixture::new(rule(9, 3_600, 100)).await;
        let (upstream, _peer) = f.made(Ms(0)).await;
        f.keep(upstream, Ms(0));
        let idle = f.pool.timeouts.idle;
        assert_eq!(f.sweep(Ms(0) + idle - Duration::from_millis(1)), 1);
        assert_eq!(f.sweep(Ms(0) + idle), 0);
        let (closed, peer) = f.made(Ms(0)).await;
        drop(peer);
        closed.stream.socket().readable().await.expect("told of the end");
        f.keep(closed, Ms(0));
        let (spoke, mut peer) = f.made(Ms(0)).await;
        peer.write_all(b"x").await.expect("sent");
        spoke.stream.socket().readable().await.expect("told of the byte");
        f.keep(spoke, Ms(0));
        assert!(f.take(Ms(0)).is_none());
    }
}
