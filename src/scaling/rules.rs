//! Scaling by rules, as Azure does it, for those who come from there.
//!
//! Rules that scale out go first: any of them that fires is enough, and the largest size wins. Rules that
//! scale in must all fire, and the largest size wins again. A pool is not made so small that a rule would
//! make it larger again: what each metric would be with fewer instances is estimated, a smaller step is
//! tried, and if there is none the size stays.
//!
//! After a change nothing changes for the cooldown of its rule. In one point this is better than what it
//! follows: the cooldown of a scale-in never holds up a scale-out.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::base::Ms;
use crate::base::unit::print_duration;
use crate::model::rule::{Direction, Metric, Rule, Statistic};

/// A window is kept in so many parts at most, so its memory does not grow with its length.
const PARTS: u32 = 60;

/// One second of a pool.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Sample {
    /// Requests that arrived, per second.
    pub requests: f64,
    /// Requests in flight.
    pub in_flight: f64,
    /// Mean time to an answer, if anything was answered.
    pub latency_s: Option<f64>,
    /// Requests that wait.
    pub queued: f64,
    /// Instances that serve.
    pub serving: u32,
}

impl Sample {
    /// What it has of `metric`. What nobody serves counts as if one did.
    fn of(&self, metric: Metric) -> Option<f64> {
        let serving = f64::from(self.serving.max(1));
        match metric {
            Metric::RequestsPerInstance => Some(self.requests / serving),
            Metric::InFlightPerInstance => Some(self.in_flight / serving),
            Metric::Latency => self.latency_s,
            Metric::Queue => Some(self.queued),
        }
    }
}

/// What rules say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The size that there should be; the same as before, if a rule fires and may not.
    pub to: u32,
    /// Why, in words for an operator.
    pub reason: String,
}

/// The rules of one pool, with what they remember.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<(Rule, Window)>,
    /// Until when nothing changes after a scale-out.
    out_until: Ms,
    /// Until when nothing shrinks after a scale-in.
    in_until: Ms,
}

/// What a rule sees: itself, and the value of its window if that is full.
type Seen<'r> = (&'r Rule, Option<f64>);

impl Rules {
    /// Takes over `rules`, if they are others than before. Those that stay keep what they have seen.
    pub fn follow(&mut self, rules: &[Rule]) {
        if self.rules.iter().map(|(rule, _)| rule).eq(rules) {
            return;
        }
        let mut before = std::mem::take(&mut self.rules);
        let known = |rule: &Rule| {
            let index = before.iter().position(|(other, _)| other == rule)?;
            Some(before.swap_remove(index).1)
        };
        let windows: Vec<Option<Window>> = rules.iter().map(known).collect();
        let pairs = rules.iter().cloned().zip(windows);
        self.rules = pairs.map(|(rule, window)| (rule, window.unwrap_or_default())).collect();
    }

