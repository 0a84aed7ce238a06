use super::*;

fn settings(interval_ms: u64, rise: u32, fall: u32) -> HealthSettings {
    HealthSettings {
        check: HealthCheck::Tcp,
        tls: false,
        port: None,
        agent: None,
        interval: Duration::from_millis(interval_ms),
        serving_interval: Duration::from_millis(4 * interval_ms),
        timeout: Duration::from_secs(5),
        rise,
        fall,
    }
}

fn ward(settings: &HealthSettings, boots: bool) -> Ward {
    Ward::new(Ms(1_000), 7, settings, boots)
}

const PASS: Result<Duration, ProbeError> = Ok(Duration::from_millis(1));
const FAIL: Result<Duration, ProbeError> = Err(ProbeError::Refused);
const SICK: Result<Duration, ProbeError> = Err(ProbeError::Status(503));
const SUSPECT: Evidence = Evidence { suspect: true, answered: None, among_last: false };

/// Makes the probe that is due and hands in `outcome`; returns when that was.
fn step(
    ward: &mut Ward,
    settings: &HealthSettings,
    outcome: &Result<Duration, ProbeError>,
) -> (Ms, Option<Turn>) {
    let at = ward.due().expect("a probe is due");
    let asked = ward.start(settings);
    assert!(ward.awaits(asked.number) && ward.due().is_none());
    let turn = ward.handle_result(at, settings, Evidence::default(), outcome);
    assert!(!ward.awaits(asked.number), "a result counts once");
    (at, turn)
}

#[test]
fn rise_and_fall() {
    // Results (p passes, f fails, l local trouble) and the health after each (P, U, D).
    let table = [
        (2, 3, false, "p", "U"),
        (2, 3, false, "fp", "PP"),
        (2, 3, false, "fpp", "PPU"),
        (2, 3, false, "fpfpp", "PPPPU"),
        (2, 3, false, "fff", "PPD"),
        (2, 3, false, "fffpp", "PPDDU"),
        (2, 3, true, "ffffffpp", "PPPPPPPU"),
        (2, 3, false, "pfff", "UUUD"),
        (2, 3, false, "pffpff", "UUUUUU"),
        (2, 3, false, "pfffpfpp", "UUUDDDDU"),
        (2, 3, false, "pfffppfff", "UUUDDUUUD"),
        (1, 1, false, "pfpf", "UDUD"),
        (3, 2, false, "pffppp", "UUDDDU"),
        (2, 3, false, "lp", "PU"),
        (2, 2, false, "pflf", "UUUD"),
        (2, 1, false, "plllf", "UUUUD"),
    ];
    for (rise, fall, boots, results, expected) in table {
        let settings = settings(5_000, rise, fall);
        let mut ward = ward(&settings, boots);
        let mut seen = String::new();
        for result in results.chars() {
            let before = ward.health();
            let outcome = match result {
                'p' => PASS,
                'f' => FAIL,
                _ => Err(ProbeError::Local("too many open files".into())),
            };
            let (_, turn) = step(&mut ward, &settings, &outcome);
            assert_eq!(turn.is_some(), before != ward.health(), "{results}: a turn is told");
            if let Some(turn) = turn {
                assert_eq!((turn.from, turn.to), (before, ward.health()));
            }
            seen.push(match ward.health() {
                Health::Pending => 'P',
                Health::Up => 'U',
                Health::Down => 'D',
                Health::Ejected => 'E',
            });
        }
        assert_eq!(seen, expected, "rise {rise}, fall {fall}, boots {boots}: {results}");
    }
}

#[test]
fn turns_are_told_in_words() {
    let settings = settings(5_000, 2, 3);
    let mut ward = ward(&settings, false);
    let mut told = Vec::new();
    for outcome in [PASS, FAIL, FAIL, Err(ProbeError::Status(503)), PASS, PASS] {
        told.extend(step(&mut ward, &settings, &outcome).1.map(|turn| turn.why));
    }
    assert_eq!(
        told,
        ["passed its probe", "answered 503; the last 3 probes failed", "passed 2 probes in a row"]
    );
}

