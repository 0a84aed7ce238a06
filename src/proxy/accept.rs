//! Accepting connections: one task per listening socket. What is accepted is counted, asked who it is
//! for if that is configured, and served by what its listener speaks.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::model::{Protocol, ProxyHeader, SocketOptions};
use crate::net::options;
use crate::net::stream::Stream;
use crate::observe::{ListenerShard, RefuseReason};
use crate::proxy::admit::Visit;
use crate::proxy::forward::{http1, http2, tcp};
use crate::proxy::guest::{Guest, Unmet};
use crate::proxy::handshake::{overhear, shake};
use crate::proxy::snapshot::ListenerView;
use crate::proxy::spread::{Accepted, Handed, Spread, Turnover};
use crate::proxy::worker::Worker;

/// A running accept task.
#[derive(Debug)]
pub struct Acceptor {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Out of file descriptors or memory: connections wait in the kernel's queue meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);

/// More than can wait in an accept queue: looking for more has an end, whatever the kernel says.
const QUEUE_MAX: usize = 16 * 1024;

/// Accepts on `socket`, which is bound to `address`, until retired.
pub fn spawn(
    worker: &Rc<Worker>,
    spread: &Spread,
    address: SocketAddr,
    socket: TcpListener,
) -> Acceptor {
    let (stop, mut stopped) = oneshot::channel();
    let (worker, spread) = (Rc::clone(worker), spread.clone());
    let task = tokio::task::spawn_local(async move {
        let (mut tuning, mut turnover) = (Tuning::default(), Turnover::default());
        if let Some(view) = view_at(&worker, address) {
            tuning.follow(&socket, view.listener.socket);
        }
        loop {
            tokio::select! {
                biased;
                accepted = poll_fn(|cx| tuning.poll_accept(&socket, cx)) => match accepted {
                    Ok((stream, peer)) => {
                        let Some(view) = view_at(&worker, address) else { continue };
                        tuning.follow(&socket, view.listener.socket);
                        tuning.catch_up(&stream);
                        let accepted = Accepted { stream, peer, bound: address, view };
                        let (view, now) = (&accepted.view, worker.timers.now());
                        match spread.elsewhere(view, worker.index, &mut turnover, now) {
                            None => start(&worker, accepted),
                            Some(other) => hand(&worker, &spread, other, accepted),
                        }
                    }
                    Err(error) => pause_after(&error, address).await,
                },
                _ = &mut stopped => break,
            }
        }
        empty_queue(&worker, address, socket);
    });
    Acceptor { stop, task }
}

impl Acceptor {
    /// Serves what waits in the accept queue, then closes the socket: closing it first would reset
    /// connections that the kernel has completed already. One that arrives between the last look
    /// and the close is lost; no process can prevent that.
    pub async fn retire(self) {
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

fn empty_queue(worker: &Rc<Worker>, address: SocketAddr, socket: TcpListener) {
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..QUEUE_MAX {
        let (stream, peer) = match socket.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // Others wait behind the one that failed.
            Err(_) => continue,
        };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
            && let Some(view) = view_at(worker, address)
        {
            start(worker, Accepted { stream, peer, bound: address, view });
        }
    }
}

/// A connection that was reset while it waited is nobody's trouble; anything else is a shortage.
async fn pause_after(error: &io::Error, address: SocketAddr) {
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    ) {
        tracing::warn!(%address, %error, "cannot accept; trying again in 100 ms");
        tokio::time::sleep(EXHAUSTED_PAUSE).await;
    }
}

/// Has another worker serve a connection, or serves it if that takes none any more.
fn hand(worker: &Rc<Worker>, spread: &Spread, other: usize, accepted: Accepted<TcpStream>) {
    let Accepted { stream, peer, bound, view } = accepted;
    match stream.into_std() {
        Ok(stream) => {
            if let Err(back) = spread.hand(other, Accepted { stream, peer, bound, view }) {
                take(worker, back);
            }
        }
        Err(error) => tracing::warn!(address = %bound, %error, "a connection is lost"),
    }
}

/// Serves a connection that another worker has accepted.
pub fn take(worker: &Rc<Worker>, handed: Handed) {
    let Handed { stream, peer, bound, view } = handed;
    match TcpStream::from_std(stream) {
        Ok(stream) => start(worker, Accepted { stream, peer, bound, view }),
        Err(error) => tracing::warn!(address = %bound, %error, "a connection is lost"),
    }
}

fn view_at(worker: &Worker, address: SocketAddr) -> Option<Arc<ListenerView>> {
    worker.snapshot().listener_at(address).cloned()
}

/// The options of a listening socket. It hands them on to what it accepts, so they cost nothing for each
/// connection; what stood in its queue before it had them gets them one by one.
#[derive(Default)]
struct Tuning {
    options: SocketOptions,
    /// Those before them.
    before: SocketOptions,
    /// Something was accepted since they were set.
    accepted: bool,
    /// The queue was empty since: whatever comes now has them.
    settled: bool,
}

impl Tuning {
    fn poll_accept(
        &mut self,
        socket: &TcpListener,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = socket.poll_accept(cx);
        match accepted {
            Poll::Ready(_) => self.accepted = true,
            // Before anything was accepted the runtime may not have heard of the queue yet.
            Poll::Pending => self.settled |= self.accepted,
        }
        accepted
    }

