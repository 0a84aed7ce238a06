//! A run as a picture (SVG): the rate, who was needed and who was there, and what was violated, over the
//! same time.

use std::fmt::Write;
use std::ops::Range;

use crate::scaling::law::Presence;
use crate::scaling::simulate::queue::Flow;

const WIDTH: f64 = 1_200.0;
const HEIGHT: f64 = 800.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 1_150.0;

/// About as many points as there are pixels.
const COLUMNS: usize = 1_100;

/// Told apart also by those who see few colours (Okabe and Ito), and in grey.
const BLUE: &str = "#0072b2";
const GREEN: &str = "#7fc8a9";
const ORANGE: &str = "#e69f00";
const BLACK: &str = "#222222";
const RED: &str = "#d55e00";
const GREY: &str = "#d8d8d8";

/// What happened, second by second.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Course {
    /// How many the clairvoyant optimum needs.
    pub needed: Vec<u32>,
    rates: Vec<f32>,
    serving: Vec<u32>,
    pending: Vec<u32>,
    offered: Vec<f32>,
    violating: Vec<f32>,
}

/// The means over the seconds of one column.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
struct Column {
    rate: f64,
    needed: f64,
    serving: f64,
    existing: f64,
    violations: f64,
}

impl Course {
    /// An empty one, for that many seconds.
    pub fn with_capacity(seconds: usize) -> Self {
        let of = || Vec::with_capacity(seconds);
        Self {
            needed: Vec::new(),
            rates: of(),
            serving: Vec::with_capacity(seconds),
            pending: Vec::with_capacity(seconds),
            offered: of(),
            violating: of(),
        }
    }

    /// One more second.
    pub fn push(&mut self, rate: f64, presence: &Presence, flow: &Flow) {
        self.rates.push(rate as f32);
        self.serving.push(presence.warming + presence.ready);
        self.pending.push(presence.pending);
        self.offered.push(flow.offered as f32);
        self.violating.push(flow.violating as f32);
    }

    fn column(&self, part: Range<usize>) -> Column {
        let seconds = part.len() as f64;
        let count = |values: &[u32]| values.iter().map(|value| f64::from(*value)).sum::<f64>();
        let sum = |values: &[f32]| values.iter().map(|value| f64::from(*value)).sum::<f64>();
        let serving = count(&self.serving[part.clone()]) / seconds;
        let offered = sum(&self.offered[part.clone()]);
        let violating = sum(&self.violating[part.clone()]);
        Column {
            rate: sum(&self.rates[part.clone()]) / seconds,
            needed: self.needed.get(part.clone()).map_or(0.0, count) / seconds,
            serving,
            existing: serving + count(&self.pending[part]) / seconds,
            violations: if offered > 0.0 { 100.0 * violating / offered } else { 0.0 },
        }
    }

    fn columns(&self, section: Range<usize>) -> Vec<Column> {
        let seconds = section.len();
        let count = seconds.min(COLUMNS);
        let edge = |index: usize| section.start + index * seconds / count;
        (0..count).map(|index| self.column(edge(index)..edge(index + 1))).collect()
    }

    /// The picture of a section of it, in seconds from its start.
    pub fn svg(&self, title: &str, section: Range<usize>) -> String {
        let section = section.start..section.end.min(self.rates.len());
        let columns = self.columns(section.clone());
        let mut svg = Svg::new(section.clone(), columns.len());
        svg.text(LEFT, 28.0, "start", 18, title);
        let each = section.len() / COLUMNS;
        if each > 1 {
            let note = format!("each point is the mean of about {each} s");
            svg.text(LEFT, 48.0, "start", 12, &note);
        }
        let line = |of: fn(&Column) -> f64| columns.iter().map(of).collect::<Vec<f64>>();
        let rate = line(|column| column.rate);
        let mut panel = svg.panel(80.0..250.0, &rate, "requests/s");
        panel.line(&rate, BLUE);
        panel.legend(&[(BLUE, "rate")]);

        let (serving, existing) = (line(|column| column.serving), line(|column| column.existing));
        let needed = line(|column| column.needed);
        let all: Vec<f64> = needed.iter().chain(&existing).copied().collect();
        let mut panel = svg.panel(300.0..540.0, &all, "instances");
        panel.area(&existing, ORANGE);
        panel.area(&serving, GREEN);
        panel.line(&needed, BLACK);
        panel.legend(&[(GREEN, "serving"), (ORANGE, "pending"), (BLACK, "needed (optimum)")]);

        let violations = line(|column| column.violations);
        let mut panel = svg.panel(590.0..730.0, &violations, "% of requests");
        panel.area(&violations, RED);
        panel.legend(&[(RED, "violations (waited too long, or shed)")]);
        svg.times();
        svg.done()
    }
}

