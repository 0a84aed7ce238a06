//! Tests of what is explained.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::Share;
use crate::model::{Balance, HashKey, Health, Life, Pool, Slot, TrafficPlan};
use crate::observe::metrics::fixture;

fn pool(instances: Vec<InstanceRow>) -> PoolRow {
    fixture::census(fixture::pool("web"), instances).pools.remove(0)
}

fn up(id: &str, zone: &str) -> InstanceRow {
    fixture::instance("web", id, zone, Health::Up, Life::Serving)
}

fn down(id: &str, zone: &str) -> InstanceRow {
    fixture::instance("web", id, zone, Health::Down, Life::Serving)
}

/// So many in flight, for as long as they are held.
fn busy(row: &InstanceRow, count: usize) -> Vec<Slot> {
    (0..count).filter_map(|_| row.instance.take_slot(Limit::Unlimited)).collect()
}

fn tiers(tiers: &[(&[&str], f64)]) -> TrafficPlan {
    let tier = |(zones, share): &(&[&str], f64)| Tier {
        zones: zones.iter().map(ZoneId::new).collect(),
        share: *share,
        spill_at: Some(Share(0.8)),
    };
    TrafficPlan { tiers: tiers.iter().map(tier).collect(), panic: false }
}

fn shares(explanation: &Explanation) -> Vec<f64> {
    explanation.instances.iter().map(|one| (one.share * 1000.0).round() / 1000.0).collect()
}

