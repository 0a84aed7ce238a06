//! Which connection takes a stream, and when another is made. Pure.

/// A connection as a new stream sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Streams on it.
    pub streams: u32,
    /// How many it may have.
    pub limit: u32,
    /// A PING is unanswered: it may lead nowhere.
    pub doubtful: bool,
}

/// Where a new stream goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Choice {
    /// To this connection.
    Take(usize),
    /// It waits for one that is to be made now, or for another stream's end.
    Dial,
    /// It waits for one that is being made, or for another stream's end.
    Wait,
}

/// Chooses among `connections` the one with the fewest streams. If all are full, another is made, one at
/// a time (whoever comes meanwhile fits on that one too, mostly) and no more than `max`; those in doubt
/// do not count, or else a path that leads nowhere would keep its place.
pub fn choose(connections: impl Iterator<Item = Load>, dialing: bool, max: u32) -> Choice {
    let mut best: Option<(u32, usize)> = None;
    let mut count = 0;
    for (at, Load { streams, limit, doubtful }) in connections.enumerate() {
        if doubtful {
            continue;
        }
        count += 1;
        if streams < limit && best.is_none_or(|(fewest, _)| streams < fewest) {
            best = Some((streams, at));
        }
    }
    match best {
        Some((_, at)) => Choice::Take(at),
        None if !dialing && count < max => Choice::Dial,
        None => Choice::Wait,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn load(streams: u32, limit: u32) -> Load {
        Load { streams, limit, doubtful: false }
    }

    #[test]
    fn the_fewest_streams_below_the_limit() {
        let doubtful = Load { doubtful: true, ..load(0, 100) };
        for (connections, dialing, max, expected) in [
            (&[][..], false, 9, Choice::Dial),
            (&[], true, 9, Choice::Wait),
            (&[load(0, 100)], false, 9, Choice::Take(0)),
            (&[load(7, 100), load(3, 100), load(3, 100)], false, 9, Choice::Take(1)),
            (&[load(3, 3), load(7, 100)], true, 9, Choice::Take(1)),
            (&[load(3, 3), load(100, 100)], false, 9, Choice::Dial),
            (&[load(3, 3), load(100, 100)], true, 9, Choice::Wait),
            (&[load(3, 3), load(100, 100)], false, 2, Choice::Wait),
            // The instance has lowered its limit since, or takes nothing for now.
            (&[load(9, 1)], false, 9, Choice::Dial),
            (&[load(0, 0)], false, 1, Choice::Wait),
            (&[doubtful, load(50, 100)], false, 9, Choice::Take(1)),
            (&[doubtful], false, 1, Choice::Dial),
            (&[doubtful, load(100, 100)], false, 1, Choice::Wait),
        ] {
            assert_eq!(choose(connections.iter().copied(), dialing, max), expected);
        }
    }

    proptest! {
        /// Any number of streams that come, and go in any order: none is put where it does not fit, and
        /// no more connections are made than are needed at the same time.
        #[test]
        fn as_few_connections_as_the_streams_need(
            limit in 1u32..5,
            max in 1u32..6,
            steps in proptest::collection::vec((any::<bool>(), 0usize..100), 1..300),
        ) {
            let mut connections: Vec<Load> = Vec::new();
            let (mut dialing, mut waiting, mut most) = (false, 0u32, 0u32);
            for (comes, at) in steps {
                let on_all: u32 = connections.iter().map(|one| one.streams).sum();
                if comes {
                    waiting += 1;
                } else if let Some(one) = connections.get_mut(at) {
                    one.streams = one.streams.saturating_sub(1);
                } else if dialing {
                    dialing = false;
                    connections.push(load(0, limit));
                }
                most = most.max(on_all + waiting);
                while waiting > 0 {
                    match choose(connections.iter().copied(), dialing, max) {
                        Choice::Take(at) => {
                            connections[at].streams += 1;
                            waiting -= 1;
                            prop_assert!(connections[at].streams <= limit);
                        }
                        Choice::Dial => dialing = true,
                        Choice::Wait => break,
                    }
                }
                prop_assert!(connections.len() as u32 + u32::from(dialing) <= max);
                prop_assert!(
                    connections.len() as u32 + u32::from(dialing) <= most.div_ceil(limit).max(1)
                );
            }
        }
    }
}
