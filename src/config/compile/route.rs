//! Routes: each is from an HTTP listener that exists, and does one thing.

use std::sync::Arc;

use crate::base::ListenerId;
use crate::config::raw::{self, File};
use crate::config::read::State;
use crate::config::text::UrlPath;
use crate::model::{Action, HostPattern, Priority, Protocol, Route};

use super::{Chosen, Compiler};

impl Compiler<'_> {
    pub(super) fn routes(&mut self, file: &File) -> Vec<Route> {
        file.routes.items().iter().filter_map(|raw| self.route(file, raw)).collect()
    }

    fn route(&mut self, file: &File, raw: &raw::Route) -> Option<Route> {
        let listener = self.required(&raw.listener, None, "write listener = \"NAME\"");
        let protocol = listener.as_ref().and_then(|listener| self.routed_listener(file, listener));
        if protocol == Some(Protocol::TlsPassthrough) {
            self.name_only(raw);
        }
        let host = self.choose(&raw.host, None, None).map_or(HostPattern::Any, |host| host.value);
        let path_prefix = self.own(&raw.path_prefix, UrlPath("/".into())).0;
        if path_prefix.contains('?') {
            let problem = "has a question mark: only the path is compared, not the query";
            self.fault(raw.path_prefix.place, &raw.path_prefix.key, problem, "");
        }
        let methods = self.choose(&raw.method, None, None).map(|methods| methods.value.0);
        let headers = self.choose(&raw.header, None, None).map(|fields| fields.value.0);
        let action = self.action(file, raw);
        let priority = self.priority(raw, action.as_ref());
        let rewrite = self.rewrite(&raw.edits.0);
        if let (Some(Action::Redirect(_) | Action::Respond(_)), false) =
            (&action, rewrite.request.is_empty())
        {
            self.no_request(&raw.edits.0);
        }
        Some(Route {
            listener: ListenerId::new(listener?.value),
            host,
            path_prefix,
            methods: methods.into_iter().flatten().map(|method| method.value.0).collect(),
            headers: headers.unwrap_or_default(),
            action: action?,
            priority,
            rewrite: Arc::new(rewrite),
        })
    }

    /// How much the requests of a route matter: of those that wait, so it must lead to a pool.
    fn priority(&mut self, raw: &raw::Route, action: Option<&Action>) -> Priority {
        let built_in = matches!(action, Some(Action::Pool(_))).then_some(Priority::Normal);
        let Some(priority) = self.choose(&raw.priority, None, built_in) else {
            return Priority::Normal;
        };
        if let Some(Action::Redirect(_) | Action::Respond(_)) = action {
            let problem = "is for requests that wait for an instance: these are answered here";
            self.fault(
                priority.place,
                &priority.key,
                problem,
                "leave it out, or write pool = \"NAME\"",
            );
        }
        priority.value
    }

    /// Notes a fault for every change to requests that go nowhere.
    fn no_request(&self, edits: &raw::Edits) {
        for (place, key) in [
            edits.remove_request_header.written(),
            edits.set_request_header.written(),
            edits.add_request_header.written(),
        ]
        .into_iter()
        .flatten()
        {
            let problem = "changes a request that is answered here: no instance sees it";
            self.fault(place, key, problem, "leave it out, or write pool = \"NAME\"");
        }
    }

    /// Notes a fault for all that asks more of a connection than which name its client asks for, or does
    /// more with it than to forward it.
    fn name_only(&self, raw: &raw::Route) {
        let edits = &raw.edits.0;
        for (place, key) in [
            raw.path_prefix.written(),
            raw.method.written(),
            raw.header.written(),
            raw.redirect.table.written(),
            raw.respond.table.written(),
            raw.priority.written(),
            edits.remove_request_header.written(),
            edits.set_request_header.written(),
            edits.add_request_header.written(),
            edits.remove_response_header.written(),
            edits.set_response_header.written(),
            edits.add_response_header.written(),
        ]
        .into_iter()
        .flatten()
        {
            let problem = "is about requests, and a tls-passthrough listener reads none";
            self.fault(place, key, problem, "leave it out: such a route has host and pool");
        }
    }

    /// What the listener of a route speaks, if that can be told and has routes.
    fn routed_listener(&self, file: &File, listener: &Chosen<String>) -> Option<Protocol> {
        let names: Vec<String> =
            file.listeners.items().iter().filter_map(raw::Listener::known_as).collect();
        // A listener whose name could not be read may be the one that is meant.
        let all_named = names.len() == file.listeners.items().len();
        if !all_named && !names.contains(&listener.value) {
            return None;
        }
        if !self.exists(listener, "listener", names.iter().map(String::as_str)) {
            return None;
        }
        let named = file
            .listeners
            .items()
            .iter()
            .find(|raw| raw.known_as().is_some_and(|name| name == listener.value));
        let protocol = named.and_then(|raw| match &raw.protocol.state {
            State::Absent => file.defaults.listener.protocol.value(),
            State::Wrong => None,
            State::Is(protocol) => Some(protocol),
        });
        let protocol = protocol.copied();
        if let Some(protocol) = protocol.filter(|protocol| !protocol.has_routes()) {
            let word = protocol.word();
            let problem =
                format!("the listener {:?} speaks {word}, which has no routes", listener.value);
            self.fault(listener.place, &listener.key, problem, "routes are for http listeners");
            return None;
        }
        protocol
    }
}
