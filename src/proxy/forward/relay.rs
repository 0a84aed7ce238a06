//! Bytes both ways between a client and an instance, unread: TCP connections, and what an HTTP
//! connection becomes once both sides have agreed to switch.
//!
//! Each direction copies at first, which is cheapest for small messages, and splices once reads
//! come back full. The end of one direction is passed on and the other goes on (half-close). What was
//! cut is not passed off as what ended: unless both directions have come to their end, both sides are
//! reset, whether one of them broke, nothing moved for too long, or the worker had to end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::model::Instance;
use crate::net::half::{Incoming, Outgoing, halves};
use crate::net::splice::Draught;
use crate::net::stream::Stream;
use crate::observe::FailReason;
use crate::observe::meter::Odometer;
use crate::proxy::buffer::Buffer;
use crate::proxy::timer::Timer;
use crate::proxy::worker::Worker;

/// After so many full reads in a row a direction splices; after as many small moves it copies
/// again.
const SWITCH_AFTER: u32 = 2;

/// A move through a pipe that was no larger than this would have been cheaper copied.
const SMALL: usize = 16 * 1024;

/// What a relay needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Relay<'a> {
    /// The worker that does it.
    pub worker: &'a Worker,
    /// Watches for silence.
    pub timer: &'a Timer,
    /// Longest silence, in both directions together.
    pub silence: Duration,
    /// Counts the bytes from the client.
    pub from_client: Odometer<'a>,
    /// Counts the bytes to the client.
    pub to_client: Odometer<'a>,
    /// The instance.
    pub instance: &'a Arc<Instance>,
}

/// How a relay came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Both directions ended.
    Whole,
    /// The client broke it.
    Client,
    /// The instance broke it.
    Instance,
    /// Nothing moved for too long.
    Silence,
}

impl End {
    /// As what it is counted, if it is a failure. Clients may leave as they like.
    pub fn failure(self) -> Option<FailReason> {
        match self {
            Self::Whole | Self::Client => None,
            Self::Instance => Some(FailReason::CutTunnel),
            Self::Silence => Some(FailReason::TunnelTimeout),
        }
    }
}

/// What is to be learnt of the instance.
pub fn settle(end: End, instance: &Instance) {
    match end {
        End::Instance => instance.vitals.count_failure(),
        // Bytes have no status: this is what a success is where nothing else is said.
        End::Whole => instance.vitals.forget_failures(),
        End::Client | End::Silence => {}
    }
}

/// A connection that has not come to its end. Dropped before that, by whatever, it is closed with a
/// reset, so that what was cut does not look whole.
#[derive(Debug)]
pub struct Unended<'a> {
    /// The connection.
    pub stream: &'a mut Stream,
    /// It has.
    pub ended: bool,
}

impl<'a> Unended<'a> {
    /// One that has just begun.
    pub fn new(stream: &'a mut Stream) -> Self {
        Self { stream, ended: false }
    }
}

impl Drop for Unended<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.stream.cut();
        }
    }
}

/// How a direction ended before its source did.
#[derive(Debug)]
pub enum Break {
    /// Its source is gone.
    Read,
    /// Nobody takes its bytes any more.
    Write,
}

impl Relay<'_> {
    /// Relays until both directions have ended, one side breaks, or nothing has moved for too long.
    pub async fn run(&self, client: &mut Stream, instance: &mut Stream) -> End {
        self.relay(None, None, client, instance).await
    }

    /// The same, after what has come from either side already.
    pub async fn run_after(
        &self,
        from_client: Buffer,
        from_instance: Buffer,
        client: &mut Stream,
        instance: &mut Stream,
    ) -> End {
        self.relay(Some(from_client), Some(from_instance), client, instance).await
    }

    async fn relay(
        &self,
        from_client: Option<Buffer>,
        from_instance: Option<Buffer>,
        client: &mut Stream,
        instance: &mut Stream,
    ) -> End {
        let (mut client, mut instance) = (Unended::new(client), Unended::new(instance));
        let done = {
            let (client_reads, client_writes) = halves(client.stream);
            let (instance_reads, instance_writes) = halves(instance.stream);
            let one_ended = &Cell::new(false);
            let up = Direction { relay: self, counter: self.from_client, heard: false, one_ended };
            let down = Direction { relay: self, counter: self.to_client, heard: true, one_ended };
            let both = both(
                up.run(from_client, client_reads, instance_writes),
                down.run(from_instance, instance_reads, client_writes),
            );
            // The deadline is pushed back by whatever moves, in either direction.
            self.timer.within(self.silence, both).await
        };
        let end = done.unwrap_or(End::Silence);
        settle(end, self.instance);
        (client.ended, instance.ended) = (end == End::Whole, end == End::Whole);
        end
    }
}

