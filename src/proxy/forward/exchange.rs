//! One request, from its head to the end of its response: route, lease, attempt, retry, account.
//!
//! What the client speaks is behind [`Responder`] and [`BodySource`]; the order of events is the
//! same for every version of HTTP.

use crate::model::Instance;
use crate::observe::{FailReason, PoolShard, RefuseReason, RetryReason};
use crate::proxy::balance::Ask;
use crate::proxy::forward::body::BodySource;
use crate::proxy::forward::connection::{Connection, Ending, Responder, Scratch};
use crate::proxy::forward::respond;
use crate::proxy::forward::upstream_http1::{self, Attempt, Failure};
use crate::proxy::lease;
use crate::proxy::route::Destination;
use crate::proxy::snapshot::{PoolAt, SnapshotRef};
use crate::proxy::suspicion::suspect;
use crate::proxy::upstream;
use crate::proxy::wire::RequestHead;
use crate::proxy::worker::Worker;

/// Serves one request, by the snapshot that its connection has just loaded.
pub async fn serve(
    connection: &Connection<'_>,
    snapshot: SnapshotRef,
    head: &RequestHead,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut Scratch,
) -> Ending {
    let worker = connection.worker;
    let began = worker.clock.elapsed();
    let Some(listener) = snapshot.listener_at(connection.bound) else {
        // The listener has left the config: its connections end with their next request.
        refuse(connection, client).await;
        return Ending::Early;
    };
    let destination = match listener.routes.find(head) {
        Some(rule) => Some(rule.destination.clone()),
        None => listener.default_pool.map(Destination::Pool),
    };
    let Some(Destination::Pool(index)) = destination else {
        refuse(connection, client).await;
        return early_unless_read(body);
    };
    let mut at = PoolAt { snapshot, index };
    // A request that waits moves on to a newer snapshot; its counters stay where they are.
    let counted_in = at.clone();
    let shard = &counted_in.view().shared.meter.shards[worker.index];
    shard.offered.add(1);
    let tried = try_instances(connection, &mut at, head, body, client, scratch).await;
    let (status, ending) = match tried {
        Ok((status, ending)) => {
            shard.completed.add(1);
            (Some(status), ending)
        }
        Err((reason, begun)) => {
            shard.count_failure(reason);
            match respond::for_failure(reason).filter(|_| !begun) {
                Some(answer) => {
                    client.answer(answer).await;
                    (Some(answer.status), early_unless_read(body))
                }
                None => (None, Ending::Broken),
            }
        }
    };
    if let Some(status) = status {
        shard.count_code(status);
    }
    shard.duration.observe(worker.clock.elapsed().saturating_sub(began));
    ending
}

/// An answer of ours leaves a body unread unless there was none or all of it is here.
fn early_unless_read(body: &mut impl BodySource) -> Ending {
    if body.whole().is_some() {
        body.discard_whole();
        Ending::Whole
    } else {
        Ending::Early
    }
}

async fn refuse(connection: &Connection<'_>, client: &mut impl Responder) {
    let shard = &connection.listener.meter.shards[connection.worker.index];
    shard.count_refusal(RefuseReason::NoRoute);
    client.answer(respond::NO_ROUTE).await;
}

/// Tries instance after instance, as far as that is safe and the budget allows. The error says
/// whether a part of a response has reached the client.
async fn try_instances(
    connection: &Connection<'_>,
    at: &mut PoolAt,
    head: &RequestHead,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut Scratch,
) -> Result<(u16, Ending), (FailReason, bool)> {
    let worker = connection.worker;
    let view = at.view();
    let retry = view.pool.retry;
    worker.with_pool(view, |local| local.budget.deposit(worker.timers.now(), retry.budget));
    let mut tried: Vec<u64> = Vec::new();
    let (mut avoid, mut fresh, mut spent) = (None, false, 0);
    let mut last: Option<(Failure, RetryReason)> = None;
    loop {
        let ask = Ask { tried: &tried, avoid: avoid.as_ref() };
        let lease =
            lease::acquire(worker, at, &ask, connection.timer).await.map_err(
                |reason| match &last {
                    // Nobody is left to try: what counts is what the last one did.
                    Some((failure, _)) if reason == FailReason::Connect => failure.reason(),
                    _ => (reason, false),
                },
            )?;
        let view = at.view();
        let shard = &view.shared.meter.shards[worker.index];
        if let Some((_, reason)) = last {
            shard.count_retry(reason);
        }
        let attempt = Attempt { connection, view, instance: lease.instance(), head, fresh };
        let failure = match upstream_http1::attempt(&attempt, body, client, scratch).await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        note_failure(worker, shard, lease.instance(), &failure);
        let Some(reason) = retry_reason(&failure, head, body) else { return Err(failure.reason()) };
        if reason == RetryReason::Stale {
            // Nothing is wrong with the instance; kept connections may all be as stale.
            fresh = true;
        } else {
            let granted = if failure.is_refusal() {
                tried.len() < REFUSALS_MAX
            } else {
                spent += 1;
                spent <= retry.attempts
                    && worker.with_pool(view, |local| local.budget.withdraw(worker.timers.now()))
            };
            if !granted {
                return Err(failure.reason());
            }
            tried.push(lease.instance().vitals.serial);
            avoid = Some(lease.instance().zone.clone());
        }
        last = Some((failure, reason));
    }
}

/// A refused connection burdens nobody and is known at once, so it is not what attempts and budget
/// bound: a request goes on to the next instance, or waits for one where one may come.
pub const REFUSALS_MAX: usize = 16;

/// Whether another try cannot do harm (RFC 9110 §9.2.2), and why it is made: either nothing of the
/// request was sent, or doing it twice is the same as once and all of it is still here.
fn retry_reason(
    failure: &Failure,
    head: &RequestHead,
    body: &impl BodySource,
) -> Option<RetryReason> {
    let repeatable = head.method.is_idempotent() && body.whole().is_some();
    match failure {
        Failure::Connect(_) => Some(RetryReason::Connect),
        Failure::Stale if repeatable => Some(RetryReason::Stale),
        Failure::Reset if repeatable => Some(RetryReason::Reset),
        Failure::Condemned if repeatable => Some(RetryReason::Condemned),
        _ => None,
    }
}

/// A broken connection puts the instance under suspicion: no new picks, and a probe at once.
fn note_failure(worker: &Worker, shard: &PoolShard, instance: &Instance, failure: &Failure) {
    match failure {
        Failure::Connect(error) if upstream::is_shortage(error) => {}
        Failure::Connect(_) | Failure::Reset => {
            instance.vitals.count_failure();
            suspect(worker, instance);
        }
        Failure::ResponseTimeout | Failure::BadResponse(_) | Failure::Condemned => {
            instance.vitals.count_failure();
        }
        Failure::Cut => {
            instance.vitals.count_failure();
            shard.completed.add(1);
        }
        Failure::Stale | Failure::Client(_) | Failure::ClientGone => {}
    }
}
