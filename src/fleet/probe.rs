//! Probes over real sockets, with as little work as they can be done with.
//!
//! A connection ends in a reset where the instance did not close first, so that frequent probes leave
//! none in TIME_WAIT on this node. What the instance still sends is read before, so that it does not
//! log a broken pipe. Probes by HTTP and gRPC of instances that are up keep theirs, for ten probes.

mod agent;
mod call;
mod grpc;
mod http;
mod kept;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time;

use crate::base::Clock;
use crate::fleet::order::{Asks, Lane, ProbeError, ProbeOrder, ProbeResult};
use crate::model::{GrpcCheck, HealthCheck, HttpCheck, UpstreamVersion};
use crate::net::stream::Stream;
use crate::net::tls::{ClientTls, HandshakeError};
use crate::net::{dial, proxy_protocol};

use call::Calls;
use kept::{Kept, Line};

/// For how long the rest of an answer is read, once it is judged.
const REST_TIME: Duration = Duration::from_millis(100);
/// A time-out that fires later than this shows that this node was stalled, not the instance.
const STALL: Duration = Duration::from_millis(500);

/// Makes probes: a bounded number at a time in each [`Lane`].
#[derive(Clone, Debug)]
pub struct Prober {
    clock: Clock,
    lanes: [Arc<Semaphore>; Lane::ALL.len()],
    kept: Arc<Mutex<Kept<Stream>>>,
    calls: Arc<Mutex<Kept<Calls>>>,
}

impl Prober {
    /// A prober with nothing to do.
    pub fn new(clock: Clock) -> Self {
        let lanes = Lane::ALL.map(|lane| Arc::new(Semaphore::new(lane.width())));
        Self { clock, lanes, kept: Arc::default(), calls: Arc::default() }
    }

    /// Makes the probe on a task of the current runtime, as soon as its lane has room, and hands
    /// back what came of it. Each order has exactly one result, unless nobody receives any more. `tls` is
    /// how the pool's instances are spoken to, if it is by TLS.
    pub fn start(
        &self,
        order: ProbeOrder,
        tls: Option<Arc<ClientTls>>,
        results: mpsc::Sender<ProbeResult>,
    ) {
        lock(&self.kept).sweep(self.clock.now());
        lock(&self.calls).sweep(self.clock.now());
        let prober = self.clone();
        tokio::spawn(async move {
            let (outcome, said) = {
                // The lanes are never closed; if one were, its bound would be gone, not the probe.
                let _room = prober.lanes[order.lane as usize].acquire().await;
                match order.asks {
                    Asks::Instance => (prober.probe(&order, tls).await, None),
                    Asks::Agent(_) => match prober.ask_agent(&order).await {
                        Ok((took, line)) => (Ok(took), Some(line)),
                        Err(error) => (Err(error), None),
                    },
                }
            };
            // At shutdown nobody receives it.
            let _ = results.send(ProbeResult { order, outcome, said }).await;
        });
    }

    /// Asks the instance once. Returns how long its answer took.
    ///
    /// # Errors
    /// Says why the instance does not pass, or that this node could not ask.
    pub async fn probe(
        &self,
        order: &ProbeOrder,
        tls: Option<Arc<ClientTls>>,
    ) -> Result<Duration, ProbeError> {
        let tls = order.pool.health.tls.then(|| tls.unwrap_or_else(ClientTls::unverified));
        let tls = tls.as_deref();
        let (start, timeout) = (self.clock.elapsed(), order.timeout);
        let asked = async {
            match &order.pool.health.check {
                HealthCheck::None => Ok(None),
                HealthCheck::Tcp => greet(order, tls).await.map(|()| None),
                HealthCheck::Http(check) => self.get(order, tls, check).await.map(Some),
                HealthCheck::Grpc(check) => self.call(order, tls, check).await.map(|()| None),
            }
        };
        let answer = time::timeout(timeout, asked).await;
        let took = self.clock.elapsed().saturating_sub(start);
        match answer {
            Ok(Ok(None)) => Ok(took),
            Ok(Ok(Some(answer))) => {
                let verdict = answer.verdict.clone();
                self.leave(order, answer).await;
                verdict.map(|()| took)
            }
            Ok(Err(error)) => Err(error),
            Err(_) if took > timeout + STALL => {
                Err(ProbeError::Local(format!("it was stalled for {} ms", took.as_millis())))
            }
            Err(_) => Err(ProbeError::Timeout(timeout)),
        }
    }

