//! `GET /api/v1/pools/{pool}/explain`: where new requests go, and why each instance is or is not among
//! those that may get them. Pure: a view of the census, in the words that an operator asks with.
//!
//! The types are the contract; `tidegate explain` reads them back. What the pool's algorithm makes of
//! the candidates is in `pick`, and nowhere else.

mod pick;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::base::{InstanceId, ZoneId};
use crate::model::{Admin, InstanceRow, Limit, PoolRow, Tier, instance};

/// Everything that decides where the next request goes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Explanation {
    /// The pool.
    pub pool: String,
    /// How an instance is picked.
    pub balance: String,
    /// How zones are used.
    pub mode: String,
    /// Too few instances are healthy: those that only probes speak against are used too.
    pub panic: bool,
    /// The hold queue.
    pub queue: Queue,
    /// Trying again.
    pub retry: Retry,
    /// Zones that get traffic together, in order; empty if all instances are alike.
    pub tiers: Vec<TierView>,
    /// Every zone in which the pool has an instance, by name.
    pub zones: Vec<Zone>,
    /// Every instance that has an address.
    pub instances: Vec<Instance>,
    /// The client that was asked for.
    pub client: Option<String>,
    /// What would become of its next request (or of anybody's), in words.
    pub next: String,
}

/// The hold queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Queue {
    /// How many wait now.
    pub depth: u32,
    /// How many may.
    pub max: u32,
    /// How long one may wait, in milliseconds.
    pub timeout_ms: u64,
}

/// Trying again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Retry {
    /// How many more instances are tried after the first.
    pub attempts: u32,
    /// Which share of the requests retries may be.
    pub budget: f64,
}

/// Zones that get traffic together.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TierView {
    /// Which.
    pub zones: Vec<String>,
    /// The share of new requests that begins here.
    pub share: f64,
    /// From which share of their limit its instances are passed over for the next tier.
    pub spill_at: Option<f64>,
}

/// A zone.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub zone: String,
    /// `up` if some instance in it may take new traffic, `evacuated` if an operator moved it, else
    /// `down`.
    pub state: String,
    /// The share of new requests that its candidates can expect.
    pub share: f64,
    /// How many of its instances may take new traffic.
    pub eligible: u32,
    /// How many it has.
    pub total: u32,
    /// What those that may can have in flight together, as far as they have warmed up; null if
    /// unlimited.
    pub capacity: Option<f64>,
    /// What all of them serve now.
    pub in_flight: u32,
}

/// An instance.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub id: String,
    /// Where it listens.
    pub address: String,
    /// Where it stands.
    pub zone: String,
    /// Its share of traffic beside the others.
    pub weight: u32,
    /// How far it has warmed up: 1 is all the way.
    pub ramp: f64,
    /// What it serves now.
    pub in_flight: u32,
    /// How much it may; null if unlimited.
    pub limit: Option<u32>,
    /// What the algorithm compares, the least wins; null for one that compares nothing.
    pub score: Option<f64>,
    /// The share of new requests that it can expect, by weight and ramp.
    pub share: f64,
    /// What probes say.
    pub health: String,
    /// What an operator says.
    pub admin: String,
    /// Where it is between birth and death.
    pub life: String,
    /// Whether it may be picked.
    pub candidate: Chance,
    /// Why (not).
    pub why: String,
}

/// Whether an instance may be picked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chance {
    /// Like any other.
    Yes,
    /// Only where there is no other.
    LastResort,
    /// Not now.
    No,
}

impl Chance {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::LastResort => "last-resort",
            Self::No => "no",
        }
    }
}

/// An instance with what follows for it.
#[derive(Clone, Debug)]
struct Seen<'a> {
    row: &'a InstanceRow,
    chance: Chance,
    why: String,
    share: f64,
}

/// Explains a pool in whose queue so many wait; `client` is who asks, if that is to matter, and `home` where
/// its address leads, if requests go by keys.
pub fn explain(
    row: &PoolRow,
    depth: u32,
    client: Option<IpAddr>,
    home: Option<&InstanceId>,
) -> Explanation {
    let seen = look(row);
    let PoolRow { pool, plan, .. } = row;
    let names = |zones: &[ZoneId]| zones.iter().map(ToString::to_string).collect();
    let timeout_ms = u64::try_from(pool.queue.timeout.as_millis()).unwrap_or(u64::MAX);
    Explanation {
        pool: pool.id.to_string(),
        balance: pool.balance.word().to_owned(),
        mode: pool.zones.mode.word().to_owned(),
        panic: plan.panic,
        queue: Queue { depth, max: pool.queue.max, timeout_ms },
        retry: Retry { attempts: pool.retry.attempts, budget: pool.retry.budget.0 },
        tiers: plan
            .tiers
            .iter()
            .map(|tier| TierView {
                zones: names(&tier.zones),
                share: tier.share,
                spill_at: tier.spill_at.map(|share| share.0),
            })
            .collect(),
        zones: zones(row, &seen),
        instances: seen.iter().map(|seen| instance(row, seen)).collect(),
        client: client.map(|ip| ip.to_canonical().to_string()),
        next: match home {
            Some(home) => pick::to_home(row, home),
            None => pick::next(row, &seen, depth, client.is_some()),
        },
    }
}

