//! The configuration: TOML text → `raw` (what the operator typed, with its place in the file) →
//! [`compile()`] → [`Config`], which cannot be wrong.
//!
//! Nothing here opens a socket or starts anything. All faults of a file are found in one pass; each
//! names its file, line and column and says what to do. Keys of features that are not built yet are
//! known, and refused with a fault that says so: `later` lists them.

mod affinity;
mod bound;
mod compile;
mod diff;
mod explain;
mod fault;
mod health;
mod http;
mod later;
mod raw;
mod read;
mod scalar;
mod scaling;
mod text;
mod zones;

#[cfg(test)]
mod tests;

pub use compile::{Loaded, ReadFile, compile, load};
pub use diff::{Binds, Changes, Difference, diff};
pub use explain::{Origin, Setting};
pub use fault::{Fault, Faults};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base::{ListenerId, PoolId, ZoneId};
use crate::model::{Listener, Pool, Route};

/// A valid configuration.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The admin API.
    pub admin: AdminSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// In the order of the file; names and addresses are unique.
    pub listeners: Vec<Listener>,
    /// In the order of the file; each names a listener (HTTP) and a pool that exist.
    pub routes: Vec<Route>,
    /// Sorted by name.
    pub pools: Vec<Arc<Pool>>,
}

/// `[node]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// The zone that this node stands in, if it was said.
    pub zone: Option<ZoneId>,
    /// Data-plane threads; at least 1.
    pub workers: usize,
    /// Where the daemon keeps what must survive a restart.
    pub state_dir: PathBuf,
}

/// Where the admin API listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AdminBind {
    /// A loopback address.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// `[admin]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AdminSettings {
    /// Where it listens.
    pub bind: AdminBind,
    /// A file whose content (trimmed) every request must bear as a token.
    pub token_file: Option<PathBuf>,
}

/// `[log]`: what the daemon says of itself, and the access log with a line for each exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogSettings {
    /// The daemon's own events below this level are dropped.
    pub level: tracing::Level,
    /// Where the access log goes.
    pub access: AccessTo,
    /// How lines look.
    pub format: LogFormat,
}

/// Where the access log goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AccessTo {
    /// There is none.
    Off,
    /// To the standard output.
    Stdout,
    /// To this file, behind what is in it.
    File(PathBuf),
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// The daemon's own for people; those of the access log as JSON.
    Text,
    /// One JSON object a line, in both logs.
    Json,
    /// The daemon's own for people; those of the access log in the combined log format, which
    /// begins with the common one.
    Common,
}

impl Config {
    /// The pool of that name.
    pub fn pool(&self, id: &PoolId) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.id == *id)
    }

    /// The listener of that name.
    pub fn listener(&self, id: &ListenerId) -> Option<&Listener> {
        self.listeners.iter().find(|listener| listener.id == *id)
    }
}
