//! What is set for the scaling agent of a pool. Made by `config`, which guarantees the invariants
//! noted here.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::{Share, SizeId};
use crate::model::pool::Limit;
use crate::model::rule::Rule;
use crate::model::schedule::Schedule;

/// What the agent does with what it decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScalingMode {
    /// It is carried out.
    Enforce,
    /// It is recorded and not carried out.
    Recommend,
    /// Nothing is decided.
    Off,
}

impl ScalingMode {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Recommend => "recommend",
            Self::Off => "off",
        }
    }
}

/// The rate that one instance carries in steady state, in requests per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum RateTarget {
    /// This; above 0.
    Stated(f64),
    /// What is learnt from what saturated instances do.
    Learn,
}

impl RateTarget {
    /// The rate that the operator states, if any.
    pub fn stated(self) -> Option<f64> {
        match self {
            Self::Stated(rate) => Some(rate),
            Self::Learn => None,
        }
    }
}

/// Whether what recurs is expected to recur.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Prediction {
    /// The pool grows ahead of what is forecast; it never shrinks for it.
    On,
    /// The forecast is recorded and not followed.
    ForecastOnly,
    /// There is none.
    Off,
}

/// Instances beyond those that the demand needs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Standby {
    /// This share of those that it needs, rounded up.
    Share(Share),
    /// This many.
    Count(u32),
}

impl Standby {
    /// How many beyond `needed`.
    pub fn beyond(self, needed: u32) -> u32 {
        match self {
            // A hair less, so that exactly a whole number is that number whatever the rounding.
            Self::Share(share) => (share.0 * f64::from(needed) - 1e-9).ceil().max(0.0) as u32,
            Self::Count(count) => count,
        }
    }
}

/// What the pool can lose and still carry its demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZoneRedundancy {
    /// Nothing is kept for the loss of a zone.
    None,
    /// Any one zone: the others carry the demand at once.
    OneZone,
}

/// What goes before where zones cannot be kept even.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZoneBalance {
    /// The size: other zones take what one cannot.
    BestEffort,
    /// Evenness: what one zone cannot take is not launched.
    Strict,
}

/// How fast a pool may grow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScaleOut {
    /// At most this share of the pool in fifteen seconds, on top of it (but at least one instance);
    /// above 0, may exceed the whole.
    pub rate: Share,
}

/// How fast a pool may shrink.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ScaleIn {
    /// The pool shrinks to the largest size that was wanted in this long.
    pub hold: Duration,
    /// At most this share of the pool a minute (but at least one instance).
    pub rate: Share,
}

/// A size that instances can have.
#[derive(Clone, PartialEq, Debug)]
pub struct SizeClass {
    /// What the provider knows it by.
    pub name: SizeId,
    /// How much it carries, compared with the other sizes; at least 1.
    pub units: u32,
    /// What an instance of it costs an hour, in any currency; above 0.
    pub cost: f64,
}

/// Whether instances get another size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resizing {
    /// Only when the operator changes it.
    Off,
    /// A better size is told and not taken.
    Recommend,
    /// A better size is taken.
    Auto,
}

/// How a pool is rolled over to another size.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Roll {
    /// At most this share of the pool at a time (but at least one instance).
    pub batch: Share,
    /// The roll stops and goes back once more than this share of the pool is unhealthy.
    pub max_unhealthy: Share,
    /// How long after one batch the next one starts.
    pub pause: Duration,
}

