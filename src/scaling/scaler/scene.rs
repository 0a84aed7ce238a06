//! What one decision looks at, and what it says of sizes.

use crate::base::{InstanceId, Ms};
use crate::provision::Capabilities;
use crate::scaling::plan::{Facts, Plan, names};
use crate::scaling::replacement::Assessment;
use crate::scaling::roll::Step;
use crate::scaling::roster::{Member, Stage};
use crate::scaling::size::Verdict;

/// What one decision looks at.
#[derive(Debug)]
pub(super) struct Scene<'a> {
    /// The monotonic clock.
    pub(super) now: Ms,
    /// Who is there.
    pub(super) members: &'a [Member<'a>],
    /// What the provider can do.
    pub(super) capabilities: &'a Capabilities,
    /// What the size was decided from.
    pub(super) facts: &'a Facts,
    /// What is broken.
    pub(super) found: &'a Assessment,
    /// What is to become of the size.
    pub(super) verdict: &'a Verdict,
    /// What is to be done for a roll.
    pub(super) roll: &'a Step,
    /// What a launch brings.
    pub(super) fresh: &'a Fresh,
}

/// What a launch brings.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    /// Its size; `None`: the provider's default.
    pub(super) size: Option<String>,
    /// How much it carries.
    pub(super) units: u32,
}

impl Scene<'_> {
    /// How much should serve and neither does, nor boots, nor comes back by this plan.
    pub(super) fn missing(&self, plan: &Plan) -> u32 {
        let there = self.facts.count.carrying() + self.units_of(&plan.revives);
        (self.verdict.desired + self.roll.surge).saturating_sub(there)
    }

    /// How much these carry together.
    pub(super) fn units_of(&self, ids: &[InstanceId]) -> u32 {
        let named = self.members.iter().filter(|member| ids.contains(member.id()));
        named.map(|member| member.units).sum()
    }

    /// What should exist once `plan` is carried out: what should serve, and the broken ones for
    /// which others are already on their way.
    pub(super) fn desired_with_broken(&self, plan: &Plan) -> u32 {
        let desired = self.verdict.desired;
        let count = &self.facts.count;
        let ordered: u32 = plan.launches.iter().map(|order| order.count).sum();
        let ordered = ordered * self.fresh.units;
        let carrying = count.carrying() + ordered + self.units_of(&plan.revives);
        let drained = self.units_of(&plan.drains);
        let broken = count.unhealthy.saturating_sub(drained.saturating_sub(self.verdict.remove));
        let carrying = carrying.saturating_sub(self.verdict.remove);
        desired + carrying.saturating_sub(desired.saturating_sub(broken)).min(broken)
    }

    /// In whose place something is brought.
    pub(super) fn what_is_replaced(&self) -> String {
        let broken: Vec<InstanceId> = self
            .members
            .iter()
            .filter(|member| {
                matches!(member.stage, Stage::Down { .. } | Stage::Failed | Stage::Aside)
            })
            .map(|member| member.id().clone())
            .collect();
        match broken.is_empty() {
            true => format!("{} of {}", self.facts.count.carrying(), self.verdict.desired),
            false => format!("in place of {}", names(&broken)),
        }
    }
}
