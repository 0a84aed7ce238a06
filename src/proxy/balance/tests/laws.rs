//! What holds for all pools.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::instance::FULL;

fn balance() -> impl Strategy<Value = Balance> {
    proptest::sample::select(&Balance::ALL[..])
}

/// Where each of many keys goes.
fn homes(picker: &Picker) -> Vec<String> {
    let mut hand = Hand::new(1);
    (0..4_000).map(|n| hand.name(picker, &Ask { hash: key(n), ..Ask::default() })).collect()
}

#[test]
fn no_other_key_of_a_ring_moves_whatever_the_weights() {
    let members = instances(&[3, 1, 2, 3, 1, 2, 2].map(|weight| ("a", weight)));
    let before = homes(&picker(Balance::Ring, Limit::Unlimited, &members));
    for (index, gone) in members.iter().enumerate() {
        let mut others = members.clone();
        others.remove(index);
        let now = homes(&picker(Balance::Ring, Limit::Unlimited, &others));
        for (before, now) in before.iter().zip(&now) {
            assert!(before == now || before == gone.id.as_str(), "{before} is there");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_pick_exceeds_a_limit(
        balance in balance(),
        members in vec((0usize..3, 1u32..4, 1u32..=FULL), 1..12),
        limit in 1u32..6,
        spill_at in 0.1f64..1.0,
        steps in vec((any::<u64>(), any::<bool>(), 0usize..100), 1..200),
    ) {
        let zones = ["a", "b", "c"];
        let spec: Vec<(&str, u32)> = members.iter().map(|(z, w, _)| (zones[*z], *w)).collect();
        let instances = instances(&spec);
        for (instance, (_, _, ramp)) in instances.iter().zip(&members) {
            instance.vitals.set_ramp(*ramp);
        }
        let tiers = vec![tier(&["a"], 0.5, Some(spill_at)), tier(&["b"], 0.5, None)];
        let plan = TrafficPlan { tiers, panic: false };
        let it = with_plan(balance, Limit::AtMost(limit), &plan, &instances);
        let most = |instance: &Instance| (limit * instance.vitals.ramp()).div_ceil(FULL).max(1);
        let (mut hand, mut held) = (Hand::new(1), Vec::new());
        for (hash, ends, which) in steps {
            if ends && !held.is_empty() {
                held.swap_remove(which % held.len());
            }
            match hand.try_pick(&it, &Ask { hash, ..Ask::default() }) {
                Ok(picked) => held.push(picked),
                Err(refusal) => {
                    prop_assert_eq!(refusal, Refusal::Saturated);
                    let full = |it: &Arc<Instance>| it.vitals.in_flight() == most(it);
                    prop_assert!(instances.iter().all(full), "refused while something was free");
                }
            }
            for instance in &instances {
                prop_assert!(instance.vitals.in_flight() <= most(instance));
            }
        }
    }

    #[test]
    fn hash_tables_know_names_and_weights_alone(
        weights in vec(1u32..5, 2..12),
        ring in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let balance = if ring { Balance::Ring } else { Balance::Maglev };
        let spec: Vec<(&str, u32)> = weights.iter().map(|w| ("a", *w)).collect();
        let one = instances(&spec);
        let mut other = instances(&spec);
        let mut entropy = Entropy::seeded(seed);
        for last in (1..other.len()).rev() {
            other.swap(last, entropy.below(last + 1));
        }
        let (one, other) = (picker(balance, Limit::Unlimited, &one), picker(balance, Limit::Unlimited, &other));
        prop_assert_eq!(homes(&one), homes(&other));
    }

    #[test]
    fn few_keys_move_when_one_leaves(count in 3usize..30, gone in 0usize..30, ring in any::<bool>()) {
        let balance = if ring { Balance::Ring } else { Balance::Maglev };
        let mut members = alike(count);
        let before = homes(&picker(balance, Limit::Unlimited, &members));
        let gone = members.remove(gone % count).id.to_string();
        let after = homes(&picker(balance, Limit::Unlimited, &members));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let own = before.iter().filter(|home| **home == gone).count();
        let disturbed = moved - own;
        let fair = before.len() / count;
        if ring {
            prop_assert_eq!(disturbed, 0, "no key but its own");
        } else {
            prop_assert!(own.abs_diff(fair) <= fair / 2 + 30, "{} of {}", own, fair);
            prop_assert!(moved <= 2 * fair + 40, "{} of {}: {} of {}", moved, fair, disturbed, count);
        }
    }

    #[test]
    fn who_is_not_admitted_for_a_while_moves_no_key_but_its_own(
        members in vec((1u32..5, any::<bool>()), 2..30),
        ring in any::<bool>(),
    ) {
        prop_assume!(members.iter().any(|(_, admitted)| *admitted));
        let pool = pool(if ring { Balance::Ring } else { Balance::Maglev }, Limit::Unlimited);
        let spec: Vec<(&str, u32)> = members.iter().map(|(weight, _)| ("a", *weight)).collect();
        let admitted = members.iter().map(|(_, admitted)| *admitted);
        let there = instances(&spec);
        let some: Vec<_> = there.iter().cloned().zip(admitted).collect();
        let gone: Vec<&str> =
            some.iter().filter(|(_, admitted)| !admitted).map(|(it, _)| it.id.as_str()).collect();
        let build = |members| homes(&Picker::build(&pool, &TrafficPlan::default(), members, &Memory::default()));
        for (before, now) in build(&all(&there)).iter().zip(build(&some)) {
            prop_assert!(!gone.contains(&now.as_str()));
            prop_assert!(*before == now || gone.contains(&before.as_str()), "{} is there", before);
        }
    }

    #[test]
    fn a_maglev_table_is_even(weights in vec(1u32..5, 1..20)) {
        let spec: Vec<(&str, u32)> = weights.iter().map(|w| ("a", *w)).collect();
        let total: u32 = weights.iter().sum();
        let seats: Vec<_> = instances(&spec).iter().map(|it| (it.id.clone(), it.weight)).collect();
        let table = super::super::maglev::Maglev::build(&seats);
        let mut seen = vec![0u32; weights.len()];
        let size = super::super::maglev::SIZE as u64;
        for slot in 0..size {
            seen[table.get(u64::MAX / size * slot + size)] += 1;
        }
        for (weight, seen) in weights.iter().zip(seen) {
            let fair = f64::from(*weight) / f64::from(total) * size as f64;
            prop_assert!((f64::from(seen) - fair).abs() <= 8.0, "{} and not {}", seen, fair);
        }
    }

    #[test]
    fn no_instance_of_a_ring_is_above_its_bound(
        weights in vec(1u32..4, 1..40),
        keys in 1u64..20,
        steps in vec((any::<u64>(), any::<bool>(), any::<usize>()), 1..300),
    ) {
        let spec: Vec<(&str, u32)> = weights.iter().map(|w| ("a", *w)).collect();
        let members = instances(&spec);
        let total = f64::from(weights.iter().sum::<u32>());
        let it = picker(Balance::Ring, Limit::Unlimited, &members);
        let (mut hand, mut held) = (Hand::new(1), Vec::new());
        // What ends between two counts is not known before the next.
        let stale = members.len() / 4;
        let slack = if stale > 1 { stale as f64 } else { 0.0 };
        for (number, ends, which) in steps {
            if ends && !held.is_empty() {
                held.swap_remove(which % held.len());
            }
            let ask = Ask { hash: key(number % keys), ..Ask::default() };
            let picked = hand.pick(&it, &ask);
            let instance = picked.slot.instance();
            let in_all = held.len() as f64 + 1.0 + slack;
            let bound = (1.5 * in_all * f64::from(instance.weight) / total - 1e-9).ceil().max(1.0);
            prop_assert!(f64::from(instance.vitals.in_flight()) <= bound);
            held.push(picked);
        }
    }

    #[test]
    fn what_is_kept_makes_the_same_picks(weights in vec(1u32..5, 2..12), balance in balance()) {
        let spec: Vec<(&str, u32)> = weights.iter().map(|w| ("a", *w)).collect();
        let members = instances(&spec);
        let (pool, plan) = (pool(balance, Limit::Unlimited), TrafficPlan::default());
        let memory = Memory::default();
        let build = |members: &[Arc<Instance>]| Picker::build(&pool, &plan, &all(members), &memory);
        let first = homes(&build(&members));
        let fewer = homes(&build(&members[1..]));
        prop_assert_eq!(fewer, homes(&picker(balance, Limit::Unlimited, &members[1..])));
        prop_assert_eq!(first, homes(&build(&members)));
    }
}
