//! The families that come from the census: made anew at each scrape, so the series of an instance
//! that is gone are gone with it.

use std::collections::BTreeMap;

use super::text::{Kind, Text};
use crate::base::{PoolId, ZoneId};
use crate::model::{Census, Health, InstanceRow, Life, PoolRow, Provisioning, ZoneState};

/// The words for the classes of [`crate::model::Vitals::responses`].
const CLASSES: [&str; 6] = ["failed", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Always there, so that a rate can be taken from the first response on.
const CLASS_2XX: usize = 2;

/// Everything that is known of each instance.
pub(super) fn write_instances(text: &mut Text, census: &Census) {
    text.family("instance_up", Kind::Gauge, "Whether the instance passes its probes.");
    for row in instances(census) {
        text.sample(&labels(row), u8::from(row.standing.health == Health::Up));
    }

    text.family(
        "instance_in_flight",
        Kind::Gauge,
        "Requests (or TCP connections) that the instance serves now.",
    );
    for row in instances(census) {
        text.sample(&labels(row), row.instance.vitals.in_flight());
    }

    text.family(
        "instance_requests_total",
        Kind::Counter,
        "Requests sent to the instance, by the class of its response.",
    );
    for row in instances(census) {
        let [pool, zone, id] = labels(row);
        for (class, count) in row.instance.vitals.responses().into_iter().enumerate() {
            if count > 0 || class == CLASS_2XX {
                text.sample(&[pool, zone, id, ("class", CLASSES[class])], count);
            }
        }
    }
}

/// Sizes and zones of each pool.
pub(super) fn write_pools(text: &mut Text, census: &Census) {
    let zones: Vec<_> = census.pools.iter().map(|row| (row, zones(row))).collect();

    text.family("zone_share", Kind::Gauge, "Share of the pool's new traffic that a zone gets.");
    for (row, zones) in &zones {
        for (zone, seen) in zones {
            text.sample(&[("pool", row.pool.id.as_str()), ("zone", zone.as_str())], seen.share);
        }
    }

    text.family(
        "zone_state",
        Kind::Gauge,
        "Whether a zone has an instance that may take new traffic of the pool.",
    );
    for (row, zones) in &zones {
        for (zone, seen) in zones {
            let state = u8::from(seen.eligible);
            text.sample(&[("pool", row.pool.id.as_str()), ("zone", zone.as_str())], state);
        }
    }

    text.family(
        "zone_evacuated",
        Kind::Gauge,
        "Whether an operator has moved the zone's traffic elsewhere.",
    );
    for (row, zones) in &zones {
        for zone in zones.keys() {
            let state = u8::from(row.evacuated.contains(zone));
            text.sample(&[("pool", row.pool.id.as_str()), ("zone", zone.as_str())], state);
        }
    }

    text.family(
        "zone_lost",
        Kind::Gauge,
        "Whether most of the zone was lost at once and is not back yet.",
    );
    for (row, zones) in &zones {
        for zone in zones.keys() {
            let lost = census.zone_state(zone) == ZoneState::Lost;
            text.sample(&[("pool", row.pool.id.as_str()), ("zone", zone.as_str())], u8::from(lost));
        }
    }

    text.family(
        "pool_panic",
        Kind::Gauge,
        "Whether too few instances are up, so that some that only probes speak against are used.",
    );
    for row in &census.pools {
        text.sample(&[("pool", row.pool.id.as_str())], u8::from(row.plan.panic));
    }

    text.family("instances", Kind::Gauge, "Instances by where they are between birth and death.");
    for (row, zones) in &zones {
        for (zone, seen) in zones {
            for (life, count) in &seen.lives {
                let pool = row.pool.id.as_str();
                text.sample(&[("pool", pool), ("zone", zone.as_str()), ("life", *life)], count);
            }
        }
    }

    text.family("scaling_desired", Kind::Gauge, "Instances that the pool should have.");
    for row in &census.pools {
        text.sample(&[("pool", row.pool.id.as_str())], row.desired);
    }

    text.family(
        "scaling_demand_requests_per_second",
        Kind::Gauge,
        "What the scaler takes for the pool's demand.",
    );
    for row in &census.pools {
        text.sample(&[("pool", row.pool.id.as_str())], row.demand_rps);
    }
}

/// How many requests wait for each pool.
pub(super) fn write_queues(text: &mut Text, queues: &[(PoolId, u32)]) {
    text.family("queue_depth", Kind::Gauge, "Requests in the hold queue now.");
    for (pool, depth) in queues {
        text.sample(&[("pool", pool.as_str())], depth);
    }
}

fn instances(census: &Census) -> impl Iterator<Item = &InstanceRow> {
    census.pools.iter().flat_map(|row| &row.instances)
}

fn labels(row: &InstanceRow) -> [(&str, &str); 3] {
    [
        ("pool", row.instance.pool.as_str()),
        ("zone", row.instance.zone.as_str()),
        ("instance_id", row.instance.id.as_str()),
    ]
}

/// A zone as one pool sees it.
struct ZoneSeen {
    eligible: bool,
    share: f64,
    lives: BTreeMap<&'static str, u32>,
}

impl Default for ZoneSeen {
    fn default() -> Self {
        let lives = BTreeMap::from([(Life::Serving.word(), 0)]);
        Self { eligible: false, share: 0.0, lives }
    }
}

/// Each zone of the pool: where an instance is, is ordered, or could be launched. A zone that lost
/// its last instance must read 0 and not vanish, or nobody can alert on it.
fn zones(row: &PoolRow) -> BTreeMap<ZoneId, ZoneSeen> {
    let mut zones: BTreeMap<ZoneId, ZoneSeen> = BTreeMap::new();
    if let Some(Provisioning::Process(settings)) = &row.pool.provisioning {
        for zone in &settings.zones {
            zones.entry(zone.clone()).or_default();
        }
    }
    for (zone, share) in row.zone_shares() {
        zones.entry(zone).or_default().share = share;
    }
    for row in &row.instances {
        let (instance, standing) = (&row.instance, row.standing);
        let zone = zones.entry(instance.zone.clone()).or_default();
        zone.eligible |= row.admitted();
        *zone.lives.entry(standing.life.word()).or_default() += 1;
    }
    for (_, zone) in &row.ordered {
        let zone = zones.entry(zone.clone()).or_default();
        *zone.lives.entry(Life::Ordered.word()).or_default() += 1;
    }
    zones
}
