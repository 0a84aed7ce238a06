//! What each order makes of an overload: a pool that takes 100 requests a second (ten slots, 100 ms
//! each) is offered 150 for a minute, by clients that wait 2 to 5 s. Virtual time, so the figures in
//! `docs/traffic.md` are those of this test: `cargo test overload -- --nocapture`.

use super::*;
use crate::base::Entropy;

const SLOTS: usize = 10;
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

/// Runs until nobody waits. `rate` is the requests a second that come at a time in milliseconds, `opens_ms`
/// when the pool has its instances.
fn run(policy: Policy, rate: impl Fn(u64) -> f64, until_ms: u64, opens_ms: u64) -> Outcome {
    let order = if policy == Policy::Adaptive { Order::Adaptive } else { Order::Fifo };
    let queue = Queue { order, ..Queue::default() };
    let mut entropy = Entropy::seeded(7);
    let mut line: Line<Client> = Line::default();
    let mut busy: Vec<u64> = Vec::new();
    let mut leaving: BTreeMap<u64, Vec<Rank>> = BTreeMap::new();
    let mut outcome = Outcome::default();
    for now in 0..until_ms + 10_000 {
        busy.retain(|until| *until > now);
        for rank in leaving.remove(&now).unwrap_or_default() {
            line.leave(rank);
        }
        let chance = if now < until_ms { rate(now) / 1_000.0 } else { 0.0 };
        if (entropy.below(1 << 30) as f64) < chance * f64::from(1 << 30) {
            outcome.offered += 1;
            let leaves_ms = now + 2_000 + entropy.below(3_000) as u64;
            let claim = Claim::default();
            let client = Client { came_ms: now, leaves_ms };
            if let Some((rank, _)) = line.join(claim, client, &queue) {
                let seen = now + (leaves_ms - now).div_ceil(LOOK_MS) * LOOK_MS;
                let timeout = now + queue.timeout.as_millis() as u64;
                leaving.entry(seen.min(timeout)).or_default().push(rank);
            }
        }
        while busy.len() < SLOTS && now >= opens_ms {
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

#[test]
fn overload_is_served_as_fast_and_the_served_wait_less() {
    let [fifo, adaptive, shedding] =
        [Policy::Fifo, Policy::Adaptive, Policy::Shedding].map(|policy| {
            let outcome = run(policy, |_| 150.0, 60_000, 0);
            println!(
                "overload, {policy:?}: {} offered, {} in time ({:.1}/s), {} wasted, wait p50 {} ms, p90 {} ms, p99 {} ms",
                outcome.offered,
                outcome.waits_ms.len(),
                outcome.waits_ms.len() as f64 / 60.0,
                outcome.wasted,
                outcome.wait_ms(0.5),
                outcome.wait_ms(0.9),
                outcome.wait_ms(0.99),
            );
            outcome
        });
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
        let [fifo, adaptive] = [Policy::Fifo, Policy::Adaptive].map(|policy| {
            let outcome = run(policy, burst, 20_000, opens_ms);
            println!(
                "{what}, {policy:?}: {} offered, {} in time, {} wasted, wait p50 {} ms, p99 {} ms",
                outcome.offered,
                outcome.waits_ms.len(),
                outcome.wasted,
                outcome.wait_ms(0.5),
                outcome.wait_ms(0.99),
            );
            outcome
        });
        assert!(adaptive.waits_ms.len() * 100 >= fifo.waits_ms.len() * 98, "{what}");
    }
}
