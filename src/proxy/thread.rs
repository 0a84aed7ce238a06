//! The life of a worker: a thread, a runtime, sockets that come and go by the daemon's orders, and a
//! drain at the end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::{Clock, Ms};
use crate::observe::AccessSink;
use crate::proxy::accept::{self, Acceptor};
use crate::proxy::snapshot::Snapshot;
use crate::proxy::spread::{Handed, Spread};
use crate::proxy::timer::TICK;
use crate::proxy::worker::Worker;

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
    /// Stop accepting, let connections finish, and end; at the deadline, end anyway. Said again, the
    /// earlier deadline holds.
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
    /// The ways to the other workers.
    pub spread: Spread,
    /// What other workers have accepted for this one.
    pub handed: mpsc::Receiver<Handed>,
    /// Told when an instance falls under suspicion.
    pub suspicions: Arc<watch::Sender<()>>,
    /// Its end of the access log.
    pub access: AccessSink,
    /// Seed for its picks.
    pub seed: u64,
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
    let Start { index, clock, snapshots, suspicions, access, seed, .. } = start;
    let worker = Worker::new(index, clock, snapshots, suspicions, access, seed);
    let ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    let mut acceptors: HashMap<SocketAddr, Acceptor> = HashMap::new();
    let mut deadline = loop {
        let order = tokio::select! {
            order = start.orders.recv() => order,
            Some(handed) = start.handed.recv() => {
                accept::take(&worker, handed);
                continue;
            }
        };
        match order {
            Some(Order::Listen { address, socket }) => {
                let socket = tokio::net::TcpListener::from_std(socket)?;
                acceptors.insert(address, accept::spawn(&worker, &start.spread, address, socket));
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
    start.handed.close();
    while let Some(handed) = start.handed.recv().await {
        accept::take(&worker, handed);
    }
    worker.timers.drain();
    while worker.connections() > 0 && worker.clock.now() < deadline {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
            Some(Order::Drain { deadline: sooner }) = start.orders.recv() => {
                deadline = deadline.min(sooner);
            }
        }
    }
    if worker.connections() > 0 {
        tracing::warn!(
            worker = worker.index,
            connections = worker.connections(),
            "drain deadline reached: connections are cut"
        );
    }
    ticking.abort();
    Ok(())
}

/// Moves the coarse clocks, and once a second lets go of connections that nobody will use.
async fn tick(worker: Rc<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        ticks.tick().await;
        worker.tick();
        count = count.wrapping_add(1);
        if count.is_multiple_of(10) {
            worker.sweep();
        }
    }
}
