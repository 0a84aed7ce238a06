//! How long the forwarder waits for one side of an exchange: each single wait, all of it together, and
//! how slow that side may be on average. While it waits for an instance it looks now and then
//! whether anybody still wants the response.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::base::Ms;
use crate::proxy::timer::{Elapsed, Timer, Until};

/// How often a wait looks whether the client is still there.
pub const LOOK: Duration = Duration::from_millis(250);

/// Whether the client has left. Costs a system call only if something has happened on its connection.
pub type HasLeft<'a> = &'a dyn Fn() -> bool;

/// Why a wait was given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GaveUp {
    /// It took too long.
    #[error("no progress in time")]
    Timeout,
    /// The other side sends or takes less than it must.
    #[error("slower than the least rate")]
    TooSlow,
    /// The exchange as a whole takes too long.
    #[error("the exchange took too long")]
    Overdue,
    /// The client, for whom all this is done, has left.
    #[error("the client has left")]
    Unwanted,
}

/// The bounds of the waits for one side of one body.
#[derive(Clone)]
pub struct Patience<'a> {
    timer: &'a Timer,
    /// The longest single wait.
    pause: Duration,
    /// No wait goes on after this.
    deadline: Ms,
    /// Bytes a second that this side must make; 0 asks for nothing.
    rate: u64,
    has_left: Option<HasLeft<'a>>,
    /// While this is so, single waits may take as long as they like.
    endless: Option<&'a Cell<bool>>,
    waited: Cell<Duration>,
    moved: Cell<u64>,
}

impl<'a> Patience<'a> {
    /// Waits of at most `pause` each, and none after `deadline`. One wait a timer at a time.
    pub fn new(timer: &'a Timer, pause: Duration, deadline: Ms) -> Self {
        let (waited, moved) = (Cell::default(), Cell::default());
        let (has_left, endless) = (None, None);
        Self { timer, pause, deadline, rate: 0, has_left, endless, waited, moved }
    }

    /// Asks for so many bytes a second on average, once the waits add up to the longest single one.
    /// The clock that this goes by is coarse: a wait of less than a tick may count as none.
    pub fn with_rate(mut self, rate: u64) -> Self {
        self.rate = rate;
        self
    }

    /// Ends waits when the client has left.
    pub fn unless(mut self, has_left: HasLeft<'a>) -> Self {
        self.has_left = Some(has_left);
        self
    }

    /// While `endless` says so, only the deadline ends waits, and no rate is asked for.
    pub fn but_not_while(mut self, endless: &'a Cell<bool>) -> Self {
        self.endless = Some(endless);
        self
    }

    /// When `limit` from now is over.
    pub fn after(&self, limit: Duration) -> Ms {
        self.timer.after(limit)
    }

    /// So many bytes have come from, or gone to, the side that is waited for. What came before the
    /// first wait was here already, or fits in the kernel's buffers, and shows nothing.
    pub fn moved(&self, bytes: usize) {
        if !self.waited.get().is_zero() {
            self.moved.set(self.moved.get() + bytes as u64);
        }
    }

    /// Waits for `future`, for as long as a single wait may be.
    pub fn wait<F: Future>(&self, future: F) -> Wait<'_, 'a, F> {
        Wait { counts: true, ..self.wait_until(self.timer.after(self.pause), future) }
    }

    /// Waits for `future` until `time`, however long that is.
    pub fn wait_until<F: Future>(&self, time: Ms, future: F) -> Wait<'_, 'a, F> {
        let until = time.min(self.deadline);
        let is_last = until < time;
        let inner = self.timer.until(self.next_look(until), future);
        Wait { patience: self, began: self.timer.now(), until, is_last, counts: false, inner }
    }

    /// When a wait until `until` is to be interrupted for the first or the next time.
    fn next_look(&self, until: Ms) -> Ms {
        if self.has_left.is_some() { self.timer.after(LOOK).min(until) } else { until }
    }

    fn is_endless(&self) -> bool {
        self.endless.is_some_and(Cell::get)
    }

    fn is_too_slow(&self) -> bool {
        let waited = self.waited.get();
        self.rate > 0
            && !self.is_endless()
            && waited > self.pause
            && (self.moved.get() as f64) < self.rate as f64 * waited.as_secs_f64()
    }
}

pin_project! {
    /// A wait that ends in time, or sooner if nobody wants its outcome any more.
    #[must_use = "futures do nothing unless they are polled"]
    pub struct Wait<'p, 'a, F> {
        patience: &'p Patience<'a>,
        began: Ms,
        until: Ms,
        // It is the deadline of the exchange that ends it.
        is_last: bool,
        // It counts for the least rate.
        counts: bool,
        #[pin]
        inner: Until<'p, F>,
    }
}

impl<F: Future> Future for Wait<'_, '_, F> {
    type Output = Result<F::Output, GaveUp>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let patience = *this.patience;
        let output = loop {
            match ready!(this.inner.as_mut().poll(cx)) {
                Ok(output) => break Ok(output),
                Err(Elapsed) if patience.has_left.is_some_and(|has_left| has_left()) => {
                    break Err(GaveUp::Unwanted);
                }
                Err(Elapsed) if patience.timer.now() < *this.until => {
                    this.inner.as_mut().renew(patience.next_look(*this.until));
                }
                Err(Elapsed) if *this.is_last => break Err(GaveUp::Overdue),
                Err(Elapsed) if patience.is_endless() => {
                    *this.until = patience.after(patience.pause).min(patience.deadline);
                    *this.is_last = *this.until == patience.deadline;
                    this.inner.as_mut().renew(patience.next_look(*this.until));
                }
                Err(Elapsed) => break Err(GaveUp::Timeout),
            }
        };
        let now = patience.timer.now();
        if *this.counts && now != *this.began {
            patience.waited.set(patience.waited.get() + now.since(*this.began));
            if output.is_ok() && patience.is_too_slow() {
                return Poll::Ready(Err(GaveUp::TooSlow));
            }
        }
        Poll::Ready(output)
    }
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("pause", &self.pause).field("rate", &self.rate).finish()
    }
}
