//! The health of one instance: probe results in; pending, up or down out, and when to ask next.
//!
//! - New is pending. One pass brings it up, if no probe has failed since it is known. After a
//!   failure, and once it is down, it takes `rise` passes in a row.
//! - `fall` failures in a row bring an up instance down, and also a pending one that is expected
//!   to be there. One that boots stays pending: its failures tell nothing.
//! - While anything is undecided the next probe comes within a second, else after the interval.
//!   Both follow a phase that the instance's name fixes, so that probes of many instances spread
//!   evenly. The very first probe goes at once.
//! - A suspect (traffic waits for it in vain) is probed at once, and one failure brings it down.

use std::time::Duration;

use crate::base::entropy::stable_hash;
use crate::base::{InstanceId, Ms};
use crate::fleet::order::{Lane, ProbeError};
use crate::model::{Health, HealthCheck, HealthSettings};

/// The longest wait between probes while a turn is undecided.
const TRANSITION: Duration = Duration::from_secs(1);
/// The longest that a suspect may take to answer.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A suspicion this soon after a passed probe is void: the instance answered just now. It keeps
/// instances that are merely slow from being probed all the time. A frozen one is suspected only
/// after it was silent for a second, so it is not spared by this.
const FRESH: Duration = Duration::from_millis(500);

/// Phases are rounded to a twentieth of the interval, and to this: probes that go together cost
/// half as much as probes that wake the thread one by one.
const LONGEST_SLOT_MS: u64 = 100;

/// The health of one instance, and its probe schedule.
#[derive(Clone, Debug)]
pub struct Ward {
    health: Health,
    /// It is new and may need long until it answers.
    boots: bool,
    /// Passes in a row, up to now.
    passes: u32,
    /// Failures in a row, up to now.
    failures: u32,
    /// Whether any probe has failed since it is known.
    has_failed: bool,
    /// Whether the first result is there, or none is needed.
    settled: bool,
    last_pass: Option<Ms>,
    /// Spreads the schedule; taken modulo the interval.
    phase: u64,
    /// When to probe next; `None` while a probe is out, and where none is needed.
    due: Option<Ms>,
    /// The number of the last probe that was started.
    number: u64,
    /// Whether the result of that probe is awaited.
    awaited: bool,
    /// Whether the probe that is out or due is there to settle a suspicion.
    trial: bool,
}

/// The health turned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Before.
    pub from: Health,
    /// Now.
    pub to: Health,
    /// In words for an operator.
    pub why: String,
}

/// What a started probe has to keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    /// Comes back with the result.
    pub number: u64,
    /// How long the answer may take.
    pub timeout: Duration,
    /// Which others it may wait for.
    pub lane: Lane,
}

impl Ward {
    /// The ward of a new instance: pending and to be probed at once, or up where nothing is
    /// checked. `boots` says that it was only just created.
    pub fn new(now: Ms, id: &InstanceId, settings: &HealthSettings, boots: bool) -> Self {
        let checked = settings.check != HealthCheck::None;
        Self {
            health: if checked { Health::Pending } else { Health::Up },
            boots,
            passes: 0,
            failures: 0,
            has_failed: false,
            settled: !checked,
            last_pass: None,
            phase: stable_hash(id.as_str().as_bytes()),
            due: checked.then_some(now),
            number: 0,
            awaited: false,
            trial: false,
        }
    }

    /// What is known.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the first result is there, or none is needed.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// When to probe next; `None` while a probe is out, and where none is needed.
    pub fn due(&self) -> Option<Ms> {
        self.due
    }

    /// A probe is being started. An earlier one that is still out no longer counts.
    pub fn start(&mut self, settings: &HealthSettings) -> Asked {
        self.due = None;
        self.number += 1;
        self.awaited = true;
        let (lane, timeout) = match self.health {
            _ if self.trial => (Lane::Suspect, settings.timeout.min(TRIAL_TIMEOUT)),
            Health::Up => (Lane::Steady, settings.timeout),
            _ => (Lane::Doubtful, settings.timeout),
        };
        Asked { number: self.number, timeout, lane }
    }

    /// Whether the probe with this number is the one whose result counts.
    pub fn awaits(&self, number: u64) -> bool {
        self.awaited && self.number == number
    }

    /// The result of the awaited probe. `suspect` says whether traffic waits for the instance in
    /// vain.
    pub fn handle_result(
        &mut self,
        now: Ms,
        settings: &HealthSettings,
        suspect: bool,
        outcome: &Result<Duration, ProbeError>,
    ) -> Option<Turn> {
        self.awaited = false;
        let turn = match outcome {
            Err(ProbeError::Local(_)) => {
                self.due = Some(now + settings.interval.min(TRANSITION));
                return None;
            }
            Ok(_) => self.pass(now, settings),
            Err(error) => self.fail(settings, suspect, error),
        };
        self.trial = false;
        self.settled = true;
        self.due = Some(self.next_due(now, settings));
        turn
    }

