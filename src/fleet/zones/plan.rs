//! Where new requests of a pool go.

use std::collections::BTreeMap;

use crate::base::{Share, ZoneId};
use crate::model::instance::FULL;
use crate::model::{
    Admin, Health, InstanceRow, Life, Standing, Tier, TrafficPlan, ZoneMode, Zones,
};

/// Shares that moved less than this are left as they are: each change is a new snapshot.
const STEADY: f64 = 0.02;

/// What the pool has to carry, and what carries it.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Load {
    /// The demand, smoothed, in requests per second; 0 where it is not known.
    pub demand_rps: f64,
    /// What an instance of weight 1 carries in steady state, in requests per second.
    pub rate: Option<f64>,
}

/// A zone of a pool.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Seen {
    /// The weight of all that is there and not on its way out.
    total: f64,
    /// The weight of what is eligible, as far as it is warm.
    healthy: f64,
    /// The weight of what gets traffic.
    admitted: f64,
}

/// The plan for a pool with these instances. `is_lost` says which zones are lost: what already
/// answers there gets traffic only if there is nothing else, until the zone is back.
pub fn plan(
    zones: &Zones,
    rows: &[InstanceRow],
    is_lost: &dyn Fn(&ZoneId) -> bool,
    load: Load,
) -> TrafficPlan {
    let seen = weigh(rows, is_lost);
    let admits = |zone: &ZoneId| seen.get(zone).is_some_and(|seen| seen.admitted > 0.0);
    let only_lost = !seen.keys().any(|zone| admits(zone) && !is_lost(zone));
    let open = |zone: &ZoneId| admits(zone) && (only_lost || !is_lost(zone));
    let tiers = match (zones.mode, &zones.home) {
        (ZoneMode::LocalFirst, Some(home)) => local_first(zones, home, &seen, &open, load),
        (ZoneMode::Priority, _) => priority(zones, &seen, &open),
        (ZoneMode::Spread | ZoneMode::LocalFirst, _) => Vec::new(),
    };
    TrafficPlan { tiers, panic: in_panic(zones.panic_below, rows.iter().map(|row| row.standing)) }
}

/// Whether too small a share of what may serve does: Envoy's panic. What an operator keeps out, or
/// what is on its way in or out, is no sign of trouble and does not count.
pub fn in_panic(below: Share, standings: impl Iterator<Item = Standing>) -> bool {
    let (mut eligible, mut of) = (0u32, 0u32);
    for standing in standings {
        let counts = standing.admin == Admin::Enabled
            && standing.health != Health::Pending
            && matches!(standing.life, Life::Booting | Life::Ramping | Life::Serving);
        of += u32::from(counts);
        eligible += u32::from(standing.eligible());
    }
    f64::from(eligible) < below.0 * f64::from(of)
}

/// `next`, unless it says almost the same as `last`.
pub fn steady(last: &TrafficPlan, next: TrafficPlan) -> TrafficPlan {
    let alike = |one: &Tier, other: &Tier| {
        let ends = |share: f64| share == 0.0 || share == 1.0;
        let near = one.share == other.share
            || ((one.share - other.share).abs() < STEADY && !ends(one.share) && !ends(other.share));
        one.zones == other.zones && one.spill_at == other.spill_at && near
    };
    let same = last.tiers.len() == next.tiers.len()
        && last.tiers.iter().zip(&next.tiers).all(|(one, other)| alike(one, other));
    if same { TrafficPlan { tiers: last.tiers.clone(), ..next } } else { next }
}

fn weigh<'r>(
    rows: &'r [InstanceRow],
    is_lost: &dyn Fn(&ZoneId) -> bool,
) -> BTreeMap<&'r ZoneId, Seen> {
    let mut zones: BTreeMap<&ZoneId, Seen> = BTreeMap::new();
    for row in rows {
        let (instance, standing) = (&row.instance, row.standing);
        let weight = f64::from(instance.weight);
        let seen = zones.entry(&instance.zone).or_default();
        // What boots was never part of what is missed.
        let stays = matches!(standing.life, Life::Ramping | Life::Serving);
        if stays || standing.eligible() {
            seen.total += weight;
        }
        if standing.eligible() && !is_lost(&instance.zone) {
            seen.healthy += weight * f64::from(instance.vitals.ramp()) / f64::from(FULL);
        }
        if row.admitted() {
            seen.admitted += weight;
        }
    }
    zones
}

