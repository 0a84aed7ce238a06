//! A pool in a world with a clock of its own: the real membership, snapshots and picks, and machines,
//! probes and clients that are made up.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::Duration;

use tidegate::base::{Entropy, InstanceId, Ms, PoolId, ZoneId};
use tidegate::config::{self, Config};
use tidegate::daemon::publish::{self, Shared};
use tidegate::fleet::{Membership, ProbeError, ProbeOrder};
use tidegate::model::{Admin, Census, Evacuation, FULL, InstanceRow, Slot};
use tidegate::observe::metrics::Metrics;
use tidegate::proxy::balance::{Ask, Cursor, Refusal};
use tidegate::proxy::snapshot::Snapshot;

use crate::machine::{Fate, Machine};

pub const ZONES: [&str; 3] = ["a", "b", "c"];
const PER_ZONE: u8 = 4;
/// Requests that an instance takes at a time.
pub const LIMIT: u32 = 4;
/// Requests that may wait.
const QUEUE: usize = 8;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);
/// The world moves on by this.
pub const STEP: Duration = Duration::from_secs(1);

/// What the operator has set, and may change.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub balance: &'static str,
    pub interval_s: u64,
    /// How many instances of each zone are in the config.
    pub per_zone: u8,
    /// Keys of `[pool.web.zones]`.
    pub zones: &'static str,
}

impl Settings {
    /// What a world begins with.
    pub fn new() -> Self {
        Self { balance: "least-request", interval_s: 5, per_zone: PER_ZONE, zones: "" }
    }

    fn text(&self) -> String {
        let instance = |zone: usize, slot: u8| {
            format!(
                "{{ id = \"{0}{slot}\", address = \"10.0.{zone}.{slot}:80\", zone = \"{0}\" }}",
                ZONES[zone]
            )
        };
        let instances: Vec<String> = (0..ZONES.len())
            .flat_map(|zone| (1..=self.per_zone).map(move |slot| instance(zone, slot)))
            .collect();
        format!(
            "[node]\nworkers = 1\nzone = \"a\"\n\
             [[listener]]\nbind = \"127.0.0.1:80\"\npool = \"web\"\n\
             [pool.web]\nbalance = \"{}\"\nmax_in_flight = {LIMIT}\nslow_start = \"20s\"\n\
             instances = [{}]\n\
             [pool.web.health]\ntype = \"http\"\ninterval = \"{}s\"\ntimeout = \"2s\"\n\
             [pool.web.zones]\n{}\n",
            self.balance,
            instances.join(", "),
            self.interval_s,
            self.zones,
        )
    }
}

/// A request on its way.
struct Flight {
    slot: Slot,
    began: Ms,
    fate: Fate,
    ends: Ms,
}

/// What has happened so far.
#[derive(Clone, Copy, Default, Debug)]
pub struct Tally {
    pub offered: u64,
    pub answered: u64,
    pub failed: u64,
    pub shed: u64,
    pub probes: u64,
    pub turns: u64,
    pub faults: u64,
    pub snapshots: u64,
}

pub struct World {
    pub now: Ms,
    pub entropy: Entropy,
    pub settings: Settings,
    pub machines: BTreeMap<InstanceId, Machine>,
    pub membership: Membership,
    pub census: Census,
    pub snapshot: Snapshot,
    pub tally: Tally,
    /// Requests offered in a second.
    pub rate: f64,
    config: Config,
    shared: Shared,
    metrics: Metrics,
    generation: u64,
    cursor: Cursor,
    flights: Vec<Flight>,
    /// Who waits, since when.
    line: VecDeque<Ms>,
    /// The number of the last probe of each, by serial.
    asked: BTreeMap<u64, u64>,
    /// What the last probe of each said.
    pub said: BTreeMap<InstanceId, Result<Duration, ProbeError>>,
    /// Probes whose answer is still to come.
    out: Vec<(Ms, ProbeOrder, Result<Duration, ProbeError>)>,
}

fn compiled(settings: &Settings) -> Config {
    let nothing = |path: &Path| panic!("{} is read", path.display());
    let loaded = config::compile(&settings.text(), Path::new("world.toml"), &nothing);
    loaded.unwrap_or_else(|faults| panic!("{faults}\n{}", settings.text())).config
}

