//! Clocks that change, days that are rare, and schedules against each other.

use std::ops::Range;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;

use super::*;
use crate::base::Cron;

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).expect("it is bundled")
}

fn cron(text: &str, zone_name: &str, seconds: i64) -> When {
    When::Cron {
        cron: Cron::parse(text).unwrap_or_else(|why| panic!("{text}: {why}")),
        zone: zone(zone_name),
        length: Duration::from_secs(seconds as u64),
    }
}

/// Seconds of a time such as `2026-03-29T01:00:00Z`.
fn utc(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap_or_else(|why| panic!("{text}: {why}")).as_second()
}

fn schedule(name: &str, when: When, min: Option<u32>, max: Option<u32>) -> Schedule {
    Schedule { name: name.into(), when, min, max, target_requests_per_second: None }
}

fn scaling(schedules: Vec<Schedule>) -> Scaling {
    Scaling { schedules, ..Scaling::new(3, 12, 70.0) }
}

/// All starts from `from` until `to`, which is not included.
fn starts(when: &When, from: i64, to: i64) -> Vec<String> {
    let (mut found, mut at) = (Vec::new(), to - 1);
    while let Some(start) = when.last_start(at, from - 1) {
        found
            .push(Timestamp::from_second(start).expect("a time").strftime("%dT%H:%MZ").to_string());
        at = start - 1;
    }
    found.reverse();
    found
}

#[test]
fn starts_when_clocks_change() {
    for (zone, days, cron_text, expected) in [
        // Berlin: at 01:00Z, 02:00 becomes 03:00.
        ("Europe/Berlin", ("2026-03-28", 3), "0 8 * * *", "28T07:00Z 29T06:00Z 30T06:00Z"),
        ("Europe/Berlin", ("2026-03-28", 3), "30 2 * * *", "28T01:30Z 29T01:00Z 30T00:30Z"),
        ("Europe/Berlin", ("2026-03-29", 1), "59 1 * * *", "29T00:59Z 29T23:59Z"),
        ("Europe/Berlin", ("2026-03-29", 1), "0 2 * * *", "29T01:00Z"),
        ("Europe/Berlin", ("2026-03-29", 1), "0 3 * * *", "29T01:00Z"),
        // Those that the clocks skip, and the one that comes then, are one.
        ("Europe/Berlin", ("2026-03-29", 1), "*/20 2-3 * * *", "29T01:00Z 29T01:20Z 29T01:40Z"),
        // At 01:00Z, 03:00 becomes 02:00.
        ("Europe/Berlin", ("2026-10-24", 3), "0 8 * * *", "24T06:00Z 25T07:00Z 26T07:00Z"),
        ("Europe/Berlin", ("2026-10-24", 3), "30 2 * * *", "24T00:30Z 25T00:30Z 26T01:30Z"),
        (
            "Europe/Berlin",
            ("2026-10-25", 1),
            "*/30 1-3 * * *",
            "25T00:00Z 25T00:30Z 25T02:00Z 25T02:30Z",
        ),
        // New York: at 07:00Z, 02:00 becomes 03:00.
        ("America/New_York", ("2026-03-07", 3), "30 2 * * *", "07T07:30Z 08T07:00Z 09T06:30Z"),
        ("America/New_York", ("2026-03-08", 1), "0 18 * * sun", "08T22:00Z"),
        // At 06:00Z, 02:00 becomes 01:00.
        ("America/New_York", ("2026-11-01", 2), "30 1 * * *", "01T05:30Z 02T06:30Z"),
        ("America/New_York", ("2026-11-01", 2), "0 2 * * *", "01T07:00Z 02T07:00Z"),
        // Samoa went without a day.
        (
            "Pacific/Apia",
            ("2011-12-29", 4),
            "0 12 * * *",
            "29T22:00Z 30T10:00Z 30T22:00Z 31T22:00Z 01T22:00Z",
        ),
        ("UTC", ("2028-02-28", 3), "0 0 29 2 *", "29T00:00Z"),
    ] {
        let from = utc(&format!("{}T00:00:00Z", days.0));
        let when = cron(cron_text, zone, HOUR);
        let found = starts(&when, from, from + days.1 * DAY).join(" ");
        assert_eq!(found, expected, "{cron_text} in {zone} from {}", days.0);
    }
}

#[test]
fn a_day_has_as_many_hours_as_pass() {
    // Eight hours over the night in which the clocks go back: until 05:00, not 06:00.
    let night = cron("0 22 * * *", "Europe/Berlin", 8 * HOUR);
    let start = utc("2026-10-24T20:00:00Z");
    for (after, holds) in [(-1, false), (0, true), (8 * HOUR - 1, true), (8 * HOUR, false)] {
        assert_eq!(night.holds(start + after), holds, "{after}");
    }
}

