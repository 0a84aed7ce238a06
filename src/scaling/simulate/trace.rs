//! Traffic over time: a trace of counts, read from CSV and turned into a rate for each second.

use std::time::Duration;

/// Enough for a leap year; each second is a number in memory.
const LONGEST_S: usize = 366 * 86_400;

/// A trace shorter than this gets a lead-in, so that every policy has history when it is judged.
const SHORT_S: usize = 7_200;

const LEAD_IN_S: usize = 900;

/// Counts are averaged over about this many requests: what chance does to smaller counts would be in
/// the trace twice, because arrivals are drawn anew.
const STEADY_REQUESTS: f64 = 1_000.0;

/// Counts of requests in bins of equal width.
#[derive(Clone, PartialEq, Debug)]
pub struct Trace {
    /// The width of a bin in seconds.
    pub step_s: usize,
    /// Requests in each bin; at least two bins.
    pub counts: Vec<f64>,
}

impl Trace {
    /// Reads `timestamp_s,count` lines: whole seconds in even steps, and what was counted from there to
    /// the next. A first line of words is a heading.
    ///
    /// # Errors
    /// Says what is wrong, and in which line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rows: Vec<(u64, f64)> = Vec::new();
        let mut step = None;
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim();
            let is_heading = index == 0 && line.starts_with(|c: char| c.is_alphabetic());
            if line.is_empty() || is_heading {
                continue;
            }
            let row = row(line).map_err(|why| format!("line {number}: {why}"))?;
            if let Some((before, _)) = rows.last() {
                let width = row.0.checked_sub(*before).filter(|width| *width > 0);
                let width = width.ok_or_else(|| {
                    format!("line {number}: timestamp {} is not after {before}", row.0)
                })?;
                let expected = *step.get_or_insert(width);
                if width != expected {
                    return Err(format!(
                        "line {number}: timestamp {} is {width} s after the one before, but the \
                         step of this trace is {expected} s; bins must be even",
                        row.0
                    ));
                }
            }
            rows.push(row);
        }
        let step = step.ok_or("it has fewer than two lines of timestamp_s,count")?;
        let counts: Vec<f64> = rows.into_iter().map(|(_, count)| count).collect();
        if counts.iter().sum::<f64>() <= 0.0 {
            return Err("it has no requests at all".into());
        }
        let step_s = usize::try_from(step).map_err(|_| "its step is too long".to_owned())?;
        Ok(Self { step_s, counts })
    }

    /// Requests a second, for each second of at most `days`.
    ///
    /// # Errors
    /// Says so if that is too long to hold.
    pub fn rates(&self, days: Option<f64>) -> Result<Vec<f64>, String> {
        let whole = self.counts.len().saturating_mul(self.step_s);
        let wanted = days.map_or(whole, |days| (days * 86_400.0) as usize).clamp(1, whole);
        if wanted > LONGEST_S {
            return Err(format!(
                "it has {:.0} days; at most {} are replayed, take a part with --days",
                wanted as f64 / 86_400.0,
                LONGEST_S / 86_400
            ));
        }
        let bins: Vec<f64> = self.counts.iter().map(|count| count / self.step_s as f64).collect();
        let bins = smoothed(&bins, self.window());
        let mut rates: Vec<f64> =
            (0..wanted).map(|second| between(&bins, self.step_s, second)).collect();
        if rates.len() < SHORT_S {
            let first = &rates[..rates.len().min(60)];
            let level = first.iter().sum::<f64>() / first.len() as f64;
            rates.splice(0..0, std::iter::repeat_n(level, LEAD_IN_S));
        }
        Ok(rates)
    }

    /// How many bins are averaged.
    fn window(&self) -> usize {
        let seconds = (self.counts.len() * self.step_s) as f64;
        let mean = self.counts.iter().sum::<f64>() / seconds;
        let longest = if self.step_s <= 5 { 60.0 } else { 300.0 };
        let window = (STEADY_REQUESTS / mean).max(self.step_s as f64).min(longest);
        (window as usize / self.step_s).clamp(1, self.counts.len())
    }
}

