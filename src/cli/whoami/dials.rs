//! What a whoami instance can be told: to be slow, to fail, to be sick. Pure.

use std::fmt;
use std::time::Duration;

use serde_json::json;

use crate::base::Share;
use crate::base::unit::{parse_duration, print_duration};

/// How it behaves; can be changed while it runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Dials {
    /// Requests per second at most.
    pub(super) rate: Option<f64>,
    /// Added to each request.
    pub(super) delay: Duration,
    /// How many of its answers are 500.
    pub(super) fail: Share,
    /// What `/healthz` says.
    pub(super) healthy: bool,
}

impl Default for Dials {
    fn default() -> Self {
        Self { rate: None, delay: Duration::ZERO, fail: Share(0.0), healthy: true }
    }
}

impl Dials {
    /// These, changed as a query says: all of it, or an error and nothing. `none` lifts a dial.
    pub(super) fn turned(mut self, query: &str) -> Result<Self, String> {
        let fresh = Self::default();
        for (key, value) in pairs(query) {
            let value = Some(value.as_str()).filter(|value| *value != "none");
            let done = match key.as_str() {
                "rate" => value.map(parse_rate).transpose().map(|rate| self.rate = rate),
                "delay" => {
                    value.map_or(Ok(fresh.delay), parse_duration).map(|delay| self.delay = delay)
                }
                "fail" => value.map_or(Ok(fresh.fail), parse_fail).map(|fail| self.fail = fail),
                "healthy" => value
                    .map_or(Ok(fresh.healthy), parse_bool)
                    .map(|healthy| self.healthy = healthy),
                _ => Err("unknown; there are rate, delay, fail and healthy".into()),
            };
            done.map_err(|why| format!("{key}: {why}"))?;
        }
        Ok(self)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        json!({
            "rate": self.rate,
            "delay": print_duration(self.delay),
            "fail": self.fail.to_string(),
            "healthy": self.healthy,
        })
    }
}

impl fmt::Display for Dials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rate {
            Some(rate) => writeln!(f, "rate: {rate}")?,
            None => writeln!(f, "rate: none")?,
        }
        writeln!(f, "delay: {}", print_duration(self.delay))?;
        writeln!(f, "fail: {}", self.fail)?;
        writeln!(f, "healthy: {}", self.healthy)
    }
}

/// What it is like at first, counted from when it listens: it fails, and then it is slow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Cold {
    /// So long it answers 500, probes included.
    pub(super) fail: Duration,
    /// So long it then takes longer.
    pub(super) slow: Duration,
}

/// So many times as long.
const COLD_TIMES: u32 = 10;

impl Cold {
    /// Whether it fails, so long after it began to listen.
    pub(super) fn fails(&self, age: Duration) -> bool {
        age < self.fail
    }

    /// What a request takes then that usually takes `delay`.
    pub(super) fn delayed(&self, age: Duration, delay: Duration) -> Duration {
        let is_slow = age < self.fail.saturating_add(self.slow);
        delay.saturating_mul(if is_slow { COLD_TIMES } else { 1 })
    }
}

/// What one request asks for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wish {
    pub(super) delay: Duration,
    pub(super) status: Option<u16>,
    /// Length of the body, in place of the usual one.
    pub(super) bytes: Option<u64>,
}

impl Wish {
    /// Reads `delay`, `status` and `bytes`; other keys mean nothing here.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut wish = Self::default();
        for (key, value) in pairs(query) {
            let done = match key.as_str() {
                "delay" => parse_duration(&value).map(|delay| wish.delay = delay),
                "status" => parse_status(&value).map(|status| wish.status = Some(status)),
                "bytes" => parse_bytes(&value).map(|bytes| wish.bytes = Some(bytes)),
                _ => Ok(()),
            };
            done.map_err(|why| format!("{key}: {why}"))?;
        }
        Ok(wish)
    }
}

/// Reads a rate in requests per second.
pub(super) fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err(format!("\"{text}\" is not a rate from 0.001 to 1000000 requests per second")),
    }
}

/// Reads a share of at most the whole.
pub(super) fn parse_fail(text: &str) -> Result<Share, String> {
    match Share::parse(text)? {
        share if share.0 <= 1.0 => Ok(share),
        share => Err(format!("{share} is more than all")),
    }
}

fn parse_status(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(status @ 200..=599) => Ok(status),
        _ => Err(format!("\"{text}\" is not a status from 200 to 599")),
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not a number of bytes"))
}

fn parse_bool(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| format!("\"{text}\" is not true or false"))
}

