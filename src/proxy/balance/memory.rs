//! What takes time to make for a picker, kept from one snapshot to the next: a table of keys is built
//! when the instances of a pool or their weights change, and not when health does.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::base::{InstanceId, PoolId};
use crate::model::{Instance, Pool};
use crate::proxy::balance::group::Way;
use crate::proxy::balance::sticky::{Keys, Token};

/// The memory of a pool. Only whoever builds snapshots looks into it.
#[derive(Debug, Default)]
pub struct Memory {
    keys: OnceLock<Arc<Keys>>,
    kept: Mutex<Kept>,
}

/// What is kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// What the last picker used.
    ways: Vec<(Seats, Way)>,
    /// What this one uses.
    used: Vec<(Seats, Way)>,
    tokens: HashMap<InstanceId, Arc<[Token]>>,
}

/// Names and weights, which are all that a way depends on.
type Seats = Vec<(InstanceId, u32)>;

impl Memory {
    /// The keys that cookies are made with; the first that are given stay.
    pub fn know_keys(&self, keys: impl FnOnce() -> Arc<Keys>) {
        self.keys.get_or_init(keys);
    }

    /// What is kept, for as long as a picker is built.
    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// The way of the pool's algorithm through these instances, which are in its order.
    pub fn way<'a>(
        &mut self,
        pool: &Pool,
        instances: impl Iterator<Item = &'a Arc<Instance>>,
    ) -> Way {
        let seats: Seats = instances.map(|it| (it.id.clone(), it.weight)).collect();
        let same = |(known, way): &&(Seats, Way)| {
            way.is_of(pool.balance, &pool.affinity) && *known == seats
        };
        let way = match self.ways.iter().find(same) {
            Some((_, way)) => way.clone(),
            None => Way::build(pool.balance, &pool.affinity, &seats),
        };
        self.used.push((seats, way.clone()));
        way
    }

    /// Forgets what the picker that was built did not use.
    pub fn end_round(&mut self) {
        self.ways = mem::take(&mut self.used);
    }

    /// What cookies of this instance say, the one that is given out first.
    pub fn tokens(&mut self, memory: &Memory, pool: &PoolId, id: &InstanceId) -> Arc<[Token]> {
        let make = || memory.keys.get().map_or_else(Arc::default, |keys| keys.tokens(pool, id));
        Arc::clone(self.tokens.entry(id.clone()).or_insert_with(make))
    }

    /// Forgets the cookies of all who are not among these, once they are more than those who are.
    pub fn forget_tokens_but(&mut self, members: &[(Arc<Instance>, bool)]) {
        if self.tokens.len() > 2 * members.len() {
            self.tokens.retain(|id, _| members.iter().any(|(member, _)| member.id == *id));
        }
    }
}
