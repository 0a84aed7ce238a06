//! How long it takes from a launch to full service, learnt from launches.
//!
//! Only numbers are looked at: who comes was ordered first, and who is taken back was ordered last. So
//! it works as well for a simulator that tells no names.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Ms;
use crate::scaling::law::{Learnt, Presence};

/// What a virtual machine of a cloud takes; taken for it before anything was learnt.
pub(super) const TYPICAL: Duration = Duration::from_secs(138);
/// Launches that are remembered.
const KEPT: usize = 64;

/// What launches took.
#[derive(Clone, Debug, Default)]
pub(super) struct Lead {
    before: Option<Presence>,
    booting: Stretch,
    warming: Stretch,
}

/// One part of the way: when each of those on it began, and how long the last ones took.
#[derive(Clone, Debug, Default)]
struct Stretch {
    under_way: VecDeque<Ms>,
    took: VecDeque<Duration>,
}

impl Stretch {
    /// `done` have come to its end, and `left` are on it now.
    fn see(&mut self, now: Ms, done: u32, left: u32) {
        for _ in 0..done {
            let Some(began) = self.under_way.pop_front() else { break };
            if self.took.len() == KEPT {
                self.took.pop_front();
            }
            self.took.push_back(now.since(began));
        }
        // The others were taken back or are new.
        self.under_way.truncate(left as usize);
        self.under_way.resize(left as usize, now);
    }

    /// What nine of ten did not exceed.
    fn most(&self) -> Option<Duration> {
        let mut took: Vec<Duration> = self.took.iter().copied().collect();
        took.sort_unstable();
        took.get(took.len() * 9 / 10).or(took.last()).copied()
    }
}

impl Lead {
    /// Who is there now.
    pub(super) fn see(&mut self, now: Ms, presence: &Presence) {
        let Some(before) = self.before.replace(*presence) else { return };
        let serve = |p: &Presence| p.warming + p.ready;
        // Where some leave while others come, the fewer who came are counted: that learns more slowly.
        let up = serve(presence).saturating_sub(serve(&before));
        let warm = presence.ready.saturating_sub(before.ready);
        self.booting.see(now, up, presence.pending);
        self.warming.see(now, warm, presence.warming);
    }

    /// Tells what launches took.
    pub(super) fn tell(&self, learnt: &mut Learnt) {
        let seconds = |stretch: &Stretch| stretch.took.iter().map(Duration::as_secs_f64).collect();
        (learnt.boots_s, learnt.warm_ups_s) = (seconds(&self.booting), seconds(&self.warming));
    }

    /// Goes on from what launches took before a restart.
    pub(super) fn recall(&mut self, learnt: &Learnt) {
        let took = |seconds: &[f64]| {
            let sound = seconds.iter().filter_map(|s| Duration::try_from_secs_f64(*s).ok());
            sound.take(KEPT).collect()
        };
        self.booting.took = took(&learnt.boots_s);
        self.warming.took = took(&learnt.warm_ups_s);
    }

    /// From a launch to full service.
    pub(super) fn time(&self) -> Duration {
        let Some(boot) = self.booting.most() else { return TYPICAL };
        boot + self.warming.most().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_time_is_learnt_from_numbers_alone() {
        let mut lead = Lead::default();
        let mut see = |second: u64, pending, warming, ready| {
            let presence = Presence { pending, warming, ready, ..Presence::default() };
            lead.see(Ms(second * 1_000), &presence);
            lead.time().as_secs()
        };
        assert_eq!(see(0, 0, 0, 3), 138, "nothing is known");
        assert_eq!(see(10, 2, 0, 3), 138);
        assert_eq!(see(50, 4, 0, 3), 138);
        assert_eq!(see(100, 2, 2, 3), 90, "the first two took ninety seconds");
        assert_eq!(see(130, 2, 0, 5), 120, "and thirty more until they were warm");
        assert_eq!(see(131, 1, 0, 5), 120, "one was taken back");
        assert_eq!(see(170, 0, 1, 5), 150, "the last took 120, nine of ten no more");
    }
}
