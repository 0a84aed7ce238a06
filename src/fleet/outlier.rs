//! What stands out in how instances answer real traffic, and what follows. Pure: counts in, faults out.
//!
//! - Failures in a row speak against an instance at once, unless most of its peers fail as well: then it
//!   is not the instance.
//! - Once in an interval those with enough traffic are compared: by the share of good answers, and by
//!   the time that answers take. A difference must be more than chance explains.
//! - Each ejection is longer than the one before, whatever it is for; each time served without a fault
//!   forgives one.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Ms;
use crate::base::unit::print_duration;
use crate::model::{Outlier, Vitals};

/// A share of good answers must be lower by this much at least: fewer failures are no reason to do
/// without a whole instance.
const WORTH_IT: f64 = 0.05;
/// And by so many standard errors of a share that so many requests show: instances that are all alike
/// differ by four about once in 30,000 comparisons.
const CHANCE: f64 = 4.0;
/// Whoever answers faster than this is not ejected for being slow, however fast the others are.
const SLOW: Duration = Duration::from_millis(100);

/// What speaks against an instance.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Fault {
    /// So many answers in a row were 5xx, or there was none.
    Failures(u32),
    /// So many in a row were 502, 503 or 504, or there was none.
    GatewayFailures(u32),
    /// It answers well less often than its peers.
    SuccessRate {
        /// Its share of good answers.
        rate: f64,
        /// The mean of all.
        mean: f64,
        /// How many answers that was seen in.
        requests: u64,
    },
    /// It takes longer than its peers.
    Latency {
        /// Its mean time to the head of a response, in milliseconds.
        mean_ms: f64,
        /// The median of the others' means.
        median_ms: f64,
        /// How many answers that was seen in.
        requests: u64,
    },
}

impl Fault {
    /// The word for labels.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Failures(_) => "failures",
            Self::GatewayFailures(_) => "gateway_failures",
            Self::SuccessRate { .. } => "success_rate",
            Self::Latency { .. } => "latency",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(count) => write!(f, "{count} requests in a row got a 5xx or no answer"),
            Self::GatewayFailures(count) => {
                write!(f, "{count} requests in a row got 502, 503, 504 or no answer")
            }
            Self::SuccessRate { rate, mean, requests } => write!(
                f,
                "{:.1} % of its last {requests} answers were good, those of the pool {:.1} %",
                rate * 100.0,
                mean * 100.0
            ),
            Self::Latency { mean_ms, median_ms, requests } => write!(
                f,
                "its last {requests} answers took {mean_ms:.0} ms in the mean, those of the others \
                 {median_ms:.0} ms"
            ),
        }
    }
}

/// Failures in a row of one instance, up to now.
#[derive(Clone, Copy, Debug)]
pub(super) struct InARow {
    pub failures: u32,
    pub gateway_failures: u32,
}

impl InARow {
    pub fn of(vitals: &Vitals) -> Self {
        Self {
            failures: vitals.failures_in_a_row(),
            gateway_failures: vitals.gateway_failures_in_a_row(),
        }
    }

    /// Whether it is half way to a threshold: a peer of one that has reached it.
    fn is_half_way(self, settings: &Outlier) -> bool {
        let half =
            |limit: Option<u32>, count: u32| limit.is_some_and(|limit| count >= limit.div_ceil(2));
        half(settings.failures, self.failures)
            || half(settings.gateway_failures, self.gateway_failures)
    }

    /// What it shows.
    pub fn fault(self, settings: &Outlier) -> Option<Fault> {
        let reached = |limit: Option<u32>, count: u32| limit.is_some_and(|limit| count >= limit);
        if reached(settings.failures, self.failures) {
            Some(Fault::Failures(self.failures))
        } else if reached(settings.gateway_failures, self.gateway_failures) {
            Some(Fault::GatewayFailures(self.gateway_failures))
        } else {
            None
        }
    }
}

/// Whether most of them fail too, as far as those are concerned that take traffic: what all share is the
/// fault of none.
pub(super) fn is_shared(settings: &Outlier, peers: impl Iterator<Item = InARow>) -> bool {
    let (mut failing, mut all) = (0u32, 0u32);
    for peer in peers {
        all += 1;
        failing += u32::from(peer.is_half_way(settings));
    }
    failing * 2 > all
}

/// What an instance answered; over its life, or in an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Tally {
    /// All that it was asked.
    pub requests: u64,
    /// Of these, what it answered with 5xx or not at all.
    pub failures: u64,
    /// The time to the heads of its responses, summed up.
    pub latency_us: u64,
    /// The responses among the requests.
    pub responses: u64,
}

impl Tally {
    /// Over its life.
    pub fn of(vitals: &Vitals) -> Self {
        let [unanswered, others @ .., server_errors] = vitals.responses();
        let responses = others.iter().sum::<u64>() + server_errors;
        Self {
            requests: responses + unanswered,
            failures: server_errors + unanswered,
            latency_us: vitals.latency_us(),
            responses,
        }
    }

    /// What came after `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.wrapping_sub(before.requests),
            failures: self.failures.wrapping_sub(before.failures),
            latency_us: self.latency_us.wrapping_sub(before.latency_us),
            responses: self.responses.wrapping_sub(before.responses),
        }
    }

    /// Whether more failed than did not.
    pub fn is_mostly_failed(&self) -> bool {
        self.failures * 2 > self.requests
    }

    fn success_rate(&self) -> f64 {
        1.0 - self.failures as f64 / self.requests as f64
    }

    /// The mean time to the head of a response, in milliseconds; not a number without one.
    pub fn mean_ms(&self) -> f64 {
        self.latency_us as f64 / 1_000.0 / self.responses as f64
    }
}

