//! What one decision costs, with 12 and with 1,000 instances.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tidegate::base::{Ms, ZoneId};
use tidegate::model::{
    Admin, Health, Instance, InstanceRow, Life, Machine, MachineState, Pool, PoolRow, Scaling,
    Sight, Standing, Window,
};
use tidegate::provision::{Capabilities, Resize};
use tidegate::scaling::Scaler;
use tidegate::scaling::law::Moment;

const ZONES: [&str; 3] = ["a", "b", "c"];

fn machine(n: u32) -> Machine {
    Machine {
        id: format!("web-{n}").as_str().into(),
        zone: ZONES[n as usize % 3].into(),
        address: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 80))),
        state: MachineState::Running,
        size: None,
        model: None,
        token: None,
        protected: false,
    }
}

fn row(machine: &Machine) -> InstanceRow {
    let instance = Instance {
        id: machine.id.clone(),
        pool: "web".into(),
        zone: machine.zone.clone(),
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 80)),
        weight: 1,
        vitals: Arc::default(),
    };
    let standing = Standing { health: Health::Up, admin: Admin::Enabled, life: Life::Serving };
    InstanceRow::new(Arc::new(instance), standing)
}

fn pool(count: u32) -> Pool {
    let _second = Duration::from_secs(1);
    Pool { scaling: Some(Arc::new(Scaling::new(3, count * 2, 100.0))), ..Pool::new("web".into()) }
}

fn sight(count: u32, machines: &[Machine], offered: u64) -> Sight {
    let window = |second: u64| Window {
        ended: Ms(second * 1000),
        seconds: 1.0,
        offered,
        completed: offered,
        ..Window::default()
    };
    Sight {
        now: Ms(120_000),
        windows: (1..=120).map(window).collect(),
        row: PoolRow {
            desired: count,
            ..PoolRow::new(Arc::new(pool(count)), machines.iter().map(row).collect())
        },
        retired: false,
    }
}

fn decide(criterion: &mut Criterion) {
    let capabilities = Capabilities {
        zones: ZONES.map(ZoneId::new).into(),
        max_instances: None,
        max_batch: 50,
        resize: Resize::Never,
        protect: false,
        idempotent: true,
        model: None,
    };
    for count in [12, 1_000] {
        let machines: Vec<Machine> = (0..count).map(machine).collect();
        for (name, load) in [("steady", 1), ("doubled", 2)] {
            let sight = sight(count, &machines, u64::from(count) * 95 * load);
            let mut before = Scaler::new(&"web".into(), 1);
            before.decide(
                Moment { now: Ms(119_000), wall_s: 119 },
                &Sight { windows: Vec::new(), ..sight.clone() },
                &machines,
                &capabilities,
            );
            criterion.bench_function(&format!("decide/{count}/{name}"), |bencher| {
                bencher.iter_batched_ref(
                    || before.clone(),
                    |scaler| {
                        scaler.decide(
                            Moment { now: Ms(120_000), wall_s: 120 },
                            &sight,
                            &machines,
                            &capabilities,
                        )
                    },
                    BatchSize::SmallInput,
                );
            });
        }
    }
}

criterion_group!(benches, decide);
criterion_main!(benches);
