//! What a thousand instances cost the control thread: a tick every 100 ms, and a census.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::base::{InstanceId, Ms, Share};
use tidegate::fleet::Membership;
use tidegate::model::{
    Balance, HealthCheck, HealthSettings, Limit, Pool, PoolTimeouts, Queue, Retry, StaticInstance,
    UpstreamSettings,
};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(100);

fn pool(instances: u32) -> Arc<Pool> {
    let instance = |n: u32| StaticInstance {
        id: InstanceId::new(format!("10.0.{}.{}:8080", n / 250, n % 250)),
        address: ([10, 0, (n / 250) as u8, (n % 250) as u8], 8080).into(),
        zone: ["a", "b", "c"][n as usize % 3].into(),
        weight: 1,
    };
    Arc::new(Pool {
        id: "web".into(),
        balance: Balance::LeastRequest,
        max_in_flight: Limit::AtMost(200),
        queue: Queue { max: 1_000, timeout: 5 * SECOND },
        timeouts: PoolTimeouts::default(),
        upstream: UpstreamSettings::default(),
        retry: Retry { attempts: 2, budget: Share(0.2), per_try: None },
        drain_timeout: 60 * SECOND,
        instances: (0..instances).map(instance).collect(),
        health: HealthSettings {
            check: HealthCheck::Http { path: "/healthz".into() },
            interval: 2 * SECOND,
            timeout: 2 * SECOND,
            rise: 2,
            fall: 3,
        },
        scaling: None,
        provisioning: None,
    })
}

/// All that the steward does with the membership in 100 ms, every probe passing.
fn tick(membership: &mut Membership, now: Ms) -> usize {
    membership.handle_tick(now);
    membership.handle_suspicions(now);
    let orders = membership.next_probes(now);
    for order in &orders {
        membership.handle_probe(now, order, &Ok(Duration::from_micros(300)));
        std::hint::black_box(membership.next_wake());
    }
    membership.take_changes().len() + orders.len()
}

fn thousand(criterion: &mut Criterion) {
    let pools = [pool(1_000)];
    let mut membership = Membership::new();
    let mut now = Ms(1_000_000);
    membership.apply_config(now, &pools);
    criterion.bench_function("fleet/tick_1000", |bencher| {
        bencher.iter(|| {
            now = now + TICK;
            tick(&mut membership, now)
        });
    });
    criterion.bench_function("fleet/census_1000", |bencher| {
        bencher.iter(|| membership.census(1));
    });
    criterion.bench_function("fleet/apply_config_1000", |bencher| {
        bencher.iter(|| membership.apply_config(now, &pools));
    });
}

criterion_group!(benches, thousand);
criterion_main!(benches);
