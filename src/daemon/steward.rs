//! The steward: the only task that changes the membership and publishes snapshots.
//!
//! Whatever happens (a probe result, an agent's report, a command, a reload, a tick) it does the
//! same three things: tell the membership, start what probes are due, and if anything changed build
//! a whole new census and snapshot and publish them. It owns no policy.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot, watch};

use crate::base::clock::wall_seconds;
use crate::base::{Clock, InstanceId, Ms, PoolId, ZoneId};
use crate::config::Config;
use crate::daemon::agents::Agents;
use crate::daemon::demand::Windows;
use crate::daemon::publish::{self, Shared};
use crate::daemon::reload;
use crate::daemon::state::{Said, StateDir};
use crate::daemon::workers::Workers;
use crate::fleet::{
    Asks, Change, Membership, NotEvacuated, NotRestored, NotSized, ProbeError, ProbeResult, Prober,
    Unknown,
};
use crate::model::{
    Admin, AgentReport, Census, Evacuation, Health, Sight, SizeOverride, ZoneState,
};
use crate::observe::AccessLog;
use crate::observe::metrics::Metrics;
use crate::proxy::snapshot::{PoolShared, Snapshot};

/// How often drains and ejections and ramps are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Ticks per second: demand windows are one second long.
const TICKS_PER_SECOND: u32 = 10;

/// How often the files of certificates are looked at, in ticks. What has changed is read at the next
/// look, so that it rests meanwhile.
const TICKS_PER_LOOK: u32 = 2 * TICKS_PER_SECOND;

/// Events taken in one go before the next publication: a round of probes of a large pool makes one
/// snapshot, not a thousand.
const BATCH: usize = 512;

/// How often the log is told at most that probes cannot be made: it may be true of a thousand at once.
const TROUBLE_PAUSE: Duration = Duration::from_secs(60);

/// What an operator asks for.
#[derive(Debug)]
pub enum Command {
    /// Drain an instance, or undo that.
    Drain {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// Drain, or undo.
        on: bool,
        /// Whether there is such an instance.
        reply: oneshot::Sender<Result<(), Unknown>>,
    },
    /// Set the size of a pool by hand, or end that.
    Scale {
        /// Of this pool.
        pool: PoolId,
        /// This size.
        size: Option<SizeOverride>,
        /// Whether it may have that size.
        reply: oneshot::Sender<Result<(), NotSized>>,
    },
    /// Protect an instance from scale-in, or undo that.
    Protect {
        /// In this pool.
        pool: PoolId,
        /// This instance.
        instance: InstanceId,
        /// Protect, or undo.
        on: bool,
        /// Whether there is such an instance.
        reply: oneshot::Sender<Result<(), Unknown>>,
    },
    /// Move the traffic of a zone elsewhere.
    Evacuate {
        /// This zone.
        zone: ZoneId,
        /// Until when.
        evacuation: Evacuation,
        /// Whether it may leave pools short.
        force: bool,
        /// Whether it is done.
        reply: oneshot::Sender<Result<(), NotEvacuated>>,
    },
    /// End that.
    Restore {
        /// Of this zone.
        zone: ZoneId,
        /// Whether it was evacuated.
        reply: oneshot::Sender<Result<(), NotRestored>>,
    },
    /// Read the config again.
    Reload {
        /// What changed, or all faults.
        reply: oneshot::Sender<Result<String, Vec<String>>>,
    },
}

/// Where others read what the steward publishes.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// For the workers.
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    /// For everyone else.
    pub census: Arc<ArcSwap<Census>>,
    /// The hold queues by pool, for the depth.
    pub queues: Arc<ArcSwap<Vec<Arc<PoolShared>>>>,
}

/// What the steward hears.
#[derive(Debug)]
pub struct Inbox {
    /// From the scaling agents.
    pub reports: mpsc::Receiver<AgentReport>,
    /// From the prober.
    pub probes: mpsc::Receiver<ProbeResult>,
    /// From operators.
    pub commands: mpsc::Receiver<Command>,
    /// From the workers.
    pub suspicions: watch::Receiver<()>,
}

