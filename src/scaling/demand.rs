//! What the pool is asked for, in requests per second.
//!
//! Everything that arrived counts, also what was queued or shed. Requests in flight do not: traffic
//! is an open loop, so arrivals tell the whole demand even while instances are saturated, and
//! in-flight would count it a second time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Ms;
use crate::model::Window;

/// How many windows are kept: about two minutes.
const KEPT: usize = 120;
/// The demand is the mean over this long…
const LONG: Duration = Duration::from_secs(10);
/// …unless the mean over this long stands out of it.
const SHORT: Duration = Duration::from_secs(2);
/// The least time that a mean is taken over, so that a first, very short window is no step.
const LEAST_SECONDS: f64 = 2.0;
/// A step stands out by this share of the mean, where noise is small beside it…
const STEP_SHARE: f64 = 0.15;
/// …or by this many standard deviations of Poisson noise.
const STEP_SIGMAS: f64 = 3.5;
/// The hold queue is to be empty after this long.
const BACKLOG_SECONDS: f64 = 10.0;

/// The windows of the last minutes.
#[derive(Clone, Debug, Default)]
pub(super) struct Demand {
    windows: VecDeque<Window>,
}

/// The demand now, with the terms that it was made of. Rates are in requests per second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Estimate {
    /// Mean over ten seconds.
    pub(super) offered_10s: f64,
    /// Mean over two seconds.
    pub(super) offered_2s: f64,
    /// Whether the two seconds stand out: then they are the demand.
    pub(super) step: bool,
    /// What the hold queue adds, if it is to be worked off in ten seconds.
    pub(super) backlog: f64,
    /// Requests in the hold queue.
    pub(super) queued: u32,
    /// Requests in flight.
    pub(super) in_flight: u32,
    /// In-flight rises while fewer are answered than arrive. Told to the operator, and not added to
    /// the demand.
    pub(super) saturated: bool,
}

impl Estimate {
    /// The demand without the backlog.
    pub(super) fn arrivals(&self) -> f64 {
        if self.step { self.offered_2s } else { self.offered_10s }
    }

    /// The demand.
    pub(super) fn rps(&self) -> f64 {
        self.arrivals() + self.backlog
    }
}

impl Demand {
    /// Takes those of `windows` (oldest first) that it has not seen.
    pub(super) fn ingest(&mut self, windows: &[Window]) {
        for window in windows {
            if self.windows.back().is_some_and(|last| window.ended <= last.ended) {
                continue;
            }
            if self.windows.len() == KEPT {
                self.windows.pop_front();
            }
            self.windows.push_back(*window);
        }
    }

    /// The demand as of the newest window; nothing without one.
    pub(super) fn estimate(&self) -> Estimate {
        let Some(newest) = self.windows.back() else { return Estimate::default() };
        let offered_10s = self.rate(newest.ended, LONG);
        let offered_2s = self.rate(newest.ended, SHORT);
        // The noise of at least one expected request: after silence, one arrival is no step.
        let expected = (offered_10s * SHORT.as_secs_f64()).max(1.0);
        let noise = STEP_SIGMAS * expected.sqrt() / SHORT.as_secs_f64();
        Estimate {
            offered_10s,
            offered_2s,
            step: offered_2s - offered_10s > noise.max(STEP_SHARE * offered_10s),
            backlog: f64::from(newest.queued) / BACKLOG_SECONDS,
            queued: newest.queued,
            in_flight: newest.in_flight,
            saturated: self.saturated(newest.ended),
        }
    }

    /// The windows that ended in the last `span`, newest first.
    fn last(&self, newest: Ms, span: Duration) -> impl Iterator<Item = &Window> {
        let fresh = move |window: &&Window| newest.since(window.ended) < span;
        self.windows.iter().rev().take_while(fresh)
    }

    fn rate(&self, newest: Ms, span: Duration) -> f64 {
        let (offered, seconds) =
            self.last(newest, span).fold((0.0, 0.0), |(count, time), window| {
                (count + window.offered as f64, time + window.seconds)
            });
        offered / f64::max(seconds, LEAST_SECONDS)
    }

