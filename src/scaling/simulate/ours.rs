//! The control law as a policy: it is told each second, and asked each second.

use std::sync::Arc;

use crate::base::Ms;
use crate::model::Scaling;
use crate::scaling::law::{Law, Moment, Second};
use crate::scaling::simulate::Policy;
use crate::scaling::simulate::meter::Meter;

/// The law of a pool.
#[derive(Clone, Debug)]
pub(super) struct Ours {
    law: Law,
    scaling: Arc<Scaling>,
    desired: Option<u32>,
}

impl Ours {
    /// One that knows nothing yet.
    pub(super) fn new(scaling: Arc<Scaling>) -> Self {
        Self { law: Law::default(), scaling, desired: None }
    }
}

impl Policy for Ours {
    fn name(&self) -> &'static str {
        "tidegate"
    }

    fn period_s(&self) -> u32 {
        1
    }

    fn watch(&mut self, meter: &Meter) {
        let flow = meter.last();
        let second = Second {
            offered: flow.offered,
            completed: flow.completed,
            shed: flow.shed,
            queued: flow.queued,
            in_flight: flow.in_flight,
            latency_s: (flow.completed > 0.0).then(|| flow.in_flight / flow.completed),
        };
        let now = meter.now();
        let moment = Moment { now: Ms(u64::from(now) * 1_000), wall_s: i64::from(now) };
        let sizing = self.law.decide(moment, &second, meter.presence(), &self.scaling);
        self.desired = Some(sizing.desired);
    }

    fn decide(&mut self, _: &Meter) -> Option<u32> {
        self.desired
    }
}
