//! The API on real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::config::{AdminBind, AdminSettings};
use crate::model::{Health, Life};
use crate::net::http::{Peer, request};
use crate::observe::metrics::fixture;
use crate::scaling::Record;

const SOON: Duration = Duration::from_secs(5);

/// Notes what it was told; knows pool "web" with instance "a/1".
#[derive(Default)]
struct Daemon {
    orders: Mutex<Vec<(String, bool)>>,
    faults: Vec<String>,
}

impl Control for Daemon {
    fn drain(&self, pool: PoolId, instance: InstanceId, on: bool) -> Reply<'_, (), ControlError> {
        let result = match (pool.as_str(), instance.as_str()) {
            ("web", "a/1") => {
                self.orders.lock().expect("orders").push((instance.to_string(), on));
                Ok(())
            }
            ("stopping", _) => Err(ControlError::Stopping),
            _ => Err(ControlError::Unknown(format!("no {instance} in {pool}"))),
        };
        Box::pin(std::future::ready(result))
    }

    fn scale(&self, pool: PoolId, size: Option<SizeOverride>) -> Reply<'_, (), ControlError> {
        let result = match (pool.as_str(), size) {
            ("web", Some(SizeOverride { desired: 99, .. })) => {
                Err(ControlError::Impossible("may have 1 to 9".into()))
            }
            ("web", size) => {
                let mut orders = self.orders.lock().expect("orders");
                orders.push((format!("size {:?}", size.map(|s| s.desired)), size.is_some()));
                Ok(())
            }
            _ => Err(ControlError::Unknown(format!("no {pool}"))),
        };
        Box::pin(std::future::ready(result))
    }

    fn protect(&self, _: PoolId, instance: InstanceId, on: bool) -> Reply<'_, (), ControlError> {
        self.orders.lock().expect("orders").push((format!("protect {instance}"), on));
        Box::pin(std::future::ready(Ok(())))
    }

    fn evacuate(
        &self,
        zone: ZoneId,
        evacuation: Evacuation,
        force: bool,
    ) -> Reply<'_, (), ControlError> {
        let result = match (zone.as_str(), force) {
            ("a", true) => {
                let order = format!("evacuate {zone} {}", evacuation.until.is_some());
                self.orders.lock().expect("orders").push((order, force));
                Ok(())
            }
            ("a", false) => Err(ControlError::Conflict("too little is left".into())),
            _ => Err(ControlError::Unknown(format!("no {zone}"))),
        };
        Box::pin(std::future::ready(result))
    }

    fn restore(&self, zone: ZoneId) -> Reply<'_, (), ControlError> {
        self.orders.lock().expect("orders").push((format!("restore {zone}"), true));
        Box::pin(std::future::ready(Ok(())))
    }

    fn reload(&self) -> Reply<'_, String, ControlError> {
        let result = if self.faults.is_empty() {
            Ok("no change".into())
        } else {
            Err(ControlError::Refused(self.faults.clone()))
        };
        Box::pin(std::future::ready(result))
    }
}

struct Served {
    peer: Peer,
    admin: Arc<Admin>,
    daemon: Arc<Daemon>,
    task: JoinHandle<()>,
}

fn serve_on(at: &AdminBind, token: Option<Token>, faults: Vec<String>) -> Served {
    let row = fixture::instance("web", "a/1", "a", Health::Up, Life::Serving);
    let journal = Arc::new(Journal::default());
    for to in 1..=60 {
        journal.add(Record {
            id: 0,
            t: 0.0,
            from: 1,
            to,
            winner: "demand",
            terms: BTreeMap::new(),
            clamps: Vec::new(),
            action: "launch",
            reason: String::new(),
            outcome: String::new(),
        });
    }
    let daemon = Arc::new(Daemon { faults, ..Daemon::default() });
    let admin = Arc::new(Admin {
        census: Arc::new(ArcSwap::from_pointee(fixture::census(fixture::pool("web"), vec![row]))),
        journals: Arc::new(ArcSwap::from_pointee(Journals::from([("web".into(), journal)]))),
        metrics: Arc::new(Metrics::new(1, "1.2.3")),
        queues: Arc::new(|| vec![("web".into(), 7)]),
        homes: Arc::new(|_, _| None),
        control: Arc::clone(&daemon) as Arc<dyn Control>,
        node: "lb-1".into(),
        token,
    });
    let listener = bind(&AdminSettings { bind: at.clone(), token_file: None }).expect("a listener");
    let peer = match &listener {
        AdminListener::Tcp(tcp) => Peer::Tcp(tcp.local_addr().expect("bound")),
        AdminListener::Unix(_) => Peer::from(at),
    };
    let task = tokio::spawn(serve(listener, Arc::clone(&admin)));
    Served { peer, admin, daemon, task }
}

