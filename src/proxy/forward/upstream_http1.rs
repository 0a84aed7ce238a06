//! Speaking HTTP/1.1 with an instance: one attempt at one request.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::iter;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::base::Ms;
use crate::model::{Instance, Pool, Rewrite};
use crate::net::half::{Incoming, Outgoing, halves};
use crate::net::stream::Stream;
use crate::net::tls::Carries;
use crate::observe::FailReason;
use crate::proxy::balance;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodyError, BodySource, PumpError, pump};
use crate::proxy::forward::body_http1::{H1Sink, H1Source};
use crate::proxy::forward::connection::{Connection, Ending, Responder};
use crate::proxy::patience::{GaveUp, HasLeft, LOOK, Patience};
use crate::proxy::rewrite::Facts;
use crate::proxy::scratch::AttemptScratch;
use crate::proxy::snapshot::PoolView;
use crate::proxy::suspicion::{note_failed, peers_answer, suspect};
use crate::proxy::timer::{TICK, Timer};
use crate::proxy::upstream::{self, Upstream};
use crate::proxy::wire::http1::{HeadError, Onward, parse_response, write_request};
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::wire::{Method, RequestHead, ResponseHead};
use crate::proxy::worker::Worker;

/// A request on its way to an instance.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The client's connection.
    pub connection: &'a Connection<'a>,
    /// The pool.
    pub view: &'a PoolView,
    /// The instance, on which the caller holds a slot.
    pub instance: &'a Arc<Instance>,
    /// The request.
    pub head: &'a RequestHead,
    /// What is known of it.
    pub facts: &'a Facts<'a>,
    /// Do not use a kept connection.
    pub fresh: bool,
    /// It may be sent to another instance after this one may have heard of it.
    pub repeatable: bool,
    /// The client is not bound to an instance yet: where clients are, this response does it.
    pub binds: bool,
    /// When the exchange as a whole must be over.
    pub overdue_at: Ms,
}

/// What comes from the instance.
struct Reading<'a, 's> {
    half: &'a mut Incoming<'s>,
    buffer: &'a mut Buffer,
    /// When the request was sent, or began to be.
    asked_at: Duration,
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect(io::Error),
    /// A kept connection took no byte: it was closed.
    Unsent,
    /// A kept connection turned out to be closed; no byte of a response came.
    Stale,
    /// The connection broke before the response head was whole.
    Reset,
    /// The instance went down while the request waited for it.
    Condemned,
    /// No response head in the time of one try.
    TryTimeout,
    /// No response head in time.
    ResponseTimeout,
    /// What came is no valid response.
    BadResponse(HeadError),
    /// The exchange as a whole took too long, and no response has begun.
    Overdue,
    /// The client has left before a response began.
    Unwanted,
    /// The client's body broke off, or makes no sense.
    Client(BodyError),
    /// The response broke off: part of it is with the client.
    Cut(FailReason),
}

impl Failure {
    /// Nobody listens there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == ErrorKind::ConnectionRefused)
    }

    /// How it is counted, and whether part of a response is with the client.
    pub fn reason(&self) -> (FailReason, bool) {
        match self {
            Self::Connect(error) => (upstream::reason(error), false),
            Self::Unsent | Self::Stale | Self::Reset | Self::Condemned => {
                (FailReason::Reset, false)
            }
            Self::TryTimeout | Self::ResponseTimeout => (FailReason::ResponseTimeout, false),
            Self::BadResponse(_) => (FailReason::BadResponse, false),
            Self::Overdue => (FailReason::TotalTimeout, false),
            Self::Unwanted => (FailReason::ClientGone, false),
            Self::Client(error) => (error.of_client(), false),
            Self::Cut(reason) => (*reason, true),
        }
    }
}

/// Silence that raises suspicion while peers answer.
const SILENCE: Duration = Duration::from_secs(1);

/// How long an instance may leave a client without the `100 Continue` that it waits for. Clients need not
/// wait for ever (RFC 9110 §10.1.1), but some do.
const INVITED_AFTER: Duration = Duration::from_secs(1);

/// Interim responses that may come before the final one.
const INTERIM_MAX: usize = 16;

/// Bytes that the head of a response may have.
const RESPONSE_HEAD_MAX: usize = 64 * 1024;

