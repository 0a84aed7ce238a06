//! The pure core: what is seen goes in, a [`Plan`] with its reasons comes out.
//!
//! It has no clock, does no I/O, and draws chance (the jitter of backoffs) from its own seed, so a
//! day of traffic and failures replays in a test, and always in the same way.

use std::sync::Arc;

use crate::base::{InstanceId, Ms, PoolId, ZoneId};
use crate::model::{Machine, MachineState, Scaling, ScalingMode, Sight};
use crate::provision::{Capabilities, Failure, LaunchOrder};
use crate::scaling::journal::Record;
use crate::scaling::law::{Law, Learnt, Moment};
use crate::scaling::orders::Orders;
use crate::scaling::placement::Zones;
use crate::scaling::plan::{Facts, Plan, Refusal, Refusals, names};
use crate::scaling::replacement::{Assessment, Trouble};
use crate::scaling::roster::{Asked, BOOT_ALLOWANCE, Count, Member, Roster, Stage};
use crate::scaling::size::Verdict;
use crate::scaling::tally::Recommended;

/// Decides for one pool, and remembers what it must between decisions.
#[derive(Clone, Debug)]
pub struct Scaler {
    law: Law,
    roster: Roster,
    trouble: Trouble,
    orders: Orders,
    refusals: Refusals,
    /// How many were in the last list.
    listed: u32,
    mode: ScalingMode,
    recommended: Recommended,
    /// What the last decision was made from.
    facts: Option<Facts>,
}

/// What one decision looks at.
struct Scene<'a> {
    now: Ms,
    members: &'a [Member<'a>],
    capabilities: &'a Capabilities,
    facts: &'a Facts,
    found: &'a Assessment,
    verdict: &'a Verdict,
}

impl Scaler {
    /// A scaler that has seen nothing. `nonce` differs at each start of the daemon: it is in the
    /// tokens of orders, and seeds the jitter.
    pub fn new(pool: &PoolId, nonce: u64) -> Self {
        Self {
            law: Law::default(),
            roster: Roster::default(),
            trouble: Trouble::default(),
            orders: Orders::new(pool, nonce),
            refusals: Refusals::default(),
            listed: 0,
            mode: ScalingMode::Enforce,
            recommended: Recommended::default(),
            facts: None,
        }
    }

    /// What is to be done now, given what the steward sees and what the provider says exists.
    pub fn decide(
        &mut self,
        moment: Moment,
        sight: &Sight,
        machines: &[Machine],
        capabilities: &Capabilities,
    ) -> Plan {
        let now = moment.now;
        let members = self.roster.observe(now, &sight.row.instances, machines);
        self.orders.see(now, machines, &members);
        self.listed = machines.iter().filter(|machine| !has_failed(machine)).count() as u32;
        let mut plan = Plan::default();
        if sight.retired {
            self.retire(now, &members, &mut plan);
            return plan;
        }
        let Some(scaling) = &sight.row.pool.scaling else {
            plan.desired = self.listed;
            return plan;
        };
        self.set_mode(scaling.mode);
        if self.mode == ScalingMode::Off {
            plan.desired = self.listed;
            return plan;
        }

        let found = self.trouble.assess(now, &members);
        let mut zones = self.zones(now, &members, capabilities);
        let count = Count::of(&members, self.orders.unseen(), found.stranded);
        self.law.ingest(moment, &sight.windows, &count.presence(), scaling);
        let scaling = &self.law.in_force(moment, scaling);
        let mut facts = self.facts(scaling, count, capabilities);
        if let Some(size) = sight.row.said.size {
            facts.want.set_by_hand(size.desired, scaling);
        }
        let count = self.recommended.count(facts.count);
        let verdict = self.law.settle(now, &facts.want, scaling, &count, found.outage);
        let scene = Scene {
            now,
            members: &members,
            capabilities,
            facts: &facts,
            found: &found,
            verdict: &verdict,
        };
        if self.mode == ScalingMode::Recommend {
            if let Some(refusal) = &verdict.refusal {
                self.tell(&scene, refusal.clone(), &mut plan);
            }
            self.recommended.tell(now, &facts, &verdict, &mut plan);
            self.facts = Some(facts);
            return plan;
        }

        self.shrink(&scene, &mut zones, &mut plan);
        self.revive(&scene, &mut zones, &mut plan);
        self.launch(&scene, &mut zones, &mut plan);
        self.rebalance(&scene, &mut zones, &mut plan);
        self.let_the_broken_go(&scene, &mut plan);
        self.terminate(&scene, &mut plan);
        self.refuse(&scene, &mut plan);

        plan.demand_rps = facts.estimate.rps();
        plan.desired = scene.desired_with_broken(&plan);
        for record in &mut plan.records {
            record.to = plan.desired;
        }
        self.roster.asked(now, Asked::Drain, &plan.drains);
        self.roster.asked(now, Asked::Revive, &plan.revives);
        self.roster.asked(now, Asked::Terminate, &plan.terminations);
        self.facts = Some(facts);
        plan
    }

