//! Rules that a pool scales by.

use std::time::Duration;

use crate::config::bound::Span;
use crate::config::raw;
use crate::config::read::Given;
use crate::config::scaling::Threshold;
use crate::model::Rule;
use crate::model::rule::{Metric, Statistic};

use super::Compiler;

/// How long a rule looks back, and lets nothing follow it, unless it says.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

impl Compiler<'_> {
    pub(super) fn rules(&mut self, given: &Given<Vec<raw::Rule>>) -> Vec<Rule> {
        if given.value().is_some_and(Vec::is_empty) {
            self.fault(given.place, &given.key, "is an empty list", "leave it out");
        }
        given.items().iter().filter_map(|raw| self.rule(raw)).collect()
    }

    fn rule(&mut self, raw: &raw::Rule) -> Option<Rule> {
        let metric = self.required(&raw.metric, None, "write what it looks at");
        let window = self.own(&raw.window, Span(FIVE_MINUTES)).0;
        let statistic = self.own(&raw.statistic, Statistic::Average);
        let operator = self.required(&raw.operator, None, "write \">\", \">=\", \"<\" or \"<=\"");
        let threshold = self.required(&raw.threshold, None, "write what it is compared with");
        let hint = "write what it does to the size, like \"+1\" or \"-20%\"";
        let change = self.required(&raw.change, None, hint);
        let cooldown = self.own(&raw.cooldown, Span(FIVE_MINUTES)).0;
        let (metric, threshold) = (metric?, threshold?);
        let value = match (metric.value, threshold.value) {
            (Metric::Latency, Threshold::Time(time)) => time.as_secs_f64(),
            (Metric::Latency, Threshold::Number(_)) => {
                let hint = "write it like \"200ms\"";
                self.fault(threshold.place, &threshold.key, "has no unit, and latency has", hint);
                return None;
            }
            (_, Threshold::Number(number)) => number,
            (other, Threshold::Time(_)) => {
                let problem = format!("is a time, and {} is a number", other.word());
                self.fault(threshold.place, &threshold.key, problem, "");
                return None;
            }
        };
        Some(Rule {
            metric: metric.value,
            window,
            statistic,
            operator: operator?.value,
            threshold: value,
            change: change?.value,
            cooldown,
        })
    }
}
