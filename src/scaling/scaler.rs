//! The pure core: what is seen goes in, a [`Plan`] with its reasons comes out.
//!
//! It has no clock, does no I/O, and draws chance (the jitter of backoffs) from its own seed, so a
//! day of traffic and failures replays in a test, and always in the same way.

use std::sync::Arc;

use crate::base::{InstanceId, Ms, PoolId, ZoneId};
use crate::model::{Machine, MachineState, Scaling, ScalingMode, Sight, ZoneBalance};
use crate::provision::{Capabilities, Failure, LaunchOrder};
use crate::scaling::journal::Record;
use crate::scaling::law::{Law, Learnt, Moment};
use crate::scaling::orders::Orders;
use crate::scaling::placement::Zones;
use crate::scaling::plan::{Facts, Plan, Refusal, Refusals, names};
use crate::scaling::replacement::{Assessment, Trouble};
use crate::scaling::reserve;
use crate::scaling::resize::Resizer;
use crate::scaling::roll::{Look, Make, Roll, Step};
use crate::scaling::roster::{Asked, BOOT_ALLOWANCE, Count, Member, Roster, Stage};
use crate::scaling::size::Verdict;
use crate::scaling::tally::Recommended;

/// Decides for one pool, and remembers what it must between decisions.
#[derive(Clone, Debug)]
pub struct Scaler {
    law: Law,
    roster: Roster,
    trouble: Trouble,
    resizer: Resizer,
    roll: Roll,
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
    roll: &'a Step,
    fresh: &'a Fresh,
}

/// What a launch brings.
#[derive(Clone, Debug)]
struct Fresh {
    size: Option<String>,
    units: u32,
}

