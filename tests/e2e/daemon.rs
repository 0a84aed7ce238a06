//! Starting, asking and stopping a daemon.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_tidegate");

/// A running daemon with a directory of its own.
pub struct Daemon {
    pub dir: TempDir,
    pub admin: SocketAddr,
    child: Child,
}

/// Resident bytes of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now: u64,
    /// The most since the last [`Daemon::forget_peak`].
    pub peak: u64,
}

/// A port that is free on the addresses that tests use, and that no other test of this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = (std::process::id() % 97) as u16 * 100;
    for _ in 0..2_000 {
        let port = 20_000 + (spread + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let hosts = [[127, 0, 0, 1], [127, 0, 1, 1], [127, 0, 2, 1], [127, 0, 3, 1]];
        if hosts.into_iter().all(|host| TcpListener::bind(SocketAddr::from((host, port))).is_ok()) {
            return port;
        }
    }
    panic!("no free port");
}

/// An address on 127.0.0.1 that nobody listens on.
pub fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Waits until `check` gives something, at most `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts the binary with `arguments` and waits for its end; status, stdout, stderr.
pub fn run(arguments: &[&str], limit: Duration) -> (ExitStatus, String, String) {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if began.elapsed() > limit {
            let _ = child.kill();
            panic!("{arguments:?} did not end within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    (status, out, err)
}

impl Daemon {
    /// Starts a daemon on `config` (which gets an admin address and a state directory of its own)
    /// and waits until it is ready.
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), config)
    }

    /// The same in a directory that an earlier daemon may have used.
    pub fn start_in(dir: TempDir, config: &str) -> Self {
        Self::start_by(Command::new(BINARY), dir, config)
    }

    /// The same by a command that takes its arguments for the binary's.
    pub fn start_by(mut command: Command, dir: TempDir, config: &str) -> Self {
        let admin = free_address();
        let path = dir.path().join("tidegate.toml");
        let text = format!(
            "[node]\nworkers = 2\nstate_dir = \"state\"\n[admin]\nbind = \"{admin}\"\n{config}"
        );
        fs::write(&path, text).expect("written");
        let log =
            File::options().create(true).append(true).open(dir.path().join("log")).expect("a log");
        let child = command
            .args(["run", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut daemon = Self { dir, admin, child };
        let began = Instant::now();
        while daemon.get("/readyz").is_none_or(|(status, _)| status != 200) {
            let ended = daemon.child.try_wait().expect("a child");
            let late = began.elapsed() > Duration::from_secs(20);
            assert!(ended.is_none() && !late, "not ready ({ended:?}):\n{}", daemon.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// What it has in memory (the kernel's part not counted).
    pub fn memory(&self) -> Memory {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("it lives");
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
            1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("KiB")
        };
        Memory { now: bytes("VmRSS:"), peak: bytes("VmHWM:") }
    }

    /// Starts the peak of [`Daemon::memory`] anew from what is in memory now.
    pub fn forget_peak(&self) {
        fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").expect("our own child");
    }

    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("tidegate.toml")
    }

    /// Replaces the config and sends HUP.
    pub fn reload(&self, edit: impl FnOnce(String) -> String) {
        let text = fs::read_to_string(self.config_path()).expect("the config");
        fs::write(self.config_path(), edit(text)).expect("written");
        self.signal(Signal::HUP);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it lives");
    }

    /// Asks the admin API; status and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        ask(self.admin, "GET", path)
    }

    pub fn post(&self, path: &str) -> Option<(u16, String)> {
        ask(self.admin, "POST", path)
    }

    pub fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The instances of a pool as status shows them.
    pub fn instances(&self, pool: &str) -> Vec<Value> {
        let status = self.json("/api/v1/status");
        let pools = status["pools"].as_array().expect("pools");
        let pool = pools.iter().find(|p| p["name"] == pool).expect("the pool");
        pool["instances"].as_array().expect("instances").clone()
    }

    /// How many instances take traffic.
    pub fn eligible(&self, pool: &str) -> usize {
        self.instances(pool).iter().filter(|i| i["eligible"] == true).count()
    }

    /// A metric's value, summed over the series whose labels contain `labels`.
    pub fn metric(&self, name: &str, labels: &str) -> f64 {
        let (_, text) = self.get("/metrics").expect("metrics");
        text.lines()
            .filter(|line| line.starts_with(name))
            .filter(|line| line[name.len()..].starts_with(['{', ' ']) && line.contains(labels))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// How often exchanges with any pool ended for this reason.
    pub fn failures(&self, reason: &str) -> f64 {
        self.metric("tidegate_failures_total", &format!("reason=\"{reason}\""))
    }

    /// How often clients of any listener were refused for this reason.
    pub fn refused(&self, reason: &str) -> f64 {
        self.metric("tidegate_refused_total", &format!("reason=\"{reason}\""))
    }

    /// How often a request was tried again for this reason.
    pub fn retries(&self, reason: &str) -> f64 {
        self.metric("tidegate_retries_total", &format!("reason=\"{reason}\""))
    }

    /// Waits for the end after a signal.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            assert!(began.elapsed() < limit, "not ended within {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process ids of the instances of a zone, from the provisioner's records.
    pub fn instance_pids(&self, pool: &str, zone: Option<&str>) -> Vec<i32> {
        instance_pids(self.dir.path(), pool, zone)
    }

    /// Kills it without a chance to clean up; what it leaves stays in the directory.
    pub fn crash(mut self) -> TempDir {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let spare = tempfile::tempdir().expect("a directory");
        std::mem::replace(&mut self.dir, spare)
    }
}

/// The process ids that the process provisioner has on record.
pub fn instance_pids(dir: &Path, pool: &str, zone: Option<&str>) -> Vec<i32> {
    let path = dir.join(format!("state/instances/{pool}.json"));
    let Ok(text) = fs::read_to_string(path) else { return Vec::new() };
    let book: Value = serde_json::from_str(&text).expect("JSON");
    let records = book["instances"].as_array().expect("a list").iter();
    records
        .filter(|record| zone.is_none_or(|zone| record["zone"] == zone))
        .filter_map(|record| record["process"]["pid"].as_i64())
        .map(|pid| pid as i32)
        .collect()
}

/// Sends a signal to the process group of each instance.
pub fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = Pid::from_raw(*pid) {
            let _ = kill_process_group(pid, signal);
        }
    }
}

/// Whether a process is there and no zombie.
pub fn is_alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    })
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let instances = self.dir.path().join("state/instances");
        for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(pool) = name.strip_suffix(".json") {
                signal_all(&instance_pids(self.dir.path(), pool, None), Signal::KILL);
            }
        }
        if std::thread::panicking() {
            eprintln!("--- log of the daemon\n{}", self.log());
        }
    }
}

/// One request on a connection of its own; status and body.
pub fn ask(address: SocketAddr, method: &str, path: &str) -> Option<(u16, String)> {
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answer = talk(address, text.as_bytes())?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Some((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap_or(0);
        if size == 0 || rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    text
}

/// Sends bytes and reads to the end of the stream.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(bytes).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(answer)
}

/// Runs a verb against the daemon; its exit code and all that it wrote.
pub fn verb(daemon: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let admin = daemon.admin.to_string();
    let all: Vec<&str> = arguments.iter().copied().chain(["--admin", &admin]).collect();
    let (status, out, err) = run(&all, Duration::from_secs(10));
    (status.code(), out + &err)
}

/// Runs a verb against the daemon, which does what it is told.
pub fn done(daemon: &Daemon, arguments: &[&str]) {
    let (code, text) = verb(daemon, arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {text}");
}
