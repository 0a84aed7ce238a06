//! When a pool has other limits or another target than usually.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use crate::base::Cron;
use crate::model::scaling::RateTarget;

/// Limits and a target for a time. At least one of them is set.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// Its name, unique within the pool.
    pub name: String,
    /// When it holds.
    pub when: When,
    /// Never fewer instances.
    pub min: Option<u32>,
    /// Never more.
    pub max: Option<u32>,
    /// The rate that one instance carries in steady state.
    pub target_requests_per_second: Option<RateTarget>,
}

/// When a schedule holds. All times are in seconds since 1970 (UTC).
#[derive(Clone, PartialEq, Debug)]
pub enum When {
    /// Once.
    Dates {
        /// From then on.
        from: i64,
        /// Until then, which is not included; later than `from`.
        until: i64,
    },
    /// Again and again.
    Cron {
        /// When it starts.
        cron: Cron,
        /// Whose clocks it follows.
        zone: TimeZone,
        /// How long it holds from each start on, in time that passes; at least a second.
        length: Duration,
    },
}

impl When {
    /// How long it holds from a start on, in seconds.
    pub fn length(&self) -> i64 {
        match self {
            Self::Dates { from, until } => until - from,
            Self::Cron { length, .. } => i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// The last start until `at`, itself included, and after `after`.
    pub fn last_start(&self, at: i64, after: i64) -> Option<i64> {
        let start = match self {
            Self::Dates { from, .. } => (*from <= at).then_some(*from),
            Self::Cron { cron, zone, .. } => last_start(cron, zone, at, after),
        };
        start.filter(|start| *start > after)
    }

    /// Whether it holds at `at`.
    pub fn holds(&self, at: i64) -> bool {
        self.last_start(at, at.saturating_sub(self.length())).is_some()
    }
}

/// The instant at which the clocks of `zone` show `time`: the first, if there are two; if there is none,
/// the one at which they skip it. So no start is lost and none happens twice.
pub fn instant(zone: &TimeZone, time: DateTime) -> Option<i64> {
    let instant = match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
            offset.to_timestamp(time).ok()?
        }
        AmbiguousOffset::Gap { after, .. } => {
            // Read by the clocks after the change, it lies before the change.
            let before = after.to_timestamp(time).ok()?;
            zone.following(before).next()?.timestamp()
        }
    };
    Some(instant.as_second())
}

/// The last start until `at`, looking no further back than a little before `after`.
fn last_start(cron: &Cron, zone: &TimeZone, at: i64, after: i64) -> Option<i64> {
    let now = Timestamp::from_second(at).ok()?;
    let local = zone.to_datetime(now);
    // Clocks that were set back show again what had its turn: everything that they showed before.
    let mut until = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Fold { before, .. } => before.to_datetime(now),
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Gap { .. } => local,
    };
    // No two clocks are further apart than a day or so.
    let first = zone.to_datetime(Timestamp::from_second(after).ok()?).date();
    let first = first.yesterday().ok()?.yesterday().ok()?;
    loop {
        // Starts never change their order, so the first one found that has come is the last.
        let time = cron.last(until, first)?;
        let start = instant(zone, time)?;
        if start <= at {
            return Some(start);
        }
        until = time.checked_sub(SignedDuration::from_mins(1)).ok()?;
    }
}