    /// What follows from one more second, for a pool of `size` that must stay within `bounds`. A change
    /// that it says is taken for done. `None` if no rule asks for anything.
    pub fn decide(
        &mut self,
        now: Ms,
        sample: &Sample,
        size: u32,
        bounds: &RangeInclusive<u32>,
    ) -> Option<Outcome> {
        for (rule, window) in &mut self.rules {
            window.take(now, rule.window, sample.of(rule.metric));
        }
        let seen = |direction: Direction| -> Vec<Seen<'_>> {
            let rules = self.rules.iter().filter(|(rule, _)| rule.direction() == direction);
            rules.map(|(rule, window)| (rule, window.value(now, rule))).collect()
        };
        let (outward, inward) = (seen(Direction::Out), seen(Direction::In));
        let (outcome, cooldown) = match self.scale_out(now, &outward, size, bounds) {
            Some(outcome) => outcome,
            None => self.scale_in(now, &inward, &outward, size, bounds)?,
        };
        if outcome.to > size {
            self.out_until = now + cooldown;
        } else if outcome.to < size {
            self.in_until = now + cooldown;
        }
        Some(outcome)
    }

    /// What the rules that scale out ask for, and the cooldown after it.
    fn scale_out(
        &self,
        now: Ms,
        outward: &[Seen<'_>],
        size: u32,
        bounds: &RangeInclusive<u32>,
    ) -> Option<(Outcome, Duration)> {
        let firing =
            outward.iter().filter_map(|(rule, value)| Some((*rule, firing(rule, *value)?)));
        let wishes = firing.map(|(rule, value)| (rule.apply(size), rule, value));
        // Of equals the first.
        let (wish, rule, value) = wishes.rev().max_by_key(|(wish, ..)| *wish)?;
        if wish <= size {
            return None;
        }
        let why = format!("{rule}, and it is {}", in_words(rule, value));
        if now < self.out_until {
            let left = seconds(self.out_until.since(now));
            return Some((
                stay(size, format!("no change for {left}: cooldown; {why}")),
                Duration::ZERO,
            ));
        }
        let most = *bounds.end();
        if size >= most {
            return Some((stay(size, format!("{most} is the maximum; {why}")), Duration::ZERO));
        }
        Some((Outcome { to: wish.min(most), reason: why }, rule.cooldown))
    }

    /// What the rules that scale in agree on, and the cooldown after it.
    fn scale_in(
        &self,
        now: Ms,
        inward: &[Seen<'_>],
        outward: &[Seen<'_>],
        size: u32,
        bounds: &RangeInclusive<u32>,
    ) -> Option<(Outcome, Duration)> {
        let firing: Option<Vec<(&Rule, f64)>> =
            inward.iter().map(|(rule, value)| Some((*rule, firing(rule, *value)?))).collect();
        let firing = firing?;
        let wishes = firing.iter().map(|(rule, value)| (rule.apply(size), *rule, *value));
        let (wish, rule, value) = wishes.rev().max_by_key(|(wish, ..)| *wish)?;
        let wish = wish.max(*bounds.start());
        if wish >= size {
            return None;
        }
        let why = format!("{rule}, and it is {}", in_words(rule, value));
        let until = self.out_until.max(self.in_until);
        if now < until {
            let left = seconds(until.since(now));
            return Some((
                stay(size, format!("no change for {left}: cooldown; {why}")),
                Duration::ZERO,
            ));
        }
        let mut flaps = None;
        for to in wish..size {
            match outward.iter().find_map(|seen| estimate(seen, size, to)) {
                None => return Some((Outcome { to, reason: why }, rule.cooldown)),
                Some(fires) => flaps = Some((to, fires)),
            }
        }
        let (to, (other, estimate)) = flaps?;
        let reason = format!(
            "nothing goes: with {to} it would be {}, and {other} scales out; {why}",
            in_words(other, estimate)
        );
        Some((stay(size, reason), Duration::ZERO))
    }
}

/// The value, if it makes the rule fire.
fn firing(rule: &Rule, value: Option<f64>) -> Option<f64> {
    value.filter(|value| rule.fires(*value))
}

/// The rule and its value with `to` instead of `from` instances, if it would make them more.
fn estimate<'r>((rule, value): &Seen<'r>, from: u32, to: u32) -> Option<(&'r Rule, f64)> {
    let value = (*value)?;
    // The same load on nobody is endless, unless there is none.
    let grown = if value == 0.0 { 0.0 } else { value * f64::from(from) / f64::from(to) };
    (rule.fires(grown) && rule.apply(to) > to).then_some((*rule, grown))
}

fn stay(size: u32, reason: String) -> Outcome {
    Outcome { to: size, reason }
}

fn in_words(rule: &Rule, value: f64) -> String {
    match rule.metric {
        Metric::Latency => format!("{:.0} ms", value * 1e3),
        _ => format!("{value:.1}"),
    }
}

/// Whole seconds, rounded up.
fn seconds(left: Duration) -> String {
    print_duration(Duration::from_secs(left.as_millis().div_ceil(1_000) as u64))
}

/// What a rule remembers: its window in parts.
#[derive(Clone, Debug, Default)]
struct Window {
    /// Since when it has been filled.
    since: Option<Ms>,
    parts: VecDeque<Part>,
}

/// The values of one part of a window.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: Ms,
    sum: f64,
    count: u32,
    min: f64,
    max: f64,
    last: f64,
}

impl Window {
    /// Takes the value of one second, and lets go what is older than `length`.
    fn take(&mut self, now: Ms, length: Duration, value: Option<f64>) {
        let part = (length / PARTS).max(Duration::from_secs(1));
        while self.parts.front().is_some_and(|first| first.start + part + length <= now) {
            self.parts.pop_front();
        }
        self.since.get_or_insert(now);
        let Some(value) = value else { return };
        match self.parts.back_mut() {
            Some(last) if now.since(last.start) < part => {
                last.sum += value;
                last.count += 1;
                last.min = last.min.min(value);
                last.max = last.max.max(value);
                last.last = value;
            }
            _ => {
                let (start, count) = (now, 1);
                self.parts.push_back(Part {
                    start,
                    sum: value,
                    count,
                    min: value,
                    max: value,
                    last: value,
                });
            }
        }
    }

    /// What the values come to; nothing before the window is full for the first time, and nothing
    /// without a value in it.
    fn value(&self, now: Ms, rule: &Rule) -> Option<f64> {
        if now.since(self.since?) < rule.window {
            return None;
        }
        let parts = self.parts.iter();
        let last = self.parts.back()?.last;
        let sum = || parts.clone().map(|part| part.sum).sum::<f64>();
        Some(match rule.statistic {
            Statistic::Average => {
                sum() / parts.clone().map(|part| f64::from(part.count)).sum::<f64>()
            }
            Statistic::Min => parts.map(|part| part.min).fold(f64::INFINITY, f64::min),
            Statistic::Max => parts.map(|part| part.max).fold(f64::NEG_INFINITY, f64::max),
            Statistic::Sum => sum(),
            Statistic::Last => last,
        })
    }
}

#[cfg(test)]
mod tests;