    /// Whether it boots and just now failed so many probes in a row that another would be down.
    pub fn lingers(&self, settings: &HealthSettings) -> bool {
        self.health == Health::Pending && self.boots && self.failures == settings.fall.max(1)
    }

    /// Traffic waits for it in vain. Says whether a probe now has to settle that; if not, the
    /// suspicion is void.
    pub fn handle_suspicion(&mut self, now: Ms, settings: &HealthSettings) -> bool {
        let fresh = self.last_pass.is_some_and(|at| now.since(at) < FRESH);
        if settings.check == HealthCheck::None || self.health != Health::Up || fresh {
            return false;
        }
        if !self.trial {
            // A regular probe may be out with a long time-out: the trial takes its place.
            self.trial = true;
            self.awaited = false;
            self.due = Some(now);
        }
        true
    }

    /// The checks were changed: what is known stays known, only the schedule starts anew. Without
    /// a check it is up.
    pub fn reschedule(&mut self, now: Ms, settings: &HealthSettings) -> Option<Turn> {
        self.awaited = false;
        self.trial = false;
        if settings.check == HealthCheck::None {
            self.due = None;
            self.settled = true;
            return self.turn(Health::Up, "nothing is checked".into());
        }
        self.due = Some(self.next_due(now, settings));
        None
    }

    /// Down without a probe: the provider says that it is broken. No probe is due any more until
    /// [`Ward::reschedule`].
    pub fn condemn(&mut self, why: &str) -> Option<Turn> {
        self.awaited = false;
        self.trial = false;
        self.settled = true;
        self.has_failed = true;
        self.due = None;
        self.turn(Health::Down, format!("its provider says that it failed: {why}"))
    }

    /// Down without a probe of its own: its zone is lost. A probe settles that at once, and like
    /// after any fall it takes `rise` passes to come back.
    pub fn presume_down(&mut self, now: Ms, why: &str) -> Option<Turn> {
        self.awaited = false;
        self.trial = true;
        self.has_failed = true;
        self.due = Some(now);
        self.turn(Health::Down, why.to_owned())
    }

    fn pass(&mut self, now: Ms, settings: &HealthSettings) -> Option<Turn> {
        self.failures = 0;
        self.passes = self.passes.saturating_add(1);
        self.last_pass = Some(now);
        let needed = if self.has_failed { settings.rise.max(1) } else { 1 };
        if self.health == Health::Up || self.passes < needed {
            return None;
        }
        let why = match self.passes {
            1 => "passed its probe".into(),
            n => format!("passed {n} probes in a row"),
        };
        self.turn(Health::Up, why)
    }

    fn fail(
        &mut self,
        settings: &HealthSettings,
        suspect: bool,
        error: &ProbeError,
    ) -> Option<Turn> {
        self.passes = 0;
        self.failures = self.failures.saturating_add(1);
        self.has_failed = true;
        let enough = self.failures >= settings.fall.max(1);
        match self.health {
            Health::Up if suspect || self.trial => self
                .turn(Health::Down, format!("{error}, while requests wait for it without a byte")),
            Health::Up if enough => self.turn_down(error),
            Health::Pending if enough && !self.boots => self.turn_down(error),
            _ => None,
        }
    }

    fn turn_down(&mut self, error: &ProbeError) -> Option<Turn> {
        let why = match self.failures {
            1 => error.to_string(),
            n => format!("{error}; the last {n} probes failed"),
        };
        self.turn(Health::Down, why)
    }

    fn turn(&mut self, to: Health, why: String) -> Option<Turn> {
        let from = std::mem::replace(&mut self.health, to);
        if from == to {
            return None;
        }
        self.passes = 0;
        self.failures = 0;
        Some(Turn { from, to, why })
    }

    /// The next point of the schedule after `now`: congruent to the phase, modulo the step.
    fn next_due(&self, now: Ms, settings: &HealthSettings) -> Ms {
        let undecided = match self.health {
            Health::Up => self.failures > 0,
            Health::Down => self.passes > 0,
            _ => true,
        };
        let step = if undecided { settings.interval.min(TRANSITION) } else { settings.interval };
        let (interval_ms, step_ms) = (whole_ms(settings.interval), whole_ms(step));
        let slot_ms = (interval_ms / 20).clamp(1, LONGEST_SLOT_MS);
        let phase = self.phase % interval_ms;
        let phase = (phase - phase % slot_ms) % step_ms;
        let past = (now.0 % step_ms + step_ms - phase) % step_ms;
        Ms(now.0.saturating_add(step_ms - past))
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
