//! Times that recur, as `cron` writes them: `minute hour day month weekday`.
//!
//! It knows the calendar and no zone. As in every cron, if day and weekday are both restricted, one of
//! them is enough; a field that begins with `*` restricts nothing by itself.

use std::fmt;

use jiff::civil::{Date, DateTime};

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The longest that the months have, February in a leap year.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// When something happens, to the minute. Each set is a mask of bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Day and weekday are both restricted.
    either_day: bool,
}

/// One of the five fields.
struct Field {
    what: &'static str,
    least: u32,
    most: u32,
    /// The first stands for `least`.
    names: &'static [&'static str],
}

const FIELDS: [Field; 5] = [
    Field { what: "minute", least: 0, most: 59, names: &[] },
    Field { what: "hour", least: 0, most: 23, names: &[] },
    Field { what: "day", least: 1, most: 31, names: &[] },
    Field { what: "month", least: 1, most: 12, names: &MONTHS },
    // Sunday is 0 and 7.
    Field { what: "weekday", least: 0, most: 7, names: &WEEKDAYS },
];

impl Field {
    /// Reads a list of values, ranges and steps.
    fn mask(&self, text: &str) -> Result<u64, String> {
        text.split(',').try_fold(0, |mask, part| Ok(mask | self.part(part)?))
    }

    fn part(&self, part: &str) -> Result<u64, String> {
        let (range, step) = match part.split_once('/') {
            None => (part, 1),
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| (1..=self.most).contains(step));
                let what = self.what;
                (range, step.ok_or_else(|| format!("{part:?} is no step of the {what}"))?)
            }
        };
        let (first, last) = match range.split_once('-') {
            None if range == "*" => (self.least, self.most),
            None if part != range => {
                return Err(format!("a step needs a range: {range}-{}/{step}", self.most));
            }
            None => (self.value(range)?, self.value(range)?),
            Some((first, last)) => {
                let (first, last) = (self.value(first)?, self.value(last)?);
                // As the end of a range, Sunday is the last day of the week.
                let ends_on_sunday = self.what == "weekday" && last == 0 && first > 0;
                (first, if ends_on_sunday { 7 } else { last })
            }
        };
        if first > last {
            return Err(format!("{range:?} runs backwards in the {}", self.what));
        }
        let values = (first..=last).step_by(step as usize);
        Ok(values.fold(0, |mask, value| mask | 1 << value))
    }

    fn value(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value = match named {
            Some(index) => Some(index as u32 + self.least),
            None => text.parse().ok().filter(|_| digits),
        };
        value.filter(|value| (self.least..=self.most).contains(value)).ok_or_else(|| {
            let Self { what, least, most, .. } = self;
            format!("{text:?} is no {what} from {least} to {most}")
        })
    }
}