#[test]
fn the_wait_is_the_interval_or_a_second_while_undecided() {
    let settings = settings(5_000, 2, 3);
    let mut ward = ward(&settings, false);
    assert_eq!(step(&mut ward, &settings, &PASS).0, Ms(1_000), "the first goes at once");
    let gaps = |ward: &mut Ward, outcomes: &[Result<Duration, ProbeError>]| -> Vec<u64> {
        let mut last = ward.due().expect("due").0;
        let mut gaps = Vec::new();
        for outcome in outcomes {
            step(ward, &settings, outcome);
            let next = ward.due().expect("due").0;
            gaps.push(next - last);
            last = next;
        }
        gaps
    };
    assert_eq!(gaps(&mut ward, &[PASS, PASS]), [5_000, 5_000]);
    assert_eq!(gaps(&mut ward, &[FAIL, FAIL]), [1_000, 1_000], "up, with failures");
    // Down for good: two intervals. The step back to them ends on the phase of the interval.
    let [first, rest @ ..] = &gaps(&mut ward, &[FAIL, FAIL, FAIL])[..] else { panic!("three") };
    assert!((5_001..=10_000).contains(first));
    assert_eq!(rest, [10_000, 10_000]);
    assert_eq!(gaps(&mut ward, &[PASS]), [1_000], "down, with passes");
    assert!(gaps(&mut ward, &[PASS])[0] <= 5_000);
    assert_eq!(ward.health(), Health::Up);
}

#[test]
fn a_short_interval_is_kept_while_undecided() {
    let settings = settings(300, 2, 3);
    let mut ward = ward(&settings, false);
    step(&mut ward, &settings, &FAIL);
    let next = ward.due().expect("due");
    assert!(next > Ms(1_000) && next <= Ms(1_300), "{next:?}");
}

#[test]
fn phases_spread_evenly() {
    let settings = settings(2_000, 2, 3);
    for outcome in [PASS, FAIL] {
        let mut per_100ms = [0u32; 20];
        let (step_ms, buckets) = if outcome.is_ok() { (2_000, 20) } else { (1_000, 10) };
        for serial in 4_711..5_711 {
            let mut ward = Ward::new(Ms(7_777), serial, &settings, false);
            let (_, _) = step(&mut ward, &settings, &outcome);
            let due = ward.due().expect("due").0;
            assert!(due > 7_777 && due <= 7_777 + step_ms);
            per_100ms[((due - 7_778) / 100) as usize] += 1;
        }
        let mean = 1_000 / buckets as u32;
        let peak = per_100ms.into_iter().max().expect("buckets");
        assert!(peak * 2 <= mean * 3, "peak {peak}, mean {mean}: {per_100ms:?}");
    }
}

#[test]
fn what_is_down_is_asked_more_rarely_but_not_too_rarely() {
    for (interval_ms, gap_ms) in [(200, 400), (5_000, 10_000), (5_001, 5_001), (60_000, 60_000)] {
        let settings = settings(interval_ms, 2, 1);
        let mut ward = ward(&settings, false);
        step(&mut ward, &settings, &FAIL);
        let (first, _) = step(&mut ward, &settings, &FAIL);
        let (second, _) = step(&mut ward, &settings, &FAIL);
        assert_eq!(second.since(first).as_millis(), gap_ms, "{interval_ms}");
    }
}

