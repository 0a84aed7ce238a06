//! The metrics that Prometheus scrapes.
//!
//! Three sources, one text: what the control plane counts (ordinary `prometheus` types, here and
//! nowhere else), what workers count (their shards, summed at each scrape), and what the census
//! knows (written anew at each scrape, so the series of removed instances disappear).
//!
//! Counters never go down while the daemon lives: meters are made on first use and kept for ever,
//! also when their pool or listener leaves the config.

mod census;
mod meters;
mod text;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::{
    CounterVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use self::meters::Meters;
use self::text::{Kind, Text};
use crate::base::{ListenerId, PoolId, clock};
use crate::model::{Census, Health};
use crate::observe::{ListenerMeter, PoolMeter};

/// The media type of what [`Metrics::render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds for provider operations, in seconds: from a local process to a slow cloud.
const OPERATION_BOUNDS: [f64; 12] =
    [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Everything that is counted, for as long as the daemon lives.
#[derive(Debug)]
pub struct Metrics {
    workers: usize,
    version: &'static str,
    started_seconds: f64,
    pools: Mutex<Meters<PoolId, PoolMeter>>,
    listeners: Mutex<Meters<ListenerId, ListenerMeter>>,
    registry: Registry,
    decisions: IntCounterVec,
    operations: IntCounterVec,
    operation_durations: HistogramVec,
    reloads: IntCounterVec,
    probes: IntCounterVec,
    health_changes: IntCounterVec,
    ejections: IntCounterVec,
    history_errors: IntCounterVec,
    recommended_seconds: CounterVec,
    recommended_short_seconds: CounterVec,
    access_log_dropped: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    certificate_reloads: IntCounterVec,
}

impl Metrics {
    /// Nothing counted yet; each meter gets one shard per worker.
    pub fn new(workers: usize, version: &'static str) -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let opts = Opts::new(format!("{}{name}", text::PREFIX), help);
            let family = IntCounterVec::new(opts, labels).expect("names and labels are fixed");
            registry.register(Box::new(family.clone())).expect("each name is registered once");
            family
        };
        let decisions = counter(
            "scaling_decisions_total",
            "Decisions of the scaling agent, by direction and reason.",
            &["pool", "direction", "reason"],
        );
        let operations = counter(
            "provisioner_operations_total",
            "Calls to the provider of instances, by outcome.",
            &["pool", "operation", "outcome"],
        );
        let reloads =
            counter("config_reloads_total", "Reloads of the configuration.", &["outcome"]);
        for outcome in RELOAD_OUTCOMES {
            reloads.with_label_values(&[outcome]);
        }
        let probes = counter("probes_total", "Health probes by outcome.", &["pool", "outcome"]);
        let health_changes = counter(
            "health_changes_total",
            "Changes of an instance's health, by what it became.",
            &["pool", "to"],
        );
        let ejections = counter(
            "ejections_total",
            "Instances that were taken out for a while for how they answered, by what showed it.",
            &["pool", "reason"],
        );
        let history_errors = counter(
            "history_errors_total",
            "Times that the history of scaling could not be read or written.",
            &[],
        );
        history_errors.with_label_values::<&str>(&[]);
        let access_log_dropped = counter(
            "access_log_dropped_total",
            "Lines of the access log that could not be written.",
            &[],
        );
        access_log_dropped.with_label_values::<&str>(&[]);
        let certificate_reloads = counter(
            "tls_certificate_reloads_total",
            "Times that certificates were read again because their files had changed.",
            &["outcome"],
        );
        for outcome in RELOAD_OUTCOMES {
            certificate_reloads.with_label_values(&[outcome]);
        }
        let expiry = Opts::new(
            format!("{}tls_certificate_expiry_seconds", text::PREFIX),
            "When the certificate of a listener ends, in seconds since 1970.",
        );
        let certificate_expiry = IntGaugeVec::new(expiry, &["listener", "certificate"])
            .expect("names and labels are fixed");
        registry
            .register(Box::new(certificate_expiry.clone()))
            .expect("each name is registered once");
        let seconds = |name: &str, help: &str, labels: &[&str]| {
            let opts = Opts::new(format!("{}{name}", text::PREFIX), help);
            let family = CounterVec::new(opts, labels).expect("names and labels are fixed");
            registry.register(Box::new(family.clone())).expect("each name is registered once");
            family
        };
        let recommended_seconds = seconds(
            "scaling_tally_instance_seconds_total",
            "While the agent only recommends: instances by time, as recommended and as they exist.",
            &["pool", "of"],
        );
        let recommended_short_seconds = seconds(
            "scaling_tally_short_seconds_total",
            "While the agent only recommends: time in which fewer existed than were recommended.",
            &["pool"],
        );
        let operation_durations = HistogramVec::new(
            HistogramOpts::new(
                format!("{}provisioner_operation_duration_seconds", text::PREFIX),
                "How long calls to the provider of instances took.",
            )
            .buckets(OPERATION_BOUNDS.to_vec()),
            &["pool", "operation"],
        )
        .expect("names and labels are fixed");
        registry
            .register(Box::new(operation_durations.clone()))
            .expect("each name is registered once");
        Self {
            workers,
            version,
            started_seconds: clock::wall_seconds(),
            pools: Mutex::default(),
            listeners: Mutex::default(),
            registry,
            decisions,
            operations,
            operation_durations,
            reloads,
            probes,
            health_changes,
            ejections,
            history_errors,
            recommended_seconds,
            recommended_short_seconds,
            access_log_dropped,
            certificate_expiry,
            certificate_reloads,
        }
    }

    /// The counters of a pool: the same for ever, made on first use.
    pub fn pool_meter(&self, pool: &PoolId) -> Arc<PoolMeter> {
        let mut pools = lock(&self.pools);
        Arc::clone(
            pools.entry(pool.clone()).or_insert_with(|| Arc::new(PoolMeter::new(self.workers))),
        )
    }

    /// The counters of a listener: the same for ever, made on first use.
    pub fn listener_meter(&self, listener: &ListenerId) -> Arc<ListenerMeter> {
        let mut listeners = lock(&self.listeners);
        Arc::clone(
            listeners
                .entry(listener.clone())
                .or_insert_with(|| Arc::new(ListenerMeter::new(self.workers))),
        )
    }

    /// The scaling agent decided something.
    pub fn count_decision(&self, pool: &PoolId, direction: &'static str, reason: &'static str) {
        self.decisions.with_label_values(&[pool.as_str(), direction, reason]).inc();
    }

    /// A call to the provider ended; `outcome` is `ok` or the word of its failure.
    pub fn count_operation(
        &self,
        pool: &PoolId,
        operation: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.operations.with_label_values(&[pool.as_str(), operation, outcome]).inc();
        self.operation_durations
            .with_label_values(&[pool.as_str(), operation])
            .observe(took.as_secs_f64());
    }

    /// The history of scaling could not be read or written.
    pub fn count_history_error(&self) {
        self.history_errors.with_label_values::<&str>(&[]).inc();
    }

    /// Counts lines of the access log that could not be written.
    pub fn access_log_dropped(&self) -> IntCounter {
        self.access_log_dropped.with_label_values::<&str>(&[])
    }

    /// What was only recommended for a while: instances by time, as recommended and as they
    /// existed, and how long fewer existed.
    pub fn count_recommended(&self, pool: &PoolId, recommended: f64, existing: f64, short: f64) {
        let pool = pool.as_str();
        for (of, seconds) in [("recommended", recommended), ("existing", existing)] {
            self.recommended_seconds.with_label_values(&[pool, of]).inc_by(seconds);
        }
        self.recommended_short_seconds.with_label_values(&[pool]).inc_by(short);
    }

    /// The config was read again: taken over, or refused for its faults.
    pub fn count_reload(&self, accepted: bool) {
        let [success, failure] = RELOAD_OUTCOMES;
        self.reloads.with_label_values(&[if accepted { success } else { failure }]).inc();
    }

    /// Files of certificates had changed and were read again: taken over, or refused for their faults.
    pub fn count_certificate_reload(&self, accepted: bool) {
        let [success, failure] = RELOAD_OUTCOMES;
        let outcome = if accepted { success } else { failure };
        self.certificate_reloads.with_label_values(&[outcome]).inc();
    }

    /// The certificates that listeners show: whose, from which file, and when each ends, in seconds since
    /// 1970.
    pub fn show_certificates<'c>(
        &self,
        certificates: impl Iterator<Item = (&'c ListenerId, &'c Path, i64)>,
    ) {
        self.certificate_expiry.reset();
        for (listener, file, ends) in certificates {
            let file = file.to_string_lossy();
            self.certificate_expiry.with_label_values(&[listener.as_str(), &file]).set(ends);
        }
    }

