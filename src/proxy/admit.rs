//! How many connections a listener has, in all and from each client, over all workers.
//!
//! The counts outlive snapshots: what a reload changes is the limits. In all is one atomic. By client
//! is a table in pieces, each with a lock of its own, in which only clients with open connections
//! have an entry; it is not touched where there is no limit for clients, nor for trusted peers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{Limit, TlsIdentity};
use crate::observe::{ListenerShard, RefuseReason};
use crate::proxy::guest::Guest;
use crate::proxy::snapshot::ListenerView;
use crate::proxy::worker::Worker;

/// Pieces of the table: workers rarely meet in one.
const PIECES: usize = 32;

/// The connections that are open at a listener.
#[derive(Debug, Default)]
pub struct Crowd {
    open: AtomicU32,
    /// Picks the piece; seeded, as the pieces are, so that no client can choose where it lands.
    hashing: RandomState,
    by_client: [Mutex<HashMap<Client, u32>>; PIECES],
}

/// Who counts as one client: whoever has an IPv6 address mostly has a whole network of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Client {
    V4(Ipv4Addr),
    /// The first 64 bits.
    V6(u64),
}

impl From<IpAddr> for Client {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6((ip.to_bits() >> 64) as u64),
        }
    }
}

impl Crowd {
    /// How many are open.
    pub fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    fn enter(&self, limit: Limit) -> bool {
        let limit = limit.as_u32();
        self.open.fetch_update(Relaxed, Relaxed, |open| (open < limit).then_some(open + 1)).is_ok()
    }

