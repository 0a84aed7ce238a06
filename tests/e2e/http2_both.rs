//! HTTP/2 from end to end: clients and instances that both speak it.

use std::future::Future;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request};

use crate::daemon::eventually;
use crate::http::{exchange, front, status};
use crate::http2_origin::{Http2Origin, Setup, pattern, send, sum};
use crate::origin::Origin;
use crate::streaming::{connect, read_until};

const SOON: Duration = Duration::from_secs(10);

/// Runs a client on a connection of its own, in good time.
fn with_client<T, F: Future<Output = T>>(
    bind: SocketAddr,
    talk: impl FnOnce(SendRequest<Bytes>) -> F,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let socket = tokio::net::TcpStream::connect(bind).await.expect("connected");
        let mut builder = client::Builder::new();
        // A stream that is not read uses up its own window alone.
        builder.initial_connection_window_size(1 << 24);
        let (client, connection) = builder.handshake(socket).await.expect("a handshake");
        let driving = tokio::spawn(connection);
        let done = tokio::time::timeout(3 * SOON, talk(client)).await.expect("in time");
        driving.abort();
        done
    })
}

fn request(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://a.test{path}");
    Request::builder().method(method).uri(uri).version(http::Version::HTTP_2).body(()).expect("one")
}

async fn read(body: &mut RecvStream) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, body.trailers().await?.unwrap_or_default()))
}

async fn get(client: &SendRequest<Bytes>, path: &str) -> (u16, Vec<u8>) {
    let mut client = client.clone().ready().await.expect("ready");
    let (response, _) = client.send_request(request("GET", path), true).expect("sent");
    let (head, mut body) = response.await.expect("a response").into_parts();
    (head.status.as_u16(), read(&mut body).await.expect("a body").0)
}

#[test]
fn messages_pass_whole_with_their_trailers_whatever_either_side_speaks() {
    let http1 = Origin::start(|peer| {
        while let Some(request) = peer.request() {
            let seen = String::from_utf8_lossy(&request).into_owned();
            let last = seen.contains("x-end: 7\r\n");
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = peer.stream.write_all(head);
            let body = if last { "4\r\nwell\r\n" } else { "5\r\nwrong\r\n" };
            let _ = peer.stream.write_all(format!("{body}0\r\nx-echo: done\r\n\r\n").as_bytes());
        }
    });
    let http2 = Http2Origin::start();
    for (upstream, address) in [("http1", http1.address), ("h2", http2.address)] {
        let (daemon, bind) = front(&[address], "", &format!("upstream = \"{upstream}\""));
        with_client(bind, async |mut client| {
            let (response, mut stream) =
                client.send_request(request("POST", "/echo"), false).expect("sent");
            stream.send_data("well".into(), false).expect("sent");
            let mut trailers = HeaderMap::new();
            trailers.insert("x-end", "7".parse().expect("a value"));
            stream.send_trailers(trailers).expect("sent");
            let mut body = response.await.expect("a response").into_body();
            let (bytes, trailers) = read(&mut body).await.expect("a body");
            assert_eq!(bytes, b"well", "{upstream}");
            assert_eq!(trailers.get("x-echo").map(|it| it.as_bytes()), Some(&b"done"[..]));
        });
        assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    }
    let (daemon, bind) = front(&[http2.address], "", "upstream = \"h2\"");
    with_client(bind, async |client| {
        let seen = get(&client, "/head").await.1;
        let seen = String::from_utf8(seen).expect("text");
        assert!(seen.starts_with("GET http://a.test/head\n"), "{seen}");
        assert!(seen.contains("via: 2.0 tidegate\n") && !seen.contains("te: "), "{seen}");
        for len in [1, 70_000, 4_000_000] {
            let sent = pattern(len);
            assert!(get(&client, &format!("/big/{len}")).await.1 == sent, "{len}");
            let mut client = client.clone().ready().await.expect("ready");
            let (response, mut stream) =
                client.send_request(request("POST", "/sum"), false).expect("sent");
            send(&mut stream, sent.clone().into()).await.expect("taken");
            stream.send_data(Bytes::new(), true).expect("sent");
            let mut body = response.await.expect("a response").into_body();
            let (got, _) = read(&mut body).await.expect("a body");
            let expected = format!("{len} {:x} None", sum(&sent));
            assert_eq!(String::from_utf8_lossy(&got), expected);
        }
        assert_eq!(get(&client, "/status/204").await.0, 204);
        assert_eq!(get(&client, "/empty").await, (200, Vec::new()));
    });
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn calls_stream_both_ways_at_their_own_pace() {
    let origin = Http2Origin::start();
    let listener = "timeouts = { body = \"1s\" }\nlimits = { body_rate = \"1MiB\" }";
    let (daemon, bind) = front(&[origin.address], listener, "upstream = \"h2\"");
    with_client(bind, async |mut client| {
        let mut call = request("POST", "/echo");
        call.headers_mut().insert("te", "trailers".parse().expect("a value"));
        call.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
        let (response, mut stream) = client.send_request(call, false).expect("sent");
        let mut body = response.await.expect("a head before any message").into_body();
        for pause in [0, 3_000, 100, 0] {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            stream.send_data("ping".into(), false).expect("sent");
            let data = body.data().await.expect("data").expect("data");
            assert_eq!(&data[..], b"ping");
            body.flow_control().release_capacity(data.len()).expect("released");
        }
        stream.send_data(Bytes::new(), true).expect("sent");
        let (rest, trailers) = read(&mut body).await.expect("the end");
        assert!(rest.is_empty() && trailers.contains_key("x-echo"));
        // Whoever leaves in the middle of it has the instance stop, and nobody else.
        let mut client = client.ready().await.expect("ready");
        let (response, mut stream) =
            client.send_request(request("POST", "/echo"), false).expect("sent");
        let body = response.await.expect("a head").into_body();
        stream.send_reset(Reason::CANCEL);
        drop((stream, body));
        assert_eq!(get(&client, "/").await.0, 200);
    });
    let reasons = eventually("the instance is told", SOON, || {
        Some(origin.seen.resets.lock().expect("whole").clone()).filter(|it| !it.is_empty())
    });
    assert_eq!(reasons, [Reason::CANCEL]);
    assert_eq!(origin.seen.connections.load(SeqCst), 1);
    assert_eq!(daemon.failures("client_gone"), 1.0);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 1.0);
}

