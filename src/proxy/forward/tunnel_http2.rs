//! Bytes both ways between a client and an instance of which one side at least is an HTTP/2 stream, once
//! both have agreed to speak something else than HTTP (RFC 8441, RFC 9113 §8.5).
//!
//! As between two connections ([`relay`](crate::proxy::forward::relay)), the end of one direction is
//! passed on and the other goes on, and what was cut is not passed off as what ended.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::AsyncWriteExt;

use crate::base::Ms;
use crate::net::half::{Incoming, Outgoing, halves};
use crate::net::stream::Stream;
use crate::observe::Account;
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodySink, Piece};
use crate::proxy::forward::body_http2::H2Sink;
use crate::proxy::forward::connection::{Far, FarStream, Tunnel};
use crate::proxy::forward::relay::{Break, End, Unended, both, settle};
use crate::proxy::forward::tell::Trip;
use crate::proxy::patience::Patience;
use crate::proxy::timer::Timer;
use crate::proxy::wire::{BodyLength, RequestHead};
use crate::proxy::worker::Worker;

/// The client's side of a tunnel.
#[derive(Debug)]
pub enum Near<'a> {
    /// A connection, and what has come over it already.
    Connection(&'a mut Stream, Buffer),
    /// A stream.
    Stream(RecvStream, SendStream<Bytes>),
}

/// One side, for as long as it is not at its end.
enum Side<'a> {
    Connection(Unended<'a>, Option<Buffer>),
    Stream(&'a mut RecvStream, H2Sink<'a>),
}

/// Where bytes come from.
enum Source<'a> {
    Socket(Incoming<'a>, Option<Buffer>),
    Stream(&'a mut RecvStream),
}

/// Where they go.
enum Sink<'a, 's> {
    Socket(Outgoing<'a>),
    Stream(&'a mut H2Sink<'s>),
}

/// Relays until both directions have ended, one side breaks, or nothing has moved for too long.
pub async fn run(
    visit: &Visit,
    (timer, send_timer): (&Timer, &Timer),
    near: Near<'_>,
    tunnel: Tunnel,
    (account, head): (Account, RequestHead),
) {
    let Tunnel { mut far, lease, silence } = tunnel;
    let worker = &*visit.worker;
    let trip = Trip::new(visit, account, Some(head));
    let vitals = &lease.instance().vitals;
    let far_timer = worker.timers.timer();
    let mut near_recv = None;
    let mut client = match near {
        Near::Connection(stream, early) => Side::connection(stream, early),
        Near::Stream(recv, send) => Side::stream(near_recv.insert(recv), send, send_timer),
    };
    let mut seat = None;
    let mut far_recv = None;
    let mut instance = match far {
        Far::Connection(ref mut stream, ref mut early) => {
            let early = std::mem::replace(early, worker.buffers.borrow());
            Side::connection(stream, early)
        }
        Far::Stream(stream) => {
            let FarStream { recv, send, seat: place } = *stream;
            seat = Some(place);
            Side::stream(far_recv.insert(recv), send, &far_timer)
        }
    };
    let end = {
        let (from_client, to_client) = client.halves();
        let (from_instance, to_instance) = instance.halves();
        let up = pass(worker, from_client, to_instance, |bytes| {
            trip.from_client().add(bytes as u64);
            timer.push_back(silence);
        });
        let down = pass(worker, from_instance, to_client, |bytes| {
            trip.to_client().add(bytes as u64);
            vitals.note_byte(worker.timers.now());
            timer.push_back(silence);
        });
        timer.within(silence, both(up, down)).await.unwrap_or(End::Silence)
    };
    settle(end, lease.instance());
    client.end(end == End::Whole);
    instance.end(end == End::Whole);
    drop((client, instance));
    drop((far_recv, seat));
    if let Some(reason) = end.failure() {
        lease.shard(worker).count_failure(reason);
    }
    trip.end(end.failure());
}

impl<'a> Side<'a> {
    fn connection(stream: &'a mut Stream, early: Buffer) -> Self {
        let early = Some(early).filter(|early| !early.is_empty());
        Self::Connection(Unended::new(stream), early)
    }

    fn stream(recv: &'a mut RecvStream, send: SendStream<Bytes>, timer: &'a Timer) -> Self {
        // Only silence in both directions ends it.
        let patience = Patience::new(timer, Duration::MAX, Ms::NEVER);
        Self::Stream(recv, H2Sink::new(Some(send), BodyLength::UntilClose, patience))
    }

    fn halves(&mut self) -> (Source<'_>, Sink<'_, 'a>) {
        match self {
            Self::Connection(connection, early) => {
                let (incoming, outgoing) = halves(connection.stream);
                (Source::Socket(incoming, early.take()), Sink::Socket(outgoing))
            }
            Self::Stream(recv, sink) => (Source::Stream(recv), Sink::Stream(sink)),
        }
    }

    /// It has come to its end, or was cut.
    fn end(&mut self, whole: bool) {
        match self {
            Self::Connection(connection, _) => connection.ended = whole,
            Self::Stream(..) if whole => {}
            Self::Stream(_, sink) => sink.reset(Reason::CANCEL),
        }
    }
}

/// Passes on what comes, to its end.
async fn pass(
    worker: &Worker,
    mut from: Source<'_>,
    mut to: Sink<'_, '_>,
    moved: impl Fn(usize),
) -> Result<(), Break> {
    loop {
        match &mut from {
            Source::Socket(half, early) => {
                let buffer = match early.take() {
                    Some(early) => early,
                    None => {
                        // An idle tunnel holds no buffer.
                        let ready = poll_fn(|cx| half.stream().poll_read_ready(cx)).await;
                        ready.map_err(|_| Break::Read)?;
                        let mut buffer = worker.buffers.borrow();
                        match buffer.read_from(half).await {
                            Ok(0) => break,
                            Ok(_) => buffer,
                            Err(_) => return Err(Break::Read),
                        }
                    }
                };
                to.write(buffer.filled()).await?;
                moved(buffer.filled().len());
            }
            Source::Stream(recv) => {
                let Some(data) = poll_fn(|cx| recv.poll_data(cx)).await else { break };
                let data = data.map_err(|_| Break::Read)?;
                to.write(&data).await?;
                moved(data.len());
                // What was passed on is given back to the sender's window. An error tells that the
                // stream is gone, and with it its window.
                let _ = recv.flow_control().release_capacity(data.len());
            }
        }
    }
    to.end().await
}

impl Sink<'_, '_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Break> {
        match self {
            Self::Socket(half) => half.write_all(bytes).await.map_err(|_| Break::Write),
            Self::Stream(sink) => sink.write(Piece::Bytes(bytes)).await.map_err(|_| Break::Write),
        }
    }

    async fn end(&mut self) -> Result<(), Break> {
        match self {
            Self::Socket(half) => {
                // A socket that is gone already needs no end mark.
                let _ = half.shutdown().await;
                Ok(())
            }
            Self::Stream(sink) => sink.finish().await.map_err(|_| Break::Write),
        }
    }
}
