//! HTTP/2 connections to instances, shared by the requests of a worker.
//!
//! A request takes a [`Seat`] on one of the instance's connections, or waits for one. A connection is
//! dialed by a task of its own, so it does not die with the request that was the first to want it; it
//! stands once the instance's SETTINGS are here: how many streams it takes is known by then, and whoever
//! only accepts connections (a frozen instance, or one that speaks something else) has been told apart
//! before anything was asked of it.
//!
//! A connection that takes no more streams (too old, used up, GOAWAY, its instance down or gone) is let
//! go of: the streams that it has go on, and it closes behind the last of them.
//!
//! Invariant: streams are given in the order in which they were asked for; a free place is never kept
//! while somebody waits for one.

mod choose;
mod link;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::sync::oneshot;

use crate::base::{Clock, Ms};
use crate::model::{Instance, Pool, UpstreamVersion};
use crate::proxy::snapshot::{PoolShared, PoolView, Snapshot};
use crate::proxy::timer::Timers;
use crate::proxy::upstream::http2::choose::{Choice, choose};
use crate::proxy::upstream::http2::link::{Link, establish};

/// Streams on one connection, whatever the instance would take: what breaks it takes no more along, and
/// the window of each fits in that of the connection.
pub const STREAMS_MAX: u32 = 100;

/// What a request gets that waits for a place.
pub type Granted = Result<Seat, io::Error>;

/// A worker's HTTP/2 connections, by the serial of their instance.
#[derive(Debug)]
pub struct Http2Upstreams {
    timers: Rc<Timers>,
    clock: Clock,
    /// Which worker it is.
    index: usize,
    bundles: RefCell<HashMap<u64, Rc<Bundle>>>,
}

/// The connections to one instance.
struct Bundle {
    timers: Rc<Timers>,
    clock: Clock,
    index: usize,
    instance: Arc<Instance>,
    shared: Arc<PoolShared>,
    /// As it was configured when somebody last came.
    pool: RefCell<Arc<Pool>>,
    links: RefCell<Vec<Rc<Link>>>,
    dialing: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<Granted>>>,
    /// That it does not speak HTTP/2 was told.
    told: Cell<bool>,
}

/// A place for one stream on a connection; free again when it is dropped, which is to be after the
/// stream.
pub struct Seat {
    opener: SendRequest<Bytes>,
    link: Rc<Link>,
    bundle: Rc<Bundle>,
    reused: bool,
    alone: bool,
}

impl Seat {
    /// Whether the connection has had streams before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether nobody else uses the connection now, so that nothing shows that it still leads anywhere.
    pub fn is_alone(&self) -> bool {
        self.alone
    }

    /// Whether the connection has ended, or the instance takes no more streams on it.
    pub fn has_ended(&self) -> bool {
        self.link.has_ended()
    }

    /// Whether a protocol other than HTTP may be spoken in a stream (RFC 8441).
    pub fn may_switch(&self) -> bool {
        self.opener.is_extended_connect_protocol_enabled()
    }

    /// Opens the stream; with `end` the head is all there is of the request.
    ///
    /// # Errors
    /// If the connection has broken, or takes no more streams: nothing was sent.
    pub fn open(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        self.link.pulse.asked(self.bundle.timers.now());
        self.opener.send_request(request, end)
    }

    /// The head of a response has come on the stream.
    pub fn answered(&self) {
        self.link.pulse.answered();
    }

    /// Whether anything was heard on the connection since the stream was opened, if it was the only one.
    pub fn was_heard(&self) -> bool {
        self.link.pulse.owes_nothing()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.link.leave(self.bundle.timers.now());
        self.bundle.serve();
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("link", &self.link).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("links", &self.links).finish_non_exhaustive()
    }
}

impl Http2Upstreams {
    /// None yet, for the worker of that index.
    pub fn new(timers: Rc<Timers>, clock: Clock, index: usize) -> Self {
        Self { timers, clock, index, bundles: RefCell::default() }
    }

