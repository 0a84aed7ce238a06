//! Who is there, and who is healthy.
//!
//! Pure cores and one shell:
//!
//! - [`health`]: the [`Ward`] of one instance turns probe results into pending, up or down, and
//!   says when the next probe is due.
//! - [`agent`]: what the agent beside an instance says of it.
//! - `member` and `roster`: one instance with its three truths, and the instances of one pool.
//! - `outlier`, `warmth` and `watch`: what real traffic says. Who answers worse than its peers is
//!   ejected for a while, and who is new or comes back gets a growing share.
//! - [`zones`]: where new requests go, when a zone is lost, and what an evacuation would lack.
//! - [`membership`]: all pools. The steward feeds it the config, the agents' reports, operators'
//!   orders and probe results, and reads back probe orders, facts for the log and the census.
//! - [`probe`]: the tasks that ask instances over real sockets.
//!
//! Invariants:
//!
//! 1. Counters ([`Vitals`](crate::model::Vitals)) live as long as the instance: neither a reload
//!    nor a change of zone or weight makes a new one. A new address does, and so does a new name.
//! 2. What was removed is never seen again: a probe result is matched by serial and number, so one
//!    that comes late changes nothing.
//! 3. An instance has at most one probe that counts. It is either out, or in the agenda, or the
//!    instance needs none.
//! 4. Drained means closed: no slot can be taken any more, and nothing is in flight unless the
//!    deadline has passed.
//! 5. A probe that failed for want of something on this node (descriptors, time) says nothing
//!    about the instance and changes nothing.

pub mod agent;
pub mod change;
pub mod health;
mod member;
pub mod membership;
pub mod order;
mod outlier;
pub mod probe;
mod roster;
mod warmth;
mod watch;
pub mod zones;

pub use change::{Change, HealthChange};
pub use health::Ward;
pub use membership::{Membership, NotEvacuated, NotRestored, NotSized, Unknown};
pub use order::{Asks, Lane, ProbeError, ProbeOrder, ProbeResult};
pub use probe::Prober;
