//! The thin shell around the scaler: one task per pool that lists, decides, and carries the plan
//! out, each time the steward shows it a sight.
//!
//! It never tries anything twice: what did not work is decided anew on the next tick, from a new
//! list. Launches and terminations run beside the ticks, so a slow provider delays only itself.
//! Without a list nothing is decided.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::base::clock::wall_seconds;
use crate::base::unit::print_duration;
use crate::base::{Clock, InstanceId, Ms, PoolId};
use crate::model::{AgentReport, Machine, ScalingMode, Sight, SizeOverride};
use crate::provision::{Capabilities, Failure, LaunchOrder, Provisioner};
use crate::scaling::law::Moment;
use crate::scaling::outcome::Outcomes;
use crate::scaling::{History, Journal, Plan, Record, Scaler, Tally};

/// A list that takes longer has failed.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);
/// So has a launch or a termination.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The key of what was learnt in the history, and how often it is put there.
const LEARNT: &str = "learnt/1";
const REMEMBER_EVERY: Duration = Duration::from_secs(60);

/// The keys of the tally, of what the config and operators last said, and of what was settled.
const TALLY: &str = "tally/1";
const SAID: &str = "said/1";
const SETTLED: &str = "settled/1";
/// Calls to a provider at one time, over those that wait for their turn.
const CALLS_AT_ONCE: usize = 16;

/// Who counts what the agent does; the daemon makes metrics of it.
pub trait OperationObserver: Send + Sync + Debug {
    /// A call to the provider ended: `list`, `launch` or `terminate`, with `ok` or the word of its
    /// failure.
    fn operation(&self, operation: &'static str, outcome: &'static str, took: Duration);

    /// A decision was made: `out`, `in` or `hold`, for the term that decided.
    fn decision(&self, direction: &'static str, reason: &'static str);

    /// What was recommended adds up to this much more.
    fn tally(&self, more: &Tally);
}

/// What an agent is connected to.
#[derive(Debug)]
pub struct Connections {
    /// Where instances come from; another one after a reload.
    pub provisioner: watch::Receiver<Arc<dyn Provisioner>>,
    /// Where decisions are written down.
    pub journal: Arc<Journal>,
    /// Where what is learnt outlives the daemon.
    pub history: Arc<History>,
    /// What the steward sees, once a second.
    pub sights: watch::Receiver<Option<Sight>>,
    /// What the steward is told.
    pub reports: mpsc::Sender<AgentReport>,
    /// Who counts.
    pub observer: Arc<dyn OperationObserver>,
}

/// The scaling agent of one pool.
#[derive(Debug)]
pub struct Agent {
    pool: PoolId,
    connections: Connections,
    clock: Clock,
    scaler: Scaler,
    capabilities: Capabilities,
    calls: JoinSet<Answer>,
    turns: Arc<Semaphore>,
    /// Records of which some calls are still open.
    open: BTreeMap<u64, Open>,
    /// What was launched and is not known to be up or failed.
    outcomes: Outcomes,
    /// What the config and operators said when that was last looked at.
    said: (ScalingMode, Option<SizeOverride>),
    tally: Tally,
    /// When what was learnt was last put into the history.
    remembered: Ms,
    /// When the last sight was seen.
    now: Ms,
    desired: u32,
    blind: bool,
}

/// A call that has ended.
#[derive(Debug)]
struct Answer {
    call: Called,
    /// The record that the call belongs to.
    record: Option<u64>,
    result: Result<(), Failure>,
    took: Duration,
}

#[derive(Debug)]
enum Called {
    Launch(LaunchOrder),
    Terminate(Vec<InstanceId>),
}

/// How far the calls of a record are.
#[derive(Debug, Default)]
struct Open {
    waiting: usize,
    accepted: usize,
    failures: Vec<String>,
}

impl Agent {
    /// An agent for `pool`. `nonce` differs at each start of the daemon; with it the provider can
    /// tell its orders from those of an earlier life.
    pub fn new(pool: PoolId, connections: Connections, clock: Clock, nonce: u64) -> Self {
        let capabilities = connections.provisioner.borrow().capabilities();
        let history = &connections.history;
        let tally = history.recall(&pool, TALLY).unwrap_or_default();
        let said = history.recall(&pool, SAID).unwrap_or((ScalingMode::Enforce, None));
        let mut scaler = Scaler::new(&pool, nonce);
        if let Some(learnt) = history.recall(&pool, LEARNT) {
            scaler.recall(learnt);
        }
        if let Some(settled) = history.recall(&pool, SETTLED) {
            scaler.resume(settled);
        }
        Self {
            scaler,
            remembered: clock.now(),
            pool,
            connections,
            clock,
            capabilities,
            calls: JoinSet::new(),
            turns: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
            open: BTreeMap::new(),
            outcomes: Outcomes::default(),
            said,
            tally,
            now: Ms::ZERO,
            desired: 0,
            blind: false,
        }
    }

