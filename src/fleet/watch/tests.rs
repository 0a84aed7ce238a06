//! Through the membership, as the steward drives it.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::fleet::{Change, Membership, ProbeError};
use crate::model::{
    AgentReport, FULL, Health, HealthSettings, InstanceRow, Life, Machine, MachineState,
    ProcessSettings, Provisioning, Scaling, StaticInstance, StopPolicy, Vitals,
};

const TICK: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

struct World {
    membership: Membership,
    now: Ms,
    pool: Pool,
    /// Names of those that fail their probes.
    sick: Vec<&'static str>,
}

/// A pool of so many instances, `i0` and so on, that are up.
fn world(instances: usize, edit: impl FnOnce(&mut Pool)) -> World {
    let mut pool = Pool::new("web".into());
    pool.health = HealthSettings { rise: 1, fall: 1, interval: SECOND, ..pool.health };
    pool.instances = (0..instances).map(instance).collect();
    edit(&mut pool);
    let membership = Membership::new();
    let mut world = World { membership, now: Ms(1_000_000), pool, sick: Vec::new() };
    world.reload(|_| {});
    world.run(SECOND);
    world
}

fn instance(n: usize) -> StaticInstance {
    StaticInstance {
        id: format!("i{n}").as_str().into(),
        address: ([127, 0, 0, n as u8 + 1], 80).into(),
        zone: "a".into(),
        weight: 1,
    }
}

fn provisioned(pool: &mut Pool) {
    pool.scaling = Some(Arc::new(Scaling::new(1, 9, 10.0)));
    pool.provisioning = Some(Provisioning::Process(ProcessSettings {
        command: vec!["true".into()],
        zones: vec!["a".into()],
        port: 80,
        stop: StopPolicy::Keep,
    }));
}

impl World {
    fn reload(&mut self, edit: impl FnOnce(&mut Pool)) {
        edit(&mut self.pool);
        self.membership.apply_config(self.now, &[Arc::new(self.pool.clone())]);
    }

    fn list(&mut self, names: &[&str]) {
        let machine = |(n, id): (usize, &&str)| Machine {
            id: (*id).into(),
            zone: "a".into(),
            address: Some(([127, 0, 1, n as u8 + 1], 80).into()),
            state: MachineState::Running,
            size: None,
            model: None,
            token: None,
            protected: false,
        };
        let machines = names.iter().enumerate().map(machine).collect();
        let report = AgentReport::Listed { pool: "web".into(), machines };
        self.membership.handle_report(self.now, report);
    }

    /// The steward's ticks for so long.
    fn run(&mut self, length: Duration) {
        let end = self.now + length;
        loop {
            for order in self.membership.next_probes(self.now) {
                let sick = self.sick.contains(&order.instance.id.as_str());
                let outcome = if sick { Err(ProbeError::Status(500)) } else { Ok(TICK) };
                self.membership.handle_probe(self.now, &order, &outcome);
            }
            self.membership.handle_tick(self.now);
            if self.now >= end {
                return;
            }
            self.now = self.now + TICK;
        }
    }

    fn rows(&mut self) -> Vec<InstanceRow> {
        self.membership.census(1).pools.remove(0).instances
    }

    fn get(&mut self, id: &str) -> InstanceRow {
        self.rows().into_iter().find(|row| row.instance.id.as_str() == id).expect("it is there")
    }

    fn vitals(&mut self, id: &str) -> Arc<Vitals> {
        Arc::clone(&self.get(id).instance.vitals)
    }

    fn fail(&mut self, id: &str, times: usize) {
        let vitals = self.vitals(id);
        (0..times).for_each(|_| vitals.count_response(500, TICK));
    }

    fn answer(&mut self, id: &str, times: usize, took: Duration) {
        let vitals = self.vitals(id);
        (0..times).for_each(|_| vitals.count_response(200, took));
    }

