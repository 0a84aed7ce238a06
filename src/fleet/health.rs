//! The health of one instance: probe results in; pending, up or down out, and when to ask next.
//!
//! - New is pending. One pass brings it up, if no probe has failed since it is known. After a
//!   failure, and once it is down, it takes `rise` passes in a row.
//! - `fall` failures in a row bring an up instance down, and also a pending one that is expected
//!   to be there. One that boots stays pending: its failures tell nothing.
//! - While anything is undecided the next probe comes within a second, else after the interval; for
//!   one that is down after two, as long as that is not over ten seconds. All follow a phase that is
//!   a hash of the instance's serial, so that probes of many instances spread evenly.
//! - One that answers live requests well needs no probe: it is left out, until the serving interval
//!   is over.
//! - A suspect (traffic waits for it in vain) is probed at once, and one failure brings it down.
//! - Failing probes alone do not bring down one of the last that serve: as long as it answers live
//!   requests well it is spared, unless nothing listens there.

use std::time::Duration;

use crate::base::Ms;
use crate::fleet::order::{Lane, ProbeError};
use crate::model::{Health, HealthCheck, HealthSettings, Vitals};

/// The longest wait between probes while a turn is undecided.
const TRANSITION: Duration = Duration::from_secs(1);
/// One that is down is asked half as often, but not less often than this.
const SLOWEST_DOWN: Duration = Duration::from_secs(10);
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
    /// Why it is up all the same, while it is spared.
    spared: Option<String>,
    /// Whether it answered the last probe that failed, if with the wrong thing.
    answers: bool,
    /// Spreads the schedule: where in the interval its probes are, of 2^64.
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

/// What speaks for or against an instance beside its probes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Evidence {
    /// Traffic waits for it in vain.
    pub suspect: bool,
    /// When it last sent a byte of a response; `None` if never, and while its last exchange is one
    /// that failed.
    pub answered: Option<Ms>,
    /// Without it the pool would have too few instances left.
    pub among_last: bool,
}

impl Evidence {
    /// What its counters show.
    pub fn of(vitals: &Vitals) -> Self {
        let last_byte = vitals.last_byte();
        let well = last_byte > Ms::ZERO && vitals.failures_in_a_row() == 0;
        Self {
            suspect: vitals.is_suspect(),
            answered: well.then_some(last_byte),
            among_last: false,
        }
    }

    /// Whether it has answered live requests well, not longer ago than this.
    fn serves(self, now: Ms, within: Duration) -> bool {
        !self.suspect && self.answered.is_some_and(|at| now.since(at) <= within)
    }
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
    /// The ward of a new instance: pending and to be probed at `first`, or up where nothing is
    /// checked. `boots` says that it was only just created.
    pub fn new(first: Ms, serial: u64, settings: &HealthSettings, boots: bool) -> Self {
        let checked = settings.check != HealthCheck::None;
        Self {
            health: if checked { Health::Pending } else { Health::Up },
            boots,
            passes: 0,
            failures: 0,
            has_failed: false,
            settled: !checked,
            last_pass: None,
            spared: None,
            answers: false,
            // Fibonacci hashing: serials that follow each other land far apart, and any run of them
            // covers the interval more evenly than chance would.
            phase: serial.wrapping_mul(0x9E37_79B9_7F4A_7C15),
            due: checked.then_some(first),
            number: 0,
            awaited: false,
            trial: false,
        }
    }

    /// What is known.
    pub fn health(&self) -> Health {
        self.health
    }

    /// When it last passed a probe; [`Ms::ZERO`] if never.
    pub fn last_pass(&self) -> Ms {
        self.last_pass.unwrap_or(Ms::ZERO)
    }

    /// Whether the first result is there, or none is needed.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// When to probe next; `None` while a probe is out, and where none is needed.
    pub fn due(&self) -> Option<Ms> {
        self.due
    }

    /// Why it is up although its probes fail, if they do.
    pub fn spared(&self) -> Option<&str> {
        self.spared.as_deref()
    }

    /// Whether it is down for what it answers to probes, and for nothing else: it can be reached.
    pub fn only_probes_object(&self) -> bool {
        self.health == Health::Down && self.answers
    }

    /// Leaves out the probe that is due if live traffic shows as much; another is due an interval
    /// later. Says whether it did.
    pub fn postpone(&mut self, now: Ms, settings: &HealthSettings, evidence: Evidence) -> bool {
        let sure = self.health == Health::Up && self.failures == 0 && !self.trial;
        let next = now + settings.interval;
        let early = self.last_pass.is_some_and(|at| next.since(at) <= settings.serving_interval);
        let leaves_out = sure && early && evidence.serves(now, settings.interval);
        if leaves_out {
            self.due = Some(self.next_due(now, settings));
        }
        leaves_out
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

    /// The result of the awaited probe.
    pub fn handle_result(
        &mut self,
        now: Ms,
        settings: &HealthSettings,
        evidence: Evidence,
        outcome: &Result<Duration, ProbeError>,
    ) -> Option<Turn> {
        self.awaited = false;
        let turn = match outcome {
            Err(ProbeError::Local(_)) => {
                self.due = Some(now + settings.interval.min(TRANSITION));
                return None;
            }
            Ok(_) => self.pass(now, settings),
            Err(error) => self.fail(now, settings, evidence, error),
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
            self.spared = None;
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
        self.answers = false;
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
        self.spared = None;
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
        now: Ms,
        settings: &HealthSettings,
        evidence: Evidence,
        error: &ProbeError,
    ) -> Option<Turn> {
        self.passes = 0;
        self.failures = self.failures.saturating_add(1);
        self.has_failed = true;
        self.answers = error.is_answer();
        let enough = self.failures >= settings.fall.max(1);
        let serves = *error != ProbeError::Refused
            && evidence.among_last
            && evidence.serves(now, 2 * settings.interval);
        match self.health {
            Health::Up if evidence.suspect || self.trial => self
                .turn(Health::Down, format!("{error}, while requests wait for it without a byte")),
            Health::Up if enough && serves => {
                self.spared = Some(format!(
                    "its probes fail ({error}), but it serves traffic and is among the last"
                ));
                None
            }
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
        self.spared = None;
        Some(Turn { from, to, why })
    }

    /// The next point of the schedule after `now`: congruent to the phase, modulo the step.
    fn next_due(&self, now: Ms, settings: &HealthSettings) -> Ms {
        let interval = settings.interval;
        let undecided = match self.health {
            Health::Up => self.failures > 0 && self.spared.is_none(),
            Health::Down => self.passes > 0,
            _ => true,
        };
        let step = if undecided { interval.min(TRANSITION) } else { interval };
        let slower = self.health == Health::Down && !undecided && 2 * interval <= SLOWEST_DOWN;
        let extra = if slower { interval } else { Duration::ZERO };
        let (interval_ms, step_ms) = (whole_ms(interval), whole_ms(step));
        let slot_ms = (interval_ms / 20).clamp(1, LONGEST_SLOT_MS);
        // Below 2^32, as the interval is.
        let phase = ((u128::from(self.phase) * u128::from(interval_ms)) >> 64) as u64;
        let phase = (phase - phase % slot_ms) % step_ms;
        let past = (now.0 % step_ms + step_ms - phase) % step_ms;
        Ms(now.0.saturating_add(step_ms - past)) + extra
    }
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).clamp(1, u64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