    /// A health probe passed or failed.
    pub fn count_probe(&self, pool: &PoolId, passed: bool) {
        let outcome = if passed { "pass" } else { "fail" };
        self.probes.with_label_values(&[pool.as_str(), outcome]).inc();
    }

    /// An instance's health became `to`.
    pub fn count_health_change(&self, pool: &PoolId, to: Health) {
        self.health_changes.with_label_values(&[pool.as_str(), to.word()]).inc();
    }

    /// An instance was ejected, found by what `reason` says.
    pub fn count_ejection(&self, pool: &PoolId, reason: &str) {
        self.ejections.with_label_values(&[pool.as_str(), reason]).inc();
    }

    /// Everything as Prometheus text.
    ///
    /// # Errors
    /// If what the control plane counted cannot be encoded, which would be a bug.
    pub fn render(&self, census: &Census, queues: &[(PoolId, u32)]) -> Result<String, String> {
        let pools = lock(&self.pools).clone();
        let listeners = lock(&self.listeners).clone();
        let mut text = Text::default();
        text.family("build_info", Kind::Gauge, "The version that runs.");
        text.sample(&[("version", self.version)], 1);
        text.family(
            "process_start_time_seconds",
            Kind::Gauge,
            "When the daemon started, in seconds since 1970.",
        );
        text.sample(&[], self.started_seconds);
        meters::write_listeners(&mut text, &listeners);
        meters::write_pools(&mut text, &pools);
        census::write_queues(&mut text, queues);
        census::write_pools(&mut text, census);
        census::write_instances(&mut text, census);
        TextEncoder::new()
            .encode_utf8(&self.registry.gather(), text.raw())
            .map_err(|why| format!("the control plane's metrics cannot be encoded: {why}"))?;
        Ok(text.finish())
    }
}

/// The words for a reload that was taken over, and for one that was refused.
const RELOAD_OUTCOMES: [&str; 2] = ["success", "failure"];

/// A poisoned lock only means that a reader panicked: the meters are whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