/// The steward's state.
#[derive(Debug)]
pub struct Steward {
    /// The process' clock.
    pub clock: Clock,
    /// Where the config came from.
    pub path: PathBuf,
    /// The config in force.
    pub config: Config,
    /// The state directory.
    pub state: StateDir,
    /// All counters.
    pub metrics: Arc<Metrics>,
    /// Where it publishes.
    pub published: Published,
    /// The data plane.
    pub workers: Workers,
    /// The access log.
    pub access: AccessLog,
    /// The scaling agents.
    pub agents: Agents,
    /// Who is there.
    pub membership: Membership,
    /// Makes probes.
    pub prober: Prober,
    /// Where probe results go.
    pub probe_results: mpsc::Sender<ProbeResult>,
    /// What outlives snapshots.
    pub shared: Shared,
    /// Demand by the second.
    pub windows: Windows,
    /// When the log was last told that probes cannot be made.
    pub trouble_told: Option<Ms>,
    /// The last published generation.
    pub generation: u64,
}

impl Steward {
    /// Takes the config into force for the first time: publishes, starts agents, probes.
    pub fn begin(&mut self) {
        let said = self.state.read_overrides();
        self.membership.apply_overrides(&said.admin);
        self.membership.apply_said(said.scaling);
        self.membership.apply_evacuations(said.evacuations);
        self.membership.end_evacuations(wall_seconds() as u64);
        self.membership.apply_config(self.clock.now(), &self.config.pools);
        self.shared.certificates.show(&self.metrics);
        self.publish();
        self.settle();
    }

    /// Works until `stop` is ready, or a worker ends.
    ///
    /// # Errors
    /// If a worker ended by itself: half a daemon is worse than a restart.
    pub async fn run(
        &mut self,
        inbox: &mut Inbox,
        hang_ups: &mut tokio::signal::unix::Signal,
        stop: impl Future<Output = ()>,
    ) -> Result<(), String> {
        let mut stop = std::pin::pin!(stop);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut count = 0u32;
        loop {
            tokio::select! {
                () = &mut stop => return Ok(()),
                ended = self.workers.ended() => {
                    let why = ended.and_then(Result::err).map_or_else(
                        || "it panicked".to_owned(), |error| error.to_string());
                    return Err(format!("a worker ended by itself: {why}"));
                }
                Some(report) = inbox.reports.recv() => self.take_report(report),
                Some(result) = inbox.probes.recv() => self.take_probe(&result),
                Some(command) = inbox.commands.recv() => self.obey(command).await,
                Ok(()) = inbox.suspicions.changed() => {
                    self.membership.handle_suspicions(self.clock.now());
                }
                _ = hang_ups.recv() => drop(reload::reload(self).await),
                _ = ticks.tick() => {
                    if count.is_multiple_of(TICKS_PER_SECOND) {
                        self.end_overrides();
                        self.membership.review_plans();
                        self.show_agents();
                    }
                    if count.is_multiple_of(TICKS_PER_LOOK) {
                        self.look_at_certificates();
                    }
                    count = count.wrapping_add(1);
                }
            }
            self.take_rest(inbox);
            self.settle();
        }
    }

    /// Takes what else has come meanwhile, so that it is published at once.
    fn take_rest(&mut self, inbox: &mut Inbox) {
        for _ in 0..BATCH {
            match inbox.probes.try_recv() {
                Ok(result) => self.take_probe(&result),
                Err(_) => break,
            }
        }
        for _ in 0..BATCH {
            match inbox.reports.try_recv() {
                Ok(report) => self.take_report(report),
                Err(_) => break,
            }
        }
    }

    fn take_report(&mut self, report: AgentReport) {
        let retired = match &report {
            AgentReport::Retired { pool } => Some(pool.clone()),
            _ => None,
        };
        self.membership.handle_report(self.clock.now(), report);
        if let Some(pool) = retired {
            self.agents.forget(&pool);
            self.restart_agent(&pool);
        }
    }

    /// A reload may have brought the pool back just when its agent was done with it.
    fn restart_agent(&mut self, pool: &PoolId) {
        let Some(pool) = self.config.pool(pool) else { return };
        match self.agents.prepare(std::slice::from_ref(pool), self.state.path()) {
            Ok(prepared) => self.agents.adopt(prepared),
            Err(errors) => tracing::error!(
                errors = errors.join("; "),
                "the pool is not scaled; reload the config once this is mended"
            ),
        }
    }

