//! What one instance takes at most, learnt from instances that were saturated.
//!
//! While requests wait or are shed, instances do all they can, and what they answer is their capacity.
//! Otherwise what they answer is only a lower bound.

use crate::scaling::law::{Presence, Second};

/// How fast the smoothed rate follows, each second.
const SMOOTH: f64 = 0.1;
/// How fast a lower capacity is believed, each second…
const DOWN: f64 = 0.05;
/// …and how much more a higher one, at most: a tenth in an hour.
const UP_PER_SECOND: f64 = 0.1 / 3_600.0;
/// Seconds after which a smoothed rate holds nothing of what was before.
const CALM: u32 = 60;
/// Seconds of saturation in a row before it says anything: a queue that is worked off at once is noise.
const SETTLED: u32 = 5;

/// What was seen of the instances of a pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Capacity {
    /// Answers a second and instance, smoothed.
    rate: f64,
    /// Seconds that it has been saturated for.
    saturated: u32,
    /// Seconds that it has not been.
    calm: u32,
    /// The largest rate without a queue.
    bound: f64,
    learnt: Option<f64>,
}

impl Capacity {
    /// One second of `seconds`. Who warms up counts for the part that it takes: what is saturated then
    /// is not what an instance takes at most.
    pub(super) fn see(&mut self, seconds: f64, second: &Second, presence: &Presence) {
        let serving = presence.strength();
        if serving <= 0.0 {
            self.saturated = 0;
            return;
        }
        self.rate += SMOOTH * (second.completed / seconds.max(0.001) / serving - self.rate);
        if second.queued <= 0.0 && second.shed <= 0.0 {
            (self.saturated, self.calm) = (0, self.calm + 1);
            self.bound = self.bound.max(self.rate);
            // By then nothing of a saturated time is in the rate: what is carried so is proved.
            if self.calm >= CALM
                && let Some(learnt) = &mut self.learnt
            {
                *learnt = learnt.max(self.rate);
            }
            return;
        }
        (self.saturated, self.calm) = (self.saturated + 1, 0);
        if self.saturated < SETTLED {
            return;
        }
        self.learnt = Some(match self.learnt {
            None => self.rate.max(self.bound),
            Some(learnt) if self.rate < learnt => learnt + DOWN * (self.rate - learnt),
            Some(learnt) => self.rate.min(learnt * (1.0 + UP_PER_SECOND * seconds)),
        });
    }

    /// Goes on from what was learnt before a restart.
    pub(super) fn recall(&mut self, learnt: Option<f64>) {
        self.bound = learnt.unwrap_or_default();
    }

    /// Requests per second that an instance takes, as far as was seen; `None` before any traffic.
    pub(super) fn per_instance(&self) -> Option<f64> {
        self.learnt.or((self.bound > 0.0).then_some(self.bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(capacity: &mut Capacity, seconds: u32, completed: f64, queued: f64) -> Option<f64> {
        let presence = Presence { ready: 4, ..Presence::default() };
        let second = Second { completed, queued, ..Second::default() };
        (0..seconds).for_each(|_| capacity.see(1.0, &second, &presence));
        capacity.per_instance()
    }

    #[test]
    fn saturation_tells_the_capacity_and_anything_else_a_bound() {
        let mut capacity = Capacity::default();
        assert_eq!(run(&mut capacity, 9, 0.0, 0.0), None);
        let bound = run(&mut capacity, 120, 400.0, 0.0).expect("a bound");
        assert!((bound - 100.0).abs() < 0.1, "{bound}");
        assert_eq!(run(&mut capacity, 60, 200.0, 0.0), Some(bound), "less traffic says nothing");
        let learnt = run(&mut capacity, 200, 600.0, 50.0).expect("a sample");
        assert!((100.0..151.0).contains(&learnt), "never above what was seen: {learnt}");
        let slower = run(&mut capacity, 200, 320.0, 50.0).expect("a sample");
        assert!((slower - 80.0).abs() < 1.0, "a heavier mix is believed at once: {slower}");
        let again = run(&mut capacity, 3_600, 600.0, 50.0).expect("a sample");
        assert!((87.0..90.0).contains(&again), "and a lighter one a tenth in an hour: {again}");
        let proved = run(&mut capacity, 200, 480.0, 0.0).expect("a sample");
        assert!((proved - 120.0).abs() < 0.5, "what was carried without a queue is proved");
    }
}