fn row(line: &str) -> Result<(u64, f64), String> {
    let (time, count) = line
        .split_once(',')
        .ok_or_else(|| format!("expected timestamp_s,count, found \"{line}\""))?;
    let time = time
        .trim()
        .parse()
        .map_err(|_| format!("the timestamp \"{time}\" is not a whole number of seconds"))?;
    let count = count
        .trim()
        .parse()
        .ok()
        .filter(|count: &f64| count.is_finite() && *count >= 0.0)
        .ok_or_else(|| format!("the count \"{count}\" is not a number of requests"))?;
    Ok((time, count))
}

/// The centred mean over `window` values; over fewer at both ends.
fn smoothed(values: &[f64], window: usize) -> Vec<f64> {
    if window <= 1 {
        return values.to_vec();
    }
    let mut sums = Vec::with_capacity(values.len() + 1);
    let mut sum = 0.0;
    sums.push(sum);
    for value in values {
        sum += value;
        sums.push(sum);
    }
    let ahead = (window - 1) / 2;
    let behind = window - 1 - ahead;
    (0..values.len())
        .map(|at| {
            let (from, to) = (at.saturating_sub(behind), (at + ahead + 1).min(values.len()));
            (sums[to] - sums[from]) / (to - from) as f64
        })
        .collect()
}

/// The rate at `second`, on the line from the middle of one bin to that of the next, so that no stairs
/// are in it which the traffic had not.
fn between(bins: &[f64], step_s: usize, second: usize) -> f64 {
    if step_s == 1 {
        return bins[second];
    }
    let place = (second as f64 - step_s as f64 / 2.0) / step_s as f64;
    let last = bins.len() - 1;
    let low = (place.max(0.0) as usize).min(last);
    let high = (low + 1).min(last);
    let part = (place - low as f64).clamp(0.0, 1.0);
    bins[low] + (bins[high] - bins[low]) * part
}

/// Scales `rates` so that the minute which is busier than 99.9 % of all needs `requests_per_second`,
/// and cuts what is above `ceiling`, which no policy could serve.
pub fn scale(rates: &mut [f64], requests_per_second: f64, ceiling: f64) {
    let minutes: Vec<f64> =
        rates.chunks_exact(60).map(|minute| minute.iter().sum::<f64>() / 60.0).collect();
    let busy = percentile(&minutes, 99.9);
    if busy > 0.0 {
        let factor = requests_per_second / busy;
        rates.iter_mut().for_each(|rate| *rate = (*rate * factor).min(ceiling));
    }
}

/// The percentile of `values`, between its two neighbours where it falls between them; 0 of nothing.
pub fn percentile(values: &[f64], percent: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = last as f64 * percent / 100.0;
    let low = place as usize;
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (place - low as f64)
}

