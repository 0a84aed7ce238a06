//! The scaling agent.
pub mod journal;
pub use journal::{Journal, Record};
