//! With real processes. Each test has its own state directory and port; what it started is killed
//! when it ends, however it ends.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use rustix::process::{Pid, WaitOptions, kill_process, kill_process_group, waitpid};
use tempfile::TempDir;

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use super::records::Mark;
use super::*;
use crate::provision::MachineState;

const SLEEP: [&str; 2] = ["/bin/sleep", "1000"];

/// A state directory, and the end of all that was started from it.
struct Ground {
    dir: TempDir,
    pool: PoolId,
    port: u16,
}

impl Ground {
    fn new(port: u16) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self { dir, pool: "web".into(), port }
    }

    fn open(&self, command: &[&str]) -> Process {
        let settings = ProcessSettings {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            zones: vec!["a".into(), "b".into()],
            port: self.port,
            stop: StopPolicy::Keep,
        };
        Process::open(&self.pool, settings, self.dir.path()).expect("opens")
    }

    fn state_dir(&self) -> PathBuf {
        fs::canonicalize(self.dir.path()).expect("a directory")
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.dir.path().join("instances").join(format!("web.{extension}"))
    }

    fn book(&self) -> Book {
        records::read(&self.file("json")).expect("readable").expect("there")
    }

    fn change(&self, change: impl FnOnce(&mut Book)) {
        let mut book = self.book();
        change(&mut book);
        records::write(&self.file("json"), &book).expect("written");
    }

    fn bearers(&self) -> Vec<Bearer> {
        proc::bearers("web", &self.state_dir(), "this").expect("readable")
    }

    fn pids(&self) -> Vec<u32> {
        self.bearers().iter().map(|bearer| bearer.mark.pid).collect()
    }

    fn pid(&self, id: &str) -> u32 {
        let book = self.book();
        let record = book.instances.iter().find(|record| record.id == id).expect("a record");
        record.process.as_ref().expect("started").pid
    }

    /// A process that has the marks of an instance, but is no child of ours and leads its group.
    fn stranger(&self, id: &str, slot: u8) -> u32 {
        let address = format!("127.0.1.{slot}:{}", self.port);
        let output = Command::new("/bin/sh")
            .args(["-c", "setsid /bin/sleep 1000 >/dev/null 2>&1 & echo $!"])
            .env(proc::ENV_ADDRESS, address)
            .env(proc::ENV_ID, id)
            .env(proc::ENV_POOL, "web")
            .env(proc::ENV_STATE_DIR, self.state_dir())
            .env(proc::ENV_ZONE, "a")
            .output()
            .expect("starts");
        let pid = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
        let led = || self.leads(pid);
        wait_for("the stranger to lead a group", || led().then_some(()));
        pid
    }

    fn leads(&self, pid: u32) -> bool {
        self.bearers().iter().any(|bearer| bearer.mark.pid == pid && bearer.leads)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for raw in self.pids() {
            let pid = pid(raw);
            let _ = kill_process_group(pid, Signal::KILL);
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// A process that has nothing to do with any pool.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        Self(Command::new("/bin/sleep").arg("1000").process_group(0).spawn().expect("starts"))
    }

    fn is_alive(&mut self) -> bool {
        self.0.try_wait().expect("a child").is_none()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn pid(raw: u32) -> Pid {
    i32::try_from(raw).ok().and_then(Pid::from_raw).expect("a process id")
}

/// The calls of this provisioner never wait.
fn now<T>(call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the call waits"),
    }
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let clock = Clock::start();
    while clock.elapsed() < Duration::from_secs(20) {
        if let Some(value) = look() {
            return value;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited 20 s in vain for {what}");
}

fn order(token: &str, zone: &str, count: u32) -> LaunchOrder {
    LaunchOrder { token: token.into(), zone: zone.into(), count, size: None }
}

fn list(process: &Process) -> Vec<Machine> {
    now(process.list()).expect("a list")
}

fn launch(process: &Process, token: &str, zone: &str, count: u32) {
    now(process.launch(&order(token, zone, count))).expect("launched");
}

fn ids(machines: &[Machine]) -> Vec<&str> {
    machines.iter().map(|machine| machine.id.as_str()).collect()
}

fn terminate(process: &Process, ids: &[&str]) {
    let ids: Vec<InstanceId> = ids.iter().map(|id| InstanceId::from(*id)).collect();
    now(process.terminate(&ids)).expect("terminates");
}

#[test]
fn launched_listed_terminated() {
    let ground = Ground::new(21_001);
    let process = ground.open(&SLEEP);
    assert_eq!(list(&process), []);
    launch(&process, "t1", "a", 2);
    launch(&process, "t2", "b", 1);
    let machines = list(&process);
    assert_eq!(ids(&machines), ["web-a-1", "web-a-2", "web-b-3"]);
    let addresses: Vec<String> =
        machines.iter().filter_map(|m| m.address).map(|a| a.to_string()).collect();
    assert_eq!(addresses, ["127.0.1.1:21001", "127.0.1.2:21001", "127.0.2.1:21001"]);
    assert!(machines.iter().all(|m| m.state == MachineState::Running && !m.protected));
    assert_eq!(machines[2].token.as_deref(), Some("t2"));
    assert_eq!(ground.pids().len(), 3);

    terminate(&process, &["web-a-1", "web-z-99"]);
    wait_for("one to vanish", || (list(&process).len() == 2).then_some(()));
    assert_eq!(ground.pids().len(), 2);

    launch(&process, "t3", "a", 1);
    let last = list(&process).pop().expect("one");
    assert_eq!(last.id.as_str(), "web-a-4", "the slot is used again, the name is not");
    assert_eq!(last.address, "127.0.1.1:21001".parse().ok());

    terminate(&process, &["web-a-2", "web-b-3", "web-a-4"]);
    wait_for("all to vanish", || list(&process).is_empty().then_some(()));
    assert_eq!(ground.pids(), [0u32; 0]);
}

#[test]
fn a_token_launches_only_what_is_missing() {
    let ground = Ground::new(21_002);
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 2);
    launch(&process, "t1", "a", 2);
    assert_eq!(list(&process).len(), 2);
    launch(&process, "t1", "a", 3);
    let machines = list(&process);
    assert_eq!(machines.len(), 3);
    drop(process);
    launch(&ground.open(&SLEEP), "t1", "a", 3);
    assert_eq!(list(&ground.open(&SLEEP)), machines);
}

#[test]
fn what_ends_by_itself_is_told_and_stays_until_it_is_terminated() {
    let ground = Ground::new(21_003);
    for (script, why) in [
        ("exit 3", "exited with status 3"),
        ("kill -9 $$", "killed by signal 9"),
        // The descendant would keep the address; it goes with the instance.
        ("sleep 1000 & exit 0", "exited with status 0"),
    ] {
        let process = ground.open(&["/bin/sh", "-c", script]);
        launch(&process, script, "a", 1);
        let failed = wait_for(why, || {
            let machine = list(&process).pop().expect("one");
            (machine.state != MachineState::Running).then_some(machine)
        });
        assert_eq!(failed.state, MachineState::Failed(why.into()));
        drop(process);
        let process = ground.open(&SLEEP);
        assert_eq!(list(&process), std::slice::from_ref(&failed), "it is known after a restart");
        wait_for("the descendants to go", || ground.pids().is_empty().then_some(()));
        terminate(&process, &[failed.id.as_str()]);
        assert_eq!(list(&process), []);
    }
}

#[test]
fn one_that_is_stopped_ends_within_the_grace() {
    let ground = Ground::new(21_004);
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 1);
    kill_process(pid(ground.pid("web-a-1")), Signal::STOP).expect("stopped");
    let clock = Clock::start();
    terminate(&process, &["web-a-1"]);
    wait_for("it to vanish", || list(&process).is_empty().then_some(()));
    assert!(clock.elapsed() < GRACE, "TERM and CONT were enough");
}

#[test]
fn one_that_ignores_term_is_killed_after_the_grace() {
    let ground = Ground::new(21_005);
    let script = "trap '' TERM; echo deaf; while :; do sleep 1; done";
    let process = ground.open(&["/bin/sh", "-c", script]);
    launch(&process, "t1", "a", 1);
    wait_for("the trap to be set", || {
        fs::read_to_string(ground.file("log")).is_ok_and(|log| log == "deaf\n").then_some(())
    });
    let clock = Clock::start();
    terminate(&process, &["web-a-1"]);
    terminate(&process, &["web-a-1"]);
    assert_eq!(list(&process)[0].state, MachineState::Stopping);
    wait_for("it to vanish", || list(&process).is_empty().then_some(()));
    assert!(clock.elapsed() >= GRACE, "it had its grace");
    wait_for("its group to go", || ground.pids().is_empty().then_some(()));
}

#[test]
fn the_next_daemon_adopts_and_uses_no_name_again() {
    let ground = Ground::new(21_006);
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 2);
    now(process.protect(&["web-a-1".into()], true)).expect("protected");
    terminate(&process, &["web-a-2"]);
    wait_for("one to vanish", || (list(&process).len() == 1).then_some(()));
    drop(process);

    let process = ground.open(&SLEEP);
    let machines = list(&process);
    assert_eq!(ids(&machines), ["web-a-1"]);
    assert!(machines[0].protected);
    launch(&process, "t2", "a", 1);
    assert_eq!(ids(&list(&process)), ["web-a-1", "web-a-3"]);
    let missing = now(process.protect(&["web-a-2".into()], true));
    assert_eq!(missing, Err(Failure::Conflict("no longer there: web-a-2".into())));
}

