//! Waiting longer after each failure, with jitter, up to a bound.

use std::time::Duration;

use crate::base::Entropy;

/// Exponential backoff with "equal jitter": between half of the step and all of it.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Starts at `first` and doubles up to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// One more failure: how long to wait before the next try.
    pub fn fail(&mut self, entropy: &mut Entropy) -> Duration {
        let step = self
            .first
            .saturating_mul(1u32.checked_shl(self.failures.min(20)).unwrap_or(u32::MAX))
            .min(self.longest);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + entropy.unit() / 2.0)
    }

    /// It worked: the next failure starts at the first step again.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_jitter_and_is_bounded() {
        let mut entropy = Entropy::seeded(3);
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(300));
        for step in [2u64, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let wait = backoff.fail(&mut entropy);
            assert!(wait >= Duration::from_secs(step) / 2 && wait <= Duration::from_secs(step));
        }
        assert_eq!(backoff.failures(), 10);
        backoff.succeed();
        assert!(backoff.fail(&mut entropy) <= Duration::from_secs(2));
    }
}
