//! Passive health and slow start.

use std::time::Duration;

use super::{LISTENER, POOL, check_pool, good};
use crate::base::Share;
use crate::model::{Outlier, Pool};

/// The pool that `lines` make.
fn pool(lines: &str) -> Pool {
    good(&format!("{LISTENER}{POOL}{lines}\n")).config.pools[0].as_ref().clone()
}

#[test]
fn both_are_on_unless_they_are_turned_off() {
    let it = pool("");
    assert_eq!(
        (it.outlier.clone(), it.slow_start),
        (Outlier::default(), Pool::new(it.id).slow_start)
    );
    assert_eq!(it.slow_start, Some(Duration::from_secs(30)));
    let it = pool("slow_start = \"off\"\noutlier.max_ejected = \"0%\"");
    assert!(it.slow_start.is_none() && it.outlier.is_off());
}

#[test]
fn every_key_means_what_it_says() {
    let it = pool(
        "slow_start = \"2m\"\n[pool.web.outlier]\nfailures = \"off\"\ngateway_failures = 3\n\
         success_rate = 2.5\nlatency = \"off\"\ninterval = \"5s\"\nmin_requests = 50\n\
         min_instances = 3\nejection = \"1m\"\nmax_ejection = \"10m\"\nmax_ejected = \"25%\"\n\
         min_healthy = 2",
    );
    let expected = Outlier {
        failures: None,
        gateway_failures: Some(3),
        success_rate: Some(2.5),
        latency: None,
        interval: Duration::from_secs(5),
        min_requests: 50,
        min_instances: 3,
        ejection: Duration::from_secs(60),
        max_ejection: Duration::from_secs(600),
        max_ejected: Share(0.25),
        min_healthy: 2,
    };
    assert_eq!((it.outlier, it.slow_start), (expected, Some(Duration::from_secs(120))));
    let longer = pool("outlier.ejection = \"7m\"").outlier;
    assert_eq!(longer.max_ejection, Duration::from_secs(420), "no shorter than the first");
}

#[test]
fn faults() {
    for (lines, expected) in [
        (
            "outlier = { ejection = \"1m\", max_ejection = \"30s\" }",
            "7:45: pool.web.outlier.max_ejection: the longest ejection \"30s\" is shorter than the first \"1m\"",
        ),
        ("outlier.failures = 0", "7:20: pool.web.outlier.failures: 0 is less than 1"),
        ("outlier.latency = 0", "7:19: pool.web.outlier.latency: must be a number above 0"),
        ("outlier.min_instances = 1", "7:25: pool.web.outlier.min_instances: 1 is less than 2"),
        ("outlier.max_ejected = 10", "7:23: pool.web.outlier.max_ejected: 10 has no unit"),
        (
            "outlier.failure = 5",
            "7:9: pool.web.outlier.failure: unknown key; did you mean \"failures\"?",
        ),
        ("slow_start = \"10ms\"", "7:14: pool.web.slow_start: must be at least \"1s\""),
        ("slow_start = 30", "7:14: pool.web.slow_start:"),
    ] {
        check_pool(lines, &[expected]);
    }
}