#[test]
fn starts_that_overlap_hold_together() {
    let always = cron("*/10 * * * *", "Europe/Berlin", 601);
    let from = utc("2026-03-28T20:00:00Z");
    assert!((0..DAY).step_by(7).all(|second| always.holds(from + second)));
    // What the clocks show twice starts once, so nothing starts in the second of the two hours.
    let change = utc("2026-10-25T01:00:00Z");
    assert!(always.holds(change) && always.holds(change + HOUR));
    assert!(!(1..HOUR).any(|second| always.holds(change + second)));
    let weeks = cron("0 0 1 * *", "America/New_York", 31 * DAY);
    assert!((0..400).all(|day| weeks.holds(from + day * DAY)));
}

#[test]
fn who_goes_before_whom() {
    let at = |from: &str, until: &str| When::Dates { from: utc(from), until: utc(until) };
    let christmas = at("2026-12-24T17:00:00Z", "2026-12-26T00:00:00Z");
    let sale = at("2026-12-25T08:00:00Z", "2026-12-25T20:00:00Z");
    let scaling = scaling(vec![
        schedule("christmas", christmas, Some(5), None),
        Schedule {
            target_requests_per_second: Some(RateTarget::Learn),
            ..schedule("sale", sale, Some(9), Some(40))
        },
        schedule("office", cron("0 8 * * 1-5", "UTC", 10 * HOUR), Some(8), Some(20)),
        schedule("lunch", cron("0 12 * * *", "UTC", HOUR), Some(6), None),
        schedule("low", cron("0 2 * * *", "UTC", HOUR), None, Some(2)),
    ]);
    let stated = Some(RateTarget::Stated(70.0));
    for (time, min, max, target, name) in [
        ("2026-12-21T07:59:59Z", 3, 12, stated, None),
        ("2026-12-21T08:00:00Z", 8, 20, stated, Some("office")),
        ("2026-12-21T12:30:00Z", 6, 20, stated, Some("lunch")),
        ("2026-12-21T18:00:00Z", 3, 12, stated, None),
        // The smaller of both, if the minimum were above the maximum.
        ("2026-12-22T02:00:00Z", 2, 2, stated, Some("low")),
        // A date before what recurs, though it stands before it; what it does not set is as before.
        ("2026-12-24T17:30:00Z", 5, 20, stated, Some("christmas")),
        ("2026-12-25T12:30:00Z", 9, 40, Some(RateTarget::Learn), Some("sale")),
        ("2026-12-25T20:00:00Z", 5, 12, stated, Some("christmas")),
    ] {
        let expected = Profile { min, max, target_requests_per_second: target, schedule: name };
        assert_eq!(active(&scaling, utc(time)), expected, "{time}");
    }
}

#[test]
fn what_starts_within_a_lead_time_is_launched_now() {
    let office = schedule("office", cron("0 8 * * 1-5", "Europe/Berlin", 10 * HOUR), Some(8), None);
    let night = schedule("night", cron("0 22 * * *", "Europe/Berlin", 9 * HOUR), Some(0), None);
    let rush = schedule("rush", cron("30 8 * * 1-5", "Europe/Berlin", HOUR), Some(20), Some(40));
    let all = scaling(vec![office, night, rush]);
    let floor =
        |time: &str, minutes: u64| floor(&all, utc(time), Duration::from_secs(minutes * 60));
    for (time, minutes, expected) in [
        // Monday in winter: 08:00 is 07:00Z.
        ("2026-11-23T06:56:59Z", 3, 3),
        ("2026-11-23T06:57:00Z", 3, 8),
        ("2026-11-23T07:00:00Z", 3, 8),
        ("2026-11-23T06:57:00Z", 33, 20),
        // Ahead of its end, it still holds.
        ("2026-11-23T16:59:00Z", 3, 8),
        ("2026-11-23T17:00:00Z", 3, 3),
        // The night has nothing; its end brings back what is always.
        ("2026-11-23T22:00:00Z", 3, 0),
        ("2026-11-24T05:56:59Z", 3, 0),
        ("2026-11-24T05:57:00Z", 3, 3),
        // Nobody looks further ahead than a day.
        ("2026-11-21T06:00:00Z", 100_000, 3),
        // The night of the change: 08:00 is 06:00Z on Monday.
        ("2026-03-30T05:57:00Z", 3, 8),
        ("2026-03-30T05:56:59Z", 3, 3),
    ] {
        assert_eq!(floor(time, minutes), expected, "{time}, {minutes} minutes");
    }
}

