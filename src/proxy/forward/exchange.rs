//! One request, from its head to the end of its response: route, lease, attempt, retry, account.
//!
//! What the client speaks is behind [`Responder`] and [`BodySource`]; the order of events is the
//! same for every version of HTTP.

use std::rc::Rc;
use std::time::Duration;

use crate::model::cost::FAILURE;
use crate::model::{Instance, Priority, UpstreamVersion};
use crate::observe::{Account, AnswerKind, FailReason, RefuseReason, RetryReason};
use crate::proxy::balance::{self, Ask};
use crate::proxy::forward::attempt::{Attempt, Done, Failure, Has};
use crate::proxy::forward::body::BodySource;
use crate::proxy::forward::connection::{Connection, Ending, Responder, Tunnel};
use crate::proxy::forward::respond::{self, Answer};
use crate::proxy::forward::{upstream_http1, upstream_http2};
use crate::proxy::hold::line::Claim;
use crate::proxy::lease;
use crate::proxy::patience::Patience;
use crate::proxy::rewrite::{Facts, RequestId, UNCHANGED};
use crate::proxy::route::Destination;
use crate::proxy::scratch::AttemptScratch;
use crate::proxy::snapshot::{PoolAt, PoolView, SnapshotRef};
use crate::proxy::suspicion::{note_failed, suspect};
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
    scratch: &mut AttemptScratch,
) -> Ending {
    let worker = connection.worker;
    let began = worker.clock.elapsed();
    connection.answered.set(false);
    let Some(listener) = snapshot.listener_at(connection.bound) else {
        // The listener has left the config: its connections end with their next request.
        let facts = connection.facts(head, &connection.listener.listener, &UNCHANGED);
        Box::pin(refuse(connection, &facts, client, &mut scratch.account)).await;
        return Ending::Early;
    };
    let rule = listener.routes.find(head);
    let route = rule.map_or(&UNCHANGED, |rule| &*rule.rewrite);
    let priority = rule.map_or(Priority::default(), |rule| rule.priority);
    let facts = Facts { priority, ..connection.facts(head, &listener.listener, route) };
    let account = &mut scratch.account;
    account.known_by(facts.request_id.as_ref().map(RequestId::as_bytes));
    account.routed(rule.map_or("", |rule| &rule.name));
    let index = match rule.map(|rule| &rule.destination) {
        Some(Destination::Pool(index)) => Some(*index),
        Some(Destination::Redirect(redirect)) => {
            listener.meter.shards[worker.index].count_answer(AnswerKind::Redirect);
            account.answered_by(AnswerKind::Redirect.word());
            let elsewhere = respond::redirect(redirect, &facts);
            Box::pin(answer(client, elsewhere, &facts, account)).await;
            return early_unless_read(body);
        }
        Some(Destination::Respond(fixed)) => {
            listener.meter.shards[worker.index].count_answer(AnswerKind::Respond);
            account.answered_by(AnswerKind::Respond.word());
            Box::pin(answer(client, respond::fixed(fixed), &facts, account)).await;
            return early_unless_read(body);
        }
        None => listener.default_pool,
    };
    let Some(index) = index else {
        Box::pin(refuse(connection, &facts, client, account)).await;
        return early_unless_read(body);
    };
    if head.max_forwards() == Some(0) {
        Box::pin(answer(client, respond::for_last_hop(head.method), &facts, account)).await;
        return early_unless_read(body);
    }
    // A request that waits moves on to a newer snapshot; its route and its counters stay.
    let mut at = PoolAt { snapshot: Rc::clone(&snapshot), index };
    let shared = &snapshot.pools[index].shared;
    let shard = &shared.meter.shards[worker.index];
    account.meant_for(&shared.id);
    shard.offered.add(1);
    let tried = try_instances(connection, &mut at, &facts, body, client, scratch).await;
    let (status, ending) = match tried {
        Ok((status, ending)) => {
            shard.completed.add(1);
            scratch.account.status = status;
            (Some(status), ending)
        }
        Err((reason, has)) => {
            shard.count_failure(reason);
            let queue = at.view().pool.queue;
            scratch.account.failed(reason.word());
            scratch.account.status = if has == Has::Nothing { 0 } else { scratch.response.status };
            match (has, respond::for_failure(reason, queue.timeout)) {
                (Has::Nothing, Some(ours)) => {
                    Box::pin(answer(client, ours, &facts, &mut scratch.account)).await;
                    (Some(ours.status), early_unless_read(body))
                }
                (Has::Nothing, None) | (Has::Part, _) => (None, Ending::Broken),
                (Has::PartAndWord, _) => (None, Ending::Early),
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

/// Answers in an instance's stead.
async fn answer(
    client: &mut impl Responder,
    answer: Answer<'_>,
    facts: &Facts<'_>,
    account: &mut Account,
) {
    account.status = answer.status;
    client.answer(answer, facts).await;
}

async fn refuse(
    connection: &Connection<'_>,
    facts: &Facts<'_>,
    client: &mut impl Responder,
    account: &mut Account,
) {
    let shard = &connection.listener.meter.shards[connection.worker.index];
    shard.count_refusal(RefuseReason::NoRoute);
    account.failed(RefuseReason::NoRoute.word());
    answer(client, respond::NO_ROUTE, facts, account).await;
}

/// Tries instance after instance, as far as that is safe and the budget allows. The error says
/// what the client has of a response.
async fn try_instances(
    connection: &Connection<'_>,
    at: &mut PoolAt,
    facts: &Facts<'_>,
    body: &mut impl BodySource,
    client: &mut impl Responder,
    scratch: &mut AttemptScratch,
) -> Result<(u16, Ending), (FailReason, Has)> {
    let worker = connection.worker;
    let head = facts.head;
    let view = at.view();
    let retry = view.pool.retry;
    worker.with_pool(view, |local| local.budget.deposit(worker.timers.now(), retry.budget));
    let affinity = &view.pool.affinity;
    let hashes = view.pool.balance.hashes();
    let hash = if hashes {
        let sni = connection.identity.and_then(|it| it.sni.as_deref());
        balance::of_request(&affinity.hash, head, sni, connection.client_address)
    } else {
        0
    };
    let cookie = affinity.sticky.as_ref().and_then(|sticky| head.cookie(&sticky.cookie));
    let total = view.pool.timeouts.total;
    let limit = head.grpc_timeout().map_or(total, |limit| limit.min(total));
    let overdue_at = connection.timer.after(limit);
    if head.method.is_idempotent() && body.whole().is_none() {
        // A body that could be sent again must be here.
        Box::pin(body.gather()).await.map_err(|error| (error.of_client(), Has::Nothing))?;
    }
    let mut tried: Vec<u64> = Vec::new();
    let (mut avoid, mut fresh, mut spent) = (None, false, 0);
    let mut last: Option<(Failure, RetryReason)> = None;
    loop {
        let now = worker.timers.now();
        if now >= overdue_at {
            return Err((FailReason::TotalTimeout, Has::Nothing));
        }
        let bound = cookie.and_then(|cookie| at.view().picker.bound(cookie));
        let ask = Ask { tried: &tried, avoid: avoid.as_ref(), hash, bound, now };
        let has_left = || body.has_left();
        let claim = Claim { priority: facts.priority, bytes: held(head, body), picky: false };
        let patience = Patience::new(connection.timer, Duration::MAX, overdue_at).unless(&has_left);
        let leased = lease::acquire(worker, at, &ask, claim, &patience, &mut scratch.account).await;
        let lease = leased.map_err(|reason| match &last {
            // Nobody is left to try: what counts is what the last one did.
            Some((failure, _)) if reason == FailReason::Connect => failure.reason(),
            _ => (reason, Has::Nothing),
        })?;
        let view = at.view();
        let shard = &view.shared.meter.shards[worker.index];
        if let Some((_, reason)) = last {
            shard.count_retry(reason);
        }
        let instance = lease.instance();
        let repeatable = is_repeatable(head, body);
        // A client stays bound for as long as its instance is admitted, whoever serves it meanwhile.
        let binds = cookie.and_then(|cookie| view.picker.bound(cookie)).is_none();
        let attempt = Attempt {
            connection,
            view,
            instance,
            head,
            facts,
            fresh,
            repeatable,
            binds,
            overdue_at,
        };
        let answered = match view.pool.upstream.version {
            UpstreamVersion::Http1 => {
                upstream_http1::attempt(&attempt, body, client, scratch).await
            }
            UpstreamVersion::H2 => {
                Box::pin(upstream_http2::attempt(&attempt, body, client, scratch)).await
            }
        };
        let failure = match answered {
            Ok(Done::Answered { status, ending }) => return Ok((status, ending)),
            Ok(Done::Switched { status, far }) => {
                let silence = view.pool.timeouts.tunnel;
                let tunnel = Tunnel { far, lease, silence };
                return Ok((status, Ending::Switched(Box::new(tunnel))));
            }
            Err(failure) => failure,
        };
        note_failure(worker, view, lease.instance(), &failure);
        note_failed(worker, &view.pool, lease.instance());
        let Some(reason) = retry_reason(&failure, head, body) else { return Err(failure.reason()) };
        if !fresh && matches!(reason, RetryReason::Stale | RetryReason::Refused) {
            // Nothing is wrong with the instance; kept connections may all be as stale. Once is enough.
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
            // Those that went down with it are gone there. If the pool has left the config, the request
            // ends with the pool that it came for.
            lease::renew(worker, at);
        }
        last = Some((failure, reason));
    }
}

/// What a request holds while it waits, of its head and of a body that was gathered.
fn held(head: &RequestHead, body: &impl BodySource) -> u64 {
    (head.fields.bytes.len() + body.whole().map_or(0, <[u8]>::len)) as u64
}

/// A refused connection burdens nobody and is known at once, so it is not what attempts and budget
/// bound: a request goes on to the next instance, or waits for one where one may come.
pub const REFUSALS_MAX: usize = 16;

/// Whether a request may be sent a second time after it may have been heard: doing it twice is the same
/// as once (RFC 9110 §9.2.2), and all of it is still here.
fn is_repeatable(head: &RequestHead, body: &impl BodySource) -> bool {
    head.method.is_idempotent() && body.whole().is_some()
}

/// Whether another try cannot do harm, and why it is made: either no instance has heard of the request,
/// or it is repeatable.
fn retry_reason(
    failure: &Failure,
    head: &RequestHead,
    body: &impl BodySource,
) -> Option<RetryReason> {
    let repeatable = is_repeatable(head, body);
    match failure {
        Failure::Connect(error) if upstream::is_shortage(error) => None,
        // One that stood and took no byte counts too, so a body may have been begun for it.
        Failure::Connect(_) if body.is_untouched() => Some(RetryReason::Connect),
        Failure::Unsent if body.is_untouched() => Some(RetryReason::Stale),
        Failure::Refused if body.is_untouched() => Some(RetryReason::Refused),
        Failure::Stale if repeatable => Some(RetryReason::Stale),
        Failure::Reset | Failure::Dropped if repeatable => Some(RetryReason::Reset),
        Failure::Condemned if repeatable => Some(RetryReason::Condemned),
        Failure::TryTimeout if repeatable => Some(RetryReason::Timeout),
        _ => None,
    }
}

/// A broken connection puts the instance under suspicion: no new picks, and a probe at once.
fn note_failure(worker: &Worker, view: &PoolView, instance: &Instance, failure: &Failure) {
    let count = || {
        instance.vitals.count_failure();
        view.learn(instance, worker.timers.now(), || FAILURE);
    };
    match failure {
        Failure::Connect(error) if upstream::is_shortage(error) => {}
        Failure::Connect(_) | Failure::Reset => {
            count();
            suspect(worker, instance);
        }
        Failure::Refused
        | Failure::Dropped
        | Failure::TryTimeout
        | Failure::ResponseTimeout
        | Failure::BadResponse(_)
        | Failure::Condemned => count(),
        Failure::Cut(FailReason::CutResponse | FailReason::StalledResponse, _) => {
            count();
            view.shared.meter.shards[worker.index].completed.add(1);
        }
        Failure::Stale
        | Failure::Unsent
        | Failure::Unsendable
        | Failure::Client(_)
        | Failure::Overdue
        | Failure::Unwanted
        | Failure::Cut(..) => {}
    }
}
