//! Random events against what must always hold.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{Instance, Slot};

const NAMES: [&str; 6] = ["a", "b", "c", "m1", "m2", "m3"];

#[derive(Clone, Debug)]
enum Event {
    /// Which of a, b, c are in the config; whether c has another address; whether anything is
    /// checked; whether the pool is there at all.
    Configure {
        named: [bool; 3],
        moved: bool,
        checked: bool,
        present: bool,
    },
    /// For each machine: not there, or its state and whether it has an address.
    List([Option<(MachineState, bool)>; 3]),
    Drain {
        names: Vec<&'static str>,
        after_ms: u64,
    },
    Revive(Vec<&'static str>),
    Terminating(Vec<&'static str>),
    Admin {
        name: &'static str,
        admin: Admin,
    },
    Suspect(&'static str),
    /// A worker takes a slot on whatever instance of that name it ever saw last.
    Take(&'static str),
    /// A request ends.
    Give(usize),
    /// Probes are collected.
    Ask,
    /// One that is out comes back.
    Answer {
        pick: usize,
        outcome: Result<Duration, ProbeError>,
    },
    Wait {
        ms: u64,
    },
}

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(&NAMES[..]), 1..4)
}

fn event() -> impl Strategy<Value = Event> {
    let state = prop_oneof![
        2 => Just(MachineState::Creating),
        6 => Just(MachineState::Running),
        1 => Just(MachineState::Stopping),
        1 => Just(MachineState::Failed("broke".into())),
    ];
    let machine = proptest::option::weighted(0.8, (state, proptest::bool::weighted(0.8)));
    let admin = select(vec![Admin::Enabled, Admin::Draining, Admin::Maintenance]);
    let outcome = prop_oneof![
        6 => Just(PASS),
        3 => Just(FAIL),
        1 => Just(Err(ProbeError::Local("busy".into()))),
    ];
    let often = proptest::bool::weighted(0.9);
    prop_oneof![
        1 => (any::<[bool; 3]>(), any::<bool>(), often, often).prop_map(
            |(named, moved, checked, present)| Event::Configure { named, moved, checked, present }
        ),
        2 => [machine.clone(), machine.clone(), machine].prop_map(Event::List),
        2 => (names(), 0u64..4_000).prop_map(|(names, after_ms)| Event::Drain { names, after_ms }),
        1 => names().prop_map(Event::Revive),
        1 => names().prop_map(Event::Terminating),
        2 => (select(&NAMES[..]), admin).prop_map(|(name, admin)| Event::Admin { name, admin }),
        2 => select(&NAMES[..]).prop_map(Event::Suspect),
        4 => select(&NAMES[..]).prop_map(Event::Take),
        3 => any::<usize>().prop_map(Event::Give),
        8 => Just(Event::Ask),
        12 => (any::<usize>(), outcome).prop_map(|(pick, outcome)| Event::Answer { pick, outcome }),
        6 => (1u64..1_500).prop_map(|ms| Event::Wait { ms }),
    ]
}

fn configured(named: [bool; 3], moved: bool, checked: bool) -> Pool {
    let instances = (0..3u8)
        .filter(|n| named[usize::from(*n)])
        .map(|n| one(NAMES[usize::from(n)], "1", if n == 2 && moved { 77 } else { n + 1 }));
    let mut pool = provisioned("web", instances.collect());
    if !checked {
        pool.health.check = HealthCheck::None;
    }
    pool
}

/// The membership, and what a bystander knows of it without looking inside.
struct Bystander {
    world: World,
    /// Names that the config, or the last list, has.
    there: BTreeSet<&'static str>,
    statics: BTreeSet<&'static str>,
    /// Serials of which a probe ever passed, or that were seen while nothing was checked.
    passed: BTreeSet<u64>,
    checked: bool,
    admin: BTreeMap<&'static str, Admin>,
    seen: BTreeMap<InstanceId, Arc<Instance>>,
    slots: Vec<Slot>,
    out: Vec<ProbeOrder>,
    deadlines: BTreeMap<u64, Ms>,
}

impl Bystander {
    fn new() -> Self {
        let mut bystander = Self {
            world: World::new(vec![]),
            there: BTreeSet::new(),
            statics: BTreeSet::new(),
            passed: BTreeSet::new(),
            checked: true,
            admin: BTreeMap::new(),
            seen: BTreeMap::new(),
            slots: Vec::new(),
            out: Vec::new(),
            deadlines: BTreeMap::new(),
        };
        bystander.happen(Event::Configure {
            named: [true; 3],
            moved: false,
            checked: true,
            present: true,
        });
        bystander
    }

    fn happen(&mut self, event: Event) {
        let pool = PoolId::from("web");
        match event {
            Event::Configure { named, moved, checked, present } => {
                self.there.retain(|name| name.starts_with('m'));
                self.statics.clear();
                if present {
                    self.checked = checked;
                    self.statics.extend((0..3).filter(|n| named[*n]).map(|n| NAMES[n]));
                }
                self.there.extend(&self.statics);
                let pool = configured(named, moved, checked);
                self.world.configure(if present { vec![pool] } else { vec![] });
            }
            Event::List(states) => {
                let mut machines = Vec::new();
                self.there.retain(|name| !name.starts_with('m'));
                for (n, state) in states.into_iter().enumerate() {
                    if let Some((state, addressed)) = state {
                        let name = NAMES[n + 3];
                        self.there.insert(name);
                        machines.push(machine(name, addressed.then_some(n as u8 + 1), state));
                    }
                }
                self.world.list(&machines);
            }
            Event::Drain { names, after_ms } => {
                let deadline = Ms(self.world.now.0 + after_ms);
                for name in &names {
                    if let Some(instance) = self.seen.get(*name) {
                        let earliest = self.deadlines.entry(instance.vitals.serial);
                        earliest
                            .and_modify(|before| *before = (*before).min(deadline))
                            .or_insert(deadline);
                    }
                }
                self.world.report(AgentReport::Drain { pool, ids: ids(&names), deadline });
            }
            Event::Revive(names) => {
                self.world.report(AgentReport::Revive { pool, ids: ids(&names) })
            }
            Event::Terminating(names) => {
                self.world.report(AgentReport::Terminating { pool, ids: ids(&names) });
            }
            Event::Admin { name, admin } => {
                if self.world.membership.set_admin(&pool, &name.into(), admin).is_ok() {
                    self.admin.insert(name, admin);
                }
            }
            Event::Suspect(name) => {
                if let Some(instance) = self.seen.get(name) {
                    instance.vitals.suspect();
                }
            }
            Event::Take(name) => {
                let slot = self.seen.get(name).and_then(|it| it.take_slot(Limit::Unlimited));
                self.slots.extend(slot);
            }
            Event::Give(pick) if !self.slots.is_empty() => {
                self.slots.swap_remove(pick % self.slots.len());
            }
            Event::Ask => {
                self.world.membership.handle_suspicions(self.world.now);
                self.out.extend(self.world.membership.next_probes(self.world.now));
            }
            Event::Answer { pick, outcome } if !self.out.is_empty() => {
                let order = self.out.swap_remove(pick % self.out.len());
                if outcome.is_ok() {
                    self.passed.insert(order.instance.vitals.serial);
                }
                self.world.membership.handle_probe(self.world.now, &order, &outcome);
            }
            Event::Wait { ms } => self.world.now = Ms(self.world.now.0 + ms),
            Event::Give(_) | Event::Answer { .. } => {}
        }
        self.world.membership.handle_tick(self.world.now);
    }

    fn look(&mut self) {
        let now = self.world.now;
        let census = self.world.membership.census(1);
        let mut present = BTreeSet::new();
        for row in census.pools.iter().flat_map(|pool| &pool.instances) {
            let (id, vitals) = (row.instance.id.as_str(), &row.instance.vitals);
            present.insert(id);
            assert!(self.there.contains(id), "{id} was removed and is there");
            self.seen.insert(row.instance.id.clone(), Arc::clone(&row.instance));
            if !self.checked {
                self.passed.insert(vitals.serial);
            }
            if row.standing.eligible() {
                assert!(self.passed.contains(&vitals.serial), "{id} never passed a probe");
                assert!(!vitals.is_closed() && !vitals.is_down(), "{id} takes nothing");
                let admin = self.admin.get(id).copied().unwrap_or(Admin::Enabled);
                assert_eq!(admin, Admin::Enabled, "{id} is kept out by an operator");
            }
            assert_eq!(vitals.is_down(), row.standing.health == Health::Down, "{id}");
            match row.standing.life {
                Life::Drained => {
                    let due = self.deadlines.get(&vitals.serial).is_none_or(|at| *at <= now);
                    assert!(vitals.is_closed() && (vitals.in_flight() == 0 || due), "{id}");
                }
                Life::Terminating => assert!(vitals.is_closed(), "{id}"),
                _ => assert!(!vitals.is_closed(), "{id} is closed and was not drained"),
            }
        }
        for name in &self.statics {
            assert!(present.contains(name), "{name} is in the config and not there");
        }
        // What an operator said is forgotten with the instance, and only with it.
        let kept = self.world.membership.admin_overrides();
        self.admin.retain(|name, _| self.there.contains(name));
        let kept: BTreeMap<_, _> = kept.iter().map(|(_, id, said)| (id.as_str(), *said)).collect();
        self.admin.retain(|_, admin| *admin != Admin::Enabled);
        assert_eq!(kept, self.admin);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens(events in vec(event(), 1..120)) {
        let mut bystander = Bystander::new();
        for event in events {
            bystander.happen(event);
            bystander.look();
        }
        // No schedule is lost: once all is well again, everyone in the config serves. Probes that
        // are out may still come back, as failures; they count at most once.
        for order in std::mem::take(&mut bystander.out) {
            bystander.world.membership.handle_probe(bystander.world.now, &order, &FAIL);
        }
        bystander.happen(Event::Configure {
            named: [true; 3], moved: false, checked: true, present: true,
        });
        // That includes a whole slow start, for which operators must let them take traffic.
        for name in &NAMES[..3] {
            bystander.happen(Event::Admin { name, admin: Admin::Enabled });
        }
        bystander.world.run(60 * SECOND, |_| PASS);
        for name in &NAMES[..3] {
            let standing = bystander.world.get(name).standing;
            prop_assert_eq!(standing.health, Health::Up);
            prop_assert_eq!(standing.life, Life::Serving);
        }
    }
}
