//! The scaling agent of a pool: what it keeps true, and where its instances come from.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{SizeId, ZoneId};
use crate::config::bound::OrAuto;
use crate::config::fault::did_you_mean;
use crate::config::raw::{self, File};
use crate::config::read::{Given, List, State};
use crate::config::scalar::{Positive, ProvisionerKind, Rate};
use crate::config::scaling::Growth;
use crate::config::text::{Name, Port};
use crate::model::{
    Listener, Pool, ProcessSettings, Provisioning, RateTarget, Resizing, Roll, ScaleIn, ScaleOut,
    Scaling, SizeClass, StopPolicy, ZoneRedundancy,
};

use super::{Chosen, Compiler, first_written};

/// Zone k of the process provisioner is `127.0.k.x`.
const MOST_ZONES: usize = 254;

/// What a list says that is inherited whole.
fn or_inherited<'g, T>(own: &'g Given<Vec<T>>, inherited: &'g Given<Vec<T>>) -> &'g Given<Vec<T>> {
    if own.is_present() { own } else { inherited }
}

impl Compiler<'_> {
    /// Scaling and provisioner of a pool: both, or neither.
    pub(super) fn agent(
        &mut self,
        raw: &raw::Pool,
        base: &raw::Pool,
        port: Option<Port>,
    ) -> (Option<Arc<Scaling>>, Option<Provisioning>) {
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
        if let (Some(scaling), Some(Provisioning::Process(process))) = (&scaling, &provisioning)
            && scaling.zone_redundancy == ZoneRedundancy::OneZone
            && process.zones.len() == 1
        {
            let written = [&raw.scaling.zone_redundancy, &base.scaling.zone_redundancy];
            let (place, key) = first_written(&written)
                .unwrap_or((raw.scaling.table.place, &raw.scaling.table.path));
            let problem = "\"n+1\" needs another zone than the one there is";
            self.fault(place, key, problem, "add one to the zones of the provisioner");
        }
        (scaling.map(Arc::new), provisioning)
    }

    fn scaling(&mut self, raw: &raw::Scaling, base: &raw::Scaling) -> Option<Scaling> {
        let built_in = Scaling::new(1, 1, 0.0);
        let mode = self.pick(&raw.mode, &base.mode, built_in.mode);
        let min = self.pick(&raw.min, &base.min, built_in.min);
        let max = self.required(&raw.max, Some(&base.max), "write the most instances there may be");
        let rate = self.choose(
            &raw.target_requests_per_second,
            Some(&base.target_requests_per_second),
            None,
        );
        let in_flight = self.choose(&raw.target_in_flight, Some(&base.target_in_flight), None);
        let latency = self.choose(&raw.target_latency, Some(&base.target_latency), None);
        self.check_targets(raw, base);
        if let Some(max) = &max
            && min > max.value.0
        {
            let (place, key) =
                first_written(&[&raw.min, &base.min]).unwrap_or((max.place, &max.key));
            let problem = format!("min {min} is above max {}", max.value.0);
            self.fault(place, key, problem, "");
        }
        let prediction = self.pick(&raw.prediction, &base.prediction, built_in.prediction);
        let standby = self.pick(&raw.standby, &base.standby, built_in.standby);
        let zone_redundancy =
            self.pick(&raw.zone_redundancy, &base.zone_redundancy, built_in.zone_redundancy);
        let zone_balance = self.pick(&raw.zone_balance, &base.zone_balance, built_in.zone_balance);
        let growth = Growth(built_in.scale_out.rate);
        let scale_out =
            ScaleOut { rate: self.pick(&raw.scale_out.rate, &base.scale_out.rate, growth).0 };
        let (own, inherited) = (&raw.scale_in, &base.scale_in);
        let scale_in = ScaleIn {
            hold: self.pick(&own.hold, &inherited.hold, built_in.scale_in.hold),
            rate: self.pick(&own.rate, &inherited.rate, built_in.scale_in.rate),
        };
        let lead_time = self.pick(&raw.lead_time, &base.lead_time, OrAuto(None)).0;
        let max_pending = self.pick(&raw.max_pending, &base.max_pending, built_in.max_pending);
        let sizes = self.sizes(raw, base);
        let size = self.size(raw, base, &sizes);
        let resize = self.resize(raw, base, &sizes);
        let (own, inherited) = (&raw.roll, &base.roll);
        let roll = Roll {
            batch: self.pick(&own.batch, &inherited.batch, built_in.roll.batch),
            max_unhealthy: self.pick(
                &own.max_unhealthy,
                &inherited.max_unhealthy,
                built_in.roll.max_unhealthy,
            ),
            pause: self.pick(&own.pause, &inherited.pause, built_in.roll.pause),
        };
        let limits = (min, max.as_ref().map_or(u32::MAX, |max| max.value.0));
        let schedules = self.schedules(or_inherited(&raw.schedules, &base.schedules), limits);
        let rules = self.rules(or_inherited(&raw.rules, &base.rules));
        Some(Scaling {
            mode,
            min,
            max: max?.value.0,
            target_requests_per_second: rate.map(|rate| match rate.value.0 {
                Some(rate) => RateTarget::Stated(rate.0),
                None => RateTarget::Learn,
            }),
            target_in_flight: in_flight.map(|target| target.value.0),
            target_latency: latency.map(|target| target.value.0),
            prediction,
            standby,
            zone_redundancy,
            zone_balance,
            scale_out,
            scale_in,
            lead_time: lead_time.map(|time| time.0),
            max_pending,
            size,
            sizes,
            resize,
            roll,
            schedules,
            rules,
        })
    }

    /// Something must say how large the pool should be.
    fn check_targets(&self, raw: &raw::Scaling, base: &raw::Scaling) {
        let says = |scaling: &raw::Scaling| {
            scaling.target_requests_per_second.is_present()
                || scaling.target_in_flight.is_present()
                || scaling.target_latency.is_present()
                || scaling.rules.is_present()
        };
        if !says(raw) && !says(base) {
            let hint = "write the rate that one instance carries in steady state, \"learn\", another \
                        target, or rules";
            let key = &raw.target_requests_per_second;
            self.fault(key.place, &key.key, "is missing", hint);
        }
    }

    fn sizes(&mut self, raw: &raw::Scaling, base: &raw::Scaling) -> Vec<SizeClass> {
        let given = or_inherited(&raw.sizes, &base.sizes);
        let mut sizes: Vec<SizeClass> = Vec::with_capacity(given.items().len());
        for raw in given.items() {
            let name = self.required(&raw.name, None, "write what the provider knows it by");
            let units = self.own(&raw.units, Positive(1)).0;
            let cost = self.own(&raw.cost, Rate(f64::from(units))).0;
            let Some(name) = name else { continue };
            if sizes.iter().any(|other| other.name.as_str() == name.value.0) {
                let problem = format!("the size {:?} is there twice", name.value.0);
                self.fault(name.place, &name.key, problem, "");
                continue;
            }
            sizes.push(SizeClass { name: SizeId::new(name.value.0), units, cost });
        }
        if given.value().is_some_and(Vec::is_empty) {
            self.fault(given.place, &given.key, "is an empty list", "leave it out");
        }
        sizes
    }

    /// The first of `sizes` unless another is named. A name without `sizes` is one that only the
    /// provider knows.
    fn size(
        &mut self,
        raw: &raw::Scaling,
        base: &raw::Scaling,
        sizes: &[SizeClass],
    ) -> Option<SizeClass> {
        let first = sizes.first().map(|size| Name(size.name.to_string()));
        let name = self.choose(&raw.size, Some(&base.size), first)?;
        let known = sizes.iter().find(|size| size.name.as_str() == name.value.0);
        let given = or_inherited(&raw.sizes, &base.sizes);
        if known.is_none() && given.is_present() {
            // Sizes with faults could be the one.
            if sizes.len() == given.items().len() && !matches!(given.state, State::Wrong) {
                let names = sizes.iter().map(|size| size.name.as_str());
                let problem = format!("there is no size {:?}", name.value.0);
                self.sink.add(name.place, &name.key, problem, did_you_mean(&name.value.0, names));
            }
            return None;
        }
        let alone = || SizeClass { name: SizeId::new(&name.value.0), units: 1, cost: 1.0 };
        Some(known.cloned().unwrap_or_else(alone))
    }

    fn resize(&mut self, raw: &raw::Scaling, base: &raw::Scaling, sizes: &[SizeClass]) -> Resizing {
        let resize = self.pick(&raw.resize, &base.resize, Resizing::Off);
        let given = or_inherited(&raw.sizes, &base.sizes);
        if resize != Resizing::Off
            && given.items().len() < 2
            && !matches!(given.state, State::Wrong)
            && let Some((place, key)) = first_written(&[&raw.resize, &base.resize])
        {
            let problem = format!(
                "needs two sizes to choose from, and there {}",
                match sizes {
                    [] => "is none",
                    _ => "is one",
                }
            );
            let hint =
                "write them like sizes = [{ name = \"small\" }, { name = \"large\", units = 2 }]";
            self.fault(place, key, problem, hint);
        }
        resize
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
