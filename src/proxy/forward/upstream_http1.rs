//! Speaking HTTP/1.1 with an instance: one attempt at one request.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::iter;
use std::pin::{Pin, pin};
use std::time::Duration;

use tokio::io::AsyncWrite;

use crate::base::Ms;
use crate::model::UpstreamVersion;
use crate::net::half::{Incoming, Outgoing, halves};
use crate::observe::FailReason;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::attempt::{Attempt, Done, Failure, Has, UNASKED, Wait, is_sent};
use crate::proxy::forward::body::{BodyError, BodySource, PumpError, pump};
use crate::proxy::forward::body_http1::{H1Sink, H1Source};
use crate::proxy::forward::connection::{Ending, Far, Responder};
use crate::proxy::patience::{GaveUp, HasLeft};
use crate::proxy::scratch::AttemptScratch;
use crate::proxy::upstream::{self, Upstream};
use crate::proxy::wire::http1::{HeadError, Onward, parse_response, write_request};
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::wire::{RequestHead, ResponseHead, Version, websocket};

const HTTP1: Option<UpstreamVersion> = Some(UpstreamVersion::Http1);

/// What comes from the instance.
struct Reading<'a, 's> {
    half: &'a mut Incoming<'s>,
    buffer: &'a mut Buffer,
    /// The connection was kept from an earlier request.
    reused: bool,
    /// When the request was sent, or began to be.
    asked_at: Duration,
}

/// Bytes that the head of a response may have.
const RESPONSE_HEAD_MAX: usize = 64 * 1024;

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
    let mut wait = Wait::new(attempt, invites, &sent_at);
    let asked_at = worker.clock.elapsed();
    let mut reading = Reading { half: &mut half, buffer: &mut buffer, reused, asked_at };
    let (reusable, ending) = match body.whole() {
        Some(bytes) => {
            to_instance.extend_from_slice(bytes);
            send(&wait, reused, &mut writing, to_instance).await?;
            sent_at.set(worker.timers.now());
            let has_left = || body.has_left();
            response_head(&mut wait, &mut reading, response, client, &has_left).await?;
            if attempt.is_switch(response) {
                attempt.bind(response);
                let told = client.switch(response, attempt.facts, attempt.rewrite());
                Box::pin(told).await.map_err(|error| Failure::Cut(error.of_client(), Has::Part))?;
                let status = response.status;
                let far = Far::Connection(upstream.stream, buffer);
                return Ok(Done::Switched { status, far });
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
    let opened = upstream::open(&view.pool, view.tls.as_deref(), instance, HTTP1, ends);
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
            let mut head = pin!(response_head(wait, reading, response, client, &|| false));
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
    let whole = is_sent(uploaded)?;
    if !whole && !sink.has_begun() {
        return Err(unsent(reading.reused));
    }
    sent_at.set(worker.timers.now());
    let has_left = || body.has_left();
    response_head(wait, reading, response, client, &has_left).await?;
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
                    return Err(Failure::Cut(FailReason::ClientGone, Has::Part));
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
    let Reading { half, buffer, asked_at, .. } = reading;
    let took = attempt.worker().clock.elapsed().saturating_sub(*asked_at);
    attempt.count(response, response.status, took);
    attempt.bind(response);
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
        Err(error) => Err(attempt.broke_off(error, &mut sink)),
    }
}

async fn send(
    wait: &Wait<'_>,
    reused: bool,
    writing: &mut Outgoing<'_>,
    bytes: &[u8],
) -> Result<(), Failure> {
    let (limit, too_late) = wait.attempt.response_limit();
    let patience = wait.attempt.patience(wait.attempt.connection.timer, limit);
    let mut left = bytes;
    while !left.is_empty() {
        let write = poll_fn(|cx| Pin::new(&mut *writing).poll_write(cx, left));
        match patience.wait(write).await {
            Ok(Ok(n)) if n > 0 => left = &left[n..],
            Ok(_) if left.len() == bytes.len() => return Err(unsent(reused)),
            Ok(_) => return Err(broken(reused, wait)),
            Err(GaveUp::Overdue) => return Err(Failure::Overdue),
            Err(_) => return Err(too_late),
        }
    }
    Ok(())
}

/// Reads up to the end of the final response's head, or of one that switches protocols.
async fn response_head(
    wait: &mut Wait<'_>,
    reading: &mut Reading<'_, '_>,
    response: &mut ResponseHead,
    client: &mut impl Responder,
    has_left: HasLeft<'_>,
) -> Result<(), Failure> {
    let method = wait.attempt.head.method;
    loop {
        if !reading.buffer.is_empty() {
            match parse_response(reading.buffer.filled(), method, response) {
                Ok(Some(len)) => {
                    reading.buffer.consume(len);
                    let is_last = match response.status {
                        101 if may_switch(wait.attempt, response) => true,
                        101 => return Err(UNASKED),
                        _ => wait.is_final(response, client)?,
                    };
                    if is_last {
                        return Ok(());
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
        let read = pin!(reading.buffer.read_from(&mut *reading.half));
        match wait.watch(read, client, has_left).await? {
            Ok(n) if n > 0 => wait.hear(),
            _ => return Err(broken(reading.reused, wait)),
        }
    }
}

/// Whoever believed a 101 that nobody asked for would open a tunnel.
fn may_switch(attempt: &Attempt<'_>, response: &ResponseHead) -> bool {
    let head = attempt.head;
    let asked = head.upgrade.map(|upgrade| head.fields.get(upgrade));
    let agreed = response.upgrade.map(|upgrade| response.fields.get(upgrade));
    matches!((asked, agreed), (Some(asked), Some(agreed)) if asked.eq_ignore_ascii_case(agreed))
        && (head.version != Version::Http2 || accepts_key(head, response))
}

/// Whether the instance has read the key that we have made for a client of HTTP/2, which has none to hold
/// the answer against.
fn accepts_key(head: &RequestHead, response: &ResponseHead) -> bool {
    let key = head.fields.value("sec-websocket-key").unwrap_or_default();
    response.fields.value("sec-websocket-accept") == Some(&websocket::accept(key)[..])
}

/// The connection took not one byte, which is as good as none.
fn unsent(reused: bool) -> Failure {
    if reused { Failure::Unsent } else { Failure::Connect(ErrorKind::ConnectionReset.into()) }
}

fn broken(reused: bool, wait: &Wait<'_>) -> Failure {
    if reused && !wait.heard { Failure::Stale } else { Failure::Reset }
}
