//! The figures of a run, as a table for people and as JSON for programs.

use serde::Serialize;

use crate::scaling::simulate::{Setting, Tally, Traffic};

/// What one percent of violating requests is priced at, in the cost of the optimum.
pub(super) const PRICE: f64 = 0.1;

/// All of it.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// What it rests on.
    #[serde(flatten)]
    pub stated: Stated,
    /// The control law first, the optimum last.
    pub policies: Vec<Row>,
}

/// What was replayed, and against what.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stated {
    /// The name of the pool.
    pub pool: String,
    /// The name of the trace.
    pub trace: String,
    /// How long it is.
    pub seconds: usize,
    /// How many requests arrived.
    pub requests: f64,
    /// The mean rate.
    pub mean_rps: f64,
    /// The highest rate.
    pub peak_rps: f64,
    /// Of all chance.
    pub seed: u64,
    /// The pool's smallest size, in units.
    pub min: u32,
    /// The pool's largest size, in units.
    pub max: u32,
    /// What the pool is set to have a unit carry.
    pub target_requests_per_second: Option<f64>,
    /// The stated instance.
    pub instance: Instance,
}

/// The stated instance model.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Instance {
    /// How many units it is.
    pub units: u32,
    /// Requests a second that one takes at most.
    pub capacity_rps: f64,
    /// Requests that it works on at a time.
    pub workers: u32,
    /// From the order to the first request.
    pub boot_s: f64,
    /// The share by which that is longer or shorter.
    pub boot_spread: f64,
    /// How long it has half its capacity.
    pub warm_up_s: u32,
    /// How long it is paid for when it leaves.
    pub drain_s: u32,
    /// A request that waits longer violates the objective.
    pub slo_wait_s: f64,
    /// A request that would wait longer is shed.
    pub shed_wait_s: f64,
}

/// What one policy came to.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// Requests that waited too long or were shed.
    pub violations_percent: f64,
    /// Requests that were shed.
    pub shed_percent: f64,
    /// What is paid for: from the order to the end of the drain.
    pub instance_hours: f64,
    /// That, by what the optimum costs.
    pub relative_cost: f64,
    /// How often it changed the size.
    pub actions_per_day: f64,
    /// How often it took that back within ten minutes.
    pub reversals_per_day: f64,
    /// Both in one: relative cost + 0.1 × violations in percent.
    pub j: f64,
    /// The most that existed.
    pub peak: u32,
    /// How many existed on average.
    pub mean: f64,
}

impl Stated {
    pub(super) fn of(setting: &Setting, traffic: &Traffic) -> Self {
        let seconds = traffic.rates.len();
        let model = &setting.model;
        Self {
            pool: setting.pool.clone(),
            trace: setting.trace.clone(),
            seconds,
            requests: traffic.arrivals.iter().sum(),
            mean_rps: traffic.rates.iter().sum::<f64>() / seconds as f64,
            peak_rps: traffic.rates.iter().copied().fold(0.0, f64::max),
            seed: setting.seed,
            min: setting.scaling.min,
            max: setting.scaling.max,
            target_requests_per_second: setting.scaling.stated_rate(),
            instance: Instance {
                units: setting.scaling.unit(),
                capacity_rps: model.capacity,
                workers: model.workers,
                boot_s: model.boot_s,
                boot_spread: model.boot_spread,
                warm_up_s: model.warm_up_s,
                drain_s: model.drain_s,
                slo_wait_s: model.slo_wait_s,
                shed_wait_s: model.shed_wait_s,
            },
        }
    }
}

impl Row {
    pub(super) fn of(name: &str, tally: &Tally, days: f64, optimum_hours: f64) -> Self {
        let percent =
            |part: f64| if tally.offered > 0.0 { 100.0 * part / tally.offered } else { 0.0 };
        let violations = percent(tally.violating);
        let hours = tally.instance_seconds / 3_600.0;
        let cost = hours / optimum_hours;
        Self {
            name: name.into(),
            violations_percent: violations,
            shed_percent: percent(tally.shed),
            instance_hours: hours,
            relative_cost: cost,
            actions_per_day: f64::from(tally.actions) / days,
            reversals_per_day: f64::from(tally.reversals) / days,
            j: cost + PRICE * violations,
            peak: tally.peak,
            mean: tally.existing / (days * 86_400.0),
        }
    }

    /// Hours are those of units, by which one size compares with another.
    fn cells(&self, units: u32) -> [String; 10] {
        [
            self.name.clone(),
            format!("{:.3}", self.violations_percent),
            format!("{:.3}", self.shed_percent),
            format!("{:.1}", self.instance_hours * f64::from(units)),
            format!("{:.2}", self.relative_cost),
            format!("{:.0}", self.actions_per_day),
            format!("{:.0}", self.reversals_per_day),
            format!("{:.2}", self.j),
            self.peak.to_string(),
            format!("{:.1}", self.mean),
        ]
    }
}

const HEADINGS: [&str; 10] = [
    "POLICY",
    "VIOLATIONS %",
    "SHED %",
    "INSTANCE HOURS",
    "COST",
    "ACTIONS/DAY",
    "REVERSALS/DAY",
    "J",
    "PEAK",
    "MEAN",
];

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let units = self.stated.instance.units;
        let mut headings = HEADINGS.map(str::to_owned);
        if units > 1 {
            headings[3] = "UNIT HOURS".into();
        }
        let rows: Vec<[String; 10]> = std::iter::once(headings)
            .chain(self.policies.iter().map(|row| row.cells(units)))
            .collect();
        let width =
            |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
        let widths: [usize; 10] = std::array::from_fn(width);
        let mut text = self.stated.sentences();
        for row in &rows {
            let mut line = format!("{:<width$}", row[0], width = widths[0]);
            for (cell, width) in row.iter().zip(widths).skip(1) {
                line.push_str(&format!("  {cell:>width$}"));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text.push_str(
            "\nCOST is instance hours by those of the optimum; J is COST + 0.1 × VIOLATIONS %.\n",
        );
        text
    }

    /// For programs.
    ///
    /// # Errors
    /// Only numbers and names are in it, so there is none in practice.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

impl Stated {
    fn sentences(&self) -> String {
        let instance = &self.instance;
        let counted = match instance.units {
            1 => "instances".to_owned(),
            units => format!("units, {units} in an instance"),
        };
        format!(
            "{}: {:.2} days, {:.0} requests, {:.0} rps on average, {:.0} at most\n\
             pool {}: {} to {} {counted}, {} rps each\n\
             instance: at most {:.0} rps with {} workers; boots in {:.0} s ± {:.0} %, half for {} s; \
             drains for {} s\n\
             objective: a wait of {:.0} ms; shed after {:.0} ms; seed {}\n\n",
            self.trace,
            self.seconds as f64 / 86_400.0,
            self.requests,
            self.mean_rps,
            self.peak_rps,
            self.pool,
            self.min,
            self.max,
            self.target_requests_per_second
                .map_or_else(|| "learnt".into(), |rate| rate.to_string()),
            instance.capacity_rps,
            instance.workers,
            instance.boot_s,
            instance.boot_spread * 100.0,
            instance.warm_up_s,
            instance.drain_s,
            instance.slo_wait_s * 1_000.0,
            instance.shed_wait_s * 1_000.0,
            self.seed,
        )
    }
}
