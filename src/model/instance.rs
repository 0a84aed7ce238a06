//! An instance: one machine with one address, and the counters that every worker writes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::base::{InstanceId, Ms, PoolId, ZoneId};
use crate::model::{Cost, Limit};

/// One machine that traffic may go to. Immutable; a change of zone, address or weight makes a new
/// one that shares the [`Vitals`] of the old.
#[derive(Debug)]
pub struct Instance {
    /// Its name, unique within the pool.
    pub id: InstanceId,
    /// The pool it belongs to.
    pub pool: PoolId,
    /// The availability zone it stands in.
    pub zone: ZoneId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of traffic beside the other instances of the pool; at least 1.
    pub weight: u32,
    /// Hot counters, kept across reloads and scale events.
    pub vitals: Arc<Vitals>,
}

/// The hot counters of an instance: the only memory that several workers write per request.
#[derive(Debug)]
pub struct Vitals {
    /// Never used twice in the life of the process: a cheap key for per-worker tables.
    pub serial: u64,
    /// Exchanges and tunnels that hold a slot, and [`CLOSED`] in the top bit.
    in_flight: AtomicU32,
    /// When it last sent us a byte of a response, in clock milliseconds.
    last_byte_ms: AtomicU64,
    /// Set by a worker that waits in vain, cleared by the next probe result.
    suspect: AtomicBool,
    /// Set while health is down: who waits for this instance stops waiting.
    down: AtomicBool,
    /// How much of its full share it takes, of [`FULL`]: the product of the two below.
    ramp: AtomicU32,
    /// While it warms up.
    warmth: AtomicU32,
    /// As its agent wants it.
    share: AtomicU32,
    /// How many requests its agent allows in flight.
    own_limit: AtomicU32,
    /// What the last responses say in a row: 5xx or none at all.
    failures_in_a_row: AtomicU32,
    /// The same, of those alone that a gateway gives: 502, 503, 504, or none at all.
    gateway_failures_in_a_row: AtomicU32,
    /// What it costs to ask it; kept up to date only where a pool balances by it.
    pub cost: Cost,
    /// Time to the response head over all responses, in microseconds.
    latency_us: AtomicU64,
    /// Responses by class; index 0 counts exchanges that failed without one.
    responses: [AtomicU64; 6],
}

/// Set in `in_flight` when the instance is drained: no slot can be taken any more, even by a worker
/// that still looks at an older snapshot.
const CLOSED: u32 = 1 << 31;

/// A whole share in units of [`Vitals::ramp`].
pub const FULL: u32 = 1024;

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

impl Default for Vitals {
    fn default() -> Self {
        Self {
            serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
            in_flight: AtomicU32::new(0),
            last_byte_ms: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            down: AtomicBool::new(false),
            ramp: AtomicU32::new(FULL),
            warmth: AtomicU32::new(FULL),
            share: AtomicU32::new(FULL),
            own_limit: AtomicU32::new(u32::MAX),
            failures_in_a_row: AtomicU32::new(0),
            gateway_failures_in_a_row: AtomicU32::new(0),
            cost: Cost::default(),
            latency_us: AtomicU64::new(0),
            responses: Default::default(),
        }
    }
}

