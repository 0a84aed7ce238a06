//! How long requests wait: an instance is a queue with several workers (M/M/k), the balancer a queue
//! that flows.

/// What is stated about instances and what users are promised.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Model {
    /// Requests a second that one instance takes at most.
    pub capacity: f64,
    /// How many requests one instance works on at a time.
    pub workers: u32,
    /// From the order of an instance to its first request, in seconds.
    pub boot_s: f64,
    /// A boot takes this share longer or shorter, evenly spread.
    pub boot_spread: f64,
    /// How long an instance has half its capacity after that, in seconds.
    pub warm_up_s: u32,
    /// How long an instance that leaves is still paid for, in seconds.
    pub drain_s: u32,
    /// A request that waits longer violates the objective, in seconds.
    pub slo_wait_s: f64,
    /// A request that would wait longer is shed, in seconds.
    pub shed_wait_s: f64,
}

/// The steps of utilisation for which the queue of an instance is worked out.
const STEPS: usize = 1_000;

/// What is acceptable to the clairvoyant optimum: one request in a thousand.
const TAIL: f64 = 1e-3;

/// One utilisation's share of slow requests and mean time.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Load {
    slow: f64,
    response_s: f64,
}

/// The balancer's queue and the instances behind it as one.
#[derive(Clone, Debug)]
pub struct Queue {
    model: Model,
    loads: Vec<Load>,
    waiting: f64,
}

/// What became of the requests of one second.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Flow {
    /// Requests that arrived.
    pub offered: f64,
    /// Requests that were answered.
    pub completed: f64,
    /// Requests that were refused, those among them that had waited.
    pub shed: f64,
    /// Requests that wait at its end.
    pub queued: f64,
    /// Of those that arrived, how many wait too long or are shed.
    pub violating: f64,
    /// Requests in flight, those that wait included.
    pub in_flight: f64,
    /// Requests that could have been answered.
    pub capacity: f64,
}

/// The probability that all `workers` are busy at an offered load of `load` workers (Erlang's C formula,
/// by the recursion of his B).
fn erlang_c(workers: u32, load: f64) -> f64 {
    if load >= f64::from(workers) {
        return 1.0;
    }
    let blocked = (1..=workers)
        .map(f64::from)
        .fold(1.0, |blocked, worker| load * blocked / (worker + load * blocked));
    blocked / (1.0 - load / f64::from(workers) * (1.0 - blocked))
}

impl Model {
    /// Seconds that one request takes when nothing else is there.
    pub fn service_s(&self) -> f64 {
        f64::from(self.workers) / self.capacity
    }

    fn load(&self, utilisation: f64) -> Load {
        let workers = f64::from(self.workers);
        let service_s = self.service_s();
        let spare = 1.0 - utilisation;
        let busy = erlang_c(self.workers, workers * utilisation);
        Load {
            slow: (busy * (-self.capacity * spare * self.slo_wait_s).exp()).min(1.0),
            // No request waits half a second for a free worker: the balancer sees to that.
            response_s: (service_s * (1.0 + busy / (workers * spare))).min(service_s + 0.5),
        }
    }

    fn loads(&self) -> impl Iterator<Item = Load> {
        (0..=STEPS).map(|step| self.load((step as f64 / STEPS as f64).min(0.9999)))
    }

    /// The highest utilisation that leaves 99.9 % of requests within the objective.
    pub fn knee(&self) -> f64 {
        let good = self.loads().enumerate().filter(|(_, load)| load.slow <= TAIL);
        good.map(|(step, _)| step as f64 / STEPS as f64).fold(0.0, f64::max)
    }
}

impl Queue {
    /// An empty one.
    pub fn new(model: Model) -> Self {
        Self { model, loads: model.loads().collect(), waiting: 0.0 }
    }

    /// The share of requests that wait too long at this utilisation, while none waits in the balancer.
    pub fn slow(&self, utilisation: f64) -> f64 {
        self.at(utilisation).slow
    }

    fn at(&self, utilisation: f64) -> Load {
        self.loads[((utilisation * STEPS as f64) as usize).min(STEPS)]
    }

    /// One second in which `offered` requests arrive, and `capacity` could be answered.
    pub fn second(&mut self, offered: f64, capacity: f64) -> Flow {
        if capacity <= 0.0 {
            let shed = offered + std::mem::take(&mut self.waiting);
            return Flow { offered, shed, violating: offered, ..Flow::default() };
        }
        let before = self.waiting;
        let left = before + offered - capacity;
        let mut flow = Flow { offered, capacity, ..Flow::default() };
        let utilisation = if left <= 0.0 {
            flow.completed = before + offered;
            let utilisation = flow.completed / capacity;
            let queue_s = before / capacity;
            let late = 1.0 - self.model.slo_wait_s / queue_s.max(self.model.slo_wait_s);
            // A queue that is worked off within the second delays those that come first.
            flow.violating = offered * self.slow(utilisation).max(late);
            utilisation
        } else {
            flow.completed = capacity;
            flow.queued = left.min(capacity * self.model.shed_wait_s);
            flow.shed = left - flow.queued;
            // What is shed beyond the arrivals of this second was late when it came.
            let refused = flow.shed.min(offered);
            let late = self.late(before / capacity, flow.queued / capacity);
            flow.violating = refused + (offered - refused) * late;
            1.0
        };
        flow.in_flight = flow.completed * self.at(utilisation).response_s + flow.queued;
        self.waiting = flow.queued;
        flow
    }

