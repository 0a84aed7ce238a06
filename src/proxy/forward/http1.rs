//! A client's HTTP/1.1 connection, from accept to close.
//!
//! While it idles it is a socket and a timer. The machinery of an exchange lives in a future that is
//! boxed from the first byte of a request to the last of its response; buffers and heads are borrowed
//! from the worker for that time.

use std::cell::Cell;
use std::fmt::Write;
use std::future::poll_fn;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::base::Ms;
use crate::model::{ConnectMethod, ListenerLimits, Rewrite};
use crate::net::half::{Incoming, Outgoing, halves};
use crate::net::stream::Stream;
use crate::observe::meter::Odometer;
use crate::observe::{Account, ListenerShard, RefuseReason};
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodyError, BodySource};
use crate::proxy::forward::body_http1::{H1Sink, H1Source};
use crate::proxy::forward::connection::{Connection, Ending, Far, Responder, Tunnel};
use crate::proxy::forward::exchange;
use crate::proxy::forward::http2::PREFACE_LINE;
use crate::proxy::forward::relay::Relay;
use crate::proxy::forward::respond::{self, Answer};
use crate::proxy::forward::tell::{Trip, tell};
use crate::proxy::forward::tunnel_http2::{self, Near};
use crate::proxy::patience::GaveUp;
use crate::proxy::rewrite::{Facts, UNCHANGED};
use crate::proxy::scratch::Scratch;
use crate::proxy::timer::Timer;
use crate::proxy::wire::http1::{HeadLimits, parse_request, write_response};
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::wire::{BodyLength, RequestHead, ResponseHead, Version};
use crate::proxy::worker::Worker;

/// Longest wait for a client to take our last answer before the connection is closed under it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection to its end, unless its client turns out to speak HTTP/2: gives back what it has
/// sent then.
pub async fn serve(visit: &Visit, stream: &mut Stream) -> Option<Buffer> {
    let timer = visit.worker.timers.timer();
    // A connection on which nothing ever comes is closed as early as a head that never ends.
    let listener = &visit.view.listener;
    let mut patience = listener.timeouts.head;
    let mut requests = listener.limits.requests.as_u32();
    loop {
        let readable = poll_fn(|cx| stream.poll_read_ready(cx));
        let idled = timer.while_idle(patience, readable).await.is_err();
        if idled && stream.is_quiet() {
            return None;
        }
        let burst = Box::pin(burst(visit, stream, &timer, &mut requests));
        match burst.await {
            Next::Idle => patience = listener.timeouts.idle,
            Next::Close => return None,
            Next::Http2(early) => return Some(early),
            Next::Tunnel(switched) => {
                Box::pin(run_tunnel(visit, stream, &timer, *switched)).await;
                return None;
            }
        }
    }
}

/// What becomes of a connection after a burst of requests.
enum Next {
    Idle,
    Close,
    /// Its client begins as one of HTTP/2 does.
    Http2(Buffer),
    /// It leads to an instance now.
    Tunnel(Box<Switched>),
}

/// A connection that does not speak HTTP any more.
struct Switched {
    tunnel: Box<Tunnel>,
    /// What the client has sent already.
    early: Buffer,
    /// The request that led to it, and what is told of it at its end; only if that is told at all.
    told: Option<(Account, RequestHead)>,
}

