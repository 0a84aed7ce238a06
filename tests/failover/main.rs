//! Thousands of hours of trouble in a world with a clock of its own: the real membership, the real
//! snapshots and the real picks, between machines, probes, clients and operators that are made up and
//! go wrong at random, by seed. After each second it is looked at whether everything still holds.
//!
//! `FAILOVER_HOURS=10000 cargo test --release --test failover -- --nocapture` goes on for longer.

#![expect(clippy::disallowed_methods, reason = "how long it took is the wall's time")]

mod faults;
mod machine;
mod world;

use std::time::Duration;

use tidegate::base::Ms;
use tidegate::fleet::ProbeError;
use tidegate::model::{Admin, Health, InstanceRow, Life};

use crate::world::{LIMIT, STEP, Settings, Tally, World};

/// Trouble lasts at most this long, then everything is mended.
const TROUBLE: Duration = Duration::from_secs(1_500);
/// After which it is quiet for this long.
const QUIET: Duration = Duration::from_secs(900);
/// By then all is as if nothing had been. An ejected instance may have to stay away for five minutes.
const SETTLED: Duration = Duration::from_secs(600);

/// Eligible by the three truths, as the contract has it.
fn by_the_truths(row: &InstanceRow) -> bool {
    row.standing.health == Health::Up
        && row.standing.admin == Admin::Enabled
        && matches!(row.standing.life, Life::Booting | Life::Ramping | Life::Serving)
}

/// What must hold at every moment.
fn check(world: &World) {
    let pool = &world.census.pools[0];
    for row in &pool.instances {
        let (id, vitals) = (&row.instance.id, &row.instance.vitals);
        assert_eq!(row.standing.eligible(), by_the_truths(row), "{id}: {:?}", row.standing);
        assert!(vitals.in_flight() <= LIMIT, "{id} has {} in flight", vitals.in_flight());
        if row.in_panic {
            let answered = world.said.get(id).and_then(|said| said.as_ref().err());
            let answered = answered.is_some_and(ProbeError::is_answer);
            assert!(
                answered && row.standing.health == Health::Down,
                "{id} is let in by panic: {:?} {:?}",
                row.standing,
                world.said.get(id)
            );
            assert_eq!(row.standing.admin, Admin::Enabled, "{id} is let in by panic");
        }
        if row.standing.life == Life::Drained {
            assert_eq!(world.running(id), 0, "{id} is drained");
        }
    }
    // Whoever an operator keeps out as well is not one too many.
    let ejected = |row: &&InstanceRow| {
        row.standing.health == Health::Ejected && row.standing.admin == Admin::Enabled
    };
    let ejected = pool.instances.iter().filter(ejected).count();
    let most = (pool.instances.len() / 10).max(1);
    assert!(ejected <= most, "{ejected} of {} are ejected", pool.instances.len());
    let shares: f64 = pool.zone_shares().iter().map(|(_, share)| share).sum();
    let any = pool.instances.iter().any(InstanceRow::admitted);
    assert!((shares - f64::from(u8::from(any))).abs() < 1e-9, "shares sum to {shares}");
    if !pool.plan.tiers.is_empty() {
        let tiers: f64 = pool.plan.tiers.iter().map(|tier| tier.share).sum();
        assert!((tiers - 1.0).abs() < 1e-9, "tiers sum to {tiers}: {:?}", pool.plan.tiers);
    }
}

/// One spell of trouble, and the quiet after it.
fn spell(world: &mut World) {
    let ends = world.now + TROUBLE;
    while world.now < ends {
        if world.entropy.below(40) == 0 {
            faults::strike(world);
        }
        world.step();
        check(world);
    }
    faults::mend(world);
    let began = world.now;
    let mut turns_at_rest = None;
    while world.now < began + QUIET {
        world.step();
        check(world);
        if world.now >= began + SETTLED {
            at_rest(world, began, &mut turns_at_rest);
        }
    }
}

/// Nothing has been wrong for long: everyone serves, and nothing turns any more.
fn at_rest(world: &World, since: Ms, turns: &mut Option<u64>) {
    for row in world.rows() {
        let quiet = world.now.since(since);
        assert!(
            row.standing.eligible(),
            "after {quiet:?} {} is {:?}",
            row.instance.id,
            row.standing
        );
        assert_eq!(row.standing.life, Life::Serving, "{}", row.instance.id);
    }
    assert!(!world.census.pools[0].plan.panic);
    let before = *turns.get_or_insert(world.tally.turns);
    assert_eq!(world.tally.turns, before, "something turns while nothing happens");
}

fn hours(seed: u64, hours: f64) -> Tally {
    let mut world = World::new(seed, Settings::new());
    let seconds = hours * 3_600.0;
    let spells = (seconds / (TROUBLE + QUIET).as_secs_f64() * (STEP.as_secs_f64())).ceil();
    for _ in 0..spells as u64 {
        spell(&mut world);
    }
    world.tally
}

#[test]
fn whatever_goes_wrong_the_rules_hold() {
    const SEEDS: u64 = 40;
    let total: f64 = match std::env::var("FAILOVER_HOURS") {
        Ok(hours) => hours.parse().expect("FAILOVER_HOURS is a number"),
        Err(_) => 1_000.0,
    };
    let began = std::time::Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let run = |thread: u64| {
        let seeds = (0..SEEDS).filter(move |seed| seed % threads == thread);
        seeds.map(|seed| hours(seed, total / SEEDS as f64)).collect::<Vec<_>>()
    };
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        let join = |handle: std::thread::ScopedJoinHandle<'_, Vec<Tally>>| {
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        handles.into_iter().flat_map(join).collect()
    });
    let sum = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    println!(
        "{total} hours over {SEEDS} seeds in {:.0} s: {} faults, {} turns, {} snapshots, {} probes, \
         {} requests: {} answered, {} failed, {} shed",
        began.elapsed().as_secs_f64(),
        sum(|t| t.faults),
        sum(|t| t.turns),
        sum(|t| t.snapshots),
        sum(|t| t.probes),
        sum(|t| t.offered),
        sum(|t| t.answered),
        sum(|t| t.failed),
        sum(|t| t.shed),
    );
    assert!(sum(|t| t.faults) as f64 > 10.0 * total, "there is trouble");
    assert!(sum(|t| t.answered) > sum(|t| t.offered) / 2, "and most is answered all the same");
}
