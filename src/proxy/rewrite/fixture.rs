//! Listeners, facts and edits for the tests of this room.

use std::sync::Arc;
use std::time::Duration;

use super::{Facts, UNCHANGED};
use crate::model::{
    ConnectMethod, FieldEdits, ForwardedStyle, Listener, ListenerLimits, ListenerTimeouts,
    Protocol, ProxyHeader, Rewrite, SocketOptions, Template,
};
use crate::proxy::wire::RequestHead;
use crate::proxy::wire::http1::{HeadLimits, Onward, parse_request};

/// A listener with nothing special, which makes no request ids.
pub(crate) fn listener() -> Listener {
    let second = Duration::from_secs(1);
    Listener {
        id: "front".into(),
        bind: Vec::new(),
        protocol: Protocol::Http,
        tls: None,
        pool: None,
        timeouts: ListenerTimeouts { head: second, idle: second, body: second },
        limits: ListenerLimits::default(),
        trusted: Vec::new(),
        proxy_protocol: ProxyHeader::default(),
        forwarded: ForwardedStyle::XForwarded,
        request_id: None,
        client_subjects: Arc::default(),
        connect: ConnectMethod::default(),
        socket: SocketOptions::default(),
        errors: Arc::default(),
    }
}

/// On to an instance of a pool that changes `pool`.
pub(crate) fn onward(pool: &Rewrite) -> Onward<'_> {
    Onward { pool, address: ([127, 0, 0, 1], 80).into(), expect: false }
}

/// A request that 192.0.2.7, whom nobody trusts, has sent to `listener`.
pub(crate) fn facts<'a>(head: &'a RequestHead, listener: &'a Listener) -> Facts<'a> {
    Facts {
        head,
        listener,
        client: "192.0.2.7",
        scheme: "http",
        client_subject: None,
        trusted: false,
        request_id: None,
        date: *b"Sun, 06 Nov 1994 08:49:37 GMT",
        route: &UNCHANGED,
        priority: crate::model::Priority::Normal,
    }
}

/// The head of a request.
pub(crate) fn request(text: &str) -> RequestHead {
    let mut head = RequestHead::default();
    let len = parse_request(text.as_bytes(), &HeadLimits::default(), &mut head).expect("a request");
    assert_eq!(len, Some(text.len()), "the whole text is one head");
    head
}

/// Edits, written as `-name` to remove, `name=template` to set, and `+name=template` to add.
pub(crate) fn edits(text: &str) -> FieldEdits {
    let mut edits = FieldEdits::default();
    for word in text.split_whitespace() {
        if let Some(name) = word.strip_prefix('-') {
            edits.remove.push(name.to_owned());
            continue;
        }
        let (name, template) = word.split_once('=').expect("name=template");
        let template = Template::parse(template).expect("a template");
        match name.strip_prefix('+') {
            Some(name) => edits.add.push((name.to_owned(), template)),
            None => edits.set.push((name.to_owned(), template)),
        }
    }
    edits
}
