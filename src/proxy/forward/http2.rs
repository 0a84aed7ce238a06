//! A client's HTTP/2 connection, from its preface to its close.
//!
//! The engine is the h2 crate. One task drives the connection: it reads, writes what streams have handed
//! over, and starts a task for every request (`stream`). It lives as long as its streams: one that
//! is to end says so (GOAWAY) and lets them finish. What clients may do to us is bounded under the
//! engine, where the bytes come in (`socket`).

mod socket;
mod stream;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, server};
use http::Request;

use crate::base::Ms;
use crate::model::Listener;
use crate::net::stream::Stream;
use crate::observe::FloodKind;
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::http2::socket::{Shared, Socket};
use crate::proxy::forward::http2::stream::serve_stream;
use crate::proxy::timer::Timer;

/// What a client begins with that speaks HTTP/2 without asking (RFC 9113 §3.3), as far as it can be taken
/// for a request line.
pub const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

/// What a client may send on a stream before we have passed it on.
const STREAM_WINDOW: u32 = 64 * 1024;

/// The same, on all streams together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// What the engine holds of a response that the client does not take.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that the engine may have to reset because of a client's errors: each costs us what it does not
/// cost the client.
const ERROR_RESETS_MAX: usize = 500;

/// Longest wait for a client to take our last frames before the connection is closed under it.
const FAREWELL: Duration = Duration::from_secs(1);

/// A request, and where its response goes.
type Incoming = (Request<RecvStream>, SendResponse<Bytes>);

/// What the connection's task is woken for.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
enum Event {
    /// A request came, or the connection has ended, as it should or not.
    Stream(Option<Result<Incoming, h2::Error>>),
    /// The client sends too much of something.
    Flood(FloodKind),
    /// The last stream has ended.
    Idle,
}

/// Serves a connection to its end. `early` is what was read of it before.
pub async fn serve(visit: Visit, stream: Stream, early: Buffer) {
    let timer = visit.worker.timers.timer();
    let shared = Shared::new(visit, stream);
    serve_streams(&shared, &timer, early).await;
    // What the client has sent meanwhile must not reset the connection before it has read the end.
    let _ = timer.within(FAREWELL, shared.drain()).await;
}

async fn serve_streams(shared: &Rc<Shared>, timer: &Timer, early: Buffer) {
    let listener = &shared.visit.view.listener;
    let timeouts = listener.timeouts;
    let socket = Socket::new(Rc::clone(shared), early);
    let shaking = builder(listener).handshake::<_, Bytes>(socket);
    let Ok(Ok(mut connection)) = timer.within(timeouts.head, shaking).await else { return };
    let mut requests = listener.limits.requests.as_u32();
    let mut ending = false;
    // A connection on which nothing ever comes is closed as early as a head that never ends.
    let mut deadline = timer.after(timeouts.head);
    loop {
        let next = next(shared, &mut connection, deadline != Ms::NEVER);
        let waited = if ending {
            timer.until(deadline, next).await
        } else {
            timer.while_idle_until(deadline, next).await
        };
        match waited {
            Ok(Event::Stream(Some(Ok(incoming)))) => {
                deadline = Ms::NEVER;
                requests = requests.saturating_sub(1);
                let running = shared.begin();
                // Boxed here, where it is made: on its way into a task it would be copied, all of it.
                tokio::task::spawn_local(Box::pin(serve_stream(running, incoming)));
                if !ending && (requests == 0 || shared.is_leaving()) {
                    ending = true;
                    connection.graceful_shutdown();
                }
            }
            Ok(Event::Stream(Some(Err(error)))) => {
                if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                    shared.visit.shard().count_flood(FloodKind::Engine);
                }
                return;
            }
            Ok(Event::Stream(None)) => return,
            Ok(Event::Flood(kind)) => {
                shared.visit.shard().count_flood(kind);
                connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                let closed = poll_fn(|cx| connection.poll_closed(cx));
                let _ = timer.within(FAREWELL, closed).await;
                return;
            }
            Ok(Event::Idle) => {
                deadline = timer.after(if ending { FAREWELL } else { timeouts.idle });
            }
            // The client does not say that it has heard of the end.
            Err(_) if ending => return,
            Err(_) => {
                ending = true;
                connection.graceful_shutdown();
                deadline = if shared.is_idle() { timer.after(FAREWELL) } else { Ms::NEVER };
            }
        }
    }
}

/// Drives the connection until there is something to do. `known_idle` says that there was no stream
/// before.
async fn next(
    shared: &Rc<Shared>,
    connection: &mut server::Connection<Socket, Bytes>,
    known_idle: bool,
) -> Event {
    poll_fn(|cx| {
        if let Poll::Ready(came) = connection.poll_accept(cx) {
            return Poll::Ready(Event::Stream(came));
        }
        if let Some(kind) = shared.flood() {
            return Poll::Ready(Event::Flood(kind));
        }
        if shared.is_idle() && !known_idle {
            return Poll::Ready(Event::Idle);
        }
        shared.wake_with(cx);
        Poll::Pending
    })
    .await
}

fn builder(listener: &Listener) -> Builder {
    let limits = &listener.limits;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        // Every field counts 32 bytes more than it has (RFC 9113 §6.5.2).
        .max_header_list_size(limits.head + 32 * limits.fields)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .enable_connect_protocol();
    builder
}
