//! The access log: a line for each request and each TCP connection, with the reason why it went where
//! it went.
//!
//! What is to be told is collected in an [`Account`] while it happens, rendered by [`mod@line`] (pure),
//! and gathered by each worker in an [`AccessSink`] of its own. Sinks pass whole lines on to one queue,
//! from which one thread writes them ([`AccessLog`]).
//!
//! Invariants: nobody who serves traffic ever waits for the disk: lines that do not fit in the queue
//! are dropped and counted. Each line is one line, whatever clients write, and lines are never mixed.
//! Where there is no access log an exchange pays for one branch.

mod account;
pub mod line;
mod queue;
mod sink;
mod writer;

pub use account::{Account, NO_PICK};
pub use line::{Line, Request, Style};
pub use sink::AccessSink;
pub use writer::{AccessLog, OpenError};

#[cfg(test)]
mod tests;
