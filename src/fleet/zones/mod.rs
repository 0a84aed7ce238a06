//! Zones, as traffic sees them. Everything here is pure.
//!
//! - [`mod@plan`]: which zones new requests of a pool go to, and when the pool is in panic.
//! - [`loss`]: when a zone that loses most of its instances at once counts as lost.
//! - [`headroom`]: what would be short without a zone, before an operator evacuates it.
//!
//! Invariants:
//!
//! 1. The shares of a plan sum to 1, and no tier names a zone that gets no traffic.
//! 2. Panic admits an instance only if nothing but the answers to its probes speaks against it:
//!    it accepts connections and answers in time.
//! 3. A zone is lost only while the others are well: what all share is nobody's zone.
//! 4. No evacuation leaves a pool that serves with nothing, whoever forces it.

pub mod headroom;
pub mod loss;
pub mod plan;

pub use headroom::Shortage;
pub use loss::{Loss, Sign};
pub use plan::{Load, in_panic, plan, steady};
