//! The control law: how many instances a pool should have, from what was seen second by second.
//!
//! It decides the number and nothing else: no clock, no I/O, no chance, and no knowledge of machines.
//! The agent feeds it live, `tidegate simulate` replays traces through it, and `simulate --drive` lets an
//! outside simulator do so: it is the same code in each.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Ms;
use crate::model::{FULL, Scaling, Window};
use crate::scaling::capacity::Capacity;
use crate::scaling::demand::{Demand, Estimate, Foresight};
use crate::scaling::plan::Facts;
use crate::scaling::reserve;
use crate::scaling::roster::Count;
use crate::scaling::rules::{Rules, Sample};
use crate::scaling::schedule;
use crate::scaling::size::{Size, Verdict};
use crate::scaling::want::{self, Known, Want};

/// When something is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The monotonic clock.
    pub now: Ms,
    /// Wall-clock seconds since 1970 (UTC): only what recurs by the day or the week goes by it.
    pub wall_s: i64,
}

/// One second of a pool's traffic.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Second {
    /// Requests that arrived, whatever became of them.
    pub offered: f64,
    /// Requests that were answered.
    pub completed: f64,
    /// Requests that nothing could take.
    pub shed: f64,
    /// Requests that wait at its end.
    pub queued: f64,
    /// Requests in flight at its end, those that wait included.
    pub in_flight: f64,
    /// Mean time from arrival to answer, if anything was answered.
    pub latency_s: Option<f64>,
}

/// Who is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Presence {
    /// Ordered or booting.
    pub pending: u32,
    /// Serving, and not at full strength yet.
    pub warming: u32,
    /// What those that warm up carry together, of [`FULL`] each; `None` if nobody knows.
    pub warmed: Option<u32>,
    /// Serving.
    pub ready: u32,
    /// Draining or leaving.
    pub draining: u32,
    /// Down.
    pub unhealthy: u32,
    /// Zones that they are spread over.
    pub zones: u32,
}

impl Presence {
    /// The same of instances that have so many units each.
    fn in_units(self, units: u32) -> Self {
        let times = |count: u32| count.saturating_mul(units);
        Self {
            pending: times(self.pending),
            warming: times(self.warming),
            warmed: self.warmed.map(times),
            ready: times(self.ready),
            draining: times(self.draining),
            unhealthy: times(self.unhealthy),
            zones: self.zones,
        }
    }

    /// How many ready ones they are worth that serve. Of one that warms up and of which no more is known
    /// it is a half.
    pub(super) fn strength(&self) -> f64 {
        let warmed = self.warmed.map(|parts| f64::from(parts) / f64::from(FULL));
        f64::from(self.ready) + warmed.unwrap_or(f64::from(self.warming) / 2.0)
    }
}

/// What the law says.
#[derive(Clone, PartialEq, Debug)]
pub struct Sizing {
    /// How many instances should exist: pending, warming and ready.
    pub desired: u32,
    /// Which term decided.
    pub winner: &'static str,
    /// Every input and term with its value.
    pub terms: BTreeMap<&'static str, f64>,
    /// Each bound that was applied, with what it changed: `max 14→12`.
    pub clamps: Vec<String>,
    /// One line for an operator.
    pub reason: String,
}

/// The law of one pool, with what it remembers.
#[derive(Clone, Debug, Default)]
pub struct Law {
    demand: Demand,
    capacity: Capacity,
    rules: Rules,
    /// The size that the rules have come to, where there are any.
    by_rules: Option<u32>,
    size: Size,
}

/// What was learnt of a pool: worth keeping beyond a restart.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Learnt {
    /// The rate by the minute of the day, of the last days.
    pub minutes: Vec<VecDeque<f64>>,
    /// How far off that was of late, as a share of the rate.
    pub error: Option<f64>,
    /// The rate by the minute of the week, of the last weeks (from the first of 1970, a Thursday).
    pub week: Vec<VecDeque<f64>>,
    /// How far off that was of late.
    pub week_error: Option<f64>,
    /// By what factors traffic grew within a lead time, in the last hours.
    pub growth: VecDeque<f64>,
    /// How long the last launches took until they served, in seconds.
    pub boots_s: Vec<f64>,
    /// How long they then took to full strength.
    pub warm_ups_s: Vec<f64>,
    /// What an instance takes at most, in requests per second.
    pub capacity: Option<f64>,
}

