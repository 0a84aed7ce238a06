//! How many instances the demand asks for now, whatever was before: the largest of what each target asks
//! for, within its bounds.

use crate::model::Scaling;
use crate::scaling::demand::Estimate;

/// An operator states what an instance carries in steady state, which is this share of what it takes at
/// most: beyond, waiting times rise steeply (M/M/c).
pub const STEADY: f64 = 0.82;
/// A size has room if it carries this much of the demand.
const ROOM: f64 = 1.03;
/// Latency says that there are too few, and not by how much: the size is at most doubled for it, and at
/// most halved.
const LATENCY_MOST: f64 = 2.0;

/// What the demand asks for, before anything that was.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Want {
    /// The size, within its bounds.
    pub(super) size: u32,
    /// The units of an instance.
    pub(super) unit: u32,
    /// The size before it was rounded to whole instances.
    pub(super) exact: u32,
    /// How much of it only stands by.
    pub(super) standby: u32,
    /// The least size that may be shrunk to: it has a little room, so that noise about a whole number
    /// of instances does not flap.
    pub(super) roomy: u32,
    /// The largest size now.
    pub(super) max: u32,
    /// What one instance carries in steady state, in requests per second; `None` if that is neither
    /// stated nor learnt.
    pub(super) per_instance: Option<f64>,
    /// Which term decided.
    pub(super) winner: &'static str,
    /// Each bound that was applied.
    pub(super) clamps: Vec<String>,
}

/// What is known beside the demand.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Known {
    /// How many serve.
    pub(super) serving: u32,
    /// What one of them was seen to take at most, in requests per second.
    pub(super) capacity: Option<f64>,
    /// The size that the pool's rules have come to.
    pub(super) by_rules: Option<u32>,
}

