//! Which instance a request goes to. Built per snapshot from what is eligible; a pick allocates
//! nothing and takes no lock.
//!
//! Eligibility is decided before, by the three truths; here only two things are looked at afresh:
//! whether the instance is suspect, and whether it has a free slot. A suspect is picked only where
//! no other instance is left, because a stall that everyone shares is not the instance's fault.

use std::sync::Arc;

use crate::base::{Entropy, ZoneId};
use crate::model::{Balance, Instance, Limit, Slot};

/// What a request asks for.
#[derive(Debug, Default)]
pub struct Ask<'a> {
    /// Instances that failed it already, by serial: not again.
    pub tried: &'a [u64],
    /// The zone of the last failure: another is preferred.
    pub avoid: Option<&'a ZoneId>,
}

/// Why there is no instance for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Nothing is eligible.
    Empty,
    /// Everything eligible was tried already.
    AllTried,
    /// Everything eligible is full.
    Saturated,
}

/// Picks among the eligible instances of a pool.
#[derive(Debug)]
pub struct Picker {
    balance: Balance,
    limit: Limit,
    /// Sorted so that zones alternate: consecutive picks go to different zones.
    members: Vec<Arc<Instance>>,
    /// Indices into `members` in the order of a smooth weighted round robin; one full turn.
    turn: Vec<u32>,
}

/// Where a request may go, from the best to the last resort.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Terms {
    /// To no suspect, and not into the zone to be avoided.
    Strict,
    /// To no suspect.
    AnyZone,
    /// To whoever is eligible.
    Anyone,
}

/// A full scan is as cheap as two draws up to here, and never picks the busier of two.
pub const SCAN_UP_TO: usize = 4;

/// Longest turn of the weighted round robin; weights are scaled down to fit.
const TURN_MAX: u64 = 16_384;

impl Picker {
    /// A picker over `eligible`.
    pub fn build(balance: Balance, limit: Limit, eligible: &[Arc<Instance>]) -> Self {
        let members = alternate_zones(eligible);
        let turn = smooth_turn(&members.iter().map(|m| m.weight).collect::<Vec<_>>());
        Self { balance, limit, members, turn }
    }

    /// How many instances are eligible.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether nothing is eligible.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Takes a slot on an instance. `cursor` is where this worker's round robin stands.
    ///
    /// # Errors
    /// If there is none to take, and why.
    pub fn pick(
        &self,
        ask: &Ask<'_>,
        cursor: &mut usize,
        entropy: &mut Entropy,
    ) -> Result<Slot, Refusal> {
        if self.members.is_empty() {
            return Err(Refusal::Empty);
        }
        let first = match self.balance {
            Balance::RoundRobin => {
                *cursor = (*cursor + 1) % self.turn.len();
                self.turn[*cursor] as usize
            }
            Balance::LeastRequest => self.least_busy(ask, entropy),
            Balance::Random => self.draw(entropy),
        };
        if self.fits(first, ask, Terms::Strict)
            && let Some(slot) = self.members[first].take_slot(self.limit)
        {
            return Ok(slot);
        }
        self.scan(ask, first)
    }

    /// The first choice was no use: every other instance in turn, the untroubled first.
    fn scan(&self, ask: &Ask<'_>, first: usize) -> Result<Slot, Refusal> {
        let mut untried = false;
        for terms in [Terms::Strict, Terms::AnyZone, Terms::Anyone] {
            for step in 1..=self.members.len() {
                let index = (first + step) % self.members.len();
                if ask.tried.contains(&self.members[index].vitals.serial) {
                    continue;
                }
                untried = true;
                if self.fits(index, ask, terms)
                    && let Some(slot) = self.members[index].take_slot(self.limit)
                {
                    return Ok(slot);
                }
            }
        }
        Err(if untried { Refusal::Saturated } else { Refusal::AllTried })
    }

    /// Whether the request may go there on these terms.
    fn fits(&self, index: usize, ask: &Ask<'_>, terms: Terms) -> bool {
        let member = &self.members[index];
        !ask.tried.contains(&member.vitals.serial)
            && match terms {
                Terms::Strict => !member.vitals.is_suspect() && ask.avoid != Some(&member.zone),
                Terms::AnyZone => !member.vitals.is_suspect(),
                Terms::Anyone => true,
            }
    }

