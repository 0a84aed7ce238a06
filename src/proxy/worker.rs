//! A data-plane worker: one thread, one runtime, its own listening sockets, buffers, timers,
//! upstream connections and metric shards. What it shares with others is the snapshot, which it
//! only reads, and the counters that hang off instances and pools.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::{Clock, Entropy, Ms};
use crate::net::splice::Pipes;
use crate::proxy::accept::{self, Acceptor};
use crate::proxy::budget::RetryBudget;
use crate::proxy::buffer::Buffers;
use crate::proxy::snapshot::{PoolRef, PoolView, Snapshot, SnapshotRef};
use crate::proxy::timer::{TICK, Timers};
use crate::proxy::upstream::Upstreams;

/// What the daemon asks of a worker.
#[derive(Debug)]
pub enum Order {
    /// Accept connections on this address, for whichever listener the snapshot has there.
    Listen {
        /// The address as it is configured.
        address: SocketAddr,
        /// This worker's socket of the group.
        socket: std::net::TcpListener,
    },
    /// Empty the accept queue of this socket and close it; connections go on.
    Retire {
        /// The address it listens on.
        address: SocketAddr,
        /// Told when the socket is closed.
        done: oneshot::Sender<()>,
    },
    /// Stop accepting, let connections finish, and end; at the deadline, end anyway.
    Drain {
        /// The deadline.
        deadline: Ms,
    },
}

/// What a worker starts with.
#[derive(Debug)]
pub struct Start {
    /// Which worker it is, from 0.
    pub index: usize,
    /// The process' clock.
    pub clock: Clock,
    /// Where snapshots are published.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// Orders from the daemon; ends with [`Order::Drain`].
    pub orders: mpsc::Receiver<Order>,
    /// Told when an instance falls under suspicion.
    pub suspicions: Arc<watch::Sender<()>>,
    /// Seed for its picks.
    pub seed: u64,
}

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
    /// Pipes to splice through.
    pub pipes: Rc<Pipes>,
    /// Unused connections to instances.
    pub upstreams: Upstreams,
    /// Chance, for picks.
    pub entropy: RefCell<Entropy>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    current: RefCell<SnapshotRef>,
    pools: RefCell<HashMap<usize, PoolLocal>>,
    suspicions: Arc<watch::Sender<()>>,
    connections: Cell<usize>,
}

/// What a worker keeps for a pool from one snapshot to the next.
#[derive(Debug)]
pub struct PoolLocal {
    /// Where its round robin stands.
    pub cursor: usize,
    /// What may be spent on retries.
    pub budget: RetryBudget,
    /// What outlives the pool's snapshots, counted by this worker alone.
    pub shared: PoolRef,
}

impl Worker {
    fn new(start: &Start) -> Rc<Self> {
        let timers = Timers::new(start.clock);
        Rc::new(Self {
            index: start.index,
            clock: start.clock,
            upstreams: Upstreams::default(),
            buffers: Rc::default(),
            pipes: Rc::default(),
            entropy: RefCell::new(Entropy::seeded(start.seed)),
            current: RefCell::new(Rc::new(start.snapshots.load_full())),
            snapshots: Arc::clone(&start.snapshots),
            pools: RefCell::default(),
            suspicions: Arc::clone(&start.suspicions),
            connections: Cell::new(0),
            timers,
        })
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
            cursor: self.entropy.borrow_mut().below(1 << 16),
            budget: RetryBudget::new(self.timers.now()),
            shared: Rc::new(Arc::clone(&view.shared)),
        });
        work(local)
    }

    /// An instance fell under suspicion: the control plane is to probe it at once.
    pub fn ring_suspicion(&self) {
        self.suspicions.send_replace(());
    }

    /// Runs a connection as a task of its own, counted until it ends.
    pub fn spawn_connection(self: &Rc<Self>, connection: impl Future<Output = ()> + 'static) {
        self.connections.set(self.connections.get() + 1);
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            connection.await;
            worker.connections.set(worker.connections.get() - 1);
        });
    }
}

/// Runs a worker on the current thread until it was told to drain and is done.
///
/// # Errors
/// If the runtime cannot be made, or a socket cannot be registered with it.
pub fn run(start: Start) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())?;
    runtime.block_on(serve(start))
}

async fn serve(mut start: Start) -> std::io::Result<()> {
    let worker = Worker::new(&start);
    let ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    let mut acceptors: HashMap<SocketAddr, Acceptor> = HashMap::new();
    let deadline = loop {
        match start.orders.recv().await {
            Some(Order::Listen { address, socket }) => {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                acceptors.insert(address, accept::spawn(&worker, address, socket));
            }
            Some(Order::Retire { address, done }) => {
                if let Some(acceptor) = acceptors.remove(&address) {
                    acceptor.retire().await;
                }
                let _ = done.send(());
            }
            Some(Order::Drain { deadline }) => break deadline,
            // The daemon is gone: nobody will order anything any more.
            None => break worker.clock.now(),
        }
    };
    for (_, acceptor) in acceptors.drain() {
        acceptor.retire().await;
    }
    worker.timers.drain();
    while worker.connections.get() > 0 && worker.clock.now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    if worker.connections.get() > 0 {
        tracing::warn!(
            worker = worker.index,
            connections = worker.connections.get(),
            "drain deadline reached: connections are cut"
        );
    }
    ticking.abort();
    Ok(())
}

/// Moves the coarse clock, and once a second lets go of connections that nobody will use.
async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        ticks.tick().await;
        worker.timers.tick();
        count = count.wrapping_add(1);
        if count.is_multiple_of(10) {
            worker.upstreams.sweep(worker.timers.now(), &worker.snapshot());
        }
    }
}
