//! The control law: how many instances a pool should have, from what was seen second by second.
//!
//! It decides the number and nothing else: no clock, no I/O, no chance, and no knowledge of machines.
//! The agent feeds it live, `tidegate simulate` replays traces through it, and `simulate --drive` lets an
//! outside simulator do so: it is the same code in each.

use std::collections::BTreeMap;

use crate::base::Ms;
use crate::model::Scaling;

/// When something is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The monotonic clock.
    pub now: Ms,
    /// Wall-clock seconds since 1970 (UTC): only what recurs by the day or the week goes by it.
    pub wall_s: i64,
}

/// One second of a pool's traffic.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Second {
    /// Requests that arrived, whatever became of them.
    pub offered: f64,
    /// Requests that were answered.
    pub completed: f64,
    /// Requests that nothing could take.
    pub shed: f64,
    /// Requests that wait at its end.
    pub queued: f64,
    /// Requests in flight at its end, those that wait included.
    pub in_flight: f64,
    /// Mean time from arrival to answer, if anything was answered.
    pub latency_s: Option<f64>,
}

/// Who is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Presence {
    /// Ordered or booting.
    pub pending: u32,
    /// Serving, and not at full strength yet.
    pub warming: u32,
    /// Serving.
    pub ready: u32,
    /// Draining or leaving.
    pub draining: u32,
    /// Down.
    pub unhealthy: u32,
}

/// What the law says.
#[derive(Clone, PartialEq, Debug)]
pub struct Sizing {
    /// How many should exist: pending, warming and ready.
    pub desired: u32,
    /// Which term decided.
    pub winner: &'static str,
    /// Every input and term with its value.
    pub terms: BTreeMap<&'static str, f64>,
    /// Each bound that was applied, with what it changed: `max 14→12`.
    pub clamps: Vec<String>,
    /// One line for an operator.
    pub reason: String,
}

/// The law of one pool, with what it remembers.
#[derive(Clone, Debug, Default)]
pub struct Law {
    arrivals: Vec<f64>,
}

impl Law {
    /// What follows from one more second.
    pub fn decide(
        &mut self,
        _moment: Moment,
        second: &Second,
        presence: &Presence,
        scaling: &Scaling,
    ) -> Sizing {
        self.arrivals.push(second.offered);
        let last = &self.arrivals[self.arrivals.len().saturating_sub(30)..];
        let rate = last.iter().sum::<f64>() / last.len() as f64;
        let wanted = (rate / scaling.stated_rate().unwrap_or(f64::INFINITY)).ceil() as u32;
        let desired = wanted.clamp(scaling.min, scaling.max);
        let from = presence.pending + presence.warming + presence.ready;
        Sizing {
            desired,
            winner: "now",
            terms: BTreeMap::from([("rate_30s", rate)]),
            clamps: Vec::new(),
            reason: format!("{from}→{desired}: {rate:.0} rps"),
        }
    }
}
