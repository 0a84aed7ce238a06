//! The kinds of values in `[pool.NAME.zones]`.

use toml::de::DeValue;

use crate::config::scalar::{Printed, Scalar, Wrong, type_of, wrong, wrong_but};
use crate::config::text::Name;

/// The zones of one level: a list, or one zone alone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Level(pub Vec<Name>);

impl Scalar for Level {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match value {
            DeValue::String(_) => Ok(Self(vec![Name::parse(value)?])),
            DeValue::Array(zones) if zones.is_empty() => Err(wrong("is a level without zones")),
            DeValue::Array(zones) => zones
                .iter()
                .map(|zone| Name::parse(zone.get_ref()))
                .collect::<Result<_, _>>()
                .map(Self),
            other => Err(wrong_but(
                format!("must be a list of zones, not {}", type_of(other)),
                "write it like levels = [[\"a\"], [\"b\", \"c\"]]",
            )),
        }
    }
}

impl Printed for Level {
    fn print(&self) -> String {
        let zones: Vec<String> = self.0.iter().map(Printed::print).collect();
        format!("[{}]", zones.join(", "))
    }
}
