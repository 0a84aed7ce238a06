//! Lost and evacuated zones, and panic, with a clock of their own.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::fleet::change::HealthChange;
use crate::fleet::order::{ProbeError, ProbeOrder};
use crate::model::{
    Admin, Census, Health, HealthCheck, HealthSettings, HttpCheck, InstanceRow, Limit, Pool,
    StaticInstance,
};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);
type Outcome = Result<Duration, ProbeError>;
const PASS: Outcome = Ok(Duration::from_millis(1));
const REFUSED: Outcome = Err(ProbeError::Refused);

/// `"a3 b3"`: so many instances in each zone, called `a1`, `a2`, …
fn pool(name: &str, zones: &str) -> Pool {
    let mut instances = Vec::new();
    for word in zones.split_whitespace() {
        let (zone, count) = word.split_at(1);
        for n in 1..=count.parse::<u8>().expect("a number") {
            instances.push(StaticInstance {
                id: format!("{zone}{n}").as_str().into(),
                address: ([127, 0, zone.as_bytes()[0], n], 80).into(),
                zone: zone.into(),
                weight: 1,
            });
        }
    }
    let check = HealthCheck::Http(HttpCheck::get("/"));
    let health = HealthSettings {
        check,
        interval: 2 * SECOND,
        timeout: SECOND,
        ..HealthSettings::default()
    };
    Pool { instances, health, max_in_flight: Limit::AtMost(2), ..Pool::new(name.into()) }
}

struct World {
    membership: Membership,
    now: Ms,
    changes: Vec<Change>,
    /// Probes whose answers are to come.
    out: Vec<(Ms, ProbeOrder, Outcome)>,
}

impl World {
    /// All up.
    fn new(pools: Vec<Pool>) -> Self {
        let pools: Vec<_> = pools.into_iter().map(Arc::new).collect();
        let mut world = Self {
            membership: Membership::new(),
            now: Ms(10_000),
            changes: Vec::new(),
            out: Vec::new(),
        };
        world.membership.apply_config(world.now, &pools);
        world.run(3 * SECOND, |_| PASS);
        assert!(world.rows().iter().all(|row| row.standing.eligible()));
        world.changes.clear();
        world
    }

    /// Answers all probes for a while, each at once but for time-outs.
    fn run(&mut self, for_: Duration, outcome: impl Fn(&str) -> Outcome) {
        let end = self.now + for_;
        while self.now < end {
            self.now = self.now + TICK;
            let now = self.now;
            self.membership.handle_suspicions(now);
            for order in self.membership.next_probes(now) {
                let outcome = outcome(order.instance.id.as_str());
                let takes = match outcome {
                    Err(ProbeError::Timeout(_)) => order.timeout,
                    _ => Duration::ZERO,
                };
                self.out.push((now + takes, order, outcome));
            }
            let is_due = |(at, ..): &mut (Ms, ProbeOrder, Outcome)| *at <= now;
            for (_, order, outcome) in self.out.extract_if(.., is_due) {
                self.membership.handle_probe(now, &order, &outcome);
            }
            self.membership.handle_tick(now);
            self.changes.extend(self.membership.take_changes());
        }
    }

    fn census(&mut self) -> Census {
        self.membership.census(1)
    }

    fn rows(&mut self) -> Vec<InstanceRow> {
        self.census().pools.into_iter().flat_map(|row| row.instances).collect()
    }

    fn admitted(&mut self) -> String {
        let rows = self.rows();
        let admitted = rows.iter().filter(|row| row.admitted());
        admitted.map(|row| row.instance.id.as_str()).collect::<Vec<_>>().join(" ")
    }

    fn suspect(&mut self, id: &str) {
        self.rows()
            .iter()
            .find(|row| row.instance.id.as_str() == id)
            .expect(id)
            .instance
            .vitals
            .suspect();
    }

    /// Why things became of an instance, or of a zone.
    fn whys(&self, of: &str) -> Vec<&str> {
        self.changes.iter().filter_map(|change| why_of(change, of)).collect()
    }
}