#[test]
fn what_will_not_hold_is_not_launched() {
    let quiet =
        When::Dates { from: utc("2026-11-22T00:00:00Z"), until: utc("2026-11-24T00:00:00Z") };
    let all = scaling(vec![
        schedule("office", cron("0 8 * * 1-5", "UTC", 10 * HOUR), Some(8), None),
        schedule("quiet", quiet, Some(1), None),
    ]);
    let before = utc("2026-11-23T07:59:00Z");
    assert_eq!(floor(&all, before, Duration::from_secs(120)), 1);
    assert_eq!(floor(&all, before + DAY, Duration::from_secs(120)), 8);
}

/// The starts in a time that begins with a minute, found by looking at the clock every minute.
fn starts_by_looking(text: &str, zone: &TimeZone, within: Range<i64>) -> Vec<i64> {
    let cron = Cron::parse(text).expect("a cron");
    let shows = |at: i64| zone.to_datetime(Timestamp::from_second(at).expect("a time"));
    let happens = |time: DateTime| cron.last(time, time.date()) == Some(time);
    let minute = jiff::Span::new().minutes(1);
    // The latest that the clocks have shown.
    let mut latest = (1..180).map(|ago| shows(within.start - ago * 60)).max().expect("many");
    let mut found = Vec::new();
    for at in within.step_by(60) {
        let now = shows(at);
        let mut starts = false;
        while latest < now {
            latest += minute;
            starts |= happens(latest);
        }
        if starts {
            found.push(at);
        }
    }
    found
}

fn any_cron() -> impl Strategy<Value = String> {
    let minute = prop::sample::select(vec!["*", "0", "30", "*/7", "15,45", "5-10", "50-59/3"]);
    let hour = prop::sample::select(vec!["*", "0", "1", "2", "3", "1-3", "*/5", "2,14", "23"]);
    let day = prop::sample::select(vec!["*", "29", "8", "*/2", "1-10", "25,31"]);
    let month = prop::sample::select(vec!["*", "3", "mar,oct,nov", "*/2"]);
    let weekday = prop::sample::select(vec!["*", "0", "7", "1-5", "sat-sun", "*/3"]);
    (minute, hour, day, month, weekday).prop_map(|(minute, hour, day, month, weekday)| {
        format!("{minute} {hour} {day} {month} {weekday}")
    })
}

proptest! {
    #[test]
    fn it_holds_from_each_start_for_exactly_its_length(
        text in any_cron(),
        place in 0usize..6,
        shift in -36i64..36,
        minutes in 1i64..800,
    ) {
        // Around the changes of the clocks.
        let (name, change) = [
            ("Europe/Berlin", "2026-03-29T01:00:00Z"),
            ("Europe/Berlin", "2026-10-25T01:00:00Z"),
            ("America/New_York", "2026-03-08T07:00:00Z"),
            ("America/New_York", "2026-11-01T06:00:00Z"),
            ("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
            ("Europe/Berlin", "2028-02-29T00:00:00Z"),
        ][place];
        let from = utc(change) + shift * HOUR;
        let (span, length) = (30 * HOUR, minutes * 60);
        let looked = from - length - HOUR..from + span + length + HOUR;
        let expected = starts_by_looking(&text, &zone(name), looked);
        let when = cron(&text, name, length);
        for at in (from..from + span).step_by(197) {
            let holds = expected.iter().any(|start| (*start..start + length).contains(&at));
            prop_assert_eq!(when.holds(at), holds, "{} in {} at {}", text, name, at);
        }
        for start in expected.iter().filter(|start| (from..from + span).contains(*start)) {
            prop_assert!(when.holds(*start) && when.holds(start + length - 1));
            prop_assert_eq!(when.last_start(*start, start - 1), Some(*start));
            let again = expected.iter().any(|next| (start + 1..=start + length).contains(next));
            prop_assert_eq!(when.holds(start + length), again);
            let before = expected.iter().any(|other| (start - length..*start).contains(other));
            prop_assert_eq!(when.holds(start - 1), before);
        }
    }

    #[test]
    fn the_floor_is_the_largest_minimum_ahead(
        first in any_cron(),
        second in any_cron(),
        lengths in (1i64..600, 1i64..600),
        shift in -36i64..36,
        lead in 0i64..200,
    ) {
        let all = scaling(vec![
            schedule("first", cron(&first, "Europe/Berlin", lengths.0 * 60), Some(7), None),
            schedule("second", cron(&second, "Europe/Berlin", lengths.1 * 60), Some(0), Some(5)),
        ]);
        let now = utc("2026-03-29T01:00:00Z") + shift * HOUR;
        let ahead = (now..=now + lead * 60).map(|at| active(&all, at).min).step_by(60).max();
        let found = floor(&all, now, Duration::from_secs(lead as u64 * 60));
        prop_assert_eq!(Some(found), ahead);
    }
}
