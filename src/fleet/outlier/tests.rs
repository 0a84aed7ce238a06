use proptest::prelude::*;

use super::*;
use crate::base::Entropy;

/// So many requests, of which so many failed, and the rest took so long each.
fn tally(requests: u64, failures: u64, each_ms: u64) -> Tally {
    let responses = requests - failures;
    Tally { requests, failures, latency_us: responses * each_ms * 1_000, responses }
}

fn stand_out(tallies: &[Tally]) -> Vec<(usize, &'static str)> {
    let found = compare(&Outlier::default(), tallies, |_| true);
    found.iter().map(|(index, fault)| (*index, fault.word())).collect()
}

#[test]
fn failures_in_a_row() {
    let both = Outlier { gateway_failures: Some(3), ..Outlier::default() };
    let off = Outlier { failures: None, ..Outlier::default() };
    for (settings, failures, gateway_failures, found) in [
        (&both, 4, 2, None),
        (&both, 5, 0, Some(Fault::Failures(5))),
        (&both, 4, 3, Some(Fault::GatewayFailures(3))),
        (&both, 7, 7, Some(Fault::Failures(7))),
        (&off, 100, 100, None),
    ] {
        let in_a_row = InARow { failures, gateway_failures };
        assert_eq!(in_a_row.fault(settings), found, "{in_a_row:?}");
    }
}

#[test]
fn what_most_of_the_others_do_too_is_shared() {
    let settings = Outlier::default();
    for (peers, shared) in [
        (&[][..], false),
        (&[0], false),
        (&[2], false),
        (&[3], true),
        (&[5, 0], false),
        (&[5, 3], true),
        (&[9, 9, 0, 0], false),
        (&[9, 9, 9, 0], true),
    ] {
        let peers =
            peers.iter().map(|failures| InARow { failures: *failures, gateway_failures: 0 });
        let found = is_shared(&settings, peers.clone());
        assert_eq!(found, shared, "{:?}", peers.collect::<Vec<_>>());
    }
}

#[test]
fn who_answers_worse() {
    let good = tally(1_000, 0, 10);
    for (name, bad, others, found) in [
        ("none", good, 5, false),
        ("a quarter fails", tally(1_000, 250, 10), 4, true),
        ("one of five instances is needed", tally(1_000, 250, 10), 3, false),
        ("six in a hundred", tally(1_000, 80, 10), 9, true),
        ("too few to do without it", tally(1_000, 40, 10), 9, false),
        ("too few requests", tally(99, 99, 10), 9, false),
        ("all of them", tally(100, 100, 10), 9, true),
    ] {
        let mut tallies = vec![good; others];
        tallies.insert(2, bad);
        let expected = if found { vec![(2, "success_rate")] } else { vec![] };
        assert_eq!(stand_out(&tallies), expected, "{name}");
    }
    let mut two = vec![good; 12];
    (two[3], two[8]) = (tally(500, 490, 1), tally(500, 500, 1));
    assert_eq!(stand_out(&two), [(8, "success_rate"), (3, "success_rate")], "the worst first");
}

#[test]
fn who_takes_longer() {
    for (name, slow_ms, other_ms, others, found) in [
        ("as long", 20, 20, 5, false),
        ("five times", 500, 100, 5, false),
        ("more than five times", 501, 100, 5, true),
        ("more than five times, and it is still fast", 99, 1, 5, false),
        ("among too few", 900, 100, 3, false),
    ] {
        let mut tallies = vec![tally(200, 0, other_ms); others];
        tallies.push(tally(200, 0, slow_ms));
        let expected = if found { vec![(others, "latency")] } else { vec![] };
        assert_eq!(stand_out(&tallies), expected, "{name}");
        let ramps = compare(&Outlier::default(), &tallies, |index| index != others);
        assert!(ramps.is_empty(), "{name}, but it ramps");
    }
    let half = [tally(200, 0, 10), tally(200, 0, 10), tally(200, 0, 10)].into_iter();
    let half: Vec<_> = half.chain([tally(200, 0, 900), tally(200, 0, 990)]).collect();
    assert_eq!(stand_out(&half), [(4, "latency"), (3, "latency")], "the worst first");
}