    /// The share of a second's requests that wait too long while the queue goes evenly from one length
    /// to another, both in seconds. Who arrives at busy workers waits for one too: at least half are
    /// late.
    fn late(&self, from_s: f64, to_s: f64) -> f64 {
        let slo_s = self.model.slo_wait_s;
        let (low, high) = (from_s.min(to_s), from_s.max(to_s));
        let late = if low >= slo_s {
            1.0
        } else if high <= slo_s {
            0.0
        } else {
            (high - slo_s) / (high - low)
        };
        late.max(0.5)
    }
}

#[cfg(test)]
pub(super) const USUAL: Model = Model {
    capacity: 200.0,
    workers: 8,
    boot_s: 90.0,
    boot_spread: 0.2,
    warm_up_s: 30,
    drain_s: 30,
    slo_wait_s: 0.2,
    shed_wait_s: 2.0,
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn about(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-4
    }

    #[test]
    fn erlang_c_has_its_published_values() {
        // One worker is busy as often as it is used; two at 75 % by hand; the others from tables.
        for (workers, load, expected) in
            [(1, 0.3, 0.3), (2, 1.5, 0.642_857), (5, 4.0, 0.554_113), (10, 8.0, 0.409_180)]
        {
            let busy = erlang_c(workers, load);
            assert!(about(busy, expected), "{workers} workers at {load}: {busy}");
        }
        assert_eq!(erlang_c(3, 3.0), 1.0);
    }

    #[test]
    fn the_usual_instance_is_good_for_84_percent() {
        assert!(about(USUAL.knee(), 0.842), "{}", USUAL.knee());
        assert!(about(USUAL.service_s(), 0.04));
    }

    #[test]
    fn a_second_below_between_and_above_its_capacity() {
        let mut queue = Queue::new(USUAL);
        let calm = queue.second(500.0, 1_000.0);
        assert_eq!((calm.completed, calm.queued, calm.shed), (500.0, 0.0, 0.0));
        assert!(calm.violating < 0.01);
        let busy = queue.second(1_100.0, 1_000.0);
        assert_eq!((busy.completed, busy.queued, busy.violating), (1_000.0, 100.0, 550.0));
        let jammed = queue.second(4_000.0, 1_000.0);
        assert_eq!((jammed.queued, jammed.shed), (2_000.0, 1_100.0));
        // 1,100 are shed; of the rest those come in time that find less than 0.2 s of queue.
        assert!(about(jammed.violating, 1_100.0 + 2_900.0 * 1.8 / 1.9), "{}", jammed.violating);
        let gone = queue.second(10.0, 0.0);
        assert_eq!((gone.shed, gone.violating, gone.queued), (2_010.0, 10.0, 0.0));
        queue.second(1_500.0, 1_000.0);
        let worked_off = queue.second(100.0, 1_000.0);
        assert_eq!(worked_off.completed, 600.0);
        assert!(about(worked_off.violating, 60.0), "{}", worked_off.violating);
    }

    proptest! {
        #[test]
        fn no_request_is_lost_or_made(
            seconds in proptest::collection::vec((0.0..5_000.0f64, 0.0..3_000.0f64), 1..200),
        ) {
            let mut queue = Queue::new(USUAL);
            let (mut offered, mut ended) = (0.0, 0.0);
            for (arriving, capacity) in seconds {
                // Now and then nobody is there.
                let capacity = if capacity < 200.0 { 0.0 } else { capacity };
                let flow = queue.second(arriving, capacity);
                offered += arriving;
                ended += flow.completed + flow.shed;
                prop_assert!((offered - ended - flow.queued).abs() < 1e-6);
                prop_assert!(flow.completed <= capacity + 1e-9);
                prop_assert!((-1e-9..=arriving + 1e-9).contains(&flow.violating), "{flow:?}");
                prop_assert!(flow.queued <= capacity * USUAL.shed_wait_s + 1e-9);
            }
        }

        #[test]
        fn more_capacity_never_sheds_more(
            offered in 0.0..5_000.0f64, capacity in 200.0..3_000.0f64, more in 1.0..2.0f64,
        ) {
            let one = Queue::new(USUAL).second(offered, capacity);
            let two = Queue::new(USUAL).second(offered, capacity * more);
            prop_assert!(two.shed <= one.shed + 1e-9);
            prop_assert!(two.completed >= one.completed - 1e-9);
        }
    }
}
