//! How many instances there should be, and how fast their number may fall.
//!
//! Up at once, down with care. The pool keeps the largest size of the last `hold`; each size that
//! is kept has a little room (the dead band), so that noise around a whole number of instances
//! settles on the larger one. After the start of the daemon, which has seen nothing yet, nothing
//! shrinks for one `hold`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Ms;
use crate::model::Scaling;
use crate::scaling::demand::Estimate;
use crate::scaling::plan::Refusal;
use crate::scaling::roster::Count;

/// An operator states what an instance carries in steady state, which is this share of what it takes at
/// most: beyond, waiting times rise steeply (M/M/c).
pub const STEADY: f64 = 0.82;
/// A smaller size is taken only if it carries this much of the demand…
const ROOM: f64 = 1.03;
/// …and is smaller by this share…
const DEAD_BAND: f64 = 0.05;
/// …and by this many.
const DEAD_BAND_LEAST: f64 = 0.5;
/// The removals of this long are bounded together.
const RATE_PERIOD: Duration = Duration::from_secs(60);
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

/// The memory of sizes.
#[derive(Clone, Debug, Default)]
pub(super) struct Size {
    /// When the pool was first seen, and the size that it should have now.
    state: Option<(Ms, u32)>,
    /// What the size was last raised for, until it is reached.
    raised_for: Option<&'static str>,
    /// Sizes that were wanted, each larger than those after it: the first is the maximum.
    wanted: VecDeque<(Ms, u32)>,
    /// What was removed in the last minute: when, how many, and of how many.
    removed: VecDeque<(Ms, u32, u32)>,
}

/// What is to become of the size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// How many should serve.
    pub(super) desired: u32,
    /// How many that serve are to leave.
    pub(super) remove: u32,
    /// Why those that are missing are brought: the term that raised the size, or `replace`.
    pub(super) cause: &'static str,
    /// What keeps the pool from shrinking.
    pub(super) refusal: Option<Refusal>,
}

impl Size {
    /// One second: what is wanted, who is there, and whether an outage makes both doubtful.
    pub(super) fn settle(
        &mut self,
        now: Ms,
        want: &Want,
        scaling: &Scaling,
        count: &Count,
        outage: bool,
    ) -> Verdict {
        let (since, before) = *self.state.get_or_insert((now, count.size()));
        let hold = match want.winner {
            // What was wanted before does not matter any more.
            "operator" => Duration::ZERO,
            _ => scaling.scale_in.hold,
        };
        let floor = self.floor(now, want, hold);
        let carrying = count.carrying();
        let mut desired = before.min(want.max);
        if want.size > desired {
            desired = want.size;
            self.raised_for = Some(want.winner);
        } else if carrying >= desired {
            self.raised_for = None;
        }
        // What is there beyond the size leaves in any case; the size falls only by more than a little.
        let less = desired - floor.min(desired);
        let slight = f64::from(desired) * DEAD_BAND + DEAD_BAND_LEAST;
        let is_slight = f64::from(less) <= slight && want.size > 0;
        let kept = if is_slight { desired } else { desired - less };
        let wish = carrying.saturating_sub(kept).min(count.removable);
        let blocked = self.blocked(now, since, hold, count, outage);
        if !matches!(blocked, Some(Refusal { kind: "start" | "outage", .. })) {
            // What died and is not needed any more is not replaced.
            desired = desired.min(carrying.max(floor));
        }
        let (remove, refusal) = match blocked {
            Some(blocked) => (0, (wish > 0).then_some(blocked)),
            None => {
                let rate = scaling.scale_in.rate.0;
                self.bounded_by_rate(now, wish, carrying, (rate, want.unit))
            }
        };
        if remove > 0 {
            desired = desired.min(carrying - remove);
            self.removed.push_back((now, remove, carrying));
        }
        self.state = Some((since, desired));
        let held = want.roomy < floor && floor == desired && carrying >= desired;
        let refusal = refusal.or_else(|| {
            let (seconds, size) = (hold.as_secs(), want.roomy);
            held.then(|| Refusal {
                kind: "hold",
                reason: format!("{size} would do, {floor} were wanted in the last {seconds} s"),
            })
        });
        Verdict { desired, remove, cause: self.raised_for.unwrap_or("replace"), refusal }
    }

