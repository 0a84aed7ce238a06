use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::yield_now;

use super::*;
use crate::model::{KeepAlive, Limit, TrafficPlan};
use crate::observe::PoolMeter;
use crate::observe::metrics::fixture;

/// An instance whose connections are served by h2, and a worker's connections to it.
struct Fixture {
    upstreams: Http2Upstreams,
    view: PoolView,
    instance: Arc<Instance>,
    timers: Rc<Timers>,
    /// How many connections were made.
    made: Rc<Cell<usize>>,
    /// Orders to send GOAWAY on all connections.
    leave: tokio::sync::watch::Sender<()>,
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(Default::default())
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(10), test).await.expect("in time");
    });
}

impl Fixture {
    async fn new(keep_alive: KeepAlive, streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = listener.local_addr().expect("an address");
        let made = Rc::new(Cell::new(0));
        let (leave, left) = tokio::sync::watch::channel(());
        let count = Rc::clone(&made);
        tokio::task::spawn_local(async move {
            while let Ok((socket, _)) = listener.accept().await {
                count.set(count.get() + 1);
                tokio::task::spawn_local(serve(socket, streams, left.clone()));
            }
        });
        let mut pool = fixture::pool("p");
        pool.upstream.version = UpstreamVersion::H2;
        pool.upstream.keep_alive = keep_alive;
        let instance = Arc::new(Instance {
            id: "i".into(),
            pool: "p".into(),
            zone: "a".into(),
            address,
            weight: 1,
            vitals: Arc::default(),
        });
        let clock = Clock::start();
        let timers = Timers::new(clock);
        Self {
            upstreams: Http2Upstreams::new(Rc::clone(&timers), clock, 0),
            view: view(pool, &instance),
            instance,
            timers,
            made,
            leave,
        }
    }

    fn take(&self) -> Option<Seat> {
        self.upstreams.take(&self.view, &self.instance)
    }

    async fn wait(&self) -> Seat {
        let place = self.upstreams.wait(&self.view, &self.instance);
        place.await.expect("an outcome").expect("a place")
    }

    fn sweep(&self) -> usize {
        let pools = vec![view((*self.view.pool).clone(), &self.instance)];
        self.upstreams.sweep(&Snapshot { pools, ..Snapshot::default() });
        self.connections()
    }

    fn connections(&self) -> usize {
        self.upstreams.bundles.borrow().values().map(|bundle| bundle.links.borrow().len()).sum()
    }

    /// Until the clock has moved on by so much.
    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.timers.tick();
    }
}

fn view(pool: Pool, instance: &Arc<Instance>) -> PoolView {
    let shared = PoolShared::new("p".into(), 0, Arc::new(PoolMeter::new(1)));
    let members = vec![(Arc::clone(instance), true)];
    let plan = TrafficPlan::default();
    PoolView::build(Arc::new(pool), members, &plan, false, Arc::new(shared))
}

async fn serve(socket: TcpStream, streams: u32, mut leave: tokio::sync::watch::Receiver<()>) {
    let shaken = h2::server::Builder::new()
        .max_concurrent_streams(streams)
        .handshake::<_, Bytes>(socket)
        .await;
    let Ok(mut connection) = shaken else { return };
    let held = RefCell::new(Vec::new());
    leave.borrow_and_update();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                // Held, so that they stay open.
                Some(Ok(stream)) => held.borrow_mut().push(stream),
                _ => return,
            },
            Ok(()) = leave.changed() => connection.graceful_shutdown(),
        }
    }
}

fn rule(max: u32, age_ms: u64, requests: u32) -> KeepAlive {
    KeepAlive { max, age: Duration::from_millis(age_ms), requests: Limit::AtMost(requests) }
}

const LONG: u64 = 3_600_000;

