//! The arrivals of the last minutes, second by second.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Ms;

/// The longest span that a mean is asked for.
const KEPT: Duration = Duration::from_secs(600);
/// The least time that a mean is taken over, so that a first, very short window is no step.
const LEAST_SECONDS: f64 = 2.0;

/// Arrivals by second, the newest last.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    seconds: VecDeque<(Ms, f64, f64)>,
}

impl Rates {
    /// So much arrived in the `seconds` until `now`.
    pub(super) fn push(&mut self, now: Ms, seconds: f64, offered: f64) {
        self.seconds.push_back((now, seconds, offered));
        while self.seconds.front().is_some_and(|(at, ..)| now.since(*at) >= KEPT) {
            self.seconds.pop_front();
        }
    }

    /// The mean of the last `span`, or of what there is of it.
    pub(super) fn mean(&self, span: Duration) -> f64 {
        let Some((newest, ..)) = self.seconds.back() else { return 0.0 };
        let fresh = self.seconds.iter().rev().take_while(|(at, ..)| newest.since(*at) < span);
        let (time, count) = fresh.fold((0.0, 0.0), |(time, count), (_, seconds, offered)| {
            (time + seconds, count + offered)
        });
        count / f64::max(time, LEAST_SECONDS)
    }
}
