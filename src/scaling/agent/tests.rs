use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::base::{Share, ZoneId};
use crate::model::{
    Admin, Health, Instance, InstanceRow, Life, MachineState, Pool, PoolRow, Said, ScaleIn,
    Scaling, SizeOverride, Standing, Window,
};
use crate::provision::{Call, Resize};

/// A provider that does what it is told, slowly or not at all.
#[derive(Debug, Default)]
struct Fake {
    machines: Mutex<Vec<Machine>>,
    list_fails: Mutex<bool>,
    launch_takes: Mutex<Duration>,
    launch_results: Mutex<VecDeque<Result<(), Failure>>>,
    launched: Mutex<Vec<LaunchOrder>>,
    terminated: Mutex<Vec<InstanceId>>,
}

impl Provisioner for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            zones: vec!["a".into(), "b".into()],
            max_instances: None,
            max_batch: 10,
            resize: Resize::Never,
            protect: false,
            idempotent: true,
            model: None,
        }
    }

    fn list(&self) -> Call<'_, Vec<Machine>> {
        Box::pin(async {
            match *self.list_fails.lock().expect("lock") {
                true => Err(Failure::Unreachable("no route".into())),
                false => Ok(self.machines.lock().expect("lock").clone()),
            }
        })
    }

    fn launch<'a>(&'a self, order: &'a LaunchOrder) -> Call<'a, ()> {
        Box::pin(async {
            self.launched.lock().expect("lock").push(order.clone());
            let takes = *self.launch_takes.lock().expect("lock");
            tokio::time::sleep(takes).await;
            self.launch_results.lock().expect("lock").pop_front().unwrap_or(Ok(()))
        })
    }

    fn terminate<'a>(&'a self, ids: &'a [InstanceId]) -> Call<'a, ()> {
        Box::pin(async {
            self.terminated.lock().expect("lock").extend_from_slice(ids);
            self.machines.lock().expect("lock").retain(|machine| !ids.contains(&machine.id));
            Ok(())
        })
    }

    fn protect<'a>(&'a self, _: &'a [InstanceId], _: bool) -> Call<'a, ()> {
        Box::pin(async { Err(Failure::Unsupported("protect")) })
    }

    fn resize<'a>(&'a self, _: &'a [InstanceId], _: &'a str) -> Call<'a, ()> {
        Box::pin(async { Err(Failure::Unsupported("resize")) })
    }
}

#[derive(Debug, Default)]
struct Counts(Mutex<Vec<String>>);

impl OperationObserver for Counts {
    fn operation(&self, operation: &'static str, outcome: &'static str, _: Duration) {
        self.0.lock().expect("lock").push(format!("{operation} {outcome}"));
    }

    fn decision(&self, direction: &'static str, reason: &'static str) {
        self.0.lock().expect("lock").push(format!("{direction} {reason}"));
    }

    fn tally(&self, _: &Tally) {
        self.0.lock().expect("lock").push("tally".into());
    }
}

/// The daemon around an agent.
struct Stage {
    fake: Arc<Fake>,
    provisioner: watch::Sender<Arc<dyn Provisioner>>,
    sights: watch::Sender<Option<Sight>>,
    reports: mpsc::Receiver<AgentReport>,
    journal: Arc<Journal>,
    counts: Arc<Counts>,
    agent: tokio::task::JoinHandle<()>,
    now: Ms,
    rows: Vec<InstanceRow>,
    retired: bool,
    said: Said,
}

impl Stage {
    fn set() -> Self {
        Self::set_with(Arc::new(History::in_memory()))
    }

    /// The same after a restart: the history is there, and nothing else is.
    fn set_with(history: Arc<History>) -> Self {
        let fake = Arc::new(Fake::default());
        let (provisioner, provisioners) = watch::channel(Arc::clone(&fake) as Arc<dyn Provisioner>);
        let (sights, seen) = watch::channel(None);
        let (sender, reports) = mpsc::channel(64);
        let journal = history.journal(&"web".into());
        let counts = Arc::new(Counts::default());
        let connections = Connections {
            provisioner: provisioners,
            journal: Arc::clone(&journal),
            history,
            sights: seen,
            reports: sender,
            observer: Arc::clone(&counts) as Arc<dyn OperationObserver>,
        };
        let agent = Agent::new("web".into(), connections, Clock::start(), 7);
        let agent = tokio::spawn(agent.run());
        Self {
            fake,
            provisioner,
            sights,
            reports,
            journal,
            counts,
            agent,
            now: Ms(0),
            rows: Vec::new(),
            retired: false,
            said: Said::default(),
        }
    }

