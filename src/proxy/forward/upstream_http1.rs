//! Speaking HTTP/1.1 with an instance: one attempt at one request.

use std::cell::Cell;
use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::base::Ms;
use crate::model::Instance;
use crate::observe::FailReason;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodyError, BodySource, PumpError, pump};
use crate::proxy::forward::body_http1::{H1Sink, H1Source};
use crate::proxy::forward::connection::{Connection, Ending, Responder, Scratch};
use crate::proxy::snapshot::PoolView;
use crate::proxy::suspicion::{peers_answer, suspect};
use crate::proxy::timer::TICK;
use crate::proxy::upstream::{self, Upstream};
use crate::proxy::wire::http1::{HeadError, parse_response, write_request};
use crate::proxy::wire::{RequestHead, ResponseHead};

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
    /// Do not use a kept connection.
    pub fresh: bool,
}

/// The connection to the instance.
struct Link<'a, 's> {
    reading: &'a mut ReadHalf<'s>,
    writing: &'a mut WriteHalf<'s>,
    buffer: &'a mut Buffer,
}

/// Why an attempt failed.
#[derive(Debug)]
pub enum Failure {
    /// No connection: nothing was sent.
    Connect(std::io::Error),
    /// A kept connection turned out to be closed; no byte of a response came.
    Stale,
    /// The connection broke before the response head was whole.
    Reset,
    /// The instance went down while the request waited for it.
    Condemned,
    /// No response head in time.
    ResponseTimeout,
    /// What came is no valid response.
    BadResponse(HeadError),
    /// The response broke off in its body: part of it is with the client.
    Cut,
    /// The client's body broke off, or makes no sense.
    Client(BodyError),
    /// The client stopped reading the response.
    ClientGone,
}

impl Failure {
    /// Nobody listens there.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Connect(error) if error.kind() == ErrorKind::ConnectionRefused)
    }

    /// How it is counted, and whether part of a response is with the client.
    pub fn reason(&self) -> (FailReason, bool) {
        match self {
            Self::Connect(_) => (FailReason::Connect, false),
            Self::Stale | Self::Reset | Self::Condemned => (FailReason::Reset, false),
            Self::ResponseTimeout => (FailReason::ResponseTimeout, false),
            Self::BadResponse(_) => (FailReason::BadResponse, false),
            Self::Cut => (FailReason::CutResponse, true),
            Self::Client(BodyError::Timeout) => (FailReason::ClientTimeout, false),
            Self::Client(BodyError::Coding(_)) => (FailReason::BadBody, false),
            Self::Client(_) => (FailReason::ClientGone, false),
            Self::ClientGone => (FailReason::ClientGone, true),
        }
    }
}

/// Silence that raises suspicion while peers answer.
const SILENCE: Duration = Duration::from_secs(1);

/// How often a waiting exchange looks whether its instance is still worth waiting for.
const LOOK: Duration = Duration::from_millis(250);

/// Interim responses that are skipped before the final one.
const INTERIM_MAX: usize = 16;

/// Sends the request and brings the response to the client; its status and how it ended.
pub async fn attempt(
    attempt: &Attempt<'_>,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut Scratch,
) -> Result<(u16, Ending), Failure> {
    let worker = attempt.connection.worker;
    let mut upstream = connect(attempt).await?;
    let reused = upstream.is_reused();
    let (mut reading, mut writing) = upstream.stream.split();
    let mut buffer = worker.buffers.borrow();
    let Scratch { response, to_instance } = scratch;
    to_instance.clear();
    upstream::introduce(&attempt.view.pool, || client.ends(), to_instance);
    write_request(attempt.head, attempt.connection.forwarded, to_instance);
    let sent_at = Cell::new(Ms::NEVER);
    let mut wait = Wait { attempt, reused, heard: false, repeatable: false, sent_at: &sent_at };
    let mut link = Link { reading: &mut reading, writing: &mut writing, buffer: &mut buffer };
    let sent = match body.whole() {
        Some(bytes) => {
            to_instance.extend_from_slice(bytes);
            wait.repeatable = attempt.head.method.is_idempotent();
            wait.send(link.writing, to_instance).await?;
            sent_at.set(worker.timers.now());
            wait.response_head(link.reading, link.buffer, response).await?;
            body.discard_whole();
            relay(attempt, link.reading, link.buffer, response, client)
                .await
                .map(|reusable| (reusable, Ending::Whole))
        }
        None => stream_both(&mut wait, &mut link, body, client, scratch).await,
    };
    let (reusable, ending) = sent?;
    if reusable && ending == Ending::Whole {
        drop(buffer);
        let (pool, now) = (&attempt.view.pool, worker.timers.now());
        worker.upstreams.keep(pool, attempt.instance, upstream, now);
    }
    Ok((scratch.response.status, ending))
}

