//! The event loop under the origin, the floor and the load generator: edge-triggered epoll, each
//! socket registered once and for all, so that a request costs no call but its reads and writes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

/// An epoll instance and the batch of what happened last.
pub struct Events {
    epoll: OwnedFd,
    batch: Vec<epoll::Event>,
}

/// What happened on a socket.
pub struct Event {
    /// Which.
    pub token: u64,
    /// It can be written to.
    pub writable: bool,
    /// Nothing will come any more, so a read that comes back short does not mean that the next one
    /// would have to wait: the end is there already, and is not told of again.
    pub ended: bool,
}

impl Events {
    /// Nothing watched yet.
    ///
    /// # Errors
    /// If there are no file descriptors left.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, batch: Vec::with_capacity(512) })
    }

    /// Watches a connection for both directions; closing it ends that.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP;
        let flags = flags | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, epoll::EventData::new_u64(token), flags)?)
    }

    /// Watches a listener, which is told of as long as connections wait.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn watch_listener(&self, socket: impl AsFd, token: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token);
        Ok(epoll::add(&self.epoll, socket, data, epoll::EventFlags::IN)?)
    }

    /// Waits until something happens, at most `limit`, and says what.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<Vec<Event>> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        self.batch.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.batch);
        match epoll::wait(&self.epoll, spare, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let event = |told: &epoll::Event| {
            // Copied: the fields of a packed struct cannot be borrowed.
            let (data, flags) = (told.data, told.flags);
            Event {
                token: data.u64(),
                writable: flags.contains(epoll::EventFlags::OUT),
                ended: flags.contains(epoll::EventFlags::RDHUP),
            }
        };
        Ok(self.batch.iter().map(event).collect())
    }
}
