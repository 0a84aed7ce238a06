//! The scaling agent: keeps each provisioned pool as large as its demand needs, and each instance
//! in it alive.
//!
//! [`Scaler`] is the pure core: from what it sees ([`crate::model::Sight`]), what exists (the
//! provider's list) and what it did before, it makes a [`Plan`] with its reasons. [`Agent`] is the
//! thin shell that carries a plan out, once a second; the next tick is the retry. [`Journal`] keeps
//! what was decided and why, and [`History`] keeps that beyond a restart. One idea a file:
//!
//! - [`law`]: the number, from what was seen second by second; the same live and in simulations
//! - `demand`: what the pool is asked for, now and one lead time ahead
//! - `capacity`: what one instance takes, where nobody says
//! - `roster`: who is there, from the provider's list joined with the pool's standings
//! - `replacement`: what is broken, and whether replacing it would help
//! - `want`: how many instances the demand asks for now
//! - `size`: how many there should be after those of before, and how fast their number may fall
//! - `orders`: what was ordered and is not seen yet; which zones take orders
//! - `placement`: in which zone to launch, which instance to drain
//! - [`schedule`]: what holds by the clock, and what must be launched ahead of it
//! - [`rules`]: what rules as in Azure say of the size
//! - `outcome`: what became of what was ordered
//! - `tally`: what recommendations add up to
//! - `reserve`: what is kept beyond that, for the loss of a zone and standing by
//! - `roll`: how the pool gets another size or program, batch by batch
//! - `resize`: which size would be cheaper
//! - `plan`: what is to be done, and the records that explain it
//!
//! - [`ending`]: the daemon stops and takes its instances along
//! - [`simulate`]: what it would do with a trace, beside other scalers
//!
//! What holds at any time: nothing is terminated that is not drained, dead, or was never up; no
//! order of ours leaves fewer than `min` or makes more than `max` that serve or boot; nothing
//! shrinks while something boots; what was ordered is not ordered twice.

mod agent;
mod capacity;
mod demand;
pub mod ending;
mod history;
mod journal;
pub mod law;
mod orders;
mod outcome;
mod placement;
mod plan;
mod replacement;
mod reserve;
mod resize;
mod roll;
mod roster;
pub mod rules;
mod scaler;
pub mod schedule;
pub mod simulate;
mod size;
mod tally;
mod want;

#[cfg(test)]
mod world;

pub use agent::{Agent, Connections, OperationObserver};
pub use history::{History, OnError};
pub use journal::{Journal, Record};
pub use plan::Plan;
pub use scaler::{Scaler, Settled};
pub use tally::Tally;
pub use want::STEADY;
