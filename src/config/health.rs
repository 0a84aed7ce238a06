//! The kinds of values that only health checks have.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use crate::config::scalar::{Printed, Scalar, Wrong, quoted, text, whole, wrong, wrong_but};

/// A status, or a range of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statuses(pub RangeInclusive<u16>);

impl Scalar for Statuses {
    const MAY_STAND_ALONE: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if matches!(value, DeValue::Integer(_)) {
            let status = whole(value, 200, 599)? as u16;
            return Ok(Self(status..=status));
        }
        let text = text(value, "a status such as 200, or a range such as \"200-399\"")?;
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| text.parse().ok().filter(|status| (200..=599).contains(status));
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Self(from..=to)),
            (Some(from), Some(to)) => {
                let hint = format!("did you mean \"{to}-{from}\"?");
                Err(wrong_but(format!("nothing is in {text:?}"), hint))
            }
            _ => {
                let problem = format!("{text:?} is not a range of statuses from 200 to 599");
                Err(wrong_but(problem, "write it like \"200-399\""))
            }
        }
    }
}

impl Printed for Statuses {
    fn print(&self) -> String {
        let (from, to) = (self.0.start(), self.0.end());
        if from == to { from.to_string() } else { quoted(format!("{from}-{to}")) }
    }
}

/// A text that the body of an answer has to contain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyText(pub String);

impl Scalar for BodyText {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a text")?;
        if text.is_empty() {
            return Err(wrong("every body contains an empty text"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Printed for BodyText {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// What a probe says for `Host`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host(pub String);

impl Scalar for Host {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let host = text(value, "a host such as \"app.example.com\"")?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(allowed) {
            return Err(wrong(format!("{host:?} is not a host")));
        }
        Ok(Self(host.to_owned()))
    }
}

impl Printed for Host {
    fn print(&self) -> String {
        self.0.print()
    }
}
