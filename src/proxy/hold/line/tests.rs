use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ROOM: Queue =
    Queue { max: 4, timeout: Duration::from_secs(5), bytes: 100, order: Order::Adaptive };

fn claim(priority: Priority, bytes: u64) -> Claim {
    Claim { priority, bytes, picky: false }
}

/// Everyone in the order in which they would be served.
fn served<W: Copy>(line: &Line<W>, newest_first: bool) -> Vec<W> {
    let mut passed = None;
    std::iter::from_fn(|| {
        let (rank, _, waiter) = line.next(passed, newest_first)?;
        passed = Some(rank);
        Some(*waiter)
    })
    .collect()
}

#[test]
fn the_higher_goes_first_then_the_first_or_the_last_to_come() {
    use Priority::{High, Low, Normal};
    for (came, oldest_first, newest_first) in [
        (vec![], vec![], vec![]),
        (vec![Normal], vec![0], vec![0]),
        (vec![Normal, Normal, Normal], vec![0, 1, 2], vec![2, 1, 0]),
        (vec![Low, Normal, High], vec![2, 1, 0], vec![2, 1, 0]),
        (vec![High, Low, High, Low], vec![0, 2, 1, 3], vec![2, 0, 3, 1]),
    ] {
        let mut line = Line::default();
        for (who, priority) in came.iter().enumerate() {
            line.join(claim(*priority, 1), who, &ROOM, Ms(0)).expect("there is room");
        }
        assert_eq!(served(&line, false), oldest_first, "{came:?}");
        assert_eq!(served(&line, true), newest_first, "{came:?}");
    }
}

#[test]
fn who_comes_to_a_full_line_is_turned_away_unless_lesser_ones_make_room() {
    use Priority::{High, Low, Normal};
    // Who waits (priority, bytes), who comes, and who has to go for it.
    for (waiting, comes, expected) in [
        (vec![(Normal, 1); 3], (Low, 1), Some(vec![])),
        (vec![(Normal, 1); 4], (Normal, 1), None),
        (vec![(Normal, 1); 4], (High, 1), Some(vec![3])),
        (vec![(Low, 1), (Normal, 1), (Low, 1), (High, 1)], (High, 1), Some(vec![2])),
        (vec![(Low, 1), (Normal, 1), (Normal, 1), (High, 1)], (Normal, 1), Some(vec![0])),
        (vec![(High, 1); 4], (High, 1), None),
        (vec![(Normal, 60)], (Normal, 40), Some(vec![])),
        (vec![(Normal, 60)], (Normal, 41), None),
        (vec![(Low, 30), (Normal, 30), (Low, 30)], (High, 60), Some(vec![2, 0])),
        (vec![(Low, 30), (Normal, 30), (Low, 30)], (High, 71), Some(vec![2, 0, 1])),
        // They would not make enough room, so nobody goes.
        (vec![(High, 30), (Low, 30)], (Normal, 71), None),
        (vec![], (High, 101), None),
    ] {
        let mut line = Line::default();
        for (who, (priority, bytes)) in waiting.iter().enumerate() {
            line.join(claim(*priority, *bytes), who, &ROOM, Ms(0)).expect("there is room");
        }
        let joined = line.join(claim(comes.0, comes.1), 9, &ROOM, Ms(0));
        let shed = joined.map(|(_, shed)| shed.into_iter().map(|(_, who)| who).collect::<Vec<_>>());
        assert_eq!(shed, expected, "{waiting:?} {comes:?}");
        let left = waiting.len() - expected.as_ref().map_or(0, Vec::len);
        assert_eq!(line.len(), left + usize::from(expected.is_some()), "{waiting:?} {comes:?}");
    }
    let none = Queue { max: 0, ..ROOM };
    assert!(
        Line::default().join(claim(High, 0), (), &none, Ms(0)).is_none(),
        "0 turns waiting off"
    );
}

