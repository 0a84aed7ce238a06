//! What is to be done, and the records that explain it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, Ms};
use crate::model::Scaling;
use crate::provision::LaunchOrder;
use crate::scaling::demand::Estimate;
use crate::scaling::journal::Record;
use crate::scaling::roster::Count;
use crate::scaling::tally::Tally;
use crate::scaling::want::Want;

/// What is to be done now. It explains itself: each change, and each refusal that begins, has a
/// record, whose time, id and outcome are for the agent to fill in.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// To be asked of the provider.
    pub launches: Vec<LaunchOrder>,
    /// To take nothing new from now on.
    pub drains: Vec<InstanceId>,
    /// Draining, and wanted again.
    pub revives: Vec<InstanceId>,
    /// To be taken away: drained, dead, or never up.
    pub terminations: Vec<InstanceId>,
    /// How many instances should exist: those that should serve, and the broken ones whose
    /// replacements are under way.
    pub desired: u32,
    /// The demand that was seen.
    pub demand_rps: f64,
    /// Why.
    pub records: Vec<Record>,
    /// What the time since the last plan adds to the tally; only where nothing is ordered because
    /// the agent only recommends.
    pub tally: Option<Tally>,
}

/// Something that is not done, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// Told once for as long as refusals of this kind go on.
    pub(super) kind: &'static str,
    /// In words for an operator.
    pub(super) reason: String,
}

/// How long a refusal must be gone before it is told again.
const GONE_AFTER: Duration = Duration::from_secs(300);

/// Which refusals go on.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusals {
    last: BTreeMap<&'static str, Ms>,
}

impl Refusals {
    /// Notes that `kind` goes on; whether it has just begun.
    pub(super) fn begins(&mut self, now: Ms, kind: &'static str) -> bool {
        let last = self.last.insert(kind, now);
        last.is_none_or(|last| now.since(last) >= GONE_AFTER)
    }
}

/// Everything that a decision was made from.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The demand.
    pub(super) estimate: Estimate,
    /// What it asks for.
    pub(super) want: Want,
    /// Who is there.
    pub(super) count: Count,
    /// As configured.
    pub(super) scaling: Arc<Scaling>,
}

impl Facts {
    /// A record of `action` with all terms; `to` is the size after it.
    pub(super) fn record(
        &self,
        action: &'static str,
        winner: &'static str,
        to: u32,
        reason: String,
    ) -> Record {
        Record {
            id: 0,
            t: 0.0,
            from: self.count.size(),
            to,
            winner,
            terms: self.terms(),
            clamps: self.want.clamps.clone(),
            action,
            reason,
            outcome: String::new(),
        }
    }

    /// The demand and what it was made of, in words: `step to 840 rps, 70 rps per instance`.
    pub(super) fn demand_in_words(&self, winner: &str) -> String {
        let estimate = &self.estimate;
        let demand = match winner {
            "operator" => return format!("an operator set the size to {}", self.want.size),
            "zones" => format!("{:.0} rps, also without a zone", estimate.rps()),
            "min" => format!("the minimum is {}", self.scaling.min),
            "step" => {
                format!("step {:.0}→{:.0} rps", estimate.rate_30s, estimate.arrivals().0)
            }
            "growth" => format!(
                "{:.0} rps, which may grow by {:.0} % in {:.0} s",
                estimate.rate_30s,
                (estimate.growth - 1.0) * 100.0,
                estimate.lead_s
            ),
            "season" => format!(
                "{:.0} rps, and {:.0} at this time of day",
                estimate.rate_30s,
                estimate.arrivals().0
            ),
            "backlog" => {
                format!("{:.0} rps, and {:.0} queued", estimate.rate_30s, estimate.queued)
            }
            "in_flight" => format!("{:.0} in flight", estimate.in_flight),
            "latency" => {
                format!("{:.0} ms on average", estimate.latency_s.unwrap_or_default() * 1_000.0)
            }
            "waiting" => format!("{:.0} in flight or waiting", estimate.in_flight),
            _ => format!("{:.0} rps", estimate.rps()),
        };
        match self.want.per_instance {
            Some(rate) => format!("{demand}, {rate:.0} rps per instance"),
            None => demand,
        }
    }

    pub(super) fn terms(&self) -> BTreeMap<&'static str, f64> {
        let Self { estimate, want, count, scaling } = self;
        let number = |count: u32| f64::from(count);
        let known = [
            ("target", want.per_instance),
            ("step", estimate.step),
            ("season", estimate.season),
            ("latency", estimate.latency_s),
        ];
        let known = known.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let terms = [
            ("rate_30s", estimate.rate_30s),
            ("rate_8s", estimate.rate_8s),
            ("rate_2s", estimate.rate_2s),
            ("growth", estimate.growth),
            ("lead", estimate.lead_s),
            ("backlog", estimate.backlog),
            ("demand", estimate.rps()),
            ("queued", estimate.queued),
            ("in_flight", estimate.in_flight),
            ("wanted", number(want.size)),
            ("standby", number(want.standby)),
            ("size", number(count.size())),
            ("healthy", number(count.healthy)),
            ("pending", number(count.pending + count.stranded)),
            ("draining", number(count.draining)),
            ("unhealthy", number(count.unhealthy)),
            ("set_aside", number(count.aside)),
            ("min", number(scaling.min)),
            ("max", number(scaling.max)),
        ];
        terms.into_iter().chain(known).collect()
    }
}

/// The first few of `ids`, for a line that a person reads.
pub(super) fn names(ids: &[InstanceId]) -> String {
    let shown: Vec<&str> = ids.iter().take(8).map(InstanceId::as_str).collect();
    match ids.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_when_it_begins() {
        let mut refusals = Refusals::default();
        let told: Vec<u64> = (0..100).filter(|s| refusals.begins(Ms(s * 1000), "hold")).collect();
        assert_eq!(told, [0]);
        assert!(refusals.begins(Ms(100_000), "outage"));
        assert!(!refusals.begins(Ms(398_000), "hold"));
        assert!(refusals.begins(Ms(698_000), "hold"));
    }
}