impl Vitals {
    /// What is being served by the instance now, over all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst) & !CLOSED
    }

    /// Takes a slot if fewer than `limit` are taken and the instance is not closed.
    fn acquire(&self, limit: Limit) -> bool {
        let limit = limit.as_u32().min(self.own_limit.load(Ordering::Relaxed));
        self.in_flight
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                (now & CLOSED == 0 && now < limit).then_some(now + 1)
            })
            .is_ok()
    }

    /// Closes the instance if nothing is in flight; says whether it is closed now. Atomic against
    /// [`Instance::take_slot`], so "drained" means that nothing runs and nothing can start.
    pub fn close_if_idle(&self) -> bool {
        match self.in_flight.compare_exchange(0, CLOSED, Ordering::SeqCst, Ordering::SeqCst) {
            Ok(_) => true,
            Err(seen) => seen & CLOSED != 0,
        }
    }

    /// Closes the instance with whatever is still in flight: the drain deadline has passed.
    pub fn close(&self) {
        self.in_flight.fetch_or(CLOSED, Ordering::SeqCst);
    }

    /// Opens a closed instance again (a drain was undone).
    pub fn reopen(&self) {
        self.in_flight.fetch_and(!CLOSED, Ordering::SeqCst);
    }

    /// Whether the instance was closed.
    pub fn is_closed(&self) -> bool {
        self.in_flight.load(Ordering::SeqCst) & CLOSED != 0
    }

    /// A byte of a response arrived.
    pub fn note_byte(&self, now: Ms) {
        self.last_byte_ms.store(now.0, Ordering::Relaxed);
    }

    /// When a byte of a response last arrived; [`Ms::ZERO`] if never.
    pub fn last_byte(&self) -> Ms {
        Ms(self.last_byte_ms.load(Ordering::Relaxed))
    }

    /// Marks the instance suspect; true for the first to say so.
    pub fn suspect(&self) -> bool {
        !self.suspect.swap(true, Ordering::Relaxed)
    }

    /// A probe has settled the matter, either way.
    pub fn clear_suspicion(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    /// Whether some worker waits in vain for it, and no probe has answered since.
    pub fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    /// Health went down or came back.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Whether health is down.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Sets the part of its full share that it takes while it warms up, of [`FULL`].
    pub fn set_ramp(&self, part: u32) {
        self.warmth.store(part.clamp(1, FULL), Ordering::Relaxed);
        self.set_product();
    }

    /// Sets the part of its full share that its agent wants for it, of [`FULL`].
    pub fn set_share(&self, part: u32) {
        self.share.store(part.clamp(1, FULL), Ordering::Relaxed);
        self.set_product();
    }

    /// Only the control plane sets parts, one at a time.
    fn set_product(&self) {
        let part = |part: &AtomicU32| part.load(Ordering::Relaxed);
        let product = part(&self.warmth) * part(&self.share) / FULL;
        self.ramp.store(product.clamp(1, FULL), Ordering::Relaxed);
    }

    /// Bounds its requests in flight, beside the limit of its pool; `None` leaves it to that.
    pub fn set_own_limit(&self, limit: Option<u32>) {
        self.own_limit.store(limit.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The part of its full share that it takes, of [`FULL`]; at least 1.
    pub fn ramp(&self) -> u32 {
        self.ramp.load(Ordering::Relaxed)
    }

    /// The head of a response with this status arrived, so long after the request was sent.
    pub fn count_response(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).min(5);
        self.responses[class].fetch_add(1, Ordering::Relaxed);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency_us.fetch_add(took_us, Ordering::Relaxed);
        note_in_a_row(&self.failures_in_a_row, class == 5);
        note_in_a_row(&self.gateway_failures_in_a_row, matches!(status, 502..=504));
    }

    /// An exchange ended without a response: refused, reset, or timed out.
    pub fn count_failure(&self) {
        self.responses[0].fetch_add(1, Ordering::Relaxed);
        note_in_a_row(&self.failures_in_a_row, true);
        note_in_a_row(&self.gateway_failures_in_a_row, true);
    }

    /// What was counted in a row counts anew from zero: it was acted on, or something went well that no
    /// response tells of.
    pub fn forget_failures(&self) {
        note_in_a_row(&self.failures_in_a_row, false);
        note_in_a_row(&self.gateway_failures_in_a_row, false);
    }

    /// How many exchanges in a row ended with a 5xx or without a response, up to now.
    pub fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row.load(Ordering::Relaxed)
    }

    /// How many exchanges in a row ended with 502, 503, 504 or without a response, up to now.
    pub fn gateway_failures_in_a_row(&self) -> u32 {
        self.gateway_failures_in_a_row.load(Ordering::Relaxed)
    }

    /// Time to the response head, summed over all responses, in microseconds. It wraps.
    pub fn latency_us(&self) -> u64 {
        self.latency_us.load(Ordering::Relaxed)
    }

    /// Exchanges by class: failed without a response, 1xx, 2xx, 3xx, 4xx, 5xx.
    pub fn responses(&self) -> [u64; 6] {
        std::array::from_fn(|class| self.responses[class].load(Ordering::Relaxed))
    }
}