#[test]
fn failing_fast_is_no_speed() {
    let vitals = Vitals::default();
    for _ in 0..3 {
        vitals.count_response(200, Duration::from_millis(40));
        vitals.count_response(503, Duration::from_millis(20));
        vitals.count_failure();
    }
    let seen = Tally::of(&vitals);
    let expected = Tally { requests: 9, failures: 6, latency_us: 180_000, responses: 6 };
    assert_eq!(seen, expected);
    vitals.count_failure();
    let later = Tally::of(&vitals).since(seen);
    assert_eq!(later, Tally { requests: 1, failures: 1, latency_us: 0, responses: 0 });
}

#[test]
fn each_time_for_longer_and_forgiven_one_by_one() {
    let settings = Outlier { max_ejection: Duration::from_secs(100), ..Outlier::default() };
    let (mut conduct, vitals) = (Conduct::default(), Vitals::default());
    let mut now = Ms(0);
    // For the same fault or another, and however often: 30 s, 60 s, 90 s, 100 s, 100 s.
    let slow = Fault::Latency { mean_ms: 9e3, median_ms: 1.0, requests: 100 };
    for (fault, seconds) in [
        (Fault::Failures(5), 30),
        (slow, 60),
        (Fault::GatewayFailures(5), 90),
        (slow, 100),
        (slow, 100),
    ] {
        conduct.eject(now, &settings, &fault);
        let until = conduct.ejected_until().expect("it is out");
        assert_eq!(until, now + Duration::from_secs(seconds), "{fault:?}");
        now = until;
        vitals.count_failure();
        conduct.return_at(now, &vitals);
        assert_eq!((conduct.ejected_until(), vitals.failures_in_a_row()), (None, 0));
    }
    // Four strikes are the longest, so four times 30 s forgive all.
    for (seconds, strikes) in [(29, 4), (30, 3), (31, 3), (60, 2), (300, 1), (330, 0), (360, 0)] {
        conduct.forgive(now + Duration::from_secs(seconds), &settings);
        assert_eq!(conduct.strikes, strikes, "after {seconds} s");
    }
}

#[test]
fn words_have_figures() {
    let mut conduct = Conduct::default();
    for (fault, words) in [
        (Fault::Failures(5), "5 requests in a row got a 5xx or no answer"),
        (
            Fault::SuccessRate { rate: 0.754, mean: 0.98, requests: 240 },
            "75.4 % of its last 240 answers were good, those of the pool 98.0 %",
        ),
        (
            Fault::Latency { mean_ms: 812.3, median_ms: 20.1, requests: 100 },
            "its last 100 answers took 812 ms in the mean, those of the others 20 ms",
        ),
    ] {
        assert_eq!(fault.to_string(), words);
        conduct.eject(Ms(0), &Outlier::default(), &fault);
    }
    assert!(conduct.why_ejected().expect("a reason").starts_with("ejected for 90s: its last 100"));
}

proptest! {
    /// However badly a pool does: where all its instances are alike, chance alone ejects none.
    #[test]
    fn those_that_are_alike_do_not_stand_out(
        instances in 5usize..40,
        requests in 100u64..1_000,
        failing in 0.0f64..1.0,
        seed in any::<u64>(),
    ) {
        let mut entropy = Entropy::seeded(seed);
        let tallies: Vec<Tally> = (0..instances)
            .map(|_| {
                let failures = (0..requests).filter(|_| entropy.unit() < failing).count() as u64;
                tally(requests, failures, 10)
            })
            .collect();
        // Four standard errors are one chance in 30,000 for each of 256 × 22: none, nearly always.
        let found = stand_out(&tallies);
        prop_assert!(found.len() <= 1, "{found:?} of {tallies:?}");
    }

    /// Whatever is seen, no more than a minority is slow, and nobody is named twice.
    #[test]
    fn most_are_never_slow(
        seen in proptest::collection::vec((0u64..400, 0u64..400, 0u64..5_000), 0..30),
    ) {
        let tallies: Vec<Tally> = seen
            .into_iter()
            .map(|(good, failures, each_ms)| tally(good + failures, failures, each_ms))
            .collect();
        let found = stand_out(&tallies);
        let slow = found.iter().filter(|(_, word)| *word == "latency").count();
        prop_assert!(slow * 2 <= tallies.len());
        let mut indices: Vec<usize> = found.iter().map(|(index, _)| *index).collect();
        indices.sort_unstable();
        indices.dedup();
        prop_assert_eq!(indices.len(), found.len());
    }
}
