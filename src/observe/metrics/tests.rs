use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::fixture::{census, instance, pool};
use super::*;
use crate::base::{Clock, Ms};
use crate::model::{
    InstanceRow, Life, ProcessSettings, Provisioning, StopPolicy, ZoneRow, ZoneState,
};
use crate::observe::{AnswerKind, FailReason, FloodKind, Handshake, RefuseReason, RetryReason};

/// Two zones, everything counted at least once.
fn busy() -> (Metrics, Census) {
    let metrics = Metrics::new(2, "1.2.3");
    let meter = metrics.pool_meter(&"web".into());
    for shard in &meter.shards {
        shard.offered.add(3);
        shard.count_code(200);
        shard.count_retry(RetryReason::Stale);
        shard.count_failure(FailReason::QueueFull);
        shard.duration.observe(Duration::from_millis(2));
        shard.duration.observe(Duration::from_secs(20));
    }
    meter.shards[1].count_code(503);
    let listener = metrics.listener_meter(&"front".into());
    listener.shards[0].accepted.add(5);
    listener.shards[0].active.add(5);
    listener.shards[0].active.sub(3);
    listener.shards[1].bytes_in.add(10);
    listener.shards[1].bytes_out.add(1_000);
    listener.shards[1].count_refusal(RefuseReason::HeadTooLarge);
    listener.shards[1].count_answer(AnswerKind::Redirect);
    listener.shards[1].count_flood(FloodKind::Ping);
    listener.shards[0].count_handshake(Handshake::Full);
    listener.shards[1].count_handshake(Handshake::Full);
    metrics.listener_meter(&"plain".into());
    metrics.count_certificate_reload(false);
    let certificates = [(&"gone".into(), Path::new("b.pem"), 1)];
    metrics.show_certificates(certificates.into_iter());
    let certificates = [(&"front".into(), Path::new("dir/a.pem"), 1_800_000_000)];
    metrics.show_certificates(certificates.into_iter());
    metrics.count_decision(&"web".into(), "out", "demand");
    metrics.count_operation(&"web".into(), "launch", "ok", Duration::from_millis(200));
    metrics.count_reload(true);
    metrics.count_probe(&"web".into(), false);
    metrics.count_health_change(&"web".into(), Health::Down);
    metrics.count_ejection(&"web".into(), "latency");
    let up = instance("web", "a-1", "a", Health::Up, Life::Serving);
    up.instance.vitals.count_response(200, Duration::ZERO);
    up.instance.vitals.count_response(503, Duration::ZERO);
    up.instance.vitals.count_failure();
    let leaving = Life::Draining { deadline: Ms(1) };
    let rows = vec![
        up,
        instance("web", "a-2", "a", Health::Up, leaving),
        instance("web", "b-1", "b", Health::Down, Life::Serving),
    ];
    let mut census = census(pool("web"), rows);
    census.pools[0].ordered.push(("c-1".into(), "c".into()));
    census.pools[0].evacuated.push("c".into());
    census.pools[0].plan.panic = true;
    let row = |zone: &str, state| ZoneRow { zone: zone.into(), state, until: None };
    census.zones = vec![row("b", ZoneState::Lost), row("c", ZoneState::Evacuated)];
    (metrics, census)
}

