//! What a thousand instances cost the control thread: a tick every 100 ms, and a census.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::base::{InstanceId, Ms};
use tidegate::fleet::Membership;
use tidegate::model::{HealthCheck, HealthSettings, HttpCheck, Pool, StaticInstance};

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
        instances: (0..instances).map(instance).collect(),
        health: HealthSettings {
            check: HealthCheck::Http(HttpCheck::get("/healthz")),
            interval: 2 * SECOND,
            ..HealthSettings::default()
        },
        ..Pool::new("web".into())
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
