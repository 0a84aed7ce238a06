//! What a listener's clients may send and how it treats them; and the options of sockets.

use crate::config::bound::{Bytes, Count, OrOff, OrUnlimited};
use crate::config::fault::Place;
use crate::config::raw;
use crate::config::scalar::Printed;
use crate::model::{ListenerLimits, Protocol, ProxyHeader, SocketOptions};

use super::Compiler;

impl Compiler<'_> {
    /// The limits of a listener. What is about messages has no meaning, and no setting, for one that
    /// does not read any.
    pub(super) fn limits(
        &mut self,
        raw: &raw::Limits,
        base: &raw::Limits,
        protocol: Protocol,
    ) -> ListenerLimits {
        let built_in = ListenerLimits::default();
        let mut limits = ListenerLimits {
            connections: self.pick(&raw.connections, &base.connections, built_in.connections),
            connections_per_client: self.pick(
                &raw.connections_per_client,
                &base.connections_per_client,
                built_in.connections_per_client,
            ),
            ..built_in
        };
        if protocol.is_http() {
            self.message_limits(&mut limits, raw, base);
        }
        limits
    }

    fn message_limits(
        &mut self,
        limits: &mut ListenerLimits,
        raw: &raw::Limits,
        base: &raw::Limits,
    ) {
        let head = Bytes(u64::from(limits.head));
        let head = self.choose(&raw.head, Some(&base.head), Some(head));
        let fields = self.pick(&raw.fields, &base.fields, Count(limits.fields));
        // A smaller head lowers what a target may be, unless that was written.
        let head_bytes = head.as_ref().map(|head| head.value.0);
        let target = u64::from(limits.target).min(head_bytes.unwrap_or(u64::MAX));
        let target = self.choose(&raw.target, Some(&base.target), Some(Bytes(target)));
        if let (Some(head), Some(target)) = (&head, &target)
            && target.value.0 > head.value.0
        {
            let own = raw.target.written().or(raw.head.written());
            let (place, key) = own.unwrap_or((target.place, &target.key));
            let problem = format!(
                "the target {} is longer than the head {}, of which it is a part",
                target.value.print(),
                head.value.print()
            );
            self.fault(place, key, problem, "");
        }
        // Their bounds fit.
        limits.head = head.map_or(limits.head, |head| head.value.0 as u32);
        limits.target = target.map_or(limits.target, |target| target.value.0 as u32);
        limits.fields = fields.0;
        let body = OrUnlimited(Some(Bytes(limits.body)));
        let body = self.pick(&raw.body, &base.body, body).0;
        limits.body = body.map_or(u64::MAX, |bytes| bytes.0);
        let rate = OrOff(Some(Bytes(limits.body_rate)));
        let rate = self.pick(&raw.body_rate, &base.body_rate, rate).0;
        limits.body_rate = rate.map_or(0, |bytes| bytes.0);
        limits.requests = self.pick(&raw.requests, &base.requests, limits.requests);
        limits.streams = self.pick(&raw.streams, &base.streams, Count(limits.streams)).0;
    }

    /// Notes a fault for every key of a tcp or tls listener that is about messages.
    pub(super) fn http_only(&self, raw: &raw::Listener, protocol: Protocol) {
        let word = protocol.word();
        let limits = &raw.limits;
        let written: [Option<(Place, &str)>; 11] = [
            limits.head.written(),
            limits.fields.written(),
            limits.target.written(),
            limits.body.written(),
            limits.body_rate.written(),
            limits.requests.written(),
            limits.streams.written(),
            raw.forwarded.written(),
            raw.request_id.written(),
            raw.connect.written(),
            raw.errors.written(),
            raw.tls.client_subject.written(),
        ];
        for (place, key) in written.into_iter().flatten() {
            let problem =
                format!("is for http listeners: a {word} listener does not read what it forwards");
            self.fault(place, key, problem, "leave it out");
        }
    }

    /// Whether connections begin with a PROXY protocol header. Only trusted peers may send one.
    pub(super) fn proxy_header(
        &mut self,
        raw: &raw::Listener,
        base: &raw::Listener,
    ) -> ProxyHeader {
        let header = self.own(&raw.proxy_protocol, ProxyHeader::Off);
        let mut trusted = [&raw.trusted, &base.trusted].into_iter();
        let trusted = trusted.find(|given| given.is_present());
        let nobody = trusted.is_none_or(|given| given.value().is_some_and(|it| it.0.is_empty()));
        if header != ProxyHeader::Off && nobody {
            let problem =
                format!("nobody could use {:?}: only trusted peers may send it", header.word());
            let hint =
                "add trusted = [\"10.0.0.0/8\"], the networks of the proxies before this one";
            self.fault(raw.proxy_protocol.place, &raw.proxy_protocol.key, problem, hint);
        }
        header
    }

    /// Options of the sockets of a listener or a pool.
    pub(super) fn socket(&mut self, raw: &raw::Tcp, base: &raw::Tcp) -> SocketOptions {
        let keepalive = self.pick(&raw.keepalive, &base.keepalive, OrOff(None)).0;
        let user_timeout = self.pick(&raw.user_timeout, &base.user_timeout, OrOff(None)).0;
        SocketOptions {
            keepalive: keepalive.map(|silence| silence.0),
            user_timeout: user_timeout.map(|wait| wait.0),
        }
    }
}