fn any_port() -> AdminBind {
    AdminBind::Tcp(SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn served() -> Served {
    serve_on(&any_port(), None, Vec::new())
}

impl Served {
    async fn ask(
        &self,
        line: &str,
        fields: &[(&str, &str)],
        body: &'static str,
    ) -> Response<Bytes> {
        let (method, path) = line.split_once(' ').expect("method and path");
        let method: Method = method.parse().expect("a method");
        let mut asked = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            asked = asked.header(*name, *value);
        }
        let asked = asked.body(Full::from(body)).expect("a request");
        request(&self.peer, asked, SOON, 1 << 20).await.expect("an answer")
    }

    async fn json(&self, line: &str) -> (u16, Value) {
        let answer = self.ask(line, &[], "").await;
        let value = serde_json::from_slice(answer.body()).expect("JSON");
        (answer.status().as_u16(), value)
    }

    fn address(&self) -> SocketAddr {
        match &self.peer {
            Peer::Tcp(address) => *address,
            Peer::Unix(_) => unreachable!("a TCP test"),
        }
    }
}

fn field<'a>(answer: &'a Response<Bytes>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test]
async fn reading() {
    let served = served();
    let metrics = served.ask("GET /metrics", &[], "").await;
    assert_eq!(metrics.status(), 200);
    assert_eq!(field(&metrics, "content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert_eq!(field(&metrics, "cache-control"), "no-store");
    let text = String::from_utf8_lossy(metrics.body());
    assert!(text.contains("tidegate_queue_depth{pool=\"web\"} 7\n"), "{text}");
    assert!(text.contains("tidegate_instance_up{"), "{text}");

    let (status, value) = served.json("GET /api/v1/status").await;
    assert_eq!(status, 200);
    assert_eq!(value["node"], "lb-1");
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["pools"][0]["queue_depth"], 7);
    assert_eq!(value["pools"][0]["instances"][0]["id"], "a/1");

    let (status, value) = served.json("GET /api/v1/pools/web").await;
    assert_eq!((status, &value["balance"]), (200, &json!("least-request")));
    assert_eq!(value["instances"][0]["responses"]["2xx"], 0);

    let head = served.ask("HEAD /api/v1/status", &[], "").await;
    assert_eq!((head.status().as_u16(), head.body().len()), (200, 0));
}

#[tokio::test]
async fn decisions_come_newest_first_and_bounded() {
    let served = served();
    let (status, value) = served.json("GET /api/v1/pools/web/scaling").await;
    let decisions = value["decisions"].as_array().expect("a list");
    assert_eq!((status, decisions.len()), (200, 50));
    assert_eq!((&decisions[0]["id"], &decisions[0]["to"]), (&json!(60), &json!(60)));
    let (_, value) = served.json("GET /api/v1/pools/web/scaling?limit=2").await;
    assert_eq!(value["decisions"].as_array().map(Vec::len), Some(2));
    served.admin.journals.store(Arc::default());
    let (status, value) = served.json("GET /api/v1/pools/web/scaling").await;
    assert_eq!((status, value), (200, json!({ "decisions": [] })));
}

#[tokio::test]
async fn ready_follows_the_census() {
    let served = served();
    assert_eq!(served.ask("GET /readyz", &[], "").await.status(), 200);
    served.admin.census.store(Arc::default());
    let (status, value) = served.json("GET /readyz").await;
    assert_eq!((status, &value["title"]), (503, &json!("Service Unavailable")));
    assert_eq!(served.ask("GET /healthz", &[], "").await.status(), 200);
}

#[tokio::test]
async fn drain_and_undrain_reach_the_daemon() {
    let served = served();
    let (status, value) = served.json("POST /api/v1/pools/web/instances/a%2F1/drain").await;
    assert_eq!(status, 200);
    assert_eq!(value, json!({ "pool": "web", "instance": "a/1", "draining": true }));
    let (status, _) = served.json("POST /api/v1/pools/web/instances/a%2F1/undrain").await;
    assert_eq!(status, 200);
    let orders = served.daemon.orders.lock().expect("orders").clone();
    assert_eq!(orders, [("a/1".to_owned(), true), ("a/1".to_owned(), false)]);
}

#[tokio::test]
async fn reload_says_what_changed_or_all_faults() {
    let good = served();
    let (status, value) = good.json("POST /api/v1/reload").await;
    assert_eq!((status, value), (200, json!({ "summary": "no change" })));
    let bad = serve_on(&any_port(), None, vec!["f:1:1: one".into(), "f:2:1: two".into()]);
    let (status, value) = bad.json("POST /api/v1/reload").await;
    assert_eq!(status, 422);
    assert_eq!(value["faults"], json!(["f:1:1: one", "f:2:1: two"]));
}

#[tokio::test]
async fn errors_are_problem_details() {
    let served = served();
    for (line, fields, status) in [
        ("GET /", vec![], 404),
        ("GET /api/v1/pools/none", vec![], 404),
        ("GET /api/v1/pools/none/scaling", vec![], 404),
        ("POST /api/v1/pools/none/instances/i/drain", vec![], 404),
        ("POST /api/v1/pools/web/instances/none/drain", vec![], 404),
        ("POST /api/v1/pools/stopping/instances/i/drain", vec![], 503),
        ("GET /api/v1/pools/web/scaling?limit=0", vec![], 400),
        ("POST /metrics", vec![], 405),
        ("GET /metrics", vec![("host", "evil.example")], 421),
        ("POST /api/v1/reload", vec![("origin", "http://evil.example")], 403),
    ] {
        let answer = served.ask(line, &fields, "").await;
        assert_eq!(answer.status(), status, "{line}");
        assert_eq!(field(&answer, "content-type"), "application/problem+json", "{line}");
        assert_eq!(field(&answer, "cache-control"), "no-store", "{line}");
        let value: Value = serde_json::from_slice(answer.body()).expect("JSON");
        assert_eq!(value["type"], "about:blank", "{line}");
        assert_eq!(value["status"], status, "{line}");
        assert!(value["title"].is_string() && value["detail"].is_string(), "{line}: {value}");
        assert_eq!(field(&answer, "allow"), if status == 405 { "GET, HEAD" } else { "" });
    }
}

#[tokio::test]
async fn a_body_is_bounded() {
    let served = served();
    let body: &'static str = Box::leak("x".repeat(64 * 1024).into_boxed_str());
    assert_eq!(served.ask("POST /api/v1/reload", &[], body).await.status(), 200);
    let body: &'static str = Box::leak("x".repeat(64 * 1024 + 1).into_boxed_str());
    assert_eq!(served.ask("POST /api/v1/reload", &[], body).await.status(), 413);
}

#[tokio::test]
async fn with_a_token_all_but_healthz_needs_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    let token = Token::read(&file).expect("a token");
    let served = serve_on(&any_port(), Some(token), Vec::new());
    assert_eq!(served.ask("GET /healthz", &[], "").await.status(), 200);
    let refused = served.ask("GET /metrics", &[("authorization", "Bearer no")], "").await;
    assert_eq!(refused.status(), 401);
    assert_eq!(field(&refused, "www-authenticate"), "Bearer realm=\"tidegate\"");
    let passed = served.ask("GET /metrics", &[("authorization", "Bearer s3cret")], "").await;
    assert_eq!(passed.status(), 200);
}

