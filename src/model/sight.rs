//! What the steward shows the scaling agent of a pool each second, and what the agent answers.

use crate::base::{InstanceId, Ms, PoolId};
use crate::model::{Machine, PoolRow, Window};

/// A pool as the scaling agent sees it.
#[derive(Clone, Debug)]
pub struct Sight {
    /// When this was seen.
    pub now: Ms,
    /// Demand of the last seconds, oldest first. An agent that missed a sight finds the windows it
    /// missed here; it has seen those that ended at or before the last one it took.
    pub windows: Vec<Window>,
    /// The pool and its instances.
    pub row: PoolRow,
    /// The pool or its provisioner has left the config: everything provisioned for it is to be
    /// drained and terminated.
    pub retired: bool,
}

/// What an agent tells the steward, which alone changes the membership.
#[derive(Clone, Debug)]
pub enum AgentReport {
    /// Everything that exists, straight from the provider.
    Listed {
        /// For this pool.
        pool: PoolId,
        /// The full list.
        machines: Vec<Machine>,
    },
    /// No new traffic to these; they leave when idle, or at the deadline.
    Drain {
        /// In this pool.
        pool: PoolId,
        /// These instances.
        ids: Vec<InstanceId>,
        /// At this time at the latest.
        deadline: Ms,
    },
    /// These were draining and are wanted again. One that is drained already cannot come back.
    Revive {
        /// In this pool.
        pool: PoolId,
        /// These instances.
        ids: Vec<InstanceId>,
    },
    /// The provider is being told to take these away.
    Terminating {
        /// In this pool.
        pool: PoolId,
        /// These instances.
        ids: Vec<InstanceId>,
    },
    /// What the scaler makes of the demand.
    Wants {
        /// In this pool.
        pool: PoolId,
        /// How many instances should exist.
        desired: u32,
        /// The demand it saw, in requests per second.
        demand_rps: f64,
    },
    /// The pool or its provisioner has left the config, and nothing provisioned for it exists any
    /// more.
    Retired {
        /// This pool.
        pool: PoolId,
    },
}
