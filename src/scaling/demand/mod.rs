//! What the pool is asked for, in requests per second: now, and as far ahead as a launch takes.
//!
//! Everything that arrived counts, also what was queued or shed. Requests in flight do not: traffic
//! is an open loop, so arrivals tell the whole demand even while instances are saturated, and
//! in-flight would count it a second time.
//!
//! An instance that is ordered now serves one lead time later, so what counts is the traffic then. Four
//! terms look there, and the largest wins: the rate now times what traffic has been seen to grow by
//! within a lead time ([`growth`]), a step that has just begun, and what the same minutes of earlier days
//! have brought ([`season`]). How long a launch takes is learnt from launches ([`lead`]).

mod growth;
mod lead;
mod rates;
mod season;

use std::time::Duration;

use crate::base::Ms;
use crate::model::{Prediction, Scaling};
use crate::scaling::law::{Learnt, Moment, Presence, Second};

use growth::Growth;
use lead::{Lead, TYPICAL};
use rates::Rates;
use season::Season;

/// The demand is the mean over this long…
const LONG: Duration = Duration::from_secs(30);
/// …unless the mean over this long stands out of it…
const STEP: Duration = Duration::from_secs(8);
/// …or, far out, the mean over this long.
const JUMP: Duration = Duration::from_secs(2);
/// The noise is that of means over this long.
const NOISE: Duration = Duration::from_secs(10);
/// A step stands out by this share of the mean where there is little noise…
const STEP_SHARE: f64 = 0.10;
/// …or by this many standard deviations.
const STEP_SIGMAS: f64 = 3.5;
/// A step goes on for a while after it was seen: by so much, where a launch takes [`TYPICAL`].
const STEP_GOES_ON: f64 = 0.2;
/// The same for jumps.
const JUMP_SHARE: f64 = 0.5;
const JUMP_SIGMAS: f64 = 5.0;
/// How fast the learnt noise follows, each second.
const NOISE_GAIN: f64 = 0.0025;
/// The hold queue is to be empty after this long.
const BACKLOG_SECONDS: f64 = 10.0;

/// What was seen of the demand, and what was learnt from it.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    rates: Rates,
    /// Variance of the mean over [`NOISE`] about the mean over [`LONG`], as a share of it.
    noise: f64,
    growth: Growth,
    season: Season,
    lead: Lead,
    seen: Ms,
    now: Estimate,
}

/// The demand now, with the terms that it was made of. Rates are in requests per second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Estimate {
    /// Mean over thirty seconds.
    pub(super) rate_30s: f64,
    /// Mean over eight seconds.
    pub(super) rate_8s: f64,
    /// Mean over two seconds.
    pub(super) rate_2s: f64,
    /// The demand of a step or a jump that has just begun, if there is one.
    pub(super) step: Option<f64>,
    /// What traffic may grow by within one lead time, as a factor.
    pub(super) growth: f64,
    /// What earlier days brought within the next lead time.
    pub(super) season: Option<f64>,
    /// Whether that counts.
    pub(super) season_counts: bool,
    /// From a launch to full service, in seconds.
    pub(super) lead_s: f64,
    /// What the hold queue adds, if it is to be worked off in ten seconds.
    pub(super) backlog: f64,
    /// Requests in the hold queue.
    pub(super) queued: f64,
    /// Requests in flight.
    pub(super) in_flight: f64,
    /// Mean latency in the last second, in seconds.
    pub(super) latency_s: Option<f64>,
}

impl Estimate {
    /// The demand that capacity must be there for, and the term that says so; without the backlog.
    pub(super) fn arrivals(&self) -> (f64, &'static str) {
        let now = (self.rate_30s * self.growth, if self.growth > 1.0 { "growth" } else { "rate" });
        let (demand, winner) = self.step.map_or(now, |step| (step, "step"));
        match self.season {
            Some(season) if self.season_counts && season > demand => (season, "season"),
            _ => (demand, winner),
        }
    }

    /// The demand.
    pub(super) fn rps(&self) -> f64 {
        self.arrivals().0 + self.backlog
    }
}

