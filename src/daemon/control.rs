//! How the admin API reaches the steward.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::admin::{Control, ControlError, Homes, Reply};
use crate::base::{Clock, InstanceId, PoolId, ZoneId};
use crate::daemon::steward::{Command, Published};
use crate::fleet::{NotEvacuated, NotSized};
use crate::model::{Evacuation, SizeOverride};
use crate::proxy::balance;

/// Hands an operator's orders to the steward.
#[derive(Debug)]
pub struct AdminControl {
    /// The steward's inbox.
    pub commands: mpsc::Sender<Command>,
}

impl Control for AdminControl {
    fn drain(&self, pool: PoolId, instance: InstanceId, on: bool) -> Reply<'_, (), ControlError> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Drain { pool, instance, on, reply };
            self.commands.send(command).await.map_err(|_| ControlError::Stopping)?;
            answer
                .await
                .map_err(|_| ControlError::Stopping)?
                .map_err(|unknown| ControlError::Unknown(unknown.to_string()))
        })
    }

    fn scale(&self, pool: PoolId, size: Option<SizeOverride>) -> Reply<'_, (), ControlError> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Scale { pool, size, reply };
            self.commands.send(command).await.map_err(|_| ControlError::Stopping)?;
            answer.await.map_err(|_| ControlError::Stopping)?.map_err(|why| match why {
                NotSized::Unknown(unknown) => ControlError::Unknown(unknown.to_string()),
                other => ControlError::Impossible(other.to_string()),
            })
        })
    }

    fn protect(&self, pool: PoolId, instance: InstanceId, on: bool) -> Reply<'_, (), ControlError> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Protect { pool, instance, on, reply };
            self.commands.send(command).await.map_err(|_| ControlError::Stopping)?;
            answer
                .await
                .map_err(|_| ControlError::Stopping)?
                .map_err(|unknown| ControlError::Unknown(unknown.to_string()))
        })
    }

    fn evacuate(
        &self,
        zone: ZoneId,
        evacuation: Evacuation,
        force: bool,
    ) -> Reply<'_, (), ControlError> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Evacuate { zone, evacuation, force, reply };
            self.commands.send(command).await.map_err(|_| ControlError::Stopping)?;
            answer.await.map_err(|_| ControlError::Stopping)?.map_err(|why| match why {
                NotEvacuated::Unknown { .. } => ControlError::Unknown(why.to_string()),
                NotEvacuated::Short { .. } => ControlError::Conflict(why.to_string()),
            })
        })
    }

    fn restore(&self, zone: ZoneId) -> Reply<'_, (), ControlError> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let command = Command::Restore { zone, reply };
            self.commands.send(command).await.map_err(|_| ControlError::Stopping)?;
            answer
                .await
                .map_err(|_| ControlError::Stopping)?
                .map_err(|why| ControlError::Unknown(why.to_string()))
        })
    }

    fn reload(&self) -> Reply<'_, String, ControlError> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            let sent = self.commands.send(Command::Reload { reply }).await;
            sent.map_err(|_| ControlError::Stopping)?;
            answer.await.map_err(|_| ControlError::Stopping)?.map_err(ControlError::Refused)
        })
    }
}

/// Where clients' addresses lead, in pools whose requests go by keys, whenever it is asked for.
pub fn homes(published: &Published, clock: Clock) -> Homes {
    let snapshots = Arc::clone(&published.snapshots);
    Arc::new(move |pool, client| {
        let snapshot = snapshots.load();
        let view = snapshot.pools.iter().find(|view| view.pool.id == *pool)?;
        let home = view.picker.home(balance::of_client(client), clock.now())?;
        Some(home.id.clone())
    })
}

/// The depth of each pool's hold queue, whenever it is asked for.
pub fn queues(published: &Published) -> Arc<dyn Fn() -> Vec<(PoolId, u32)> + Send + Sync> {
    let queues = Arc::clone(&published.queues);
    Arc::new(move || {
        queues.load().iter().map(|shared| (shared.id.clone(), shared.hold.depth())).collect()
    })
}