#[test]
fn live_traffic_takes_the_place_of_probes() {
    // Whether the instance answers requests when the probe is due, and whether it is asked (p) or
    // not (-): with traffic at least every fourth time.
    for (answers, expected) in [
        ("........", "pppppppp"),
        ("aaaaaaaaa", "p---p---p"),
        ("aa.aaaa.a", "p-p---pp-"),
        ("aasaa", "p-p--"),
    ] {
        let settings = settings(5_000, 2, 3);
        let mut ward = ward(&settings, false);
        let mut asked = String::new();
        for answer in answers.chars() {
            let now = ward.due().expect("due");
            let evidence = Evidence {
                suspect: answer == 's',
                answered: (answer != '.').then_some(Ms(now.0 - 900)),
                among_last: false,
            };
            if ward.postpone(now, &settings, evidence) {
                asked.push('-');
            } else {
                asked.push('p');
                step(&mut ward, &settings, &PASS);
            }
            assert!(ward.due().is_some_and(|due| due > now && due <= Ms(now.0 + 5_000)));
        }
        assert_eq!(asked, expected, "{answers}");
    }
}

/// An up ward that has been there for a while.
fn long_up(settings: &HealthSettings) -> Ward {
    let mut ward = Ward::new(Ms(100_000), 7, settings, false);
    step(&mut ward, settings, &PASS);
    ward
}

#[test]
fn what_answered_long_ago_or_fails_or_is_undecided_is_asked() {
    let settings = settings(5_000, 2, 3);
    let serving = |at| Evidence { answered: Some(at), ..Evidence::default() };
    let mut ward = ward(&settings, false);
    assert!(!ward.postpone(Ms(1_000), &settings, serving(Ms(1_000))), "pending");
    let mut ward = long_up(&settings);
    let due = ward.due().expect("due");
    assert!(!ward.postpone(due, &settings, serving(Ms(due.0 - 5_001))), "too long ago");
    step(&mut ward, &settings, &FAIL);
    let due = ward.due().expect("due");
    assert!(!ward.postpone(due, &settings, serving(due)), "one probe has failed");
    step(&mut ward, &settings, &PASS);
    assert!(ward.handle_suspicion(Ms(due.0 + 9_000), &settings));
    assert!(!ward.postpone(Ms(due.0 + 9_000), &settings, serving(due)), "suspected meanwhile");
    let always = HealthSettings { serving_interval: settings.interval, ..settings };
    let mut ward = long_up(&always);
    let due = ward.due().expect("due");
    assert!(!ward.postpone(due, &always, serving(due)), "turned off");
}

#[test]
fn counters_speak_for_an_instance_until_an_exchange_fails() {
    let vitals = Vitals::default();
    assert_eq!(Evidence::of(&vitals), Evidence::default(), "it was never asked");
    vitals.note_byte(Ms(7));
    vitals.count_response(404, Duration::ZERO);
    assert_eq!(Evidence::of(&vitals).answered, Some(Ms(7)));
    vitals.count_response(500, Duration::ZERO);
    assert_eq!(Evidence::of(&vitals).answered, None);
    vitals.count_response(200, Duration::ZERO);
    vitals.suspect();
    let evidence = Evidence::of(&vitals);
    assert!(evidence.suspect && !evidence.serves(Ms(8), Duration::from_secs(1)));
}