    /// Why nothing may shrink at all.
    fn blocked(
        &self,
        now: Ms,
        since: Ms,
        hold: Duration,
        count: &Count,
        outage: bool,
    ) -> Option<Refusal> {
        let (kind, reason) = if now.since(since) < hold {
            let left = (hold - now.since(since)).as_secs();
            ("start", format!("nothing shrinks for {left} s: the daemon has just started"))
        } else if outage {
            ("outage", "nothing shrinks while so many are down".into())
        } else if count.pending + count.stranded > 0 {
            ("pending", "nothing shrinks before what was ordered serves".into())
        } else {
            return None;
        };
        Some(Refusal { kind, reason })
    }

    /// The largest size that was wanted in the last `hold`, now included.
    fn floor(&mut self, now: Ms, want: &Want, hold: Duration) -> u32 {
        while self.wanted.back().is_some_and(|(_, size)| *size <= want.roomy) {
            self.wanted.pop_back();
        }
        self.wanted.push_back((now, want.roomy));
        while self.wanted.front().is_some_and(|(at, _)| now.since(*at) > hold) {
            self.wanted.pop_front();
        }
        self.wanted.front().map_or(want.roomy, |(_, size)| (*size).min(want.max))
    }

    /// How much of `wish` may go now: such a share of the size at the start of the last minute, in
    /// whole instances of `unit`.
    fn bounded_by_rate(
        &mut self,
        now: Ms,
        wish: u32,
        carrying: u32,
        (rate, unit): (f64, u32),
    ) -> (u32, Option<Refusal>) {
        let wish = wish / unit * unit;
        while self.removed.front().is_some_and(|(at, ..)| now.since(*at) >= RATE_PERIOD) {
            self.removed.pop_front();
        }
        let size = self.removed.front().map_or(carrying, |(_, _, of)| *of);
        let bound = ((rate * f64::from(size) / f64::from(unit) - 1e-9).ceil() as u32).max(1) * unit;
        let gone: u32 = self.removed.iter().map(|(_, count, _)| count).sum();
        let remove = wish.min(bound.saturating_sub(gone));
        let refusal = (remove < wish).then(|| Refusal {
            kind: "scale-in rate",
            reason: format!("{wish} could go, but no more than {bound} a minute"),
        });
        (remove, refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RateTarget;
    use proptest::prelude::*;

    fn scaling(min: u32, max: u32) -> Scaling {
        Scaling::new(min, max, 70.0)
    }

    fn rate(rps: f64) -> Estimate {
        Estimate { rate_30s: rps, growth: 1.0, ..Estimate::default() }
    }

    /// The size that is wanted, by the stated rate alone.
    fn want(estimate: &Estimate, scaling: &Scaling) -> Want {
        super::want(estimate, Known::default(), scaling, &[])
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
            let want =
                super::want(&estimate, Known::default(), &scaling(min, 12), &[("quota", quota)]);
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
            let want =
                super::want(&busy, Known { serving, capacity, by_rules: None }, scaling, &[]);
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
                super::want(&estimate, Known::default(), &scaling, &[("quota", quota)])
            };
            let (less, more) = (of(rps), of(rps + more));
            prop_assert!(less.size <= more.size);
            prop_assert!(more.size <= more.max && more.max <= min + span);
        }
    }

    fn healthy(healthy: u32) -> Count {
        Count { healthy, removable: healthy, ..Count::default() }
    }

    /// Runs `seconds` at `rps` with everything that is wanted at once there; returns each second's
    /// size.
    fn run(size: &mut Size, from: u64, seconds: u64, rps: f64, mut there: u32) -> Vec<u32> {
        let scaling = scaling(3, 40);
        let want = want(&rate(rps), &scaling);
        (from..from + seconds)
            .map(|second| {
                let verdict =
                    size.settle(Ms(second * 1000), &want, &scaling, &healthy(there), false);
                there = (there - verdict.remove).max(verdict.desired);
                there
            })
            .collect()
    }

