//! HTTP/2 from clients, without TLS: by curl and h2load, and by a client that misbehaves on purpose.

mod floods;
mod grpc;
mod leaving;
mod tunnels;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;

use crate::daemon::{Daemon, eventually};
use crate::http::{OK, front, proxy};
use crate::origin::{Origin, Peer};
use crate::tools::has;

const SOON: Duration = Duration::from_secs(10);

/// Runs a test of many tasks on this thread, and not for ever.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let limited = async { tokio::time::timeout(3 * SOON, test).await.expect("in time") };
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), limited);
}

/// A client's end of a connection.
struct Client {
    requests: SendRequest<Bytes>,
    /// How the connection ended.
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
    address: SocketAddr,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &h2::client::Builder::new()).await
    }

    async fn connect_with(address: SocketAddr, builder: &h2::client::Builder) -> Self {
        let socket = TcpStream::connect(address).await.expect("connected");
        let (requests, connection) = builder.handshake(socket).await.expect("HTTP/2");
        Self { requests, ended: tokio::task::spawn_local(connection), address }
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address))
    }

    /// Sends a request that ends with its head, or not.
    fn send(
        &mut self,
        request: Request<()>,
        ends: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        self.requests.send_request(request, ends).expect("sent")
    }

    async fn get(&mut self, path: &str) -> Result<(Response<()>, Bytes), h2::Error> {
        let request = self.request("GET", path).body(()).expect("a request");
        let (response, _) = self.requests.send_request(request, true)?;
        whole(response.await?).await.map(|(head, body, _)| (head, body))
    }

    /// Sends a request with a body, as fast as it is taken, and gives what is answered.
    async fn post(
        &mut self,
        request: Request<()>,
        body: &[u8],
    ) -> Result<(Response<()>, Bytes, HeaderMap), h2::Error> {
        let (response, mut stream) = self.send(request, false);
        let upload = upload(&mut stream, body);
        let (uploaded, response) = tokio::join!(upload, response);
        let response = whole(response?).await?;
        uploaded.map(|()| response)
    }
}

/// Sends a body as fast as it is taken, and its end.
async fn upload(stream: &mut SendStream<Bytes>, body: &[u8]) -> Result<(), h2::Error> {
    for piece in body.chunks(10_000) {
        let mut piece = Bytes::copy_from_slice(piece);
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let capacity = poll_fn(|cx| stream.poll_capacity(cx)).await;
            let Some(capacity) = capacity else { return Err(Reason::CANCEL.into()) };
            stream.send_data(piece.split_to(capacity?.min(piece.len())), false)?;
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// Reads a response to its end.
async fn whole(
    response: Response<RecvStream>,
) -> Result<(Response<()>, Bytes, HeaderMap), h2::Error> {
    let (head, mut stream) = response.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len())?;
    }
    let trailers = stream.trailers().await?.unwrap_or_default();
    Ok((Response::from_parts(head, ()), body.into(), trailers))
}

/// Whether no client is connected.
fn is_idle(daemon: &Daemon) -> bool {
    daemon.metric("tidegate_connections_active", "listener=\"web\"") == 0.0
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u32;
    let next = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*state >> 24) as u8
    };
    (0..length).map(|_| next(&mut state)).collect()
}

/// Sends bodies back in chunks, with a trailer.
fn echo() -> Origin {
    Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let at = request.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            let body = dechunked(&request[at..], &request[..at]);
            let mut answer =
                b"HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for piece in body.chunks(100_000) {
                answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                answer.extend_from_slice(piece);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(format!("0\r\nX-Sum: {}\r\n\r\n", body.len()).as_bytes());
            if peer.stream.write_all(&answer).is_err() {
                return;
            }
        }
    })
}

/// The body of a request of whose framing the head tells.
fn dechunked(mut body: &[u8], head: &[u8]) -> Vec<u8> {
    if !String::from_utf8_lossy(head).contains("chunked") {
        return body.to_vec();
    }
    let mut data = Vec::new();
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").expect("a chunk line");
        let size = str::from_utf8(&body[..line]).expect("text");
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return data;
        }
        data.extend_from_slice(&body[line + 2..line + 2 + size]);
        body = &body[line + 2 + size + 2..];
    }
}

