//! How many connections a listener has, in all and from each client, over all workers.
//!
//! The counts outlive snapshots: what a reload changes is the limits. In all is one atomic. By client
//! is a table in pieces, each with a lock of its own, in which only clients with open connections
//! have an entry; it is not touched where there is no limit for clients, nor for trusted peers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Limit;
use crate::observe::{ListenerShard, RefuseReason};
use crate::proxy::snapshot::ListenerView;

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

/// An open connection's place at its listener; given back on drop.
#[derive(Debug)]
pub struct Place {
    /// The listener as it was when the connection came.
    pub view: Arc<ListenerView>,
    worker: usize,
    client: Option<Client>,
}

impl Place {
    /// Takes a place at the listener for a connection of this worker.
    ///
    /// # Errors
    /// If all are taken.
    pub fn take(view: Arc<ListenerView>, worker: usize) -> Result<Self, RefuseReason> {
        if !view.crowd.enter(view.listener.limits.connections) {
            return Err(RefuseReason::Connections);
        }
        view.meter.shards[worker].active.add(1);
        Ok(Self { view, worker, client: None })
    }

    /// Counts the connection as one of this client's, where those are limited.
    ///
    /// # Errors
    /// If the client has as many as it may.
    pub fn count_client(&mut self, ip: IpAddr) -> Result<(), RefuseReason> {
        if let Limit::AtMost(limit) = self.view.listener.limits.connections_per_client {
            let client = Client::from(ip);
            if !self.view.crowd.client_enters(client, limit) {
                return Err(RefuseReason::ConnectionsPerClient);
            }
            self.client = Some(client);
        }
        Ok(())
    }

    /// What this worker counts for the listener.
    pub fn shard(&self) -> &ListenerShard {
        &self.view.meter.shards[self.worker]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.view.crowd.client_leaves(client);
        }
        self.view.crowd.leave();
        self.shard().active.sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::fixture;

    fn view(
        crowd: &Arc<Crowd>,
        connections: Limit,
        connections_per_client: Limit,
    ) -> Arc<ListenerView> {
        let mut listener = fixture::listener();
        listener.limits.connections = connections;
        listener.limits.connections_per_client = connections_per_client;
        fixture::view(listener, crowd)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn entries(crowd: &Crowd) -> usize {
        crowd.by_client.iter().map(|piece| piece.lock().expect("whole").len()).sum()
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let crowd = Arc::default();
        let view = view(&crowd, Limit::AtMost(2), Limit::Unlimited);
        let take = || Place::take(Arc::clone(&view), 0);
        let one = take().expect("a place");
        let _two = take().expect("a place");
        assert_eq!(take().expect_err("full"), RefuseReason::Connections);
        assert_eq!(view.meter.shards[0].active.get(), 2);
        drop(one);
        let mut again = take().expect("given back");
        again.count_client(ip("10.0.0.1")).expect("no limit");
        assert_eq!(entries(&crowd), 0, "not touched without a limit");
    }

    #[test]
    fn clients_are_counted_by_address_or_network_and_forgotten() {
        let crowd = Arc::default();
        let view = view(&crowd, Limit::Unlimited, Limit::AtMost(2));
        let take = |client: &str| {
            let mut place = Place::take(Arc::clone(&view), 0).expect("a place");
            place.count_client(ip(client)).map(|()| place)
        };
        for (same, other) in [
            (["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.1"], "10.0.0.2"),
            (["2001:db8::1", "2001:db8::2:0:0:1", "2001:db8::ffff"], "2001:db8:0:1::1"),
        ] {
            let one = take(same[0]).expect("one");
            let two = take(same[1]).expect("two");
            assert_eq!(take(same[2]).expect_err("three"), RefuseReason::ConnectionsPerClient);
            let _other = take(other).expect("somebody else");
            assert_eq!(entries(&crowd), 2);
            drop(one);
            let three = take(same[2]).expect("given back");
            drop((two, three));
            assert_eq!(entries(&crowd), 1);
        }
        assert_eq!(entries(&crowd), 0, "who has left is forgotten");
        assert_eq!(crowd.open(), 0, "the refused ones gave theirs back too");
    }

    #[test]
    fn a_reload_changes_the_limits_and_keeps_the_counts() {
        let crowd = Arc::default();
        let before = view(&crowd, Limit::AtMost(9), Limit::AtMost(9));
        let mut places: Vec<Place> = (0..3)
            .map(|_| {
                let mut place = Place::take(Arc::clone(&before), 0).expect("a place");
                place.count_client(ip("10.0.0.1")).expect("few");
                place
            })
            .collect();
        let after = view(&crowd, Limit::AtMost(3), Limit::AtMost(2));
        let full = Place::take(Arc::clone(&after), 0);
        assert_eq!(full.expect_err("three are open"), RefuseReason::Connections);
        places.pop();
        let mut place = Place::take(after, 0).expect("a place");
        let many = place.count_client(ip("10.0.0.1"));
        assert_eq!(many.expect_err("two are open"), RefuseReason::ConnectionsPerClient);
    }

    #[test]
    fn workers_that_come_and_go_at_once_leave_nothing_behind() {
        let crowd: Arc<Crowd> = Arc::default();
        let threads: Vec<_> = (0..4u8)
            .map(|thread| {
                let view = view(&crowd, Limit::AtMost(50), Limit::AtMost(20));
                std::thread::spawn(move || {
                    let mut open = Vec::new();
                    for n in 0..2_000u32 {
                        if let Ok(mut place) = Place::take(Arc::clone(&view), 0)
                            && place.count_client([10, 0, thread % 2, n as u8 % 3].into()).is_ok()
                        {
                            open.push(place);
                        }
                        if open.len() > 10 {
                            open.swap_remove(n as usize % 10);
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