    /// The names of those that are ejected.
    fn ejected(&mut self) -> Vec<String> {
        let rows = self.rows().into_iter();
        let out = rows.filter(|row| row.standing.health == Health::Ejected);
        out.map(|row| row.instance.id.to_string()).collect()
    }

    /// What each takes, in percent, by name.
    fn parts(&mut self) -> Vec<u32> {
        let mut rows = self.rows();
        rows.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
        rows.iter().map(|row| (row.instance.vitals.ramp() * 100).div_ceil(FULL)).collect()
    }

    fn ejections(&mut self) -> Vec<&'static str> {
        let changes = self.membership.take_changes().into_iter();
        let reason = |change| match change {
            Change::Ejected { reason, .. } => Some(reason),
            _ => None,
        };
        changes.filter_map(reason).collect()
    }
}

#[test]
fn failures_in_a_row_eject_at_once_and_every_time_for_longer() {
    let mut world = world(3, |_| {});
    world.fail("i1", 4);
    world.run(Duration::ZERO);
    assert!(world.ejected().is_empty(), "four are not five");
    world.fail("i1", 1);
    world.membership.handle_tick(world.now);
    assert_eq!(world.ejected(), ["i1"]);
    assert_eq!(world.ejections(), ["failures"]);
    let row = world.get("i1");
    assert_eq!(row.why(), "ejected for 30s: 5 requests in a row got a 5xx or no answer");
    assert!(!row.standing.eligible() && !row.instance.vitals.is_down(), "what runs may finish");

    // What still fails there, and probes that pass, change nothing.
    world.fail("i1", 3);
    world.run(29 * SECOND);
    assert_eq!(world.ejected(), ["i1"], "probes passed all the time");
    world.run(SECOND);
    assert!(world.get("i1").standing.eligible());
    assert_eq!(world.get("i1").standing.life, Life::Ramping, "it comes back slowly");

    world.fail("i1", 5);
    world.run(59 * SECOND);
    assert_eq!(world.ejected(), ["i1"], "twice as long");
    world.run(2 * SECOND);
    assert!(world.ejected().is_empty());
    world.run(70 * SECOND);
    assert_eq!(world.get("i1").standing.life, Life::Serving);
    world.fail("i1", 5);
    world.run(31 * SECOND);
    assert!(world.ejected().is_empty(), "two were forgiven in more than a minute");
}

#[test]
fn what_all_do_alike_ejects_none_and_a_tenth_is_the_most() {
    let mut world = world(3, |_| {});
    for round in 0..100 {
        for id in ["i0", "i1", "i2"] {
            world.fail(id, 1);
        }
        world.run(TICK);
        assert!(world.ejected().is_empty(), "round {round}");
    }

    let mut world = self::world(20, |_| {});
    for n in 0..9 {
        world.fail(&format!("i{n}"), 5);
    }
    world.run(TICK);
    assert_eq!(world.ejected().len(), 2, "a tenth of twenty");

    let mut world = self::world(1, |_| {});
    world.fail("i0", 50);
    world.run(SECOND);
    assert!(world.ejected().is_empty(), "the only one stays");

    let mut world = self::world(3, |pool| pool.outlier.min_healthy = 3);
    world.fail("i0", 50);
    world.run(SECOND);
    assert!(world.ejected().is_empty(), "three are to be left");

    let mut world = self::world(3, |pool| pool.outlier.max_ejected = crate::base::Share(0.0));
    world.fail("i0", 50);
    world.run(SECOND);
    assert!(world.ejected().is_empty(), "it is off");
}

