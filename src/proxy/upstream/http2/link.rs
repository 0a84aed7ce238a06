//! One HTTP/2 connection: what is known of it, the task that moves its frames, and whether it still
//! leads anywhere.
//!
//! A path that leads nowhere is silent, and so is an instance that has nothing to say. What tells them
//! apart is a PING: sent when something was asked and nothing at all was heard for a second, and while it
//! is unanswered the connection gets no new streams. The streams that it has go on, within their own time
//! limits: an instance may be busy and not gone. gRPC servers take many PINGs without an answer of theirs
//! in between for an attack, so there are [`PINGS_MAX`] at most.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::base::Ms;
use crate::model::{Instance, Pool, UpstreamVersion};
use crate::net::stream::Stream;
use crate::net::tls::ClientTls;
use crate::proxy::timer::Timers;
use crate::proxy::upstream;
use crate::proxy::upstream::http2::STREAMS_MAX;
use crate::proxy::upstream::http2::choose::Load;

/// What an instance may send of one response ahead of its client: what goes to and fro between two zones
/// in a millisecond at 2 Gbit/s.
const STREAM_WINDOW: u32 = 256 * 1024;

/// All streams may be that far ahead at the same time: a client that takes nothing stalls its own stream
/// and no other.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;

/// Bytes that the fields of a response may have, counted as RFC 9113 §6.5.2 has it.
const FIELDS_MAX: u32 = 64 * 1024;

/// Streams that were reset here and of which frames may still come. Each client that leaves makes one.
const RESETS_KEPT: usize = 1_000;

/// Silence after which a connection is asked for a sign of life.
const SILENCE: Duration = Duration::from_secs(1);

/// PINGs between two responses: a third without one in between is an offence to gRPC servers
/// (`too_many_pings`).
const PINGS_MAX: u32 = 2;

/// A connection, as those see it who use it.
pub struct Link {
    /// What opens streams; `None` once it takes no more.
    opener: RefCell<Option<SendRequest<Bytes>>>,
    ping: RefCell<Option<PingPong>>,
    /// Whether it is heard of.
    pub pulse: Rc<Pulse>,
    streams: Cell<u32>,
    limit: Cell<u32>,
    served: Cell<u32>,
    made: Ms,
    /// When its last stream ended.
    idle_since: Cell<Ms>,
    /// It has closed, or the instance takes no more streams.
    ended: Cell<bool>,
}

/// Whether a connection is heard of.
#[derive(Debug)]
pub struct Pulse {
    /// Since when something has been asked and nothing was heard; never if nothing is owed.
    owed_since: Cell<Ms>,
    /// A PING is unanswered.
    probed: Cell<bool>,
    /// PINGs since the last response.
    pings: Cell<u32>,
}

impl Default for Pulse {
    fn default() -> Self {
        let (probed, pings) = (Cell::default(), Cell::default());
        Self { owed_since: Cell::new(Ms::NEVER), probed, pings }
    }
}

impl Pulse {
    /// A stream was opened.
    pub fn asked(&self, now: Ms) {
        if self.owed_since.get() == Ms::NEVER {
            self.owed_since.set(now);
        }
    }

    /// A byte came.
    fn heard(&self) {
        self.owed_since.set(Ms::NEVER);
        self.probed.set(false);
    }

    /// The head of a response came.
    pub fn answered(&self) {
        self.pings.set(0);
    }

    /// Whether something came since something was last asked.
    pub fn owes_nothing(&self) -> bool {
        self.owed_since.get() == Ms::NEVER
    }

    fn is_due(&self, now: Ms) -> bool {
        !self.probed.get()
            && self.pings.get() < PINGS_MAX
            && now.since(self.owed_since.get()) >= SILENCE
    }

    fn probed(&self) {
        self.probed.set(true);
        self.pings.set(self.pings.get() + 1);
    }
}

impl Link {
    /// As a new stream sees it.
    pub fn load(&self) -> Load {
        Load {
            streams: self.streams.get(),
            limit: self.limit.get(),
            doubtful: self.pulse.probed.get(),
        }
    }

    /// What opens a stream, if it takes any more.
    pub fn opener(&self) -> Option<SendRequest<Bytes>> {
        self.opener.borrow().clone()
    }

    /// Whether it takes streams.
    pub fn is_open(&self) -> bool {
        self.opener.borrow().is_some()
    }

    /// Whether it has closed, or the instance takes no more streams on it.
    pub fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Takes no more streams, and closes behind its last.
    pub fn retire(&self) {
        self.opener.take();
    }

    /// Whether it still takes streams at this age; if not it is let go of.
    pub fn stays(&self, age: Duration, now: Ms) -> bool {
        if now.since(self.made) >= age {
            self.retire();
        }
        self.is_open()
    }

    /// Whether it has had no stream for so long, or its last one ended without a sign of life.
    pub fn is_idle(&self, limit: Duration, now: Ms) -> bool {
        let doubtful = self.pulse.probed.get();
        self.streams.get() == 0 && (doubtful || now.since(self.idle_since.get()) >= limit)
    }

