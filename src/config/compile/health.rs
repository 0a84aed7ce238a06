//! Health checks.

use std::time::Duration;

use crate::config::fault::Place;
use crate::config::health::Statuses;
use crate::config::http::{Fields, Method, is_framing};
use crate::config::raw;
use crate::config::read::{At, Given, List, State};
use crate::config::scalar::{CheckKind, Period, Positive, Printed};
use crate::config::text::UrlPath;
use crate::model::{AgentCheck, GrpcCheck, HealthCheck, HealthSettings, HttpCheck};

use super::{Compiler, first_written};

/// An instance that answers live requests well is probed this many times more rarely.
const SERVING_INTERVALS: u32 = 4;

/// A key that stands in the table of a pool: its name and its place.
fn written<T>(given: &Given<T>) -> Option<(Place, &str)> {
    given.is_present().then_some((given.place, given.key.as_str()))
}

impl Compiler<'_> {
    /// `by_tls` is how the pool's traffic goes. Checks that ask what traffic asks go where it goes in the
    /// same way.
    pub(super) fn health(
        &mut self,
        raw: &raw::Health,
        base: &raw::Health,
        by_tls: bool,
    ) -> HealthSettings {
        let kind = self.pick(&raw.kind, &base.kind, CheckKind::Tcp);
        let check = match kind {
            CheckKind::None => HealthCheck::None,
            CheckKind::Tcp | CheckKind::Tls => HealthCheck::Tcp,
            CheckKind::Http | CheckKind::Https => HealthCheck::Http(self.http_check(raw, base)),
            CheckKind::Grpc => HealthCheck::Grpc(self.grpc_check(raw, base)),
        };
        if !matches!(raw.kind.state, State::Wrong) {
            self.foreign_to(kind, raw);
        }
        let port = self.choose(&raw.check_port, Some(&base.check_port), None);
        let seconds = |count| Period(Duration::from_secs(count));
        let interval = self.pick(&raw.interval, &base.interval, seconds(5)).0;
        let timeout = self.pick(&raw.timeout, &base.timeout, seconds(2)).0;
        if timeout > interval && kind != CheckKind::None {
            let written = [&raw.timeout, &base.timeout, &raw.interval, &base.interval];
            let (place, key) =
                first_written(&written).unwrap_or((raw.table.place, &raw.table.path));
            let problem = format!(
                "the timeout {} is longer than the interval {}",
                timeout.print(),
                interval.print()
            );
            self.fault(place, key, problem, "a probe must end before the next one starts");
        }
        let seldom = Period(SERVING_INTERVALS * interval);
        let serving_interval = self.pick(&raw.serving_interval, &base.serving_interval, seldom).0;
        if serving_interval < interval {
            let written =
                [&raw.serving_interval, &base.serving_interval, &raw.interval, &base.interval];
            let (place, key) =
                first_written(&written).unwrap_or((raw.table.place, &raw.table.path));
            let problem = format!(
                "the serving_interval {} is shorter than the interval {}",
                serving_interval.print(),
                interval.print()
            );
            self.fault(place, key, problem, "it is for fewer probes; the same turns it off");
        }
        let tls = match kind {
            CheckKind::Https | CheckKind::Tls => true,
            CheckKind::Http | CheckKind::Grpc => by_tls && port.is_none(),
            CheckKind::Tcp | CheckKind::None => false,
        };
        HealthSettings {
            check,
            tls,
            port: port.map(|port| port.value.0),
            agent: self.agent_check(&raw.agent, &base.agent, interval),
            interval,
            serving_interval,
            timeout,
            rise: self.pick(&raw.rise, &base.rise, Positive(2)).0,
            fall: self.pick(&raw.fall, &base.fall, Positive(3)).0,
        }
    }

    /// Keys of other kinds of checks are faults: somebody counts on them.
    fn foreign_to(&mut self, kind: CheckKind, raw: &raw::Health) {
        const HTTP: &[CheckKind] = &[CheckKind::Http, CheckKind::Https];
        const NAMED: &[CheckKind] = &[CheckKind::Http, CheckKind::Https, CheckKind::Grpc];
        for (written, kinds) in [
            (written(&raw.method), HTTP),
            (written(&raw.url_path), HTTP),
            (written(&raw.headers), HTTP),
            (written(&raw.status), HTTP),
            (written(&raw.body), HTTP),
            (written(&raw.host), NAMED),
            (written(&raw.service), &[CheckKind::Grpc]),
        ] {
            if let Some((place, key)) = written
                && !kinds.contains(&kind)
            {
                let word = if kinds == HTTP || kinds == NAMED { "HTTP" } else { "gRPC" };
                let hint = format!("add type = {:?}", word.to_lowercase());
                self.fault(place, key, format!("is only for checks by {word}"), &hint);
            }
        }
    }

    fn grpc_check(&mut self, raw: &raw::Health, base: &raw::Health) -> GrpcCheck {
        let service = self.choose(&raw.service, Some(&base.service), None);
        GrpcCheck {
            service: service.map_or_else(String::new, |service| service.value.0),
            host: self.choose(&raw.host, Some(&base.host), None).map(|host| host.value.0),
        }
    }

    fn agent_check(
        &mut self,
        raw: &raw::HealthAgent,
        base: &raw::HealthAgent,
        interval: Duration,
    ) -> Option<AgentCheck> {
        if !raw.table.present && !base.table.present {
            return None;
        }
        let port = self.required(&raw.port, Some(&base.port), "write where the agent listens");
        let interval = self.pick(&raw.interval, &base.interval, Period(interval)).0;
        Some(AgentCheck { port: port?.value.0, interval })
    }

    fn http_check(&mut self, raw: &raw::Health, base: &raw::Health) -> HttpCheck {
        let method = self.pick(&raw.method, &base.method, Method("GET".into())).0;
        let headers = self.pick(&raw.headers, &base.headers, Fields(Vec::new())).0;
        let from = if raw.headers.is_present() { &raw.headers } else { &base.headers };
        for (name, _) in &headers {
            if name == "host" {
                let problem = "host has a key of its own";
                self.fault(from.place, &from.key, problem, "write host = \"app.example.com\"");
            } else if is_framing(name) {
                let problem = format!("{name} is the probe's own");
                self.fault(from.place, &from.key, problem, "leave it out");
            }
        }
        let usual = List(vec![At { value: Statuses(200..=399), place: Place::default() }]);
        let status = self.pick(&raw.status, &base.status, usual);
        let body = self.choose(&raw.body, Some(&base.body), None).map(|body| body.value.0);
        if method == "HEAD" && body.is_some() {
            let from = if raw.body.is_present() { &raw.body } else { &base.body };
            let problem = "answers to HEAD have no body";
            self.fault(from.place, &from.key, problem, "use GET");
        }
        HttpCheck {
            method,
            path: self.pick(&raw.url_path, &base.url_path, UrlPath("/".into())).0,
            host: self.choose(&raw.host, Some(&base.host), None).map(|host| host.value.0),
            headers,
            status: status.0.into_iter().map(|range| range.value.0).collect(),
            body,
        }
    }
}
