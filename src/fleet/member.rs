//! One instance with its three truths, and the books that all instances are entered in.

mod agent;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{InstanceId, Ms, PoolId, ZoneId};
use crate::fleet::agent::Agent;
use crate::fleet::change::{Change, HealthChange};
use crate::fleet::health::{Evidence, Turn, Ward};
use crate::fleet::order::{Asks, ProbeError, ProbeOrder};
use crate::fleet::warmth::Warmth;
use crate::fleet::zones::{Loss, Sign};
use crate::model::{
    Admin, Evacuation, Health, HealthCheck, HealthSettings, Instance, InstanceRow, Life, Pool,
    Said, Standing, Vitals,
};

use self::traffic::Traffic;

/// The name of an instance among all pools.
pub(super) type Key = (PoolId, InstanceId);

/// Who says that an instance is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// The config.
    Static,
    /// The provisioner's list.
    Provisioned,
}

/// Where an instance is to be found, and how much it may carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site<'a> {
    pub zone: &'a ZoneId,
    pub address: SocketAddr,
    pub weight: u32,
}

/// One instance.
#[derive(Debug)]
pub(super) struct Member {
    pub instance: Arc<Instance>,
    pub origin: Origin,
    pub life: Life,
    ward: Ward,
    traffic: Traffic,
    /// What the agent beside it says.
    agent: Agent,
    /// Its weight without that.
    weight: u32,
    /// Whether it was ever up.
    served: bool,
    /// Whether its provider says that it is broken.
    failed: bool,
    /// Whether it answered its last probe, in time, and the answer was no good.
    answers_badly: bool,
    /// Since when it has not been well, while it was up.
    silent: Option<Silence>,
    /// Where it stands in the agenda.
    entered: Option<Ms>,
    /// The same, of its agent.
    agent_entered: Option<Ms>,
}

/// A suspect that does not answer its trial for so long is a sign of a lost zone; one that is merely
/// slow answers at once.
const SILENT_FOR: Duration = Duration::from_millis(250);

/// Since when an instance does not answer.
#[derive(Clone, Copy, Debug)]
struct Silence {
    since: Ms,
    /// A probe says so, and not only traffic.
    probed: bool,
}

/// What is kept over all pools: due times, facts, operators' orders.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// Who is to be probed when; the serial makes the key unique.
    pub agenda: BTreeMap<(Ms, u64), Key>,
    /// Whose agent is to be asked when.
    pub agents: BTreeMap<(Ms, u64), Key>,
    /// Who drains until when.
    pub draining: BTreeMap<Key, Ms>,
    /// What operators said, for instances that exist and for those that may come. No entry means
    /// enabled.
    pub admin: BTreeMap<PoolId, BTreeMap<InstanceId, Admin>>,
    /// What operators said of the scaling of pools, with the same rules. No entry means nothing.
    pub said: BTreeMap<PoolId, Said>,
    /// The zones that operators have evacuated.
    pub evacuated: BTreeMap<ZoneId, Evacuation>,
    /// The zones that are lost.
    pub lost: BTreeMap<ZoneId, Loss>,
    /// When an instance last gave a sign that its zone may be lost.
    pub sign_at: Option<Ms>,
    /// Facts not yet taken.
    pub changes: Vec<Change>,
    /// Whether the census would read differently than the last time.
    pub changed: bool,
    /// Whether the first round of probes is over.
    pub ready: bool,
    /// Serials of those in the first round that have not answered yet.
    pub first_round: BTreeSet<u64>,
    /// When the last newcomer is first asked, and how many are at that moment.
    newcomers: (Ms, u32),
}

/// So many newcomers are asked at once; the next come this much later. A thousand that come with a
/// config are no burst, and known in two seconds.
const NEWCOMERS: u32 = 64;
const NEWCOMERS_PAUSE: Duration = Duration::from_millis(100);

