use super::*;
use crate::base::{Share, ZoneId};
use crate::fleet::change::HealthChange;
use crate::fleet::order::{Asks, Lane};
use crate::model::{
    AgentCheck, FULL, Health, HealthCheck, HealthSettings, HttpCheck, InstanceRow, Life, Limit,
    Machine, MachineState, PoolRow, ProcessSettings, Provisioning, Said, ScaleIn, Scaling,
    SizeOverride, StaticInstance, StopPolicy,
};

mod agent;
mod random;

const SECOND: Duration = Duration::from_secs(1);
const PASS: Result<Duration, ProbeError> = Ok(Duration::from_millis(1));
const FAIL: Result<Duration, ProbeError> = Err(ProbeError::Refused);

fn one(id: &str, zone: &str, host: u8) -> StaticInstance {
    StaticInstance {
        id: id.into(),
        address: ([127, 0, 0, host], 80).into(),
        zone: zone.into(),
        weight: 1,
    }
}

fn pool(id: &str, instances: Vec<StaticInstance>) -> Pool {
    Pool {
        drain_timeout: SECOND,
        instances,
        health: HealthSettings {
            interval: 2 * SECOND,
            timeout: SECOND,
            ..HealthSettings::default()
        },
        ..Pool::new(id.into())
    }
}

fn provisioned(id: &str, instances: Vec<StaticInstance>) -> Pool {
    Pool {
        scaling: Some(Arc::new(Scaling {
            scale_in: ScaleIn { hold: SECOND, rate: Share(0.1) },
            ..Scaling::new(2, 9, 10.0)
        })),
        provisioning: Some(Provisioning::Process(ProcessSettings {
            command: vec!["true".into()],
            zones: vec!["a".into(), "b".into()],
            port: 80,
            stop: StopPolicy::Keep,
        })),
        ..pool(id, instances)
    }
}

fn machine(id: &str, host: Option<u8>, state: MachineState) -> Machine {
    Machine {
        id: id.into(),
        zone: "a".into(),
        address: host.map(|host| ([127, 0, 1, host], 80).into()),
        state,
        size: None,
        model: None,
        token: None,
        protected: false,
    }
}

/// A membership with a clock of its own.
struct World {
    membership: Membership,
    now: Ms,
    /// What every agent says that is asked.
    says: Option<&'static str>,
}

impl World {
    fn new(pools: Vec<Pool>) -> Self {
        let mut world = Self { membership: Membership::new(), now: Ms(10_000), says: None };
        world.configure(pools);
        world
    }

    fn configure(&mut self, pools: Vec<Pool>) {
        let pools: Vec<_> = pools.into_iter().map(Arc::new).collect();
        self.membership.apply_config(self.now, &pools);
    }

    fn report(&mut self, report: AgentReport) {
        self.membership.handle_report(self.now, report);
    }

    fn list(&mut self, machines: &[Machine]) {
        self.report(AgentReport::Listed { pool: "web".into(), machines: machines.to_vec() });
    }

    /// Until `for_` is over, answers every probe with what `outcome` says of the instance.
    fn run(
        &mut self,
        for_: Duration,
        outcome: impl Fn(&str) -> Result<Duration, ProbeError>,
    ) -> Vec<(Ms, ProbeOrder)> {
        let end = self.now + for_;
        let mut asked = Vec::new();
        loop {
            self.membership.handle_suspicions(self.now);
            self.membership.handle_tick(self.now);
            for order in self.membership.next_probes(self.now) {
                if order.asks != Asks::Instance {
                    let said = self.says.map(Line::parse);
                    self.membership.handle_agent(self.now, &order, said);
                    continue;
                }
                let outcome = outcome(order.instance.id.as_str());
                self.membership.handle_probe(self.now, &order, &outcome);
                asked.push((self.now, order));
            }
            match self.membership.next_wake() {
                Some(at) if at <= end => self.now = at,
                _ => break,
            }
        }
        self.now = end;
        asked
    }

