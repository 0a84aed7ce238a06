//! What a request sees of the world: routes, pools, pickers. Immutable; a request loads one and
//! uses it to its last retry. Only the steward makes new ones.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Ms, PoolId};
use crate::model::{Balance, Instance, Listener, Pool, TrafficPlan};
use crate::net::tls::{ClientTls, ServerTls};
use crate::observe::{ListenerMeter, PoolMeter};
use crate::proxy::admit::Crowd;
use crate::proxy::balance::{Memory, Picker};
use crate::proxy::hold::handoff::Turned;
use crate::proxy::hold::{PoolHold, Slots};
use crate::proxy::route::RouteTable;

/// All listeners and pools at one moment.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Rises with each publication.
    pub generation: u64,
    /// In the order of the config.
    pub listeners: Vec<Arc<ListenerView>>,
    /// In the order of their names; routes refer to them by index.
    pub pools: Vec<PoolView>,
}

/// A snapshot in use by a worker. The count that a request takes part in is the worker's own, so that
/// workers do not write to one cache line for each request.
pub type SnapshotRef = Rc<Arc<Snapshot>>;

/// What outlives the snapshots of a pool, counted in the same way.
pub type PoolRef = Rc<Arc<PoolShared>>;

/// A pool in a snapshot. A request that waits moves on to the pool in a newer one.
#[derive(Clone, Debug)]
pub struct PoolAt {
    /// The snapshot.
    pub snapshot: SnapshotRef,
    /// Where the pool is in it.
    pub index: usize,
}

impl PoolAt {
    /// The pool.
    pub fn view(&self) -> &PoolView {
        &self.snapshot.pools[self.index]
    }
}

/// A listener with its routes.
#[derive(Debug)]
pub struct ListenerView {
    /// How it is configured.
    pub listener: Listener,
    /// Its routes.
    pub routes: RouteTable,
    /// Where traffic goes that no route matches.
    pub default_pool: Option<usize>,
    /// Its counters.
    pub meter: Arc<ListenerMeter>,
    /// Its connections; outlives the snapshot, as the counters do.
    pub crowd: Arc<Crowd>,
    /// What it shows clients; `Some` exactly when its protocol has TLS.
    pub tls: Option<Arc<ServerTls>>,
}

/// What outlives the snapshots of a pool: kept by name for as long as the daemon lives.
#[derive(Debug)]
pub struct PoolShared {
    /// Its name.
    pub id: PoolId,
    /// A small number that no other pool ever has: a key for per-worker tables.
    pub serial: usize,
    /// Who waits.
    pub hold: PoolHold,
    /// What its pickers are built from.
    pub memory: Memory,
    /// Its counters.
    pub meter: Arc<PoolMeter>,
}

/// A pool with whom it can pick.
#[derive(Debug)]
pub struct PoolView {
    /// How it is configured.
    pub pool: Arc<Pool>,
    /// Who is eligible.
    pub picker: Picker,
    /// Everyone that has an address, eligible or not, by serial: who else answers, and whose
    /// connections are worth keeping.
    pub members: Vec<Arc<Instance>>,
    /// Those of them that get traffic, by serial too.
    admitted: Vec<Arc<Instance>>,
    /// Something may become eligible by itself (a launch, a first probe): waiting makes sense even
    /// while nothing is.
    pub hopeful: bool,
    /// What outlives the snapshot.
    pub shared: Arc<PoolShared>,
    /// How its instances are spoken to by TLS; `Some` exactly when they are.
    pub tls: Option<Arc<ClientTls>>,
}

impl PoolShared {
    /// Of a pool for which nobody waits yet. `serial` is one that no other pool has.
    pub fn new(id: PoolId, serial: usize, meter: Arc<PoolMeter>) -> Self {
        let hold = PoolHold::new(Slots::new(Clock::start(), serial as u64));
        Self { id, serial, hold, memory: Memory::default(), meter }
    }

    /// Serves those who wait by the newest snapshot, and tells those who wait in vain.
    pub fn show(&self, newest: &Arc<Snapshot>) {
        let index = Snapshot::pool_index(&newest.pools, &self.id);
        drop(self.hold.change(|slots| slots.show(newest, index)));
    }
}

impl Snapshot {
    /// The listener that is bound to `address`. Sockets are known by their address and not by the
    /// name of their listener, so a reload may rename a listener or change what it speaks without
    /// touching its sockets.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<ListenerView>> {
        self.listeners.iter().find(|view| view.listener.bind.contains(&address))
    }

    /// The index of the pool of that name.
    pub fn pool_index(pools: &[PoolView], id: &PoolId) -> Option<usize> {
        pools.iter().position(|view| view.pool.id == *id)
    }
}

impl PoolView {
    /// A pool whose `members` are paired with whether they are admitted, with the plan of where its
    /// requests go; without TLS.
    pub fn build(
        pool: Arc<Pool>,
        members: Vec<(Arc<Instance>, bool)>,
        plan: &TrafficPlan,
        hopeful: bool,
        shared: Arc<PoolShared>,
    ) -> Self {
        let picker = Picker::build(&pool, plan, &members, &shared.memory);
        let mut admitted: Vec<Arc<Instance>> =
            members.iter().filter(|(_, admitted)| *admitted).map(|(m, _)| Arc::clone(m)).collect();
        let mut members: Vec<Arc<Instance>> = members.into_iter().map(|(m, _)| m).collect();
        members.sort_by_key(|member| member.vitals.serial);
        admitted.sort_by_key(|member| member.vitals.serial);
        Self { pool, picker, members, admitted, hopeful, shared, tls: None }
    }

    /// The same with instances that are spoken to like this.
    pub fn with_tls(self, tls: Option<Arc<ClientTls>>) -> Self {
        Self { tls, ..self }
    }

    /// The instance with that serial, if it gets traffic.
    pub fn admitted(&self, serial: u64) -> Option<&Arc<Instance>> {
        let found = self.admitted.binary_search_by_key(&serial, |member| member.vitals.serial);
        found.ok().map(|index| &self.admitted[index])
    }

    /// Why it makes no sense to wait for an instance that was not `tried`: there is none, and nothing
    /// changes that by itself.
    pub fn is_in_vain(&self, tried: &[u64]) -> Option<Turned> {
        // As soon as there are more than were tried, one of them was not.
        let none_left = self.admitted.len() <= tried.len()
            && self.admitted.iter().all(|member| tried.contains(&member.vitals.serial));
        match none_left && !self.hopeful {
            true if self.admitted.is_empty() => Some(Turned::Empty),
            true => Some(Turned::AllTried),
            false => None,
        }
    }

    /// An instance took so long to answer, or cost as much; noted where the algorithm asks for it.
    pub fn learn(&self, instance: &Instance, now: Ms, cost: impl FnOnce() -> Duration) {
        if self.pool.balance == Balance::PeakEwma {
            instance.vitals.cost.record(now, cost());
        }
    }

    /// Whether an instance with that serial is (still) part of the pool.
    pub fn has_member(&self, serial: u64) -> bool {
        self.members.binary_search_by_key(&serial, |member| member.vitals.serial).is_ok()
    }
}
