//! Days that a pool may have.

use super::*;
use crate::model::ScaleIn;

/// A pool at rest, with nobody to blame for it.
fn settled(world: &mut World, seconds: u64) {
    let from = world.second();
    world.run(seconds);
    let acted: Vec<&u64> = world.acted.iter().filter(|second| **second > from).collect();
    let last: Vec<_> = world.records.iter().rev().take(5).collect();
    assert!(acted.is_empty(), "acted at {acted:?} of {}: {last:#?}", world.second());
}

#[test]
fn a_steady_load_is_met_once_and_then_left_alone() {
    for seed in 0..2 {
        for rate in [30.0, 210.0, 418.0, 485.0, 840.0, 1_390.0] {
            let mut world = World::new(seed, 3, 40, rate);
            world.run(1_800);
            settled(&mut world, 1_800);
            let needed = (rate / 70.0).ceil().max(3.0) as u32;
            assert!(
                (needed..=needed + 2).contains(&world.serving()),
                "{rate}: {}",
                world.serving()
            );
            assert!(world.apart() <= 1);
            assert!(world.records.len() < 20, "{rate}: {:#?}", world.records);
        }
    }
}

#[test]
fn an_empty_pool_is_brought_to_its_minimum_at_once() {
    let mut world = World::new(1, 12, 40, 0.0);
    let plan = world.step();
    assert_eq!(plan.launches.iter().map(|order| order.count).sum::<u32>(), 12);
    assert_eq!((plan.records[0].winner, plan.desired), ("min", 12));
    assert_eq!(
        plan.records[0].reason,
        "+12 (0→12): the minimum is 12, 70 rps per instance; a+4 b+4 c+4"
    );
}

#[test]
fn a_pool_without_traffic_goes_to_zero_and_one_request_brings_it_back() {
    for seed in 0..4 {
        let mut world = World::new(seed, 0, 40, 0.0);
        settled(&mut world, 600);
        world.waiting = 1;
        let plan = world.step();
        assert_eq!((plan.launches.len(), plan.desired), (1, 1), "{:?}", plan.records);
        assert_eq!(plan.records[0].winner, "backlog");
        world.run(60);
        assert_eq!((world.serving(), world.waiting), (1, 0));
        world.rate = 300.0;
        world.run(120);
        assert!(world.serving() >= 5);
        world.rate = 0.0;
        world.run(1_200);
        assert_eq!((world.serving(), world.bodies.len()), (0, 0), "{:#?}", world.records.last());
        settled(&mut world, 1_800);
    }
}

#[test]
fn a_step_is_ordered_within_three_seconds_and_taken_back_after_the_hold() {
    for seed in 0..4 {
        let mut world = World::new(seed, 3, 40, 180.0);
        world.run(600);
        assert_eq!(world.serving(), 3);
        world.rate = 720.0;
        let stepped = world.second();
        world.run(3);
        let ordered = world.records.iter().rev().find(|(_, r)| r.action == "launch");
        assert!(ordered.is_some_and(|(at, _)| *at > stepped), "{:?}", world.records.last());
        world.run(60);
        assert!(world.serving() >= 11, "{}", world.serving());
        world.rate = 180.0;
        let fell = world.second();
        settled(&mut world, 290);
        world.run(30);
        assert!(world.acted.iter().any(|second| *second > fell + 290), "after the hold");
        let drained = |from: u64, world: &World| {
            world.records.iter().filter(|(at, r)| *at > from && r.action == "drain").count()
        };
        world.run(280);
        // One a minute, which is more than a tenth of twelve.
        let drained = drained(fell, &world);
        assert!((4..=6).contains(&drained), "{drained}");
        world.run(600);
        assert_eq!((world.serving(), world.apart()), (3, 0));
    }
}

#[test]
fn no_more_boot_at_a_time_than_may() {
    let mut world = World::new(1, 3, 100, 200.0);
    world.edit(|scaling| scaling.max_pending = Limit::AtMost(4));
    world.run(60);
    world.rate = 3_000.0;
    for _ in 0..300 {
        world.step();
        let booting = world.bodies.iter().filter(|body| body.boots()).count();
        assert!(booting <= 4, "{booting} boot");
    }
    assert!(world.serving() > 20, "{}", world.serving());
}

#[test]
fn what_drains_is_revived_before_anything_is_launched() {
    let mut world = World::new(3, 3, 40, 600.0);
    world.run(400);
    world.rate = 200.0;
    while !world.step().records.iter().any(|record| record.action == "drain") {}
    world.bodies.iter_mut().for_each(|body| body.drained_at = Ms::NEVER);
    world.run(3);
    world.bodies.iter_mut().for_each(|body| body.drained_at = Ms::NEVER);
    let born = world.born;
    world.rate = 600.0;
    world.run(20);
    assert_eq!(world.born, born, "{:#?}", world.records.last());
    assert!(world.records.iter().any(|(_, record)| record.action == "revive"));
    assert!(world.serving() >= 9);
}

