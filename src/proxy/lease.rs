//! Getting a slot on an instance: by a pick or, if all are full or somebody waits already, in the hold
//! queue.

use std::rc::Rc;
use std::sync::Arc;

use crate::model::{Instance, Slot};
use crate::observe::{FailReason, PoolShard};
use crate::proxy::balance::Ask;
use crate::proxy::hold::Wish;
use crate::proxy::hold::handoff::{Joined, Turned};
use crate::proxy::hold::line::Claim;
use crate::proxy::patience::{GaveUp, Patience};
use crate::proxy::snapshot::{PoolAt, PoolRef, PoolView, Snapshot};
use crate::proxy::worker::Worker;

/// A slot on an instance. Given back, it goes to whoever waits for it.
#[derive(Debug)]
pub struct Lease {
    // Dropped in this order: first the slot is free, then the bell rings (see `hold::handoff`).
    slot: Slot,
    bell: Bell,
}

/// Does not hold on to the snapshot: a tunnel may outlive thousands of them.
#[derive(Debug)]
struct Bell {
    pool: PoolRef,
    /// The serial of the instance.
    source: u64,
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.pool.hold.freed(self.source);
    }
}

impl Lease {
    fn new(worker: &Worker, view: &PoolView, slot: Slot) -> Self {
        let source = slot.instance().vitals.serial;
        let pool = worker.with_pool(view, |local| Rc::clone(&local.shared));
        Self { slot, bell: Bell { pool, source } }
    }

    /// The instance that the slot is on.
    pub fn instance(&self) -> &Arc<Instance> {
        self.slot.instance()
    }

    /// What this worker counts for the pool that the slot was taken from.
    pub fn shard(&self, worker: &Worker) -> &PoolShard {
        &self.bell.pool.meter.shards[worker.index]
    }
}

/// Takes a slot of the pool, waiting for one if need be: behind those who wait already. A request that
/// has waited goes on with the newest snapshot. `claim` is what it is in the queue.
///
/// # Errors
/// Why there is none.
pub async fn acquire(
    worker: &Worker,
    at: &mut PoolAt,
    ask: &Ask<'_>,
    claim: Claim,
    patience: &Patience<'_>,
) -> Result<Lease, FailReason> {
    let view = at.view();
    if view.shared.hold.depth() == 0 {
        if let Some(lease) = pick(worker, view, ask) {
            return Ok(lease);
        }
        // Known without a look at the queue, which everyone shares.
        if let Some(turned) = view.is_in_vain(ask.tried) {
            return Err(reason(turned));
        }
    }
    let claim = Claim { picky: !ask.tried.is_empty(), ..claim };
    Box::pin(wait_for_one(worker, at, Wish::of(ask), claim, patience)).await
}

fn pick(worker: &Worker, view: &PoolView, ask: &Ask<'_>) -> Option<Lease> {
    let slot = worker.with_pool(view, |local| {
        view.picker.pick(ask, &mut local.cursor, &mut worker.entropy.borrow_mut())
    });
    slot.ok().map(|slot| Lease::new(worker, view, slot))
}

async fn wait_for_one(
    worker: &Worker,
    at: &mut PoolAt,
    wish: Wish,
    claim: Claim,
    patience: &Patience<'_>,
) -> Result<Lease, FailReason> {
    let shared = Arc::clone(&at.view().shared);
    let slot = match shared.hold.join(wish, claim).map_err(reason)? {
        Joined::Served(slot) => Ok(slot),
        Joined::Waits(place) => {
            let joined = worker.clock.elapsed();
            let deadline = patience.after(at.view().pool.queue.timeout);
            let waited = patience.wait_until(deadline, place).await;
            let took = worker.clock.elapsed().saturating_sub(joined);
            shared.meter.shards[worker.index].queue_wait.observe(took);
            match waited {
                Ok(called) => called.map_err(reason),
                Err(GaveUp::Unwanted) => Err(FailReason::ClientGone),
                Err(GaveUp::Overdue) => Err(FailReason::TotalTimeout),
                Err(_) => Err(FailReason::QueueTimeout),
            }
        }
    };
    let lease = Lease::new(worker, at.view(), slot?);
    let snapshot = worker.snapshot();
    // The pool may have left the config since.
    let index = Snapshot::pool_index(&snapshot.pools, &shared.id).ok_or(FailReason::NoInstance)?;
    *at = PoolAt { snapshot, index };
    Ok(lease)
}

fn reason(turned: Turned) -> FailReason {
    match turned {
        Turned::Full => FailReason::QueueFull,
        Turned::Empty => FailReason::NoInstance,
        Turned::AllTried => FailReason::Connect,
    }
}
