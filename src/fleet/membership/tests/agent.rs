//! Agents beside instances.

use super::*;

fn with_agent(weight: u32) -> Pool {
    let mut pool = pool("web", vec![StaticInstance { weight, ..one("a", "1", 1) }]);
    pool.health.agent = Some(AgentCheck { port: 9, interval: SECOND });
    pool
}

/// A world whose agents have just said this.
fn saying(world: &mut World, line: &'static str) -> InstanceRow {
    world.says = Some(line);
    world.run(SECOND, |_| PASS);
    world.get("a")
}

#[test]
fn an_agent_speaks_beside_the_probes() {
    let mut world = World::new(vec![with_agent(1)]);
    world.run(3 * SECOND, |_| PASS);
    assert_eq!(world.get("a").why(), "up", "one that cannot be asked is no error");
    world.membership.take_changes();

    let row = saying(&mut world, "drain");
    assert_eq!((row.why().as_str(), row.standing.admin), ("its agent says drain", Admin::Draining));
    assert!(!row.standing.eligible());
    assert!(world.membership.admin_overrides().is_empty(), "it is no operator");
    let row = saying(&mut world, "ready down #the disk is full");
    assert_eq!(
        (row.why().as_str(), row.standing.health),
        ("its agent says down: the disk is full", Health::Down)
    );
    assert!(row.instance.vitals.is_down(), "nobody waits for it");
    world.says = None;
    world.run(5 * SECOND, |_| PASS);
    assert_eq!(world.get("a").standing.health, Health::Down, "only the agent undoes it");
    let row = saying(&mut world, "up");
    assert_eq!((row.why().as_str(), row.instance.vitals.is_down()), ("up", false));
    let mut told = world.membership.take_changes();
    // Without its only instance the pool is in panic.
    told.retain(|change| !matches!(change, Change::Panic { .. }));
    let says = told.iter().filter(|change| matches!(change, Change::Agent { .. })).count();
    assert_eq!((says, told.len()), (3, 3), "each once: {told:?}");

    // Neither brings up what the other holds down.
    saying(&mut world, "down");
    world.run(10 * SECOND, |_| FAIL);
    world.says = Some("up");
    world.run(2 * SECOND, |_| FAIL);
    let row = world.get("a");
    assert_eq!((row.why().as_str(), row.instance.vitals.is_down()), ("fails its probes", true));
    saying(&mut world, "down");
    world.run(10 * SECOND, |_| PASS);
    assert!(world.get("a").instance.vitals.is_down());

    // What an operator says goes before what the agent says.
    saying(&mut world, "up maint");
    let operator = Admin::Draining;
    world.membership.set_admin(&"web".into(), &"a".into(), operator).expect("known");
    assert_eq!(world.get("a").why(), "drained by an operator");
    world.membership.set_admin(&"web".into(), &"a".into(), Admin::Enabled).expect("known");
    assert_eq!(world.get("a").why(), "its agent says maint");
}

#[test]
fn an_agent_changes_weight_and_limit_and_that_survives_a_reload() {
    let mut world = World::new(vec![with_agent(3)]);
    world.run(3 * SECOND, |_| PASS);
    let before = world.get("a").instance;
    let row = saying(&mut world, "50% maxconn:1");
    assert_eq!((row.instance.weight, row.instance.vitals.ramp()), (2, FULL * 3 / 4));
    assert!(Arc::ptr_eq(&before.vitals, &row.instance.vitals));
    let _slot = row.instance.take_slot(Limit::AtMost(5)).expect("one");
    assert!(row.instance.take_slot(Limit::AtMost(5)).is_none());

    world.says = None;
    world.configure(vec![with_agent(4)]);
    let row = world.get("a");
    assert_eq!((row.instance.weight, row.instance.vitals.ramp()), (2, FULL));
    let mut slower = with_agent(4);
    slower.health.agent = Some(AgentCheck { port: 9, interval: 3 * SECOND });
    slower.health.check = HealthCheck::Http(HttpCheck::get("/"));
    world.configure(vec![slower]);
    world.run(3 * SECOND, |_| PASS);
    let row = world.get("a");
    assert_eq!((row.instance.weight, row.why().as_str()), (2, "up"));
    assert!(row.instance.take_slot(Limit::AtMost(5)).is_none());

    // With nobody left to take it back, it is as configured.
    world.configure(vec![pool("web", vec![StaticInstance { weight: 4, ..one("a", "1", 1) }])]);
    let row = world.get("a");
    assert_eq!((row.instance.weight, row.instance.vitals.ramp()), (4, FULL));
    assert!(row.instance.take_slot(Limit::AtMost(5)).is_some());
    let asked = world.run(5 * SECOND, |_| PASS);
    assert!(asked.iter().all(|(_, order)| order.asks == Asks::Instance));
}