    /// Runs until the pool is retired, or the steward is gone.
    pub async fn run(mut self) {
        let mut launched = false;
        loop {
            tokio::select! {
                seen = self.connections.sights.changed() => {
                    if seen.is_err() {
                        return;
                    }
                    let sight = self.connections.sights.borrow_and_update().clone();
                    let Some(sight) = sight else { continue };
                    if self.tick(sight).await.is_break() {
                        return;
                    }
                }
                Some(answer) = self.calls.join_next() => match answer {
                    Ok(answer) => {
                        launched |= matches!(answer.call, Called::Launch(_));
                        self.settle(answer);
                        // What was just launched is probed now, and not after the next tick.
                        if self.calls.is_empty()
                            && std::mem::take(&mut launched)
                            && self.show_listing().await.is_break()
                        {
                            return;
                        }
                    }
                    Err(panic) => error!(pool = %self.pool, %panic, "the provisioner panicked"),
                },
            }
        }
    }

    /// Lists what exists and tells the steward; nothing if it cannot be listed.
    async fn show_listing(&mut self) -> ControlFlow<(), Option<Vec<Machine>>> {
        let provisioner = self.provisioner();
        let Some(machines) = self.list(&provisioner).await else {
            return ControlFlow::Continue(None);
        };
        let (pool, listed) = (self.pool.clone(), machines.clone());
        self.report(AgentReport::Listed { pool, machines: listed }).await?;
        ControlFlow::Continue(Some(machines))
    }

    async fn tick(&mut self, sight: Sight) -> ControlFlow<()> {
        self.now = sight.now;
        self.hear(&sight);
        let Some(mut machines) = self.show_listing().await? else {
            return ControlFlow::Continue(());
        };
        for machine in &mut machines {
            machine.protected |= sight.row.said.protected.contains(&machine.id);
        }
        for (record, measured) in self.outcomes.observe(self.now, &sight.row.instances, &machines) {
            self.connections.journal.measure(record, &measured);
        }
        let provisioner = self.provisioner();
        if sight.retired && machines.is_empty() && self.nothing_under_way() {
            let done = "no longer provisioned by the config, and nothing provisioned is left";
            info!(pool = %self.pool, "{done}");
            let pool = self.pool.clone();
            self.report(AgentReport::Retired { pool }).await?;
            return ControlFlow::Break(());
        }
        let moment = Moment { now: sight.now, wall_s: wall_seconds() as i64 };
        let plan = self.scaler.decide(moment, &sight, &machines, &self.capabilities);
        self.desired = plan.desired;
        self.add_up(plan.tally);
        self.remember();
        let deadline = sight.now + sight.row.pool.drain_timeout;
        self.carry_out(plan, deadline, &provisioner).await
    }

    /// What the config and operators say begins or ends: that is in the journal as well. What went on
    /// through a restart did neither.
    fn hear(&mut self, sight: &Sight) {
        let mode =
            sight.row.pool.scaling.as_ref().map_or(ScalingMode::Enforce, |scaling| scaling.mode);
        let now = (mode, sight.row.said.size);
        let before = std::mem::replace(&mut self.said, now);
        self.connections.history.save_soon(&self.pool, SAID, &now);
        if before.0 != mode {
            let reason = match mode {
                ScalingMode::Enforce => "what is decided is carried out from now on",
                ScalingMode::Recommend => "what is decided is only recommended from now on",
                ScalingMode::Off => "nothing is decided from now on: what exists stays as it is",
            };
            self.write_down(self.bare_record("hold", reason.into()));
        }
        if before.1 != now.1 {
            let reason = match (now.1, before.1) {
                (Some(SizeOverride { desired, until: None }), _) => {
                    format!("an operator set the size to {desired} until that is taken back")
                }
                (Some(SizeOverride { desired, until: Some(until) }), _) => {
                    let left = Duration::from_secs(until.saturating_sub(wall_seconds() as u64));
                    let left = print_duration(left);
                    format!("an operator set the size to {desired} for {left}")
                }
                (None, Some(over)) if over.is_over(wall_seconds() as u64) => {
                    format!("the time of the size that an operator set ({}) is over", over.desired)
                }
                (None, over) => {
                    let desired = over.map_or(0, |over| over.desired);
                    format!("the size that an operator set ({desired}) was taken back")
                }
            };
            let from = sight.row.desired;
            let to = now.1.map_or(from, |size| size.desired);
            let record = self.bare_record("override", reason);
            self.write_down(Record { winner: "operator", from, to, ..record });
        }
    }

