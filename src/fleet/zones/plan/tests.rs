use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::{Instance, Vitals};

fn standing(health: Health) -> Standing {
    Standing { health, admin: Admin::Enabled, life: Life::Serving }
}

fn row(zone: &str, weight: u32, standing: Standing) -> InstanceRow {
    let instance = Instance {
        id: zone.into(),
        pool: "p".into(),
        zone: zone.into(),
        address: ([127, 0, 0, 1], 80).into(),
        weight,
        vitals: Arc::new(Vitals::default()),
    };
    InstanceRow::new(Arc::new(instance), standing)
}

/// For each zone so many that are up, and so many that are down.
fn rows(zones: &[(&str, usize, usize)]) -> Vec<InstanceRow> {
    let mut rows = Vec::new();
    for (zone, up, down) in zones {
        rows.extend((0..*up).map(|_| row(zone, 1, standing(Health::Up))));
        rows.extend((0..*down).map(|_| row(zone, 1, standing(Health::Down))));
    }
    rows
}

fn levels(levels: &[&[&str]]) -> Zones {
    let level = |level: &&[&str]| level.iter().map(|zone| ZoneId::from(*zone)).collect();
    let levels = levels.iter().map(level).collect();
    Zones { mode: ZoneMode::Priority, levels, ..Zones::default() }
}

fn local(home: &str) -> Zones {
    Zones { mode: ZoneMode::LocalFirst, home: Some(home.into()), ..Zones::default() }
}

/// `"a,b 70% | c 30%"`, to whole percents.
fn words(plan: &TrafficPlan) -> String {
    let tier = |tier: &Tier| {
        let zones: Vec<&str> = tier.zones.iter().map(ZoneId::as_str).collect();
        format!("{} {:.0}%", zones.join(","), 100.0 * tier.share)
    };
    plan.tiers.iter().map(tier).collect::<Vec<_>>().join(" | ")
}

fn planned(zones: &Zones, rows: &[InstanceRow]) -> String {
    words(&plan(zones, rows, &|_| false, Load::default()))
}

#[test]
fn levels_share_the_load_as_envoy_has_it() {
    let zones = levels(&[&["a"], &["b"]]);
    for (of_a, of_b, expected) in [
        (100, 100, "a 100% | b 0%"),
        (72, 100, "a 100% | b 0%"),
        (71, 100, "a 99% | b 1%"),
        (50, 100, "a 70% | b 30%"),
        (25, 100, "a 35% | b 65%"),
        (25, 25, "a 50% | b 50%"),
        (50, 60, "a 70% | b 30%"),
        (0, 100, "b 100%"),
        (0, 5, "b 100%"),
        (5, 0, "a 100%"),
        (0, 0, ""),
    ] {
        let rows = rows(&[("a", of_a, 100 - of_a), ("b", of_b, 100 - of_b)]);
        assert_eq!(planned(&zones, &rows), expected, "{of_a} {of_b}");
    }
}

#[test]
fn a_level_may_have_several_zones_and_the_unnamed_come_last() {
    let zones = levels(&[&["a"], &["b", "c"]]);
    let all = rows(&[("a", 2, 2), ("b", 1, 0), ("c", 0, 3), ("d", 4, 0)]);
    // 1.4 x 2/4 and 1.4 x 1/4 of two levels, and of the third what is left.
    assert_eq!(planned(&zones, &all), "a 70% | b 30% | d 0%");
    let less = rows(&[("a", 1, 3), ("b", 1, 0), ("c", 0, 3), ("d", 4, 0)]);
    assert_eq!(planned(&zones, &less), "a 35% | b 35% | d 30%");
}

#[test]
fn weights_count_and_what_warms_up_counts_by_how_warm_it_is() {
    let zones = levels(&[&["a"], &["b"]]);
    let up = standing(Health::Up);
    let rows = [row("a", 1, up), row("a", 3, standing(Health::Down)), row("b", 1, up)];
    assert_eq!(planned(&zones, &rows), "a 35% | b 65%");
    let rows = [row("a", 4, up), row("b", 1, up)];
    rows[0].instance.vitals.set_ramp(FULL / 4);
    assert_eq!(planned(&zones, &rows), "a 35% | b 65%");
    // What boots is not missed; what an operator keeps out is.
    let booting = Standing { life: Life::Booting, ..standing(Health::Pending) };
    let kept_out = Standing { admin: Admin::Evacuated, ..up };
    let mut rows = vec![row("a", 1, up), row("a", 9, booting), row("b", 1, up)];
    assert_eq!(planned(&zones, &rows), "a 100% | b 0%");
    rows.push(row("a", 1, kept_out));
    assert_eq!(planned(&zones, &rows), "a 70% | b 30%");
}

