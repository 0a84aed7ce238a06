//! The instances of one pool, from the two sources that name them: the config and the
//! provisioner's list.

use std::collections::HashSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, Ms, PoolId, ZoneId};
use crate::fleet::agent::Line;
use crate::fleet::change::Change;
use crate::fleet::member::{Books, Member, Origin, Site};
use crate::fleet::order::{ProbeError, ProbeOrder};
use crate::fleet::watch::Watch;
use crate::fleet::zones::{self, Load, Sign};
use crate::model::{
    Admin, Health, InstanceRow, Life, Machine, MachineState, Pool, PoolRow, Provisioning, Scaling,
    Standing, TrafficPlan,
};

/// How much of what an agent newly says of the demand, which it does once a second, is believed at
/// once when traffic is planned: a time constant of ten seconds.
const BELIEVED: f64 = 0.1;

/// The instances of one pool.
#[derive(Debug)]
pub(super) struct Roster {
    pub pool: Arc<Pool>,
    /// It has left the config, and what was provisioned for it is being taken away.
    pub retired: bool,
    members: BTreeMap<InstanceId, Member>,
    /// Asked for, without an address yet.
    orders: BTreeMap<InstanceId, Order>,
    /// What its agent wants: instances, and the demand in requests per second.
    wants: Option<(u32, f64)>,
    /// Whether its provider has listed what is there.
    listed: bool,
    watch: Watch,
    /// The demand, smoothed for the plan.
    demand_rps: Option<f64>,
    /// Where new requests go.
    plan: TrafficPlan,
}

/// A machine without an address.
#[derive(Debug)]
struct Order {
    zone: ZoneId,
    /// What the agent said before there was an instance to say it of.
    leaving: Option<Life>,
}