    fn row(&mut self, pool: &str) -> PoolRow {
        let census = self.membership.census(1);
        census.pool(&pool.into()).expect("the pool is there").clone()
    }

    fn find(&mut self, id: &str) -> Option<InstanceRow> {
        self.row("web").instances.into_iter().find(|row| row.instance.id.as_str() == id)
    }

    fn get(&mut self, id: &str) -> InstanceRow {
        self.find(id).expect("the instance is there")
    }

    fn life(&mut self, id: &str) -> &'static str {
        self.get(id).standing.life.word()
    }
}

fn ids(ids: &[&str]) -> Vec<InstanceId> {
    ids.iter().map(|id| InstanceId::from(*id)).collect()
}

#[test]
fn the_census_is_sorted_and_complete() {
    let web = pool("web", vec![one("b", "2", 1), one("c", "1", 2), one("a", "2", 3)]);
    let mut world = World::new(vec![web, pool("api", vec![])]);
    let census = world.membership.census(7);
    assert_eq!(census.generation, 7);
    let pools: Vec<_> = census.pools.iter().map(|row| row.pool.id.as_str()).collect();
    assert_eq!(pools, ["api", "web"]);
    let web = &census.pools[1];
    let order: Vec<_> = web.instances.iter().map(|row| row.instance.id.as_str()).collect();
    assert_eq!(order, ["c", "a", "b"], "by zone, then by name");
    assert_eq!((web.desired, web.demand_rps), (3, 0.0), "as many as are configured");
    assert!(!world.membership.changed());
}

#[test]
fn ready_after_the_first_round_and_from_then_on() {
    let mut world = World::new(vec![pool("web", vec![one("a", "1", 1), one("b", "1", 2)])]);
    assert!(!world.membership.ready());
    let orders = world.membership.next_probes(world.now);
    assert_eq!(orders.len(), 2, "the first probes go at once");
    assert_eq!(world.membership.next_probes(world.now).len(), 0, "each once");
    world.membership.handle_probe(world.now, &orders[0], &PASS);
    assert!(!world.membership.ready());
    world.membership.handle_probe(world.now, &orders[1], &FAIL);
    assert!(world.membership.ready(), "a failure is a result too");
    world.configure(vec![pool("web", vec![one("a", "1", 1), one("c", "1", 3)])]);
    assert!(world.membership.census(1).ready, "a newcomer does not make the node unready");

    let unchecked = HealthSettings { check: HealthCheck::None, ..pool("web", vec![]).health };
    let web = Pool { health: unchecked, ..pool("web", vec![one("a", "1", 1)]) };
    let mut world = World::new(vec![web]);
    assert!(world.membership.ready(), "nothing to wait for");
    assert!(world.get("a").standing.eligible());
    assert_eq!(world.membership.next_wake(), None);

    let mut world = World::new(vec![pool("web", vec![one("a", "1", 1)])]);
    world.configure(vec![pool("web", vec![])]);
    assert!(world.membership.ready(), "who was awaited has left");
    assert_eq!(world.membership.next_wake(), None, "nor is anything due any more");
}

