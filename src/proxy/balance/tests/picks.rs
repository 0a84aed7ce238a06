//! What each algorithm does with weights, load, suspects and failures.

use std::time::Duration;

use super::super::Why;
use super::super::turn::{alternate_zones, gcd, smooth_turn};
use super::*;
use crate::base::{Ms, ZoneId};
use crate::model::cost::FAILURE;
use crate::model::instance::FULL;

#[test]
fn round_robin_follows_weights_exactly_and_alternates_zones() {
    let members = instances(&[("a", 1), ("a", 1), ("b", 1), ("c", 1)]);
    let zones: Vec<String> =
        alternate_zones(members.iter()).iter().map(|m| m.zone.to_string()).collect();
    assert_eq!(zones, ["a", "b", "c", "a"]);
    let it = picker(Balance::RoundRobin, Limit::Unlimited, &members);
    assert!(Hand::new(9).count(&it, 400).values().all(|n| *n == 100));

    let members = instances(&[("a", 5), ("b", 1), ("c", 1)]);
    assert_eq!(
        smooth_turn(&[5, 1, 1]),
        [0, 0, 1, 0, 2, 0, 0],
        "the sequence of nginx' own example"
    );
    let it = picker(Balance::RoundRobin, Limit::Unlimited, &members);
    assert_eq!(Hand::new(9).count(&it, 700)["i0"], 500);
}

#[test]
fn least_request_prefers_the_idle() {
    for count in [2usize, 4, 40] {
        let members = alike(count);
        let _busy = hold(&members[0], 10);
        let it = picker(Balance::LeastRequest, Limit::Unlimited, &members);
        assert_eq!(Hand::new(9).count(&it, 1000).get("i0"), None, "{count} instances");
    }
}

#[test]
fn those_that_have_nothing_to_do_are_taken_by_weight() {
    // Weights and ramps, and the part of 40,000 that the first gets, one request after the other.
    for (weights, ramp, expected) in [
        (vec![1, 1], FULL, 0.5),
        (vec![1, 3], FULL, 0.25),
        (vec![3, 1, 1, 1], FULL, 0.5),
        (vec![1, 1], 102, 0.1 / 1.1),
        (vec![2, 1, 1, 1], 512, 0.25),
        // Drawn in two of eight cases, and then preferred in three of four.
        (vec![3, 1, 1, 1, 1, 1, 1, 1], FULL, 0.1875),
        (vec![1; 8], 102, 0.1 / 7.1),
        (vec![1; 8], 1, 0.001 / 7.001),
    ] {
        let zones: Vec<(&str, u32)> = weights.iter().map(|weight| ("a", *weight)).collect();
        let members = instances(&zones);
        members[0].vitals.set_ramp(ramp);
        let it = picker(Balance::LeastRequest, Limit::Unlimited, &members);
        let seen = Hand::new(11).count(&it, 40_000);
        let part = seen.get("i0").copied().unwrap_or(0) as f64 / 40_000.0;
        assert!((part - expected).abs() < 0.012, "{weights:?} at {ramp}: {part}, not {expected}");
        assert!(part > 0.0, "{weights:?} at {ramp}: none at all");
    }
    // A busy one is not as good, and who may not be asked is not looked at.
    let members = instances(&[("a", 1), ("a", 1), ("b", 1), ("a", 1)]);
    let it = picker(Balance::LeastRequest, Limit::Unlimited, &members);
    let _busy = hold(&members[0], 1);
    let (tried, avoid) = ([members[1].vitals.serial], ZoneId::new("b"));
    let ask = Ask { tried: &tried, avoid: Some(&avoid), ..Ask::default() };
    let mut hand = Hand::new(3);
    for _ in 0..100 {
        assert_eq!(hand.name(&it, &ask), "i3");
    }
}

#[test]
fn weights_count_in_every_algorithm() {
    let members = instances(&[("a", 3), ("b", 1)]);
    for balance in [Balance::RoundRobin, Balance::Random, Balance::Maglev] {
        let seen = Hand::new(9).count(&picker(balance, Limit::Unlimited, &members), 4000);
        assert!((2800..3200).contains(&seen["i0"]), "{balance:?} {seen:?}");
    }
    let seen = Hand::new(9).count(&picker(Balance::Ring, Limit::Unlimited, &members), 4000);
    assert!((2600..3400).contains(&seen["i0"]), "points are spread less evenly: {seen:?}");
    for balance in [Balance::LeastRequest, Balance::PeakEwma] {
        let it = picker(balance, Limit::Unlimited, &members);
        let mut hand = Hand::new(2);
        let held: Vec<Picked> = (0..40).map(|_| hand.pick(&it, &Ask::default())).collect();
        let heavy = held.iter().filter(|it| it.slot.instance().id.as_str() == "i0").count();
        assert!((29..=31).contains(&heavy), "3 to 1 of 40 in flight, not {heavy}");
    }
}

