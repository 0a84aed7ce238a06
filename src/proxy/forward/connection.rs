//! What a client's connection brings to each of its exchanges, whatever it speaks.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::proxy::forward::body::BodySink;
use crate::proxy::forward::respond::Answer;
use crate::proxy::guest::Guest;
use crate::proxy::snapshot::{ListenerView, Snapshot};
use crate::proxy::timer::Timer;
use crate::proxy::wire::ResponseHead;
use crate::proxy::wire::http1::Forwarded;
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::worker::Worker;

/// The client's side of an exchange: takes one response.
pub trait Responder {
    /// Where the body goes.
    type Sink<'x>: BodySink
    where
        Self: 'x;

    /// Both ends of the client's connection, for instances that are told of them; asks the socket.
    fn ends(&self) -> Option<Ends>;

    /// Starts the response: its head goes out with the first piece of its body, or the next flush.
    fn start(&mut self, head: &ResponseHead) -> Self::Sink<'_>;

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
    /// Whom it is for.
    pub guest: &'a Guest,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The response was sent whole.
    Whole,
    /// The response was sent whole, and the request's body is not read to its end.
    Early,
    /// The client got part of a response, or nothing: the connection is of no further use.
    Broken,
}

/// Memory that exchanges on a connection use one after the other.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The response's head.
    pub response: ResponseHead,
    /// Bytes to the instance.
    pub to_instance: Vec<u8>,
}