impl World {
    pub fn new(seed: u64, settings: Settings) -> Self {
        let config = compiled(&settings);
        let machines = ZONES.iter().flat_map(|zone| {
            (1..=PER_ZONE)
                .map(move |slot| (InstanceId::new(format!("{zone}{slot}")), Machine::new(zone)))
        });
        let mut world = Self {
            now: Ms(1_000_000),
            entropy: Entropy::seeded(seed),
            settings,
            machines: machines.collect(),
            membership: Membership::new(),
            census: Census::default(),
            snapshot: Snapshot::default(),
            tally: Tally::default(),
            rate: 0.6 * f64::from(LIMIT * u32::from(PER_ZONE)) * ZONES.len() as f64 / 8.0,
            config,
            shared: Shared::new(Path::new("/nonexistent")),
            metrics: Metrics::new(1, "test"),
            generation: 0,
            cursor: Cursor::default(),
            flights: Vec::new(),
            line: VecDeque::new(),
            asked: BTreeMap::new(),
            said: BTreeMap::new(),
            out: Vec::new(),
        };
        world.membership.apply_config(world.now, &world.config.pools);
        world.publish();
        world
    }

    pub fn pool() -> PoolId {
        "web".into()
    }

    pub fn rows(&self) -> &[InstanceRow] {
        &self.census.pools[0].instances
    }

    /// The operator changes the file and reloads it.
    pub fn reload(&mut self, settings: Settings) {
        if settings.interval_s != self.settings.interval_s {
            // Probes that are out are asked anew.
            self.asked.clear();
        }
        self.settings = settings;
        self.config = compiled(&self.settings);
        self.membership.apply_config(self.now, &self.config.pools);
        self.settle();
    }

    pub fn set_admin(&mut self, id: &InstanceId, admin: Admin) {
        // It may have left the config.
        let _ = self.membership.set_admin(&Self::pool(), id, admin);
        self.settle();
    }

    /// An operator moves the traffic of a zone elsewhere, if the rest can carry it, or back.
    pub fn evacuate(&mut self, zone: &str, on: bool) {
        let zone = ZoneId::new(zone);
        // It may be refused, or there may be nothing to end.
        if on {
            let _ = self.membership.evacuate(&zone, Evacuation { until: None }, false);
        } else {
            let _ = self.membership.restore(&zone);
        }
        self.settle();
    }