#[test]
fn curl_speaks_it_with_prior_knowledge() {
    if !has("curl", "curl") {
        return;
    }
    let origin = echo();
    let (daemon, bind) = proxy(&[origin.address], "");
    let body = noise(700_000);
    let dir = tempfile::tempdir().expect("a directory");
    let (sent, got) = (dir.path().join("sent"), dir.path().join("got"));
    std::fs::write(&sent, &body).expect("written");
    for version in ["--http2-prior-knowledge", "--http1.1"] {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "10", version, "--data-binary"])
            .arg(format!("@{}", sent.display()))
            .arg("-o")
            .arg(&got)
            .args(["-w", "%{http_code} %{http_version}", &format!("http://{bind}/a?b")])
            .output()
            .expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let expected = if version == "--http1.1" { "200 1.1" } else { "200 2" };
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(&output.stderr));
        assert!(std::fs::read(&got).expect("a body") == body, "{version}");
    }
    assert!(origin.text().contains("via: 2.0 tidegate\r\n"));
    // In HTTP/1.1 a response is counted behind its last byte, with which curl leaves.
    eventually("both are counted", SOON, || {
        (daemon.metric("tidegate_requests_total", "pool=\"web\",code=\"200\"") == 2.0).then_some(())
    });
}

#[test]
fn requests_are_forwarded_and_answered() {
    let origin = echo();
    let (daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        let (head, body) = client.get("/a?b").await.expect("answered");
        assert_eq!((head.status().as_u16(), body.len()), (200, 0));
        assert!(head.headers().contains_key("date") && !head.headers().contains_key("connection"));
        let crumbs = client.request("POST", "/c").header("cookie", "a=1").header("cookie", "b=2");
        let request = crumbs.header("content-length", "5").body(()).expect("a request");
        let (_, body, trailers) = client.post(request, b"hello").await.expect("answered");
        assert_eq!((&body[..], trailers["x-sum"].as_bytes()), (&b"hello"[..], &b"5"[..]));
        // Without a length, and with trailers.
        let body = noise(300_000);
        let request = client.request("POST", "/big").body(()).expect("a request");
        let (_, back, trailers) = client.post(request, &body).await.expect("answered");
        assert!(back == body && trailers["x-sum"] == "300000");
    });
    let seen = origin.text();
    assert!(seen.starts_with(&format!("GET /a?b HTTP/1.1\r\nhost: {bind}\r\n")), "{seen}");
    assert!(seen.contains("cookie: a=1; b=2\r\n") && seen.contains("content-length: 5\r\n"));
    assert!(seen.contains("POST /big HTTP/1.1\r\n") && seen.contains("transfer-encoding: chunked"));
    assert!(*origin.connections.lock().expect("whole") == 1, "kept, and one at a time");
    assert_eq!(daemon.metric("tidegate_requests_total", "pool=\"web\",code=\"200\""), 3.0);
    eventually("the connection is counted off", SOON, || is_idle(&daemon).then_some(()));
    assert!(daemon.metric("tidegate_bytes_total", "listener=\"web\",direction=\"in\"") > 3e5);
    assert!(daemon.metric("tidegate_bytes_total", "listener=\"web\",direction=\"out\"") > 3e5);
}

#[test]
fn a_large_upload_comes_whole_at_the_pace_of_the_instance() {
    const LENGTH: usize = 8_000_000;
    let origin = Origin::start(|peer| {
        let mut got = Vec::new();
        let mut piece = vec![0; 1 << 20];
        loop {
            match peer.stream.read(&mut piece) {
                Ok(n) if n > 0 => got.extend_from_slice(&piece[..n]),
                _ => return,
            }
            let body = got.len().saturating_sub(LENGTH);
            if got[..body].ends_with(b"\r\n\r\n") {
                let said = if got[body..] == noise(LENGTH) { OK } else { b"broken" };
                let _ = peer.stream.write_all(said);
                return;
            }
        }
    });
    let (daemon, bind) = front(&[origin.address], "", "");
    let before = daemon.memory().peak;
    run(async {
        let mut client = Client::connect(bind).await;
        let request = client.request("POST", "/").header("content-length", LENGTH.to_string());
        let request = request.body(()).expect("a request");
        let (head, ..) = client.post(request, &noise(LENGTH)).await.expect("answered");
        assert_eq!(head.status(), 200);
    });
    let grown = daemon.memory().peak - before;
    // Half of it: what code was read for the first time counts as well.
    assert!(grown < 4_000_000, "{grown} bytes more for an upload that is passed on");
}

