//! A client's TCP connection: it is connected to an instance, and then bytes go both ways, unread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest};

use crate::base::Ms;
use crate::model::cost::FAILURE;
use crate::model::{Pool, Protocol};
use crate::net::half::halves;
use crate::net::stream::Stream;
use crate::observe::{Account, FailReason, RefuseReason, RetryReason};
use crate::proxy::admit::Visit;
use crate::proxy::balance::{self, Ask};
use crate::proxy::buffer::Buffer;
use crate::proxy::forward::exchange::REFUSALS_MAX;
use crate::proxy::forward::relay::{Relay, Unended};
use crate::proxy::forward::tell::Trip;
use crate::proxy::guest::Guest;
use crate::proxy::handshake;
use crate::proxy::hold::line::Claim;
use crate::proxy::lease::{self, Lease};
use crate::proxy::patience::Patience;
use crate::proxy::route::Destination;
use crate::proxy::snapshot::{ListenerView, PoolAt};
use crate::proxy::suspicion::suspect;
use crate::proxy::timer::Timer;
use crate::proxy::upstream;
use crate::proxy::worker::Worker;

/// What a client may have sent by the time that its instance is told of it: goes along.
const FIRST_BYTES: usize = 4096;

/// Serves a connection to its end. One that reaches no instance is reset: it must not look like one
/// that was served and is over.
/// What was read of it `early` goes first.
pub async fn serve(visit: &Visit, mut client: Stream, early: Option<Buffer>) {
    let (worker, shard) = (&visit.worker, visit.shard());
    let timer = worker.timers.timer();
    let mut client = Unended::new(&mut client);
    let mut account = Account::default();
    account.begin(worker.access.is_on(), || worker.clock.elapsed());
    let reached = reach(visit, client.stream, &timer, &mut account).await;
    let trip = Trip::new(visit, account, None);
    let (lease, pool, mut instance) = match reached {
        Ok(reached) => reached,
        Err(refused) => {
            if refused && early.is_some() {
                // It is in the middle of a handshake.
                let alert = handshake::UNRECOGNIZED_NAME;
                handshake::refuse(shard, RefuseReason::NoRoute, alert, client.stream);
                client.ended = true;
            } else if refused {
                shard.count_refusal(RefuseReason::NoRoute);
            }
            return;
        }
    };
    let mut instance = Unended::new(&mut instance);
    let mut early = early.unwrap_or_else(|| worker.buffers.borrow());
    let introduced =
        introduce(&pool, &visit.guest, client.stream, &mut early, instance.stream, &timer);
    match introduced.await {
        Ok(sent) => trip.from_client().add(sent as u64),
        Err(Blame::Instance) => {
            lease.instance().vitals.count_failure();
            lease.shard(worker).count_failure(FailReason::CutTunnel);
            return trip.end(Some(FailReason::CutTunnel));
        }
        Err(Blame::Client) => return trip.end(None),
    }
    let relay = Relay {
        worker,
        timer: &timer,
        silence: pool.timeouts.tunnel,
        from_client: trip.from_client(),
        to_client: trip.to_client(),
        instance: lease.instance(),
    };
    // From here on the relay looks after it.
    (client.ended, instance.ended) = (true, true);
    let ended = match early.is_empty() {
        true => {
            drop(early);
            relay.run(client.stream, instance.stream).await
        }
        false => {
            let nothing = worker.buffers.borrow();
            relay.run_after(early, nothing, client.stream, instance.stream).await
        }
    };
    let failure = ended.failure();
    if let Some(reason) = failure {
        lease.shard(worker).count_failure(reason);
    }
    trip.end(failure);
}

type Reached = (Lease, Arc<Pool>, Stream);

/// A connection to an instance, counted as what became of it. The error says whether it was refused
/// for want of a pool.
async fn reach(
    visit: &Visit,
    client: &Stream,
    timer: &Timer,
    account: &mut Account,
) -> Result<Reached, bool> {
    let worker = &visit.worker;
    let snapshot = worker.snapshot();
    let listener = snapshot.listener_at(visit.bound);
    let sni = visit.identity.as_ref().and_then(|it| it.sni.as_deref());
    let Some(index) = listener.and_then(|listener| pool_for(listener, sni)) else {
        account.failed(RefuseReason::NoRoute.word());
        return Err(true);
    };
    let at = PoolAt { snapshot, index };
    let shared = Arc::clone(&at.view().shared);
    account.meant_for(&shared.id);
    let shard = &shared.meter.shards[worker.index];
    shard.offered.add(1);
    let reached = tokio::select! {
        biased;
        reached = connect(visit, client, at, timer, account) => reached,
        () = is_gone(client) => Err(FailReason::ClientGone),
    };
    match reached {
        Ok(_) => shard.completed.add(1),
        Err(reason) => {
            shard.count_failure(reason);
            account.failed(reason.word());
        }
    }
    reached.map_err(|_| false)
}