/// The keys and values of a query. A percent sign that encodes nothing stands for itself, so that
/// `fail=20%` works as typed.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key), decoded(value))
    })
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(if *first == b'+' { b' ' } else { *first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Spreads requests so that no more than a rate of them start. Each takes the next free point in
/// time; one that gives up does not give it back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    next: Duration,
}

impl Pace {
    /// When a request that arrives `now` may start. Times count from any fixed origin.
    pub(super) fn reserve(&mut self, now: Duration, rate: Option<f64>) -> Duration {
        let Some(rate) = rate else { return now };
        let start = self.next.max(now);
        self.next = start.saturating_add(Duration::from_secs_f64(1.0 / rate));
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn starts_are_at_least_a_period_apart_and_no_pause_is_saved_up() {
        let mut pace = Pace::default();
        for (now_ms, rate, start_ms) in [
            (0, Some(10.0), 0),
            (0, Some(10.0), 100),
            (0, Some(10.0), 200),
            (250, Some(10.0), 300),
            (1_000, Some(10.0), 1_000),
            (1_000, Some(10.0), 1_100),
            (1_010, None, 1_010),
            (1_020, Some(1_000.0), 1_200),
            (1_020, Some(1_000.0), 1_201),
            (1_300, Some(0.5), 1_300),
            (1_300, Some(0.5), 3_300),
        ] {
            let start = pace.reserve(ms(now_ms), rate);
            assert_eq!(start, ms(start_ms), "at {now_ms} ms with {rate:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_second_starts_more_than_the_rate(
            gaps_us in proptest::collection::vec(0u64..20_000, 1..500),
            rate in 1.0f64..500.0,
        ) {
            let mut pace = Pace::default();
            let mut now = Duration::ZERO;
            let mut starts = Vec::new();
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                let start = pace.reserve(now, Some(rate));
                proptest::prop_assert!(start >= now);
                starts.push(start);
            }
            for (index, start) in starts.iter().enumerate() {
                let end = *start + Duration::from_secs(1);
                let within = starts[index..].iter().take_while(|later| **later < end).count();
                proptest::prop_assert!(within as f64 <= rate + 1.0, "{} at {}", within, rate);
            }
        }
    }

    #[test]
    fn at_first_it_fails_and_then_it_is_slow() {
        let cold = Cold { fail: ms(2_000), slow: ms(4_000) };
        for (age_ms, fails, delay_ms) in [
            (0, true, 50),
            (1_999, true, 50),
            (2_000, false, 50),
            (5_999, false, 50),
            (6_000, false, 5),
        ] {
            let age = ms(age_ms);
            assert_eq!(
                (cold.fails(age), cold.delayed(age, ms(5))),
                (fails, ms(delay_ms)),
                "{age_ms}"
            );
        }
        let warm = Cold::default();
        assert_eq!((warm.fails(ms(0)), warm.delayed(ms(0), ms(5))), (false, ms(5)));
    }

    #[test]
    fn dials_turn_as_a_whole_or_not_at_all() {
        let set = Dials { rate: Some(50.0), delay: ms(1_000), fail: Share(0.2), healthy: false };
        let fresh = Dials::default();
        for (from, query, to) in [
            (fresh, "", Ok(fresh)),
            (fresh, "rate=50&delay=1s&fail=20%25&healthy=false", Ok(set)),
            (fresh, "rate=50&delay=1s&fail=20%&healthy=false", Ok(set)),
            (fresh, "r%61te=50", Ok(Dials { rate: Some(50.0), ..fresh })),
            (set, "rate=none&delay=none&fail=none&healthy=none", Ok(fresh)),
            (set, "healthy=true", Ok(Dials { healthy: true, ..set })),
            (set, "rate=0", Err("rate")),
            (set, "rate=NaN", Err("rate")),
            (set, "rate=inf", Err("rate")),
            (set, "delay=5", Err("\"5s\"")),
            (set, "fail=101%25", Err("more than all")),
            (set, "healthy=perhaps", Err("true or false")),
            (set, "speed=5", Err("unknown")),
        ] {
            match (from.turned(query), to) {
                (Ok(turned), Ok(to)) => assert_eq!(turned, to, "{query}"),
                (Err(why), Err(hint)) => assert!(why.contains(hint), "{why:?} of {query:?}"),
                (turned, to) => panic!("{query:?}: {turned:?} where {to:?} was expected"),
            }
        }
        assert_eq!(set.to_string(), "rate: 50\ndelay: 1s\nfail: 20%\nhealthy: false\n");
    }

    #[test]
    fn wishes() {
        let none = Wish::default();
        for (query, wish) in [
            ("", Ok(none)),
            ("q=1&delay=300ms&x", Ok(Wish { delay: ms(300), ..none })),
            (
                "status=503&bytes=100000",
                Ok(Wish { status: Some(503), bytes: Some(100_000), ..none }),
            ),
            ("status=100", Err("status")),
            ("status=600", Err("status")),
            ("bytes=-1", Err("bytes")),
            ("bytes", Err("bytes")),
            ("delay=soon", Err("delay")),
        ] {
            match (Wish::parse(query), wish) {
                (Ok(read), Ok(wish)) => assert_eq!(read, wish, "{query}"),
                (Err(why), Err(hint)) => assert!(why.contains(hint), "{why:?} of {query:?}"),
                (read, wish) => panic!("{query:?}: {read:?} where {wish:?} was expected"),
            }
        }
    }

    #[test]
    fn percent_signs() {
        for (text, plain) in [
            ("a%20b+c", "a b c"),
            ("20%", "20%"),
            ("%2", "%2"),
            ("%zz", "%zz"),
            ("%ff", "\u{fffd}"),
            ("%é", "%é"),
        ] {
            assert_eq!(decoded(text), plain, "{text}");
        }
    }
}