#[test]
fn a_lost_zone_gets_nothing_while_there_is_another() {
    let rows = rows(&[("a", 1, 3), ("b", 4, 0)]);
    let is_lost = |zone: &ZoneId| zone.as_str() == "a";
    let load = Load::default();
    let first = levels(&[&["a"], &["b"]]);
    assert_eq!(words(&plan(&first, &rows, &is_lost, load)), "b 100%");
    assert_eq!(words(&plan(&local("a"), &rows, &is_lost, load)), "b 100%");
    assert_eq!(words(&plan(&first, &rows[..4], &is_lost, load)), "a 100%");
}

#[test]
fn the_own_zone_is_filled_first() {
    let all = rows(&[("a", 3, 0), ("b", 3, 0), ("c", 3, 0)]);
    let with = |zones: &Zones, rows: &[InstanceRow], demand_rps, rate| {
        words(&plan(zones, rows, &|_| false, Load { demand_rps, rate }))
    };
    // No capacity is known, or no demand: the rest is for what finds no room.
    assert_eq!(with(&local("b"), &all, 900.0, None), "b 100% | a,c 0%");
    assert_eq!(with(&local("b"), &all, 0.0, Some(50.0)), "b 100% | a,c 0%");
    // Three carry 150, and are filled up to 120.
    assert_eq!(with(&local("b"), &all, 100.0, Some(50.0)), "b 100% | a,c 0%");
    assert_eq!(with(&local("b"), &all, 160.0, Some(50.0)), "b 75% | a,c 25%");
    assert_eq!(with(&local("b"), &all, 240.0, Some(50.0)), "b 50% | a,c 50%");
    let less = rows(&[("a", 3, 0), ("b", 1, 2), ("c", 3, 0)]);
    assert_eq!(with(&local("b"), &less, 160.0, Some(50.0)), "b 25% | a,c 75%");
    let none = rows(&[("a", 3, 0), ("b", 0, 3)]);
    assert_eq!(with(&local("b"), &none, 160.0, Some(50.0)), "a 100%");
    assert_eq!(with(&local("d"), &all, 160.0, Some(50.0)), "a,b,c 100%");
    assert_eq!(with(&local("a"), &all[..3], 900.0, Some(50.0)), "a 100%");
    let spill = plan(&local("a"), &all, &|_| false, Load::default());
    assert_eq!(spill.tiers[0].spill_at, Some(Share(0.8)));
    assert_eq!(spill.tiers[1].spill_at, None);
    assert_eq!(planned(&Zones::default(), &all), "", "spread has no tiers");
}

#[test]
fn panic_is_for_what_may_serve_and_does_not() {
    let up = standing(Health::Up);
    let down = standing(Health::Down);
    let pending = standing(Health::Pending);
    let drained = Standing { admin: Admin::Draining, ..down };
    let evacuated = Standing { admin: Admin::Evacuated, ..up };
    let leaving = Standing { life: Life::Drained, ..down };
    let ejected = standing(Health::Ejected);
    for (standings, below, panics) in [
        (vec![], 0.5, false),
        (vec![up, down], 0.5, false),
        (vec![up, down, down], 0.5, true),
        (vec![up, down, ejected], 0.5, true),
        (vec![down], 0.5, true),
        (vec![up, down, down], 0.0, false),
        (vec![down], 0.0, false),
        (vec![up, down], 1.0, true),
        // Neither what comes, nor what goes, nor what an operator keeps out.
        (vec![up, pending, pending, pending], 0.5, false),
        (vec![up, drained, leaving, evacuated, drained], 0.5, false),
        (vec![up, down, drained, leaving, pending], 0.5, false),
    ] {
        assert_eq!(in_panic(Share(below), standings.iter().copied()), panics, "{standings:?}");
    }
}