#[tokio::test]
async fn a_unix_socket_serves_any_host_and_replaces_a_dead_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket that nobody serves"));
    let at = AdminBind::Unix(path);
    let served = serve_on(&at, None, Vec::new());
    let answer = served.ask("GET /healthz", &[("host", "anything.example")], "").await;
    assert_eq!(answer.status(), 200);
    let again = bind(&AdminSettings { bind: at, token_file: None });
    assert!(again.is_err_and(|why| why.contains("another process")));
}

#[tokio::test]
async fn what_is_not_http_does_not_disturb_the_others() {
    let served = served();
    for bytes in ["\x16\x03\x01garbage\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/1.1\r\nhost", ""] {
        let mut stream = TcpStream::connect(served.address()).await.expect("connected");
        stream.write_all(bytes.as_bytes()).await.expect("written");
        stream.shutdown().await.expect("half closed");
        let mut got = Vec::new();
        let closed = timeout(SOON, stream.read_to_end(&mut got)).await;
        assert!(closed.is_ok(), "{bytes:?} is not answered or closed");
        assert!(got.is_empty() || got.starts_with(b"HTTP/1.1 400"), "{bytes:?}");
    }
    assert_eq!(served.ask("GET /healthz", &[], "").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up() {
    let served = served();
    let mut stream = TcpStream::connect(served.address()).await.expect("connected");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await.expect("written");
    let mut got = Vec::new();
    let closed = timeout(Duration::from_secs(11), stream.read_to_end(&mut got)).await;
    assert!(closed.is_ok(), "the connection is still open after 11 s");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_given_up() {
    let served = served();
    let mut stream = TcpStream::connect(served.address()).await.expect("connected");
    let head = format!(
        "POST /api/v1/reload HTTP/1.1\r\nhost: {}\r\ncontent-length: 9\r\n\r\n",
        served.address()
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut got = Vec::new();
    let closed = timeout(Duration::from_secs(21), stream.read_to_end(&mut got)).await;
    assert!(closed.is_ok(), "the connection is still open after 21 s");
    assert!(got.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&got));
}

#[tokio::test]
async fn dropping_the_task_closes_everything() {
    let served = served();
    let mut idle = TcpStream::connect(served.address()).await.expect("connected");
    assert_eq!(served.ask("GET /healthz", &[], "").await.status(), 200);
    served.task.abort();
    let closed = timeout(SOON, idle.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "an idle connection outlives the daemon's stop");
    assert!(TcpStream::connect(served.address()).await.is_err());
}

#[tokio::test]
async fn the_connection_after_the_last_waits_its_turn() {
    let served = served();
    let mut held = Vec::new();
    for _ in 0..64 {
        held.push(TcpStream::connect(served.address()).await.expect("connected"));
    }
    let ask = served.ask("GET /healthz", &[], "");
    tokio::pin!(ask);
    let early = timeout(Duration::from_millis(200), &mut ask).await;
    assert!(early.is_err(), "the 65th connection is served beside the 64");
    held.pop();
    assert_eq!(timeout(SOON, ask).await.expect("its turn").status(), 200);
}

#[tokio::test]
async fn sizes_and_protection_are_ordered() {
    let served = served();
    let size = "POST /api/v1/pools/web/scaling";
    for (line, body, status) in [
        (size, r#"{"desired": 4, "for": "30m"}"#, 200),
        (size, r#"{"auto": true}"#, 200),
        (size, r#"{"desired": 99}"#, 422),
        (size, r#"{"desire": 4}"#, 400),
        ("POST /api/v1/pools/api/scaling", r#"{"desired": 4}"#, 404),
        ("POST /api/v1/pools/web/instances/a%2F1/protect", "", 200),
        ("POST /api/v1/pools/web/instances/a%2F1/unprotect", "", 200),
    ] {
        let answer = served.ask(line, &[], body).await;
        assert_eq!(answer.status(), status, "{line} {body}: {:?}", answer.body());
    }
    let orders = served.daemon.orders.lock().expect("orders").clone();
    let told: Vec<_> = orders.iter().map(|(order, on)| (order.as_str(), *on)).collect();
    let expected = [
        ("size Some(4)", true),
        ("size None", false),
        ("protect a/1", true),
        ("protect a/1", false),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn zones_are_evacuated_and_restored() {
    let served = served();
    for (line, body, status) in [
        ("POST /api/v1/zones/a/evacuate", r#"{"for_s": 60, "force": true}"#, 200),
        ("POST /api/v1/zones/a/evacuate", r#"{"force": true}"#, 200),
        ("POST /api/v1/zones/a/evacuate", "", 409),
        ("POST /api/v1/zones/a/evacuate", r#"{"for_s": 0}"#, 400),
        ("POST /api/v1/zones/a/evacuate", r#"{"forse": true}"#, 400),
        ("POST /api/v1/zones/b/evacuate", "", 404),
        ("POST /api/v1/zones/a/restore", "", 200),
    ] {
        let answer = served.ask(line, &[], body).await;
        assert_eq!(answer.status(), status, "{line} {body}: {:?}", answer.body());
    }
    let orders = served.daemon.orders.lock().expect("orders").clone();
    let told: Vec<_> = orders.iter().map(|(order, _)| order.as_str()).collect();
    assert_eq!(told, ["evacuate a true", "evacuate a false", "restore a"]);
}
