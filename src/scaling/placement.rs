//! In which zone to launch, and which instance to drain.
//!
//! Launches go to the emptiest zone that takes any, and victims come from the fullest, so zones
//! stay within one of each other. What counts is what serves or boots.

use crate::base::{InstanceId, ZoneId};
use crate::scaling::roster::{Member, Stage};

/// The zones with what each carries: the provider's in its order, then others that have instances.
#[derive(Clone, Debug, Default)]
pub(super) struct Zones {
    all: Vec<Zone>,
    /// The units of an instance that is launched now.
    unit: u32,
    /// Whether launches go to the emptiest zone only, and not elsewhere if it takes none.
    strict: bool,
    /// Zones that would have got launches and take none, where that is strict.
    refused: Vec<ZoneId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Zone {
    id: ZoneId,
    /// In units.
    carrying: u32,
    usable: bool,
    /// By the provider.
    offered: bool,
}

impl Zones {
    /// Counts `members` by zone. `usable` says of each zone that the `provider` offers whether it
    /// takes launches; `ordered`, how many units are ordered there and not among the members yet.
    pub(super) fn count(
        provider: &[ZoneId],
        members: &[Member<'_>],
        usable: impl Fn(&ZoneId) -> bool,
        ordered: impl Fn(&ZoneId) -> u32,
    ) -> Self {
        let zone = |id: &ZoneId, usable| Zone {
            id: id.clone(),
            carrying: ordered(id),
            usable,
            offered: true,
        };
        let mut zones: Vec<Zone> = provider.iter().map(|id| zone(id, usable(id))).collect();
        for member in members {
            let known = zones.iter_mut().find(|zone| zone.id == *member.zone());
            let carries = matches!(member.stage, Stage::Healthy | Stage::Pending);
            let carries = if carries { member.units } else { 0 };
            match known {
                Some(zone) => zone.carrying += carries,
                None => zones.push(Zone {
                    carrying: carries,
                    offered: false,
                    ..zone(member.zone(), false)
                }),
            }
        }
        Self { all: zones, unit: 1, strict: false, refused: Vec::new() }
    }

    /// The same, for instances of so many units, and whether zones are kept even at any price.
    pub(super) fn launching(self, unit: u32, strict: bool) -> Self {
        Self { unit, strict, ..self }
    }

    /// Zones that should have got launches and take none, so that nothing was placed for them.
    pub(super) fn refused(&self) -> &[ZoneId] {
        &self.refused
    }

    /// Where `count` more instances go: zones with how many each, and nothing if none is usable.
    pub(super) fn spread(&mut self, count: u32) -> Vec<(ZoneId, u32)> {
        let mut more = vec![0u32; self.all.len()];
        for _ in 0..count {
            let emptiest = (0..self.all.len())
                .filter(|zone| self.all[*zone].usable || (self.strict && self.all[*zone].offered))
                .min_by_key(|zone| self.all[*zone].carrying);
            let Some(emptiest) = emptiest else { break };
            let zone = &mut self.all[emptiest];
            zone.carrying += self.unit;
            if zone.usable {
                more[emptiest] += 1;
            } else if !self.refused.contains(&zone.id) {
                self.refused.push(zone.id.clone());
            }
        }
        let zones = self.all.iter().zip(more);
        zones.filter(|(_, more)| *more > 0).map(|(zone, more)| (zone.id.clone(), more)).collect()
    }

    /// The same for what comes before so many `units` of the outdated leave: where those are.
    pub(super) fn spread_in_place_of(
        &mut self,
        members: &[Member<'_>],
        units: u32,
        count: u32,
    ) -> Vec<(ZoneId, u32)> {
        let mut after = self.clone();
        after.outdated(members, units);
        let placed = after.spread(count);
        self.refused.clone_from(&after.refused);
        for zone in &mut self.all {
            let here = placed.iter().find(|(id, _)| *id == zone.id);
            zone.carrying += here.map_or(0, |(_, more)| more * self.unit);
        }
        placed
    }

    /// Who of the healthy leaves, so that `units` do and not more: never a protected one, and the
    /// outdated first.
    pub(super) fn victims(&mut self, members: &[Member<'_>], units: u32) -> Vec<InstanceId> {
        let (mut victims, left) = self.leave(members, units, true);
        victims.extend(self.leave(members, left, false).0);
        victims
    }

    /// Who of the outdated leaves, so that `units` do and not more.
    pub(super) fn outdated(&mut self, members: &[Member<'_>], units: u32) -> Vec<InstanceId> {
        self.leave(members, units, true).0
    }

    /// Who leaves, and how many of `units` are left for others.
    fn leave(&mut self, members: &[Member<'_>], units: u32, old: bool) -> (Vec<InstanceId>, u32) {
        let mut candidates: Vec<&Member<'_>> = members
            .iter()
            .filter(|member| member.stage == Stage::Healthy && !member.machine.protected)
            .filter(|member| member.old == old)
            .collect();
        // The least loaded last, and of equals the name that sorts last: young ones, mostly.
        candidates.sort_by(|a, b| b.in_flight.cmp(&a.in_flight).then(a.id().cmp(b.id())));
        let mut left = units;
        let mut taken = Vec::new();
        loop {
            candidates.retain(|member| member.units <= left);
            let better = |zone: &Zone, of: &Zone| zone.carrying > of.carrying;
            let Some((zone, member)) = self.take(&mut candidates, better) else { break };
            self.all[zone].carrying = self.all[zone].carrying.saturating_sub(member.units);
            left -= member.units;
            taken.push(member.id().clone());
        }
        (taken, left)
    }

    /// Who of the draining serves again, so that `units` do.
    pub(super) fn revivals(&mut self, members: &[Member<'_>], units: u32) -> Vec<InstanceId> {
        let mut candidates: Vec<&Member<'_>> = members
            .iter()
            .filter(|member| member.stage == Stage::Draining { revivable: true })
            .collect();
        candidates.sort_by(|a, b| a.in_flight.cmp(&b.in_flight).then(a.id().cmp(b.id())));
        let mut left = units;
        let mut taken = Vec::new();
        while left > 0 {
            let better = |zone: &Zone, of: &Zone| zone.carrying < of.carrying;
            let Some((zone, member)) = self.take(&mut candidates, better) else { break };
            self.all[zone].carrying += member.units;
            left = left.saturating_sub(member.units);
            taken.push(member.id().clone());
        }
        taken
    }

    /// Takes one from the end of `candidates`, from the zone that is `better` than the others.
    fn take<'m, 'a>(
        &self,
        candidates: &mut Vec<&'m Member<'a>>,
        better: impl Fn(&Zone, &Zone) -> bool,
    ) -> Option<(usize, &'m Member<'a>)> {
        let mut best: Option<(usize, usize)> = None;
        for (index, member) in candidates.iter().enumerate() {
            let zone = self.all.iter().position(|zone| zone.id == *member.zone());
            let Some(zone) = zone else { continue };
            // Not worse than what was found before it: the last of equals.
            if best.is_none_or(|(_, best)| !better(&self.all[best], &self.all[zone])) {
                best = Some((index, zone));
            }
        }
        best.map(|(index, zone)| (zone, candidates.remove(index)))
    }

    /// A usable zone and the fullest one, if an instance more here and one less there makes them
    /// more even.
    pub(super) fn imbalance(&self) -> Option<(&ZoneId, &ZoneId)> {
        let emptiest = self.all.iter().filter(|zone| zone.usable).min_by_key(|z| z.carrying)?;
        let fullest = self.all.iter().max_by_key(|zone| zone.carrying)?;
        (fullest.carrying > emptiest.carrying + self.unit).then_some((&emptiest.id, &fullest.id))
    }

    /// The zones that the provider has and that take no launches.
    pub(super) fn unusable(&self) -> impl Iterator<Item = &ZoneId> {
        self.all.iter().filter(|zone| !zone.usable).map(|zone| &zone.id)
    }

    /// Whether no zone takes launches.
    pub(super) fn all_unusable(&self) -> bool {
        !self.all.iter().any(|zone| zone.usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FULL, Machine, MachineState};
    use proptest::prelude::*;

    fn machine(id: &str, zone: &str) -> Machine {
        Machine {
            id: id.into(),
            zone: zone.into(),
            address: None,
            state: MachineState::Running,
            size: None,
            model: None,
            token: None,
            protected: false,
        }
    }

    fn member(machine: &Machine, stage: Stage, in_flight: u32) -> Member<'_> {
        Member {
            machine,
            stage,
            in_flight,
            ramp: FULL,
            known: true,
            news: None,
            told_to_go: false,
            units: 1,
            old: false,
        }
    }

    fn zones(counts: &[(&str, u32, bool)]) -> Zones {
        let zone = |(id, carrying, usable): &(&str, u32, bool)| Zone {
            id: (*id).into(),
            carrying: *carrying,
            usable: *usable,
            offered: true,
        };
        let all = counts.iter().map(zone).collect();
        Zones { all, unit: 1, ..Zones::default() }
    }

    #[test]
    fn launches_fill_the_emptiest_usable_zone_first() {
        let spread = |counts: &[_], count| {
            let placed = zones(counts).spread(count);
            placed.iter().map(|(zone, more)| format!("{zone}{more}")).collect::<Vec<_>>().join(" ")
        };
        let even = [("c", 1, true), ("a", 1, true), ("b", 1, true)];
        assert_eq!(spread(&even, 6), "c2 a2 b2");
        assert_eq!(spread(&even, 1), "c1", "ties go by the provider's order");
        assert_eq!(spread(&[("a", 0, false), ("b", 3, true), ("c", 2, true)], 2), "b1 c1");
        assert_eq!(spread(&[("a", 0, false)], 2), "");
    }

    #[test]
    fn where_balance_is_strict_nothing_goes_elsewhere() {
        let mut zones = zones(&[("a", 1, false), ("b", 2, true), ("c", 2, true)]);
        zones.strict = true;
        assert_eq!(zones.spread(4), [("b".into(), 1), ("c".into(), 1)]);
        assert_eq!(zones.refused(), ["a".into()]);
    }

    #[test]
    fn victims_are_the_least_loaded_of_the_fullest_zone_and_never_protected() {
        let mut machines: Vec<Machine> =
            [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b"), ("b2", "b")]
                .map(|(id, zone)| machine(id, zone))
                .into();
        let loads = [5, 3, 9, 0, 1];
        let count = |machines: &[Machine], count| {
            let members: Vec<_> = machines
                .iter()
                .zip(loads)
                .map(|(machine, load)| member(machine, Stage::Healthy, load))
                .collect();
            let zones = ["a".into(), "b".into()];
            let mut zones = Zones::count(&zones, &members, |_| true, |_| 0);
            zones.victims(&members, count)
        };
        assert_eq!(count(&machines, 1), [InstanceId::new("a2")]);
        // Then both have two, and the least loaded of all goes.
        let three = ["a2", "b1", "a1"].map(InstanceId::new);
        assert_eq!(count(&machines, 3), three);
        machines.iter_mut().for_each(|machine| machine.protected = machine.zone == "a".into());
        assert_eq!(count(&machines, 3), ["b1", "b2"].map(InstanceId::new));
    }

    #[test]
    fn the_most_loaded_of_the_draining_comes_back_to_the_emptiest_zone() {
        let machines = [machine("a1", "a"), machine("a2", "a"), machine("b1", "b")];
        let draining = Stage::Draining { revivable: true };
        let members = [
            member(&machines[0], draining, 7),
            member(&machines[1], draining, 9),
            member(&machines[2], Stage::Draining { revivable: false }, 9),
        ];
        let mut zones = Zones::count(&["a".into(), "b".into()], &members, |_| true, |_| 0);
        assert_eq!(zones.revivals(&members, 3), ["a2", "a1"].map(InstanceId::new));
    }

    proptest! {
        #[test]
        fn launches_never_make_zones_less_even(
            counts in proptest::collection::vec(0u32..30, 1..5),
            more in 0u32..60,
        ) {
            let names = ["a", "b", "c", "d"];
            let counts: Vec<_> =
                counts.iter().zip(names).map(|(count, name)| (name, *count, true)).collect();
            let apart = |zones: &Zones| {
                let all = || zones.all.iter().map(|zone| zone.carrying);
                all().max().unwrap_or(0) - all().min().unwrap_or(0)
            };
            let mut zones = zones(&counts);
            let before = apart(&zones);
            let placed: u32 = zones.spread(more).iter().map(|(_, count)| count).sum();
            prop_assert_eq!(placed, more);
            prop_assert!(apart(&zones) <= before.max(1));
            prop_assert_eq!(zones.imbalance().is_some(), apart(&zones) > 1);
        }
    }
}