fn why_of<'c>(change: &'c Change, of: &str) -> Option<&'c str> {
    match change {
        Change::Health(HealthChange { instance, why, .. }) if instance.as_str() == of => Some(why),
        Change::Zone { zone, why, .. } if zone.as_str() == of => Some(why),
        _ => None,
    }
}

fn in_zone(zone: char) -> impl Fn(&str) -> bool {
    move |id| id.starts_with(zone)
}

fn failing(zone: char, error: Outcome) -> impl Fn(&str) -> Outcome {
    move |id| if in_zone(zone)(id) { error.clone() } else { PASS }
}

#[test]
fn a_zone_that_loses_most_of_it_is_down_at_once_and_comes_back_by_its_probes() {
    let mut world = World::new(vec![pool("web", "a4 b4 c4")]);
    // What they passed just now would void the suspicions.
    world.now = world.now + Duration::from_millis(600);
    let began = world.now;
    // Traffic finds three of them silent; the fourth has not been tried yet.
    for id in ["a1", "a2", "a3"] {
        world.suspect(id);
    }
    // The others answer it.
    for row in world.rows().iter().filter(|row| !in_zone('a')(row.instance.id.as_str())) {
        row.instance.vitals.note_byte(began + Duration::from_millis(400));
    }
    let frozen = failing('a', Err(ProbeError::Timeout(SECOND)));
    world.run(Duration::from_millis(400), &frozen);
    assert_eq!(world.admitted(), "b1 b2 b3 b4 c1 c2 c3 c4");
    assert!(world.now.since(began) < Duration::from_millis(500), "before a probe has failed");
    assert_eq!(world.whys("a"), ["3 of 4 instances within 0.0 s"]);
    assert_eq!(world.whys("a4"), ["its zone is lost: 3 of 4 instances within 0.0 s"]);
    assert_eq!(world.census().zone_state(&"a".into()), ZoneState::Lost);
    assert!(
        world
            .rows()
            .iter()
            .filter(|r| in_zone('a')(r.instance.id.as_str()))
            .all(|r| r.instance.vitals.is_down())
    );

    world.run(20 * SECOND, &frozen);
    assert_eq!(world.census().zone_state(&"a".into()), ZoneState::Lost, "as long as it is");
    // Two of four are not most, and have their traffic by their own probes all the same.
    world.run(5 * SECOND, |id| if ["a3", "a4"].contains(&id) { REFUSED } else { PASS });
    assert_eq!(world.census().zone_state(&"a".into()), ZoneState::Lost);
    assert_eq!(world.admitted(), "a1 a2 b1 b2 b3 b4 c1 c2 c3 c4");
    world.run(5 * SECOND, |_| PASS);
    assert_eq!(world.census().zone_state(&"a".into()), ZoneState::Up);
    assert_eq!(world.whys("a").len(), 2, "{:?}", world.changes);
    assert_eq!(world.rows().iter().filter(|row| row.admitted()).count(), 12);
}

#[test]
fn who_is_well_in_a_lost_zone_is_back_within_its_probes() {
    let mut world = World::new(vec![pool("api", "a1 b2"), pool("web", "a4 b4")]);
    let dead = |id: &str| if ["a2", "a3", "a4"].contains(&id) { REFUSED } else { PASS };
    world.run(Duration::from_millis(2_100), dead);
    // Five instances in all: that one pool broke is taken for the zone at first.
    assert_eq!(world.whys("a").len(), 1, "{:?}", world.changes);
    world.run(Duration::from_millis(1_200), dead);
    assert_eq!(world.census().pools[0].instances.len(), 3);
    assert!(world.census().pools[0].instances.iter().all(InstanceRow::admitted));
    assert_eq!(world.census().zone_state(&"a".into()), ZoneState::Lost);
}

