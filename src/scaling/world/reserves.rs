//! What is kept for the loss of a zone, and what stands by.

use super::*;
use crate::model::{RateTarget, Standby, ZoneBalance, ZoneRedundancy};

#[test]
fn strict_zones_stay_even_and_it_is_told_why_nothing_comes() {
    let mut world = World::new(10, 6, 40, 200.0);
    world.edit(|scaling| scaling.zone_balance = ZoneBalance::Strict);
    world.run(400);
    world.troubled = true;
    world.moods.insert("a".into(), Mood::Full);
    world.rate = 1_000.0;
    world.run(120);
    let b = world.carrying(Some(&"b".into()));
    assert!((5..=6).contains(&b), "a third of what is wanted, and not {b}");
    assert!(world.serving() <= 14);
    assert_eq!(world.told("goes nowhere else"), 1);
    world.moods.clear();
    world.run(600);
    assert!(world.serving() >= 15 && world.apart() <= 1);
}

#[test]
fn a_zone_can_be_lost_and_its_load_is_carried_at_once() {
    let mut world = World::new(11, 3, 40, 700.0);
    world.edit(|scaling| scaling.zone_redundancy = ZoneRedundancy::OneZone);
    world.run(900);
    world.troubled = true;
    let lost = world.ids("b");
    lost.iter().for_each(|id| world.kill(id));
    assert!(world.serving() >= 10, "{} carry 700 rps", world.serving());
}

#[test]
fn what_stands_by_is_refilled_after_use() {
    let mut world = World::new(12, 3, 40, 400.0);
    world.edit(|scaling| scaling.standby = Standby::Count(3));
    world.run(900);
    let before = world.serving();
    assert!((9..=10).contains(&before), "{before}");
    world.rate = 600.0;
    world.run(120);
    let after = world.serving();
    assert!((12..=13).contains(&after), "{after}");
    let (_, record) = world.records.last().expect("records");
    assert_eq!(record.terms["standby"], 3.0);
}

/// Requests that are shed within two minutes of a sudden step, of instances that are run close to what
/// they take: 95 of 100 a second.
fn shed_by_a_step(seed: u64, standby: Standby, step: f64) -> u64 {
    let mut world = World::new(seed, 3, 60, 1_900.0);
    world.edit(|scaling| {
        scaling.target_requests_per_second = Some(RateTarget::Stated(95.0));
        scaling.standby = standby;
    });
    world.run(900);
    world.rate *= step;
    let shed = (0..120).map(|_| {
        world.step();
        world.windows.back().map_or(0, |window| window.shed)
    });
    shed.sum()
}

#[test]
fn a_step_no_larger_than_what_stands_by_is_shed_nothing_of() {
    for seed in 0..4 {
        for (standby, step) in [
            (Standby::Share(Share(0.2)), 1.2),
            (Standby::Count(4), 1.2),
            (Standby::Share(Share(0.5)), 1.5),
        ] {
            assert_eq!(shed_by_a_step(seed, standby, step), 0, "{standby:?}, seed {seed}");
            let without = shed_by_a_step(seed, Standby::Count(0), step);
            assert!(without > 1_000, "{without} without {standby:?}, seed {seed}");
        }
    }
}