/// The text of a picture.
struct Svg {
    text: String,
    section: Range<usize>,
    columns: usize,
}

/// One plot in it.
struct Panel<'a> {
    svg: &'a mut Svg,
    high: Range<f64>,
    top: f64,
}

/// The step of 1, 2 or 5 times a power of ten that divides `most` into at most `parts`.
fn step(most: f64, parts: f64) -> f64 {
    let rough = (most / parts).max(1e-9);
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|n| *n >= rough).unwrap_or(rough)
}

/// As short as its step allows.
fn number(value: f64, step: f64) -> String {
    let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.digits$}")
}

/// A second of the trace as a person says it.
fn time(second: usize) -> String {
    let (day, rest) = (second / 86_400, second % 86_400);
    let clock = format!("{:02}:{:02}", rest / 3_600, rest % 3_600 / 60);
    if day == 0 { clock } else { format!("{day}d {clock}") }
}

/// Text as XML has it.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut safe, letter| {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // Control characters are no XML, however they are written.
            control if control.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
        safe
    })
}

impl Svg {
    fn new(section: Range<usize>, columns: usize) -> Self {
        let mut svg = Self { text: String::with_capacity(128 * 1_024), section, columns };
        svg.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             width=\"{WIDTH}\" height=\"{HEIGHT}\" font-family=\"sans-serif\">"
        ));
        svg.add(format_args!("<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"));
        svg
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.text, "{element}");
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, size: u32, words: &str) {
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" font-size=\"{size}\" \
             fill=\"{BLACK}\">{}</text>",
            escaped(words)
        ));
    }

    fn rule(&mut self, from: (f64, f64), to: (f64, f64), colour: &str) {
        self.add(format_args!(
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"/>",
            from.0, from.1, to.0, to.1
        ));
    }

    fn panel(&mut self, high: Range<f64>, values: &[f64], label: &str) -> Panel<'_> {
        let most = values.iter().copied().fold(0.0, f64::max).max(1e-3);
        let step = step(most, 4.0);
        let top = (most / step).ceil() * step;
        let middle = (high.start + high.end) / 2.0;
        self.add(format_args!(
            "<text transform=\"translate(22 {middle:.1}) rotate(-90)\" text-anchor=\"middle\" \
             font-size=\"13\" fill=\"{BLACK}\">{}</text>",
            escaped(label)
        ));
        for mark in 0..=(top / step).round() as u32 {
            let value = f64::from(mark) * step;
            let y = high.end - value / top * (high.end - high.start);
            self.rule((LEFT, y), (RIGHT, y), GREY);
            self.text(LEFT - 8.0, y + 4.0, "end", 12, &number(value, step));
        }
        Panel { svg: self, high, top }
    }

    /// The axis that all panels share.
    fn times(&mut self) {
        const STEPS: [usize; 14] = [
            60, 300, 600, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800,
            1_209_600, 2_592_000,
        ];
        let Range { start, end } = self.section.clone();
        let seconds = end - start;
        let step = STEPS.into_iter().find(|step| seconds / step <= 12).unwrap_or(seconds);
        for mark in (start.div_ceil(step) * step..=end).step_by(step) {
            let part = (mark - start) as f64 / seconds as f64;
            let x = LEFT + part * (RIGHT - LEFT);
            self.rule((x, 730.0), (x, 736.0), BLACK);
            self.text(x, 752.0, "middle", 12, &time(mark));
        }
        self.text((LEFT + RIGHT) / 2.0, 778.0, "middle", 13, "time since the start");
    }

    fn done(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }
}

