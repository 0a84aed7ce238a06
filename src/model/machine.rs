//! An instance as its provider knows it.

use std::net::SocketAddr;

use crate::base::{InstanceId, ZoneId};

/// An instance as its provider knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Machine {
    /// Its name, unique in the pool and never used again while the daemon lives.
    pub id: InstanceId,
    /// Where it stands.
    pub zone: ZoneId,
    /// Where it listens, once that is known.
    pub address: Option<SocketAddr>,
    /// What the provider says of it.
    pub state: MachineState,
    /// Its size, where the provider has sizes.
    pub size: Option<String>,
    /// What it was made from, where known: its program or image, in the provider's own notation.
    pub model: Option<String>,
    /// The token of the order that it came from, where known.
    pub token: Option<String>,
    /// Whether it is protected from scale-in.
    pub protected: bool,
}

/// What a provider says of an instance.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MachineState {
    /// Asked for, not running yet.
    Creating,
    /// Running; whether it serves is for the probes to find out.
    Running,
    /// On its way out.
    Stopping,
    /// It could not be created, or ended by itself; the reason is for the operator. It stays in the
    /// list until it is terminated.
    Failed(String),
}
