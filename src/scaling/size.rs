//! How many instances there should be, from what was wanted of late, and how fast their number may fall.
//!
//! Up at once, down with care. The pool keeps the largest size of the last `hold`; each size that
//! is kept has a little room (the dead band), so that noise around a whole number of instances
//! settles on the larger one. After the start of the daemon, which has seen nothing yet, nothing
//! shrinks for one `hold`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Ms;
use crate::model::Scaling;
use crate::scaling::plan::Refusal;
use crate::scaling::roster::Count;
use crate::scaling::want::Want;

/// A smaller size is taken only if it is smaller by this share…
const DEAD_BAND: f64 = 0.05;
/// …and by this many.
const DEAD_BAND_LEAST: f64 = 0.5;
/// The removals of this long are bounded together.
const RATE_PERIOD: Duration = Duration::from_secs(60);

/// The memory of sizes.
#[derive(Clone, Debug, Default)]
pub(super) struct Size {
    /// When the pool was first seen, and the size that it should have now.
    state: Option<(Ms, u32)>,
    /// What the size was last raised for, until it is reached.
    raised_for: Option<&'static str>,
    /// Sizes that were wanted, each larger than those after it: the first is the maximum.
    wanted: VecDeque<(Ms, u32)>,
    /// What was removed in the last minute: when, how many, and of how many.
    removed: VecDeque<(Ms, u32, u32)>,
}

/// What is to become of the size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// How many should serve.
    pub(super) desired: u32,
    /// How many that serve are to leave.
    pub(super) remove: u32,
    /// Why those that are missing are brought: the term that raised the size, or `replace`.
    pub(super) cause: &'static str,
    /// What keeps the pool from shrinking.
    pub(super) refusal: Option<Refusal>,
}

impl Size {
    /// One second: what is wanted, who is there, and whether an outage makes both doubtful.
    pub(super) fn settle(
        &mut self,
        now: Ms,
        want: &Want,
        scaling: &Scaling,
        count: &Count,
        outage: bool,
    ) -> Verdict {
        let (since, before) = *self.state.get_or_insert((now, count.size()));
        let hold = match want.winner {
            // What was wanted before does not matter any more.
            "operator" => Duration::ZERO,
            _ => scaling.scale_in.hold,
        };
        let floor = self.floor(now, want, hold);
        let carrying = count.carrying();
        let mut desired = before.min(want.max);
        if want.size > desired {
            desired = want.size;
            self.raised_for = Some(want.winner);
        } else if carrying >= desired {
            self.raised_for = None;
        }
        // What is there beyond the size leaves in any case; the size falls only by more than a little.
        let less = desired - floor.min(desired);
        let slight = f64::from(desired) * DEAD_BAND + DEAD_BAND_LEAST;
        let is_slight = f64::from(less) <= slight && want.size > 0;
        let kept = if is_slight { desired } else { desired - less };
        let wish = carrying.saturating_sub(kept).min(count.removable);
        let blocked = self.blocked(now, since, hold, count, outage);
        if !matches!(blocked, Some(Refusal { kind: "start" | "outage", .. })) {
            // What died and is not needed any more is not replaced.
            desired = desired.min(carrying.max(floor));
        }
        let (remove, refusal) = match blocked {
            Some(blocked) => (0, (wish > 0).then_some(blocked)),
            None => {
                let rate = scaling.scale_in.rate.0;
                self.bounded_by_rate(now, wish, carrying, (rate, want.unit))
            }
        };
        if remove > 0 {
            desired = desired.min(carrying - remove);
            self.removed.push_back((now, remove, carrying));
        }
        self.state = Some((since, desired));
        let held = want.roomy < floor && floor == desired && carrying >= desired;
        let refusal = refusal.or_else(|| {
            let (seconds, size) = (hold.as_secs(), want.roomy);
            held.then(|| Refusal {
                kind: "hold",
                reason: format!("{size} would do, {floor} were wanted in the last {seconds} s"),
            })
        });
        Verdict { desired, remove, cause: self.raised_for.unwrap_or("replace"), refusal }
    }