impl Default for Demand {
    fn default() -> Self {
        Self {
            rates: Rates::default(),
            noise: 0.0025,
            growth: Growth::default(),
            season: Season::default(),
            lead: Lead::default(),
            seen: Ms::ZERO,
            now: Estimate { growth: 1.0, ..Estimate::default() },
        }
    }
}

impl Demand {
    /// When the newest second ended.
    pub(super) fn seen(&self) -> Ms {
        self.seen
    }

    /// One second (or what was one, if the tick came late).
    pub(super) fn see(
        &mut self,
        moment: Moment,
        seconds: f64,
        second: &Second,
        presence: &Presence,
        rules: &Foresight,
    ) {
        self.seen = moment.now;
        self.lead.see(moment.now, presence);
        self.rates.push(moment.now, seconds, second.offered);
        let mean = |span| self.rates.mean(span);
        let (rate_30s, rate_10s) = (mean(LONG), mean(NOISE));
        if rate_30s > 0.0 {
            let off = rate_10s / rate_30s - 1.0;
            self.noise += NOISE_GAIN * ((off * off).min(0.25) - self.noise);
        }
        let lead = rules.lead_time.unwrap_or_else(|| self.lead.time());
        self.growth.see(moment.now, lead, rate_30s, rate_10s);
        self.season.see(moment.wall_s, lead, &self.rates);
        let (rate_8s, rate_2s) = (mean(STEP), mean(JUMP));
        self.now = Estimate {
            rate_30s,
            rate_8s,
            rate_2s,
            step: self.step(lead, rate_30s, rate_8s, rate_2s),
            growth: self.growth.factor(lead),
            season: self.season.expected(),
            season_counts: rules.prediction == Prediction::On && self.season.is_trusted(),
            lead_s: lead.as_secs_f64(),
            backlog: second.queued / BACKLOG_SECONDS,
            queued: second.queued,
            in_flight: second.in_flight,
            // Little's law, where nobody has measured it.
            latency_s: second.latency_s.or_else(|| {
                let rate = second.completed / seconds.max(0.001);
                (rate > 0.0).then(|| second.in_flight / rate)
            }),
        };
    }

    /// Tells what was learnt.
    pub(super) fn tell(&self, learnt: &mut Learnt) {
        self.growth.tell(learnt);
        self.season.tell(learnt);
        self.lead.tell(learnt);
    }

    /// Goes on from what was learnt before a restart.
    pub(super) fn recall(&mut self, mut learnt: Learnt) {
        self.lead.recall(&learnt);
        self.season.recall(&mut learnt);
        self.growth.recall(learnt.growth);
    }

    /// The demand as of the newest second.
    pub(super) fn estimate(&self) -> Estimate {
        self.now
    }

    fn step(&self, lead: Duration, rate_30s: f64, rate_8s: f64, rate_2s: f64) -> Option<f64> {
        let goes_on = 1.0 + STEP_GOES_ON * (lead.as_secs_f64() / TYPICAL.as_secs_f64()).min(1.0);
        let stands_out = |rate: f64, span: Duration, sigmas: f64, share: f64| {
            // The chance of arrivals themselves: where less than one is expected, one is no step.
            let chance = (rate_30s * span.as_secs_f64()).max(1.0).sqrt() / span.as_secs_f64();
            let sigma = (self.noise * rate_30s * rate_30s + chance * chance).sqrt();
            rate - rate_30s > (sigmas * sigma).max(share * rate_30s)
        };
        let jump = stands_out(rate_2s, JUMP, JUMP_SIGMAS, JUMP_SHARE).then_some(rate_2s);
        let step = stands_out(rate_8s, STEP, STEP_SIGMAS, STEP_SHARE).then_some(rate_8s * goes_on);
        [jump, step].into_iter().flatten().reduce(f64::max)
    }
}

/// How far ahead is looked, and by what.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Foresight {
    /// From a launch to full service, if the operator says so.
    pub(super) lead_time: Option<Duration>,
    /// What becomes of the recurring profile.
    pub(super) prediction: Prediction,
}

impl Foresight {
    /// As the operator has it.
    pub(super) fn of(scaling: &Scaling) -> Self {
        Self { lead_time: scaling.lead_time, prediction: scaling.prediction }
    }
}

#[cfg(test)]
mod tests;
