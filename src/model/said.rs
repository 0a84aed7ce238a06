//! What operators said of a pool's scaling.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::base::InstanceId;

/// A size that an operator set by hand. It takes the place of what the demand asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SizeOverride {
    /// How many instances there are to be.
    pub desired: u32,
    /// Until when, in wall-clock seconds since 1970; without it, until it is taken back.
    pub until: Option<u64>,
}

impl SizeOverride {
    /// Whether it is over at `wall`, in seconds since 1970.
    pub fn is_over(self, wall: u64) -> bool {
        self.until.is_some_and(|until| until <= wall)
    }
}

/// What operators said of a pool's scaling.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Said {
    /// How large it is to be.
    pub size: Option<SizeOverride>,
    /// Which instances scale-in may not take.
    pub protected: BTreeSet<InstanceId>,
}

impl Said {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.size.is_none() && self.protected.is_empty()
    }
}
