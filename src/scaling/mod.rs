//! The scaling agent: keeps each provisioned pool as large as its demand needs, and each instance
//! in it alive.
//!
//! [`Scaler`] is the pure core: from what it sees ([`crate::model::Sight`]), what exists (the
//! provider's list) and what it did before, it makes a [`Plan`] with its reasons. [`Agent`] is the
//! thin shell that carries a plan out, once a second; the next tick is the retry. [`Journal`] keeps
//! what was decided and why. One idea a file:
//!
//! - `demand`: what the pool is asked for, from the windows of the last seconds
//! - `roster`: who is there, from the provider's list joined with the pool's standings
//! - `replacement`: what is broken, and whether replacing it would help
//! - `size`: how many instances there should be, and how fast their number may fall
//! - `orders`: what was ordered and is not seen yet; which zones take orders
//! - `placement`: in which zone to launch, which instance to drain
//! - `reserve`: what is kept beyond that, for the loss of a zone and standing by
//! - `roll`: how the pool gets another size or program, batch by batch
//! - `resize`: which size would be cheaper
//! - `plan`: what is to be done, and the records that explain it
//!
//! - [`ending`]: the daemon stops and takes its instances along
//!
//! What holds at any time: nothing is terminated that is not drained, dead, or was never up; no
//! order of ours leaves fewer than `min` or makes more than `max` that serve or boot; nothing
//! shrinks while something boots; what was ordered is not ordered twice.

mod agent;
mod demand;
pub mod ending;
mod journal;
pub mod law;
mod orders;
mod placement;
mod plan;
mod replacement;
mod reserve;
mod resize;
mod roll;
mod roster;
mod scaler;
mod size;

#[cfg(test)]
mod world;

pub use agent::{Agent, Connections, OperationObserver};
pub use journal::{Journal, Record};
pub use plan::Plan;
pub use scaler::Scaler;