#[test]
fn trailers_of_a_request_reach_the_instance() {
    let origin = Origin::start(|peer| {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        while !all.ends_with(b"x-sum: 5\r\n\r\n") {
            match peer.stream.read(&mut piece) {
                Ok(n) if n > 0 => all.extend_from_slice(&piece[..n]),
                _ => return,
            }
        }
        let _ = peer.stream.write_all(OK);
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        let request = client.request("POST", "/").body(()).expect("a request");
        let (response, mut stream) = client.send(request, false);
        stream.send_data(Bytes::from_static(b"hello"), false).expect("sent");
        let mut trailers = HeaderMap::new();
        trailers.insert("authorization", "no trailer".parse().expect("a value"));
        trailers.insert("x-sum", "5".parse().expect("a value"));
        stream.send_trailers(trailers).expect("sent");
        assert_eq!(response.await.expect("answered").status(), 200);
    });
}

/// Heads that are not forwarded.
#[test]
fn what_is_ambiguous_is_answered_or_reset() {
    let origin = Origin::answering(OK);
    let (daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        for (method, uri, fields, expected) in [
            ("GET", "http://a/", &[("host", "b")][..], 400),
            ("GET", "http://u@a/", &[], 400),
            ("GET", "http://a/", &[("content-length", "1")], 0),
            ("POST", "http://a/", &[("content-length", "1"), ("content-length", "1")], 400),
            ("POST", "http://a/", &[("content-length", "+1")], 0),
            ("GET", "http://a/", &[("x", " padded ")], 400),
            ("GET", "http://a/", &[("te", "trailers")], 200),
            ("GET", "http://a/", &[("expect", "200-ok")], 417),
        ] {
            let request = Request::builder().method(method).uri(uri);
            let request =
                fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let ends = method == "GET";
            let (response, _stream) = client.send(request.body(()).expect("a request"), ends);
            match response.await {
                Ok(response) => {
                    assert_eq!(response.status(), expected, "{method} {uri} {fields:?}")
                }
                Err(error) => {
                    assert!(
                        error.is_reset() && expected == 0,
                        "{method} {uri} {fields:?}: {error}"
                    );
                }
            }
        }
        let many =
            (0..101).fold(client.request("GET", "/"), |request, _| request.header("cookie", "a=1"));
        let (response, _) = client.send(many.body(()).expect("a request"), true);
        assert_eq!(response.await.expect("answered").status(), 431, "crumbs are counted");
        let large = client.request("GET", "/").header("x", "a".repeat(17_000));
        let (response, _) = client.send(large.body(()).expect("a request"), true);
        assert_eq!(response.await.expect("answered").status(), 431);
        let long = format!("/{}", "a".repeat(9_000));
        assert_eq!(client.get(&long).await.expect("answered").0.status(), 414);
        let large = client.request("POST", "/").header("content-length", (17u64 << 30).to_string());
        let (response, _stream) = client.send(large.body(()).expect("a request"), false);
        assert_eq!(response.await.expect("answered").status(), 413);
        let (response, _) = client.send(
            Request::builder().method("CONNECT").uri("a:1").body(()).expect("a request"),
            true,
        );
        assert_eq!(response.await.expect("answered").status(), 501);
        assert_eq!(
            client.get("/").await.expect("the connection is as good as before").0.status(),
            200
        );
    });
    assert_eq!(
        origin.text().matches("HTTP/1.1\r\n").count(),
        2,
        "only what is valid: {}",
        origin.text()
    );
    assert!(daemon.refused("malformed") >= 3.0);
}

/// What the h2 crate would not send for us.
#[test]
fn forbidden_fields_reach_no_instance() {
    let origin = Origin::answering(OK);
    let (_daemon, bind) = proxy(&[origin.address], "");
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "timeout=1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("X-Upper", "1"),
        ("x y", "1"),
        ("x", "a\r\nb: c"),
        ("x", "a\0"),
        (":path", "/twice"),
        (":unknown", "1"),
    ] {
        let mut raw = floods::Raw::connect(bind);
        raw.head(1, &[(name, value)]);
        let told = raw.until(|frame| matches!(frame.kind, 3 | 7) || frame.kind == 1);
        let is_answer = told.kind == 1;
        assert!(!is_answer, "{name}: {value}: {told:?}");
    }
    assert_eq!(origin.text(), "", "nothing came through");
}