impl Books {
    /// An operator says this of the instance.
    pub fn set_admin(&mut self, pool: &PoolId, id: &InstanceId, admin: Admin) {
        self.changed = true;
        if admin == Admin::Enabled {
            self.forget_admin(pool, id);
        } else {
            self.admin.entry(pool.clone()).or_default().insert(id.clone(), admin);
        }
    }

    /// An operator changes what is said of the scaling of the pool.
    pub fn say(&mut self, pool: &PoolId, change: impl FnOnce(&mut Said)) {
        let said = self.said.entry(pool.clone()).or_default();
        change(said);
        if said.is_empty() {
            self.said.remove(pool);
        }
        self.changed = true;
    }

    /// The instance is gone, and what operators said of it.
    pub fn forget(&mut self, pool: &PoolId, id: &InstanceId) {
        self.forget_admin(pool, id);
        if self.said.get(pool).is_some_and(|said| said.protected.contains(id)) {
            self.say(pool, |said| {
                said.protected.remove(id);
            });
        }
    }

    /// Forgets what an operator said of the instance's traffic.
    pub fn forget_admin(&mut self, pool: &PoolId, id: &InstanceId) {
        if let Some(said) = self.admin.get_mut(pool) {
            said.remove(id);
            if said.is_empty() {
                self.admin.remove(pool);
            }
        }
    }

    /// When one that comes now is first asked: at once, unless many come at a time.
    fn first_probe(&mut self, now: Ms) -> Ms {
        let (at, count) = &mut self.newcomers;
        if *at < now {
            (*at, *count) = (now, 0);
        } else if *count == NEWCOMERS {
            (*at, *count) = (*at + NEWCOMERS_PAUSE, 0);
        }
        *count += 1;
        *at
    }

    /// The first round of probes ends when nobody in it is left to answer.
    pub fn note_ready(&mut self) {
        if !self.ready && self.first_round.is_empty() {
            self.ready = true;
            self.changed = true;
        }
    }
}

impl Member {
    /// A new instance, entered in the books.
    pub fn new(
        now: Ms,
        (pool, id): Key,
        site: Site<'_>,
        origin: Origin,
        settings: &HealthSettings,
        books: &mut Books,
    ) -> Self {
        let vitals: Arc<Vitals> = Arc::default();
        let first = books.first_probe(now);
        let ward = Ward::new(first, vitals.serial, settings, origin == Origin::Provisioned);
        let served = ward.health() == Health::Up;
        let serving = served || origin == Origin::Static;
        let instance = Arc::new(Instance {
            id,
            pool,
            zone: site.zone.clone(),
            address: site.address,
            weight: site.weight,
            vitals,
        });
        if !books.ready {
            books.first_round.insert(instance.vitals.serial);
        }
        books.changed = true;
        books.changes.push(Change::Added {
            pool: instance.pool.clone(),
            instance: instance.id.clone(),
            zone: instance.zone.clone(),
            address: instance.address,
        });
        let life = if serving { Life::Serving } else { Life::Booting };
        // What is there at the start may have been up for long.
        let traffic = Traffic::new(if books.ready { Warmth::COLD } else { Warmth::WARM });
        let mut member = Self {
            instance,
            origin,
            life,
            ward,
            traffic,
            served,
            failed: false,
            answers_badly: false,
            silent: None,
            agent: Agent::new(first, settings.agent),
            weight: site.weight,
            entered: None,
            agent_entered: None,
        };
        member.enter(books);
        member
    }

    /// Another zone or weight: a new value, the same counters.
    pub fn relocate(&mut self, site: Site<'_>, books: &mut Books) {
        self.weight = site.weight;
        let (weight, share) = self.agent.weight_of(site.weight);
        self.instance.vitals.set_share(share);
        if self.instance.zone != *site.zone || self.instance.weight != weight {
            self.instance = Arc::new(Instance {
                id: self.instance.id.clone(),
                pool: self.instance.pool.clone(),
                zone: site.zone.clone(),
                address: self.instance.address,
                weight,
                vitals: Arc::clone(&self.instance.vitals),
            });
            books.changed = true;
        }
    }