    /// One second: a sight, and what the agent reports by its end.
    async fn tick(&mut self) -> Vec<AgentReport> {
        self.now = self.now + Duration::from_secs(1);
        let window = Window {
            ended: self.now,
            seconds: 1.0,
            offered: 100,
            completed: 100,
            ..Window::default()
        };
        let row = PoolRow {
            said: self.said.clone(),
            ..PoolRow::new(Arc::new(pool()), self.rows.clone())
        };
        let (now, retired) = (self.now, self.retired);
        self.sights.send_replace(Some(Sight { now, windows: vec![window], row, retired }));
        tokio::time::sleep(Duration::from_secs(1)).await;
        std::iter::from_fn(|| self.reports.try_recv().ok()).collect()
    }

    fn launched(&self) -> Vec<LaunchOrder> {
        self.fake.launched.lock().expect("lock").clone()
    }

    /// An instance that exists, at a place in its life.
    fn add(&mut self, id: &str, zone: &str, health: Health, life: Life) {
        let address: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        self.fake.machines.lock().expect("lock").push(Machine {
            id: id.into(),
            zone: zone.into(),
            address: Some(address),
            state: MachineState::Running,
            size: None,
            model: None,
            token: None,
            protected: false,
        });
        let instance = Instance {
            id: id.into(),
            pool: "web".into(),
            zone: ZoneId::new(zone),
            address,
            weight: 1,
            vitals: Arc::default(),
        };
        let standing = Standing { health, admin: Admin::Enabled, life };
        self.rows.push(InstanceRow::new(Arc::new(instance), standing));
    }

    fn counted(&self, what: &str) -> usize {
        self.counts.0.lock().expect("lock").iter().filter(|count| *count == what).count()
    }
}

fn pool() -> Pool {
    let second = Duration::from_secs(1);
    Pool {
        drain_timeout: second * 40,
        scaling: Some(Arc::new(Scaling {
            scale_in: ScaleIn { hold: Duration::ZERO, rate: Share(0.1) },
            ..Scaling::new(2, 6, 100.0)
        })),
        ..Pool::new("web".into())
    }
}

