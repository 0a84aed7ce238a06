//! The admin API: what an operator, a scraper or a script asks of the daemon over HTTP.
//!
//! Pure parts say what is asked ([`route`]), whether it may be asked ([`guard`]) and how the answer
//! looks ([`view`], [`mod@explain`], [`problem`]); [`mod@serve`] is the shell around them. Reading needs only what the
//! steward has published, so it never waits; what changes something goes through [`Control`], which
//! the daemon implements.
//!
//! Invariants: a request whose `Host` is not this API's own is never answered with anything but a
//! refusal (a web page cannot reach it by rebinding a name); a POST from another origin changes
//! nothing; with a token set, only `/healthz` is open; no client holds a connection for longer than
//! a deadline, and connections are bounded.

pub mod explain;
pub mod guard;
pub mod problem;
pub mod route;
pub mod serve;
pub mod view;
pub mod wish;

mod answer;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::{InstanceId, PoolId, ZoneId};
use crate::model::{Census, Evacuation, SizeOverride};
use crate::observe::Metrics;
use crate::scaling::Journal;

pub use guard::{Token, read_token};
pub use serve::{AdminListener, bind, serve};

/// A boxed future: what changes something is rare and may take its time.
pub type Reply<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// The journal of each pool that has an agent.
pub type Journals = HashMap<PoolId, Arc<Journal>>;

/// Reads how many requests wait for each pool.
pub type QueueDepths = Arc<dyn Fn() -> Vec<(PoolId, u32)> + Send + Sync>;

/// The instance of a pool that a client's address leads to, where requests go by keys.
pub type Homes = Arc<dyn Fn(&PoolId, IpAddr) -> Option<InstanceId> + Send + Sync>;

/// What the API changes; the daemon does it.
pub trait Control: Send + Sync {
    /// Drains the instance by an operator's order, or (`on` false) takes that order back.
    fn drain(&self, pool: PoolId, instance: InstanceId, on: bool) -> Reply<'_, (), ControlError>;

    /// Sets the size of the pool by hand, or (`None`) ends that.
    fn scale(&self, pool: PoolId, size: Option<SizeOverride>) -> Reply<'_, (), ControlError>;

    /// Protects the instance from scale-in, or (`on` false) takes that back.
    fn protect(&self, pool: PoolId, instance: InstanceId, on: bool) -> Reply<'_, (), ControlError>;

    /// Moves the traffic of the zone elsewhere; with `force` even if that leaves pools short.
    fn evacuate(
        &self,
        zone: ZoneId,
        evacuation: Evacuation,
        force: bool,
    ) -> Reply<'_, (), ControlError>;

    /// Ends the evacuation of the zone.
    fn restore(&self, zone: ZoneId) -> Reply<'_, (), ControlError>;

    /// Reads the config again. Says in a line what changed, or names every reason why it was
    /// refused; then the old config stays.
    fn reload(&self) -> Reply<'_, String, ControlError>;
}

/// Why the daemon did not do as asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ControlError {
    /// The pool, the instance or the zone is not there; says which.
    #[error("{0}")]
    Unknown(String),
    /// It may not be so; says what may.
    #[error("{0}")]
    Impossible(String),
    /// As things are now it is not done; says why, and what would have to be otherwise.
    #[error("{0}")]
    Conflict(String),
    /// The config was refused: every reason.
    #[error("{}", .0.join("; "))]
    Refused(Vec<String>),
    /// The daemon stops and takes no more orders.
    #[error("the daemon is stopping")]
    Stopping,
}

/// What the API reads from, and whom it tells.
pub struct Admin {
    /// The membership, as the steward last published it.
    pub census: Arc<ArcSwap<Census>>,
    /// What the scaling agents decided.
    pub journals: Arc<ArcSwap<Journals>>,
    /// What is scraped.
    pub metrics: Arc<Metrics>,
    /// How many requests wait.
    pub queues: QueueDepths,
    /// Where keys lead.
    pub homes: Homes,
    /// What changes something.
    pub control: Arc<dyn Control>,
    /// The name of this node.
    pub node: String,
    /// What each request must bear, if anything.
    pub token: Option<Token>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("node", &self.node)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
