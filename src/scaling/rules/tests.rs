//! The semantics of Azure's autoscale, case by case, and where this differs.

use proptest::prelude::*;

use super::*;
use crate::base::Share;
use crate::model::rule::{Change, Operator};

const SECOND: Duration = Duration::from_secs(1);

/// A rule that looks at the last second, with a cooldown of a minute.
fn rule(metric: Metric, operator: Operator, threshold: f64, change: Change) -> Rule {
    let (window, cooldown) = (SECOND, 60 * SECOND);
    Rule { metric, window, statistic: Statistic::Average, operator, threshold, change, cooldown }
}

fn above(threshold: f64, change: Change) -> Rule {
    rule(Metric::RequestsPerInstance, Operator::Above, threshold, change)
}

fn below(threshold: f64, change: Change) -> Rule {
    rule(Metric::RequestsPerInstance, Operator::Below, threshold, change)
}

/// So many requests per second for each of `serving` instances.
fn load(per_instance: f64, serving: u32) -> Sample {
    let requests = per_instance * f64::from(serving);
    Sample { requests, serving, ..Sample::default() }
}

fn following(rules: &[Rule]) -> Rules {
    let mut following = Rules::default();
    following.follow(rules);
    following
}

/// What follows from a sample that lasts, for a pool of 1 to 20.
fn decided(rules: &[Rule], sample: &Sample, size: u32) -> Option<Outcome> {
    let mut following = following(rules);
    assert_eq!(following.decide(Ms(0), sample, size, &(1..=20)), None, "the window is not full");
    following.decide(Ms(1_000), sample, size, &(1..=20))
}

#[test]
fn any_rule_scales_out_and_all_must_agree_to_scale_in() {
    use Change::{Add, AddShare, Exactly, Remove, RemoveShare};
    let queue = |operator, threshold, change| rule(Metric::Queue, operator, threshold, change);
    let usual = vec![above(100.0, Add(1)), below(40.0, Remove(1))];
    let two = vec![
        above(100.0, Add(1)),
        queue(Operator::AtLeast, 50.0, AddShare(Share(0.5))),
        below(40.0, Remove(3)),
        queue(Operator::AtMost, 5.0, RemoveShare(Share(0.2))),
    ];
    let exact = vec![
        above(100.0, Exactly(10)),
        queue(Operator::Above, 50.0, Add(1)),
        below(40.0, Exactly(2)),
    ];
    for (name, rules, per_instance, queued, size, to) in [
        ("nothing fires", &usual, 70.0, 0.0, 4, None),
        ("not above but at it", &usual, 100.0, 0.0, 4, None),
        ("out", &usual, 101.0, 0.0, 4, Some(5)),
        ("in", &usual, 39.0, 0.0, 4, Some(3)),
        ("no further than the maximum", &usual, 101.0, 0.0, 20, Some(20)),
        ("nor than the minimum, in silence", &usual, 0.0, 0.0, 1, None),
        ("any is enough", &two, 101.0, 0.0, 4, Some(5)),
        ("any other too", &two, 70.0, 50.0, 4, Some(6)),
        ("the largest wins", &two, 101.0, 50.0, 4, Some(6)),
        ("out goes before in", &two, 10.0, 50.0, 4, Some(6)),
        ("all must agree", &two, 10.0, 6.0, 4, None),
        ("the largest that remains wins", &two, 10.0, 5.0, 10, Some(8)),
        ("and when it is the other", &two, 10.0, 5.0, 20, Some(17)),
        ("exactly", &exact, 101.0, 0.0, 4, Some(10)),
        ("exactly is never fewer on the way out", &exact, 101.0, 0.0, 12, None),
        ("so that others decide", &exact, 101.0, 60.0, 12, Some(13)),
        ("exactly on the way in", &exact, 10.0, 0.0, 6, Some(2)),
        ("and never more", &exact, 10.0, 0.0, 1, None),
    ] {
        let sample = Sample { queued, ..load(per_instance, size) };
        let found = decided(rules, &sample, size).map(|outcome| outcome.to);
        assert_eq!(found, to, "{name}");
    }
    assert_eq!(decided(&[above(100.0, Add(1))], &load(0.0, 4), 4), None, "nothing scales in");
}

