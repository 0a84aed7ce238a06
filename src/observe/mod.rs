//! What the daemon tells the world: counters, metrics, logs.
//!
//! The only room that knows `prometheus`. Data-plane counters are in [`meter`], sharded by worker.

pub mod meter;

pub use meter::{
    FailReason, ListenerMeter, ListenerShard, PoolMeter, PoolShard, RefuseReason, RetryReason,
};
