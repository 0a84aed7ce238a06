//! Target tracking of EC2 Auto Scaling on `ALBRequestCountPerTarget`.
//!
//! One point a minute, one minute late. The high alarm needs three of three points above the target, the
//! low one fifteen of fifteen below nine tenths of it; then the size is `ceil(serving × metric / target)`.
//! Nothing is taken while something launches.

use std::collections::VecDeque;

use crate::scaling::simulate::Policy;
use crate::scaling::simulate::meter::{Meter, Window};
use crate::scaling::simulate::rivals::{TARGET, whole};

const POINT: Window = Window { seconds: 60, late: 60 };
const HIGH_POINTS: usize = 3;
const LOW_POINTS: usize = 15;
const LOW: f64 = 0.9;

/// Its two alarms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Alarm {
    High,
    Low,
}

/// The policy of one group.
#[derive(Clone, Debug)]
pub struct TargetTracking {
    target_rps: f64,
    points: VecDeque<f64>,
}

impl TargetTracking {
    /// For instances that take at most `capacity` requests a second.
    pub fn new(capacity: f64) -> Self {
        Self { target_rps: capacity * TARGET, points: VecDeque::new() }
    }

    fn alarm(&mut self, point: f64) -> Option<Alarm> {
        self.points.push_front(point);
        self.points.truncate(LOW_POINTS);
        let high = self.points.iter().take(HIGH_POINTS).all(|point| *point > self.target_rps);
        if high && self.points.len() >= HIGH_POINTS {
            return Some(Alarm::High);
        }
        let low = self.points.iter().all(|point| *point < LOW * self.target_rps);
        (low && self.points.len() == LOW_POINTS).then_some(Alarm::Low)
    }
}

impl Policy for TargetTracking {
    fn name(&self) -> &'static str {
        "AWS target tracking"
    }

    fn period_s(&self) -> u32 {
        60
    }

    fn decide(&mut self, meter: &Meter) -> Option<u32> {
        let point = meter.per_instance(POINT);
        let alarm = self.alarm(point)?;
        // Instances that launch are neither in the metric nor in the size that it speaks of.
        let wanted = whole(meter.served_by(POINT) * point / self.target_rps);
        let acts = match alarm {
            Alarm::High => wanted > meter.desired(),
            Alarm::Low => wanted < meter.desired() && meter.presence().pending == 0,
        };
        acts.then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::simulate::rivals::tests::steady;

    #[test]
    fn alarms_need_all_of_their_points() {
        let mut policy = TargetTracking::new(200.0);
        for (point, expected) in [(150.0, None), (150.0, None), (150.0, Some(Alarm::High))] {
            assert_eq!(policy.alarm(point), expected);
        }
        assert_eq!(policy.alarm(140.0), None, "the target is not above itself");
        for minute in 1..15 {
            assert_eq!(policy.alarm(125.0), None, "minute {minute}");
        }
        assert_eq!(policy.alarm(125.0), Some(Alarm::Low));
        assert_eq!(policy.alarm(127.0), None, "above nine tenths");
    }

    #[test]
    fn the_size_is_in_proportion() {
        let sized = |rps, ready, pending| {
            let mut policy = TargetTracking::new(200.0);
            let meter = steady(rps, ready, pending);
            (0..15).filter_map(|_| policy.decide(&meter)).last()
        };
        for (rps, ready, pending, expected) in [
            (7_000.0, 10, 0, Some(50)),
            (1_450.0, 10, 0, Some(11)),
            (7_000.0, 10, 40, None), // what launches is enough
            (1_300.0, 10, 0, None),  // 130 is within the band
            (700.0, 10, 0, Some(5)),
            (700.0, 10, 1, None), // nothing shrinks while something launches
        ] {
            assert_eq!(sized(rps, ready, pending), expected, "{rps} on {ready}+{pending}");
        }
    }
}
