//! How the census looks as JSON. These types are the contract; clients of this crate read the same
//! ones back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::{PoolId, ZoneId};
use crate::model::{Census, InstanceRow, Limit, PoolRow, SizeOverride};
use crate::scaling::{Record, Tally};

/// `GET /api/v1/status`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The name of the node.
    pub node: String,
    /// The version that runs.
    pub version: String,
    /// Rises with every change of the membership.
    pub generation: u64,
    /// Every zone in which some pool has an instance.
    pub zones: Vec<Zone>,
    /// Every pool, by name.
    pub pools: Vec<Pool>,
}

/// A zone, over all pools.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Zone {
    /// Its name.
    pub zone: String,
    /// `up` if some instance in it may take new traffic, else `down`.
    pub state: String,
    /// Its share of all weight that may take new traffic.
    pub share: f64,
}

/// A pool.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// How many instances it should have.
    pub desired: u32,
    /// Requests in the hold queue now.
    pub queue_depth: u32,
    /// What an operator set its size to; only while that holds.
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    pub size_override: Option<SizeOverride>,
    /// Every instance that has an address.
    pub instances: Vec<Instance>,
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
    /// What probes say.
    pub health: String,
    /// What an operator says.
    pub admin: String,
    /// Where it is between birth and death.
    pub life: String,
    /// Whether new traffic may go there.
    pub eligible: bool,
    /// Why (not).
    pub why: String,
    /// What it serves now.
    pub in_flight: u32,
    /// Whether an operator protects it from scale-in.
    #[serde(default)]
    pub protected: bool,
    /// Exchanges by class; only in the detail of one pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub responses: Option<Responses>,
}

/// Exchanges with an instance by class.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Responses {
    /// Ended without a response.
    pub failed: u64,
    /// Informational (switched protocols).
    #[serde(rename = "1xx")]
    pub informational: u64,
    /// Successes.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// Redirections.
    #[serde(rename = "3xx")]
    pub redirection: u64,
    /// Errors of the client.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// Errors of the instance.
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

/// `GET /api/v1/pools/{pool}`: what the status has of the pool, and more.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct PoolDetail {
    /// As in the status, with the responses of each instance.
    #[serde(flatten)]
    pub pool: Pool,
    /// What the scaler takes for its demand, in requests per second.
    pub demand_rps: f64,
    /// What was asked for and has no address yet.
    pub ordered: Vec<Ordered>,
    /// How an instance is picked.
    pub balance: String,
    /// Bound of requests in flight per instance; null if unlimited.
    pub max_in_flight: Option<u32>,
    /// What the agent keeps true; null without one.
    pub scaling: Option<Bounds>,
}

/// An instance that has no address yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Ordered {
    /// Its name.
    pub id: String,
    /// Where it will stand.
    pub zone: String,
}

/// What the scaling agent keeps true.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// Never fewer instances.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// The rate that one instance carries; null if that is learnt, or not what it is scaled by.
    pub target_requests_per_second: Option<f64>,
    /// `enforce`, `recommend` or `off`.
    pub mode: String,
}

/// `GET /api/v1/pools/{pool}/scaling`.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Decisions {
    /// Newest first.
    pub decisions: Vec<Record>,
    /// What following the recommendations would have made of it; only while the agent recommends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tally: Option<Tally>,
}

/// The whole membership.
pub fn status(node: &str, census: &Census, queues: &[(PoolId, u32)]) -> Status {
    Status {
        node: node.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        generation: census.generation,
        zones: zones(census),
        pools: census.pools.iter().map(|row| pool(row, queues, false)).collect(),
    }
}

/// One pool in detail.
pub fn pool_detail(row: &PoolRow, queues: &[(PoolId, u32)]) -> PoolDetail {
    PoolDetail {
        pool: pool(row, queues, true),
        demand_rps: row.demand_rps,
        ordered: row
            .ordered
            .iter()
            .map(|(id, zone)| Ordered { id: id.to_string(), zone: zone.to_string() })
            .collect(),
        balance: row.pool.balance.word().to_owned(),
        max_in_flight: match row.pool.max_in_flight {
            Limit::AtMost(n) => Some(n),
            Limit::Unlimited => None,
        },
        scaling: row.pool.scaling.as_ref().map(|scaling| Bounds {
            min: scaling.min,
            max: scaling.max,
            target_requests_per_second: scaling.stated_rate(),
            mode: scaling.mode.word().to_owned(),
        }),
    }
}

fn pool(row: &PoolRow, queues: &[(PoolId, u32)], with_responses: bool) -> Pool {
    let depth = queues.iter().find(|(pool, _)| *pool == row.pool.id).map_or(0, |(_, depth)| *depth);
    Pool {
        name: row.pool.id.to_string(),
        desired: row.desired,
        queue_depth: depth,
        size_override: row.said.size,
        instances: row
            .instances
            .iter()
            .map(|one| {
                let protected = row.said.protected.contains(&one.instance.id);
                Instance { protected, ..instance(one, with_responses) }
            })
            .collect(),
    }
}

