//! Listeners: their names and addresses are unique, and each leads somewhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{ListenerId, PoolId};
use crate::config::bound::OrOff;
use crate::config::fault::Place;
use crate::config::http::RequestIdField;
use crate::config::raw::{self, File};
use crate::config::read::{Given, List, State};
use crate::config::scalar::Period;
use crate::config::text::Name;
use crate::config::{AdminBind, AdminSettings};
use crate::model::{ConnectMethod, ForwardedStyle, Listener, ListenerTimeouts, Page, Protocol};

use super::Compiler;

/// What was bound so far: address, by whom.
type Bound = Vec<(SocketAddr, String)>;

/// What a listener does with the messages that it reads.
#[derive(Default)]
struct Messages {
    forwarded: ForwardedStyle,
    request_id: Option<String>,
    connect: ConnectMethod,
    errors: BTreeMap<u16, Page>,
}

impl Compiler<'_> {
    pub(super) fn listeners(&mut self, file: &File, admin: &AdminSettings) -> Vec<Listener> {
        if file.listeners.items().is_empty() && !matches!(file.listeners.state, State::Wrong) {
            let hint = "add a [[listener]] with bind and pool";
            self.fault(0, "listener", "there is none: nothing could be served", hint);
        }
        let mut bound: Bound = match &admin.bind {
            AdminBind::Tcp(address) => vec![(*address, "the admin API".into())],
            AdminBind::Unix(_) => Vec::new(),
        };
        let mut listeners: Vec<Listener> = Vec::with_capacity(file.listeners.items().len());
        for raw in file.listeners.items() {
            let Some(listener) = self.listener(file, raw, &mut bound) else { continue };
            let clashes = |other: &Listener| {
                // Two without names on one address were told that already.
                let is_told = !raw.name.is_present() && other.bind.contains(&listener.bind[0]);
                other.id == listener.id && !is_told
            };
            if listeners.iter().any(clashes) {
                let problem = format!("another listener has the name {:?} too", listener.id);
                self.fault(raw.name.place, &raw.name.key, problem, "names are unique");
            }
            listeners.push(listener);
        }
        self.guard_subjects(file, &mut listeners);
        listeners
    }

    /// `None` if it cannot be told where it listens; a fault was noted then.
    fn listener(
        &mut self,
        file: &File,
        raw: &raw::Listener,
        bound: &mut Bound,
    ) -> Option<Listener> {
        let base = &file.defaults.listener;
        let known_as = raw.known_as();
        self.choose(&raw.name, None, known_as.clone().map(Name));
        let binds = self.required(&raw.bind, None, "write it like bind = \"0.0.0.0:8080\"");
        let protocol = self.pick(&raw.protocol, &base.protocol, Protocol::Http);
        let tls = self.listener_tls(raw, base, protocol);
        let pool = self.listener_pool(file, raw, protocol);
        let timeouts = self.listener_timeouts(&raw.timeouts, &base.timeouts);
        let limits = self.limits(&raw.limits, &base.limits, protocol);
        let trusted = self.pick(&raw.trusted, &base.trusted, List(Vec::new()));
        let proxy_protocol = self.proxy_header(raw, base);
        let messages = self.messages(raw, base, protocol);
        let socket = self.socket(&raw.tcp, &base.tcp);
        let binds = binds?;
        let label = known_as.clone().unwrap_or_default();
        for bind in &binds.value.0 {
            self.bind(bind.value.0, bind.place, &raw.bind.key, &label, bound);
        }
        let id = ListenerId::new(known_as?);
        let bind = binds.value.0.iter().map(|bind| bind.value.0).collect();
        Some(Listener {
            id,
            bind,
            protocol,
            tls,
            pool,
            timeouts,
            limits,
            trusted: trusted.0.iter().map(|network| network.value.0).collect(),
            proxy_protocol,
            forwarded: messages.forwarded,
            request_id: messages.request_id,
            client_subjects: Arc::default(),
            connect: messages.connect,
            socket,
            errors: Arc::new(messages.errors),
        })
    }

    fn bind(&self, address: SocketAddr, at: Place, key: &str, by: &str, bound: &mut Bound) {
        if let Some((taken, other)) = bound.iter().find(|(taken, _)| overlap(*taken, address)) {
            let problem = match (*taken == address, other == by) {
                (true, true) => format!("{address} is there twice"),
                (true, false) => format!("{address} is taken already, by {other}"),
                (false, true) => format!("{address} and {taken} overlap"),
                (false, false) => format!("{address} and {taken} of {other} overlap"),
            };
            self.fault(at, key, problem, "");
        }
        bound.push((address, by.to_owned()));
    }

    /// The pool of a listener, which must exist; checks that the listener leads somewhere.
    fn listener_pool(
        &mut self,
        file: &File,
        raw: &raw::Listener,
        protocol: Protocol,
    ) -> Option<PoolId> {
        let inherited: &Given<String> = &file.defaults.listener.pool;
        let pool = self.choose(&raw.pool, Some(inherited), None);
        if let Some(pool) = &pool {
            self.exists(pool, "pool", file.pools.iter().map(|(name, _)| name.value.as_str()));
        }
        let is_wrong = pool.is_none() && (raw.pool.is_present() || inherited.is_present());
        if pool.is_none() && !is_wrong {
            let name = raw.known_as();
            let is_this = |route: &raw::Route| route.listener.value() == name.as_ref();
            let routed = name.is_none() || file.routes.items().iter().any(is_this);
            let place = raw.table.place;
            let word = protocol.word();
            if !protocol.has_routes() {
                let problem =
                    format!("is missing: a {word} listener forwards all it gets to one pool");
                self.fault(place, &raw.pool.key, problem, "add pool = \"NAME\"");
            } else if !routed {
                let problem = "is missing, and no route is for this listener";
                let hint = "add pool = \"NAME\", or a [[route]] with this listener";
                self.fault(place, &raw.pool.key, problem, hint);
            }
        }
        pool.map(|pool| PoolId::new(pool.value))
    }

    /// What a listener does with the messages that it reads; one that reads none has no settings.
    fn messages(
        &mut self,
        raw: &raw::Listener,
        base: &raw::Listener,
        protocol: Protocol,
    ) -> Messages {
        if !protocol.is_http() {
            self.http_only(raw, protocol);
            return Messages::default();
        }
        let request_id = OrOff(Some(RequestIdField("x-request-id".into())));
        Messages {
            forwarded: self.pick(&raw.forwarded, &base.forwarded, ForwardedStyle::default()),
            request_id: self
                .pick(&raw.request_id, &base.request_id, request_id)
                .0
                .map(|field| field.0),
            connect: self.pick(&raw.connect, &base.connect, ConnectMethod::default()),
            errors: self.error_pages(raw, base),
        }
    }

    fn listener_timeouts(
        &mut self,
        raw: &raw::ListenerTimeouts,
        base: &raw::ListenerTimeouts,
    ) -> ListenerTimeouts {
        let seconds = |count| Period(Duration::from_secs(count));
        ListenerTimeouts {
            head: self.pick(&raw.head, &base.head, seconds(10)).0,
            idle: self.pick(&raw.idle, &base.idle, seconds(75)).0,
            body: self.pick(&raw.body, &base.body, seconds(30)).0,
        }
    }
}

/// Whether the two cannot both be listened on.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a == b || a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && everywhere
}