    /// Least request: of two distinct draws (Mitzenmacher, 2001), or of all where there are few.
    fn least_busy(&self, ask: &Ask<'_>, entropy: &mut Entropy) -> usize {
        let count = self.members.len();
        if count <= SCAN_UP_TO {
            // Starting anywhere spreads ties evenly.
            let start = entropy.below(count);
            let order = (0..count).map(|step| (start + step) % count);
            return order.reduce(|best, next| self.less_busy(best, next, ask)).unwrap_or(start);
        }
        let one = entropy.below(count);
        let other = (one + 1 + entropy.below(count - 1)) % count;
        self.less_busy(one, other, ask)
    }

    fn less_busy(&self, one: usize, other: usize, ask: &Ask<'_>) -> usize {
        match (self.fits(one, ask, Terms::Strict), self.fits(other, ask, Terms::Strict)) {
            (true, false) => return one,
            (false, true) => return other,
            _ => {}
        }
        let load = |index: usize, by: u32| {
            (u64::from(self.members[index].vitals.in_flight()) + 1) * u64::from(by)
        };
        let (one_weight, other_weight) = (self.members[one].weight, self.members[other].weight);
        // (a + 1) / weight(a) against (b + 1) / weight(b), without dividing.
        if load(other, one_weight) < load(one, other_weight) { other } else { one }
    }

    /// Weighted random: the turn holds each instance as often as its weight.
    fn draw(&self, entropy: &mut Entropy) -> usize {
        self.turn[entropy.below(self.turn.len())] as usize
    }
}

/// The first of each zone, then the second of each, and so on.
fn alternate_zones(eligible: &[Arc<Instance>]) -> Vec<Arc<Instance>> {
    let mut zones: Vec<(&ZoneId, Vec<&Arc<Instance>>)> = Vec::new();
    for instance in eligible {
        match zones.iter_mut().find(|(zone, _)| **zone == instance.zone) {
            Some((_, members)) => members.push(instance),
            None => zones.push((&instance.zone, vec![instance])),
        }
    }
    zones.sort_by_key(|(zone, _)| *zone);
    let deepest = zones.iter().map(|(_, members)| members.len()).max().unwrap_or(0);
    (0..deepest)
        .flat_map(|row| zones.iter().filter_map(move |(_, members)| members.get(row)))
        .map(|instance| Arc::clone(instance))
        .collect()
}

