//! The hold queue of a pool: who waits for a slot, over all workers.
//!
//! - [`mod@line`] decides who is next and who has to go. Pure.
//! - [`handoff`] brings a slot that gets free to whose turn it is, by one read where nobody waits.
//! - Here is where the slots of a pool come from: from the instances that the newest snapshot has, so
//!   that a waiter gets what has come up since, and nothing that may take no traffic any more.
//!
//! It works the same while a pool has no instance at all: then the first snapshot that has one serves.

pub mod handoff;
pub mod line;
mod sync;

use std::sync::Arc;

use crate::base::{Clock, Entropy, Ms, ZoneId};
use crate::model::{Queue, Slot};
use crate::proxy::balance::{Ask, Cursor, limit_of};
use crate::proxy::hold::handoff::{Hold, Supply, Turned};
use crate::proxy::snapshot::{PoolView, Snapshot};

/// The hold queue of one pool.
pub type PoolHold = Hold<Slots>;

/// What a waiter asks for: an [`Ask`] that another worker can answer.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    tried: Vec<u64>,
    avoid: Option<ZoneId>,
    hash: u64,
    bound: Option<u64>,
}

/// Where the slots of a pool come from.
#[derive(Debug)]
pub struct Slots {
    clock: Clock,
    pool: Known,
    cursor: Cursor,
    entropy: Entropy,
}

/// What is known of the pool.
#[derive(Debug)]
enum Known {
    /// Nothing yet.
    Nothing,
    /// It has left the config.
    Gone,
    /// Where it is in the newest snapshot.
    At(Arc<Snapshot>, usize),
}

impl Wish {
    /// What `ask` asks for.
    pub fn of(ask: &Ask<'_>) -> Self {
        let (hash, bound) = (ask.hash, ask.bound);
        Self { tried: ask.tried.to_vec(), avoid: ask.avoid.cloned(), hash, bound }
    }

    fn ask(&self, now: Ms) -> Ask<'_> {
        let Self { hash, bound, .. } = *self;
        Ask { tried: &self.tried, avoid: self.avoid.as_ref(), hash, bound, now }
    }
}

impl Slots {
    /// Of a pool that will be shown by [`Slots::show`]. `seed` is for picks.
    pub fn new(clock: Clock, seed: u64) -> Self {
        Self {
            clock,
            pool: Known::Nothing,
            cursor: Cursor::default(),
            entropy: Entropy::seeded(seed),
        }
    }

    /// Shows the newest snapshot, and where the pool is in it if it is there. Gives back the one before,
    /// which may be large, to be dropped elsewhere.
    #[must_use = "it is to be dropped without the lock"]
    pub fn show(&mut self, newest: &Arc<Snapshot>, index: Option<usize>) -> Option<Arc<Snapshot>> {
        let known = index.map_or(Known::Gone, |index| Known::At(Arc::clone(newest), index));
        match std::mem::replace(&mut self.pool, known) {
            Known::At(before, _) => Some(before),
            Known::Nothing | Known::Gone => None,
        }
    }

    fn view(&self) -> Option<&PoolView> {
        match &self.pool {
            Known::At(snapshot, index) => snapshot.pools.get(*index),
            Known::Nothing | Known::Gone => None,
        }
    }
}

impl Supply for Slots {
    type Wish = Wish;
    type Good = Slot;

    fn now(&self) -> Ms {
        self.clock.now()
    }

    fn queue(&self) -> Queue {
        self.view().map(|view| view.pool.queue).unwrap_or_default()
    }

    fn refuses(&self, wish: &Wish) -> Option<Turned> {
        match &self.pool {
            Known::Nothing => None,
            Known::Gone => Some(Turned::Empty),
            Known::At(snapshot, index) => snapshot.pools[*index].is_in_vain(&wish.tried),
        }
    }

    fn take(&mut self, wish: &Wish) -> Option<Slot> {
        let Known::At(snapshot, index) = &self.pool else { return None };
        let picker = &snapshot.pools[*index].picker;
        let ask = wish.ask(self.clock.now());
        picker.pick(&ask, &mut self.cursor, &mut self.entropy).ok().map(|picked| picked.slot)
    }

    /// Where others wait nothing else is free: what the balancing would rather avoid, it would take too.
    fn take_from(&mut self, source: u64, wish: &Wish) -> Option<Slot> {
        let view = self.view()?;
        let instance = view.admitted(source).filter(|_| !wish.tried.contains(&source))?;
        instance.take_slot(limit_of(instance, view.pool.max_in_flight))
    }

    fn source(slot: &Slot) -> u64 {
        slot.instance().vitals.serial
    }
}

#[cfg(test)]
mod tests;