#[test]
fn the_last_resort_comes_back_early() {
    let mut world = world(2, |_| {});
    world.fail("i0", 5);
    world.run(TICK);
    assert_eq!(world.ejected(), ["i0"]);
    world.sick.push("i1");
    world.run(2 * SECOND);
    assert_eq!(world.get("i1").standing.health, Health::Down);
    assert!(world.get("i0").standing.eligible(), "better than nothing");
    world.fail("i0", 50);
    world.run(SECOND);
    assert!(world.get("i0").standing.eligible(), "whatever it does");

    let mut world = self::world(2, |_| {});
    world.fail("i0", 5);
    world.run(TICK);
    let drained = world.membership.set_admin(&"web".into(), &"i1".into(), Admin::Draining);
    assert_eq!(drained, Ok(()));
    world.run(TICK);
    assert!(world.get("i0").standing.eligible(), "nor is one that an operator drains there");
}

#[test]
fn probes_have_the_first_word() {
    let mut world = world(3, |_| {});
    world.fail("i1", 5);
    world.run(TICK);
    world.sick.push("i1");
    world.run(2 * SECOND);
    assert_eq!(world.get("i1").standing.health, Health::Down);
    assert_eq!(world.get("i1").why(), "fails its probes");
    world.sick.clear();
    world.run(2 * SECOND);
    assert_eq!(world.get("i1").standing.health, Health::Up, "that ended the ejection");
    // A second one remembers the first all the same.
    world.fail("i1", 5);
    world.run(TICK);
    assert!(world.get("i1").why().starts_with("ejected for 1m"), "{}", world.get("i1").why());
    world.reload(|pool| pool.outlier.max_ejected = crate::base::Share(0.0));
    world.run(TICK);
    assert!(world.ejected().is_empty(), "it was turned off");
}

#[test]
fn those_who_stand_out_are_ejected_at_the_next_comparison() {
    for (name, reason) in [("fails one in four", "success_rate"), ("is slow", "latency")] {
        let mut world = world(6, |_| {});
        for second in 0..12 {
            for n in 0..6 {
                let id = format!("i{n}");
                if n == 4 && reason == "success_rate" {
                    (0..5).for_each(|_| {
                        world.answer(&id, 3, TICK);
                        world.fail(&id, 1);
                    });
                } else {
                    world.answer(&id, 20, if n == 4 { 9 * TICK } else { TICK });
                }
            }
            world.run(SECOND);
            assert!(second >= 8 || world.ejected().is_empty(), "{name}: too soon");
        }
        assert_eq!(world.ejected(), ["i4"], "{name}");
        assert_eq!(world.ejections(), [reason], "{name}");
    }
}

#[test]
fn nobody_ramps_at_the_start_and_newcomers_do() {
    let mut world = world(2, |_| {});
    assert_eq!(world.parts(), [100, 100]);
    world.reload(|pool| pool.instances.push(instance(2)));
    world.run(Duration::ZERO);
    assert_eq!(world.parts(), [100, 100, 10], "before anybody sees it");
    assert_eq!(world.get("i2").standing.life, Life::Ramping);
    assert_eq!(world.get("i2").why(), "up, warming: takes 9 % of its share");
    world.run(15 * SECOND);
    let half = world.parts()[2];
    assert!((49..=52).contains(&half), "{half}");
    // A reload changes nothing; another window only what is still to come.
    world.reload(|pool| pool.max_in_flight = crate::model::Limit::AtMost(7));
    world.run(TICK);
    assert!(world.parts()[2].abs_diff(half) <= 1);
    world.reload(|pool| pool.slow_start = Some(60 * SECOND));
    world.run(15 * SECOND);
    assert!((74..=77).contains(&world.parts()[2]), "{:?}", world.parts());
    world.run(16 * SECOND);
    assert_eq!(world.parts(), [100, 100, 100]);
    assert_eq!(world.get("i2").standing.life, Life::Serving);

    world.sick.push("i0");
    world.run(2 * SECOND);
    world.sick.clear();
    world.run(1_500 * Duration::from_millis(1));
    assert_eq!(world.get("i0").standing.life, Life::Ramping, "it was down");
    assert!(world.parts()[0] <= 13, "{:?}", world.parts());

    world.reload(|pool| pool.slow_start = None);
    world.run(TICK);
    assert_eq!(world.parts(), [100, 100, 100]);
}

