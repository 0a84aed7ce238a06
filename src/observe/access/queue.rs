//! Lines on their way from the workers to the writer: bounded in bytes, so that a disk that stands
//! still costs lines and not memory.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Bytes that may wait for the disk: at 20,000 requests a second about a second.
pub(super) const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The queue. Locked by a worker for as long as it takes to copy what it has gathered.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    reopen: bool,
    closed: bool,
    /// The writer has written everything and ended.
    ended: bool,
}

/// Whole lines.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Each with its end.
    pub bytes: Vec<u8>,
    /// How many.
    pub lines: u64,
}

/// What the writer is to do with what is in the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Task {
    /// Write it to a file that is opened anew.
    pub reopen: bool,
    /// End once it is written.
    pub end: bool,
}

impl Queue {
    /// Passes lines on; false if there is no room for them.
    pub(super) fn push(&self, bytes: &[u8], lines: u64) -> bool {
        let mut state = self.lock();
        let fits = state.waiting.bytes.len() + bytes.len() <= BYTES_MAX && !state.ended;
        if fits {
            state.waiting.bytes.extend_from_slice(bytes);
            state.waiting.lines += lines;
            drop(state);
            self.changed.notify_all();
        }
        fits
    }

    /// Has the writer open its file anew.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.changed.notify_all();
    }

    /// Has the writer end once everything is written; waits for that, at most `limit`. Says whether
    /// it has.
    pub(super) fn close(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        let waited = self.changed.wait_timeout_while(state, limit, |state| !state.ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.ended
    }

    /// Waits until there is something to do. `batch` is what is done with, and is swapped for what is
    /// to be written.
    pub(super) fn next(&self, batch: &mut Batch) -> Task {
        batch.bytes.clear();
        batch.lines = 0;
        let idle =
            |state: &mut State| state.waiting.bytes.is_empty() && !state.reopen && !state.closed;
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        Task { reopen: std::mem::take(&mut state.reopen), end: state.closed }
    }

    /// The writer ends.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// A poisoned lock only means that a thread panicked: what waits is whole lines.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