/// Every instance, with its chance and its share.
fn look(row: &PoolRow) -> Vec<Seen<'_>> {
    let mut seen: Vec<Seen<'_>> = row
        .instances
        .iter()
        .map(|one| {
            let (chance, why) = judge(row, one);
            Seen { row: one, chance, why, share: 0.0 }
        })
        .collect();
    // Those that are left out count once there is nobody else.
    let counts = [Chance::Yes, Chance::LastResort];
    let counts = counts.into_iter().find(|chance| seen.iter().any(|seen| seen.chance == *chance));
    let parts = parts(row);
    let weight_of = |seen: &Seen<'_>, part: usize| {
        let is_in = Some(seen.chance) == counts && part_of(row, seen.row) == part;
        if is_in { pick::pull(seen.row) } else { 0.0 }
    };
    let pulls: Vec<f64> =
        (0..parts.len()).map(|part| seen.iter().map(|seen| weight_of(seen, part)).sum()).collect();
    // What begins where nobody is goes through the others in order.
    let heir = pulls.iter().position(|pull| *pull > 0.0);
    for (part, share) in parts.iter().enumerate() {
        let own = Some(part).filter(|part| pulls[*part] > 0.0);
        let Some(to) = own.or(heir) else { continue };
        for seen in &mut seen {
            seen.share += share * weight_of(seen, to) / pulls[to];
        }
    }
    seen
}

/// The shares of the tiers, and behind them that of what is in none: all there is without tiers.
fn parts(row: &PoolRow) -> Vec<f64> {
    let tiers = row.plan.tiers.iter().map(|tier| tier.share);
    tiers.chain([if row.plan.tiers.is_empty() { 1.0 } else { 0.0 }]).collect()
}

/// The index in [`parts`] of an instance.
fn part_of(row: &PoolRow, one: &InstanceRow) -> usize {
    let tiers = &row.plan.tiers;
    tiers.iter().position(|tier| tier.zones.contains(&one.instance.zone)).unwrap_or(tiers.len())
}

/// Whether an instance may be picked, and why (not).
fn judge(row: &PoolRow, one: &InstanceRow) -> (Chance, String) {
    let (eligible, why) = one.standing.verdict();
    let vitals = &one.instance.vitals;
    let (in_flight, limit) = (vitals.in_flight(), row.pool.max_in_flight);
    let tier = row.plan.tiers.get(part_of(row, one));
    if !one.admitted() {
        (Chance::No, why.to_owned())
    } else if vitals.is_closed() {
        (Chance::No, "closed: it takes nothing any more".to_owned())
    } else if in_flight >= limit.as_u32() {
        (Chance::No, format!("full: {in_flight} of {limit} in flight"))
    } else if vitals.is_suspect() {
        (Chance::LastResort, "suspect: it broke a connection or is silent; being probed".to_owned())
    } else if let Some(spill_at) = tier.and_then(|tier| spilling(tier, in_flight, limit)) {
        (
            Chance::LastResort,
            format!("{in_flight} in flight: from {spill_at:.0}% on others go first"),
        )
    } else if tier.is_none() && !row.plan.tiers.is_empty() {
        (Chance::LastResort, "its zone is in no tier".to_owned())
    } else if !eligible {
        (Chance::Yes, format!("{why}, but so do too many: the pool is in panic"))
    } else {
        (Chance::Yes, why.to_owned())
    }
}

/// The share in percent from which others go first, if so much is in flight.
fn spilling(tier: &Tier, in_flight: u32, limit: Limit) -> Option<f64> {
    let Limit::AtMost(limit) = limit else { return None };
    let spill_at = tier.spill_at?.0;
    (f64::from(in_flight) >= spill_at * f64::from(limit)).then_some(spill_at * 100.0)
}

fn zones(row: &PoolRow, seen: &[Seen<'_>]) -> Vec<Zone> {
    let mut names: Vec<&ZoneId> = seen.iter().map(|seen| &seen.row.instance.zone).collect();
    names.sort();
    names.dedup();
    let zone = |name: &ZoneId| {
        let here: Vec<&Seen<'_>> =
            seen.iter().filter(|seen| seen.row.instance.zone == *name).collect();
        let admitted: Vec<&InstanceRow> =
            here.iter().map(|seen| seen.row).filter(|row| row.admitted()).collect();
        let evacuated = here.iter().all(|seen| seen.row.standing.admin == Admin::Evacuated);
        let state = match admitted.is_empty() {
            false => "up",
            true if evacuated => "evacuated",
            true => "down",
        };
        Zone {
            zone: name.to_string(),
            state: state.to_owned(),
            // An empty sum is -0.0, and is shown so.
            share: here.iter().fold(0.0, |sum, seen| sum + seen.share),
            eligible: admitted.len() as u32,
            total: here.len() as u32,
            capacity: limit(row).map(|limit| {
                admitted.iter().fold(0.0, |sum, row| sum + f64::from(limit) * ramp(row))
            }),
            in_flight: here.iter().map(|seen| seen.row.instance.vitals.in_flight()).sum(),
        }
    };
    names.into_iter().map(zone).collect()
}

fn instance(row: &PoolRow, seen: &Seen<'_>) -> Instance {
    let InstanceRow { instance, standing, .. } = seen.row;
    Instance {
        id: instance.id.to_string(),
        address: instance.address.to_string(),
        zone: instance.zone.to_string(),
        weight: instance.weight,
        ramp: ramp(seen.row),
        in_flight: instance.vitals.in_flight(),
        limit: limit(row),
        score: pick::score(row.pool.balance, seen.row),
        share: seen.share,
        health: standing.health.word().to_owned(),
        admin: standing.admin.word().to_owned(),
        life: standing.life.word().to_owned(),
        candidate: seen.chance,
        why: seen.why.clone(),
    }
}

fn limit(row: &PoolRow) -> Option<u32> {
    match row.pool.max_in_flight {
        Limit::AtMost(limit) => Some(limit),
        Limit::Unlimited => None,
    }
}

fn ramp(row: &InstanceRow) -> f64 {
    f64::from(row.instance.vitals.ramp()) / f64::from(instance::FULL)
}

#[cfg(test)]
mod tests;
