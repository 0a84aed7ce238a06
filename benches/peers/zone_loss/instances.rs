//! One zone: a process that is its instances, so that one signal kills or freezes them all.
//!
//! Each instance is a machine with a pool of [`THREADS`] threads, each of which a request holds for
//! [`SERVICE`]; others wait in its own queue, first come, first served, without a bound. What was
//! begun is finished, whether or not anybody still waits for it. So its capacity is known.
//!
//! - `GET /healthz` is answered at once: the health checks of a busy machine pass.
//! - `GET /peak` is answered at once too: the most requests it had at a time since it was last asked.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate::base::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Requests that an instance serves at a time.
pub const THREADS: usize = 4;
/// How long each takes.
pub const SERVICE: Duration = Duration::from_millis(80);
/// Connections that the kernel accepts for a frozen process: more than anyone makes.
const BACKLOG: u32 = 4096;
/// The longest head.
const HEAD: usize = 4096;

/// Serves on these addresses until it is killed.
///
/// # Errors
/// If it cannot listen.
pub fn run(addresses: &[SocketAddr]) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut listeners = JoinSet::new();
        for address in addresses {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            let (listener, instance) = (socket.listen(BACKLOG)?, Arc::new(Instance::new()));
            listeners.spawn(async move {
                loop {
                    let (socket, _) = listener.accept().await?;
                    tokio::spawn(converse(socket, Arc::clone(&instance)));
                }
            });
        }
        let ended: Option<Result<io::Result<()>, _>> = listeners.join_next().await;
        ended.map_or(Ok(()), |ended| ended.map_err(io::Error::other)?)
    })
}

struct Instance {
    clock: Clock,
    work: Mutex<Work>,
}

#[derive(Default)]
struct Work {
    /// When each thread is free.
    free: [Duration; THREADS],
    in_flight: usize,
    peak: usize,
}

impl Work {
    /// Takes a request in; when it will be done.
    fn begin(&mut self, now: Duration) -> Duration {
        self.in_flight += 1;
        self.peak = self.peak.max(self.in_flight);
        self.free.sort_unstable();
        let done = self.free[0].max(now) + SERVICE;
        self.free[0] = done;
        done
    }

    /// The peak since this was last asked for.
    fn take_peak(&mut self) -> usize {
        std::mem::replace(&mut self.peak, self.in_flight)
    }
}

impl Instance {
    fn new() -> Self {
        Self { clock: Clock::start(), work: Mutex::default() }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self) {
        let now = self.clock.elapsed();
        let done = self.work().begin(now);
        tokio::time::sleep(done.saturating_sub(now)).await;
        self.work().in_flight -= 1;
    }
}

/// One connection, to its end: GETs, one after the other.
async fn converse(mut socket: TcpStream, instance: Arc<Instance>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    // A process that is killed leaves resets behind, and no port that waits.
    socket.set_zero_linger()?;
    let mut head = Vec::with_capacity(HEAD);
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            let full = head.len() >= HEAD;
            if full || socket.read_buf(&mut head).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        let body = if head.starts_with(b"GET /healthz ") {
            "ok".to_owned()
        } else if head.starts_with(b"GET /peak ") {
            instance.work().take_peak().to_string()
        } else {
            instance.serve().await;
            "served".to_owned()
        };
        let length = body.len();
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        socket.write_all(response.as_bytes()).await?;
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if text.contains("\r\nconnection: close\r\n") || text.contains(" http/1.0\r\n") {
            // In order, unlike at its end by a signal.
            return socket.shutdown().await;
        }
    }
}