    #[test]
    fn up_at_once_down_after_the_hold_at_the_rate() {
        let mut size = Size::default();
        assert_eq!(run(&mut size, 0, 1, 190.0, 3), [3]);
        let high = run(&mut size, 1, 10, 1_960.0, 3);
        assert_eq!(high, [28; 10], "at once");
        let held = run(&mut size, 11, 300, 190.0, 28);
        assert_eq!(held, [28; 300], "five minutes");
        let falling = run(&mut size, 311, 120, 190.0, 28);
        assert_eq!(falling[0], 25, "a tenth of 28");
        assert_eq!(falling[59], 25, "for a minute");
        assert_eq!(falling[60], 22, "a tenth of 25");
        let low = run(&mut size, 431, 3_600, 190.0, 22);
        assert_eq!(low.last(), Some(&3));
    }

    #[test]
    fn nothing_shrinks_after_the_start_or_while_something_boots() {
        let scaling = scaling(3, 40);
        let low = want(&rate(100.0), &scaling);
        let mut size = Size::default();
        let start = size.settle(Ms(0), &low, &scaling, &healthy(9), false);
        assert_eq!((start.desired, start.remove), (9, 0));
        let late = Ms(299_000);
        assert_eq!(size.settle(late, &low, &scaling, &healthy(9), false).remove, 0);
        let booting = Count { pending: 1, ..healthy(9) };
        let held = size.settle(Ms(301_000), &low, &scaling, &booting, false);
        assert_eq!((held.remove, held.refusal.map(|r| r.kind)), (0, Some("pending")));
        assert_eq!(size.settle(Ms(302_000), &low, &scaling, &healthy(9), true).remove, 0);
        assert_eq!(size.settle(Ms(303_000), &low, &scaling, &healthy(9), false).remove, 1);
    }

    #[test]
    fn the_dead_band_keeps_what_noise_would_take_back() {
        let scaling = scaling(1, 40);
        let mut size = Size::default();
        for second in 0..3_600u64 {
            // Around the border of 6 and 7 instances, at most 1 % off.
            let rps = if second % 7 == 0 { 424.0 } else { 417.0 };
            let want = want(&rate(rps), &scaling);
            let there = if second == 0 { 6 } else { 7 };
            let verdict = size.settle(Ms(second * 1000), &want, &scaling, &healthy(there), false);
            assert_eq!((verdict.desired, verdict.remove), (7, 0), "second {second}");
        }
    }

    #[test]
    fn the_dead_are_replaced_only_if_they_are_still_wanted() {
        let scaling = scaling(3, 40);
        let mut size = Size::default();
        run(&mut size, 0, 400, 600.0, 9);
        let wanted = want(&rate(600.0), &scaling);
        let verdict = size.settle(Ms(400_000), &wanted, &scaling, &healthy(8), false);
        assert_eq!((verdict.desired, verdict.cause), (9, "replace"));
        run(&mut size, 401, 300, 100.0, 9);
        let low = want(&rate(100.0), &scaling);
        let verdict = size.settle(Ms(701_000), &low, &scaling, &healthy(7), false);
        assert_eq!((verdict.desired, verdict.remove), (6, 1), "seven, less one a minute");
    }

    #[test]
    fn a_lowered_maximum_shrinks_at_the_rate_without_a_hold() {
        let mut size = Size::default();
        run(&mut size, 0, 400, 1_300.0, 20);
        let lowered = scaling(3, 10);
        let want = want(&rate(1_300.0), &lowered);
        let verdict = size.settle(Ms(400_000), &want, &lowered, &healthy(20), false);
        assert_eq!((verdict.desired, verdict.remove), (10, 2));
    }

    #[test]
    fn no_more_leave_than_may() {
        let mut size = Size::default();
        run(&mut size, 0, 400, 2_000.0, 40);
        let lowered = scaling(3, 10);
        let want = want(&rate(100.0), &lowered);
        let protected = Count { removable: 2, ..healthy(40) };
        let verdict = size.settle(Ms(800_000), &want, &lowered, &protected, false);
        assert_eq!(
            verdict.remove, 2,
            "a tenth of forty were four, but two are left to choose from"
        );
    }
}
