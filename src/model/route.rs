//! A route: which requests of a listener go to which pool.

use crate::base::{ListenerId, PoolId};

/// Which hosts a route is for. Hosts are compared in lower case and without a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostPattern {
    /// Any host, and requests without one.
    Any,
    /// Exactly this host.
    Exact(String),
    /// Any host that ends in this suffix, which starts with a dot: `*.example.com` is
    /// `.example.com`, and does not match `example.com` itself.
    Suffix(String),
}

/// One rule. Among the routes of a listener the most specific host wins, then the first in the
/// order of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The listener whose requests it sees.
    pub listener: ListenerId,
    /// Which hosts.
    pub host: HostPattern,
    /// The path must start with this; `"/"` matches all.
    pub path_prefix: String,
    /// One of these methods; empty means any.
    pub methods: Vec<String>,
    /// Each of these fields (name in lower case) must be there with exactly this value.
    pub headers: Vec<(String, String)>,
    /// Where matching requests go.
    pub pool: PoolId,
}
