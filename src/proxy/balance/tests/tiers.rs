//! Where requests begin, and where they go when it is full there.

use super::super::Why;
use super::*;
use crate::base::Ms;

fn zones_of(hand: &mut Hand, picker: &Picker, count: u64) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for number in 0..count {
        let ask = Ask { hash: key(number), ..Ask::default() };
        let picked = hand.pick(picker, &ask);
        *seen.entry(picked.slot.instance().zone.to_string()).or_default() += 1;
    }
    seen
}

#[test]
fn requests_begin_in_tiers_by_share() {
    let members = instances(&[("a", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let tiers = vec![tier(&["a"], 0.7, None), tier(&["b", "c"], 0.3, None)];
    let plan = TrafficPlan { tiers, panic: false };
    for balance in Balance::ALL {
        let it = with_plan(balance, Limit::Unlimited, &plan, &members);
        let seen = zones_of(&mut Hand::new(1), &it, 10_000);
        assert!((6_700..7_300).contains(&seen["a"]), "{balance:?} {seen:?}");
        assert!(seen["b"] > 1_000 && seen["c"] > 1_000, "{balance:?} {seen:?}");
        assert_eq!(seen.get("d"), None, "in no tier");
    }
    // The same key begins in the same tier.
    let it = with_plan(Balance::Maglev, Limit::Unlimited, &plan, &members);
    for number in 0..100 {
        let ask = Ask { hash: key(number), ..Ask::default() };
        assert_eq!(Hand::new(1).name(&it, &ask), Hand::new(2).name(&it, &ask));
    }
}

#[test]
fn round_robin_is_exact_within_each_tier() {
    let members = instances(&[("a", 1), ("a", 1), ("b", 1), ("b", 1), ("b", 1)]);
    let tiers = vec![tier(&["a"], 0.5, None), tier(&["b"], 0.5, None)];
    let plan = TrafficPlan { tiers, panic: false };
    let it = with_plan(Balance::RoundRobin, Limit::Unlimited, &plan, &members);
    let seen = Hand::new(1).count(&it, 1_000);
    assert!(seen["i0"].abs_diff(seen["i1"]) <= 1, "{seen:?}");
    assert!(seen["i2"].abs_diff(seen["i4"]) <= 1, "{seen:?}");
}

#[test]
fn where_nothing_is_free_the_others_follow_in_order() {
    let members = instances(&[("a", 1), ("b", 1), ("c", 1), ("d", 1)]);
    let tiers = vec![tier(&["a"], 0.0, None), tier(&["b"], 1.0, None), tier(&["c"], 0.0, None)];
    let plan = TrafficPlan { tiers, panic: false };
    for balance in Balance::ALL {
        let it = with_plan(balance, Limit::AtMost(1), &plan, &members);
        let mut hand = Hand::new(1);
        let held: Vec<Picked> =
            (0..4).map(|n| hand.pick(&it, &Ask { hash: key(n), ..Ask::default() })).collect();
        let order: Vec<&str> = held.iter().map(|it| it.slot.instance().zone.as_str()).collect();
        assert_eq!(order, ["b", "a", "c", "d"], "{balance:?}");
        let whys: Vec<Why> = held.iter().map(|it| it.why).collect();
        assert_eq!(whys[0], Why::Balanced);
        assert!(whys[1..].iter().all(|why| *why == Why::OtherTier), "{whys:?}");
        assert_eq!(hand.try_pick(&it, &Ask::default()).err(), Some(Refusal::Saturated));
    }
}

#[test]
fn an_empty_tier_or_a_suspect_one_is_no_dead_end() {
    let members = instances(&[("b", 1), ("c", 1)]);
    let tiers = vec![tier(&["a"], 1.0, Some(0.5)), tier(&["b"], 0.0, None)];
    let plan = TrafficPlan { tiers, panic: false };
    for balance in Balance::ALL {
        let it = with_plan(balance, Limit::AtMost(9), &plan, &members);
        let mut hand = Hand::new(1);
        assert_eq!(hand.name(&it, &Ask::default()), "i0");
        members[0].vitals.suspect();
        assert_eq!(hand.name(&it, &Ask::default()), "i1", "rather the last resort than a suspect");
        members[1].vitals.suspect();
        assert_eq!(hand.pick(&it, &Ask::default()).why, Why::Suspect);
        for member in &members {
            member.vitals.clear_suspicion();
        }
    }
}

#[test]
fn a_tier_spills_when_it_is_filled_as_far_as_it_may_be() {
    let tiers = vec![tier(&["a"], 1.0, Some(0.8)), tier(&["b"], 0.0, None)];
    let plan = TrafficPlan { tiers, panic: false };
    for balance in Balance::ALL {
        let members = instances(&[("a", 1), ("b", 1)]);
        let it = with_plan(balance, Limit::AtMost(10), &plan, &members);
        let mut hand = Hand::new(1);
        let mut pick = |n| hand.pick(&it, &Ask { hash: key(n), ..Ask::default() });
        let held: Vec<Picked> = (0..20).map(&mut pick).collect();
        let told: Vec<(&str, Why)> =
            held.iter().map(|it| (it.slot.instance().zone.as_str(), it.why)).collect();
        // 8 of 10 here, then 8 of 10 there, then what is left here, then what is left there.
        assert!(told[..8].iter().all(|it| *it == ("a", Why::Balanced)), "{balance:?} {told:?}");
        assert!(told[8..16].iter().all(|it| *it == ("b", Why::Spilled)), "{balance:?} {told:?}");
        assert!(told[16..18].iter().all(|it| *it == ("a", Why::Balanced)), "{balance:?} {told:?}");
        assert!(told[18..].iter().all(|it| *it == ("b", Why::OtherTier)), "{balance:?} {told:?}");
    }
    let members = instances(&[("a", 1), ("b", 1)]);
    let it = with_plan(Balance::LeastRequest, Limit::Unlimited, &plan, &members);
    let mut hand = Hand::new(1);
    let held: Vec<Picked> = (0..50).map(|_| hand.pick(&it, &Ask::default())).collect();
    assert!(held.iter().all(|it| it.why == Why::Balanced), "no limit, nothing to fill");
}

#[test]
fn explanations_show_what_a_pick_sees() {
    let members = instances(&[("a", 2), ("b", 1), ("z", 1)]);
    members[1].vitals.set_ramp(512);
    members[2].vitals.suspect();
    let _busy = hold(&members[0], 3);
    let tiers = vec![tier(&["a"], 0.9, Some(0.8)), tier(&["b"], 0.1, None)];
    let plan = TrafficPlan { tiers, panic: false };
    let it = with_plan(Balance::LeastRequest, Limit::AtMost(10), &plan, &members);
    let tiers = it.tiers(Ms(0));
    let shares: Vec<f64> = tiers.iter().map(|tier| tier.share).collect();
    assert_eq!(shares, [0.9, 0.1, 0.0]);
    assert_eq!(tiers[0].spill_at, Some(Share(0.8)));
    assert!(tiers[2].zones.is_empty() && tiers[2].members[0].is_suspect);
    let (busy, cold) = (&tiers[0].members[0], &tiers[1].members[0]);
    assert_eq!((busy.load, busy.in_flight, busy.limit), (2.0, 3, Limit::AtMost(10)));
    assert_eq!((cold.load, cold.ramp, cold.limit), (2.0, 512, Limit::AtMost(5)));
    assert_eq!(it.balance(), Balance::LeastRequest);
    assert_eq!((it.len(), it.is_empty()), (3, false));
}
