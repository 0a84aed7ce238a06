//! The cheapest schedule for who knows the future: what cost is measured by.
//!
//! The k-th instance is needed while the rate is above what k-1 can take. A gap in which it would idle
//! for less time than a start costs (boot, warm-up, drain) is cheaper bridged. Instances are alike, so
//! each k can be looked at alone, and the sum is the optimum.

use std::ops::RangeInclusive;

use crate::scaling::simulate::bounded;
use crate::scaling::simulate::queue::{Model, Queue};
use crate::scaling::simulate::report::{PRICE, Row};

/// The schedule and what it costs.
#[derive(Clone, PartialEq, Debug)]
pub struct Optimum {
    /// What is paid for.
    pub instance_hours: f64,
    /// How many are needed in each second.
    pub needed: Vec<u32>,
    /// How many it has in each second: those, and the bridged ones.
    pub serving: Vec<u32>,
}

impl Optimum {
    /// For instances that are good for `each` requests a second.
    pub fn of(rates: &[f64], each: f64, size: &RangeInclusive<u32>, model: &Model) -> Self {
        let needed: Vec<u32> = rates.iter().map(|rate| bounded(rate / each, size)).collect();
        let start_s = (model.boot_s as usize) + (model.warm_up_s + model.drain_s) as usize;
        let most = needed.iter().copied().max().unwrap_or(0);
        let mut changes = vec![0i64; needed.len() + 1];
        // When the k-th was last needed, and whether it ever was.
        let mut ended: Vec<Option<usize>> = vec![None; most as usize + 1];
        let mut starts = 0u64;
        let mut before = *size.start();
        for (second, now) in needed.iter().copied().enumerate() {
            for k in before..now {
                match ended[k as usize] {
                    Some(end) if second - end < start_s => changes[end] += 1,
                    _ => {
                        starts += 1;
                        changes[second] += 1;
                    }
                }
            }
            for k in now..before {
                ended[k as usize] = Some(second);
                changes[second] -= 1;
            }
            before = now;
        }
        let mut level = i64::from(*size.start());
        let serving: Vec<u32> = changes[..needed.len()]
            .iter()
            .map(|change| {
                level += change;
                u32::try_from(level).unwrap_or(0)
            })
            .collect();
        let seconds = serving.iter().map(|serving| f64::from(*serving)).sum::<f64>()
            + starts as f64 * start_s as f64;
        Self { instance_hours: seconds / 3_600.0, needed, serving }
    }

    /// Its line in the report.
    pub fn row(&self, arrivals: &[f64], days: f64, model: &Model) -> Row {
        let queue = Queue::new(*model);
        let (mut offered, mut violating) = (0.0, 0.0);
        for (arriving, serving) in arrivals.iter().zip(&self.serving) {
            let utilisation = arriving / (f64::from(*serving) * model.capacity);
            offered += arriving;
            violating += arriving * queue.slow(utilisation.min(1.0));
        }
        let actions = self.serving.windows(2).filter(|pair| pair[0] != pair[1]).count();
        let violations = if offered > 0.0 { 100.0 * violating / offered } else { 0.0 };
        let seconds = self.serving.len().max(1) as f64;
        Row {
            name: "optimum, knows the future".into(),
            violations_percent: violations,
            shed_percent: 0.0,
            instance_hours: self.instance_hours,
            relative_cost: 1.0,
            actions_per_day: actions as f64 / days,
            reversals_per_day: 0.0,
            j: 1.0 + PRICE * violations,
            peak: self.serving.iter().copied().max().unwrap_or(0),
            mean: self.serving.iter().map(|serving| f64::from(*serving)).sum::<f64>() / seconds,
        }
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;

    use super::*;
    use crate::scaling::simulate::queue::USUAL;

    /// A start costs 150 s.
    fn of(levels: &[(usize, f64)]) -> Optimum {
        let rates: Vec<f64> =
            levels.iter().flat_map(|(seconds, n)| vec![n * 100.0; *seconds]).collect();
        Optimum::of(&rates, 100.0, &(1..=50), &USUAL)
    }

    #[test]
    fn short_gaps_are_bridged_and_long_ones_are_not() {
        for (levels, seconds) in [
            (&[(600, 1.0)][..], 600),
            (&[(600, 0.0)], 600),
            (&[(100, 1.0), (100, 3.0)], 100 + 300 + 2 * 150),
            (&[(100, 2.0), (149, 1.0), (100, 2.0)], 349 * 2 + 150),
            (&[(100, 2.0), (150, 1.0), (100, 2.0)], 350 + 200 + 2 * 150),
            (&[(100, 3.0), (50, 2.0), (50, 1.0), (50, 2.0), (100, 3.0)], 350 * 3 + 2 * 150),
            (&[(100, 60.0)], 100 * 50 + 49 * 150),
        ] {
            let hours = of(levels).instance_hours;
            assert!((hours * 3_600.0 - f64::from(seconds)).abs() < 1e-6, "{levels:?}: {hours}");
        }
    }

    proptest! {
        /// Looks at each instance alone, where the code under test goes through time once.
        #[test]
        fn it_is_the_sum_over_instances(levels in proptest::collection::vec((1usize..400, 0u32..6), 1..20)) {
            let levels: Vec<_> = levels.into_iter().map(|(s, n)| (s, f64::from(n))).collect();
            let optimum = of(&levels);
            let mut expected = optimum.needed.len();
            for k in 2..=6 {
                let mut idle = usize::MAX;
                for needed in &optimum.needed {
                    if *needed >= k {
                        expected += 1 + idle.min(150);
                        idle = 0;
                    } else {
                        idle = idle.saturating_add(1);
                    }
                }
            }
            prop_assert!((optimum.instance_hours * 3_600.0 - expected as f64).abs() < 1e-6);
            let has_all = optimum.needed.iter().zip(&optimum.serving).all(|(n, s)| n <= s);
            prop_assert!(has_all);
        }
    }
}
