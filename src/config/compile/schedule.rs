//! Schedules: when a pool has other limits or another target.

use jiff::tz::TimeZone;

use crate::config::raw;
use crate::config::read::Given;
use crate::model::RateTarget;
use crate::model::schedule::{Schedule, When, instant};

use super::Compiler;

impl Compiler<'_> {
    /// The schedules of a pool that otherwise has `limits`, its least and most instances.
    pub(super) fn schedules(
        &mut self,
        given: &Given<Vec<raw::Schedule>>,
        limits: (u32, u32),
    ) -> Vec<Schedule> {
        let mut schedules: Vec<Schedule> = Vec::with_capacity(given.items().len());
        for raw in given.items() {
            let Some(schedule) = self.schedule(raw, limits) else { continue };
            if schedules.iter().any(|other| other.name == schedule.name) {
                let problem = format!("another schedule has the name {:?} too", schedule.name);
                self.fault(raw.name.place, &raw.name.key, problem, "");
            }
            schedules.push(schedule);
        }
        schedules
    }

    fn schedule(&mut self, raw: &raw::Schedule, limits: (u32, u32)) -> Option<Schedule> {
        let name = self.required(&raw.name, None, "records say which schedule holds");
        let zone = self.own(&raw.timezone, TimeZone::UTC);
        let when = self.when(raw, zone);
        let min = self.choose(&raw.min, None, None).map(|min| min.value);
        let max = self.choose(&raw.max, None, None).map(|max| max.value.0);
        let rate = self.choose(&raw.target_requests_per_second, None, None);
        let (least, most) = (min.unwrap_or(limits.0), max.unwrap_or(limits.1));
        if least > most
            && let Some((place, key)) = raw.min.written().or(raw.max.written())
        {
            let problem = format!("min {least} is above max {most}");
            self.fault(place, key, problem, "set both here, if both are to be others");
        }
        let sets_something = raw.min.is_present()
            || raw.max.is_present()
            || raw.target_requests_per_second.is_present();
        if !sets_something {
            let hint = "write min, max or target_requests_per_second";
            self.fault(raw.table.place, &raw.table.path, "changes nothing", hint);
        }
        Some(Schedule {
            name: name?.value.0,
            when: when?,
            min,
            max,
            target_requests_per_second: rate.map(|rate| match rate.value.0 {
                Some(rate) => RateTarget::Stated(rate.0),
                None => RateTarget::Learn,
            }),
        })
    }

    /// Either `cron` and `for`, or `from` and `until`.
    fn when(&mut self, raw: &raw::Schedule, zone: TimeZone) -> Option<When> {
        let recurs = raw.cron.is_present() || raw.length.is_present();
        let is_once = raw.from.is_present() || raw.until.is_present();
        if recurs && is_once {
            let (place, key) = raw.from.written().or(raw.until.written())?;
            self.fault(place, key, "stands beside cron or for", "write one schedule for each");
            return None;
        }
        if is_once {
            let from = self.required(&raw.from, None, "write when it begins");
            let until = self.required(&raw.until, None, "write when it ends");
            let (from, until) = (from?, until?);
            let (start, end) = (instant(&zone, from.value), instant(&zone, until.value));
            let (Some(start), Some(end)) = (start, end) else {
                self.fault(from.place, &from.key, "is out of all calendars", "");
                return None;
            };
            if end <= start {
                self.fault(until.place, &until.key, "is not later than from", "");
            }
            return Some(When::Dates { from: start, until: end });
        }
        if !recurs {
            let hint = "write cron and for, or from and until";
            self.fault(raw.table.place, &raw.table.path, "does not say when", hint);
            return None;
        }
        let cron = self.required(&raw.cron, None, "write when it starts, like \"0 8 * * 1-5\"");
        let length = self.required(&raw.length, None, "write how long it holds, like \"10h\"");
        Some(When::Cron { cron: cron?.value, zone, length: length?.value.0 })
    }
}
