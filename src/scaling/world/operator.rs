//! What operators say.

use super::*;

fn size(desired: u32) -> Said {
    let size = Some(SizeOverride { desired, until: None });
    Said { size, ..Said::default() }
}

#[test]
fn an_operators_size_is_taken_kept_and_given_back() {
    let mut world = World::new(3, 3, 40, 600.0);
    world.run(600);
    let own = world.serving();
    assert!((9..=11).contains(&own), "{own}");
    world.said = size(20);
    world.run(60);
    assert_eq!(world.serving(), 20);
    world.rate = 100.0;
    world.run(3_600);
    assert_eq!(world.serving(), 20, "whatever the demand is");
    assert_eq!(world.told("an operator set the size to 20"), 1, "{:#?}", world.records);

    world.said = size(5);
    world.rate = 2_000.0;
    let before = world.serving();
    world.run(30);
    assert!((before - 3..before).contains(&world.serving()), "at once, but at the rate");
    world.run(1_800);
    assert_eq!(world.serving(), 5);
    assert!(world.apart() <= 1);

    world.said = Said::default();
    world.run(120);
    assert!(world.serving() >= 28, "the demand decides again: {}", world.serving());
}

#[test]
fn an_operators_size_outside_of_the_bounds_is_brought_within() {
    let mut world = World::new(4, 3, 12, 300.0);
    world.run(400);
    world.said = size(50);
    world.run(120);
    assert_eq!(world.serving(), 12);
    let (_, record) = world.records.iter().rfind(|(_, r)| r.action == "launch").expect("a launch");
    assert_eq!((record.winner, record.clamps[0].as_str()), ("operator", "max 50→12"));
    world.said = size(0);
    world.run(1_800);
    assert_eq!(world.serving(), 3);
}

#[test]
fn what_breaks_under_an_operators_size_is_replaced() {
    let mut world = World::new(5, 3, 40, 100.0);
    world.run(400);
    world.said = size(9);
    world.run(120);
    let victim = world.ids("a")[0].clone();
    world.troubled = true;
    world.kill(&victim);
    world.run(600);
    assert_eq!((world.serving(), world.ids("a").contains(&victim)), (9, false));
}

/// Whatever happens and whatever is recommended, nobody is ordered to do anything.
#[test]
fn recommendations_order_nothing() {
    for seed in 0..4 {
        let mut world = World::new(seed, 3, 30, 400.0);
        world.run(400);
        world.troubled = true;
        world.scaling.mode = ScalingMode::Recommend;
        let from = world.second();
        for minute in 0..240 {
            scenarios::misfortune(&mut world);
            if minute % 30 == 7 {
                let desired = world.entropy.below(40) as u32;
                world.said = if minute % 60 == 7 { size(desired) } else { Said::default() };
            }
            for _ in 0..60 {
                let plan = world.step();
                assert!(plan.launches.is_empty() && plan.drains.is_empty(), "{plan:?}");
                assert!(plan.revives.is_empty() && plan.terminations.is_empty(), "{plan:?}");
                assert!((3..=30).contains(&plan.desired), "{plan:?}");
                assert!(plan.tally.is_some());
            }
        }
        let since = world.records.iter().filter(|(at, _)| *at > from);
        assert!(since.clone().all(|(_, record)| record.to > 0), "{:#?}", world.records);
        let actions: Vec<_> = since.map(|(_, record)| record.action).collect();
        assert!(actions.contains(&"recommend"), "{actions:?}");
        assert!(actions.iter().all(|action| ["recommend", "hold"].contains(action)), "{actions:?}");
    }
}

#[test]
fn recommendations_add_up_and_are_told_once() {
    let mut world = World::new(8, 3, 40, 150.0);
    world.run(700);
    assert_eq!(world.serving(), 3);
    world.scaling.mode = ScalingMode::Recommend;
    world.run(5);
    world.rate = 700.0;
    let mut tally = Tally::default();
    for _ in 0..600 {
        tally = tally.plus(world.step().tally.expect("a tally"));
    }
    assert_eq!((world.serving(), tally.seconds), (3, 600.0));
    assert_eq!(tally.existing_instance_seconds, 1_800.0);
    assert!(tally.recommended_instance_seconds > 590.0 * 10.0, "{tally:?}");
    assert!((590.0..=600.0).contains(&tally.short_seconds), "{tally:?}");
    let told: Vec<_> = world.records.iter().filter(|(_, r)| r.action == "recommend").collect();
    assert!((1..=4).contains(&told.len()), "{told:#?}");
    let (_, first) = told[0];
    assert!(first.from == 3 && first.to > 3, "{first:?}");

    world.rate = 100.0;
    world.run(3_600);
    assert_eq!(world.step().desired, 3, "it would have shrunk again");
    world.scaling.mode = ScalingMode::Enforce;
    world.rate = 700.0;
    world.run(120);
    assert!(world.serving() >= 10, "and now it is carried out: {}", world.serving());
}

#[test]
fn off_means_that_nothing_is_decided() {
    let mut world = World::new(9, 3, 40, 300.0);
    world.run(400);
    world.troubled = true;
    world.scaling.mode = ScalingMode::Off;
    let (born, told) = (world.born, world.records.len());
    world.kill(&world.ids("a")[0].clone());
    world.rate = 2_000.0;
    for _ in 0..1_200 {
        let plan = world.step();
        let expected = Plan { desired: plan.desired, ..Plan::default() };
        assert_eq!(plan, expected);
    }
    assert_eq!((world.born, world.records.len()), (born, told));
}
