//! What a reload has to do to get from one configuration to another.

use std::net::SocketAddr;

use crate::base::{ListenerId, PoolId};
use crate::config::Config;
use crate::model::Listener;

/// What differs between two configurations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Listeners, by name.
    pub listeners: Changes<ListenerId>,
    /// Addresses. One that is kept keeps its socket, even if it goes from one listener to another.
    pub binds: Binds,
    /// Pools, by name.
    pub pools: Changes<PoolId>,
    /// Whether the routes differ in any way.
    pub routes_changed: bool,
    /// Keys that differ and that a running daemon cannot change.
    pub needs_restart: Vec<String>,
}

/// Things with names, each in one of the four lists, in the order of their configurations.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes<N> {
    /// Only in the new configuration.
    pub added: Vec<N>,
    /// Only in the old one.
    pub removed: Vec<N>,
    /// In both, with a difference.
    pub changed: Vec<N>,
    /// The same in both.
    pub kept: Vec<N>,
}

/// Addresses that listeners are bound to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binds {
    /// To be bound.
    pub added: Vec<SocketAddr>,
    /// To be given up.
    pub removed: Vec<SocketAddr>,
    /// In both configurations.
    pub kept: Vec<SocketAddr>,
}

/// Compares `new` with `old`.
pub fn diff(old: &Config, new: &Config) -> Difference {
    let listeners = changes(&old.listeners, &new.listeners, |listener| &listener.id);
    let pools = changes(&old.pools, &new.pools, |pool| &pool.id);
    let (before, after) = (all_binds(&old.listeners), all_binds(&new.listeners));
    let (kept, added): (Vec<_>, Vec<_>) = after.into_iter().partition(|bind| before.contains(bind));
    let binds = Binds {
        removed: before.into_iter().filter(|bind| !kept.contains(bind)).collect(),
        added,
        kept,
    };
    let fixed = [
        ("node.workers", old.node.workers != new.node.workers),
        ("node.state_dir", old.node.state_dir != new.node.state_dir),
        ("admin.bind", old.admin.bind != new.admin.bind),
        ("admin.token_file", old.admin.token_file != new.admin.token_file),
        ("log", old.log != new.log),
    ];
    Difference {
        listeners,
        binds,
        pools,
        routes_changed: old.routes != new.routes,
        needs_restart: fixed
            .into_iter()
            .filter(|(_, differs)| *differs)
            .map(|(key, _)| key.to_owned())
            .collect(),
    }
}

fn all_binds(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().flat_map(|listener| listener.bind.iter().copied()).collect()
}

fn changes<T: PartialEq, N: PartialEq + Clone>(
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &N,
) -> Changes<N> {
    let find = |list: &[T], wanted: &N| list.iter().position(|item| name(item) == wanted);
    let mut changes =
        Changes { added: Vec::new(), removed: Vec::new(), changed: Vec::new(), kept: Vec::new() };
    for item in new {
        let list = match find(old, name(item)) {
            None => &mut changes.added,
            Some(before) if old[before] == *item => &mut changes.kept,
            Some(_) => &mut changes.changed,
        };
        list.push(name(item).clone());
    }
    let gone = old.iter().filter(|item| find(new, name(item)).is_none());
    changes.removed = gone.map(|item| name(item).clone()).collect();
    changes
}

#[cfg(test)]
mod tests;
