//! Timers that cost nothing per request.
//!
//! Each connection owns one [`Timer`]: a slot in its worker's table. Setting a deadline is a store;
//! the worker looks over the table every [`TICK`] and wakes what is overdue. So deadlines are met
//! up to one tick late, and a request arms no timer of the runtime. None is met early, unless something
//! held up the worker itself: what arms a timer right after that counts from the tick before it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use slab::Slab;

use crate::base::{Clock, Ms};

/// How often overdue timers are looked for.
pub const TICK: Duration = Duration::from_millis(100);

/// The time was up before the future was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elapsed;

/// A worker's table of timers, and its coarse clock.
#[derive(Debug)]
pub struct Timers {
    clock: Clock,
    now: Cell<Ms>,
    /// Nobody waits for another request any more.
    draining: Cell<bool>,
    slots: RefCell<Slab<Slot>>,
}

#[derive(Debug)]
struct Slot {
    deadline: Ms,
    /// Waits between two requests: ends at once when the worker drains.
    idle: bool,
    waker: Option<Waker>,
}

/// One timer; its slot is given back on drop.
#[derive(Debug)]
pub struct Timer {
    timers: Rc<Timers>,
    key: usize,
}

impl Timers {
    /// An empty table.
    pub fn new(clock: Clock) -> Rc<Self> {
        let (now, draining) = (Cell::new(clock.now()), Cell::new(false));
        Rc::new(Self { clock, now, draining, slots: RefCell::default() })
    }

    /// The time of the last tick: good to one [`TICK`], and free.
    pub fn now(&self) -> Ms {
        self.now.get()
    }

    /// Whether the worker drains: connections close once their current request is done.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// A new timer.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let slot = Slot { deadline: Ms::NEVER, idle: false, waker: None };
        Timer { timers: Rc::clone(self), key: self.slots.borrow_mut().insert(slot) }
    }

    /// Moves the coarse clock and wakes what is overdue. Called every [`TICK`].
    pub fn tick(&self) {
        let now = self.clock.now();
        self.now.set(now);
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.deadline <= now
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// Ends every idle wait now, and every later one as soon as it begins: the worker drains.
    pub fn drain(&self) {
        self.draining.set(true);
        for (_, slot) in self.slots.borrow_mut().iter_mut() {
            if slot.idle
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }
}

impl Timer {
    /// The time of the last tick.
    pub fn now(&self) -> Ms {
        self.timers.now()
    }

    /// When `limit` from now is over. One tick is added because the coarse clock may be that late.
    pub fn after(&self, limit: Duration) -> Ms {
        self.timers.now() + limit + TICK
    }

    /// Moves the deadline of a running [`Timer::until`], from inside of it: something happened.
    pub fn push_back(&self, limit: Duration) {
        let deadline = self.after(limit);
        self.timers.slots.borrow_mut()[self.key].deadline = deadline;
    }

    /// Runs `future` for at most `limit`; [`Elapsed`] when the time is up first.
    pub fn within<F: Future>(&self, limit: Duration, future: F) -> Until<'_, F> {
        self.until(self.after(limit), future)
    }

    /// Runs `future` until `deadline`; [`Elapsed`] when the time is up first. One wait a timer at a
    /// time: what moves at the same time needs a timer of its own.
    pub fn until<F: Future>(&self, deadline: Ms, future: F) -> Until<'_, F> {
        Until { timer: self, deadline, idle: false, armed: false, future }
    }

    /// Runs `future`, a wait between two requests, for at most `limit`; [`Elapsed`] when the time is up
    /// first or the worker drains.
    pub fn while_idle<F: Future>(&self, limit: Duration, future: F) -> Until<'_, F> {
        self.while_idle_until(self.after(limit), future)
    }

    /// The same, until `deadline`.
    pub fn while_idle_until<F: Future>(&self, deadline: Ms, future: F) -> Until<'_, F> {
        Until { idle: true, ..self.until(deadline, future) }
    }
}

pin_project! {
    /// A wait with an end. Written by hand and not as an `async fn`, which would keep its argument
    /// twice: waits are nested, and their size is what a request costs in memory.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Until<'t, F> {
        timer: &'t Timer,
        deadline: Ms,
        idle: bool,
        armed: bool,
        #[pin]
        future: F,
    }
}

impl<F> Until<'_, F> {
    /// Gives a wait whose time was up another deadline.
    pub fn renew(self: Pin<&mut Self>, deadline: Ms) {
        let this = self.project();
        (*this.deadline, *this.armed) = (deadline, false);
    }
}

impl<F: Future> Future for Until<'_, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let timers = &this.timer.timers;
        let done = this.future.poll(cx);
        if done.is_ready() && !*this.armed {
            return done.map(Ok);
        }
        let mut slots = timers.slots.borrow_mut();
        let slot = &mut slots[this.timer.key];
        if let Poll::Ready(output) = done {
            slot.disarm();
            return Poll::Ready(Ok(output));
        }
        if !*this.armed {
            *this.armed = true;
            (slot.deadline, slot.idle) = (*this.deadline, *this.idle);
        }
        if slot.deadline <= timers.now() || (*this.idle && timers.draining.get()) {
            slot.disarm();
            return Poll::Ready(Err(Elapsed));
        }
        match &slot.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => slot.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Slot {
    fn disarm(&mut self) {
        (self.deadline, self.idle) = (Ms::NEVER, false);
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.timers.slots.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use super::*;

    fn noop_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_finished_future_never_touches_the_table() {
        let timers = Timers::new(Clock::start());
        let timer = timers.timer();
        let mut wait = pin!(timer.within(Duration::ZERO, ready(7)));
        assert_eq!(noop_poll(wait.as_mut()), Poll::Ready(Ok(7)));
    }

    #[test]
    fn an_overdue_wait_ends_at_the_tick() {
        let timers = Timers::new(Clock::start());
        let timer = timers.timer();
        let mut wait = pin!(timer.until(Ms(50), pending::<()>()));
        assert!(noop_poll(wait.as_mut()).is_pending());
        timers.now.set(Ms(49));
        assert!(noop_poll(wait.as_mut()).is_pending());
        timers.now.set(Ms(50));
        assert_eq!(noop_poll(wait.as_mut()), Poll::Ready(Err(Elapsed)));
    }

    #[test]
    fn draining_ends_idle_waits_only() {
        let timers = Timers::new(Clock::start());
        let (idle, busy) = (timers.timer(), timers.timer());
        let mut waiting = pin!(idle.while_idle(Duration::from_secs(60), pending::<()>()));
        let mut working = pin!(busy.within(Duration::from_secs(60), pending::<()>()));
        assert!(noop_poll(waiting.as_mut()).is_pending());
        assert!(noop_poll(working.as_mut()).is_pending());
        timers.drain();
        assert_eq!(noop_poll(waiting.as_mut()), Poll::Ready(Err(Elapsed)));
        assert!(noop_poll(working.as_mut()).is_pending());
        let later = timers.timer();
        let mut late = pin!(later.while_idle(Duration::from_secs(60), pending::<()>()));
        assert_eq!(noop_poll(late.as_mut()), Poll::Ready(Err(Elapsed)), "and none begins");
    }

    #[test]
    fn pushing_back_keeps_a_wait_alive() {
        let timers = Timers::new(Clock::start());
        let timer = timers.timer();
        let mut wait = pin!(timer.until(Ms(50), pending::<()>()));
        assert!(noop_poll(wait.as_mut()).is_pending());
        timer.push_back(Duration::from_secs(5));
        timers.now.set(Ms(60));
        assert!(noop_poll(wait.as_mut()).is_pending());
    }
}
