//! One request on an HTTP/2 connection: its task, and the side of its exchange that the client sees.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response, StatusCode};

use crate::base::Ms;
use crate::model::{ConnectMethod, Rewrite};
use crate::observe::RefuseReason;
use crate::observe::meter::Odometer;
use crate::proxy::admit::Visit;
use crate::proxy::forward::body::{BodyError, BodySink, Piece};
use crate::proxy::forward::body_http2::{H2Sink, H2Source};
use crate::proxy::forward::connection::{Connection, Ending, Responder};
use crate::proxy::forward::exchange;
use crate::proxy::forward::http1::check_body;
use crate::proxy::forward::http2::Incoming;
use crate::proxy::forward::http2::socket::{Running, Shared};
use crate::proxy::forward::respond::{self, Answer};
use crate::proxy::forward::tell::tell;
use crate::proxy::forward::tunnel_http2::{self, Near};
use crate::proxy::rewrite::{Facts, UNCHANGED};
use crate::proxy::scratch::Scratch;
use crate::proxy::timer::Timer;
use crate::proxy::wire::http1::{HeadLimits, write_response_fields};
use crate::proxy::wire::http2::{field_map, read_request};
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::wire::{BodyLength, RequestHead, ResponseHead, websocket};

/// Bytes of a status, as it is counted.
const STATUS_LEN: usize = 3;

/// Serves one request.
pub async fn serve_stream(running: Running, (request, respond): Incoming) {
    let shared = &*running.0;
    let visit = &shared.visit;
    let worker = &*visit.worker;
    let (parts, mut recv) = request.into_parts();
    let respond = RefCell::new(respond);
    let mut scratch = worker.scratches.borrow();
    let Scratch { request: head, to_client: out, attempt: scratch, .. } = &mut *scratch;
    scratch.account.begin(worker.access.is_on(), || worker.clock.elapsed());
    let (timer, body_timer) = (&worker.timers.timer(), &worker.timers.timer());
    let connection = connection(shared, (timer, body_timer));
    let limits = &visit.view.listener.limits;
    let shard = visit.shard();
    let mut responder = H2Responder {
        connection: &connection,
        shared,
        respond: &respond,
        out,
        started: false,
        switched: None,
        sent: Cell::new(0),
        head_out: 0,
    };
    let read = read_head(&connection, &parts, recv.is_end_stream(), head);
    drop(parts);
    let head_in = head.fields.bytes.len() as u64;
    shard.bytes_in.add(head_in);
    if let Err((answer, reason)) = read {
        shard.count_refusal(reason);
        let unread = RequestHead::default();
        let facts = connection.facts(&unread, &visit.view.listener, &UNCHANGED);
        Box::pin(responder.answer(answer, &facts)).await;
        let (sent, head_out) = (responder.sent.get(), responder.head_out);
        let account = &mut scratch.account;
        if account.is_on() {
            (account.status, account.failure) = (answer.status, Some(reason.word()));
            (account.bytes_in, account.bytes_out) = (head_in, sent);
            account.body_out = sent.saturating_sub(head_out);
            tell(visit, &shared.client, Some(&*head).filter(|head| is_whole(head)), account);
        }
        return;
    }
    let patience = connection.upload_patience();
    let has_left = || has_left(&respond);
    let mut body = H2Source::new(&mut recv, head.body, patience)
        .from_client_of(&visit.view.listener)
        .at_most(limits.body)
        .unless(&has_left);
    body.wait_for_invitation(head.expects_continue);
    let snapshot = worker.snapshot();
    let ending =
        exchange::serve(&connection, snapshot, head, &mut body, &mut responder, scratch).await;
    let body_in = body.bytes();
    shard.bytes_in.add(body_in);
    let H2Responder { started, switched, sent, head_out, .. } = responder;
    let account = &mut scratch.account;
    if account.is_on() {
        (account.bytes_in, account.bytes_out) = (head_in + body_in, sent.get());
        account.body_out = sent.get().saturating_sub(head_out);
        if !matches!(ending, Ending::Switched(_)) {
            tell(visit, &shared.client, Some(head), account);
        }
    }
    match ending {
        Ending::Whole | Ending::Early => shared.note_outcome(true),
        Ending::Broken => {
            if !started && has_left() {
                shared.note_outcome(false);
            }
            // Whatever was sent of the response is not to pass for all of it.
            respond.borrow_mut().send_reset(Reason::INTERNAL_ERROR);
        }
        Ending::Switched(tunnel) => {
            let Some(send) = switched else { return };
            let told = (std::mem::take(account), std::mem::take(head));
            let near = Near::Stream(recv, send);
            let timers = (timer, body_timer);
            Box::pin(tunnel_http2::run(visit, timers, near, *tunnel, told)).await;
        }
    }
}

/// What the client's connection brings to the exchange.
fn connection<'a>(
    shared: &'a Shared,
    (timer, body_timer): (&'a Timer, &'a Timer),
) -> Connection<'a> {
    let Visit { worker, view, bound, guest, identity, .. } = &shared.visit;
    Connection {
        worker,
        listener: view,
        bound: *bound,
        guest,
        timer,
        body_timer,
        answered: Cell::new(false),
        client_address: shared.client_address,
        client: &shared.client,
        scheme: shared.scheme,
        identity: identity.as_deref(),
    }
}

/// Whether enough of the head could be read to tell of it.
fn is_whole(head: &RequestHead) -> bool {
    head.authority.len > 0
}

