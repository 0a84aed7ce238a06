//! A small census for the tests of this room and of those below.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Admin, Census, Health, HealthSettings, Instance, InstanceRow, Life, Limit, Pool, PoolRow,
    Queue, Standing,
};

/// A pool with nothing special.
pub(crate) fn pool(name: &str) -> Pool {
    let second = Duration::from_secs(1);
    Pool {
        max_in_flight: Limit::AtMost(10),
        queue: Queue { max: 10, timeout: second, ..Queue::default() },
        drain_timeout: second,
        health: HealthSettings { interval: second, timeout: second, ..HealthSettings::default() },
        ..Pool::new(name.into())
    }
}

/// An instance that an operator has left alone.
pub(crate) fn instance(
    pool: &str,
    id: &str,
    zone: &str,
    health: Health,
    life: Life,
) -> InstanceRow {
    let instance = Instance {
        id: id.into(),
        pool: pool.into(),
        zone: zone.into(),
        address: ([127, 0, 0, 1], 80).into(),
        weight: 1,
        vitals: Arc::default(),
    };
    InstanceRow::new(Arc::new(instance), Standing { health, admin: Admin::Enabled, life })
}

/// One pool that wants three instances and is asked for 12.5 requests per second.
pub(crate) fn census(pool: Pool, instances: Vec<InstanceRow>) -> Census {
    Census {
        generation: 1,
        pools: vec![PoolRow {
            desired: 3,
            demand_rps: 12.5,
            ..PoolRow::new(Arc::new(pool), instances)
        }],
        zones: Vec::new(),
        ready: true,
    }
}