#[test]
fn a_pool_does_not_shrink_to_grow_again() {
    // Azure's own example: both thresholds are the same.
    let in_flight = |operator, change| rule(Metric::InFlightPerInstance, operator, 600.0, change);
    let same = [
        in_flight(Operator::AtLeast, Change::Add(1)),
        in_flight(Operator::AtMost, Change::Remove(1)),
    ];
    let at = |each: f64, size: u32| {
        let sample =
            Sample { in_flight: each * f64::from(size), serving: size, ..Sample::default() };
        decided(&same, &sample, size).expect("a rule fires")
    };
    assert_eq!(at(625.0, 2).to, 3);
    let kept = at(575.0, 3);
    assert_eq!(kept.to, 3);
    assert_eq!(
        kept.reason,
        "nothing goes: with 2 it would be 862.5, and average in-flight-per-instance >= 600 over 1s scales \
         out; average in-flight-per-instance <= 600 over 1s, and it is 575.0"
    );
    assert_eq!(at(394.0, 3).to, 2);

    // A smaller step is tried: of 10 at 30, 4 may go before the rest would be at 50.
    let steps = [above(50.0, Change::Add(1)), below(40.0, Change::RemoveShare(Share(0.9)))];
    assert_eq!(decided(&steps, &load(30.0, 10), 10).map(|outcome| outcome.to), Some(6));
    // Nothing grows to more than nothing.
    let all = [above(50.0, Change::Add(1)), below(40.0, Change::Exactly(0))];
    let mut rules = following(&all);
    let (idle, busy) = (load(0.0, 2), load(1.0, 2));
    assert_eq!(rules.decide(Ms(0), &idle, 2, &(0..=20)), None);
    let none = rules.clone().decide(Ms(1_000), &idle, 2, &(0..=20));
    assert_eq!(none.map(|outcome| outcome.to), Some(0));
    let one = rules.decide(Ms(2_500), &busy, 2, &(0..=20));
    assert_eq!(one.map(|outcome| outcome.to), Some(1), "the last one carries what there is");
}

#[test]
fn cooldowns() {
    let all = [above(100.0, Change::Add(1)), below(40.0, Change::Remove(1))];
    let mut rules = following(&all);
    assert_eq!(rules.decide(Ms(0), &load(70.0, 4), 4, &(1..=20)), None);
    // Seconds are far enough apart for the window to forget what was before.
    for (second, per_instance, size, to, held) in [
        (10, 101.0, 4, 5, None),
        (20, 101.0, 5, 5, Some("50s")),
        (30, 10.0, 5, 5, Some("40s")),
        (69, 10.0, 5, 5, Some("1s")),
        (70, 10.0, 5, 4, None),
        (80, 10.0, 4, 4, Some("50s")),
        // The cooldown of a scale-in holds up no scale-out; and that of the scale-out follows.
        (85, 101.0, 4, 5, None),
        (140, 10.0, 5, 5, Some("5s")),
        (145, 10.0, 5, 4, None),
        // A longer cooldown of a scale-out is not cut by a scale-in, nor the other way around.
        (150, 101.0, 4, 5, None),
        (206, 10.0, 5, 5, Some("4s")),
    ] {
        let now = Ms(second * 1_000);
        let outcome = rules.decide(now, &load(per_instance, size), size, &(1..=20));
        let Some(outcome) = outcome else { panic!("{second}: a rule fires") };
        assert_eq!(outcome.to, to, "{second}: {outcome:?}");
        match held {
            Some(left) => {
                let start = format!("no change for {left}: cooldown; ");
                assert!(outcome.reason.starts_with(&start), "{second}: {outcome:?}");
            }
            None => assert!(outcome.reason.starts_with("average "), "{second}: {outcome:?}"),
        }
    }
}

