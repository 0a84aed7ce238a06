//! All pools and their instances: the one place that changes who is there.
//!
//! The steward calls `handle_*` with what happened, then reads: [`Membership::next_probes`] for
//! what to ask, [`Membership::take_changes`] for the log, [`Membership::census`] for everyone else.
//! [`Membership::next_wake`] says when to call again if nothing happens before; besides,
//! [`Membership::handle_tick`] and [`Membership::handle_suspicions`] want to be called every 100 ms
//! or so, for what only the workers' counters know.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, Ms, PoolId};
use crate::fleet::agent::Line;
use crate::fleet::change::Change;
use crate::fleet::member::{Books, Key};
use crate::fleet::order::{ProbeError, ProbeOrder};
use crate::fleet::roster::Roster;
use crate::model::{Admin, AgentReport, Census, Pool, Said, SizeOverride};

/// All pools and their instances.
#[derive(Debug, Default)]
pub struct Membership {
    pools: BTreeMap<PoolId, Roster>,
    books: Books,
}

/// An operator named something that is not there.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unknown {
    /// No pool of that name.
    #[error("there is no pool \"{0}\"")]
    Pool(PoolId),
    /// No instance of that name in the pool.
    #[error("pool \"{0}\" has no instance \"{1}\"")]
    Instance(PoolId, InstanceId),
}

/// Why a pool does not get the size that an operator wants.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotSized {
    /// It is not there.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// Nobody would bring it to that size.
    #[error("pool \"{0}\" has no scaling agent: its instances are those of the config")]
    Unscaled(PoolId),
    /// It may not have that size.
    #[error(
        "pool \"{pool}\" may have {min} to {max} instances, not {desired}; change scaling.min or \
         scaling.max in the config and reload it first"
    )]
    Outside {
        /// The pool.
        pool: PoolId,
        /// The least that it may have.
        min: u32,
        /// The most.
        max: u32,
        /// What was asked for.
        desired: u32,
    },
}

impl Membership {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    // Events.

    /// The config as it is now. Instances that stay keep their health and their counters.
    pub fn apply_config(&mut self, now: Ms, pools: &[Arc<Pool>]) {
        let named: HashSet<&PoolId> = pools.iter().map(|pool| &pool.id).collect();
        let books = &mut self.books;
        self.pools.retain(|id, roster| named.contains(id) || roster.retire(books));
        for pool in pools {
            self.pools
                .entry(pool.id.clone())
                .or_insert_with(|| {
                    books.changed = true;
                    Roster::new(Arc::clone(pool))
                })
                .configure(now, pool, books);
        }
        books.note_ready();
    }

    /// What an agent says of its pool. Of a pool that is not there it says nothing that matters.
    pub fn handle_report(&mut self, now: Ms, report: AgentReport) {
        let Some(roster) = self.pools.get_mut(pool_of(&report)) else {
            return;
        };
        let books = &mut self.books;
        match report {
            AgentReport::Listed { machines, .. } => roster.handle_listing(now, &machines, books),
            AgentReport::Drain { ids, deadline, .. } => roster.drain(&ids, deadline, books),
            AgentReport::Revive { ids, .. } => roster.revive(&ids, books),
            AgentReport::Terminating { ids, .. } => roster.terminate(&ids, books),
            AgentReport::Wants { desired, demand_rps, .. } => {
                roster.set_wants(desired, demand_rps, books);
            }
            AgentReport::Retired { pool } => self.forget_pool(&pool),
        }
        self.books.note_ready();
    }

    /// Goes on with drains: closes what is idle, and what is past its deadline. Looks at what traffic
    /// says of each instance: ejects, takes back, lets ramp.
    pub fn handle_tick(&mut self, now: Ms) {
        let draining: Vec<Key> = self.books.draining.keys().cloned().collect();
        for (pool, id) in draining {
            let roster = self.pools.get_mut(&pool);
            if roster.is_none_or(|roster| roster.finish_drain(now, &id, &mut self.books)) {
                self.books.draining.remove(&(pool, id));
            }
        }
        for roster in self.pools.values_mut() {
            roster.look(now, &mut self.books);
        }
        self.handle_signs(now);
    }