#[test]
fn health_and_counters_survive_a_reload() {
    let mut world = World::new(vec![pool("web", vec![one("a", "1", 1), one("b", "1", 2)])]);
    world.run(SECOND, |_| PASS);
    let before = world.get("a");
    let _slot = before.instance.take_slot(Limit::Unlimited).expect("a slot");

    let moved = StaticInstance { weight: 3, ..one("a", "2", 1) };
    let http = HealthCheck::Http(HttpCheck::get("/"));
    let mut web = pool("web", vec![moved, one("b", "1", 9)]);
    web.health.check = http.clone();
    world.membership.take_changes();
    world.configure(vec![web]);
    let after = world.get("a");
    assert!(after.standing.eligible());
    assert_eq!((after.instance.weight, after.instance.zone.as_str()), (3, "2"));
    assert!(Arc::ptr_eq(&after.instance.vitals, &before.instance.vitals));
    assert_eq!(after.instance.vitals.in_flight(), 1);
    assert_eq!(world.get("b").standing.health, Health::Pending, "another address is another one");
    let changes = world.membership.take_changes();
    assert!(matches!(&changes[..], [Change::Removed { .. }, Change::Added { .. }]), "{changes:?}");

    let asked = world.run(2 * SECOND, |_| PASS);
    assert!(asked.iter().all(|(_, order)| order.pool.health.check == http));
    let of_a = asked.iter().filter(|(_, order)| order.instance.id.as_str() == "a").count();
    assert_eq!(of_a, 1, "on schedule, not at once and on schedule");
    world.configure(vec![pool("web", vec![one("b", "1", 9)])]);
    assert!(world.find("a").is_none());
    assert!(!before.instance.vitals.is_closed() && !before.instance.vitals.is_down());
}

#[test]
fn an_unchanged_config_changes_nothing() {
    let web = || pool("web", vec![one("a", "1", 1)]);
    let mut world = World::new(vec![web()]);
    world.run(SECOND, |_| PASS);
    world.membership.take_changes();
    world.membership.census(1);
    let wake = world.membership.next_wake();
    world.configure(vec![web()]);
    assert!(!world.membership.changed());
    assert_eq!(world.membership.take_changes(), []);
    assert_eq!(world.membership.next_wake(), wake);
}

#[test]
fn a_result_of_one_that_is_gone_is_ignored() {
    let mut world = World::new(vec![pool("web", vec![one("a", "1", 1)])]);
    let orders = world.membership.next_probes(world.now);
    world.configure(vec![pool("web", vec![])]);
    world.configure(vec![pool("web", vec![one("a", "1", 1)])]);
    world.membership.handle_probe(world.now, &orders[0], &PASS);
    assert_eq!(world.get("a").standing.health, Health::Pending);
    world.membership.handle_probe(world.now, &orders[0], &PASS);
    let again = world.membership.next_probes(world.now);
    world.membership.handle_probe(world.now, &again[0], &PASS);
    assert_eq!(world.get("a").standing.health, Health::Up);
}

#[test]
fn turns_of_health_reach_the_counters_and_the_log() {
    let mut world = World::new(vec![pool("web", vec![one("a", "1", 1)])]);
    world.run(SECOND, |_| PASS);
    let vitals = Arc::clone(&world.get("a").instance.vitals);
    world.membership.take_changes();
    world.run(5 * SECOND, |_| FAIL);
    assert!(vitals.is_down() && !world.get("a").standing.eligible());
    assert_eq!(
        world.membership.take_changes(),
        [
            Change::Health(HealthChange {
                pool: "web".into(),
                instance: "a".into(),
                zone: "1".into(),
                from: Health::Up,
                to: Health::Down,
                why: "connection refused; the last 3 probes failed".into(),
            }),
            Change::Panic { pool: "web".into(), on: true }
        ]
    );
    world.run(10 * SECOND, |_| PASS);
    assert!(!vitals.is_down() && world.get("a").standing.eligible());
}

#[test]
fn a_frozen_instance_is_down_within_its_trial() {
    let mut web = pool("web", vec![one("a", "1", 1)]);
    web.health.interval = 60 * SECOND;
    web.health.timeout = 30 * SECOND;
    let mut world = World::new(vec![web]);
    world.run(SECOND, |_| PASS);
    let vitals = Arc::clone(&world.get("a").instance.vitals);
    assert!(vitals.suspect());
    world.membership.handle_suspicions(world.now);
    assert_eq!(world.membership.next_wake(), Some(world.now));
    let orders = world.membership.next_probes(world.now);
    assert_eq!((orders.len(), orders[0].lane), (1, Lane::Suspect));
    assert_eq!(orders[0].timeout, 2 * SECOND);
    let late = Err(ProbeError::Timeout(2 * SECOND));
    world.membership.handle_probe(world.now + 2 * SECOND, &orders[0], &late);
    assert!(vitals.is_down() && !vitals.is_suspect());

    vitals.suspect();
    world.membership.handle_suspicions(world.now + 2 * SECOND);
    assert!(!vitals.is_suspect(), "it is down already: there is nothing to settle");
}