/// Serves requests until there is none to be read.
async fn burst(visit: &Visit, stream: &mut Stream, timer: &Timer, requests: &mut u32) -> Next {
    let Visit { worker, view, bound, guest, identity, .. } = visit;
    let (worker, bound): (&Worker, _) = (worker, *bound);
    let client_address = guest.client().ip();
    let mut scratch = worker.scratches.borrow();
    let Scratch { request: head, client, to_client: out, attempt: scratch } = &mut *scratch;
    client.clear();
    // Writing to memory cannot fail.
    let _ = write!(client, "{}", client_address.to_canonical());
    let body_timer = &worker.timers.timer();
    let connection = Connection {
        worker,
        listener: view,
        bound,
        guest,
        timer,
        body_timer,
        answered: Cell::new(false),
        client_address,
        client,
        scheme: if stream.plain().is_some() { "http" } else { "https" },
        identity: identity.as_deref(),
    };
    let (mut reading, mut writing) = halves(stream);
    let mut buffer = worker.buffers.borrow();
    out.clear();
    let shard = &view.meter.shards[worker.index];
    let limits = &view.listener.limits;
    let mut is_first = *requests == limits.requests.as_u32();
    loop {
        let read = read_head(&connection, &mut reading, &mut buffer, head).await;
        scratch.account.begin(worker.access.is_on(), || worker.clock.elapsed());
        let head_in = *read.as_ref().unwrap_or(&0);
        match read.and_then(|len| check_body(head, limits).map(|()| len)) {
            Ok(0) => return Next::Close,
            Ok(_) => {}
            Err(_) if is_first && buffer.filled().starts_with(PREFACE_LINE) => {
                return Next::Http2(buffer);
            }
            Err((answer, reason)) => {
                shard.count_refusal(reason);
                let unread = RequestHead::default();
                let facts = connection.facts(&unread, &view.listener, &UNCHANGED);
                let head_out = respond::write(answer, false, &facts, out);
                if scratch.account.is_on() {
                    let account = &mut scratch.account;
                    (account.status, account.failure) = (answer.status, Some(reason.word()));
                    account.bytes_in = head_in + buffer.filled().len() as u64;
                    account.bytes_out = out.len() as u64;
                    account.body_out = (out.len() - head_out) as u64;
                    tell(visit, client, Some(&*head).filter(|_| head_in > 0), account);
                }
                let last = farewell(timer, shard, &mut reading, &mut writing, &mut buffer, out);
                Box::pin(last).await;
                return Next::Close;
            }
        }
        is_first = false;
        *requests = requests.saturating_sub(1);
        let patience = connection.upload_patience();
        let (fields, length) = (&head.fields, head.body);
        let mut body = H1Source::new(&mut reading, &mut buffer, length, fields, patience)
            .from_client_of(&view.listener)
            .at_most(limits.body);
        body.wait_for_invitation(head.expects_continue);
        let snapshot = worker.snapshot();
        let mut responder = H1Responder {
            connection: &connection,
            writing: &mut writing,
            out,
            version: head.version,
            keep_alive: head.keep_alive && *requests > 0 && !connection.is_ending(&snapshot),
            body_here: body.whole().is_some(),
            ends_by_close: false,
            sent: Cell::new(0),
            head_out: 0,
        };
        let ending =
            exchange::serve(&connection, snapshot, head, &mut body, &mut responder, scratch).await;
        let H1Responder { keep_alive, ends_by_close, sent, head_out, .. } = responder;
        let body_in = body.end();
        shard.bytes_in.add(body_in);
        if scratch.account.is_on() {
            let account = &mut scratch.account;
            (account.bytes_in, account.bytes_out) = (head_in + body_in, sent.get());
            account.body_out = sent.get().saturating_sub(head_out);
            if !matches!(ending, Ending::Switched(_)) {
                tell(visit, client, Some(head), account);
            }
        }
        match ending {
            Ending::Whole if keep_alive => {}
            // Whoever asked for the close sends nothing more.
            Ending::Whole if !head.keep_alive && buffer.is_empty() => return Next::Close,
            Ending::Whole | Ending::Early => {
                let last = farewell(timer, shard, &mut reading, &mut writing, &mut buffer, &[]);
                Box::pin(last).await;
                return Next::Close;
            }
            Ending::Broken => {
                if ends_by_close {
                    // The end of the connection would pass for the end of the response.
                    reading.stream().cut();
                }
                return Next::Close;
            }
            Ending::Switched(tunnel) => {
                let account = &mut scratch.account;
                let told = account.is_on().then(|| (std::mem::take(account), head.clone()));
                return Next::Tunnel(Box::new(Switched { tunnel, early: buffer, told }));
            }
        }
        if buffer.is_empty() {
            reading.stream().forget_stale_readiness();
            return Next::Idle;
        }
    }
}