    /// It is gone. A provisioned machine no longer exists, so who waits for it stops waiting; one
    /// that only left the config may finish what runs.
    pub fn dismiss(&self, why: &'static str, books: &mut Books) {
        let vitals = &self.instance.vitals;
        if let Some(at) = self.entered {
            books.agenda.remove(&(at, vitals.serial));
        }
        if let Some(at) = self.agent_entered {
            books.agents.remove(&(at, vitals.serial));
        }
        books.draining.remove(&self.key());
        books.first_round.remove(&vitals.serial);
        if self.origin == Origin::Provisioned {
            vitals.close();
            vitals.set_down(true);
        }
        books.changed = true;
        books.changes.push(Change::Removed {
            pool: self.instance.pool.clone(),
            instance: self.instance.id.clone(),
            zone: self.instance.zone.clone(),
            why,
        });
    }

    /// The probe that is due now, unless live traffic makes it needless.
    pub fn ask(&mut self, now: Ms, pool: &Arc<Pool>, books: &mut Books) -> Option<ProbeOrder> {
        self.entered = None;
        let evidence = Evidence::of(&self.instance.vitals);
        if self.ward.postpone(now, &pool.health, evidence) {
            self.enter(books);
            return None;
        }
        let asked = self.ward.start(&pool.health);
        Some(ProbeOrder {
            instance: Arc::clone(&self.instance),
            pool: Arc::clone(pool),
            asks: Asks::Instance,
            timeout: asked.timeout,
            lane: asked.lane,
            number: asked.number,
        })
    }

    /// The result of a probe, if it is the one that counts. `among_last` says that without it the
    /// pool would have too few left.
    pub fn handle_probe(
        &mut self,
        now: Ms,
        among_last: bool,
        order: &ProbeOrder,
        outcome: &Result<Duration, ProbeError>,
        books: &mut Books,
    ) {
        let vitals = Arc::clone(&self.instance.vitals);
        if vitals.serial != order.instance.vitals.serial
            || !self.ward.awaits(order.number)
            || !self.is_watched()
        {
            return;
        }
        self.note_sign(now, outcome, books);
        let settings = &order.pool.health;
        let evidence = Evidence { among_last, ..Evidence::of(&vitals) };
        let spared = self.ward.spared().map(str::to_owned);
        let turn = self.ward.handle_result(now, settings, evidence, outcome);
        if self.ward.spared() != spared.as_deref() {
            books.changed = true;
        }
        if let (None, Some(why)) = (spared, self.ward.spared()) {
            books.changes.push(Change::Spared {
                pool: self.instance.pool.clone(),
                instance: self.instance.id.clone(),
                zone: self.instance.zone.clone(),
                why: why.to_owned(),
            });
        }
        if !matches!(outcome, Err(ProbeError::Local(_))) {
            vitals.clear_suspicion();
        }
        if let Err(error) = outcome
            && self.ward.lingers(settings)
        {
            books.changes.push(Change::Lingers {
                pool: self.instance.pool.clone(),
                instance: self.instance.id.clone(),
                zone: self.instance.zone.clone(),
                why: error.to_string(),
            });
        }
        self.settle(now, turn, books);
    }

    /// If traffic waits for it in vain, has a probe settle that, or voids the suspicion.
    pub fn handle_suspicion(&mut self, now: Ms, settings: &HealthSettings, books: &mut Books) {
        if !self.instance.vitals.is_suspect() {
            return;
        }
        if self.is_watched() && self.ward.handle_suspicion(now, settings) {
            self.silent.get_or_insert(Silence { since: now, probed: false });
            books.sign_at = Some(now);
            self.enter(books);
        } else {
            self.instance.vitals.clear_suspicion();
        }
    }