fn instance(row: &InstanceRow, with_responses: bool) -> Instance {
    let InstanceRow { instance, standing, .. } = row;
    let [failed, informational, success, redirection, client_error, server_error] =
        instance.vitals.responses();
    Instance {
        id: instance.id.to_string(),
        address: instance.address.to_string(),
        zone: instance.zone.to_string(),
        weight: instance.weight,
        health: standing.health.word().to_owned(),
        admin: standing.admin.word().to_owned(),
        life: standing.life.word().to_owned(),
        eligible: standing.eligible(),
        why: row.why().to_owned(),
        in_flight: instance.vitals.in_flight(),
        protected: false,
        responses: with_responses.then_some(Responses {
            failed,
            informational,
            success,
            redirection,
            client_error,
            server_error,
        }),
    }
}

fn zones(census: &Census) -> Vec<Zone> {
    let mut weights: BTreeMap<&ZoneId, u64> = BTreeMap::new();
    for InstanceRow { instance, standing, .. } in census.pools.iter().flat_map(|row| &row.instances)
    {
        let weight = if standing.eligible() { u64::from(instance.weight) } else { 0 };
        *weights.entry(&instance.zone).or_default() += weight;
    }
    let total = weights.values().sum::<u64>().max(1);
    weights
        .into_iter()
        .map(|(zone, weight)| Zone {
            zone: zone.to_string(),
            state: if weight > 0 { "up" } else { "down" }.to_owned(),
            share: weight as f64 / total as f64,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::model::{Health, Life};
    use crate::observe::metrics::fixture;

    fn sample() -> Census {
        let up = fixture::instance("web", "a-1", "a", Health::Up, Life::Serving);
        up.instance.vitals.count_response(200, Duration::ZERO);
        up.instance.vitals.count_failure();
        let down = fixture::instance("web", "b-1", "b", Health::Down, Life::Serving);
        let mut census = fixture::census(fixture::pool("web"), vec![up, down]);
        census.pools[0].ordered.push(("c-1".into(), "c".into()));
        census
    }

    #[test]
    fn the_status_is_what_the_contract_says() {
        let status = status("lb-1", &sample(), &[("web".into(), 4), ("x".into(), 9)]);
        let expected = json!({
            "node": "lb-1", "version": env!("CARGO_PKG_VERSION"), "generation": 1,
            "zones": [
                {"zone": "a", "state": "up", "share": 1.0},
                {"zone": "b", "state": "down", "share": 0.0},
            ],
            "pools": [{
                "name": "web", "desired": 3, "queue_depth": 4,
                "instances": [
                    {"id": "a-1", "address": "127.0.0.1:80", "zone": "a", "weight": 1,
                     "health": "up", "admin": "enabled", "life": "serving",
                     "eligible": true, "why": "up", "in_flight": 0, "protected": false},
                    {"id": "b-1", "address": "127.0.0.1:80", "zone": "b", "weight": 1,
                     "health": "down", "admin": "enabled", "life": "serving",
                     "eligible": false, "why": "fails its probes", "in_flight": 0,
                     "protected": false},
                ],
            }],
        });
        assert_eq!(serde_json::to_value(&status).expect("JSON"), expected);
    }

    #[test]
    fn what_operators_said_is_shown() {
        let mut census = sample();
        let size = SizeOverride { desired: 5, until: Some(1_764_140_000) };
        census.pools[0].said.size = Some(size);
        census.pools[0].said.protected.insert("b-1".into());
        let status = serde_json::to_value(status("lb-1", &census, &[])).expect("JSON");
        let pool = &status["pools"][0];
        assert_eq!(pool["override"], json!({"desired": 5, "until": 1_764_140_000}));
        let protected = |n: usize| &pool["instances"][n]["protected"];
        assert_eq!((protected(0), protected(1)), (&json!(false), &json!(true)));
    }

    #[test]
    fn a_pools_detail_has_more_and_reads_back() {
        let detail = pool_detail(&sample().pools[0], &[]);
        let written = serde_json::to_value(&detail).expect("JSON");
        for (pointer, expected) in [
            ("/name", json!("web")),
            ("/queue_depth", json!(0)),
            ("/demand_rps", json!(12.5)),
            ("/balance", json!("least-request")),
            ("/max_in_flight", json!(10)),
            ("/scaling", json!(null)),
            ("/ordered", json!([{"id": "c-1", "zone": "c"}])),
            (
                "/instances/0/responses",
                json!({"failed": 1, "1xx": 0, "2xx": 1, "3xx": 0, "4xx": 0, "5xx": 0}),
            ),
        ] {
            assert_eq!(written.pointer(pointer), Some(&expected), "{pointer}");
        }
        let read: PoolDetail = serde_json::from_value(written).expect("the same type");
        assert_eq!(read, detail);
    }

    #[test]
    fn zone_shares_are_by_weight_over_all_pools() {
        let mut census = sample();
        let heavy = fixture::instance("api", "b-9", "b", Health::Up, Life::Serving);
        census.pools.push(fixture::census(fixture::pool("api"), vec![heavy]).pools.remove(0));
        let shares: Vec<_> =
            zones(&census).into_iter().map(|z| (z.zone, z.state, z.share)).collect();
        let up = |zone: &str, share| (zone.to_owned(), "up".to_owned(), share);
        assert_eq!(shares, [up("a", 0.5), up("b", 0.5)]);
        assert!(zones(&Census::default()).is_empty());
    }
}
