//! How long the forwarder waits for one side of an exchange: each single wait, all of it together, and
//! how slow that side may be on average. While it waits for an instance it looks now and then
//! whether anybody still wants the response.

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use crate::base::Ms;
use crate::proxy::timer::Timer;

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
    waited: Cell<Duration>,
    moved: Cell<u64>,
}

impl<'a> Patience<'a> {
    /// Waits of at most `pause` each, and none after `deadline`. One wait a timer at a time.
    pub fn new(timer: &'a Timer, pause: Duration, deadline: Ms) -> Self {
        let (waited, moved) = (Cell::default(), Cell::default());
        Self { timer, pause, deadline, rate: 0, has_left: None, waited, moved }
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

    /// Waits for `future`.
    ///
    /// # Errors
    /// Why it is not waited for any longer.
    pub async fn wait<F: Future>(&self, future: F) -> Result<F::Output, GaveUp> {
        let began = self.timer.now();
        let output = self.wait_until(self.timer.after(self.pause), future).await;
        let now = self.timer.now();
        if now != began {
            self.waited.set(self.waited.get() + now.since(began));
            if output.is_ok() && self.is_too_slow() {
                return Err(GaveUp::TooSlow);
            }
        }
        output
    }

    /// Waits for `future` until `time`, however long that is.
    ///
    /// # Errors
    /// Why it is not waited for any longer.
    pub async fn wait_until<F: Future>(&self, time: Ms, future: F) -> Result<F::Output, GaveUp> {
        let until = time.min(self.deadline);
        let output = match self.has_left {
            None => self.timer.until(until, future).await.ok(),
            Some(has_left) => self.look_while(has_left, until, future).await?,
        };
        output.ok_or(if until < time { GaveUp::Overdue } else { GaveUp::Timeout })
    }

    async fn look_while<F: Future>(
        &self,
        has_left: HasLeft<'_>,
        until: Ms,
        future: F,
    ) -> Result<Option<F::Output>, GaveUp> {
        let mut future = std::pin::pin!(future);
        loop {
            let look = self.timer.after(LOOK).min(until);
            match self.timer.until(look, future.as_mut()).await {
                Ok(output) => return Ok(Some(output)),
                Err(_) if has_left() => return Err(GaveUp::Unwanted),
                Err(_) if look >= until => return Ok(None),
                Err(_) => {}
            }
        }
    }

    fn is_too_slow(&self) -> bool {
        let waited = self.waited.get();
        self.rate > 0
            && waited > self.pause
            && (self.moved.get() as f64) < self.rate as f64 * waited.as_secs_f64()
    }
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Patience").field("pause", &self.pause).field("rate", &self.rate).finish()
    }
}
