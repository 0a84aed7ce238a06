//! What is brought: how much may be ordered now, where it goes, and why no more of it.

use super::Scaler;
use super::scene::Scene;
use crate::base::{Ms, ZoneId};
use crate::scaling::placement::Zones;
use crate::scaling::plan::{Facts, Plan, Refusal};
use crate::scaling::roster::{Member, Stage};

impl Scaler {
    /// What is missing is ordered, as far as it may be now.
    pub(super) fn launch(&mut self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
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
    pub(super) fn rebalance(&mut self, scene: &Scene<'_>, zones: &mut Zones, plan: &mut Plan) {
        let count = &scene.facts.count;
        let settled = plan.launches.is_empty()
            && plan.drains.is_empty()
            && plan.revives.is_empty()
            && count.size() == count.healthy
            && count.draining == 0
            && count.healthy == scene.verdict.desired
            && !scene.found.outage
            && !self.settled.roll.is_going();
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
}
