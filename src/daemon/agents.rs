//! The scaling agents: one for each pool that has a provisioner, and for each that had one and has
//! left the config, until nothing of it exists any more.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::base::{Clock, PoolId};
use crate::model::{AgentReport, Pool, Provisioning, Sight, StopPolicy};
use crate::observe::Metrics;
use crate::provision::{self, Provisioner};
use crate::scaling::{Agent, Connections, History, Journal, OperationObserver, Tally, ending};

/// The journals by pool, for the admin API.
pub type Journals = Arc<ArcSwap<HashMap<PoolId, Arc<Journal>>>>;

/// All running agents.
#[derive(Debug)]
pub struct Agents {
    clock: Clock,
    nonce: u64,
    reports: mpsc::Sender<AgentReport>,
    metrics: Arc<Metrics>,
    history: Arc<History>,
    running: HashMap<PoolId, Running>,
    journals: Journals,
}

#[derive(Debug)]
struct Running {
    settings: Provisioning,
    sights: watch::Sender<Option<Sight>>,
    provisioner: watch::Sender<Arc<dyn Provisioner>>,
    task: JoinHandle<()>,
}

/// Provisioners that a config needs and that are not in use yet.
#[derive(Debug)]
pub struct Prepared {
    built: Vec<(PoolId, Provisioning, Arc<dyn Provisioner>)>,
}

impl Agents {
    /// None yet. `nonce` differs at each start of the daemon.
    pub fn new(
        clock: Clock,
        reports: mpsc::Sender<AgentReport>,
        metrics: Arc<Metrics>,
        history: Arc<History>,
        nonce: u64,
    ) -> Self {
        let (running, journals) = (HashMap::new(), Journals::default());
        Self { clock, nonce, reports, metrics, history, running, journals }
    }

    /// Where the journals are published.
    pub fn journals(&self) -> Journals {
        Arc::clone(&self.journals)
    }

    /// Builds the provisioners of `pools` that are new or differ from those in use.
    ///
    /// # Errors
    /// Each that cannot be built, and why.
    pub fn prepare(&self, pools: &[Arc<Pool>], state_dir: &Path) -> Result<Prepared, Vec<String>> {
        let mut built = Vec::new();
        let mut errors = Vec::new();
        for pool in pools {
            let Some(settings) = &pool.provisioning else { continue };
            if self.running.get(&pool.id).is_some_and(|running| running.settings == *settings) {
                continue;
            }
            match provision::build(&pool.id, settings, state_dir) {
                Ok(provisioner) => built.push((pool.id.clone(), settings.clone(), provisioner)),
                Err(failure) => errors.push(format!("pool {}: {failure}", pool.id)),
            }
        }
        if errors.is_empty() { Ok(Prepared { built }) } else { Err(errors) }
    }

    /// Puts prepared provisioners to use: a running agent goes on with the new one.
    pub fn adopt(&mut self, prepared: Prepared) {
        for (pool, settings, provisioner) in prepared.built {
            match self.running.get_mut(&pool) {
                Some(running) => {
                    running.settings = settings;
                    running.provisioner.send_replace(provisioner);
                }
                None => self.start(pool, settings, provisioner),
            }
        }
    }

    fn start(&mut self, pool: PoolId, settings: Provisioning, provisioner: Arc<dyn Provisioner>) {
        let journal = self.history.journal(&pool);
        let (sights, seen) = watch::channel(None);
        let (provisioner, provided) = watch::channel(provisioner);
        let connections = Connections {
            provisioner: provided,
            journal: Arc::clone(&journal),
            history: Arc::clone(&self.history),
            sights: seen,
            reports: self.reports.clone(),
            observer: Arc::new(Counted { pool: pool.clone(), metrics: Arc::clone(&self.metrics) }),
        };
        let agent = Agent::new(pool.clone(), connections, self.clock, self.nonce);
        let task = tokio::spawn(agent.run());
        self.write_journals(|journals| drop(journals.insert(pool.clone(), journal)));
        self.running.insert(pool, Running { settings, sights, provisioner, task });
    }

