//! What a client's connection brings to each of its exchanges, whatever it speaks.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::base::Ms;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodyError, BodySink};
use crate::proxy::forward::respond::Answer;
use crate::proxy::lease::Lease;
use crate::proxy::snapshot::{ListenerView, Snapshot};
use crate::proxy::timer::Timer;
use crate::proxy::wire::ResponseHead;
use crate::proxy::wire::http1::Forwarded;
use crate::proxy::worker::Worker;

/// The client's side of an exchange: takes one response.
pub trait Responder {
    /// Where the body goes.
    type Sink<'x>: BodySink
    where
        Self: 'x;

    /// Passes an interim response on, if the client knows those. Never waits for the client: what it
    /// does not take now goes out with what follows.
    fn interim(&mut self, head: &ResponseHead);

    /// Starts the response: its head goes out with the first piece of its body, or the next flush.
    /// The client may take it until `overdue_at`.
    fn start(&mut self, head: &ResponseHead, overdue_at: Ms) -> Self::Sink<'_>;

    /// Tells the client that the instance agrees to switch protocols.
    fn switch(&mut self, head: &ResponseHead) -> impl Future<Output = Result<(), BodyError>>;

    /// Answers in the instance's stead. Nothing was started before.
    fn answer(&mut self, answer: Answer) -> impl Future<Output = ()>;
}

/// What a connection brings to each of its exchanges.
#[derive(Debug)]
pub struct Connection<'a> {
    /// The worker that serves it.
    pub worker: &'a Worker,
    /// The listener that accepted it, as it was then.
    pub listener: &'a Arc<ListenerView>,
    /// The address that it was accepted on, by which the newest snapshot knows the listener.
    pub bound: SocketAddr,
    /// Watches the wait for an instance, and the response.
    pub timer: &'a Timer,
    /// Watches the request's body, which moves at the same time.
    pub body_timer: &'a Timer,
    /// What instances are told of it.
    pub forwarded: Forwarded<'a>,
}

impl Connection<'_> {
    /// Whether the current request is its last: the worker drains, or the listener has left the
    /// config.
    pub fn is_ending(&self, snapshot: &Snapshot) -> bool {
        self.worker.timers.is_draining() || snapshot.listener_at(self.bound).is_none()
    }
}

/// How an exchange ended, for the connection that it was on.
#[derive(Debug)]
pub enum Ending {
    /// The response was sent whole.
    Whole,
    /// The response was sent whole, and the request's body is not read to its end.
    Early,
    /// The client got part of a response, or nothing: the connection is of no further use.
    Broken,
    /// The client was told that its connection is a tunnel to the instance now.
    Switched(Box<Tunnel>),
}

/// The instance's side of a connection that does not speak HTTP any more.
#[derive(Debug)]
pub struct Tunnel {
    /// The slot on the instance.
    pub lease: Lease,
    /// The connection to it.
    pub stream: TcpStream,
    /// What has come over it already.
    pub buffer: Buffer,
    /// Longest silence.
    pub silence: Duration,
}
