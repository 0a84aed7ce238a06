//! Who waits, in which order, and who has to go when there is no room. Pure.
//!
//! - The higher priority goes first; within one, whoever came first, or last where that is asked for.
//! - The last goes first only where waiting is in vain for some anyway. A line that is worked off in time,
//!   however long, loses nobody who came early to those who came late.
//! - Nobody goes for one of its own priority: a full line sheds the newest of the lowest priority, and
//!   only as many as it takes. If those do not make room, nobody goes, and who comes is turned away.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::time::Duration;

use crate::base::Ms;
use crate::model::{Order, Priority, Queue};

/// A place in a line. In the order of service, as long as that is first come, first served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Rank {
    priority: Priority,
    number: u64,
}

/// What somebody brings into the line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// How much it matters.
    pub priority: Priority,
    /// What it holds while it waits.
    pub bytes: u64,
    /// Not everything that gets free is of use to it.
    pub picky: bool,
}

/// Somebody who waits.
#[derive(Debug)]
struct Member<W> {
    claim: Claim,
    /// When it came.
    came: Ms,
    waiter: W,
}

/// Those who wait, each with what is to be known of it.
#[derive(Debug)]
pub struct Line<W> {
    waiting: BTreeMap<Rank, Member<W>>,
    bytes: u64,
    picky: usize,
    /// How many ever came.
    came: u64,
    /// Since when somebody always waited although some were served.
    served_since: Option<Ms>,
    /// The longest that anybody waited before it gave up, since nobody waited.
    in_vain: Duration,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        let waiting = BTreeMap::new();
        let in_vain = Duration::ZERO;
        Self { waiting, bytes: 0, picky: 0, came: 0, served_since: None, in_vain }
    }
}

impl<W> Line<W> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether everyone who waits is picky: something may be free that only others can use.
    pub fn is_picky(&self) -> bool {
        self.picky == self.waiting.len()
    }

    /// Takes somebody in, at the end of its priority; says who has to go for it. `None` if there is no
    /// room, and those of lower priority do not make enough.
    pub fn join(
        &mut self,
        claim: Claim,
        waiter: W,
        queue: &Queue,
        now: Ms,
    ) -> Option<(Rank, Vec<(Rank, W)>)> {
        let last_of_own = Rank { priority: claim.priority, number: u64::MAX };
        let mut lower = self.waiting.range((Excluded(last_of_own), Unbounded)).rev();
        let (mut count, mut bytes) = (self.waiting.len(), self.bytes);
        let mut cut = None;
        while count >= queue.max as usize || bytes.saturating_add(claim.bytes) > queue.bytes {
            let (rank, shed) = lower.next()?;
            count -= 1;
            bytes -= shed.claim.bytes;
            cut = Some(*rank);
        }
        let mut shed = Vec::new();
        while let Some(rank) = cut.and(self.waiting.last_key_value()).map(|(rank, _)| *rank)
            && Some(rank) >= cut
        {
            shed.extend(self.leave(rank).map(|waiter| (rank, waiter)));
        }
        let rank = Rank { priority: claim.priority, number: self.came };
        self.came += 1;
        self.bytes += claim.bytes;
        self.picky += usize::from(claim.picky);
        self.waiting.insert(rank, Member { claim, came: now, waiter });
        Some((rank, shed))
    }

    /// Somebody has to leave, or gets what it came for.
    pub fn leave(&mut self, rank: Rank) -> Option<W> {
        let member = self.waiting.remove(&rank)?;
        self.bytes -= member.claim.bytes;
        self.picky -= usize::from(member.claim.picky);
        if self.waiting.is_empty() {
            self.served_since = None;
            self.in_vain = Duration::ZERO;
        }
        Some(member.waiter)
    }

    /// Somebody leaves by itself: its time is over, or its client is gone.
    pub fn give_up(&mut self, rank: Rank, now: Ms) -> Option<W> {
        let waited = now.since(self.waiting.get(&rank)?.came);
        self.in_vain = self.in_vain.max(waited);
        self.leave(rank)
    }

    /// Somebody leaves because it is served.
    pub fn serve(&mut self, rank: Rank, now: Ms) -> Option<W> {
        let served = self.leave(rank)?;
        if !self.waiting.is_empty() {
            self.served_since.get_or_insert(now);
        }
        Some(served)
    }

    /// Whether somebody has always waited for as long as one may wait at most, although some were served,
    /// and somebody has waited half as long in vain: that is no burst that is worked off, and not for
    /// all of them is it worked off in time.
    pub fn is_overloaded(&self, queue: &Queue, now: Ms) -> bool {
        let lasts = self.served_since.is_some_and(|since| now.since(since) >= queue.timeout);
        lasts && self.in_vain >= queue.timeout / 2
    }

    /// Whether the last to come is the next to be served.
    pub fn is_newest_first(&self, queue: &Queue, now: Ms) -> bool {
        queue.order == Order::Adaptive && self.is_overloaded(queue, now)
    }

    /// Whose turn it is after `passed`, who could not be served; the first of all without one.
    pub fn next(&self, passed: Option<Rank>, newest_first: bool) -> Option<(Rank, bool, &W)> {
        let found = if newest_first {
            let from = passed.map_or(Priority::High, |passed| passed.priority);
            Priority::ALL.into_iter().filter(|priority| *priority >= from).find_map(|priority| {
                let first = Included(Rank { priority, number: 0 });
                let last = match passed {
                    Some(passed) if passed.priority == priority => Excluded(passed),
                    _ => Included(Rank { priority, number: u64::MAX }),
                };
                self.waiting.range((first, last)).next_back()
            })
        } else {
            let after = passed.map_or(Unbounded, Excluded);
            self.waiting.range((after, Unbounded)).next()
        };
        found.map(|(rank, member)| (*rank, member.claim.picky, &member.waiter))
    }

    /// Somebody who waits.
    pub fn get_mut(&mut self, rank: Rank) -> Option<&mut W> {
        self.waiting.get_mut(&rank).map(|member| &mut member.waiter)
    }

    /// Everyone, in the order of their ranks.
    pub fn iter(&self) -> impl Iterator<Item = (Rank, &W)> {
        self.waiting.iter().map(|(rank, member)| (*rank, &member.waiter))
    }
}

#[cfg(test)]
mod overload;
#[cfg(test)]
mod tests;
