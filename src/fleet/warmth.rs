//! Slow start: how much of its full share an instance takes while it warms up. Pure.
//!
//! Time alone does not warm everything: while an instance is seen to be cold, or was not seen to answer
//! yet while others do, it stays where it is, for twice the window at most.
//!
//! Warmth rises from nothing to all within the window. One that only stands aside (it is drained, and
//! that may be undone) runs on and keeps in step with its peers, for one window at most. An instance takes
//! its warmth in comparison with the warmest of its pool, so nobody ramps where nobody is warm, and all
//! ramps end when the last warm one leaves.

use std::time::Duration;

use crate::model::FULL;

/// The least that it takes: how it answers cannot be seen without.
const FLOOR: f64 = 0.1;

/// How many windows it may be held up for.
const HELD_MOST: f64 = 2.0;
/// One that takes so many times as long as warm ones is cold…
const COLD_TIMES: f64 = 2.0;
/// …if it is so much longer, in milliseconds.
const COLD_BY_MS: f64 = 5.0;

/// How warm an instance is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Warmth {
    /// From 0 to 1.
    degree: f64,
    /// Whether it stays as it is.
    held: bool,
    /// Whether it was ever seen how it answers.
    seen: bool,
    /// How many windows it may still be held up for.
    patience: f64,
    /// How many it has stood aside for.
    aside: f64,
}

impl Warmth {
    /// It has just started, or was broken.
    pub const COLD: Self =
        Self { degree: 0.0, held: false, seen: false, patience: HELD_MOST, aside: 0.0 };
    /// It ran before our time, for as long as anyone knows.
    pub const WARM: Self = Self { degree: 1.0, ..Self::COLD };

    /// This share of the window has passed, in which it took traffic.
    pub fn serve(&mut self, share: f64) {
        self.aside = 0.0;
        if self.held && self.patience > 0.0 && self.degree < 1.0 && share < 1.0 {
            self.patience -= share;
        } else {
            self.degree = (self.degree + share).min(1.0);
        }
    }

    /// This share of the window has passed, in which it stood aside.
    pub fn stand_aside(&mut self, share: f64) {
        let aside = self.aside + share;
        if aside < 1.0 {
            *self = Self { degree: (self.degree + share).min(1.0), aside, ..*self };
        } else {
            *self = Self { aside, ..Self::COLD };
        }
    }

    /// It is seen to be cold, or not to be.
    pub fn see(&mut self, cold: bool) {
        (self.held, self.seen) = (cold, true);
    }

    /// Nobody asked it for anything, while others were asked or not. What was seen last holds on.
    pub fn see_nothing(&mut self, others_answer: bool) {
        self.held = others_answer && (self.held || !self.seen);
    }

    /// What it could take beside one that is as warm as can be.
    pub fn strength(self) -> f64 {
        self.degree.max(FLOOR)
    }

    /// What it takes, of [`FULL`], beside others of which the warmest has this strength.
    pub fn part(self, warmest: f64) -> u32 {
        let part = (self.strength() / warmest.max(FLOOR)).min(1.0);
        (part * f64::from(FULL)).round() as u32
    }
}

/// The share of the window that has passed: all of it, without one.
pub(super) fn share_of(window: Option<Duration>, passed: Duration) -> f64 {
    window.map_or(1.0, |window| passed.as_secs_f64() / window.as_secs_f64())
}

/// Whether one that takes so long in the mean is cold, where it usually takes `usual_ms`.
pub(super) fn is_cold(mean_ms: f64, usual_ms: f64) -> bool {
    mean_ms > COLD_TIMES * usual_ms && mean_ms > usual_ms + COLD_BY_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part in percent after `seconds` of a window of 60 s beside a warm peer.
    fn after(seconds: u64) -> u32 {
        let mut warmth = Warmth::COLD;
        let tick = share_of(Some(Duration::from_secs(60)), Duration::from_millis(100));
        (0..seconds * 10).for_each(|_| warmth.serve(tick));
        (warmth.part(Warmth::WARM.strength()) * 100).div_ceil(FULL)
    }

    #[test]
    fn a_straight_line_from_a_tenth() {
        for (seconds, percent) in
            [(0, 10), (1, 10), (6, 10), (15, 25), (30, 50), (54, 90), (60, 100), (90, 100)]
        {
            let found = after(seconds);
            assert!(found.abs_diff(percent) <= 1, "{found} % after {seconds} s");
        }
    }

    #[test]
    fn who_stands_aside_keeps_in_step_for_one_window() {
        let mut warmth = Warmth::COLD;
        for (share, serves, strength) in [
            (0.2, true, 0.2),
            (0.3, false, 0.5),
            (0.1, true, 0.6),
            (0.9, false, 1.0),
            (0.2, false, 0.1),
            (0.4, false, 0.1),
            (0.4, true, 0.4),
        ] {
            match serves {
                true => warmth.serve(share),
                false => warmth.stand_aside(share),
            }
            assert!((warmth.strength() - strength).abs() < 1e-9, "{warmth:?} for {strength}");
        }
    }

    #[test]
    fn only_in_comparison_with_the_warmest() {
        let warmth = |degree: f64| Warmth { degree, ..Warmth::COLD };
        for (own, warmest, part) in [
            (0.0, 0.0, FULL),
            (0.05, 0.1, FULL),
            (0.3, 0.3, FULL),
            (0.3, 0.6, FULL / 2),
            (0.5, 1.0, FULL / 2),
            (0.0, 0.5, FULL / 5),
            (1.0, 0.5, FULL),
        ] {
            let found = warmth(own).part(warmth(warmest).strength());
            assert!(found.abs_diff(part) <= 1, "{own} beside {warmest}: {found}");
        }
    }

    #[test]
    fn what_is_seen_to_be_cold_stays_where_it_is_but_not_for_ever() {
        for (mean_ms, usual_ms, cold) in [
            (100.0, 10.0, true),
            (20.0, 10.0, false),
            (21.0, 10.0, true),
            (4.0, 1.0, false),
            (f64::NAN, 1.0, false),
        ] {
            assert_eq!(is_cold(mean_ms, usual_ms), cold, "{mean_ms} beside {usual_ms}");
        }
        let mut warmth = Warmth::COLD;
        warmth.serve(0.25);
        warmth.see(true);
        (0..199).for_each(|_| warmth.serve(0.01));
        assert_eq!(warmth.strength(), 0.25);
        warmth.see(false);
        warmth.serve(0.25);
        assert_eq!(warmth.strength(), 0.5);
        warmth.see(true);
        (0..50).for_each(|_| warmth.serve(0.01));
        assert!(warmth.strength() > 0.95, "its patience is over: {warmth:?}");

        let mut unasked = Warmth::COLD;
        for (others_answer, seen, held) in [
            (true, None, true),
            (false, None, false),
            (true, Some(false), false),
            (true, None, false),
            (true, Some(true), true),
            (true, None, true),
        ] {
            match seen {
                Some(cold) => unasked.see(cold),
                None => unasked.see_nothing(others_answer),
            }
            assert_eq!(unasked.held, held, "{unasked:?}");
        }
    }

    #[test]
    fn without_a_window_it_is_warm_at_once() {
        let mut warmth = Warmth::COLD;
        warmth.serve(share_of(None, Duration::ZERO));
        assert_eq!(warmth, Warmth::WARM);
    }
}