/// How an attempt ended well.
#[derive(Debug)]
pub enum Done {
    /// The response is with the client.
    Answered {
        /// Its status.
        status: u16,
        /// How the exchange ended for the client's connection.
        ending: Ending,
    },
    /// Both sides have switched to another protocol, and the client was told so.
    Switched {
        /// The status that said so.
        status: u16,
        /// The connection to the instance.
        stream: Stream,
        /// What has come over it since.
        buffer: Buffer,
    },
}

impl Attempt<'_> {
    fn worker(&self) -> &Worker {
        self.connection.worker
    }

    fn rewrite(&self) -> &Rewrite {
        &self.view.pool.upstream.rewrite
    }

    /// For waits of at most `pause` each for the instance.
    fn patience<'a>(&self, timer: &'a Timer, pause: Duration) -> Patience<'a> {
        Patience::new(timer, pause, self.overdue_at)
    }

    /// How long the response head may take, and why it is waited for no longer.
    fn response_limit(&self) -> (Duration, Failure) {
        let Pool { timeouts, retry, .. } = &*self.view.pool;
        match retry.per_try {
            Some(limit) if self.repeatable && limit < timeouts.response => {
                (limit, Failure::TryTimeout)
            }
            _ => (timeouts.response, Failure::ResponseTimeout),
        }
    }

    /// Binds the client to the instance, if it is to be.
    fn bind(&self, response: &mut ResponseHead) {
        let PoolView { pool, picker, .. } = self.view;
        if self.binds
            && let Some(sticky) = &pool.affinity.sticky
            && let Some(token) = picker.token(self.instance)
        {
            balance::bind(response, sticky, token, self.facts.scheme == "https");
        }
    }

    /// Whether this answer to the request ends HTTP on the connection (RFC 9110 §7.8, §9.3.6).
    fn is_switch(&self, response: &ResponseHead) -> bool {
        response.status == 101
            || self.head.method == Method::Connect && (200..300).contains(&response.status)
    }
}

/// Sends the request and brings the response to the client.
pub async fn attempt(
    attempt: &Attempt<'_>,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut AttemptScratch,
) -> Result<Done, Failure> {
    let worker = attempt.worker();
    // What is rare is boxed, here and below: the future of a request is as large as its largest branch.
    let mut upstream = match kept(attempt) {
        Some(kept) => kept,
        None => Box::pin(connect(attempt, &|| body.has_left(), || client.ends())).await?,
    };
    let reused = upstream.is_reused();
    let (mut half, mut writing) = halves(&mut upstream.stream);
    let mut buffer = worker.buffers.borrow();
    let AttemptScratch { response, to_instance, account } = scratch;
    account.connected(reused);
    to_instance.clear();
    upstream::introduce(&attempt.view.pool, || client.ends(), to_instance);
    let invites = attempt.head.expects_continue && body.whole().is_none();
    let address = attempt.instance.address;
    let onward = Onward { pool: attempt.rewrite(), address, expect: invites };
    write_request(attempt.facts, &onward, to_instance);
    let sent_at = Cell::new(Ms::NEVER);
    let began = worker.timers.now();
    let mut wait = Wait { attempt, reused, heard: false, began, invites, sent_at: &sent_at };
    let asked_at = worker.clock.elapsed();
    let mut reading = Reading { half: &mut half, buffer: &mut buffer, asked_at };
    let (reusable, ending) = match body.whole() {
        Some(bytes) => {
            to_instance.extend_from_slice(bytes);
            wait.send(&mut writing, to_instance).await?;
            sent_at.set(worker.timers.now());
            let has_left = || body.has_left();
            wait.response_head(&mut reading, response, client, &has_left).await?;
            if attempt.is_switch(response) {
                attempt.bind(response);
                let told = client.switch(response, attempt.facts, attempt.rewrite());
                Box::pin(told).await.map_err(|error| Failure::Cut(error.of_client()))?;
                let status = response.status;
                return Ok(Done::Switched { status, stream: upstream.stream, buffer });
            }
            let reusable = relay(attempt, &mut reading, response, client, &has_left).await?;
            body.discard_whole();
            (reusable, Ending::Whole)
        }
        None => {
            let both = stream_both(&mut wait, &mut reading, &mut writing, body, client, scratch);
            Box::pin(both).await?
        }
    };
    if reusable && matches!(ending, Ending::Whole) {
        drop(buffer);
        let (pool, now) = (&attempt.view.pool, worker.timers.now());
        worker.upstreams.keep(pool, attempt.instance, upstream, now);
    }
    Ok(Done::Answered { status: scratch.response.status, ending })
}

