//! The retry budget: retries may be a share of requests, so that a sick pool is not hit harder the
//! sicker it gets (Finagle's budget: a share of the requests of the last ten seconds, and a floor).

use crate::base::{Ms, Share};

/// What one worker may still spend on retries for one pool.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    tokens: f64,
    refilled: Ms,
    /// This worker's part of what is always granted in one window.
    floor: f64,
}

/// Retries that are always granted, per second, by all workers together.
const FLOOR_PER_SECOND: f64 = 3.0;

/// How long an unspent grant is kept.
const WINDOW_S: f64 = 10.0;

impl RetryBudget {
    /// The budget of one of so many workers; it starts with the floor of one window, and at least with
    /// one retry.
    pub fn new(now: Ms, workers: usize) -> Self {
        let floor = (FLOOR_PER_SECOND * WINDOW_S / workers.max(1) as f64).max(1.0);
        Self { tokens: floor, refilled: now, floor }
    }

    /// A request came: it grants its share of a retry. `now` may be the coarse clock, so that the
    /// fading is reckoned once a tick and not once a request.
    pub fn deposit(&mut self, now: Ms, share: Share) {
        if now != self.refilled {
            self.refill(now);
        }
        self.tokens += share.0;
    }

    /// Takes one retry out, if there is one.
    pub fn withdraw(&mut self, now: Ms) -> bool {
        self.refill(now);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }

    /// Old grants fade over the window, and the floor flows in: with requests at rate r and a share
    /// s, the balance settles at 10 × r × s + floor.
    fn refill(&mut self, now: Ms) {
        let seconds = now.since(self.refilled).as_secs_f64();
        self.refilled = now;
        let kept = (-seconds / WINDOW_S).exp();
        self.tokens = self.tokens * kept + self.floor * (1.0 - kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_is_granted_and_then_no_more() {
        let mut budget = RetryBudget::new(Ms(0), 1);
        let granted = (0..100).filter(|_| budget.withdraw(Ms(0))).count();
        assert_eq!(granted, 30);
        assert!(budget.withdraw(Ms(1_000)), "the floor flows in again");
    }

    #[test]
    fn requests_grant_their_share_for_about_ten_seconds() {
        // 1,000 requests a second for a minute: ten seconds' worth of 20 % is there to be spent.
        let mut budget = RetryBudget::new(Ms(0), 1);
        for ms in 0..60_000 {
            budget.deposit(Ms(ms / 100 * 100), Share(0.2));
        }
        let mut spent = budget;
        let at_once = (0..10_000).filter(|_| spent.withdraw(Ms(60_000))).count();
        assert!((1_950..2_050).contains(&at_once), "{at_once}");
        let late = (0..10_000).filter(|_| budget.withdraw(Ms(200_000))).count();
        assert!((29..=31).contains(&late), "grants of long ago are gone: {late}");
    }
}
