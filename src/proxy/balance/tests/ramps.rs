//! Instances that warm up.

use super::*;
use crate::base::Ms;
use crate::model::instance::FULL;

/// The part of [`FULL`] that t of 60 seconds of warming up give, by the rules of the field.
fn ramp(seconds: f64, aggression: f64) -> u32 {
    ((seconds / 60.0).powf(1.0 / aggression) * f64::from(FULL)).round() as u32
}

#[test]
fn a_warming_instance_takes_its_part() {
    for (seconds, aggression, percent) in [
        (6.0, 1.0, 10.0),
        (15.0, 1.0, 25.0),
        (30.0, 1.0, 50.0),
        (54.0, 1.0, 90.0),
        (30.0, 2.0, 70.7),
    ] {
        for balance in Balance::ALL {
            let members = alike(8);
            members[0].vitals.set_ramp(ramp(seconds, aggression));
            let it = picker(balance, Limit::Unlimited, &members);
            let mut hand = Hand::new(7);
            let share = if balance == Balance::LeastRequest || balance == Balance::PeakEwma {
                // What counts is what it has in flight beside the others.
                let _held: Vec<Picked> =
                    (0..4_000).map(|_| hand.pick(&it, &Ask::default())).collect();
                let in_flight = |n: usize| f64::from(members[n].vitals.in_flight());
                100.0 * in_flight(0) / ((1..8).map(in_flight).sum::<f64>() / 7.0)
            } else {
                // A ring's shares are not even, so it is compared with its own.
                let before = {
                    members[0].vitals.set_ramp(FULL);
                    let full = Hand::new(7).count(&it, 40_000)["i0"] as f64;
                    members[0].vitals.set_ramp(ramp(seconds, aggression));
                    full
                };
                let seen = hand.count(&it, 40_000);
                let part = seen["i0"] as f64;
                if balance == Balance::RoundRobin || balance == Balance::Random {
                    // The others share what it does not take.
                    100.0 * part / ((40_000.0 - part) / 7.0)
                } else {
                    100.0 * part / before
                }
            };
            let error = (share - percent).abs();
            assert!(error < 4.0, "{balance:?}: {share:.1} % and not {percent} %");
        }
    }
}

#[test]
fn where_all_warm_up_all_are_alike() {
    for balance in Balance::ALL {
        let members = instances(&[("a", 1), ("a", 2), ("a", 1)]);
        for member in &members {
            member.vitals.set_ramp(1);
        }
        let it = picker(balance, Limit::Unlimited, &members);
        let mut hand = Hand::new(7);
        let held: Vec<Picked> =
            (0..8_000).map(|n| hand.pick(&it, &Ask { hash: key(n), ..Ask::default() })).collect();
        let heavy = held.iter().filter(|it| it.slot.instance().id.as_str() == "i1").count();
        assert!((3_600..4_400).contains(&heavy), "{balance:?}: {heavy} of 8000");
    }
}

#[test]
fn the_limit_warms_up_too() {
    for (limit, ramp, expected) in [
        (200, FULL, 200),
        (200, 512, 100),
        (200, 1, 1),
        (7, 103, 1),
        (10, 103, 2),
        (1, 1, 1),
        (u32::MAX, 512, u32::MAX / 2 + 1),
    ] {
        let members = alike(1);
        members[0].vitals.set_ramp(ramp);
        let it = picker(Balance::LeastRequest, Limit::AtMost(limit), &members);
        let tiers = it.tiers(Ms(0));
        assert_eq!(tiers[0].members[0].limit, Limit::AtMost(expected), "{limit} at {ramp}");
    }
    for balance in Balance::ALL {
        let members = alike(2);
        members[0].vitals.set_ramp(512);
        let it = picker(balance, Limit::AtMost(10), &members);
        let mut hand = Hand::new(1);
        let held: Vec<Picked> =
            (0..15).map(|n| hand.pick(&it, &Ask { hash: key(n), ..Ask::default() })).collect();
        assert_eq!((members[0].vitals.in_flight(), members[1].vitals.in_flight()), (5, 10));
        assert_eq!(hand.try_pick(&it, &Ask::default()).err(), Some(Refusal::Saturated));
        drop(held);
    }
}

#[test]
fn each_key_moves_once_while_an_instance_warms_up() {
    for balance in [Balance::Maglev, Balance::Ring] {
        let members = alike(5);
        let it = picker(balance, Limit::Unlimited, &members);
        let mut hand = Hand::new(1);
        for number in 0..2_000 {
            let ask = Ask { hash: key(number), ..Ask::default() };
            let names: Vec<String> = [1, 100, 300, 500, 700, 900, FULL]
                .into_iter()
                .map(|ramp| {
                    members[2].vitals.set_ramp(ramp);
                    hand.name(&it, &ask)
                })
                .collect();
            let moves = names.windows(2).filter(|two| two[0] != two[1]).count();
            assert!(moves <= 1, "{balance:?} {names:?}");
            assert!(moves == 0 || names[6] == "i2", "{names:?}");
        }
    }
}
