//! The hand-off of the hold queue as it is shipped, on loom's atomics and locks.

#[path = "../../src/base/clock.rs"]
pub mod base;
#[path = "../../src/proxy/hold/handoff.rs"]
pub mod handoff;
#[path = "../../src/proxy/hold/line.rs"]
pub mod line;
#[path = "../../src/model/queue.rs"]
pub mod model;

/// In the place of `src/proxy/hold/sync.rs`.
pub mod sync {
    pub use std::sync::PoisonError;

    pub use loom::sync::atomic::{AtomicU32, Ordering};
    pub use loom::sync::{Mutex, MutexGuard};

    /// Loom takes sequential consistency of loads and stores for acquire and release.
    pub fn announced() {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}
