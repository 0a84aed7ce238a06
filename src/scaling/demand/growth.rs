//! What traffic grows by within one lead time, as a factor: a high quantile of what was seen in the last
//! hours. An instance that is ordered for the rate now serves that much later.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Ms;
use crate::scaling::demand::lead::TYPICAL;
use crate::scaling::law::Learnt;

/// How often a sample is taken.
const EVERY: Duration = Duration::from_secs(10);
/// Samples of six hours.
const KEPT: usize = 2_160;
/// Samples of half an hour: before that nothing is known, and care is taken.
const ENOUGH: usize = 180;
/// What is taken for the growth until then, for a lead time of [`TYPICAL`].
const PRIOR: f64 = 1.30;
/// Growth is never taken for less or more than this.
const LEAST: f64 = 1.02;
const MOST: f64 = 1.6;
/// So much of all growth stays below what is expected.
const QUANTILE: f64 = 0.85;
/// Within a shorter lead time nothing grows that a step would not tell of.
const SHORT: Duration = Duration::from_secs(10);

/// What was seen of growth.
#[derive(Clone, Debug, Default)]
pub(super) struct Growth {
    sampled: Ms,
    /// The rate at each sample of the last lead time, oldest first.
    bases: VecDeque<(Ms, f64)>,
    /// The means of ten seconds since the oldest of them.
    since: VecDeque<(Ms, f64)>,
    seen: VecDeque<f64>,
    learnt: Option<f64>,
}

impl Growth {
    /// The means of thirty and of ten seconds, and what a launch takes.
    pub(super) fn see(&mut self, now: Ms, lead: Duration, rate_30s: f64, rate_10s: f64) {
        if now.since(self.sampled) < EVERY {
            return;
        }
        self.sampled = now;
        let lead = lead.max(2 * EVERY);
        self.bases.push_back((now, rate_30s));
        self.since.push_back((now, rate_10s));
        while let Some((at, base)) = self.bases.front().copied()
            && now.since(at) >= lead
        {
            self.bases.pop_front();
            while self.since.front().is_some_and(|(time, _)| *time <= at) {
                self.since.pop_front();
            }
            let most = self.since.iter().fold(0.0, |most: f64, (_, rate)| most.max(*rate));
            if base > 0.0 {
                if self.seen.len() == KEPT {
                    self.seen.pop_front();
                }
                self.seen.push_back(most / base);
            }
        }
        // A quantile of two thousand numbers, once a minute.
        if now.0 / 60_000 != (now.0 - EVERY.as_millis().min(now.0.into()) as u64) / 60_000
            && self.seen.len() > ENOUGH
        {
            let mut sorted: Vec<f64> = self.seen.iter().copied().collect();
            let at = ((sorted.len() - 1) as f64 * QUANTILE) as usize;
            let (_, quantile, _) = sorted.select_nth_unstable_by(at, f64::total_cmp);
            self.learnt = Some(quantile.clamp(LEAST, MOST));
        }
    }

    /// Tells what was seen.
    pub(super) fn tell(&self, learnt: &mut Learnt) {
        learnt.growth = self.seen.clone();
    }

    /// Goes on from what was seen before a restart.
    pub(super) fn recall(&mut self, seen: VecDeque<f64>) {
        self.seen = seen.into_iter().filter(|factor| factor.is_finite()).take(KEPT).collect();
    }

    /// What traffic may grow by while an instance is launched.
    pub(super) fn factor(&self, lead: Duration) -> f64 {
        if lead < SHORT {
            return 1.0;
        }
        self.learnt.unwrap_or_else(|| {
            1.0 + (PRIOR - 1.0) * (lead.as_secs_f64() / TYPICAL.as_secs_f64()).min(1.0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAD: Duration = Duration::from_secs(120);

    fn after(hours: u64, rate: impl Fn(u64) -> f64) -> f64 {
        let mut growth = Growth::default();
        for second in 1..=hours * 3_600 {
            growth.see(Ms(second * 1_000), LEAD, rate(second), rate(second));
        }
        growth.factor(LEAD)
    }

    #[test]
    fn growth_is_what_was_seen_and_nothing_is_known_at_first() {
        assert_eq!(Growth::default().factor(Duration::from_secs(138)), 1.3);
        assert_eq!(Growth::default().factor(Duration::from_secs(2)), 1.0, "no time to grow");
        assert_eq!(after(1, |_| 100.0), 1.02, "it never grew");
        let doubling = after(2, |second| 100.0 * (second as f64 / 3_600.0).exp2());
        let expected = (120.0f64 / 3_600.0).exp2();
        assert!((doubling - expected).abs() < 0.005, "{doubling} for {expected}");
        let bursts = after(6, |second| if second % 300 < 30 { 1_000.0 } else { 100.0 });
        assert_eq!(bursts, 1.6, "bounded");
    }
}