#[test]
fn a_dead_process_is_replaced_at_once_and_cleaned_up() {
    let mut world = World::new(4, 6, 12, 300.0);
    world.run(400);
    let dead = world.ids("b")[0].clone();
    world.kill(&dead);
    let plan = world.step();
    assert_eq!(plan.terminations, [dead]);
    let launched: Vec<&str> = plan.launches.iter().map(|order| order.zone.as_str()).collect();
    assert_eq!((launched, plan.desired), (vec!["b"], 6));
    world.run(60);
    assert_eq!((world.serving(), world.bodies.len()), (6, 6));
}

#[test]
fn a_machine_that_vanishes_is_replaced_too() {
    let mut world = World::new(5, 6, 12, 300.0);
    world.run(400);
    world.bodies.remove(2);
    world.run(60);
    assert_eq!(world.serving(), 6);
    settled(&mut world, 600);
}

#[test]
fn a_frozen_one_leaves_only_when_its_replacement_serves() {
    let mut world = World::new(6, 6, 6, 300.0);
    world.run(700);
    let frozen = world.ids("a")[0].clone();
    world.freeze(&frozen);
    world.run(5);
    assert_eq!(world.bodies.len(), 7, "create first, over the maximum: it carries nothing");
    world.run(60);
    assert_eq!((world.serving(), world.bodies.len()), (6, 6));
    assert!(world.bodies.iter().all(|body| body.machine.id != frozen));
    assert_eq!(world.told("down, and replaced by now"), 1);
    settled(&mut world, 1_800);
}

#[test]
fn one_that_comes_back_is_kept_and_the_surplus_leaves_as_usual() {
    let mut world = World::new(7, 6, 12, 300.0);
    world.run(700);
    let frozen = world.ids("a")[0].clone();
    world.freeze(&frozen);
    world.run(5);
    world.body(&frozen).fate = Fate::Works;
    world.run(30);
    assert_eq!(world.told("down, and replaced by now"), 0);
    world.run(90);
    assert_eq!((world.serving(), world.apart()), (6, 0));
    settled(&mut world, 1_800);
}

#[test]
fn an_outage_of_something_else_replaces_nothing() {
    let mut world = World::new(8, 9, 20, 500.0);
    world.run(700);
    world.troubled = true;
    let some: Vec<InstanceId> = ["a", "a", "b", "b", "c"]
        .iter()
        .enumerate()
        .map(|(n, z)| world.ids(z)[n % 2].clone())
        .collect();
    let born = world.born;
    some.iter().for_each(|id| world.freeze(id));
    settled(&mut world, 600);
    assert_eq!(
        (world.born, world.told("probably something that all of them depend on")),
        (born, 1)
    );
    // One whose process ends is replaced all the same.
    world.kill(&some[0]);
    world.run(5);
    assert_eq!(world.born, born + 1);
    some[1..].iter().for_each(|id| world.body(id).fate = Fate::Works);
    world.run(60);
    assert_eq!(world.serving(), 9);
}

#[test]
fn a_lost_zone_is_made_up_for_elsewhere_and_evened_out_when_it_is_back() {
    for seed in 0..3 {
        let mut world = World::new(seed, 9, 20, 500.0);
        world.run(700);
        world.troubled = true;
        world.dark = vec!["b".into()];
        world.moods.insert("b".into(), Mood::Barren);
        world.run(40);
        assert_eq!(world.serving(), 9, "six seconds and a boot later");
        assert_eq!(world.carrying(Some(&"b".into())), 0);
        world.run(600);
        world.dark.clear();
        world.moods.clear();
        world.run(1_800);
        assert_eq!((world.serving(), world.apart()), (9, 0), "seed {seed}: {:#?}", world.records);
        settled(&mut world, 1_800);
    }
}

#[test]
fn a_zone_lost_while_it_boots_more_is_made_up_for_before_the_allowance_ends() {
    let mut world = World::new(9, 6, 30, 300.0);
    world.run(700);
    world.troubled = true;
    world.rate = 850.0;
    world.run(4);
    assert!(world.ids("b").len() > 2, "something boots in b");
    world.dark = vec!["b".into()];
    world.moods.insert("b".into(), Mood::Barren);
    world.run(70);
    assert!(world.serving() >= 12, "{}: {:#?}", world.serving(), world.records);
}

