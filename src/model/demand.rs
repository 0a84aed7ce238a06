//! What a pool was asked for, second by second.

use crate::base::Ms;

/// Running totals of a pool over all workers, and what waits now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Requests (or connections) that arrived, whatever became of them.
    pub offered: u64,
    /// Requests that were answered by an instance.
    pub completed: u64,
    /// Requests that were refused because nothing could take them.
    pub shed: u64,
}

/// One second of demand.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Window {
    /// When the window ended.
    pub ended: Ms,
    /// How long it was, in seconds (ticks may come late).
    pub seconds: f64,
    /// Arrivals in it.
    pub offered: u64,
    /// Answers in it.
    pub completed: u64,
    /// Refusals in it.
    pub shed: u64,
    /// Waiting in the hold queue at its end.
    pub queued: u32,
    /// In flight on instances at its end.
    pub in_flight: u32,
}

impl Window {
    /// The window between two readings of the totals. Totals never go down; a reading that does
    /// anyway is taken as no traffic.
    pub fn between(before: (Ms, Totals), after: (Ms, Totals), queued: u32, in_flight: u32) -> Self {
        Self {
            ended: after.0,
            seconds: after.0.since(before.0).as_secs_f64().max(0.001),
            offered: after.1.offered.saturating_sub(before.1.offered),
            completed: after.1.completed.saturating_sub(before.1.completed),
            shed: after.1.shed.saturating_sub(before.1.shed),
            queued,
            in_flight,
        }
    }
}