#[test]
fn overload_is_a_line_that_does_not_get_empty_and_in_which_some_wait_in_vain() {
    let join = |line: &mut Line<()>, now| {
        line.join(claim(Priority::Normal, 1), (), &ROOM, Ms(now)).expect("room").0
    };
    let fifo = Queue { order: Order::Fifo, ..ROOM };
    let mut line = Line::default();
    let [one, two, three, four] = [0, 0, 0, 60_000].map(|now| join(&mut line, now));
    // As long as nobody is served there is nothing to be overloaded.
    line.give_up(one, Ms(5_000));
    assert!(!line.is_overloaded(&ROOM, Ms(60_000)));
    line.serve(two, Ms(60_000));
    assert!(!line.is_newest_first(&ROOM, Ms(64_999)));
    assert!(line.is_newest_first(&ROOM, Ms(65_000)));
    assert!(!line.is_newest_first(&fifo, Ms(65_000)));
    line.leave(three);
    assert!(line.is_overloaded(&ROOM, Ms(65_000)));
    line.serve(four, Ms(65_000));
    // It was empty: neither counts any more.
    let [one, two] = [70_000; 2].map(|now| join(&mut line, now));
    line.serve(one, Ms(70_000));
    assert!(!line.is_overloaded(&ROOM, Ms(90_000)));
    // Who leaves soon says nothing about the line, and who is shed waited for others.
    for (waited, gives_up, overloaded) in
        [(2_499, true, false), (2_500, false, false), (2_500, true, true)]
    {
        let leaver = join(&mut line, 90_000);
        let now = Ms(90_000 + waited);
        let left = if gives_up { line.give_up(leaver, now) } else { line.leave(leaver) };
        assert_eq!(left, Some(()));
        assert_eq!(line.is_overloaded(&ROOM, now), overloaded, "{waited} {gives_up}");
    }
    line.leave(two);
}

fn priority() -> impl Strategy<Value = Priority> {
    proptest::sample::select(Priority::ALL.to_vec())
}

#[derive(Clone, Debug)]
enum Event {
    Join(Priority, u64, bool),
    Leave(prop::sample::Index),
    Serve(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (priority(), 0u64..60, any::<bool>()).prop_map(|(p, b, k)| Event::Join(p, b, k)),
        1 => any::<prop::sample::Index>().prop_map(Event::Leave),
        1 => any::<bool>().prop_map(Event::Serve),
    ]
}

proptest! {
    /// Against a list that is searched from end to end.
    #[test]
    fn a_line_does_what_a_list_would(events in prop::collection::vec(event(), 1..60)) {
        let mut line = Line::default();
        let mut list: Vec<(Rank, Claim)> = Vec::new();
        for event in events {
            match event {
                Event::Join(priority, bytes, picky) => {
                    let claim = Claim { priority, bytes, picky };
                    let joined = line.join(claim, (), &ROOM, Ms(0));
                    let fits = |list: &[(Rank, Claim)]| {
                        list.len() < 4
                            && list.iter().map(|(_, c)| c.bytes).sum::<u64>() + bytes <= 100
                    };
                    let (mut kept, mut gone) = (list.clone(), Vec::new());
                    while !fits(&kept) {
                        let last = (0..kept.len()).max_by_key(|i| kept[*i].0);
                        match last.filter(|i| kept[*i].1.priority > priority) {
                            Some(last) => gone.push(kept.remove(last).0),
                            None => break,
                        }
                    }
                    prop_assert_eq!(joined.is_some(), fits(&kept));
                    if let Some((rank, shed)) = joined {
                        prop_assert_eq!(shed.iter().map(|(rank, ())| *rank).collect::<Vec<_>>(), gone);
                        list = kept;
                        list.push((rank, claim));
                    }
                }
                Event::Leave(index) if !list.is_empty() => {
                    let (rank, _) = list.remove(index.index(list.len()));
                    prop_assert!(line.leave(rank).is_some());
                    prop_assert!(line.leave(rank).is_none());
                }
                Event::Serve(newest_first) if !list.is_empty() => {
                    let (rank, picky, ()) = line.next(None, newest_first).expect("somebody");
                    let best = list.iter().map(|(_, claim)| claim.priority).min();
                    let own: Vec<_> =
                        list.iter().filter(|(_, claim)| Some(claim.priority) == best).collect();
                    let next = if newest_first { own.last() } else { own.first() };
                    prop_assert_eq!(next.map(|(rank, claim)| (*rank, claim.picky)), Some((rank, picky)));
                    line.serve(rank, Ms(0));
                    list.retain(|(other, _)| *other != rank);
                }
                _ => {}
            }
            prop_assert_eq!(line.len(), list.len());
            prop_assert_eq!(line.bytes, list.iter().map(|(_, claim)| claim.bytes).sum::<u64>());
            prop_assert_eq!(line.is_picky(), list.iter().all(|(_, claim)| claim.picky));
        }
    }
}
