//! What the daemon tells the world: counters, metrics, logs.
//!
//! The only room that knows `prometheus` (in [`metrics`]) and what log lines look like: those of the
//! daemon ([`log`]) and those of exchanges ([`access`]).
//! Data-plane counters are in [`meter`], sharded by worker.

pub mod access;
pub mod log;
pub mod meter;
pub mod metrics;

pub use access::{AccessLog, AccessSink, Account};
pub use meter::{
    AnswerKind, FailReason, FloodKind, Handshake, ListenerMeter, ListenerShard, PoolMeter,
    PoolShard, RefuseReason, RetryReason,
};
pub use metrics::Metrics;
