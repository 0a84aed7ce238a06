use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Wake;

use super::*;
use crate::model::Priority;

/// Sources that have so many things free each, by number.
struct Shelf {
    queue: Queue,
    free: Vec<usize>,
    /// Nothing will ever come.
    closed: bool,
}

impl Supply for Shelf {
    /// The sources that were tried.
    type Wish = Vec<u64>;
    /// The source that it is from. It does not give itself back.
    type Good = u64;

    fn now(&self) -> Ms {
        Ms(0)
    }

    fn queue(&self) -> Queue {
        self.queue
    }

    fn refuses(&self, _: &Vec<u64>) -> Option<Turned> {
        self.closed.then_some(Turned::Empty)
    }

    fn take(&mut self, wish: &Vec<u64>) -> Option<u64> {
        (0..self.free.len() as u64).find_map(|source| self.take_from(source, wish))
    }

    fn take_from(&mut self, source: u64, wish: &Vec<u64>) -> Option<u64> {
        let free = self.free.get_mut(source as usize)?;
        (*free > 0 && !wish.contains(&source)).then(|| {
            *free -= 1;
            source
        })
    }

    fn source(good: &u64) -> u64 {
        *good
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn hold_of(max: u32, free: &[usize]) -> Hold<Shelf> {
    let queue = Queue { max, ..Queue::default() };
    Hold::new(Shelf { queue, free: free.to_vec(), closed: false })
}

fn hold(free: &[usize]) -> Hold<Shelf> {
    hold_of(3, free)
}

fn join<'h>(hold: &'h Hold<Shelf>, tried: &[u64]) -> Joined<'h, Shelf> {
    let claim = Claim { picky: !tried.is_empty(), ..Claim::default() };
    hold.join(tried.to_vec(), claim).expect("there is room")
}

fn wait<'h>(hold: &'h Hold<Shelf>, tried: &[u64]) -> Place<'h, Shelf> {
    match join(hold, tried) {
        Joined::Waits(place) => place,
        Joined::Served(source) => panic!("served from {source}"),
    }
}

fn look(place: &mut Place<'_, Shelf>) -> Poll<Result<u64, Turned>> {
    Pin::new(place).poll(&mut Context::from_waker(Waker::noop()))
}

fn put_back(hold: &Hold<Shelf>, source: u64) {
    hold.lock().supply.free[source as usize] += 1;
    hold.freed(source);
}

