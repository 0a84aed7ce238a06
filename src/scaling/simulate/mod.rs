//! `tidegate simulate`: what the control law would do with a trace, beside other scalers.
//!
//! Nothing here reads a clock, a file or the network: the same input and seed give the same figures.
//!
//! - [`trace`]: counts from CSV, as a rate for each second; `chance`: arrivals drawn from it
//! - [`queue`]: how long requests wait; [`plant`]: instances that boot, warm up, serve and drain
//! - [`meter`]: what a policy may look at
//! - `ours`: the control law as a policy; [`rivals`]: the others
//! - [`optimum`]: the cheapest schedule for who knows the future
//! - [`report`]: the figures, as a table and as JSON; [`picture`]: the run as SVG
//! - [`drive`]: an outside simulator in the place of all that

mod chance;
pub mod drive;
pub mod meter;
pub mod optimum;
mod ours;
pub mod picture;
pub mod plant;
pub mod queue;
pub mod report;
pub mod rivals;
pub mod trace;

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::base::Entropy;
use crate::model::Scaling;

use meter::Meter;
use optimum::Optimum;
use ours::Ours;
use picture::Course;
use plant::Plant;
use queue::{Flow, Model};
use report::{Report, Row, Stated};
use rivals::{Basic, Cpu, Fixed, Keda, TARGET, TargetTracking, Tuned};

/// Every policy has this much history before its first decision counts.
const HISTORY_S: u32 = 300;

/// A decision against the one before, within this time, is a reversal.
const REVERSAL_S: u32 = 600;

const DAY_S: u32 = 86_400;

/// What decides how many instances there should be.
pub trait Policy {
    /// What it is called in the report.
    fn name(&self) -> &'static str;

    /// How often it decides.
    fn period_s(&self) -> u32;

    /// Called each second, whether it decides or not.
    fn watch(&mut self, _meter: &Meter) {}

    /// How many there should be, if that is to change.
    fn decide(&mut self, meter: &Meter) -> Option<u32>;
}

/// What is asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Setting {
    /// The pool's scaling section.
    pub scaling: Arc<Scaling>,
    /// What instances are stated to be like, of the size that is set.
    pub model: Model,
    /// Of all chance.
    pub seed: u64,
    /// The name of the pool.
    pub pool: String,
    /// The name of the trace.
    pub trace: String,
}

/// The traffic of a run: the same for each policy.
#[derive(Clone, PartialEq, Debug)]
struct Traffic {
    rates: Vec<f64>,
    arrivals: Vec<f64>,
}

impl Traffic {
    fn drawn(rates: Vec<f64>, seed: u64) -> Self {
        let mut entropy = Entropy::seeded(seed);
        let arrivals = rates.iter().map(|rate| chance::poisson(*rate, &mut entropy)).collect();
        Self { rates, arrivals }
    }

    fn days(&self) -> f64 {
        self.rates.len() as f64 / f64::from(DAY_S)
    }

    /// How many instances have `each` at the start.
    fn first(&self, each: f64, size: &RangeInclusive<u32>) -> u32 {
        let start = &self.rates[..self.rates.len().min(60)];
        bounded(start.iter().sum::<f64>() / start.len() as f64 / each, size)
    }
}

/// Rounded up, within what is set.
fn bounded(instances: f64, size: &RangeInclusive<u32>) -> u32 {
    (instances.ceil() as u32).clamp(*size.start(), *size.end())
}

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Tally {
    offered: f64,
    violating: f64,
    shed: f64,
    instance_seconds: f64,
    /// The sum over seconds of those that exist, and the most.
    existing: f64,
    peak: u32,
    actions: u32,
    reversals: u32,
}

/// One policy on one traffic.
struct Run<'a> {
    traffic: &'a Traffic,
    setting: &'a Setting,
    /// How many there are at the start.
    first: u32,
}

