//! Getting a slot on an instance: by a pick or, if all are full or somebody waits already, in the hold
//! queue.

use std::rc::Rc;
use std::sync::Arc;

use crate::model::{Instance, Slot};
use crate::observe::{Account, FailReason, PoolShard};
use crate::proxy::balance::{Ask, Picked, Why};
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
    why: Why,
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
    fn new(worker: &Worker, view: &PoolView, slot: Slot, why: Why) -> Self {
        let source = slot.instance().vitals.serial;
        let pool = worker.with_pool(view, |local| Rc::clone(&local.shared));
        Self { slot, bell: Bell { pool, source }, why }
    }

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
    account: &mut Account,
) -> Result<Lease, FailReason> {
    let lease = pick_or_wait(worker, at, ask, claim, patience, account).await?;
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

async fn pick_or_wait(
    worker: &Worker,
    at: &mut PoolAt,
    ask: &Ask<'_>,
    claim: Claim,
    patience: &Patience<'_>,
    account: &mut Account,
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
    Box::pin(wait_for_one(worker, at, Wish::of(ask), claim, patience, account)).await
}

fn pick(worker: &Worker, view: &PoolView, ask: &Ask<'_>) -> Option<Lease> {
    let picked = worker.with_pool(view, |local| {
        view.picker.pick(ask, &mut local.cursor, &mut worker.entropy.borrow_mut())
    });
    picked.ok().map(|Picked { slot, why }| Lease::new(worker, view, slot, why))
}

async fn wait_for_one(
    worker: &Worker,
    at: &mut PoolAt,
    wish: Wish,
    claim: Claim,
    patience: &Patience<'_>,
    account: &mut Account,
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
            account.waited(took);
            match waited {
                Ok(called) => called.map_err(reason),
                Err(GaveUp::Unwanted) => Err(FailReason::ClientGone),
                Err(GaveUp::Overdue) => Err(FailReason::TotalTimeout),
                Err(_) => Err(FailReason::QueueTimeout),
            }
        }
    };
    let lease = Lease::new(worker, at.view(), slot?, Why::Waited);
    // The pool may have left the config since.
    if renew(worker, at) { Ok(lease) } else { Err(FailReason::NoInstance) }
}

/// Goes on with the newest snapshot: after a wait or a failed try, the one that the request came with
/// may still hold instances for eligible that have gone down since. False if the pool has left the
/// config.
pub fn renew(worker: &Worker, at: &mut PoolAt) -> bool {
    let snapshot = worker.snapshot();
    let index = Snapshot::pool_index(&snapshot.pools, &at.view().shared.id);
    let found = index.map(|index| *at = PoolAt { snapshot, index });
    found.is_some()
}

fn reason(turned: Turned) -> FailReason {
    match turned {
        Turned::Full => FailReason::QueueFull,
        Turned::Empty => FailReason::NoInstance,
        Turned::AllTried => FailReason::Connect,
    }
}