#[test]
fn small_moves_of_a_share_are_let_be() {
    let made = |share: f64, zones: &[&str]| {
        let zones = zones.iter().map(|zone| ZoneId::from(*zone)).collect();
        let own = Tier { zones, share, spill_at: None };
        let rest = Tier { zones: vec!["z".into()], share: 1.0 - share, spill_at: None };
        TrafficPlan { tiers: vec![own, rest], panic: false }
    };
    let last = made(0.5, &["a"]);
    assert_eq!(steady(&last, made(0.515, &["a"])), last);
    assert_eq!(steady(&last, made(0.525, &["a"])), made(0.525, &["a"]));
    assert_eq!(steady(&last, made(0.515, &["a", "b"])), made(0.515, &["a", "b"]));
    assert_eq!(steady(&made(0.99, &["a"]), made(1.0, &["a"])), made(1.0, &["a"]));
    let panics = TrafficPlan { panic: true, ..made(0.51, &["a"]) };
    let next = steady(&last, panics);
    assert!(next.panic && next.tiers == last.tiers, "panic is never let be");
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn any_row() -> impl Strategy<Value = InstanceRow> {
    let health = select(vec![Health::Pending, Health::Up, Health::Down, Health::Ejected]);
    let admin = select(vec![Admin::Enabled, Admin::Draining, Admin::Maintenance, Admin::Evacuated]);
    let life = select(vec![Life::Booting, Life::Ramping, Life::Serving, Life::Drained]);
    (select(&NAMES[..]), 1u32..5, health, admin, life, any::<bool>(), 1..=FULL).prop_map(
        |(zone, weight, health, admin, life, in_panic, ramp)| {
            let standing = Standing { health, admin, life };
            let in_panic = in_panic && health == Health::Down;
            let row = InstanceRow { in_panic, ..row(zone, weight, standing) };
            row.instance.vitals.set_ramp(ramp);
            row
        },
    )
}

proptest! {
    #[test]
    fn shares_sum_to_one_and_no_tier_is_without_instances(
        rows in vec(any_row(), 0..20),
        mode in select(vec![ZoneMode::Spread, ZoneMode::LocalFirst, ZoneMode::Priority]),
        split in vec(0usize..3, 4),
        lost in vec(any::<bool>(), 4),
        demand_rps in 0.0f64..1e4,
        rate in proptest::option::of(0.1f64..1e3),
        overprovisioning in 1.0f64..3.0,
    ) {
        let level = |n| -> Vec<ZoneId> {
            let here = NAMES.iter().zip(&split).filter(|(_, at)| **at == n);
            here.map(|(zone, _)| (*zone).into()).collect()
        };
        let zones = Zones {
            mode,
            home: Some("a".into()),
            levels: (0..2).map(level).filter(|level| !level.is_empty()).collect(),
            overprovisioning,
            ..Zones::default()
        };
        let is_lost = |zone: &ZoneId| {
            NAMES.iter().position(|name| *name == zone.as_str()).is_some_and(|at| lost[at])
        };
        let plan = plan(&zones, &rows, &is_lost, Load { demand_rps, rate });
        let named: Vec<&ZoneId> = plan.tiers.iter().flat_map(|tier| &tier.zones).collect();
        let admits = |zone: &ZoneId| rows.iter().any(|r| r.instance.zone == *zone && r.admitted());
        let any = rows.iter().any(InstanceRow::admitted);
        prop_assert_eq!(plan.tiers.is_empty(), mode == ZoneMode::Spread || !any);
        if !plan.tiers.is_empty() {
            let sum: f64 = plan.tiers.iter().map(|tier| tier.share).sum();
            prop_assert!((sum - 1.0).abs() < 1e-9, "{:?}", plan);
        }
        prop_assert!(plan.tiers.iter().all(|tier| (0.0..=1.0).contains(&tier.share)), "{:?}", plan);
        prop_assert!(named.iter().all(|zone| admits(zone)), "{:?}", plan);
        let others = rows.iter().any(|r| r.admitted() && !is_lost(&r.instance.zone));
        prop_assert!(!others || named.iter().all(|zone| !is_lost(zone)), "{:?}", plan);
        let mut once = named.clone();
        once.sort();
        once.dedup();
        prop_assert_eq!(once.len(), named.len(), "no zone is in two tiers");
    }

    #[test]
    fn loads_sum_to_exactly_one(health in vec(0.0f64..=1.0, 1..8)) {
        let shares = loads(&health);
        let sum: f64 = shares.iter().sum();
        prop_assert_eq!(sum, if health.iter().any(|h| *h > 0.0) { 1.0 } else { 0.0 });
        for (share, health) in shares.iter().zip(&health) {
            prop_assert!(*share >= 0.0 && (*health > 0.0 || *share == 0.0));
        }
    }
}