    fn take_probe(&mut self, result: &ProbeResult) {
        if let Err(ProbeError::Local(why)) = &result.outcome {
            self.tell_trouble(result, why);
        }
        if result.order.asks != Asks::Instance {
            self.membership.handle_agent(self.clock.now(), &result.order, result.said.clone());
            return;
        }
        self.metrics.count_probe(&result.order.instance.pool, result.outcome.is_ok());
        self.membership.handle_probe(self.clock.now(), &result.order, &result.outcome);
    }

    /// Nothing follows for the instance from a probe that this node could not make. But as long as it
    /// cannot, nothing is known of it either, and only the log can say why.
    fn tell_trouble(&mut self, result: &ProbeResult, why: &str) {
        let now = self.clock.now();
        if self.trouble_told.is_none_or(|told| now.since(told) >= TROUBLE_PAUSE) {
            self.trouble_told = Some(now);
            let (pool, instance) = (&result.order.instance.pool, &result.order.instance.id);
            tracing::warn!(%pool, %instance, why, "this node cannot make its probes");
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Drain { pool, instance, on, reply } => {
                let admin = if on { Admin::Draining } else { Admin::Enabled };
                let done = self.membership.set_admin(&pool, &instance, admin);
                if done.is_ok() {
                    tracing::info!(%pool, %instance, admin = admin.word(), "operator's order");
                    self.keep_overrides();
                }
                let _ = reply.send(done);
            }
            Command::Scale { pool, size, reply } => {
                let done = self.membership.set_size(&pool, size);
                if done.is_ok() {
                    let desired = size.map(|size| size.desired);
                    tracing::info!(%pool, desired, "operator's order of a size");
                    self.keep_overrides();
                }
                let _ = reply.send(done);
            }
            Command::Protect { pool, instance, on, reply } => {
                let done = self.membership.set_protected(&pool, &instance, on);
                if done.is_ok() {
                    tracing::info!(%pool, %instance, protected = on, "operator's order");
                    self.keep_overrides();
                }
                let _ = reply.send(done);
            }
            Command::Evacuate { zone, evacuation, force, reply } => {
                let done = self.membership.evacuate(&zone, evacuation, force);
                if done.is_ok() {
                    tracing::info!(%zone, until = evacuation.until, force, "operator's order to evacuate");
                    self.keep_overrides();
                }
                let _ = reply.send(done);
            }
            Command::Restore { zone, reply } => {
                let done = self.membership.restore(&zone);
                if done.is_ok() {
                    tracing::info!(%zone, "operator's order to restore");
                    self.keep_overrides();
                }
                let _ = reply.send(done);
            }
            Command::Reload { reply } => {
                let _ = reply.send(reload::reload(self).await);
            }
        }
    }

    fn keep_overrides(&self) {
        let said = Said {
            admin: self.membership.admin_overrides(),
            scaling: self.membership.said().clone(),
            evacuations: self.membership.evacuations().clone(),
        };
        if let Err(error) = self.state.write_overrides(&said) {
            tracing::error!(%error, state_dir = %self.state.path().display(),
                "cannot write operators' overrides: they hold until the daemon stops");
        }
    }

    /// What follows from whatever happened.
    fn settle(&mut self) {
        let now = self.clock.now();
        self.membership.handle_tick(now);
        for order in self.membership.next_probes(now) {
            let tls = self.shared.certificates.client(&order.instance.pool);
            self.prober.start(order, tls, self.probe_results.clone());
        }
        for change in self.membership.take_changes() {
            log_change(&change, &self.metrics);
        }
        if self.membership.changed() {
            self.publish();
        }
    }

    /// Builds the whole of what others see, swaps it in, and wakes those who wait for capacity.
    pub fn publish(&mut self) {
        self.generation += 1;
        let census = self.membership.census(self.generation);
        let snapshot = publish::snapshot(&self.config, &census, &mut self.shared, &self.metrics);
        let was = self.published.snapshots.load().generation;
        debug_assert!(snapshot.generation > was, "generations only rise");
        let newest = Arc::new(snapshot);
        self.published.snapshots.store(Arc::clone(&newest));
        self.published.census.store(Arc::new(census));
        self.published.queues.store(Arc::new(self.shared.all().cloned().collect()));
        for shared in self.shared.all() {
            shared.show(&newest);
        }
    }

