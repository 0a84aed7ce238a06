//! The demand of each pool, second by second, from the workers' counters.

use std::collections::{HashMap, VecDeque};

use crate::base::{Ms, PoolId};
use crate::model::{PoolRow, Totals, Window};
use crate::proxy::snapshot::PoolShared;

/// Windows that an agent may catch up on: two minutes.
const KEPT: usize = 120;

/// The last windows of every pool.
#[derive(Debug, Default)]
pub struct Windows {
    pools: HashMap<PoolId, History>,
}

#[derive(Debug)]
struct History {
    last: (Ms, Totals),
    windows: VecDeque<Window>,
}

impl Windows {
    /// Closes the window of a pool that ends now; its last windows, oldest first.
    pub fn close(&mut self, now: Ms, shared: &PoolShared, row: &PoolRow) -> Vec<Window> {
        let totals = shared.meter.totals();
        let Some(history) = self.pools.get_mut(&shared.id) else {
            let history = History { last: (now, totals), windows: VecDeque::new() };
            self.pools.insert(shared.id.clone(), history);
            return Vec::new();
        };
        let in_flight = row.instances.iter().map(|row| row.instance.vitals.in_flight()).sum();
        let here = (now, totals);
        let window = Window::between(history.last, here, shared.hold.depth(), in_flight);
        history.last = here;
        if history.windows.len() == KEPT {
            history.windows.pop_front();
        }
        history.windows.push_back(window);
        history.windows.iter().copied().collect()
    }
}