    /// The memory of sizes is of those that were meant: with another mode it begins anew.
    fn set_mode(&mut self, mode: ScalingMode) {
        if std::mem::replace(&mut self.mode, mode) != mode {
            self.law.forget_sizes();
            self.recommended = Recommended::default();
        }
    }

    /// What became of an order of the last plans. A record, if it failed in a way that has not been
    /// told yet.
    pub fn handle_launch_result(
        &mut self,
        now: Ms,
        order: &LaunchOrder,
        result: &Result<(), Failure>,
    ) -> Option<Record> {
        let told = self.orders.answer(now, order, result, self.listed)?;
        if !self.refusals.begins(now, told.kind) {
            return None;
        }
        let facts = self.facts.as_ref()?;
        Some(facts.record("failure", "hold", facts.count.size(), told.reason))
    }

    /// What was learnt of the pool, to be kept beyond a restart.
    pub fn learnt(&self) -> Learnt {
        self.law.learnt()
    }

    /// Goes on from what was learnt before a restart.
    pub fn recall(&mut self, learnt: Learnt) {
        self.law.recall(learnt);
    }

    /// Whether nothing was ordered that may still appear in the list.
    pub fn nothing_ordered(&self) -> bool {
        self.orders.unseen() == 0
    }

    fn facts(&self, scaling: &Arc<Scaling>, count: Count, capabilities: &Capabilities) -> Facts {
        let ceilings = [("provider", capabilities.max_instances), ("quota", self.orders.quota())];
        Facts {
            estimate: self.law.estimate(),
            want: self.law.want(count.healthy, scaling, &ceilings),
            count,
            scaling: Arc::clone(scaling),
        }
    }

