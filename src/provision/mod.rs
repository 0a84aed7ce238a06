//! Where instances come from: the trait that every provider fills, and its words.
//!
//! The contract, which the agent relies on and each provider's tests show:
//!
//! 1. [`Provisioner::list`] is complete and the only truth. What cannot be read in full is an
//!    error, never a short list.
//! 2. A [`LaunchOrder`] carries a token. The same token again launches nothing new; what exists for
//!    it is seen in the list. Calls may be repeated after a time-out or a restart.
//! 3. Instances are terminated by name, never by lowering a count. Terminating what does not exist
//!    is success.
//! 4. A call returns when the order is accepted; that it is done is seen in the list.
//! 5. Failures are a closed set, so that the agent can act on each.
//!
//! Only `scaling` calls a provisioner.

pub mod process;

use std::fmt::Debug;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, PoolId, ZoneId};
use crate::model::Provisioning;
pub use crate::model::{Machine, MachineState};

/// A boxed future: provisioners are few and slow, and must be object-safe.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send + 'a>>;

/// The provider that a pool's config asks for. What exists for the pool is found again, also after a
/// crash; the provider that was built for it before must not be called any more.
///
/// # Errors
/// If the provider cannot work at all, with what to do about it.
pub fn build(
    pool: &PoolId,
    settings: &Provisioning,
    state_dir: &Path,
) -> Result<Arc<dyn Provisioner>, Failure> {
    match settings {
        Provisioning::Process(process) => {
            Ok(Arc::new(process::Process::open(pool, process.clone(), state_dir)?))
        }
    }
}

/// Pools that an earlier daemon with this state directory had instances for and that are not among
/// `known`, each with a provider that lists and terminates them.
pub fn forgotten(known: &[PoolId], state_dir: &Path) -> Vec<(PoolId, Arc<dyn Provisioner>)> {
    process::forgotten(known, state_dir)
}

/// A provider of instances.
pub trait Provisioner: Send + Sync + Debug {
    /// What it can do. Asked once, when the agent starts.
    fn capabilities(&self) -> Capabilities;

    /// Every instance that exists for the pool, also those that are only asked for.
    ///
    /// # Errors
    /// If the list cannot be read in full.
    fn list(&self) -> Call<'_, Vec<Machine>>;

    /// Asks for new instances.
    ///
    /// # Errors
    /// If nothing, or not all, was accepted; what was accepted is seen in the list.
    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> Call<'a, ()>;

    /// Takes the named instances away. One that does not exist is done already.
    ///
    /// # Errors
    /// If some could not be asked to go.
    fn terminate<'a>(&'a self, ids: &'a [InstanceId]) -> Call<'a, ()>;

    /// Protects the named instances from scale-in by anyone else, or lifts that.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] where [`Capabilities::protect`] is false.
    fn protect<'a>(&'a self, ids: &'a [InstanceId], on: bool) -> Call<'a, ()>;

    /// Changes the size of the named instances, in the way that [`Capabilities::resize`] says.
    ///
    /// # Errors
    /// [`Failure::Unsupported`] where resize is [`Resize::Never`].
    fn resize<'a>(&'a self, ids: &'a [InstanceId], size: &'a str) -> Call<'a, ()>;
}

/// What a provider can do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Zones that instances can be launched in, in the provider's order; never empty.
    pub zones: Vec<ZoneId>,
    /// Most instances that exist at once, if the provider has a bound of its own.
    pub max_instances: Option<u32>,
    /// Most instances in one order.
    pub max_batch: u32,
    /// What [`Provisioner::resize`] does.
    pub resize: Resize,
    /// Whether [`Provisioner::protect`] works.
    pub protect: bool,
    /// Whether a token that is sent again launches nothing new. If not, the agent lists before it
    /// repeats an order.
    pub idempotent: bool,
    /// What launches are made from, if the provider tells; an instance of another model is outdated.
    pub model: Option<String>,
}

/// How an instance gets another size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resize {
    /// Not at all.
    Never,
    /// By a new instance in its place.
    Replace,
    /// By a restart of the instance.
    Restart,
    /// While it runs.
    Live,
}

/// An order for new instances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LaunchOrder {
    /// Makes the order idempotent; never used for another order.
    pub token: String,
    /// In which zone.
    pub zone: ZoneId,
    /// How many; at least 1, at most [`Capabilities::max_batch`].
    pub count: u32,
    /// Of which size; `None` is the provider's default.
    pub size: Option<String>,
}

/// Why a provider did not do as asked. Closed, so that the agent has an answer to each.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Asked too often.
    #[error("throttled by the provider")]
    Throttled {
        /// When to ask again, if the provider said so.
        retry_after: Option<Duration>,
    },
    /// The account's quota is used up: asking again is no use, the effective maximum is lower.
    #[error("quota exceeded: {0}")]
    Quota(String),
    /// This zone has no room now; another may.
    #[error("zone {zone} has no capacity: {why}")]
    NoCapacity {
        /// The zone that is full.
        zone: ZoneId,
        /// In the provider's words.
        why: String,
    },
    /// Not allowed: credentials or permissions.
    #[error("denied: {0}")]
    Denied(String),
    /// No answer, or none in time; what was asked may or may not have happened.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The order itself is wrong: a missing command, an unknown zone or size.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The state has moved on: list again.
    #[error("conflict: {0}")]
    Conflict(String),
    /// The provider cannot do that at all.
    #[error("not supported: {0}")]
    Unsupported(&'static str),
}

impl Failure {
    /// The word for the `outcome` label.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Throttled { .. } => "throttled",
            Self::Quota(_) => "quota",
            Self::NoCapacity { .. } => "no_capacity",
            Self::Denied(_) => "denied",
            Self::Unreachable(_) => "unreachable",
            Self::Rejected(_) => "rejected",
            Self::Conflict(_) => "conflict",
            Self::Unsupported(_) => "unsupported",
        }
    }
}