#[test]
fn each_instance_is_told_why() {
    let rows =
        vec![up("ok", "a"), up("full", "a"), up("odd", "b"), down("sick", "b"), up("shut", "b")];
    let _busy = [busy(&rows[0], 4), busy(&rows[1], 10)];
    rows[2].instance.vitals.suspect();
    rows[4].instance.vitals.close();
    let told = explain(&pool(rows), 0, None, None);
    let found: Vec<(&str, Chance, &str)> = told
        .instances
        .iter()
        .map(|one| (one.id.as_str(), one.candidate, one.why.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("ok", Chance::Yes, "up"),
            ("full", Chance::No, "full: 10 of 10 in flight"),
            (
                "odd",
                Chance::LastResort,
                "suspect: it broke a connection or is silent; being probed",
            ),
            ("sick", Chance::No, "fails its probes"),
            ("shut", Chance::No, "closed: it takes nothing any more"),
        ]
    );
    assert_eq!(shares(&told), [1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(told.instances[0].score, Some(5.0));
    assert_eq!(told.next, "goes to ok, the only candidate");
    let of = |n: usize| {
        let Zone { state, eligible, total, capacity, in_flight, .. } = &told.zones[n];
        (state.as_str(), *eligible, *total, *capacity, *in_flight)
    };
    assert_eq!(of(0), ("up", 2, 2, Some(20.0), 14));
    assert_eq!(of(1), ("up", 2, 3, Some(20.0), 0));
}

#[test]
fn weight_and_ramp_make_shares_and_scores() {
    let mut heavy = up("heavy", "a");
    let one = Arc::get_mut(&mut heavy.instance).expect("its only owner");
    one.weight = 3;
    let warming = up("warming", "a");
    warming.instance.vitals.set_ramp(instance::FULL / 2);
    let _busy = busy(&warming, 1);
    let told = explain(&pool(vec![heavy, warming, up("plain", "b")]), 0, None, None);
    assert_eq!(shares(&told), [0.667, 0.111, 0.222]);
    let scores: Vec<f64> = told.instances.iter().filter_map(|one| one.score).collect();
    assert_eq!(scores, [1.0 / 3.0, 4.0, 1.0]);
    assert_eq!(told.next, "goes to heavy or plain, which have nothing in flight, by weight");
    assert_eq!(told.zones[0].capacity, Some(15.0), "a half counts as a half");
}

#[test]
fn tiers_divide_traffic_and_empty_ones_pass_it_on() {
    let rows = || vec![up("a1", "a"), up("a2", "a"), up("b1", "b"), up("c1", "c")];
    let mut row = pool(rows());
    row.plan = tiers(&[(&["a"], 0.8), (&["b"], 0.2)]);
    let told = explain(&row, 0, None, None);
    assert_eq!(shares(&told), [0.4, 0.4, 0.2, 0.0]);
    assert_eq!(told.instances[3].candidate, Chance::LastResort);
    assert_eq!(told.instances[3].why, "its zone is in no tier");
    assert_eq!(
        told.next,
        "goes to 80% in a: a1 or a2, which have nothing in flight, by weight; 20% in b: b1, the only candidate"
    );
    // One that is above its share leaves its tier to the other.
    let _busy = busy(&row.instances[0], 8);
    let told = explain(&row, 0, None, None);
    assert_eq!(shares(&told), [0.0, 0.8, 0.2, 0.0]);
    assert_eq!(told.instances[0].why, "8 in flight: from 80% on others go first");
    row.instances.remove(0);
    row.instances.remove(0);
    assert_eq!(shares(&explain(&row, 0, None, None)), [1.0, 0.0], "the first tier is empty");
    row.instances.remove(0);
    let told = explain(&row, 0, None, None);
    assert_eq!((shares(&told), told.instances[0].candidate), (vec![1.0], Chance::LastResort));
    assert_eq!(told.next, "goes to c1, the only candidate, as the last resort");
}

#[test]
fn panic_lets_in_those_that_only_probes_speak_against() {
    let mut row = pool(vec![down("sick", "a"), up("ok", "a")]);
    row.plan.panic = true;
    row.instances[0].in_panic = true;
    let told = explain(&row, 0, None, None);
    assert!(told.panic);
    assert_eq!(shares(&told), [0.5, 0.5]);
    assert_eq!(told.instances[0].why, "fails its probes, but so do too many: the pool is in panic");
}

#[test]
fn the_next_request_is_told_in_words() {
    let many = || (0..5).map(|n| up(&format!("i{n}"), "a")).collect::<Vec<_>>();
    let of = |balance, rows| {
        let mut row = pool(rows);
        Arc::make_mut(&mut row.pool).balance = balance;
        explain(&row, 0, None, None).next
    };
    assert_eq!(of(Balance::RoundRobin, many()), "goes to the next in turn of 5, by weight");
    assert_eq!(of(Balance::Random, many()), "goes to one of 5 drawn at random, by weight");
    let rows = many();
    let _busy: Vec<_> = rows[1..].iter().map(|row| busy(row, 2)).collect();
    assert_eq!(
        of(Balance::LeastRequest, rows),
        "goes to the lesser score of two drawn among 5 (i0 has the least score of 5, 1.000)"
    );
    let two = pool(vec![up("x", "a"), up("y", "b")]);
    let told = explain(
        &two,
        0,
        Some(([127, 0, 0, 1], 1).into()).map(|at: std::net::SocketAddr| at.ip()),
        None,
    );
    assert_eq!(told.client.as_deref(), Some("127.0.0.1"));
    assert_eq!(
        told.next,
        "goes to x or y, which have nothing in flight, by weight (least-request does not look at the client)"
    );
    let _busy: Vec<_> = two.instances.iter().map(|row| busy(row, 10)).collect();
    assert_eq!(
        explain(&two, 3, None, None).next,
        "waits up to 1s, behind 3 others: all 2 eligible instances are full"
    );
    assert_eq!(
        explain(&two, 10, None, None).next,
        "is answered 503 (queue_full): all 2 eligible instances are full, and all 10 places in the queue are taken"
    );
    let mut keyed = pool(vec![up("x", "a"), up("y", "b")]);
    let mut to_home = |hash| {
        let mut pool = Pool::clone(&keyed.pool);
        (pool.balance, pool.affinity.hash) = (Balance::Maglev, hash);
        keyed.pool = Arc::new(pool);
        explain(&keyed, 0, Some([127, 0, 0, 1].into()), Some(&"y".into())).next
    };
    assert_eq!(to_home(HashKey::ClientAddress), "goes to y, where its address leads by maglev");
    assert_eq!(
        to_home(HashKey::Header("x-user".into())),
        "goes where its field x-user leads by maglev; without it to y, by its address"
    );
    let nobody = pool(vec![down("sick", "a")]);
    assert_eq!(
        explain(&nobody, 0, None, None).next,
        "is answered 503 (no_instance): nothing is eligible, nor on its way"
    );
    let pending = fixture::instance("web", "new", "a", Health::Pending, Life::Booting);
    let mut row = pool(vec![pending]);
    assert_eq!(
        explain(&row, 0, None, None).next,
        "waits up to 1s, behind 0 others: nothing is eligible yet"
    );
    Arc::make_mut(&mut row.pool).queue.max = 0;
    assert!(explain(&row, 0, None, None).next.ends_with("yet, and waiting is turned off"));
}

#[test]
fn it_reads_back_and_shares_add_up() {
    let mut row = pool(vec![up("a1", "a"), up("b1", "b"), down("b2", "b")]);
    row.plan = tiers(&[(&["a"], 0.3), (&["b"], 0.7)]);
    Arc::make_mut(&mut row.pool).queue.timeout = Duration::from_millis(1_500);
    let told = explain(&row, 2, None, None);
    let written = serde_json::to_value(&told).expect("JSON");
    assert_eq!(written["queue"], serde_json::json!({"depth": 2, "max": 10, "timeout_ms": 1_500}));
    assert_eq!(written["instances"][2]["candidate"], "no");
    assert_eq!(serde_json::from_value::<Explanation>(written).expect("the same"), told);
    for total in [shares(&told).iter().sum::<f64>(), told.zones.iter().map(|zone| zone.share).sum()]
    {
        assert!((total - 1.0).abs() < 1e-9, "{total}");
    }
}