impl Panel<'_> {
    /// The points of a line: one in the middle of each column.
    fn points(&self, values: &[f64]) -> String {
        let wide = (RIGHT - LEFT) / self.svg.columns as f64;
        let tall = self.high.end - self.high.start;
        values.iter().enumerate().fold(String::new(), |mut points, (index, value)| {
            let x = LEFT + (index as f64 + 0.5) * wide;
            let y = self.high.end - value / self.top * tall;
            // Writing into a string cannot fail.
            let _ = write!(points, "{x:.1},{y:.1} ");
            points
        })
    }

    fn line(&mut self, values: &[f64], colour: &str) {
        let points = self.points(values);
        self.svg.add(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.3\"/>",
            points.trim_end()
        ));
    }

    fn area(&mut self, values: &[f64], colour: &str) {
        let points = self.points(values);
        let floor = self.high.end;
        self.svg.add(format_args!(
            "<polygon points=\"{LEFT},{floor} {points}{RIGHT},{floor}\" fill=\"{colour}\"/>"
        ));
    }

    fn legend(&mut self, entries: &[(&str, &str)]) {
        let y = self.high.start - 10.0;
        let mut x = LEFT;
        for (colour, words) in entries {
            self.svg.add(format_args!(
                "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"14\" height=\"10\" fill=\"{colour}\"/>",
                y - 9.0
            ));
            self.svg.text(x + 20.0, y, "start", 13, words);
            x += 50.0 + 7.0 * words.len() as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(seconds: usize) -> Course {
        let mut course = Course::with_capacity(seconds);
        for second in 0..seconds {
            let presence = Presence { pending: 1, ready: 4, ..Presence::default() };
            let rate = second as f64;
            let flow = Flow { offered: rate, violating: rate / 2.0, ..Flow::default() };
            course.push(rate, &presence, &flow);
            course.needed.push(3);
        }
        course
    }

    #[test]
    fn steps_are_round() {
        for (most, expected) in
            [(1.0, 0.5), (4.0, 1.0), (9.0, 5.0), (37.0, 10.0), (7_000.0, 2_000.0)]
        {
            assert!((step(most, 4.0) - expected).abs() < 1e-9, "{most}: {}", step(most, 4.0));
        }
        assert_eq!(number(0.5, 0.5), "0.5");
        assert_eq!(number(2_000.0, 2_000.0), "2000");
    }

    #[test]
    fn times_are_counted_from_the_start() {
        for (second, expected) in
            [(0, "00:00"), (5_400, "01:30"), (86_400, "1d 00:00"), (180_000, "2d 02:00")]
        {
            assert_eq!(time(second), expected);
        }
    }

    #[test]
    fn columns_stand_for_all_of_their_seconds() {
        let columns = course(5_500).columns(0..5_500);
        assert_eq!(columns.len(), COLUMNS);
        let expected =
            Column { rate: 2.0, needed: 3.0, serving: 4.0, existing: 5.0, violations: 50.0 };
        assert_eq!(columns[0], expected);
        assert_eq!(columns[COLUMNS - 1].rate, 5_497.0);
        assert_eq!(course(100).columns(40..60).len(), 20);
    }

    #[test]
    fn what_is_written_is_escaped() {
        let svg = course(600).svg("a<b & \"c\"\u{1}", 0..600);
        assert!(svg.contains("a&lt;b &amp; &quot;c&quot; "), "{}", &svg[..600]);
        assert!(svg.ends_with("</svg>\n"));
        for word in ["requests/s", "instances", "serving", "pending", "needed", "violations"] {
            assert!(svg.contains(word), "{word}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
}
