//! What recurs by the day and by the week: the rate of each minute of the last days and weeks, and how
//! well either told the rate to come.
//!
//! It only ever adds: a day that is quieter than the last ones is seen soon enough. Of those of the two
//! that are trusted, the larger counts. A week is known only after one: from then on, what comes on Mondays
//! is expected, of which the days before know nothing.

use std::collections::VecDeque;
use std::time::Duration;

use crate::scaling::demand::rates::Rates;
use crate::scaling::law::Learnt;

/// The minutes of a day and of a week, and how many of each are remembered.
const DAY: usize = 1_440;
const DAYS: usize = 3;
const WEEK: usize = 7 * DAY;
const WEEKS: usize = 2;
/// The level is compared over so many minutes.
const LEVEL_MINUTES: i64 = 10;
/// The level is never taken for less or more than this share of that of the times before.
const LEVEL_LEAST: f64 = 0.3;
const LEVEL_MOST: f64 = 3.0;
/// The error that is trusted at most, as a share of the rate.
const TRUSTED: f64 = 0.22;
/// What the error is taken for at first, and how fast it follows.
const ERROR_AT_FIRST: f64 = 0.25;
const ERROR_GAIN: f64 = 0.02;

/// What recurs.
#[derive(Clone, Debug)]
pub(super) struct Season {
    day: Profile,
    week: Profile,
    /// The minute since 1970 that goes on.
    minute: Option<i64>,
}

/// What was seen at the same time of each period.
#[derive(Clone, Debug)]
struct Profile {
    /// Means by the minute of the period, of the last periods.
    minutes: Vec<VecDeque<f64>>,
    /// How many of those.
    periods: usize,
    /// What the next minutes were expected to bring, by minute.
    expected: VecDeque<(i64, f64)>,
    error: f64,
    /// The most that the next lead time is expected to bring.
    ahead: Option<f64>,
}

impl Default for Season {
    fn default() -> Self {
        let (day, week) = (Profile::new(DAY, DAYS), Profile::new(WEEK, WEEKS));
        Self { day, week, minute: None }
    }
}

impl Season {
    /// The wall clock, what a launch takes, and what arrived.
    pub(super) fn see(&mut self, wall_s: i64, lead: Duration, rates: &Rates) {
        let minute = wall_s.div_euclid(60);
        let before = self.minute.replace(minute);
        if before == Some(minute) {
            return;
        }
        // A clock that jumps leaves minutes out, or brings some twice: they are not kept.
        let rate = (before == Some(minute - 1)).then(|| rates.mean(Duration::from_secs(60)));
        let level = rates.mean(Duration::from_secs(600));
        for profile in [&mut self.day, &mut self.week] {
            profile.see(minute, rate, lead, level);
        }
    }

    /// Tells what was seen.
    pub(super) fn tell(&self, learnt: &mut Learnt) {
        (learnt.minutes, learnt.error) = (self.day.told(), Some(self.day.error));
        (learnt.week, learnt.week_error) = (self.week.told(), Some(self.week.error));
    }

    /// Goes on from what was seen before a restart.
    pub(super) fn recall(&mut self, learnt: &mut Learnt) {
        self.day.recall(std::mem::take(&mut learnt.minutes), learnt.error);
        self.week.recall(std::mem::take(&mut learnt.week), learnt.week_error);
    }

    /// The most that the next lead time is expected to bring, if there was a time before: by what is
    /// trusted, or if nothing is, by the day.
    pub(super) fn expected(&self) -> Option<f64> {
        let trusted = [&self.day, &self.week].into_iter().filter(|profile| profile.is_trusted());
        trusted.filter_map(|profile| profile.ahead).reduce(f64::max).or(self.day.ahead)
    }

    /// Whether that has told the rate well enough of late.
    pub(super) fn is_trusted(&self) -> bool {
        self.day.is_trusted() || (self.week.is_trusted() && self.week.ahead.is_some())
    }
}

impl Profile {
    fn new(minutes: usize, periods: usize) -> Self {
        Self {
            minutes: vec![VecDeque::new(); minutes],
            periods,
            expected: VecDeque::new(),
            error: ERROR_AT_FIRST,
            ahead: None,
        }
    }

    fn is_trusted(&self) -> bool {
        self.error < TRUSTED
    }

    /// A minute begins. `rate` is that of the one before, if all of it was seen; `level`, that of late.
    fn see(&mut self, minute: i64, rate: Option<f64>, lead: Duration, level: f64) {
        match rate {
            Some(rate) => {
                let periods = self.periods;
                let seen = self.at_mut(minute - 1);
                if seen.len() == periods {
                    seen.pop_front();
                }
                seen.push_back(rate);
                self.judge(minute, rate);
            }
            None => self.expected.clear(),
        }
        self.ahead = self.look_ahead(minute, lead, level);
        let soon = self.at(minute + 2);
        if !soon.is_empty() {
            self.expected.push_back((minute + 3, mean(soon)));
        }
    }

    /// In hundredths: all of it is written once a minute.
    fn told(&self) -> Vec<VecDeque<f64>> {
        let rounded = |rate: &f64| (rate * 100.0).round() / 100.0;
        self.minutes.iter().map(|seen| seen.iter().map(rounded).collect()).collect()
    }