#[test]
fn a_passed_probe_clears_the_suspicion_and_local_trouble_does_not() {
    let mut world = World::new(vec![pool("web", vec![one("a", "1", 1)])]);
    world.run(SECOND, |_| PASS);
    let vitals = Arc::clone(&world.get("a").instance.vitals);
    // What it passed just now would void the suspicion.
    world.now = world.now + Duration::from_millis(600);
    vitals.suspect();
    world.membership.handle_suspicions(world.now);
    let orders = world.membership.next_probes(world.now);
    let local = Err(ProbeError::Local("too many open files".into()));
    world.membership.handle_probe(world.now, &orders[0], &local);
    assert!(vitals.is_suspect());
    world.run(SECOND, |_| PASS);
    assert!(!vitals.is_suspect() && world.get("a").standing.eligible());
}

#[test]
fn the_life_of_a_provisioned_instance() {
    let mut world = World::new(vec![provisioned("web", vec![])]);
    assert_eq!(world.row("web").desired, 2, "the least, until the agent has spoken");
    world.list(&[machine("m", None, MachineState::Creating)]);
    let row = world.row("web");
    assert_eq!(row.ordered, [("m".into(), ZoneId::from("a"))]);
    assert_eq!(row.instances.len(), 0);

    world.list(&[machine("m", Some(1), MachineState::Running)]);
    assert_eq!(world.row("web").ordered, []);
    world.run(5 * SECOND, |_| FAIL);
    assert_eq!((world.life("m"), world.get("m").standing.health), ("booting", Health::Pending));
    world.run(2 * SECOND, |_| PASS);
    assert_eq!(world.life("m"), "serving");
    let running = [machine("m", Some(1), MachineState::Running)];

    let instance = world.get("m").instance;
    let slot = instance.take_slot(Limit::Unlimited).expect("a slot");
    let drain = |deadline| AgentReport::Drain { pool: "web".into(), ids: ids(&["m"]), deadline };
    let deadline = world.now + 30 * SECOND;
    world.report(drain(deadline));
    world.report(drain(deadline + SECOND));
    assert_eq!(world.get("m").standing.life, Life::Draining { deadline }, "the first one holds");
    world.run(SECOND, |_| PASS);
    assert_eq!(world.life("m"), "draining");
    world.report(AgentReport::Revive { pool: "web".into(), ids: ids(&["m"]) });
    assert_eq!(world.life("m"), "serving");
    assert!(world.get("m").standing.eligible());

    world.report(drain(world.now + 30 * SECOND));
    drop(slot);
    world.run(SECOND, |_| PASS);
    assert_eq!(world.life("m"), "drained");
    assert!(instance.take_slot(Limit::Unlimited).is_none());
    world.report(AgentReport::Revive { pool: "web".into(), ids: ids(&["m"]) });
    world.list(&running);
    assert_eq!(world.life("m"), "drained", "no way back");
    world.report(AgentReport::Terminating { pool: "web".into(), ids: ids(&["m"]) });
    assert_eq!(world.life("m"), "terminating");
    assert_eq!(world.membership.next_wake(), None, "nobody probes what is about to go");
    world.list(&[]);
    assert!(world.find("m").is_none());
    assert!(instance.vitals.is_down(), "who still waits for it stops waiting");
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let mut world = World::new(vec![provisioned("web", vec![])]);
    world.list(&[machine("m", Some(1), MachineState::Running)]);
    world.run(SECOND, |_| PASS);
    let _slot = world.get("m").instance.take_slot(Limit::Unlimited).expect("a slot");
    let deadline = world.now + SECOND / 2;
    world.report(AgentReport::Drain { pool: "web".into(), ids: ids(&["m"]), deadline });
    assert!(world.membership.next_wake() <= Some(deadline));
    world.membership.handle_tick(Ms(deadline.0 - 1));
    assert_eq!(world.life("m"), "draining");
    world.membership.handle_tick(deadline);
    assert_eq!(world.life("m"), "drained");
    let vitals = Arc::clone(&world.get("m").instance.vitals);
    assert_eq!(vitals.in_flight(), 1);
    vitals.suspect();
    world.membership.handle_suspicions(deadline);
    assert!(!vitals.is_suspect(), "no probe will settle it");
    assert_eq!(world.membership.next_wake(), None);
}

