//! What each order makes of an overload, of requests that take 100 ms each. Virtual time, so the figures
//! in `docs/traffic.md` are those of these tests: `cargo test overload -- --nocapture`.

use super::*;
use crate::base::Entropy;

const SERVICE_MS: u64 = 100;
/// How long it takes at most to see that a client has left.
const LOOK_MS: u64 = 250;
/// What has waited for longer is not served by the third policy while it is overloaded.
const TARGET_MS: u64 = 100;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Policy {
    Fifo,
    Adaptive,
    /// First come, first served, and under overload who has waited for long is shed: controlled delay.
    Shedding,
}

/// A pool and those who come to it, at each time in milliseconds.
struct Scene<'a> {
    /// Requests that come in a second.
    rate: &'a dyn Fn(u64) -> f64,
    /// Requests that the pool serves at a time.
    slots: &'a dyn Fn(u64) -> usize,
    until_ms: u64,
    /// How long clients wait, from and to.
    patience_ms: (u64, u64),
}

#[derive(Clone, Copy)]
struct Client {
    came_ms: u64,
    leaves_ms: u64,
}

#[derive(Debug, Default)]
struct Outcome {
    /// Of those whose response came while they were there.
    waits_ms: Vec<u64>,
    offered: usize,
    /// Responses for nobody.
    wasted: usize,
}

impl Outcome {
    fn wait_ms(&self, share: f64) -> u64 {
        self.waits_ms[((self.waits_ms.len() - 1) as f64 * share) as usize]
    }
}

/// Runs until nobody waits.
fn run(policy: Policy, scene: &Scene<'_>) -> Outcome {
    let order = if policy == Policy::Adaptive { Order::Adaptive } else { Order::Fifo };
    let queue = Queue { order, ..Queue::default() };
    let mut entropy = Entropy::seeded(7);
    let mut line: Line<Client> = Line::default();
    let mut busy: Vec<u64> = Vec::new();
    let mut leaving: BTreeMap<u64, Vec<Rank>> = BTreeMap::new();
    let mut outcome = Outcome::default();
    for now in 0..scene.until_ms + 10_000 {
        busy.retain(|until| *until > now);
        for rank in leaving.remove(&now).unwrap_or_default() {
            line.give_up(rank, Ms(now));
        }
        let chance = if now < scene.until_ms { (scene.rate)(now) / 1_000.0 } else { 0.0 };
        if (entropy.below(1 << 30) as f64) < chance * f64::from(1 << 30) {
            outcome.offered += 1;
            let (shortest, longest) = scene.patience_ms;
            let leaves_ms = now + shortest + entropy.below((longest - shortest) as usize) as u64;
            let claim = Claim::default();
            let client = Client { came_ms: now, leaves_ms };
            if let Some((rank, _)) = line.join(claim, client, &queue, Ms(now)) {
                let seen = now + (leaves_ms - now).div_ceil(LOOK_MS) * LOOK_MS;
                let timeout = now + queue.timeout.as_millis() as u64;
                leaving.entry(seen.min(timeout)).or_default().push(rank);
            }
        }
        while busy.len() < (scene.slots)(now) {
            let newest_first = line.is_newest_first(&queue, Ms(now));
            let Some((rank, _, client)) = line.next(None, newest_first) else { break };
            let (client, overloaded) = (*client, line.is_overloaded(&queue, Ms(now)));
            let waited = now - client.came_ms;
            if policy == Policy::Shedding && overloaded && waited > TARGET_MS {
                line.leave(rank);
                continue;
            }
            line.serve(rank, Ms(now));
            busy.push(now + SERVICE_MS);
            if now + SERVICE_MS <= client.leaves_ms {
                outcome.waits_ms.push(waited);
            } else {
                outcome.wasted += 1;
            }
        }
    }
    outcome.waits_ms.sort_unstable();
    outcome
}

/// What first come, first served, the adaptive order and controlled delay make of a scene.
fn compare(what: &str, scene: &Scene<'_>) -> [Outcome; 3] {
    [Policy::Fifo, Policy::Adaptive, Policy::Shedding].map(|policy| {
        let outcome = run(policy, scene);
        println!(
            "{what}, {policy:?}: {} offered, {} in time, {} wasted, wait p50 {} ms, p90 {} ms, p99 {} ms",
            outcome.offered,
            outcome.waits_ms.len(),
            outcome.wasted,
            outcome.wait_ms(0.5),
            outcome.wait_ms(0.9),
            outcome.wait_ms(0.99),
        );
        outcome
    })
}

#[test]
fn overload_is_served_as_fast_and_the_served_wait_less() {
    let [fifo, adaptive, shedding] = compare(
        "half too much for a minute",
        &Scene { rate: &|_| 150.0, slots: &|_| 10, until_ms: 60_000, patience_ms: (2_000, 5_000) },
    );
    assert!(adaptive.waits_ms.len() > fifo.waits_ms.len());
    assert!(adaptive.wait_ms(0.5) < 100 && fifo.wait_ms(0.5) > 2_000);
    // What is shed early leaves no more for those who are served.
    assert!(adaptive.waits_ms.len() >= shedding.waits_ms.len() * 99 / 100);
}

#[test]
fn a_burst_is_worked_off_by_each() {
    // 300 a second for a second, then 50; and the same at a pool that has no instance at first.
    let burst = |now: u64| if now < 1_000 { 300.0 } else { 50.0 };
    for (what, opens_ms) in [("burst", 0), ("from zero", 1_500)] {
        let [fifo, adaptive, _] = compare(
            what,
            &Scene {
                rate: &burst,
                slots: &|now| if now < opens_ms { 0 } else { 10 },
                until_ms: 20_000,
                patience_ms: (2_000, 5_000),
            },
        );
        assert!(adaptive.waits_ms.len() * 100 >= fifo.waits_ms.len() * 98, "{what}");
    }
}

#[test]
fn who_came_early_is_not_lost_in_an_overload_that_is_worked_off_in_time() {
    // A third of what serves 60 at a time is gone for 15 s, at 80 % of what it takes.
    let [fifo, adaptive, _] = compare(
        "a zone lost",
        &Scene {
            rate: &|_| 480.0,
            slots: &|now| if (10_000..25_000).contains(&now) { 40 } else { 60 },
            until_ms: 50_000,
            patience_ms: (10_000, 10_001),
        },
    );
    assert_eq!(adaptive.waits_ms, fifo.waits_ms);
    // What the queue has no room for, of 1,200 too many.
    assert!(adaptive.offered - adaptive.waits_ms.len() < 400);
}
