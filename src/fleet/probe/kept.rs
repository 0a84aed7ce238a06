//! Connections that are kept from one probe of an instance to the next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Ms;
use crate::fleet::order::{Lane, ProbeOrder};
use crate::model::Pool;
use crate::net::stream::Stream;

/// So many are kept at most: each holds a descriptor. Who finds no room is connected to anew.
const MOST: usize = 1024;
/// Probes on one connection. The tenth is the last, so that it is also seen, time and again, whether
/// the instance takes new connections.
const PROBES: u32 = 10;
/// How often those are looked for that nobody will ask for again.
const SWEEP: Duration = Duration::from_secs(30);

/// What probes are made over.
pub(super) trait Carrier {
    /// Whether nothing has come on it since the last answer, not even its end, as far as can be told.
    fn is_good(&self) -> bool;
}

impl Carrier for Stream {
    fn is_good(&self) -> bool {
        self.is_quiet()
    }
}

/// A connection to an instance.
#[derive(Debug)]
pub(super) struct Line<C> {
    pub carrier: C,
    /// Probes that were made on it.
    probes: u32,
}

impl<C: Carrier> Line<C> {
    /// A new one.
    pub fn new(carrier: C) -> Self {
        Self { carrier, probes: 0 }
    }

    /// A probe is made on it: says whether it is the first.
    pub fn begin(&mut self) -> bool {
        self.probes += 1;
        self.probes == 1
    }

    /// Whether another probe may be made on it.
    pub fn may_stay(&self) -> bool {
        self.probes < PROBES
    }
}

/// Whether probes of such an order keep connections: those of instances that are up, where traffic
/// does so too.
pub(super) fn may_keep(order: &ProbeOrder) -> bool {
    let upstream = &order.pool.upstream;
    order.lane == Lane::Steady && upstream.keep_alive.max > 0 && upstream.proxy_protocol.is_none()
}

/// Unused connections, by the serial of their instances.
#[derive(Debug)]
pub(super) struct Kept<C> {
    lines: HashMap<u64, Idle<C>>,
    swept: Ms,
}

#[derive(Debug)]
struct Idle<C> {
    line: Line<C>,
    pool: Arc<Pool>,
    since: Ms,
}

impl<C> Idle<C> {
    /// Whether the next probe of its instance may still come.
    fn is_wanted(&self, now: Ms) -> bool {
        now.since(self.since) <= 2 * self.pool.health.serving_interval + SWEEP
    }
}

impl<C> Default for Kept<C> {
    fn default() -> Self {
        Self { lines: HashMap::new(), swept: Ms::default() }
    }
}

impl<C: Carrier> Kept<C> {
    /// The connection to the instance of this order, if one is kept that was made for such orders
    /// and is still good.
    pub fn take(&mut self, order: &ProbeOrder) -> Option<Line<C>> {
        let idle = self.lines.remove(&order.instance.vitals.serial)?;
        let same = Arc::ptr_eq(&idle.pool, &order.pool)
            || (idle.pool.upstream == order.pool.upstream && idle.pool.health == order.pool.health);
        (same && idle.line.carrier.is_good()).then_some(idle.line)
    }

    /// Keeps a connection until the next probe; hands it back if there is no room.
    pub fn put(&mut self, now: Ms, order: &ProbeOrder, line: Line<C>) -> Result<(), Line<C>> {
        if self.lines.len() >= MOST {
            return Err(line);
        }
        let idle = Idle { line, pool: Arc::clone(&order.pool), since: now };
        self.lines.insert(order.instance.vitals.serial, idle);
        Ok(())
    }

    /// Closes, now and then, those of instances that are gone.
    pub fn sweep(&mut self, now: Ms) {
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            self.lines.retain(|_, idle| idle.is_wanted(now));
        }
    }
}
