//! The kinds of single values: how each is read from the file, and how it is printed by
//! `check --explain`, in the same notation.
//!
//! A bound that holds for a key whatever else the file says is part of the kind of its value.

use std::time::Duration;

use toml::de::DeValue;

use crate::base::Share;
use crate::base::unit::{parse_duration, print_duration};
use crate::config::LogFormat;
use crate::config::fault::did_you_mean;
use crate::model::rule::{Metric, Operator, Statistic};
use crate::model::{
    Balance, ClientAuth, ConnectMethod, ForwardedStyle, Limit, Order, Prediction, Priority,
    Protocol, ProxyHeader, ProxyVersion, Resizing, ScalingMode, StopPolicy, TlsVersion,
    UpstreamVersion, ZoneBalance, ZoneMode, ZoneRedundancy,
};

/// What is wrong with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Builds a [`Wrong`] without a hint.
pub fn wrong(problem: impl Into<String>) -> Wrong {
    Wrong { problem: problem.into(), hint: None }
}

/// Builds a [`Wrong`] with a hint.
pub fn wrong_but(problem: impl Into<String>, hint: impl Into<String>) -> Wrong {
    Wrong { problem: problem.into(), hint: Some(hint.into()) }
}

/// A value that can be printed as it would be written in the file.
pub trait Printed {
    /// The value in the notation of the file.
    fn print(&self) -> String;
}

/// A single value of the file.
pub trait Scalar: Printed + Sized {
    /// A list of these may be written as one value without brackets.
    const MAY_STAND_ALONE: bool = false;
    /// A list of these may have nothing in it: that says "none", which is not the same as nothing said.
    const LIST_MAY_BE_EMPTY: bool = false;
    /// It is one of a set of words.
    const IS_WORD: bool = false;
    /// Which other keys its table has depends on it.
    const DECIDES_KEYS: bool = false;

    /// Reads the value.
    ///
    /// # Errors
    /// Says what is wrong with it.
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong>;
}

/// The type of a value in words.
pub fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The text of a string; `what` says what was expected.
pub fn text<'v>(value: &'v DeValue<'_>, what: &str) -> Result<&'v str, Wrong> {
    value.as_str().ok_or_else(|| wrong(format!("must be {what}, not {}", type_of(value))))
}

/// A number as it is written, if it is one.
pub fn number(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(n) => Some(n.to_string()),
        DeValue::Float(n) => Some(n.as_str().to_owned()),
        _ => None,
    }
}

/// A whole number from `least` to `most`.
pub fn whole(value: &DeValue<'_>, least: u32, most: u32) -> Result<u32, Wrong> {
    match value {
        DeValue::Integer(n) => match i64::from_str_radix(n.as_str(), n.radix()) {
            Ok(number) if number < i64::from(least) => {
                return Err(wrong(format!("{n} is less than {least}")));
            }
            Ok(number) => u32::try_from(number).ok().filter(|number| *number <= most),
            Err(_) => None,
        }
        .ok_or_else(|| wrong(format!("{n} is more than {most}"))),
        DeValue::String(text) if text.parse::<u32>().is_ok() => {
            let hint = format!("write {text} without quotes");
            Err(wrong_but("must be a whole number, not a string", hint))
        }
        other => Err(wrong(format!("must be a whole number, not {}", type_of(other)))),
    }
}

/// One of `words`.
fn word<T: Copy>(value: &DeValue<'_>, words: &[(&'static str, T)]) -> Result<T, Wrong> {
    let names = || words.iter().map(|(name, _)| *name);
    let listed = names().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let text = text(value, &format!("one of {listed}"))?;
    match words.iter().find(|(name, _)| *name == text) {
        Some((_, meaning)) => Ok(*meaning),
        None => Err(Wrong {
            problem: format!("{text:?} is not one of {listed}"),
            hint: did_you_mean(text, names()),
        }),
    }
}

/// A text that needs no escapes, as a string.
pub fn quoted(text: impl std::fmt::Display) -> String {
    format!("\"{text}\"")
}

/// A kind of value that is one of a set of words.
macro_rules! words {
    ($($type:ty $(: $decides:ident)? { $($word:literal => $value:expr),+ $(,)? })+) => {$(
        impl Scalar for $type {
            const IS_WORD: bool = true;
            $(const $decides: bool = true;)?

            fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
                word(value, &[$(($word, $value)),+])
            }
        }

        impl Printed for $type {
            fn print(&self) -> String {
                let words = [$(($word, $value)),+];
                quoted(words.iter().find(|(_, value)| value == self).map_or("", |(word, _)| word))
            }
        }
    )+};
}

