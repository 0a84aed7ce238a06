//! The scaling agent of a pool: what it keeps true, and where its instances come from.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Share, ZoneId};
use crate::config::later;
use crate::config::raw::{self, File};
use crate::config::read::List;
use crate::config::scalar::ProvisionerKind;
use crate::config::text::{Name, Port};
use crate::model::{Listener, Pool, ProcessSettings, Provisioning, ScaleIn, Scaling, StopPolicy};

use super::{Chosen, Compiler, first_written};

/// Zone k of the process provisioner is `127.0.k.x`.
const MOST_ZONES: usize = 254;

impl Compiler<'_> {
    /// Scaling and provisioner of a pool: both, or neither.
    pub(super) fn agent(
        &mut self,
        raw: &raw::Pool,
        base: &raw::Pool,
        port: Option<Port>,
    ) -> (Option<Scaling>, Option<Provisioning>) {
        let is_provisioned = raw.provisioner.table.present || base.provisioner.table.present;
        let is_scaled = raw.scaling.table.present || (is_provisioned && base.scaling.table.present);
        match (is_scaled, is_provisioned) {
            (true, false) => {
                let hint = "add a provisioner, from which new instances come";
                self.fault(
                    raw.scaling.table.place,
                    &raw.scaling.table.path,
                    "has no provisioner",
                    hint,
                );
            }
            (false, true) => {
                let from = if raw.provisioner.table.present {
                    &raw.provisioner
                } else {
                    &base.provisioner
                };
                let hint =
                    format!("add [{}.scaling], which says how many instances", raw.table.path);
                self.fault(from.table.place, &from.table.path, "has no scaling beside it", &hint);
            }
            _ => {}
        }
        let scaling = if is_scaled { self.scaling(&raw.scaling, &base.scaling) } else { None };
        let provisioning = if is_provisioned { self.provisioner(raw, base, port) } else { None };
        (scaling, provisioning)
    }

    fn scaling(&mut self, raw: &raw::Scaling, base: &raw::Scaling) -> Option<Scaling> {
        let min = self.pick(&raw.min, &base.min, 1);
        let max = self.required(&raw.max, Some(&base.max), "write the most instances there may be");
        let rate = self.required(
            &raw.target_requests_per_second,
            Some(&base.target_requests_per_second),
            "write the rate that one instance carries in steady state",
        );
        let scale_in = ScaleIn {
            hold: self.pick(&raw.scale_in.hold, &base.scale_in.hold, Duration::from_secs(300)),
            rate: self.pick(&raw.scale_in.rate, &base.scale_in.rate, Share(0.1)),
        };
        if min == 0
            && let Some((place, key)) = first_written(&[&raw.min, &base.min])
        {
            let problem = format!("0 is {}", later::sentence("scale to zero"));
            self.fault(place, key, problem, "write at least 1");
        }
        let max = max?;
        if min > max.value.0 {
            let (place, key) =
                first_written(&[&raw.min, &base.min]).unwrap_or((max.place, &max.key));
            let problem = format!("min {min} is above max {}", max.value.0);
            self.fault(place, key, problem, "");
        }
        Some(Scaling { min, max: max.value.0, target_requests_per_second: rate?.value.0, scale_in })
    }

    fn provisioner(
        &mut self,
        raw: &raw::Pool,
        base: &raw::Pool,
        port: Option<Port>,
    ) -> Option<Provisioning> {
        let (own, inherited) = (&raw.provisioner, &base.provisioner);
        let kind = self.required(&own.kind, Some(&inherited.kind), "write kind = \"process\"")?;
        match kind.value {
            ProvisionerKind::Process => {}
        }
        let hint = "write it like [\"{self}\", \"whoami\", \"--listen\", \"{address}\"]";
        let command = self.required(&own.command, Some(&inherited.command), hint);
        let hint = "write it like zones = [\"a\", \"b\", \"c\"]";
        let zones = self.required(&own.zones, Some(&inherited.zones), hint);
        let stop = self.pick(&own.stop, &inherited.stop, StopPolicy::Terminate);
        if !raw.port.is_present() && !base.port.is_present() {
            let problem = "is missing: it is where provisioned instances listen";
            self.fault(raw.table.place, &raw.port.key, problem, "write it like port = 8000");
        }
        if let Some(zones) = &zones {
            self.process_zones(zones);
        }
        // What is missing is a fault by now. The port still counts for those of other pools.
        let command = command.map_or_else(Vec::new, |command| command.value.0);
        let zones = zones.map_or_else(Vec::new, |zones| zones.value.0);
        Some(Provisioning::Process(ProcessSettings {
            command: command.into_iter().map(|argument| argument.value).collect(),
            zones: zones.into_iter().map(|zone| ZoneId::new(zone.value.0)).collect(),
            port: port?.0,
            stop,
        }))
    }

    fn process_zones(&self, zones: &Chosen<List<Name>>) {
        let names = &zones.value.0;
        if names.len() > MOST_ZONES {
            let problem = format!("{} zones are more than {MOST_ZONES}", names.len());
            self.fault(zones.place, &zones.key, problem, "zone k is 127.0.k.x");
        }
        for (index, zone) in names.iter().enumerate() {
            if names[..index].iter().any(|other| other.value == zone.value) {
                let problem = format!("the zone {:?} is there twice", zone.value.0);
                self.fault(zone.place, &zones.key, problem, "");
            }
        }
    }

    /// The process provisioner gives every pool the same addresses, so the ports must differ; nor
    /// may anything else listen on them.
    pub(super) fn process_ports(&self, file: &File, pools: &[Arc<Pool>], listeners: &[Listener]) {
        let mut taken: Vec<(u16, &Pool)> = Vec::new();
        for ((_, raw), pool) in file.pools.iter().zip(pools) {
            let Some(Provisioning::Process(process)) = &pool.provisioning else { continue };
            let (place, key) = first_written(&[&raw.port, &file.defaults.pool.port])
                .unwrap_or((raw.table.place, &raw.table.path));
            let port = process.port;
            if let Some((_, other)) = taken.iter().find(|(taken, _)| *taken == port) {
                let problem = format!(
                    "{port} is the port of the pool {:?} too: their instances would have the same \
                     addresses",
                    other.id
                );
                self.fault(place, key, problem, "give each pool with kind = \"process\" its own");
            }
            let collides = |bind: &SocketAddr| bind.port() == port && bind.ip().is_unspecified();
            for listener in listeners {
                if let Some(bind) = listener.bind.iter().find(|bind| collides(bind)) {
                    let problem = format!(
                        "the listener {:?} takes port {port} on every address ({bind}), also on \
                         those of the instances",
                        listener.id
                    );
                    self.fault(place, key, problem, "use another port, or bind one address");
                }
            }
            taken.push((port, pool));
        }
    }
}
