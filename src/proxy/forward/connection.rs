//! What a client's connection brings to each of its exchanges, whatever it speaks.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::{RecvStream, SendStream};

use crate::base::Ms;
use crate::model::{Listener, Priority, Rewrite, TlsIdentity};
use crate::net::stream::Stream;
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::body::{BodyError, BodySink};
use crate::proxy::forward::respond::Answer;
use crate::proxy::guest::Guest;
use crate::proxy::lease::Lease;
use crate::proxy::patience::Patience;
use crate::proxy::rewrite::{Facts, RequestId};
use crate::proxy::snapshot::{ListenerView, Snapshot};
use crate::proxy::timer::Timer;
use crate::proxy::upstream::http2::Seat;
use crate::proxy::wire::proxy_protocol::Ends;
use crate::proxy::wire::{RequestHead, ResponseHead};
use crate::proxy::worker::Worker;

/// The client's side of an exchange: takes one response.
pub trait Responder {
    /// Where the body goes.
    type Sink<'x>: BodySink
    where
        Self: 'x;

    /// Both ends of the client's connection, for instances that are told of them; asks the socket.
    fn ends(&self) -> Option<Ends>;

    /// Passes an interim response on, if the client knows those. Never waits for the client: what it
    /// does not take now goes out with what follows.
    fn interim(&mut self, head: &ResponseHead, facts: &Facts<'_>, pool: &Rewrite);

    /// Starts the response, which route and `pool` change: its head goes out with the first piece of its
    /// body, or the next flush. The client may take it until `overdue_at`.
    fn start(
        &mut self,
        head: &ResponseHead,
        facts: &Facts<'_>,
        pool: &Rewrite,
        overdue_at: Ms,
    ) -> Self::Sink<'_>;

    /// Tells the client that the instance agrees to switch protocols.
    fn switch(
        &mut self,
        head: &ResponseHead,
        facts: &Facts<'_>,
        pool: &Rewrite,
    ) -> impl Future<Output = Result<(), BodyError>>;

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
    /// Whom it is for.
    pub guest: &'a Guest,
    /// Watches the wait for an instance, and the response.
    pub timer: &'a Timer,
    /// Watches the request's body, which moves at the same time.
    pub body_timer: &'a Timer,
    /// The response to the current request goes on beside its body, as it may over HTTP/2: pauses in
    /// that are no failures.
    pub answered: Cell<bool>,
    /// Who wrote what comes on it: the peer of its socket or, if it began with a PROXY protocol header,
    /// whom that names. A peer that only relays bytes vouches for its header, and not for them.
    pub client_address: IpAddr,
    /// The same, as text.
    pub client: &'a str,
    /// What the client speaks with us: `http` or `https`.
    pub scheme: &'static str,
    /// What the client has shown of itself, where it speaks TLS.
    pub identity: Option<&'a TlsIdentity>,
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
            client_subject: self.identity.and_then(|it| it.subject.as_deref()),
            trusted: listener.trusts(self.client_address),
            request_id: field
                .map(|field| RequestId::of(head, field, &mut self.worker.entropy.borrow_mut())),
            date: self.worker.date.get(),
            route,
            priority: Priority::default(),
        }
    }

    /// For waits for the body of the current request.
    pub fn upload_patience(&self) -> Patience<'_> {
        let Listener { timeouts, limits, .. } = &self.listener.listener;
        Patience::new(self.body_timer, timeouts.body, Ms::NEVER)
            .with_rate(limits.body_rate)
            .but_not_while(&self.answered)
    }

    /// For waits for the client to take the response, until `overdue_at`.
    pub fn download_patience(&self, overdue_at: Ms) -> Patience<'_> {
        let Listener { timeouts, limits, .. } = &self.listener.listener;
        Patience::new(self.timer, timeouts.body, overdue_at).with_rate(limits.body_rate)
    }

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
    /// What leads there.
    pub far: Far,
    /// The slot on the instance.
    pub lease: Lease,
    /// Longest silence.
    pub silence: Duration,
}

/// What leads to an instance that does not speak HTTP any more.
#[derive(Debug)]
pub enum Far {
    /// A connection, and what has come over it already.
    Connection(Stream, Buffer),
    /// A stream of a shared connection.
    Stream(Box<FarStream>),
}

/// A stream of a shared connection that does not carry HTTP any more.
#[derive(Debug)]
pub struct FarStream {
    // Dropped in this order: the place is free when the stream is gone.
    /// What comes on it.
    pub recv: RecvStream,
    /// What goes out on it.
    pub send: SendStream<Bytes>,
    /// Its place.
    pub seat: Seat,
}