#[test]
fn what_gets_free_goes_to_the_first_and_wakes_nobody_else() {
    let hold = hold(&[0]);
    let (one, two) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let (mut first, mut second) = (wait(&hold, &[]), wait(&hold, &[]));
    for (place, wakes) in [(&mut first, &one), (&mut second, &two)] {
        let waker = Waker::from(Arc::clone(wakes));
        assert!(Pin::new(place).poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(hold.depth(), 2);
    put_back(&hold, 0);
    assert_eq!((one.0.load(Ordering::SeqCst), two.0.load(Ordering::SeqCst)), (1, 0));
    assert_eq!(hold.depth(), 1);
    // It is the first one's, whoever comes and looks meanwhile.
    let mut third = wait(&hold, &[]);
    assert!(look(&mut second).is_pending() && look(&mut third).is_pending());
    assert_eq!(look(&mut first), Poll::Ready(Ok(0)));
}

#[test]
fn who_leaves_hands_on_what_it_was_given() {
    let hold = hold(&[0]);
    let (first, mut second) = (wait(&hold, &[]), wait(&hold, &[]));
    let third = wait(&hold, &[]);
    put_back(&hold, 0);
    assert_eq!(hold.depth(), 2);
    // A thing that gives itself back does so before; this one is put back here.
    hold.lock().supply.free[0] += 1;
    drop(first);
    assert_eq!(look(&mut second), Poll::Ready(Ok(0)));
    drop(third);
    assert_eq!(hold.depth(), 0);
    assert!(hold.lock().called.is_empty());
}

#[test]
fn who_may_not_use_it_does_not_hold_up_the_others() {
    let hold = hold(&[0, 0]);
    let mut picky = wait(&hold, &[0]);
    let mut any = wait(&hold, &[]);
    put_back(&hold, 0);
    assert!(look(&mut picky).is_pending());
    assert_eq!(look(&mut any), Poll::Ready(Ok(0)));
    // With the picky one alone, who comes helps itself.
    hold.lock().supply.free[0] += 1;
    assert!(matches!(join(&hold, &[]), Joined::Served(0)));
    // And what both could use goes to the one that was there first.
    hold.lock().supply.free[1] += 1;
    let mut late = wait(&hold, &[]);
    assert_eq!(look(&mut picky), Poll::Ready(Ok(1)));
    put_back(&hold, 0);
    assert_eq!(look(&mut late), Poll::Ready(Ok(0)));
}

#[test]
fn no_number_of_picky_ones_keeps_what_they_cannot_use_from_others() {
    let hold = hold_of(1_000, &[0, 0]);
    let claim = Claim { picky: true, ..Claim::default() };
    let waiting: Vec<_> =
        (0..2 * PICKY_LOOKS).map(|_| hold.join(vec![0], claim).expect("room")).collect();
    let Ok(Joined::Waits(mut any)) = hold.join(vec![], Claim::default()) else {
        panic!("nothing is free");
    };
    hold.change(|shelf| shelf.free[0] = 1);
    assert_eq!(look(&mut any), Poll::Ready(Ok(0)));
    assert_eq!(hold.depth(), waiting.len() as u32);
}

#[test]
fn a_full_line_turns_away_or_sheds() {
    let hold = hold(&[0]);
    let mut waiting = [wait(&hold, &[]), wait(&hold, &[]), wait(&hold, &[])];
    assert_eq!(hold.join(vec![], Claim::default()).err(), Some(Turned::Full));
    let high = Claim { priority: Priority::High, ..Claim::default() };
    let Ok(Joined::Waits(mut urgent)) = hold.join(vec![], high) else {
        panic!("the last one goes for it");
    };
    assert_eq!(look(&mut waiting[2]), Poll::Ready(Err(Turned::Full)));
    assert_eq!(hold.depth(), 3);
    put_back(&hold, 0);
    assert_eq!(look(&mut urgent), Poll::Ready(Ok(0)));
    put_back(&hold, 0);
    assert_eq!(look(&mut waiting[0]), Poll::Ready(Ok(0)));
}

#[test]
fn a_change_serves_as_many_as_it_can_and_turns_away_who_waits_in_vain() {
    let hold = hold(&[]);
    let mut waiting = [wait(&hold, &[]), wait(&hold, &[]), wait(&hold, &[])];
    hold.change(|shelf| shelf.free = vec![1, 1]);
    assert_eq!(look(&mut waiting[0]), Poll::Ready(Ok(0)));
    assert_eq!(look(&mut waiting[1]), Poll::Ready(Ok(1)));
    assert!(look(&mut waiting[2]).is_pending());
    hold.change(|shelf| shelf.closed = true);
    assert_eq!(look(&mut waiting[2]), Poll::Ready(Err(Turned::Empty)));
    assert_eq!(hold.join(vec![], Claim::default()).err(), Some(Turned::Empty));
    assert_eq!(hold.depth(), 0);
}

#[test]
fn a_place_is_a_future_that_another_thread_completes() {
    let hold = Arc::new(hold(&[0]));
    let theirs = Arc::clone(&hold);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("one");
    let place = wait(&hold, &[]);
    let other = std::thread::spawn(move || put_back(&theirs, 0));
    let limit = std::time::Duration::from_secs(10);
    let waited = runtime.block_on(async { tokio::time::timeout(limit, pin!(place)).await });
    assert_eq!(waited.expect("in time"), Ok(0));
    other.join().expect("it ends");
}