    /// A place on a connection that stands, unless all are full or somebody waits already.
    pub fn take(&self, view: &PoolView, instance: &Arc<Instance>) -> Option<Seat> {
        let bundle = Rc::clone(self.bundles.borrow().get(&instance.vitals.serial)?);
        bundle.update(view);
        if !bundle.waiting.borrow().is_empty() {
            return None;
        }
        match bundle.choose() {
            Choice::Take(at) => bundle.seat(at),
            Choice::Dial | Choice::Wait => None,
        }
    }

    /// Waits for a place, behind those who wait already. What is received is the place, or why no
    /// connection could be made.
    pub fn wait(&self, view: &PoolView, instance: &Arc<Instance>) -> oneshot::Receiver<Granted> {
        let (granted, place) = oneshot::channel();
        let bundle = self.bundle(view, instance);
        bundle.update(view);
        bundle.waiting.borrow_mut().push_back(granted);
        bundle.serve();
        place
    }

    /// A connection for one stream alone: the pool keeps none.
    ///
    /// # Errors
    /// Why none could be made.
    pub async fn alone(&self, view: &PoolView, instance: &Arc<Instance>) -> io::Result<Seat> {
        let bundle = Rc::new(self.new_bundle(view, instance));
        let link = bundle.dial().await?;
        bundle.links.borrow_mut().push(Rc::clone(&link));
        let seat = bundle.seat(0);
        link.retire();
        seat.ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }

    /// Whether the pool's requests share connections.
    pub fn shares(pool: &Pool) -> bool {
        pool.upstream.version == UpstreamVersion::H2 && pool.upstream.keep_alive.max > 0
    }

    /// Lets go of connections that are unused for too long, too old or too many, or lead to an instance
    /// that takes no traffic; asks those for a sign of life that owe one.
    pub fn sweep(&self, snapshot: &Snapshot) {
        let now = self.timers.now();
        self.bundles.borrow_mut().retain(|serial, bundle| {
            let pool = snapshot.pools.iter().find(|pool| pool.has_member(*serial));
            let pool = pool.map(|view| &*view.pool).filter(|pool| Self::shares(pool));
            bundle.sweep(pool, now);
            !bundle.is_unused()
        });
    }

    fn bundle(&self, view: &PoolView, instance: &Arc<Instance>) -> Rc<Bundle> {
        let mut bundles = self.bundles.borrow_mut();
        let bundle = bundles
            .entry(instance.vitals.serial)
            .or_insert_with(|| Rc::new(self.new_bundle(view, instance)));
        Rc::clone(bundle)
    }

    fn new_bundle(&self, view: &PoolView, instance: &Arc<Instance>) -> Bundle {
        Bundle {
            timers: Rc::clone(&self.timers),
            clock: self.clock,
            index: self.index,
            instance: Arc::clone(instance),
            shared: Arc::clone(&view.shared),
            pool: RefCell::new(Arc::clone(&view.pool)),
            links: RefCell::default(),
            dialing: Cell::default(),
            waiting: RefCell::default(),
            told: Cell::default(),
        }
    }
}

impl Bundle {
    fn update(&self, view: &PoolView) {
        if !Arc::ptr_eq(&view.pool, &self.pool.borrow()) {
            *self.pool.borrow_mut() = Arc::clone(&view.pool);
        }
    }