impl Law {
    /// What follows from one more second. Both who is there and the answer are in instances of the size
    /// that is set; what is between is in units.
    pub fn decide(
        &mut self,
        moment: Moment,
        second: &Second,
        presence: &Presence,
        scaling: &Arc<Scaling>,
    ) -> Sizing {
        let unit = scaling.unit();
        let presence = &presence.in_units(unit);
        self.see(moment, 1.0, second, presence, scaling);
        let scaling = &self.in_force(moment, scaling);
        let count = Count {
            healthy: presence.warming + presence.ready,
            removable: presence.warming + presence.ready,
            pending: presence.pending,
            unhealthy: presence.unhealthy,
            draining: presence.draining,
            ..Count::default()
        };
        let mut want = self.want(count.healthy, scaling, &[]);
        let per_instance = want.per_instance;
        reserve::keep(&mut want, self.estimate().rps(), per_instance, scaling, presence.zones);
        let want = want.in_whole(unit);
        let verdict = self.settle(moment.now, &want, scaling, &count, false);
        let facts = Facts { estimate: self.estimate(), want, count, scaling: Arc::clone(scaling) };
        let (from, to) = (count.carrying(), verdict.desired);
        let held = verdict.refusal.map(|refusal| refusal.reason);
        let words = facts.demand_in_words(facts.want.winner);
        let reason = match held {
            Some(held) => format!("{from}→{to}: {words}; {held}"),
            None => format!("{from}→{to}: {words}"),
        };
        let terms = facts.terms();
        let (desired, winner) = (to.div_ceil(unit), facts.want.winner);
        Sizing { desired, winner, terms, clamps: facts.want.clamps, reason }
    }

    /// Takes those of `windows` (oldest first) that it has not seen. The wall clock is that of the
    /// newest.
    pub(super) fn ingest(
        &mut self,
        moment: Moment,
        windows: &[Window],
        presence: &Presence,
        scaling: &Scaling,
    ) {
        let Some(newest) = windows.last() else { return };
        let seen = self.demand.seen();
        for window in windows.iter().filter(|window| window.ended > seen) {
            let ago = newest.ended.since(window.ended).as_secs() as i64;
            let moment = Moment { now: window.ended, wall_s: moment.wall_s - ago };
            let second = Second {
                offered: window.offered as f64,
                completed: window.completed as f64,
                shed: window.shed as f64,
                queued: f64::from(window.queued),
                in_flight: f64::from(window.in_flight) + f64::from(window.queued),
                latency_s: None,
            };
            self.see(moment, window.seconds, &second, presence, scaling);
        }
    }

    fn see(
        &mut self,
        moment: Moment,
        seconds: f64,
        second: &Second,
        presence: &Presence,
        scaling: &Scaling,
    ) {
        self.demand.see(moment, seconds, second, presence, &Foresight::of(scaling));
        self.capacity.see(seconds, second, presence);
        self.follow_rules(moment.now, seconds, second, presence, scaling);
    }

    fn follow_rules(
        &mut self,
        now: Ms,
        seconds: f64,
        second: &Second,
        presence: &Presence,
        scaling: &Scaling,
    ) {
        self.rules.follow(&scaling.rules);
        if scaling.rules.is_empty() {
            self.by_rules = None;
            return;
        }
        let size = presence.pending + presence.warming + presence.ready;
        let sample = Sample {
            requests: second.offered / seconds.max(0.001),
            in_flight: second.in_flight,
            latency_s: self.demand.estimate().latency_s,
            queued: second.queued,
            serving: presence.warming + presence.ready,
        };
        let outcome = self.rules.decide(now, &sample, size, &(scaling.min..=scaling.max));
        let before = *self.by_rules.get_or_insert(size);
        self.by_rules = Some(outcome.map_or(before, |outcome| outcome.to));
    }

    /// The limits and the target that hold now, and a minimum that will hold when what is launched now
    /// serves.
    pub(super) fn in_force(&self, moment: Moment, scaling: &Arc<Scaling>) -> Arc<Scaling> {
        if scaling.schedules.is_empty() {
            return Arc::clone(scaling);
        }
        let lead = Duration::from_secs_f64(self.demand.estimate().lead_s);
        let profile = schedule::active(scaling, moment.wall_s);
        let min = schedule::floor(scaling, moment.wall_s, lead).max(profile.min);
        let target_requests_per_second = profile.target_requests_per_second;
        let max = profile.max.max(min);
        Arc::new(Scaling { min, max, target_requests_per_second, ..Scaling::clone(scaling) })
    }

    /// Forgets which sizes were wanted: they were not meant.
    pub(super) fn forget_sizes(&mut self) {
        self.size = Size::default();
    }

    /// What was learnt, to be kept.
    pub fn learnt(&self) -> Learnt {
        let mut learnt = Learnt { capacity: self.capacity.per_instance(), ..Learnt::default() };
        self.demand.tell(&mut learnt);
        learnt
    }

    /// Goes on from what was learnt before.
    pub fn recall(&mut self, learnt: Learnt) {
        self.capacity.recall(learnt.capacity);
        self.demand.recall(learnt);
    }

    /// The demand as of the newest second.
    pub(super) fn estimate(&self) -> Estimate {
        self.demand.estimate()
    }

    /// The size that the demand asks for of a pool in which so many serve.
    pub(super) fn want(
        &self,
        serving: u32,
        scaling: &Scaling,
        ceilings: &[(&'static str, Option<u32>)],
    ) -> Want {
        let known =
            Known { serving, capacity: self.capacity.per_instance(), by_rules: self.by_rules };
        want::want(&self.demand.estimate(), known, scaling, ceilings)
    }

    /// What is to become of the size.
    pub(super) fn settle(
        &mut self,
        now: Ms,
        want: &Want,
        scaling: &Scaling,
        count: &Count,
        outage: bool,
    ) -> Verdict {
        self.size.settle(now, want, scaling, count, outage)
    }
}