#[test]
fn what_the_provider_says_of_a_machine_holds_at_once() {
    let mut world = World::new(vec![provisioned("web", vec![])]);
    let running = |id, host| machine(id, Some(host), MachineState::Running);
    world.list(&[running("m", 1), running("n", 2)]);
    world.run(SECOND, |_| PASS);
    let vitals = Arc::clone(&world.get("m").instance.vitals);
    let broken = MachineState::Failed("exited with status 1".into());
    world.list(&[
        machine("m", Some(1), broken.clone()),
        machine("x", None, broken),
        running("n", 2),
    ]);
    assert_eq!(world.get("m").standing.health, Health::Down);
    assert!(vitals.is_down());
    assert_eq!(world.row("web").ordered, [], "what failed before it had an address never comes");
    let asked = world.run(10 * SECOND, |_| PASS);
    assert!(asked.iter().all(|(_, order)| order.instance.id.as_str() == "n"));

    world.list(&[machine("n", Some(2), MachineState::Stopping)]);
    assert_eq!(world.life("n"), "terminating");
    assert!(world.get("n").instance.take_slot(Limit::Unlimited).is_none());
    world.list(&[running("n", 2)]);
    assert_eq!(world.life("n"), "terminating");
}

#[test]
fn a_machine_without_news_of_its_address_keeps_it_and_a_new_one_makes_it_another() {
    let mut world = World::new(vec![provisioned("web", vec![])]);
    world.list(&[machine("m", Some(1), MachineState::Running)]);
    world.run(SECOND, |_| PASS);
    let serial = world.get("m").instance.vitals.serial;
    world.list(&[machine("m", None, MachineState::Running)]);
    assert_eq!(world.get("m").instance.vitals.serial, serial);
    world.list(&[machine("m", Some(7), MachineState::Running)]);
    assert_ne!(world.get("m").instance.vitals.serial, serial);
    assert_eq!(world.life("m"), "booting");
}

#[test]
fn an_order_that_is_no_longer_wanted_never_takes_traffic() {
    for (terminate, life) in [(false, "draining"), (true, "terminating")] {
        let mut world = World::new(vec![provisioned("web", vec![])]);
        world.list(&[machine("m", None, MachineState::Creating)]);
        let (pool, ids) = (PoolId::from("web"), ids(&["m"]));
        world.report(if terminate {
            AgentReport::Terminating { pool, ids }
        } else {
            AgentReport::Drain { pool, ids, deadline: Ms::NEVER }
        });
        assert_eq!(world.row("web").ordered, [], "it no longer counts");
        world.list(&[machine("m", Some(1), MachineState::Running)]);
        assert_eq!(world.life("m"), life);
    }
}

#[test]
fn the_agent_has_no_say_in_instances_of_the_config() {
    let mut world = World::new(vec![provisioned("web", vec![one("a", "1", 1)])]);
    world.run(SECOND, |_| PASS);
    let (pool, ids) = (PoolId::from("web"), ids(&["a"]));
    world.report(AgentReport::Drain { pool: pool.clone(), ids: ids.clone(), deadline: Ms(0) });
    world.report(AgentReport::Terminating { pool, ids });
    world.list(&[machine("a", Some(9), MachineState::Stopping)]);
    assert!(world.get("a").standing.eligible());
}