/// What the scaling agent keeps true.
#[derive(Clone, PartialEq, Debug)]
pub struct Scaling {
    /// What the agent does with what it decides.
    pub mode: ScalingMode,
    /// Never fewer instances; 0 lets the pool go to nothing.
    pub min: u32,
    /// Never more; at least `min`, and at least 1.
    pub max: u32,
    /// The rate that one instance carries in steady state.
    pub target_requests_per_second: Option<RateTarget>,
    /// How many requests one instance has in flight in steady state; above 0.
    pub target_in_flight: Option<f64>,
    /// The mean time to an answer that is to be held.
    pub target_latency: Option<Duration>,
    /// Whether what recurs is expected to recur.
    pub prediction: Prediction,
    /// Instances beyond those that the demand needs.
    pub standby: Standby,
    /// What the pool can lose and still carry its demand.
    pub zone_redundancy: ZoneRedundancy,
    /// What goes before where zones cannot be kept even.
    pub zone_balance: ZoneBalance,
    /// How fast it may grow.
    pub scale_out: ScaleOut,
    /// How fast it may shrink.
    pub scale_in: ScaleIn,
    /// From the order of an instance until it carries its share; `None`: what is measured.
    pub lead_time: Option<Duration>,
    /// How many may be ordered or booting at a time.
    pub max_pending: Limit,
    /// The size that instances have, one of `sizes`; `None`: the provider's default.
    pub size: Option<SizeClass>,
    /// The sizes that they may have; names are unique.
    pub sizes: Vec<SizeClass>,
    /// Whether instances get another size; at least two `sizes` unless off.
    pub resize: Resizing,
    /// How a pool is rolled over to another size.
    pub roll: Roll,
    /// When other limits or another target hold, in the order of the file.
    pub schedules: Vec<Schedule>,
    /// Rules that it scales by, beside its targets.
    pub rules: Vec<Rule>,
}

impl Scaling {
    /// From `min` to `max` instances that carry `rate` requests per second each, and the default of
    /// every other key.
    pub fn new(min: u32, max: u32, rate: f64) -> Self {
        let second = Duration::from_secs(1);
        Self {
            mode: ScalingMode::Enforce,
            min,
            max,
            target_requests_per_second: Some(RateTarget::Stated(rate)),
            target_in_flight: None,
            target_latency: None,
            prediction: Prediction::On,
            standby: Standby::Count(0),
            zone_redundancy: ZoneRedundancy::None,
            zone_balance: ZoneBalance::BestEffort,
            scale_out: ScaleOut { rate: Share(3.0) },
            scale_in: ScaleIn { hold: 300 * second, rate: Share(0.1) },
            lead_time: None,
            max_pending: Limit::AtMost(100),
            size: None,
            sizes: Vec::new(),
            resize: Resizing::Off,
            roll: Roll { batch: Share(0.2), max_unhealthy: Share(0.2), pause: Duration::ZERO },
            schedules: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// How much an instance of this size carries: its units, and 1 where the size is not known.
    pub fn units_of(&self, size: Option<&str>) -> u32 {
        let known = self.sizes.iter().find(|known| size == Some(known.name.as_str()));
        known.map_or(1, |known| known.units.max(1))
    }

    /// How much an instance of the size that is set carries.
    pub fn unit(&self) -> u32 {
        self.units_of(self.size.as_ref().map(|size| size.name.as_str()))
    }

    /// The least and the most instances of that size: `min` and `max` are in units.
    pub fn instances(&self) -> RangeInclusive<u32> {
        let most = (self.max / self.unit()).max(1);
        self.min.div_ceil(self.unit()).min(most)..=most
    }

    /// The rate per instance that the operator states, if any.
    pub fn stated_rate(&self) -> Option<f64> {
        self.target_requests_per_second?.stated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_in_units_and_instances_are_whole() {
        for (min, max, units, expected) in [
            (2, 9, None, 2..=9),
            (3, 9, Some(2), 2..=4),
            (0, 3, Some(4), 0..=1),
            (3, 3, Some(2), 1..=1),
        ] {
            let name = SizeId::new("m");
            let sizes = Vec::from_iter(units.map(|units| SizeClass { name, units, cost: 1.0 }));
            let size = sizes.first().cloned();
            let scaling = Scaling { size, sizes, ..Scaling::new(min, max, 70.0) };
            assert_eq!(scaling.instances(), expected, "{min} to {max} of {units:?}");
        }
    }

    #[test]
    fn standby_is_rounded_up() {
        for (standby, needed, beyond) in [
            (Standby::Share(Share(0.2)), 5, 1),
            (Standby::Share(Share(0.2)), 6, 2),
            (Standby::Share(Share(0.1)), 30, 3),
            (Standby::Share(Share(0.0)), 6, 0),
            (Standby::Share(Share(0.5)), 0, 0),
            (Standby::Count(4), 0, 4),
        ] {
            assert_eq!(standby.beyond(needed), beyond, "{standby:?} of {needed}");
        }
    }
}
