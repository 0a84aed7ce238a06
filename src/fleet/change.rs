//! Facts: what became different, for the log.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{InstanceId, PoolId, ZoneId};
use crate::model::{Health, Life, ZoneState};

/// One thing that became different.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Probes (or the provider) say something else of an instance than before.
    Health(HealthChange),
    /// An instance is out of traffic for a while, for how it answered.
    Ejected {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// What it was found by, as a word for labels.
        reason: &'static str,
        /// For how long and what for, in words for an operator.
        why: Arc<str>,
    },
    /// An instance is somewhere else between birth and death.
    Life {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// Before.
        from: Life,
        /// Now.
        to: Life,
    },
    /// Something became of a zone, or that is over.
    Zone {
        /// This zone.
        zone: ZoneId,
        /// Now.
        state: ZoneState,
        /// In words for an operator.
        why: String,
    },
    /// A pool fell into panic, or is out of it.
    Panic {
        /// This pool.
        pool: PoolId,
        /// Whether it is in panic now.
        on: bool,
    },
    /// An instance boots and does not pass its probes; told once.
    Lingers {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// What became of the last probe.
        why: String,
    },
    /// The agent of an instance says something else than before.
    Agent {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// All that holds now, as the agent would say it.
        says: String,
    },
    /// Failing probes would have brought an instance down, but it is one of the last that serve;
    /// told once.
    Spared {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// In words for an operator.
        why: String,
    },
    /// An instance with an address is there that was not.
    Added {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// Where it listens.
        address: SocketAddr,
    },
    /// An instance is gone.
    Removed {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// In this zone.
        zone: ZoneId,
        /// In words for an operator.
        why: &'static str,
    },
}

/// The health of an instance turned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthChange {
    /// In this pool.
    pub pool: PoolId,
    /// This instance.
    pub instance: InstanceId,
    /// In this zone.
    pub zone: ZoneId,
    /// Before.
    pub from: Health,
    /// Now.
    pub to: Health,
    /// In words for an operator.
    pub why: String,
}
