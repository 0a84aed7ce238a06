//! What is broken, and whether replacing it would help.
//!
//! A few bad instances are replaced, create first. A zone that fails is left alone for a while, and
//! its capacity is ordered elsewhere at once. Many bad instances in several zones are most likely
//! not bad themselves: something that all of them depend on is, and new ones would be no better.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{InstanceId, Ms, ZoneId};
use crate::scaling::roster::{Count, Member, Stage};

/// A zone fails if this share of its instances is down, and others have healthy ones.
const ZONE_FAILS_AT: f64 = 0.8;
/// A failing zone gets no launches until this long after it was last seen failing.
const AVOIDED_FOR: Duration = Duration::from_secs(60);
/// More than this share down, and more than one, is an outage of something else…
const OUTAGE_ABOVE: f64 = 0.3;
/// …unless this share of what is down stands in one of several zones.
const CONCENTRATED: f64 = 0.8;
/// At most this share of the pool (but at least one) is being replaced at a time.
const BATCH: f64 = 0.2;
/// An instance that came back within this long keeps its place.
const SECOND_CHANCE: Duration = Duration::from_secs(10);

/// The memory of which zones failed lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    failed_at: BTreeMap<ZoneId, Ms>,
}

/// What is broken now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Assessment {
    /// Zones that are failing.
    pub(super) failing: Vec<ZoneId>,
    /// How many are down in zones that are not failing.
    pub(super) down: u32,
    /// The units of those.
    pub(super) scattered: u32,
    /// Units that are pending in failing zones, up to those that are down there.
    pub(super) stranded: u32,
    /// So many are down, in so many places, that replacing them would not help.
    pub(super) outage: bool,
}

#[derive(Clone, Copy, Default)]
struct ZoneState {
    healthy: u32,
    down: u32,
    failed: u32,
    down_units: u32,
    pending_units: u32,
}

impl ZoneState {
    /// A single crash is an accident: the zone has to lose more than one, or have one that hangs.
    fn fails(self, healthy_in_all: u32) -> bool {
        let broken = self.down + self.failed;
        let share = f64::from(broken) / f64::from(broken + self.healthy).max(1.0);
        (self.down > 0 || self.failed > 1)
            && share >= ZONE_FAILS_AT
            && healthy_in_all > self.healthy
    }
}

impl Trouble {
    /// Looks at who is there.
    pub(super) fn assess(&mut self, now: Ms, members: &[Member<'_>]) -> Assessment {
        let mut zones: BTreeMap<&ZoneId, ZoneState> = BTreeMap::new();
        for member in members {
            let zone = zones.entry(member.zone()).or_default();
            match member.stage {
                Stage::Healthy => zone.healthy += 1,
                Stage::Down { .. } => {
                    zone.down += 1;
                    zone.down_units += member.units;
                }
                Stage::Failed => zone.failed += 1,
                Stage::Pending => zone.pending_units += member.units,
                _ => {}
            }
        }
        let healthy: u32 = zones.values().map(|zone| zone.healthy).sum();
        let (failing, sound): (Vec<_>, Vec<_>) =
            zones.iter().partition(|(_, zone)| zone.fails(healthy));
        for (zone, _) in &failing {
            self.failed_at.insert((**zone).clone(), now);
        }
        self.failed_at.retain(|_, at| now.since(*at) < AVOIDED_FOR);

        let down: u32 = sound.iter().map(|(_, zone)| zone.down).sum();
        let of: u32 = sound.iter().map(|(_, zone)| zone.down + zone.healthy).sum();
        let worst = sound.iter().map(|(_, zone)| zone.down).max().unwrap_or(0);
        let concentrated = sound.len() > 1 && f64::from(worst) >= CONCENTRATED * f64::from(down);
        // Replacing what is outdated does bring something else.
        let outdated = |m: &Member<'_>| m.old && matches!(m.stage, Stage::Down { .. });
        Assessment {
            stranded: failing.iter().map(|(_, zone)| zone.pending_units.min(zone.down_units)).sum(),
            failing: failing.into_iter().map(|(zone, _)| (*zone).clone()).collect(),
            down,
            scattered: sound.iter().map(|(_, zone)| zone.down_units).sum(),
            outage: down > 1
                && f64::from(down) > OUTAGE_ABOVE * f64::from(of)
                && !concentrated
                && !members.iter().any(outdated),
        }
    }

    /// Whether `zone` is failing, or was a moment ago.
    pub(super) fn avoids(&self, zone: &ZoneId) -> bool {
        self.failed_at.contains_key(zone)
    }
}

impl Assessment {
    /// How many of the `missing` instances may be brought now: scattered ones are replaced a few at
    /// a time, and not at all in an outage; all else is brought at once.
    pub(super) fn replaceable(&self, missing: u32, desired: u32, count: &Count) -> u32 {
        let for_scattered = missing.min(self.scattered);
        let at_once = missing - for_scattered;
        if self.outage {
            return at_once;
        }
        let batch = ((BATCH * f64::from(desired)) as u32).max(1);
        let without = desired.saturating_sub(self.scattered);
        let under_way = count.carrying().saturating_sub(without).min(count.pending);
        at_once + for_scattered.min(batch.saturating_sub(under_way))
    }