/// The size that `estimate` asks for. `ceilings` are upper bounds beside `max`, with their names.
pub(super) fn want(
    estimate: &Estimate,
    known: Known,
    scaling: &Scaling,
    ceilings: &[(&'static str, Option<u32>)],
) -> Want {
    let learnt = known.capacity.map(|capacity| capacity * STEADY);
    let per_instance = scaling.target_requests_per_second.and_then(|t| t.stated().or(learnt));
    let (raw, winner) = terms(estimate, &known, per_instance, scaling)
        .into_iter()
        .max_by_key(|(size, _)| *size)
        // Nothing is known yet: what is there stays.
        .unwrap_or((known.serving, "unknown"));
    let with_room = per_instance.map_or(0, |rate| instances_for(estimate.rps() * ROOM, rate));
    let mut want = Want {
        size: raw,
        exact: raw,
        unit: 1,
        standby: 0,
        roomy: raw.max(with_room).max(scaling.min),
        max: scaling.max,
        per_instance,
        winner,
        clamps: Vec::new(),
    };
    if want.size < scaling.min {
        want.clamp("min", scaling.min);
        want.winner = "min";
    }
    let bounds = [("max", Some(scaling.max))];
    for (name, bound) in bounds.iter().chain(ceilings) {
        let Some(bound) = *bound else { continue };
        want.max = want.max.min(bound);
        if want.size > bound {
            want.clamp(name, bound);
            want.winner = "max";
        }
    }
    want.roomy = want.roomy.min(want.max);
    want.exact = want.size;
    want
}

/// The size that each target asks for, with the term that decided it.
fn terms(
    estimate: &Estimate,
    known: &Known,
    per_instance: Option<f64>,
    scaling: &Scaling,
) -> Vec<(u32, &'static str)> {
    let Known { serving, by_rules, .. } = *known;
    let mut terms: Vec<_> = by_rules.map(|size| (size, "rules")).into_iter().collect();
    if estimate.queued + estimate.in_flight > 0.0 {
        // Who waits or runs needs somebody, however little it is.
        terms.push((1, "waiting"));
    }
    if let Some(per_instance) = per_instance {
        let (arrivals, winner) = estimate.arrivals();
        let (bare, all) =
            (instances_for(arrivals, per_instance), instances_for(estimate.rps(), per_instance));
        terms.push((all, if all > bare { "backlog" } else { winner }));
    } else if scaling.target_requests_per_second.is_some() && estimate.queued > 0.0 {
        // What an instance takes is not known yet, but these are not enough.
        terms.push((serving + 1, "backlog"));
    }
    if let Some(target) = scaling.target_in_flight {
        terms.push((instances_for(estimate.in_flight, target), "in_flight"));
    }
    if let (Some(target), Some(latency_s)) = (scaling.target_latency, estimate.latency_s) {
        let ratio = latency_s / target.as_secs_f64();
        let ratio = ratio.clamp(1.0 / LATENCY_MOST, LATENCY_MOST);
        terms.push((instances_for(f64::from(serving) * ratio, 1.0), "latency"));
    }
    terms
}

impl Want {
    /// An operator's size takes the place of what the demand asks for, within the same bounds.
    pub(super) fn set_by_hand(&mut self, size: u32, scaling: &Scaling) {
        self.size = size;
        self.clamps.clear();
        let bounded = size.max(scaling.min).min(self.max);
        if bounded != size {
            self.clamp(if bounded > size { "min" } else { "max" }, bounded);
        }
        (self.roomy, self.exact, self.winner) = (self.size, self.size, "operator");
    }

    /// In whole instances of so many units each: up, but not beyond the maximum.
    pub(super) fn in_whole(mut self, units: u32) -> Self {
        let up = |size: u32| size.div_ceil(units).saturating_mul(units);
        self.unit = units;
        self.max = (self.max / units).max(1) * units;
        self.size = up(self.size).min(self.max);
        self.roomy = up(self.roomy).min(self.max);
        self
    }

    fn clamp(&mut self, name: &str, to: u32) {
        self.clamps.push(format!("{name} {}→{to}", self.size));
        self.size = to;
    }
}

/// The least number of instances that carry `rps`.
fn instances_for(rps: f64, per_instance: f64) -> u32 {
    // A hair less, so that exactly n times the target is n instances whatever the rounding.
    (rps / per_instance - 1e-9).ceil().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::RateTarget;

    fn scaling(min: u32, max: u32) -> Scaling {
        Scaling::new(min, max, 70.0)
    }

    fn rate(rps: f64) -> Estimate {
        Estimate { rate_30s: rps, growth: 1.0, ..Estimate::default() }
    }

    #[test]
    fn wants_by_term_and_bound() {
        let step = |rps| Estimate { step: Some(rps), ..rate(210.0) };
        let queued = Estimate { backlog: 140.0, queued: 1_400.0, ..rate(210.0) };
        let grows = Estimate { growth: 1.3, ..rate(210.0) };
        let season = Estimate { season: Some(420.0), season_counts: true, ..rate(210.0) };
        let untrusted = Estimate { season_counts: false, ..season };
        let one_waits = Estimate { in_flight: 1.0, ..rate(0.0) };
        for (name, estimate, quota, min, size, winner, clamps) in [
            ("exactly three", rate(210.0), None, 2, 3, "rate", ""),
            ("a little more", rate(210.1), None, 2, 4, "rate", ""),
            ("growth", grows, None, 2, 4, "growth", ""),
            ("a season", season, None, 2, 6, "season", ""),
            ("one that nobody trusts", untrusted, None, 2, 3, "rate", ""),
            ("a step", step(840.0), None, 2, 12, "step", ""),
            ("a step beyond", step(841.0), None, 2, 12, "max", "max 13→12"),
            ("a queue", queued, None, 2, 5, "backlog", ""),
            ("nothing", rate(0.0), None, 2, 2, "min", "min 0→2"),
            ("nothing at all", rate(0.0), None, 0, 0, "rate", ""),
            ("one that waits", one_waits, None, 0, 1, "waiting", ""),
            ("too much", rate(7_000.0), None, 2, 12, "max", "max 100→12"),
            ("a quota", rate(490.0), Some(5), 2, 5, "max", "quota 7→5"),
        ] {
            let want = want(&estimate, Known::default(), &scaling(min, 12), &[("quota", quota)]);
            assert_eq!(
                (want.size, want.winner, want.clamps.join(" ").as_str()),
                (size, winner, clamps),
                "{name}"
            );
        }
    }

    #[test]
    fn other_targets_and_what_is_learnt() {
        let busy = Estimate { in_flight: 95.0, latency_s: Some(0.3), ..rate(1_000.0) };
        let plain = scaling(1, 50);
        let none = Scaling { target_requests_per_second: None, ..plain.clone() };
        let in_flight = Scaling { target_in_flight: Some(10.0), ..none.clone() };
        let latency = Scaling { target_latency: Some(Duration::from_millis(200)), ..none.clone() };
        let learn = Scaling { target_requests_per_second: Some(RateTarget::Learn), ..none };
        let both = Scaling { target_in_flight: Some(10.0), ..plain };
        for (name, scaling, serving, capacity, size, winner) in [
            ("in flight", &in_flight, 4, None, 10, "in_flight"),
            ("latency", &latency, 8, None, 12, "latency"),
            ("the largest wins", &both, 4, None, 15, "rate"),
            ("82 % of what was learnt", &learn, 4, Some(100.0), 13, "rate"),
            ("nothing is known", &learn, 4, None, 4, "unknown"),
        ] {
            let busy = Estimate { in_flight: busy.in_flight, ..busy };
            let want = want(&busy, Known { serving, capacity, by_rules: None }, scaling, &[]);
            if name == "nothing is known" {
                assert_eq!((want.size, want.winner), (1, "waiting"), "{name}");
            } else {
                assert_eq!((want.size, want.winner), (size, winner), "{name}");
            }
        }
    }

    proptest! {
        #[test]
        fn more_demand_never_wants_fewer(
            rps in 0.0f64..100_000.0,
            more in 0.0f64..100_000.0,
            backlog in 0.0f64..1_000.0,
            per_instance in 0.5f64..5_000.0,
            min in 0u32..20,
            span in 1u32..200,
            quota in proptest::option::of(0u32..300),
        ) {
            let scaling = Scaling::new(min, min + span, per_instance);
            let of = |rps| {
                let estimate = Estimate { backlog, ..rate(rps) };
                want(&estimate, Known::default(), &scaling, &[("quota", quota)])
            };
            let (less, more) = (of(rps), of(rps + more));
            prop_assert!(less.size <= more.size);
            prop_assert!(more.size <= more.max && more.max <= min + span);
        }
    }
}