    /// A probe was made. A result that is too late, of an instance that is gone or that was asked
    /// again since, changes nothing.
    pub fn handle_probe(
        &mut self,
        now: Ms,
        order: &ProbeOrder,
        outcome: &Result<Duration, ProbeError>,
    ) {
        if let Some(roster) = self.pools.get_mut(&order.instance.pool) {
            roster.handle_probe(now, order, outcome, &mut self.books);
        }
        self.books.note_ready();
    }

    /// The agent of an instance was asked; `said` is nothing if it could not be. That is no error.
    pub fn handle_agent(&mut self, now: Ms, order: &ProbeOrder, said: Option<Line>) {
        if let Some(roster) = self.pools.get_mut(&order.instance.pool) {
            roster.handle_agent(now, order, said, &mut self.books);
        }
    }

    /// Looks for instances that workers suspect, and has each probed at once.
    pub fn handle_suspicions(&mut self, now: Ms) {
        for roster in self.pools.values_mut() {
            roster.handle_suspicions(now, &mut self.books);
        }
    }

    // Commands.

    /// What an operator says of an instance. It holds until it is said otherwise, through reloads,
    /// as long as the instance exists.
    ///
    /// # Errors
    /// If there is no such pool or instance.
    pub fn set_admin(
        &mut self,
        pool: &PoolId,
        instance: &InstanceId,
        admin: Admin,
    ) -> Result<(), Unknown> {
        self.find(pool, instance)?;
        self.books.set_admin(pool, instance, admin);
        Ok(())
    }

    /// The size that an operator sets, or its end.
    ///
    /// # Errors
    /// If there is no such pool, or it cannot have that size.
    pub fn set_size(&mut self, pool: &PoolId, size: Option<SizeOverride>) -> Result<(), NotSized> {
        let roster = self.pools.get(pool).ok_or_else(|| Unknown::Pool(pool.clone()))?;
        if let Some(SizeOverride { desired, .. }) = size {
            let scaling = roster.pool.scaling.as_ref().filter(|_| !roster.retired);
            let scaling = scaling.ok_or_else(|| NotSized::Unscaled(pool.clone()))?;
            let (min, max) = (scaling.min, scaling.max);
            if !(min..=max).contains(&desired) {
                return Err(NotSized::Outside { pool: pool.clone(), min, max, desired });
            }
        }
        self.books.say(pool, |said| said.size = size);
        Ok(())
    }

    /// Ends the sizes whose time is over at `wall`, in seconds since 1970. Says whether any was.
    pub fn end_sizes(&mut self, wall: u64) -> bool {
        let over = |said: &Said| said.size.is_some_and(|size| size.is_over(wall));
        let ended = self.books.said.iter().filter(|(_, said)| over(said));
        let ended: Vec<PoolId> = ended.map(|(pool, _)| pool.clone()).collect();
        for pool in &ended {
            self.books.say(pool, |said| said.size = None);
        }
        !ended.is_empty()
    }

    /// An operator protects an instance from scale-in, or takes that back. As with
    /// [`Membership::set_admin`], it holds as long as the instance exists.
    ///
    /// # Errors
    /// If there is no such pool or instance.
    pub fn set_protected(
        &mut self,
        pool: &PoolId,
        instance: &InstanceId,
        on: bool,
    ) -> Result<(), Unknown> {
        self.find(pool, instance)?;
        self.books.say(pool, |said| {
            match on {
                true => said.protected.insert(instance.clone()),
                false => said.protected.remove(instance),
            };
        });
        Ok(())
    }

    fn find(&self, pool: &PoolId, instance: &InstanceId) -> Result<(), Unknown> {
        let roster = self.pools.get(pool).ok_or_else(|| Unknown::Pool(pool.clone()))?;
        match roster.knows(instance) {
            true => Ok(()),
            false => Err(Unknown::Instance(pool.clone(), instance.clone())),
        }
    }

