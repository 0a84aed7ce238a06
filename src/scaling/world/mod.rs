//! A small world for the scaler: a virtual clock, a provider with boot times and bad days, a
//! steward, and traffic. Seeded, so that a failure can be run again. What must hold at any time is
//! checked at each second.

mod check;
mod faults;
mod operator;
mod provider;
mod reserves;
mod rolls;
mod scenarios;

use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Entropy, InstanceId, Ms, Share, ZoneId};
use crate::model::{
    Admin, Health, Instance, InstanceRow, Life, Limit, Machine, MachineState, Pool, PoolRow, Said,
    Scaling, ScalingMode, Sight, SizeOverride, Slot, Standing, Window,
};
use crate::provision::{Capabilities, Failure, LaunchOrder, Resize};
use crate::scaling::law::Moment;
use crate::scaling::{Plan, Record, Scaler, Tally};

/// What becomes of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It works.
    Works,
    /// It answers nothing, until it is thawed.
    Hangs,
    /// It never comes up.
    NeverBoots,
    /// It is being created, and that never ends.
    Stuck,
}

#[derive(Debug)]
struct Body {
    machine: Machine,
    instance: Arc<Instance>,
    standing: Standing,
    slots: Vec<Slot>,
    fate: Fate,
    born: Ms,
    boots_at: Ms,
    listed_at: Ms,
    was_up: bool,
    drained_at: Ms,
    gone_at: Ms,
}

/// What a zone does with orders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Mood {
    #[default]
    Fine,
    Full,
    Throttles,
    /// Does as it is told, and its answer is lost.
    Mute,
    /// Takes orders whose instances never come up.
    Barren,
    /// Fails (a 500), and does nothing.
    Broken,
    /// Brings twice what was ordered.
    Doubles,
    /// Takes orders whose instances are being created for ever.
    Stuck,
    /// Takes orders whose instances end as soon as they begin.
    Deadly,
}

struct World {
    now: Ms,
    entropy: Entropy,
    scaler: Scaler,
    scaling: Scaling,
    capabilities: Capabilities,
    bodies: Vec<Body>,
    windows: VecDeque<Window>,
    moods: BTreeMap<ZoneId, Mood>,
    dark: Vec<ZoneId>,
    /// By an operator.
    evacuated: Vec<ZoneId>,
    /// The provider does not list, so the agent does not decide.
    blind: bool,
    /// The provider takes terminations and nothing comes of them.
    stubborn: bool,
    /// Something was created twice.
    doubled: bool,
    quota: u32,
    denies: bool,
    /// Machines of this size or model never come up.
    bad_make: Option<String>,
    /// Requests per second.
    rate: f64,
    /// Requests that wait because nobody serves.
    waiting: u64,
    /// How long an instance takes to boot.
    boot: Duration,
    retired: bool,
    /// What operators said.
    said: Said,
    /// Answers of the provider that are still under way.
    answers: Vec<(Ms, LaunchOrder, Result<(), Failure>)>,
    /// Plans whose reports have not reached the steward.
    reports: Vec<(Ms, Plan)>,
    born: u32,
    /// Whether something is wrong on purpose, so that zones may be uneven and limits passed by
    /// instances that come back.
    troubled: bool,
    /// All records, with their second.
    records: Vec<(u64, Record)>,
    /// Seconds at which something was launched, drained or revived.
    acted: Vec<u64>,
}

const SECOND: Duration = Duration::from_secs(1);

impl World {
    /// Three zones, `min` to `max` instances at 70 rps, a hold of 5 minutes and 10 % a minute.
    fn new(seed: u64, min: u32, max: u32, rate: f64) -> Self {
        Self {
            now: Ms(1_000_000),
            entropy: Entropy::seeded(seed),
            scaler: Scaler::new(&"web".into(), seed),
            // What traffic grows by is the demand's own affair.
            scaling: Scaling { lead_time: Some(SECOND), ..Scaling::new(min, max, 70.0) },
            capabilities: Capabilities {
                zones: ["a", "b", "c"].map(ZoneId::new).into(),
                max_instances: None,
                max_batch: 5,
                resize: Resize::Never,
                protect: false,
                idempotent: true,
                model: None,
            },
            bodies: Vec::new(),
            windows: VecDeque::new(),
            moods: BTreeMap::new(),
            dark: Vec::new(),
            evacuated: Vec::new(),
            blind: false,
            stubborn: false,
            doubled: false,
            quota: u32::MAX,
            denies: false,
            bad_make: None,
            rate,
            waiting: 0,
            boot: Duration::from_secs(20),
            retired: false,
            said: Said::default(),
            answers: Vec::new(),
            reports: Vec::new(),
            born: 0,
            troubled: false,
            records: Vec::new(),
            acted: Vec::new(),
        }
    }