    /// The daemon is about to stop: from here on it is not ready.
    pub fn say_stopping(&self) {
        let census = Census::clone(&self.published.census.load());
        self.published.census.store(Arc::new(Census { ready: false, ..census }));
    }

    /// What an operator ordered for a while ends by itself.
    fn end_overrides(&mut self) {
        let wall = wall_seconds() as u64;
        let sizes = self.membership.end_sizes(wall);
        if self.membership.end_evacuations(wall) || sizes {
            self.keep_overrides();
            // The agents are shown the census, and are to see it without what has ended.
            self.publish();
        }
    }

    /// Connections are made with certificates as they are in their files, and the log is told in time of
    /// those that end.
    fn look_at_certificates(&mut self) {
        if self.shared.certificates.look(&self.config, &self.metrics) {
            self.shared.certificates.show(&self.metrics);
            self.publish();
        }
        self.shared.certificates.tell_endings(wall_seconds() as i64);
    }

    /// Once a second: shows each agent its pool, with the demand of the last seconds.
    fn show_agents(&mut self) {
        let now = self.clock.now();
        let census = self.published.census.load_full();
        for row in &census.pools {
            let shared = self.shared.of(&row.pool.id, &self.metrics);
            let windows = self.windows.close(now, &shared, row);
            let retired =
                self.membership.is_retired(&row.pool.id) || row.pool.provisioning.is_none();
            self.agents.show(Sight { now, windows, row: row.clone(), retired });
        }
    }
}

fn log_change(change: &Change, metrics: &Metrics) {
    match change {
        Change::Health(turn) => {
            metrics.count_health_change(&turn.pool, turn.to);
            let (pool, instance, zone) = (&turn.pool, &turn.instance, &turn.zone);
            let (from, to, why) = (turn.from.word(), turn.to.word(), &turn.why);
            if turn.to == Health::Down {
                tracing::warn!(%pool, %instance, %zone, from, to, why, "health changed");
            } else {
                tracing::info!(%pool, %instance, %zone, from, to, why, "health changed");
            }
        }
        Change::Ejected { pool, instance, zone, reason, why } => {
            metrics.count_health_change(pool, Health::Ejected);
            metrics.count_ejection(pool, reason);
            let (from, to) = (Health::Up.word(), Health::Ejected.word());
            tracing::warn!(%pool, %instance, %zone, from, to, %why, "health changed");
        }
        Change::Zone { zone, state: ZoneState::Lost, why } => {
            tracing::warn!(%zone, state = ZoneState::Lost.word(), why, "zone changed");
        }
        Change::Zone { zone, state, why } => {
            tracing::info!(%zone, state = state.word(), why, "zone changed");
        }
        Change::Panic { pool, on: true } => {
            let why = "too few of its instances are up: those that answer badly to nothing but \
                       their probes get traffic too";
            tracing::warn!(%pool, why, "the pool is in panic");
        }
        Change::Panic { pool, on: false } => {
            tracing::info!(%pool, "the pool is in panic no longer");
        }
        Change::Life { pool, instance, zone, from, to } => {
            let (from, to) = (from.word(), to.word());
            tracing::info!(%pool, %instance, %zone, from, to, "life changed");
        }
        Change::Lingers { pool, instance, zone, why } => {
            tracing::info!(%pool, %instance, %zone, why, "an instance does not pass its probes yet");
        }
        Change::Agent { pool, instance, zone, says } => {
            tracing::info!(%pool, %instance, %zone, says, "its agent says something else");
        }
        Change::Spared { pool, instance, zone, why } => {
            tracing::warn!(%pool, %instance, %zone, why, "an instance stays up");
        }
        Change::Added { pool, instance, zone, address } => {
            tracing::info!(%pool, %instance, %zone, %address, "instance added");
        }
        Change::Removed { pool, instance, zone, why } => {
            tracing::info!(%pool, %instance, %zone, why, "instance removed");
        }
    }
}
