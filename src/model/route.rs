//! A route: which requests of a listener go where.

use std::sync::Arc;

use crate::base::{ListenerId, PoolId};
use crate::model::listener::Page;
use crate::model::queue::Priority;
use crate::model::rewrite::{Rewrite, Template};

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

/// Sends the client elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// For `Location`.
    pub to: Template,
}

/// Answers in an instance's stead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// What is said; `None` sends no body.
    pub page: Option<Page>,
}

/// What is done with a request that a route matches.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// It goes to an instance of this pool.
    Pool(PoolId),
    /// The client is sent elsewhere.
    Redirect(Arc<Redirect>),
    /// It is answered here.
    Respond(Arc<Respond>),
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
    /// What is done with matching requests.
    pub action: Action,
    /// How much matching requests matter where not all can be served.
    pub priority: Priority,
    /// What is changed in their heads, before what their pool changes.
    pub rewrite: Arc<Rewrite>,
}
