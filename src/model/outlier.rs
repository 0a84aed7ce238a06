//! Passive health: which answers to real traffic take an instance out of it for a while.

use std::time::Duration;

use crate::base::Share;
use crate::model::Vitals;

/// When an instance is ejected, and for how long.
#[derive(Clone, PartialEq, Debug)]
pub struct Outlier {
    /// So many answers in a row of 5xx, or none at all; `None` leaves that out.
    pub failures: Option<u32>,
    /// So many in a row of 502, 503 or 504, or none at all; `None` leaves that out. They are failures
    /// too, so this says something only where it is lower than [`Outlier::failures`].
    pub gateway_failures: Option<u32>,
    /// A share of good answers that is so many standard deviations below the mean of the pool; `None`
    /// leaves that out.
    pub success_rate: Option<f64>,
    /// A mean time to the head of a response that is so many times the median of the others; `None`
    /// leaves that out.
    pub latency: Option<f64>,
    /// How often instances are compared with each other, by what they answered in between.
    pub interval: Duration,
    /// An instance with fewer answers in an interval is not compared.
    pub min_requests: u32,
    /// Nor is any where fewer instances than this could be.
    pub min_instances: u32,
    /// How long the first ejection lasts; the n-th lasts n times as long.
    pub ejection: Duration,
    /// No ejection lasts longer.
    pub max_ejection: Duration,
    /// So many of a pool may be ejected at a time, but always one; 0 turns all of this off.
    pub max_ejected: Share,
    /// So many of a pool are left in traffic, whatever they do; at least 1.
    pub min_healthy: u32,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            failures: Some(5),
            gateway_failures: None,
            success_rate: Some(1.9),
            latency: Some(5.0),
            interval: Duration::from_secs(10),
            min_requests: 100,
            min_instances: 5,
            ejection: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_ejected: Share(0.1),
            min_healthy: 1,
        }
    }
}

impl Outlier {
    /// Nobody is ejected.
    pub fn is_off(&self) -> bool {
        self.max_ejected.0 <= 0.0
    }

    /// How many of so many instances may be ejected at a time: the share, but one in any pool in which
    /// enough are left. Pools of fewer than ten could else never eject anybody.
    pub fn allowed(&self, instances: u32) -> u32 {
        if self.is_off() {
            return 0;
        }
        let share = (self.max_ejected.0 * f64::from(instances)).floor() as u32;
        share.max(1).min(instances.saturating_sub(self.min_healthy.max(1)))
    }

    /// Whether the last failure in a row is one that the control plane should look at now. It looks
    /// every 100 ms anyway, so one that is missed between two counts does no harm.
    pub fn is_due(&self, vitals: &Vitals) -> bool {
        let reached = |limit: Option<u32>, count: u32| {
            limit.is_some_and(|limit| count >= limit && count.is_multiple_of(limit))
        };
        reached(self.failures, vitals.failures_in_a_row())
            || reached(self.gateway_failures, vitals.gateway_failures_in_a_row())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_but_one_and_never_the_last() {
        let outlier = |share, min_healthy| Outlier {
            max_ejected: Share(share),
            min_healthy,
            ..Outlier::default()
        };
        for (share, min_healthy, instances, allowed) in [
            (0.1, 1, 0, 0),
            (0.1, 1, 1, 0),
            (0.1, 1, 2, 1),
            (0.1, 1, 9, 1),
            (0.1, 1, 19, 1),
            (0.1, 1, 20, 2),
            (0.1, 1, 1_000, 100),
            (0.1, 3, 3, 0),
            (0.1, 3, 4, 1),
            (0.5, 8, 10, 2),
            (1.0, 1, 10, 9),
            (1.0, 0, 10, 9),
            (0.0, 1, 10, 0),
        ] {
            let found = outlier(share, min_healthy).allowed(instances);
            assert_eq!(found, allowed, "{share} of {instances}, {min_healthy} left");
        }
    }

    #[test]
    fn the_threshold_rings_and_so_does_every_multiple() {
        let vitals = Vitals::default();
        let outlier = Outlier { gateway_failures: Some(3), ..Outlier::default() };
        let rung: Vec<usize> = (1..=10)
            .filter(|_| {
                vitals.count_response(500, Duration::ZERO);
                outlier.is_due(&vitals)
            })
            .collect();
        assert_eq!(rung, [5, 10], "500 is no gateway's failure");
        vitals.forget_failures();
        let rung: Vec<usize> = (1..=5)
            .filter(|_| {
                vitals.count_failure();
                outlier.is_due(&vitals)
            })
            .collect();
        assert_eq!(rung, [3, 5]);
    }
}
