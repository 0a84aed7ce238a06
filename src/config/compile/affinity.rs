//! Which requests of a pool go to the same instance.

use crate::config::affinity::MaxLoad;
use crate::config::bound::{OrOff, OrSession};
use crate::config::raw;
use crate::config::read::Given;
use crate::model::{Affinity, Balance, HashKey, Listener, Sticky};

use super::Compiler;

impl Compiler<'_> {
    pub(super) fn affinity(
        &mut self,
        raw: &raw::Pool,
        base: &raw::Pool,
        balance: Balance,
    ) -> Affinity {
        let built_in = Affinity::default();
        let max_load = MaxLoad(built_in.max_load);
        let hash = self.pick(&raw.hash, &base.hash, built_in.hash);
        let max_load = self.pick(&raw.ring.max_load, &base.ring.max_load, max_load).0;
        let cookie = self.pick(&raw.sticky.cookie, &base.sticky.cookie, OrOff(None)).0;
        let ttl = self.pick(&raw.sticky.ttl, &base.sticky.ttl, OrSession(None)).0;
        let ttl = ttl.map(|span| span.0);
        if raw.hash.value().is_some() && !balance.hashes() {
            self.idle(&raw.hash, "balance is \"maglev\" or \"ring\"");
        }
        if raw.ring.max_load.value().is_some() && balance != Balance::Ring {
            self.idle(&raw.ring.max_load, "balance is \"ring\"");
        }
        if raw.sticky.ttl.value().is_some_and(|ttl| ttl.0.is_some()) && cookie.is_none() {
            self.idle(&raw.sticky.ttl, "sticky has a cookie");
        }
        Affinity { hash, max_load, sticky: cookie.map(|cookie| Sticky { cookie: cookie.0, ttl }) }
    }

    /// The key is written where it has no effect.
    fn idle<T>(&self, given: &Given<T>, unless: &str) {
        self.fault(given.place, &given.key, format!("has no effect unless {unless}"), "");
    }

    /// What reads no requests can only tell its clients apart.
    pub(super) fn check_affinity(
        &self,
        raw: &raw::Pool,
        base: &raw::Pool,
        balance: Balance,
        listeners: &[Listener],
        pool: &str,
    ) {
        let is_before = |it: &&Listener| {
            !it.protocol.is_http() && it.pool.as_ref().is_some_and(|id| id.as_str() == pool)
        };
        let Some(Listener { id, protocol, .. }) = listeners.iter().find(is_before) else { return };
        let problem = |what: &str| {
            let word = protocol.word();
            format!("{what}, and the {word} listener {id}, which leads to {pool}, reads none")
        };
        let hash = if raw.hash.is_present() { &raw.hash } else { &base.hash };
        let lacks = match hash.value() {
            None | Some(HashKey::ClientAddress) => None,
            Some(HashKey::Sni) if protocol.has_names() => None,
            Some(HashKey::Sni) => Some(format!(
                "is part of TLS, and the {} listener {id}, which leads to {pool}, speaks none",
                protocol.word()
            )),
            Some(_) => Some(problem("is part of a request")),
        };
        if let Some(problem) = lacks.filter(|_| balance.hashes()) {
            self.fault(hash.place, &hash.key, problem, "write \"client-address\"");
        }
        let own = &raw.sticky.cookie;
        let cookie = if own.is_present() { own } else { &base.sticky.cookie };
        if cookie.value().is_some_and(|cookie| cookie.0.is_some()) {
            let problem = problem("comes with a request");
            self.fault(cookie.place, &cookie.key, problem, "write \"off\" in the pool");
        }
    }
}