impl Scaler {
    /// A scaler that has seen nothing. `nonce` differs at each start of the daemon: it is in the
    /// tokens of orders, and seeds the jitter.
    pub fn new(pool: &PoolId, nonce: u64) -> Self {
        Self {
            law: Law::default(),
            roster: Roster::default(),
            trouble: Trouble::default(),
            resizer: Resizer::default(),
            roll: Roll::default(),
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
        let mut members = self.roster.observe(now, &sight.row, machines);
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

        let fresh = self.fresh(scaling, machines, capabilities, &mut members);
        let found = self.trouble.assess(now, &members);
        let scaling = &self.law.in_force(moment, scaling);
        let strict = scaling.zone_balance == ZoneBalance::Strict;
        let zones = self.zones(now, &members, sight, capabilities);
        let mut zones = zones.launching(fresh.units, strict);
        let count = Count::of(&members, self.orders.unseen_units(), found.stranded);
        self.law.ingest(moment, &sight.windows, &count.presence(), scaling);
        let mut facts = self.facts(scaling, count, capabilities, fresh.units);
        if let Some(size) = sight.row.said.size {
            facts.want.set_by_hand(size.desired, scaling);
        }
        if self.roll.is_open() {
            // Nothing shrinks before its batch is done.
            facts.count.removable = 0;
        }
        let count = self.recommended.count(facts.count);
        let verdict = self.law.settle(now, &facts.want, scaling, &count, found.outage);
        let roll = self.roll.step(&Look {
            now,
            members: &members,
            count: &facts.count,
            desired: verdict.desired,
            calm: verdict.remove == 0 && !found.outage && self.mode == ScalingMode::Enforce,
            failing: &found.failing,
            settings: scaling.roll,
            unit: fresh.units,
        });
        let scene = Scene {
            now,
            members: &members,
            capabilities,
            facts: &facts,
            found: &found,
            verdict: &verdict,
            roll: &roll,
            fresh: &fresh,
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
        self.roll_on(&scene, &mut zones, &mut plan);
        self.let_the_broken_go(&scene, &mut plan);
        self.terminate(&scene, &mut plan);
        self.refuse(&scene, &mut plan);

        plan.demand_rps = facts.estimate.rps();
        let desired = scene.desired_with_broken(&plan) + roll.surge;
        plan.desired = desired.div_ceil(fresh.units);
        for record in &mut plan.records {
            record.to = desired;
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

    /// What a launch brings now; says of each member how much it carries, and whether it is of that
    /// make.
    fn fresh(
        &mut self,
        scaling: &Scaling,
        machines: &[Machine],
        capabilities: &Capabilities,
        members: &mut [Member<'_>],
    ) -> Fresh {
        let size = self.resizer.size(scaling, machines).map(|size| size.name.to_string());
        let aim = self.roll.aim(&Make { size, model: capabilities.model.clone() });
        for member in members {
            member.units = scaling.units_of(member.machine.size.as_deref());
            member.old = !aim.fits(member.machine);
        }
        Fresh { units: scaling.units_of(aim.size.as_deref()), size: aim.size }
    }

    fn facts(
        &self,
        scaling: &Arc<Scaling>,
        count: Count,
        capabilities: &Capabilities,
        unit: u32,
    ) -> Facts {
        let ceilings = [("provider", capabilities.max_instances), ("quota", self.orders.quota())];
        let ceilings = ceilings.map(|(name, most)| (name, most.map(|n| n.saturating_mul(unit))));
        let estimate = self.law.estimate();
        let mut want = self.law.want(count.healthy, scaling, &ceilings);
        let (rate, zones) = (want.per_instance, capabilities.zones.len() as u32);
        reserve::keep(&mut want, estimate.rps(), rate, scaling, zones);
        Facts { estimate, want: want.in_whole(unit), count, scaling: Arc::clone(scaling) }
    }

    fn zones(
        &self,
        now: Ms,
        members: &[Member<'_>],
        sight: &Sight,
        capabilities: &Capabilities,
    ) -> Zones {
        let usable = |zone: &ZoneId| {
            self.orders.open(now, zone)
                && !self.trouble.avoids(zone)
                && !sight.row.evacuated.contains(zone)
        };
        let unseen = |zone: &ZoneId| self.orders.unseen_in(zone);
        Zones::count(&capabilities.zones, members, usable, unseen)
    }

    /// Drains the surplus.
    fn shrink(&self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
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

    /// The cheapest way to more: what drains serves again.
    fn revive(&self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let missing = scene.missing(plan).saturating_sub(scene.roll.surge);
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
        let count = now_replaceable.div_ceil(scene.fresh.units);
        let count = self.orderable(scene, count, zones, plan, &mut clamps);
        let for_roll = missing <= scene.roll.surge;
        let cause = if for_roll { "roll" } else { scene.verdict.cause };
        let why = match cause {
            "roll" => "the next batch of the roll, before the old leave".into(),
            "replace" => scene.what_is_replaced(),
            winner => scene.facts.demand_in_words(winner),
        };
        let placed = match for_roll {
            true => zones.spread_in_place_of(scene.members, scene.roll.surge, count),
            false => zones.spread(count),
        };
        self.order(scene, placed, (cause, why), clamps, plan);
        let refused = zones.refused();
        if !refused.is_empty() {
            let reason = format!(
                "no launches where they belong: {}; zone_balance is strict, so it goes nowhere else",
                self.why_no_zone(scene.now, refused)
            );
            self.tell(scene, Refusal { kind: "zone strict", reason }, plan);
        }
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
            && !scene.found.outage
            && !self.roll.is_going();
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

    /// Goes on with a roll: the old leave for what was brought before, and better sizes are told.
    fn roll_on(&mut self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let facts = scene.facts;
        for told in &scene.roll.told {
            plan.records.push(facts.record("roll", "roll", 0, told.clone()));
        }
        if let Some(refusal) = &scene.roll.refusal {
            self.tell(scene, refusal.clone(), plan);
        }
        let old = zones.outdated(scene.members, scene.roll.leave);
        if !old.is_empty() {
            let reason = format!("drains {}: the new serve in their place", names(&old));
            plan.records.push(facts.record("drain", "roll", 0, reason));
            plan.drains.extend(old);
        }
        let sizes = &facts.scaling.sizes;
        let present =
            sizes.iter().find(|size| scene.fresh.size.as_deref() == Some(size.name.as_str()));
        let present = present.filter(|_| !self.roll.is_going());
        let zones = scene.capabilities.zones.len() as u32;
        let wanted = facts.want.exact;
        if let Some(advice) = self.resizer.watch(scene.now, &facts.scaling, present, wanted, zones)
        {
            plan.records.push(facts.record("resize", "resize", 0, advice.reason));
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
            let why = self.why_no_zone(now, zones.unusable());
            let reason = format!("no zone takes launches: {why}");
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
        let Facts { count: there, scaling, .. } = scene.facts;
        let rate = self.orders.allowed(now, there.size(), scaling).div_ceil(scene.fresh.units);
        let under_way = (there.pending + there.stranded).div_ceil(scene.fresh.units);
        let pending = scaling.max_pending.as_u32().saturating_sub(under_way);
        let mut allowed = count;
        for (name, bound) in [("room", room), ("launch-rate", rate), ("max_pending", pending)] {
            if allowed > bound {
                clamps.push(format!("{name} {allowed}→{bound}"));
                allowed = bound;
            }
        }
        allowed
    }

    fn why_no_zone<'z>(&self, now: Ms, zones: impl IntoIterator<Item = &'z ZoneId>) -> String {
        let reasons: Vec<String> = zones
            .into_iter()
            .map(|zone| {
                let failing = || self.trouble.avoids(zone).then(|| "it is failing".to_owned());
                let why = self.orders.why_closed(now, zone).or_else(failing);
                format!("{zone}: {}", why.as_deref().unwrap_or("it is evacuated or not offered"))
            })
            .collect();
        reasons.join("; ")
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
        let more = more * scene.fresh.units;
        let size = scene.fresh.size.as_ref().map_or_else(String::new, |size| format!(" of {size}"));
        let zones = zones.join(" ");
        let reason = format!("+{more} ({from}→{}): {why}; {zones}{size}", from + more);
        let mut record = scene.facts.record("launch", winner, 0, reason);
        record.clamps.extend(clamps);
        plan.records.push(record);
        for (zone, mut count) in placed {
            while count > 0 {
                let batch = count.min(scene.capabilities.max_batch.max(1));
                let fresh = (scene.fresh.size.as_deref(), scene.fresh.units);
                plan.launches.push(self.orders.give_sized(scene.now, &zone, batch, fresh));
                count -= batch;
            }
        }
    }

    /// Drains those that are down, once others carry what they did.
    fn let_the_broken_go(&self, scene: &Scene<'_>, plan: &mut Plan) {
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
                found.down
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
                "no zone" | "zone failing" | "zones uneven" | "zone strict" => "zone",
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
    /// How much should serve and neither does, nor boots, nor comes back by this plan.
    fn missing(&self, plan: &Plan) -> u32 {
        let there = self.facts.count.carrying() + self.units_of(&plan.revives);
        (self.verdict.desired + self.roll.surge).saturating_sub(there)
    }

    /// How much these carry together.
    fn units_of(&self, ids: &[InstanceId]) -> u32 {
        let named = self.members.iter().filter(|member| ids.contains(member.id()));
        named.map(|member| member.units).sum()
    }

    /// What should exist once `plan` is carried out: what should serve, and the broken ones for
    /// which others are already on their way.
    fn desired_with_broken(&self, plan: &Plan) -> u32 {
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
