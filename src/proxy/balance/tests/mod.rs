//! Tests of picks.

mod affinity;
mod laws;
mod picks;
mod ramps;
mod tiers;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Ask, Cursor, Memory, Picked, Picker, Refusal};
use crate::base::{Entropy, Share};
use crate::model::{Balance, Instance, Limit, Pool, Slot, Tier, TrafficPlan};

/// Instances i0, i1, … in these zones and with these weights.
fn instances(zones_and_weights: &[(&str, u32)]) -> Vec<Arc<Instance>> {
    let make = |(n, (zone, weight)): (usize, &(&str, u32))| {
        Arc::new(Instance {
            id: format!("i{n}").as_str().into(),
            pool: "p".into(),
            zone: (*zone).into(),
            address: ([127, 0, 0, 1], 1000 + n as u16).into(),
            weight: *weight,
            vitals: Arc::default(),
        })
    };
    zones_and_weights.iter().enumerate().map(make).collect()
}

/// So many of weight 1 in zone a.
fn alike(count: usize) -> Vec<Arc<Instance>> {
    instances(&vec![("a", 1); count])
}

fn pool(balance: Balance, limit: Limit) -> Pool {
    Pool { balance, max_in_flight: limit, ..Pool::new("p".into()) }
}

fn picker(balance: Balance, limit: Limit, members: &[Arc<Instance>]) -> Picker {
    with_plan(balance, limit, &TrafficPlan::default(), members)
}

fn with_plan(
    balance: Balance,
    limit: Limit,
    plan: &TrafficPlan,
    members: &[Arc<Instance>],
) -> Picker {
    Picker::build(&pool(balance, limit), plan, &all(members), &Memory::default())
}

/// All are admitted.
fn all(members: &[Arc<Instance>]) -> Vec<(Arc<Instance>, bool)> {
    members.iter().map(|member| (Arc::clone(member), true)).collect()
}

fn tier(zones: &[&str], share: f64, spill_at: Option<f64>) -> Tier {
    let zones = zones.iter().map(|zone| (*zone).into()).collect();
    Tier { zones, share, spill_at: spill_at.map(Share) }
}

/// A worker that picks.
struct Hand {
    cursor: Cursor,
    entropy: Entropy,
}

impl Hand {
    fn new(seed: u64) -> Self {
        Self { cursor: Cursor::default(), entropy: Entropy::seeded(seed) }
    }

    fn try_pick(&mut self, picker: &Picker, ask: &Ask<'_>) -> Result<Picked, Refusal> {
        picker.pick(ask, &mut self.cursor, &mut self.entropy)
    }

    fn pick(&mut self, picker: &Picker, ask: &Ask<'_>) -> Picked {
        self.try_pick(picker, ask).expect("a pick")
    }

    /// The name of who is picked, with the slot given back.
    fn name(&mut self, picker: &Picker, ask: &Ask<'_>) -> String {
        self.pick(picker, ask).slot.instance().id.to_string()
    }

    /// How often each is picked by keys that are as good as random, one after the other.
    fn count(&mut self, picker: &Picker, count: u64) -> BTreeMap<String, usize> {
        let mut seen = BTreeMap::new();
        for number in 0..count {
            let ask = Ask { hash: key(number), ..Ask::default() };
            *seen.entry(self.name(picker, &ask)).or_default() += 1;
        }
        seen
    }
}

/// The hash of key number n.
fn key(number: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&number.to_le_bytes())
}

/// Has so many in flight there.
fn hold(instance: &Arc<Instance>, count: u32) -> Vec<Slot> {
    (0..count).filter_map(|_| instance.take_slot(Limit::Unlimited)).collect()
}