/// Runs both directions to their ends, or until one side breaks.
pub async fn both(
    up: impl Future<Output = Result<(), Break>>,
    down: impl Future<Output = Result<(), Break>>,
) -> End {
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (mut up_ended, mut down_ended) = (None, None);
    // A side that takes nothing more may still have something to say, which ends by itself. One
    // from which nothing can be read is gone.
    loop {
        tokio::select! {
            done = &mut up, if up_ended.is_none() => match done {
                Err(Break::Read) => return End::Client,
                done => up_ended = Some(done),
            },
            done = &mut down, if down_ended.is_none() => match done {
                Err(Break::Read) => return End::Instance,
                done => down_ended = Some(done),
            },
        }
        match (&up_ended, &down_ended) {
            (Some(Err(_)), Some(_)) => return End::Instance,
            (Some(Ok(())), Some(Err(_))) => return End::Client,
            (Some(Ok(())), Some(Ok(()))) => return End::Whole,
            _ => {}
        }
    }
}

/// One direction of a relay.
#[derive(Clone, Copy)]
struct Direction<'a> {
    relay: &'a Relay<'a>,
    counter: Odometer<'a>,
    /// It comes from the instance, which shows that it lives.
    heard: bool,
    /// Set by the direction that ends first.
    one_ended: &'a Cell<bool>,
}

impl Direction<'_> {
    async fn run(
        self,
        early: Option<Buffer>,
        mut from: Incoming<'_>,
        mut to: Outgoing<'_>,
    ) -> Result<(), Break> {
        if let Some(early) = early {
            to.write_all(early.filled()).await.map_err(unwritten)?;
            self.moved(early.filled().len());
        }
        let sockets = from.stream().plain().zip(to.stream().plain());
        while self.copy(&mut from, &mut to).await? {
            let Some((from, to)) = sockets else { continue };
            if !self.splice(from, to).await? {
                break;
            }
        }
        // The second end closes both connections, which says the same. A socket that is gone already
        // needs no end mark.
        if !self.one_ended.replace(true) {
            let _ = to.shutdown().await;
        }
        Ok(())
    }

    fn moved(&self, bytes: usize) {
        self.counter.add(bytes as u64);
        self.relay.timer.push_back(self.relay.silence);
        if self.heard {
            self.relay.instance.vitals.note_byte(self.relay.worker.timers.now());
        }
    }

    /// Copies until reads come back full; false at the end of the stream.
    async fn copy(&self, from: &mut Incoming<'_>, to: &mut Outgoing<'_>) -> Result<bool, Break> {
        let mut full = 0;
        while full < SWITCH_AFTER {
            // An idle tunnel holds no buffer.
            poll_fn(|cx| from.stream().poll_read_ready(cx)).await.map_err(unread)?;
            let mut buffer = self.relay.worker.buffers.borrow();
            let n = buffer.read_from(&mut *from).await.map_err(unread)?;
            if n == 0 {
                return Ok(false);
            }
            full = if buffer.is_full() { full + 1 } else { 0 };
            to.write_all(buffer.filled()).await.map_err(unwritten)?;
            buffer.consume(n);
            self.moved(n);
        }
        Ok(true)
    }

    /// Splices until moves get small; false at the end of the stream.
    async fn splice(&self, from: &TcpStream, to: &TcpStream) -> Result<bool, Break> {
        let (mut draught, mut small) = (Draught::default(), 0);
        loop {
            from.readable().await.map_err(unread)?;
            // Held only while bytes are in it: a silent tunnel has none. Where there is none to be had,
            // copying goes on.
            let Ok(mut pipe) = self.relay.worker.pipes.borrow() else { return Ok(true) };
            match pipe.fill(from, draught.most()) {
                Ok(0) => return Ok(false),
                Ok(n) => small = if n <= SMALL { small + 1 } else { 0 },
                // Only now, when all is read: an end of splicing leaves no mark of more to come, for
                // which a copy would wait with its buffer in hand.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if small >= SWITCH_AFTER {
                        return Ok(true);
                    }
                    continue;
                }
                Err(error) => return Err(unread(error)),
            }
            let mut first = true;
            while pipe.held() > 0 {
                let passed = pipe.empty(to);
                if std::mem::take(&mut first) {
                    draught.passed(*passed.as_ref().unwrap_or(&0), pipe.held());
                }
                match passed {
                    Ok(n) => self.moved(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        to.writable().await.map_err(unwritten)?;
                    }
                    Err(error) => return Err(unwritten(error)),
                }
            }
        }
    }
}

fn unread(_: io::Error) -> Break {
    Break::Read
}

fn unwritten(_: io::Error) -> Break {
    Break::Write
}
