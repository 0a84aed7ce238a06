//! Pools that get another size or program, and those that had better not.

use super::*;
use crate::base::SizeId;
use crate::model::{Resizing, SizeClass};

/// A world with instances of three sizes, of which it has the first.
fn sized(seed: u64, min: u32, rate: f64) -> World {
    let mut world = World::new(seed, min, 60, rate);
    let class = |name, units| SizeClass { name: SizeId::new(name), units, cost: f64::from(units) };
    world.edit(|scaling| {
        scaling.sizes = vec![class("s", 1), class("m", 2), class("l", 4)];
        scaling.size = Some(scaling.sizes[0].clone());
    });
    world.run(700);
    world
}

fn resize(world: &mut World, to: usize) {
    world.edit(|scaling| scaling.size = Some(scaling.sizes[to].clone()));
}

fn all_of(world: &World, size: &str) -> bool {
    world.bodies.iter().all(|body| body.machine.size.as_deref() == Some(size))
}

/// Runs until the roll is over; capacity never falls below what the demand needs.
fn roll(world: &mut World, needed: u32) {
    for _ in 0..3_600 {
        world.step();
        let serving = world.serving_units();
        assert!(serving >= needed, "{}: {serving} serve", world.second());
        if world.told("rolled: all instances") > 0 {
            return;
        }
    }
    panic!("it never ends: {:#?}", &world.records[world.records.len() - 9..]);
}

#[test]
fn a_roll_under_load_ends_with_all_new_and_costs_no_capacity() {
    for seed in 0..6 {
        for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 1)] {
            let rate = 200.0 + 150.0 * seed as f64;
            let mut world = sized(seed, 3, rate);
            resize(&mut world, from);
            if from > 0 {
                roll(&mut world, (rate / 70.0) as u32);
                world.records.clear();
            }
            resize(&mut world, to);
            roll(&mut world, (rate / 70.0) as u32);
            assert!(all_of(&world, ["s", "m", "l"][to]));
            world.run(2_400);
            let unit = [1, 2, 4][to];
            let needed = (rate / 70.0).ceil() as u32;
            let serving = world.serving_units();
            assert!((needed..needed + 2 + unit).contains(&serving), "{rate}: {serving}");
            assert!(world.apart() <= 1, "{rate}: {}", world.apart());
            assert_eq!(world.bodies.len() as u32 * unit, serving);
        }
    }
}

#[test]
fn another_program_is_rolled_out_in_the_same_way() {
    let mut world = World::new(1, 10, 30, 500.0);
    world.capabilities.model = Some("one".into());
    world.run(700);
    world.capabilities.model = Some("two".into());
    let born = world.born;
    roll(&mut world, 10);
    assert_eq!(world.born, born + 10, "each once");
    let batches = world.records.iter().filter(|(_, r)| r.action == "drain" && r.winner == "roll");
    assert_eq!(batches.count(), 5, "two of ten at a time");
}

#[test]
fn a_size_that_never_comes_up_is_given_up_and_rolled_back() {
    for seed in 0..4 {
        let mut world = sized(seed, 6, 400.0);
        world.bad_make = Some("m".into());
        resize(&mut world, 1);
        for _ in 0..1_200 {
            world.step();
            assert!(world.serving_units() >= 6);
        }
        assert_eq!(world.told("rolled back to size s"), 1, "{:#?}", world.records.last());
        assert!(all_of(&world, "s"));
        let tried = world.told(" of m");
        world.run(3_600);
        world.restart(seed + 100);
        world.run(3_600);
        assert_eq!(world.told(" of m"), tried, "it is not tried again");
        // The operator's next word counts again.
        world.bad_make = None;
        world.records.clear();
        resize(&mut world, 2);
        roll(&mut world, 6);
        assert!(all_of(&world, "l"));
    }
}

#[test]
fn a_size_that_turns_out_bad_in_the_middle_is_taken_back() {
    let mut world = sized(3, 12, 800.0);
    resize(&mut world, 1);
    let new = |world: &World| {
        world.bodies.iter().filter(|b| b.machine.size.as_deref() == Some("m")).count()
    };
    while new(&world) < 3 {
        world.run(1);
    }
    world.bad_make = Some("m".into());
    world.run(2_400);
    assert_eq!(world.told("rolled back to size s"), 1);
    assert!(all_of(&world, "s") && world.serving_units() >= 12);
}

#[test]
fn a_program_that_never_comes_up_stops_and_what_serves_stays() {
    let mut world = World::new(5, 6, 30, 300.0);
    world.capabilities.model = Some("good".into());
    world.run(700);
    world.capabilities.model = Some("bad".into());
    world.bad_make = Some("bad".into());
    world.run(3_600);
    assert_eq!(world.told("the roll stops; put the old program back"), 1);
    world.restart(6);
    let born = world.born;
    world.run(3_600);
    assert_eq!(
        (world.born, world.told("instances are to be of")),
        (born, 1),
        "also after a restart"
    );
    let old = world.bodies.iter().filter(|b| b.machine.model.as_deref() == Some("good"));
    assert_eq!((old.count(), world.bodies.len()), (6, 6));
}