    /// The clock jumps, as it does when this node was suspended.
    pub fn jump(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    /// One second passes.
    pub fn step(&mut self) {
        self.now = self.now + STEP;
        self.probes_answer();
        self.requests_end();
        self.membership.handle_suspicions(self.now);
        self.membership.review_plans();
        self.settle();
        self.serve_line();
        let arrivals = self.arrivals();
        for _ in 0..arrivals {
            self.tally.offered += 1;
            if !self.line.is_empty() || !self.forward() {
                if self.line.len() < QUEUE {
                    self.line.push_back(self.now);
                } else {
                    self.tally.shed += 1;
                }
            }
        }
    }

    fn arrivals(&mut self) -> u32 {
        let whole = self.rate.floor();
        whole as u32 + u32::from(self.entropy.unit() < self.rate - whole)
    }

    fn serve_line(&mut self) {
        while let Some(since) = self.line.front().copied() {
            if self.now.since(since) > QUEUE_TIMEOUT {
                self.tally.shed += 1;
            } else if !self.forward() {
                return;
            }
            self.line.pop_front();
        }
    }

    /// Forwards a request now, with retries where nothing was sent; false if it has to wait.
    fn forward(&mut self) -> bool {
        let mut tried = Vec::new();
        loop {
            let ask = Ask { tried: &tried, now: self.now, ..Ask::default() };
            let view = &self.snapshot.pools[0];
            let slot = match view.picker.pick(&ask, &mut self.cursor, &mut self.entropy) {
                Ok(picked) => picked.slot,
                Err(Refusal::AllTried) => {
                    self.tally.failed += 1;
                    return true;
                }
                Err(Refusal::Empty | Refusal::Saturated) => return false,
            };
            self.check_pick(&slot);
            let id = slot.instance().id.clone();
            let fate = self.machines[&id].serve(self.now, &mut self.entropy);
            let took = match fate {
                Fate::Refused => {
                    slot.instance().vitals.count_failure();
                    slot.instance().vitals.suspect();
                    tried.push(slot.instance().vitals.serial);
                    continue;
                }
                Fate::Answered(_, took) => took,
                Fate::Silent => RESPONSE_TIMEOUT,
            };
            let ends = self.now + took;
            self.flights.push(Flight { slot, began: self.now, fate, ends });
            return true;
        }
    }

    fn check_pick(&self, slot: &Slot) {
        let id = &slot.instance().id;
        let row = self.rows().iter().find(|row| row.instance.id == *id);
        let row = row.unwrap_or_else(|| panic!("{id} is picked and not there"));
        assert!(row.admitted(), "{id} is picked and is {:?}", row.standing);
        let taken = slot.instance().vitals.in_flight();
        let ramp = slot.instance().vitals.ramp();
        let limit = (LIMIT * ramp).div_ceil(FULL).max(1);
        assert!(taken <= limit, "{id} has {taken} in flight at a ramp of {ramp}");
        assert_eq!(row.standing.admin, Admin::Enabled, "{id} is kept out by an operator");
        assert!(!slot.instance().vitals.is_closed(), "{id} is closed");
    }

    fn requests_end(&mut self) {
        let now = self.now;
        let heard = self.flights.iter().any(|f| f.ends <= now && f.fate != Fate::Silent);
        let flights = std::mem::take(&mut self.flights);
        for flight in flights {
            let vitals = &flight.slot.instance().vitals;
            let alive = !matches!(
                self.machines[&flight.slot.instance().id].state,
                crate::machine::State::Dead | crate::machine::State::Frozen
            );
            match flight.fate {
                Fate::Answered(status, took) if flight.ends <= now && alive => {
                    vitals.count_response(status, took);
                    vitals.note_byte(now);
                    self.tally.answered += u64::from(status < 500);
                    self.tally.failed += u64::from(status >= 500);
                }
                _ if flight.ends <= now || vitals.is_down() => {
                    vitals.count_failure();
                    self.tally.failed += 1;
                }
                Fate::Answered(..) if alive => self.flights.push(flight),
                _ => {
                    // Silence beside peers that answer.
                    if heard && now.since(flight.began) >= Duration::from_secs(1) {
                        vitals.suspect();
                    }
                    self.flights.push(flight);
                }
            }
        }
    }

    fn probes_answer(&mut self) {
        let now = self.now;
        let (done, out) =
            std::mem::take(&mut self.out).into_iter().partition(|(at, ..)| *at <= now);
        self.out = out;
        let done: Vec<_> = done;
        for (_, order, outcome) in done {
            // One that was asked again meanwhile is not listened to.
            if self.asked.get(&order.instance.vitals.serial) == Some(&order.number) {
                self.said.insert(order.instance.id.clone(), outcome.clone());
            }
            self.membership.handle_probe(now, &order, &outcome);
        }
    }

    /// What the steward does whenever something has happened.
    pub fn settle(&mut self) {
        self.membership.handle_tick(self.now);
        for order in self.membership.next_probes(self.now) {
            self.tally.probes += 1;
            self.asked.insert(order.instance.vitals.serial, order.number);
            let machine = &self.machines[&order.instance.id];
            let (outcome, took) = machine.probe(self.now, order.timeout);
            self.out.push((self.now + took, order, outcome));
        }
        self.tally.turns += self.membership.take_changes().len() as u64;
        if self.membership.changed() {
            self.publish();
        }
    }

    fn publish(&mut self) {
        self.generation += 1;
        self.tally.snapshots += 1;
        self.census = self.membership.census(self.generation);
        self.snapshot =
            publish::snapshot(&self.config, &self.census, &mut self.shared, &self.metrics);
    }

    /// Ids of the machines of a zone.
    pub fn ids(&self, zone: &str) -> Vec<InstanceId> {
        let of_zone = self.machines.iter().filter(|(_, machine)| machine.zone == zone);
        of_zone.map(|(id, _)| id.clone()).collect()
    }

    /// How many requests run on this instance.
    pub fn running(&self, id: &InstanceId) -> usize {
        self.flights.iter().filter(|flight| flight.slot.instance().id == *id).count()
    }
}
