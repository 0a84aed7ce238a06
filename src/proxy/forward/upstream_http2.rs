//! Speaking HTTP/2 with an instance: one attempt at one request, on a stream of a shared connection.
//!
//! Both directions go on for as long as they have something to say: a response that begins early does
//! not end the upload (that is what makes a gRPC call of both streams), and nor does one that ends early,
//! unless the instance resets the stream to say so (RFC 9113 §8.1). What breaks is as little as there is
//! to break: whoever leaves, or is left, resets its own stream.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::response;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Uri};

use crate::base::Ms;
use crate::observe::FailReason;
use crate::proxy::balance;
use crate::proxy::forward::attempt::{Attempt, Done, Failure, Has, UNASKED, Wait, is_sent};
use crate::proxy::forward::body::{BodyError, BodySource, PumpError, pump};
use crate::proxy::forward::body_http2::{H2Sink, H2Source};
use crate::proxy::forward::connection::{Ending, Far, FarStream, Responder};
use crate::proxy::patience::{GaveUp, HasLeft};
use crate::proxy::scratch::AttemptScratch;
use crate::proxy::upstream::http2::{Http2Upstreams, Seat};
use crate::proxy::wire::head::Span;
use crate::proxy::wire::http1::{
    HeadError, Onward, write_authority, write_field, write_request_fields,
};
use crate::proxy::wire::http2::{WEBSOCKET, field_map, make_upgrade, read_response};
use crate::proxy::wire::{BodyLength, Known, Method, RequestHead, ResponseHead};

/// What comes on a stream of the instance.
struct Coming {
    // Dropped in this order: the place is free when the stream is gone.
    response: ResponseFuture,
    seat: Seat,
    /// When the request was sent, or began to be.
    asked_at: Duration,
}

/// What the stream is to become.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Switch {
    None,
    /// A way to whom the instance connects to (RFC 9113 §8.5).
    Connect,
    /// A WebSocket (RFC 8441).
    WebSocket,
}