/// A success mostly finds nothing to reset, and then writes nothing.
fn note_in_a_row(count: &AtomicU32, failed: bool) {
    if failed {
        count.fetch_add(1, Ordering::Relaxed);
    } else if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

impl Instance {
    /// Takes an in-flight slot, or says that the instance is full or closed.
    pub fn take_slot(self: &Arc<Self>, limit: Limit) -> Option<Slot> {
        self.vitals.acquire(limit).then(|| Slot { instance: Arc::clone(self) })
    }
}

/// One taken in-flight slot; given back on drop. Whoever drops it must let a waiter of the pool's
/// hold queue know, which is why only the proxy's lease wraps it.
#[derive(Debug)]
pub struct Slot {
    instance: Arc<Instance>,
}

impl Slot {
    /// The instance that the slot is on.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let before = self.instance.vitals.in_flight.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before & !CLOSED > 0, "a slot was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Arc<Instance> {
        Arc::new(Instance {
            id: "i".into(),
            pool: "p".into(),
            zone: "a".into(),
            address: "127.0.0.1:80".parse().expect("an address"),
            weight: 1,
            vitals: Arc::default(),
        })
    }

    #[test]
    fn slots_are_bounded_and_given_back() {
        let instance = instance();
        let limit = Limit::AtMost(2);
        let first = instance.take_slot(limit).expect("one");
        let _second = instance.take_slot(limit).expect("two");
        assert!(instance.take_slot(limit).is_none());
        drop(first);
        assert_eq!(instance.vitals.in_flight(), 1);
        assert!(instance.take_slot(limit).is_some());
    }

    #[test]
    fn an_agent_may_lower_the_limit_and_the_share() {
        let instance = instance();
        instance.vitals.set_own_limit(Some(1));
        let _slot = instance.take_slot(Limit::AtMost(2)).expect("one");
        assert!(instance.take_slot(Limit::AtMost(2)).is_none());
        instance.vitals.set_own_limit(Some(9));
        let _slot = instance.take_slot(Limit::AtMost(2)).expect("two");
        assert!(instance.take_slot(Limit::AtMost(2)).is_none(), "it cannot raise it");
        instance.vitals.set_own_limit(None);
        assert!(instance.take_slot(Limit::Unlimited).is_some());

        instance.vitals.set_ramp(FULL / 2);
        instance.vitals.set_share(FULL / 4);
        assert_eq!(instance.vitals.ramp(), FULL / 8);
        instance.vitals.set_ramp(FULL);
        assert_eq!(instance.vitals.ramp(), FULL / 4, "warm, and the agent still wants less");
        instance.vitals.set_share(0);
        assert_eq!(instance.vitals.ramp(), 1);
    }

    #[test]
    fn a_closed_instance_takes_nothing_and_closes_only_when_idle() {
        let instance = instance();
        let slot = instance.take_slot(Limit::Unlimited).expect("a slot");
        assert!(!instance.vitals.close_if_idle());
        drop(slot);
        assert!(instance.vitals.close_if_idle());
        assert!(instance.vitals.close_if_idle(), "closing twice is still closed");
        assert!(instance.take_slot(Limit::Unlimited).is_none());
        instance.vitals.reopen();
        assert!(instance.take_slot(Limit::Unlimited).is_some());
    }

    #[test]
    fn failures_are_counted_in_a_row() {
        let vitals = Vitals::default();
        let took = Duration::from_millis(2);
        for (status, all, gateway) in
            [(Some(500), 1, 0), (Some(503), 2, 1), (None, 3, 2), (Some(404), 0, 0), (None, 1, 1)]
        {
            match status {
                Some(status) => vitals.count_response(status, took),
                None => vitals.count_failure(),
            }
            assert_eq!(vitals.failures_in_a_row(), all, "{status:?}");
            assert_eq!(vitals.gateway_failures_in_a_row(), gateway, "{status:?}");
        }
        assert_eq!(vitals.latency_us(), 6_000);
        assert_eq!(vitals.responses(), [2, 0, 0, 0, 1, 2]);
    }

    #[test]
    fn closing_by_deadline_keeps_the_count() {
        let instance = instance();
        let slot = instance.take_slot(Limit::Unlimited).expect("a slot");
        instance.vitals.close();
        assert_eq!(instance.vitals.in_flight(), 1);
        drop(slot);
        assert_eq!(instance.vitals.in_flight(), 0);
        assert!(instance.vitals.is_closed());
    }
}