    /// What operators said of the scaling of pools before the daemon was restarted.
    pub fn apply_said(&mut self, said: BTreeMap<PoolId, Said>) {
        self.books.said = said;
        self.books.changed = true;
    }

    /// What operators said before the daemon was restarted. Instances that are not there yet are
    /// met with it when they come.
    pub fn apply_overrides(&mut self, overrides: &[(PoolId, InstanceId, Admin)]) {
        for (pool, instance, admin) in overrides {
            self.books.set_admin(pool, instance, *admin);
        }
    }

    /// Forgets a pool that has left the config; of one that has not, what was provisioned for it.
    pub fn forget_pool(&mut self, pool: &PoolId) {
        if let Some(roster) = self.pools.get_mut(pool) {
            roster.forget_provisioned(&mut self.books);
            if roster.retired {
                self.pools.remove(pool);
                self.books.admin.remove(pool);
                self.books.said.remove(pool);
            }
        }
    }

    // Outputs.

    /// The probes that are due. Each is to be made, and its result handed back.
    pub fn next_probes(&mut self, now: Ms) -> Vec<ProbeOrder> {
        let mut orders = Vec::new();
        while let Some(first) = self.books.agenda.first_entry()
            && first.key().0 <= now
        {
            let (pool, id) = first.remove();
            let roster = self.pools.get_mut(&pool);
            orders.extend(roster.and_then(|roster| roster.ask(now, &id, &mut self.books)));
        }
        while let Some(first) = self.books.agents.first_entry()
            && first.key().0 <= now
        {
            let (pool, id) = first.remove();
            orders.extend(self.pools.get_mut(&pool).and_then(|roster| roster.ask_agent(&id)));
        }
        orders
    }

    /// When the next probe or drain deadline is due: the time for [`Membership::next_probes`] and
    /// [`Membership::handle_tick`].
    pub fn next_wake(&self) -> Option<Ms> {
        let probe = self.books.agenda.keys().next().map(|(at, _)| *at);
        let deadline = self.books.draining.values().min().copied();
        let agent = self.books.agents.keys().next().map(|(at, _)| *at);
        probe.into_iter().chain(agent).chain(deadline).min()
    }

    /// What became different since this was last asked, in the order in which it happened.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.books.changes)
    }

    /// Whether a census would differ from the last in more than the demand and the counters.
    pub fn changed(&self) -> bool {
        self.books.changed
    }

    /// Everyone, now.
    pub fn census(&mut self, generation: u64) -> Census {
        self.books.changed = false;
        let books = &mut self.books;
        let pools = self.pools.values_mut().map(|roster| roster.row(books)).collect();
        Census { generation, pools, zones: self.zone_rows(), ready: self.books.ready }
    }

    /// Whether the first round of probes is over: each instance of the config that was there at
    /// the start has answered or failed once. It stays so when more instances come.
    pub fn ready(&self) -> bool {
        self.books.ready
    }

    /// Whether the pool has left the config and its agent still has to take instances away.
    pub fn is_retired(&self, pool: &PoolId) -> bool {
        self.pools.get(pool).is_some_and(|roster| roster.retired)
    }

    /// What operators said of the scaling of pools, for the state file.
    pub fn said(&self) -> &BTreeMap<PoolId, Said> {
        &self.books.said
    }

    /// What operators said, for the state file.
    pub fn admin_overrides(&self) -> Vec<(PoolId, InstanceId, Admin)> {
        let all = self.books.admin.iter();
        all.flat_map(|(pool, said)| {
            said.iter().map(|(id, admin)| (pool.clone(), id.clone(), *admin))
        })
        .collect()
    }
}

fn pool_of(report: &AgentReport) -> &PoolId {
    match report {
        AgentReport::Listed { pool, .. }
        | AgentReport::Drain { pool, .. }
        | AgentReport::Revive { pool, .. }
        | AgentReport::Terminating { pool, .. }
        | AgentReport::Wants { pool, .. }
        | AgentReport::Retired { pool } => pool,
    }
}

mod zones;

pub use zones::{NotEvacuated, NotRestored};

#[cfg(test)]
mod tests;