#[test]
fn a_pool_that_leaves_with_machines_is_retired_until_they_are_gone() {
    let web = || provisioned("web", vec![one("a", "1", 1)]);
    let mut world = World::new(vec![web(), pool("api", vec![one("b", "1", 2)])]);
    world.list(&[machine("m", Some(1), MachineState::Running)]);
    world.run(SECOND, |_| PASS);
    world.report(AgentReport::Wants { pool: "web".into(), desired: 5, demand_rps: 40.0 });
    assert_eq!((world.row("web").desired, world.row("web").demand_rps), (5, 40.0));

    world.configure(vec![]);
    let census = world.membership.census(2);
    assert!(census.pool(&"api".into()).is_none(), "nothing of it remains");
    let row = census.pool(&"web".into()).expect("its agent still has work to do");
    assert_eq!((row.instances.len(), row.desired), (1, 0));
    assert!(world.membership.is_retired(&"web".into()));

    world.configure(vec![web()]);
    assert!(!world.membership.is_retired(&"web".into()));
    assert!(world.get("m").standing.eligible(), "it came back in time");

    world.configure(vec![]);
    world.list(&[]);
    world.report(AgentReport::Retired { pool: "web".into() });
    assert!(world.membership.census(3).pools.is_empty());
    world.list(&[machine("m", Some(1), MachineState::Running)]);
    assert!(world.membership.census(4).pools.is_empty(), "a late report changes nothing");
}

#[test]
fn what_an_operator_says_holds_as_long_as_the_instance_exists() {
    let web = || provisioned("web", vec![one("a", "1", 1)]);
    let mut world = World::new(vec![web()]);
    world.run(SECOND, |_| PASS);
    let (pool, a) = (PoolId::from("web"), InstanceId::from("a"));
    let membership = &mut world.membership;
    let unknown = membership.set_admin(&"api".into(), &a, Admin::Draining).expect_err("unknown");
    assert_eq!(unknown.to_string(), "there is no pool \"api\"");
    let unknown = membership.set_admin(&pool, &"z".into(), Admin::Draining).expect_err("unknown");
    assert_eq!(unknown.to_string(), "pool \"web\" has no instance \"z\"");
    membership.census(1);
    assert_eq!(membership.set_admin(&pool, &a, Admin::Draining), Ok(()));
    assert!(membership.changed());
    world.configure(vec![web()]);
    assert_eq!(world.get("a").standing.admin, Admin::Draining);
    let overrides = world.membership.admin_overrides();
    assert_eq!(overrides, [(pool.clone(), a.clone(), Admin::Draining)]);

    let mut next = World::new(vec![web()]);
    let future = (pool.clone(), InstanceId::from("m"), Admin::Maintenance);
    next.membership.apply_overrides(&[overrides[0].clone(), future]);
    assert_eq!(next.get("a").standing.admin, Admin::Draining);
    next.list(&[machine("m", Some(1), MachineState::Running)]);
    assert_eq!(next.get("m").standing.admin, Admin::Maintenance);
    next.list(&[]);
    assert_eq!(next.membership.admin_overrides(), overrides, "names are not used twice");

    assert_eq!(world.membership.set_admin(&pool, &a, Admin::Enabled), Ok(()));
    assert_eq!(world.membership.admin_overrides(), []);
    assert!(world.get("a").standing.eligible());
}