/// A connection from an earlier request. The instance may be closing it just now; a request that cannot
/// be repeated looks once more, at the price of a system call.
fn kept(attempt: &Attempt<'_>) -> Option<Upstream> {
    if attempt.fresh {
        return None;
    }
    let worker = attempt.worker();
    let (pool, now) = (&attempt.view.pool, worker.timers.now());
    let mut kept = iter::from_fn(|| worker.upstreams.take(pool, attempt.instance, now));
    kept.find(|kept| attempt.repeatable || kept.stream.is_open())
}

async fn connect(
    attempt: &Attempt<'_>,
    has_left: HasLeft<'_>,
    ends: impl FnOnce() -> Option<Ends>,
) -> Result<Upstream, Failure> {
    let Attempt { connection, view, instance, .. } = attempt;
    let worker = connection.worker;
    let now = worker.timers.now();
    let began = worker.clock.elapsed();
    let limit = view.pool.timeouts.connect;
    let patience = attempt.patience(connection.timer, limit).unless(has_left);
    let opened = upstream::open(view, instance, Carries::Requests, ends);
    let stream = match patience.wait(opened).await {
        Ok(connected) => connected.map_err(Failure::Connect)?,
        Err(GaveUp::Overdue) => return Err(Failure::Overdue),
        Err(GaveUp::Unwanted) => return Err(Failure::Unwanted),
        Err(GaveUp::Timeout | GaveUp::TooSlow) => {
            return Err(Failure::Connect(ErrorKind::TimedOut.into()));
        }
    };
    let shard = &view.shared.meter.shards[worker.index];
    shard.connect.observe(worker.clock.elapsed().saturating_sub(began));
    Ok(Upstream::new(stream, now))
}

/// Sends a body that is not all here while it listens for the response, which may come early.
async fn stream_both(
    wait: &mut Wait<'_>,
    reading: &mut Reading<'_, '_>,
    writing: &mut Outgoing<'_>,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut AttemptScratch,
) -> Result<(bool, Ending), Failure> {
    let (attempt, sent_at) = (wait.attempt, wait.sent_at);
    let worker = attempt.worker();
    let AttemptScratch { response, to_instance, .. } = scratch;
    let limit = attempt.view.pool.timeouts.response;
    let patience = attempt.patience(attempt.connection.body_timer, limit);
    let mut sink = H1Sink::new(writing, to_instance, attempt.head.body, patience, &worker.pipes);
    let uploaded = {
        let mut upload = pin!(pump(body, &mut sink));
        let uploaded = {
            // An upload that breaks says that the client has left.
            let mut head = pin!(wait.response_head(reading, response, client, &|| false));
            tokio::select! {
                biased;
                done = &mut upload => Some(done),
                head = &mut head => {
                    head?;
                    None
                }
            }
        };
        match uploaded {
            Some(uploaded) => uploaded,
            None => return answer_early(attempt, reading, response, client, upload).await,
        }
    };
    let whole = match uploaded {
        Ok(()) => true,
        Err(PumpError::Source(error)) => return Err(Failure::Client(error)),
        Err(PumpError::Sink(BodyError::GaveUp(GaveUp::Overdue))) => return Err(Failure::Overdue),
        Err(PumpError::Sink(BodyError::GaveUp(_))) => return Err(Failure::ResponseTimeout),
        Err(PumpError::Sink(_)) if !sink.has_begun() => return Err(wait.unsent()),
        // The instance reads no further: it has answered, or is about to, or is gone.
        Err(PumpError::Sink(_)) => false,
    };
    sent_at.set(worker.timers.now());
    let has_left = || body.has_left();
    wait.response_head(reading, response, client, &has_left).await?;
    let reusable = relay(attempt, reading, response, client, &has_left).await?;
    Ok(if whole { (reusable, Ending::Whole) } else { (false, Ending::Early) })
}

