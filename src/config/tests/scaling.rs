//! What is set for the scaling agent.

use std::sync::Arc;
use std::time::Duration;

use super::{LISTENER, PROVISIONED, check, faults_of, good};
use crate::base::{Share, SizeId};
use crate::model::rule::{Change, Metric, Operator, Statistic};
use crate::model::{
    Limit, Prediction, RateTarget, Resizing, Roll, Rule, ScaleIn, ScaleOut, Scaling, ScalingMode,
    SizeClass, Standby, When, ZoneBalance, ZoneRedundancy,
};

/// A pool that is right, with `lines` in its scaling from line 11 on.
fn with(lines: &str) -> String {
    let full = format!("{LISTENER}{PROVISIONED}");
    full.replace("= 70\n", &format!("= 70\n{lines}\n"))
}

/// What is meant by `lines`.
fn scaling(lines: &str) -> Arc<Scaling> {
    let config = good(&with(lines)).config;
    Arc::clone(config.pools[0].scaling.as_ref().expect("it is scaled"))
}

#[test]
fn what_is_not_written_is_as_the_model_says() {
    assert_eq!(*scaling(""), Scaling::new(3, 12, 70.0));
}

#[test]
fn every_key_is_understood() {
    let secs = Duration::from_secs;
    let found = scaling(
        r#"mode = "recommend"
target_in_flight = 8
target_latency = "200ms"
prediction = "forecast-only"
standby = "20%"
zone_redundancy = "n+1"
zone_balance = "strict"
scale_out = { rate = "900%" }
scale_in = { hold = "1m", rate = "50%" }
lead_time = "4m"
max_pending = "unlimited"
size = "large"
sizes = [{ name = "small", cost = 0.5 }, { name = "large", units = 4 }]
resize = "auto"
roll = { batch = "50%", max_unhealthy = "10%", pause = "30s" }"#,
    );
    let size = |name: &str, units, cost| SizeClass { name: SizeId::new(name), units, cost };
    let expected = Scaling {
        mode: ScalingMode::Recommend,
        min: 3,
        max: 12,
        target_requests_per_second: Some(RateTarget::Stated(70.0)),
        target_in_flight: Some(8.0),
        target_latency: Some(Duration::from_millis(200)),
        prediction: Prediction::ForecastOnly,
        standby: Standby::Share(Share(0.2)),
        zone_redundancy: ZoneRedundancy::OneZone,
        zone_balance: ZoneBalance::Strict,
        scale_out: ScaleOut { rate: Share(9.0) },
        scale_in: ScaleIn { hold: secs(60), rate: Share(0.5) },
        lead_time: Some(secs(240)),
        max_pending: Limit::Unlimited,
        size: Some(size("large", 4, 4.0)),
        sizes: vec![size("small", 1, 0.5), size("large", 4, 4.0)],
        resize: Resizing::Auto,
        roll: Roll { batch: Share(0.5), max_unhealthy: Share(0.1), pause: secs(30) },
        schedules: Vec::new(),
        rules: Vec::new(),
    };
    assert_eq!(*found, expected);
}

#[test]
fn sizes() {
    let size = |lines: &str| scaling(lines).size.clone().map(|size| (size.name, size.units));
    assert_eq!(size(""), None);
    assert_eq!(size("size = \"d4\""), Some(("d4".into(), 1)), "the provider may know it");
    assert_eq!(size("sizes = [{ name = \"a\", units = 2 }]"), Some(("a".into(), 2)));
}

#[test]
fn other_targets_do_instead() {
    let target = |lines: &str| {
        let text = with("").replace("target_requests_per_second = 70", lines);
        let config = good(&text).config;
        Arc::clone(config.pools[0].scaling.as_ref().expect("it is scaled"))
    };
    let learnt = target("target_requests_per_second = \"learn\"");
    assert_eq!(learnt.target_requests_per_second, Some(RateTarget::Learn));
    for lines in ["target_in_flight = 0.5", "target_latency = \"1s\""] {
        assert_eq!(target(lines).target_requests_per_second, None);
    }
    let nothing = with("").replace("target_requests_per_second = 70", "");
    check(&nothing, &["7:11: pool.web.scaling.target_requests_per_second: is missing; write the"]);
    let inherited = format!("[defaults.scaling]\ntarget_in_flight = 2\n{nothing}");
    good(&inherited);
}

/// A pool that is right, with one schedule that has `lines` from line 15 on.
fn with_schedule(lines: &str) -> String {
    format!("{}[[pool.web.scaling.schedule]]\n{lines}\n", with("").replace("\n\n[", "\n["))
}

