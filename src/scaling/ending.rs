//! Instances that are taken away without an agent: the daemon stops, or the config no longer has
//! their pool.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::base::{InstanceId, PoolId};
use crate::provision::Provisioner;

/// Longer than any provider's own grace on this machine: the process provisioner kills after 5 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(50);

/// Terminates everything in the list that is `meant`, and looks until none of it is left.
///
/// # Errors
/// What is left when patience is at its end, and the last failure, in words for an operator.
pub async fn terminate(
    provisioner: &dyn Provisioner,
    meant: impl Fn(&InstanceId) -> bool,
) -> Result<(), String> {
    let mut left = "the provider was never reached".to_owned();
    let all_gone = async {
        loop {
            match provisioner.list().await {
                Ok(machines) => {
                    let ids: Vec<InstanceId> =
                        machines.into_iter().map(|m| m.id).filter(|id| meant(id)).collect();
                    if ids.is_empty() {
                        return;
                    }
                    left = format!("{} instances are left", ids.len());
                    if let Err(failure) = provisioner.terminate(&ids).await {
                        left = format!("{left}: {failure}");
                    }
                }
                Err(failure) => left = failure.to_string(),
            }
            sleep(PAUSE).await;
        }
    };
    let gone = timeout(PATIENCE, all_gone).await.is_ok();
    if gone { Ok(()) } else { Err(format!("not all instances could be terminated; {left}")) }
}

/// Takes away what an earlier daemon left behind for a pool that the config does not provision. No
/// client can reach it any more, so there is nothing to drain.
pub async fn end_forgotten(pool: &PoolId, provisioner: &dyn Provisioner) {
    let ids: Vec<InstanceId> = match provisioner.list().await {
        Ok(machines) => machines.into_iter().map(|machine| machine.id).collect(),
        Err(failure) => {
            tracing::error!(%pool, %failure, "cannot see what an earlier daemon left behind");
            return;
        }
    };
    if ids.is_empty() {
        return;
    }
    let why = "an earlier daemon left them behind, and the config does not provision the pool";
    tracing::warn!(%pool, instances = ids.len(), why, "instances are taken away");
    // By name: should a reload bring the pool back, what it launches is not meant.
    if let Err(why) = terminate(provisioner, |id| ids.contains(id)).await {
        tracing::error!(%pool, why, "instances are left");
    }
}
