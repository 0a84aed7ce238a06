//! The scalers beside which ours is shown, each with the signal that it really has, as late as it
//! really has it. All aim at the same share of what an instance takes, unless their name says more.

mod aws;
mod azure;
mod kubernetes;

pub use aws::TargetTracking;
pub use azure::{Basic, Tuned};
pub use kubernetes::{Cpu, Keda};

use crate::scaling::simulate::Policy;
use crate::scaling::simulate::meter::Meter;

/// The share of an instance's capacity that the others are set to: what their guides advise.
pub const TARGET: f64 = 0.7;

/// As many instances all the time.
#[derive(Clone, Copy, Debug)]
pub struct Fixed;

impl Policy for Fixed {
    fn name(&self) -> &'static str {
        "fixed size"
    }

    fn period_s(&self) -> u32 {
        u32::MAX
    }

    fn decide(&mut self, _: &Meter) -> Option<u32> {
        None
    }
}

/// Rounded up to whole instances. A ratio that is whole but for the last bits of a float stays so.
fn whole(instances: f64) -> u32 {
    (instances - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use crate::scaling::law::Presence;
    use crate::scaling::simulate::meter::Meter;
    use crate::scaling::simulate::queue::Flow;

    /// A pool of `ready` instances of 200 rps each that has had `rps` for a quarter of an hour.
    pub(super) fn steady(rps: f64, ready: u32, pending: u32) -> Meter {
        let mut meter = Meter::new(ready + pending);
        let capacity = f64::from(ready) * 200.0;
        for _ in 0..900 {
            let completed = rps.min(capacity);
            meter.push(Flow { offered: rps, completed, capacity, ..Flow::default() }, ready);
        }
        meter.note(Presence { pending, ready, ..Presence::default() }, ready + pending);
        meter
    }
}