#[test]
fn schedules_are_understood() {
    let found = scaling(
        r#"[[pool.web.scaling.schedule]]
name = "office"
cron = "0 8 * * 1-5"
for = "10h"
timezone = "europe/berlin"
min = 6
max = 40
target_requests_per_second = "learn"
[[pool.web.scaling.schedule]]
name = "christmas"
from = "2026-12-24T18:00"
until = "2026-12-27"
timezone = "America/New_York"
min = 0
[[pool.web.scaling.schedule]]
name = "gap"
from = "2026-03-29T02:30"
until = "2026-10-25T02:30:30"
timezone = "Europe/Berlin"
target_requests_per_second = 50"#,
    );
    let utc = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_second();
    let [office, christmas, gap] = found.schedules.as_slice() else { panic!("three") };
    let When::Cron { cron, zone, length } = &office.when else { panic!("it recurs") };
    assert_eq!(
        (cron.to_string().as_str(), zone.iana_name()),
        ("0 8 * * 1-5", Some("Europe/Berlin"))
    );
    assert_eq!((*length, office.min, office.max), (Duration::from_secs(36_000), Some(6), Some(40)));
    assert_eq!(office.target_requests_per_second, Some(RateTarget::Learn));
    let dates = When::Dates { from: utc("2026-12-24T23:00Z"), until: utc("2026-12-27T05:00Z") };
    assert_eq!((&christmas.when, christmas.min, christmas.max), (&dates, Some(0), None));
    // One that does not exist, and one that exists twice.
    let dates = When::Dates { from: utc("2026-03-29T01:00Z"), until: utc("2026-10-25T00:30:30Z") };
    assert_eq!((gap.name.as_str(), &gap.when), ("gap", &dates));
    assert_eq!(gap.target_requests_per_second, Some(RateTarget::Stated(50.0)));
}

#[test]
fn schedules_are_inherited_whole() {
    let schedule = |pool: &str, name: &str| {
        format!(
            "[[{pool}.scaling.schedule]]\nname = \"{name}\"\ncron = \"0 8 * * *\"\nfor = \"1h\"\nmin = 4\n"
        )
    };
    let names = |text: &str| -> Vec<String> {
        let config = good(text).config;
        let scaling = config.pools[0].scaling.as_ref().expect("it is scaled");
        scaling.schedules.iter().map(|schedule| schedule.name.clone()).collect()
    };
    let inherited = format!("{}{}", schedule("defaults", "all"), with(""));
    assert_eq!(names(&inherited), ["all"]);
    assert_eq!(names(&format!("{inherited}{}", schedule("pool.web", "own"))), ["own"]);
}

#[test]
fn faults_of_schedules() {
    let cron = "name = \"n\"\ncron = \"0 8 * * *\"\nfor = \"1h\"";
    good(&with_schedule(&format!("{cron}\nmin = 4")));
    let path = "pool.web.scaling.schedule.n";
    for (lines, expected) in [
        (cron, format!("14:1: {path}: changes nothing; write min, max or")),
        (
            "cron = \"0 8 * * *\"\nfor = \"1h\"\nmin = 4",
            "14:1: pool.web.scaling.schedule[1].name: is missing".into(),
        ),
        ("name = \"n\"\nmin = 4", format!("14:1: {path}: does not say when; write cron and for")),
        ("name = \"n\"\nmin = 4\nfor = \"1h\"", format!("14:1: {path}.cron: is missing")),
        ("name = \"n\"\nmin = 4\ncron = \"0 8 * * *\"", format!("14:1: {path}.for: is missing")),
        ("name = \"n\"\nmin = 4\nfrom = \"2026-12-24\"", format!("14:1: {path}.until: is missing")),
        (
            "name = \"n\"\nmin = 4\nfrom = \"2026-12-24\"\nuntil = \"2026-12-24\"",
            format!("18:9: {path}.until: is not later than from"),
        ),
        (
            "name = \"n\"\nmin = 4\nfrom = \"2026-12-24\"\ncron = \"0 8 * * *\"\nfor = \"1h\"",
            format!("17:8: {path}.from: stands beside cron or for; write one schedule for each"),
        ),
        (
            "name = \"n\"\nmin = 4\ncron = \"0 25 * * *\"\nfor = \"1h\"",
            format!("17:8: {path}.cron: \"0 25 * * *\" is no cron: \"25\" is no hour from 0 to 23"),
        ),
        (
            "name = \"n\"\nmin = 4\ncron = \"0 2 * * *\"\nfor = \"367d\"",
            format!("18:7: {path}.for: must be at most \"366d\""),
        ),
        (
            "name = \"n\"\nmin = 4\nfrom = 2026-12-24T18:00:00\nuntil = \"2026-12-25\"",
            format!(
                "17:8: {path}.from: must be a date such as \"2026-12-24T18:00\"; put it in quotes"
            ),
        ),
        (
            "name = \"n\"\nmin = 4\nfrom = \"2026-12-24T18:00Z\"\nuntil = \"2026-12-25\"",
            format!("17:8: {path}.from: \"2026-12-24T18:00Z\" is no date with a time; write"),
        ),
        (
            "name = \"n\"\nmin = 4\nfrom = \"2026-02-29\"\nuntil = \"2026-12-25\"",
            format!("17:8: {path}.from: \"2026-02-29\" is no date"),
        ),
    ] {
        check(&with_schedule(lines), &[&expected]);
    }
    for (lines, expected) in [
        (
            "timezone = \"Europe/Berlinn\"\nmin = 4",
            format!(
                "18:12: {path}.timezone: there is no time zone \"Europe/Berlinn\"; did you mean"
            ),
        ),
        ("min = 13", format!("18:7: {path}.min: min 13 is above max 12; set both here")),
        ("max = 2", format!("18:7: {path}.max: min 3 is above max 2; set both here")),
        ("max = 0", format!("18:7: {path}.max: 0 is less than 1")),
        ("tz = 1\nmin = 3", format!("18:1: {path}.tz: unknown key")),
    ] {
        check(&with_schedule(&format!("{cron}\n{lines}")), &[&expected]);
    }
    let twice = format!("{cron}\nmin = 4\n[[pool.web.scaling.schedule]]\n{cron}\nmin = 5");
    check(
        &with_schedule(&twice),
        &[&format!("20:8: {path}.name: another schedule has the name \"n\" too")],
    );
}