/// Reads a request's head, and holds it against what the listener allows.
fn read_head(
    connection: &Connection<'_>,
    parts: &http::request::Parts,
    ends: bool,
    head: &mut RequestHead,
) -> Result<(), (Answer<'static>, RefuseReason)> {
    let listener = &connection.listener.listener;
    let limits = HeadLimits {
        fields: listener.limits.fields as usize,
        target: listener.limits.target as usize,
        allow_connect: listener.connect == ConnectMethod::Forward,
    };
    // Of a head that cannot be read nothing is left to be told.
    (head.authority, head.path) = Default::default();
    let key = || websocket::key(&mut connection.worker.entropy.borrow_mut());
    read_request(parts, ends, &limits, key, head).map_err(respond::for_head)?;
    if head.fields.bytes.len() > listener.limits.head as usize {
        return Err((respond::HEAD_TOO_LARGE, RefuseReason::HeadTooLarge));
    }
    check_body(head, &listener.limits)
}

/// Whether the client has reset the stream, or its connection is gone. Only for a time when nobody waits
/// for the stream to take something: the engine knows one waker for both.
fn has_left(respond: &RefCell<SendResponse<Bytes>>) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    match respond.borrow_mut().poll_reset(&mut cx) {
        Poll::Ready(Ok(_)) => true,
        // Asked once the response has begun, which the engine does not like to be, it is there.
        Poll::Ready(Err(error)) => error.is_io() || error.is_go_away() || error.is_reset(),
        Poll::Pending => false,
    }
}

/// Writes one response.
struct H2Responder<'a> {
    connection: &'a Connection<'a>,
    shared: &'a Shared,
    respond: &'a RefCell<SendResponse<Bytes>>,
    /// Where field lines are written.
    out: &'a mut Vec<u8>,
    /// The client was sent the head of a response.
    started: bool,
    /// Where the bytes of a tunnel go.
    switched: Option<SendStream<Bytes>>,
    /// Bytes that the client was sent, heads as they are before they are compressed.
    sent: Cell<u64>,
    /// How many of these are of heads.
    head_out: u64,
}

impl Responder for H2Responder<'_> {
    type Sink<'x>
        = H2Sink<'x>
    where
        Self: 'x;

    fn ends(&self) -> Option<Ends> {
        self.connection.guest.ends(|| self.shared.local_addr())
    }

    fn interim(&mut self, head: &ResponseHead, facts: &Facts<'_>, pool: &Rewrite) {
        self.out.clear();
        write_response_fields(head, BodyLength::None, facts, pool, self.out);
        let response = response(head.status, field_map(self.out));
        // Whoever has left needs no telling.
        let _ = self.respond.borrow_mut().send_informational(response);
    }

    fn start(
        &mut self,
        head: &ResponseHead,
        facts: &Facts<'_>,
        pool: &Rewrite,
        overdue_at: Ms,
    ) -> Self::Sink<'_> {
        let body = match head.body {
            BodyLength::Chunked => BodyLength::UntilClose,
            known => known,
        };
        self.out.clear();
        write_response_fields(head, body, facts, pool, self.out);
        let send = self.send_head(head.status, body);
        self.sink(send, body, overdue_at)
    }

    async fn switch(
        &mut self,
        head: &ResponseHead,
        facts: &Facts<'_>,
        pool: &Rewrite,
    ) -> Result<(), BodyError> {
        self.out.clear();
        write_response_fields(head, BodyLength::None, facts, pool, self.out);
        // A 101 would be said in HTTP/1.1 (RFC 8441 §5).
        let status = if head.status == 101 { 200 } else { head.status };
        let mut fields = field_map(self.out);
        fields.remove("sec-websocket-accept");
        self.switched = self.send_fields(status, fields, false);
        self.switched.as_ref().map(|_| ()).ok_or(BodyError::Cut)
    }

    async fn answer(&mut self, answer: Answer<'_>, facts: &Facts<'_>) {
        self.out.clear();
        let body = respond::write_fields(answer, facts, self.out);
        let length: usize = body.iter().map(|part| part.len()).sum();
        let length = BodyLength::Exactly(length as u64);
        let send = self.send_head(respond::status(answer, facts), length);
        let mut sink = self.sink(send, length, Ms::NEVER);
        for part in body.into_iter().filter(|part| !part.is_empty()) {
            // Who does not take it has left.
            let _ = sink.write(Piece::Bytes(part)).await;
        }
    }
}

impl H2Responder<'_> {
    /// Sends a head with the field lines that are written; it is the whole response if there is no body.
    fn send_head(&mut self, status: u16, body: BodyLength) -> Option<SendStream<Bytes>> {
        let ends = matches!(body, BodyLength::None | BodyLength::Exactly(0));
        self.send_fields(status, field_map(self.out), ends)
    }

    fn send_fields(
        &mut self,
        status: u16,
        fields: HeaderMap,
        ends: bool,
    ) -> Option<SendStream<Bytes>> {
        let response = response(status, fields);
        let send = self.respond.borrow_mut().send_response(response, ends).ok()?;
        self.started = true;
        self.counter().add((STATUS_LEN + self.out.len()) as u64);
        self.head_out = self.sent.get();
        Some(send)
    }

    fn counter(&self) -> Odometer<'_> {
        Odometer { listener: &self.shared.visit.shard().bytes_out, trip: &self.sent }
    }

    fn sink(
        &self,
        send: Option<SendStream<Bytes>>,
        body: BodyLength,
        overdue_at: Ms,
    ) -> H2Sink<'_> {
        let patience = self.connection.download_patience(overdue_at);
        H2Sink::new(send, body, patience).counted(self.counter())
    }
}

/// A response head.
fn response(status: u16, fields: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    *response.headers_mut() = fields;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<F: Future>(_: impl Fn(Running, Incoming) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_stream_is_not_large() {
        let bytes = size_of_future(serve_stream);
        assert!(bytes <= 3_200, "{bytes} bytes for each request that is under way");
    }
}