#[test]
fn a_size_is_taken_within_the_bounds_and_ends_by_itself() {
    let mut world = World::new(vec![provisioned("web", vec![]), pool("api", vec![])]);
    let web = PoolId::from("web");
    let scaling = world.row("web").pool.scaling.clone().expect("it scales");
    let size = |desired, until| Some(SizeOverride { desired, until });
    let membership = &mut world.membership;
    for (pool, desired, why) in [
        ("no", scaling.min, "there is no pool"),
        ("api", scaling.min, "has no scaling agent"),
        ("web", scaling.max + 1, "may have"),
        ("web", scaling.min - 1, "may have"),
    ] {
        let refused = membership.set_size(&pool.into(), size(desired, None)).expect_err(why);
        assert!(refused.to_string().contains(why), "{refused}");
    }
    assert!(membership.said().is_empty());
    assert_eq!(membership.set_size(&web, size(scaling.max, Some(100))), Ok(()));
    assert!(membership.changed() && !membership.end_sizes(99));
    world.configure(vec![provisioned("web", vec![])]);
    assert_eq!(world.row("web").said.size, size(scaling.max, Some(100)), "through a reload");
    let membership = &mut world.membership;
    assert!(membership.end_sizes(100) && !membership.end_sizes(101));
    assert_eq!(membership.set_size(&web, size(scaling.min, None)), Ok(()));
    assert!(!membership.end_sizes(u64::MAX), "without an end it stays");
    assert_eq!(membership.set_size(&web, None), Ok(()));
    assert!(membership.said().is_empty());
}

#[test]
fn protection_holds_for_as_long_as_the_instance_exists() {
    let mut world = World::new(vec![provisioned("web", vec![])]);
    let (pool, i) = (PoolId::from("web"), InstanceId::from("i"));
    assert!(world.membership.set_protected(&pool, &i, true).is_err(), "it is not there yet");
    world.membership.apply_said(
        [(pool.clone(), Said { protected: ["i".into(), "gone".into()].into(), ..Said::default() })]
            .into(),
    );
    world.list(&[machine("i", Some(1), MachineState::Running)]);
    assert_eq!(world.row("web").said.protected, [i.clone()].into());
    assert_eq!(world.membership.set_protected(&pool, &i, false), Ok(()));
    assert!(world.row("web").said.is_empty());
    assert_eq!(world.membership.set_protected(&pool, &i, true), Ok(()));
    world.list(&[]);
    assert!(world.membership.said().is_empty());
}

#[test]
fn one_that_does_not_come_up_is_told_once_and_why() {
    let mut world = World::new(vec![provisioned("web", Vec::new())]);
    world.list(&[machine("i", Some(1), MachineState::Running)]);
    world.membership.take_changes();
    world.run(Duration::from_secs(30), |_| Err(ProbeError::Status(503)));
    let changes = world.membership.take_changes();
    let [Change::Lingers { instance, why, .. }] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((instance.as_str(), why.as_str()), ("i", "answered 503"));
}

#[test]
fn demand_alone_is_no_reason_to_publish() {
    let mut world = World::new(vec![provisioned("web", vec![])]);
    let wants =
        |desired, demand_rps| AgentReport::Wants { pool: "web".into(), desired, demand_rps };
    world.report(wants(3, 10.0));
    assert!(world.membership.changed());
    world.membership.census(1);
    world.report(wants(3, 12.0));
    assert!(!world.membership.changed());
    assert_eq!(world.row("web").demand_rps, 12.0);
    world.report(wants(4, 12.0));
    assert!(world.membership.changed());
}

#[test]
fn a_thousand_instances_are_probed_evenly() {
    let instances = (0..1_000u32).map(|n| StaticInstance {
        id: InstanceId::new(format!("10.0.{}.{}:8080", n / 250, n % 250)),
        address: ([127, 1, (n / 250) as u8, (n % 250) as u8], 8080).into(),
        zone: "a".into(),
        weight: 1,
    });
    let mut world = World::new(vec![pool("web", instances.collect())]);
    let start = world.now;
    let asked = world.run(12 * SECOND, |_| PASS);
    // The first round is over before the interval is, and the second may begin meanwhile.
    let mut first = [0_u32; 20];
    let mut met = HashSet::new();
    let mut later = [0_u32; 100];
    for (at, order) in &asked {
        let ms = at.since(start).as_millis() as usize;
        if met.insert(order.instance.vitals.serial) {
            first[ms / 100] += 1;
        } else if ms > 2_000 {
            later[(ms - 2_001) / 100] += 1;
        }
    }
    assert_eq!(first.iter().sum::<u32>(), 1_000);
    let peak = first.into_iter().max().expect("buckets");
    assert!(peak <= 75, "mean 50, peak {peak}: {first:?}");
    assert_eq!(later.iter().sum::<u32>(), 5_000, "each every 2 s");
    let peak = later.into_iter().max().expect("buckets");
    assert!(peak <= 75, "mean 50, peak {peak}: {later:?}");
}

