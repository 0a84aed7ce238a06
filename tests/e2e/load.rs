//! An open-loop load on keep-alive connections: each request is due at its time whether or not the
//! one before was slow, and everything that is not a 2xx within ten seconds is a failure.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A load that runs until it is finished.
pub struct Load {
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
    tally: Arc<Mutex<Tally>>,
    thread: JoinHandle<()>,
}

/// What came of a load.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    pub sent: u64,
    pub ok: u64,
    /// What went wrong and when (seconds since the start); the first hundred.
    pub failures: Vec<String>,
    pub failed: u64,
    /// Answers by the zone that the instance named.
    pub zones: std::collections::BTreeMap<String, u64>,
    /// Answers by instance.
    pub instances: std::collections::BTreeMap<String, u64>,
    pub slowest: Duration,
    /// How long each answer took, in microseconds.
    pub took: Vec<u32>,
}

impl Tally {
    /// The time within which this share of the requests was answered.
    pub fn within(&self, share: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        let rank = (took.len() as f64 * share).ceil() as usize;
        let micros = took.get(rank.saturating_sub(1)).expect("there were answers");
        Duration::from_micros(u64::from(*micros))
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

impl Load {
    /// Starts `connections` connections to `address` that together send `rate` requests a second.
    pub fn start(address: SocketAddr, connections: usize, rate: u64) -> Self {
        let rate = Arc::new(AtomicU64::new(rate));
        let stop = Arc::new(AtomicU64::new(0));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let thread = {
            let (rate, stop, tally) = (Arc::clone(&rate), Arc::clone(&stop), Arc::clone(&tally));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime");
                runtime.block_on(async {
                    let began = Instant::now();
                    let tasks: Vec<_> = (0..connections)
                        .map(|index| {
                            let client = Client {
                                address,
                                index,
                                connections,
                                rate: Arc::clone(&rate),
                                stop: Arc::clone(&stop),
                                tally: Arc::clone(&tally),
                                began,
                            };
                            tokio::spawn(client.run())
                        })
                        .collect();
                    for task in tasks {
                        task.await.expect("a client does not panic");
                    }
                });
            })
        };
        Self { rate, stop, tally, thread }
    }

    /// Changes the rate.
    pub fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// What came of it so far.
    pub fn so_far(&self) -> Tally {
        self.tally.lock().expect("whole").clone()
    }

    /// Stops, and waits for what is in flight.
    pub fn finish(self) -> Tally {
        self.stop.store(1, Ordering::Relaxed);
        self.thread.join().expect("the load ends");
        self.tally.lock().expect("whole").clone()
    }
}

struct Client {
    address: SocketAddr,
    index: usize,
    connections: usize,
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicU64>,
    tally: Arc<Mutex<Tally>>,
    began: Instant,
}

impl Client {
    async fn run(self) {
        let share = self.index as f64 / self.connections as f64;
        let mut pause = self.pause();
        let mut due = tokio::time::Instant::now() + pause.mul_f64(share);
        let mut stream = None;
        while self.stop.load(Ordering::Relaxed) == 0 {
            // Looked at often, so that a change of rate takes hold at once.
            let step = tokio::time::Instant::now() + Duration::from_millis(50);
            if due > step {
                tokio::time::sleep_until(step).await;
                // By the same factor for all: they stay as evenly spread as they were.
                let (before, now) = (pause, tokio::time::Instant::now());
                pause = self.pause();
                if pause != before {
                    due = now + (due - now).mul_f64(pause.div_duration_f64(before));
                }
                continue;
            }
            tokio::time::sleep_until(due).await;
            let sent = Instant::now();
            let outcome = tokio::time::timeout(PATIENCE, self.request(&mut stream)).await;
            let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".into()));
            if outcome.is_err() {
                stream = None;
            }
            self.count(outcome, sent);
            pause = self.pause();
            due = (due + pause).max(tokio::time::Instant::now());
        }
    }

    /// Between two requests of this connection.
    fn pause(&self) -> Duration {
        let rate = self.rate.load(Ordering::Relaxed).max(1);
        Duration::from_secs_f64(self.connections as f64 / rate as f64)
    }

    fn count(&self, outcome: Result<String, String>, sent: Instant) {
        let mut tally = self.tally.lock().expect("whole");
        tally.sent += 1;
        tally.slowest = tally.slowest.max(sent.elapsed());
        match outcome {
            Ok(body) => {
                tally.ok += 1;
                if sent.elapsed() > Duration::from_millis(100) && self.index < 2 {
                    use std::io::Write;
                    let _ = writeln!(
                        std::io::stderr(),
                        "  slow at {:?}: {:?}",
                        sent - self.began,
                        sent.elapsed()
                    );
                }
                tally.took.push(sent.elapsed().as_micros() as u32);
                let line = |key: &str| {
                    let line = body.lines().find_map(|line| line.strip_prefix(key));
                    line.unwrap_or("?").trim().to_owned()
                };
                *tally.zones.entry(line("zone:")).or_default() += 1;
                *tally.instances.entry(line("id:")).or_default() += 1;
            }
            Err(why) => {
                tally.failed += 1;
                if tally.failures.len() < 100 {
                    let at = (sent - self.began).as_secs_f64();
                    tally.failures.push(format!("{at:.2} s: {why}"));
                }
            }
        }
    }

    async fn request(&self, kept: &mut Option<TcpStream>) -> Result<String, String> {
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await.map_err(|e| format!("connect: {e}"))?,
        };
        let text = format!("GET /load HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        stream.write_all(text.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
        let mut answer = Vec::new();
        let (head, length) = loop {
            if stream.read_buf(&mut answer).await.map_err(|e| format!("read: {e}"))? == 0 {
                return Err(format!("closed after {} bytes", answer.len()));
            }
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length:"))
                    .and_then(|length| length.trim().parse::<usize>().ok())
                    .ok_or("no content-length")?;
                break (head, end + 4 + length);
            }
        };
        while answer.len() < length {
            if stream.read_buf(&mut answer).await.map_err(|e| format!("read: {e}"))? == 0 {
                return Err("closed in the body".into());
            }
        }
        let status = head.split(' ').nth(1).unwrap_or("?").to_owned();
        if !head.contains("connection: close") {
            *kept = Some(stream);
        }
        if status == "200" {
            Ok(String::from_utf8_lossy(&answer).into_owned())
        } else {
            Err(format!("status {status}"))
        }
    }
}
