//! A client's TCP connection: bytes both ways, unread.
//!
//! Each direction copies at first, which is cheapest for small messages, and splices once reads
//! come back full. The end of one direction is passed on and the other goes on (half-close).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::model::{Instance, Pool};
use crate::observe::meter::Tally;
use crate::observe::{FailReason, RefuseReason, RetryReason};
use crate::proxy::balance::Ask;
use crate::proxy::forward::exchange::REFUSALS_MAX;
use crate::proxy::lease::{self, Lease};
use crate::proxy::snapshot::{ListenerView, PoolAt, PoolShared};
use crate::proxy::suspicion::suspect;
use crate::proxy::timer::Timer;
use crate::proxy::upstream;
use crate::proxy::worker::Worker;

/// After so many full reads in a row a direction splices; after as many small moves it copies
/// again.
const SWITCH_AFTER: u32 = 2;

/// A move through a pipe that was no larger than this would have been cheaper copied.
const SMALL: usize = 16 * 1024;

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
    let silence = pool.timeouts.tunnel;
    let (client_reads, client_writes) = client.split();
    let (instance_reads, instance_writes) = instance.split();
    let vitals = &lease.instance().vitals;
    let up = Direction { worker, timer: &timer, silence, counter: &shard.bytes_in, heard: None };
    let down = Direction { counter: &shard.bytes_out, heard: Some(lease.instance()), ..up };
    let both = async {
        tokio::try_join!(
            up.run(client_reads, instance_writes),
            down.run(instance_reads, client_writes)
        )
    };
    // The deadline is pushed back by whatever moves, in either direction.
    if matches!(timer.within(silence, both).await, Ok(Err(_))) {
        vitals.count_failure();
    }
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
    loop {
        let ask = Ask { tried: &tried, avoid: avoid.as_ref() };
        let lease = lease::acquire(worker, &mut at, &ask, timer)
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

/// One direction of a relay.
#[derive(Clone, Copy)]
struct Direction<'a> {
    worker: &'a Worker,
    timer: &'a Timer,
    silence: Duration,
    counter: &'a Tally,
    /// The instance, if this direction comes from it.
    heard: Option<&'a Arc<Instance>>,
}

impl Direction<'_> {
    async fn run(self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
        loop {
            if !self.copy(&mut from, &mut to).await? || !self.splice(&from, &to).await? {
                break;
            }
        }
        // A socket that is gone already needs no end mark.
        let _ = to.shutdown().await;
        Ok(())
    }

    fn moved(&self, bytes: usize) {
        self.counter.add(bytes as u64);
        self.timer.push_back(self.silence);
        if let Some(instance) = self.heard {
            instance.vitals.note_byte(self.worker.timers.now());
        }
    }

    /// Copies until reads come back full; false at the end of the stream.
    async fn copy(&self, from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<bool> {
        let mut full = 0;
        while full < SWITCH_AFTER {
            // An idle tunnel holds no buffer.
            poll_fn(|cx| from.as_ref().poll_read_ready(cx)).await?;
            let mut buffer = self.worker.buffers.borrow();
            let n = buffer.read_from(&mut *from).await?;
            if n == 0 {
                return Ok(false);
            }
            full = if buffer.is_full() { full + 1 } else { 0 };
            to.write_all(buffer.filled()).await?;
            buffer.consume(n);
            self.moved(n);
        }
        Ok(true)
    }

    /// Splices until moves get small; false at the end of the stream.
    async fn splice(&self, from: &ReadHalf<'_>, to: &WriteHalf<'_>) -> io::Result<bool> {
        let (from, to): (&TcpStream, &TcpStream) = (from.as_ref(), to.as_ref());
        // No file descriptors left: copying goes on.
        let Ok(mut pipe) = self.worker.pipes.borrow() else { return Ok(true) };
        let mut small = 0;
        while small < SWITCH_AFTER {
            from.readable().await?;
            match pipe.fill(from, usize::MAX) {
                Ok(0) => return Ok(false),
                Ok(n) => small = if n <= SMALL { small + 1 } else { 0 },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            while pipe.held() > 0 {
                match pipe.empty(to) {
                    Ok(n) => self.moved(n),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        to.writable().await?;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(true)
    }
}
