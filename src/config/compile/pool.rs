//! Pools: how traffic is spread over their instances, and which those are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, PoolId, Share, ZoneId};
use crate::config::bound::{Bytes, OrOff, Span};
use crate::config::raw::{self, File};
use crate::config::read::{At, Given, State};
use crate::config::scalar::{Period, Positive, Wrong};
use crate::config::text::{Name, Port};
use crate::model::{
    Balance, Limit, Listener, Pool, PoolTimeouts, Provisioning, Queue, Retry, StaticInstance,
};

use super::Compiler;

impl Compiler<'_> {
    pub(super) fn pools(&mut self, file: &File, listeners: &[Listener]) -> Vec<Arc<Pool>> {
        let base = &file.defaults.pool;
        let home = &file.node.zone;
        let pools: Vec<Arc<Pool>> = file
            .pools
            .iter()
            .map(|(name, raw)| self.pool(name, raw, base, home, listeners))
            .map(Arc::new)
            .collect();
        self.process_ports(file, &pools, listeners);
        pools
    }

    fn pool(
        &mut self,
        name: &At<String>,
        raw: &raw::Pool,
        base: &raw::Pool,
        home: &Given<Name>,
        listeners: &[Listener],
    ) -> Pool {
        if let Err(Wrong { problem, hint }) = Name::checked(&name.value) {
            self.sink.add(name.place, &raw.table.path, problem, hint);
        }
        let seconds = |count| Period(Duration::from_secs(count));
        let balance = self.pick(&raw.balance, &base.balance, Balance::LeastRequest);
        let affinity = self.affinity(raw, base, balance);
        self.check_affinity(raw, base, balance, listeners, &name.value);
        let port = self.choose(&raw.port, Some(&base.port), None).map(|port| port.value);
        let max_in_flight = self.pick(&raw.max_in_flight, &base.max_in_flight, Limit::AtMost(200));
        let queue = self.queue(&raw.queue, &base.queue);
        let (own, inherited) = (&raw.timeouts, &base.timeouts);
        let timeouts = PoolTimeouts {
            connect: self.pick(&own.connect, &inherited.connect, seconds(3)).0,
            response: self.pick(&own.response, &inherited.response, seconds(30)).0,
            body: self.pick(&own.body, &inherited.body, seconds(60)).0,
            idle: self.pick(&own.idle, &inherited.idle, seconds(30)).0,
            tunnel: self.pick(&own.tunnel, &inherited.tunnel, seconds(3_600)).0,
            total: self.pick(&own.total, &inherited.total, seconds(24 * 3_600)).0,
        };
        let per_try = self.pick(&raw.retry.per_try, &base.retry.per_try, OrOff(None)).0;
        let retry = Retry {
            attempts: self.pick(&raw.retry.attempts, &base.retry.attempts, 2),
            budget: self.pick(&raw.retry.budget, &base.retry.budget, Share(0.2)),
            per_try: per_try.map(|period| period.0),
        };
        let upstream = self.upstream(raw, base);
        let drain_timeout = self.pick(&raw.drain_timeout, &base.drain_timeout, seconds(60)).0;
        let instances = self.instances(raw, base, port);
        let health = self.health(&raw.health, &base.health);
        if upstream.tls.is_some() && health.port.is_none() {
            self.no_plain_questions(&health, raw, base);
        }
        let outlier = self.outlier(&raw.outlier, &base.outlier);
        let built_in = Duration::from_secs(30);
        let slow_start =
            self.pick(&raw.slow_start, &base.slow_start, OrOff(Some(Span(built_in)))).0;
        let (scaling, provisioning) = self.agent(raw, base, port);
        let known = match &provisioning {
            Some(Provisioning::Process(process)) => process.zones.as_slice(),
            None => &[],
        };
        let known = instances.iter().map(|one| &one.zone).chain(known).collect();
        let zones = self.zones((&raw.zones, &base.zones), home, &known);
        self.check_source(raw, base, &instances, provisioning.as_ref());
        Pool {
            id: PoolId::new(&name.value),
            balance,
            affinity,
            max_in_flight,
            queue,
            timeouts,
            retry,
            upstream,
            drain_timeout,
            instances,
            health,
            outlier,
            slow_start: slow_start.map(|window| window.0),
            zones,
            scaling,
            provisioning,
        }
    }

    fn queue(&mut self, raw: &raw::Queue, base: &raw::Queue) -> Queue {
        let built_in = Queue::default();
        Queue {
            max: self.pick(&raw.max, &base.max, built_in.max),
            timeout: self.pick(&raw.timeout, &base.timeout, Period(built_in.timeout)).0,
            bytes: self.pick(&raw.bytes, &base.bytes, Bytes(built_in.bytes)).0,
            order: self.pick(&raw.order, &base.order, built_in.order),
        }
    }

    fn instances(
        &mut self,
        raw: &raw::Pool,
        base: &raw::Pool,
        port: Option<Port>,
    ) -> Vec<StaticInstance> {
        let given = raw.instances.items();
        let is_provisioned = raw.provisioner.table.present || base.provisioner.table.present;
        if given.is_empty() && !matches!(raw.instances.state, State::Wrong) && !is_provisioned {
            let problem = "has neither instances nor a provisioner";
            let hint = "add instances = [{ address = \"IP:PORT\" }]";
            self.fault(raw.table.place, &raw.table.path, problem, hint);
        }
        let port_is_wrong = port.is_none() && (raw.port.is_present() || base.port.is_present());
        let mut instances: Vec<StaticInstance> = Vec::with_capacity(given.len());
        for raw in given {
            if let Some(instance) = self.instance(raw, port, port_is_wrong) {
                self.check_unique(raw, &instance, &instances);
                instances.push(instance);
            }
        }
        instances
    }

    fn instance(
        &mut self,
        raw: &raw::Instance,
        port: Option<Port>,
        port_is_wrong: bool,
    ) -> Option<StaticInstance> {
        let address = self.required(&raw.address, None, "write address = \"IP:PORT\"");
        let zone = self.own(&raw.zone, Name("default".into())).0;
        let weight = self.own(&raw.weight, Positive(1)).0;
        let address = address?;
        let Some(port) = address.value.port.or(port.map(|port| port.0)) else {
            if !port_is_wrong {
                let problem = format!("{} has no port, and the pool has none", address.value.ip);
                self.fault(address.place, &address.key, problem, "add port to one of them");
            }
            return None;
        };
        let address = SocketAddr::new(address.value.ip, port);
        let id = self.own(&raw.id, Name(address.to_string())).0;
        Some(StaticInstance { id: InstanceId::new(id), address, zone: ZoneId::new(zone), weight })
    }

    fn check_unique(
        &self,
        raw: &raw::Instance,
        instance: &StaticInstance,
        before: &[StaticInstance],
    ) {
        if before.iter().any(|other| other.address == instance.address) {
            let problem = format!("{} is in the pool twice", instance.address);
            let hint = "give one instance a higher weight instead";
            self.fault(raw.address.place, &raw.address.key, problem, hint);
        } else if before.iter().any(|other| other.id == instance.id) {
            let problem = format!("another instance of the pool has the id {:?} too", instance.id);
            self.fault(raw.id.place, &raw.id.key, problem, "ids are unique within a pool");
        }
    }
}