impl Switch {
    /// What a request asks for. Other protocols than this one have no way over HTTP/2; a server that
    /// speaks none of what is offered answers as if nothing was (RFC 9110 §7.8).
    fn of(head: &RequestHead) -> Self {
        let is_websocket =
            |name: Span| head.fields.get(name).eq_ignore_ascii_case(WEBSOCKET.as_bytes());
        match head.upgrade {
            _ if head.method == Method::Connect => Self::Connect,
            Some(name) if is_websocket(name) => Self::WebSocket,
            _ => Self::None,
        }
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
    let mut seat = match kept(attempt).await {
        Some(kept) => kept,
        None => granted(attempt, &|| body.has_left()).await?,
    };
    let AttemptScratch { response, to_instance, account } = scratch;
    account.connected(seat.is_reused());
    let invites = attempt.head.expects_continue && body.whole().is_none();
    let switch = Switch::of(attempt.head);
    if switch == Switch::WebSocket && !seat.may_switch() {
        return Err(Failure::Unsendable);
    }
    let request = request(attempt, switch, invites, to_instance)?;
    let whole = body.whole().map(Bytes::copy_from_slice);
    let ends = switch == Switch::None && whole.as_ref().is_some_and(Bytes::is_empty);
    let asked_at = worker.clock.elapsed();
    let (response_future, opened) = seat.open(request, ends).map_err(|error| unopened(&error))?;
    let mut coming = Coming { response: response_future, seat, asked_at };
    // Behind that, so that it is dropped before the place is free.
    let mut sending = opened;
    let sent_at = Cell::new(Ms::NEVER);
    let mut wait = Wait::new(attempt, invites, &sent_at);
    let ending = match whole {
        Some(whole) => {
            if !whole.is_empty() {
                // No larger than a buffer, so what the instance does not take at once may lie here.
                let sent = sending.send_data(whole, true);
                sent.map_err(|error| failure(&error, &coming.seat))?;
            }
            sent_at.set(worker.timers.now());
            let has_left = || body.has_left();
            let stream = response_head(&mut wait, &mut coming, response, client, &has_left).await?;
            if switch != Switch::None && (200..300).contains(&response.status) {
                if switch == Switch::WebSocket {
                    let key = attempt.head.fields.value("sec-websocket-key").unwrap_or_default();
                    make_upgrade(key, response);
                }
                attempt.bind(response);
                let told = client.switch(response, attempt.facts, attempt.rewrite()).await;
                told.map_err(|error| Failure::Cut(error.of_client(), Has::Part))?;
                let far = FarStream { recv: stream, send: sending, seat: coming.seat };
                let status = response.status;
                return Ok(Done::Switched { status, far: Far::Stream(Box::new(far)) });
            }
            relay(attempt, stream, asked_at, response, client, &has_left).await?;
            body.discard_whole();
            Ending::Whole
        }
        None => stream_both(&mut wait, &mut coming, sending, body, client, response).await?,
    };
    Ok(Done::Answered { status: scratch.response.status, ending })
}

/// A place on a connection that stands. The instance may be closing it just now; where nobody else uses
/// it, a request that cannot be repeated looks once more, at the price of a turn of the runtime.
async fn kept(attempt: &Attempt<'_>) -> Option<Seat> {
    let upstreams = &attempt.worker().http2;
    loop {
        let seat = upstreams.take(attempt.view, attempt.instance)?;
        if attempt.repeatable || !seat.is_alone() || !seat.is_reused() {
            return Some(seat);
        }
        tokio::task::yield_now().await;
        if !seat.has_ended() {
            return Some(seat);
        }
    }
}

/// Waits for a place, on a connection that is made if need be.
async fn granted(attempt: &Attempt<'_>, has_left: HasLeft<'_>) -> Result<Seat, Failure> {
    let Attempt { connection, view, instance, .. } = attempt;
    let upstreams = &connection.worker.http2;
    let limit = view.pool.timeouts.connect;
    let patience = attempt.patience(connection.timer, limit).unless(has_left);
    let granted = async {
        if Http2Upstreams::shares(&view.pool) {
            let place = upstreams.wait(view, instance).await;
            place.unwrap_or_else(|_| Err(ErrorKind::ConnectionReset.into()))
        } else {
            upstreams.alone(view, instance).await
        }
    };
    match patience.wait(granted).await {
        Ok(granted) => granted.map_err(Failure::Connect),
        Err(GaveUp::Overdue) => Err(Failure::Overdue),
        Err(GaveUp::Unwanted) => Err(Failure::Unwanted),
        Err(GaveUp::Timeout | GaveUp::TooSlow) => Err(Failure::Connect(ErrorKind::TimedOut.into())),
    }
}

/// The head that goes to the instance.
fn request(
    attempt: &Attempt<'_>,
    switch: Switch,
    invites: bool,
    lines: &mut Vec<u8>,
) -> Result<Request<()>, Failure> {
    let Attempt { connection, head, facts, .. } = attempt;
    let onward =
        Onward { pool: attempt.rewrite(), address: attempt.instance.address, expect: invites };
    let edits = onward.edits(facts);
    lines.clear();
    write_authority(facts, &onward, &edits, lines);
    let authority = Authority::try_from(lines.as_slice());
    let mut parts = http::uri::Parts::default();
    parts.authority = Some(authority.map_err(|_| Failure::Unsendable)?);
    if switch != Switch::Connect {
        lines.clear();
        write_path(head, lines);
        let path = PathAndQuery::try_from(lines.as_slice());
        parts.path_and_query = Some(path.map_err(|_| Failure::Unsendable)?);
        let https = connection.scheme == "https";
        parts.scheme = Some(if https { Scheme::HTTPS } else { Scheme::HTTP });
    }
    lines.clear();
    // The end of the stream is the end of the body.
    let length = match head.body {
        BodyLength::Exactly(length) if switch == Switch::None => BodyLength::Exactly(length),
        BodyLength::Exactly(_)
        | BodyLength::None
        | BodyLength::Chunked
        | BodyLength::UntilClose => BodyLength::None,
    };
    write_request_fields(facts, &onward, &edits, length, lines);
    if takes_trailers(head) {
        write_field(b"te", b"trailers", lines);
    }
    let mut request = Request::new(());
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Failure::Unsendable)?;
    *request.headers_mut() = field_map(lines);
    if switch == Switch::WebSocket {
        *request.method_mut() = http::Method::CONNECT;
        request.extensions_mut().insert(Protocol::from_static(WEBSOCKET));
        request.headers_mut().remove("sec-websocket-key");
    } else {
        let method = http::Method::from_bytes(head.fields.get(head.method_name));
        *request.method_mut() = method.map_err(|_| Failure::Unsendable)?;
    }
    Ok(request)
}