/// The own zone gets all that it can carry, up to `spill_at` of it; the others get the rest.
fn local_first(
    zones: &Zones,
    home: &ZoneId,
    seen: &BTreeMap<&ZoneId, Seen>,
    open: &dyn Fn(&ZoneId) -> bool,
    load: Load,
) -> Vec<Tier> {
    let (own, rest): (Vec<_>, Vec<_>) =
        seen.keys().filter(|zone| open(zone)).map(|zone| (*zone).clone()).partition(|z| z == home);
    let capacity = seen.get(home).map_or(0.0, |seen| seen.healthy);
    let share = match load.rate {
        _ if own.is_empty() => 0.0,
        Some(rate) if load.demand_rps > 0.0 && !rest.is_empty() => {
            (zones.spill_at.0 * capacity * rate / load.demand_rps).min(1.0)
        }
        _ => 1.0,
    };
    let own = Tier { zones: own, share, spill_at: Some(zones.spill_at) };
    let rest = Tier { zones: rest, share: 1.0 - share, spill_at: None };
    [own, rest].into_iter().filter(|tier| !tier.zones.is_empty()).collect()
}

/// Each level gets what its health allows; Envoy's priority levels.
fn priority(
    zones: &Zones,
    seen: &BTreeMap<&ZoneId, Seen>,
    open: &dyn Fn(&ZoneId) -> bool,
) -> Vec<Tier> {
    let named = |zone: &ZoneId| zones.levels.iter().any(|level| level.contains(zone));
    let last: Vec<ZoneId> =
        seen.keys().filter(|zone| !named(zone)).map(|zone| (*zone).clone()).collect();
    let levels: Vec<&Vec<ZoneId>> = zones.levels.iter().chain([&last]).collect();
    let sum = |level: &[ZoneId], of: &dyn Fn(&Seen) -> f64| -> f64 {
        level.iter().filter_map(|zone| seen.get(zone)).map(of).sum()
    };
    let health = levels.iter().map(|level| {
        let (healthy, total) = (sum(level, &|zone| zone.healthy), sum(level, &|zone| zone.total));
        if healthy > 0.0 { (zones.overprovisioning * healthy / total).min(1.0) } else { 0.0 }
    });
    let mut shares = loads(&health.collect::<Vec<f64>>());
    if shares.iter().sum::<f64>() == 0.0 {
        // Nothing is healthy: by what is used all the same.
        let admitted = |level: &&Vec<ZoneId>| -> f64 {
            let used = level.iter().filter(|zone| open(zone));
            used.filter_map(|zone| seen.get(zone)).map(|seen| seen.admitted).sum()
        };
        let all: f64 = levels.iter().map(admitted).sum();
        shares = loads(&levels.iter().map(|level| admitted(level) / all).collect::<Vec<f64>>());
    }
    let tier = |(level, share): (&Vec<ZoneId>, f64)| Tier {
        zones: level.iter().filter(|zone| open(zone)).cloned().collect(),
        share,
        spill_at: None,
    };
    levels.into_iter().zip(shares).map(tier).filter(|tier| !tier.zones.is_empty()).collect()
}

/// The share of each level by the health of each, from 0 to 1. They sum to 1, in this order exactly,
/// unless there is no health at all.
fn loads(health: &[f64]) -> Vec<f64> {
    let all: f64 = health.iter().sum();
    if all.is_nan() || all <= 0.0 {
        return vec![0.0; health.len()];
    }
    let norm = all.min(1.0);
    let mut given = 0.0f64;
    let end = health.iter().rposition(|health| *health > 0.0);
    let share = |(level, health): (usize, &f64)| {
        let rest = 1.0 - given;
        let share = if Some(level) == end { rest } else { (health / norm).min(rest) };
        given += share;
        share
    };
    health.iter().enumerate().map(share).collect()
}

#[cfg(test)]
mod tests;