    /// Puts what was settled into the history, and once a minute what was learnt.
    fn remember(&mut self) {
        self.connections.history.save_soon(&self.pool, SETTLED, self.scaler.settled());
        if self.now.since(self.remembered) < REMEMBER_EVERY {
            return;
        }
        self.remembered = self.now;
        if let Ok(bytes) = serde_json::to_vec(&self.scaler.learnt()) {
            self.connections.history.save(&self.pool, LEARNT, bytes);
        }
    }

    /// The tally goes on where it was when recommendations begin again.
    fn add_up(&mut self, more: Option<Tally>) {
        if let Some(more) = &more {
            self.tally = self.tally.plus(*more);
            self.connections.observer.tally(more);
            if let Ok(bytes) = serde_json::to_vec(&self.tally) {
                self.connections.history.save(&self.pool, TALLY, bytes);
            }
        }
        self.connections.journal.set_tally(more.map(|_| self.tally));
    }

    /// The provisioner of now, which a reload may have changed.
    fn provisioner(&mut self) -> Arc<dyn Provisioner> {
        // A sender that is gone changes nothing any more: the last value stays.
        let changed = self.connections.provisioner.has_changed().unwrap_or(false);
        let provisioner = Arc::clone(&self.connections.provisioner.borrow_and_update());
        if changed {
            self.capabilities = provisioner.capabilities();
        }
        provisioner
    }

    fn nothing_under_way(&self) -> bool {
        self.calls.is_empty() && self.scaler.nothing_ordered()
    }

    async fn list(&mut self, provisioner: &Arc<dyn Provisioner>) -> Option<Vec<Machine>> {
        let begun = self.clock.elapsed();
        let result = timeout(LIST_TIMEOUT, provisioner.list())
            .await
            .unwrap_or_else(|_| Err(no_answer(LIST_TIMEOUT)));
        self.observe("list", result.as_ref().err(), self.clock.elapsed().saturating_sub(begun));
        match result {
            Ok(machines) => {
                if std::mem::replace(&mut self.blind, false) {
                    let reason = "the provider lists its instances again".to_owned();
                    self.write_down(self.bare_record("hold", reason));
                }
                Some(machines)
            }
            Err(failure) => {
                if !std::mem::replace(&mut self.blind, true) {
                    let reason = format!(
                        "the provider does not list its instances ({failure}): all stays as it \
                         is until it does"
                    );
                    self.write_down(self.bare_record("failure", reason));
                }
                None
            }
        }
    }

    async fn carry_out(
        &mut self,
        plan: Plan,
        deadline: Ms,
        provisioner: &Arc<dyn Provisioner>,
    ) -> ControlFlow<()> {
        let mut launched = None;
        let mut terminated = None;
        for record in plan.records {
            let action = record.action;
            let id = self.write_down(record);
            match action {
                "launch" => launched = Some(id),
                "terminate" => terminated = Some(id),
                "drain" | "revive" => self.connections.journal.settle(id, "accepted".into()),
                _ => {}
            }
        }
        let pool = || self.pool.clone();
        if !plan.drains.is_empty() {
            let report = AgentReport::Drain { pool: pool(), ids: plan.drains, deadline };
            self.report(report).await?;
        }
        if !plan.revives.is_empty() {
            self.report(AgentReport::Revive { pool: pool(), ids: plan.revives }).await?;
        }
        let (desired, demand_rps) = (plan.desired, plan.demand_rps);
        self.report(AgentReport::Wants { pool: pool(), desired, demand_rps }).await?;
        if let Some(record) = launched {
            self.outcomes.watch(self.now, record, &plan.launches);
        }
        for order in plan.launches {
            self.call(provisioner, Called::Launch(order), launched);
        }
        if !plan.terminations.is_empty() {
            let ids = plan.terminations;
            let pool = self.pool.clone();
            self.report(AgentReport::Terminating { pool, ids: ids.clone() }).await?;
            self.call(provisioner, Called::Terminate(ids), terminated);
        }
        ControlFlow::Continue(())
    }

