//! What is recommended instead of done, and what that adds up to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::Ms;
use crate::scaling::plan::{Facts, Plan};
use crate::scaling::roster::Count;
use crate::scaling::size::Verdict;

/// What following the recommendations would have cost and saved.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// How long it was counted.
    pub seconds: f64,
    /// What was recommended: one instance for one second is one.
    pub recommended_instance_seconds: f64,
    /// What existed.
    pub existing_instance_seconds: f64,
    /// How long fewer existed than were recommended.
    pub short_seconds: f64,
}

/// Longer pauses are not counted in full: nobody knows what was there meanwhile.
const STEP_MAX: Duration = Duration::from_secs(5);

impl Tally {
    /// What the time from `before` until `now` adds.
    pub(super) fn step(before: Option<Ms>, now: Ms, recommended: u32, existing: u32) -> Self {
        let seconds = before.map_or(0.0, |before| now.since(before).min(STEP_MAX).as_secs_f64());
        Self {
            seconds,
            recommended_instance_seconds: seconds * f64::from(recommended),
            existing_instance_seconds: seconds * f64::from(existing),
            short_seconds: if existing < recommended { seconds } else { 0.0 },
        }
    }

    /// Both together.
    pub(super) fn plus(self, more: Self) -> Self {
        Self {
            seconds: self.seconds + more.seconds,
            recommended_instance_seconds: self.recommended_instance_seconds
                + more.recommended_instance_seconds,
            existing_instance_seconds: self.existing_instance_seconds
                + more.existing_instance_seconds,
            short_seconds: self.short_seconds + more.short_seconds,
        }
    }
}

/// What is recommended instead of done.
#[derive(Clone, Debug, Default)]
pub(super) struct Recommended {
    /// The last size, and when it was recommended.
    last: Option<(u32, Ms)>,
}

impl Recommended {
    /// Who would be there if all that was recommended had been done; else who is.
    pub(super) fn count(&self, count: Count) -> Count {
        match self.last {
            Some((size, _)) => Count { healthy: size, removable: size, ..Count::default() },
            None => count,
        }
    }

    /// Tells of another size, if there is one, and adds up.
    pub(super) fn tell(&mut self, now: Ms, facts: &Facts, verdict: &Verdict, plan: &mut Plan) {
        let exist = facts.count.size();
        let before = self.last.map_or(exist, |(size, _)| size);
        let desired = verdict.desired;
        if desired != before {
            let winner = if desired > before { verdict.cause } else { facts.want.winner };
            let words = facts.demand_in_words(winner);
            let reason = format!("{before}→{desired} is recommended, {exist} exist: {words}");
            plan.records.push(facts.record("recommend", winner, desired, reason));
        }
        plan.tally = Some(Tally::step(self.last.map(|(_, at)| at), now, before, exist));
        plan.demand_rps = facts.estimate.rps();
        plan.desired = desired;
        for record in &mut plan.records {
            record.to = desired;
        }
        self.last = Some((desired, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_adds_up_what_was_seen() {
        let first = Tally::step(None, Ms(1_000), 5, 3);
        let second = Tally::step(Some(Ms(1_000)), Ms(2_000), 5, 3);
        let third = Tally::step(Some(Ms(2_000)), Ms(3_500), 2, 3);
        let late = Tally::step(Some(Ms(3_500)), Ms(63_500), 2, 2);
        let all = [second, third, late].into_iter().fold(first, Tally::plus);
        let expected = Tally {
            seconds: 7.5,
            recommended_instance_seconds: 5.0 + 3.0 + 10.0,
            existing_instance_seconds: 3.0 + 4.5 + 10.0,
            short_seconds: 1.0,
        };
        assert_eq!(all, expected);
    }
}
