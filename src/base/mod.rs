//! The ground floor: names, time, chance and units.
//!
//! Everything here is a plain value. Nothing imports another room, waits, or touches the operating
//! system, with one exception: [`clock`] reads the two clocks, so that no other room has to.

pub mod backoff;
pub mod clock;
pub mod cron;
pub mod entropy;
pub mod id;
pub mod stock;
pub mod unit;

pub use clock::{Clock, Ms};
pub use cron::Cron;
pub use entropy::Entropy;
pub use id::{InstanceId, ListenerId, PoolId, SizeId, ZoneId};
pub use stock::Stock;
pub use unit::{ByteSize, Share};
