//! A small census for the tests of this room and of those below.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Share;
use crate::model::{
    Admin, Balance, Census, Health, HealthCheck, HealthSettings, Instance, InstanceRow, Life,
    Limit, Pool, PoolRow, PoolTimeouts, Queue, Retry, Said, Standing, UpstreamSettings,
};

/// A pool with nothing special.
pub(crate) fn pool(name: &str) -> Pool {
    let second = Duration::from_secs(1);
    Pool {
        id: name.into(),
        balance: Balance::LeastRequest,
        max_in_flight: Limit::AtMost(10),
        queue: Queue { max: 10, timeout: second },
        timeouts: PoolTimeouts::default(),
        upstream: UpstreamSettings::default(),
        retry: Retry { attempts: 2, budget: Share(0.2), per_try: None },
        drain_timeout: second,
        instances: Vec::new(),
        health: HealthSettings {
            check: HealthCheck::Tcp,
            interval: second,
            timeout: second,
            rise: 2,
            fall: 3,
        },
        scaling: None,
        provisioning: None,
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
    InstanceRow {
        instance: Arc::new(Instance {
            id: id.into(),
            pool: pool.into(),
            zone: zone.into(),
            address: ([127, 0, 0, 1], 80).into(),
            weight: 1,
            vitals: Arc::default(),
        }),
        standing: Standing { health, admin: Admin::Enabled, life },
    }
}

/// One pool that wants three instances and is asked for 12.5 requests per second.
pub(crate) fn census(pool: Pool, instances: Vec<InstanceRow>) -> Census {
    Census {
        generation: 1,
        pools: vec![PoolRow {
            pool: Arc::new(pool),
            instances,
            ordered: Vec::new(),
            desired: 3,
            demand_rps: 12.5,
            said: Said::default(),
        }],
        ready: true,
    }
}