#[test]
fn windows() {
    // What is older than the window, then 1 to 11 in its ten seconds and the one that just ends.
    let mut window = Window::default();
    let seconds = (0..20).map(|_| 1e6).chain((1..=11).map(f64::from));
    let mut now = Ms(0);
    for value in seconds {
        now = now + SECOND;
        window.take(now, 10 * SECOND, Some(value));
    }
    for (statistic, value) in [
        (Statistic::Average, 6.0),
        (Statistic::Min, 1.0),
        (Statistic::Max, 11.0),
        (Statistic::Sum, 66.0),
        (Statistic::Last, 11.0),
    ] {
        let rule = Rule { statistic, window: 10 * SECOND, ..above(0.0, Change::Add(1)) };
        assert_eq!(window.value(now, &rule), Some(value), "{}", statistic.word());
    }
}

#[test]
fn what_is_not_known_fires_nothing() {
    let slow = rule(Metric::Latency, Operator::Above, 0.2, Change::Add(1));
    let fast = rule(Metric::Latency, Operator::Below, 0.1, Change::Remove(1));
    let all = [slow, fast, below(40.0, Change::Remove(1))];
    let with = |latency_s| Sample { latency_s, ..load(10.0, 4) };
    assert_eq!(decided(&all, &with(None), 4), None, "one of all is not known");
    assert_eq!(decided(&all, &with(Some(0.05)), 4).map(|outcome| outcome.to), Some(3));
    let out = decided(&all, &with(Some(0.25)), 4).expect("it is slow");
    assert_eq!(
        (out.to, out.reason.as_str()),
        (5, "average latency > 200 ms over 1s, and it is 250 ms")
    );
}

#[test]
fn what_stays_keeps_what_it_has_seen() {
    let (one, other) = (above(100.0, Change::Add(1)), above(200.0, Change::Add(4)));
    let mut rules = following(std::slice::from_ref(&one));
    rules.decide(Ms(0), &load(300.0, 4), 4, &(1..=20));
    rules.follow(&[other, one]);
    let outcome = rules.decide(Ms(1_000), &load(300.0, 4), 4, &(1..=20));
    assert_eq!(outcome.map(|outcome| outcome.to), Some(5), "the other has seen nothing yet");
}

proptest! {
    #[test]
    fn windows_are_bounded_and_right(
        length in 1u64..5_000,
        values in prop::collection::vec(0.0f64..1e4, 1..400),
        step in 1u64..30,
    ) {
        let rule = Rule { window: Duration::from_secs(length), ..above(0.0, Change::Add(1)) };
        let mut window = Window::default();
        let mut now = Ms(0);
        for value in &values {
            now = now + Duration::from_secs(step);
            window.take(now, rule.window, Some(*value));
            prop_assert!(window.parts.len() <= PARTS as usize + 3);
        }
        // Nothing older than the window and one of its parts counts, and all of the window does.
        let count: u32 = window.parts.iter().map(|part| part.count).sum();
        let (least, part) = (length / step, (length / u64::from(PARTS)).max(1) + 1);
        let most = (length + part) / step + 1;
        prop_assert!(u64::from(count) >= least.min(values.len() as u64));
        prop_assert!(u64::from(count) <= most + 1);
    }

    #[test]
    fn sizes_stay_within_bounds_and_agree_with_the_load(
        loads in prop::collection::vec(0.0f64..400.0, 1..200),
        size in 1u32..30,
        out in 1u32..5,
        less in 0.01f64..1.0,
    ) {
        let all = [above(100.0, Change::Add(out)), below(40.0, Change::RemoveShare(Share(less)))];
        let mut rules = following(&all);
        let mut size = size;
        for (second, load) in (0..).zip(loads) {
            let sample = self::load(load, size);
            if let Some(outcome) = rules.decide(Ms(second * 30_000), &sample, size, &(1..=30)) {
                prop_assert!((1..=30).contains(&outcome.to));
                if outcome.to < size {
                    // The same load on those that stay scales nothing out.
                    let value = rules.rules[0].1.value(Ms(second * 30_000), &all[0]).expect("full");
                    prop_assert!(value * f64::from(size) / f64::from(outcome.to) <= 100.0 + 1e-9);
                }
                size = outcome.to;
            }
        }
    }
}
