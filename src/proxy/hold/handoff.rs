//! How what gets free comes to whom: handed over, so that nobody can take it on the way.
//!
//! Whoever frees something reads one counter. If nobody waits that was all; else it locks the line and
//! gives what it has freed to whose turn it is, and wakes exactly that one. Who comes while somebody
//! waits stands in line. Somebody to whom a thing was handed, and who has left meanwhile, hands it on.
//!
//! The order of operations is what keeps a waiter from sleeping through what was meant for it: who is
//! about to wait announces itself and only then looks; who frees something does so and only then looks
//! for waiters. One of the two always sees the other. `tests/loom` tries all interleavings.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::line::{Claim, Line, Rank};
use super::sync::{AtomicU32, Mutex, MutexGuard, Ordering, PoisonError, announced};
use crate::base::Ms;
use crate::model::Queue;

/// Where the things are that are waited for.
pub trait Supply {
    /// What somebody wants.
    type Wish;
    /// What it gets.
    type Good;

    /// The time.
    fn now(&self) -> Ms;

    /// The bounds and the order of the line.
    fn queue(&self) -> Queue;

    /// Why waiting is of no use to somebody who wants this.
    fn refuses(&self, wish: &Self::Wish) -> Option<Turned>;

    /// Takes a thing that is free.
    fn take(&mut self, wish: &Self::Wish) -> Option<Self::Good>;

    /// Takes one from this source, if one is free there.
    fn take_from(&mut self, source: u64, wish: &Self::Wish) -> Option<Self::Good>;

    /// Where a thing is from.
    fn source(good: &Self::Good) -> u64;
}

/// Why somebody gets nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turned {
    /// The line is full, of those that matter as much or more.
    Full,
    /// There is nothing, and nothing will come.
    Empty,
    /// What there is was of no use to it, and nothing else will come.
    AllTried,
}

/// What some wait for, and they.
pub struct Hold<S: Supply> {
    /// How many wait. Written under the lock, read by everyone.
    waiting: AtomicU32,
    counter: Mutex<Counter<S>>,
}

/// What is locked.
struct Counter<S: Supply> {
    supply: S,
    line: Line<Waiter<S::Wish>>,
    /// What became of those who were called and have not come yet.
    called: BTreeMap<Rank, Result<S::Good, Turned>>,
    /// Those of them who are still to be woken, once the lock is gone.
    wakers: Vec<Waker>,
}

struct Waiter<W> {
    wish: W,
    waker: Option<Waker>,
}

/// What becomes of somebody who joins.
pub enum Joined<'h, S: Supply> {
    /// There was something, and nobody waits who could use it.
    Served(S::Good),
    /// It stands in line.
    Waits(Place<'h, S>),
}

/// A place in the line, and the wait for what comes of it. On drop it is given up, and what was handed
/// over already goes to the next.
#[must_use = "futures do nothing unless they are polled"]
pub struct Place<'h, S: Supply> {
    hold: &'h Hold<S>,
    /// `None` once it has come to its end.
    rank: Option<Rank>,
}

/// So many of those who may not take everything get a full look each time that something may be free;
/// they and what they have tried are few, unless something is very wrong.
const PICKY_LOOKS: u32 = 64;

impl<S: Supply> Hold<S> {
    /// Nobody waits.
    pub fn new(supply: S) -> Self {
        let (line, called, wakers) = (Line::default(), BTreeMap::new(), Vec::new());
        let counter = Mutex::new(Counter { supply, line, called, wakers });
        Self { waiting: AtomicU32::new(0), counter }
    }

    /// How many wait now. Who sees somebody does not help itself, but joins.
    pub fn depth(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Stands in line, or takes what is free if nobody who waits could use it.
    ///
    /// # Errors
    /// Why neither is possible.
    pub fn join(&self, wish: S::Wish, claim: Claim) -> Result<Joined<'_, S>, Turned> {
        self.locked(|counter| {
            if let Some(turned) = counter.supply.refuses(&wish) {
                return Err(turned);
            }
            // While somebody waits who could use anything, there is nothing.
            if counter.line.is_picky() {
                self.announce(counter.line.len() + 1);
                counter.serve(None);
                if let Some(good) = counter.supply.take(&wish) {
                    return Ok(Joined::Served(good));
                }
            }
            let waiter = Waiter { wish, waker: None };
            let (queue, now) = (counter.supply.queue(), counter.supply.now());
            let (rank, shed) = counter.line.join(claim, waiter, &queue, now).ok_or(Turned::Full)?;
            for (rank, waiter) in shed {
                counter.call(rank, waiter, Err(Turned::Full));
            }
            Ok(Joined::Waits(Place { hold: self, rank: Some(rank) }))
        })
    }

