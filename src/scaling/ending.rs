//! The daemon stops and takes its instances along.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::base::InstanceId;
use crate::provision::Provisioner;

/// Longer than any provider's own grace on this machine: the process provisioner kills after 5 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(50);

/// Terminates everything in the list, and looks until the list is empty.
///
/// # Errors
/// What is left when patience is at its end, and the last failure, in words for an operator.
pub async fn terminate_all(provisioner: &dyn Provisioner) -> Result<(), String> {
    let mut left = "the provider was never reached".to_owned();
    let all_gone = async {
        loop {
            match provisioner.list().await {
                Ok(machines) if machines.is_empty() => return,
                Ok(machines) => {
                    let ids: Vec<InstanceId> = machines.into_iter().map(|m| m.id).collect();
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
