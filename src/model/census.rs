//! Who is there: the whole membership at one moment, as status, metrics and the scaling agent read
//! it. Published by the steward together with each snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::{InstanceId, PoolId, ZoneId};
use crate::model::{
    FULL, Health, Instance, Life, Pool, Said, Standing, TrafficPlan, ZoneRow, ZoneState,
};

/// All pools at one moment.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Rises with every publication.
    pub generation: u64,
    /// Each pool, in the order of their names.
    pub pools: Vec<PoolRow>,
    /// The zones that are lost or evacuated, by name.
    pub zones: Vec<ZoneRow>,
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
    /// The zones that are evacuated: nothing is to be launched there.
    pub evacuated: Vec<ZoneId>,
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

    /// Why new traffic may (not) go there, in words for an operator.
    pub fn why(&self) -> String {
        let (eligible, why) = self.standing.verdict();
        let ramp = self.instance.vitals.ramp();
        match &self.note {
            _ if !eligible && self.in_panic => {
                "fails its probes; used because its pool is in panic".to_owned()
            }
            Some(note) => note.to_string(),
            _ if eligible && self.standing.life == Life::Ramping => {
                format!("{why}: takes {} % of its share", ramp * 100 / FULL)
            }
            _ => why.to_owned(),
        }
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

    /// What became of a zone.
    pub fn zone_state(&self, zone: &ZoneId) -> ZoneState {
        self.zones.iter().find(|row| row.zone == *zone).map_or(ZoneState::Up, |row| row.state)
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
            evacuated: Vec::new(),
        }
    }

    /// Whether something may become eligible by itself: an instance that is launched, or that has not
    /// been probed yet.
    pub fn is_hopeful(&self) -> bool {
        self.pool.provisioning.is_some()
            || self.instances.iter().any(|row| row.standing.health == Health::Pending)
    }

    /// Each zone with the share of new traffic that is meant for it: by the tiers of the plan, and
    /// within a tier by the weight of what gets traffic.
    pub fn zone_shares(&self) -> Vec<(ZoneId, f64)> {
        let mut zones: BTreeMap<&ZoneId, u64> = BTreeMap::new();
        for row in &self.instances {
            let weight = if row.admitted() { u64::from(row.instance.weight) } else { 0 };
            *zones.entry(&row.instance.zone).or_default() += weight;
        }
        let weight_of = |in_it: &dyn Fn(&ZoneId) -> bool| -> u64 {
            zones.iter().filter(|(zone, _)| in_it(zone)).map(|(_, weight)| weight).sum()
        };
        let everywhere = weight_of(&|_| true);
        let share = |zone: &ZoneId, weight: u64| {
            let (of, share) = match self.plan.tiers.as_slice() {
                [] => (everywhere, 1.0),
                tiers => match tiers.iter().find(|tier| tier.zones.contains(zone)) {
                    Some(tier) => (weight_of(&|zone| tier.zones.contains(zone)), tier.share),
                    None => (0, 0.0),
                },
            };
            if of == 0 { 0.0 } else { share * weight as f64 / of as f64 }
        };
        zones.iter().map(|(zone, weight)| ((*zone).clone(), share(zone, *weight))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Admin, Health, Life, Tier};

    #[test]
    fn shares_follow_the_plan() {
        let row = |zone: &str, weight, up| {
            let instance = Instance {
                id: zone.into(),
                pool: "p".into(),
                zone: zone.into(),
                address: ([127, 0, 0, 1], 80).into(),
                weight,
                vitals: Arc::default(),
            };
            let health = if up { Health::Up } else { Health::Down };
            let standing = Standing { health, admin: Admin::Enabled, life: Life::Serving };
            InstanceRow::new(Arc::new(instance), standing)
        };
        let rows =
            vec![row("a", 2, true), row("b", 1, true), row("c", 1, true), row("d", 9, false)];
        let mut pool = PoolRow::new(Arc::new(Pool::new("p".into())), rows);
        let shares =
            |pool: &PoolRow| pool.zone_shares().into_iter().map(|(_, n)| n).collect::<Vec<_>>();
        assert_eq!(shares(&pool), [0.5, 0.25, 0.25, 0.0]);
        let tier = |zones: &[&str], share| Tier {
            zones: zones.iter().map(|zone| ZoneId::from(*zone)).collect(),
            share,
            spill_at: None,
        };
        pool.plan.tiers = vec![tier(&["b"], 0.8), tier(&["a", "c"], 0.2)];
        let found = shares(&pool);
        let expected = [0.2 * 2.0 / 3.0, 0.8, 0.2 / 3.0, 0.0];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }
}
