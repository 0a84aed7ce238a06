//! Getting a slot on an instance: by a pick, or by waiting in the hold queue until one is free.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use crate::model::{Instance, Slot};
use crate::observe::{Account, FailReason, PoolShard};
use crate::proxy::balance::{Ask, Picked, Refusal, Why};
use crate::proxy::patience::{GaveUp, Patience};
use crate::proxy::snapshot::{PoolAt, PoolRef, PoolView, Snapshot};
use crate::proxy::worker::Worker;

/// A slot on an instance. Giving it back wakes whoever waits longest.
#[derive(Debug)]
pub struct Lease {
    // Dropped in this order: first the slot is free, then the bell rings (see `hold`).
    slot: Slot,
    bell: Bell,
    why: Why,
}

/// Does not hold on to the snapshot: a tunnel may outlive thousands of them.
#[derive(Debug)]
struct Bell(PoolRef);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.hold.slot_freed();
    }
}

impl Lease {
    /// The instance that the slot is on.
    pub fn instance(&self) -> &Arc<Instance> {
        self.slot.instance()
    }

    /// Why it is on that instance.
    pub fn why(&self) -> Why {
        self.why
    }

    /// What this worker counts for the pool that the slot was taken from.
    pub fn shard(&self, worker: &Worker) -> &PoolShard {
        &self.bell.0.meter.shards[worker.index]
    }
}

/// Takes a slot of the pool, waiting for one if need be. A request that has waited goes on with the
/// newest snapshot.
///
/// # Errors
/// Why there is none.
pub async fn acquire(
    worker: &Worker,
    at: &mut PoolAt,
    ask: &Ask<'_>,
    patience: &Patience<'_>,
    account: &mut Account,
) -> Result<Lease, FailReason> {
    let lease = match pick(worker, at, ask) {
        Ok(lease) => lease,
        Err(refusal) => {
            can_wait(at.view(), refusal)?;
            Box::pin(wait_for_one(worker, at, ask, patience, account)).await?
        }
    };
    if account.is_on() {
        account.picked(lease.instance(), why(at.view(), ask, &lease));
    }
    Ok(lease)
}

/// Why it is this instance, in a word for the access log: the most unusual that there is to say.
fn why(view: &PoolView, ask: &Ask<'_>, lease: &Lease) -> &'static str {
    match lease.why() {
        Why::Balanced if !ask.tried.is_empty() => "retry",
        Why::Balanced => view.pool.balance.word(),
        why => why.word(),
    }
}

async fn wait_for_one(
    worker: &Worker,
    at: &mut PoolAt,
    ask: &Ask<'_>,
    patience: &Patience<'_>,
    account: &mut Account,
) -> Result<Lease, FailReason> {
    let shared = Arc::clone(&at.view().shared);
    let queue = at.view().pool.queue;
    let Some(place) = shared.hold.join(queue.max) else { return Err(FailReason::QueueFull) };
    let joined = worker.clock.elapsed();
    let deadline = patience.after(queue.timeout);
    let outcome = loop {
        let mut wake_up = pin!(place.wake_up());
        wake_up.as_mut().enable();
        let snapshot = worker.snapshot();
        // The pool may have left the config while the request waited.
        let Some(index) = Snapshot::pool_index(&snapshot.pools, &shared.id) else {
            break Err(FailReason::NoInstance);
        };
        *at = PoolAt { snapshot, index };
        match pick(worker, at, ask) {
            Ok(lease) => break Ok(Lease { why: Why::Waited, ..lease }),
            Err(refusal) => {
                if let Err(reason) = can_wait(at.view(), refusal) {
                    break Err(reason);
                }
            }
        }
        match patience.wait_until(deadline, wake_up).await {
            Ok(()) => {}
            Err(GaveUp::Unwanted) => break Err(FailReason::ClientGone),
            Err(GaveUp::Overdue) => break Err(FailReason::TotalTimeout),
            Err(_) => break Err(FailReason::QueueTimeout),
        }
    };
    let waited = worker.clock.elapsed().saturating_sub(joined);
    shared.meter.shards[worker.index].queue_wait.observe(waited);
    account.waited(waited);
    outcome
}

fn pick(worker: &Worker, at: &PoolAt, ask: &Ask<'_>) -> Result<Lease, Refusal> {
    let view = at.view();
    worker.with_pool(view, |local| {
        let Picked { slot, why } =
            view.picker.pick(ask, &mut local.cursor, &mut worker.entropy.borrow_mut())?;
        Ok(Lease { slot, bell: Bell(Rc::clone(&local.shared)), why })
    })
}

/// Waiting makes sense for what changes by itself: a slot gets free, a new instance comes up.
fn can_wait(view: &PoolView, refusal: Refusal) -> Result<(), FailReason> {
    match refusal {
        Refusal::Saturated => Ok(()),
        Refusal::Empty | Refusal::AllTried if view.hopeful => Ok(()),
        Refusal::Empty => Err(FailReason::NoInstance),
        Refusal::AllTried => Err(FailReason::Connect),
    }
}