async fn connect(attempt: &Attempt<'_>) -> Result<Upstream, Failure> {
    let Attempt { connection, view, instance, .. } = attempt;
    let worker = connection.worker;
    let now = worker.timers.now();
    if !attempt.fresh
        && let Some(kept) = worker.upstreams.take(&view.pool, instance, now)
    {
        return Ok(kept);
    }
    let began = worker.clock.elapsed();
    let stream = upstream::connect(&view.pool, instance, connection.timer)
        .await
        .map_err(Failure::Connect)?;
    let shard = &view.shared.meter.shards[worker.index];
    shard.connect.observe(worker.clock.elapsed().saturating_sub(began));
    Ok(Upstream::new(stream, now))
}

/// Sends a body that is not all here while it listens for the response, which may come early.
async fn stream_both(
    wait: &mut Wait<'_>,
    link: &mut Link<'_, '_>,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut Scratch,
) -> Result<(bool, Ending), Failure> {
    let (attempt, sent_at) = (wait.attempt, wait.sent_at);
    let worker = attempt.connection.worker;
    let pause = attempt.connection.listener.listener.timeouts.body;
    let Scratch { response, to_instance } = scratch;
    let Link { reading, writing, buffer } = link;
    let timer = attempt.connection.body_timer;
    let mut sink =
        H1Sink::new(writing, to_instance, attempt.head.body, timer, pause, &worker.pipes);
    let mut upload = pin!(pump(body, &mut sink));
    // Whether all of it was sent, once that is known.
    let mut uploaded = None;
    {
        let mut head = pin!(wait.response_head(reading, buffer, response));
        loop {
            tokio::select! {
                biased;
                done = &mut upload, if uploaded.is_none() => {
                    uploaded = match done {
                        Ok(()) => Some(true),
                        // The instance reads no further: it has answered, or is about to, or is
                        // gone.
                        Err(PumpError::Sink(_)) => Some(false),
                        Err(PumpError::Source(error)) => return Err(Failure::Client(error)),
                    };
                    sent_at.set(worker.timers.now());
                }
                head = &mut head => {
                    head?;
                    break;
                }
            }
        }
    }
    let mut relay = pin!(relay(attempt, reading, buffer, response, client));
    loop {
        tokio::select! {
            biased;
            done = &mut relay => {
                let whole = uploaded == Some(true);
                let ending = if whole { Ending::Whole } else { Ending::Early };
                return done.map(|reusable| (reusable && whole, ending));
            }
            // Whatever becomes of the upload now, the response is what counts.
            done = &mut upload, if uploaded.is_none() => uploaded = Some(done.is_ok()),
        }
    }
}