/// Those who stand out among `tallies` of one interval, with their index, the worst first. Slow ones only
/// where `may_be_slow` says so of the index.
pub(super) fn compare(
    settings: &Outlier,
    tallies: &[Tally],
    may_be_slow: impl Fn(usize) -> bool,
) -> Vec<(usize, Fault)> {
    let enough = u64::from(settings.min_requests.max(1));
    let mut found = by_success_rate(settings, tallies, enough);
    for (index, fault) in by_latency(settings, tallies, enough) {
        if may_be_slow(index) && !found.iter().any(|(other, _)| *other == index) {
            found.push((index, fault));
        }
    }
    found
}

fn by_success_rate(settings: &Outlier, tallies: &[Tally], enough: u64) -> Vec<(usize, Fault)> {
    let Some(deviations) = settings.success_rate else { return Vec::new() };
    let seen = |tally: &Tally| tally.requests >= enough;
    let rates: Vec<f64> = tallies.iter().filter(|t| seen(t)).map(Tally::success_rate).collect();
    if rates.len() < settings.min_instances.max(2) as usize {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let deviation = (rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count).sqrt();
    let stands_out = |(index, tally): (usize, &Tally)| {
        let (rate, requests) = (tally.success_rate(), tally.requests);
        // One failure more or less: a share that is near all or nothing has too small an error else.
        let error = ((mean * (1.0 - mean) + 1.0 / requests as f64) / requests as f64).sqrt();
        let margin = (deviations * deviation).max(WORTH_IT).max(CHANCE * error);
        (rate < mean - margin).then_some((index, Fault::SuccessRate { rate, mean, requests }))
    };
    let all = tallies.iter().enumerate().filter(|(_, tally)| seen(tally));
    let mut found: Vec<_> = all.filter_map(stands_out).collect();
    found.sort_by(|(a, _), (b, _)| {
        tallies[*a].success_rate().total_cmp(&tallies[*b].success_rate())
    });
    found
}

fn by_latency(settings: &Outlier, tallies: &[Tally], enough: u64) -> Vec<(usize, Fault)> {
    let Some(times) = settings.latency else { return Vec::new() };
    let all = tallies.iter().enumerate().filter(|(_, tally)| tally.responses >= enough);
    let mut means: Vec<(usize, f64)> = all.map(|(index, tally)| (index, tally.mean_ms())).collect();
    if means.len() < settings.min_instances.max(2) as usize {
        return Vec::new();
    }
    // The slowest first. The median of the others of one in the upper half is the same for each.
    means.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let mut others: Vec<f64> = means[1..].iter().map(|(_, mean_ms)| *mean_ms).collect();
    let Some(median_ms) = median(&mut others) else { return Vec::new() };
    let is_slow =
        |mean_ms: f64| mean_ms > times * median_ms && mean_ms > SLOW.as_secs_f64() * 1_000.0;
    let slow = means.iter().take_while(|(_, mean_ms)| is_slow(*mean_ms)).take(means.len() / 2);
    slow.map(|(index, mean_ms)| {
        let requests = tallies[*index].responses;
        (*index, Fault::Latency { mean_ms: *mean_ms, median_ms, requests })
    })
    .collect()
}

/// The median; `None` of nothing.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some((values[last / 2] + values[last.div_ceil(2)]) / 2.0)
}

/// What an instance has done of late, and what for it is out.
#[derive(Clone, Debug, Default)]
pub(super) struct Conduct {
    /// What it had answered when instances were last compared.
    pub seen: Tally,
    /// Ejections that are not forgiven yet.
    strikes: u32,
    /// Since when it has been without a fault.
    since: Ms,
    ejected: Option<Ejection>,
}

#[derive(Clone, Debug)]
struct Ejection {
    until: Ms,
    why: Arc<str>,
}

impl Conduct {
    /// Until when it is out.
    pub fn ejected_until(&self) -> Option<Ms> {
        self.ejected.as_ref().map(|ejection| ejection.until)
    }

    /// For how long it is out and what for, in words for an operator.
    pub fn why_ejected(&self) -> Option<Arc<str>> {
        self.ejected.as_ref().map(|ejection| Arc::clone(&ejection.why))
    }

    /// Out it goes: each time for longer.
    pub fn eject(&mut self, now: Ms, settings: &Outlier, fault: &Fault) {
        let longest = settings.max_ejection.max(settings.ejection);
        // More strikes than make it the longest would only have to be forgiven again.
        let enough = longest.as_secs_f64() / settings.ejection.as_secs_f64();
        self.strikes = (self.strikes + 1).min(enough.ceil() as u32);
        let length = (settings.ejection * self.strikes).min(longest);
        let why = format!("ejected for {}: {fault}", print_duration(length));
        self.ejected = Some(Ejection { until: now + length, why: why.into() });
    }

    /// It is no longer out, for whatever reason.
    pub fn return_at(&mut self, now: Ms, vitals: &Vitals) {
        self.ejected = None;
        self.since = now;
        self.seen = Tally::of(vitals);
        // What it did before has been paid for.
        vitals.forget_failures();
    }

    /// Forgives a strike for each time of the first ejection that it has served without a fault.
    pub fn forgive(&mut self, now: Ms, settings: &Outlier) {
        if self.strikes > 0 && now.since(self.since) >= settings.ejection {
            self.strikes -= 1;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests;
