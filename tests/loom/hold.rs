//! Every interleaving of a few threads at the hold queue: nobody sleeps through what was meant for it,
//! nothing is given out twice, nothing is lost. A waiter that is never woken is a deadlock to loom.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;
use tidegate_loom::base::Ms;
use tidegate_loom::handoff::{Hold, Joined, Place, Supply, Turned};
use tidegate_loom::line::Claim;
use tidegate_loom::model::Queue;

/// Instances with one slot each.
struct Instances {
    free: Vec<Arc<AtomicU32>>,
    /// How many of them may be used.
    eligible: usize,
}

/// A slot; given back on drop, as the real one is.
struct Slot {
    source: u64,
    free: Arc<AtomicU32>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        assert_eq!(self.free.fetch_add(1, Ordering::SeqCst), 0, "it was given out twice");
    }
}

fn take(free: &Arc<AtomicU32>, source: u64) -> Option<Slot> {
    let taken = free.compare_exchange(1, 0, Ordering::SeqCst, Ordering::SeqCst);
    taken.ok().map(|_| Slot { source, free: Arc::clone(free) })
}

impl Supply for Instances {
    /// The sources that were tried.
    type Wish = Vec<u64>;
    type Good = Slot;

    fn now(&self) -> Ms {
        Ms::ZERO
    }

    fn queue(&self) -> Queue {
        Queue::default()
    }

    fn refuses(&self, _: &Vec<u64>) -> Option<Turned> {
        None
    }

    fn take(&mut self, wish: &Vec<u64>) -> Option<Slot> {
        (0..self.eligible as u64).find_map(|source| self.take_from(source, wish))
    }

    fn take_from(&mut self, source: u64, wish: &Vec<u64>) -> Option<Slot> {
        let may = (source as usize) < self.eligible && !wish.contains(&source);
        may.then(|| take(&self.free[source as usize], source)).flatten()
    }

    fn source(slot: &Slot) -> u64 {
        slot.source
    }
}

/// A pool of so many instances as there are slots, each free or taken.
#[derive(Clone)]
struct Pool {
    hold: Arc<Hold<Instances>>,
    free: Vec<Arc<AtomicU32>>,
}

impl Pool {
    fn new(free: &[u32], eligible: usize) -> Self {
        let free: Vec<_> = free.iter().map(|n| Arc::new(AtomicU32::new(*n))).collect();
        let hold = Arc::new(Hold::new(Instances { free: free.clone(), eligible }));
        Self { hold, free }
    }

    /// A slot that was taken before the test began.
    fn taken(&self, source: u64) -> Slot {
        Slot { source, free: Arc::clone(&self.free[source as usize]) }
    }

    fn join(&self, tried: &[u64]) -> Joined<'_, Instances> {
        let claim = Claim { picky: !tried.is_empty(), ..Claim::default() };
        self.hold.join(tried.to_vec(), claim).unwrap_or_else(|_| panic!("there is room"))
    }

    /// What a request does: helps itself if nobody waits, else joins; then gives back.
    fn request(&self, tried: &[u64]) {
        let mut own = (0..self.free.len() as u64).filter(|source| !tried.contains(source));
        let picked = match self.hold.depth() {
            0 => own.find_map(|source| take(&self.free[source as usize], source)),
            _ => None,
        };
        let slot = picked.unwrap_or_else(|| match self.join(tried) {
            Joined::Served(slot) => slot,
            Joined::Waits(place) => {
                block_on(place).unwrap_or_else(|turned| panic!("turned away: {turned:?}"))
            }
        });
        assert!(!tried.contains(&slot.source));
        self.give_back(slot);
    }

    fn give_back(&self, slot: Slot) {
        let source = slot.source;
        drop(slot);
        self.hold.freed(source);
    }

    /// At the end nobody waits and everything is free.
    fn check(&self) {
        assert_eq!(self.hold.depth(), 0);
        for free in &self.free {
            assert_eq!(free.load(Ordering::SeqCst), 1);
        }
    }
}

fn look(place: &mut Place<'_, Instances>) -> Option<Slot> {
    match Pin::new(place).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome.ok(),
        Poll::Pending => None,
    }
}

/// Bounds the preemptions of one run, as loom advises: two find nearly everything.
fn model(preemptions: usize, test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(test);
}

#[test]
fn who_joins_while_the_last_slot_gets_free_gets_it() {
    model(9, || {
        let pool = Pool::new(&[0], 1);
        let slot = pool.taken(0);
        let leaver = pool.clone();
        let leaving = thread::spawn(move || leaver.give_back(slot));
        pool.request(&[]);
        leaving.join().unwrap();
        pool.check();
    });
}

#[test]
fn three_requests_for_one_slot_are_all_served() {
    model(3, || {
        let pool = Pool::new(&[1], 1);
        let others = [pool.clone(), pool.clone()];
        let others = others.map(|other| thread::spawn(move || other.request(&[])));
        pool.request(&[]);
        others.into_iter().for_each(|other| other.join().unwrap());
        pool.check();
    });
}

#[test]
fn who_leaves_with_a_slot_in_its_hand_passes_it_on() {
    model(3, || {
        let pool = Pool::new(&[0], 1);
        let slot = pool.taken(0);
        let Joined::Waits(mut first) = pool.join(&[]) else { panic!("it is taken") };
        assert!(look(&mut first).is_none());
        let (leaver, waiter) = (pool.clone(), pool.clone());
        let leaving = thread::spawn(move || leaver.give_back(slot));
        let waiting = thread::spawn(move || waiter.request(&[]));
        drop(first);
        leaving.join().unwrap();
        waiting.join().unwrap();
        pool.check();
    });
}

#[test]
fn a_retry_that_may_not_use_it_leaves_it_to_the_next() {
    model(3, || {
        let pool = Pool::new(&[0, 0], 2);
        let slots = [pool.taken(0), pool.taken(1)];
        let (retry, waiter) = (pool.clone(), pool.clone());
        let retrying = thread::spawn(move || retry.request(&[0]));
        let waiting = thread::spawn(move || waiter.request(&[]));
        for slot in slots {
            pool.give_back(slot);
        }
        retrying.join().unwrap();
        waiting.join().unwrap();
        pool.check();
    });
}

#[test]
fn who_joins_while_the_first_instance_comes_up_is_served() {
    model(3, || {
        let pool = Pool::new(&[1], 0);
        let (steward, other) = (pool.clone(), pool.clone());
        let waits = |pool: &Pool| match pool.join(&[]) {
            Joined::Served(slot) => pool.give_back(slot),
            Joined::Waits(place) => {
                let slot = block_on(place).unwrap_or_else(|turned| panic!("{turned:?}"));
                pool.give_back(slot);
            }
        };
        let coming = thread::spawn(move || steward.hold.change(|supply| supply.eligible = 1));
        let waiting = thread::spawn(move || waits(&other));
        waits(&pool);
        coming.join().unwrap();
        waiting.join().unwrap();
        pool.check();
    });
}