#[test]
fn every_source_is_in_the_text() {
    let (metrics, census) = busy();
    let text = metrics.render(&census, &[("web".into(), 4)]).expect("text");
    for line in [
        "tidegate_build_info{version=\"1.2.3\"} 1",
        "tidegate_requests_total{pool=\"web\",code=\"200\"} 2",
        "tidegate_requests_total{pool=\"web\",code=\"503\"} 1",
        "tidegate_requests_offered_total{pool=\"web\"} 6",
        "tidegate_requests_shed_total{pool=\"web\"} 2",
        "tidegate_retries_total{pool=\"web\",reason=\"stale\"} 2",
        "tidegate_retries_total{pool=\"web\",reason=\"connect\"} 0",
        "tidegate_failures_total{pool=\"web\",reason=\"queue_full\"} 2",
        "tidegate_request_duration_seconds_bucket{pool=\"web\",le=\"0.001\"} 0",
        "tidegate_request_duration_seconds_bucket{pool=\"web\",le=\"0.0025\"} 2",
        "tidegate_request_duration_seconds_bucket{pool=\"web\",le=\"10\"} 2",
        "tidegate_request_duration_seconds_bucket{pool=\"web\",le=\"+Inf\"} 4",
        "tidegate_request_duration_seconds_sum{pool=\"web\"} 40.004",
        "tidegate_request_duration_seconds_count{pool=\"web\"} 4",
        "tidegate_queue_wait_seconds_count{pool=\"web\"} 0",
        "tidegate_upstream_connect_duration_seconds_count{pool=\"web\"} 0",
        "tidegate_connections_active{listener=\"front\"} 2",
        "tidegate_connections_total{listener=\"front\"} 5",
        "tidegate_bytes_total{listener=\"front\",direction=\"in\"} 10",
        "tidegate_bytes_total{listener=\"front\",direction=\"out\"} 1000",
        "tidegate_refused_total{listener=\"front\",reason=\"head_too_large\"} 1",
        "tidegate_answered_total{listener=\"front\",kind=\"redirect\"} 1",
        "tidegate_http2_floods_total{listener=\"front\",kind=\"ping\"} 1",
        "tidegate_tls_handshakes_total{listener=\"front\",outcome=\"ok_full\"} 2",
        "tidegate_tls_handshakes_total{listener=\"front\",outcome=\"not_tls\"} 0",
        "tidegate_tls_certificate_expiry_seconds{certificate=\"dir/a.pem\",listener=\"front\"} 1800000000",
        "tidegate_tls_certificate_reloads_total{outcome=\"failure\"} 1",
        "tidegate_tls_certificate_reloads_total{outcome=\"success\"} 0",
        "tidegate_queue_depth{pool=\"web\"} 4",
        "tidegate_zone_share{pool=\"web\",zone=\"a\"} 1",
        "tidegate_zone_share{pool=\"web\",zone=\"b\"} 0",
        "tidegate_zone_state{pool=\"web\",zone=\"a\"} 1",
        "tidegate_zone_state{pool=\"web\",zone=\"b\"} 0",
        "tidegate_zone_state{pool=\"web\",zone=\"c\"} 0",
        "tidegate_zone_evacuated{pool=\"web\",zone=\"a\"} 0",
        "tidegate_zone_evacuated{pool=\"web\",zone=\"c\"} 1",
        "tidegate_zone_lost{pool=\"web\",zone=\"a\"} 0",
        "tidegate_zone_lost{pool=\"web\",zone=\"b\"} 1",
        "tidegate_pool_panic{pool=\"web\"} 1",
        "tidegate_instances{pool=\"web\",zone=\"a\",life=\"serving\"} 1",
        "tidegate_instances{pool=\"web\",zone=\"a\",life=\"draining\"} 1",
        "tidegate_instances{pool=\"web\",zone=\"c\",life=\"ordered\"} 1",
        "tidegate_instances{pool=\"web\",zone=\"c\",life=\"serving\"} 0",
        "tidegate_scaling_desired{pool=\"web\"} 3",
        "tidegate_scaling_demand_requests_per_second{pool=\"web\"} 12.5",
        "tidegate_instance_up{pool=\"web\",zone=\"a\",instance_id=\"a-1\"} 1",
        "tidegate_instance_up{pool=\"web\",zone=\"b\",instance_id=\"b-1\"} 0",
        "tidegate_instance_in_flight{pool=\"web\",zone=\"a\",instance_id=\"a-1\"} 0",
        "tidegate_instance_requests_total{pool=\"web\",zone=\"a\",instance_id=\"a-1\",class=\"2xx\"} 1",
        "tidegate_instance_requests_total{pool=\"web\",zone=\"a\",instance_id=\"a-1\",class=\"5xx\"} 1",
        "tidegate_instance_requests_total{pool=\"web\",zone=\"a\",instance_id=\"a-1\",class=\"failed\"} 1",
        "tidegate_instance_requests_total{pool=\"web\",zone=\"b\",instance_id=\"b-1\",class=\"2xx\"} 0",
        "tidegate_scaling_decisions_total{direction=\"out\",pool=\"web\",reason=\"demand\"} 1",
        "tidegate_provisioner_operations_total{operation=\"launch\",outcome=\"ok\",pool=\"web\"} 1",
        "tidegate_provisioner_operation_duration_seconds_bucket{operation=\"launch\",pool=\"web\",le=\"0.25\"} 1",
        "tidegate_config_reloads_total{outcome=\"success\"} 1",
        "tidegate_config_reloads_total{outcome=\"failure\"} 0",
        "tidegate_probes_total{outcome=\"fail\",pool=\"web\"} 1",
        "tidegate_health_changes_total{pool=\"web\",to=\"down\"} 1",
        "tidegate_ejections_total{pool=\"web\",reason=\"latency\"} 1",
    ] {
        assert!(text.lines().any(|seen| seen == line), "missing: {line}\n{text}");
    }
    assert!(!text.contains("listener=\"plain\",outcome"), "it has no handshakes");
    assert!(!text.contains("b.pem"), "it is shown no more");
    assert!(!text.contains("class=\"4xx\""), "classes that never occurred are left out");
}