    /// The request of a check by HTTP, up to where its answer can be judged.
    async fn get(
        &self,
        order: &ProbeOrder,
        tls: Option<&ClientTls>,
        check: &HttpCheck,
    ) -> Result<Answer, ProbeError> {
        let kept = if kept::may_keep(order) { lock(&self.kept).take(order) } else { None };
        if let Some(line) = kept {
            match exchange(order, check, line, Vec::new()).await {
                // The instance may have closed it before the request came: that says nothing.
                Err(Failure { is_stale: true, .. }) => {}
                answer => return answer.map_err(|failure| failure.error),
            }
        }
        let (stream, first) = open(order, tls, Some(UpstreamVersion::Http1)).await?;
        let answer = exchange(order, check, Line::new(stream), first).await;
        answer.map_err(|failure| failure.error)
    }

    /// The call of a check by gRPC.
    async fn call(
        &self,
        order: &ProbeOrder,
        tls: Option<&ClientTls>,
        check: &GrpcCheck,
    ) -> Result<(), ProbeError> {
        let kept = if kept::may_keep(order) { lock(&self.calls).take(order) } else { None };
        if let Some(line) = kept {
            match call::ask(order, check, line).await {
                Err(Failure { is_stale: true, .. }) => {}
                answer => return self.after(order, answer),
            }
        }
        let (mut stream, first) = open(order, tls, Some(UpstreamVersion::H2)).await?;
        stream.write_all(&first).await.map_err(broken)?;
        // Whenever it ends, it is by us.
        stream.cut();
        let (calls, connection) =
            h2::client::handshake(stream).await.map_err(|error| call::broken(&error))?;
        tokio::spawn(connection);
        self.after(order, call::ask(order, check, Line::new(calls)).await)
    }

    /// Keeps the connection of a call, if it may stay.
    fn after(
        &self,
        order: &ProbeOrder,
        answer: Result<(Result<(), ProbeError>, Line<Calls>), Failure>,
    ) -> Result<(), ProbeError> {
        let (verdict, line) = answer.map_err(|failure| failure.error)?;
        if kept::may_keep(order) && line.may_stay() {
            // Where there is no room it is closed.
            let _ = lock(&self.calls).put(self.clock.now(), order, line);
        }
        verdict
    }

    /// Reads the rest of an answer and keeps the connection, or ends it: in peace if the instance
    /// closes it at once, else with a reset.
    async fn leave(&self, order: &ProbeOrder, mut answer: Answer) {
        let stays = kept::may_keep(order) && answer.line.may_stay();
        if !answer.is_whole() {
            // What has not come in this time is not waited for.
            let _ = time::timeout(REST_TIME, answer.read_rest(stays)).await;
        }
        if answer.has_ended {
            return;
        }
        let refused = match stays && answer.can_follow() {
            true => lock(&self.kept).put(self.clock.now(), order, answer.line).err(),
            false => Some(answer.line),
        };
        if let Some(line) = refused {
            line.carrier.cut();
        }
    }
}

/// A map is whole whatever happened.
fn lock<C>(kept: &Mutex<Kept<C>>) -> MutexGuard<'_, Kept<C>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the instance is probed.
fn address(order: &ProbeOrder) -> SocketAddr {
    let traffic = order.instance.address;
    let port = match order.asks {
        Asks::Agent(agent) => agent.port,
        Asks::Instance => order.pool.health.port.unwrap_or(traffic.port()),
    };
    SocketAddr::new(traffic.ip(), port)
}

/// A connection like those of the pool's traffic.
async fn connect(order: &ProbeOrder) -> Result<TcpStream, ProbeError> {
    let upstream = &order.pool.upstream;
    let dialed = dial::connect(address(order), upstream.source, &upstream.socket).await;
    dialed.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::CONNREFUSED) => ProbeError::Refused,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM | Errno::ADDRNOTAVAIL) => {
            ProbeError::Local(error.to_string())
        }
        _ => ProbeError::Connect(error.kind()),
    })
}

/// What connections of the pool begin with: a probe is on nobody's behalf, and says so.
fn greeting(order: &ProbeOrder) -> Vec<u8> {
    let mut first = Vec::new();
    if let Some(version) = order.pool.upstream.proxy_protocol {
        proxy_protocol::write(version, None, &mut first);
    }
    first
}

fn broken(error: io::Error) -> ProbeError {
    ProbeError::Broken(error.kind())
}