#[test]
fn ramps_end_when_the_last_warm_one_is_gone() {
    let mut world = world(1, |_| {});
    world.reload(|pool| pool.instances.push(instance(1)));
    world.run(6 * SECOND);
    world.reload(|pool| pool.instances.push(instance(2)));
    world.run(6 * SECOND);
    assert_eq!(world.get("i1").standing.life, Life::Ramping);
    world.sick.push("i0");
    world.run(2 * SECOND);
    let parts = world.parts();
    assert_eq!(parts[1], 100, "the warmest of those that are left");
    assert!((50..65).contains(&parts[2]), "and the other beside it: {parts:?}");
    assert_eq!(world.get("i1").standing.life, Life::Serving);
}

#[test]
fn a_pool_that_comes_from_nothing_does_not_ramp_but_what_is_added_later_does() {
    let mut world = world(0, provisioned);
    world.list(&[]);
    world.run(5 * SECOND);
    world.list(&["m0", "m1"]);
    world.run(SECOND);
    assert_eq!(world.parts(), [100, 100], "nobody is warm");
    world.run(40 * SECOND);
    world.list(&["m0", "m1", "m2"]);
    world.run(TICK);
    assert_eq!(world.parts(), [100, 100, 10]);
    assert_eq!(world.get("m2").standing.life, Life::Ramping);

    let mut world = self::world(0, provisioned);
    world.list(&["m0"]);
    world.run(40 * SECOND);
    world.list(&["m0", "m1"]);
    world.run(TICK);
    assert_eq!(world.parts()[0], 100, "it ran before our time");
    assert_eq!(world.parts()[1], 10);
}

#[test]
fn a_drain_that_is_undone_soon_costs_nothing() {
    for (seconds, part) in [(3, 100), (29, 100), (40, 10)] {
        let mut world = world(0, provisioned);
        world.list(&["m0", "m1"]);
        // Neither is warm yet; they are in step.
        world.run(2 * SECOND);
        let ids: Vec<InstanceId> = vec!["m1".into()];
        let busy = world.get("m1").instance.take_slot(crate::model::Limit::Unlimited);
        let deadline = world.now + 60 * SECOND;
        let drain = AgentReport::Drain { pool: "web".into(), ids: ids.clone(), deadline };
        world.membership.handle_report(world.now, drain);
        world.run(seconds * SECOND);
        let revive = AgentReport::Revive { pool: "web".into(), ids };
        world.membership.handle_report(world.now, revive);
        world.run(Duration::ZERO);
        assert!(busy.is_some() && world.parts() == [100, part], "{seconds} s: {:?}", world.parts());
    }
}

#[test]
fn a_slow_newcomer_stays_at_the_floor_until_it_is_fast_or_three_windows_are_over() {
    let mut world = world(3, |_| {});
    world.reload(|pool| pool.instances.push(instance(3)));
    let second = |world: &mut World, took: Duration| {
        (0..3).for_each(|n| world.answer(&format!("i{n}"), 50, TICK));
        world.answer("i3", 5, took);
        world.run(SECOND);
        world.parts()[3]
    };
    for _ in 0..20 {
        let part = second(&mut world, 10 * TICK);
        assert!(part <= 14, "{part}");
    }
    let parts: Vec<u32> = (0..30).map(|_| second(&mut world, TICK)).collect();
    assert!((45..=60).contains(&parts[14]) && parts[29] == 100, "{parts:?}");

    world.reload(|pool| pool.instances.push(instance(4)));
    let vitals = world.vitals("i4");
    for _ in 0..91 {
        (0..4).for_each(|n| world.answer(&format!("i{n}"), 50, TICK));
        vitals.count_response(200, 10 * TICK);
        world.run(SECOND);
    }
    assert_eq!(world.parts()[4], 100, "it is just slow");
}