#[test]
fn all_who_come_at_once_wait_for_one_connection_in_their_order() {
    run(async {
        let f = Fixture::new(rule(9, LONG, 1_000), 1_000).await;
        assert!(f.take().is_none(), "there is none yet");
        let mut places: Vec<_> = (0..100).map(|_| f.upstreams.wait(&f.view, &f.instance)).collect();
        assert!(f.take().is_none(), "nobody is served before those who wait");
        let mut seats = Vec::new();
        for place in places.drain(..) {
            seats.push(place.await.expect("an outcome").expect("a place"));
        }
        assert_eq!(f.made.get(), 1);
        assert!(!seats[0].is_reused() && seats[1].is_reused() && !seats[1].is_alone());
        assert!(f.take().is_none(), "a hundred is all that it takes");
        let more = f.wait().await;
        assert_eq!(f.made.get(), 2);
        drop(more);
        drop(seats);
        assert!(f.take().expect("a place").is_alone());
        assert_eq!(f.connections(), 2);
    });
}

#[test]
fn a_place_that_becomes_free_goes_to_who_has_waited_longest_and_still_does() {
    run(async {
        let f = Fixture::new(rule(1, LONG, 1_000), 1).await;
        let seat = f.wait().await;
        let left = f.upstreams.wait(&f.view, &f.instance);
        let mut first = f.upstreams.wait(&f.view, &f.instance);
        let mut second = f.upstreams.wait(&f.view, &f.instance);
        drop(left);
        yield_now().await;
        assert!(first.try_recv().is_err(), "the only one is in use, and there may be no other");
        drop(seat);
        let seat = first.try_recv().expect("an outcome").expect("a place");
        assert!(second.try_recv().is_err());
        // A place that was granted to somebody who leaves just then is not lost either.
        drop(second);
        let third = f.upstreams.wait(&f.view, &f.instance);
        drop(seat);
        drop(third);
        assert!(f.take().is_some());
        assert_eq!(f.made.get(), 1);
    });
}

#[test]
fn connections_end_by_age_number_idleness_and_with_their_instance() {
    run(async {
        let mut f = Fixture::new(rule(9, 300, 1_000), 1_000).await;
        let seat = f.wait().await;
        f.pass(Duration::from_millis(350)).await;
        assert!(f.take().is_none(), "too old");
        drop(seat);
        assert_eq!(f.sweep(), 0);

        f = Fixture::new(rule(9, LONG, 2), 1_000).await;
        drop(f.wait().await);
        drop(f.take().expect("the second"));
        assert!(f.take().is_none(), "that was its last");

        f = Fixture::new(rule(9, LONG, 1_000), 1_000).await;
        let mut pool = (*f.view.pool).clone();
        pool.timeouts.idle = Duration::from_millis(300);
        f.view = view(pool, &f.instance);
        let seat = f.wait().await;
        f.pass(Duration::from_millis(350)).await;
        assert_eq!(f.sweep(), 1, "it is in use");
        drop(seat);
        assert_eq!(f.sweep(), 1);
        f.pass(Duration::from_millis(350)).await;
        assert_eq!(f.sweep(), 0);

        let seat = f.wait().await;
        f.instance.vitals.set_down(true);
        assert_eq!(f.sweep(), 0, "no new streams");
        assert!(!seat.has_ended(), "what runs goes on");
        f.instance.vitals.set_down(false);
        assert!(f.take().is_none());
    });
}

#[test]
fn who_leaves_takes_no_more_and_nobody_listening_is_told_to_all() {
    run(async {
        let mut f = Fixture::new(rule(9, LONG, 1_000), 1_000).await;
        let seat = f.wait().await;
        f.leave.send_replace(());
        while !seat.has_ended() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(f.take().is_none());
        drop(f.wait().await);
        assert_eq!(f.made.get(), 2);

        // Nobody listens there.
        let closed = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
        let address = closed.local_addr().expect("an address");
        drop(closed);
        let vitals = Arc::default();
        f.instance = Arc::new(Instance {
            id: "j".into(),
            pool: "p".into(),
            zone: "a".into(),
            address,
            weight: 1,
            vitals,
        });
        let places: Vec<_> = (0..9).map(|_| f.upstreams.wait(&f.view, &f.instance)).collect();
        for place in places {
            let error = place.await.expect("an outcome").expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
    });
}
