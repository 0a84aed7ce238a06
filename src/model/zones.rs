//! Zones: how a pool spreads its traffic over them, and what follows for new requests.

use serde::{Deserialize, Serialize};

use crate::base::{Share, ZoneId};

/// Which zones get traffic first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ZoneMode {
    /// All alike, by what they can carry.
    Spread,
    /// This node's own, as long as it is not filled; then the others.
    LocalFirst,
    /// Those of the first level, as long as enough of it is healthy; then those of the next.
    Priority,
}

impl ZoneMode {
    /// As it is written in the config.
    pub fn word(self) -> &'static str {
        match self {
            Self::Spread => "spread",
            Self::LocalFirst => "local-first",
            Self::Priority => "priority",
        }
    }
}

/// How a pool spreads its traffic over zones.
#[derive(Clone, PartialEq, Debug)]
pub struct Zones {
    /// Which zones get traffic first.
    pub mode: ZoneMode,
    /// The zone that this node stands in; there for [`ZoneMode::LocalFirst`].
    pub home: Option<ZoneId>,
    /// The own zone is filled up to this share of what it can carry.
    pub spill_at: Share,
    /// With a smaller share of its instances healthy, the pool also uses those that only probes
    /// speak against; 0 turns that off.
    pub panic_below: Share,
    /// The levels of [`ZoneMode::Priority`]; a zone that is in none comes last.
    pub levels: Vec<Vec<ZoneId>>,
    /// A level counts as whole until its healthy share falls below one part in this many (Envoy's
    /// overprovisioning factor).
    pub overprovisioning: f64,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            mode: ZoneMode::Spread,
            home: None,
            spill_at: Share(0.8),
            panic_below: Share(0.5),
            levels: Vec::new(),
            overprovisioning: 1.4,
        }
    }
}

/// What became of a zone, over all pools.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZoneState {
    /// Nothing special.
    Up,
    /// Most of its instances were lost within a short time: all of it counts as down.
    Lost,
    /// An operator has moved its traffic elsewhere.
    Evacuated,
}

impl ZoneState {
    /// The word for APIs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Lost => "lost",
            Self::Evacuated => "evacuated",
        }
    }
}

/// An operator has moved the traffic of a zone elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Evacuation {
    /// Until when, in wall-clock seconds since 1970; without it, until the zone is restored.
    pub until: Option<u64>,
}

impl Evacuation {
    /// Whether it is over at `wall`, in seconds since 1970.
    pub fn is_over(self, wall: u64) -> bool {
        self.until.is_some_and(|until| until <= wall)
    }
}

/// A zone of which there is something to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneRow {
    /// Which.
    pub zone: ZoneId,
    /// What became of it; where it is both, evacuated.
    pub state: ZoneState,
    /// When an evacuation ends by itself, in wall-clock seconds since 1970.
    pub until: Option<u64>,
}

/// Zones that get traffic together.
#[derive(Clone, PartialEq, Debug)]
pub struct Tier {
    /// Which.
    pub zones: Vec<ZoneId>,
    /// The share of new requests that begins here; over all tiers of a plan they sum to 1.
    pub share: f64,
    /// An instance of this tier that has this share of its in-flight limit taken is passed over for
    /// one of the next tier that has less.
    pub spill_at: Option<Share>,
}

/// Where new requests of a pool go. Made by `fleet`, followed by `proxy`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct TrafficPlan {
    /// A request begins in a tier drawn by share; where nothing of it is free it goes through the
    /// others in order. Instances whose zone is in no tier are the last resort. Without tiers all
    /// instances are alike.
    pub tiers: Vec<Tier>,
    /// Too few instances are healthy: those that only probes speak against are used too.
    pub panic: bool,
}
