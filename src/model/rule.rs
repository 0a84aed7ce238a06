//! Rules by which a pool scales as it would in Azure: a metric over a window, a threshold, a change.

use std::fmt;
use std::time::Duration;

use crate::base::Share;
use crate::base::unit::print_duration;

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metric {
    /// Requests per second that arrive, for each instance that serves.
    RequestsPerInstance,
    /// Requests in flight, for each instance that serves.
    InFlightPerInstance,
    /// Mean time to an answer, in seconds.
    Latency,
    /// Requests that wait.
    Queue,
}

impl Metric {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::RequestsPerInstance => "requests-per-instance",
            Self::InFlightPerInstance => "in-flight-per-instance",
            Self::Latency => "latency",
            Self::Queue => "queue",
        }
    }
}

/// What the values of a window, one each second, come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Statistic {
    /// Their mean.
    Average,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// All together.
    Sum,
    /// The latest.
    Last,
}

impl Statistic {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Average => "average",
            Self::Min => "min",
            Self::Max => "max",
            Self::Sum => "sum",
            Self::Last => "last",
        }
    }
}

/// How a value is compared with the threshold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
}

impl Operator {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }

    /// Whether `value` stands so to `threshold`.
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
        }
    }
}

/// What becomes of the size. Shares are rounded away from it on the way out and towards it on the way
/// in, but any change is one instance at least.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Change {
    /// So many more; at least 1.
    Add(u32),
    /// So many fewer; at least 1.
    Remove(u32),
    /// More by this share; above 0.
    AddShare(Share),
    /// Fewer by this share; above 0, at most the whole.
    RemoveShare(Share),
    /// Exactly so many.
    Exactly(u32),
}

impl fmt::Display for Change {
    /// As it is written in the config.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add(count) => write!(f, "+{count}"),
            Self::Remove(count) => write!(f, "-{count}"),
            Self::AddShare(share) => write!(f, "+{share}"),
            Self::RemoveShare(share) => write!(f, "-{share}"),
            Self::Exactly(count) => write!(f, "={count}"),
        }
    }
}

/// Which way a rule scales.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// To more instances.
    Out,
    /// To fewer.
    In,
}

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// What is looked at.
    pub metric: Metric,
    /// For how long; at least a second.
    pub window: Duration,
    /// What the values of the window come to.
    pub statistic: Statistic,
    /// How that is compared.
    pub operator: Operator,
    /// With what; in seconds for [`Metric::Latency`].
    pub threshold: f64,
    /// What becomes of the size then.
    pub change: Change,
    /// How long nothing changes after it.
    pub cooldown: Duration,
}

impl Rule {
    /// Which way it scales. An exact size is the least that it should be where the metric is high, and
    /// the most where it is low.
    pub fn direction(&self) -> Direction {
        match (self.change, self.operator) {
            (Change::Add(_) | Change::AddShare(_), _)
            | (Change::Exactly(_), Operator::Above | Operator::AtLeast) => Direction::Out,
            (Change::Remove(_) | Change::RemoveShare(_), _)
            | (Change::Exactly(_), Operator::Below | Operator::AtMost) => Direction::In,
        }
    }

    /// Whether it fires at this value.
    pub fn fires(&self, value: f64) -> bool {
        self.operator.holds(value, self.threshold)
    }

    /// What it makes of `size`; never the other way.
    pub fn apply(&self, size: u32) -> u32 {
        let part = |share: Share| share.0 * f64::from(size);
        match (self.change, self.direction()) {
            (Change::Add(count), _) => size.saturating_add(count),
            (Change::Remove(count), _) => size.saturating_sub(count),
            // A hair less, so that exactly a whole number is that number whatever the rounding.
            (Change::AddShare(share), _) => {
                size.saturating_add(((part(share) - 1e-9).ceil() as u32).max(1))
            }
            (Change::RemoveShare(share), _) => {
                size.saturating_sub(((part(share) + 1e-9).floor() as u32).max(1))
            }
            (Change::Exactly(count), Direction::Out) => size.max(count),
            (Change::Exactly(count), Direction::In) => size.min(count),
        }
    }
}

impl fmt::Display for Rule {
    /// What it looks for: `average requests-per-instance > 100 over 5m`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (statistic, metric) = (self.statistic.word(), self.metric.word());
        write!(f, "{statistic} {metric} {} ", self.operator.word())?;
        match self.metric {
            Metric::Latency => write!(f, "{} ms", (self.threshold * 1e6).round() / 1e3)?,
            _ => write!(f, "{}", self.threshold)?,
        }
        write!(f, " over {}", print_duration(self.window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_a_size() {
        use Change::{Add, AddShare, Exactly, Remove, RemoveShare};
        use Operator::{Above, AtLeast, AtMost, Below};
        for (change, operator, size, to) in [
            (Add(2), Above, 5, 7),
            (Add(2), Below, 5, 7),
            (Remove(2), Below, 5, 3),
            (Remove(9), Below, 5, 0),
            (AddShare(Share(0.2)), Above, 5, 6),
            (AddShare(Share(0.2)), Above, 6, 8),
            (AddShare(Share(0.1)), Above, 30, 33),
            (AddShare(Share(0.2)), Above, 0, 1),
            (AddShare(Share(2.0)), Above, 3, 9),
            (RemoveShare(Share(0.2)), Below, 5, 4),
            (RemoveShare(Share(0.2)), Below, 9, 8),
            (RemoveShare(Share(0.2)), Below, 2, 1),
            (RemoveShare(Share(0.1)), Below, 30, 27),
            (Exactly(10), AtLeast, 5, 10),
            (Exactly(10), AtLeast, 12, 12),
            (Exactly(10), AtMost, 5, 5),
            (Exactly(10), AtMost, 12, 10),
        ] {
            let rule = Rule {
                metric: Metric::Queue,
                window: Duration::from_secs(60),
                statistic: Statistic::Last,
                operator,
                threshold: 1.0,
                change,
                cooldown: Duration::ZERO,
            };
            assert_eq!(rule.apply(size), to, "{change} of {size}, {}", operator.word());
        }
    }
}