/// Bytes both ways, now that both sides have agreed to speak something else than HTTP.
async fn run_tunnel(visit: &Visit, client: &mut Stream, timer: &Timer, switched: Switched) {
    let Switched { tunnel, early: from_client, told } = switched;
    let (account, head) = told.unwrap_or_default();
    let Visit { worker, .. } = visit;
    let Tunnel { far, lease, silence } = *tunnel;
    let (mut stream, from_instance) = match far {
        Far::Connection(stream, early) => (stream, early),
        far @ Far::Stream(_) => {
            let (near, other) = (Near::Connection(client, from_client), worker.timers.timer());
            let tunnel = Tunnel { far, lease, silence };
            return tunnel_http2::run(visit, (timer, &other), near, tunnel, (account, head)).await;
        }
    };
    let trip = Trip::new(visit, account, Some(head));
    let relay = Relay {
        worker,
        timer,
        silence,
        from_client: trip.from_client(),
        to_client: trip.to_client(),
        instance: lease.instance(),
    };
    let end = relay.run_after(from_client, from_instance, client, &mut stream).await;
    if let Some(reason) = end.failure() {
        lease.shard(worker).count_failure(reason);
    }
    trip.end(end.failure());
}

/// A body that is announced to be too large is not even begun.
pub fn check_body(
    head: &RequestHead,
    limits: &ListenerLimits,
) -> Result<(), (Answer<'static>, RefuseReason)> {
    match head.body {
        BodyLength::Exactly(length) if length > limits.body => {
            Err((respond::BODY_TOO_LARGE, RefuseReason::BodyTooLarge))
        }
        _ => Ok(()),
    }
}

/// Reads a request head; gives back its length, 0 if the client left without one.
async fn read_head(
    connection: &Connection<'_>,
    reading: &mut Incoming<'_>,
    buffer: &mut Buffer,
    head: &mut RequestHead,
) -> Result<u64, (Answer<'static>, RefuseReason)> {
    let timer = connection.timer;
    let deadline = timer.after(connection.listener.listener.timeouts.head);
    let shard = &connection.listener.meter.shards[connection.worker.index];
    let ListenerLimits { fields, target, .. } = connection.listener.listener.limits;
    let limits = HeadLimits {
        fields: fields as usize,
        target: target as usize,
        allow_connect: connection.listener.listener.connect == ConnectMethod::Forward,
    };
    loop {
        if !buffer.is_empty() {
            match parse_request(buffer.filled(), &limits, head) {
                Ok(Some(len)) => {
                    if len > connection.listener.listener.limits.head as usize {
                        return Err((respond::HEAD_TOO_LARGE, RefuseReason::HeadTooLarge));
                    }
                    buffer.consume(len);
                    shard.bytes_in.add(len as u64);
                    return Ok(len as u64);
                }
                Ok(None) => {
                    check_length(buffer.filled(), &connection.listener.listener.limits)?;
                    buffer.make_room();
                }
                Err(error) => return Err(respond::for_head(error)),
            }
        }
        match timer.until(deadline, buffer.read_from(&mut *reading)).await {
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) => return Ok(0),
            Err(_) if buffer.is_empty() => return Ok(0),
            Err(_) => return Err((respond::HEAD_TIMEOUT, RefuseReason::HeadTimeout)),
        }
    }
}

/// Whether what there is of a head may still become one.
fn check_length(
    head: &[u8],
    limits: &ListenerLimits,
) -> Result<(), (Answer<'static>, RefuseReason)> {
    if head.len() > limits.target as usize && memchr::memchr(b'\n', head).is_none() {
        Err((respond::TARGET_TOO_LONG, RefuseReason::TargetTooLong))
    } else if head.len() >= limits.head as usize {
        Err((respond::HEAD_TOO_LARGE, RefuseReason::HeadTooLarge))
    } else {
        Ok(())
    }
}

