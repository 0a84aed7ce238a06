//! From who is there to what requests see: builds a whole snapshot from the config and a census.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{ListenerId, PoolId};
use crate::config::Config;
use crate::daemon::certificates::Certificates;
use crate::daemon::keys;
use crate::model::{Action, Census, PoolRow, Route, TrafficPlan};
use crate::observe::metrics::Metrics;
use crate::proxy::admit::Crowd;
use crate::proxy::balance::Keys;
use crate::proxy::route::{Destination, RouteTable};
use crate::proxy::snapshot::{ListenerView, PoolShared, PoolView, Snapshot};

/// What outlives snapshots, by name; never forgotten while the daemon lives, so that a pool or a
/// listener that leaves the config and comes back goes on counting.
#[derive(Debug)]
pub struct Shared {
    /// Of the config in force; replaced with it.
    pub certificates: Certificates,
    state_dir: PathBuf,
    sticky_keys: Option<Arc<Keys>>,
    pools: HashMap<PoolId, Arc<PoolShared>>,
    crowds: HashMap<ListenerId, Arc<Crowd>>,
}

impl Shared {
    /// Nothing yet. Keys are in this state directory, and read when the first pool needs them.
    pub fn new(state_dir: &Path) -> Self {
        Self {
            certificates: Certificates::default(),
            state_dir: state_dir.to_owned(),
            sticky_keys: None,
            pools: HashMap::new(),
            crowds: HashMap::new(),
        }
    }

    /// The keys of the cookies of sticky sessions.
    fn sticky_keys(&mut self) -> Arc<Keys> {
        let Self { sticky_keys, state_dir, .. } = self;
        Arc::clone(sticky_keys.get_or_insert_with(|| Arc::new(keys::sticky(state_dir))))
    }

    /// What outlives the snapshots of this pool.
    pub fn of(&mut self, id: &PoolId, metrics: &Metrics) -> Arc<PoolShared> {
        let serial = self.pools.len();
        let shared = self.pools.entry(id.clone()).or_insert_with(|| {
            let meter = metrics.pool_meter(id);
            Arc::new(PoolShared::new(id.clone(), serial, meter))
        });
        Arc::clone(shared)
    }

    /// The connections of this listener.
    fn crowd(&mut self, id: &ListenerId) -> Arc<Crowd> {
        Arc::clone(self.crowds.entry(id.clone()).or_default())
    }

    /// All pools.
    pub fn all(&self) -> impl Iterator<Item = &Arc<PoolShared>> {
        self.pools.values()
    }
}

/// The snapshot that `census` and `config` make. A pool of the config is always in the census; a
/// pool that has left the config is not in the snapshot, whatever still drains in it.
pub fn snapshot(
    config: &Config,
    census: &Census,
    shared: &mut Shared,
    metrics: &Metrics,
) -> Snapshot {
    let no_plan = TrafficPlan::default();
    let pools: Vec<PoolView> = config
        .pools
        .iter()
        .map(|pool| {
            let row = census.pool(&pool.id);
            let instances = row.map_or(&[][..], |row| &row.instances);
            let members =
                instances.iter().map(|row| (Arc::clone(&row.instance), row.admitted())).collect();
            let hopeful = row.is_some_and(PoolRow::is_hopeful);
            let plan = row.map_or(&no_plan, |row| &row.plan);
            let kept = shared.of(&pool.id, metrics);
            if pool.affinity.sticky.is_some() {
                kept.memory.know_keys(|| shared.sticky_keys());
            }
            let view = PoolView::build(Arc::clone(pool), members, plan, hopeful, kept);
            view.with_tls(shared.certificates.client(&pool.id))
        })
        .collect();
    let leads = |route: &'_ Route| match &route.action {
        Action::Pool(id) => Snapshot::pool_index(&pools, id).map(Destination::Pool),
        Action::Redirect(redirect) => Some(Destination::Redirect(Arc::clone(redirect))),
        Action::Respond(respond) => Some(Destination::Respond(Arc::clone(respond))),
    };
    let listeners = config
        .listeners
        .iter()
        .map(|listener| {
            let routes = config
                .routes
                .iter()
                .filter(|route| route.listener == listener.id)
                .filter_map(|route| leads(route).map(|destination| (route, destination)));
            let default_pool =
                listener.pool.as_ref().and_then(|id| Snapshot::pool_index(&pools, id));
            Arc::new(ListenerView {
                routes: RouteTable::build(routes),
                default_pool,
                meter: metrics.listener_meter(&listener.id),
                crowd: shared.crowd(&listener.id),
                tls: shared.certificates.server(&listener.id),
                listener: listener.clone(),
            })
        })
        .collect();
    Snapshot { generation: census.generation, listeners, pools }
}
