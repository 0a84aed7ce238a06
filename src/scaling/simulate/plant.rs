//! The simulated pool: instances that boot, warm up, serve and drain, behind a balancer.

use std::collections::VecDeque;

use crate::base::Entropy;
use crate::scaling::law::Presence;

/// No zone is ever lost in a replay; this many are what most regions have.
const ZONES: u32 = 3;
use crate::scaling::simulate::queue::{Flow, Model, Queue};

/// A pool at one moment.
#[derive(Clone, Debug)]
pub struct Plant {
    model: Model,
    queue: Queue,
    entropy: Entropy,
    /// When each will have booted, by the order of the launches.
    booting: Vec<f64>,
    /// When each will be at full strength, the first first.
    warming: VecDeque<u32>,
    ready: u32,
    /// When each will be gone, the first first.
    draining: VecDeque<u32>,
}

impl Plant {
    /// A pool of `ready` instances that have nothing to do yet.
    pub fn new(model: Model, ready: u32, seed: u64) -> Self {
        Self {
            model,
            queue: Queue::new(model),
            entropy: Entropy::seeded(seed),
            booting: Vec::new(),
            warming: VecDeque::new(),
            ready,
            draining: VecDeque::new(),
        }
    }

    /// Who is there.
    pub fn presence(&self) -> Presence {
        Presence {
            pending: self.booting.len() as u32,
            warming: self.warming.len() as u32,
            warmed: None,
            ready: self.ready,
            draining: self.draining.len() as u32,
            unhealthy: 0,
            zones: ZONES,
        }
    }

    /// What is due at `now` happens: boots and warm-ups end, drained instances go.
    pub fn wake(&mut self, now: u32) {
        let before = self.booting.len();
        self.booting.retain(|at| *at > f64::from(now));
        let full = now.saturating_add(self.model.warm_up_s);
        self.warming.extend(std::iter::repeat_n(full, before - self.booting.len()));
        while self.warming.front().is_some_and(|at| *at <= now) {
            self.warming.pop_front();
            self.ready += 1;
        }
        while self.draining.front().is_some_and(|at| *at <= now) {
            self.draining.pop_front();
        }
    }

    /// Launches what is missing to `desired`; or takes what is too many: those first that were ordered
    /// last, then those that still warm up.
    pub fn resize(&mut self, now: u32, desired: u32) {
        let exist = (self.booting.len() + self.warming.len()) as u32 + self.ready;
        for _ in exist..desired {
            let spread = self.model.boot_spread * (2.0 * self.entropy.unit() - 1.0);
            self.booting.push(f64::from(now) + self.model.boot_s * (1.0 + spread));
        }
        for _ in desired..exist {
            if self.booting.pop().is_none() && self.warming.pop_back().is_none() {
                self.ready -= 1;
            }
            self.draining.push_back(now.saturating_add(self.model.drain_s));
        }
    }

    /// One second of traffic.
    pub fn second(&mut self, offered: f64) -> Flow {
        let strength = f64::from(self.ready) + 0.5 * self.warming.len() as f64;
        self.queue.second(offered, strength * self.model.capacity)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scaling::simulate::queue::USUAL;

    fn counts(plant: &Plant) -> [u32; 4] {
        let presence = plant.presence();
        [presence.pending, presence.warming, presence.ready, presence.draining]
    }

    #[test]
    fn an_instance_boots_warms_up_serves_and_leaves() {
        let model = Model { boot_spread: 0.0, ..USUAL };
        let mut plant = Plant::new(model, 2, 1);
        plant.resize(0, 3);
        for (now, expected, capacity) in [
            (89, [1, 0, 2, 0], 400.0),
            (90, [0, 1, 2, 0], 500.0),
            (119, [0, 1, 2, 0], 500.0),
            (120, [0, 0, 3, 0], 600.0),
        ] {
            plant.wake(now);
            assert_eq!(counts(&plant), expected, "at {now}");
            assert_eq!(plant.second(10.0).capacity, capacity, "at {now}");
        }
        plant.resize(200, 1);
        assert_eq!(counts(&plant), [0, 0, 1, 2]);
        plant.wake(229);
        assert_eq!(counts(&plant), [0, 0, 1, 2]);
        plant.wake(230);
        assert_eq!(counts(&plant), [0, 0, 1, 0]);
    }

    #[test]
    fn what_was_ordered_last_goes_first() {
        let mut plant = Plant::new(Model { boot_spread: 0.0, ..USUAL }, 2, 1);
        plant.resize(0, 3);
        plant.wake(90);
        plant.resize(90, 5);
        for (desired, expected) in
            [(4, [1, 1, 2, 1]), (3, [0, 1, 2, 2]), (2, [0, 0, 2, 3]), (1, [0, 0, 1, 4])]
        {
            plant.resize(91, desired);
            assert_eq!(counts(&plant), expected, "to {desired}");
        }
    }

    #[test]
    fn boots_are_spread() {
        let mut plant = Plant::new(USUAL, 1, 1);
        plant.resize(0, 101);
        plant.wake(71);
        assert_eq!(plant.presence().pending, 100);
        plant.wake(90);
        assert!((35..65).contains(&plant.presence().pending), "{:?}", plant.presence());
        plant.wake(108);
        assert_eq!(plant.presence().pending, 0);
    }

    proptest! {
        #[test]
        fn as_many_exist_as_are_desired(
            steps in proptest::collection::vec((1u32..60, 1u32..40), 1..60), seed: u64,
        ) {
            let mut plant = Plant::new(USUAL, 3, seed);
            let mut now = 0;
            for (after, desired) in steps {
                now += after;
                plant.wake(now);
                plant.resize(now, desired);
                let [pending, warming, ready, _] = counts(&plant);
                prop_assert_eq!(pending + warming + ready, desired);
            }
            now += 1_000;
            plant.wake(now);
            let [pending, warming, _, draining] = counts(&plant);
            // Those that have booted just now warm up yet.
            prop_assert_eq!((pending, draining), (0, 0));
            plant.wake(now + USUAL.warm_up_s);
            prop_assert_eq!(counts(&plant)[1], 0, "of {} that warmed up", warming);
        }
    }
}
