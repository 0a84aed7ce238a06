//! Units as operators write them: `"250ms"`, `"64KiB"`, `"40%"`. Each is parsed and printed here
//! and nowhere else.

use std::fmt;
use std::time::Duration;

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ByteSize(pub u64);

/// A share of a whole; `"40%"` is 0.4. May exceed 1 where a key allows it.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct Share(pub f64);

/// Reads `"250ms"`, `"2s"`, `"5m"`, `"1h"`, `"1d"` or a sequence such as `"1h30m"`.
///
/// # Errors
/// Says what is wrong with `text`, as a phrase that fits after "expected a duration: ".
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("it is empty".into());
    }
    let mut total_ms = 0f64;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let factor = match unit {
            "ms" => 1.0,
            "s" => 1_000.0,
            "m" => 60_000.0,
            "h" => 3_600_000.0,
            "d" => 86_400_000.0,
            "" => return Err(format!("it has no unit; did you mean \"{text}s\"?")),
            other => return Err(format!("unknown unit \"{other}\"; use ms, s, m, h or d")),
        };
        total_ms += number * factor;
        rest = next;
    }
    if total_ms > 1e14 {
        return Err("it is too long".into());
    }
    Ok(Duration::from_nanos((total_ms * 1e6).round() as u64))
}

/// Prints a duration so that [`parse_duration`] reads the same value back, to the millisecond.
pub fn print_duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0 => "0s".into(),
        _ if ms.is_multiple_of(86_400_000) => format!("{}d", ms / 86_400_000),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

impl ByteSize {
    /// Reads `"512B"`, `"64KiB"`, `"1MiB"`, `"2GiB"`, or the decimal `kB`, `MB`, `GB`.
    ///
    /// # Errors
    /// Says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text.trim())?;
        let factor = match unit.trim() {
            "B" => 1.0,
            "KiB" => 1024.0,
            "MiB" => 1_048_576.0,
            "GiB" => 1_073_741_824.0,
            "kB" => 1e3,
            "MB" => 1e6,
            "GB" => 1e9,
            "" => return Err(format!("it has no unit; did you mean \"{}KiB\"?", text.trim())),
            other => return Err(format!("unknown unit \"{other}\"; use B, KiB, MiB or GiB")),
        };
        Ok(Self((number * factor).round() as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % (1 << 30) == 0 => write!(f, "{}GiB", n >> 30),
            n if n > 0 && n % (1 << 20) == 0 => write!(f, "{}MiB", n >> 20),
            n if n > 0 && n % (1 << 10) == 0 => write!(f, "{}KiB", n >> 10),
            n => write!(f, "{n}B"),
        }
    }
}

impl Share {
    /// Reads `"40%"` or `"12.5%"`.
    ///
    /// # Errors
    /// Says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text.trim())?;
        match unit.trim() {
            "%" => Ok(Self(number / 100.0)),
            "" => Err(format!("it has no unit; did you mean \"{}%\"?", text.trim())),
            other => Err(format!("unknown unit \"{other}\"; a share ends in %")),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", (self.0 * 1e6).round() / 1e4)
    }
}

/// Splits a leading, unsigned decimal number off `text`.
fn split_number(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    if number.is_empty() {
        return Err(format!("\"{text}\" does not start with a number"));
    }
    let value: f64 = number.parse().map_err(|_| format!("\"{number}\" is not a number"))?;
    Ok((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("250ms", 250),
            ("2s", 2_000),
            ("1.5s", 1_500),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "5 s", "5x", "-1s", "1..2s", "99999999999d"] {
            assert!(parse_duration(text).is_err(), "{text:?} must be refused");
        }
        assert!(parse_duration("30").is_err_and(|why| why.contains("\"30s\"")));
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(ByteSize::parse("64KiB"), Ok(ByteSize(65_536)));
        assert_eq!(ByteSize::parse("1.5MiB"), Ok(ByteSize(1_572_864)));
        assert_eq!(ByteSize::parse("2MB"), Ok(ByteSize(2_000_000)));
        assert!(ByteSize::parse("64").is_err());
        assert!(ByteSize::parse("64K").is_err());
        assert_eq!(Share::parse("40%"), Ok(Share(0.4)));
        assert!(Share::parse("0.4").is_err());
        assert_eq!(Share(0.125).to_string(), "12.5%");
        assert_eq!(ByteSize(65_536).to_string(), "64KiB");
    }

    proptest::proptest! {
        #[test]
        fn a_printed_duration_reads_back(ms in 0u64..10_000_000_000) {
            let duration = Duration::from_millis(ms);
            proptest::prop_assert_eq!(parse_duration(&print_duration(duration)), Ok(duration));
        }
    }
}