    /// Something was given back to this source: goes to whose turn it is.
    pub fn freed(&self, source: u64) {
        announced();
        if self.depth() > 0 {
            self.locked(|counter| counter.serve(Some(source)));
        }
    }

    /// Changes the supply: who can be served now is, and who waits in vain is told.
    pub fn change<T>(&self, change: impl FnOnce(&mut S) -> T) -> T {
        self.locked(|counter| {
            let changed = change(&mut counter.supply);
            counter.turn_away();
            counter.serve(None);
            changed
        })
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Counter<S>) -> T) -> T {
        let mut counter = self.lock();
        let done = work(&mut counter);
        self.announce(counter.line.len());
        let wakers = std::mem::take(&mut counter.wakers);
        drop(counter);
        wakers.into_iter().for_each(Waker::wake);
        done
    }

    fn lock(&self) -> MutexGuard<'_, Counter<S>> {
        self.counter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, waiting: usize) {
        self.waiting.store(u32::try_from(waiting).unwrap_or(u32::MAX), Ordering::SeqCst);
        announced();
    }
}

impl<S: Supply> Counter<S> {
    /// Hands over what is free, of one source or of all, one after the other.
    fn serve(&mut self, source: Option<u64>) {
        let now = self.supply.now();
        let newest_first = self.line.is_newest_first(&self.supply.queue(), now);
        let (mut passed, mut looks) = (None, PICKY_LOOKS);
        while let Some((rank, picky, waiter)) = self.line.next(passed, newest_first) {
            let good = match source {
                Some(source) => self.supply.take_from(source, &waiter.wish),
                None if picky && looks == 0 => None,
                None => self.supply.take(&waiter.wish),
            };
            match good {
                Some(good) => {
                    if let Some(waiter) = self.line.serve(rank, now) {
                        self.call(rank, waiter, Ok(good));
                    }
                }
                None if picky => {
                    looks = looks.saturating_sub(1);
                    passed = Some(rank);
                }
                // Not for one that takes anything: there is nothing.
                None => break,
            }
        }
    }

    /// Tells those who wait in vain.
    fn turn_away(&mut self) {
        let refused = |(rank, waiter): (Rank, &Waiter<S::Wish>)| {
            self.supply.refuses(&waiter.wish).map(|turned| (rank, turned))
        };
        let refused: Vec<(Rank, Turned)> = self.line.iter().filter_map(refused).collect();
        for (rank, turned) in refused {
            if let Some(waiter) = self.line.leave(rank) {
                self.call(rank, waiter, Err(turned));
            }
        }
    }

    /// What became of somebody who is not in the line any more.
    fn call(&mut self, rank: Rank, waiter: Waiter<S::Wish>, outcome: Result<S::Good, Turned>) {
        self.called.insert(rank, outcome);
        self.wakers.extend(waiter.waker);
    }
}

impl<S: Supply> Future for Place<'_, S> {
    type Output = Result<S::Good, Turned>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let rank = self.rank.expect("it is not polled after it has come to its end");
        let mut counter = self.hold.lock();
        let called = counter.called.remove(&rank);
        if called.is_none()
            && let Some(waiter) = counter.line.get_mut(rank)
        {
            match &mut waiter.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
        }
        drop(counter);
        match called {
            Some(outcome) => {
                self.rank = None;
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}

impl<S: Supply> Drop for Place<'_, S> {
    fn drop(&mut self) {
        let Some(rank) = self.rank else { return };
        let (called, left) = self.hold.locked(|counter| {
            let now = counter.supply.now();
            (counter.called.remove(&rank), counter.line.give_up(rank, now))
        });
        // What its wish and its waker hold is given up outside of the lock.
        drop(left);
        if let Some(Ok(good)) = called {
            let source = S::source(&good);
            drop(good);
            self.hold.freed(source);
        }
    }
}

impl<S: Supply> fmt::Debug for Hold<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("waiting", &self.depth()).finish_non_exhaustive()
    }
}

impl<S: Supply> fmt::Debug for Place<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("rank", &self.rank).finish_non_exhaustive()
    }
}

impl<S: Supply> fmt::Debug for Joined<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Served(_) => "Served",
            Self::Waits(_) => "Waits",
        })
    }
}

#[cfg(test)]
mod tests;
