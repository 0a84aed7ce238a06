//! The kinds of values that have bounds, and those that may be a word instead, such as `"off"`.

use std::time::Duration;

use toml::de::DeValue;

use crate::base::ByteSize;
use crate::base::unit::print_duration;
use crate::config::scalar::{
    Printed, Scalar, Wrong, number, quoted, text, whole, wrong, wrong_but,
};

/// A number of bytes within bounds, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes<const LEAST: u64, const MOST: u64>(pub u64);

impl<const LEAST: u64, const MOST: u64> Scalar for Bytes<LEAST, MOST> {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        if let Some(number) = number(value) {
            let with_unit = format!("{number}B");
            let meant = if ByteSize::parse(&with_unit).is_ok() { &with_unit } else { "64KiB" };
            let hint = format!("did you mean {meant:?}?");
            return Err(wrong_but(format!("{number} has no unit"), hint));
        }
        let text = text(value, "a size such as \"64KiB\"")?;
        match ByteSize::parse(text) {
            Ok(ByteSize(size)) if size < LEAST => {
                Err(wrong(format!("{text:?} is less than \"{}\"", ByteSize(LEAST))))
            }
            Ok(ByteSize(size)) if size > MOST => {
                Err(wrong(format!("{text:?} is more than \"{}\"", ByteSize(MOST))))
            }
            Ok(ByteSize(size)) => Ok(Self(size)),
            Err(why) => Err(wrong(format!("{text:?} is not a size: {why}"))),
        }
    }
}

impl<const LEAST: u64, const MOST: u64> Printed for Bytes<LEAST, MOST> {
    fn print(&self) -> String {
        quoted(ByteSize(self.0))
    }
}

/// A whole number within bounds, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count<const LEAST: u32, const MOST: u32>(pub u32);

impl<const LEAST: u32, const MOST: u32> Scalar for Count<LEAST, MOST> {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        whole(value, LEAST, MOST).map(Self)
    }
}

impl<const LEAST: u32, const MOST: u32> Printed for Count<LEAST, MOST> {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// A duration within bounds in milliseconds, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span<const LEAST_MS: u64, const MOST_MS: u64>(pub Duration);

impl<const LEAST_MS: u64, const MOST_MS: u64> Scalar for Span<LEAST_MS, MOST_MS> {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let (least, most) = (Duration::from_millis(LEAST_MS), Duration::from_millis(MOST_MS));
        match Duration::parse(value)? {
            short if short < least => {
                Err(wrong(format!("must be at least \"{}\"", print_duration(least))))
            }
            long if long > most => {
                Err(wrong(format!("must be at most \"{}\"", print_duration(most))))
            }
            duration => Ok(Self(duration)),
        }
    }
}

impl<const LEAST_MS: u64, const MOST_MS: u64> Printed for Span<LEAST_MS, MOST_MS> {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// A kind of value that may also be a word, which is `None`.
macro_rules! or_word {
    ($($(#[$doc:meta])* $type:ident: $word:literal)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub struct $type<T>(pub Option<T>);

        impl<T: Scalar> Scalar for $type<T> {
            fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
                if value.as_str() == Some($word) {
                    return Ok(Self(None));
                }
                T::parse(value).map(|value| Self(Some(value))).map_err(|Wrong { problem, hint }| {
                    let hint = hint.unwrap_or_else(|| concat!("or write \"", $word, "\"").into());
                    Wrong { problem, hint: Some(hint) }
                })
            }
        }

        impl<T: Printed> Printed for $type<T> {
            fn print(&self) -> String {
                self.0.as_ref().map_or_else(|| quoted($word), T::print)
            }
        }
    )+};
}

or_word! {
    /// A value, or `"off"`.
    OrOff: "off"
    /// A value, or `"auto"`.
    OrAuto: "auto"
    /// A value, or `"learn"`.
    OrLearn: "learn"
    /// A value, or `"session"`.
    OrSession: "session"
    /// A value, or `"unlimited"`.
    OrUnlimited: "unlimited"
}