    /// Follows a change of what is configured, if there is one.
    fn follow(&mut self, socket: &TcpListener, wanted: SocketOptions) {
        if self.options != wanted {
            warn_of(options::set(socket, &wanted, &self.options));
            let before = self.options;
            *self = Self { options: wanted, before, accepted: false, settled: false };
        }
    }

    /// Gives the options to a connection that may not have them.
    fn catch_up(&self, stream: &TcpStream) {
        if !self.settled {
            warn_of(options::set(stream, &self.options, &self.before));
        }
    }
}

fn warn_of(set: io::Result<()>) {
    if let Err(error) = set {
        tracing::warn!(%error, "cannot set the socket options of a listener; it goes on without");
    }
}

fn start(worker: &Rc<Worker>, accepted: Accepted<TcpStream>) {
    let Accepted { stream, peer, bound, view } = accepted;
    let shard = &view.meter.shards[worker.index];
    shard.accepted.add(1);
    let guest = Guest::new(peer, &view.listener);
    let (visit, announced) = match admit(worker, &view, bound, guest) {
        Ok(admitted) => admitted,
        Err(reason) => return refuse(shard, reason, &stream),
    };
    tokio::task::spawn_local(serve(visit, stream.into(), announced));
}

/// Serves a connection to its end. What is large or rare is boxed: this future is what an idle HTTP
/// connection costs.
#[expect(clippy::manual_async_fn, reason = "an `async fn` keeps its arguments twice")]
fn serve(mut visit: Visit, mut stream: Stream, announced: bool) -> impl Future<Output = ()> {
    async move {
        if announced && !Box::pin(meet(&mut visit, stream.socket())).await {
            return;
        }
        if visit.view.listener.protocol.has_tls() {
            match Box::pin(shake(&mut visit, stream)).await {
                Some(under_tls) => stream = under_tls,
                None => return,
            }
        }
        match visit.view.listener.protocol {
            Protocol::Http | Protocol::Https => {
                let early = match stream.is_http2() {
                    true => Some(visit.worker.buffers.borrow()),
                    false => http1::serve(&visit, &mut stream).await,
                };
                match early {
                    Some(early) => Box::pin(http2::serve(visit, stream, early)).await,
                    None => stream.say_goodbye(),
                }
            }
            Protocol::Tcp | Protocol::Tls => Box::pin(tcp::serve(&visit, stream, None)).await,
            Protocol::TlsPassthrough => Box::pin(pass_through(visit, stream)).await,
        }
    }
}

/// Serves a connection whose TLS ends at an instance.
async fn pass_through(mut visit: Visit, mut stream: Stream) {
    if let Some(hello) = overhear(&mut visit, &mut stream).await {
        tcp::serve(&visit, stream, Some(hello)).await;
    }
}

/// A place for the connection, and whether it may begin with a header that says for whom it is; its
/// client is not known before that.
fn admit(
    worker: &Rc<Worker>,
    view: &Arc<ListenerView>,
    bound: SocketAddr,
    guest: Guest,
) -> Result<(Visit, bool), RefuseReason> {
    let announced = match view.listener.proxy_protocol {
        ProxyHeader::Off => false,
        ProxyHeader::Accept => guest.trusted,
        ProxyHeader::Require if guest.trusted => true,
        ProxyHeader::Require => return Err(RefuseReason::ProxyHeader),
    };
    let mut visit = Visit::begin(worker, Arc::clone(view), bound, guest)?;
    if !announced {
        visit.count_client()?;
    }
    Ok((visit, announced))
}

/// Reads who the connection is for; false if it is not to be served.
async fn meet(visit: &mut Visit, stream: &TcpStream) -> bool {
    let timer = visit.worker.timers.timer();
    let met = match visit.guest.introduce(stream, &visit.view.listener, &timer).await {
        Ok(()) => visit.count_client(),
        Err(Unmet::Refused) => Err(RefuseReason::ProxyHeader),
        Err(Unmet::Left) => return false,
    };
    if let Err(reason) = met {
        refuse(visit.shard(), reason, stream);
    }
    met.is_ok()
}

/// Closed with a reset when it is dropped: nothing was served, and nothing of it is to linger here.
fn refuse(shard: &ListenerShard, reason: RefuseReason, stream: &TcpStream) {
    shard.count_refusal(reason);
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: impl Fn(Visit, Stream, bool) -> F) -> usize {
        size_of::<F>()
    }

    #[tokio::test]
    async fn who_came_before_the_options_has_them_too() {
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = socket.local_addr().expect("an address");
        let keepalive = |on: bool| SocketOptions {
            keepalive: on.then_some(Duration::from_secs(60)),
            ..SocketOptions::default()
        };
        let mut tuning = Tuning::default();
        for on in [true, false, true] {
            let early = TcpStream::connect(address).await.expect("connected");
            tuning.follow(&socket, keepalive(on));
            let late = TcpStream::connect(address).await.expect("connected");
            for _ in 0..2 {
                let accepted = poll_fn(|cx| tuning.poll_accept(&socket, cx)).await;
                let (stream, _) = accepted.expect("accepted");
                tuning.catch_up(&stream);
                let is_on = socket2::SockRef::from(&stream).keepalive().expect("an option");
                assert_eq!(is_on, on);
            }
            assert!(!tuning.settled, "there might be more");
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(tuning.poll_accept(&socket, &mut cx).is_pending());
            assert!(tuning.settled);
            drop((early, late));
        }
    }

    #[test]
    fn a_parked_connection_is_small() {
        let bytes = size_of_future(serve);
        assert!(bytes <= 384, "{bytes} bytes for each connection that does nothing");
    }
}
