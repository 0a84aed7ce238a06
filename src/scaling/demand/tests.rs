use super::*;

const RULES: Foresight =
    Foresight { lead_time: Some(Duration::from_secs(1)), prediction: Prediction::On };

/// Feeds a second for each of `rates`; the estimate after the last.
fn after(demand: &mut Demand, from: u64, rates: &[f64]) -> Estimate {
    for (second, offered) in (from..).zip(rates) {
        let moment = Moment { now: Ms((second + 1) * 1_000), wall_s: second as i64 };
        let second = Second { offered: *offered, completed: *offered, ..Second::default() };
        demand.see(moment, 1.0, &second, &Presence::default(), &RULES);
    }
    demand.estimate()
}

#[test]
fn the_mean_of_thirty_seconds_unless_something_stands_out() {
    let steady = vec![210.0; 60];
    for (name, then, arrivals, winner) in [
        ("steady", vec![], 210.0, "rate"),
        ("one busy second is noise", vec![260.0], 210.0 + 50.0 / 30.0, "rate"),
        ("a jump, after one second", vec![1_050.0], 630.0, "step"),
        ("a jump, after two", vec![1_050.0; 2], 1_050.0, "step"),
        ("a step that is none of two seconds", vec![290.0; 8], 290.0, "step"),
        ("it is over", vec![20.0; 40], 20.0, "rate"),
    ] {
        let mut demand = Demand::default();
        after(&mut demand, 0, &steady);
        let estimate = after(&mut demand, 60, &then);
        let (seen, by) = estimate.arrivals();
        assert!((seen - arrivals).abs() < 2.0, "{name}: {seen} for {arrivals}");
        assert_eq!(by, winner, "{name}");
    }
}

#[test]
fn one_arrival_after_silence_is_no_step() {
    let mut demand = Demand::default();
    let mut quiet = vec![0.0; 300];
    quiet.push(1.0);
    assert_eq!(after(&mut demand, 0, &quiet).step, None);
}

#[test]
fn noise_that_is_known_is_no_step() {
    let mut demand = Demand::default();
    // Every ten seconds half as much again: within half an hour that is what this traffic does.
    let rough: Vec<f64> =
        (0..1_800).map(|second| if second / 10 % 2 == 0 { 150.0 } else { 100.0 }).collect();
    after(&mut demand, 0, &rough);
    assert_eq!(after(&mut demand, 1_800, &[150.0; 8]).step, None);
    assert!(after(&mut demand, 1_808, &[500.0; 8]).step.is_some(), "but this is");
}

#[test]
fn the_queue_adds_to_the_demand_and_in_flight_does_not() {
    let mut demand = Demand::default();
    after(&mut demand, 0, &[100.0; 30]);
    let second = Second {
        offered: 100.0,
        completed: 80.0,
        queued: 50.0,
        in_flight: 40.0,
        ..Second::default()
    };
    let moment = Moment { now: Ms(31_000), wall_s: 31 };
    demand.see(moment, 1.0, &second, &Presence::default(), &RULES);
    let estimate = demand.estimate();
    assert_eq!((estimate.rps(), estimate.backlog), (105.0, 5.0));
    assert_eq!(estimate.latency_s, Some(0.5), "Little's law");
}

#[test]
fn a_season_counts_only_where_the_operator_wants_it() {
    let season =
        Estimate { rate_30s: 10.0, growth: 1.0, season: Some(50.0), ..Estimate::default() };
    assert_eq!(season.arrivals(), (10.0, "rate"));
    assert_eq!(Estimate { season_counts: true, ..season }.arrivals(), (50.0, "season"));
    let step = Estimate { season_counts: true, step: Some(80.0), ..season };
    assert_eq!(step.arrivals(), (80.0, "step"), "the largest wins");
}