#[test]
fn a_process_of_another_parent_is_adopted_watched_and_terminated() {
    let ground = Ground::new(21_007);
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 2);
    let pids = [ground.stranger("web-a-8", 8), ground.stranger("web-a-9", 9)];
    ground.change(|book| {
        for (record, (id, pid)) in
            book.instances.iter_mut().zip([("web-a-8", pids[0]), ("web-a-9", pids[1])])
        {
            record.id = id.into();
            record.process = proc::mark(pid, &process.boot).expect("readable");
        }
    });
    let process = ground.open(&SLEEP);
    assert!(list(&process).iter().all(|machine| machine.state == MachineState::Running));
    kill_process(pid(pids[0]), Signal::KILL).expect("killed");
    wait_for("the end to be seen", || {
        let ended = MachineState::Failed("ended".into());
        (list(&process)[0].state == ended).then_some(())
    });
    terminate(&process, &["web-a-8", "web-a-9"]);
    wait_for("both to vanish", || list(&process).is_empty().then_some(()));
    assert!(!ground.pids().contains(&pids[1]));
}

#[test]
fn a_termination_that_a_crash_cut_short_is_finished() {
    let ground = Ground::new(21_008);
    launch(&ground.open(&SLEEP), "t1", "a", 1);
    ground.change(|book| book.instances[0].stopping = true);
    let process = ground.open(&SLEEP);
    wait_for("it to vanish", || list(&process).is_empty().then_some(()));
    assert_eq!(ground.pids(), [0u32; 0]);
}