impl Run<'_> {
    /// Runs it; `each_second` sees what happened and who was there.
    fn tally(
        &self,
        policy: &mut dyn Policy,
        mut each_second: impl FnMut(u32, &Plant, &Flow),
    ) -> Tally {
        let size = self.setting.scaling.instances();
        // Not the stream that the arrivals came from, and the same for each policy.
        let mut plant = Plant::new(self.setting.model, self.first, !self.setting.seed);
        let mut meter = Meter::new(self.first);
        let mut tally = Tally::default();
        let mut desired = self.first;
        let mut last: Option<(u32, bool)> = None;
        for (now, offered) in (0u32..).zip(&self.traffic.arrivals) {
            plant.wake(now);
            meter.note(plant.presence(), desired);
            if now > 0 {
                policy.watch(&meter);
            }
            if now >= HISTORY_S && now % policy.period_s() == 0 {
                let wanted = policy.decide(&meter).unwrap_or(desired);
                let wanted = wanted.clamp(*size.start(), *size.end());
                if wanted != desired {
                    let is_out = wanted > desired;
                    tally.actions += 1;
                    if last.is_some_and(|(at, was)| was != is_out && now - at < REVERSAL_S) {
                        tally.reversals += 1;
                    }
                    last = Some((now, is_out));
                    desired = wanted;
                    plant.resize(now, desired);
                }
            }
            let flow = plant.second(*offered);
            let presence = plant.presence();
            let serving = presence.warming + presence.ready;
            let existing = serving + presence.pending;
            tally.offered += flow.offered;
            tally.violating += flow.violating;
            tally.shed += flow.shed;
            tally.instance_seconds += f64::from(existing + presence.draining);
            tally.existing += f64::from(existing);
            tally.peak = tally.peak.max(existing);
            meter.push(flow, serving);
            each_second(now, &plant, &flow);
        }
        tally
    }
}

/// Runs the trace's `rates` through the control law and, after it, through all others. `progress` is
/// told the policy and how many days of it are done.
///
/// # Errors
/// Says what of the stated instances cannot be.
pub fn simulate(
    setting: &Setting,
    rates: Vec<f64>,
    progress: &mut dyn FnMut(&str, f64),
) -> Result<(Report, Course), String> {
    let Setting { scaling, model, seed, .. } = setting;
    let knee = model.knee();
    if knee < 0.01 {
        return Err("no instance like that keeps 99.9 % of requests within --slo-wait, however \
                    few it gets; allow a longer wait, or more --workers"
            .into());
    }
    let size = &scaling.instances();
    let traffic = Traffic::drawn(rates, *seed);
    let optimum = Optimum::of(&traffic.rates, model.capacity * knee, size, model);
    let mut course = Course::with_capacity(traffic.rates.len());
    let busy = trace::percentile(&traffic.rates, 99.9);
    let usual = traffic.first(model.capacity * TARGET, size);
    let stated = scaling.stated_rate().map(|rate| rate * f64::from(scaling.unit()));
    let ours = traffic.first(stated.unwrap_or(model.capacity * TARGET), size);
    let fixed = bounded(busy / (model.capacity * knee), size);
    let least = *size.start();
    let policies: [(Box<dyn Policy>, u32); 7] = [
        (Box::new(Ours::new(Arc::clone(scaling))), ours),
        (Box::new(Basic::new(least)), usual),
        (Box::new(Tuned::new(least, model.capacity)), usual),
        (Box::new(TargetTracking::new(model.capacity)), usual),
        (Box::new(Cpu::default()), usual),
        (Box::new(Keda::new(model.capacity)), usual),
        (Box::new(Fixed), fixed),
    ];
    let days = traffic.days();
    let mut rows = Vec::with_capacity(policies.len() + 1);
    for (index, (mut policy, first)) in policies.into_iter().enumerate() {
        let name = policy.name();
        let run = Run { traffic: &traffic, setting, first };
        let tally = run.tally(policy.as_mut(), |now, plant, flow| {
            if index == 0 {
                course.push(traffic.rates[now as usize], &plant.presence(), flow);
            }
            if now % DAY_S == 0 {
                progress(name, f64::from(now / DAY_S));
            }
        });
        rows.push(Row::of(name, &tally, days, optimum.instance_hours));
    }
    rows.push(optimum.row(&traffic.arrivals, days, model));
    course.needed = optimum.needed;
    let report = Report { stated: Stated::of(setting, &traffic), policies: rows };
    Ok((report, course))
}

#[cfg(test)]
mod tests;
