//! Which instance a request goes to. Built per snapshot from what is admitted; a pick allocates
//! nothing, takes no lock, and costs the same whether there are 4 instances or 1,000.
//!
//! ```text
//! bound by a cookie? → tier, drawn by share → algorithm → (spills to the next tier) → any that is free
//!       sticky             picker              group                                     picker
//! ```
//!
//! Eligibility is decided before, by the three truths; here only what changes from one request to the
//! next is looked at: whether the instance is suspect, how busy it is, and how far it has warmed up.
//! A suspect is picked only where no other instance is left, because a stall that everyone shares is
//! not the instance's fault.
//!
//! Invariants: no instance ever has more in flight than its limit, and while it warms up than the same
//! part of it; the same names make the same hash tables on every node and after every restart, whoever of
//! them is admitted.

mod group;
mod key;
mod learn;
mod maglev;
mod memory;
mod picker;
mod ring;
mod sticky;
mod turn;

use crate::base::{Ms, ZoneId};
use crate::model::Slot;

pub use group::{Cursor, SCAN_UP_TO, limit_of};
pub use key::{of_client, of_connection, of_request};
pub use learn::{cost_of, verdict};
pub use memory::Memory;
pub use picker::{MemberView, Picker, TierView};
pub use sticky::{KEY_LEN, Keys, Token, bind};

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Instances that failed it already, by serial: not again.
    pub tried: &'a [u64],
    /// The zone of the last failure: another is preferred.
    pub avoid: Option<&'a ZoneId>,
    /// What it is told apart by, where the pool hashes ([`of_request`], [`of_connection`]).
    pub hash: u64,
    /// The instance that its client is bound to, by serial ([`Picker::bound`]).
    pub bound: Option<u64>,
    /// When it asks: costs fade with time.
    pub now: Ms,
}

/// Why there is no instance for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Nothing is eligible.
    Empty,
    /// Everything eligible was tried already.
    AllTried,
    /// Everything eligible is full.
    Saturated,
}

/// Why a request went to its instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The pool's algorithm said so.
    Balanced,
    /// Its client is bound to it.
    Sticky,
    /// The algorithm's choice was filled as far as its tier may be.
    Spilled,
    /// The tier that it began in had nothing free.
    OtherTier,
    /// Nothing was left but one that is under suspicion.
    Suspect,
    /// It has waited, and this was free first.
    Waited,
}

impl Why {
    /// The word for logs and APIs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Sticky => "sticky",
            Self::Spilled => "spilled",
            Self::OtherTier => "other-tier",
            Self::Suspect => "suspect",
            Self::Waited => "waited",
        }
    }
}

/// A slot on the instance that was picked.
#[derive(Debug)]
pub struct Picked {
    /// The slot.
    pub slot: Slot,
    /// Why there.
    pub why: Why,
}

#[cfg(test)]
mod tests;