#[test]
fn a_stream_that_is_not_read_stalls_no_other_of_the_same_client() {
    let origin = Http2Origin::start();
    let (_daemon, bind) = front(&[origin.address], "", "upstream = \"h2\"");
    with_client(bind, async |client| {
        let mut stalled = Vec::new();
        for _ in 0..30 {
            let mut client = client.clone().ready().await.expect("ready");
            let asked = client.send_request(request("GET", "/flood/300"), true);
            stalled.push(asked.expect("sent").0.await.expect("a head").into_body());
        }
        for _ in 0..20 {
            assert_eq!(get(&client, "/big/300000").await.1.len(), 300_000);
        }
        assert!(stalled.iter().all(|body| !body.is_end_stream()));
    });
    assert_eq!(origin.seen.connections.load(SeqCst), 1, "they share");
}

#[test]
fn streams_of_one_client_share_the_connections_to_the_instance() {
    let origin = Http2Origin::start();
    let (daemon, bind) = front(&[origin.address], "", "upstream = \"h2\"");
    with_client(bind, async |client| {
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let client = client.clone();
            calls.spawn(async move { get(&client, "/slow/200").await.0 });
        }
        assert!(calls.join_all().await.iter().all(|status| *status == 200));
    });
    assert_eq!(origin.seen.connections.load(SeqCst), 1);
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
}

#[test]
fn a_websocket_is_a_stream_where_the_instance_lets_it_be_one() {
    let origin = Http2Origin::set_up(Setup { connects: true, ..Setup::default() });
    let (daemon, bind) = front(&[origin.address], "", "upstream = \"h2\"");
    let ask = "GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\nearly";
    let mut stream = connect(bind);
    stream.write_all(ask.as_bytes()).expect("sent");
    let head = read_until(&mut stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    for line in [
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
        "sec-websocket-protocol: chat\r\n",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
    ] {
        assert!(head.contains(line), "{line:?} in {head}");
    }
    read_until(&mut stream, "early");
    let long = "0123456789".repeat(50_000);
    let mut half = stream.try_clone().expect("a socket");
    let sent = long.clone();
    let sends = std::thread::spawn(move || {
        half.write_all(sent.as_bytes()).expect("sent");
        half.shutdown(std::net::Shutdown::Write).expect("ended");
    });
    let mut got = String::new();
    stream.read_to_string(&mut got).expect("all of it, and the end");
    sends.join().expect("sent");
    assert!(got == long + "bye", "{} bytes", got.len());
    // The same from a client whose WebSocket is a stream too.
    with_client(bind, async |client| {
        let mut client = client.ready().await.expect("ready");
        // The client has to have seen that it may.
        assert_eq!(get(&client, "/").await.0, 200);
        assert!(client.is_extended_connect_protocol_enabled());
        let mut ask = request("CONNECT", "/switch");
        ask.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
        ask.headers_mut().insert("sec-websocket-version", "13".parse().expect("a value"));
        let (response, mut stream) = client.send_request(ask, false).expect("sent");
        let (head, mut body) = response.await.expect("an agreement").into_parts();
        assert_eq!(head.status, 200);
        assert!(head.headers.get("sec-websocket-accept").is_none());
        stream.send_data("hello".into(), false).expect("sent");
        let data = body.data().await.expect("data").expect("data");
        assert_eq!(&data[..], b"hello");
        stream.send_data(Bytes::new(), true).expect("ended");
        assert_eq!(read(&mut body).await.expect("the end").0, b"bye");
    });
    eventually("the slots are free", SOON, || {
        (daemon.metric("tidegate_instance_in_flight", "") == 0.0).then_some(())
    });
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    let deaf = Http2Origin::start();
    let (daemon, bind) = front(&[deaf.address], "", "upstream = \"h2\"");
    let answer = exchange(bind, &ask.replace("Upgrade\r\n", "Upgrade, close\r\n"));
    assert_eq!(status(&answer), "502", "{answer}");
    assert_eq!(daemon.failures("unsendable"), 1.0);
    assert_eq!(deaf.seen.requests.load(SeqCst), 0);
}