/// Where a connection goes whose client asks for this name.
fn pool_for(listener: &ListenerView, sni: Option<&str>) -> Option<usize> {
    let rule = match listener.listener.protocol {
        Protocol::TlsPassthrough => listener.routes.find_by_name(sni),
        _ => None,
    };
    match rule.map(|rule| &rule.destination) {
        Some(Destination::Pool(index)) => Some(*index),
        _ => listener.default_pool,
    }
}

/// Waits until the connection is reset. Its end mark is not that: a client may have said all that it
/// has to say and still wait for the answer.
async fn is_gone(client: &Stream) {
    if client.socket().ready(Interest::ERROR).await.is_err() {
        std::future::pending().await
    }
}

/// Connects to an instance, trying others where one does not answer: nothing was sent yet, so that
/// is always safe.
async fn connect(
    visit: &Visit,
    client: &Stream,
    mut at: PoolAt,
    timer: &Timer,
    account: &mut Account,
) -> Result<Reached, FailReason> {
    let worker: &Worker = &visit.worker;
    let share = at.view().pool.retry.budget;
    worker.with_pool(at.view(), |local| local.budget.deposit(worker.timers.now(), share));
    let patience = Patience::new(timer, Duration::MAX, Ms::NEVER);
    let sni = visit.identity.as_ref().and_then(|it| it.sni.as_deref());
    let hash = if at.view().pool.balance.hashes() {
        balance::of_connection(&at.view().pool.affinity.hash, sni, visit.guest.client().ip())
    } else {
        0
    };
    let (mut tried, mut avoid, mut spent) = (Vec::new(), None, 0);
    loop {
        let now = worker.timers.now();
        let ask = Ask { tried: &tried, avoid: avoid.as_ref(), hash, bound: None, now };
        let claim = Claim::default();
        let lease = lease::acquire(worker, &mut at, &ask, claim, &patience, account).await?;
        let view = at.view();
        let shard = &view.shared.meter.shards[worker.index];
        if !tried.is_empty() {
            shard.count_retry(RetryReason::Connect);
        }
        let instance = Arc::clone(lease.instance());
        let began = worker.clock.elapsed();
        let ends = || visit.guest.ends(|| client.local_addr());
        let opened = upstream::open(&view.pool, view.tls.as_deref(), &instance, None, ends);
        let opened = timer.within(view.pool.timeouts.connect, opened).await;
        let error = match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => {
                let took = worker.clock.elapsed().saturating_sub(began);
                shard.connect.observe(took);
                view.learn(&instance, now, || took);
                return Ok((lease, Arc::clone(&view.pool), stream));
            }
            Err(error) => error,
        };
        let reason = upstream::reason(&error);
        if reason == FailReason::Shortage {
            return Err(reason);
        }
        instance.vitals.count_failure();
        view.learn(&instance, worker.timers.now(), || FAILURE);
        suspect(worker, &instance);
        let granted = if error.kind() == io::ErrorKind::ConnectionRefused {
            tried.len() < REFUSALS_MAX
        } else {
            spent += 1;
            spent <= view.pool.retry.attempts
                && worker.with_pool(view, |local| local.budget.withdraw(worker.timers.now()))
        };
        if !granted {
            return Err(reason);
        }
        tried.push(instance.vitals.serial);
        avoid = Some(instance.zone.clone());
    }
}

/// Whose connection broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blame {
    Client,
    Instance,
}

/// Tells the instance who the client is, if it is to be told, in one write with what the client has
/// sent by now; how many bytes of the client's that were.
async fn introduce(
    pool: &Pool,
    guest: &Guest,
    client: &Stream,
    early: &mut Buffer,
    instance: &mut Stream,
    timer: &Timer,
) -> Result<usize, Blame> {
    let mut first = Vec::new();
    upstream::introduce(pool, || guest.ends(|| client.local_addr()), &mut first);
    if first.is_empty() {
        return Ok(0);
    }
    let own = first.len();
    if !early.is_empty() {
        first.extend_from_slice(early.filled());
        early.consume(early.filled().len());
    } else {
        read_first(client, own, &mut first)?;
    }
    match timer.within(pool.timeouts.connect, halves(instance).1.write_all(&first)).await {
        Ok(Ok(())) => Ok(first.len() - own),
        _ => Err(Blame::Instance),
    }
}

/// Puts what the client has sent by now behind what is `own`.
fn read_first(client: &Stream, own: usize, first: &mut Vec<u8>) -> Result<(), Blame> {
    first.resize(own + FIRST_BYTES, 0);
    match client.try_read(&mut first[own..]) {
        // The end of the stream is there to be read once more.
        Ok(n) => first.truncate(own + n),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => first.truncate(own),
        Err(_) => return Err(Blame::Client),
    }
    Ok(())
}
