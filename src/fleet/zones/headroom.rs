//! What would be short in a pool without one of its zones.

use std::fmt;

use crate::base::ZoneId;
use crate::model::{Limit, PoolRow};

/// Why a pool cannot do without a zone.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Shortage {
    /// Nothing that gets traffic would remain.
    Nothing,
    /// What is in flight now would not fit.
    Slots {
        /// Requests and connections in flight.
        in_flight: u64,
        /// What the rest may have in flight.
        room: u64,
    },
    /// The demand would be more than the rest carries, in requests per second.
    Rate {
        /// The demand.
        demand_rps: f64,
        /// What the rest carries in steady state.
        capacity_rps: f64,
    },
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing that may take traffic would be left"),
            Self::Slots { in_flight, room } => {
                write!(f, "{in_flight} requests are in flight and the rest has room for {room}")
            }
            Self::Rate { demand_rps, capacity_rps } => {
                write!(
                    f,
                    "the demand is {demand_rps:.0} rps and the rest carries {capacity_rps:.0}"
                )
            }
        }
    }
}

/// What would be short in the pool without `zone`; nothing, if none of its traffic goes there now.
pub fn shortage(pool: &PoolRow, zone: &ZoneId) -> Option<Shortage> {
    let admitted = pool.instances.iter().filter(|row| row.admitted());
    let (there, rest): (Vec<_>, Vec<_>) = admitted.partition(|row| row.instance.zone == *zone);
    if there.is_empty() {
        return None;
    }
    if rest.is_empty() {
        return Some(Shortage::Nothing);
    }
    if let Limit::AtMost(limit) = pool.pool.max_in_flight {
        let all = there.iter().chain(&rest);
        let in_flight = all.map(|row| u64::from(row.instance.vitals.in_flight())).sum();
        let room = u64::from(limit) * rest.len() as u64;
        if in_flight > room {
            return Some(Shortage::Slots { in_flight, room });
        }
    }
    let rate = pool.pool.scaling.as_ref().and_then(|scaling| scaling.stated_rate())?;
    let weight: u64 = rest.iter().map(|row| u64::from(row.instance.weight)).sum();
    let (demand_rps, capacity_rps) = (pool.demand_rps, rate * weight as f64);
    (demand_rps > capacity_rps).then_some(Shortage::Rate { demand_rps, capacity_rps })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Admin, Health, Instance, InstanceRow, Life, Pool, Scaling, Standing};

    fn row(zone: &str, health: Health, in_flight: u32) -> InstanceRow {
        let instance = Arc::new(Instance {
            id: zone.into(),
            pool: "p".into(),
            zone: zone.into(),
            address: ([127, 0, 0, 1], 80).into(),
            weight: 1,
            vitals: Arc::default(),
        });
        for _ in 0..in_flight {
            std::mem::forget(instance.take_slot(Limit::Unlimited));
        }
        let standing = Standing { health, admin: Admin::Enabled, life: Life::Serving };
        InstanceRow::new(instance, standing)
    }

    #[test]
    fn the_rest_must_carry_what_is_in_flight_and_the_demand() {
        use Health::{Down, Up};
        let nothing = Some("nothing that may take traffic would be left");
        let slots = Some("5 requests are in flight and the rest has room for 4");
        let rate = Some("the demand is 81 rps and the rest carries 80");
        for (rows, demand_rps, expected) in [
            (vec![("a", Up, 1), ("b", Up, 0)], 0.0, None),
            (vec![("a", Up, 1)], 0.0, nothing),
            (vec![("a", Up, 1), ("b", Down, 0)], 0.0, nothing),
            // What has no traffic there loses none.
            (vec![("a", Down, 9), ("b", Up, 0)], 0.0, None),
            (vec![("b", Up, 9)], 0.0, None),
            (vec![], 0.0, None),
            (vec![("a", Up, 4), ("b", Up, 0)], 0.0, None),
            (vec![("a", Up, 4), ("b", Up, 1)], 0.0, slots),
            (vec![("a", Up, 4), ("b", Up, 1), ("c", Up, 0)], 80.0, None),
            (vec![("a", Up, 4), ("b", Up, 1), ("c", Up, 0)], 81.0, rate),
        ] {
            let pool = Pool {
                max_in_flight: Limit::AtMost(4),
                scaling: Some(Arc::new(Scaling::new(1, 9, 40.0))),
                ..Pool::new("p".into())
            };
            let instances = rows.iter().map(|(zone, health, n)| row(zone, *health, *n)).collect();
            let pool = PoolRow { demand_rps, ..PoolRow::new(Arc::new(pool), instances) };
            let found = shortage(&pool, &"a".into()).map(|short| short.to_string());
            assert_eq!(found.as_deref(), expected, "{rows:?} {demand_rps}");
        }
    }
}
