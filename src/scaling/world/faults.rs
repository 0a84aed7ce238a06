//! Providers that answer wrong, late, or not at all.

use super::*;

/// A pool that is about to need nine more in a world of that mood.
fn burst(seed: u64, mood: Mood) -> World {
    let mut world = World::new(seed, 3, 40, 200.0);
    world.run(700);
    world.troubled = true;
    for zone in world.capabilities.zones.clone() {
        world.moods.insert(zone, mood);
    }
    world.rate = 820.0;
    world
}

/// All is well again in the end, with nobody too many.
fn recovers(world: &mut World, mood: Mood) {
    world.moods.clear();
    (world.blind, world.stubborn) = (false, false);
    world.run(2_400);
    let last = world.records.last();
    assert!((12..=13).contains(&world.serving()), "{mood:?}: {} {last:?}", world.serving());
    assert_eq!(world.bodies.len() as u32, world.serving(), "{mood:?}");
    assert!(world.apart() <= 1, "{mood:?}");
}

#[test]
fn every_mood_of_a_provider_is_survived_and_none_is_answered_with_a_flood() {
    let moods = [
        (Mood::Broken, 0),
        (Mood::Throttles, 0),
        (Mood::Full, 0),
        (Mood::Mute, 12),
        (Mood::Doubles, 24),
        (Mood::Stuck, 60),
        (Mood::Barren, 60),
    ];
    for seed in 0..3 {
        for (mood, most) in moods {
            let mut world = burst(seed, mood);
            let born = world.born;
            let mut asked = 0;
            for _ in 0..600 {
                asked += world.step().launches.len();
                assert!(world.serving() >= 3, "{mood:?}");
            }
            assert!(world.born - born <= most, "{mood:?}: {}", world.born - born);
            assert!(asked <= 60, "{mood:?}: asked {asked} times in ten minutes");
            recovers(&mut world, mood);
        }
    }
}

#[test]
fn what_was_created_twice_is_given_back() {
    let mut world = burst(5, Mood::Doubles);
    world.run(60);
    assert!(world.serving() >= 15, "{}", world.serving());
    recovers(&mut world, Mood::Doubles);
}

#[test]
fn nothing_is_decided_without_a_list_and_all_is_made_up_for_after_it() {
    for seed in 0..3 {
        let mut world = burst(seed, Mood::Fine);
        world.run(2);
        world.blind = true;
        world.run(300);
        recovers(&mut world, Mood::Fine);
    }
}

#[test]
fn a_restart_in_the_middle_of_a_burst_orders_no_more_than_is_missing() {
    for seed in 0..8 {
        let mut world = burst(seed, Mood::Fine);
        world.run(2 + seed);
        world.restart(seed + 100);
        let before = world.born;
        world.run(120);
        let young = world.born - before;
        assert!((12..=13).contains(&world.serving()), "seed {seed}: {}", world.serving());
        assert!(young <= 10, "seed {seed}: {young} more");
    }
}

#[test]
fn a_ghost_that_nobody_ordered_is_counted_and_one_that_does_not_go_is_told_again() {
    let mut world = burst(7, Mood::Fine);
    world.run(120);
    // Three that somebody else has made, and that work.
    let ghost = LaunchOrder { token: "foreign".into(), zone: "a".into(), count: 3, size: None };
    world.launch(&ghost);
    world.answers.clear();
    world.run(60);
    assert!(world.serving() >= 13);
    world.stubborn = true;
    world.rate = 300.0;
    let mut told = 0;
    for _ in 0..1_200 {
        told += world.step().terminations.len();
    }
    assert!(told > 100, "again and again, every ten seconds each: {told}");
    assert!(world.serving() >= 5);
    world.rate = 820.0;
    world.stubborn = false;
    world.run(600);
    recovers(&mut world, Mood::Fine);
}