#[test]
fn a_number_that_was_used_again_is_not_touched() {
    let ground = Ground::new(21_009);
    let mut others = [Bystander::start(), Bystander::start()];
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 2);
    let [first, second] = [ground.pid("web-a-1"), ground.pid("web-a-2")];
    ground.change(|book| {
        let marks: Vec<Mark> = others
            .iter()
            .map(|other| proc::mark(other.0.id(), &process.boot))
            .map(|mark| mark.expect("readable").expect("alive"))
            .collect();
        let [one, two] = [marks[0].clone(), marks[1].clone()];
        book.instances[0].process = Some(Mark { start: one.start - 1, ..one });
        book.instances[1].process = Some(Mark { boot: "another".into(), ..two });
    });
    let process = ground.open(&SLEEP);
    let states: Vec<MachineState> = list(&process).into_iter().map(|m| m.state).collect();
    assert_eq!(
        states,
        [
            MachineState::Failed("ended".into()),
            MachineState::Failed("ended with the machine's last run".into()),
        ]
    );
    ground.change(|book| book.instances.iter_mut().for_each(|record| record.ended = None));
    terminate(&process, &["web-a-1", "web-a-2"]);
    assert_eq!(list(&process), []);
    assert!(others.iter_mut().all(Bystander::is_alive));
    // The true processes bear the marks of what ended, and were swept.
    for raw in [first, second] {
        waitpid(Some(pid(raw)), WaitOptions::empty()).expect("it was killed");
    }
}

#[test]
fn a_record_without_a_process_is_resolved() {
    let ground = Ground::new(21_010);
    launch(&ground.open(&SLEEP), "t1", "a", 2);
    let number = ground.pid("web-a-1");
    ground.change(|book| {
        for record in &mut book.instances {
            record.process = None;
        }
        let mut never = book.instances[0].clone();
        never.id = "web-a-7".into();
        book.instances.push(never);
    });
    let process = ground.open(&SLEEP);
    assert_eq!(ids(&list(&process)), ["web-a-1", "web-a-2"], "what never started is dropped");
    assert_eq!(ground.pid("web-a-1"), number);
}

#[test]
fn a_corrupt_or_missing_file_is_restored_from_the_processes() {
    let ground = Ground::new(21_011);
    let other = Ground::new(21_011);
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 2);
    launch(&other.open(&SLEEP), "t1", "b", 1);
    let before = list(&process);

    fs::write(ground.file("json"), b"{\"version\":1,\"next\"").expect("written");
    for process in [process, ground.open(&SLEEP)] {
        let machines = list(&process);
        assert_eq!(ids(&machines), ["web-a-1", "web-a-2"], "and none of the other daemon's");
        assert_eq!(machines[1].address, before[1].address);
        assert_eq!(machines[1].state, MachineState::Running);
    }
    let kept = fs::read(ground.file("json.corrupt")).expect("kept");
    assert_eq!(kept, b"{\"version\":1,\"next\"");
    assert!(ground.book().next > 1_000_000_000, "no number is used again");

    fs::remove_file(other.file("json")).expect("removed");
    let process = other.open(&SLEEP);
    assert_eq!(ids(&list(&process)), ["web-b-1"]);
    launch(&process, "t2", "b", 1);
    assert_eq!(ids(&list(&process)), ["web-b-1", "web-b-2"]);
}

