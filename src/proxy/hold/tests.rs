use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::model::{Instance, Limit, Pool, TrafficPlan};
use crate::observe::PoolMeter;
use crate::proxy::hold::handoff::{Joined, Place};
use crate::proxy::hold::line::Claim;
use crate::proxy::snapshot::PoolShared;

fn instance(n: u16) -> Arc<Instance> {
    Arc::new(Instance {
        id: format!("i{n}").as_str().into(),
        pool: "p".into(),
        zone: "a".into(),
        address: ([127, 0, 0, 1], 1_000 + n).into(),
        weight: 1,
        vitals: Arc::default(),
    })
}

fn shared() -> Arc<PoolShared> {
    Arc::new(PoolShared::new("p".into(), 0, Arc::new(PoolMeter::new(1))))
}

/// Shows a snapshot in which these instances are, each with whether it is eligible.
fn show(shared: &Arc<PoolShared>, members: &[(&Arc<Instance>, bool)], hopeful: bool) {
    let pool = Pool { max_in_flight: Limit::AtMost(1), ..Pool::new("p".into()) };
    let members =
        members.iter().map(|(member, eligible)| (Arc::clone(member), *eligible)).collect();
    let view = PoolView::build(
        Arc::new(pool),
        members,
        &TrafficPlan::default(),
        hopeful,
        Arc::clone(shared),
    );
    shared.show(&Arc::new(Snapshot { pools: vec![view], ..Snapshot::default() }));
}

fn join<'h>(shared: &'h PoolShared, tried: &[u64]) -> Result<Joined<'h, Slots>, Turned> {
    let claim = Claim { picky: !tried.is_empty(), ..Claim::default() };
    shared.hold.join(Wish::of(&Ask { tried, ..Ask::default() }), claim)
}

fn wait<'h>(shared: &'h PoolShared, tried: &[u64]) -> Place<'h, Slots> {
    match join(shared, tried) {
        Ok(Joined::Waits(place)) => place,
        other => panic!("{other:?}"),
    }
}

fn look(place: &mut Place<'_, Slots>) -> Option<Result<Slot, Turned>> {
    match Pin::new(place).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn give_back(shared: &PoolShared, slot: Slot) {
    let source = Slots::source(&slot);
    drop(slot);
    shared.hold.freed(source);
}

#[test]
fn the_first_instance_of_an_empty_pool_serves_who_waits() {
    let (shared, one) = (shared(), instance(1));
    let (mut early, mut late) = (wait(&shared, &[]), wait(&shared, &[]));
    show(&shared, &[], true);
    assert!(look(&mut early).is_none());
    show(&shared, &[(&one, true)], true);
    let slot = look(&mut early).expect("served").expect("a slot");
    assert!(look(&mut late).is_none(), "it takes one at a time");
    give_back(&shared, slot);
    assert!(look(&mut late).expect("served").is_ok());
}

#[test]
fn an_instance_that_is_not_eligible_any_more_gets_nothing_when_it_gets_free() {
    let (shared, one, two) = (shared(), instance(1), instance(2));
    show(&shared, &[(&one, true), (&two, true)], false);
    let slots = [(); 2].map(|()| match join(&shared, &[]) {
        Ok(Joined::Served(slot)) => slot,
        other => panic!("{other:?}"),
    });
    let mut waiting = wait(&shared, &[]);
    show(&shared, &[(&one, false), (&two, true)], false);
    let [first, second] = slots;
    let (of_one, of_two) =
        if first.instance().id == one.id { (first, second) } else { (second, first) };
    give_back(&shared, of_one);
    assert!(look(&mut waiting).is_none());
    give_back(&shared, of_two);
    let slot = look(&mut waiting).expect("served").expect("a slot");
    assert_eq!(slot.instance().id, two.id);
}

#[test]
fn who_waits_in_vain_is_told() {
    let (shared, one) = (shared(), instance(1));
    let tried = [one.vitals.serial];
    show(&shared, &[(&one, true)], true);
    let held = join(&shared, &[]);
    let (mut retry, mut fresh) = (wait(&shared, &tried), wait(&shared, &[]));
    show(&shared, &[(&one, true)], false);
    assert_eq!(look(&mut retry).expect("told").err(), Some(Turned::AllTried));
    assert_eq!(join(&shared, &tried).err(), Some(Turned::AllTried));
    assert!(look(&mut fresh).is_none());
    show(&shared, &[], false);
    assert_eq!(look(&mut fresh).expect("told").err(), Some(Turned::Empty));
    show(&shared, &[(&one, true)], false);
    let mut last = wait(&shared, &[]);
    // The pool leaves the config.
    shared.show(&Arc::default());
    assert_eq!(look(&mut last).expect("told").err(), Some(Turned::Empty));
    drop(held);
}
