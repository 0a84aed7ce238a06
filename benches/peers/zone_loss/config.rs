//! How each peer is set up to lose a zone, as those who know it would: what it has against instances
//! that break or fall silent is on. What they all have is the same for all: how many requests an
//! instance may have, how many may wait and for how long, and how often probes go.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use crate::peer::Peer;
use crate::zone_loss::{LIMIT, ZONES, addresses};

/// How many requests may wait: tidegate's default.
const QUEUE: usize = 1000;

/// The configuration of a peer that listens at `listen`; nothing for those that have neither health
/// checks nor a limit for each instance.
pub fn of(
    peer: Peer,
    listen: SocketAddr,
    admin: SocketAddr,
    port: u16,
    folder: &Path,
) -> Option<String> {
    match peer {
        Peer::Tidegate => Some(tidegate(listen, admin, port, folder)),
        Peer::Haproxy => Some(haproxy(listen, port)),
        Peer::Envoy => Some(envoy(listen, port).to_string()),
        Peer::Nginx | Peer::Floor => None,
    }
}

/// Each instance with the number of its zone.
fn instances(port: u16) -> impl Iterator<Item = (u8, SocketAddr)> {
    ZONES.flat_map(move |zone| addresses(zone, port).map(move |address| (zone, address)))
}

/// The defaults, but for what an operator has to know: what an instance carries and how to ask it.
fn tidegate(listen: SocketAddr, admin: SocketAddr, port: u16, folder: &Path) -> String {
    let state = folder.display();
    let instances: String = instances(port)
        .map(|(zone, at)| format!("  {{ address = \"{at}\", zone = \"zone-{zone}\" }},\n"))
        .collect();
    format!(
        r#"[node]
workers = 1
state_dir = "{state}"

[admin]
bind = "{admin}"

[[listener]]
bind = "{listen}"
protocol = "http"
pool = "bench"

[pool.bench]
max_in_flight = {LIMIT}
slow_start = "off"
health = {{ type = "http", path = "/healthz", interval = "1s", timeout = "500ms" }}
instances = [
{instances}]
"#
    )
}

/// Live traffic marks servers down (`observe`), and what they did not answer goes elsewhere: with
/// `timeout server` that low also what a frozen one has, which takes that no answer is that slow. It
/// has no limit of the queue but this rule.
fn haproxy(listen: SocketAddr, port: u16) -> String {
    let servers: String = instances(port)
        .enumerate()
        .map(|(number, (_, at))| format!("    server s{number} {at}\n"))
        .collect();
    format!(
        "global
    nbthread 1
    maxconn 6000
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout client 60s
    timeout http-keep-alive 60s
    timeout connect 500ms
    timeout server 1s
    timeout queue 5s
    timeout check 500ms
    retries 3
    option redispatch 1
    retry-on all-retryable-errors
frontend clients
    bind {listen}
    http-request return status 503 if {{ queue(instances) ge {QUEUE} }}
    default_backend instances
backend instances
    balance leastconn
    option httpchk GET /healthz
    default-server maxconn {LIMIT} check inter 1s fastinter 200ms fall 2 rise 2 observe layer7 error-limit 3 \
on-error mark-down
{servers}"
    )
}

/// A connection carries one request at a time, so the limit of connections to a host is one of
/// requests. What it says 503 to for other reasons than overload becomes a 502 here, so that the two
/// can be told apart. It has no time limit of the queue but that of the whole request. Zone-aware
/// routing is off, as it is without a cluster of its own. Of two drawn hosts it takes the less busy: a
/// scan of all would send each try to those that are killed, for they are the least busy of all.
fn envoy(listen: SocketAddr, port: u16) -> Value {
    let address = |at: SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
    let endpoints: Vec<Value> = ZONES
        .map(|zone| {
            let hosts = addresses(zone, port);
            let hosts = hosts.map(|at| json!({ "endpoint": { "address": address(at) } }));
            json!({ "locality": { "zone": format!("zone-{zone}") }, "lb_endpoints": hosts.collect::<Vec<_>>() })
        })
        .collect();
    let most = 1_000_000;
    json!({ "static_resources": {
        "listeners": [{
            "name": "clients",
            "address": address(listen),
            "filter_chains": [{ "filters": [{
                "name": "http",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "http",
                    "generate_request_id": false,
                    "local_reply_config": { "mappers": [{
                        "filter": { "response_flag_filter": { "flags": ["UF", "UC", "UR", "LR", "URX"] } },
                        "status_code": 502,
                    }]},
                    "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
                        "match": { "prefix": "/" },
                        "route": {
                            "cluster": "instances",
                            "timeout": "15s",
                            "retry_policy": {
                                "retry_on": "5xx,reset",
                                "num_retries": 3,
                                "per_try_timeout": "1s",
                                "retry_host_predicate": [{
                                    "name": "previous_hosts",
                                    "typed_config": { "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate" },
                                }],
                                "host_selection_retry_max_attempts": 5,
                                "retry_back_off": { "base_interval": "0.005s", "max_interval": "0.050s" },
                            },
                        },
                    }]}]},
                    "http_filters": [{
                        "name": "router",
                        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" },
                    }],
                },
            }]}],
        }],
        "clusters": [{
            "name": "instances",
            "type": "STATIC",
            "lb_policy": "LEAST_REQUEST",
            "connect_timeout": "0.5s",
            "common_lb_config": { "healthy_panic_threshold": { "value": 25.0 } },
            "close_connections_on_host_health_failure": true,
            "health_checks": [{
                "timeout": "0.5s",
                "interval": "1s",
                "unhealthy_edge_interval": "0.2s",
                "healthy_edge_interval": "0.2s",
                "no_traffic_interval": "1s",
                "unhealthy_threshold": 2,
                "healthy_threshold": 2,
                "http_health_check": { "path": "/healthz" },
            }],
            "outlier_detection": {
                "interval": "1s",
                "base_ejection_time": "5s",
                "max_ejection_percent": 50,
                "consecutive_5xx": 3,
                "consecutive_gateway_failure": 3,
                "enforcing_consecutive_gateway_failure": 100,
                "split_external_local_origin_errors": true,
                "consecutive_local_origin_failure": 3,
                "enforcing_success_rate": 0,
                "enforcing_local_origin_success_rate": 0,
            },
            "circuit_breakers": {
                "thresholds": [{
                    "max_connections": most,
                    "max_pending_requests": QUEUE,
                    "max_requests": most,
                    "max_retries": most,
                }],
                "per_host_thresholds": [{ "max_connections": LIMIT }],
            },
            "load_assignment": { "cluster_name": "instances", "endpoints": endpoints },
        }],
    }})
}
