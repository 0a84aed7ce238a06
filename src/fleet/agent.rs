//! What an instance's own agent says of it: HAProxy's agent check (`doc/configuration.txt`,
//! "agent-check"). One line of words, in any order; what is not said stays as it was, so only the
//! agent can undo what the agent did. Pure.

use std::fmt;

use crate::base::Ms;
use crate::model::{Admin, AgentCheck, FULL};

/// The most of a weight, as in HAProxy, and the most hundredths of a configured one.
const WEIGHT_MOST: u32 = 256;
const PERCENT_MOST: u32 = 100 * WEIGHT_MOST;

/// What an agent wants for its instance's share of the traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weight {
    /// So many hundredths of what is configured.
    Percent(u32),
    /// This, whatever is configured.
    Of(u32),
}

/// One line of an agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Line {
    /// `75%` or `weight:N`.
    pub weight: Option<Weight>,
    /// `maxconn:N`; 0 leaves it to the pool.
    pub max_in_flight: Option<u32>,
    /// `ready`, `drain` or `maint`.
    pub admin: Option<Admin>,
    /// `up`, or `down`, `fail` or `stopped` with what follows `#`.
    pub down: Option<Option<String>>,
}

impl Line {
    /// Reads a line. Words that nobody knows are passed over.
    pub fn parse(text: &str) -> Self {
        let line = text.split(['\r', '\n']).next().unwrap_or_default();
        let (words, reason) = line.split_once('#').unwrap_or((line, ""));
        let mut parsed = Self::default();
        for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            parsed.take(&word.to_ascii_lowercase(), reason.trim());
        }
        parsed
    }

    fn take(&mut self, word: &str, reason: &str) {
        let number = |text: &str| text.parse::<u32>().ok();
        match word {
            "ready" => self.admin = Some(Admin::Enabled),
            "drain" => self.admin = Some(Admin::Draining),
            "maint" => self.admin = Some(Admin::Maintenance),
            "up" => self.down = Some(None),
            "down" | "fail" | "failed" | "stopped" => {
                let reason = if reason.is_empty() { "" } else { &format!(": {reason}") };
                self.down = Some(Some(format!("{word}{reason}")));
            }
            _ => {
                if let Some(percent) = word.strip_suffix('%').and_then(number) {
                    self.weight = Some(Weight::Percent(percent.min(PERCENT_MOST)));
                } else if let Some(weight) = word.strip_prefix("weight:").and_then(number) {
                    self.weight = Some(Weight::Of(weight.min(WEIGHT_MOST)));
                } else if let Some(limit) = word.strip_prefix("maxconn:").and_then(number) {
                    self.max_in_flight = Some(limit);
                }
            }
        }
    }
}

/// What the agent of one instance has said so far, and when to ask it next.
#[derive(Debug)]
pub(super) struct Agent {
    weight: Weight,
    max_in_flight: u32,
    admin: Admin,
    down: Option<String>,
    /// When to ask it; `None` while it is being asked, and where there is none.
    pub due: Option<Ms>,
    number: u64,
    awaited: bool,
}

impl Agent {
    /// One that has said nothing and is first asked at `first`, if there is one.
    pub fn new(first: Ms, check: Option<AgentCheck>) -> Self {
        Self {
            weight: Weight::Percent(100),
            max_in_flight: 0,
            admin: Admin::Enabled,
            down: None,
            due: check.map(|_| first),
            number: 0,
            awaited: false,
        }
    }

    /// It is asked anew, from `now` on; a question that is out no longer counts.
    pub fn restart(&mut self, now: Ms) {
        self.awaited = false;
        self.due = Some(now);
    }

    /// The number of the question that is asked now.
    pub fn start(&mut self) -> u64 {
        self.due = None;
        self.awaited = true;
        self.number += 1;
        self.number
    }

    /// What came of the question with this number: nothing if it could not be asked, which is no
    /// error. Says whether anything is different now.
    pub fn handle_line(
        &mut self,
        now: Ms,
        check: AgentCheck,
        number: u64,
        line: Option<Line>,
    ) -> bool {
        if !self.awaited || number != self.number {
            return false;
        }
        self.awaited = false;
        self.due = Some(now + check.interval);
        let Line { weight, max_in_flight, admin, down } = line.unwrap_or_default();
        let before = (self.weight, self.max_in_flight, self.admin, self.down.clone());
        self.weight = weight.unwrap_or(self.weight);
        self.max_in_flight = max_in_flight.unwrap_or(self.max_in_flight);
        self.admin = admin.unwrap_or(self.admin);
        self.down = down.unwrap_or(self.down.take());
        before != (self.weight, self.max_in_flight, self.admin, self.down.clone())
    }

    /// The configured weight as the agent changes it: a whole one, and the part of it that is taken,
    /// of [`FULL`].
    pub fn weight_of(&self, configured: u32) -> (u32, u32) {
        let hundredths = match self.weight {
            Weight::Percent(percent) => u64::from(configured) * u64::from(percent),
            Weight::Of(weight) => u64::from(weight) * 100,
        };
        let whole = hundredths.div_ceil(100).clamp(1, u64::from(u32::MAX));
        let part = (hundredths * u64::from(FULL) / (whole * 100)).min(u64::from(FULL));
        (whole as u32, part as u32)
    }

    /// How many requests it may have in flight at most, if the agent says so.
    pub fn max_in_flight(&self) -> Option<u32> {
        (self.max_in_flight > 0).then_some(self.max_in_flight)
    }

    /// What it says of new traffic. A weight of nothing is a drain.
    pub fn admin(&self) -> Admin {
        match (self.admin, self.weight) {
            (Admin::Enabled, Weight::Percent(0) | Weight::Of(0)) => Admin::Draining,
            (admin, _) => admin,
        }
    }

    /// Whether it says that its instance is down.
    pub fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// What keeps new traffic away, if the agent does.
    pub fn objection(&self) -> Option<String> {
        match (&self.down, self.admin()) {
            (Some(down), _) => Some(format!("its agent says {down}")),
            (None, Admin::Enabled) => None,
            (None, Admin::Maintenance) => Some("its agent says maint".into()),
            (None, _) => Some("its agent says drain".into()),
        }
    }
}

impl fmt::Display for Agent {
    /// As the agent would say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.down.as_deref().unwrap_or("up"))?;
        f.write_str(match self.admin {
            Admin::Enabled => " ready",
            Admin::Maintenance => " maint",
            _ => " drain",
        })?;
        match self.weight {
            Weight::Percent(percent) => write!(f, " {percent}%"),
            Weight::Of(weight) => write!(f, " weight:{weight}"),
        }?;
        write!(f, " maxconn:{}", self.max_in_flight)
    }
}

#[cfg(test)]
mod tests;
