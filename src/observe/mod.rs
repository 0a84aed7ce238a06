//! What the daemon tells the world: counters, metrics, logs.
//!
//! The only room that knows `prometheus` (in [`metrics`]) and what log lines look like ([`log`]).
//! Data-plane counters are in [`meter`], sharded by worker.

pub mod log;
pub mod meter;
pub mod metrics;

pub use meter::{
    AnswerKind, FailReason, ListenerMeter, ListenerShard, PoolMeter, PoolShard, RefuseReason,
    RetryReason,
};
pub use metrics::Metrics;
