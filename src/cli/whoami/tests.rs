//! On real sockets, by a client that writes bytes and reads to the end.

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    whoami: WhoamiArgs,
}

fn args(line: &str) -> Result<WhoamiArgs, String> {
    let words = ["whoami"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.whoami).map_err(|err| err.to_string())
}

/// An instance that serves; it is told to stop by dropping `stop`.
struct Served {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Served {
    fn start(line: &str) -> Self {
        let listener = listen("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let address = listener.local_addr().expect("bound");
        let args = args(&format!("--listen {address} --id web-a-1 --zone a {line}"));
        let whoami = Arc::new(Whoami::new(args.expect("arguments")));
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, whoami, stopped));
        Self { address, stop: Some(stop), task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// Status and body of the answer to a request head, which is sent with `Connection: close`.
    async fn ask(&self, head: &str) -> (u16, String) {
        let answer = self.ask_raw(&format!("{head}\r\nconnection: close\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head[9..12].parse().expect("a status"), body.to_owned())
    }

    async fn ask_raw(&self, request: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_bytes()).await.expect("written");
        read_all(&mut stream).await
    }
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(20), read).await.expect("in time").expect("read");
    answer
}

#[test]
fn arguments() {
    let full = args("--listen 127.0.0.1:1 --rate 50 --delay 5ms --fail 10% --boot 2s").expect("ok");
    assert_eq!((full.rate, full.fail), (Some(50.0), Some(Share(0.1))));
    assert_eq!(full.boot, Some(Duration::from_secs(2)));
    for (line, hint) in [
        ("", "--listen"),
        ("--listen here", "here"),
        ("--listen 127.0.0.1:1 --rate 0", "rate"),
        ("--listen 127.0.0.1:1 --delay 5", "5s"),
        ("--listen 127.0.0.1:1 --fail 0.1", "0.1%"),
        ("--listen 127.0.0.1:1 --fail 200%", "more than all"),
    ] {
        let why = args(line).expect_err(line);
        assert!(why.contains(hint), "{line:?}: {why}");
    }
}

#[tokio::test]
async fn it_tells_who_it_is_and_what_it_saw() {
    let served = Served::start("");
    let (status, body) = served.ask("GET /a/b?c=d HTTP/1.1\r\nHost: x\r\nX-Y: 1\r\nX-Y: 2").await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        format!(
            "id: web-a-1\nzone: a\naddress: {}\nserved: 1\nbody: 0 bytes\n\n\
             GET /a/b?c=d HTTP/1.1\nhost: x\nx-y: 1\nx-y: 2\nconnection: close\n",
            served.address
        )
    );

    let body = "x".repeat(123);
    let post = format!(
        "POST / HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\n\
         content-length: 123\r\n\r\n{body}"
    );
    let answer = served.ask_raw(&post).await;
    let json = answer.split_once("\r\n\r\n").expect("a head").1;
    let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(json["id"], "web-a-1");
    assert_eq!((&json["served"], &json["body"]), (&json!(2), &json!(123)));
    assert_eq!((&json["method"], &json["version"]), (&json!("POST"), &json!("HTTP/1.1")));
    assert_eq!(json["fields"][0], json!(["host", "x"]));