#[test]
fn slow_ones_single_ones_and_troubles_of_all_are_no_loss() {
    let lost = |changes: &[Change]| changes.iter().any(|it| matches!(it, Change::Zone { .. }));
    // They answer their probes at once.
    let mut world = World::new(vec![pool("web", "a2 b2")]);
    world.run(SECOND, |_| PASS);
    for _ in 0..20 {
        world.suspect("a1");
        world.suspect("a2");
        world.run(SECOND, |_| PASS);
    }
    assert!(!lost(&world.changes), "{:?}", world.changes);
    let mut world = World::new(vec![pool("web", "a4 b4")]);
    world.run(20 * SECOND, |id| if ["a1", "a2"].contains(&id) { REFUSED } else { PASS });
    assert!(!lost(&world.changes), "{:?}", world.changes);
    let mut world = World::new(vec![pool("web", "a4 b4")]);
    world.run(20 * SECOND, |_| REFUSED);
    assert!(!lost(&world.changes), "{:?}", world.changes);
    // An answer that is no good is an answer.
    let mut world = World::new(vec![pool("web", "a4 b4")]);
    world.run(20 * SECOND, failing('a', Err(ProbeError::Status(503))));
    assert!(!lost(&world.changes), "{:?}", world.changes);
}

#[test]
fn a_pool_that_has_only_the_lost_zone_keeps_what_answers() {
    let mut world = World::new(vec![pool("only", "a2"), pool("web", "a4 b4")]);
    world.run(2 * SECOND + TICK, |id| if ["a3", "a4"].contains(&id) { REFUSED } else { PASS });
    for id in ["a1", "a2"] {
        world.suspect(id);
    }
    let census = world.census();
    assert!(census.pools[0].instances.iter().all(InstanceRow::admitted));
}

#[test]
fn panic_uses_those_that_only_answer_badly_and_lets_requests_wait_for_them() {
    let mut world = World::new(vec![pool("web", "a2 b2 c2")]);
    let outcome = |id: &str| match id {
        "a1" | "b1" => Err(ProbeError::Status(500)),
        "a2" | "b2" => Err(ProbeError::Timeout(SECOND)),
        _ => PASS,
    };
    world.run(20 * SECOND, outcome);
    let census = world.census();
    assert!(census.pools[0].plan.panic);
    assert_eq!(world.admitted(), "a1 b1 c1 c2");
    for row in world.rows() {
        let expected = row.standing.health == Health::Down && !row.in_panic;
        assert_eq!(row.instance.vitals.is_down(), expected, "{row:?}");
    }
    // What an operator keeps out stays out.
    world.membership.set_admin(&"web".into(), &"a1".into(), Admin::Draining).expect("there");
    world.membership.set_admin(&"web".into(), &"c1".into(), Admin::Draining).expect("there");
    assert_eq!(world.admitted(), "b1 c2");
    world.run(20 * SECOND, |_| PASS);
    assert!(!world.census().pools[0].plan.panic);
    assert_eq!(world.admitted(), "a2 b1 b2 c2");
    world.run(TICK, |_| PASS);
    let panics: Vec<bool> = world
        .changes
        .iter()
        .filter_map(|it| match it {
            Change::Panic { on, .. } => Some(*on),
            _ => None,
        })
        .collect();
    assert_eq!(panics, [true, false]);
}

#[test]
fn two_dead_zones_of_three_are_panic_and_stay_out() {
    let mut world = World::new(vec![pool("web", "a2 b2 c2")]);
    world.run(20 * SECOND, |id| if in_zone('c')(id) { PASS } else { REFUSED });
    assert!(world.census().pools[0].plan.panic);
    assert_eq!(world.admitted(), "c1 c2");
}