#[test]
fn a_roll_that_goes_on_through_a_restart_begins_and_ends_once() {
    for seconds in [1, 30, 60, 90] {
        let mut world = sized(4, 6, 400.0);
        resize(&mut world, 1);
        world.run(seconds);
        world.restart(seconds);
        roll(&mut world, 5);
        world.restart(seconds + 1);
        world.run(60);
        assert_eq!(world.told("instances are to be of size m"), 1, "{seconds}");
        assert_eq!(world.told("rolled: all"), 1, "{seconds}");
    }
}

#[test]
fn a_roll_that_rests_does_so_through_a_restart() {
    let mut world = sized(4, 6, 400.0);
    world.troubled = true;
    resize(&mut world, 1);
    world.moods = ["a", "b", "c"].map(|zone| (zone.into(), Mood::Full)).into();
    world.run(200);
    assert_eq!(world.told("the roll rests for 300 s"), 1);
    world.moods.clear();
    world.restart(5);
    world.run(270);
    assert!(all_of(&world, "s"), "it rests");
    roll(&mut world, 5);
    assert!(all_of(&world, "m"));
}

#[test]
fn a_size_that_was_chosen_and_given_up_stays_so_through_a_restart() {
    let mut world = sized(9, 20, 600.0);
    world.edit(|scaling| {
        scaling.resize = Resizing::Auto;
        scaling.sizes[1].cost = 1.0;
    });
    world.bad_make = Some("m".into());
    world.run(13 * 1_800);
    assert_eq!(world.told("rolled back to size s"), 1, "{:#?}", world.records.last());
    let tried = world.told(" of m");
    world.restart(10);
    world.run(13 * 1_800);
    assert_eq!((world.told("rolled back to size s"), world.told(" of m")), (1, tried));
    assert!(all_of(&world, "s"));
}

#[test]
fn one_accident_does_not_end_a_roll() {
    let mut world = sized(7, 6, 400.0);
    resize(&mut world, 1);
    while !world.bodies.iter().any(|body| body.machine.size.as_deref() == Some("m")) {
        world.run(1);
    }
    let first = world.bodies.last().expect("one").machine.id.clone();
    world.kill(&first);
    roll(&mut world, 5);
    assert!(all_of(&world, "m"));
    assert_eq!(world.told("given up"), 0);
}

#[test]
fn what_grows_during_a_roll_is_new_and_what_shrinks_after_it_is_old() {
    let mut world = sized(8, 6, 400.0);
    resize(&mut world, 1);
    world.run(30);
    world.rate = 1_500.0;
    let born = world.born;
    world.run(90);
    let young = world.bodies.iter().filter(|body| {
        let number = body.machine.id.as_str()[1..].parse::<u32>().expect("a number");
        number > born
    });
    assert!(young.clone().count() > 5);
    assert!(young.clone().all(|body| body.machine.size.as_deref() == Some("m")));
    world.run(3_600);
    assert!(all_of(&world, "m"));
}

/// Rolls to and fro on bad days, then a calm hour.
#[test]
fn whatever_happens_during_rolls_the_pool_recovers() {
    for seed in 0..6 {
        let mut world = sized(seed, 3, 500.0);
        world.troubled = true;
        for _ in 0..60 {
            match world.entropy.below(8) {
                0 | 1 => {
                    let to = world.entropy.below(3);
                    resize(&mut world, to);
                }
                2 => world.bad_make = Some(["s", "m", "l"][world.entropy.below(3)].into()),
                3 => {
                    let nonce = world.entropy.next_u64();
                    world.restart(nonce);
                }
                4 if !world.bodies.is_empty() => {
                    let any = world.entropy.below(world.bodies.len());
                    let id = world.bodies[any].machine.id.clone();
                    world.kill(&id);
                }
                5 => world.rate = 100.0 + 1_400.0 * world.entropy.unit(),
                6 => world.capabilities.model = Some(world.entropy.below(3).to_string()),
                _ => world.bad_make = None,
            }
            world.run(90);
        }
        world.bad_make = None;
        world.rate = 500.0;
        world.bodies.iter_mut().for_each(|body| body.fate = Fate::Works);
        world.capabilities.model = Some("last".into());
        resize(&mut world, 1);
        world.run(7_200);
        let last = &world.records[world.records.len().saturating_sub(8)..];
        assert!(all_of(&world, "m"), "seed {seed}: {last:#?}");
        assert!((8..=10).contains(&world.serving_units()), "seed {seed}: {last:#?}");
        assert_eq!(world.bodies.len() as u32 * 2, world.serving_units(), "seed {seed}");
    }
}