/// The second of `rates` at which `from` begins and the one before which `hours` end.
///
/// # Errors
/// Says so if nothing of the trace is there.
pub fn section(
    seconds: usize,
    from: Duration,
    hours: Option<f64>,
) -> Result<(usize, usize), String> {
    let start = usize::try_from(from.as_secs()).unwrap_or(usize::MAX);
    if start >= seconds {
        return Err(format!("--from is after the end of the trace, which has {seconds} s"));
    }
    let length = hours.map_or(seconds, |hours| (hours * 3_600.0) as usize).max(60);
    Ok((start, start.saturating_add(length).min(seconds)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_trace_is_read_with_or_without_a_heading() {
        for text in ["timestamp_s,requests\r\n0,6\r\n5,8\r\n10,7.5\r\n", "100,6\n105, 8\n110,7.5"] {
            let trace = Trace::parse(text).expect(text);
            assert_eq!(trace, Trace { step_s: 5, counts: vec![6.0, 8.0, 7.5] });
        }
    }

    #[test]
    fn faults_have_their_line() {
        for (text, expected) in [
            ("", "fewer than two lines"),
            ("t,n\n0,1\n", "fewer than two lines"),
            ("t,n\n0,1\nt,n\n", "line 3: the timestamp \"t\""),
            ("0,1\n1;2\n", "line 2: expected timestamp_s,count, found \"1;2\""),
            ("0,1\n1,-2\n", "line 2: the count \"-2\""),
            ("0,1\n1,NaN\n", "line 2: the count"),
            ("0,1\n1,2,3\n", "line 2: the count \"2,3\""),
            ("0.5,1\n", "line 1: the timestamp \"0.5\""),
            ("0,1\n5,2\n15,3\n", "line 3: timestamp 15 is 10 s after"),
            ("5,1\n5,2\n", "line 2: timestamp 5 is not after 5"),
            ("0,0\n1,0\n", "no requests at all"),
        ] {
            let why = Trace::parse(text).expect_err(text);
            assert!(why.contains(expected), "{text:?}: {why}");
        }
    }

    #[test]
    fn the_rate_runs_straight_from_bin_to_bin() {
        // So busy that nothing is averaged.
        let trace = Trace { step_s: 60, counts: vec![60_000.0, 120_000.0, 60_000.0] };
        let rates = trace.rates(None).expect("short");
        assert_eq!(rates.len(), LEAD_IN_S + 180);
        let own = &rates[LEAD_IN_S..];
        for (second, rate) in [(0, 1_000.0), (30, 1_000.0), (60, 1_500.0), (90, 2_000.0)] {
            assert_eq!(own[second], rate, "second {second}");
        }
        assert!(rates[..LEAD_IN_S].iter().all(|rate| *rate == rates[0]), "the lead-in is level");
    }

    #[test]
    fn few_requests_are_averaged_and_many_are_not() {
        for (step_s, count, bins) in
            [(1, 5_000.0, 1), (1, 100.0, 10), (1, 0.5, 60), (60, 10.0, 5), (5, 1_000.0, 1)]
        {
            let trace = Trace { step_s, counts: vec![count; 1_000] };
            assert_eq!(trace.window(), bins, "{count} in {step_s} s");
        }
        assert_eq!(smoothed(&[0.0, 3.0, 6.0, 3.0], 3), [1.5, 3.0, 4.0, 4.5]);
        assert_eq!(smoothed(&[0.0, 4.0, 8.0], 2), [0.0, 2.0, 6.0]);
    }

    #[test]
    fn too_much_is_refused_and_days_take_a_part() {
        let trace = Trace { step_s: 86_400, counts: vec![1e9; 400] };
        assert!(trace.rates(None).is_err_and(|why| why.contains("--days")));
        assert_eq!(trace.rates(Some(0.5)).expect("half a day").len(), 43_200);
    }

    #[test]
    fn a_scaled_trace_has_its_busy_minute_where_it_should_be() {
        let mut rates: Vec<f64> = (0..600).map(|second| f64::from(second / 60)).collect();
        scale(&mut rates, 7_000.0, 6_900.0);
        let minutes: Vec<f64> = rates.iter().step_by(60).copied().collect();
        assert_eq!(minutes[9], 6_900.0, "cut");
        let expected = 7_000.0 / (8.0 + 0.991);
        assert!((minutes[1] - expected).abs() < 1e-9, "{}", minutes[1]);
    }

    #[test]
    fn percentiles_lie_between_neighbours() {
        for (values, percent, expected) in
            [(&[][..], 50.0, 0.0), (&[7.0], 99.9, 7.0), (&[4.0, 2.0], 50.0, 3.0)]
        {
            assert_eq!(percentile(values, percent), expected, "{values:?}");
        }
    }

    #[test]
    fn sections_end_with_the_trace() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(section(7_200, hour, Some(0.5)), Ok((3_600, 5_400)));
        assert_eq!(section(7_200, hour, None), Ok((3_600, 7_200)));
        assert!(section(3_600, hour, None).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([0-9a-z,.\\-]{0,9}\n){0,5}") {
            let _ = Trace::parse(&text);
        }

        #[test]
        fn averages_stay_between_the_extremes(
            values in proptest::collection::vec(0.0..1e6f64, 1..50),
            window in 1usize..20,
        ) {
            let most = values.iter().copied().fold(0.0, f64::max);
            for value in smoothed(&values, window.min(values.len())) {
                prop_assert!((-1e-6..=most + 1e-6).contains(&value));
            }
        }
    }
}
