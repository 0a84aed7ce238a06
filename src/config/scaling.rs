//! The kinds of single values that only the scaling agent has.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use toml::de::DeValue;

use crate::base::{Cron, Share};
use crate::config::fault::did_you_mean;
use crate::config::scalar::{
    Printed, Scalar, Wrong, number, quoted, share, text, whole, wrong, wrong_but,
};
use crate::model::Standby;
use crate::model::rule::Change;

/// More than this is no bound any more.
const MOST_GROWTH: Share = Share(100.0);

/// A share that may exceed the whole and is not nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Growth(pub Share);

impl Scalar for Growth {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match share(value, "300%", MOST_GROWTH)? {
            Share(0.0) => Err(wrong_but("must be more than \"0%\"", "write at least \"1%\"")),
            growth => Ok(Self(growth)),
        }
    }
}

impl Printed for Growth {
    fn print(&self) -> String {
        self.0.print()
    }
}

impl Scalar for Standby {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::Integer(_) => whole(value, 0, u32::MAX).map(Self::Count),
            DeValue::String(_) => share(value, "20%", Share(1.0)).map(Self::Share),
            _ => Err(wrong("must be a whole number or a share such as \"20%\"")),
        }
    }
}

impl Printed for Standby {
    fn print(&self) -> String {
        match self {
            Self::Share(share) => share.print(),
            Self::Count(count) => count.print(),
        }
    }
}

impl Scalar for Cron {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a time that recurs, such as \"0 8 * * 1-5\"")?;
        Self::parse(text).map_err(|why| wrong(format!("{text:?} is no cron: {why}")))
    }
}

impl Printed for Cron {
    fn print(&self) -> String {
        quoted(self)
    }
}

/// How a date and a time may be written. None has a zone, which is a key of its own.
const DATES: [&str; 3] = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"];

impl Scalar for DateTime {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const WHAT: &str = "a date such as \"2026-12-24T18:00\"";
        if let DeValue::Datetime(_) = value {
            return Err(wrong_but(format!("must be {WHAT}"), "put it in quotes, without a zone"));
        }
        let text = text(value, WHAT)?;
        let read = |format: &&str| match *format {
            "%Y-%m-%d" => jiff::civil::Date::strptime(format, text).ok().map(Self::from),
            format => Self::strptime(format, text).ok(),
        };
        DATES.iter().find_map(read).ok_or_else(|| {
            let hint = format!("write {WHAT}; the zone is in timezone");
            wrong_but(format!("{text:?} is no date with a time"), hint)
        })
    }
}

impl Printed for DateTime {
    fn print(&self) -> String {
        quoted(self.strftime(if self.second() == 0 { DATES[0] } else { DATES[1] }))
    }
}

impl Scalar for TimeZone {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = text(value, "a time zone such as \"Europe/Berlin\"")?;
        // Not that of the machine: a file means the same wherever it is read.
        let zones = TimeZoneDatabase::bundled();
        zones.get(name).map_err(|_| {
            let known: Vec<String> = zones.available().map(|name| name.to_string()).collect();
            // Names are compared in lower case.
            let lower: Vec<String> = known.iter().map(|name| name.to_ascii_lowercase()).collect();
            let hint = did_you_mean(name, lower.iter().map(String::as_str));
            Wrong { problem: format!("there is no time zone {name:?}"), hint }
        })
    }
}

impl Printed for TimeZone {
    fn print(&self) -> String {
        quoted(self.iana_name().unwrap_or_default())
    }
}

/// What a metric is compared with.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Threshold {
    /// A number.
    Number(f64),
    /// A time.
    Time(Duration),
}

impl Scalar for Threshold {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match (number(value).map(|number| number.parse::<f64>()), value) {
            (Some(Ok(number)), _) if number.is_finite() && number >= 0.0 => {
                Ok(Self::Number(number))
            }
            (None, DeValue::String(_)) => Duration::parse(value).map(Self::Time),
            _ => Err(wrong("must be a number from 0, or a duration such as \"200ms\"")),
        }
    }
}

impl Printed for Threshold {
    fn print(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Time(time) => time.print(),
        }
    }
}

impl Scalar for Change {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        const WHAT: &str = "a change such as \"+1\", \"-1\", \"+20%\", \"-20%\" or \"=10\"";
        if let Some(number) = number(value) {
            let signed = if number.starts_with('-') { number } else { format!("+{number}") };
            return Err(wrong_but(format!("must be {WHAT}"), format!("did you mean {signed:?}?")));
        }
        let text = text(value, WHAT)?;
        let bad = || wrong(format!("{text:?} is not {WHAT}"));
        let (sign, amount) = text.split_at_checked(1).ok_or_else(bad)?;
        if !amount.starts_with(|first: char| first.is_ascii_digit()) {
            return Err(bad());
        }
        if amount.ends_with('%') {
            let share = Share::parse(amount).map_err(|_| bad())?;
            return match sign {
                _ if share.0 == 0.0 => Err(wrong("changes nothing")),
                "+" if share <= MOST_GROWTH => Ok(Self::AddShare(share)),
                "-" if share.0 <= 1.0 => Ok(Self::RemoveShare(share)),
                "+" | "-" => Err(wrong(format!("{text:?} is too much"))),
                _ => Err(bad()),
            };
        }
        let count = amount.parse().map_err(|_| bad())?;
        match sign {
            "+" | "-" if count == 0 => Err(wrong("changes nothing")),
            "+" => Ok(Self::Add(count)),
            "-" => Ok(Self::Remove(count)),
            "=" => Ok(Self::Exactly(count)),
            _ => Err(bad()),
        }
    }
}

impl Printed for Change {
    fn print(&self) -> String {
        quoted(self)
    }
}
