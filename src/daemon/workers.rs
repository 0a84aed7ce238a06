//! The data-plane threads and the orders they are given.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::{Clock, Ms};
use crate::net::bind::listen_group;
use crate::observe::AccessLog;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::spread::Spread;
use crate::proxy::thread::{self, Order, Start};

/// Orders that may wait for a busy worker; a reload sends two per listener.
const ORDERS_MAX: usize = 1024;

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    orders: Vec<mpsc::Sender<Order>>,
    /// Each worker sends once, when it has ended.
    ended: mpsc::Receiver<std::io::Result<()>>,
}

/// Sockets that are bound and not yet handed to the workers: dropping it gives them up.
#[derive(Debug, Default)]
pub struct Bound {
    groups: Vec<(SocketAddr, Vec<TcpListener>)>,
}

impl Bound {
    /// Binds each of these addresses, one socket per worker.
    ///
    /// # Errors
    /// Every address that could not be bound, and what to do about it.
    pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Self, Vec<String>> {
        let mut groups = Vec::new();
        let mut errors = Vec::new();
        for address in addresses {
            match listen_group(*address, workers) {
                Ok(group) => groups.push((*address, group)),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() { Ok(Self { groups }) } else { Err(errors) }
    }
}

impl Workers {
    /// Starts `count` workers. They accept nothing until they are given sockets.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(
        count: usize,
        clock: Clock,
        snapshots: &Arc<ArcSwap<Snapshot>>,
        suspicions: &Arc<watch::Sender<()>>,
        access: &AccessLog,
        seed: u64,
    ) -> std::io::Result<Self> {
        let (ended_sender, ended) = mpsc::channel(count);
        let mut orders = Vec::new();
        let (spread, handed) = Spread::new(count);
        for (index, handed) in handed.into_iter().enumerate() {
            let (sender, receiver) = mpsc::channel(ORDERS_MAX);
            let start = Start {
                index,
                clock,
                snapshots: Arc::clone(snapshots),
                orders: receiver,
                spread: spread.clone(),
                handed,
                suspicions: Arc::clone(suspicions),
                access: access.sink(),
                seed: seed.wrapping_add(index as u64),
            };
            let ended = ended_sender.clone();
            std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || drop(ended.blocking_send(thread::run(start))))?;
            orders.push(sender);
        }
        Ok(Self { orders, ended })
    }

    /// Hands sockets to the workers.
    pub async fn listen(&self, bound: Bound) {
        for (address, group) in bound.groups {
            for (orders, socket) in self.orders.iter().zip(group) {
                let _ = orders.send(Order::Listen { address, socket }).await;
            }
        }
    }

    /// Has the sockets of these addresses emptied and closed, and waits until they are: what was in
    /// their queues still finds its listener in the snapshot.
    pub async fn retire(&self, addresses: &[SocketAddr]) {
        let mut closing = Vec::new();
        for address in addresses {
            for orders in &self.orders {
                let (done, closed) = oneshot::channel();
                let _ = orders.send(Order::Retire { address: *address, done }).await;
                closing.push(closed);
            }
        }
        for closed in closing {
            let _ = closed.await;
        }
    }

    /// Has the workers finish what they do until `deadline`, and end.
    pub async fn drain(&self, deadline: Ms) {
        for orders in &self.orders {
            let _ = orders.send(Order::Drain { deadline }).await;
        }
    }

    /// Waits until a worker has ended; why, if it was a failure. `None` once all have.
    pub async fn ended(&mut self) -> Option<std::io::Result<()>> {
        self.ended.recv().await
    }
}
