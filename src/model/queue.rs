//! The hold queue of a pool as it is configured, and what a route says of its requests' place in it.

use std::time::Duration;

/// Requests that wait because every instance is full or none is there yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Queue {
    /// How many may wait, over all workers; 0 turns waiting off.
    pub max: u32,
    /// How long one may wait before it is answered 503.
    pub timeout: Duration,
    /// What those who wait may hold together, of heads and gathered bodies.
    pub bytes: u64,
    /// Who goes first among those of one priority.
    pub order: Order,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max: 1_000,
            timeout: Duration::from_secs(5),
            bytes: 16 << 20,
            order: Order::Adaptive,
        }
    }
}

/// Who goes first among those of one priority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Whoever came first.
    Fifo,
    /// Whoever came first, and under overload whoever came last: its client is still there.
    Adaptive,
}

/// What matters more where not everything can be served. In the order in which it is served.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Priority {
    /// Before all others.
    High,
    /// What nothing is said of.
    #[default]
    Normal,
    /// After all others.
    Low,
}

impl Priority {
    /// All, in the order in which they are served.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];
}