#[test]
fn one_of_the_last_that_serve_is_spared_as_long_as_it_serves() {
    let settings = settings(5_000, 2, 3);
    let late = || Err(ProbeError::Timeout(Duration::from_secs(2)));
    let last = |at| Evidence { answered: Some(at), among_last: true, ..Evidence::default() };
    let fail = |ward: &mut Ward, evidence: Evidence, outcome| {
        let at = ward.due().expect("due");
        ward.start(&settings);
        ward.handle_result(
            at,
            &settings,
            Evidence { answered: evidence.answered.map(|ago| Ms(at.0 - ago.0)), ..evidence },
            &outcome,
        )
    };
    // How it is looked upon at the third failure, and whether that brings it down.
    let table = [
        (last(Ms(100)), late(), false),
        (last(Ms(10_000)), SICK, false),
        (last(Ms(10_001)), SICK, true),
        (last(Ms(100)), FAIL, true),
        (Evidence { answered: None, ..last(Ms(0)) }, SICK, true),
        (Evidence { among_last: false, ..last(Ms(100)) }, SICK, true),
        (Evidence { suspect: true, ..last(Ms(100)) }, SICK, true),
    ];
    for (evidence, outcome, falls) in table {
        let mut ward = long_up(&settings);
        step(&mut ward, &settings, &SICK);
        step(&mut ward, &settings, &SICK);
        let turn = fail(&mut ward, evidence, outcome.clone());
        assert_eq!(turn.is_some(), falls, "{evidence:?} {outcome:?}");
        assert_eq!(ward.spared().is_some(), !falls);
    }

    let mut ward = long_up(&settings);
    for _ in 0..3 {
        assert_eq!(fail(&mut ward, last(Ms(100)), SICK), None);
    }
    assert_eq!(
        ward.spared(),
        Some("its probes fail (answered 503), but it serves traffic and is among the last")
    );
    assert_eq!(fail(&mut ward, last(Ms(100)), late()), None, "as long as it serves");
    let before = ward.due();
    let turn = fail(&mut ward, Evidence::default(), SICK).expect("a turn");
    assert_eq!((turn.to, ward.spared()), (Health::Down, None));
    assert!(before.is_some_and(|due| ward.due().is_some_and(|next| next > due)));

    let mut ward = long_up(&settings);
    for _ in 0..3 {
        fail(&mut ward, last(Ms(100)), SICK);
    }
    step(&mut ward, &settings, &PASS);
    assert_eq!((ward.health(), ward.spared()), (Health::Up, None));
}

#[test]
fn what_answers_wrongly_can_be_told_from_what_does_not_answer() {
    let settings = settings(5_000, 2, 1);
    let mut ward = up(&settings);
    step(&mut ward, &settings, &SICK);
    assert!(ward.only_probes_object());
    step(&mut ward, &settings, &FAIL);
    assert!(!ward.only_probes_object(), "it has died since");
    step(&mut ward, &settings, &SICK);
    assert!(ward.only_probes_object());
    step(&mut ward, &settings, &PASS);
    step(&mut ward, &settings, &PASS);
    assert!(!ward.only_probes_object(), "it is up");
    ward.condemn("broke");
    assert!(!ward.only_probes_object(), "its provider does");
}

/// An up ward that last passed at `Ms(1_000)`.
fn up(settings: &HealthSettings) -> Ward {
    let mut ward = ward(settings, false);
    step(&mut ward, settings, &PASS);
    ward
}

#[test]
fn a_suspect_is_probed_at_once_and_falls_at_one_failure() {
    let settings = settings(5_000, 2, 3);
    let mut ward = up(&settings);
    let now = Ms(2_500);
    assert!(ward.handle_suspicion(now, &settings));
    assert_eq!(ward.due(), Some(now));
    let asked = ward.start(&settings);
    assert_eq!(asked.lane, Lane::Suspect);
    assert_eq!(asked.timeout, Duration::from_secs(2), "not the 5 s of the settings");
    assert!(ward.handle_suspicion(Ms(2_600), &settings));
    assert_eq!(ward.due(), None, "the trial is out already");
    let timed_out = Err(ProbeError::Timeout(asked.timeout));
    let turn = ward.handle_result(Ms(4_500), &settings, SUSPECT, &timed_out).expect("a turn");
    assert_eq!(turn.to, Health::Down);
    assert!(turn.why.starts_with("no answer within 2s"), "{}", turn.why);
}

#[test]
fn a_suspect_that_passes_goes_on_as_before() {
    let settings = settings(5_000, 2, 3);
    let mut ward = up(&settings);
    assert!(ward.handle_suspicion(Ms(2_500), &settings));
    let (_, turn) = step(&mut ward, &settings, &PASS);
    assert_eq!((turn, ward.health()), (None, Health::Up));
    step(&mut ward, &settings, &FAIL);
    assert_eq!(ward.health(), Health::Up, "no trial any more: one failure is one of three");
}

