//! The daemon: what ties the rooms together, and the life of the process.
//!
//! [`run`] starts in this order, so that nothing is touched before everything before it is sure:
//! config, certificates, state lock, sockets, workers, agents, admin API. The control plane runs on the main
//! thread; each worker on its own. [`steward`] holds the middle, [`agents`] the scaling agents,
//! [`stop`] the end.

pub mod agents;
pub mod certificates;
pub mod control;
pub mod demand;
pub mod descriptors;
pub mod keys;
pub mod publish;
pub mod reload;
pub mod state;
pub mod steward;
pub mod stop;
pub mod workers;

use std::path::Path;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::base::Clock;
use crate::base::clock::wall_seconds;
use crate::config::{self, AccessTo, Config, Faults};
use crate::daemon::agents::Agents;
use crate::daemon::certificates::Certificates;
use crate::daemon::control::AdminControl;
use crate::daemon::demand::Windows;
use crate::daemon::publish::Shared;
use crate::daemon::state::StateDir;
use crate::daemon::steward::{Inbox, Published, Steward};
use crate::daemon::workers::{Bound, Workers};
use crate::fleet::{Membership, Prober};
use crate::observe::metrics::Metrics;
use crate::observe::{AccessLog, log};

/// Probe results, reports and commands that may wait for the steward. Senders wait beyond that.
const INBOX_MAX: usize = 1024;

/// Why the daemon ended.
#[derive(Debug)]
pub enum RunError {
    /// The config has faults.
    Input(Faults),
    /// It could not start, or failed while it ran.
    Failed(Vec<String>),
}

impl RunError {
    fn failed(error: impl ToString) -> Self {
        Self::Failed(vec![error.to_string()])
    }
}

/// Runs the daemon on the config at `path` until it is told to stop.
///
/// # Errors
/// If the config has faults, something cannot be bound or locked, or a worker ends by itself.
pub fn run(path: &Path) -> Result<(), RunError> {
    let loaded = config::load(path).map_err(RunError::Input)?;
    log::init(loaded.config.log.level, loaded.config.log.format);
    let certificates = Certificates::read(path, &loaded, &Certificates::default());
    let (config, certificates) = (loaded.config, certificates.map_err(RunError::Input)?);
    descriptors::raise_limit(&config.listeners);
    let state = StateDir::open(&config.node.state_dir).map_err(RunError::failed)?;
    let addresses: Vec<_> = config.listeners.iter().flat_map(|l| l.bind.clone()).collect();
    let bound = Bound::bind(&addresses, config.node.workers).map_err(RunError::Failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunError::failed)?;
    runtime.block_on(serve(path, config, certificates, state, bound))
}

async fn serve(
    path: &Path,
    config: Config,
    certificates: Certificates,
    state: StateDir,
    bound: Bound,
) -> Result<(), RunError> {
    // Signals first: one that comes while we start must not kill us half-way.
    let mut hang_ups = signal(SignalKind::hangup()).map_err(RunError::failed)?;
    let mut stops = stop::Signals::new().map_err(RunError::failed)?;
    let clock = Clock::start();
    let metrics = Arc::new(Metrics::new(config.node.workers, env!("CARGO_PKG_VERSION")));
    let published = Published::default();
    let access = AccessLog::open(&config.log, clock, metrics.access_log_dropped())
        .map_err(RunError::failed)?;
    let (report_sender, reports) = mpsc::channel(INBOX_MAX);
    let (probe_results, probes) = mpsc::channel(INBOX_MAX);
    let (command_sender, commands) = mpsc::channel(INBOX_MAX);
    let (suspicion_sender, suspicions) = watch::channel(());
    let seed = wall_seconds().to_bits();

    let history = agents::open_history(&config.pools, state.path(), &metrics);
    let agents =
        Agents::new(clock, report_sender, Arc::clone(&metrics), Arc::clone(&history), seed);
    let prepared = agents.prepare(&config.pools, state.path()).map_err(RunError::Failed)?;
    let listener = admin::bind(&config.admin).map_err(RunError::failed)?;
    let token = admin::read_token(&config.admin).map_err(RunError::failed)?;
    let workers = Workers::start(
        config.node.workers,
        clock,
        &published.snapshots,
        &Arc::new(suspicion_sender),
        &access,
        seed,
    )
    .map_err(RunError::failed)?;
    let greeting = greeting(&config);
    let admin = admin::Admin {
        node: node_name(&config),
        census: Arc::clone(&published.census),
        journals: agents.journals(),
        metrics: Arc::clone(&metrics),
        queues: control::queues(&published),
        homes: control::homes(&published, clock),
        control: Arc::new(AdminControl { commands: command_sender }),
        token,
    };
    let mut shared = Shared::new(state.path());
    shared.certificates = certificates;
    let mut steward = Steward {
        clock,
        path: path.to_owned(),
        config,
        state,
        metrics,
        published,
        workers,
        access,
        agents,
        membership: Membership::new(),
        prober: Prober::new(clock),
        probe_results,
        shared,
        windows: Windows::default(),
        trouble_told: None,
        generation: 0,
    };
    let mut inbox = Inbox { reports, probes, commands, suspicions };
    steward.agents.adopt(prepared);
    agents::end_forgotten(&steward.config.pools, steward.state.path());
    steward.begin();
    steward.workers.listen(bound).await;
    let serving = tokio::spawn(admin::serve(listener, Arc::new(admin)));
    let keeping = tokio::spawn(agents::keep(Arc::clone(&history)));
    print!("{greeting}");
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %path.display(), "ready");
    let ended = steward.run(&mut inbox, &mut hang_ups, stops.first()).await;
    let stopped = stop::stop(steward, &mut inbox, stops).await;
    serving.abort();
    keeping.abort();
    agents::write(&history, true).await;
    ended.map_err(RunError::failed)?;
    stopped.map_err(RunError::Failed)
}

/// The host's name, and the zone that it stands in where that is known.
fn node_name(config: &Config) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match &config.node.zone {
        Some(zone) => format!("{host} ({zone})"),
        None => host,
    }
}

/// What to try next, in a few lines; nothing where the standard output is the access log's.
fn greeting(config: &Config) -> String {
    use std::fmt::Write;

    if config.log.access == AccessTo::Stdout {
        return String::new();
    }
    let mut text = format!("tidegate {}\n", env!("CARGO_PKG_VERSION"));
    for listener in &config.listeners {
        let bind: Vec<String> = listener.bind.iter().map(ToString::to_string).collect();
        let pool = listener.pool.as_ref().map_or("by route", |pool| pool.as_str());
        let (id, word) = (&listener.id, listener.protocol.word());
        let _ = writeln!(text, "  {word} {} -> pool {pool} (listener {id})", bind.join(", "));
    }
    let http = config.listeners.iter().find(|l| l.protocol == crate::model::Protocol::Http);
    let _ = writeln!(text, "try:");
    if let Some(address) = http.and_then(|listener| listener.bind.first()) {
        let _ = writeln!(text, "  curl http://{address}/");
    }
    // As it was called: on a first try it is not in the PATH.
    let program = std::env::args().next().unwrap_or_else(|| "tidegate".into());
    let _ = writeln!(text, "  {program} status");
    if let config::AdminBind::Tcp(address) = &config.admin.bind {
        let _ = writeln!(text, "  curl http://{address}/metrics");
        for pool in config.pools.iter().filter(|pool| pool.scaling.is_some()) {
            let id = &pool.id;
            let _ = writeln!(text, "  curl http://{address}/api/v1/pools/{id}/scaling");
        }
    }
    text
}
