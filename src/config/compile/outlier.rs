//! Which answers take an instance out of traffic for a while.

use crate::config::bound::{Count, OrOff, Span};
use crate::config::raw;
use crate::config::scalar::{Period, Positive, Printed, Rate};
use crate::model::Outlier;

use super::{Compiler, first_written};

impl Compiler<'_> {
    pub(super) fn outlier(&mut self, raw: &raw::Outlier, base: &raw::Outlier) -> Outlier {
        let built_in = Outlier::default();
        let in_a_row = |count: Option<u32>| OrOff(count.map(Positive));
        let times = |times: Option<f64>| OrOff(times.map(Rate));
        let failures = self.pick(&raw.failures, &base.failures, in_a_row(built_in.failures)).0;
        let gateway_failures = in_a_row(built_in.gateway_failures);
        let gateway_failures =
            self.pick(&raw.gateway_failures, &base.gateway_failures, gateway_failures).0;
        let success_rate = times(built_in.success_rate);
        let success_rate = self.pick(&raw.success_rate, &base.success_rate, success_rate).0;
        let latency = self.pick(&raw.latency, &base.latency, times(built_in.latency)).0;
        let interval = self.pick(&raw.interval, &base.interval, Span(built_in.interval)).0;
        let min_requests = Positive(built_in.min_requests);
        let min_requests = self.pick(&raw.min_requests, &base.min_requests, min_requests).0;
        let min_instances = Count(built_in.min_instances);
        let min_instances = self.pick(&raw.min_instances, &base.min_instances, min_instances).0;
        let ejection = self.pick(&raw.ejection, &base.ejection, Period(built_in.ejection)).0;
        let longest = Period(built_in.max_ejection.max(ejection));
        let max_ejection = self.pick(&raw.max_ejection, &base.max_ejection, longest).0;
        if max_ejection < ejection {
            let written = [&raw.max_ejection, &base.max_ejection, &raw.ejection, &base.ejection];
            let (place, key) =
                first_written(&written).unwrap_or((raw.table.place, &raw.table.path));
            let problem = format!(
                "the longest ejection {} is shorter than the first {}",
                max_ejection.print(),
                ejection.print()
            );
            self.fault(place, key, problem, "the n-th ejection lasts n times as long as the first");
        }
        let min_healthy = Positive(built_in.min_healthy);
        Outlier {
            failures: failures.map(|count| count.0),
            gateway_failures: gateway_failures.map(|count| count.0),
            success_rate: success_rate.map(|times| times.0),
            latency: latency.map(|times| times.0),
            interval,
            min_requests,
            min_instances,
            ejection,
            max_ejection,
            max_ejected: self.pick(&raw.max_ejected, &base.max_ejected, built_in.max_ejected),
            min_healthy: self.pick(&raw.min_healthy, &base.min_healthy, min_healthy).0,
        }
    }
}
