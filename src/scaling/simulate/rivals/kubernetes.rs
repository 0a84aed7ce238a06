//! The horizontal pod autoscaler (autoscaling/v2) with its default behaviour: by CPU, and by a rate from
//! outside as KEDA gives it.
//!
//! Every 15 s the size is `ceil(current × metric / target)`, unless the ratio is within a tenth of 1. Up:
//! at once, by at most the double or four. Down: to the largest size that was recommended in the last
//! five minutes.

use std::collections::VecDeque;

use crate::scaling::simulate::Policy;
use crate::scaling::simulate::meter::{Meter, Window};
use crate::scaling::simulate::rivals::{TARGET, whole};

const SYNC_S: u32 = 15;
const TOLERANCE: f64 = 0.1;
const STABILISATION_S: u32 = 300;

/// What the metrics server has: the mean of two scrapes.
const CPU: Window = Window { seconds: 30, late: 15 };

/// What a query for a rate over one minute gives, one scrape old.
const RATE: Window = Window { seconds: 60, late: 15 };

/// The part that both have: how a recommendation becomes a size.
#[derive(Clone, Debug, Default)]
struct Behaviour {
    /// Recommendations of the last five minutes with their time.
    recommended: VecDeque<(u32, u32)>,
}

impl Behaviour {
    fn apply(&mut self, now: u32, current: u32, wanted: u32) -> Option<u32> {
        self.recommended.push_back((now, wanted));
        let oldest = now.saturating_sub(STABILISATION_S);
        while self.recommended.front().is_some_and(|(at, _)| *at < oldest) {
            self.recommended.pop_front();
        }
        if wanted > current {
            return Some(wanted.min((2 * current).max(current + 4)));
        }
        let largest = self.recommended.iter().map(|(_, wanted)| *wanted).max()?;
        (wanted < current).then_some(current.min(largest))
    }
}

fn within_tolerance(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= TOLERANCE
}

/// What a gauge of each instance recommends. Instances that are not ready, or have no metric yet, count
/// as idle when it would grow; where that turns the direction, or all is within tolerance, nothing is
/// done.
fn by_gauge(metric: f64, serving: u32, measured: f64, pending: u32, current: u32) -> u32 {
    let ratio = metric / TARGET;
    let unmeasured = pending > 0 || measured < f64::from(serving);
    if ratio > 1.0 && unmeasured {
        let all = f64::from(serving + pending);
        let ratio = metric * measured / (TARGET * all);
        return if ratio <= 1.0 + TOLERANCE { current } else { whole(ratio * all) };
    }
    if within_tolerance(ratio) { current } else { whole(ratio * f64::from(serving)) }
}

/// What a total recommends: `ceil(total / target)`.
fn by_total(rate: f64, target_rps: f64, current: u32) -> u32 {
    if within_tolerance(rate / (target_rps * f64::from(current))) {
        current
    } else {
        whole(rate / target_rps)
    }
}

/// HPA with `averageUtilization: 70` of the CPU.
#[derive(Clone, Debug, Default)]
pub struct Cpu(Behaviour);

impl Policy for Cpu {
    fn name(&self) -> &'static str {
        "HPA (CPU)"
    }

    fn period_s(&self) -> u32 {
        SYNC_S
    }

    fn decide(&mut self, meter: &Meter) -> Option<u32> {
        let serving = meter.serving();
        let measured = meter.served_by(CPU).min(f64::from(serving));
        let metric = meter.utilisation(CPU);
        let pending = meter.presence().pending;
        let wanted = by_gauge(metric, serving, measured, pending, meter.desired());
        self.0.apply(meter.now(), meter.desired(), wanted)
    }
}

/// KEDA: the pool's rate as an external metric with an `AverageValue`.
#[derive(Clone, Debug)]
pub struct Keda {
    target_rps: f64,
    behaviour: Behaviour,
}

impl Keda {
    /// For instances that take at most `capacity` requests a second.
    pub fn new(capacity: f64) -> Self {
        Self { target_rps: capacity * TARGET, behaviour: Behaviour::default() }
    }
}

impl Policy for Keda {
    fn name(&self) -> &'static str {
        "KEDA (rate)"
    }

    fn period_s(&self) -> u32 {
        SYNC_S
    }

    fn decide(&mut self, meter: &Meter) -> Option<u32> {
        let wanted = by_total(meter.rate(RATE), self.target_rps, meter.desired());
        self.behaviour.apply(meter.now(), meter.desired(), wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::simulate::rivals::tests::steady;

    #[test]
    fn the_published_formula_with_its_tolerance() {
        for (metric, serving, expected) in [
            (0.7, 10, 10),
            (0.76, 10, 10), // 1.09
            (0.8, 10, 12),  // 11.4
            (1.0, 10, 15),  // 14.3: a gauge that is full cannot ask for more
            (0.64, 10, 10), // 0.91
            (0.35, 10, 5),
        ] {
            let wanted = by_gauge(metric, serving, f64::from(serving), 0, serving);
            assert_eq!(wanted, expected, "{metric} on {serving}");
        }
    }

    #[test]
    fn who_is_not_ready_counts_as_idle() {
        for (metric, serving, measured, pending, expected) in [
            (1.0, 10, 10.0, 5, 15), // 10 / 10.5: what is coming will do
            (1.0, 10, 10.0, 2, 15), // 10 / 8.4: rounded up over all twelve
            (1.0, 12, 10.0, 0, 15), // two without a metric
            (0.35, 10, 10.0, 4, 5), // shrinking looks at those that serve
        ] {
            let current = serving + pending;
            let wanted = by_gauge(metric, serving, measured, pending, current);
            assert_eq!(wanted, expected, "{metric} on {serving}+{pending}");
        }
    }

    #[test]
    fn a_total_is_divided_by_the_target() {
        for (rate, current, expected) in
            [(1_400.0, 10, 10), (1_530.0, 10, 10), (1_550.0, 10, 12), (7_000.0, 10, 50)]
        {
            assert_eq!(by_total(rate, 140.0, current), expected, "{rate} on {current}");
        }
    }

    #[test]
    fn it_doubles_at_most_and_shrinks_to_the_largest_of_five_minutes() {
        let mut behaviour = Behaviour::default();
        assert_eq!(behaviour.apply(300, 10, 50), Some(20));
        assert_eq!(behaviour.apply(315, 2, 50), Some(6));
        for (now, current, wanted, expected) in [
            (330, 50, 30, Some(50)),
            (615, 50, 20, Some(50)),
            (630, 50, 20, Some(30)),
            (645, 30, 30, None),
            (660, 30, 10, Some(30)),
        ] {
            assert_eq!(behaviour.apply(now, current, wanted), expected, "at {now}");
        }
    }

    #[test]
    fn cpu_grows_by_steps_where_a_rate_sees_all() {
        // Five times what ten instances are set for: a gauge ends at 100 %.
        let meter = steady(7_000.0, 10, 0);
        assert_eq!(Cpu::default().decide(&meter), Some(15));
        assert_eq!(Keda::new(200.0).decide(&meter), Some(20));
    }
}
