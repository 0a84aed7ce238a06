//! What holds by the clock: limits and targets of schedules, and what must be launched ahead of them.
//!
//! Fixed dates go before what recurs, and that before what is always; among equals the later one in the
//! file. Each of the three values is decided for itself, by those that set it.

use std::time::Duration;

use crate::model::schedule::{Schedule, When};
use crate::model::{RateTarget, Scaling};

/// Nobody looks further ahead: no machine takes longer.
const LEAD_MOST: Duration = Duration::from_secs(24 * 3_600);

/// The limits and the target at one time.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Profile<'s> {
    /// Never fewer instances; not above `max`.
    pub min: u32,
    /// Never more.
    pub max: u32,
    /// The rate that one instance carries in steady state.
    pub target_requests_per_second: Option<RateTarget>,
    /// The schedule that goes before all others now; `None`: what is always.
    pub schedule: Option<&'s str>,
}

/// What holds at `wall_s`, in seconds since 1970 (UTC).
pub fn active(scaling: &Scaling, wall_s: i64) -> Profile<'_> {
    let mut profile = Profile {
        min: scaling.min,
        max: scaling.max,
        target_requests_per_second: scaling.target_requests_per_second,
        schedule: None,
    };
    let is_once = |schedule: &&Schedule| matches!(schedule.when, When::Dates { .. });
    let recurring = scaling.schedules.iter().filter(|schedule| !is_once(schedule));
    // What goes before others comes after them.
    for schedule in recurring.chain(scaling.schedules.iter().filter(is_once)) {
        if schedule.when.holds(wall_s) {
            profile.min = schedule.min.unwrap_or(profile.min);
            profile.max = schedule.max.unwrap_or(profile.max);
            profile.target_requests_per_second =
                schedule.target_requests_per_second.or(profile.target_requests_per_second);
            profile.schedule = Some(&schedule.name);
        }
    }
    profile.min = profile.min.min(profile.max);
    profile
}

/// The largest minimum that holds at any time from `wall_s` until one `lead` later: what is launched now
/// is there when it must be. A maximum that holds until then does not lower it.
pub fn floor(scaling: &Scaling, wall_s: i64, lead: Duration) -> u32 {
    let lead = i64::try_from(lead.min(LEAD_MOST).as_secs()).unwrap_or_default();
    let min_at = |second: i64| active(scaling, second).min;
    let mut floor = min_at(wall_s);
    for Schedule { when, .. } in &scaling.schedules {
        let length = when.length();
        // What holds changes where a schedule starts, and where it ends.
        for edge in [0, length] {
            let first = wall_s.saturating_sub(edge);
            let mut at = first.saturating_add(lead);
            while let Some(start) = when.last_start(at, first) {
                floor = floor.max(min_at(start.saturating_add(edge)));
                at = start - 1;
            }
        }
    }
    floor
}

#[cfg(test)]
mod tests;