/// The rules that `lines` are.
fn rules(lines: &str) -> Vec<Rule> {
    scaling(lines).rules.clone()
}

#[test]
fn rules_are_understood() {
    let found = rules(
        r#"[[pool.web.scaling.rule]]
metric = "requests-per-instance"
operator = ">"
threshold = 80
change = "+20%"
[[pool.web.scaling.rule]]
metric = "latency"
window = "1m"
statistic = "max"
operator = "<="
threshold = "50ms"
change = "-1"
cooldown = "0s""#,
    );
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let expected = [
        Rule {
            metric: Metric::RequestsPerInstance,
            window: minutes(5),
            statistic: Statistic::Average,
            operator: Operator::Above,
            threshold: 80.0,
            change: Change::AddShare(Share(0.2)),
            cooldown: minutes(5),
        },
        Rule {
            metric: Metric::Latency,
            window: minutes(1),
            statistic: Statistic::Max,
            operator: Operator::AtMost,
            threshold: 0.05,
            change: Change::Remove(1),
            cooldown: Duration::ZERO,
        },
    ];
    assert_eq!(found, expected);
    let rule = "metric = \"queue\"\noperator = \">\"\nthreshold = 5\n";
    for (written, change) in [
        ("+2", Change::Add(2)),
        ("-3", Change::Remove(3)),
        ("-12.5%", Change::RemoveShare(Share(0.125))),
        ("=10", Change::Exactly(10)),
        ("=0", Change::Exactly(0)),
    ] {
        let found = rules(&format!("[[pool.web.scaling.rule]]\n{rule}change = \"{written}\""));
        assert_eq!((found[0].change, change.to_string().as_str()), (change, written));
    }
    // They are enough to scale by.
    let alone = with(&format!("[[pool.web.scaling.rule]]\n{rule}change = \"+1\""));
    good(&alone.replace("target_requests_per_second = 70", ""));
}

#[test]
fn faults_of_rules() {
    let line = |key: &str, value: &str| {
        let mut rule = String::new();
        for (other, usual) in [
            ("metric", "\"queue\""),
            ("operator", "\">\""),
            ("threshold", "5"),
            ("change", "\"+1\""),
        ] {
            let value = if other == key { value } else { usual };
            if !value.is_empty() {
                rule.push_str(&format!("{other} = {value}, "));
            }
        }
        if !rule.contains(key) && !value.is_empty() {
            rule.push_str(&format!("{key} = {value}, "));
        }
        with(&format!("rule = [{{ {} }}]", rule.trim_end_matches(", ")))
    };
    good(&line("change", "\"+1\""));
    for (key, value, expected) in [
        ("metric", "", "is missing; write what it looks at"),
        ("metric", "\"cpu\"", "\"cpu\" is not one of \"requests-per-instance\", "),
        ("metric", "\"latency\"", ""),
        ("operator", "", "is missing; write"),
        ("operator", "\"=\"", "\"=\" is not one of \">\", \">=\", \"<\", \"<=\""),
        ("threshold", "", "is missing; write what it is compared with"),
        ("threshold", "-1", "must be a number from 0, or a duration"),
        ("threshold", "\"5s\"", "is a time, and queue is a number"),
        ("change", "", "is missing; write what it does"),
        (
            "change",
            "1",
            "must be a change such as \"+1\", \"-1\", \"+20%\", \"-20%\" or \"=10\"; did you mean \"+1\"?",
        ),
        (
            "change",
            "-2",
            "must be a change such as \"+1\", \"-1\", \"+20%\", \"-20%\" or \"=10\"; did you mean \"-2\"?",
        ),
        ("change", "\"1\"", "\"1\" is not a change such as"),
        ("change", "\"+\"", "\"+\" is not a change such as"),
        ("change", "\"=20%\"", "\"=20%\" is not a change such as"),
        ("change", "\"-120%\"", "\"-120%\" is too much"),
        ("change", "\"+0\"", "changes nothing"),
        ("change", "\"é1\"", "\"é1\" is not a change such as"),
        ("window", "\"13h\"", "must be at most \"12h\""),
        ("window", "\"0s\"", "must be at least \"1s\""),
        ("statistic", "\"p99\"", "\"p99\" is not one of \"average\", "),
        ("cooldown", "\"8d\"", "must be at most \"7d\""),
    ] {
        let found = faults_of(&line(key, value));
        let [found] = found.as_slice() else { panic!("{key} = {value}: {found:#?}") };
        let expected = match expected {
            "" => "pool.web.scaling.rule[1].threshold: has no unit, and latency has".to_owned(),
            expected => format!("pool.web.scaling.rule[1].{key}: {expected}"),
        };
        let (_, found) = found.split_once(": ").expect("a place");
        assert!(found.starts_with(&expected), "{key} = {value}: {found}");
    }
    check(&with("rule = []"), &["11:8: pool.web.scaling.rule: is an empty list; leave it out"]);
}