/// Brings the response to the client; whether the instance's connection is of further use.
async fn relay(
    attempt: &Attempt<'_>,
    reading: &mut ReadHalf<'_>,
    buffer: &mut Buffer,
    response: &ResponseHead,
    client: &mut impl Responder,
) -> Result<bool, Failure> {
    attempt.instance.vitals.count_response(response.status);
    let timer = attempt.connection.timer;
    let pause = attempt.view.pool.timeouts.response;
    let mut source = H1Source::new(reading, buffer, response.body, timer, pause);
    let mut sink = client.start(response);
    match pump(&mut source, &mut sink).await {
        Ok(()) => {
            let done = source.is_done();
            source.end();
            // Bytes behind a response belong to no request of ours: never use such a connection.
            Ok(done && response.keep_alive && buffer.is_empty())
        }
        Err(PumpError::Source(_)) => Err(Failure::Cut),
        Err(PumpError::Sink(_)) => Err(Failure::ClientGone),
    }
}

/// Waiting for an instance.
struct Wait<'a> {
    attempt: &'a Attempt<'a>,
    reused: bool,
    /// A byte of the response has come.
    heard: bool,
    /// The request may be sent to another instance when this one goes down.
    repeatable: bool,
    /// When there was nothing more to send; before that nobody waits for the instance.
    sent_at: &'a Cell<Ms>,
}

impl Wait<'_> {
    async fn send(&mut self, writing: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Failure> {
        let limit = self.attempt.view.pool.timeouts.response;
        match self.attempt.connection.timer.within(limit, writing.write_all(bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.broken()),
            Err(_) => Err(Failure::ResponseTimeout),
        }
    }

    /// Reads up to the end of the final response's head.
    async fn response_head(
        &mut self,
        reading: &mut ReadHalf<'_>,
        buffer: &mut Buffer,
        response: &mut ResponseHead,
    ) -> Result<(), Failure> {
        let method = self.attempt.head.method;
        let mut interim = 0;
        loop {
            if !buffer.is_empty() {
                match parse_response(buffer.filled(), method, response) {
                    Ok(Some(len)) => {
                        buffer.consume(len);
                        match response.status {
                            // Nobody asked to switch: whoever believes it would open a tunnel.
                            101 => return Err(BAD_INTERIM),
                            100..200 if interim == INTERIM_MAX => return Err(BAD_INTERIM),
                            100..200 => interim += 1,
                            _ => return Ok(()),
                        }
                        continue;
                    }
                    Ok(None) if buffer.is_full() => {
                        return Err(Failure::BadResponse(HeadError::Malformed("head too large")));
                    }
                    Ok(None) => {}
                    Err(error) => return Err(Failure::BadResponse(error)),
                }
            }
            self.some_bytes(reading, buffer).await?;
        }
    }

    /// Reads once, and watches the instance meanwhile: after a second of silence it may fall under
    /// suspicion, and when it is down nobody waits for it who can go elsewhere.
    async fn some_bytes(
        &mut self,
        reading: &mut ReadHalf<'_>,
        buffer: &mut Buffer,
    ) -> Result<(), Failure> {
        let Attempt { connection, view, instance, .. } = self.attempt;
        let (worker, timer) = (connection.worker, connection.timer);
        loop {
            let sent_at = self.sent_at.get();
            let deadline = sent_at + view.pool.timeouts.response + TICK;
            match timer
                .until(timer.after(LOOK).min(deadline), buffer.read_from(&mut *reading))
                .await
            {
                Ok(Ok(n)) if n > 0 => {
                    self.heard = true;
                    instance.vitals.note_byte(worker.timers.now());
                    return Ok(());
                }
                Ok(_) => return Err(self.broken()),
                Err(_) if worker.timers.now() >= deadline => return Err(Failure::ResponseTimeout),
                Err(_) => {}
            }
            if instance.vitals.is_down() && self.repeatable && !self.heard {
                return Err(Failure::Condemned);
            }
            let silent = instance.vitals.last_byte() <= sent_at
                && worker.timers.now() >= sent_at + SILENCE + TICK;
            if silent && peers_answer(worker, view, instance) {
                suspect(worker, instance);
            }
        }
    }

    fn broken(&self) -> Failure {
        if self.reused && !self.heard { Failure::Stale } else { Failure::Reset }
    }
}

const BAD_INTERIM: Failure =
    Failure::BadResponse(HeadError::Malformed("unexpected interim response"));
