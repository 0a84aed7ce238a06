//! Azure autoscale of a scale set, run once a minute, with two settings: the rules that the portal starts
//! with, and the best that can be written.
//!
//! Out-rules come first. After an action nothing happens in either direction for the cooldown of its
//! rule. Scale-in is estimated: if the smaller set would fire the out-rule at once, fewer are taken, or
//! none.

use crate::scaling::simulate::Policy;
use crate::scaling::simulate::meter::{Meter, Window};
use crate::scaling::simulate::rivals::{TARGET, whole};

const RUN_S: u32 = 60;

/// Rules look back five minutes and more, and so run only where there is something to see.
const FIRST_RUN_S: u32 = 120;

/// The largest cut of at most `wanted` after which `metric`, spread over fewer, stays at or below
/// `threshold`.
fn unflapping(metric: f64, current: u32, wanted: u32, threshold: f64) -> u32 {
    let after = |cut: u32| metric * f64::from(current) / f64::from(current - cut);
    (0..=wanted.min(current.saturating_sub(1)))
        .rev()
        .find(|cut| *cut == 0 || after(*cut) <= threshold)
        .unwrap_or(0)
}

/// `PercentChangeCount`: at least one.
fn percent(current: u32, share: f64) -> f64 {
    (f64::from(current) * share).max(1.0)
}

/// One instance more above 70 % CPU, one less below 31.5 %, over ten minutes; cooldown five minutes.
#[derive(Clone, Debug)]
pub struct Basic {
    min: u32,
    quiet_until: u32,
}

impl Basic {
    /// For a set that never goes below `min`.
    pub fn new(min: u32) -> Self {
        Self { min, quiet_until: FIRST_RUN_S }
    }
}

impl Policy for Basic {
    fn name(&self) -> &'static str {
        "Azure, basic rules"
    }

    fn period_s(&self) -> u32 {
        RUN_S
    }

    fn decide(&mut self, meter: &Meter) -> Option<u32> {
        if meter.now() < self.quiet_until {
            return None;
        }
        let current = meter.desired();
        let metric = meter.utilisation(Window { seconds: 600, late: 60 });
        let wanted = if metric > TARGET {
            current + 1
        } else if metric < 0.45 * TARGET && current > self.min {
            current - unflapping(metric, current, 1, TARGET)
        } else {
            current
        };
        (wanted != current).then(|| {
            self.quiet_until = meter.now() + 300;
            wanted
        })
    }
}

/// By requests for each instance, over five minutes: above 70 % of what it takes 20 % more, far above it
/// 50 %, cooldown three minutes; below 49 % a fifth less, cooldown five minutes.
#[derive(Clone, Debug)]
pub struct Tuned {
    min: u32,
    capacity: f64,
    quiet_until: u32,
}

impl Tuned {
    /// For a set that never goes below `min`, of instances that take at most `capacity` requests a
    /// second.
    pub fn new(min: u32, capacity: f64) -> Self {
        Self { min, capacity, quiet_until: FIRST_RUN_S }
    }
}

impl Policy for Tuned {
    fn name(&self) -> &'static str {
        "Azure, tuned rules"
    }

    fn period_s(&self) -> u32 {
        RUN_S
    }

    fn decide(&mut self, meter: &Meter) -> Option<u32> {
        if meter.now() < self.quiet_until {
            return None;
        }
        let current = meter.desired();
        let metric = meter.per_instance(Window { seconds: 300, late: 60 }) / self.capacity;
        let (wanted, cooldown) = if metric > TARGET {
            let share = if metric > 1.25 * TARGET { 0.5 } else { 0.2 };
            (current + whole(percent(current, share)), 180)
        } else if metric < 0.7 * TARGET && current > self.min {
            let most = percent(current, 0.2) as u32;
            (current - unflapping(metric, current, most, TARGET), 300)
        } else {
            (current, 0)
        };
        (wanted != current).then(|| {
            self.quiet_until = meter.now() + cooldown;
            wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::simulate::rivals::tests::steady;

    #[test]
    fn a_cut_that_would_flap_is_made_smaller() {
        for (metric, current, wanted, expected) in [
            (0.3, 10, 2, 2),
            (0.6, 10, 2, 1), // 0.75 for eight, 0.67 for nine
            (0.66, 10, 2, 0),
            (0.1, 1, 1, 0), // nobody would be left
        ] {
            assert_eq!(unflapping(metric, current, wanted, 0.7), expected, "{metric} on {current}");
        }
    }

    #[test]
    fn basic_rules_go_by_one() {
        for (rps, ready, expected) in [
            (1_500.0, 10, Some(11)),
            (9_000.0, 10, Some(11)),
            (1_000.0, 10, None),
            (600.0, 10, Some(9)),
            (100.0, 3, None), // the smallest there may be
        ] {
            let sized = Basic::new(3).decide(&steady(rps, ready, 0));
            assert_eq!(sized, expected, "{rps} on {ready}");
        }
    }

    #[test]
    fn tuned_rules_go_by_shares() {
        for (rps, ready, expected) in [
            (1_500.0, 10, Some(12)), // 75 %: a fifth more
            (1_800.0, 10, Some(15)), // 90 %: half as many more
            (1_500.0, 4, Some(6)),
            (1_000.0, 10, None),
            (900.0, 10, Some(8)),
            (300.0, 4, Some(3)),
            (100.0, 3, None),
        ] {
            let sized = Tuned::new(3, 200.0).decide(&steady(rps, ready, 0));
            assert_eq!(sized, expected, "{rps} on {ready}");
        }
    }

    #[test]
    fn a_cooldown_holds_both_directions() {
        let mut policy = Tuned::new(3, 200.0);
        assert_eq!(policy.decide(&steady(900.0, 10, 0)), Some(8));
        assert_eq!(policy.decide(&steady(1_800.0, 10, 0)), None, "within five minutes");
        let mut later = steady(1_800.0, 10, 0);
        for _ in 0..300 {
            let last = *later.last();
            later.push(last, 10);
        }
        assert_eq!(policy.decide(&later), Some(15));
    }
}
