//! The families that come from the meters: shards summed over all workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::text::{Kind, Text};
use crate::base::{ListenerId, PoolId};
use crate::observe::meter::{
    AnswerKind, FailReason, FloodKind, Handshake, LATENCY_BOUNDS, Latency, ListenerMeter,
    ListenerShard, PoolMeter, PoolShard, RefuseReason, RetryReason, Tally,
};

/// Meters by name.
pub(super) type Meters<K, M> = BTreeMap<K, Arc<M>>;

/// One thing that a worker counts for a pool.
type Part<T> = fn(&PoolShard) -> &T;

/// Everything that is counted per pool.
pub(super) fn write_pools(text: &mut Text, pools: &Meters<PoolId, PoolMeter>) {
    text.family(
        "requests_total",
        Kind::Counter,
        "Responses sent to clients, by the pool they were for and their status code.",
    );
    for (pool, meter) in pools {
        for index in 0..500 {
            let count = sum(&meter.shards, |shard| &shard.codes[index]);
            if count > 0 {
                let code = (index + 100).to_string();
                text.sample(&[("pool", pool.as_str()), ("code", &code)], count);
            }
        }
    }

    let counters: [(&str, &str, Part<Tally>); 2] = [
        (
            "requests_offered_total",
            "Requests (or TCP connections) that arrived, whatever became of them.",
            |shard| &shard.offered,
        ),
        ("requests_shed_total", "Requests refused because nothing could take them.", |shard| {
            &shard.shed
        }),
    ];
    for (name, help, get) in counters {
        text.family(name, Kind::Counter, help);
        for (pool, meter) in pools {
            text.sample(&[("pool", pool.as_str())], sum(&meter.shards, get));
        }
    }

    write_reasons(
        text,
        pools,
        (
            "retries_total",
            "Requests tried again on another instance or on a fresh connection, by reason.",
        ),
        &RetryReason::ALL.map(RetryReason::word),
        |shard| &shard.retries,
    );
    write_reasons(
        text,
        pools,
        ("failures_total", "Requests that were not served as asked, by reason."),
        &FailReason::ALL.map(FailReason::word),
        |shard| &shard.failures,
    );
    write_latencies(text, pools);
}

/// A counter with a tally for each of `words`, in their order.
fn write_reasons(
    text: &mut Text,
    pools: &Meters<PoolId, PoolMeter>,
    (name, help): (&'static str, &'static str),
    words: &[&str],
    get: fn(&PoolShard) -> &[Tally],
) {
    text.family(name, Kind::Counter, help);
    for (pool, meter) in pools {
        for (index, word) in words.iter().enumerate() {
            let count = sum(&meter.shards, |shard| &get(shard)[index]);
            text.sample(&[("pool", pool.as_str()), ("reason", word)], count);
        }
    }
}

fn write_latencies(text: &mut Text, pools: &Meters<PoolId, PoolMeter>) {
    let histograms: [(&str, &str, Part<Latency>); 3] = [
        (
            "request_duration_seconds",
            "From the end of the request head to the end of the response.",
            |shard| &shard.duration,
        ),
        ("upstream_connect_duration_seconds", "Time to connect to an instance.", |shard| {
            &shard.connect
        }),
        ("queue_wait_seconds", "Time in the hold queue, of the requests that waited.", |shard| {
            &shard.queue_wait
        }),
    ];
    for (name, help, get) in histograms {
        text.family(name, Kind::Histogram, help);
        for (pool, meter) in pools {
            write_latency(text, pool, meter.shards.iter().map(get));
        }
    }
}

/// Everything that is counted per listener.
pub(super) fn write_listeners(text: &mut Text, listeners: &Meters<ListenerId, ListenerMeter>) {
    text.family("connections_active", Kind::Gauge, "Client connections open now.");
    for (listener, meter) in listeners {
        let active = sum(&meter.shards, |shard: &ListenerShard| &shard.active);
        text.sample(&[("listener", listener.as_str())], active);
    }

    text.family("connections_total", Kind::Counter, "Client connections accepted.");
    for (listener, meter) in listeners {
        let accepted = sum(&meter.shards, |shard: &ListenerShard| &shard.accepted);
        text.sample(&[("listener", listener.as_str())], accepted);
    }

    text.family("bytes_total", Kind::Counter, "Bytes from clients (in) and to clients (out).");
    for (listener, meter) in listeners {
        let bytes_in = sum(&meter.shards, |shard: &ListenerShard| &shard.bytes_in);
        let bytes_out = sum(&meter.shards, |shard: &ListenerShard| &shard.bytes_out);
        for (direction, bytes) in [("in", bytes_in), ("out", bytes_out)] {
            text.sample(&[("listener", listener.as_str()), ("direction", direction)], bytes);
        }
    }

    text.family("refused_total", Kind::Counter, "Messages from clients refused, by reason.");
    for (listener, meter) in listeners {
        for reason in RefuseReason::ALL {
            let count = sum(&meter.shards, |shard: &ListenerShard| &shard.refused[reason as usize]);
            text.sample(&[("listener", listener.as_str()), ("reason", reason.word())], count);
        }
    }

    text.family(
        "tls_handshakes_total",
        Kind::Counter,
        "TLS handshakes with clients, by how they ended.",
    );
    for (listener, meter) in listeners {
        let counts = Handshake::ALL.map(|outcome| {
            sum(&meter.shards, |shard: &ListenerShard| &shard.handshakes[outcome as usize])
        });
        // Most listeners speak no TLS.
        if counts.iter().any(|count| *count > 0) {
            for (outcome, count) in Handshake::ALL.into_iter().zip(counts) {
                let labels = [("listener", listener.as_str()), ("outcome", outcome.word())];
                text.sample(&labels, count);
            }
        }
    }

    text.family("answered_total", Kind::Counter, "Requests that a route answered by itself.");
    for (listener, meter) in listeners {
        for kind in AnswerKind::ALL {
            let count = sum(&meter.shards, |shard: &ListenerShard| &shard.answered[kind as usize]);
            text.sample(&[("listener", listener.as_str()), ("kind", kind.word())], count);
        }
    }

    let help = "HTTP/2 connections that were closed because of a flood, by kind.";
    text.family("http2_floods_total", Kind::Counter, help);
    for (listener, meter) in listeners {
        for kind in FloodKind::ALL {
            let count = sum(&meter.shards, |shard: &ListenerShard| &shard.floods[kind as usize]);
            text.sample(&[("listener", listener.as_str()), ("kind", kind.word())], count);
        }
    }
}

/// One counter over all workers.
fn sum<S>(shards: &[S], get: impl Fn(&S) -> &Tally) -> u64 {
    shards.iter().fold(0u64, |sum, shard| sum.wrapping_add(get(shard).get()))
}

/// One histogram over all workers. The count is the sum of the buckets that were read, so that the
/// two agree even while workers go on counting.
fn write_latency<'a>(
    text: &mut Text,
    pool: &PoolId,
    shards: impl Iterator<Item = &'a Latency> + Clone,
) {
    let labels = [("pool", pool.as_str())];
    let mut count = 0u64;
    for bucket in 0..=LATENCY_BOUNDS.len() {
        count += shards.clone().map(|shard| shard.buckets[bucket].get()).sum::<u64>();
        let bound = LATENCY_BOUNDS.get(bucket).map_or("+Inf".into(), f64::to_string);
        text.line("_bucket", &labels, Some(&bound), count);
    }
    let sum_ns: u64 = shards.map(|shard| shard.sum_ns.get()).sum();
    text.line("_sum", &labels, None, sum_ns as f64 / 1e9);
    text.line("_count", &labels, None, count);
}
