//! The protocol by which an outside simulator drives the control law: one line of JSON in for each
//! simulated second, one line out with what should exist.
//!
//! ```text
//! → {"t":1.0,"offered":210,"completed":205,"shed":0,"queued":5,"in_flight":44,"latency_mean_ms":41.0,
//!    "zones":{"a":{"pending":1,"warming":0,"ready":9,"draining":0,"unhealthy":0},…}}
//! ← {"t":1.0,"desired":11,"reason":"…"}
//! ```

use std::fmt;
use std::io::{self, BufRead, Write};
use std::sync::Arc;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess};
use serde::{Deserialize as Read, Serialize};
use thiserror::Error;

use crate::base::Ms;
use crate::model::Scaling;
use crate::scaling::law::{Law, Moment, Presence, Second};

/// A million simulated seconds are eleven days; no clock comes near this (30 million years).
const LATEST_S: f64 = 1e15;

/// Why driving ended before the input did.
#[derive(Debug, Error)]
pub enum DriveError {
    /// The simulator sent something that is not a second.
    #[error("stdin, line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The input cannot be read.
    #[error("cannot read stdin: {0}")]
    Input(io::Error),
    /// The answers cannot be written.
    #[error("cannot write to stdout: {0}")]
    Output(io::Error),
}

/// Answers each line of `input` on `output`, at once, until the input ends.
///
/// # Errors
/// A line that cannot be read, or a stream that breaks.
pub fn drive(
    mut input: impl BufRead,
    mut output: impl Write,
    scaling: &Arc<Scaling>,
) -> Result<(), DriveError> {
    let mut law = Law::default();
    let mut text = String::new();
    let mut before = f64::NEG_INFINITY;
    for line in 1.. {
        text.clear();
        match input.read_line(&mut text) {
            Ok(0) => break,
            Ok(_) => {}
            // Bytes that are no text are the line's fault, not the stream's.
            Err(why) if why.kind() == io::ErrorKind::InvalidData => {
                return Err(DriveError::Line { line, why: "it is not UTF-8".into() });
            }
            Err(why) => return Err(DriveError::Input(why)),
        }
        let report =
            report(text.trim_end(), before).map_err(|why| DriveError::Line { line, why })?;
        before = report.t;
        let sizing = law.decide(report.moment(), &report.second(), &report.zones.0, scaling);
        let answer = Answer { t: report.t, desired: sizing.desired, reason: &sizing.reason };
        serde_json::to_writer(&mut output, &answer)
            .map_err(io::Error::from)
            .and_then(|()| output.write_all(b"\n"))
            .and_then(|()| output.flush())
            .map_err(DriveError::Output)?;
    }
    Ok(())
}

/// One line of the simulator.
#[derive(Debug, Read)]
struct Report {
    t: f64,
    offered: f64,
    completed: f64,
    shed: f64,
    queued: f64,
    in_flight: f64,
    /// 0 or null where nothing was answered.
    latency_mean_ms: Option<f64>,
    zones: Zones,
}

/// One answer to it.
#[derive(Serialize)]
struct Answer<'a> {
    t: f64,
    desired: u32,
    reason: &'a str,
}

fn report(text: &str, before: f64) -> Result<Report, String> {
    if text.is_empty() {
        return Err("it is empty; expected one JSON object for each second".into());
    }
    let report: Report = serde_json::from_str(text).map_err(|why| match why.line() {
        // serde_json counts lines within this one, which would only confuse.
        0 => why.to_string(),
        line => {
            let place = format!(" at line {line} column {}", why.column());
            let why_alone = why.to_string().replace(&place, "");
            format!("{why_alone} (column {})", why.column())
        }
    })?;
    let numbers = [
        ("t", report.t),
        ("offered", report.offered),
        ("completed", report.completed),
        ("shed", report.shed),
        ("queued", report.queued),
        ("in_flight", report.in_flight),
        ("latency_mean_ms", report.latency_mean_ms.unwrap_or(0.0)),
    ];
    if let Some((name, value)) = numbers.iter().find(|(_, value)| *value < 0.0) {
        return Err(format!("{name} is {value}; it cannot be below 0"));
    }
    if report.t <= before {
        return Err(format!("t is {}, not after {before} of the line before", report.t));
    }
    if report.t > LATEST_S {
        return Err(format!("t is {}; it is in seconds, and at most {LATEST_S}", report.t));
    }
    Ok(report)
}

