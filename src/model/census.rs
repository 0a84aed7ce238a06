//! Who is there: the whole membership at one moment, as status, metrics and the scaling agent read
//! it. Published by the steward together with each snapshot.

use std::sync::Arc;

use crate::base::{InstanceId, PoolId, ZoneId};
use crate::model::{Instance, Pool, Said, Standing, TrafficPlan};

/// All pools at one moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Rises with every publication.
    pub generation: u64,
    /// Each pool, in the order of their names.
    pub pools: Vec<PoolRow>,
    /// The listeners are bound, each instance has had its first probe, and the daemon does not stop.
    pub ready: bool,
}

/// One pool.
#[derive(Clone, Debug)]
pub struct PoolRow {
    /// How it is configured.
    pub pool: Arc<Pool>,
    /// Its instances that have an address, whatever their standing.
    pub instances: Vec<InstanceRow>,
    /// What was asked for and has no address yet: life "ordered".
    pub ordered: Vec<(InstanceId, ZoneId)>,
    /// How many instances the agent wants; for a pool without one, how many are configured.
    pub desired: u32,
    /// What the scaler takes for the pool's demand, in requests per second.
    pub demand_rps: f64,
    /// What operators said of its scaling.
    pub said: Said,
    /// Where its new requests go.
    pub plan: TrafficPlan,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct InstanceRow {
    /// The instance and its counters.
    pub instance: Arc<Instance>,
    /// The three truths.
    pub standing: Standing,
    /// Only probes speak against it, and the pool is in panic: it gets traffic all the same.
    pub in_panic: bool,
    /// What an operator should know beside the standing.
    pub note: Option<Arc<str>>,
}

impl InstanceRow {
    /// An instance with its three truths.
    pub fn new(instance: Arc<Instance>, standing: Standing) -> Self {
        Self { instance, standing, in_panic: false, note: None }
    }

    /// Whether new traffic may go there and why (not), in words for an operator.
    pub fn why(&self) -> &str {
        self.note.as_deref().unwrap_or(self.standing.verdict().1)
    }

    /// Whether new traffic may go there.
    pub fn admitted(&self) -> bool {
        self.standing.eligible() || self.in_panic
    }
}

impl Census {
    /// The pool of that name.
    pub fn pool(&self, id: &PoolId) -> Option<&PoolRow> {
        self.pools.iter().find(|row| row.pool.id == *id)
    }
}

impl PoolRow {
    /// A pool of which nothing more is known than its instances.
    pub fn new(pool: Arc<Pool>, instances: Vec<InstanceRow>) -> Self {
        Self {
            pool,
            instances,
            ordered: Vec::new(),
            desired: 0,
            demand_rps: 0.0,
            said: Said::default(),
            plan: TrafficPlan::default(),
        }
    }

    /// Each zone with the share of new traffic that goes there: by the weight of what is eligible.
    pub fn zone_shares(&self) -> Vec<(ZoneId, f64)> {
        let mut zones: Vec<(ZoneId, u64)> = Vec::new();
        for row in &self.instances {
            let weight = if row.standing.eligible() { u64::from(row.instance.weight) } else { 0 };
            match zones.iter_mut().find(|(zone, _)| *zone == row.instance.zone) {
                Some((_, sum)) => *sum += weight,
                None => zones.push((row.instance.zone.clone(), weight)),
            }
        }
        zones.sort();
        let total: u64 = zones.iter().map(|(_, sum)| sum).sum();
        zones
            .into_iter()
            .map(|(zone, sum)| (zone, if total == 0 { 0.0 } else { sum as f64 / total as f64 }))
            .collect()
    }
}
