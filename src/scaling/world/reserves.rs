//! What is kept for the loss of a zone, and what stands by.

use super::*;
use crate::model::{Standby, ZoneBalance, ZoneRedundancy};

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
