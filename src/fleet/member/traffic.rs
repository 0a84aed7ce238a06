//! What real traffic shows of one instance: whether it is ejected, and how warm it is.

use std::sync::Arc;

use crate::base::Ms;
use crate::fleet::change::{Change, HealthChange};
use crate::fleet::member::{Books, Member};
use crate::fleet::outlier::{Conduct, Fault, Tally};
use crate::fleet::warmth::{Warmth, is_cold};
use crate::model::{FULL, Health, Life, Outlier};

/// What an answer has taken at least that did not come in a second.
const PACE_MS: f64 = 1_000.0;

/// What traffic shows.
#[derive(Debug)]
pub(super) struct Traffic {
    conduct: Conduct,
    warmth: Warmth,
    /// What it had answered when those that warm up were last compared with the others…
    paced: Tally,
    /// …and since then.
    recent: Tally,
    /// Whether the operator lets it take traffic.
    enabled: bool,
}

impl Traffic {
    /// Nothing yet.
    pub fn new(warmth: Warmth) -> Self {
        let (paced, recent) = (Tally::default(), Tally::default());
        Self { conduct: Conduct::default(), warmth, paced, recent, enabled: true }
    }

    /// For how long it is ejected and what for.
    pub fn why_ejected(&self) -> Option<Arc<str>> {
        self.conduct.why_ejected()
    }
}

impl Member {
    /// Whether the operator lets it take traffic.
    pub fn note_enabled(&mut self, enabled: bool) {
        self.traffic.enabled = enabled;
    }

    /// It ran before our time: it is warm.
    pub fn presume_warm(&mut self) {
        self.traffic.warmth = Warmth::WARM;
    }

    /// Whether it could take traffic if it is not ejected.
    pub fn is_sound(&self) -> bool {
        let comes = matches!(self.life, Life::Booting | Life::Ramping | Life::Serving);
        comes && self.traffic.enabled && self.ward.health() == Health::Up
    }

    /// Whether it takes traffic.
    pub fn is_serving(&self) -> bool {
        self.is_sound() && !self.is_ejected()
    }

    /// Whether it is kept out for how it answered.
    pub fn is_ejected(&self) -> bool {
        self.traffic.conduct.ejected_until().is_some()
    }

    /// Until when that is so.
    pub fn ejected_until(&self) -> Option<Ms> {
        self.traffic.conduct.ejected_until()
    }

    /// What it has answered since this was last asked.
    pub fn tally(&mut self) -> Tally {
        let now = Tally::of(&self.instance.vitals);
        let before = std::mem::replace(&mut self.traffic.conduct.seen, now);
        now.since(before)
    }

    /// It was compared with the others, and is in traffic.
    pub fn forgive(&mut self, now: Ms, settings: &Outlier) {
        self.traffic.conduct.forgive(now, settings);
    }

    /// Nothing new goes there for a while. What it does may finish, for it may well answer.
    pub fn eject(&mut self, now: Ms, settings: &Outlier, fault: &Fault, books: &mut Books) {
        self.traffic.conduct.eject(now, settings, fault);
        self.traffic.warmth = Warmth::COLD;
        books.changed = true;
        books.changes.push(Change::Ejected {
            pool: self.instance.pool.clone(),
            instance: self.instance.id.clone(),
            zone: self.instance.zone.clone(),
            reason: fault.word(),
            why: self.traffic.why_ejected().unwrap_or_default(),
        });
    }

    /// It may show again how it answers.
    pub fn reinstate(&mut self, now: Ms, why: &str, books: &mut Books) {
        self.traffic.conduct.return_at(now, &self.instance.vitals);
        books.changed = true;
        if self.ward.health() == Health::Up {
            books.changes.push(Change::Health(HealthChange {
                pool: self.instance.pool.clone(),
                instance: self.instance.id.clone(),
                zone: self.instance.zone.clone(),
                from: Health::Ejected,
                to: Health::Up,
                why: format!("ejected no longer: {why}"),
            }));
        }
    }

    /// A probe says that it is down: that keeps it out by itself, and what comes back is cold.
    pub(super) fn forget_warmth(&mut self, now: Ms) {
        self.traffic.warmth = Warmth::COLD;
        if self.is_ejected() {
            self.traffic.conduct.return_at(now, &self.instance.vitals);
        }
    }

    /// This share of the slow start has passed. Says how strong it is, if it takes traffic.
    pub fn pass(&mut self, share: f64) -> Option<f64> {
        if self.is_serving() {
            self.traffic.warmth.serve(share);
            return Some(self.traffic.warmth.strength());
        }
        // Who is not up has not begun to warm up.
        if self.ward.health() == Health::Up && !self.is_ejected() {
            self.traffic.warmth.stand_aside(share);
        }
        None
    }

    /// Begins a new second; the mean time to its answers in the last one, in milliseconds, if there were
    /// any.
    pub fn pace(&mut self) -> Option<f64> {
        let now = Tally::of(&self.instance.vitals);
        self.traffic.recent = now.since(self.traffic.paced);
        self.traffic.paced = now;
        (self.traffic.recent.responses > 0).then(|| self.traffic.recent.mean_ms())
    }

    /// It warms up: whether what it answered in the last second shows that it is not warm, beside the
    /// usual mean time of warm ones.
    pub fn compare_to_warm(&mut self, usual_ms: Option<f64>) {
        let Traffic { recent, warmth, .. } = &mut self.traffic;
        let waits = self.instance.vitals.in_flight() > 0;
        match usual_ms {
            Some(usual_ms) if recent.requests > 0 => {
                warmth.see(recent.is_mostly_failed() || is_cold(recent.mean_ms(), usual_ms));
            }
            Some(usual_ms) if waits => warmth.see(is_cold(PACE_MS, usual_ms)),
            _ => warmth.see_nothing(usual_ms.is_some()),
        }
    }

    /// It takes what is its part beside the warmest, if it takes anything.
    pub fn ramp(&mut self, warmest: f64, books: &mut Books) {
        if !self.is_serving() {
            return;
        }
        let part = self.traffic.warmth.part(warmest);
        if part != self.instance.vitals.ramp() {
            self.instance.vitals.set_ramp(part);
        }
        match self.life {
            Life::Serving if part < FULL => self.set_life(Life::Ramping, books),
            Life::Ramping if part >= FULL => self.set_life(Life::Serving, books),
            _ => {}
        }
    }

    /// Whether it takes less than its share because it warms up.
    pub fn is_ramping(&self) -> bool {
        self.life == Life::Ramping
    }
}