    fn choose(&self) -> Choice {
        let now = self.timers.now();
        let rule = self.pool.borrow().upstream.keep_alive;
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.stays(rule.age, now));
        choose(links.iter().map(|link| link.load()), self.dialing.get(), rule.max)
    }

    /// The place on the connection that was chosen.
    fn seat(self: &Rc<Self>, at: usize) -> Option<Seat> {
        let link = Rc::clone(&self.links.borrow()[at]);
        let opener = link.opener()?;
        let (reused, alone) = link.join(self.pool.borrow().upstream.keep_alive.requests.as_u32());
        Some(Seat { opener, link, bundle: Rc::clone(self), reused, alone })
    }

    /// Gives places to those who wait, and begins to dial if that is what they wait for.
    fn serve(self: &Rc<Self>) {
        loop {
            let mut waiting = self.waiting.borrow_mut();
            while waiting.front().is_some_and(oneshot::Sender::is_closed) {
                waiting.pop_front();
            }
            if waiting.is_empty() {
                return;
            }
            let at = match self.choose() {
                Choice::Take(at) => at,
                Choice::Dial => return self.begin_dial(),
                Choice::Wait => return,
            };
            if let Some(seat) = self.seat(at)
                && let Some(first) = waiting.pop_front()
            {
                drop(waiting);
                // It was not closed a moment ago.
                let _ = first.send(Ok(seat));
            }
        }
    }

    fn begin_dial(self: &Rc<Self>) {
        self.dialing.set(true);
        let bundle = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let dialed = bundle.dial().await;
            bundle.dialing.set(false);
            match dialed {
                Ok(link) => {
                    bundle.links.borrow_mut().push(link);
                    bundle.serve();
                }
                Err(error) => bundle.fail(&error),
            }
        });
    }

    /// Makes a connection, within the pool's limit.
    async fn dial(self: &Rc<Self>) -> io::Result<Rc<Link>> {
        let began = self.clock.elapsed();
        let pool = Arc::clone(&self.pool.borrow());
        let timer = self.timers.timer();
        let made = establish(&pool, &self.instance, &self.timers);
        let made = timer.within(pool.timeouts.connect, made).await;
        let (link, driver) = made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let took = self.clock.elapsed().saturating_sub(began);
        self.shared.meter.shards[self.index].connect.observe(took);
        let bundle = Rc::clone(self);
        tokio::task::spawn_local(driver.run(move || bundle.serve()));
        Ok(link)
    }

    /// No connection could be made. Whoever waits for one goes elsewhere; where there is one already, a
    /// place on it may become free.
    fn fail(&self, error: &io::Error) {
        if error.kind() == io::ErrorKind::InvalidData && !self.told.replace(true) {
            let Instance { id, pool, address, .. } = &*self.instance;
            tracing::warn!(
                pool = pool.as_str(),
                instance = id.as_str(),
                %address,
                %error,
                "the instance does not speak HTTP/2: is `upstream = \"h2\"` right for this pool?"
            );
        }
        if self.links.borrow().iter().any(|link| link.is_open()) {
            return;
        }
        for waits in self.waiting.take() {
            let _ = waits.send(Err(again(error)));
        }
    }

    /// `pool` is how it is configured now; `None` if the instance has left it, or it shares none.
    fn sweep(&self, pool: Option<&Pool>, now: Ms) {
        let vitals = &self.instance.vitals;
        let pool = pool.filter(|_| !vitals.is_closed() && !vitals.is_down());
        let mut links = self.links.borrow_mut();
        for link in links.iter() {
            let stays = pool.is_some_and(|pool| {
                link.stays(pool.upstream.keep_alive.age, now)
                    && !link.is_idle(pool.timeouts.idle, now)
            });
            if !stays {
                link.retire();
            }
            link.probe(now);
        }
        let most = pool.map_or(0, |pool| pool.upstream.keep_alive.max as usize);
        for link in links.iter().skip(most) {
            link.retire();
        }
        links.retain(|link| link.is_open());
    }

    fn is_unused(&self) -> bool {
        let nobody_waits = self.waiting.borrow().iter().all(oneshot::Sender::is_closed);
        self.links.borrow().is_empty() && !self.dialing.get() && nobody_waits
    }
}

/// The same error, for somebody else.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => error.kind().into(),
    }
}

#[cfg(test)]
mod tests;
