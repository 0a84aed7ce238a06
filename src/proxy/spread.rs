//! How connections are spread over workers. The kernel deals them out by a hash, which is even for
//! many short ones; of a few long ones a worker may get most. Then the worker that accepts one hands it
//! to another that has clearly fewer. Otherwise that costs a look at one counter per worker: where
//! connections do not last, none is handed.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::base::Ms;
use crate::proxy::snapshot::ListenerView;

/// Connections that may be on their way to a worker; beyond, who accepts serves.
const UNDERWAY_MAX: usize = 256;

/// A connection that was accepted; its socket belongs to a worker's runtime, or to none on the way from
/// one to another.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The socket.
    pub stream: S,
    /// Who is connected.
    pub peer: SocketAddr,
    /// The address that it was accepted on.
    pub bound: SocketAddr,
    /// The listener then.
    pub view: Arc<ListenerView>,
}

/// A connection on its way to another worker.
pub type Handed = Accepted<TcpStream>;

/// The ways to all workers.
#[derive(Clone, Debug)]
pub struct Spread {
    to: Arc<[mpsc::Sender<Handed>]>,
}

impl Spread {
    /// Ways to this many workers, and their ends.
    pub fn new(workers: usize) -> (Self, Vec<mpsc::Receiver<Handed>>) {
        let (to, ends): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::channel(UNDERWAY_MAX)).unzip();
        (Self { to: to.into() }, ends)
    }

    /// Whether another worker should have the next connection of this listener instead of `worker`.
    pub fn elsewhere(
        &self,
        view: &ListenerView,
        worker: usize,
        turnover: &mut Turnover,
        now: Ms,
    ) -> Option<usize> {
        let own = &view.meter.shards[worker];
        let open = own.active.get();
        if !turnover.is_slow(now, own.accepted.get().saturating_sub(open), open) {
            return None;
        }
        let underway = |to: &mpsc::Sender<Handed>| (to.max_capacity() - to.capacity()) as u64;
        let open = view.meter.shards.iter().zip(self.to.iter());
        fewest_beside(worker, open.map(|(shard, to)| shard.active.get() + underway(to)))
    }

    /// Hands a connection over.
    ///
    /// # Errors
    /// The connection, if that worker takes none any more.
    pub fn hand(&self, worker: usize, handed: Handed) -> Result<(), Handed> {
        self.to[worker].try_send(handed).map_err(|error| match error {
            mpsc::error::TrySendError::Full(handed) => handed,
            mpsc::error::TrySendError::Closed(handed) => handed,
        })
    }
}

/// How fast the connections that a worker has of a listener come and go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turnover {
    since: Ms,
    closed_before: u64,
    /// Closed in a second, when that was last reckoned.
    rate: u64,
}

impl Turnover {
    /// Whether connections last for a second or longer, as far as the number that has `closed` in all
    /// tells (what is open is what comes in a second times how long it stays).
    fn is_slow(&mut self, now: Ms, closed: u64, open: u64) -> bool {
        let lately = closed.saturating_sub(self.closed_before);
        let elapsed_ms = now.since(self.since).as_millis() as u64;
        if elapsed_ms >= 1_000 {
            *self = Self { since: now, closed_before: closed, rate: lately * 1_000 / elapsed_ms };
        } else if lately > self.rate {
            self.rate = lately;
        }
        self.rate <= open
    }
}

/// Who has the fewest, if that is so much less than `own` has that moving one is worth what it costs:
/// two and an eighth, which short connections seldom make by chance.
fn fewest_beside(own: usize, open: impl Iterator<Item = u64> + Clone) -> Option<usize> {
    let (index, fewest) = open.clone().enumerate().min_by_key(|(_, open)| *open)?;
    let has = { open }.nth(own)?;
    (has >= fewest + 2 + fewest / 8).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clear_differences_are_mended() {
        for (own, open, to) in [
            (0, &[0, 0][..], None),
            (0, &[1, 0], None),
            (0, &[2, 0], Some(1)),
            (1, &[2, 0], None),
            (0, &[5, 4, 3], Some(2)),
            (1, &[5, 4, 3], None),
            (0, &[105, 100], None),
            (0, &[113, 100], None),
            (0, &[114, 100], Some(1)),
            (0, &[7], None),
        ] {
            assert_eq!(fewest_beside(own, open.iter().copied()), to, "{own} of {open:?}");
        }
    }

    #[test]
    fn connections_that_come_and_go_are_left_where_they_are() {
        let mut turnover = Turnover::default();
        assert!(turnover.is_slow(Ms(5_000), 0, 0), "nothing has closed");
        assert!(turnover.is_slow(Ms(5_100), 0, 40));
        assert!(!turnover.is_slow(Ms(5_200), 41, 40), "known before the second is over");
        assert!(!turnover.is_slow(Ms(6_100), 400, 40));
        assert!(!turnover.is_slow(Ms(6_101), 400, 40), "remembered");
        assert!(turnover.is_slow(Ms(16_100), 401, 40), "long ago");
        assert!(turnover.is_slow(Ms(26_100), 801, 40), "40 in a second: each lasts one");
        assert!(!turnover.is_slow(Ms(36_100), 1_211, 40));
    }

    #[test]
    fn however_the_kernel_deals_few_connections_no_worker_gets_many_more() {
        for seed in 0..200 {
            let mut entropy = crate::base::Entropy::seeded(seed);
            let mut open = [0u64; 4];
            for _ in 0..32 {
                let accepts = entropy.below(4);
                let serves = fewest_beside(accepts, open.iter().copied());
                open[serves.unwrap_or(accepts)] += 1;
            }
            let (most, fewest) = (open.iter().max(), open.iter().min());
            assert!(most.zip(fewest).is_some_and(|(most, fewest)| most - fewest <= 3), "{open:?}");
        }
    }
}