impl Report {
    /// The simulator's clock is both clocks: what recurs by the day does so from its start.
    fn moment(&self) -> Moment {
        Moment { now: Ms((self.t * 1_000.0).round() as u64), wall_s: self.t.floor() as i64 }
    }

    fn second(&self) -> Second {
        Second {
            offered: self.offered,
            completed: self.completed,
            shed: self.shed,
            queued: self.queued,
            in_flight: self.in_flight,
            latency_s: self
                .latency_mean_ms
                .filter(|_| self.completed > 0.0)
                .map(|latency| latency / 1_000.0),
        }
    }
}

/// The counts of all zones, added up: the law decides the number alone.
#[derive(Debug)]
struct Zones(Presence);

#[derive(Read)]
struct Counts {
    #[serde(default)]
    pending: u32,
    #[serde(default)]
    warming: u32,
    #[serde(default)]
    ready: u32,
    #[serde(default)]
    draining: u32,
    #[serde(default)]
    unhealthy: u32,
}

impl<'de> Deserialize<'de> for Zones {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Adder)
    }
}

struct Adder;

impl<'de> de::Visitor<'de> for Adder {
    type Value = Zones;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the counts of each zone by its name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut zones: A) -> Result<Zones, A::Error> {
        let mut sum = Presence::default();
        while zones.next_key::<IgnoredAny>()?.is_some() {
            let counts: Counts = zones.next_value()?;
            for (total, count) in [
                (&mut sum.pending, counts.pending),
                (&mut sum.warming, counts.warming),
                (&mut sum.ready, counts.ready),
                (&mut sum.draining, counts.draining),
                (&mut sum.unhealthy, counts.unhealthy),
            ] {
                *total = total.saturating_add(count);
            }
            sum.zones += 1;
        }
        Ok(Zones(sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::SizeId;
    use crate::model::SizeClass;

    fn scaling() -> Arc<Scaling> {
        Arc::new(Scaling::new(2, 40, 100.0))
    }

    fn line(t: &str, offered: &str) -> String {
        format!(
            "{{\"t\":{t},\"offered\":{offered},\"completed\":205,\"shed\":0,\"queued\":5,\
             \"in_flight\":44,\"latency_mean_ms\":41.0,\"zones\":{{\
             \"a\":{{\"pending\":1,\"warming\":0,\"ready\":9,\"draining\":0,\"unhealthy\":0}},\
             \"b\":{{\"pending\":0,\"warming\":2,\"ready\":8,\"draining\":1,\"unhealthy\":3}}}}}}\n"
        )
    }

    fn driven(input: &str) -> (Result<(), DriveError>, String) {
        let mut output = Vec::new();
        let end = drive(input.as_bytes(), &mut output, &scaling());
        (end, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn each_line_has_one_answer_with_its_time() {
        let (end, output) = driven(&(line("1.0", "210") + &line("2.5", "900")));
        end.expect("good lines");
        let answers: Vec<serde_json::Value> =
            output.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(answers.len(), 2);
        assert!(output.starts_with("{\"t\":1.0,\"desired\":"), "{output}");
        assert_eq!(answers[1]["t"], 2.5);
        for answer in answers {
            let desired = answer["desired"].as_u64().expect("a number");
            assert!((2..=40).contains(&desired), "{answer}");
            assert!(answer["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
        }
    }

    #[test]
    fn counts_are_those_of_all_zones() {
        let report = report(line("1.0", "210").trim_end(), 0.0).expect("good");
        let expected = Presence {
            pending: 1,
            warming: 2,
            warmed: None,
            ready: 17,
            draining: 1,
            unhealthy: 3,
            zones: 2,
        };
        assert_eq!(report.zones.0, expected);
        assert_eq!(report.moment(), Moment { now: Ms(1_000), wall_s: 1 });
        assert_eq!(report.second().latency_s, Some(0.041));
    }

    #[test]
    fn counts_and_answers_are_of_instances_also_where_they_have_units() {
        let size = SizeClass { name: SizeId::new("large"), units: 4, cost: 4.0 };
        let sizes = vec![size.clone()];
        let large = Scaling { size: Some(size), sizes, ..Scaling::new(2, 400, 100.0) };
        for (scaling, expected) in [(Scaling::new(2, 400, 100.0), 144), (large, 36)] {
            let mut input = String::new();
            (1..=60).for_each(|t| input.push_str(&line(&format!("{t}.0"), "14400")));
            let mut output = Vec::new();
            drive(input.as_bytes(), &mut output, &Arc::new(scaling)).expect("good lines");
            let output = String::from_utf8(output).expect("text");
            let last = output.lines().last().expect("an answer");
            let answer: serde_json::Value = serde_json::from_str(last).expect("JSON");
            let desired = answer["desired"].as_u64().expect("a number");
            // Traffic may grow.
            assert!((expected..=expected * 14 / 10).contains(&desired), "{answer}");
        }
    }

    #[test]
    fn nothing_answered_has_no_latency() {
        let text = line("1.0", "3").replace("\"completed\":205", "\"completed\":0");
        assert_eq!(report(text.trim_end(), 0.0).expect("good").second().latency_s, None);
        let text = line("1.0", "3").replace("41.0", "null");
        assert_eq!(report(text.trim_end(), 0.0).expect("good").second().latency_s, None);
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_follows_it() {
        for (bad, expected) in [
            ("\n".to_owned(), "it is empty"),
            ("tide\n".to_owned(), "expected"),
            (line("3.0", "\"many\""), "invalid type: string \"many\""),
            (line("3.0", "-1"), "offered is -1; it cannot be below 0"),
            (line("1.0", "7"), "t is 1, not after 1 of the line before"),
            (line("3.0", "7").replace("\"shed\":0,", ""), "missing field `shed`"),
            (line("3.0", "7").replace("\"ready\":9", "\"ready\":-9"), "invalid value"),
            (line("3.0", "7").replace("\"zones\":{", "\"zones\":7,\"x\":{"), "each zone"),
            (line("1e300", "7"), "in seconds"),
        ] {
            let (end, output) = driven(&(line("1.0", "210") + &bad + &line("9.0", "210")));
            let why = end.expect_err(&bad).to_string();
            assert!(why.starts_with("stdin, line 2: ") && why.contains(expected), "{why}");
            assert!(!why.contains("line 1"), "{why}");
            assert_eq!(output.lines().count(), 1, "{bad}");
        }
        let end = drive(&b"\xff\n"[..], Vec::new(), &scaling());
        assert_eq!(end.expect_err("no text").to_string(), "stdin, line 1: it is not UTF-8");
    }

    /// A reader that tells at each read what was answered so far.
    #[test]
    fn an_answer_is_flushed_before_the_next_line_is_read() {
        #[derive(Default)]
        struct Flushes(Vec<u8>, usize);
        impl Write for Flushes {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                self.1 += 1;
                Ok(())
            }
        }
        let mut output = Flushes::default();
        let input = line("1.0", "210") + &line("2.0", "210") + &line("3.0", "210");
        drive(input.as_bytes(), &mut output, &scaling()).expect("good lines");
        assert_eq!(output.1, 3);
    }
}
