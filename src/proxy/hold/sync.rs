//! What [`handoff`](super::handoff) synchronizes with. `tests/loom` puts loom's in its place.

pub use std::sync::atomic::{AtomicU32, Ordering};
pub use std::sync::{Mutex, MutexGuard, PoisonError};

/// Between what is announced and what is looked at. All of both is sequentially consistent, which is
/// enough by itself; loom takes less of that into account, and needs a fence in its place.
#[inline(always)]
pub fn announced() {}
