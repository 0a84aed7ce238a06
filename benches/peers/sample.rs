//! What was seen of a peer in one round, and the figures that follow from it.

use crate::load::Outcome;
use crate::peer::Peer;
use crate::proc::{Cpu, Memory};
use crate::scenario::{Kind, Scenario};

/// How peers were loaded for a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All at the same time, so that all see the same machine.
    Together,
    /// Each by itself.
    Alone,
}

/// What was seen of a peer in one round.
#[derive(Clone)]
pub struct Sample {
    /// The scenario's name.
    pub scenario: &'static str,
    /// Whom.
    pub peer: Peer,
    /// Counted from one.
    pub round: usize,
    /// How it was loaded.
    pub mode: Mode,
    /// What the load generator says.
    pub outcome: Outcome,
    /// CPU time of the proxy in the counted time.
    pub cpu: Cpu,
    /// Memory of the proxy after it.
    pub memory: Memory,
    /// For idle connections: by how many KiB the proxy grew.
    pub grown: f64,
}

impl Sample {
    /// The figure that counts; lower is better.
    pub fn figure(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Requests => self.cpu.ran as f64 / 1e3 / self.outcome.requests as f64,
            Kind::Bulk => self.cpu.ran as f64 / 1e6 / (self.outcome.bytes as f64 / 1e9),
            Kind::Idle => self.grown / self.outcome.requests as f64,
            Kind::Tail => self.outcome.p999,
        }
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.outcome.requests as f64 / self.outcome.seconds
    }

    /// Bytes a second, in MB.
    pub fn megabytes(&self) -> f64 {
        self.outcome.bytes as f64 / 1e6 / self.outcome.seconds
    }

    /// A latency beyond which lies one of so many requests; nothing, if there were not so many.
    pub fn latency(&self, one_of: u64, value: f64) -> Option<f64> {
        (self.outcome.requests >= one_of).then_some(value)
    }

    /// Seconds a second.
    pub fn share(&self, nanoseconds: u64) -> f64 {
        nanoseconds as f64 / 1e9 / self.outcome.seconds
    }

    /// The sample in a few words.
    pub fn line(&self, scenario: &Scenario) -> String {
        let (name, kind) = (self.peer.name(), scenario.kind);
        let (figure, title) = (self.figure(kind), kind.title());
        let errors = self.outcome.errors;
        let done = match kind {
            Kind::Requests | Kind::Tail => format!("{:.0} requests/s", self.rate()),
            Kind::Bulk => format!("{:.0} MB/s", self.megabytes()),
            Kind::Idle => format!("{} connections", self.outcome.requests),
        };
        format!("{name}: {figure:.2} {title}, {done}, {errors} errors")
    }
}
