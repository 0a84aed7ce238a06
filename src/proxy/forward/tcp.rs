//! A client's TCP connection: it is connected to an instance, and then bytes go both ways, unread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::base::Ms;
use crate::model::Pool;
use crate::observe::{FailReason, RefuseReason, RetryReason};
use crate::proxy::balance::Ask;
use crate::proxy::forward::exchange::REFUSALS_MAX;
use crate::proxy::forward::relay::Relay;
use crate::proxy::lease::{self, Lease};
use crate::proxy::patience::Patience;
use crate::proxy::snapshot::{ListenerView, PoolAt, PoolShared};
use crate::proxy::suspicion::suspect;
use crate::proxy::timer::Timer;
use crate::proxy::upstream;
use crate::proxy::worker::Worker;

/// Serves a connection to its end.
pub async fn serve(
    worker: &Worker,
    view: &Arc<ListenerView>,
    bound: SocketAddr,
    mut client: TcpStream,
) {
    let shard = &view.meter.shards[worker.index];
    let timer = worker.timers.timer();
    let (lease, pool, mut instance) = match connect(worker, bound, &timer).await {
        Ok(connected) => connected,
        Err(None) => return shard.count_refusal(RefuseReason::NoRoute),
        Err(Some((reason, shared))) => {
            let pool = &shared.meter.shards[worker.index];
            pool.count_failure(reason);
            pool.shed.add(1);
            return;
        }
    };
    let relay = Relay {
        worker,
        timer: &timer,
        silence: pool.timeouts.tunnel,
        from_client: &shard.bytes_in,
        to_client: &shard.bytes_out,
        instance: lease.instance(),
    };
    relay.run(&mut client, &mut instance).await;
}

type Connected = (Lease, Arc<Pool>, TcpStream);

/// Connects to an instance, trying others where one does not answer: nothing was sent yet, so that
/// is always safe. The error names the pool, if there is one.
async fn connect(
    worker: &Worker,
    bound: SocketAddr,
    timer: &Timer,
) -> Result<Connected, Option<(FailReason, Arc<PoolShared>)>> {
    let snapshot = worker.snapshot();
    let listener = snapshot.listener_at(bound);
    let index = listener.and_then(|listener| listener.default_pool).ok_or(None)?;
    let mut at = PoolAt { snapshot, index };
    let shared = Arc::clone(&at.view().shared);
    let shard = &shared.meter.shards[worker.index];
    shard.offered.add(1);
    let began = worker.clock.elapsed();
    let (mut tried, mut avoid) = (Vec::new(), None);
    let patience = Patience::new(timer, Duration::MAX, Ms::NEVER);
    loop {
        let ask = Ask { tried: &tried, avoid: avoid.as_ref() };
        let lease = lease::acquire(worker, &mut at, &ask, &patience)
            .await
            .map_err(|reason| Some((reason, Arc::clone(&shared))))?;
        let pool = Arc::clone(&at.view().pool);
        let instance = Arc::clone(lease.instance());
        match upstream::connect(instance.address, timer, pool.timeouts.connect).await {
            Ok(stream) => {
                shard.completed.add(1);
                shard.connect.observe(worker.clock.elapsed().saturating_sub(began));
                return Ok((lease, pool, stream));
            }
            Err(error) => {
                if !upstream::is_shortage(&error) {
                    instance.vitals.count_failure();
                    suspect(worker, &instance);
                }
                let limit = match error.kind() {
                    io::ErrorKind::ConnectionRefused => REFUSALS_MAX,
                    _ => pool.retry.attempts as usize,
                };
                if tried.len() >= limit {
                    return Err(Some((FailReason::Connect, shared)));
                }
                shard.count_retry(RetryReason::Connect);
                tried.push(instance.vitals.serial);
                avoid = Some(instance.zone.clone());
            }
        }
    }
}
