//! What the membership asks of the prober, and what it hears back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::base::unit::print_duration;
use crate::fleet::agent::Line;
use crate::model::{AgentCheck, Instance, Pool};

/// One probe to be made.
#[derive(Clone, Debug)]
pub struct ProbeOrder {
    /// Who is asked.
    pub instance: Arc<Instance>,
    /// Its pool as it was when the probe was ordered: what is asked, and how it is connected to.
    pub pool: Arc<Pool>,
    /// Whom.
    pub asks: Asks,
    /// How long the answer may take, from the moment the probe starts.
    pub timeout: Duration,
    /// Which others it may have to wait for.
    pub lane: Lane,
    /// Tells it from earlier probes of the same instance, whose results no longer count.
    pub number: u64,
}

/// Who answers a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asks {
    /// The instance itself: its health.
    Instance,
    /// The agent that stands beside it.
    Agent(AgentCheck),
}

/// Probes wait for a free socket only behind others of their lane, so that a zone that hangs in
/// every probe delays neither those that serve nor those that are suspected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lane {
    /// It is up, and nothing speaks against it.
    Steady,
    /// It is pending or down: its probes may well hang.
    Doubtful,
    /// Traffic waits for it in vain.
    Suspect,
}

impl Lane {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Steady, Self::Doubtful, Self::Suspect];

    /// How many of its probes may be out at once: each holds a socket. A whole zone may freeze at
    /// once and has to be known as down in 4 s, so suspects get the most.
    pub const fn width(self) -> usize {
        match self {
            Self::Steady => 128,
            Self::Doubtful => 256,
            Self::Suspect => 512,
        }
    }
}

/// A probe that was made.
#[derive(Debug)]
pub struct ProbeResult {
    /// As it was ordered.
    pub order: ProbeOrder,
    /// How long the answer took, or why it does not pass.
    pub outcome: Result<Duration, ProbeError>,
    /// What its agent said, if that was asked and answered.
    pub said: Option<Line>,
}

/// Why a probe did not pass.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProbeError {
    /// The handshake failed.
    #[error("{0}")]
    Tls(String),
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No connection for another reason.
    #[error("could not connect: {0}")]
    Connect(io::ErrorKind),
    /// The time was up.
    #[error("no answer within {}", print_duration(*.0))]
    Timeout(Duration),
    /// It answered with a status that the check does not take.
    #[error("answered {0}")]
    Status(u16),
    /// Its answer has the right status, but not the text that it must contain.
    #[error("its answer does not contain the text that the check looks for")]
    Body,
    /// It closed the connection and had not answered.
    #[error("closed the connection without an answer")]
    Closed,
    /// The connection broke before the answer.
    #[error("the connection broke: {0}")]
    Broken(io::ErrorKind),
    /// What it said is no HTTP response.
    #[error("answered with something that is not HTTP")]
    NotHttp,
    /// It answered the call with a status of gRPC that is not OK.
    #[error("answered with gRPC status {0}")]
    Grpc(u32),
    /// What it says of itself by `grpc.health.v1`.
    #[error("says {0}")]
    NotServing(&'static str),
    /// What it said is no answer of gRPC.
    #[error("answered with something that is not gRPC")]
    NotGrpc,
    /// This node could not make the probe; that says nothing about the instance.
    #[error("the probe could not be made on this node: {0}")]
    Local(String),
}

impl ProbeError {
    /// Whether the instance answered, if with the wrong thing: it can be reached.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Status(_)
                | Self::Body
                | Self::NotHttp
                | Self::Grpc(_)
                | Self::NotServing(_)
                | Self::NotGrpc
        )
    }
}