    /// Shows an agent its pool.
    pub fn show(&self, sight: Sight) {
        if let Some(running) = self.running.get(&sight.row.pool.id) {
            running.sights.send_replace(Some(sight));
        }
    }

    /// A retired pool is gone: its agent has ended.
    pub fn forget(&mut self, pool: &PoolId) {
        self.running.remove(pool);
        self.history.forget(pool);
        self.write_journals(|journals| drop(journals.remove(pool)));
    }

    fn write_journals(&self, change: impl FnOnce(&mut HashMap<PoolId, Arc<Journal>>)) {
        let mut journals = HashMap::clone(&self.journals.load());
        change(&mut journals);
        self.journals.store(Arc::new(journals));
    }

    /// Ends every agent, so that nothing is launched or terminated any more.
    pub async fn stop_scaling(&mut self) {
        for running in self.running.values_mut() {
            running.task.abort();
            let _ = (&mut running.task).await;
        }
    }

    /// Takes away the instances of every pool whose provisioner says `stop = "terminate"`.
    ///
    /// # Errors
    /// Each pool of which something is left.
    pub async fn terminate_all(&self) -> Result<(), Vec<String>> {
        let mut errors = Vec::new();
        for (pool, running) in &self.running {
            match running.settings.stop() {
                StopPolicy::Keep => {
                    tracing::info!(%pool, "instances are kept; the next daemon adopts them")
                }
                StopPolicy::Terminate => {
                    let provisioner = Arc::clone(&running.provisioner.borrow());
                    if let Err(why) = ending::terminate(provisioner.as_ref(), |_| true).await {
                        errors.push(format!("pool {pool}: {why}"));
                    }
                }
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

/// Takes away, in the background, what a daemon before this one left behind for pools that are not
/// provisioned any more.
pub fn end_forgotten(pools: &[Arc<Pool>], state_dir: &Path) {
    let provisioned = pools.iter().filter(|pool| pool.provisioning.is_some());
    let known: Vec<PoolId> = provisioned.map(|pool| pool.id.clone()).collect();
    for (pool, provisioner) in provision::forgotten(&known, state_dir) {
        tokio::spawn(async move { ending::end_forgotten(&pool, provisioner.as_ref()).await });
    }
}

/// Reads the history in `state_dir`, less the pools that have left the config meanwhile.
pub fn open_history(pools: &[Arc<Pool>], state_dir: &Path, metrics: &Arc<Metrics>) -> Arc<History> {
    let counted = Arc::clone(metrics);
    let count = move || counted.count_history_error();
    let history = History::open(&state_dir.join("history.redb"), Box::new(count));
    let known: Vec<PoolId> = pools.iter().map(|pool| pool.id.clone()).collect();
    history.keep_only(&known);
    Arc::new(history)
}

/// Keeps the history: records within a second, what is learnt within a minute.
pub async fn keep(history: Arc<History>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for second in 0u64.. {
        ticks.tick().await;
        write(&history, second.is_multiple_of(60)).await;
    }
}

/// Writes what is new, on a thread that may wait for the disk.
pub async fn write(history: &Arc<History>, learnt: bool) {
    let history = Arc::clone(history);
    if let Err(why) = tokio::task::spawn_blocking(move || history.write(learnt)).await {
        tracing::error!(%why, "writing the history panicked");
    }
}

/// Counts what an agent does.
#[derive(Debug)]
struct Counted {
    pool: PoolId,
    metrics: Arc<Metrics>,
}

impl OperationObserver for Counted {
    fn operation(&self, operation: &'static str, outcome: &'static str, took: Duration) {
        self.metrics.count_operation(&self.pool, operation, outcome, took);
    }

    fn decision(&self, direction: &'static str, reason: &'static str) {
        self.metrics.count_decision(&self.pool, direction, reason);
    }

    fn tally(&self, more: &Tally) {
        let Tally {
            recommended_instance_seconds, existing_instance_seconds, short_seconds, ..
        } = *more;
        self.metrics.count_recommended(
            &self.pool,
            recommended_instance_seconds,
            existing_instance_seconds,
            short_seconds,
        );
    }
}