    /// The checks of the pool were changed.
    pub fn reschedule(&mut self, now: Ms, settings: &HealthSettings, books: &mut Books) {
        if !self.failed {
            let turn = self.ward.reschedule(now, settings);
            self.settle(now, turn, books);
        }
    }

    /// Its provider says that it is broken (`Some`, and why) or that it is not.
    pub fn set_failed(
        &mut self,
        now: Ms,
        why: Option<&str>,
        settings: &HealthSettings,
        books: &mut Books,
    ) {
        if self.failed == why.is_some() {
            return;
        }
        self.failed = why.is_some();
        let turn = match why {
            Some(why) => self.ward.condemn(why),
            None => self.ward.reschedule(now, settings),
        };
        self.settle(now, turn, books);
    }

    /// Keeps what a probe says of whether it answers at all.
    fn note_sign(&mut self, now: Ms, outcome: &Result<Duration, ProbeError>, books: &mut Books) {
        let objected = self.only_probes_object();
        match outcome {
            Err(ProbeError::Local(_)) => return,
            Err(error) if error.is_answer() => {
                self.answers_badly = true;
                self.silent = None;
            }
            Err(_) => {
                self.answers_badly = false;
                if self.ward.health() == Health::Up {
                    let since = self.silent.map_or(now, |silence| silence.since);
                    self.silent = Some(Silence { since, probed: true });
                    books.sign_at = Some(now);
                }
            }
            Ok(_) => {
                self.answers_badly = false;
                self.silent = None;
            }
        }
        // Whether a panic admits it turns without a turn of its health.
        books.changed |= objected != self.only_probes_object();
    }

    /// What it says of its zone.
    pub fn sign(&self, now: Ms) -> Sign {
        let silent = |it: &Silence| it.probed || now.since(it.since) >= SILENT_FOR;
        match (self.silent.filter(silent), self.ward.health()) {
            _ if !self.is_watched() => Sign::Nothing,
            (Some(Silence { since, .. }), Health::Up | Health::Down) => Sign::Lost(since),
            (None, Health::Up) => {
                Sign::Well(self.instance.vitals.last_byte().max(self.ward.last_pass()))
            }
            _ => Sign::Nothing,
        }
    }

    /// Its zone is lost: it is down until its own probes say otherwise. Nothing follows where
    /// there are none.
    pub fn presume_down(
        &mut self,
        now: Ms,
        why: &str,
        settings: &HealthSettings,
        books: &mut Books,
    ) {
        let is_probed = settings.check != HealthCheck::None && self.is_watched();
        if is_probed && self.ward.health() == Health::Up {
            let turn = self.ward.presume_down(now, why);
            self.settle(now, turn, books);
        }
    }

    /// Whether nothing speaks against it but what it answers to its probes: it accepts connections
    /// and answers in time.
    pub fn only_probes_object(&self) -> bool {
        self.answers_badly && !self.failed && self.ward.health() == Health::Down
    }

    /// Nothing new goes there; what runs may finish until the deadline. Said again, the earlier
    /// deadline holds.
    pub fn drain(&mut self, deadline: Ms, books: &mut Books) {
        let deadline = match self.life {
            Life::Drained | Life::Terminating => return,
            Life::Draining { deadline: before } => before.min(deadline),
            Life::Ordered | Life::Booting | Life::Ramping | Life::Serving => deadline,
        };
        self.set_life(Life::Draining { deadline }, books);
        books.draining.insert(self.key(), deadline);
    }

    /// Drained once nothing runs, or at the deadline. Says whether it is.
    pub fn finish_drain(&mut self, now: Ms, books: &mut Books) -> bool {
        let Life::Draining { deadline } = self.life else {
            return true;
        };
        let vitals = &self.instance.vitals;
        if !vitals.close_if_idle() {
            if now < deadline {
                return false;
            }
            vitals.close();
        }
        self.set_life(Life::Drained, books);
        true
    }