    /// Those that are down for good and leave, now that `replaced` says that all others are there.
    pub(super) fn leaving(
        &self,
        now: Ms,
        members: &[Member<'_>],
        replaced: bool,
    ) -> Vec<InstanceId> {
        if self.outage || !replaced {
            return Vec::new();
        }
        members
            .iter()
            .filter(|member| !member.machine.protected)
            .filter(|member| match member.stage {
                Stage::Down { since } => now.since(since) >= SECOND_CHANCE,
                _ => false,
            })
            .map(|member| member.id().clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FULL, Machine, MachineState};

    /// `"a+ a- b? b!"`: zone and stage of each; `+` healthy, `-` down, `?` pending, `!` failed.
    fn machines(text: &str) -> Vec<(Machine, Stage)> {
        text.split_whitespace()
            .enumerate()
            .map(|(n, word)| {
                let (zone, stage) = word.split_at(1);
                let machine = Machine {
                    id: format!("{zone}{n}").as_str().into(),
                    zone: zone.into(),
                    address: None,
                    state: MachineState::Running,
                    size: None,
                    model: None,
                    token: None,
                    protected: false,
                };
                let stage = match stage {
                    "+" => Stage::Healthy,
                    "-" => Stage::Down { since: Ms(0) },
                    "?" => Stage::Pending,
                    _ => Stage::Failed,
                };
                (machine, stage)
            })
            .collect()
    }

    fn members(machines: &[(Machine, Stage)]) -> Vec<Member<'_>> {
        machines
            .iter()
            .map(|(machine, stage)| Member {
                machine,
                stage: *stage,
                in_flight: 0,
                ramp: FULL,
                known: true,
                news: None,
                told_to_go: false,
                units: 1,
                old: false,
            })
            .collect()
    }

    #[test]
    fn a_zone_an_outage_or_just_a_bad_instance() {
        for (text, failing, outage) in [
            ("a+ b+ c+", "", false),
            ("a- b+ c+", "a", false),
            ("a! b+ c+", "", false),
            ("a! a! b+ c+", "a", false),
            ("a- a- a- a- a+ b+ b+", "a", false),
            ("a- a- a- a+ a+ b+ b+ b+", "", false),
            ("a- a+ a+ b- b+ b+ c- c+ c+", "", true),
            ("a- a+ a+ b- b+ b+ c+ c+ c+", "", false),
            ("a- b- c-", "", true),
            ("a-", "", false),
            ("a- a-", "", true),
            ("a- a+", "", false),
            ("a- b- c+", "ab", false),
            ("a- a- a- b- b+ b+ c- c+ c+", "a", true),
            ("a? b? c?", "", false),
        ] {
            let machines = machines(text);
            let found = Trouble::default().assess(Ms(1), &members(&machines));
            let zones: String = found.failing.iter().map(ZoneId::as_str).collect();
            assert_eq!((zones.as_str(), found.outage), (failing, outage), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_boots_in_a_failing_zone_is_not_counted_on() {
        for (text, stranded) in [
            ("a- a- a? b+ b+", 1),
            ("a- a? a? a? b+", 1),
            ("a+ a- a? b+ b+", 0),
            ("a? a? b+ b+", 0),
        ] {
            let machines = machines(text);
            let members = members(&machines);
            let found = Trouble::default().assess(Ms(1), &members);
            assert_eq!(found.stranded, stranded, "{text}");
            let pending = members.iter().filter(|m| m.stage == Stage::Pending).count() as u32;
            let count = Count::of(&members, 0, found.stranded);
            assert_eq!(
                (count.pending, count.size()),
                (pending - stranded, text.len() as u32 / 3 + 1)
            );
        }
    }

    #[test]
    fn a_failed_zone_is_avoided_for_a_minute() {
        let mut trouble = Trouble::default();
        let bad = machines("a- b+");
        trouble.assess(Ms(1_000), &members(&bad));
        let good = machines("a+ b+");
        trouble.assess(Ms(60_999), &members(&good));
        assert!(trouble.avoids(&"a".into()) && !trouble.avoids(&"b".into()));
        trouble.assess(Ms(61_000), &members(&good));
        assert!(!trouble.avoids(&"a".into()));
    }

    #[test]
    fn scattered_ones_are_replaced_a_few_at_a_time() {
        let ten = |scattered, healthy, pending, outage| {
            let count = Count { healthy, pending, unhealthy: scattered, ..Count::default() };
            let found = Assessment { scattered, outage, ..Assessment::default() };
            found.replaceable(10 - healthy - pending, 10, &count)
        };
        assert_eq!(ten(3, 7, 0, false), 2, "a fifth of ten");
        assert_eq!(ten(3, 7, 2, false), 0, "two are under way");
        assert_eq!(ten(3, 8, 1, false), 1, "one of the two serves");
        assert_eq!(ten(4, 6, 0, true), 0, "an outage");
        assert_eq!(ten(0, 4, 0, false), 6, "none is down: all are simply missing");
        assert_eq!(ten(1, 4, 0, false), 6, "five missing and one down");
    }

    #[test]
    fn who_is_down_leaves_only_when_replaced_and_after_a_second_chance() {
        let machines = machines("a- b+ c+");
        let mut members = members(&machines);
        let found = Assessment::default();
        assert!(found.leaving(Ms(9_999), &members, true).is_empty());
        assert!(found.leaving(Ms(10_000), &members, false).is_empty());
        assert_eq!(found.leaving(Ms(10_000), &members, true), [InstanceId::new("a0")]);
        members[0].stage = Stage::Down { since: Ms(5_000) };
        assert!(found.leaving(Ms(10_000), &members, true).is_empty());
    }
}
