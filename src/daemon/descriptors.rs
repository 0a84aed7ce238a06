//! How many files the process may have open: sockets are files too.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::model::{Limit, Listener};

/// A client's connection, and the one to its instance.
const PER_CONNECTION: u64 = 2;

/// For all that is no connection of a client's: probes (up to 896 at a time, and 1,024 connections
/// that they keep), pipes, listening sockets, the admin API.
const RESERVE: u64 = 4096;

/// Raises the limit as far as that goes without privileges (the soft limit of 1024 is for programs
/// that use `select`), and says so if the listeners may have more connections than fit below it: as
/// many as do not fit would wait unserved where they should have been refused.
pub fn raise_limit(listeners: &[Listener]) {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, wanted).is_ok() { wanted } else { limit }.current;
    let needed = needed(listeners);
    if let Some(open_files) = current.filter(|current| *current < needed) {
        tracing::warn!(
            open_files,
            needed,
            "the limit of open files is below what the connections of all listeners may need: raise \
             it (LimitNOFILE= for systemd, `ulimit -Hn` in a shell), or lower `limits.connections`"
        );
    }
}

/// What must fit for no listener to be short of descriptors before it has as many connections as it
/// may. One without a limit leaves the limit to the kernel.
fn needed(listeners: &[Listener]) -> u64 {
    let connections = listeners.iter().map(|listener| match listener.limits.connections {
        Limit::AtMost(connections) => u64::from(connections),
        Limit::Unlimited => 0,
    });
    PER_CONNECTION * connections.sum::<u64>() + RESERVE
}
