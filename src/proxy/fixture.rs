//! A listener and a worker for tests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, ListenerId};
use crate::model::{
    ConnectMethod, ForwardedStyle, Listener, ListenerLimits, ListenerTimeouts, Protocol,
    ProxyHeader, SocketOptions,
};
use crate::observe::{AccessSink, ListenerMeter};
use crate::proxy::admit::Crowd;
use crate::proxy::snapshot::ListenerView;
use crate::proxy::worker::Worker;

/// A TCP listener without anything special.
pub fn listener() -> Listener {
    let second = Duration::from_secs(1);
    Listener {
        id: ListenerId::new("l"),
        bind: vec![([127, 0, 0, 1], 80).into()],
        protocol: Protocol::Tcp,
        tls: None,
        pool: None,
        timeouts: ListenerTimeouts { head: second, idle: second, body: second },
        limits: ListenerLimits::default(),
        trusted: Vec::new(),
        proxy_protocol: ProxyHeader::Off,
        forwarded: ForwardedStyle::default(),
        request_id: None,
        client_subjects: Arc::default(),
        connect: ConnectMethod::default(),
        socket: SocketOptions::default(),
        errors: Arc::default(),
    }
}

/// The listener in a snapshot of one worker.
pub fn view(listener: Listener, crowd: &Arc<Crowd>) -> Arc<ListenerView> {
    Arc::new(ListenerView {
        listener,
        routes: Default::default(),
        default_pool: None,
        meter: Arc::new(ListenerMeter::new(1)),
        crowd: Arc::clone(crowd),
        tls: None,
    })
}

/// A worker without anything to do.
pub fn worker() -> Rc<Worker> {
    Worker::new(0, Clock::start(), Arc::default(), Arc::default(), AccessSink::default(), 1)
}