    let chunked = "PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n";
    assert!(served.ask_raw(chunked).await.contains("\nbody: 6 bytes\n"));
}

#[tokio::test]
async fn a_request_gets_what_it_wishes_for() {
    let served = Served::start("");
    let (status, body) = served.ask("GET /?status=503 HTTP/1.1\r\nhost: x").await;
    assert_eq!(status, 503);
    assert!(body.starts_with("id: web-a-1\n"));
    let (status, body) = served.ask("GET /?bytes=100000&status=404 HTTP/1.1\r\nhost: x").await;
    assert_eq!((status, body.len()), (404, 100_000));
    let (_, body) = served.ask("GET /?bytes=0 HTTP/1.1\r\nhost: x").await;
    assert_eq!(body, "");
    let (status, body) = served.ask("GET /?bytes=many HTTP/1.1\r\nhost: x").await;
    assert_eq!((status, body.as_str()), (400, "bytes: \"many\" is not a number of bytes\n"));

    let clock = Clock::start();
    served.ask("GET /?delay=150ms HTTP/1.1\r\nhost: x").await;
    assert!(clock.elapsed() >= Duration::from_millis(150));

    for path in ["/?bytes=100000", "/"] {
        let head = format!("HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = served.ask_raw(&head).await;
        let (fields, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(fields.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(fields.contains("content-length: 1"), "{fields}");
        assert_eq!(body, "");
    }
}

#[tokio::test]
async fn a_rate_delays_and_refuses_none_and_spares_probes() {
    let served = Served::start("--rate 20");
    let mut waiting = JoinSet::new();
    let clock = Clock::start();
    for _ in 0..6 {
        let mut stream = served.connect().await;
        waiting.spawn(async move {
            let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            stream.write_all(request).await.expect("written");
            read_all(&mut stream).await
        });
    }
    let (status, _) = served.ask("GET /healthz HTTP/1.1\r\nhost: x").await;
    assert_eq!(status, 200);
    let answers = waiting.join_all().await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")));
    assert!(clock.elapsed() >= Duration::from_millis(250), "six at 20 a second take 250 ms");
}

#[tokio::test]
async fn it_is_changed_while_it_runs() {
    let served = Served::start("--delay 1h --fail 100%");
    let get = "GET /healthz HTTP/1.1\r\nhost: x";
    assert_eq!(served.ask(get).await, (200, "ok\n".into()), "never delayed, never failed");

    let turn =
        |query: &str| format!("POST /whoami?{query} HTTP/1.1\r\nhost: x\r\ncontent-length: 0");
    let (status, body) = served.ask(&turn("rate=5000&delay=none&healthy=false")).await;
    assert_eq!(status, 200);
    assert_eq!(body, "rate: 5000\ndelay: 0s\nfail: 100%\nhealthy: false\n");
    assert_eq!(served.ask(get).await, (503, "told to be sick\n".into()));
    assert_eq!(served.ask("GET / HTTP/1.1\r\nhost: x").await.0, 500);
    assert_eq!(served.ask("GET /?status=201 HTTP/1.1\r\nhost: x").await.0, 201);

    let (status, body) = served.ask(&turn("fail=none&rate=fast")).await;
    assert_eq!(status, 400);
    assert!(body.starts_with("rate: "), "{body}");
    assert_eq!(served.ask("GET / HTTP/1.1\r\nhost: x").await.0, 500, "nothing was changed");

    served.ask(&turn("fail=none&rate=none&healthy=none")).await;
    let (_, body) = served.ask("GET / HTTP/1.1\r\nhost: x").await;
    assert!(body.contains("\nserved: 4\n"), "control and probes are not counted: {body}");
    let shown = "GET /whoami?rate=1 HTTP/1.1\r\nhost: x\r\naccept: application/json";
    let (_, body) = served.ask(shown).await;
    let json: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(json, json!({"rate": null, "delay": "0s", "fail": "0%", "healthy": true}));
}

#[tokio::test]
async fn told_to_stop_it_finishes_what_runs() {
    let mut served = Served::start("");
    let mut idle = served.connect().await;
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    idle.readable().await.expect("answered");
    let mut busy = served.connect().await;
    busy.write_all(b"GET /?delay=1500ms HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    let mut fresh = served.connect().await;
    // By the time that another request is answered, the one before it is being served.
    served.ask("GET /healthz HTTP/1.1\r\nhost: x").await;

    let clock = Clock::start();
    served.stop.take();
    let answer = read_all(&mut busy).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"));
    assert!(read_all(&mut idle).await.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(read_all(&mut fresh).await, "");
    served.task.await.expect("ended");
    assert!(clock.elapsed() < LINGER, "it waited for no more than the request that ran");
    assert!(TcpStream::connect(served.address).await.is_err(), "it listens no longer");
}

#[tokio::test]
async fn told_to_stop_it_does_not_wait_for_ever() {
    let mut served = Served::start("");
    let mut stuck = served.connect().await;
    stuck.write_all(b"GET /?delay=1d HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    served.ask("GET /healthz HTTP/1.1\r\nhost: x").await;
    served.stop.take();
    served.task.await.expect("ended");
    assert_eq!(read_all(&mut stuck).await, "");
}