/// A connection, by TLS if there is any, for this version of HTTP or for bytes; and what is to be sent
/// first on it.
async fn open(
    order: &ProbeOrder,
    tls: Option<&ClientTls>,
    version: Option<UpstreamVersion>,
) -> Result<(Stream, Vec<u8>), ProbeError> {
    let mut socket = connect(order).await?;
    let Some(tls) = tls else { return Ok((socket.into(), greeting(order))) };
    socket.write_all(&greeting(order)).await.map_err(broken)?;
    let refused = |error: HandshakeError| ProbeError::Tls(error.to_string());
    let begun = tls.begin(socket, order.instance.address.ip(), version);
    let mut stream = begun.map_err(refused)?;
    // What is shared does not move between threads, and tasks might.
    let shaking = &mut stream;
    poll_fn(move |cx| shaking.poll_handshake(cx)).await.map_err(refused)?;
    Ok((stream.into(), Vec::new()))
}

/// A connection, and no more than it has to begin with.
async fn greet(order: &ProbeOrder, tls: Option<&ClientTls>) -> Result<(), ProbeError> {
    let (mut stream, first) = open(order, tls, None).await?;
    stream.write_all(&first).await.map_err(broken)?;
    stream.cut();
    Ok(())
}

/// Why an exchange came to nothing.
struct Failure {
    error: ProbeError,
    /// Not a byte of an answer came on a connection that was kept.
    is_stale: bool,
}

/// Sends the request of a check by HTTP on `line`, after what has to come `first`, and reads until
/// the answer can be judged.
async fn exchange(
    order: &ProbeOrder,
    check: &HttpCheck,
    mut line: Line<Stream>,
    first: Vec<u8>,
) -> Result<Answer, Failure> {
    let was_kept = !line.begin();
    let last = !(kept::may_keep(order) && line.may_stay());
    let mut request = first;
    request.extend(http::request(check, address(order), last));
    let unheard = |error| Failure { error: broken(error), is_stale: was_kept };
    line.carrier.write_all(&request).await.map_err(unheard)?;
    let mut answer = Answer {
        line,
        bytes: Vec::with_capacity(1024),
        head: None,
        has_ended: false,
        verdict: Ok(()),
    };
    loop {
        let is_silent = answer.bytes.is_empty();
        match answer.read().await {
            Ok(()) => {}
            Err(error) if is_silent => return Err(unheard(error)),
            Err(error) => return Err(Failure { error: broken(error), is_stale: false }),
        }
        let judged = answer.judge(check).map_err(|error| Failure { error, is_stale: false })?;
        if let Some(verdict) = judged {
            return Ok(Answer { verdict, ..answer });
        }
        if answer.is_over() {
            let is_stale = was_kept && answer.bytes.is_empty();
            return Err(Failure { error: answer.shortfall(), is_stale });
        }
    }
}

/// An answer to a check by HTTP, as far as it has come.
struct Answer {
    line: Line<Stream>,
    bytes: Vec<u8>,
    head: Option<http::Head>,
    /// Whether the connection has.
    has_ended: bool,
    verdict: Result<(), ProbeError>,
}

impl Answer {
    /// Reads what there is.
    async fn read(&mut self) -> io::Result<()> {
        let n = self.line.carrier.read_buf(&mut self.bytes).await?;
        self.has_ended = n == 0;
        Ok(())
    }

    /// Reads on: until the body is whole, or until the connection ends.
    async fn read_rest(&mut self, until_whole: bool) {
        let is_enough = |answer: &Self| answer.is_over() || (until_whole && answer.is_whole());
        while !is_enough(self) && self.read().await.is_ok() {}
    }

    /// Whether no more of it will be read.
    fn is_over(&self) -> bool {
        self.has_ended || self.bytes.len() >= http::ANSWER_MOST
    }

    /// What the check says of it; `None` as long as that is open.
    fn judge(&mut self, check: &HttpCheck) -> Result<Option<Result<(), ProbeError>>, ProbeError> {
        if self.head.is_none() {
            self.head = http::head(&self.bytes, check.method == "HEAD")?;
        }
        let body = |head: http::Head| head.judge(check, &head.body(&self.bytes, self.has_ended));
        Ok(self.head.and_then(body))
    }

    /// What is wrong with one that is over and cannot be judged.
    fn shortfall(&self) -> ProbeError {
        match self.head {
            Some(_) => ProbeError::Body,
            None if self.bytes.is_empty() => ProbeError::Closed,
            None => ProbeError::NotHttp,
        }
    }

    fn is_whole(&self) -> bool {
        self.head.is_some_and(|head| head.body(&self.bytes, self.has_ended).whole)
    }

    /// Whether the connection can be used for another request.
    fn can_follow(&self) -> bool {
        let follows = |head: http::Head| head.can_follow(&head.body(&self.bytes, self.has_ended));
        !self.has_ended && self.head.is_some_and(follows)
    }
}

#[cfg(test)]
mod tests;