#[test]
fn a_steward_that_is_slow_to_drain_is_not_asked_twice() {
    for seed in 0..4 {
        let mut world = World::new(seed, 3, 60, 2_700.0);
        world.run(700);
        // Neither the hold nor the rate keeps too many from leaving.
        world.scaling.scale_in = ScaleIn { hold: SECOND, rate: Share(0.9) };
        world.rate = 1_800.0;
        for _ in 0..120 {
            world.step();
            assert!(world.serving() >= 26, "{} serve", world.serving());
        }
        assert!(world.serving() <= 30, "{} serve", world.serving());
    }
}

#[test]
fn a_full_zone_does_not_stop_the_others() {
    let mut world = World::new(10, 3, 40, 200.0);
    world.troubled = true;
    world.moods.insert("a".into(), Mood::Full);
    world.run(60);
    assert_eq!(world.serving(), 3);
    world.rate = 1_000.0;
    world.run(90);
    assert!(world.serving() >= 15, "{}", world.serving());
    assert_eq!(world.told("no capacity"), 1, "told once");
    world.moods.clear();
    world.rate = 1_400.0;
    world.run(400);
    assert!(world.apart() <= 1);
}

#[test]
fn machines_that_never_come_up_are_taken_back() {
    let mut world = World::new(11, 3, 12, 100.0);
    world.troubled = true;
    for zone in &world.capabilities.zones {
        world.moods.insert(zone.clone(), Mood::Barren);
    }
    world.run(3_600);
    assert!(world.told("was not up within 120 s") > 0 && world.bodies.len() <= 6);
    assert!(world.born <= 3 * 3_600 / 120, "{}", world.born);
    world.moods.clear();
    world.run(600);
    assert_eq!(world.serving(), 3);
}

#[test]
fn machines_that_die_at_birth_are_ordered_ever_more_slowly() {
    let mut world = World::new(11, 3, 12, 100.0);
    world.troubled = true;
    for zone in &world.capabilities.zones {
        world.moods.insert(zone.clone(), Mood::Deadly);
    }
    world.run(7_200);
    // Each zone tries about 8 times in the first 10 minutes, then every 4 or so, 3 at once.
    assert!((50..=330).contains(&world.born), "{}", world.born);
    assert!(world.told("no such program") > 0);
    world.moods.clear();
    world.run(400);
    assert_eq!(world.serving(), 3);
}

#[test]
fn a_provider_that_refuses_is_asked_ever_more_slowly() {
    let mut world = World::new(12, 3, 12, 100.0);
    world.denies = true;
    let mut asked = 0;
    for _ in 0..3_600 {
        asked += world.step().launches.len();
    }
    // Three zones at a time: 8 doublings, then one try in up to 5 minutes.
    assert!((30..=100).contains(&asked), "{asked}");
    assert_eq!(world.told("give the daemon's credentials the right"), 1 + asked / 1_000);
    world.denies = false;
    world.run(400);
    assert_eq!(world.serving(), 3);
}

#[test]
fn a_quota_is_the_maximum_until_it_is_tried_again() {
    let mut world = World::new(13, 3, 40, 200.0);
    world.run(400);
    world.troubled = true;
    world.quota = 7;
    world.rate = 1_000.0;
    let mut asked = 0;
    for _ in 0..1_500 {
        asked += world.step().launches.len();
    }
    assert!(world.serving() >= 5 && asked <= 40, "{} {asked}", world.serving());
    assert!(world.told("have the quota raised") >= 1);
    world.quota = 100;
    world.run(400);
    assert!(world.serving() >= 15);
}

#[test]
fn a_restarted_daemon_keeps_what_it_finds_for_one_hold() {
    let mut world = World::new(14, 3, 40, 800.0);
    world.run(600);
    let size = world.serving();
    world.rate = 100.0;
    world.run(1);
    world.restart(99);
    let before = world.born;
    settled(&mut world, 298);
    assert_eq!((world.serving(), world.born), (size, before));
    world.run(3_600);
    assert_eq!(world.serving(), 3);
}

#[test]
fn what_an_operator_drained_is_replaced_and_left_alone() {
    let mut world = World::new(15, 3, 12, 150.0);
    world.run(400);
    let kept = world.ids("a")[0].clone();
    world.body(&kept).standing.admin = Admin::Draining;
    world.run(60);
    assert_eq!((world.serving(), world.bodies.len()), (3, 4));
    world.body(&kept).standing.admin = Admin::Enabled;
    world.run(120);
    assert_eq!(world.serving(), 3);
}

#[test]
fn an_evacuated_zone_gets_nothing_new() {
    let mut world = World::new(16, 6, 12, 300.0);
    world.run(400);
    world.troubled = true;
    world.evacuated = vec!["c".into()];
    world.run(60);
    assert_eq!((world.serving(), world.bodies.len(), world.ids("c").len()), (6, 8, 2));
    let kept = world.ids("c");
    world.run(7_200);
    assert_eq!((world.serving(), world.ids("c")), (6, kept), "its instances are kept");
    world.evacuated.clear();
    world.run(3_600);
    settled(&mut world, 600);
    assert_eq!((world.serving(), world.apart()), (6, 0));
}

