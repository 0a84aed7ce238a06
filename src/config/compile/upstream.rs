//! How instances are connected to.

use std::net::IpAddr;

use crate::config::raw;
use crate::config::scalar::Period;
use crate::model::{KeepAlive, Provisioning, StaticInstance, UpstreamSettings, UpstreamVersion};

use super::{Compiler, first_written};

impl Compiler<'_> {
    pub(super) fn upstream(&mut self, raw: &raw::Pool, base: &raw::Pool) -> UpstreamSettings {
        let built_in = KeepAlive::default();
        let (own, inherited) = (&raw.keep_alive, &base.keep_alive);
        let version = self.pick(&raw.upstream, &base.upstream, UpstreamVersion::Http1);
        let tls = self.pool_tls(&raw.upstream_tls, &base.upstream_tls);
        let proxy_protocol = self.own(&raw.proxy_protocol, None);
        if let Some(header) = proxy_protocol.filter(|_| version == UpstreamVersion::H2) {
            let problem =
                format!("{:?} tells of one client, and h2 shares connections", header.word());
            let given = &raw.proxy_protocol;
            self.fault(given.place, &given.key, problem, "write \"off\", or upstream = \"http1\"");
        }
        UpstreamSettings {
            version,
            tls,
            keep_alive: KeepAlive {
                max: self.pick(&own.max, &inherited.max, built_in.max),
                age: self.pick(&own.age, &inherited.age, Period(built_in.age)).0,
                requests: self.pick(&own.requests, &inherited.requests, built_in.requests),
            },
            source: self.choose(&raw.source, Some(&base.source), None).map(|it| it.value.0),
            socket: self.socket(&raw.tcp, &base.tcp),
            proxy_protocol,
            rewrite: self.rewrite(&raw.edits.0),
        }
    }

    /// Connections can only come from an address of the family of what they go to.
    pub(super) fn check_source(
        &self,
        raw: &raw::Pool,
        base: &raw::Pool,
        instances: &[StaticInstance],
        provisioning: Option<&Provisioning>,
    ) {
        let given = [&raw.source, &base.source];
        let Some(source) = given.iter().find(|it| it.is_present()).and_then(|it| it.value()) else {
            return;
        };
        let is_other = |ip: IpAddr| ip.is_ipv4() != source.0.is_ipv4();
        let mut instances = instances.iter().map(|instance| instance.address.ip());
        let other = instances.find(|ip| is_other(*ip)).map(|ip| ip.to_string()).or_else(|| {
            let Provisioning::Process(_) = provisioning?;
            source.0.is_ipv6().then(|| "127.0.k.n, where its instances are".to_owned())
        });
        if let (Some(other), Some((place, key))) = (other, first_written(&given)) {
            let problem = format!("no connection from {} can reach {other}", source.0);
            self.fault(place, key, problem, "write an address of the same family");
        }
    }
}