#[test]
fn a_slow_reader_stalls_only_its_own_stream() {
    let large: &'static [u8] = Vec::leak(noise(8_000_000));
    let origin = Origin::start(move |peer: &mut Peer| {
        while let Some(request) = peer.request() {
            let body: &[u8] = if request.starts_with(b"GET /large") { large } else { b"ok" };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if peer.stream.write_all(&[head.as_bytes(), body].concat()).is_err() {
                return;
            }
        }
    });
    let (daemon, bind) = front(&[origin.address], "", "");
    run(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(65_535).initial_connection_window_size(1 << 20);
        let mut client = Client::connect_with(bind, &builder).await;
        let before = daemon.memory().peak;
        let request = client.request("GET", "/large").body(()).expect("a request");
        let mut slow = client.send(request, true).0.await.expect("answered").into_body();
        let first = slow.data().await.expect("some").expect("data");
        for _ in 0..50 {
            let (_, body) = client.get("/small").await.expect("answered");
            assert_eq!(&body[..], b"ok");
        }
        // Others move as much as they like meanwhile.
        let (_, other) = client.get("/large").await.expect("answered");
        assert!(other == large);
        let grown = daemon.memory().peak - before;
        assert!(grown < 4_000_000, "{grown} bytes more for a response that is not read");
        let mut got = first.to_vec();
        slow.flow_control().release_capacity(first.len()).expect("released");
        while let Some(data) = slow.data().await {
            let data = data.expect("whole");
            got.extend_from_slice(&data);
            slow.flow_control().release_capacity(data.len()).expect("released");
        }
        assert!(got == large);
    });
}

#[test]
fn who_leaves_takes_its_request_along() {
    let ended = Arc::new(AtomicU32::new(0));
    let to_count = Arc::clone(&ended);
    let origin = Origin::start(move |peer| {
        peer.request();
        // Closed by the proxy, which has nobody to answer any more.
        let _ = peer.stream.read(&mut [0]);
        to_count.fetch_add(1, Relaxed);
    });
    let (daemon, bind) = front(&[origin.address], "", "");
    run(async {
        for (n, reset) in [true, false].into_iter().enumerate() {
            let mut client = Client::connect(bind).await;
            let request = client.request("GET", "/").body(()).expect("a request");
            let (_response, mut stream) = client.send(request, true);
            eventually_async(|| origin.text().matches("GET /").count() == n + 1).await;
            if reset {
                stream.send_reset(Reason::CANCEL);
            } else {
                client.ended.abort();
            }
            eventually_async(|| ended.load(Relaxed) as usize == n + 1).await;
        }
    });
    eventually("both are counted", SOON, || (daemon.failures("client_gone") == 2.0).then_some(()));
}

/// Looks again and again, and lets others run meanwhile.
async fn eventually_async(mut check: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within ten seconds");
}

#[test]
fn a_response_that_breaks_off_is_reset_and_not_ended() {
    let begun = Arc::new(AtomicU32::new(0));
    let to_look = Arc::clone(&begun);
    let origin = Origin::start(move |peer| {
        if let Some(request) = peer.request() {
            let head = if request.starts_with(b"GET /length") {
                "Content-Length: 100"
            } else {
                "Transfer-Encoding: chunked"
            };
            let part = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n");
            // Before the head is on its way, or the client might have it already.
            let before = to_look.load(Relaxed);
            let _ = peer.stream.write_all(part.as_bytes());
            eventually("its client has the head", SOON, || {
                (to_look.load(Relaxed) > before).then_some(())
            });
        }
    });
    let (daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        for path in ["/length", "/chunked"] {
            let request = client.request("GET", path).body(()).expect("a request");
            let response = client.send(request, true).0.await.expect("begun");
            assert_eq!(response.status(), 200);
            begun.fetch_add(1, Relaxed);
            let error = whole(response).await.expect_err("broken off");
            assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}: {error}");
        }
    });
    assert_eq!(daemon.failures("cut_response"), 2.0);
}