#[test]
fn orders_that_cannot_be_carried_out() {
    let ground = Ground::new(21_012);
    let process = ground.open(&["/x/y"]);
    let rejected = |text: &str| Err(Failure::Rejected(text.to_owned()));
    assert_eq!(
        now(process.launch(&order("t", "a", 3))),
        rejected(
            "cannot start /x/y: No such file or directory; check pool.web.provisioner.command"
        )
    );
    assert_eq!(list(&process), []);
    assert_eq!(
        now(ground.open(&["/etc/passwd"]).launch(&order("t", "a", 1))),
        rejected("cannot start /etc/passwd: Permission denied; check pool.web.provisioner.command")
    );
    assert_eq!(
        now(process.launch(&order("t", "c", 1))),
        rejected("there is no zone c; pool.web.provisioner.zones has a, b")
    );
    assert!(matches!(now(process.launch(&order("t", "a", 33))), Err(Failure::Rejected(_))));
    assert!(matches!(now(process.resize(&[], "big")), Err(Failure::Unsupported(_))));
    assert_eq!(list(&process), []);
    assert_eq!(process.capabilities().max_instances, Some(508));

    let blocked = Process::open(&ground.pool, process.settings, &ground.file("json"));
    let Err(Failure::Rejected(why)) = blocked else { panic!("a file is no directory") };
    assert!(why.contains("node.state_dir"), "{why}");
}

#[test]
fn without_a_disk_to_write_to_instances_may_go_but_none_may_come() {
    let ground = Ground::new(21_016);
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 1);
    fs::create_dir(ground.file("json.new")).expect("in the way of every write");
    let refused = now(process.launch(&order("t2", "a", 1)));
    let Err(Failure::Rejected(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("web.json: ") && why.contains("node.state_dir"), "{why}");
    assert_eq!((list(&process).len(), ground.pids().len()), (1, 1));
    terminate(&process, &["web-a-1"]);
    wait_for("it to vanish", || list(&process).is_empty().then_some(()));
    assert_eq!(list(&process), [], "though its record is still on the disk");
    assert_eq!(ground.book().instances.len(), 1);
    assert_eq!(ground.pids(), [0u32; 0]);
}

#[test]
fn an_address_in_use_is_passed_over() {
    let ground = Ground::new(21_013);
    let taken = TcpListener::bind("127.0.1.1:21013").expect("bound");
    let process = ground.open(&SLEEP);
    launch(&process, "t1", "a", 1);
    assert_eq!(list(&process)[0].address, "127.0.1.2:21013".parse().ok());
    drop(taken);

    let all: io::Result<Vec<TcpListener>> =
        (1..=254).map(|slot| TcpListener::bind(format!("127.0.2.{slot}:21014"))).collect();
    let _all = all.expect("bound");
    let ground = Ground::new(21_014);
    let full = now(ground.open(&SLEEP).launch(&order("t1", "b", 1)));
    let Err(Failure::NoCapacity { zone, why }) = full else { panic!("{full:?}") };
    assert_eq!(zone, "b".into());
    assert!(why.contains("127.0.2.254") && why.contains("port 21014"), "{why}");
}

#[test]
fn an_instance_knows_who_it_is() {
    let ground = Ground::new(21_015);
    let script = "echo {id} {zone} {size} {address} {self}; echo $TIDEGATE_INSTANCE_ID \
                  $TIDEGATE_ZONE $TIDEGATE_SIZE $TIDEGATE_ADDRESS $TIDEGATE_POOL >&2; \
                  exec sleep 1000";
    let process = ground.open(&["/bin/sh", "-c", script]);
    let order = LaunchOrder { size: Some("d4".into()), ..order("t1", "b", 1) };
    now(process.launch(&order)).expect("launched");
    assert_eq!(list(&process)[0].size.as_deref(), Some("d4"));
    let log = wait_for("both lines", || {
        let log = fs::read_to_string(ground.file("log")).ok()?;
        (log.lines().count() == 2).then_some(log)
    });
    let own = std::env::current_exe().expect("a path");
    assert_eq!(
        log,
        format!(
            "web-b-1 b d4 127.0.2.1:21015 {}\nweb-b-1 b d4 127.0.2.1:21015 web\n",
            own.display()
        )
    );
    let stat = fs::read_to_string(format!("/proc/{}/stat", ground.pid("web-b-1"))).expect("alive");
    let group = stat.split(' ').nth(4).and_then(|group| group.parse().ok());
    assert_eq!(group, Some(ground.pid("web-b-1")), "a group of its own");
}
