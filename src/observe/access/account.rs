//! What becomes of an exchange, collected while it happens.

use std::sync::Arc;
use std::time::Duration;

use crate::base::PoolId;
use crate::model::Instance;

/// What stands where no instance was picked: it was answered without one, or nothing could take it.
pub const NO_PICK: &str = "none";

/// What the access log tells of an exchange or a TCP connection. One that is off collects nothing.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub(super) is_on: bool,
    /// When its head was here, or its connection, by the process' clock.
    pub began: Duration,
    /// The status that the client was sent; 0 if none.
    pub status: u16,
    /// The pool that it was for.
    pub pool: Option<PoolId>,
    /// The route that took it; empty if none did.
    pub route: String,
    /// The id that it is known by; empty without one.
    pub request_id: Vec<u8>,
    /// The instance that it was with last.
    pub instance: Option<Arc<Instance>>,
    /// How often an instance was tried.
    pub attempts: u32,
    /// Time in the hold queue, over all attempts.
    pub waited: Duration,
    /// Its last connection to an instance was kept from an earlier one.
    pub reused: bool,
    /// Why it went to its last instance, in a word.
    pub pick: &'static str,
    /// Why it was not served as asked, in the word of the metrics.
    pub failure: Option<&'static str>,
    /// Bytes from the client, head and framing included.
    pub bytes_in: u64,
    /// Bytes to the client, heads and framing included.
    pub bytes_out: u64,
    /// How many of these are not of heads.
    pub body_out: u64,
}

impl Account {
    /// A new one, in the memory of the last. `began` is asked for only if it is on.
    pub fn begin(&mut self, is_on: bool, began: impl FnOnce() -> Duration) {
        self.is_on = is_on;
        if is_on {
            let (mut route, mut request_id) =
                (std::mem::take(&mut self.route), std::mem::take(&mut self.request_id));
            route.clear();
            request_id.clear();
            let began = began();
            *self = Self { is_on, began, route, request_id, pick: NO_PICK, ..Self::default() };
        }
    }

    /// Whether anything is collected.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// It is known by this id.
    pub fn known_by(&mut self, id: Option<&[u8]>) {
        if self.is_on {
            self.request_id.extend_from_slice(id.unwrap_or_default());
        }
    }

    /// This route took it.
    pub fn routed(&mut self, route: &str) {
        if self.is_on {
            self.route.push_str(route);
        }
    }

    /// It is for this pool.
    pub fn meant_for(&mut self, pool: &PoolId) {
        if self.is_on {
            self.pool = Some(pool.clone());
        }
    }

    /// An instance was picked for it, for this reason.
    pub fn picked(&mut self, instance: &Arc<Instance>, why: &'static str) {
        if self.is_on {
            self.instance = Some(Arc::clone(instance));
            self.attempts += 1;
            self.pick = why;
        }
    }

    /// It has waited in the hold queue, whether or not in vain.
    pub fn waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// It goes over a connection to the instance that was, or was not, kept from an earlier one.
    pub fn connected(&mut self, reused: bool) {
        self.reused = reused;
    }

    /// It was answered without an instance, by the word of whoever answers.
    pub fn answered_by(&mut self, word: &'static str) {
        self.pick = word;
    }

    /// It was not served as asked.
    pub fn failed(&mut self, reason: &'static str) {
        self.failure = Some(reason);
    }

    /// It is told: nothing is held on to any more.
    pub fn end(&mut self) {
        self.is_on = false;
        (self.pool, self.instance) = (None, None);
    }
}
