//! The state of a data-plane worker: its own buffers, timers, upstream connections, and what it keeps
//! for each pool. What it shares with others is the snapshot, which it
//! only reads, and the counters that hang off instances and pools.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::base::clock::wall_seconds;
use crate::base::{Clock, Entropy};
use crate::net::splice::Pipes;
use crate::observe::AccessSink;
use crate::proxy::balance::Cursor;
use crate::proxy::budget::RetryBudget;
use crate::proxy::buffer::Buffers;
use crate::proxy::scratch::Scratches;
use crate::proxy::snapshot::{PoolRef, PoolView, Snapshot, SnapshotRef};
use crate::proxy::timer::Timers;
use crate::proxy::upstream::Upstreams;
use crate::proxy::upstream::http2::Http2Upstreams;
use crate::proxy::wire::date::{HttpDate, http_date};

/// The state of a worker, shared by its tasks.
#[derive(Debug)]
pub struct Worker {
    /// Which worker it is, from 0.
    pub index: usize,
    /// The process' clock.
    pub clock: Clock,
    /// Coarse timers.
    pub timers: Rc<Timers>,
    /// Read buffers.
    pub buffers: Rc<Buffers>,
    /// Memory for heads.
    pub scratches: Rc<Scratches>,
    /// Pipes to splice through.
    pub pipes: Rc<Pipes>,
    /// Unused connections to instances.
    pub upstreams: Upstreams,
    /// Shared connections to instances.
    pub http2: Http2Upstreams,
    /// Chance, for picks.
    pub entropy: RefCell<Entropy>,
    /// Its end of the access log.
    pub access: AccessSink,
    /// The time of day at the last tick, as heads carry it.
    pub date: Cell<HttpDate>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    current: RefCell<SnapshotRef>,
    pools: RefCell<HashMap<usize, PoolLocal>>,
    suspicions: Arc<watch::Sender<()>>,
    connections: Cell<usize>,
}

/// What a worker keeps for a pool from one snapshot to the next.
#[derive(Debug)]
pub struct PoolLocal {
    /// Where its picks stand.
    pub cursor: Cursor,
    /// What may be spent on retries.
    pub budget: RetryBudget,
    /// What outlives the pool's snapshots, counted by this worker alone.
    pub shared: PoolRef,
}

impl Worker {
    /// A worker with nothing to do yet.
    pub fn new(
        index: usize,
        clock: Clock,
        snapshots: Arc<ArcSwap<Snapshot>>,
        suspicions: Arc<watch::Sender<()>>,
        access: AccessSink,
        seed: u64,
    ) -> Rc<Self> {
        let timers = Timers::new(clock);
        Rc::new(Self {
            index,
            clock,
            upstreams: Upstreams::default(),
            http2: Http2Upstreams::new(Rc::clone(&timers), clock, index),
            buffers: Rc::default(),
            scratches: Rc::default(),
            pipes: Rc::default(),
            entropy: RefCell::new(Entropy::seeded(seed)),
            access,
            date: Cell::new(http_date(wall_seconds() as u64)),
            current: RefCell::new(Rc::new(snapshots.load_full())),
            snapshots,
            pools: RefCell::default(),
            suspicions,
            connections: Cell::new(0),
            timers,
        })
    }

    /// Moves the coarse clocks, and passes on what the access log has to tell. Called every
    /// [`crate::proxy::timer::TICK`].
    pub fn tick(&self) {
        self.access.flush();
        self.timers.tick();
        self.date.set(http_date(wall_seconds() as u64));
    }

    /// Lets go of what nobody will use. Called about once a second.
    pub fn sweep(&self) {
        let snapshot = self.snapshot();
        self.upstreams.sweep(self.timers.now(), &snapshot);
        self.http2.sweep(&snapshot);
        self.buffers.sweep();
        self.scratches.sweep();
        self.pipes.sweep();
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> SnapshotRef {
        let newest = self.snapshots.load();
        let mut current = self.current.borrow_mut();
        if !Arc::ptr_eq(&newest, &current) {
            *current = Rc::new(Arc::clone(&newest));
        }
        Rc::clone(&current)
    }

    /// Works on this worker's own state of a pool.
    pub fn with_pool<T>(&self, view: &PoolView, work: impl FnOnce(&mut PoolLocal) -> T) -> T {
        let mut pools = self.pools.borrow_mut();
        let local = pools.entry(view.shared.serial).or_insert_with(|| PoolLocal {
            // Workers start at different places, or they would all go round in step.
            cursor: Cursor::starting_at(self.entropy.borrow_mut().below(1 << 16)),
            budget: RetryBudget::new(self.timers.now(), view.shared.meter.shards.len()),
            shared: Rc::new(Arc::clone(&view.shared)),
        });
        work(local)
    }

    /// An instance fell under suspicion: the control plane is to probe it at once.
    pub fn ring_suspicion(&self) {
        self.suspicions.send_replace(());
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// A connection is open from now on, until [`Worker::connection_closed`].
    pub fn connection_opened(&self) {
        self.connections.set(self.connections.get() + 1);
    }

    /// A connection is gone.
    pub fn connection_closed(&self) {
        self.connections.set(self.connections.get() - 1);
    }
}
