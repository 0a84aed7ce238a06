//! Bytes both ways between an HTTP/2 stream and an instance, once both sides have agreed to speak something
//! else than HTTP (RFC 8441, RFC 9113 §8.5).
//!
//! As with a whole connection ([`relay`](crate::proxy::forward::relay)), the end of one direction is
//! passed on and the other goes on, and what was cut is not passed off as what ended.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use tokio::io::AsyncWriteExt;

use crate::base::Ms;
use crate::net::half::{Incoming, Outgoing, halves};
use crate::observe::Account;
use crate::proxy::admit::Visit;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodySink, Piece, PumpError};
use crate::proxy::forward::body_http2::H2Sink;
use crate::proxy::forward::connection::Tunnel;
use crate::proxy::forward::relay::{End, Unended, settle};
use crate::proxy::forward::tell::Trip;
use crate::proxy::patience::Patience;
use crate::proxy::timer::Timer;
use crate::proxy::wire::{BodyLength, RequestHead};

/// Relays until both directions have ended, one side breaks, or nothing has moved for too long.
pub async fn run(
    visit: &Visit,
    (timer, send_timer): (&Timer, &Timer),
    tunnel: Tunnel,
    mut recv: RecvStream,
    send: SendStream<Bytes>,
    (account, head): (Account, RequestHead),
) {
    let Tunnel { lease, mut stream, buffer, silence } = tunnel;
    let trip = Trip::new(visit, account, Some(head));
    let mut instance = Unended::new(&mut stream);
    let vitals = &lease.instance().vitals;
    // Only silence in both directions ends it.
    let patience = Patience::new(send_timer, Duration::MAX, Ms::NEVER);
    let mut sink = H2Sink::new(Some(send), BodyLength::UntilClose, patience);
    let end = {
        let (from_instance, to_instance) = halves(instance.stream);
        let up = up(&mut recv, to_instance, |bytes| {
            trip.from_client().add(bytes as u64);
            timer.push_back(silence);
        });
        let down = down(visit, buffer, from_instance, &mut sink, |bytes| {
            trip.to_client().add(bytes as u64);
            vitals.note_byte(visit.worker.timers.now());
            timer.push_back(silence);
        });
        let both = async {
            let (mut up, mut down) = (pin!(up), pin!(down));
            let (mut up_ended, mut down_ended) = (false, false);
            while !(up_ended && down_ended) {
                let broken = tokio::select! {
                    done = &mut up, if !up_ended => {
                        up_ended = true;
                        done.err()
                    }
                    done = &mut down, if !down_ended => {
                        down_ended = true;
                        done.err()
                    }
                };
                if let Some(end) = broken {
                    return end;
                }
            }
            End::Whole
        };
        timer.within(silence, both).await.unwrap_or(End::Silence)
    };
    settle(end, lease.instance());
    instance.ended = end == End::Whole;
    if end != End::Whole {
        sink.reset(Reason::CANCEL);
    }
    if let Some(reason) = end.failure() {
        lease.shard(&visit.worker).count_failure(reason);
    }
    trip.end(end.failure());
}

/// From the client to the instance. What was written there is given back to the client's window.
async fn up(recv: &mut RecvStream, mut to: Outgoing<'_>, moved: impl Fn(usize)) -> Result<(), End> {
    while let Some(data) = poll_fn(|cx| recv.poll_data(cx)).await {
        let data = data.map_err(|_| End::Client)?;
        to.write_all(&data).await.map_err(|_| End::Instance)?;
        moved(data.len());
        // An error tells that the stream is gone, and with it its window.
        let _ = recv.flow_control().release_capacity(data.len());
    }
    // A socket that is gone already needs no end mark.
    let _ = to.shutdown().await;
    Ok(())
}

/// From the instance to the client, first what has come already.
async fn down(
    visit: &Visit,
    early: Buffer,
    mut from: Incoming<'_>,
    sink: &mut H2Sink<'_>,
    moved: impl Fn(usize),
) -> Result<(), End> {
    let mut here = Some(early).filter(|early| !early.is_empty());
    loop {
        let buffer = match here.take() {
            Some(early) => early,
            None => {
                // An idle tunnel holds no buffer.
                let ready = poll_fn(|cx| from.stream().poll_read_ready(cx)).await;
                ready.map_err(|_| End::Instance)?;
                let mut buffer = visit.worker.buffers.borrow();
                match buffer.read_from(&mut from).await {
                    Ok(0) => return sink.finish().await.map_err(|_| End::Client),
                    Ok(_) => buffer,
                    Err(_) => return Err(End::Instance),
                }
            }
        };
        match sink.write(Piece::Bytes(buffer.filled())).await {
            Ok(()) => moved(buffer.filled().len()),
            Err(PumpError::Sink(_) | PumpError::Source(_)) => return Err(End::Client),
        }
    }
}