#[test]
fn an_early_answer_stops_the_upload_without_an_error() {
    let origin = Origin::answering(OK);
    let route = "[[route]]\nlistener = \"web\"\npath_prefix = \"/gone\"\nrespond.status = 410\n";
    let (_daemon, bind) = front(&[origin.address], "", route);
    run(async {
        let mut client = Client::connect(bind).await;
        let request = client.request("POST", "/gone").body(()).expect("a request");
        let (response, mut stream) = client.send(request, false);
        stream.send_data(Bytes::from_static(b"begun"), false).expect("sent");
        let (head, ..) = whole(response.await.expect("answered")).await.expect("whole");
        assert_eq!(head.status(), 410);
        let reason = poll_fn(|cx| stream.poll_reset(cx)).await.expect("reset");
        assert_eq!(reason, Reason::NO_ERROR, "RFC 9113 §8.1");
    });
}

#[test]
fn a_body_that_is_not_as_long_as_announced_is_an_error_of_its_stream() {
    let origin = echo();
    let (_daemon, bind) = proxy(&[origin.address], "");
    for data in ["abc", "abcdefgh"] {
        let mut raw = floods::Raw::connect(bind);
        raw.post(1, &[("content-length", "5")]);
        raw.frame(0, 1, 1, data.as_bytes());
        let told = raw.until(|frame| frame.stream == 1 && matches!(frame.kind, 1 | 3));
        // It is reset, or answered with what is wrong with it; a 200 would be wrong.
        assert!(told.kind == 3, "{data}: {told:?}");
    }
    assert!(!origin.text().contains("abcdefgh"));
}

#[test]
fn interim_responses_are_passed_on() {
    let origin = Origin::start(|peer| {
        let mut head = Vec::new();
        let mut piece = [0; 4096];
        while !head.ends_with(b"\r\n\r\n") {
            match peer.stream.read(&mut piece) {
                Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
                _ => return,
            }
        }
        let _ = peer.stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
        );
        let mut body = [0; 5];
        let _ = peer.stream.read_exact(&mut body);
        let _ = peer.stream.write_all(OK);
    });
    let (_daemon, bind) = proxy(&[origin.address], "");
    run(async {
        let mut client = Client::connect(bind).await;
        let request = client
            .request("POST", "/")
            .header("expect", "100-continue")
            .header("content-length", "5");
        let (mut response, mut stream) = client.send(request.body(()).expect("a request"), false);
        let mut interim = Vec::new();
        while interim.len() < 2 {
            let came = poll_fn(|cx| response.poll_informational(cx)).await;
            interim.push(came.expect("interim").expect("valid").status().as_u16());
        }
        // An instance that lets the client wait for a second is forestalled: we invite it then.
        interim.sort_unstable();
        assert_eq!(interim, [100, 103]);
        stream.send_data(Bytes::from_static(b"hello"), true).expect("sent");
        assert_eq!(response.await.expect("answered").status(), 200);
    });
}

#[test]
fn the_access_log_tells_of_each_request() {
    let origin = Origin::answering(OK);
    let log = "[log]\naccess = \"access.json\"\n";
    let (daemon, bind) = front(&[origin.address], "", log);
    run(async {
        let mut client = Client::connect(bind).await;
        client.get("/a?b").await.expect("answered");
        let refused = client.request("GET", "/refused").header("host", "other");
        let (response, _) = client.send(refused.body(()).expect("a request"), true);
        assert_eq!(response.await.expect("answered").status(), 400);
    });
    let lines = eventually("two lines", SOON, || {
        let text = std::fs::read_to_string(daemon.dir.path().join("access.json")).ok()?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() == 2).then_some(lines)
    });
    let line = |n: usize| serde_json::from_str::<serde_json::Value>(&lines[n]).expect("JSON");
    assert_eq!((&line(0)["protocol"], &line(0)["status"]), (&"HTTP/2.0".into(), &200.into()));
    assert_eq!((&line(0)["path"], &line(0)["bytes_out"]), (&"/a?b".into(), &61.into()));
    assert_eq!((&line(1)["status"], &line(1)["failure"]), (&400.into(), &"malformed".into()));
}

#[test]
fn h2load_has_no_failed_request() {
    if !has("h2load", "nghttp2-client") {
        return;
    }
    let origin = Origin::answering(OK);
    let (daemon, bind) = front(&[origin.address], "", "");
    // The time is for all requests of a connection together.
    let output = Command::new("h2load")
        .args(["-n", "20000", "-c", "4", "-m", "50", "-t", "1", "-T", "60s"])
        .arg(format!("http://{bind}/"))
        .output()
        .expect("h2load runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let summary = "20000 done, 20000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(text.contains(summary), "{text}");
    assert_eq!(floods::counted(&daemon), 0.0);
}