impl Roster {
    /// A pool without instances; [`Roster::configure`] brings those of the config.
    pub fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            retired: false,
            members: BTreeMap::new(),
            orders: BTreeMap::new(),
            wants: None,
            listed: false,
            watch: Watch::default(),
            demand_rps: None,
            plan: TrafficPlan::default(),
        }
    }

    /// The pool as the config has it now.
    pub fn configure(&mut self, now: Ms, pool: &Arc<Pool>, books: &mut Books) {
        let before = std::mem::replace(&mut self.pool, Arc::clone(pool));
        books.changed |= self.retired || *before != **pool;
        self.retired = false;
        let named: HashSet<&InstanceId> = pool.instances.iter().map(|one| &one.id).collect();
        self.dismiss_where(books, "left the config", |id, member| {
            member.origin == Origin::Static && !named.contains(id)
        });
        if before.health.check != pool.health.check
            || before.health.port != pool.health.port
            || before.health.interval != pool.health.interval
        {
            for member in self.members.values_mut() {
                member.reschedule(now, &pool.health, books);
            }
        }
        if before.health.agent != pool.health.agent {
            for member in self.members.values_mut() {
                member.set_agent(now, pool.health.agent, books);
            }
        }
        for one in &pool.instances {
            let site = Site { zone: &one.zone, address: one.address, weight: one.weight };
            self.place(now, &one.id, site, Origin::Static, books);
        }
    }

    /// The pool has left the config. Says whether anything of it remains (or may yet come) that
    /// its agent has to take away.
    pub fn retire(&mut self, books: &mut Books) -> bool {
        books.changed |= !self.retired;
        self.retired = true;
        self.wants = None;
        self.dismiss_where(books, "its pool left the config", |_, member| {
            member.origin == Origin::Static
        });
        self.pool.provisioning.is_some() || !self.members.is_empty() || !self.orders.is_empty()
    }

    /// Nothing that was provisioned exists any more.
    pub fn forget_provisioned(&mut self, books: &mut Books) {
        self.orders.clear();
        self.wants = None;
        books.changed = true;
        self.dismiss_where(books, "its pool is no longer provisioned", |_, member| {
            member.origin == Origin::Provisioned
        });
    }

    /// Everything that exists, from the provider.
    pub fn handle_listing(&mut self, now: Ms, machines: &[Machine], books: &mut Books) {
        let listed: HashSet<&InstanceId> = machines.iter().map(|machine| &machine.id).collect();
        self.dismiss_where(books, "no longer exists", |id, member| {
            member.origin == Origin::Provisioned && !listed.contains(id)
        });
        let orders = self.orders.len();
        self.orders.retain(|id, _| listed.contains(id));
        books.changed |= self.orders.len() != orders;
        for machine in machines {
            self.see(now, machine, books);
        }
        self.listed = true;
        let id = &self.pool.id;
        if let Some(said) = books.admin.get_mut(id) {
            said.retain(|id, _| listed.contains(id) || self.members.contains_key(id));
        }
        if let Some(said) = books.said.get_mut(id) {
            said.protected.retain(|id| listed.contains(id) || self.members.contains_key(id));
        }
    }

    /// No new traffic to these. One without an address will drain as soon as it has one.
    pub fn drain(&mut self, ids: &[InstanceId], deadline: Ms, books: &mut Books) {
        self.for_provisioned(
            ids,
            books,
            |member, books| member.drain(deadline, books),
            |order| {
                if order.leaving.is_none() {
                    order.leaving = Some(Life::Draining { deadline });
                }
            },
        );
    }

    /// These were draining and are wanted again.
    pub fn revive(&mut self, ids: &[InstanceId], books: &mut Books) {
        self.for_provisioned(ids, books, Member::revive, |order| {
            if order.leaving != Some(Life::Terminating) {
                order.leaving = None;
            }
        });
    }

    /// These are being taken away.
    pub fn terminate(&mut self, ids: &[InstanceId], books: &mut Books) {
        self.for_provisioned(ids, books, Member::terminate, |order| {
            order.leaving = Some(Life::Terminating);
        });
    }

    /// What the agent wants. The demand moves every second and is in every census; it is no reason
    /// to publish one.
    pub fn set_wants(&mut self, desired: u32, demand_rps: f64, books: &mut Books) {
        books.changed |= self.wants.is_none_or(|(before, _)| before != desired);
        self.wants = Some((desired, demand_rps));
        let before = self.demand_rps.unwrap_or(demand_rps);
        self.demand_rps = Some(before + BELIEVED * (demand_rps - before));
    }

    /// Whether there is an instance of that name, or will be.
    pub fn knows(&self, id: &InstanceId) -> bool {
        self.members.contains_key(id) || self.orders.contains_key(id)
    }

    /// Goes on with the drain of this instance; says whether there is nothing more to do.
    pub fn finish_drain(&mut self, now: Ms, id: &InstanceId, books: &mut Books) -> bool {
        self.members.get_mut(id).is_none_or(|member| member.finish_drain(now, books))
    }

    /// The probe of this instance that is due now.
    pub fn ask(&mut self, now: Ms, id: &InstanceId, books: &mut Books) -> Option<ProbeOrder> {
        self.members.get_mut(id)?.ask(now, &self.pool, books)
    }

    /// The question to the agent of this instance that is due now.
    pub fn ask_agent(&mut self, id: &InstanceId) -> Option<ProbeOrder> {
        self.members.get_mut(id)?.ask_agent(&self.pool)
    }

    /// The agent of an instance was asked.
    pub fn handle_agent(
        &mut self,
        now: Ms,
        order: &ProbeOrder,
        said: Option<Line>,
        books: &mut Books,
    ) {
        if let Some(member) = self.members.get_mut(&order.instance.id) {
            member.handle_agent(now, order, said, books);
        }
    }

    /// A probe was made.
    pub fn handle_probe(
        &mut self,
        now: Ms,
        order: &ProbeOrder,
        outcome: &Result<Duration, ProbeError>,
        books: &mut Books,
    ) {
        let id = &order.instance.id;
        let among_last = outcome.is_err() && self.is_among_last(id, books);
        if let Some(member) = self.members.get_mut(id) {
            member.handle_probe(now, among_last, order, outcome, books);
        }
    }

    /// Whether this instance is up, and without it fewer would be than the pool must have to do
    /// without those that fail their probes. Who boots, leaves or is kept out by an operator does
    /// not count.
    fn is_among_last(&self, id: &InstanceId, books: &Books) -> bool {
        let is_up = |member: &Member| member.standing(Admin::Enabled).health == Health::Up;
        if !self.members.get(id).is_some_and(is_up) {
            return false;
        }
        let said = books.admin.get(&self.pool.id);
        let counts = |(id, member): &(&InstanceId, &Member)| {
            let admin = said.and_then(|said| said.get(*id)).copied().unwrap_or(Admin::Enabled);
            let standing = Standing { health: Health::Up, ..member.standing(admin) };
            standing.eligible() && member.life != Life::Booting
        };
        let (mut all, mut left) = (0_u32, 0_u32);
        for (other, member) in self.members.iter().filter(counts) {
            all += 1;
            left += u32::from(other != id && is_up(member));
        }
        left == 0 || f64::from(left) < self.pool.zones.panic_below.0 * f64::from(all)
    }

    /// Looks for instances that traffic waits for in vain.
    pub fn handle_suspicions(&mut self, now: Ms, books: &mut Books) {
        for member in self.members.values_mut() {
            member.handle_suspicion(now, &self.pool.health, books);
        }
    }

    /// What traffic says of them.
    pub fn look(&mut self, now: Ms, books: &mut Books) {
        self.watch.look(now, &self.pool, &mut self.members, books);
    }

    /// What each instance says of its zone.
    pub fn signs(&self, now: Ms) -> impl Iterator<Item = (&ZoneId, Sign)> {
        self.members.values().map(move |member| (&member.instance.zone, member.sign(now)))
    }

    /// The zones where it has, ordered, or may launch instances.
    pub fn zones(&self) -> impl Iterator<Item = &ZoneId> {
        let offered = match &self.pool.provisioning {
            Some(Provisioning::Process(settings)) => settings.zones.as_slice(),
            None => &[],
        };
        let there = self.members.values().map(|member| &member.instance.zone);
        there.chain(self.orders.values().map(|order| &order.zone)).chain(offered)
    }

    /// A zone is lost: what is up there is down until its own probes say otherwise, if something
    /// is well elsewhere.
    pub fn presume_down(&mut self, now: Ms, zone: &ZoneId, why: &str, books: &mut Books) {
        if self.signs(now).any(|(other, sign)| other != zone && matches!(sign, Sign::Well(_))) {
            let there = self.members.values_mut().filter(|member| member.instance.zone == *zone);
            for member in there {
                member.presume_down(now, why, &self.pool.health, books);
            }
        }
    }

    /// How many of its instances in a zone are up, of how many that should be.
    pub fn up_in(&self, zone: &ZoneId) -> (u32, u32) {
        let there = self.members.values().filter(|member| member.instance.zone == *zone);
        let mut count = (0, 0);
        for member in there.filter(|member| !member.life.is_leaving()) {
            let health = member.health();
            count.0 += u32::from(health == Health::Up);
            count.1 += u32::from(health != Health::Pending);
        }
        count
    }

    /// Notes whether the traffic plan has moved since the last census.
    pub fn review_plan(&mut self, books: &mut Books) {
        let instances = self.instances(books);
        books.changed |= self.next_plan(&instances, books) != self.plan;
    }

    fn next_plan(&self, instances: &[InstanceRow], books: &Books) -> TrafficPlan {
        let load = Load {
            demand_rps: self.demand_rps.filter(|_| self.wants.is_some()).unwrap_or(0.0),
            rate: self.pool.scaling.as_ref().and_then(|scaling| scaling.stated_rate()),
        };
        let is_lost = |zone: &ZoneId| books.lost.contains_key(zone);
        zones::steady(&self.plan, zones::plan(&self.pool.zones, instances, &is_lost, load))
    }

    /// Each instance with its three truths, and whether panic admits it; by zone, then by name.
    fn instances(&self, books: &Books) -> Vec<InstanceRow> {
        let said = books.admin.get(&self.pool.id);
        let admin = |id: &InstanceId, zone: &ZoneId| match said.and_then(|said| said.get(id)) {
            Some(said) => *said,
            None if books.evacuated.contains_key(zone) => Admin::Evacuated,
            None => Admin::Enabled,
        };
        let mut rows: Vec<(&Member, InstanceRow)> = Vec::with_capacity(self.members.len());
        for (id, member) in &self.members {
            rows.push((member, member.row(admin(id, &member.instance.zone))));
        }
        let standings = rows.iter().map(|(_, row)| row.standing);
        let panics = zones::in_panic(self.pool.zones.panic_below, standings);
        for (member, row) in &mut rows {
            row.in_panic = panics
                && member.only_probes_object()
                && row.standing.admin == Admin::Enabled
                && matches!(row.standing.life, Life::Booting | Life::Ramping | Life::Serving)
                && !books.lost.contains_key(&row.instance.zone);
        }
        // Members are in the order of their names, and the sort is stable.
        let mut instances: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
        instances.sort_by(|a, b| a.instance.zone.cmp(&b.instance.zone));
        instances
    }

    /// As the census has it.
    pub fn row(&mut self, books: &mut Books) -> PoolRow {
        let instances = self.instances(books);
        for row in &instances {
            // Who is sent somewhere in a panic is to wait for the answer.
            let down = row.standing.health == Health::Down && !row.in_panic;
            row.instance.vitals.set_down(down);
        }
        let plan = self.next_plan(&instances, books);
        if plan.panic != self.plan.panic {
            let (pool, on) = (self.pool.id.clone(), plan.panic);
            books.changes.push(Change::Panic { pool, on });
        }
        self.plan = plan;
        PoolRow { plan: self.plan.clone(), ..self.bare_row(instances, books) }
    }

    /// The same without a plan, and nothing is noted.
    pub fn glance(&self, books: &Books) -> PoolRow {
        self.bare_row(self.instances(books), books)
    }

    fn bare_row(&self, instances: Vec<InstanceRow>, books: &Books) -> PoolRow {
        let pool: &PoolId = &self.pool.id;
        let ordered = self
            .orders
            .iter()
            .filter(|(_, order)| order.leaving.is_none())
            .map(|(id, order)| (id.clone(), order.zone.clone()))
            .collect();
        // An agent that only takes away what it once provisioned has no say in the rest.
        let wants = self.wants.filter(|_| self.pool.provisioning.is_some());
        let (desired, demand_rps) = wants.unwrap_or((self.first_desired(), 0.0));
        PoolRow {
            ordered,
            desired,
            demand_rps,
            said: books.said.get(pool).cloned().unwrap_or_default(),
            evacuated: books.evacuated.keys().cloned().collect(),
            ..PoolRow::new(Arc::clone(&self.pool), instances)
        }
    }

    /// What is desired as long as no agent has said so.
    fn first_desired(&self) -> u32 {
        match &self.pool.scaling {
            _ if self.retired => 0,
            Some(scaling) => scaling.min,
            None => u32::try_from(self.pool.instances.len()).unwrap_or(u32::MAX),
        }
    }

    /// One machine of the provider's list.
    fn see(&mut self, now: Ms, machine: &Machine, books: &mut Books) {
        let id = &machine.id;
        let known = self.members.get(id);
        if known.is_some_and(|member| member.origin == Origin::Static) {
            return;
        }
        // A list that leaves out an address that was there is no news: the probes will tell.
        let Some(address) = machine.address.or(known.map(|member| member.instance.address)) else {
            return self.see_order(machine, books);
        };
        let leaving = self.orders.remove(id).and_then(|order| order.leaving);
        let pool = Arc::clone(&self.pool);
        let units = |scaling: &Arc<Scaling>| scaling.units_of(machine.size.as_deref());
        let weight = pool.scaling.as_ref().map_or(1, units);
        let site = Site { zone: &machine.zone, address, weight };
        let ran_before = !self.listed && machine.state == MachineState::Running;
        let member = self.place(now, id, site, Origin::Provisioned, books);
        if ran_before {
            member.presume_warm();
        }
        let failure = match &machine.state {
            MachineState::Failed(why) => Some(why.as_str()),
            _ => None,
        };
        member.set_failed(now, failure, &pool.health, books);
        match leaving {
            Some(Life::Draining { deadline }) => member.drain(deadline, books),
            Some(_) => member.terminate(books),
            None if machine.state == MachineState::Stopping => member.terminate(books),
            None => {}
        }
    }

    /// One machine that has no address.
    fn see_order(&mut self, machine: &Machine, books: &mut Books) {
        let comes = matches!(machine.state, MachineState::Creating | MachineState::Running);
        if !comes {
            books.changed |= self.orders.remove(&machine.id).is_some();
        } else if !self.orders.contains_key(&machine.id) {
            books.changed = true;
            let order = Order { zone: machine.zone.clone(), leaving: None };
            self.orders.insert(machine.id.clone(), order);
        }
    }

    /// The instance of that name at that site: as it is, moved, or new.
    fn place(
        &mut self,
        now: Ms,
        id: &InstanceId,
        site: Site<'_>,
        origin: Origin,
        books: &mut Books,
    ) -> &mut Member {
        let key = (self.pool.id.clone(), id.clone());
        match self.members.entry(id.clone()) {
            Entry::Vacant(slot) => {
                slot.insert(Member::new(now, key, site, origin, &self.pool.health, books))
            }
            Entry::Occupied(slot) => {
                let member = slot.into_mut();
                if member.origin == origin && member.instance.address == site.address {
                    member.relocate(site, books);
                } else {
                    member.dismiss("another instance has its name now", books);
                    *member = Member::new(now, key, site, origin, &self.pool.health, books);
                }
                member
            }
        }
    }

    /// Removes the instances that `gone` picks, with what operators said of them.
    fn dismiss_where(
        &mut self,
        books: &mut Books,
        why: &'static str,
        mut gone: impl FnMut(&InstanceId, &Member) -> bool,
    ) {
        for (id, member) in self.members.extract_if(.., |id, member| gone(id, member)) {
            books.forget(&self.pool.id, &id);
            member.dismiss(why, books);
        }
    }

    /// Applies what an agent says of its instances. It has no say in those of the config.
    fn for_provisioned(
        &mut self,
        ids: &[InstanceId],
        books: &mut Books,
        mut on_member: impl FnMut(&mut Member, &mut Books),
        mut on_order: impl FnMut(&mut Order),
    ) {
        for id in ids {
            if let Some(order) = self.orders.get_mut(id) {
                on_order(order);
                books.changed = true;
            }
            if let Some(member) = self.members.get_mut(id)
                && member.origin == Origin::Provisioned
            {
                on_member(member, books);
            }
        }
    }
}
