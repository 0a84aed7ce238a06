//! The kinds of single values that only the scaling agent has.

use toml::de::DeValue;

use crate::base::Share;
use crate::config::scalar::{Printed, Scalar, Wrong, share, whole, wrong, wrong_but};
use crate::model::Standby;

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