    fn saturated(&self, newest: Ms) -> bool {
        let windows: Vec<&Window> = self.last(newest, LONG).collect();
        let (newer, older) = windows.split_at(windows.len() / 2);
        let mean = |half: &[&Window]| {
            half.iter().map(|w| f64::from(w.in_flight)).sum::<f64>() / half.len().max(1) as f64
        };
        let offered: u64 = windows.iter().map(|w| w.offered).sum();
        let completed: u64 = windows.iter().map(|w| w.completed).sum();
        (completed as f64) < offered as f64 * 0.95 && mean(newer) > mean(older) * 1.1 + 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(second: u64, offered: u64) -> Window {
        Window {
            ended: Ms(second * 1000),
            seconds: 1.0,
            offered,
            completed: offered,
            ..Window::default()
        }
    }

    fn after(rates: &[u64]) -> Estimate {
        let mut demand = Demand::default();
        for (second, rate) in rates.iter().enumerate() {
            demand.ingest(&[window(second as u64 + 1, *rate)]);
        }
        demand.estimate()
    }

    #[test]
    fn the_mean_of_ten_seconds_or_the_step() {
        let cases: [(&str, &[u64], f64, bool); 9] = [
            ("nothing seen", &[], 0.0, false),
            ("steady", &[100; 20], 100.0, false),
            ("one second of history is not trusted whole", &[100], 50.0, false),
            (
                "older than ten seconds is forgotten",
                &[900, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
                0.0,
                false,
            ),
            ("a step", &[210, 210, 210, 210, 210, 210, 210, 210, 840, 840], 840.0, true),
            // 3.5 sigma of the 230 requests expected in 2 s is 26.5 rps: 130 is below 115 + 26.5.
            ("noise", &[110, 110, 110, 110, 110, 120, 110, 110, 130, 130], 115.0, false),
            // At 10,000 rps noise is small, and 15 % decides.
            (
                "14 % is no step",
                &[10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 11_700, 11_700],
                10_340.0,
                false,
            ),
            ("a fall is no step", &[100, 100, 100, 100, 100, 100, 100, 100, 0, 0], 80.0, false),
            ("one request after silence", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 0.1, false),
        ];
        for (name, rates, rps, step) in cases {
            let estimate = after(rates);
            assert!((estimate.rps() - rps).abs() < 1e-9, "{name}: {estimate:?}");
            assert_eq!(estimate.step, step, "{name}: {estimate:?}");
        }
    }

    #[test]
    fn windows_are_taken_once_and_only_so_many() {
        let mut demand = Demand::default();
        let windows: Vec<Window> = (1..=300).map(|second| window(second, 50)).collect();
        demand.ingest(&windows);
        demand.ingest(&windows[200..]);
        assert_eq!(demand.windows.len(), KEPT);
        assert_eq!(demand.estimate().offered_10s, 50.0);
        demand.ingest(&[window(299, 9_000), window(301, 150)]);
        assert_eq!(demand.estimate().offered_10s, 60.0);
    }

    #[test]
    fn the_queue_adds_to_the_demand_and_in_flight_does_not() {
        let mut demand = Demand::default();
        for second in 1..=10 {
            let in_flight = second as u32 * 100;
            demand.ingest(&[Window {
                completed: 40,
                queued: 600,
                in_flight,
                ..window(second, 100)
            }]);
        }
        let estimate = demand.estimate();
        assert_eq!((estimate.arrivals(), estimate.backlog), (100.0, 60.0));
        assert_eq!(estimate.rps(), 160.0);
        assert!(estimate.saturated);
        assert!(!after(&[100; 10]).saturated);
    }

    #[test]
    fn a_late_tick_is_a_longer_window_and_a_short_one_is_no_step() {
        let mut demand = Demand::default();
        demand.ingest(&[Window { seconds: 0.001, ..window(1, 5) }]);
        assert_eq!(demand.estimate().rps(), 2.5);
        demand.ingest(&[Window { seconds: 30.0, ..window(31, 3_000) }]);
        assert_eq!(demand.estimate().rps(), 100.0);
    }
}
