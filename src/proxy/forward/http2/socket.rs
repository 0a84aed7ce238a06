//! What the tasks of an HTTP/2 connection share, and the connection as its engine reads and writes it:
//! every frame is counted on its way ([`wire::flood`](crate::proxy::wire::flood)).

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::net::stream::Stream;
use crate::observe::FloodKind;
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::wire::flood::{Flood, Frame, Frames};

/// What the tasks of a connection share.
#[derive(Debug)]
pub struct Shared {
    /// The client's connection.
    pub visit: Visit,
    /// The client's address.
    pub client_address: IpAddr,
    /// The same, as text.
    pub client: String,
    /// What the client speaks with us: `http` or `https`.
    pub scheme: &'static str,
    stream: RefCell<Stream>,
    counts: RefCell<Flood>,
    flood: Cell<Option<FloodKind>>,
    /// Streams that are being served.
    running: Cell<u32>,
    /// Wakes the connection's task.
    waker: RefCell<Option<Waker>>,
}

impl Shared {
    /// What is known of a new connection.
    pub fn new(visit: Visit, stream: Stream) -> Rc<Self> {
        let client_address = visit.guest.client().ip();
        Rc::new(Self {
            client_address,
            client: client_address.to_canonical().to_string(),
            scheme: if stream.plain().is_some() { "http" } else { "https" },
            visit,
            stream: RefCell::new(stream),
            counts: RefCell::default(),
            flood: Cell::new(None),
            running: Cell::new(0),
            waker: RefCell::new(None),
        })
    }

    /// One more stream is served, until what this gives is dropped.
    pub fn begin(self: &Rc<Self>) -> Running {
        self.running.set(self.running.get() + 1);
        Running(Rc::clone(self))
    }

    /// Whether no stream is served.
    pub fn is_idle(&self) -> bool {
        self.running.get() == 0
    }

    /// What the client has sent too much of, if it has.
    pub fn flood(&self) -> Option<FloodKind> {
        self.flood.get()
    }

    /// Whether the connection is to take no more requests: the worker drains, or the listener has left
    /// the config.
    pub fn is_leaving(&self) -> bool {
        let Visit { worker, bound, .. } = &self.visit;
        worker.timers.is_draining() || worker.snapshot().listener_at(*bound).is_none()
    }

    /// The client has taken a response, or has reset its stream before it had seen any of it.
    pub fn note_outcome(&self, answered: bool) {
        let mut counts = self.counts.borrow_mut();
        if answered {
            counts.answered();
        } else if let Err(kind) = counts.reset_unanswered() {
            self.flood.set(Some(kind));
            self.wake();
        }
    }

    /// Our end of the connection.
    ///
    /// # Errors
    /// What the kernel says; or that the connection is being closed.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.try_borrow().map_err(io::Error::other)?.local_addr()
    }

    /// The connection's task waits for what happens here.
    pub fn wake_with(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Reads to the end what nobody wants any more. The engine is gone by then.
    #[expect(clippy::await_holding_refcell_ref, reason = "no other task reads or writes any more")]
    pub async fn drain(&self) {
        if self.flood.get().is_some() {
            return;
        }
        let mut stream = self.stream.borrow_mut();
        let mut unread = [0; 4096];
        while matches!(stream.read(&mut unread).await, Ok(n) if n > 0) {}
    }

    fn count(&self, frame: Frame) -> Result<(), FloodKind> {
        self.counts.borrow_mut().received(frame, self.visit.worker.timers.now())
    }
}

/// A stream that is being served.
#[derive(Debug)]
pub struct Running(pub Rc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        let Self(shared) = self;
        shared.running.set(shared.running.get() - 1);
        if shared.is_idle() {
            shared.wake();
        }
    }
}

/// The connection, as its engine reads and writes it.
#[derive(Debug)]
pub struct Socket {
    shared: Rc<Shared>,
    /// What was read before.
    early: Option<Buffer>,
    received: Frames,
    sent: Frames,
}

impl Socket {
    /// The connection from its first byte; `early` is what was read of it already.
    pub fn new(shared: Rc<Shared>, early: Buffer) -> Self {
        let early = Some(early).filter(|early| !early.is_empty());
        Self { shared, early, received: Frames::of_client(), sent: Frames::default() }
    }

    /// What was read before, then what comes.
    fn poll_bytes(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(early) = &mut self.early {
            let len = early.filled().len().min(into.remaining());
            into.put_slice(&early.filled()[..len]);
            early.consume(len);
            if early.is_empty() {
                self.early = None;
            }
            return Poll::Ready(Ok(()));
        }
        let mut stream = self.shared.stream.borrow_mut();
        Pin::new(&mut *stream).poll_read(cx, into)
    }

    fn note_sent(&mut self, bytes: &[u8]) {
        let counts = &mut self.shared.counts.borrow_mut();
        let Ok(()) = self.sent.walk(bytes, |frame| {
            counts.sent(frame);
            Ok::<(), std::convert::Infallible>(())
        });
    }
}

impl AsyncRead for Socket {
    /// Once there is a flood, nothing more is read.
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.shared.flood.get().is_some() {
            return Poll::Pending;
        }
        let before = into.filled().len();
        ready!(this.poll_bytes(cx, into))?;
        let Self { shared, received, .. } = this;
        let walked = received.walk(&into.filled()[before..], |frame| shared.count(frame));
        if let Err(kind) = walked {
            // Its task looks as soon as the engine has nothing more to read.
            shared.flood.set(Some(kind));
            into.set_filled(before);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = {
            let mut stream = this.shared.stream.borrow_mut();
            ready!(Pin::new(&mut *stream).poll_write(cx, bytes))?
        };
        this.note_sent(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let n = {
            let mut stream = this.shared.stream.borrow_mut();
            ready!(Pin::new(&mut *stream).poll_write_vectored(cx, pieces))?
        };
        let mut left = n;
        for piece in pieces {
            let len = piece.len().min(left);
            this.note_sent(&piece[..len]);
            left -= len;
        }
        Poll::Ready(Ok(n))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.shared.stream.borrow_mut();
        Pin::new(&mut *stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = self.shared.stream.borrow_mut();
        Pin::new(&mut *stream).poll_shutdown(cx)
    }
}