#[test]
fn every_family_has_its_head_once_and_its_lines_together() {
    let (metrics, census) = busy();
    let text = metrics.render(&census, &[]).expect("text");
    let mut families: Vec<&str> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            let name = head.split(' ').next().expect("a name");
            assert!(!families.contains(&name), "{name} starts twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let family = families.last().expect("a head before the first line");
            assert!(line.starts_with(family), "{line} is not in {family}");
        }
    }
    assert_eq!(text.matches("# TYPE ").count(), families.len());
    assert!(families.iter().all(|name| name.starts_with("tidegate_")), "{families:?}");
}

#[test]
fn counters_outlive_their_pool_and_instances_do_not() {
    let (metrics, census) = busy();
    let with = metrics.render(&census, &[]).expect("text");
    let without = metrics.render(&Census::default(), &[]).expect("text");
    assert!(with.contains("instance_id=\"a-1\""));
    assert!(!without.contains("instance_id="), "{without}");
    assert!(without.contains("tidegate_requests_total{pool=\"web\",code=\"200\"} 2"));
    let again = metrics.pool_meter(&"web".into());
    assert_eq!(again.totals().offered, 6, "the meter is the same for ever");
}

#[test]
fn a_zone_that_could_have_instances_and_has_none_reads_zero() {
    let mut pool = pool("web");
    pool.provisioning = Some(Provisioning::Process(ProcessSettings {
        command: vec!["true".into()],
        zones: vec!["a".into(), "b".into()],
        port: 80,
        stop: StopPolicy::Terminate,
    }));
    let rows = vec![instance("web", "i", "a", Health::Up, Life::Serving)];
    let text = Metrics::new(1, "0").render(&census(pool, rows), &[]).expect("text");
    for line in [
        "tidegate_zone_state{pool=\"web\",zone=\"a\"} 1",
        "tidegate_zone_state{pool=\"web\",zone=\"b\"} 0",
        "tidegate_instances{pool=\"web\",zone=\"b\",life=\"serving\"} 0",
    ] {
        assert!(text.lines().any(|seen| seen == line), "missing: {line}\n{text}");
    }
}

#[test]
fn odd_names_do_not_break_the_text() {
    let rows = vec![instance("we\"b", "i\n1", "a\\", Health::Up, Life::Serving)];
    let text = Metrics::new(1, "0").render(&census(pool("we\"b"), rows), &[]).expect("text");
    let line = r#"tidegate_instance_up{pool="we\"b",zone="a\\",instance_id="i\n1"} 1"#;
    assert!(text.lines().any(|seen| seen == line), "{text}");
}

#[test]
fn promtool_has_no_complaint() {
    let (metrics, census) = busy();
    let text = metrics.render(&census, &[("web".into(), 4)]).expect("text");
    let spawned = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(why) => {
            eprintln!("SKIPPED: promtool cannot be run ({why}); the metrics were NOT linted");
            return;
        }
    };
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.trim().is_empty(), "promtool says:\n{said}");
}

#[test]
fn a_thousand_instances_fit_the_bar() {
    let zones = ["1", "2", "3"];
    let rows: Vec<InstanceRow> = (0..1_000)
        .map(|n| {
            let address = format!("10.20.{}.{}:8080", n / 250, n % 250);
            let row = instance("web", &address, zones[n % 3], Health::Up, Life::Serving);
            for status in [200, 302, 404, 503] {
                (0..1_000).for_each(|_| row.instance.vitals.count_response(status, Duration::ZERO));
            }
            row.instance.vitals.count_failure();
            row
        })
        .collect();
    let metrics = Metrics::new(8, "1.2.3");
    metrics.pool_meter(&"web".into()).shards[0].count_code(200);
    let census = census(pool("web"), rows);
    let clock = Clock::start();
    let text = metrics.render(&census, &[]).expect("text");
    let took = clock.elapsed();
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    assert_eq!(text.matches("tidegate_instance_up{").count(), 1_000);
    // The bar is 50 ms in release; a debug build on a busy machine gets some more.
    let bar = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 50 });
    eprintln!("{} bytes in {took:?}", text.len());
    assert!(took < bar, "{took:?}");
}