#[test]
fn an_evacuation_holds_back_new_requests_only_and_keeps_the_three_truths_apart() {
    let mut world = World::new(vec![pool("web", "a2 b2")]);
    let a: ZoneId = "a".into();
    let web = "web".into();
    world.membership.set_admin(&web, &"a1".into(), Admin::Draining).expect("there");
    assert!(world.membership.evacuate(&a, Evacuation::default(), false).is_ok());
    assert!(world.membership.changed(), "published at once");
    assert_eq!(world.admitted(), "b1 b2");
    let admins = |world: &mut World| {
        world.rows().iter().map(|row| row.standing.admin.word()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(admins(&mut world), "draining evacuated enabled enabled");
    assert!(world.rows().iter().all(|row| row.standing.health == Health::Up));
    assert_eq!(world.census().zone_state(&a), ZoneState::Evacuated);
    assert_eq!(world.census().pools[0].evacuated, std::slice::from_ref(&a));
    // It is probed on, and what operators say of instances goes on as well.
    world.run(20 * SECOND, |id| if id == "a2" { REFUSED } else { PASS });
    world.membership.set_admin(&web, &"a1".into(), Admin::Enabled).expect("there");
    assert_eq!(admins(&mut world), "evacuated evacuated enabled enabled");
    assert!(world.membership.restore(&a).is_ok());
    assert_eq!(world.admitted(), "a1 b1 b2", "a2 is down");
    let error = world.membership.restore(&a).expect_err("not evacuated").to_string();
    assert_eq!(error, "zone \"a\" is not evacuated; evacuated are: none");
}

#[test]
fn an_evacuation_ends_by_the_wall_and_outlives_a_reload_and_a_restart() {
    let mut world = World::new(vec![pool("web", "a2 b2")]);
    let a: ZoneId = "a".into();
    let until = |until| Evacuation { until };
    world.membership.evacuate(&a, until(Some(100)), false).expect("room");
    world.membership.apply_config(world.now, &[Arc::new(pool("web", "a3 b2"))]);
    world.run(5 * SECOND, |_| PASS);
    assert_eq!(world.admitted(), "b1 b2");
    let kept = world.membership.evacuations().clone();
    world.membership.evacuate(&a, until(Some(200)), false).expect("longer");
    assert!(!world.membership.end_evacuations(199));
    assert!(world.membership.end_evacuations(200));
    assert_eq!(world.admitted(), "a1 a2 a3 b1 b2");

    let mut again = Membership::new();
    again.apply_evacuations(kept.clone());
    again.apply_config(Ms(0), &[Arc::new(pool("web", "a1 b1"))]);
    assert_eq!((again.evacuations(), kept[&a].until), (&kept, Some(100)));
    let census = again.census(1);
    assert_eq!(census.pools[0].instances[0].standing.admin, Admin::Evacuated);
    assert_eq!(census.zones[0].until, Some(100));
}

#[test]
fn no_evacuation_without_room_elsewhere() {
    let mut world = World::new(vec![pool("api", "a1"), pool("web", "a2 b1")]);
    let now = Evacuation::default();
    let refused = |world: &mut World, zone: &str, force| {
        world.membership.evacuate(&zone.into(), now, force).expect_err("no room").to_string()
    };
    assert_eq!(refused(&mut world, "x", true), "there is no zone \"x\"; the zones are a, b");
    let slots: Vec<_> = world.rows()[1..]
        .iter()
        .filter_map(|row| row.instance.take_slot(Limit::Unlimited))
        .collect();
    assert_eq!(slots.len(), 3);
    assert_eq!(
        refused(&mut world, "a", false),
        "zone \"a\" is not evacuated: in pool \"api\" nothing that may take traffic would be left; \
         in pool \"web\" 3 requests are in flight and the rest has room for 2; add instances \
         elsewhere first"
    );
    assert!(refused(&mut world, "a", true).contains("nothing that may take traffic"));
    let mut world = World::new(vec![pool("web", "a2 b1")]);
    let slots: Vec<_> =
        world.rows().iter().filter_map(|row| row.instance.take_slot(Limit::Unlimited)).collect();
    assert!(refused(&mut world, "a", false).ends_with("elsewhere first, or force it"));
    world.membership.evacuate(&"a".into(), now, true).expect("forced");
    assert_eq!((world.admitted().as_str(), slots.len()), ("b1", 3));
    assert!(refused(&mut world, "b", true).contains("nothing that may take traffic"));
}