    /// The daemon starts anew. By then the list shows all that was ordered before.
    fn restart(&mut self, nonce: u64) {
        let settled = serde_json::to_vec(self.scaler.settled()).expect("JSON");
        self.scaler = Scaler::new(&"web".into(), nonce);
        self.scaler.resume(serde_json::from_slice(&settled).expect("the same JSON"));
        self.windows.clear();
        self.answers.clear();
        let now = self.now;
        self.bodies.iter_mut().for_each(|body| body.listed_at = body.listed_at.min(now));
    }

    fn second(&self) -> u64 {
        self.now.0 / 1000 - 1_000
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.step();
        }
    }

    /// One second.
    fn step(&mut self) -> Plan {
        self.now = self.now + SECOND;
        self.answer();
        self.receive_reports();
        self.age();
        self.traffic();
        if self.blind {
            return Plan::default();
        }
        let sight = self.sight();
        let machines: Vec<Machine> = self
            .bodies
            .iter()
            .filter(|body| body.listed_at <= self.now)
            .map(|body| body.machine.clone())
            .collect();
        let plan = self.scaler.decide(
            Moment { now: self.now, wall_s: self.now.0 as i64 / 1_000 },
            &sight,
            &machines,
            &self.capabilities,
        );
        self.check(&plan);
        let second = self.second();
        self.records.extend(plan.records.iter().map(|record| (second, record.clone())));
        if !plan.launches.is_empty() || !plan.drains.is_empty() || !plan.revives.is_empty() {
            self.acted.push(second);
        }
        for order in &plan.launches {
            self.launch(order);
        }
        for id in &plan.terminations {
            let (soon, stubborn) = (self.now + SECOND, self.stubborn);
            let body = self.body(id);
            body.standing.life = Life::Terminating;
            if !stubborn {
                body.machine.state = MachineState::Stopping;
                body.gone_at = soon + SECOND;
            }
        }
        let lag = Duration::from_millis(self.entropy.below(2_500) as u64);
        self.reports.push((self.now + lag, plan.clone()));
        plan
    }

    fn body(&mut self, id: &InstanceId) -> &mut Body {
        self.bodies.iter_mut().find(|body| body.machine.id == *id).expect("it exists")
    }

    /// The steward: it alone changes lives, a moment after it is told.
    fn receive_reports(&mut self) {
        let now = self.now;
        // In order: a late one holds up those behind it.
        while self.reports.first().is_some_and(|(at, _)| *at <= now) {
            let (_, plan) = self.reports.remove(0);
            for id in &plan.drains {
                let busy = Duration::from_secs(self.entropy.below(20) as u64);
                let Some(body) = self.bodies.iter_mut().find(|b| b.machine.id == *id) else {
                    continue;
                };
                if !body.standing.life.is_leaving() {
                    body.standing.life = Life::Draining { deadline: now + SECOND * 60 };
                    body.drained_at = now + busy;
                }
            }
            for id in &plan.revives {
                let Some(body) = self.bodies.iter_mut().find(|b| b.machine.id == *id) else {
                    continue;
                };
                if matches!(body.standing.life, Life::Draining { .. }) {
                    body.standing.life = Life::Serving;
                }
            }
        }
    }

    /// Instances boot, pass and fail their probes, finish what runs, and go.
    fn age(&mut self) {
        let now = self.now;
        self.bodies.retain(|body| body.gone_at > now);
        for body in &mut self.bodies {
            let evacuated = self.evacuated.contains(&body.machine.zone);
            body.standing.admin = match body.standing.admin {
                Admin::Enabled if evacuated => Admin::Evacuated,
                Admin::Evacuated if !evacuated => Admin::Enabled,
                said => said,
            };
            if matches!(body.machine.state, MachineState::Stopping | MachineState::Failed(_)) {
                continue;
            }
            if now.since(body.born) > SECOND * 2 && body.fate != Fate::Stuck {
                body.machine.state = MachineState::Running;
                body.machine.address = Some(body.instance.address);
            }
            if matches!(body.standing.life, Life::Draining { .. }) && body.drained_at <= now {
                body.slots.clear();
                body.standing.life = Life::Drained;
            }
            let dark = self.dark.contains(&body.machine.zone);
            if body.fate == Fate::Works && !dark && body.boots_at <= now {
                if !body.was_up {
                    body.was_up = true;
                    let busy = self.entropy.below(5);
                    let take = |_| body.instance.take_slot(Limit::Unlimited);
                    body.slots = (0..busy).filter_map(take).collect();
                }
                body.standing.health = Health::Up;
                if body.standing.life == Life::Booting {
                    body.standing.life = Life::Serving;
                }
            } else if body.was_up || now.since(body.born) > SECOND * 15 {
                body.standing.health = Health::Down;
            }
        }
    }

    fn traffic(&mut self) {
        let offered = self.poisson(self.rate);
        let serving = u64::from(self.serving_units());
        let completed = (offered + self.waiting).min(serving * 100);
        // Elsewhere an empty pool is a bad day, on which all that comes is shed.
        let waits = serving == 0 && self.scaling.min == 0;
        self.waiting = if waits { (self.waiting + offered).min(1_000) } else { 0 };
        if self.windows.len() == 30 {
            self.windows.pop_front();
        }
        self.windows.push_back(Window {
            ended: self.now,
            seconds: 1.0,
            offered,
            completed,
            shed: (offered - self.waiting.min(offered)).saturating_sub(completed),
            queued: self.waiting as u32,
            in_flight: completed as u32 / 10,
        });
    }

    /// A draw from a Poisson distribution: by its normal approximation, which is close enough here.
    fn poisson(&mut self, mean: f64) -> u64 {
        let normal = (0..12).map(|_| self.entropy.unit()).sum::<f64>() - 6.0;
        (mean + mean.sqrt() * normal).round().max(0.0) as u64
    }

    fn sight(&self) -> Sight {
        let listed = self.bodies.iter().filter(|body| body.machine.address.is_some());
        let instances = listed
            .map(|body| InstanceRow::new(Arc::clone(&body.instance), body.standing))
            .collect();
        Sight {
            now: self.now,
            windows: self.windows.iter().copied().collect(),
            row: PoolRow {
                said: self.said.clone(),
                evacuated: self.evacuated.clone(),
                ..PoolRow::new(Arc::new(pool(self.scaling.clone())), instances)
            },
            retired: self.retired,
        }
    }

    fn ids(&self, zone: &str) -> Vec<InstanceId> {
        let in_zone = self.bodies.iter().filter(|body| body.machine.zone.as_str() == zone);
        in_zone.map(|body| body.machine.id.clone()).collect()
    }

    fn freeze(&mut self, id: &InstanceId) {
        self.body(id).fate = Fate::Hangs;
    }

    fn kill(&mut self, id: &InstanceId) {
        self.body(id).machine.state = MachineState::Failed("killed".into());
        self.body(id).standing.health = Health::Down;
    }

    /// Takes traffic now.
    fn serving(&self) -> u32 {
        self.bodies.iter().filter(|body| body.serves()).count() as u32
    }

    /// The operator edits the config.
    fn edit(&mut self, edit: impl FnOnce(&mut Scaling)) {
        edit(&mut self.scaling);
    }

    fn units(&self, body: &Body) -> u32 {
        self.scaling.units_of(body.machine.size.as_deref())
    }

    /// The units that take traffic now.
    fn serving_units(&self) -> u32 {
        self.bodies.iter().filter(|body| body.serves()).map(|body| self.units(body)).sum()
    }

    /// Whether a roll is under way, or has just been.
    fn mixed(&self) -> bool {
        let make = |body: &Body| (body.machine.size.clone(), body.machine.model.clone());
        self.bodies.iter().any(|body| make(body) != make(&self.bodies[0]))
    }

    /// Serves or will, as it really is.
    fn carrying(&self, zone: Option<&ZoneId>) -> u32 {
        let here = |body: &&Body| zone.is_none_or(|zone| body.machine.zone == *zone);
        self.bodies.iter().filter(here).filter(|body| body.serves() || body.boots()).count() as u32
    }

    fn apart(&self) -> u32 {
        let counts: Vec<u32> =
            self.capabilities.zones.iter().map(|zone| self.carrying(Some(zone))).collect();
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    fn told(&self, words: &str) -> usize {
        self.records.iter().filter(|(_, record)| record.reason.contains(words)).count()
    }
}

impl Body {
    fn serves(&self) -> bool {
        self.standing.eligible() && !matches!(self.machine.state, MachineState::Failed(_))
    }

    fn boots(&self) -> bool {
        !self.was_up
            && !self.standing.life.is_leaving()
            && !matches!(self.machine.state, MachineState::Failed(_))
    }
}

fn pool(scaling: Scaling) -> Pool {
    Pool { scaling: Some(Arc::new(scaling)), ..Pool::new("web".into()) }
}
