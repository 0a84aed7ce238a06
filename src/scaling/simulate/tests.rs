//! Whole runs.

use super::*;
use crate::base::SizeId;
use crate::model::SizeClass;
use crate::scaling::simulate::queue::USUAL;

fn setting(seed: u64) -> Setting {
    let scaling = Arc::new(Scaling::new(3, 100, 164.0));
    let (pool, trace) = ("web".to_owned(), "made".to_owned());
    Setting { scaling, model: USUAL, seed, pool, trace }
}

/// A day's hill within two hours, with a step in it.
fn hill() -> Vec<f64> {
    (0..7_200)
        .map(|second| {
            let part = f64::from(second) / 7_200.0;
            let step = if (3_000..3_600).contains(&second) { 2_000.0 } else { 0.0 };
            1_000.0 + 3_000.0 * (part * std::f64::consts::PI).sin() + step
        })
        .collect()
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let run = |seed| simulate(&setting(seed), hill(), &mut |_, _| {}).expect("it runs");
    let (one, two, other) = (run(1), run(1), run(2));
    assert_eq!(one, two);
    assert_ne!(one.0, other.0);
}

#[test]
fn all_are_there_within_their_bounds() {
    let mut told = Vec::new();
    let (report, course) =
        simulate(&setting(1), hill(), &mut |name, _| told.push(name.to_owned())).expect("it runs");
    let names: Vec<&str> = report.policies.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names[0], "tidegate");
    assert_eq!(names.len(), 8);
    assert_eq!(told, &names[..7]);
    for row in &report.policies {
        assert!((0.0..=100.0).contains(&row.violations_percent), "{row:?}");
        assert!(row.shed_percent <= row.violations_percent + 1e-9, "{row:?}");
        assert!((3..=100).contains(&row.peak) && row.mean <= f64::from(row.peak), "{row:?}");
        assert!(row.j.is_finite() && row.reversals_per_day <= row.actions_per_day, "{row:?}");
    }
    assert_eq!(course.needed.len(), 7_200);
    let table = report.table();
    assert!(names.iter().all(|name| table.contains(name)), "{table}");
}

/// What costs less than the optimum violates more than it: at the size of the optimum one request in a
/// thousand is late.
#[test]
fn nobody_who_violates_nothing_is_cheaper_than_the_optimum() {
    let shapes: [fn(f64) -> f64; 4] = [
        |part| 2_000.0 + 1_000.0 * (part * 12.0).sin(),
        |part| if part > 0.5 { 4_000.0 } else { 1_000.0 },
        |part| 500.0 + 6_000.0 * part,
        |_| 300.0,
    ];
    for (seed, shape) in (1..).zip(shapes) {
        let rates: Vec<f64> = (0..7_200).map(|s| shape(f64::from(s) / 7_200.0)).collect();
        let (report, _) = simulate(&setting(seed), rates, &mut |_, _| {}).expect("it runs");
        for row in &report.policies {
            let spotless = row.violations_percent < 0.01;
            assert!(!spotless || row.relative_cost >= 0.999, "shape {seed}: {row:?}");
        }
    }
}

#[test]
fn the_fixed_size_never_changes() {
    let (report, _) = simulate(&setting(1), hill(), &mut |_, _| {}).expect("it runs");
    let fixed = report.policies.iter().find(|row| row.name == "fixed size").expect("a row");
    assert_eq!(fixed.actions_per_day, 0.0);
    assert!((fixed.mean - f64::from(fixed.peak)).abs() < 1e-9);
    let hours = f64::from(fixed.peak) * 2.0;
    assert!((fixed.instance_hours - hours).abs() < 1e-9);
}

#[test]
fn an_instance_that_cannot_keep_the_objective_is_refused() {
    let mut setting = setting(1);
    setting.model.workers = 1;
    setting.model.capacity = 0.5;
    setting.model.slo_wait_s = 0.0;
    let why = simulate(&setting, hill(), &mut |_, _| {}).expect_err("refused");
    assert!(why.contains("--slo-wait"), "{why}");
}

/// Two units behave as one instance that takes twice as much: only whole instances come.
#[test]
fn an_instance_of_two_units_is_two_of_one() {
    let one = setting(1);
    let name = SizeId::new("large");
    let size = SizeClass { name, units: 2, cost: 2.0 };
    let two = Setting {
        scaling: Arc::new(Scaling {
            size: Some(size.clone()),
            sizes: vec![size],
            ..Scaling::clone(&one.scaling)
        }),
        model: Model { capacity: 2.0 * USUAL.capacity, workers: 2 * USUAL.workers, ..USUAL },
        ..one.clone()
    };
    let run = |setting| simulate(setting, hill(), &mut |_, _| {}).expect("it runs").0;
    let (one, two) = (run(&one), run(&two));
    for (one, two) in one.policies.iter().zip(&two.policies) {
        let name = &one.name;
        if name == "Azure, basic rules" {
            // They step by one instance, whatever it carries.
            continue;
        }
        let ratio = 2.0 * two.mean / one.mean;
        assert!((0.9..1.15).contains(&ratio), "{name}: {} of one, {} of two", one.mean, two.mean);
        assert!((1..=50).contains(&two.peak), "{name}: {}", two.peak);
    }
    let (ours_of_one, ours_of_two) = (&one.policies[0], &two.policies[0]);
    assert!(ours_of_two.violations_percent <= ours_of_one.violations_percent + 0.1);
    let hours = 2.0 * ours_of_two.instance_hours;
    assert!((0.95..1.15).contains(&(hours / ours_of_one.instance_hours)));
    let table = two.table();
    assert!(table.contains("3 to 100 units, 2 in an instance, 164 rps each"), "{table}");
    assert!(table.contains("UNIT HOURS") && table.contains(&format!(" {hours:.1} ")), "{table}");
}