    /// Begins a call beside the ticks.
    fn call(&mut self, provisioner: &Arc<dyn Provisioner>, call: Called, record: Option<u64>) {
        if let Some(record) = record {
            self.open.entry(record).or_default().waiting += 1;
        }
        let provisioner = Arc::clone(provisioner);
        let turns = Arc::clone(&self.turns);
        let clock = self.clock;
        self.calls.spawn(async move {
            // The semaphore is never closed; if it were, the call would only lose its turn.
            let _turn = turns.acquire_owned().await;
            let begun = clock.elapsed();
            let answer = match &call {
                Called::Launch(order) => timeout(CALL_TIMEOUT, provisioner.launch(order)).await,
                Called::Terminate(ids) => timeout(CALL_TIMEOUT, provisioner.terminate(ids)).await,
            };
            let result = answer.unwrap_or_else(|_| Err(no_answer(CALL_TIMEOUT)));
            Answer { call, record, result, took: clock.elapsed().saturating_sub(begun) }
        });
    }

    /// A call has ended: the scaler and the journal are told.
    fn settle(&mut self, answer: Answer) {
        let Answer { call, record, result, took } = answer;
        let failure = result.as_ref().err();
        match &call {
            Called::Launch(order) => {
                self.observe("launch", failure, took);
                if failure.is_some() {
                    self.outcomes.refused(order);
                }
                let told = self.scaler.handle_launch_result(self.now, order, &result);
                if let Some(told) = told {
                    self.write_down(told);
                }
            }
            Called::Terminate(ids) => {
                self.observe("terminate", failure, took);
                if let Some(failure) = failure {
                    let count = ids.len();
                    let advice = "it is asked again in a few seconds";
                    warn!(pool = %self.pool, %failure, count, advice, "termination failed");
                }
            }
        }
        let Some(record) = record else { return };
        let Some(open) = self.open.get_mut(&record) else { return };
        open.waiting = open.waiting.saturating_sub(1);
        match failure {
            None => open.accepted += 1,
            Some(failure) => {
                let failure = failure.to_string();
                if !open.failures.contains(&failure) {
                    open.failures.push(failure);
                }
            }
        }
        if open.waiting == 0 {
            let outcome = open.outcome();
            self.open.remove(&record);
            self.connections.journal.settle(record, outcome);
        }
    }

    /// Writes `record` into the journal, the log and the metrics.
    fn write_down(&self, mut record: Record) -> u64 {
        record.t = wall_seconds();
        let Record { action, winner, from, to, reason, .. } = &record;
        let pool = &self.pool;
        match *action {
            "failure" => warn!(%pool, action, reason, from, to, "scaling"),
            _ => info!(%pool, action, winner, reason, from, to, "scaling"),
        }
        match *action {
            "launch" | "revive" => self.connections.observer.decision("out", winner),
            "drain" => self.connections.observer.decision("in", winner),
            "terminate" => {}
            _ => self.connections.observer.decision("hold", winner),
        }
        self.connections.journal.add(record)
    }

    /// A record of something that was not decided from numbers.
    fn bare_record(&self, action: &'static str, reason: String) -> Record {
        Record {
            id: 0,
            t: 0.0,
            from: self.desired,
            to: self.desired,
            winner: "hold",
            terms: BTreeMap::new(),
            clamps: Vec::new(),
            action,
            reason,
            outcome: String::new(),
        }
    }

    fn observe(&self, operation: &'static str, failure: Option<&Failure>, took: Duration) {
        let outcome = failure.map_or("ok", Failure::word);
        self.connections.observer.operation(operation, outcome, took);
    }

    /// Tells the steward; breaks if it is gone.
    async fn report(&self, report: AgentReport) -> ControlFlow<()> {
        match self.connections.reports.send(report).await {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

impl Open {
    fn outcome(&self) -> String {
        match (self.accepted, self.failures.as_slice()) {
            (_, []) => "accepted".into(),
            (0, failures) => format!("failed: {}", failures.join("; ")),
            (_, failures) => format!("accepted in part; failed: {}", failures.join("; ")),
        }
    }
}

fn no_answer(within: Duration) -> Failure {
    Failure::Unreachable(format!("no answer within {} s", within.as_secs()))
}

#[cfg(test)]
mod tests;