/// Brings a response to the client that has begun before the request was sent whole.
async fn answer_early(
    attempt: &Attempt<'_>,
    reading: &mut Reading<'_, '_>,
    response: &mut ResponseHead,
    client: &mut impl Responder,
    mut upload: Pin<&mut impl Future<Output = Result<(), PumpError>>>,
) -> Result<(bool, Ending), Failure> {
    let mut uploaded = None;
    let mut relay = pin!(relay(attempt, reading, response, client, &|| false));
    loop {
        tokio::select! {
            biased;
            done = &mut relay => {
                let whole = uploaded == Some(true);
                let ending = if whole { Ending::Whole } else { Ending::Early };
                return done.map(|reusable| (reusable && whole, ending));
            }
            done = &mut upload, if uploaded.is_none() => match done {
                Err(PumpError::Source(BodyError::Cut | BodyError::Io(_))) => {
                    return Err(Failure::Cut(FailReason::ClientGone));
                }
                // Whatever else becomes of the upload now, the response is what counts.
                done => uploaded = Some(done.is_ok()),
            },
        }
    }
}

/// Brings the response to the client; whether the instance's connection is of further use.
async fn relay(
    attempt: &Attempt<'_>,
    reading: &mut Reading<'_, '_>,
    response: &mut ResponseHead,
    client: &mut impl Responder,
    has_left: HasLeft<'_>,
) -> Result<bool, Failure> {
    let Reading { half, buffer, asked_at } = reading;
    let worker = attempt.worker();
    let took = worker.clock.elapsed().saturating_sub(*asked_at);
    attempt.instance.vitals.count_response(response.status, took);
    attempt.view.learn(attempt.instance, worker.timers.now(), || balance::cost_of(response, took));
    attempt.bind(response);
    if response.status >= 500 {
        note_failed(worker, &attempt.view.pool, attempt.instance);
    }
    let limit = attempt.view.pool.timeouts.body;
    let patience = attempt.patience(attempt.connection.timer, limit).unless(has_left);
    let mut source = H1Source::new(half, buffer, response.body, &response.fields, patience);
    let mut sink = client.start(response, attempt.facts, attempt.rewrite(), attempt.overdue_at);
    match pump(&mut source, &mut sink).await {
        Ok(()) => {
            let done = source.is_done();
            source.end();
            // Bytes behind a response belong to no request of ours: never use such a connection.
            Ok(done && response.keep_alive && buffer.is_empty())
        }
        Err(PumpError::Source(error)) => Err(Failure::Cut(error.of_instance())),
        Err(PumpError::Sink(error)) => Err(Failure::Cut(error.of_client())),
    }
}

/// Waiting for an instance.
struct Wait<'a> {
    attempt: &'a Attempt<'a>,
    reused: bool,
    /// A byte of the response has come.
    heard: bool,
    /// When the attempt began.
    began: Ms,
    /// The client waits for `100 Continue` before it sends its body.
    invites: bool,
    /// When there was nothing more to send; before that nobody waits for the instance.
    sent_at: &'a Cell<Ms>,
}