    /// Counts one more stream, of at most `most` in its life. Says whether it has had any before, and
    /// whether it has no other now.
    pub fn join(&self, most: u32) -> (bool, bool) {
        let (streams, served) = (self.streams.get(), self.served.get());
        self.streams.set(streams + 1);
        self.served.set(served + 1);
        if served + 1 >= most {
            self.retire();
        }
        (served > 0, streams == 0)
    }

    /// Counts one stream less.
    pub fn leave(&self, now: Ms) {
        self.streams.set(self.streams.get() - 1);
        self.idle_since.set(now);
    }

    /// Asks for a sign of life, if one is due.
    pub fn probe(&self, now: Ms) {
        if !self.pulse.is_due(now) {
            return;
        }
        let mut ping = self.ping.borrow_mut();
        let Some(ping) = ping.as_mut() else { return };
        // The answer to an earlier one has been heard, as any byte is, and must be taken off.
        let _ = ping.poll_pong(&mut Context::from_waker(Waker::noop()));
        if ping.send_ping(Ping::opaque()).is_ok() {
            self.pulse.probed();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("streams", &self.streams)
            .field("limit", &self.limit)
            .field("is_open", &self.is_open())
            .field("pulse", &self.pulse)
            .finish_non_exhaustive()
    }
}

/// The task that moves the frames of a connection.
#[derive(Debug)]
pub struct Driver {
    connection: client::Connection<Wire, Bytes>,
    link: Rc<Link>,
}

impl Driver {
    /// Runs until the connection has closed; calls `changed` whenever a place may have become free.
    pub async fn run(mut self, changed: impl Fn()) {
        let mut cx = Context::from_waker(Waker::noop());
        poll_fn(|task| {
            let done = Pin::new(&mut self.connection).poll(task);
            self.link.limit.set(limit(&self.connection));
            let refused = |opener: &mut SendRequest<Bytes>| {
                matches!(opener.poll_ready(&mut cx), Poll::Ready(Err(_)))
            };
            if done.is_ready() || self.link.opener.borrow_mut().as_mut().is_some_and(refused) {
                self.link.ended.set(true);
                self.link.retire();
            }
            changed();
            done.map(drop)
        })
        .await;
    }
}

fn limit(connection: &client::Connection<Wire, Bytes>) -> u32 {
    let peers = connection.max_concurrent_send_streams();
    u32::try_from(peers).unwrap_or(u32::MAX).min(STREAMS_MAX)
}

/// Makes a connection. It stands when the instance's SETTINGS are here and let
/// it take a stream.
///
/// # Errors
/// What the kernel says; `InvalidData` from an instance that does not speak HTTP/2.
pub async fn establish(
    pool: &Pool,
    tls: Option<&ClientTls>,
    instance: &Instance,
    timers: &Timers,
) -> io::Result<(Rc<Link>, Driver)> {
    let version = Some(UpstreamVersion::H2);
    let stream = upstream::open(pool, tls, instance, version, || None).await?;
    let pulse = Rc::<Pulse>::default();
    let wire = Wire { stream, pulse: Rc::clone(&pulse) };
    let shaken: Result<(SendRequest<Bytes>, _), _> = client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(FIELDS_MAX)
        .max_concurrent_reset_streams(RESETS_KEPT)
        // Instances are ours: what they send for streams that were reset long ago is no attack.
        .max_local_error_reset_streams(None)
        // None until the instance has said how many.
        .initial_max_send_streams(0)
        .enable_push(false)
        .handshake(wire)
        .await;
    let (opener, mut connection) = shaken.map_err(broke)?;
    let ping = connection.ping_pong();
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        Poll::Ready(Err(error)) => Poll::Ready(Err(broke(error))),
        Poll::Pending if limit(&connection) > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    let now = timers.now();
    let link = Rc::new(Link {
        opener: RefCell::new(Some(opener)),
        ping: RefCell::new(ping),
        pulse,
        streams: Cell::default(),
        limit: Cell::new(limit(&connection)),
        served: Cell::default(),
        made: now,
        idle_since: Cell::new(now),
        ended: Cell::default(),
    });
    let driver = Driver { connection, link: Rc::clone(&link) };
    Ok((link, driver))
}

/// Why no connection stands.
fn broke(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
    } else if error.is_remote() {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    } else {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// A socket that notes when it is heard of.
#[derive(Debug)]
struct Wire {
    stream: Stream,
    pulse: Rc<Pulse>,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, into))?;
        if into.filled().len() > before {
            self.pulse.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_once_and_twice_at_most_without_a_response() {
        let pulse = Pulse::default();
        assert!(!pulse.is_due(Ms(60_000)), "nothing is owed");
        pulse.asked(Ms(1_000));
        pulse.asked(Ms(1_900));
        assert!(!pulse.is_due(Ms(1_999)));
        assert!(pulse.is_due(Ms(2_000)), "a second since the first was asked");
        pulse.probed();
        assert!(!pulse.is_due(Ms(9_000)), "one at a time");
        pulse.heard();
        assert!(!pulse.is_due(Ms(9_000)), "heard of, if not answered");
        pulse.asked(Ms(10_000));
        assert!(pulse.is_due(Ms(11_000)));
        pulse.probed();
        pulse.heard();
        pulse.asked(Ms(20_000));
        assert!(!pulse.is_due(Ms(30_000)), "a third would be an offence");
        pulse.answered();
        assert!(pulse.is_due(Ms(30_000)));
    }
}