/// Writes the path with its query. What no URI may have in it (RFC 3986 §2), but some clients send, is
/// spelt out: the codec would not take it.
fn write_path(head: &RequestHead, out: &mut Vec<u8>) {
    for byte in head.fields.get(head.path) {
        match byte {
            b'"' => out.extend_from_slice(b"%22"),
            b'<' => out.extend_from_slice(b"%3C"),
            b'>' => out.extend_from_slice(b"%3E"),
            b'`' => out.extend_from_slice(b"%60"),
            byte => out.push(*byte),
        }
    }
}

/// Whether the client takes trailers: the one thing that may be said to the next hop in HTTP/2 (RFC 9113
/// §8.2.2), and without which gRPC servers take no call.
fn takes_trailers(head: &RequestHead) -> bool {
    let mut tes = head.fields.lines.iter().filter(|line| line.known == Known::Te);
    tes.any(|line| {
        let codings = head.fields.get(line.value).split(|byte| matches!(byte, b',' | b';'));
        codings.map(<[u8]>::trim_ascii).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    })
}

/// Waits for the head of the final response, and gives back what its body comes on.
async fn response_head(
    wait: &mut Wait<'_>,
    coming: &mut Coming,
    response: &mut ResponseHead,
    client: &mut impl Responder,
    has_left: HasLeft<'_>,
) -> Result<RecvStream, Failure> {
    let head = wait.attempt.head;
    let is_switch = Switch::of(head) != Switch::None;
    let method = if is_switch { Method::Connect } else { head.method };
    loop {
        let head = pin!(poll_fn(|cx| poll_head(&mut coming.response, cx)));
        let came = wait.watch(head, client, has_left).await?;
        let (parts, stream) = came.map_err(|error| failure(&error, &coming.seat))?;
        wait.hear();
        let ends = stream.as_ref().is_some_and(RecvStream::is_end_stream);
        read_response(&parts, ends, method, response).map_err(Failure::BadResponse)?;
        if wait.is_final(response, client)? {
            coming.seat.answered();
            let may_have_body = method != Method::Head && !matches!(response.status, 204 | 304);
            if ends && may_have_body && response.body == BodyLength::None {
                // It has one, and it is empty: that is to be said where the end of a stream is not.
                response.body = BodyLength::Exactly(0);
            }
            return stream.ok_or(UNASKED);
        }
    }
}

/// The next head; the final one comes with the stream of its body.
fn poll_head(
    coming: &mut ResponseFuture,
    cx: &mut Context<'_>,
) -> Poll<Result<(response::Parts, Option<RecvStream>), h2::Error>> {
    match ready!(coming.poll_informational(cx)) {
        Some(interim) => Poll::Ready(interim.map(|interim| (interim.into_parts().0, None))),
        None => {
            let (parts, stream) = ready!(Pin::new(coming).poll(cx))?.into_parts();
            Poll::Ready(Ok((parts, Some(stream))))
        }
    }
}

