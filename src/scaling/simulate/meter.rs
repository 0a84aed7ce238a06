//! What a policy may look at: means over windows that end some time ago, as monitoring systems have
//! them.

use crate::scaling::law::Presence;
use crate::scaling::simulate::queue::Flow;

/// A power of two above the longest window and its delay.
const KEPT: usize = 1_024;

/// Sums since the start: the mean of a window is one subtraction.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    offered: f64,
    completed: f64,
    capacity: f64,
    serving: f64,
}

/// The last minutes of a pool.
#[derive(Clone, Debug)]
pub struct Meter {
    sums: Vec<Sums>,
    now: u32,
    last: Flow,
    presence: Presence,
    desired: u32,
}

/// The last `seconds`, seen `late` seconds after their end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// How long.
    pub seconds: u32,
    /// How old.
    pub late: u32,
}

impl Meter {
    /// Before the first second, with `desired` instances.
    pub fn new(desired: u32) -> Self {
        Self {
            sums: vec![Sums::default(); KEPT],
            now: 0,
            last: Flow::default(),
            presence: Presence::default(),
            desired,
        }
    }

    /// Another second has passed, in which `serving` instances served.
    pub fn push(&mut self, flow: Flow, serving: u32) {
        let mut sums = self.sums[self.now as usize % KEPT];
        sums.offered += flow.offered;
        sums.completed += flow.completed;
        sums.capacity += flow.capacity;
        sums.serving += f64::from(serving);
        self.now += 1;
        self.sums[self.now as usize % KEPT] = sums;
        self.last = flow;
    }

    /// What is there now, and how many should be.
    pub fn note(&mut self, presence: Presence, desired: u32) {
        self.presence = presence;
        self.desired = desired;
    }

    /// Seconds since the start.
    pub fn now(&self) -> u32 {
        self.now
    }

    /// The second that has just passed.
    pub fn last(&self) -> &Flow {
        &self.last
    }

    /// Who is there.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// How many serve.
    pub fn serving(&self) -> u32 {
        self.presence.warming + self.presence.ready
    }

    /// How many should exist, by the last decision.
    pub fn desired(&self) -> u32 {
        self.desired
    }

    /// Sums over a window and its seconds, which are fewer at the start; at least one.
    fn over(&self, window: Window) -> (Sums, f64) {
        debug_assert!(((window.seconds + window.late) as usize) < KEPT, "{window:?} is not kept");
        let end = self.now.saturating_sub(window.late);
        let start = end.saturating_sub(window.seconds);
        let (to, from) = (self.sums[end as usize % KEPT], self.sums[start as usize % KEPT]);
        let sums = Sums {
            offered: to.offered - from.offered,
            completed: to.completed - from.completed,
            capacity: to.capacity - from.capacity,
            serving: to.serving - from.serving,
        };
        (sums, f64::from((end - start).max(1)))
    }

    /// Requests a second that arrived: what a balancer counts.
    pub fn rate(&self, window: Window) -> f64 {
        let (sums, seconds) = self.over(window);
        sums.offered / seconds
    }

    /// The mean utilisation of the instances that served, which ends at 1: what a CPU gauge shows.
    pub fn utilisation(&self, window: Window) -> f64 {
        let (sums, _) = self.over(window);
        share(sums.completed, sums.capacity)
    }

    /// Requests a second that arrived for each instance that served.
    pub fn per_instance(&self, window: Window) -> f64 {
        let (sums, _) = self.over(window);
        share(sums.offered, sums.serving)
    }

    /// How many served, on average.
    pub fn served_by(&self, window: Window) -> f64 {
        let (sums, seconds) = self.over(window);
        sums.serving / seconds
    }
}

fn share(part: f64, of: f64) -> f64 {
    if of > 0.0 { part / of } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_end_when_they_should() {
        let mut meter = Meter::new(2);
        let window = |seconds, late| Window { seconds, late };
        assert_eq!(meter.rate(window(30, 15)), 0.0);
        assert_eq!(meter.per_instance(window(30, 0)), 0.0);
        for second in 0..3_000 {
            let offered = f64::from(second);
            let flow = Flow { offered, completed: 60.0, capacity: 80.0, ..Flow::default() };
            meter.push(flow, if second < 2_970 { 2 } else { 4 });
        }
        for (seconds, late, rate) in [(1, 0, 2_999.0), (10, 0, 2_994.5), (60, 60, 2_909.5)] {
            let seen = meter.rate(window(seconds, late));
            assert!((seen - rate).abs() < 1e-6, "{seconds} s, {late} s late: {seen}");
        }
        assert_eq!(meter.utilisation(window(30, 15)), 0.75);
        assert_eq!(meter.served_by(window(60, 0)), 3.0);
        assert_eq!(meter.served_by(window(60, 30)), 2.0);
        assert!((meter.per_instance(window(10, 0)) - 2_994.5 / 4.0).abs() < 1e-6);
    }
}