fn words(reports: &[AgentReport]) -> Vec<&'static str> {
    let word = |report: &AgentReport| match report {
        AgentReport::Listed { .. } => "listed",
        AgentReport::Drain { .. } => "drain",
        AgentReport::Revive { .. } => "revive",
        AgentReport::Terminating { .. } => "terminating",
        AgentReport::Wants { .. } => "wants",
        AgentReport::Retired { .. } => "retired",
    };
    reports.iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sight_becomes_reports_and_orders() {
    let mut stage = Stage::set();
    let reports = stage.tick().await;
    assert_eq!(
        words(&reports),
        ["listed", "wants", "listed"],
        "what was launched is shown at once"
    );
    assert!(matches!(reports[1], AgentReport::Wants { desired: 2, .. }));
    let launched = stage.launched();
    let orders: Vec<_> =
        launched.iter().map(|o| (o.token.as_str(), o.zone.as_str(), o.count)).collect();
    assert_eq!(orders, [("web-7-1", "a", 1), ("web-7-2", "b", 1)]);
    let record = &stage.journal.newest(1)[0];
    assert_eq!((record.action, record.outcome.as_str(), record.to), ("launch", "accepted", 2));
    assert!(record.t > 1e9, "it bears the time of the wall");
    assert_eq!((stage.counted("launch ok"), stage.counted("out min")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn what_was_launched_is_shown_at_once_also_if_something_else_ends_last() {
    let mut stage = Stage::set();
    stage.add("a1", "a", Health::Up, Life::Drained);
    assert_eq!(words(&stage.tick().await), ["listed", "wants", "terminating", "listed"]);
    assert_eq!(words(&stage.tick().await), ["listed", "wants"], "and only once");
}

#[tokio::test(start_paused = true)]
async fn a_slow_launch_does_not_stop_the_ticks_and_is_not_repeated() {
    let mut stage = Stage::set();
    *stage.fake.launch_takes.lock().expect("lock") = Duration::from_secs(500);
    for _ in 0..28 {
        assert_eq!(words(&stage.tick().await), ["listed", "wants"]);
    }
    assert_eq!(stage.launched().len(), 2);
    assert_eq!(stage.journal.newest(9).last().map(|r| r.outcome.clone()), Some(String::new()));
    for _ in 0..5 {
        stage.tick().await;
    }
    assert_eq!(stage.counted("launch unreachable"), 2);
    let records = stage.journal.newest(9);
    let launch = records.last().expect("a record");
    assert!(launch.outcome.starts_with("failed: unreachable: no answer within 30 s"));
    let failures = records.iter().filter(|record| record.action == "failure").count();
    assert_eq!(failures, 1, "{records:#?}");
}

#[tokio::test(start_paused = true)]
async fn one_zone_refuses_and_the_other_is_asked() {
    let mut stage = Stage::set();
    let full = Failure::NoCapacity { zone: "a".into(), why: "full".into() };
    stage.fake.launch_results.lock().expect("lock").push_back(Err(full));
    stage.tick().await;
    stage.tick().await;
    let zones: Vec<_> = stage.launched().iter().map(|order| order.zone.clone()).collect();
    assert_eq!(zones, ["a", "b", "b"].map(ZoneId::new));
    let outcomes: Vec<_> = stage.journal.newest(9).into_iter().map(|r| r.outcome).collect();
    assert!(
        outcomes.iter().any(|o| o.starts_with("accepted in part; failed: zone a has no capacity"))
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_list_nothing_is_decided_and_it_is_told_once() {
    let mut stage = Stage::set();
    *stage.fake.list_fails.lock().expect("lock") = true;
    for _ in 0..5 {
        assert!(stage.tick().await.is_empty());
    }
    assert_eq!((stage.launched().len(), stage.journal.newest(9).len()), (0, 1));
    assert_eq!(stage.counted("list unreachable"), 5);
    *stage.fake.list_fails.lock().expect("lock") = false;
    assert_eq!(words(&stage.tick().await), ["listed", "wants", "listed"]);
    stage.tick().await;
    let told: Vec<_> = stage.journal.newest(9).into_iter().map(|r| r.action).collect();
    assert_eq!(told, ["launch", "hold", "failure"]);
}

#[tokio::test(start_paused = true)]
async fn the_surplus_is_drained_and_what_is_drained_is_taken_away() {
    let mut stage = Stage::set();
    for (id, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        stage.add(id, zone, Health::Up, Life::Serving);
    }
    let reports = stage.tick().await;
    assert_eq!(words(&reports), ["listed", "drain", "wants"]);
    let AgentReport::Drain { ids, deadline, .. } = &reports[1] else { panic!("{reports:?}") };
    assert_eq!(*deadline, Ms(41_000), "now and the drain timeout");
    let gone = ids[0].clone();
    assert_eq!(gone.as_str(), "a2");
    assert_eq!(stage.journal.newest(1)[0].outcome, "accepted");
    assert_eq!(stage.counted("in min"), 1);
    for row in &mut stage.rows {
        if row.instance.id == gone {
            row.standing.life = Life::Drained;
        }
    }
    assert_eq!(words(&stage.tick().await), ["listed", "wants", "terminating"]);
    assert_eq!(*stage.fake.terminated.lock().expect("lock"), [gone]);
    let record = &stage.journal.newest(1)[0];
    assert_eq!((record.action, record.outcome.as_str()), ("terminate", "accepted"));
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_protects_is_not_drained() {
    let mut stage = Stage::set();
    for (id, zone) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        stage.add(id, zone, Health::Up, Life::Serving);
    }
    stage.said.protected = ["a1".into(), "a2".into(), "b1".into()].into();
    assert_eq!(words(&stage.tick().await), ["listed", "wants"]);
    stage.said.protected.remove("a1");
    let reports = stage.tick().await;
    let AgentReport::Drain { ids, .. } = &reports[1] else { panic!("{reports:?}") };
    assert_eq!(*ids, ["a1".into()]);
}

#[tokio::test(start_paused = true)]
async fn an_operators_size_has_a_record_when_it_begins_and_when_it_ends() {
    let mut stage = Stage::set();
    let soon = wall_seconds() as u64 + 90;
    for (size, reason) in [
        (
            Some(SizeOverride { desired: 3, until: None }),
            "an operator set the size to 3 until that is taken back",
        ),
        (Some(SizeOverride { desired: 4, until: Some(1) }), "an operator set the size to 4 for 0s"),
        (None, "the time of the size that an operator set (4) is over"),
        (Some(SizeOverride { desired: 5, until: Some(soon) }), "an operator set the size to 5 for"),
        (None, "the size that an operator set (5) was taken back"),
    ] {
        stage.said.size = size;
        stage.tick().await;
        stage.tick().await;
        let records = stage.journal.newest(99);
        let told = records.iter().filter(|record| record.reason.starts_with(reason));
        let told: Vec<_> = told.map(|record| (record.action, record.winner)).collect();
        assert_eq!(told, [("override", "operator")], "{reason}: {records:#?}");
    }
    assert_eq!(stage.launched().iter().map(|order| order.count).sum::<u32>(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_said_has_no_second_record_after_a_restart() {
    let history = Arc::new(History::in_memory());
    let told = || {
        let records = history.journal(&"web".into()).newest(99);
        let told = records.into_iter().filter(|record| record.action == "override");
        told.map(|record| record.reason).collect::<Vec<_>>()
    };
    for (desired, expected) in [
        (Some(3), "an operator set the size to 3 until that is taken back"),
        (Some(3), ""),
        (Some(3), ""),
        (None, "the size that an operator set (3) was taken back"),
        (None, ""),
    ] {
        let before = told().len();
        let mut stage = Stage::set_with(Arc::clone(&history));
        stage.said.size = desired.map(|desired| SizeOverride { desired, until: None });
        stage.tick().await;
        stage.tick().await;
        stage.agent.abort();
        let told = told();
        let new = &told[..told.len() - before];
        assert_eq!(new.join("; "), expected, "with {desired:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_launched_is_measured() {
    let mut stage = Stage::set();
    stage.tick().await;
    let tokens: Vec<String> = stage.launched().iter().map(|order| order.token.clone()).collect();
    for (id, zone, token) in [("a1", "a", 0), ("b1", "b", 1)] {
        stage.add(id, zone, Health::Up, Life::Serving);
        let mut machines = stage.fake.machines.lock().expect("lock");
        machines.last_mut().expect("just added").token = Some(tokens[token].clone());
    }
    stage.tick().await;
    let launch = stage.journal.newest(9).pop().expect("a record");
    assert_eq!(launch.outcome, "accepted; 2 of 2 up after 1 s");
}

#[tokio::test(start_paused = true)]
async fn a_reload_brings_another_provisioner() {
    let mut stage = Stage::set();
    let other = Arc::new(Fake::default());
    stage.provisioner.send_replace(Arc::clone(&other) as Arc<dyn Provisioner>);
    stage.tick().await;
    assert_eq!((stage.launched().len(), other.launched.lock().expect("lock").len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_retired_pool_ends_its_agent_once_all_is_gone() {
    let mut stage = Stage::set();
    stage.add("a1", "a", Health::Up, Life::Serving);
    stage.tick().await;
    stage.retired = true;
    assert_eq!(words(&stage.tick().await), ["listed", "drain", "wants"]);
    stage.rows[0].standing.life = Life::Drained;
    assert_eq!(words(&stage.tick().await), ["listed", "wants", "terminating"]);
    let mut seen = Vec::new();
    // The order for a second instance still counts for a while.
    for _ in 0..15 {
        seen.extend(words(&stage.tick().await));
        if stage.agent.is_finished() {
            break;
        }
    }
    assert_eq!(seen.last(), Some(&"retired"));
    assert_eq!(stage.launched().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_agent_ends_with_its_steward() {
    let mut stage = Stage::set();
    stage.tick().await;
    drop(stage.sights);
    timeout(Duration::from_secs(1), stage.agent).await.expect("ends").expect("well");
}
