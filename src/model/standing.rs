//! The three truths about an instance.

use serde::Serialize;

use crate::base::Ms;

/// What probes (and later passive observation) say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Health {
    /// Not one probe has passed or failed enough to tell.
    Pending,
    /// Passes its probes.
    Up,
    /// Fails its probes.
    Down,
    /// Taken out for a while because of how it answered real traffic.
    Ejected,
}

/// What an operator says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admin {
    /// Nothing special.
    Enabled,
    /// No new requests; what runs may finish.
    Draining,
    /// Kept out until further notice.
    Maintenance,
    /// Its zone is evacuated.
    Evacuated,
}

/// Where it is between birth and death. A static instance is always serving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// Asked for; the provider has not given it an address yet.
    Ordered,
    /// Has an address, has not passed a probe yet.
    Booting,
    /// Takes a growing share of traffic (slow start).
    Ramping,
    /// Takes its full share.
    Serving,
    /// Takes nothing new; what runs may finish until the deadline.
    Draining {
        /// When it is taken away with whatever is left.
        deadline: Ms,
    },
    /// Nothing runs on it and nothing can start, or its deadline has passed.
    Drained,
    /// The provider was told to take it away.
    Terminating,
}

impl Life {
    /// The word for APIs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ordered => "ordered",
            Self::Booting => "booting",
            Self::Ramping => "ramping",
            Self::Serving => "serving",
            Self::Draining { .. } => "draining",
            Self::Drained => "drained",
            Self::Terminating => "terminating",
        }
    }

    /// On its way out: it counts for nothing in the size of the pool.
    pub fn is_leaving(self) -> bool {
        matches!(self, Self::Draining { .. } | Self::Drained | Self::Terminating)
    }
}

impl Health {
    /// The word for APIs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

impl Admin {
    /// The word for APIs and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Draining => "draining",
            Self::Maintenance => "maintenance",
            Self::Evacuated => "evacuated",
        }
    }
}

/// All three at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What probes say.
    pub health: Health,
    /// What the operator says.
    pub admin: Admin,
    /// Where it is between birth and death.
    pub life: Life,
}

impl Standing {
    /// Whether new traffic may go there, and why (not), in words for an operator.
    pub fn verdict(self) -> (bool, &'static str) {
        match (self.life, self.admin, self.health) {
            (Life::Ordered, ..) => (false, "ordered, has no address yet"),
            (Life::Draining { .. }, ..) => (false, "drains before it is taken away"),
            (Life::Drained, ..) => (false, "drained, about to be taken away"),
            (Life::Terminating, ..) => (false, "being taken away"),
            (_, Admin::Draining, _) => (false, "drained by an operator"),
            (_, Admin::Maintenance, _) => (false, "in maintenance"),
            (_, Admin::Evacuated, _) => (false, "its zone is evacuated"),
            (_, _, Health::Pending) => (false, "has not passed a probe yet"),
            (_, _, Health::Down) => (false, "fails its probes"),
            (_, _, Health::Ejected) => (false, "ejected for how it answered traffic"),
            (Life::Booting | Life::Ramping, _, Health::Up) => (true, "up, warming"),
            (Life::Serving, Admin::Enabled, Health::Up) => (true, "up"),
        }
    }

    /// Whether new traffic may go there.
    pub fn eligible(self) -> bool {
        self.verdict().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traffic_goes_only_where_all_three_agree() {
        let lives = [
            Life::Ordered,
            Life::Booting,
            Life::Ramping,
            Life::Serving,
            Life::Draining { deadline: Ms(1) },
            Life::Drained,
            Life::Terminating,
        ];
        let admins = [Admin::Enabled, Admin::Draining, Admin::Maintenance, Admin::Evacuated];
        let healths = [Health::Pending, Health::Up, Health::Down, Health::Ejected];
        for life in lives {
            for admin in admins {
                for health in healths {
                    let standing = Standing { health, admin, life };
                    let expected = health == Health::Up
                        && admin == Admin::Enabled
                        && matches!(life, Life::Booting | Life::Ramping | Life::Serving);
                    assert_eq!(standing.eligible(), expected, "{standing:?}");
                }
            }
        }
    }
}