    fn zones(&self, now: Ms, members: &[Member<'_>], capabilities: &Capabilities) -> Zones {
        let evacuated = |zone: &ZoneId| members.iter().any(|m| m.evacuated && m.zone() == zone);
        let usable = |zone: &ZoneId| {
            self.orders.open(now, zone) && !self.trouble.avoids(zone) && !evacuated(zone)
        };
        Zones::count(&capabilities.zones, members, usable, |zone| self.orders.unseen_in(zone))
    }

    /// Drains the surplus.
    fn shrink(&self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let victims = zones.victims(scene.members, scene.verdict.remove);
        if victims.is_empty() {
            return;
        }
        let from = scene.facts.count.size();
        let less = victims.len() as u32;
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

    /// The cheapest way to more: what drains serves again.
    fn revive(&self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let missing = scene.missing(plan);
        let revived = zones.revivals(scene.members, missing);
        if revived.is_empty() {
            return;
        }
        let reason = format!("+{}: {} serve again", revived.len(), names(&revived));
        plan.records.push(scene.facts.record("revive", scene.verdict.cause, 0, reason));
        plan.revives = revived;
    }

    fn launch(&mut self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let missing = scene.missing(plan);
        if missing == 0 {
            return;
        }
        let desired = scene.verdict.desired;
        let now_replaceable = scene.found.replaceable(missing, desired, &scene.facts.count);
        let mut clamps = Vec::new();
        if now_replaceable < missing && !scene.found.outage {
            clamps.push(format!("replacements {missing}→{now_replaceable}"));
        }
        let count = self.orderable(scene, now_replaceable, zones, plan, &mut clamps);
        let cause = scene.verdict.cause;
        let why = match cause {
            "replace" => scene.what_is_replaced(),
            winner => scene.facts.demand_in_words(winner),
        };
        self.order(scene, zones.spread(count), (cause, why), clamps, plan);
    }

    /// One launch into the emptiest zone; the surplus then leaves the fullest.
    fn rebalance(&mut self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let count = &scene.facts.count;
        let settled = plan.launches.is_empty()
            && plan.drains.is_empty()
            && plan.revives.is_empty()
            && count.size() == count.healthy
            && count.draining == 0
            && count.healthy == scene.verdict.desired
            && !scene.found.outage;
        let Some((to, from)) = zones.imbalance().filter(|_| settled) else { return };
        // The surplus must be able to leave, or launches would never end.
        let can_leave = |member: &Member<'_>| {
            member.stage == Stage::Healthy && !member.machine.protected && member.zone() == from
        };
        if !scene.members.iter().any(can_leave) {
            return;
        }
        let why = format!("zone {to} has at least two fewer than zone {from}");
        if count.healthy >= scene.facts.want.max {
            let max = scene.facts.want.max;
            let reason = format!("{why}, but {max} is the maximum: one more would even them out");
            self.tell(scene, Refusal { kind: "zones uneven", reason }, plan);
            return;
        }
        let mut clamps = Vec::new();
        if self.orderable(scene, 1, zones, plan, &mut clamps) == 1 {
            self.order(scene, zones.spread(1), ("zone", why), clamps, plan);
        }
    }

    /// How many of `count` may be ordered now. A reason why none may is told.
    fn orderable(
        &mut self,
        scene: &Scene<'_>,
        count: u32,
        zones: &Zones,
        plan: &mut Plan,
        clamps: &mut Vec<String>,
    ) -> u32 {
        if count == 0 {
            return 0;
        }
        let now = scene.now;
        if let Some(refusal) = self.orders.closed(now) {
            self.tell(scene, refusal, plan);
            return 0;
        }
        if zones.all_unusable() {
            let reason = self.why_no_zone(now, zones);
            self.tell(scene, Refusal { kind: "no zone", reason }, plan);
            return 0;
        }
        let exist = self.listed + self.orders.unseen();
        let quota = self.orders.quota();
        let ceiling = scene.capabilities.max_instances.into_iter().chain(quota).min();
        let room = ceiling.map_or(u32::MAX, |ceiling| ceiling.saturating_sub(exist));
        if room == 0 {
            let reason = format!("{count} more are wanted, but no more than {exist} may exist");
            self.tell(scene, Refusal { kind: "no room", reason }, plan);
            return 0;
        }
        let rate = self.orders.allowed(now, scene.facts.count.size(), &scene.facts.scaling);
        let mut allowed = count;
        for (name, bound) in [("room", room), ("launch-rate", rate)] {
            if allowed > bound {
                clamps.push(format!("{name} {allowed}→{bound}"));
                allowed = bound;
            }
        }
        allowed
    }

    fn why_no_zone(&self, now: Ms, zones: &Zones) -> String {
        let reasons: Vec<String> = zones
            .unusable()
            .map(|zone| {
                let failing = || self.trouble.avoids(zone).then(|| "it is failing".to_owned());
                let why = self.orders.why_closed(now, zone).or_else(failing);
                format!("{zone}: {}", why.as_deref().unwrap_or("it is evacuated or not offered"))
            })
            .collect();
        format!("no zone takes launches: {}", reasons.join("; "))
    }

    /// Orders `placed`, for the given winner and reason.
    fn order(
        &mut self,
        scene: &Scene<'_>,
        placed: Vec<(ZoneId, u32)>,
        (winner, why): (&'static str, String),
        clamps: Vec<String>,
        plan: &mut Plan,
    ) {
        let more: u32 = placed.iter().map(|(_, count)| count).sum();
        if more == 0 {
            return;
        }
        let from = scene.facts.count.size();
        let zones: Vec<String> = placed.iter().map(|(zone, n)| format!("{zone}+{n}")).collect();
        let reason = format!("+{more} ({from}→{}): {why}; {}", from + more, zones.join(" "));
        let mut record = scene.facts.record("launch", winner, 0, reason);
        record.clamps.extend(clamps);
        plan.records.push(record);
        for (zone, mut count) in placed {
            while count > 0 {
                let batch = count.min(scene.capabilities.max_batch.max(1));
                plan.launches.push(self.orders.give(scene.now, &zone, batch));
                count -= batch;
            }
        }
    }

    /// Drains those that are down, once others carry what they did.
    fn let_the_broken_go(&self, scene: &Scene<'_>, plan: &mut Plan) {
        let healthy = scene.facts.count.healthy.saturating_sub(plan.drains.len() as u32);
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
    fn terminate(&self, scene: &Scene<'_>, plan: &mut Plan) {
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

    /// Tells what is not done.
    fn refuse(&mut self, scene: &Scene<'_>, plan: &mut Plan) {
        let Scene { facts, found, verdict, .. } = scene;
        if found.outage {
            let reason = format!(
                "{} are down in several zones: probably something that all of them depend on; they \
                 are not replaced, see what they have in common",
                found.scattered
            );
            self.tell(scene, Refusal { kind: "outage", reason }, plan);
        }
        if !found.failing.is_empty() {
            let zones: Vec<&str> = found.failing.iter().map(ZoneId::as_str).collect();
            let reason =
                format!("zone {} is failing: its load goes to the others", zones.join(", "));
            self.tell(scene, Refusal { kind: "zone failing", reason }, plan);
        }
        if facts.want.winner == "max" && facts.count.carrying() >= verdict.desired {
            let reason = format!(
                "{}, but {} is the most there may be",
                facts.demand_in_words("max"),
                facts.want.max
            );
            self.tell(scene, Refusal { kind: "max", reason }, plan);
        }
        if let Some(refusal) = &verdict.refusal {
            self.tell(scene, refusal.clone(), plan);
        }
    }

    /// One record when a refusal begins.
    fn tell(&mut self, scene: &Scene<'_>, refusal: Refusal, plan: &mut Plan) {
        if self.refusals.begins(scene.now, refusal.kind) {
            let winner = match refusal.kind {
                "max" | "no room" => "max",
                "no zone" | "zone failing" | "zones uneven" => "zone",
                _ => "hold",
            };
            plan.records.push(scene.facts.record("hold", winner, 0, refusal.reason));
        }
    }

    /// The pool has left the config: all of it leaves.
    fn retire(&mut self, now: Ms, members: &[Member<'_>], plan: &mut Plan) {
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

impl Scene<'_> {
    /// How many should serve and neither do, nor boot, nor come back by this plan.
    fn missing(&self, plan: &Plan) -> u32 {
        let there = self.facts.count.carrying() + plan.revives.len() as u32;
        self.verdict.desired.saturating_sub(there)
    }

    /// What should exist once `plan` is carried out: what should serve, and the broken ones for
    /// which others are already on their way.
    fn desired_with_broken(&self, plan: &Plan) -> u32 {
        let desired = self.verdict.desired;
        let count = &self.facts.count;
        let ordered: u32 = plan.launches.iter().map(|order| order.count).sum();
        let carrying = count.carrying() + ordered + plan.revives.len() as u32;
        let drained = plan.drains.len() as u32;
        let broken = count.unhealthy.saturating_sub(drained.saturating_sub(self.verdict.remove));
        let carrying = carrying.saturating_sub(self.verdict.remove);
        desired + carrying.saturating_sub(desired.saturating_sub(broken)).min(broken)
    }

    fn what_is_replaced(&self) -> String {
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

fn has_failed(machine: &Machine) -> bool {
    matches!(machine.state, MachineState::Failed(_))
}
