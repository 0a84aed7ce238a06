//! Time. Whatever decides takes `now: Ms` as an argument; only tasks ask the clock.
//!
//! [`Ms`] is monotonic milliseconds since the clock was made. It is a plain integer, so it fits in
//! an atomic and in a table test, and a wall clock that jumps cannot disturb a timer.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A monotonic point in time: milliseconds since the process' [`Clock`] was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ms(pub u64);

impl Ms {
    /// Before everything.
    pub const ZERO: Self = Self(0);
    /// A deadline that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long after `earlier` this is; zero if it is not after.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Ms {
    type Output = Self;

    /// Saturates at [`Ms::NEVER`], so that an endless timeout stays endless.
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Ms {
    type Output = Self;

    /// Saturates at [`Ms::ZERO`].
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// The process' clock: copied into every task, read only by shells.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock that others ask")]
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Monotonic now.
    pub fn now(&self) -> Ms {
        Ms(u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Time since the clock was made, to the nanosecond: for measuring durations.
    pub fn elapsed(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The instant at which `at` is, for a runtime's timers.
    pub fn instant(&self, at: Ms) -> Instant {
        self.origin + Duration::from_millis(at.0.min(u64::from(u32::MAX) * 1000))
    }
}

/// Wall-clock seconds since 1970, with fractions: for logs, journals and APIs, never for timers.
#[expect(clippy::disallowed_methods, reason = "this is the clock that others ask")]
pub fn wall_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(Ms::NEVER + Duration::from_secs(1), Ms::NEVER);
        assert_eq!(Ms(5) - Duration::from_secs(1), Ms::ZERO);
        assert_eq!(Ms(5).since(Ms(9)), Duration::ZERO);
        assert_eq!(Ms(1500) + Duration::from_millis(250), Ms(1750));
    }
}