#[test]
fn a_regular_failure_of_a_suspect_counts_like_a_trial() {
    let settings = settings(5_000, 2, 3);
    let mut ward = up(&settings);
    ward.start(&settings);
    assert!(ward.handle_result(Ms(6_000), &settings, SUSPECT, &FAIL).is_some());
    assert_eq!(ward.health(), Health::Down);
}

#[test]
fn a_trial_takes_the_place_of_a_probe_that_is_out() {
    let settings = settings(5_000, 2, 3);
    let mut ward = up(&settings);
    let slow = ward.start(&settings);
    assert!(ward.handle_suspicion(Ms(9_000), &settings));
    assert!(!ward.awaits(slow.number), "its result no longer counts");
    let trial = ward.start(&settings);
    assert!(ward.awaits(trial.number));
}

#[test]
fn suspicions_that_no_probe_can_settle_are_void() {
    let checked = settings(5_000, 2, 3);
    let mut fresh = up(&checked);
    assert!(!fresh.handle_suspicion(Ms(1_499), &checked), "it answered just now");
    assert!(fresh.handle_suspicion(Ms(1_500), &checked));

    let mut pending = ward(&checked, false);
    assert!(!pending.handle_suspicion(Ms(5_000), &checked));
    assert_eq!(pending.due(), Some(Ms(1_000)), "its schedule is as it was");

    let unchecked = HealthSettings { check: HealthCheck::None, ..checked };
    let mut ward = ward(&unchecked, false);
    assert!(!ward.handle_suspicion(Ms(5_000), &unchecked));
}

#[test]
fn local_trouble_leaves_a_trial_open() {
    let settings = settings(5_000, 2, 3);
    let mut ward = up(&settings);
    assert!(ward.handle_suspicion(Ms(2_500), &settings));
    step(&mut ward, &settings, &Err(ProbeError::Local("stalled".into())));
    assert!(ward.handle_suspicion(Ms(2_600), &settings));
    assert_eq!(ward.due(), Some(Ms(3_500)), "again in a second, not at once");
    assert_eq!(ward.start(&settings).lane, Lane::Suspect);
}

#[test]
fn without_a_check_it_is_up_and_never_probed() {
    let checked = settings(5_000, 2, 3);
    let unchecked = HealthSettings { check: HealthCheck::None, ..checked };
    let fresh = ward(&unchecked, true);
    assert_eq!((fresh.health(), fresh.settled(), fresh.due()), (Health::Up, true, None));

    let mut ward = ward(&checked, false);
    let out = ward.start(&checked);
    let turn = ward.reschedule(Ms(2_000), &unchecked).expect("a turn");
    assert_eq!((turn.to, ward.due(), ward.settled()), (Health::Up, None, true));
    assert!(!ward.awaits(out.number));
    assert_eq!(ward.reschedule(Ms(3_000), &checked), None, "what is known stays known");
    assert_eq!(ward.health(), Health::Up);
    assert!(ward.due().is_some_and(|due| due > Ms(3_000) && due <= Ms(8_000)));
}

#[test]
fn a_condemned_one_is_down_and_comes_back_only_by_passes() {
    let settings = settings(5_000, 2, 3);
    let mut ward = ward(&settings, true);
    let turn = ward.condemn("exited with status 1").expect("a turn");
    assert_eq!(turn.to, Health::Down);
    assert!(turn.why.ends_with("exited with status 1"));
    assert_eq!((ward.due(), ward.settled()), (None, true));
    assert_eq!(ward.reschedule(Ms(4_000), &settings), None);
    step(&mut ward, &settings, &PASS);
    assert_eq!(ward.health(), Health::Down);
    step(&mut ward, &settings, &PASS);
    assert_eq!(ward.health(), Health::Up);
}