/// `type` of health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckKind {
    /// A request.
    Http,
    /// A request by TLS.
    Https,
    /// A handshake.
    Tls,
    /// A call of gRPC's own service for it.
    Grpc,
    /// A connection.
    Tcp,
    /// Nothing.
    None,
}

/// `kind` of a provisioner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProvisionerKind {
    /// Child processes.
    Process,
}

words! {
    tracing::Level {
        "error" => Self::ERROR,
        "warn" => Self::WARN,
        "info" => Self::INFO,
        "debug" => Self::DEBUG,
        "trace" => Self::TRACE,
    }
    LogFormat { "text" => Self::Text, "json" => Self::Json, "common" => Self::Common }
    Protocol {
        "http" => Self::Http,
        "https" => Self::Https,
        "tcp" => Self::Tcp,
        "tls" => Self::Tls,
        "tls-passthrough" => Self::TlsPassthrough,
    }
    ClientAuth { "required" => Self::Required, "optional" => Self::Optional }
    TlsVersion { "1.2" => Self::Tls12, "1.3" => Self::Tls13 }
    UpstreamVersion { "http1" => Self::Http1, "h2" => Self::H2 }
    Balance {
        "round-robin" => Self::RoundRobin,
        "least-request" => Self::LeastRequest,
        "random" => Self::Random,
        "peak-ewma" => Self::PeakEwma,
        "maglev" => Self::Maglev,
        "ring" => Self::Ring,
    }
    Order { "fifo" => Self::Fifo, "adaptive" => Self::Adaptive }
    Priority { "high" => Self::High, "normal" => Self::Normal, "low" => Self::Low }
    CheckKind {
        "http" => Self::Http,
        "https" => Self::Https,
        "grpc" => Self::Grpc,
        "tls" => Self::Tls,
        "tcp" => Self::Tcp,
        "none" => Self::None,
    }
    ProvisionerKind: DECIDES_KEYS { "process" => Self::Process }
    StopPolicy { "terminate" => Self::Terminate, "keep" => Self::Keep }
    ForwardedStyle {
        "x-forwarded" => Self::XForwarded,
        "rfc7239" => Self::Rfc7239,
        "both" => Self::Both,
        "off" => Self::Off,
    }
    ConnectMethod { "refuse" => Self::Refuse, "forward" => Self::Forward }
    ProxyHeader { "off" => Self::Off, "accept" => Self::Accept, "require" => Self::Require }
    ScalingMode {
        "enforce" => Self::Enforce,
        "recommend" => Self::Recommend,
        "off" => Self::Off,
    }
    Prediction { "on" => Self::On, "forecast-only" => Self::ForecastOnly, "off" => Self::Off }
    ZoneRedundancy { "none" => Self::None, "n+1" => Self::OneZone }
    ZoneMode {
        "spread" => Self::Spread,
        "local-first" => Self::LocalFirst,
        "priority" => Self::Priority,
    }
    ZoneBalance { "best-effort" => Self::BestEffort, "strict" => Self::Strict }
    Metric {
        "requests-per-instance" => Self::RequestsPerInstance,
        "in-flight-per-instance" => Self::InFlightPerInstance,
        "latency" => Self::Latency,
        "queue" => Self::Queue,
    }
    Statistic {
        "average" => Self::Average,
        "min" => Self::Min,
        "max" => Self::Max,
        "sum" => Self::Sum,
        "last" => Self::Last,
    }
    Operator {
        ">" => Self::Above,
        ">=" => Self::AtLeast,
        "<" => Self::Below,
        "<=" => Self::AtMost,
    }
    Resizing { "off" => Self::Off, "recommend" => Self::Recommend, "auto" => Self::Auto }
    Option<ProxyVersion> {
        "off" => None,
        "v1" => Some(ProxyVersion::V1),
        "v2" => Some(ProxyVersion::V2),
    }
}

impl Scalar for Duration {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if let Some(number) = number(value) {
            let with_unit = format!("{number}s");
            let meant = if parse_duration(&with_unit).is_ok() { &with_unit } else { "5s" };
            let hint = format!("did you mean {meant:?}?");
            return Err(wrong_but(format!("{number} has no unit"), hint));
        }
        let text = text(value, "a duration such as \"5s\"")?;
        parse_duration(text).map_err(|why| wrong(format!("{text:?} is not a duration: {why}")))
    }
}

impl Printed for Duration {
    fn print(&self) -> String {
        quoted(print_duration(*self))
    }
}

