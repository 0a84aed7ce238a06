//! Connections to instances: made, kept while unused, and let go of. Per worker, so no lock.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Waker};
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::TcpStream;

use crate::base::Ms;
use crate::model::Instance;
use crate::proxy::snapshot::Snapshot;
use crate::proxy::timer::Timer;

/// At most this many unused connections are kept per instance and worker.
const KEPT_PER_INSTANCE: usize = 128;

/// A worker's unused connections, by the serial of their instance.
#[derive(Debug, Default)]
pub struct Upstreams {
    idle: RefCell<HashMap<u64, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    stream: TcpStream,
    since: Ms,
}

/// A connection to an instance, and whether it was used before.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub stream: TcpStream,
    /// It was kept from an earlier request: the instance may be closing it just now.
    pub reused: bool,
}

impl Upstreams {
    /// A kept connection that nobody has closed and nothing arrived on, the last used first.
    pub fn take(&self, instance: &Instance) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&instance.vitals.serial)?;
        while let Some(Idle { stream, .. }) = kept.pop() {
            if is_quiet(&stream) {
                return Some(Upstream { stream, reused: true });
            }
        }
        None
    }

    /// Keeps a connection whose last response was read to its end.
    pub fn keep(&self, instance: &Instance, stream: TcpStream, now: Ms) {
        if instance.vitals.is_closed() || instance.vitals.is_down() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        let kept = idle.entry(instance.vitals.serial).or_default();
        if kept.len() < KEPT_PER_INSTANCE {
            kept.push(Idle { stream, since: now });
        }
    }

    /// Lets go of connections that are too old, were closed, or lead to an instance that takes no
    /// traffic.
    pub fn sweep(&self, now: Ms, snapshot: &Snapshot) {
        self.idle.borrow_mut().retain(|serial, kept| {
            let pool = snapshot.pools.iter().find(|pool| pool.has_member(*serial));
            let Some(limit) = pool.map(|view| view.pool.timeouts.idle) else { return false };
            kept.retain(|idle| now.since(idle.since) < limit && is_quiet(&idle.stream));
            !kept.is_empty()
        });
    }
}

/// Nothing to read and not closed, as far as the kernel has told the runtime: no system call unless
/// the last read filled its buffer to the brim.
pub fn is_quiet(stream: &TcpStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    if stream.poll_read_ready(&mut cx).is_pending() {
        return true;
    }
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// Whether a connection failed for want of something on this machine (file descriptors, memory, free
/// ports), so that it says nothing about the instance.
pub fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

/// Connects to `address` within `limit`.
///
/// # Errors
/// What the kernel says, or `TimedOut`.
pub async fn connect(address: SocketAddr, timer: &Timer, limit: Duration) -> io::Result<TcpStream> {
    let stream = timer
        .within(limit, TcpStream::connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