    fn recall(&mut self, minutes: Vec<VecDeque<f64>>, error: Option<f64>) {
        let is_sound = |rate: &f64| rate.is_finite() && *rate >= 0.0;
        if minutes.len() == self.minutes.len() && minutes.iter().flatten().all(is_sound) {
            self.minutes = minutes;
            self.error = error.filter(is_sound).unwrap_or(ERROR_AT_FIRST);
        }
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
        let before = (1..=LEVEL_MINUTES).map(|ago| self.at(minute - ago));
        let before: Vec<f64> = before.filter(|seen| !seen.is_empty()).map(mean).collect();
        if before.is_empty() {
            return None;
        }
        let usual = before.iter().sum::<f64>() / before.len() as f64;
        let scale = if usual > 0.0 { level / usual } else { 1.0 };
        let until = lead.as_secs() as i64 / 60 + 3;
        let ahead = (0..until).flat_map(|ahead| self.at(minute + ahead));
        let most = ahead.copied().reduce(f64::max)?;
        Some(most * scale.clamp(LEVEL_LEAST, LEVEL_MOST))
    }

    /// What was seen at this time of the periods before.
    fn at(&self, minute: i64) -> &VecDeque<f64> {
        &self.minutes[minute.rem_euclid(self.minutes.len() as i64) as usize]
    }

    fn at_mut(&mut self, minute: i64) -> &mut VecDeque<f64> {
        let minutes = self.minutes.len() as i64;
        &mut self.minutes[minute.rem_euclid(minutes) as usize]
    }
}

fn mean(values: &VecDeque<f64>) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
        assert!(!season.is_trusted(), "an error of {}", season.day.error);
    }

    const HOUR: i64 = 3_600;
    const DAY_S: i64 = 24 * HOUR;

    /// Runs by the minute, and says what is expected then.
    fn run_minutes(season: &mut Season, seconds: std::ops::Range<i64>, rate: impl Fn(i64) -> f64) {
        let mut rates = Rates::default();
        for second in seconds.step_by(60) {
            rates.push(Ms((second + 60) as u64 * 1_000), 60.0, 60.0 * rate(second));
            season.see(second + 60, LEAD, &rates);
        }
    }

    /// Each fifth day of the week has a rush at nine.
    fn monday_rush(second: i64) -> f64 {
        let (day, of_day) = (second / DAY_S, second % DAY_S);
        let rush = day % 7 == 4 && (9 * HOUR..9 * HOUR + 600).contains(&of_day);
        if rush { 500.0 } else { 100.0 }
    }

    #[test]
    fn what_comes_once_a_week_is_expected_on_its_day() {
        let mut season = Season::default();
        let nine = |day: i64| day * DAY_S + 9 * HOUR - 120;
        run_minutes(&mut season, 0..nine(11), monday_rush);
        let expected = season.expected().expect("a week is known");
        assert!((expected - 500.0).abs() < 5.0 && season.is_trusted(), "{expected} for 500");
        assert!(season.day.ahead.is_some_and(|of_day| of_day < 105.0), "the days do not know it");
        run_minutes(&mut season, nine(11)..nine(15), monday_rush);
        let expected = season.expected().expect("a week is known");
        assert!((expected - 100.0).abs() < 5.0, "{expected} on a Friday");
    }

    #[test]
    fn both_profiles_outlive_a_restart() {
        let mut season = Season::default();
        run_minutes(&mut season, 0..11 * DAY_S + 9 * HOUR - 600, |at| 1.005 * monday_rush(at));
        let mut learnt = Learnt::default();
        season.tell(&mut learnt);
        let bytes = serde_json::to_vec(&learnt).expect("JSON");
        assert!(bytes.len() < 300_000, "{}", bytes.len());
        let mut again = Season::default();
        again.recall(&mut serde_json::from_slice(&bytes).expect("the same JSON"));
        let rest = 11 * DAY_S + 9 * HOUR - 600..11 * DAY_S + 9 * HOUR - 120;
        for season in [&mut season, &mut again] {
            run_minutes(season, rest.clone(), |at| 1.005 * monday_rush(at));
        }
        assert_eq!(again.is_trusted(), season.is_trusted());
        let (again, season) = (again.expected().expect("known"), season.expected().expect("known"));
        assert!((again - season).abs() < 5.0 && season > 450.0, "{again} and {season}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Before a week is over, nothing but the day counts; and whatever is seen, what is expected is no
        /// more than was ever seen, but for the level of the day.
        #[test]
        fn a_week_counts_from_the_second_on(
            levels in proptest::collection::vec(0.0f64..1_000.0, 1..9 * 24), lead in 0u64..900,
        ) {
            let mut season = Season::default();
            let mut rates = Rates::default();
            for minute in 1..=60 * levels.len() as i64 {
                let rate = levels[(minute as usize - 1) / 60];
                rates.push(Ms(minute as u64 * 60_000), 60.0, 60.0 * rate);
                season.see(60 * minute, Duration::from_secs(lead), &rates);
                let of_week = season.week.ahead;
                // The first minute that was seen whole is the second.
                prop_assert!(of_week.is_none() || minute >= WEEK as i64 - 20, "{minute}: {of_week:?}");
                if minute < WEEK as i64 - 20 {
                    prop_assert_eq!(season.expected(), season.day.ahead);
                }
                let most = levels.iter().copied().fold(0.0, f64::max) * LEVEL_MOST;
                prop_assert!(season.expected().is_none_or(|expected| expected <= most + 1e-6));
            }
        }
    }
}