    fn leave(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    fn piece(&self, client: Client) -> MutexGuard<'_, HashMap<Client, u32>> {
        let index = self.hashing.hash_one(client) as usize % PIECES;
        self.by_client[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client_enters(&self, client: Client, limit: u32) -> bool {
        let mut piece = self.piece(client);
        let open = piece.entry(client).or_insert(0);
        let enters = *open < limit;
        *open += u32::from(enters);
        enters
    }

    fn client_leaves(&self, client: Client) {
        if let Entry::Occupied(mut entry) = self.piece(client).entry(client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// A client's connection while it is open: counted wherever connections are, until it is dropped.
#[derive(Debug)]
pub struct Visit {
    /// Who serves it.
    pub worker: Rc<Worker>,
    /// The listener as it was when the connection came.
    pub view: Arc<ListenerView>,
    /// The address that it was accepted on, by which the newest snapshot knows the listener.
    pub bound: SocketAddr,
    /// Whom it is for.
    pub guest: Guest,
    /// What the client has shown of itself, where it speaks TLS. Boxed, because most know nothing.
    pub identity: Option<Box<TlsIdentity>>,
    counted_as: Option<Client>,
}

impl Visit {
    /// Takes a place at the listener.
    ///
    /// # Errors
    /// If all are taken.
    pub fn begin(
        worker: &Rc<Worker>,
        view: Arc<ListenerView>,
        bound: SocketAddr,
        guest: Guest,
    ) -> Result<Self, RefuseReason> {
        if !view.crowd.enter(view.listener.limits.connections) {
            return Err(RefuseReason::Connections);
        }
        worker.connection_opened();
        view.meter.shards[worker.index].active.add(1);
        Ok(Self { worker: Rc::clone(worker), view, bound, guest, identity: None, counted_as: None })
    }

    /// Counts the connection as one of its client's, where those are limited and the client is not
    /// trusted.
    ///
    /// # Errors
    /// If the client has as many as it may.
    pub fn count_client(&mut self) -> Result<(), RefuseReason> {
        if let Limit::AtMost(limit) = self.view.listener.limits.connections_per_client
            && !self.guest.trusted
        {
            let client = Client::from(self.guest.client().ip());
            if !self.view.crowd.client_enters(client, limit) {
                return Err(RefuseReason::ConnectionsPerClient);
            }
            self.counted_as = Some(client);
        }
        Ok(())
    }

    /// What this worker counts for the listener.
    pub fn shard(&self) -> &ListenerShard {
        &self.view.meter.shards[self.worker.index]
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Some(client) = self.counted_as {
            self.view.crowd.client_leaves(client);
        }
        self.view.crowd.leave();
        self.shard().active.sub(1);
        self.worker.connection_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Listener;
    use crate::proxy::fixture;

    fn view(
        crowd: &Arc<Crowd>,
        connections: Limit,
        connections_per_client: Limit,
    ) -> Arc<ListenerView> {
        let mut listener = Listener {
            trusted: vec!["10.1.0.0/16".parse().expect("a network")],
            ..fixture::listener()
        };
        listener.limits.connections = connections;
        listener.limits.connections_per_client = connections_per_client;
        fixture::view(listener, crowd)
    }

    /// A visit of this client's.
    fn visit(
        worker: &Rc<Worker>,
        view: &Arc<ListenerView>,
        client: &str,
    ) -> Result<Visit, RefuseReason> {
        let ip: IpAddr = client.parse().expect("an address");
        let guest = Guest::new(SocketAddr::new(ip, 1), &view.listener);
        let bound = view.listener.bind[0];
        let mut visit = Visit::begin(worker, Arc::clone(view), bound, guest)?;
        visit.count_client().map(|()| visit)
    }

    fn entries(crowd: &Crowd) -> usize {
        crowd.by_client.iter().map(|piece| piece.lock().expect("whole").len()).sum()
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let (crowd, worker) = (Arc::default(), fixture::worker());
        let view = view(&crowd, Limit::AtMost(2), Limit::Unlimited);
        let one = visit(&worker, &view, "10.0.0.1").expect("a place");
        let _two = visit(&worker, &view, "10.0.0.1").expect("a place");
        let three = visit(&worker, &view, "10.0.0.1").expect_err("full");
        assert_eq!(three, RefuseReason::Connections);
        assert_eq!((view.meter.shards[0].active.get(), worker.connections()), (2, 2));
        drop(one);
        let _again = visit(&worker, &view, "10.0.0.1").expect("given back");
        assert_eq!(entries(&crowd), 0, "not touched without a limit");
    }

    #[test]
    fn clients_are_counted_by_address_or_network_and_forgotten() {
        let (crowd, worker) = (Arc::default(), fixture::worker());
        let view = view(&crowd, Limit::Unlimited, Limit::AtMost(2));
        let come = |client: &str| visit(&worker, &view, client);
        for (same, other) in [
            (["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"], "10.0.0.2"),
            (["2001:db8::1", "2001:db8::2:0:0:1", "2001:db8::ffff"], "2001:db8:0:1::1"),
        ] {
            let one = come(same[0]).expect("one");
            let two = come(same[1]).expect("two");
            assert_eq!(come(same[2]).expect_err("three"), RefuseReason::ConnectionsPerClient);
            let _other = come(other).expect("somebody else");
            assert_eq!(entries(&crowd), 2);
            drop(one);
            let three = come(same[2]).expect("given back");
            drop((two, three));
            assert_eq!(entries(&crowd), 1);
        }
        let trusted: Vec<_> = (0..9).map(|_| come("10.1.2.3").expect("not counted")).collect();
        assert_eq!(entries(&crowd), 0, "who has left is forgotten");
        drop(trusted);
        assert_eq!(crowd.open(), 0, "the refused ones gave theirs back too");
        assert_eq!(worker.connections(), 0);
    }

    #[test]
    fn a_reload_changes_the_limits_and_keeps_the_counts() {
        let (crowd, worker) = (Arc::default(), fixture::worker());
        let before = view(&crowd, Limit::AtMost(9), Limit::AtMost(9));
        let come = |view: &Arc<ListenerView>| visit(&worker, view, "10.0.0.1");
        let mut visits: Vec<Visit> = (0..3).map(|_| come(&before).expect("few")).collect();
        let after = view(&crowd, Limit::AtMost(3), Limit::AtMost(2));
        assert_eq!(come(&after).expect_err("three are open"), RefuseReason::Connections);
        visits.pop();
        let refused = come(&after).expect_err("two are open");
        assert_eq!(refused, RefuseReason::ConnectionsPerClient);
        visits.pop();
        visits.push(come(&after).expect("one is open"));
    }

    #[test]
    fn workers_that_come_and_go_at_once_leave_nothing_behind() {
        let crowd: Arc<Crowd> = Arc::default();
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let view = view(&crowd, Limit::AtMost(50), Limit::AtMost(20));
                std::thread::spawn(move || {
                    let (worker, mut open) = (fixture::worker(), Vec::new());
                    for n in 0..2_000 {
                        let client = format!("10.0.{}.{}", thread % 2, n % 3);
                        open.extend(visit(&worker, &view, &client).ok());
                        if open.len() > 10 {
                            open.swap_remove(n % 10);
                        }
                        assert!(view.crowd.open() <= 50);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("a thread");
        }
        assert_eq!((crowd.open(), entries(&crowd)), (0, 0));
    }
}
