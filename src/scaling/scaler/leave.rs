//! What goes: the surplus, the broken, what is drained or dead, and all of a pool that has left the config.

use super::Scaler;
use super::scene::Scene;
use crate::base::Ms;
use crate::model::MachineState;
use crate::scaling::placement::Zones;
use crate::scaling::plan::{Plan, names};
use crate::scaling::roster::{Asked, BOOT_ALLOWANCE, Member, Stage};

impl Scaler {
    /// Drains the surplus.
    pub(super) fn shrink(&self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let victims = zones.victims(scene.members, scene.verdict.remove);
        if victims.is_empty() {
            return;
        }
        let from = scene.facts.count.size();
        let less = scene.units_of(&victims);
        let winner = scene.facts.want.winner;
        let reason = format!(
            "-{less} ({from}→{}): {}; drains {}",
            from.saturating_sub(less),
            scene.facts.demand_in_words(winner),
            names(&victims)
        );
        plan.records.push(scene.facts.record("drain", winner, 0, reason));
        plan.drains = victims;
    }

    /// Drains those that are down, once others carry what they did.
    pub(super) fn let_the_broken_go(&self, scene: &Scene<'_>, plan: &mut Plan) {
        let healthy = scene.facts.count.healthy.saturating_sub(scene.units_of(&plan.drains));
        let replaced = healthy >= scene.verdict.desired;
        let broken = scene.found.leaving(scene.now, scene.members, replaced);
        if broken.is_empty() {
            return;
        }
        let reason = format!("drains {}: down, and replaced by now", names(&broken));
        plan.records.push(scene.facts.record("drain", "replace", 0, reason));
        plan.drains.extend(broken);
    }

    /// Has taken away what is drained, dead, or never came up.
    pub(super) fn terminate(&self, scene: &Scene<'_>, plan: &mut Plan) {
        let mut reasons = Vec::new();
        let mut drained = true;
        for member in scene.members {
            let id = member.id();
            let why = match (member.stage, &member.machine.state) {
                (Stage::Leaving { terminable: true }, _) => format!("{id} is drained"),
                (Stage::Failed, MachineState::Failed(why)) => format!("{id} has failed: {why}"),
                (Stage::Overdue, _) => {
                    format!("{id} was not up within {} s", BOOT_ALLOWANCE.as_secs())
                }
                _ => continue,
            };
            drained &= matches!(member.stage, Stage::Leaving { .. });
            plan.terminations.push(id.clone());
            if !member.told_to_go {
                reasons.push(why);
            }
        }
        if !reasons.is_empty() {
            let winner = if drained { scene.facts.want.winner } else { "replace" };
            plan.records.push(scene.facts.record("terminate", winner, 0, reasons.join("; ")));
        }
    }

    /// The pool has left the config: all of it leaves.
    pub(super) fn retire(&mut self, now: Ms, members: &[Member<'_>], plan: &mut Plan) {
        for member in members {
            let id = member.id().clone();
            match member.stage {
                Stage::Draining { .. } | Stage::Leaving { terminable: false } => {}
                Stage::Failed | Stage::Overdue | Stage::Leaving { .. } => {
                    plan.terminations.push(id);
                }
                // The steward does not know it, so nothing was ever sent there.
                Stage::Pending if !member.known => plan.terminations.push(id),
                _ => plan.drains.push(id),
            }
        }
        self.roster.asked(now, Asked::Drain, &plan.drains);
        self.roster.asked(now, Asked::Terminate, &plan.terminations);
        if let Some(facts) = self.facts.take() {
            let reason = "the config provisions nothing here any more: all that was provisioned \
                          is drained and taken away";
            plan.records.push(facts.record("drain", "retired", 0, reason.into()));
        }
    }
}
