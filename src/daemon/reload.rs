//! A new config while the daemon runs: taken into force as a whole, or not at all.
//!
//! Everything that can fail is built first; then the config is swapped; then the old is retired.
//! Sockets of addresses that stay are not touched.

use crate::config::{self, Difference, Faults};
use crate::daemon::certificates::Certificates;
use crate::daemon::steward::Steward;
use crate::daemon::workers::Bound;

/// Reads the config again, and opens the access log anew. Says what changed.
///
/// # Errors
/// Every reason why it was refused; the old config stays in force then.
pub async fn reload(steward: &mut Steward) -> Result<String, Vec<String>> {
    // Whoever moves logs sends HUP, and cares little whether the config has faults.
    steward.access.reopen();
    let outcome = try_reload(steward).await;
    steward.metrics.count_reload(outcome.is_ok());
    match &outcome {
        Ok(summary) => {
            tracing::info!(config = %steward.path.display(), summary, "config reloaded");
        }
        Err(faults) => {
            for fault in faults {
                tracing::error!(fault, "config refused; the old one stays in force");
            }
        }
    }
    outcome
}

async fn try_reload(steward: &mut Steward) -> Result<String, Vec<String>> {
    let list = |faults: Faults| faults.0.iter().map(ToString::to_string).collect::<Vec<_>>();
    let loaded = config::load(&steward.path).map_err(list)?;
    let difference = config::diff(&steward.config, &loaded.config);
    if !difference.needs_restart.is_empty() {
        let refuse = |key| format!("{key} cannot change while the daemon runs: restart it");
        return Err(difference.needs_restart.iter().map(refuse).collect());
    }
    let before = &steward.shared.certificates;
    let certificates = Certificates::read(&steward.path, &loaded, before).map_err(list)?;
    let bound = Bound::bind(&difference.binds.added, loaded.config.node.workers)?;
    let prepared = steward.agents.prepare(&loaded.config.pools, steward.state.path())?;
    // Nothing can fail from here on.
    steward.config = loaded.config;
    steward.shared.certificates = certificates;
    steward.shared.certificates.show(&steward.metrics);
    steward.membership.apply_config(steward.clock.now(), &steward.config.pools);
    steward.agents.adopt(prepared);
    steward.workers.retire(&difference.binds.removed).await;
    steward.publish();
    steward.workers.listen(bound).await;
    Ok(summary(&difference))
}

fn summary(difference: &Difference) -> String {
    let Difference { listeners, pools, .. } = difference;
    let mut parts = Vec::new();
    for (what, added, removed, changed) in [
        ("listeners", listeners.added.len(), listeners.removed.len(), listeners.changed.len()),
        ("pools", pools.added.len(), pools.removed.len(), pools.changed.len()),
    ] {
        if added + removed + changed > 0 {
            parts.push(format!("{what}: {added} added, {removed} removed, {changed} changed"));
        }
    }
    if difference.routes_changed {
        parts.push("routes changed".into());
    }
    if parts.is_empty() { "nothing changed".into() } else { parts.join("; ") }
}