/// The last words on a connection whose client may still be sending: closing it at once would reset
/// it, and the client would lose the answer.
async fn farewell(
    timer: &Timer,
    shard: &ListenerShard,
    reading: &mut Incoming<'_>,
    writing: &mut Outgoing<'_>,
    buffer: &mut Buffer,
    last: &[u8],
) {
    let until = timer.after(FAREWELL);
    let say = async {
        writing.write_all(last).await?;
        shard.bytes_out.add(last.len() as u64);
        writing.shutdown().await
    };
    if !matches!(timer.until(until, say).await, Ok(Ok(()))) {
        return;
    }
    loop {
        buffer.consume(buffer.filled().len());
        match timer.until(until, buffer.read_from(&mut *reading)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return,
        }
    }
}

/// Writes one response.
struct H1Responder<'a, 's> {
    connection: &'a Connection<'a>,
    writing: &'a mut Outgoing<'s>,
    out: &'a mut Vec<u8>,
    version: Version,
    /// Whether the connection stays; turned off by what the response needs.
    keep_alive: bool,
    /// Nothing of the request is still to come.
    body_here: bool,
    /// Nothing but the end of the connection says where the response ends.
    ends_by_close: bool,
    /// Bytes that the client was sent.
    sent: Cell<u64>,
    /// How many of these are of heads.
    head_out: u64,
}

impl<'s> Responder for H1Responder<'_, 's> {
    type Sink<'x>
        = H1Sink<'x, 's>
    where
        Self: 'x;

    fn ends(&self) -> Option<Ends> {
        self.connection.guest.ends(|| self.writing.stream().local_addr())
    }

    fn interim(&mut self, head: &ResponseHead, facts: &Facts<'_>, pool: &Rewrite) {
        if self.version == Version::Http11 {
            write_response(head, BodyLength::None, true, facts, pool, self.out);
            self.send_now();
        }
    }

    fn start(
        &mut self,
        head: &ResponseHead,
        facts: &Facts<'_>,
        pool: &Rewrite,
        overdue_at: Ms,
    ) -> Self::Sink<'_> {
        let body = match (head.body, self.version) {
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => {
                (self.keep_alive, self.ends_by_close) = (false, true);
                BodyLength::UntilClose
            }
            (BodyLength::Chunked | BodyLength::UntilClose, _) => BodyLength::Chunked,
            (known, _) => known,
        };
        write_response(head, body, self.keep_alive, facts, pool, self.out);
        self.head_out = self.sent.get() + self.out.len() as u64;
        let Connection { worker, listener, .. } = self.connection;
        let patience = self.connection.download_patience(overdue_at);
        H1Sink::new(self.writing, self.out, body, patience, &worker.pipes).counted(Odometer {
            listener: &listener.meter.shards[worker.index].bytes_out,
            trip: &self.sent,
        })
    }

    async fn switch(
        &mut self,
        head: &ResponseHead,
        facts: &Facts<'_>,
        pool: &Rewrite,
    ) -> Result<(), BodyError> {
        write_response(head, BodyLength::None, true, facts, pool, self.out);
        self.head_out = self.sent.get() + self.out.len() as u64;
        self.send_all().await
    }

    async fn answer(&mut self, answer: Answer<'_>, facts: &Facts<'_>) {
        self.keep_alive &= self.body_here;
        let head = respond::write(answer, self.keep_alive, facts, self.out);
        self.head_out = self.sent.get() + head as u64;
        // Whatever came next would follow half an answer.
        self.keep_alive &= self.send_all().await.is_ok();
    }
}

impl H1Responder<'_, '_> {
    /// Sends what the client takes at once.
    fn send_now(&mut self) {
        if let Ok(sent) = self.writing.try_write(self.out) {
            self.count(sent);
            self.out.drain(..sent);
        }
    }

    /// Sends everything that is written.
    async fn send_all(&mut self) -> Result<(), BodyError> {
        let Connection { listener, timer, .. } = self.connection;
        let write = self.writing.write_all(self.out);
        timer
            .within(listener.listener.timeouts.body, write)
            .await
            .map_err(|_| GaveUp::Timeout)??;
        self.count(self.out.len());
        self.out.clear();
        Ok(())
    }

    fn count(&self, bytes: usize) {
        let Connection { worker, listener, .. } = self.connection;
        let listener = &listener.meter.shards[worker.index].bytes_out;
        Odometer { listener, trip: &self.sent }.add(bytes as u64);
    }
}
