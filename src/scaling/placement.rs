//! In which zone to launch, and which instance to drain.
//!
//! Launches go to the emptiest zone that takes any, and victims come from the fullest, so zones
//! stay within one of each other. What counts is what serves or boots.

use crate::base::{InstanceId, ZoneId};
use crate::scaling::roster::{Member, Stage};

/// The zones with what each carries: the provider's in its order, then others that have instances.
#[derive(Clone, Debug, Default)]
pub(super) struct Zones(Vec<Zone>);

#[derive(Clone, PartialEq, Eq, Debug)]
struct Zone {
    id: ZoneId,
    carrying: u32,
    usable: bool,
}

impl Zones {
    /// Counts `members` by zone. `usable` says of each zone that the `provider` offers whether it
    /// takes launches; `ordered`, how many are ordered there and not among the members yet.
    pub(super) fn count(
        provider: &[ZoneId],
        members: &[Member<'_>],
        usable: impl Fn(&ZoneId) -> bool,
        ordered: impl Fn(&ZoneId) -> u32,
    ) -> Self {
        let zone = |id: &ZoneId, usable| Zone { id: id.clone(), carrying: ordered(id), usable };
        let mut zones = Self(provider.iter().map(|id| zone(id, usable(id))).collect());
        for member in members {
            let known = zones.0.iter_mut().find(|zone| zone.id == *member.zone());
            let carries = u32::from(matches!(member.stage, Stage::Healthy | Stage::Pending));
            match known {
                Some(zone) => zone.carrying += carries,
                None => zones.0.push(Zone { carrying: carries, ..zone(member.zone(), false) }),
            }
        }
        zones
    }

    /// Where `count` more go: zones with how many each, and nothing if none is usable.
    pub(super) fn spread(&mut self, count: u32) -> Vec<(ZoneId, u32)> {
        let mut more = vec![0u32; self.0.len()];
        for _ in 0..count {
            let emptiest = (0..self.0.len())
                .filter(|zone| self.0[*zone].usable)
                .min_by_key(|zone| self.0[*zone].carrying);
            let Some(emptiest) = emptiest else { break };
            self.0[emptiest].carrying += 1;
            more[emptiest] += 1;
        }
        let zones = self.0.iter().zip(more);
        zones.filter(|(_, more)| *more > 0).map(|(zone, more)| (zone.id.clone(), more)).collect()
    }

    /// Who of the healthy leaves, so that `count` do: never a protected one.
    pub(super) fn victims(&mut self, members: &[Member<'_>], count: u32) -> Vec<InstanceId> {
        let mut candidates: Vec<&Member<'_>> = members
            .iter()
            .filter(|member| member.stage == Stage::Healthy && !member.machine.protected)
            .collect();
        // The least loaded last, and of equals the name that sorts last: young ones, mostly.
        candidates.sort_by(|a, b| b.in_flight.cmp(&a.in_flight).then(a.id().cmp(b.id())));
        self.take(
            candidates,
            count,
            |zone, of| zone.carrying > of.carrying,
            |zone| {
                zone.carrying = zone.carrying.saturating_sub(1);
            },
        )
    }

    /// Who of the draining serves again, so that `count` do.
    pub(super) fn revivals(&mut self, members: &[Member<'_>], count: u32) -> Vec<InstanceId> {
        let mut candidates: Vec<&Member<'_>> = members
            .iter()
            .filter(|member| member.stage == Stage::Draining { revivable: true })
            .collect();
        candidates.sort_by(|a, b| a.in_flight.cmp(&b.in_flight).then(a.id().cmp(b.id())));
        self.take(
            candidates,
            count,
            |zone, of| zone.carrying < of.carrying,
            |zone| {
                zone.carrying += 1;
            },
        )
    }

    /// Takes `count` from the end of `candidates`, each from the zone that is `better` than the
    /// others then, and has the zone `changed`.
    fn take(
        &mut self,
        mut candidates: Vec<&Member<'_>>,
        count: u32,
        better: impl Fn(&Zone, &Zone) -> bool,
        changed: impl Fn(&mut Zone),
    ) -> Vec<InstanceId> {
        let mut taken = Vec::new();
        for _ in 0..count {
            let mut best: Option<(usize, usize)> = None;
            for (index, member) in candidates.iter().enumerate() {
                let zone = self.0.iter().position(|zone| zone.id == *member.zone());
                let Some(zone) = zone else { continue };
                // Not worse than what was found before it: the last of equals.
                if best.is_none_or(|(_, best)| !better(&self.0[best], &self.0[zone])) {
                    best = Some((index, zone));
                }
            }
            let Some((index, zone)) = best else { break };
            changed(&mut self.0[zone]);
            taken.push(candidates.remove(index).id().clone());
        }
        taken
    }

    /// A usable zone and the fullest one, if they are more than one apart.
    pub(super) fn imbalance(&self) -> Option<(&ZoneId, &ZoneId)> {
        let emptiest = self.0.iter().filter(|zone| zone.usable).min_by_key(|z| z.carrying)?;
        let fullest = self.0.iter().max_by_key(|zone| zone.carrying)?;
        (fullest.carrying > emptiest.carrying + 1).then_some((&emptiest.id, &fullest.id))
    }

    /// The zones that the provider has and that take no launches.
    pub(super) fn unusable(&self) -> impl Iterator<Item = &ZoneId> {
        self.0.iter().filter(|zone| !zone.usable).map(|zone| &zone.id)
    }

    /// Whether no zone takes launches.
    pub(super) fn all_unusable(&self) -> bool {
        !self.0.iter().any(|zone| zone.usable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Machine, MachineState};
    use proptest::prelude::*;

    fn machine(id: &str, zone: &str) -> Machine {
        Machine {
            id: id.into(),
            zone: zone.into(),
            address: None,
            state: MachineState::Running,
            size: None,
            token: None,
            protected: false,
        }
    }

    fn member(machine: &Machine, stage: Stage, in_flight: u32) -> Member<'_> {
        Member {
            machine,
            stage,
            in_flight,
            evacuated: false,
            known: true,
            news: None,
            told_to_go: false,
        }
    }

    fn zones(counts: &[(&str, u32, bool)]) -> Zones {
        let zone = |(id, carrying, usable): &(&str, u32, bool)| Zone {
            id: (*id).into(),
            carrying: *carrying,
            usable: *usable,
        };
        Zones(counts.iter().map(zone).collect())
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
                let all = || zones.0.iter().map(|zone| zone.carrying);
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