/// Sends a body that is not all here while it listens for the response.
async fn stream_both(
    wait: &mut Wait<'_>,
    coming: &mut Coming,
    sending: SendStream<Bytes>,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    response: &mut ResponseHead,
) -> Result<Ending, Failure> {
    let attempt = wait.attempt;
    let asked_at = coming.asked_at;
    let limit = attempt.view.pool.timeouts.response;
    let patience = attempt.patience(attempt.connection.body_timer, limit);
    let mut sink = H2Sink::new(Some(sending), attempt.head.body, patience);
    let uploaded = {
        let mut upload = pin!(pump(body, &mut sink));
        let begun = {
            // An upload that breaks says that the client has left.
            let mut head = pin!(response_head(wait, coming, response, client, &|| false));
            tokio::select! {
                biased;
                uploaded = &mut upload => Err(uploaded),
                stream = &mut head => Ok(stream?),
            }
        };
        match begun {
            Err(uploaded) => uploaded,
            Ok(stream) => {
                let relay = relay(attempt, stream, asked_at, response, client, &|| false);
                return both_ways(attempt, pin!(relay), upload).await;
            }
        }
    };
    let whole = is_sent(uploaded)?;
    wait.sent_at.set(attempt.worker().timers.now());
    let has_left = || body.has_left();
    let stream = response_head(wait, coming, response, client, &has_left).await?;
    relay(attempt, stream, asked_at, response, client, &has_left).await?;
    Ok(if whole { Ending::Whole } else { Ending::Early })
}

/// Brings a response to the client that has begun before the request was sent whole, and sends the rest
/// of that, which may well be what the response waits for: how long the client pauses is its own affair
/// now.
async fn both_ways(
    attempt: &Attempt<'_>,
    mut relay: Pin<&mut impl Future<Output = Result<(), Failure>>>,
    mut upload: Pin<&mut impl Future<Output = Result<(), PumpError>>>,
) -> Result<Ending, Failure> {
    let answered = &attempt.connection.answered;
    answered.set(true);
    let mut uploaded = None;
    loop {
        tokio::select! {
            biased;
            done = &mut relay => {
                done?;
                break;
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
    // Nobody waits for the rest but the instance, which says so if it does not.
    answered.set(false);
    let whole = match uploaded {
        Some(whole) => whole,
        None => upload.await.is_ok(),
    };
    Ok(if whole { Ending::Whole } else { Ending::Early })
}

/// Brings the response to the client.
async fn relay(
    attempt: &Attempt<'_>,
    mut stream: RecvStream,
    asked_at: Duration,
    response: &mut ResponseHead,
    client: &mut impl Responder,
    has_left: HasLeft<'_>,
) -> Result<(), Failure> {
    let took = attempt.worker().clock.elapsed().saturating_sub(asked_at);
    attempt.count(response, balance::verdict(response), took);
    attempt.bind(response);
    let limit = attempt.view.pool.timeouts.body;
    let patience = attempt.patience(attempt.connection.timer, limit).unless(has_left);
    let mut source = H2Source::new(&mut stream, response.body, patience);
    let mut sink = client.start(response, attempt.facts, attempt.rewrite(), attempt.overdue_at);
    match pump(&mut source, &mut sink).await {
        Ok(()) => Ok(()),
        Err(error) => Err(attempt.broke_off(error, &mut sink)),
    }
}

/// What it means that a stream could not be opened. Nothing was sent.
fn unopened(error: &h2::Error) -> Failure {
    let is_ours = !error.is_io() && !error.is_go_away() && !error.is_reset();
    if is_ours { Failure::Unsendable } else { Failure::Unsent }
}

/// What it means that a stream broke before the head of its response was here.
fn failure(error: &h2::Error, seat: &Seat) -> Failure {
    match error.reason() {
        // A GOAWAY breaks those streams alone that the instance has not looked at (RFC 9113 §6.8); the
        // others break with the connection, if at all.
        Some(_) if error.is_go_away() && error.is_remote() => Failure::Unsent,
        Some(Reason::REFUSED_STREAM) if error.is_remote() => Failure::Refused,
        Some(_) if error.is_reset() && error.is_remote() => Failure::Dropped,
        Some(_) if error.is_reset() => {
            Failure::BadResponse(HeadError::Malformed("a response that breaks HTTP/2"))
        }
        _ if seat.is_reused() && seat.is_alone() && !seat.was_heard() => Failure::Stale,
        _ => Failure::Reset,
    }
}