#[test]
fn traffic_spares_instances_most_of_their_probes() {
    let instances = (0..100).map(|n| one(&format!("i{n}"), "a", n + 1)).collect();
    let mut world = World::new(vec![pool("web", instances)]);
    world.run(10 * SECOND, |_| PASS);
    let idle = world.run(60 * SECOND, |_| PASS).len();
    assert_eq!(idle, 3_000, "each every 2 s");
    let rows = world.row("web").instances;
    let mut busy = 0;
    for _ in 0..60 {
        for row in &rows {
            row.instance.vitals.note_byte(world.now);
            row.instance.vitals.count_response(200, Duration::ZERO);
        }
        busy += world.run(SECOND, |_| PASS).len();
    }
    assert!(busy * 10 <= idle * 3, "{busy} of {idle}");
    rows[0].instance.vitals.count_response(500, Duration::ZERO);
    world.run(2 * SECOND, |_| Err(ProbeError::Status(503)));
    world.run(3 * SECOND, |_| Err(ProbeError::Status(503)));
    assert_eq!(world.get("i0").standing.health, Health::Down, "it is asked again at once");
}

#[test]
fn the_last_that_serve_are_not_lost_to_failing_probes() {
    let names = ["a", "b", "c", "d"];
    let instances = names.iter().zip(1..).map(|(id, host)| one(id, "1", host)).collect();
    let mut world = World::new(vec![pool("web", instances)]);
    world.run(3 * SECOND, |_| PASS);
    let rows = world.row("web").instances;
    let serve = |world: &World| {
        for row in &rows {
            row.instance.vitals.note_byte(world.now);
            row.instance.vitals.count_response(200, Duration::ZERO);
        }
    };
    let late = |_: &str| Err(ProbeError::Timeout(SECOND));
    world.membership.take_changes();
    for _ in 0..60 {
        serve(&world);
        world.run(SECOND, late);
    }
    let row = world.row("web");
    let (up, down): (Vec<_>, Vec<_>) =
        row.instances.iter().partition(|row| row.standing.eligible());
    assert_eq!((up.len(), down.len()), (2, 2), "half of them is enough to do without the others");
    for row in &up {
        assert_eq!(
            row.why(),
            "its probes fail (no answer within 1s), but it serves traffic and is among the last"
        );
    }
    let spared = |change: &Change| matches!(change, Change::Spared { .. });
    let changes = world.membership.take_changes();
    assert_eq!(changes.iter().filter(|change| spared(change)).count(), 2, "told once: {changes:?}");

    // No traffic, no evidence.
    world.run(10 * SECOND, late);
    assert!(world.row("web").instances.iter().all(|row| !row.standing.eligible()));
    world.run(10 * SECOND, |_| PASS);
    assert!(world.row("web").instances.iter().all(|row| row.why().starts_with("up")));

    // Operators' orders are no failures: of the two that remain, one may fall.
    for id in ["a", "b"] {
        let done = world.membership.set_admin(&"web".into(), &id.into(), Admin::Maintenance);
        done.expect("known");
    }
    for _ in 0..30 {
        serve(&world);
        world.run(SECOND, late);
    }
    assert_eq!(world.row("web").instances.iter().filter(|row| row.standing.eligible()).count(), 1);

    // Where nothing listens there is nothing to serve.
    serve(&world);
    world.run(5 * SECOND, |_| FAIL);
    assert!(world.row("web").instances.iter().all(|row| !row.standing.eligible()));
}
