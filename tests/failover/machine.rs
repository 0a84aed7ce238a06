//! What machines really do, whatever is believed of them.

use std::time::Duration;

use tidegate::base::{Entropy, Ms};
use tidegate::fleet::ProbeError;

/// How a machine is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It serves.
    Well,
    /// Nothing listens.
    Dead,
    /// Its kernel accepts, and nothing is ever answered.
    Frozen,
    /// It serves, eight times slower.
    Slow,
    /// It answers requests with 500.
    Failing,
    /// Dead and well in turn, every few seconds.
    Flapping,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine {
    pub zone: &'static str,
    pub state: State,
    /// What its probes say, whatever it does: `Some(true)` that all is well.
    pub lie: Option<bool>,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Answered with this status after that time.
    Answered(u16, Duration),
    /// Refused at once.
    Refused,
    /// Never answered.
    Silent,
}

/// A well machine takes this long.
const SERVICE: Duration = Duration::from_secs(8);

impl Machine {
    /// A machine that serves.
    pub fn new(zone: &'static str) -> Self {
        Self { zone, state: State::Well, lie: None }
    }

    /// How it is at this moment.
    fn now(&self, now: Ms) -> State {
        match self.state {
            State::Flapping if (now.0 / 7_000).is_multiple_of(2) => State::Dead,
            State::Flapping => State::Well,
            state => state,
        }
    }

    /// What becomes of a request that arrives now.
    pub fn serve(&self, now: Ms, entropy: &mut Entropy) -> Fate {
        let service = SERVICE.mul_f64(0.5 + entropy.unit());
        match self.now(now) {
            State::Well => Fate::Answered(200, service),
            State::Slow => Fate::Answered(200, service * 8),
            State::Failing => Fate::Answered(500, Duration::from_millis(1)),
            State::Dead => Fate::Refused,
            State::Frozen => Fate::Silent,
            State::Flapping => unreachable!("it is dead or well at any moment"),
        }
    }

    /// What a probe says, and after how long.
    pub fn probe(&self, now: Ms, timeout: Duration) -> (Result<Duration, ProbeError>, Duration) {
        let quick = Duration::from_millis(2);
        match (self.lie, self.now(now)) {
            (_, State::Dead) => (Err(ProbeError::Refused), quick),
            (_, State::Frozen) => (Err(ProbeError::Timeout(timeout)), timeout),
            (Some(false), _) => (Err(ProbeError::Status(503)), quick),
            (Some(true), _) | (None, State::Well | State::Slow) => (Ok(quick), quick),
            (None, _) => (Err(ProbeError::Status(500)), quick),
        }
    }
}
