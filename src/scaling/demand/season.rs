//! What recurs by the day: the rate of each minute of the last days, and how well it told the rate to come.
//!
//! It only ever adds: a day that is quieter than the last ones is seen soon enough.

use std::collections::VecDeque;
use std::time::Duration;

use crate::scaling::demand::rates::Rates;
use crate::scaling::law::Learnt;

const MINUTES: usize = 1_440;
/// Days that are remembered.
const DAYS: usize = 3;
/// The level is compared over so many minutes.
const LEVEL_MINUTES: i64 = 10;
/// The level of the day is never taken for less or more than this share of the days before.
const LEVEL_LEAST: f64 = 0.3;
const LEVEL_MOST: f64 = 3.0;
/// The error that is trusted at most, as a share of the rate.
const TRUSTED: f64 = 0.22;
/// What the error is taken for at first, and how fast it follows.
const ERROR_AT_FIRST: f64 = 0.25;
const ERROR_GAIN: f64 = 0.02;

/// The profile of the day.
#[derive(Clone, Debug)]
pub(super) struct Season {
    /// Means by the minute of the day, of the last days.
    minutes: Vec<VecDeque<f64>>,
    /// The minute since 1970 that goes on.
    minute: Option<i64>,
    /// What the next minutes were expected to bring, by minute.
    expected: VecDeque<(i64, f64)>,
    error: f64,
    /// The most that the next lead time is expected to bring.
    ahead: Option<f64>,
}

impl Default for Season {
    fn default() -> Self {
        Self {
            minutes: vec![VecDeque::new(); MINUTES],
            minute: None,
            expected: VecDeque::new(),
            error: ERROR_AT_FIRST,
            ahead: None,
        }
    }
}

impl Season {
    /// The wall clock, what a launch takes, and what arrived.
    pub(super) fn see(&mut self, wall_s: i64, lead: Duration, rates: &Rates) {
        let minute = wall_s.div_euclid(60);
        match self.minute.replace(minute) {
            // A clock that jumps leaves minutes out, or brings some twice: they are not kept.
            Some(before) if before == minute => return,
            Some(before) if before + 1 == minute => {
                let rate = rates.mean(Duration::from_secs(60));
                let of_day = &mut self.minutes[index(before)];
                if of_day.len() == DAYS {
                    of_day.pop_front();
                }
                of_day.push_back(rate);
                self.judge(minute, rate);
            }
            _ => self.expected.clear(),
        }
        self.ahead = self.look_ahead(minute, lead, rates.mean(Duration::from_secs(600)));
        let soon = &self.minutes[index(minute + 2)];
        if !soon.is_empty() {
            self.expected.push_back((minute + 3, mean(soon)));
        }
    }

    /// Tells what was seen.
    pub(super) fn tell(&self, learnt: &mut Learnt) {
        (learnt.minutes, learnt.error) = (self.minutes.clone(), Some(self.error));
    }

    /// Goes on from what was seen before a restart.
    pub(super) fn recall(&mut self, minutes: Vec<VecDeque<f64>>, error: Option<f64>) {
        let is_sound = |rate: &f64| rate.is_finite() && *rate >= 0.0;
        if minutes.len() == MINUTES && minutes.iter().flatten().all(is_sound) {
            self.minutes = minutes;
            self.error = error.filter(is_sound).unwrap_or(ERROR_AT_FIRST);
        }
    }

    /// The most that the next lead time is expected to bring, if there was a day before.
    pub(super) fn expected(&self) -> Option<f64> {
        self.ahead
    }

    /// Whether it has told the rate well enough of late.
    pub(super) fn is_trusted(&self) -> bool {
        self.error < TRUSTED
    }

    fn judge(&mut self, minute: i64, rate: f64) {
        while let Some((of, expected)) = self.expected.front().copied()
            && of <= minute
        {
            self.expected.pop_front();
            if of == minute {
                let off = ((expected - rate).abs() / rate.max(1.0)).min(1.0);
                self.error += ERROR_GAIN * (off - self.error);
            }
        }
    }

    fn look_ahead(&self, minute: i64, lead: Duration, level: f64) -> Option<f64> {
        let before = (1..=LEVEL_MINUTES).map(|ago| &self.minutes[index(minute - ago)]);
        let before: Vec<f64> = before.filter(|days| !days.is_empty()).map(mean).collect();
        if before.is_empty() {
            return None;
        }
        let usual = before.iter().sum::<f64>() / before.len() as f64;
        let scale = if usual > 0.0 { level / usual } else { 1.0 };
        let until = lead.as_secs() as i64 / 60 + 3;
        let ahead = (0..until).flat_map(|ahead| &self.minutes[index(minute + ahead)]);
        let most = ahead.copied().reduce(f64::max)?;
        Some(most * scale.clamp(LEVEL_LEAST, LEVEL_MOST))
    }
}

fn index(minute: i64) -> usize {
    minute.rem_euclid(MINUTES as i64) as usize
}

fn mean(values: &VecDeque<f64>) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Ms;

    const LEAD: Duration = Duration::from_secs(120);

    /// Runs from the start of a day, and says what is expected then.
    fn run(seconds: i64, rate: impl Fn(i64) -> f64) -> Season {
        let (mut season, mut rates) = (Season::default(), Rates::default());
        for second in 0..seconds {
            rates.push(Ms(second as u64 * 1_000), 1.0, rate(second));
            season.see(second, LEAD, &rates);
        }
        season
    }

    #[test]
    fn what_came_at_this_time_of_day_is_expected_again() {
        let noon_rush =
            |second: i64| if (43_200..43_800).contains(&(second % 86_400)) { 500.0 } else { 100.0 };
        assert_eq!(run(86_400 / 2, noon_rush).expected(), None, "the first day");
        let before_noon = run(2 * 86_400 + 43_200 - 120, noon_rush);
        assert!(before_noon.is_trusted());
        let expected = before_noon.expected().expect("two days are known");
        assert!((expected - 500.0).abs() < 10.0, "{expected} for 500");
        let after = run(2 * 86_400 + 50_000, noon_rush).expected().expect("known");
        assert!((after - 100.0).abs() < 2.0, "{after} for 100");
        let busy = run(2 * 86_400 + 43_200 - 120, |second| {
            noon_rush(second) * if second > 2 * 86_400 { 2.0 } else { 1.0 }
        });
        let expected = busy.expected().expect("known");
        // Today counts among the days, so the level leans towards theirs.
        assert!((700.0..=1_000.0).contains(&expected), "today is twice as busy: {expected}");
    }

    #[test]
    fn what_does_not_recur_is_not_trusted() {
        let season = run(3 * 86_400, |second| {
            let hash = (second / 600).wrapping_mul(2_654_435_761) >> 7;
            100.0 + (hash % 900) as f64
        });
        assert!(!season.is_trusted(), "an error of {}", season.error);
    }
}