impl Cron {
    /// Reads five fields.
    ///
    /// # Errors
    /// Says what is wrong with `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let given: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = given.as_slice() else {
            let count = given.len();
            return Err(format!(
                "it has {count} fields, not the five of minute hour day month weekday"
            ));
        };
        let [minutes, hours, days, months, weekdays] = &FIELDS;
        let week = weekdays.mask(weekday)?;
        let cron = Self {
            text: given.join(" "),
            minutes: minutes.mask(minute)?,
            hours: hours.mask(hour)?,
            days: days.mask(day)?,
            months: months.mask(month)?,
            // Sunday is 0 from here on.
            weekdays: (week | week >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let has_day = |month: &u32| {
            let length = LENGTHS[*month as usize - 1];
            cron.months >> month & 1 == 1 && up_to(cron.days, length).is_some()
        };
        if !cron.either_day && !(1..=12).any(|month| has_day(&month)) {
            return Err("no month that it names has such a day".into());
        }
        Ok(cron)
    }

    /// Whether it happens on `date` at all.
    fn is_on(&self, date: Date) -> bool {
        let has = |mask: u64, value: i8| mask >> value & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month())
            && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The last time it happens in a day until `hour` and `minute`.
    fn last_of_day(&self, hour: u32, minute: u32) -> Option<(u32, u32)> {
        if self.hours >> hour & 1 == 1
            && let Some(minute) = up_to(self.minutes, minute)
        {
            return Some((hour, minute));
        }
        let hour = up_to(self.hours, hour.checked_sub(1)?)?;
        Some((hour, up_to(self.minutes, 59)?))
    }

    /// The last time it happens until `until`, itself included, and on no day before `first`.
    pub fn last(&self, until: DateTime, first: Date) -> Option<DateTime> {
        let mut date = until.date();
        let mut limit = (until.hour() as u32, until.minute() as u32);
        while date >= first {
            if self.is_on(date)
                && let Some((hour, minute)) = self.last_of_day(limit.0, limit.1)
            {
                return Some(date.at(hour as i8, minute as i8, 0, 0));
            }
            date = date.yesterday().ok()?;
            limit = (23, 59);
        }
        None
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The largest value of a set that is not above `most`.
fn up_to(mask: u64, most: u32) -> Option<u32> {
    (mask & u64::MAX >> (63 - most)).checked_ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    /// All times from `from` until `to`, which is not included.
    fn times(cron: &str, from: DateTime, to: DateTime) -> Vec<String> {
        let cron = Cron::parse(cron).unwrap_or_else(|why| panic!("{cron}: {why}"));
        let minute = jiff::Span::new().minutes(1);
        let mut found = Vec::new();
        let mut until = to - minute;
        while let Some(time) = cron.last(until, from.date()).filter(|time| *time >= from) {
            found.push(time.strftime("%a %d %H:%M").to_string());
            until = time - minute;
        }
        found.reverse();
        found
    }

    #[test]
    fn days_of_a_month() {
        // November 2026 begins on a Sunday.
        let november = |cron: &str| {
            let found =
                times(cron, date(2026, 11, 1).at(0, 0, 0, 0), date(2026, 12, 1).at(0, 0, 0, 0));
            found.join(", ")
        };
        for (cron, expected) in [
            ("0 8 2 * *", "Mon 02 08:00"),
            ("0 8 31 * *", ""),
            ("0 8 1 12 *", ""),
            ("0 8 1,30 11 *", "Sun 01 08:00, Mon 30 08:00"),
            ("30 22 28-30 NOV *", "Sat 28 22:30, Sun 29 22:30, Mon 30 22:30"),
            ("0 0 */10 * *", "Sun 01 00:00, Wed 11 00:00, Sat 21 00:00"),
            ("0 0 2-20/9 * *", "Mon 02 00:00, Wed 11 00:00, Fri 20 00:00"),
            ("0 0 * * 5", "Fri 06 00:00, Fri 13 00:00, Fri 20 00:00, Fri 27 00:00"),
            ("0 0 13 * *", "Fri 13 00:00"),
            // Both restricted: either is enough.
            (
                "0 0 14 * fri",
                "Fri 06 00:00, Fri 13 00:00, Sat 14 00:00, Fri 20 00:00, Fri 27 00:00",
            ),
            // A star that steps is still a star.
            ("0 0 */13 * fri", "Fri 27 00:00"),
            (
                "0 0 1-7 11 *",
                "Sun 01 00:00, Mon 02 00:00, Tue 03 00:00, Wed 04 00:00, Thu 05 00:00, Fri 06 00:00, Sat 07 00:00",
            ),
            ("5,10-12 9 9 * *", "Mon 09 09:05, Mon 09 09:10, Mon 09 09:11, Mon 09 09:12"),
            (
                "*/20 7-8 9 * *",
                "Mon 09 07:00, Mon 09 07:20, Mon 09 07:40, Mon 09 08:00, Mon 09 08:20, Mon 09 08:40",
            ),
        ] {
            assert_eq!(november(cron), expected, "{cron}");
        }
        for sunday in ["0", "7", "sun", "SUN"] {
            let found = november(&format!("0 0 * * {sunday}"));
            assert_eq!(
                found,
                "Sun 01 00:00, Sun 08 00:00, Sun 15 00:00, Sun 22 00:00, Sun 29 00:00"
            );
        }
        assert_eq!(november("0 0 * * sat-sun"), november("0 0 * * 6,7"));
        assert_eq!(november("0 0 * * 1-5"), november("0 0 * * mon-fri"));
        assert_eq!(november("0 0 * * 0-6"), november("0 0 * * *"));
    }

    #[test]
    fn leap_days() {
        let of = |year: i16| {
            let found = times(
                "0 6 29 2 *",
                date(year, 2, 1).at(0, 0, 0, 0),
                date(year, 4, 1).at(0, 0, 0, 0),
            );
            found.join(", ")
        };
        assert_eq!((of(2027), of(2028)), (String::new(), "Tue 29 06:00".into()));
        assert_eq!((of(2100), of(2000)), (String::new(), "Tue 29 06:00".into()));
    }

    #[test]
    fn what_is_no_cron() {
        for (text, why) in [
            ("", "it has 0 fields, not the five"),
            ("0 8 * *", "it has 4 fields"),
            ("0 0 8 * * 1", "it has 6 fields"),
            ("@daily", "it has 1 fields"),
            ("60 8 * * *", "\"60\" is no minute from 0 to 59"),
            ("0 24 * * *", "\"24\" is no hour from 0 to 23"),
            ("0 8 0 * *", "\"0\" is no day from 1 to 31"),
            ("0 8 * 13 *", "\"13\" is no month from 1 to 12"),
            ("0 8 * * 8", "\"8\" is no weekday from 0 to 7"),
            ("0 8 * * monday", "\"monday\" is no weekday"),
            ("0 8 mon * *", "\"mon\" is no day"),
            ("+5 8 * * *", "\"+5\" is no minute"),
            ("0 18-8 * * *", "\"18-8\" runs backwards in the hour"),
            ("*/0 8 * * *", "\"*/0\" is no step of the minute"),
            ("*/61 8 * * *", "\"*/61\" is no step of the minute"),
            ("5/10 8 * * *", "a step needs a range: 5-59/10"),
            ("1, 8 * * *", "\"\" is no minute"),
            ("0 8 30 2 *", "no month that it names has such a day"),
            ("0 8 31 4,6,9,11 *", "no month that it names has such a day"),
        ] {
            let found = Cron::parse(text).expect_err(text);
            assert!(found.starts_with(why), "{text:?}: {found}");
        }
        let odd = Cron::parse(" 0  8\t* * 1-5 ").expect("blanks are blanks");
        assert_eq!(odd.to_string(), "0 8 * * 1-5");
        Cron::parse("0 8 30 2 1").expect("on Mondays of February");
    }
}