impl Wait<'_> {
    async fn send(&mut self, writing: &mut Outgoing<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let (limit, too_late) = self.attempt.response_limit();
        let patience = self.attempt.patience(self.attempt.connection.timer, limit);
        let mut left = bytes;
        while !left.is_empty() {
            let write = poll_fn(|cx| Pin::new(&mut *writing).poll_write(cx, left));
            match patience.wait(write).await {
                Ok(Ok(n)) if n > 0 => left = &left[n..],
                Ok(_) if left.len() == bytes.len() => return Err(self.unsent()),
                Ok(_) => return Err(self.broken()),
                Err(GaveUp::Overdue) => return Err(Failure::Overdue),
                Err(_) => return Err(too_late),
            }
        }
        Ok(())
    }

    /// Reads up to the end of the final response's head, or of one that switches protocols.
    async fn response_head(
        &mut self,
        reading: &mut Reading<'_, '_>,
        response: &mut ResponseHead,
        client: &mut impl Responder,
        has_left: HasLeft<'_>,
    ) -> Result<(), Failure> {
        let method = self.attempt.head.method;
        let mut interim = 0;
        loop {
            if !reading.buffer.is_empty() {
                match parse_response(reading.buffer.filled(), method, response) {
                    Ok(Some(len)) => {
                        reading.buffer.consume(len);
                        match response.status {
                            101 if self.may_switch(response) => return Ok(()),
                            101 => return Err(UNASKED),
                            100 | 102..200 if interim == INTERIM_MAX => return Err(UNASKED),
                            // A client that does not wait for it has no use for it.
                            100 if !self.invites => interim += 1,
                            100 | 102..200 => {
                                interim += 1;
                                self.invites &= response.status != 100;
                                client.interim(
                                    response,
                                    self.attempt.facts,
                                    self.attempt.rewrite(),
                                );
                            }
                            _ => return Ok(()),
                        }
                        continue;
                    }
                    Ok(None) if reading.buffer.filled().len() >= RESPONSE_HEAD_MAX => {
                        return Err(Failure::BadResponse(HeadError::Malformed("head too large")));
                    }
                    Ok(None) => reading.buffer.make_room(),
                    Err(error) => return Err(Failure::BadResponse(error)),
                }
            }
            self.some_bytes(reading, client, has_left).await?;
        }
    }

    /// Invites a client that has waited long enough for an instance that may not know how to.
    fn invite_late(&mut self, client: &mut impl Responder) {
        let Attempt { connection, facts, .. } = self.attempt;
        if self.invites && connection.worker.timers.now() >= self.began + INVITED_AFTER {
            self.invites = false;
            let head = ResponseHead { status: 100, ..ResponseHead::default() };
            client.interim(&head, facts, self.attempt.rewrite());
        }
    }

    /// Whoever believed a 101 that nobody asked for would open a tunnel.
    fn may_switch(&self, response: &ResponseHead) -> bool {
        let head = self.attempt.head;
        let asked = head.upgrade.map(|upgrade| head.fields.get(upgrade));
        let agreed = response.upgrade.map(|upgrade| response.fields.get(upgrade));
        matches!((asked, agreed), (Some(asked), Some(agreed)) if asked.eq_ignore_ascii_case(agreed))
    }

    /// Reads once, and watches meanwhile. After a second of silence the instance may fall under
    /// suspicion; when it is down nobody waits for it who can go elsewhere; and when the client has
    /// left nobody waits at all.
    async fn some_bytes(
        &mut self,
        reading: &mut Reading<'_, '_>,
        client: &mut impl Responder,
        has_left: HasLeft<'_>,
    ) -> Result<(), Failure> {
        let Attempt { connection, view, instance, overdue_at, .. } = self.attempt;
        let (worker, timer) = (connection.worker, connection.timer);
        let (limit, too_late) = self.attempt.response_limit();
        loop {
            let sent_at = self.sent_at.get();
            let deadline = (sent_at + limit + TICK).min(*overdue_at);
            let look = timer.after(LOOK).min(deadline);
            match timer.until(look, reading.buffer.read_from(&mut *reading.half)).await {
                Ok(Ok(n)) if n > 0 => {
                    self.heard = true;
                    instance.vitals.note_byte(worker.timers.now());
                    return Ok(());
                }
                Ok(_) => return Err(self.broken()),
                Err(_) if worker.timers.now() >= *overdue_at => return Err(Failure::Overdue),
                Err(_) if worker.timers.now() >= deadline => return Err(too_late),
                Err(_) if has_left() => return Err(Failure::Unwanted),
                Err(_) => self.invite_late(client),
            }
            if instance.vitals.is_down() && self.attempt.repeatable && !self.heard {
                return Err(Failure::Condemned);
            }
            let silent = instance.vitals.last_byte() <= sent_at
                && worker.timers.now() >= sent_at + SILENCE + TICK;
            if silent && peers_answer(worker, view, instance) {
                suspect(worker, instance);
            }
        }
    }

    /// The connection took not one byte, which is as good as none.
    fn unsent(&self) -> Failure {
        if self.reused {
            Failure::Unsent
        } else {
            Failure::Connect(ErrorKind::ConnectionReset.into())
        }
    }

    fn broken(&self) -> Failure {
        if self.reused && !self.heard { Failure::Stale } else { Failure::Reset }
    }
}

const UNASKED: Failure = Failure::BadResponse(HeadError::Malformed("unexpected interim response"));
