//! A client's HTTP/1.1 connection, from accept to close.
//!
//! While it idles it is a socket and a timer; buffers, heads and the machinery of an exchange live
//! in a future that is boxed for the time of a burst of requests and freed after it.

use std::future::poll_fn;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::io::{AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::observe::{ListenerShard, RefuseReason};
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::BodySource;
use crate::proxy::forward::body_http1::{H1Sink, H1Source};
use crate::proxy::forward::connection::{Connection, Ending, Responder, Scratch};
use crate::proxy::forward::exchange;
use crate::proxy::forward::respond::{self, Answer};
use crate::proxy::timer::Timer;
use crate::proxy::upstream::is_quiet;
use crate::proxy::wire::http1::{Forwarded, parse_request, write_response};
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::wire::{BodyLength, Method, RequestHead, ResponseHead, Version};
use crate::proxy::worker::Worker;

/// After a response the buffers are kept this long: the next request mostly comes at once.
const LINGER: Duration = Duration::from_secs(1);

/// Longest wait for a client to take our last answer before the connection is closed under it.
const FAREWELL: Duration = Duration::from_secs(1);

/// Serves a connection to its end.
pub async fn serve(visit: &Visit, stream: &mut TcpStream) {
    let timer = visit.worker.timers.timer();
    // A connection on which nothing ever comes is closed as early as a head that never ends.
    let mut patience = visit.view.listener.timeouts.head;
    loop {
        let readable = poll_fn(|cx| stream.poll_read_ready(cx));
        let idled = timer.while_idle(patience, readable).await.is_err();
        if idled && is_quiet(stream) {
            return;
        }
        let burst = Box::pin(burst(visit, stream, &timer));
        if burst.await == Next::Close {
            return;
        }
        patience = visit.view.listener.timeouts.idle.saturating_sub(LINGER);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Idle,
    Close,
}

/// Serves requests until none has come for a while.
async fn burst(visit: &Visit, stream: &mut TcpStream, timer: &Timer) -> Next {
    let Visit { worker, view, bound, guest, .. } = visit;
    let (worker, bound): (&Worker, _) = (worker, *bound);
    let client = guest.client().ip().to_canonical().to_string();
    let forwarded = Forwarded { client: &client, scheme: "http" };
    let body_timer = &worker.timers.timer();
    let connection =
        Connection { worker, listener: view, bound, guest, timer, body_timer, forwarded };
    let (mut reading, mut writing) = stream.split();
    let mut buffer = worker.buffers.borrow();
    let mut head = RequestHead::default();
    let mut scratch = Scratch::default();
    let mut out = Vec::with_capacity(1024);
    let shard = &view.meter.shards[worker.index];
    loop {
        match read_head(&connection, &mut reading, &mut buffer, &mut head).await {
            Ok(true) => {}
            Ok(false) => return Next::Close,
            Err((answer, reason)) => {
                shard.count_refusal(reason);
                respond::write(answer, false, false, &mut out);
                farewell(timer, shard, &mut reading, &mut writing, &mut buffer, &out).await;
                return Next::Close;
            }
        }
        let pause = view.listener.timeouts.body;
        let mut body = H1Source::new(&mut reading, &mut buffer, head.body, body_timer, pause);
        body.invite_first(head.expects_continue);
        let snapshot = worker.snapshot();
        let mut responder = H1Responder {
            connection: &connection,
            writing: &mut writing,
            out: &mut out,
            method: head.method,
            version: head.version,
            keep_alive: head.keep_alive && !connection.is_ending(&snapshot),
            body_here: body.whole().is_some(),
        };
        let ending =
            exchange::serve(&connection, snapshot, &head, &mut body, &mut responder, &mut scratch)
                .await;
        let keep_alive = responder.keep_alive;
        shard.bytes_in.add(body.end());
        match ending {
            Ending::Whole if keep_alive => {}
            Ending::Whole if buffer.is_empty() => return Next::Close,
            Ending::Whole | Ending::Early => {
                farewell(timer, shard, &mut reading, &mut writing, &mut buffer, &[]).await;
                return Next::Close;
            }
            Ending::Broken => return Next::Close,
        }
        if buffer.is_empty() {
            let stream: &TcpStream = reading.as_ref();
            forget_stale_readiness(stream);
            let readable = poll_fn(|cx| stream.poll_read_ready(cx));
            let patience = LINGER.min(view.listener.timeouts.idle);
            if timer.while_idle(patience, readable).await.is_err() {
                return Next::Idle;
            }
        }
    }
}

/// A body that was spliced, or filled the buffer to the brim, leaves the mark of more to come. Only a
/// look at the socket takes it off; without the mark that costs no system call.
fn forget_stale_readiness(stream: &TcpStream) {
    let mut cx = Context::from_waker(Waker::noop());
    let _ = stream.poll_peek(&mut cx, &mut ReadBuf::new(&mut [0]));
}

/// Reads a request head; false if the client left without one.
async fn read_head(
    connection: &Connection<'_>,
    reading: &mut ReadHalf<'_>,
    buffer: &mut Buffer,
    head: &mut RequestHead,
) -> Result<bool, (Answer, RefuseReason)> {
    let timer = connection.timer;
    let deadline = timer.after(connection.listener.listener.timeouts.head);
    let shard = &connection.listener.meter.shards[connection.worker.index];
    loop {
        if !buffer.is_empty() {
            match parse_request(buffer.filled(), head) {
                Ok(Some(len)) => {
                    buffer.consume(len);
                    shard.bytes_in.add(len as u64);
                    return Ok(true);
                }
                Ok(None) if buffer.is_full() => {
                    let line_ends = buffer.filled().contains(&b'\n');
                    return Err(if line_ends {
                        (respond::HEAD_TOO_LARGE, RefuseReason::HeadTooLarge)
                    } else {
                        (respond::TARGET_TOO_LONG, RefuseReason::TargetTooLong)
                    });
                }
                Ok(None) => {}
                Err(error) => return Err(respond::for_head(error)),
            }
        }
        match timer.until(deadline, buffer.read_from(&mut *reading)).await {
            Ok(Ok(n)) if n > 0 => {}
            Ok(_) => return Ok(false),
            Err(_) if buffer.is_empty() => return Ok(false),
            Err(_) => return Err((respond::HEAD_TIMEOUT, RefuseReason::HeadTimeout)),
        }
    }
}

/// The last words on a connection whose client may still be sending: closing it at once would reset
/// it, and the client would lose the answer.
async fn farewell(
    timer: &Timer,
    shard: &ListenerShard,
    reading: &mut ReadHalf<'_>,
    writing: &mut WriteHalf<'_>,
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
    writing: &'a mut WriteHalf<'s>,
    out: &'a mut Vec<u8>,
    method: Method,
    version: Version,
    /// Whether the connection stays; turned off by what the response needs.
    keep_alive: bool,
    /// Nothing of the request is still to come.
    body_here: bool,
}

impl<'s> Responder for H1Responder<'_, 's> {
    type Sink<'x>
        = H1Sink<'x, 's>
    where
        Self: 'x;

    fn ends(&self) -> Option<Ends> {
        self.connection.guest.ends(|| self.writing.local_addr())
    }

    fn start(&mut self, head: &ResponseHead) -> Self::Sink<'_> {
        let body = match (head.body, self.version) {
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http11) => BodyLength::Chunked,
            (BodyLength::Chunked | BodyLength::UntilClose, Version::Http10) => {
                self.keep_alive = false;
                BodyLength::UntilClose
            }
            (known, _) => known,
        };
        self.out.clear();
        write_response(head, body, self.keep_alive, self.version, self.out);
        let Connection { worker, listener, timer, .. } = self.connection;
        let pause = listener.listener.timeouts.body;
        H1Sink::new(self.writing, self.out, body, timer, pause, &worker.pipes)
            .counted(&listener.meter.shards[worker.index].bytes_out)
    }

    async fn answer(&mut self, answer: Answer) {
        self.keep_alive &= self.body_here;
        self.out.clear();
        respond::write(answer, self.keep_alive, self.method == Method::Head, self.out);
        let Connection { worker, listener, timer, .. } = self.connection;
        let write = self.writing.write_all(self.out);
        if matches!(timer.within(listener.listener.timeouts.body, write).await, Ok(Ok(()))) {
            listener.meter.shards[worker.index].bytes_out.add(self.out.len() as u64);
        } else {
            // Whatever came next would follow half an answer.
            self.keep_alive = false;
        }
    }
}
