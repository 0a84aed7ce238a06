//! What it costs to ask an instance: how long it takes to answer, as a peak-sensitive moving average
//! (Finagle's peak EWMA). A slower answer counts at once and in full; faster ones, and time, make it
//! forgotten. One word of memory, written without a lock by every worker.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Ms;

/// After this long a cost counts 1/e of what it was.
pub const TAU: Duration = Duration::from_secs(10);

/// What an instance is taken for when it is first looked at (linkerd's default).
pub const SEED: Duration = Duration::from_millis(30);

/// What a failure costs. A machine that fails at once looks fast, and would attract all traffic.
pub const FAILURE: Duration = Duration::from_secs(5);

/// The most that an instance can ask to be left alone by `Retry-After`.
pub const FAILURE_MAX: Duration = Duration::from_secs(300);

/// The moving average of an instance.
///
/// Microseconds in the upper half and the time of the last change in the lower one, in milliseconds;
/// 0 if nobody has looked at it yet. The time wraps after 49 days: of two, the one less than half of
/// that ahead is the later.
#[derive(Debug, Default)]
pub struct Cost(AtomicU64);

impl Cost {
    /// The cost as it was recorded last, in microseconds: what is told of it, not what is picked by.
    pub fn last(&self) -> f64 {
        match self.0.load(Ordering::Relaxed) {
            0 => micros(SEED),
            packed => unpack(packed).0,
        }
    }

    /// The cost now, in microseconds; at least 1. The first look gives it [`SEED`], which fades from
    /// then on like any other, so that what is never asked is tried one day.
    pub fn read(&self, now: Ms) -> f64 {
        let packed = self.0.load(Ordering::Relaxed);
        if packed == 0 {
            let seed = pack(micros(SEED), now.0 as u32);
            // Whoever comes second finds a seed as good as ours.
            let _ = self.0.compare_exchange(0, seed, Ordering::Relaxed, Ordering::Relaxed);
            return micros(SEED);
        }
        let (cost, since) = unpack(packed);
        (cost * remains(since, now)).max(1.0)
    }

    /// An answer came after so long, or what stands for it ([`FAILURE`]).
    pub fn record(&self, now: Ms, took: Duration) {
        let took = micros(took);
        let note = |packed| {
            if packed == 0 {
                return Some(pack(took, now.0 as u32));
            }
            let (cost, since) = unpack(packed);
            let remains = remains(since, now);
            let decayed = cost * remains;
            let cost = if took > decayed { took } else { decayed + took * (1.0 - remains) };
            let last = if is_later(now, since) { now.0 as u32 } else { since };
            Some(pack(cost, last))
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, note);
    }
}

/// The part of a cost of that time that remains.
fn remains(since: u32, now: Ms) -> f64 {
    let passed_ms = if is_later(now, since) { (now.0 as u32).wrapping_sub(since) } else { 0 };
    (-f64::from(passed_ms) / TAU.as_millis() as f64).exp()
}

/// Workers' clocks differ by a tick, so `now` may be before what another has noted.
fn is_later(now: Ms, since: u32) -> bool {
    (now.0 as u32).wrapping_sub(since) <= u32::MAX / 2
}

fn micros(duration: Duration) -> f64 {
    duration.as_micros() as f64
}

fn pack(micros: f64, at: u32) -> u64 {
    // A float too large for the type becomes its largest value.
    u64::from((micros as u32).max(1)) << 32 | u64::from(at)
}

fn unpack(packed: u64) -> (f64, u32) {
    ((packed >> 32) as f64, packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn about(cost: &Cost, now: u64, expected_ms: f64) {
        let read = cost.read(Ms(now)) / 1_000.0;
        assert!((read - expected_ms).abs() <= expected_ms * 0.001 + 0.001, "{read} at {now} ms");
    }

    #[test]
    fn peaks_count_at_once_and_fade() {
        let cost = Cost::default();
        about(&cost, 100, 30.0);
        about(&cost, 10_100, 30.0 * 0.367_879);
        cost.record(Ms(10_100), ms(200));
        about(&cost, 10_100, 200.0);
        // One tau later: 36.8 % of what was, and the rest of what is.
        cost.record(Ms(20_100), ms(10));
        about(&cost, 20_100, 200.0 * 0.367_879 + 10.0 * 0.632_121);
        // A peak above what has faded, though below what was.
        cost.record(Ms(60_100), ms(50));
        about(&cost, 60_100, 50.0);
        about(&cost, 1_000_000, 0.001);
    }

    #[test]
    fn clocks_that_differ_or_wrap_are_no_peak_and_no_pardon() {
        let cost = Cost::default();
        cost.record(Ms(5_000), FAILURE);
        about(&cost, 4_900, 5_000.0);
        cost.record(Ms(4_900), ms(1));
        about(&cost, 5_000, 5_000.0);
        let wrap = u64::from(u32::MAX);
        let cost = Cost::default();
        cost.record(Ms(wrap - 5_000), FAILURE_MAX);
        about(&cost, wrap + 5_001, 300_000.0 * (-1.000_1f64).exp());
    }

    #[test]
    fn what_fails_at_once_is_left_alone_for_a_minute() {
        let (failing, fine) = (Cost::default(), Cost::default());
        failing.record(Ms(0), FAILURE);
        fine.record(Ms(0), ms(5));
        let tried = (0..600).find(|second| {
            fine.record(Ms(second * 1_000), ms(5));
            failing.read(Ms(second * 1_000)) < fine.read(Ms(second * 1_000))
        });
        assert_eq!(tried, Some(70), "5 s take 6.9 tau to become 5 ms");
    }
}
