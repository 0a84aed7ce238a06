//! Live traffic as evidence: an instance that breaks connections, or is silent while its peers answer,
//! is probed at once and gets nothing new meanwhile.

use std::time::Duration;

use crate::model::{Instance, Pool};
use crate::proxy::snapshot::PoolView;
use crate::proxy::worker::Worker;

/// Puts an instance under suspicion, and wakes the control plane if nobody did before.
pub fn suspect(worker: &Worker, instance: &Instance) {
    if instance.vitals.suspect() {
        worker.ring_suspicion();
    }
}

/// Wakes the control plane when so many exchanges with an instance failed in a row that it is to judge
/// that. Called after each that was counted as failed.
pub fn note_failed(worker: &Worker, pool: &Pool, instance: &Instance) {
    if pool.outlier.is_due(&instance.vitals) {
        worker.ring_suspicion();
    }
}

/// Whether others answer while this one is silent: some other member of the pool sent a byte within
/// the last second (a stall that all share is not the instance's fault).
pub fn peers_answer(worker: &Worker, view: &PoolView, instance: &Instance) -> bool {
    let since = worker.timers.now() - Duration::from_secs(1);
    view.members.iter().any(|member| {
        member.vitals.serial != instance.vitals.serial && member.vitals.last_byte() >= since
    })
}