    /// Why nothing may shrink at all.
    fn blocked(
        &self,
        now: Ms,
        since: Ms,
        hold: Duration,
        count: &Count,
        outage: bool,
    ) -> Option<Refusal> {
        let (kind, reason) = if now.since(since) < hold {
            let left = (hold - now.since(since)).as_secs();
            ("start", format!("nothing shrinks for {left} s: the daemon has just started"))
        } else if outage {
            ("outage", "nothing shrinks while so many are down".into())
        } else if count.pending + count.stranded > 0 {
            ("pending", "nothing shrinks before what was ordered serves".into())
        } else {
            return None;
        };
        Some(Refusal { kind, reason })
    }

    /// The largest size that was wanted in the last `hold`, now included.
    fn floor(&mut self, now: Ms, want: &Want, hold: Duration) -> u32 {
        while self.wanted.back().is_some_and(|(_, size)| *size <= want.roomy) {
            self.wanted.pop_back();
        }
        self.wanted.push_back((now, want.roomy));
        while self.wanted.front().is_some_and(|(at, _)| now.since(*at) > hold) {
            self.wanted.pop_front();
        }
        self.wanted.front().map_or(want.roomy, |(_, size)| (*size).min(want.max))
    }

    /// How much of `wish` may go now: such a share of the size at the start of the last minute, in
    /// whole instances of `unit`.
    fn bounded_by_rate(
        &mut self,
        now: Ms,
        wish: u32,
        carrying: u32,
        (rate, unit): (f64, u32),
    ) -> (u32, Option<Refusal>) {
        let wish = wish / unit * unit;
        while self.removed.front().is_some_and(|(at, ..)| now.since(*at) >= RATE_PERIOD) {
            self.removed.pop_front();
        }
        let size = self.removed.front().map_or(carrying, |(_, _, of)| *of);
        let bound = ((rate * f64::from(size) / f64::from(unit) - 1e-9).ceil() as u32).max(1) * unit;
        let gone: u32 = self.removed.iter().map(|(_, count, _)| count).sum();
        let remove = wish.min(bound.saturating_sub(gone));
        let refusal = (remove < wish).then(|| Refusal {
            kind: "scale-in rate",
            reason: format!("{wish} could go, but no more than {bound} a minute"),
        });
        (remove, refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaling::demand::Estimate;
    use crate::scaling::want::Known;

    fn scaling(min: u32, max: u32) -> Scaling {
        Scaling::new(min, max, 70.0)
    }

    fn rate(rps: f64) -> Estimate {
        Estimate { rate_30s: rps, growth: 1.0, ..Estimate::default() }
    }

    /// The size that is wanted, by the stated rate alone.
    fn want(estimate: &Estimate, scaling: &Scaling) -> Want {
        crate::scaling::want::want(estimate, Known::default(), scaling, &[])
    }

    fn healthy(healthy: u32) -> Count {
        Count { healthy, removable: healthy, ..Count::default() }
    }

    /// Runs `seconds` at `rps` with everything that is wanted at once there; returns each second's
    /// size.
    fn run(size: &mut Size, from: u64, seconds: u64, rps: f64, mut there: u32) -> Vec<u32> {
        let scaling = scaling(3, 40);
        let want = want(&rate(rps), &scaling);
        (from..from + seconds)
            .map(|second| {
                let verdict =
                    size.settle(Ms(second * 1000), &want, &scaling, &healthy(there), false);
                there = (there - verdict.remove).max(verdict.desired);
                there
            })
            .collect()
    }

    #[test]
    fn up_at_once_down_after_the_hold_at_the_rate() {
        let mut size = Size::default();
        assert_eq!(run(&mut size, 0, 1, 190.0, 3), [3]);
        let high = run(&mut size, 1, 10, 1_960.0, 3);
        assert_eq!(high, [28; 10], "at once");
        let held = run(&mut size, 11, 300, 190.0, 28);
        assert_eq!(held, [28; 300], "five minutes");
        let falling = run(&mut size, 311, 120, 190.0, 28);
        assert_eq!(falling[0], 25, "a tenth of 28");
        assert_eq!(falling[59], 25, "for a minute");
        assert_eq!(falling[60], 22, "a tenth of 25");
        let low = run(&mut size, 431, 3_600, 190.0, 22);
        assert_eq!(low.last(), Some(&3));
    }

    #[test]
    fn nothing_shrinks_after_the_start_or_while_something_boots() {
        let scaling = scaling(3, 40);
        let low = want(&rate(100.0), &scaling);
        let mut size = Size::default();
        let start = size.settle(Ms(0), &low, &scaling, &healthy(9), false);
        assert_eq!((start.desired, start.remove), (9, 0));
        let late = Ms(299_000);
        assert_eq!(size.settle(late, &low, &scaling, &healthy(9), false).remove, 0);
        let booting = Count { pending: 1, ..healthy(9) };
        let held = size.settle(Ms(301_000), &low, &scaling, &booting, false);
        assert_eq!((held.remove, held.refusal.map(|r| r.kind)), (0, Some("pending")));
        assert_eq!(size.settle(Ms(302_000), &low, &scaling, &healthy(9), true).remove, 0);
        assert_eq!(size.settle(Ms(303_000), &low, &scaling, &healthy(9), false).remove, 1);
    }

    #[test]
    fn the_dead_band_keeps_what_noise_would_take_back() {
        let scaling = scaling(1, 40);
        let mut size = Size::default();
        for second in 0..3_600u64 {
            // Around the border of 6 and 7 instances, at most 1 % off.
            let rps = if second % 7 == 0 { 424.0 } else { 417.0 };
            let want = want(&rate(rps), &scaling);
            let there = if second == 0 { 6 } else { 7 };
            let verdict = size.settle(Ms(second * 1000), &want, &scaling, &healthy(there), false);
            assert_eq!((verdict.desired, verdict.remove), (7, 0), "second {second}");
        }
    }

    #[test]
    fn the_dead_are_replaced_only_if_they_are_still_wanted() {
        let scaling = scaling(3, 40);
        let mut size = Size::default();
        run(&mut size, 0, 400, 600.0, 9);
        let wanted = want(&rate(600.0), &scaling);
        let verdict = size.settle(Ms(400_000), &wanted, &scaling, &healthy(8), false);
        assert_eq!((verdict.desired, verdict.cause), (9, "replace"));
        run(&mut size, 401, 300, 100.0, 9);
        let low = want(&rate(100.0), &scaling);
        let verdict = size.settle(Ms(701_000), &low, &scaling, &healthy(7), false);
        assert_eq!((verdict.desired, verdict.remove), (6, 1), "seven, less one a minute");
    }

    #[test]
    fn a_lowered_maximum_shrinks_at_the_rate_without_a_hold() {
        let mut size = Size::default();
        run(&mut size, 0, 400, 1_300.0, 20);
        let lowered = scaling(3, 10);
        let want = want(&rate(1_300.0), &lowered);
        let verdict = size.settle(Ms(400_000), &want, &lowered, &healthy(20), false);
        assert_eq!((verdict.desired, verdict.remove), (10, 2));
    }

    #[test]
    fn no_more_leave_than_may() {
        let mut size = Size::default();
        run(&mut size, 0, 400, 2_000.0, 40);
        let lowered = scaling(3, 10);
        let want = want(&rate(100.0), &lowered);
        let protected = Count { removable: 2, ..healthy(40) };
        let verdict = size.settle(Ms(800_000), &want, &lowered, &protected, false);
        assert_eq!(
            verdict.remove, 2,
            "a tenth of forty were four, but two are left to choose from"
        );
    }
}