#[test]
fn faults() {
    for (lines, expected) in [
        ("mode = \"on\"", "11:8: pool.web.scaling.mode: \"on\" is not one of \"enforce\", "),
        (
            "target_in_flight = 0",
            "11:20: pool.web.scaling.target_in_flight: must be a number above 0",
        ),
        ("target_latency = \"0s\"", "11:18: pool.web.scaling.target_latency: must be at least"),
        ("prediction = true", "11:14: pool.web.scaling.prediction: must be one of \"on\", "),
        (
            "standby = 0.2",
            "11:11: pool.web.scaling.standby: must be a whole number or a share such as \"20%\"",
        ),
        (
            "standby = \"120%\"",
            "11:11: pool.web.scaling.standby: \"120%\" is more than the whole, \"100%\"",
        ),
        (
            "zone_redundancy = \"n+2\"",
            "11:19: pool.web.scaling.zone_redundancy: \"n+2\" is not one",
        ),
        (
            "scale_out.rate = 300",
            "11:18: pool.web.scaling.scale_out.rate: 300 has no unit; did you mean \"300%\"?",
        ),
        (
            "scale_out.rate = \"0%\"",
            "11:18: pool.web.scaling.scale_out.rate: must be more than \"0%\"",
        ),
        (
            "scale_out.rate = \"10001%\"",
            "11:18: pool.web.scaling.scale_out.rate: \"10001%\" is more than \"10000%\"",
        ),
        ("lead_time = 90", "11:13: pool.web.scaling.lead_time: 90 has no unit"),
        (
            "lead_time = \"automatic\"",
            "11:13: pool.web.scaling.lead_time: \"automatic\" is not a duration",
        ),
        ("max_pending = 0", "11:15: pool.web.scaling.max_pending: 0 is less than 1; write"),
        ("sizes = []", "11:9: pool.web.scaling.sizes: is an empty list; leave it out"),
        (
            "sizes = [{ name = \"a\" }, { name = \"a\" }]",
            "11:35: pool.web.scaling.sizes.a.name: the size \"a\" is there twice",
        ),
        (
            "sizes = [{ units = 2 }]\nsize = \"a\"",
            "11:10: pool.web.scaling.sizes[1].name: is missing",
        ),
        (
            "sizes = [{ name = \"small\", cost = 0 }]",
            "11:35: pool.web.scaling.sizes.small.cost: must be a number above 0",
        ),
        (
            "sizes = [{ name = \"small\" }]\nsize = \"smal\"",
            "12:8: pool.web.scaling.size: there is no size \"smal\"; did you mean \"small\"?",
        ),
        (
            "resize = \"auto\"",
            "11:10: pool.web.scaling.resize: needs two sizes to choose from, and there is none",
        ),
        (
            "resize = \"recommend\"\nsizes = [{ name = \"a\" }]",
            "11:10: pool.web.scaling.resize: needs two sizes to choose from, and there is one",
        ),
        ("roll.batch = 20", "11:14: pool.web.scaling.roll.batch: 20 has no unit; did you mean"),
    ] {
        check(&with(lines), &[expected]);
    }
    let one_zone = with("zone_redundancy = \"n+1\"").replace("[\"a\", \"b\"]", "[\"a\"]");
    check(&one_zone, &["11:19: pool.web.scaling.zone_redundancy: \"n+1\" needs another zone"]);
}