#[test]
fn peak_ewma_weighs_busyness_by_cost() {
    let members = alike(2);
    let it = picker(Balance::PeakEwma, Limit::Unlimited, &members);
    let now = Ms(1_000);
    members[0].vitals.cost.record(now, Duration::from_millis(10));
    members[1].vitals.cost.record(now, Duration::from_millis(30));
    let ask = Ask { now, ..Ask::default() };
    let mut hand = Hand::new(4);
    let held: Vec<Picked> = (0..40).map(|_| hand.pick(&it, &ask)).collect();
    let fast = held.iter().filter(|it| it.slot.instance().id.as_str() == "i0").count();
    assert!((29..=31).contains(&fast), "three times as fast, three times as many: {fast}");
}

#[test]
fn who_fails_at_once_attracts_all_but_those_who_learn() {
    for (balance, most) in [(Balance::PeakEwma, 2), (Balance::LeastRequest, 10_000)] {
        let members = alike(10);
        let it = picker(balance, Limit::Unlimited, &members);
        let (mut hand, mut failed) = (Hand::new(5), 0);
        // Ten seconds of 1,000 a second: the first fails at once, the others take 20 ms.
        let mut running = std::collections::VecDeque::new();
        for n in 0..10_000u64 {
            let now = Ms(n);
            while running.front().is_some_and(|(ends, _)| *ends <= now) {
                running.pop_front();
            }
            let picked = hand.pick(&it, &Ask { now, ..Ask::default() });
            let cost = &picked.slot.instance().vitals.cost;
            if picked.slot.instance().id.as_str() == "i0" {
                cost.record(now, FAILURE);
                failed += 1;
            } else {
                cost.record(now, Duration::from_millis(20));
                running.push_back((Ms(n + 20), picked));
            }
        }
        assert!(failed <= most, "{balance:?}: {failed}");
        assert!(balance == Balance::PeakEwma || failed > 1_500, "more than its tenth: {failed}");
    }
}

#[test]
fn full_suspect_and_tried_instances_are_passed_over() {
    for balance in Balance::ALL {
        let mut hand = Hand::new(3);
        let members = instances(&[("a", 1), ("b", 1), ("c", 1)]);
        let it = picker(balance, Limit::AtMost(1), &members);
        members[0].vitals.suspect();
        let tried = [members[1].vitals.serial];
        let ask = Ask { tried: &tried, ..Ask::default() };
        let third = hand.pick(&it, &ask);
        assert_eq!(third.slot.instance().id.as_str(), "i2");
        assert_eq!(third.why, Why::Balanced);
        let last = hand.pick(&it, &ask);
        assert_eq!(last.slot.instance().id.as_str(), "i0", "rather a suspect than none");
        assert_eq!(last.why, Why::Suspect);
        assert_eq!(hand.try_pick(&it, &ask).err(), Some(Refusal::Saturated));
        let all: Vec<u64> = members.iter().map(|m| m.vitals.serial).collect();
        let ask = Ask { tried: &all, ..Ask::default() };
        assert_eq!(hand.try_pick(&it, &ask).err(), Some(Refusal::AllTried));
        drop((third, last));
        members[0].vitals.clear_suspicion();
        let avoid = ZoneId::new("b");
        for number in 0..20 {
            let ask = Ask { avoid: Some(&avoid), hash: key(number), ..Ask::default() };
            assert_ne!(hand.pick(&it, &ask).slot.instance().zone.as_str(), "b");
        }
        let only = [members[0].vitals.serial, members[2].vitals.serial];
        let ask = Ask { tried: &only, avoid: Some(&avoid), ..Ask::default() };
        assert_eq!(hand.name(&it, &ask), "i1", "rather the same zone than none");
        let none = picker(balance, Limit::Unlimited, &[]);
        assert_eq!(hand.try_pick(&none, &Ask::default()).err(), Some(Refusal::Empty));
    }
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