/// One turn of nginx' smooth weighted round robin: each index as often as its weight says, spread
/// as evenly as can be. Equal weights give each index once.
fn smooth_turn(weights: &[u32]) -> Vec<u32> {
    let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)).max(1);
    let mut weights: Vec<u64> = weights.iter().map(|w| u64::from(w / divisor)).collect();
    let total: u64 = weights.iter().sum();
    if weights.iter().all(|weight| *weight == 1) {
        return (0..weights.len() as u32).collect();
    }
    if total > TURN_MAX {
        for weight in &mut weights {
            *weight = (*weight * TURN_MAX / total).max(1);
        }
    }
    let total: i64 = weights.iter().sum::<u64>() as i64;
    let mut current = vec![0i64; weights.len()];
    (0..total)
        .map(|_| {
            for (current, weight) in current.iter_mut().zip(&weights) {
                *current += *weight as i64;
            }
            let best = (0..current.len()).max_by_key(|i| (current[*i], std::cmp::Reverse(*i)));
            let best = best.unwrap_or(0);
            current[best] -= total;
            best as u32
        })
        .collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn instances(zones_and_weights: &[(&str, u32)]) -> Vec<Arc<Instance>> {
        let make = |(n, (zone, weight)): (usize, &(&str, u32))| {
            Arc::new(Instance {
                id: format!("i{n}").as_str().into(),
                pool: "p".into(),
                zone: (*zone).into(),
                address: ([127, 0, 0, 1], 1000 + n as u16).into(),
                weight: *weight,
                vitals: Arc::default(),
            })
        };
        zones_and_weights.iter().enumerate().map(make).collect()
    }

    fn picks(picker: &Picker, count: usize) -> BTreeMap<String, usize> {
        let (mut cursor, mut entropy) = (0, Entropy::seeded(9));
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let slot = picker.pick(&Ask::default(), &mut cursor, &mut entropy).expect("a pick");
            *seen.entry(slot.instance().id.to_string()).or_default() += 1;
        }
        seen
    }

    #[test]
    fn round_robin_follows_weights_exactly_and_alternates_zones() {
        let picker = Picker::build(
            Balance::RoundRobin,
            Limit::Unlimited,
            &instances(&[("a", 1), ("a", 1), ("b", 1), ("c", 1)]),
        );
        let zones: Vec<&str> = picker.members.iter().map(|m| m.zone.as_str()).collect();
        assert_eq!(zones, ["a", "b", "c", "a"]);
        assert!(picks(&picker, 400).values().all(|n| *n == 100));

        let members = instances(&[("a", 5), ("b", 1), ("c", 1)]);
        let picker = Picker::build(Balance::RoundRobin, Limit::Unlimited, &members);
        assert_eq!(picker.turn, [0, 0, 1, 0, 2, 0, 0], "the sequence of nginx' own example");
        assert_eq!(picks(&picker, 700)["i0"], 500);
    }

    #[test]
    fn least_request_prefers_the_idle() {
        for count in [2usize, 4, 40] {
            let spec: Vec<(&str, u32)> = (0..count).map(|_| ("a", 1)).collect();
            let members = instances(&spec);
            let _busy: Vec<Slot> =
                (0..10).filter_map(|_| members[0].take_slot(Limit::Unlimited)).collect();
            let picker = Picker::build(Balance::LeastRequest, Limit::Unlimited, &members);
            assert_eq!(picks(&picker, 1000).get("i0"), None, "{count} instances");
        }
    }

    #[test]
    fn weights_count_in_every_algorithm() {
        let members = instances(&[("a", 3), ("b", 1)]);
        let random = picks(&Picker::build(Balance::Random, Limit::Unlimited, &members), 4000);
        assert!((2800..3200).contains(&random["i0"]), "{random:?}");
        let picker = Picker::build(Balance::LeastRequest, Limit::Unlimited, &members);
        let (mut cursor, mut entropy) = (0, Entropy::seeded(2));
        let held: Vec<Slot> = (0..40)
            .map(|_| picker.pick(&Ask::default(), &mut cursor, &mut entropy).expect("a pick"))
            .collect();
        let heavy = held.iter().filter(|slot| slot.instance().id.as_str() == "i0").count();
        assert!((29..=31).contains(&heavy), "3 to 1 of 40 in flight, not {heavy}");
    }

    #[test]
    fn full_suspect_and_tried_instances_are_passed_over() {
        let (mut cursor, mut entropy) = (0, Entropy::seeded(3));
        for balance in [Balance::RoundRobin, Balance::LeastRequest, Balance::Random] {
            let members = instances(&[("a", 1), ("b", 1), ("c", 1)]);
            let picker = Picker::build(balance, Limit::AtMost(1), &members);
            let mut pick = |ask: &Ask<'_>| picker.pick(ask, &mut cursor, &mut entropy);
            members[0].vitals.suspect();
            let tried = [members[1].vitals.serial];
            let slot = pick(&Ask { tried: &tried, avoid: None }).expect("the third");
            assert_eq!(slot.instance().id.as_str(), "i2");
            let last =
                pick(&Ask { tried: &tried, avoid: None }).expect("rather a suspect than none");
            assert_eq!(last.instance().id.as_str(), "i0");
            assert_eq!(pick(&Ask { tried: &tried, avoid: None }).err(), Some(Refusal::Saturated));
            let all: Vec<u64> = members.iter().map(|m| m.vitals.serial).collect();
            assert_eq!(pick(&Ask { tried: &all, avoid: None }).err(), Some(Refusal::AllTried));
            drop((slot, last));
            members[0].vitals.clear_suspicion();
            for _ in 0..20 {
                let avoid = ZoneId::new("b");
                let slot = pick(&Ask { tried: &[], avoid: Some(&avoid) }).expect("another zone");
                assert_ne!(slot.instance().zone.as_str(), "b");
            }
        }
        let none = Picker::build(Balance::Random, Limit::Unlimited, &[]);
        assert_eq!(
            none.pick(&Ask::default(), &mut cursor, &mut entropy).err(),
            Some(Refusal::Empty)
        );
    }

    proptest::proptest! {
        #[test]
        fn a_turn_holds_each_by_its_weight(weights in proptest::collection::vec(1u32..50, 1..20)) {
            let turn = smooth_turn(&weights);
            let divisor = weights.iter().fold(0, |a, b| gcd(a, *b)) as usize;
            for (index, weight) in weights.iter().enumerate() {
                let count = turn.iter().filter(|i| **i as usize == index).count();
                proptest::prop_assert_eq!(count * divisor, *weight as usize);
            }
        }
    }
}