/// A duration that is not zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Period(pub Duration);

impl Scalar for Period {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let duration = Duration::parse(value)?;
        if duration < Duration::from_millis(1) {
            let hint = "zero never means \"unlimited\" here; write a long time such as \"1d\"";
            return Err(wrong_but("must be at least \"1ms\"", hint));
        }
        Ok(Self(duration))
    }
}

impl Printed for Period {
    fn print(&self) -> String {
        self.0.print()
    }
}

impl Scalar for Share {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        share(value, "20%", Self(1.0))
    }
}

/// A share of at most `most`, such as `example`.
pub fn share(value: &DeValue<'_>, example: &str, most: Share) -> Result<Share, Wrong> {
    if let Some(written) = number(value) {
        let percent = match (value, written.parse::<f64>()) {
            (DeValue::Float(_), Ok(part)) if (0.0..=1.0).contains(&part) => Share(part).to_string(),
            (_, Ok(whole)) if (0.0..=100.0 * most.0).contains(&whole) => format!("{whole}%"),
            _ => example.into(),
        };
        let hint = format!("did you mean {percent:?}?");
        return Err(wrong_but(format!("{written} has no unit"), hint));
    }
    let text = text(value, &format!("a share such as {example:?}"))?;
    match Share::parse(text) {
        Ok(share) if share <= most => Ok(share),
        Ok(_) if most.0 > 1.0 => Err(wrong(format!("{text:?} is more than \"{most}\""))),
        Ok(_) => Err(wrong(format!("{text:?} is more than the whole, \"100%\""))),
        Err(why) => Err(wrong(format!("{text:?} is not a share: {why}"))),
    }
}

impl Printed for Share {
    fn print(&self) -> String {
        quoted(self)
    }
}

impl Scalar for bool {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::Boolean(is) => Ok(*is),
            other => Err(wrong(format!("must be true or false, not {}", type_of(other)))),
        }
    }
}

impl Printed for bool {
    fn print(&self) -> String {
        self.to_string()
    }
}

impl Scalar for u32 {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        whole(value, 0, Self::MAX)
    }
}

impl Printed for u32 {
    fn print(&self) -> String {
        self.to_string()
    }
}

/// A whole number from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Positive(pub u32);

impl Scalar for Positive {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        whole(value, 1, u32::MAX).map(Self)
    }
}

impl Printed for Positive {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// A rate above zero.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate(pub f64);

impl Scalar for Rate {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let rate = match value {
            DeValue::Integer(n) => {
                i64::from_str_radix(n.as_str(), n.radix()).ok().map(|whole| whole as f64)
            }
            DeValue::Float(n) => n.as_str().parse::<f64>().ok(),
            other => {
                return Err(wrong(format!("must be a number above 0, not {}", type_of(other))));
            }
        };
        match rate {
            Some(rate) if rate > 0.0 && rate.is_finite() => Ok(Self(rate)),
            _ => Err(wrong("must be a number above 0")),
        }
    }
}

impl Printed for Rate {
    fn print(&self) -> String {
        self.0.to_string()
    }
}

impl Scalar for Limit {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::String(text) if text == "unlimited" => Ok(Self::Unlimited),
            DeValue::Integer(_) => match whole(value, 1, u32::MAX) {
                Ok(most) => Ok(Self::AtMost(most)),
                Err(Wrong { problem, .. }) => {
                    Err(wrong_but(problem, "write \"unlimited\" to lift the bound"))
                }
            },
            other => {
                Err(wrong(format!("must be a number or \"unlimited\", not {}", type_of(other))))
            }
        }
    }
}

impl Printed for Limit {
    fn print(&self) -> String {
        match self {
            Self::AtMost(most) => most.print(),
            Self::Unlimited => quoted(self),
        }
    }
}

/// Data-plane threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workers {
    /// As many as the process may use CPUs.
    Auto,
    /// This many.
    Exactly(u32),
}

/// More workers than this help nobody.
pub const MOST_WORKERS: u32 = 256;

impl Scalar for Workers {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::String(text) if text == "auto" => Ok(Self::Auto),
            DeValue::Integer(_) => whole(value, 1, MOST_WORKERS).map(Self::Exactly),
            other => Err(wrong(format!("must be a number or \"auto\", not {}", type_of(other)))),
        }
    }
}

impl Printed for Workers {
    fn print(&self) -> String {
        match self {
            Self::Auto => quoted("auto"),
            Self::Exactly(count) => count.print(),
        }
    }
}