    /// Wanted again, if it is not drained already.
    pub fn revive(&mut self, books: &mut Books) {
        if matches!(self.life, Life::Draining { .. }) {
            books.draining.remove(&self.key());
            self.instance.vitals.reopen();
            self.set_life(if self.served { Life::Serving } else { Life::Booting }, books);
        }
    }

    /// It is being taken away, and nothing brings it back.
    pub fn terminate(&mut self, books: &mut Books) {
        books.draining.remove(&self.key());
        self.instance.vitals.close();
        self.set_life(Life::Terminating, books);
    }

    /// What probes say.
    pub fn health(&self) -> Health {
        self.ward.health()
    }

    /// As the census has it.
    pub fn row(&self, admin: Admin) -> InstanceRow {
        let objection = self.agent.objection().filter(|_| admin == Admin::Enabled);
        let note = objection.as_deref().or(self.ward.spared()).map(Arc::from);
        let note = note.or_else(|| self.traffic.why_ejected());
        InstanceRow { note, ..InstanceRow::new(Arc::clone(&self.instance), self.standing(admin)) }
    }

    /// Its three truths, with what an operator says.
    pub fn standing(&self, admin: Admin) -> Standing {
        let health = match self.ward.health() {
            Health::Up if self.agent.is_down() => Health::Down,
            Health::Up if self.is_ejected() => Health::Ejected,
            probed => probed,
        };
        let admin = if admin == Admin::Enabled { self.agent.admin() } else { admin };
        Standing { health, admin, life: self.life }
    }

    /// Whether probes mean anything: not any more when it is broken or about to go.
    fn is_watched(&self) -> bool {
        !self.failed && !matches!(self.life, Life::Drained | Life::Terminating)
    }

    fn key(&self) -> Key {
        (self.instance.pool.clone(), self.instance.id.clone())
    }

    /// Carries a turn of health to the counters, the life and the books.
    fn settle(&mut self, now: Ms, turn: Option<Turn>, books: &mut Books) {
        if let Some(Turn { from, to, why }) = turn {
            if to == Health::Down {
                self.forget_warmth(now);
            }
            self.instance.vitals.set_down(to == Health::Down || self.agent.is_down());
            books.changed = true;
            books.changes.push(Change::Health(HealthChange {
                pool: self.instance.pool.clone(),
                instance: self.instance.id.clone(),
                zone: self.instance.zone.clone(),
                from,
                to,
                why,
            }));
            self.served |= to == Health::Up;
            if to == Health::Up && self.life == Life::Booting {
                self.set_life(Life::Serving, books);
            }
        }
        self.enter(books);
    }

    fn set_life(&mut self, to: Life, books: &mut Books) {
        let from = std::mem::replace(&mut self.life, to);
        if from != to {
            books.changed = true;
            books.changes.push(Change::Life {
                pool: self.instance.pool.clone(),
                instance: self.instance.id.clone(),
                zone: self.instance.zone.clone(),
                from,
                to,
            });
        }
        self.enter(books);
    }

    /// Keeps the agenda true to when its next probe is due, and the first round to who is awaited.
    fn enter(&mut self, books: &mut Books) {
        let serial = self.instance.vitals.serial;
        if self.ward.settled() || !self.is_watched() {
            books.first_round.remove(&serial);
        }
        let (probe, agent) = match self.is_watched() {
            true => (self.ward.due(), self.agent.due),
            false => (None, None),
        };
        for (agenda, entered, due) in [
            (&mut books.agenda, &mut self.entered, probe),
            (&mut books.agents, &mut self.agent_entered, agent),
        ] {
            if due == *entered {
                continue;
            }
            if let Some(at) = *entered {
                agenda.remove(&(at, serial));
            }
            if let Some(at) = due {
                let key = (self.instance.pool.clone(), self.instance.id.clone());
                agenda.insert((at, serial), key);
            }
            *entered = due;
        }
    }
}
