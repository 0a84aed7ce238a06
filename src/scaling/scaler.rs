//! The pure core: what is seen goes in, a [`Plan`] with its reasons comes out.
//!
//! It has no clock, does no I/O, and draws chance (the jitter of backoffs) from its own seed, so a
//! day of traffic and failures replays in a test, and always in the same way.
//!
//! Here is the order of one decision; `launch` is what is brought, `leave` what goes, and `scene` what
//! both look at.

mod launch;
mod leave;
mod scene;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::{Ms, PoolId, ZoneId};
use crate::model::{Machine, MachineState, Scaling, ScalingMode, Sight, ZoneBalance};
use crate::provision::{Capabilities, Failure, LaunchOrder};
use crate::scaling::journal::Record;
use crate::scaling::law::{Law, Learnt, Moment};
use crate::scaling::orders::Orders;
use crate::scaling::placement::Zones;
use crate::scaling::plan::{Facts, Plan, Refusal, Refusals, names};
use crate::scaling::replacement::Trouble;
use crate::scaling::reserve;
use crate::scaling::resize::Resizer;
use crate::scaling::roll::{Look, Make, Roll};
use crate::scaling::roster::{Asked, Count, Member, Roster};
use crate::scaling::tally::Recommended;

use scene::{Fresh, Scene};

/// Decides for one pool, and remembers what it must between decisions.
#[derive(Clone, Debug)]
pub struct Scaler {
    law: Law,
    roster: Roster,
    trouble: Trouble,
    settled: Settled,
    orders: Orders,
    refusals: Refusals,
    /// How many were in the last list.
    listed: u32,
    mode: ScalingMode,
    recommended: Recommended,
    /// What the last decision was made from.
    facts: Option<Facts>,
}

/// What was settled of the make of instances: which rolls were given up, and which size was taken. It
/// holds until the config says something else, so it is to be kept beyond a restart as soon as it is so.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settled {
    roll: Roll,
    resizer: Resizer,
}

impl Scaler {
    /// A scaler that has seen nothing. `nonce` differs at each start of the daemon: it is in the
    /// tokens of orders, and seeds the jitter.
    pub fn new(pool: &PoolId, nonce: u64) -> Self {
        Self {
            law: Law::default(),
            roster: Roster::default(),
            trouble: Trouble::default(),
            settled: Settled::default(),
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
        if self.settled.roll.is_open() {
            // Nothing shrinks before its batch is done.
            facts.count.removable = 0;
        }
        let count = self.recommended.count(facts.count);
        let verdict = self.law.settle(now, &facts.want, scaling, &count, found.outage);
        let roll = self.settled.roll.step(&Look {
            now: moment,
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

    /// What was settled, to be kept beyond a restart.
    pub fn settled(&self) -> &Settled {
        &self.settled
    }

    /// Goes on from what was settled before a restart.
    pub fn resume(&mut self, settled: Settled) {
        self.settled = settled;
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
        let size = self.settled.resizer.size(scaling, machines).map(|size| size.name.to_string());
        let aim = self.settled.roll.aim(&Make { size, model: capabilities.model.clone() });
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
        let present = present.filter(|_| !self.settled.roll.is_going());
        let zones = scene.capabilities.zones.len() as u32;
        let wanted = facts.want.exact;
        if let Some(advice) =
            self.settled.resizer.watch(scene.now, &facts.scaling, present, wanted, zones)
        {
            plan.records.push(facts.record("resize", "resize", 0, advice.reason));
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
}

fn has_failed(machine: &Machine) -> bool {
    matches!(machine.state, MachineState::Failed(_))
}
