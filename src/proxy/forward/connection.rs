//! What a client's connection brings to each of its exchanges, whatever it speaks.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::model::{Listener, Rewrite};
use crate::proxy::forward::body::BodySink;
use crate::proxy::forward::respond::Answer;
use crate::proxy::rewrite::{Facts, RequestId};
use crate::proxy::snapshot::{ListenerView, Snapshot};
use crate::proxy::timer::Timer;
use crate::proxy::wire::{RequestHead, ResponseHead};
use crate::proxy::worker::Worker;

/// The client's side of an exchange: takes one response.
pub trait Responder {
    /// Where the body goes.
    type Sink<'x>: BodySink
    where
        Self: 'x;

    /// Starts the response, which route and `pool` change: its head goes out with the first piece of its
    /// body, or the next flush.
    fn start(&mut self, head: &ResponseHead, facts: &Facts<'_>, pool: &Rewrite) -> Self::Sink<'_>;

    /// Answers in the instance's stead. Nothing was started before.
    fn answer(&mut self, answer: Answer<'_>, facts: &Facts<'_>) -> impl Future<Output = ()>;
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
    /// Who wrote what comes on it: the peer of its socket or, if it began with a PROXY protocol header,
    /// whom that names. A peer that only relays bytes vouches for its header, and not for them.
    pub client_address: IpAddr,
    /// The same, as text.
    pub client: &'a str,
    /// What the client speaks with us: `http` or `https`.
    pub scheme: &'static str,
}

impl Connection<'_> {
    /// What is known of a request that came on it to `listener` and that `route` changes.
    pub fn facts<'f>(
        &'f self,
        head: &'f RequestHead,
        listener: &'f Listener,
        route: &'f Rewrite,
    ) -> Facts<'f> {
        let field = listener.request_id.as_deref();
        Facts {
            head,
            listener,
            client: self.client,
            scheme: self.scheme,
            trusted: listener.trusts(self.client_address),
            request_id: field
                .map(|field| RequestId::of(head, field, &mut self.worker.entropy.borrow_mut())),
            date: self.worker.date.get(),
            route,
        }
    }

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