/// Also where the zone has nothing, and where it is evacuated just as it was to get more.
#[test]
fn an_evacuation_moves_what_was_ordered() {
    let mut world = World::new(19, 2, 12, 100.0);
    world.run(400);
    let without: Vec<ZoneId> = ["a", "b", "c"]
        .map(ZoneId::new)
        .into_iter()
        .filter(|z| world.carrying(Some(z)) == 0)
        .collect();
    assert_eq!(without.len(), 1);
    world.troubled = true;
    world.evacuated = without;
    let born = world.ids(world.evacuated[0].as_str()).len();
    world.rate = 560.0;
    world.run(120);
    assert!(world.serving() >= 8, "{}", world.serving());
    assert_eq!(world.ids(world.evacuated[0].as_str()).len(), born, "nothing is launched there");

    let mut world = World::new(20, 3, 12, 150.0);
    world.run(400);
    world.troubled = true;
    world.boot = SECOND * 60;
    world.rate = 560.0;
    let ordered = (0..60).any(|_| !world.step().launches.is_empty());
    assert!(ordered);
    world.run(5);
    world.evacuated = vec!["a".into()];
    world.run(90);
    assert!(world.serving() >= 8, "what boots in zone a is replaced: {}", world.serving());
}

#[test]
fn protected_instances_stay() {
    let mut world = World::new(17, 1, 12, 600.0);
    world.run(400);
    world.bodies.iter_mut().for_each(|body| {
        body.machine.protected = body.machine.zone.as_str() != "a";
    });
    world.troubled = true;
    world.rate = 10.0;
    world.run(7_200);
    assert_eq!(world.ids("a").len(), 0);
    assert!(world.serving() >= 6);
    settled(&mut world, 600);
}

#[test]
fn a_retired_pool_is_drained_and_gone() {
    let mut world = World::new(18, 6, 12, 300.0);
    world.run(400);
    world.rate = 840.0;
    world.run(3);
    let born = world.born;
    world.retired = true;
    world.run(90);
    assert_eq!((world.bodies.len(), world.born), (0, born));
    assert!(world.scaler.nothing_ordered());
}

/// Hours of everything at once, then a calm hour in which all must be well again.
#[test]
fn whatever_happens_the_pool_recovers() {
    for seed in 0..5 {
        let mut world = World::new(seed, 3, 30, 400.0);
        world.troubled = true;
        for _ in 0..120 {
            misfortune(&mut world);
            world.run(60);
        }
        world.moods.clear();
        world.dark.clear();
        world.quota = u32::MAX;
        world.denies = false;
        world.rate = 600.0;
        world.bodies.iter_mut().for_each(|body| body.fate = Fate::Works);
        world.run(3_600);
        let last = &world.records[world.records.len().saturating_sub(8)..];
        assert!((9..=10).contains(&world.serving()), "seed {seed}: {} {last:#?}", world.serving());
        assert_eq!(world.serving(), world.bodies.len() as u32, "seed {seed}");
        assert!(world.apart() <= 1, "seed {seed}: {last:#?}");
        settled(&mut world, 1_800);
    }
}

pub(super) fn misfortune(world: &mut World) {
    let draw = world.entropy.below(100);
    let zone = world.capabilities.zones[world.entropy.below(3)].clone();
    let somebody = match world.bodies.len() {
        0 => None,
        some => Some(world.bodies[world.entropy.below(some)].machine.id.clone()),
    };
    let moods = [Mood::Fine, Mood::Full, Mood::Throttles, Mood::Mute, Mood::Barren, Mood::Deadly];
    match draw {
        0..20 => world.rate = 100.0 + 1_700.0 * world.entropy.unit(),
        20..30 => somebody.iter().for_each(|id| world.kill(id)),
        30..40 => somebody.iter().for_each(|id| world.freeze(id)),
        40..50 => world.bodies.iter_mut().for_each(|body| body.fate = Fate::Works),
        50..60 => {
            let mood = moods[world.entropy.below(moods.len())];
            world.moods.insert(zone, mood);
        }
        60..65 => world.dark = vec![zone],
        65..75 => world.dark.clear(),
        75..78 => world.quota = world.bodies.len() as u32,
        78..83 => world.quota = u32::MAX,
        83..85 => world.denies = true,
        85..90 => world.denies = false,
        90..93 => {
            let seed = world.entropy.next_u64();
            world.restart(seed);
        }
        _ => world.moods.clear(),
    }
}
