//! The end of the process: stop scaling, let connections finish, take the children along.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::base::Ms;
use crate::daemon::steward::{Inbox, Steward};

/// Beyond the drain, for workers to notice that they are done.
const SLACK: Duration = Duration::from_secs(2);

/// TERM and INT: the first drains, the second does not wait.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Starts to listen; from here on neither signal kills the process by itself.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of the two.
    pub async fn first(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// Stops everything in order. Agents go first, so that nothing is launched into a pool that is
/// about to end; instances go last, when nobody uses them any more.
///
/// # Errors
/// If instances could not be terminated.
pub async fn stop(
    mut steward: Steward,
    inbox: &mut Inbox,
    mut signals: Signals,
) -> Result<(), Vec<String>> {
    let pools = &steward.config.pools;
    let patience = pools.iter().map(|pool| pool.drain_timeout).max().unwrap_or_default();
    tracing::info!(
        at_most_seconds = patience.as_secs_f64(),
        "stopping: no new connections; a second signal does not wait for those that are open"
    );
    steward.say_stopping();
    refuse_commands(inbox);
    steward.agents.stop_scaling().await;
    let deadline = steward.clock.now() + patience;
    steward.workers.drain(deadline).await;
    let cut = tokio::select! {
        () = workers_ended(&mut steward, deadline) => false,
        () = signals.first() => true,
        // Probes must not block on a full inbox that nobody reads any more.
        () = discard(inbox) => false,
    };
    if cut {
        tracing::warn!("second signal: connections are cut");
        // By the workers, which know what was not over: the kernel would close all in the same way.
        let now = steward.clock.now();
        steward.workers.drain(now).await;
        workers_ended(&mut steward, now).await;
    }
    // Workers have told what they knew: a sink passes on what it has when its worker ends.
    steward.access.close();
    steward.agents.terminate_all().await?;
    tracing::info!("stopped");
    Ok(())
}

/// Nobody obeys any more: who asked, or asks from now on, is told so at once.
fn refuse_commands(inbox: &mut Inbox) {
    inbox.commands.close();
    while let Ok(command) = inbox.commands.try_recv() {
        drop(command);
    }
}

async fn workers_ended(steward: &mut Steward, deadline: Ms) {
    let until = steward.clock.instant(deadline + SLACK);
    let all = async { while steward.workers.ended().await.is_some() {} };
    let _ = tokio::time::timeout_at(until.into(), all).await;
}

async fn discard(inbox: &mut Inbox) {
    while inbox.probes.recv().await.is_some() {}
    std::future::pending().await
}
